"""A folder of images: which files there are, and what class and split each belongs to.

    root/train/cat/1.jpg  root/valid/cat/9.jpg      split by folder: train or training; val, valid, validation, test or testing
    root/cat/1.jpg                                  plain class folders: the split is drawn later

Files may lie deeper inside a class folder. Names that begin with a dot are ignored. No image is opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from convscope.data.listing import SPLIT_NAMES, TEST, TRAIN, UNSPLIT, VALID, FoundFile, Listing, image_suffixes, natural, suffix_of
from convscope.errors import DataError, suggestion
from convscope.records import SkippedFile

SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})  # left behind by Windows; nobody means them as data
LAYOUTS = (
    "Give a folder with one folder per class, or with train/ and valid/ (or val/, validation/, test/, testing/) "
    "that each hold a folder per class, or a CSV of path,label."
)


class Content(NamedTuple):
    """What lies directly in a folder."""

    folders: tuple[str, ...]
    files: tuple[FoundFile, ...]


class _Lister:
    """Walks folders and keeps what cannot be used."""

    def __init__(self, root: Path) -> None:
        self.root, self.skipped = root, list[SkippedFile]()

    def look(self, relative: str) -> Content:
        """Folders and files directly in a folder, sorted by name; hidden ones and the system's own left out."""
        folders, files = list[str](), list[FoundFile]()
        prefix = f"{relative}/" if relative else ""
        try:
            with os.scandir(self.root / relative) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or entry.name.lower() in SYSTEM_FILES:
                        continue
                    try:
                        if entry.is_dir():
                            folders.append(entry.name)
                            continue
                        status = entry.stat()
                        files.append(FoundFile(prefix + entry.name, status.st_size, status.st_mtime_ns))
                    except OSError as error:
                        self.skipped.append(SkippedFile(prefix + entry.name, (error.strerror or str(error)).lower()))
        except OSError as error:
            if not relative:
                raise DataError(f"The folder {self.root} cannot be read: {(error.strerror or str(error)).lower()}.") from None
            self.skipped.append(SkippedFile(prefix, (error.strerror or str(error)).lower()))
        return Content(tuple(sorted(folders, key=natural)), tuple(sorted(files)))

    def images(self, files: Iterable[FoundFile]) -> list[FoundFile]:
        """Those files that may be images by their name; the others are listed as skipped."""
        suffixes, kept = image_suffixes(), list[FoundFile]()
        for file in files:
            suffix = suffix_of(file.path)
            if suffix and suffix not in suffixes:
                self.skipped.append(SkippedFile(file.path, f"not an image by its name (*{suffix})"))
            else:
                kept.append(file)
        return kept

    def below(self, relative: str, above: frozenset[Path] = frozenset()) -> list[FoundFile]:
        """Images in a folder and in all folders below it; `above` are the folders that it lies in."""
        real = (self.root / relative).resolve()
        if real in above:
            self.skipped.append(SkippedFile(f"{relative}/", "a link to a folder above it"))
            return []
        content = self.look(relative)
        found = self.images(content.files)
        for name in content.folders:
            found += self.below(f"{relative}/{name}", above | {real})
        return found

    def leave_out(self, files: Iterable[FoundFile]) -> None:
        """List images that lie beside class folders; other files there, such as a README, concern nobody."""
        suffixes = image_suffixes()
        stray = [file.path for file in files if suffix_of(file.path) in suffixes]
        self.skipped += [SkippedFile(path, "in no class folder") for path in stray]


def list_folder(root: Path) -> Listing:
    """List the images of a folder.

    Raises:
        DataError: it holds no images, fewer than two classes, or splits that do not fit together.
    """
    lister = _Lister(root)
    top = lister.look("")
    lister.leave_out(top.files)
    roles = _roles(lister, top)
    notes = list[str]()
    if roles:
        others = [name for name in top.folders if name not in roles]
        if others:
            notes.append(f"Folders beside {', '.join(roles)} are not used: {', '.join(others)}.")
        found = {name: _classes_in(lister, name) for name in roles}
        _check_classes(root, roles, found)
    else:
        found = {"": _classes_in(lister, "", top)}
    return _listing(lister, top, roles, found, notes)


def _roles(lister: _Lister, top: Content) -> dict[str, int]:
    """Which folders are splits: name to TRAIN, VALID or TEST; empty for plain class folders."""
    named = {name: SPLIT_NAMES[name.lower()] for name in top.folders if name.lower() in SPLIT_NAMES}
    for split in (TRAIN, VALID, TEST):
        same = [name for name, role in named.items() if role == split]
        if len(same) > 1 and TRAIN in named.values():
            raise DataError(f"{lister.root} has {' and '.join(f'{name}/' for name in same)}, which mean the same. Keep one, or join them.")
    if TRAIN not in named.values():
        if named and all(lister.look(name).folders for name in named):
            raise DataError(f"{lister.root} has {', '.join(f'{name}/' for name in named)} but no train/. {LAYOUTS}")
        return {}  # folders called "valid" and "invalid" are classes
    if len(named) == 1 and not lister.look(next(iter(named))).folders:
        return {}  # a class called "train", beside "car" and "plane"
    if TEST in named.values() and VALID not in named.values():  # the only other set is what training is judged by
        return {name: VALID if role == TEST else role for name, role in named.items()}
    return dict(sorted(named.items(), key=lambda item: item[1]))


def _classes_in(lister: _Lister, relative: str, content: Content | None = None) -> dict[str, list[FoundFile]]:
    """The images of each class folder in a folder; class folders without any are left out."""
    if content is None:
        content = lister.look(relative)
        lister.leave_out(content.files)
    prefix = f"{relative}/" if relative else ""
    found = {name: lister.below(prefix + name) for name in content.folders}
    return {name: files for name, files in found.items() if files}


def _check_classes(root: Path, roles: Mapping[str, int], found: Mapping[str, Mapping[str, list[FoundFile]]]) -> None:
    train = next(name for name, role in roles.items() if role == TRAIN)
    for name, classes in found.items():
        strange = [each for each in classes if each not in found[train]]
        if strange and found[train]:
            count = sum(len(classes[each]) for each in strange)
            known = suggestion(strange[0], found[train])
            raise DataError(
                f"{root} has {count:,} images in {name}/ of classes that {train}/ lacks: {', '.join(strange)}. {known} "
                f"Add images to {train}/, or remove or rename the folders."
            )


def _listing(
    lister: _Lister, top: Content, roles: Mapping[str, int], found: Mapping[str, Mapping[str, list[FoundFile]]], notes: list[str]
) -> Listing:
    train = next((name for name, role in roles.items() if role == TRAIN), "")
    classes = tuple(sorted(found[train], key=natural))
    _check_two(lister, top, train, classes)
    files, labels, splits = list[FoundFile](), list[int](), list[int]()
    alone = len(roles) == 1
    if alone:
        notes.append(f"There is {train}/ alone, without a validation folder: a share of it is set aside for validation.")
    for name, per_class in found.items():
        for label, each in enumerate(classes):
            of_class = per_class.get(each, [])
            files += of_class
            labels += [label] * len(of_class)
            splits += [UNSPLIT if alone or not roles else roles[name]] * len(of_class)
    return Listing(
        kind="folder",
        name=lister.root.name or "images",
        source=str(lister.root),
        root=lister.root,
        files=tuple(files),
        labels_N=np.array(labels, np.int64),
        splits_N=np.array(splits, np.int8),
        classes=classes,
        skipped=tuple(lister.skipped),
        notes=tuple(notes),
    )


def _check_two(lister: _Lister, top: Content, train: str, classes: tuple[str, ...]) -> None:
    """Complain about fewer than two classes, with what was found instead."""
    where = f"{lister.root / train}" if train else str(lister.root)
    if len(classes) == 1:
        only = classes[0]
        inner = lister.look(f"{train}/{only}" if train else only).folders
        hint = f" It holds {len(inner)} folders: did you mean {Path(where) / only}?" if len(inner) > 1 else ""
        raise DataError(f"{where} has one class, {only!r}, and a classifier needs two or more.{hint} {LAYOUTS}")
    if not classes:
        prefix = f"{train}/" if train else ""
        loose = [item for item in lister.skipped if item.reason == "in no class folder" and item.path.startswith(prefix)]
        unreadable = [item for item in lister.skipped if item.reason == "permission denied"]
        if loose:
            found = f"has images ({len(loose):,}) but no class folders, so their classes are not known"
        elif unreadable:
            found = f"cannot be read: permission denied for {unreadable[0].path}" + (
                f" and {len(unreadable) - 1} more" if unreadable[1:] else ""
            )
        else:
            found = "holds no images" + ("" if top.folders or top.files else ": it is empty")
        raise DataError(f"{where} {found}. {LAYOUTS}")
