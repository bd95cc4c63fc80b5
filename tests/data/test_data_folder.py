"""Folders and CSVs become listings: layouts, names, order, and the whole message of every refusal."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import class_folders, noise, write_csv

from convscope.data.folder import LAYOUTS, list_folder
from convscope.data.listing import TEST, TRAIN, UNSPLIT, VALID, natural, split_off, suffix_of
from convscope.data.sources import list_source
from convscope.data.table import HEADER, list_csv
from convscope.errors import DataError, UsageError
from convscope.records import SkippedFile


def message(source: Path | str) -> str:
    with pytest.raises(DataError) as error:
        list_source(source)
    return str(error.value)


# ---------------------------------------------------------------- folders


def test_plain_class_folders_in_natural_order_without_hidden_ones(tmp_path: Path) -> None:
    class_folders(tmp_path / "pets", {"class10": 1, "class9": 2, ".git": 1, "Class1": 1})
    noise(tmp_path / "pets" / "class9" / "deeper" / "x.jpg")
    noise(tmp_path / "pets" / "class9" / ".thumbs" / "x.jpg")
    (tmp_path / "pets" / "class9" / "Thumbs.db").touch()
    (tmp_path / "pets" / "README.md").touch()
    found = list_folder(tmp_path / "pets")
    assert (found.kind, found.name, found.classes) == ("folder", "pets", ("Class1", "class9", "class10"))
    assert [file.path for file in found.files] == ["Class1/0.png", "class9/0.png", "class9/1.png", "class9/deeper/x.jpg", "class10/0.png"]
    assert found.labels_N.tolist() == [0, 1, 1, 1, 2]
    assert found.splits_N.tolist() == [UNSPLIT] * 5
    assert (found.skipped, found.notes) == ((), ())
    assert found.files[0].size == (tmp_path / "pets" / "Class1" / "0.png").stat().st_size


@pytest.mark.parametrize("train", ["train", "training", "Train"])
@pytest.mark.parametrize("valid", ["val", "valid", "validation", "test", "testing", "TEST"])
def test_split_folders_by_every_name(tmp_path: Path, train: str, valid: str) -> None:
    class_folders(tmp_path / train, {"a": 2, "b": 1})
    class_folders(tmp_path / valid, {"a": 1, "b": 1})
    found = list_folder(tmp_path)
    splits = {file.path: split for file, split in zip(found.files, found.splits_N.tolist(), strict=True)}
    assert {path for path, split in splits.items() if split == TRAIN} == {f"{train}/a/0.png", f"{train}/a/1.png", f"{train}/b/0.png"}
    assert {path for path, split in splits.items() if split == VALID} == {f"{valid}/a/0.png", f"{valid}/b/0.png"}


def test_with_validation_and_test_the_test_set_is_a_third(tmp_path: Path) -> None:
    for split in ("train", "val", "test", "unlabelled"):
        class_folders(tmp_path / split, {"a": 1, "b": 1})
    found = list_folder(tmp_path)
    assert found.splits_N.tolist() == [TRAIN, TRAIN, VALID, VALID, TEST, TEST]
    assert found.notes == ("Folders beside train, val, test are not used: unlabelled.",)


def test_train_alone_is_split(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"a": 2, "b": 1})
    found = list_folder(tmp_path)
    assert found.splits_N.tolist() == [UNSPLIT] * 3
    assert found.notes == ("There is train/ alone, without a validation folder: a share of it is set aside for validation.",)


def test_classes_may_be_called_valid_or_train(tmp_path: Path) -> None:
    assert list_folder(class_folders(tmp_path / "parts", {"valid": 1, "invalid": 1})).classes == ("invalid", "valid")
    assert list_folder(class_folders(tmp_path / "traffic", {"train": 1, "car": 1})).classes == ("car", "train")


def test_what_is_no_image_by_its_name_or_place_is_listed(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / "labels.xml").touch()
    noise(tmp_path / "loose.png")
    assert list_folder(tmp_path).skipped == (
        SkippedFile("loose.png", "in no class folder"),
        SkippedFile("a/labels.xml", "not an image by its name (*.xml)"),
    )


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_that_leads_back_is_not_followed_for_ever(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "elsewhere").symlink_to(tmp_path / "b")
    found = list_folder(tmp_path)
    assert [file.path for file in found.files] == ["a/0.png", "a/elsewhere/0.png", "b/0.png"]
    assert found.skipped == (SkippedFile("a/again/", "a link to a folder above it"),)


def test_refusals_of_folders(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    assert message(root) == f"{root} holds no images: it is empty. {LAYOUTS}"
    noise(root / "a.png")
    noise(root / "b.png")
    assert message(root) == f"{root} has images (2) but no class folders, so their classes are not known. {LAYOUTS}"
    one = class_folders(tmp_path / "one", {"cat": 3})
    assert message(one) == f"{one} has one class, 'cat', and a classifier needs two or more. {LAYOUTS}"
    inner = class_folders(tmp_path / "outer" / "inner", {"cat": 1, "dog": 1}).parent
    assert message(inner) == (
        f"{inner} has one class, 'inner', and a classifier needs two or more. It holds 2 folders: did you mean {inner / 'inner'}? {LAYOUTS}"
    )
    lone = class_folders(tmp_path / "lone" / "valid", {"a": 1, "b": 1}).parent
    assert message(lone) == f"{lone} has valid/ but no train/. {LAYOUTS}"
    twice = tmp_path / "twice"
    for name in ("train", "val", "valid"):
        class_folders(twice / name, {"a": 1, "b": 1})
    assert message(twice) == f"{twice} has val/ and valid/, which mean the same. Keep one, or join them."
    direct = tmp_path / "direct"
    for name in ("train", "test"):
        noise(direct / name / "1.png")
    assert message(direct) == f"{direct / 'train'} has images (1) but no class folders, so their classes are not known. {LAYOUTS}"


def test_a_class_that_training_lacks_is_refused(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"cat": 1, "dog": 1})
    class_folders(tmp_path / "valid", {"cat": 1, "Dog": 2})
    assert message(tmp_path) == (
        f"{tmp_path} has 2 images in valid/ of classes that train/ lacks: Dog. Did you mean 'dog'? Known: 'cat', 'dog'. "
        "Add images to train/, or remove or rename the folders."
    )


def test_a_source_that_is_not_there_or_not_meant(tmp_path: Path) -> None:
    class_folders(tmp_path / "pictures", {"a": 1, "b": 1})
    allowed = "Give mnist (shipped with convscope), a folder of images, or a CSV of path,label."
    assert message(tmp_path / "picturs") == f"There is no '{tmp_path / 'picturs'}'. Did you mean 'pictures'? {allowed}"
    assert message("minst") == f"There is no 'minst'. Did you mean 'mnist'? {allowed}"
    assert (
        message(tmp_path / "no" / "where")
        == f"There is no '{tmp_path / 'no' / 'where'}'. There is no folder '{tmp_path / 'no'}' either. {allowed}"
    )
    (tmp_path / "photos.zip").touch()
    assert message(tmp_path / "photos.zip") == f"{tmp_path / 'photos.zip'} is neither a folder nor a CSV. Unpack it first. {allowed}"


# ---------------------------------------------------------------- CSV


def test_csv_paths_are_relative_to_it_and_other_columns_are_ignored(tmp_path: Path) -> None:
    class_folders(tmp_path / "images", {"x": 3})
    table = write_csv(
        tmp_path / "pets.csv", ["Path, label, age", "images/x/0.png,cat,3", "images/x/1.png , dog,", f"{tmp_path}/images/x/2.png,cat,1"]
    )
    found = list_csv(table)
    assert (found.kind, found.name, found.classes) == ("csv", "pets", ("cat", "dog"))
    assert [file.path for file in found.files] == ["images/x/0.png", "images/x/1.png", f"{tmp_path}/images/x/2.png"]
    assert found.labels_N.tolist() == [0, 1, 0]
    assert found.splits_N.tolist() == [UNSPLIT] * 3


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_with_splits_and_other_delimiters(tmp_path: Path, delimiter: str) -> None:
    class_folders(tmp_path, {"x": 4})
    rows = [
        ("label", "path", "split"),
        ("a", "x/0.png", "train"),
        ("b", "x/1.png", "training"),
        ("a", "x/2.png", "val"),
        ("a", "x/3.png", "test"),
    ]
    table = write_csv(tmp_path / "t.csv", [delimiter.join(row) for row in rows])
    assert list_csv(table).splits_N.tolist() == [TRAIN, TRAIN, VALID, TEST]
    write_csv(table, [delimiter.join(row) for row in rows if row[2] != "val"])
    assert list_csv(table).splits_N.tolist() == [TRAIN, TRAIN, VALID]  # the only other set is what training is judged by


def test_csv_lines_that_cannot_be_used_are_listed(tmp_path: Path) -> None:
    class_folders(tmp_path, {"x": 2})
    lines = ["path,label", "x/0.png,a", "x/9.png,a", ",a", "x/1.png,", "x/1.png,b", "x/1.png,b", "x,b"]
    assert list_csv(write_csv(tmp_path / "t.csv", lines)).skipped == (
        SkippedFile("x/9.png (line 3)", "no such file"),
        SkippedFile("t.csv (line 4)", "no path"),
        SkippedFile("x/1.png (line 5)", "no label"),
        SkippedFile("x/1.png (line 7)", "already in line 6"),
        SkippedFile("x (line 8)", "a folder, not a file"),
    )


def test_refusals_of_csvs(tmp_path: Path) -> None:
    class_folders(tmp_path, {"x": 2})

    def refused(*lines: str) -> str:
        return message(write_csv(tmp_path / "t.csv", lines)).removeprefix(f"{tmp_path / 't.csv'} ")

    assert refused("file,class", "x/0.png,a") == f"has the columns 'file', 'class'. {HEADER}"
    assert refused("user,item,rating", "1,2,3") == "holds ratings (user, item, rating), not images. Read it with cs.load_ratings."
    assert (
        refused("path,label", "x/0.png,a", "x/0.png,b")
        == "gives 'x/0.png' two labels: 'a' in line 2 and 'b' in line 3. Keep one of the lines."
    )
    assert refused("path,label,split", "x/0.png,a,tarin") == (
        "has the split 'tarin' in line 2. Use train, valid or test in every line, or leave the column out."
    )
    assert refused("path,label", "y/0.png,a", "y/1.png,b") == (
        f"names no image that is there; 2 lines were looked at. The first: y/0.png (line 2): no such file. Paths are relative to {tmp_path}."
    )
    assert refused("path,label", "x/0.png,a") == "has one class, 'a', and a classifier needs two or more. Add images of another class."
    assert refused("path,label,split", "x/0.png,a,valid") == (
        "has no line whose split is train. Mark the images to train on, or leave the column out."
    )
    assert refused("path,label,split", "x/0.png,a,train", "x/1.png,b,valid") == (
        "has validation or test images of classes that no training image has: b. Add training images."
    )
    (tmp_path / "t.csv").write_bytes("path,label\nx/é.png,a\n".encode("latin-1"))
    assert (
        message(tmp_path / "t.csv")
        == f"{tmp_path / 't.csv'} is not text in UTF-8 (invalid continuation byte at byte 13). Save it as CSV UTF-8."
    )
    (tmp_path / "t.csv").write_bytes(b"")
    assert message(tmp_path / "t.csv") == f"{tmp_path / 't.csv'} is empty. {HEADER}"


# ---------------------------------------------------------------- order and split


@given(st.text("aB./-é", max_size=12))
@settings(max_examples=100, deadline=None)
def test_suffixes_are_those_of_pathlib(path: str) -> None:
    name = path.rsplit("/", 1)[-1]
    if name.strip("."):  # pathlib takes "." and ".." for folders
        assert suffix_of(path) == PurePosixPath(name).suffix.lower() or name.endswith(".") or name.startswith(".")


def test_natural_order() -> None:
    assert sorted(["b2", "b10", "10", "9", "B1", "a", "b"], key=natural) == ["9", "10", "a", "b", "B1", "b2", "b10"]


@given(st.lists(st.text(min_size=1, max_size=6), unique=True, max_size=8))
@settings(max_examples=50, deadline=None)
def test_natural_order_is_total(names: list[str]) -> None:
    assert len({natural(name) for name in names}) == len(names)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.floats(0.01, 0.99), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_the_split_is_stratified(counts: list[int], share: float, seed: int) -> None:
    labels_N = np.repeat(np.arange(len(counts)), counts)
    names = tuple(f"class {label}" for label in range(len(counts)))
    splits_N = split_off(labels_N, names, share, seed)
    for label, count in enumerate(counts):
        aside = int((splits_N[labels_N == label] == VALID).sum())
        assert aside == min(max(round(count * share), 1), count - 1)
    assert split_off(labels_N, names, share, seed).tolist() == splits_N.tolist()


def test_another_seed_splits_otherwise_and_another_class_does_not_matter() -> None:
    labels_N = np.repeat([0, 1], 50)
    first, second = (split_off(labels_N, ("a", "b"), 0.2, seed) for seed in (0, 1))
    assert first.tolist() != second.tolist()
    assert split_off(labels_N[:50], ("a",), 0.2, 0).tolist() == first[:50].tolist()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 20.0])
def test_a_share_that_cannot_be_meant(share: float) -> None:
    with pytest.raises(UsageError) as error:
        split_off(np.zeros(3, np.int64), ("a",), share, 0)
    assert str(error.value) == f"valid_pct={share} is no share of the images. Give a number between 0 and 1, such as 0.2 for a fifth."
