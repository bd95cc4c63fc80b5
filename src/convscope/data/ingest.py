"""From a list of files to decoded images: out of the cache, or decoded once by threads into it.

`decode_listing` returns the pixels of every file and the reason for each that failed. It decides what the files alone decide: grey or colour,
and the image size. It knows nothing of splits or batches.
"""

from __future__ import annotations

import errno
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from convscope.data import cache, png
from convscope.data.cache import Damaged, Decoded, EntryWriter
from convscope.data.decode import ColourFound, Header, Shape, Unreadable, decode, quiet, read_content, read_header
from convscope.data.listing import Listing
from convscope.data.progress import DecodingProgress
from convscope.errors import DataError, UsageError

SURVEY = 512  # files whose headers decide the image size and whether all is grey; more do not move a median that is rounded to 32
SMALL_SIDE = 64  # images up to this keep their size
SIDE_STEP, LARGEST_SIDE = 32, 224  # of the default image size; 224 is what most networks were designed for (AlexNet onwards)
LARGEST_ASKED = 4096
CHUNK_IMAGES, CHUNK_BYTES = 4096, 2**22  # decoded by one thread in one go
THREADED_BYTES = 4096  # mean file size from which threads help; below it they hinder each other (measured: 64 x 64 JPEG files of 1.5 kB)
MOST_THREADS = 16
PATIENCE_SECONDS = 1.0  # of silent waiting for another process
MEMORY_BYTES = 4 * 2**30  # held in memory at most when the cache cannot be written


def decode_listing(listing: Listing, image_size: int | None = None) -> Decoded:
    """Decode every file of a listing, or map what an earlier call decoded.

    Args:
        listing: the files.
        image_size: height and width in pixels; None decides by the files: the median shorter side; over 64 rounded to 32, at most 224.

    Returns:
        The images, (N, C, H, W), the failures, and notes.

    Raises:
        UsageError: the image size cannot be meant.
        DataError: no file can be read, or there is room for the images neither on the disk nor in memory.
    """
    if image_size is not None and not 1 <= image_size <= LARGEST_ASKED:
        raise UsageError(f"The image size {image_size} cannot be meant. Give pixels of a side, 1 to {LARGEST_ASKED}, or leave it out.")
    root = cache.cache_root()
    entry = root / cache.key_of(listing, image_size)
    notes = list[str]()
    found = _look_up(entry, listing, notes)
    if found is None:
        with quiet():
            found = _build(root, entry, listing, image_size, notes)
    return Decoded(found.images_NCHW, found.failed, tuple(notes))


def _look_up(entry: Path, listing: Listing, notes: list[str]) -> Decoded | None:
    try:
        found = cache.read(entry)
    except Damaged as damage:
        notes.append(f"The cache of decoded images was damaged ({damage}); the images were decoded again.")
        return None
    except OSError:
        return None
    if found is not None and any(reason == "permission denied" and _readable(listing, place) for place, reason in found.failed.items()):
        return None  # what was forbidden is allowed by now; neither size nor time of a file tells
    return found


def _readable(listing: Listing, place: int) -> bool:
    return os.access(listing.root / listing.files[place].path, os.R_OK)


def _build(root: Path, entry: Path, listing: Listing, image_size: int | None, notes: list[str]) -> Decoded:
    """Decode into the cache; into memory when the cache cannot be written."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _only_one(root / f"{entry.name}.lock"):
            found = _look_up(entry, listing, [])  # another process may have been faster
            return found or _to_disk(root, entry, listing, image_size)
    except OSError as error:
        return _to_memory(listing, image_size, f"{root} cannot be written ({_why(error)})", notes)


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Wait until no other process decodes the same images; say so when it takes a while."""
    held = FileLock(lock)
    try:
        held.acquire(timeout=PATIENCE_SECONDS)
    except Timeout:
        print("Another process is decoding these images; waiting for it.", file=sys.stderr, flush=True)
        held.acquire()
    try:
        yield
    finally:
        held.release()


def _to_disk(root: Path, entry: Path, listing: Listing, image_size: int | None) -> Decoded:
    for shape, only_grey in _attempts(listing, image_size):
        needed = len(listing.files) * shape.channels * shape.height * shape.width
        cache.make_room(root, needed, entry.name)
        if needed > cache.free_bytes(root):
            raise OSError(errno.ENOSPC, f"{amount(needed)} are needed")
        failed = dict[int, str]()
        try:
            with EntryWriter(entry, len(listing.files), shape) as writer:
                for chunk in _decode_all(listing, shape, only_grey):
                    writer.write(chunk.images_NCHW)
                    failed.update(chunk.failed)
                writer.finish(failed)
        except ColourFound:
            continue
        try:
            found = cache.read(entry)
        except Damaged as damage:
            raise OSError(errno.EIO, f"what was written reads otherwise: {damage}") from None
        if found is None:
            raise OSError(errno.EIO, "what was written is not there")
        return found
    raise AssertionError("the last attempt takes any image")


def _to_memory(listing: Listing, image_size: int | None, why: str, notes: list[str]) -> Decoded:
    for shape, only_grey in _attempts(listing, image_size):
        needed = len(listing.files) * shape.channels * shape.height * shape.width
        if needed > MEMORY_BYTES:
            raise DataError(
                f"The decoded images need {amount(needed)}, and the cache folder {why}. "
                f"Free some space, name another folder in CONVSCOPE_CACHE, or use a smaller image size."
            )
        images_NCHW = np.zeros((len(listing.files), *shape), np.uint8)
        failed, start = dict[int, str](), 0
        try:
            for chunk in _decode_all(listing, shape, only_grey):
                images_NCHW[start : start + len(chunk.images_NCHW)] = chunk.images_NCHW
                start += len(chunk.images_NCHW)
                failed.update(chunk.failed)
        except ColourFound:
            continue
        notes.append(f"The decoded images are held in memory, because the cache folder {why}; the next run will decode them again.")
        return Decoded(images_NCHW, failed)
    raise AssertionError("the last attempt takes any image")


def amount(count: int) -> str:
    """A number of bytes in words.

    Example:
        >>> amount(1_300_000_000)
        '1.3 GB'
    """
    value = float(count)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.4g} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def _why(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full"
    return (error.strerror or str(error)).lower()


def _attempts(listing: Listing, image_size: int | None) -> Iterator[tuple[Shape, bool]]:
    """The shape to decode to, and whether to stop at a colour image; then, should one be found, the shape in colour."""
    headers = _survey(listing)
    side = image_size or default_side([min(header.height, header.width) for header in headers])
    if all(header.grey for header in headers):
        yield Shape(1, side, side), True
    yield Shape(3, side, side), False


def default_side(shorter_sides: list[int]) -> int:
    """The image size for files of these shorter sides in pixels.

    Example:
        >>> default_side([28, 28, 28]), default_side([100, 110, 90]), default_side([3000, 4000])
        (28, 96, 224)
    """
    median = int(np.percentile(shorter_sides, 50, method="lower"))
    if median <= SMALL_SIDE:
        return median
    return min(LARGEST_SIDE, (median + SIDE_STEP // 2) // SIDE_STEP * SIDE_STEP)


def _survey(listing: Listing) -> list[Header]:
    """Headers of files evenly spread over the list; of all files when none of those can be read."""
    count = len(listing.files)
    spread = sorted({place * count // SURVEY for place in range(SURVEY)}) if count > SURVEY else list(range(count))
    headers, reasons = list[Header](), dict[str, str]()
    for places in (spread, range(count)):
        for place in places:
            path = listing.files[place].path
            try:
                headers.append(read_header(str(listing.root / path)))
            except Unreadable as error:
                reasons[path] = str(error)
        if headers:
            return headers
    path, reason = next(iter(reasons.items()))
    raise DataError(f"None of the {count:,} files in {listing.source} can be used as an image. The first, {path}: {reason}.")


class _Chunk(NamedTuple):
    images_NCHW: npt.NDArray[np.uint8]
    failed: dict[int, str]


def _decode_all(listing: Listing, shape: Shape, only_grey: bool) -> Iterator[_Chunk]:
    """Decode the files in order, some at a time.

    Raises:
        ColourFound: a colour image where only grey ones were expected.
    """
    count, per_image = len(listing.files), shape.channels * shape.height * shape.width
    size = max(1, min(CHUNK_IMAGES, CHUNK_BYTES // per_image))
    prefix = os.path.join(listing.root, "")  # noqa: PTH118 (joining strings is ten times as fast as Path, 70,000 times)
    mean_bytes = sum(file.size for file in listing.files) / max(1, count)

    plain = png.PlainPng(shape) if shape.height * shape.width <= png.MOST_PIXELS else None

    def decode_some(start: int) -> _Chunk:
        stop = min(start + size, count)
        images_NCHW, failed = np.zeros((stop - start, *shape), np.uint8), dict[int, str]()
        rows = dict[int, bytes]()  # of plain PNG files, which are decoded together
        for place in range(start, stop):
            try:
                content = read_content(prefix + listing.files[place].path)
                if plain and (found := plain.rows(content)):
                    rows[place - start] = found
                else:
                    images_NCHW[place - start] = decode(content, shape, only_grey=only_grey)
            except Unreadable as reason:
                failed[place] = str(reason)
        if plain and rows:
            images_NCHW[list(rows)] = plain.pixels(list(rows.values()))
        return _Chunk(images_NCHW, failed)

    with DecodingProgress(count) as progress:
        for chunk in _in_order(decode_some, range(0, count, size), 1 if mean_bytes < THREADED_BYTES else _threads()):
            yield chunk
            progress.advance(len(chunk.images_NCHW))


def _in_order(work: Callable[[int], _Chunk], items: range, threads: int) -> Iterator[_Chunk]:
    """Results in order, with a bounded number of them waiting."""
    if threads == 1:
        yield from map(work, items)
        return
    executor = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    waiting = deque[Future[_Chunk]]()
    try:
        for item in items:
            waiting.append(executor.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _threads() -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_THREADS, usable)
