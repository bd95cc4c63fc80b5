"""A CSV of images: a header with path and label, and perhaps split; paths are relative to the CSV's folder. No image is opened."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from convscope.data.listing import SPLIT_NAMES, TEST, TRAIN, UNSPLIT, VALID, FoundFile, Listing, natural
from convscope.errors import DataError
from convscope.records import SkippedFile

DELIMITERS = ",;\t"
HEADER = "The first line must name the columns path and label, and may name split (train, valid or test); others are ignored."


def list_csv(path: Path) -> Listing:
    """List the images of a CSV.

    Args:
        path: a text file in UTF-8, its columns separated by commas, semicolons or tabs.

    Raises:
        DataError: the header is not understood, a label or split cannot be used, or fewer than two classes are there.
    """
    rows, names = _read(path)
    skipped = list[SkippedFile]()
    seen = dict[str, tuple[int, str]]()
    files, labels, splits = list[FoundFile](), list[str](), list[int]()
    for number, row in enumerate(rows, 2):
        name, label = row.get("path") or "", row.get("label") or ""
        split = _split(path, number, row.get("split") or "") if "split" in names else UNSPLIT
        reason = "no path" if not name else "no label" if not label else ""
        if not reason and name in seen:
            line, before = seen[name]
            if before != label:
                raise DataError(
                    f"{path} gives {name!r} two labels: {before!r} in line {line} and {label!r} in line {number}. Keep one of the lines."
                )
            reason = f"already in line {line}"
        found = None
        if not reason:
            seen[name] = number, label
            found, reason = _stat(path.parent, name)
        if found is None:
            skipped.append(SkippedFile(f"{name or path.name} (line {number})", reason))
            continue
        files.append(found)
        labels.append(label)
        splits.append(split)
    return _listing(path, files, labels, splits, skipped)


def _read(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """The rows with their cells stripped, and the columns' names in small letters."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8 ({error.reason} at byte {error.start}). Save it as CSV UTF-8.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}.") from None
    lines = text.splitlines()
    if not lines:
        raise DataError(f"{path} is empty. {HEADER}")
    delimiter = max(DELIMITERS, key=lines[0].count)
    try:
        table = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter, strict=True) if row]
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV: {error}. {HEADER}") from None
    names = [name.lower() for name in table[0]]
    if {"user", "item", "rating"} <= set(names):
        raise DataError(f"{path} holds ratings (user, item, rating), not images. Read it with cs.load_ratings.")
    if not {"path", "label"} <= set(names):
        raise DataError(f"{path} has the columns {', '.join(map(repr, table[0]))}. {HEADER}")
    return [dict(zip(names, row, strict=False)) for row in table[1:]], names


def _split(path: Path, number: int, name: str) -> int:
    if name.lower() not in SPLIT_NAMES:
        raise DataError(f"{path} has the split {name!r} in line {number}. Use train, valid or test in every line, or leave the column out.")
    return SPLIT_NAMES[name.lower()]


def _stat(folder: Path, name: str) -> tuple[FoundFile | None, str]:
    """The file, or why it cannot be used."""
    file = folder / name
    try:
        status = file.stat()
    except FileNotFoundError:
        return None, "no such file"
    except OSError as error:
        return None, (error.strerror or str(error)).lower()
    if file.is_dir():
        return None, "a folder, not a file"
    return FoundFile(Path(name).as_posix(), status.st_size, status.st_mtime_ns), ""


def _listing(path: Path, files: list[FoundFile], labels: list[str], splits: list[int], skipped: list[SkippedFile]) -> Listing:
    if not files:
        first = f" The first: {skipped[0].path}: {skipped[0].reason}." if skipped else ""
        raise DataError(
            f"{path} names no image that is there; {len(skipped):,} lines were looked at.{first} Paths are relative to {path.parent}."
        )
    sets = set(splits)
    if TEST in sets and VALID not in sets:
        splits = [VALID if split == TEST else split for split in splits]
    if sets == {TRAIN}:
        splits = [UNSPLIT] * len(splits)
    if sets != {UNSPLIT} and TRAIN not in sets:
        raise DataError(f"{path} has no line whose split is train. Mark the images to train on, or leave the column out.")
    trained = {label for label, split in zip(labels, splits, strict=True) if split in (TRAIN, UNSPLIT)}
    strange = sorted(set(labels) - trained, key=natural)
    if strange:
        raise DataError(
            f"{path} has validation or test images of classes that no training image has: {', '.join(strange)}. Add training images."
        )
    classes = tuple(sorted(trained, key=natural))
    if len(classes) == 1:
        raise DataError(f"{path} has one class, {classes[0]!r}, and a classifier needs two or more. Add images of another class.")
    index = {name: label for label, name in enumerate(classes)}
    return Listing(
        kind="csv",
        name=path.stem,
        source=str(path),
        root=path.parent,
        files=tuple(files),
        labels_N=np.array([index[label] for label in labels], np.int64),
        splits_N=np.array(splits, np.int8),
        classes=classes,
        skipped=tuple(skipped),
    )
