"""What a folder or CSV holds before any image is opened: files, labels and splits.

`Listing` is what every source of image files returns. The seeded split and the natural order of names are here too. No image is opened.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from convscope import seeds
from convscope.errors import UsageError
from convscope.records import SkippedFile

SPLITS = ("train", "valid", "test")
TRAIN, VALID, TEST = range(3)
UNSPLIT = -1  # neither the folder nor the CSV says where the image belongs

SPLIT_NAMES = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALID,
    "valid": VALID,
    "validation": VALID,
    "test": TEST,
    "testing": TEST,
}


class FoundFile(NamedTuple):
    """A file: path relative to the data's folder with forward slashes, size in bytes, time of the last change in nanoseconds."""

    path: str
    size: int
    time: int


@dataclass(frozen=True, slots=True)
class Listing:
    """Image files with their labels.

    Attributes:
        kind: "folder" or "csv".
        name: what a run on this data is called.
        source: the absolute path that was listed.
        root: the folder that the files' paths are relative to.
        files: the files, in an order that does not depend on the file system.
        labels_N: class of each, an index into `classes`.
        splits_N: TRAIN, VALID, TEST or UNSPLIT for each.
        classes: names in natural order.
        skipped: what was found and left out.
        notes: sentences worth telling.
    """

    kind: str
    name: str
    source: str
    root: Path
    files: tuple[FoundFile, ...]
    labels_N: npt.NDArray[np.int64]
    splits_N: npt.NDArray[np.int8]
    classes: tuple[str, ...]
    skipped: tuple[SkippedFile, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key that puts "class2" before "class10".

    Example:
        >>> sorted(["10", "9", "cat", "1"], key=natural)
        ['1', '9', '10', 'cat']
    """
    parts = re.split(r"([0-9]+)", name.casefold())
    key = tuple((0, int(part), "") if index % 2 else (1, 0, part) for index, part in enumerate(parts) if part)
    return (*key, (-1, 0, name))  # shorter names first; those that differ in case only keep a fixed order


def suffix_of(path: str) -> str:
    """The ending of a file's name with the dot, in small letters; "" when it has none. Five times as fast as pathlib's, for 70,000 files.

    Example:
        >>> suffix_of("a.b/photo.JPG"), suffix_of("a.b/photo")
        ('.jpg', '')
    """
    name = path[path.rfind("/") + 1 :]
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


@cache
def image_suffixes() -> frozenset[str]:
    """Endings of files that Pillow can open, with the dot and in small letters."""
    endings = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in endings.items() if kind in Image.OPEN)


def split_off(labels_N: npt.NDArray[np.int64], classes: tuple[str, ...], share: float, seed: int) -> npt.NDArray[np.int8]:
    """Set a share of each class aside for validation.

    Args:
        labels_N: class of each image.
        classes: names of the classes; a class's split depends on its name and its images alone, not on other classes.
        share: between 0 and 1; rounded per class, at least one image where a class has two or more.
        seed: decides which images.

    Returns:
        TRAIN or VALID for each image.

    Raises:
        UsageError: the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise UsageError(f"valid_pct={share} is no share of the images. Give a number between 0 and 1, such as 0.2 for a fifth.")
    splits_N = np.full(len(labels_N), TRAIN, np.int8)
    for label, name in enumerate(classes):
        of_class = np.flatnonzero(labels_N == label)
        count = len(of_class)
        aside = min(max(round(count * share), 1), count - 1)
        if aside > 0:
            chosen = np.random.default_rng(seeds.derive(seed, "split", name)).permutation(count)[:aside]
            splits_N[of_class[chosen]] = VALID
    return splits_N
