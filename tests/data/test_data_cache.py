"""The cache: found again, rebuilt when damaged or out of date, bounded, and done without when it cannot be written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures import bomb, class_folders, noise, truncated_jpeg

from convscope.data import cache, ingest, progress
from convscope.data.decode import Shape, decode_file, read_content
from convscope.data.folder import list_folder
from convscope.data.ingest import decode_listing, default_side
from convscope.errors import DataError, UsageError


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "pets", {"cat": 4, "dog": 5}, channels=1)


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of all files decoded so far."""
    paths = list[str]()

    def counted(path: str) -> bytes:
        paths.append(path)
        return read_content(path)

    monkeypatch.setattr(ingest, "read_content", counted)
    return paths


def entry_of(cache_folder: Path) -> Path:
    (index,) = cache_folder.glob("images/*/index.json")
    return index.parent


def test_decoded_once_and_equal_to_each_file(pets: Path, decodes: list[str]) -> None:
    listing = list_folder(pets)
    first, second = decode_listing(listing), decode_listing(list_folder(pets))
    assert len(decodes) == 9
    assert first.images_NCHW.shape == (9, 1, 12, 12)
    assert isinstance(second.images_NCHW, np.memmap)
    for place, file in enumerate(listing.files):
        expected = decode_file(str(pets / file.path), Shape(1, 12, 12))
        assert np.array_equal(first.images_NCHW[place], expected)
        assert np.array_equal(second.images_NCHW[place], expected)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_keep_the_order(pets: Path, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.setattr(ingest, "THREADED_BYTES", 0)
    monkeypatch.setattr(ingest, "CHUNK_IMAGES", 2)
    monkeypatch.setattr(ingest, "_threads", lambda: threads)
    found = decode_listing(list_folder(pets))
    for place, file in enumerate(list_folder(pets).files):
        assert np.array_equal(found.images_NCHW[place], decode_file(str(pets / file.path), Shape(1, 12, 12)))


@pytest.mark.parametrize(
    "change",
    [
        lambda pets: noise(pets / "cat" / "new.png", 99, channels=1),
        lambda pets: (pets / "cat" / "0.png").unlink(),
        lambda pets: noise(pets / "cat" / "0.png", 98, channels=1, side=13),
        lambda pets: (pets / "cat" / "0.png").rename(pets / "cat" / "zero.png"),
        lambda pets: os.utime(pets / "cat" / "0.png", ns=(1, 1)),
    ],
    ids=["added", "removed", "rewritten", "renamed", "touched"],
)
def test_a_changed_folder_is_noticed(pets: Path, decodes: list[str], change: Callable[[Path], object]) -> None:
    decode_listing(list_folder(pets))
    decodes.clear()
    change(pets)
    decode_listing(list_folder(pets))
    assert len(decodes) == len(list_folder(pets).files)


def test_another_image_size_is_another_entry(pets: Path) -> None:
    assert decode_listing(list_folder(pets), 8).images_NCHW.shape == (9, 1, 8, 8)
    assert decode_listing(list_folder(pets)).images_NCHW.shape == (9, 1, 12, 12)


def test_a_colour_image_among_grey_ones_makes_all_colour(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "SURVEY", 2)  # the headers looked at are those of grey images
    noise(pets / "dog" / "9.png", 5)
    found = decode_listing(list_folder(pets))
    assert found.images_NCHW.shape == (10, 3, 12, 12)
    assert np.array_equal(found.images_NCHW[0], decode_file(str(pets / "cat" / "0.png"), Shape(3, 12, 12)))
    assert np.array_equal(found.images_NCHW[-1], decode_file(str(pets / "dog" / "9.png"), Shape(3, 12, 12)))


def test_broken_files_are_reported_also_from_the_cache(pets: Path) -> None:
    truncated_jpeg(pets / "cat" / "half.jpg")
    (pets / "dog" / "empty.png").touch()
    bomb(pets / "dog" / "bomb.png", 30_000)
    expected = {
        "cat/half.jpg": "truncated: the file ends before the image does",
        "dog/bomb.png": "too large: 900,000,000 pixels, at most 89,478,485 are read",
        "dog/empty.png": "empty file",
    }
    listing = list_folder(pets)
    for _ in range(2):
        assert {listing.files[place].path: reason for place, reason in decode_listing(listing).failed.items()} == expected


def spoil_nothing(entry: Path) -> None:
    """The meta-test: without damage nothing is decoded again."""


def spoil_truncate(entry: Path) -> None:
    os.truncate(entry / "images.npy", 600)


def spoil_lengthen(entry: Path) -> None:
    with (entry / "images.npy").open("ab") as file:
        file.write(b"more")


def spoil_pixels(entry: Path) -> None:
    content = bytearray((entry / "images.npy").read_bytes())
    content[-7] ^= 1
    (entry / "images.npy").write_bytes(content)


def spoil_header(entry: Path) -> None:
    content = bytearray((entry / "images.npy").read_bytes())
    content[:10] = bytes(10)
    (entry / "images.npy").write_bytes(content)


def spoil_missing(entry: Path) -> None:
    (entry / "images.npy").unlink()


def spoil_index(entry: Path) -> None:
    text = (entry / "index.json").read_text(encoding="utf-8")
    (entry / "index.json").write_text(text.replace("[9, 1, 12, 12]", "[9, 1, 12, 11]"), encoding="utf-8")


def spoil_index_end(entry: Path) -> None:
    os.truncate(entry / "index.json", 5)


def spoil_index_bytes(entry: Path) -> None:
    (entry / "index.json").write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_nothing, None),
        (spoil_truncate, ""),
        (spoil_lengthen, "its images have another checksum"),
        (spoil_pixels, "its images have another checksum"),
        (spoil_header, ""),
        (spoil_missing, ""),
        (spoil_index, "its index has another checksum"),
        (spoil_index_end, ""),
        (spoil_index_bytes, "its index is not text"),
    ],
)
def test_a_damaged_entry_is_built_again(
    pets: Path, cache_folder: Path, decodes: list[str], spoil: Callable[[Path], None], reason: str | None
) -> None:
    good = np.array(decode_listing(list_folder(pets)).images_NCHW)
    decodes.clear()
    spoil(entry_of(cache_folder))
    found = decode_listing(list_folder(pets))
    assert np.array_equal(found.images_NCHW, good)
    if reason is None:
        assert (found.notes, decodes) == ((), [])
        return
    (note,) = found.notes
    assert note.startswith(f"The cache of decoded images was damaged ({reason}")
    assert note.endswith("); the images were decoded again.")
    assert len(decodes) == 9
    assert decode_listing(list_folder(pets)).notes == ()


def test_the_checksum_of_a_large_file_sees_its_pieces(tmp_path: Path) -> None:
    content = bytearray(cache.PIECES * cache.PIECE_BYTES * 2)
    path = tmp_path / "large"
    path.write_bytes(content)
    before = cache._fingerprint(path)
    for place in (0, len(content) // 2 + 100, len(content) - 1):
        changed = bytearray(content)
        changed[place : place + 2 * cache.PIECE_BYTES] = b"\1" * len(changed[place : place + 2 * cache.PIECE_BYTES])
        path.write_bytes(changed)
        assert cache._fingerprint(path) != before
    starts = list(cache._starts(len(content)))
    assert len(starts) == cache.PIECES
    assert starts[-1] + cache.PIECE_BYTES == len(content)


def test_a_process_killed_while_writing_leaves_nothing_that_is_taken_for_an_entry(
    pets: Path, cache_folder: Path, decodes: list[str]
) -> None:
    key = cache.key_of(list_folder(pets), None)
    left = cache_folder / "images" / f"{key}.part-abc"
    others = [cache_folder / "images" / f"other.part-{age}" for age in ("new", "old")]
    for folder in (left, *others):
        folder.mkdir(parents=True)
        (folder / "images.npy").write_bytes(b"half")
    for path in (others[1] / "images.npy", others[1]):
        os.utime(path, (1000, 1000))
    assert decode_listing(list_folder(pets)).images_NCHW.shape == (9, 1, 12, 12)
    assert [folder.exists() for folder in (left, *others)] == [False, True, False]  # what is being written now is let alone


def test_ctrl_c_leaves_nothing_behind(pets: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: str) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(ingest, "read_content", interrupted)
    with pytest.raises(KeyboardInterrupt):
        decode_listing(list_folder(pets))
    assert [path.suffix for path in (cache_folder / "images").iterdir()] == [".lock"]


def test_two_that_want_the_same_decode_once(pets: Path, decodes: list[str]) -> None:
    listing = list_folder(pets)
    threads = [threading.Thread(target=decode_listing, args=(listing,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decodes) == 9


def test_waiting_for_another_process_is_told(
    pets: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ingest, "PATIENCE_SECONDS", 0.01)
    key = cache.key_of(list_folder(pets), None)
    (cache_folder / "images").mkdir()
    code = "import sys, time, filelock\nwith filelock.FileLock(sys.argv[1]):\n print('held', flush=True)\n sys.stdin.read()"
    command = [sys.executable, "-c", code, str(cache_folder / "images" / f"{key}.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        threading.Timer(0.2, other.stdin.close).start()
        assert decode_listing(list_folder(pets)).images_NCHW.shape == (9, 1, 12, 12)
    assert capsys.readouterr().err == "Another process is decoding these images; waiting for it.\n"


def test_progress_reads_well_in_a_log(pets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(ingest, "CHUNK_IMAGES", 3)
    decode_listing(list_folder(pets))
    assert capsys.readouterr().err == ""  # done within a second
    monkeypatch.setattr(progress, "LOG_SECONDS", 0)
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0)
    decode_listing(list_folder(pets), 8)
    text = re.sub(r"[0-9.]+ s\b", "X s", capsys.readouterr().err)
    assert text.splitlines() == [
        "Decoding images: 3 of 9 (33%), about X s left",
        "Decoding images: 6 of 9 (67%), about X s left",
        "Decoding images: 9 of 9 (100%), about X s left",
        "Decoded 9 images in X s.",
    ]


def test_progress_is_a_bar_in_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress.DecodingProgress(10) as bar:
        bar.advance(4)
        bar.advance(6)
    assert "Decoding images" in capsys.readouterr().err


def test_the_cache_is_bounded_by_deleting_what_was_not_used_for_longest(
    tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [class_folders(tmp_path / name, {"a": 5, "b": 5}, channels=1) for name in ("first", "second", "third")]
    keys = []
    for age, folder in enumerate(folders[:2]):
        decode_listing(list_folder(folder))
        keys.append(cache.key_of(list_folder(folder), None))
        os.utime(cache_folder / "images" / keys[-1] / "index.json", (1000 + age, 1000 + age))
    decode_listing(list_folder(folders[0]))  # used again, so the second is older
    size = sum(file.stat().st_size for file in (cache_folder / "images" / keys[0]).iterdir())
    monkeypatch.setattr(cache, "LIMIT_BYTES", 2 * size + 100)
    decode_listing(list_folder(folders[2]))
    assert {path.parent.name for path in cache_folder.glob("images/*/index.json")} == {keys[0], cache.key_of(list_folder(folders[2]), None)}


# ---------------------------------------------------------------- a cache that cannot be written


def test_a_cache_that_is_a_file_is_done_without(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "file"))
    found = decode_listing(list_folder(pets))
    assert np.array_equal(found.images_NCHW[3], decode_file(str(pets / "cat" / "3.png"), Shape(1, 12, 12)))
    assert found.notes == (
        f"The decoded images are held in memory, because the cache folder {tmp_path / 'file' / 'images'} cannot be written (not a directory); "
        "the next run will decode them again.",
    )


def test_a_full_disk_is_done_without_while_memory_suffices(pets: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "free_bytes", lambda root: 1000)
    assert decode_listing(list_folder(pets)).notes == (
        f"The decoded images are held in memory, because the cache folder {cache_folder / 'images'} cannot be written (the disk is full); "
        "the next run will decode them again.",
    )
    monkeypatch.setattr(ingest, "MEMORY_BYTES", 1000)
    with pytest.raises(DataError) as error:
        decode_listing(list_folder(pets))
    assert str(error.value) == (
        f"The decoded images need 1.296 kB, and the cache folder {cache_folder / 'images'} cannot be written (the disk is full). "
        "Free some space, name another folder in CONVSCOPE_CACHE, or use a smaller image size."
    )


IN_A_SMALL_PLACE = """
import json, sys
from convscope.data import cache
from convscope.data.folder import list_folder
from convscope.data.ingest import decode_listing
from pathlib import Path
{before}
cache.free_bytes = lambda root: 10**9  # it fills up while we write
found = decode_listing(list_folder(Path(sys.argv[1])))
print(json.dumps([int(found.images_NCHW.astype(int).sum()), found.notes]))
"""


def run(code: str, *arguments: object, **environment: str) -> list[object]:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits are POSIX")
def test_a_disk_that_fills_up_while_writing(tmp_path: Path, cache_folder: Path) -> None:
    pets = class_folders(tmp_path / "big", {"cat": 20, "dog": 20}, side=100)
    total = sum(int(decode_file(str(path), Shape(3, 96, 96)).astype(int).sum()) for path in pets.glob("*/*.png"))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))"
    reached = (
        f"The decoded images are held in memory, because the cache folder {cache_folder / 'images'} cannot be written (file too large); "
    )
    assert run(IN_A_SMALL_PLACE.format(before=limit), pets) == [total, [reached + "the next run will decode them again."]]
    assert [path.suffix for path in (cache_folder / "images").iterdir()] == [".lock"]


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root mounts a small file system"
)
def test_a_file_system_that_is_really_full(tmp_path: Path) -> None:
    pets = class_folders(tmp_path / "big", {"cat": 20, "dog": 20}, side=100)
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)], capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount")
    try:
        _, notes = run(IN_A_SMALL_PLACE.format(before=""), pets, CONVSCOPE_CACHE=str(small))
        left = [path.suffix for path in (small / "images").iterdir()]
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert notes == [
        f"The decoded images are held in memory, because the cache folder {small / 'images'} cannot be written (the disk is full); "
        "the next run will decode them again."
    ]
    assert left == [".lock"]


AS_NOBODY = """
import json, os, sys
from pathlib import Path
from PIL import Image
from convscope.data import load_data
Image.init()
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
data = load_data(sys.argv[1], image_size=12)
print(json.dumps([[item.path, item.reason] for item in data.summary.skipped]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX")
def test_files_that_may_not_be_read_are_listed_and_tried_again_when_they_may(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = Path("/tmp" if Path("/tmp").is_dir() else tmp_path_factory.getbasetemp()) / f"convscope-{os.getpid()}-{time.time_ns()}"
    try:
        place.mkdir(mode=0o777)
        place.chmod(0o777)  # whatever the umask
        pets = class_folders(place / "pets", {"cat": 4, "dog": 4})
        (pets / "cat" / "0.png").chmod(0)
        locked = pets / "dog" / "locked"
        locked.mkdir(mode=0)
        environment = {"CONVSCOPE_CACHE": str(place / "cache"), "HOME": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
        assert run(AS_NOBODY, pets, **environment) == [["dog/locked/", "permission denied"], ["cat/0.png", "permission denied"]]
        (pets / "cat" / "0.png").chmod(0o644)
        locked.rmdir()
        assert run(AS_NOBODY, pets, **environment) == []
    finally:
        shutil.rmtree(place, ignore_errors=True)


# ---------------------------------------------------------------- the image size


def test_the_default_size() -> None:
    assert [default_side([side]) for side in (1, 28, 64, 65, 80, 81, 112, 200, 223, 224, 4000)] == [
        1,
        28,
        64,
        64,
        96,
        96,
        128,
        192,
        224,
        224,
        224,
    ]
    assert default_side([28, 28, 4000]) == 28


def test_a_size_that_cannot_be_meant(pets: Path) -> None:
    with pytest.raises(UsageError) as error:
        decode_listing(list_folder(pets), 0)
    assert str(error.value) == "The image size 0 cannot be meant. Give pixels of a side, 1 to 4096, or leave it out."


def test_nothing_readable_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "SURVEY", 2)
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError) as error:
        decode_listing(list_folder(tmp_path))
    assert str(error.value) == f"None of the 3 files in {tmp_path} can be used as an image. The first, a/1.png: empty file."
