"""The cache of decoded images on disk: one folder per set of files, found again by their names, sizes and times.

    $CONVSCOPE_CACHE/images/<key>/images.npy     uint8 pixels (N, C, H, W), mapped into memory when read
                                  index.json     shape, skipped files, checksums; written last
                            <key>.lock           held while the folder is written

An entry is written beside its place and renamed, so that a reader sees all of it or nothing; damage is detected. The entries that were not used
for longest are deleted when all together pass a limit. Nothing here opens an image.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.lib.format as npy
import numpy.typing as npt
import platformdirs

from convscope.data.decode import Shape
from convscope.data.listing import Listing

VERSION = 1  # grows whenever a file would be decoded to other pixels
LIMIT_BYTES = 20 * 2**30  # of all entries together: 130,000 colour images of 224 x 224
PIECES, PIECE_BYTES = 64, 2**16  # what the checksum of a large file looks at: 64 evenly spread pieces of 64 KiB, read in 2 ms
ABANDONED_SECONDS = 24 * 3600  # since the last write, from which a part of an entry is taken to be left by a killed process
SPARE_BYTES = 64 * 2**20  # left free on the disk


@dataclass(frozen=True, slots=True)
class Decoded:
    """Decoded images.

    Attributes:
        images_NCHW: one per listed file; zeros for those that failed.
        failed: why a file could not be decoded, by its place in the list.
        notes: sentences worth telling.
    """

    images_NCHW: npt.NDArray[np.uint8]
    failed: Mapping[int, str]
    notes: tuple[str, ...] = ()


class Damaged(Exception):
    """An entry of the cache is not as it was written."""


def cache_root() -> Path:
    """The folder of the cache: $CONVSCOPE_CACHE, or `convscope` in the platform's cache folder."""
    chosen = os.environ.get("CONVSCOPE_CACHE")
    return (Path(chosen).expanduser().absolute() if chosen else platformdirs.user_cache_path("convscope", appauthor=False)) / "images"


def key_of(listing: Listing, image_size: int | None) -> str:
    """What an entry is found by: a hash of the root, the size asked for, and each file's name, size and time."""
    seen = hashlib.blake2b(f"{VERSION}\0{listing.root}\0{image_size}".encode(), digest_size=16)
    seen.update("".join(f"\0{path}\0{size}\0{time}" for path, size, time in listing.files).encode("utf-8", "surrogateescape"))
    return seen.hexdigest()


def read(entry: Path) -> Decoded | None:
    """Map an entry, or None when there is none.

    Raises:
        Damaged: it is not as it was written.
        OSError: it cannot be read.
    """
    try:
        text = (entry / "index.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise Damaged("its index is not text") from None
    try:
        checksum, body = text.split("\n", 1)
        if int(checksum, 16) != zlib.crc32(body.encode()):
            raise Damaged("its index has another checksum")
        index = json.loads(body)
        images_NCHW = np.load(entry / "images.npy", mmap_mode="c", allow_pickle=False)
    except (ValueError, FileNotFoundError, EOFError) as error:
        raise Damaged(str(error)) from None
    if list(images_NCHW.shape) != index["shape"] or images_NCHW.dtype != np.uint8:
        raise Damaged(f"its images have shape {images_NCHW.shape}, not {tuple(index['shape'])}")
    if _fingerprint(entry / "images.npy") != index["fingerprint"]:
        raise Damaged("its images have another checksum")
    with contextlib.suppress(OSError):  # a cache that is only read has no time of last use
        os.utime(entry / "index.json")
    return Decoded(images_NCHW, {int(place): reason for place, reason in index["failed"].items()})


class EntryWriter:
    """Writes one entry, image after image; a context that leaves nothing behind unless `finish` was reached.

    Args:
        entry: the folder to make; its parent exists.
        count, shape: how many images of what shape will be written.

    Raises:
        OSError: the disk is full or cannot be written.
    """

    def __init__(self, entry: Path, count: int, shape: Shape) -> None:
        self.entry, self.shape = entry, (count, *shape)
        self._part = Path(tempfile.mkdtemp(prefix=f"{entry.name}.part-", dir=entry.parent))

    def __enter__(self) -> EntryWriter:
        try:
            self._file = (self._part / "images.npy").open("wb")
            npy.write_array_header_1_0(self._file, {"descr": "|u1", "fortran_order": False, "shape": self.shape})
        except BaseException:
            shutil.rmtree(self._part, ignore_errors=True)
            raise
        return self

    def write(self, images_NCHW: npt.NDArray[np.uint8]) -> None:
        """Append some images."""
        self._file.write(np.ascontiguousarray(images_NCHW).data)

    def finish(self, failed: Mapping[int, str]) -> None:
        """Close the file, describe it and move the entry to its place."""
        self._file.close()
        content = {"version": VERSION, "shape": self.shape, "failed": failed, "fingerprint": _fingerprint(self._part / "images.npy")}
        body = json.dumps(content, ensure_ascii=False)
        (self._part / "index.json").write_text(f"{zlib.crc32(body.encode()):08x}\n{body}", encoding="utf-8", newline="\n")
        shutil.rmtree(self.entry, ignore_errors=True)  # a damaged one
        self._part.replace(self.entry)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        shutil.rmtree(self._part, ignore_errors=True)


def make_room(root: Path, needed: int, keep: str) -> None:
    """Delete the entries not used for longest, until `needed` more bytes stay within the limit, and what broken-off processes left.

    Args:
        root: the cache's folder.
        needed: bytes about to be written.
        keep: the key about to be written.
    """
    entries = list[tuple[float, int, Path]]()
    for index in root.glob("*/index.json"):
        with contextlib.suppress(OSError):
            size = sum(file.stat().st_size for file in index.parent.iterdir())
            entries.append((index.stat().st_mtime, size, index.parent))
    for part in root.glob("*.part-*"):
        if part.name.startswith(keep) or _age(part) > ABANDONED_SECONDS:  # the lock on this key is ours: nobody writes its parts any more
            shutil.rmtree(part, ignore_errors=True)
    total = needed + sum(size for _, size, _ in entries)
    for _, size, entry in sorted(entries):
        if total <= LIMIT_BYTES:
            return
        if entry.name != keep:
            shutil.rmtree(entry, ignore_errors=True)  # on Windows a mapped file stays until the next time
            total -= size


def _age(part: Path) -> float:
    """Seconds since something was written to a part, 0 when it is gone."""
    with contextlib.suppress(OSError):
        return time.time() - max(path.stat().st_mtime for path in (part, *part.iterdir()))
    return 0.0


def free_bytes(root: Path) -> int:
    """What may be written on the disk of a folder."""
    return max(0, shutil.disk_usage(root).free - SPARE_BYTES)


def _fingerprint(path: Path) -> str:
    """Length and CRC-32 of a file, of all of it up to 4 MiB, else of evenly spread pieces and the end."""
    length, checksum = path.stat().st_size, 0
    with path.open("rb", buffering=0) as file:
        for start in _starts(length):
            file.seek(start)
            checksum = zlib.crc32(file.read(PIECE_BYTES), checksum)
    return f"{length}:{checksum:08x}"


def _starts(length: int) -> Iterator[int]:
    if length <= PIECES * PIECE_BYTES:
        yield from range(0, length, PIECE_BYTES)
        return
    last = length - PIECE_BYTES
    yield from (last * piece // (PIECES - 1) for piece in range(PIECES))
