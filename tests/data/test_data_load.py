"""load_data from end to end: what it returns for MNIST, folders and CSVs, what it tells, and what it refuses."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import class_folders, noise, truncated_jpeg, write_csv
from PIL import Image

from convscope.data import Augment, DataLoaders, load_data
from convscope.data.batches import Split
from convscope.data.report import as_html, balanced_weights, moments, notes_on, sample_image
from convscope.data.shipped import SHA256, mnist_folder, read_mnist
from convscope.errors import DataError, UsageError
from convscope.records import DataSummary, SkippedFile
from convscope.show.images import image_grid


@pytest.fixture(scope="module")
def mnist() -> DataLoaders:
    return load_data("mnist")


# ---------------------------------------------------------------- MNIST


def test_the_shipped_files_are_the_original_ones() -> None:
    readme = (mnist_folder() / "README.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^([0-9a-f]{64})  (\S+)$", readme, re.MULTILINE)) == {checksum: name for name, checksum in SHA256.items()}
    for name, checksum in SHA256.items():
        assert hashlib.sha256(gzip.decompress((mnist_folder() / f"{name}.gz").read_bytes())).hexdigest() == checksum


def test_mnist(mnist: DataLoaders) -> None:
    assert repr(mnist) == "DataLoaders(mnist: 60,000 training + 10,000 validation images of 1x28x28, 10 classes, batches of 512)"
    assert (mnist.name, mnist.kind, mnist.test, mnist.classes) == ("mnist", "mnist", None, tuple("0123456789"))
    assert (len(mnist.train), len(mnist.valid)) == (117, 20)
    assert mnist.preprocess.mean == pytest.approx((0.1307,), abs=5e-5)
    assert mnist.preprocess.std == pytest.approx((0.3081,), abs=5e-5)
    assert mnist.summary.counts["valid"] == (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
    assert (mnist.summary.augment, mnist.summary.notes, mnist.summary.skipped, mnist.class_weights) == ({}, (), (), ())
    images_NCHW, labels_N = next(mnist.train.batches(0))
    assert (images_NCHW.shape, labels_N.shape) == ((512, 1, 28, 28), (512,))
    assert mnist.valid.split.name(12) == "valid:12"


def test_mnist_at_another_size() -> None:
    small = load_data("mnist", image_size=14)
    assert small.preprocess.shape == (1, 14, 14)
    expected = Image.fromarray(read_mnist("t10k").images_NCHW[0, 0]).resize((14, 14), Image.Resampling.BILINEAR)
    assert np.abs(small.valid.split.pixels(0)[0].astype(int) - np.asarray(expected).astype(int)).max() <= 1
    with pytest.raises(UsageError) as error:
        load_data("mnist", image_size=0)
    assert str(error.value) == "The image size 0 cannot be meant. Give pixels of a side, 1 to 4096, or leave it out."


def test_damage_of_the_shipped_files_is_found(tmp_path: Path) -> None:
    again = "Install convscope again, for example with `pip install --force-reinstall --no-deps convscope`."
    path = tmp_path / "t10k-images-idx3-ubyte.gz"

    def message() -> str:
        with pytest.raises(DataError) as error:
            read_mnist("t10k", tmp_path)
        return str(error.value)

    assert message() == f"The shipped MNIST file {path} is missing. {again}"
    path.write_bytes((mnist_folder() / path.name).read_bytes()[:1000])
    assert (
        message()
        == f"The shipped MNIST file {path} is damaged (Compressed file ended before the end-of-stream marker was reached). {again}"
    )
    path.write_bytes(gzip.compress(b"other"))
    found, known = hashlib.sha256(b"other").hexdigest(), SHA256["t10k-images-idx3-ubyte"]
    assert message() == f"The shipped MNIST file {path} is damaged: its SHA-256 is {found}, not {known}. {again}"


# ---------------------------------------------------------------- folders and CSVs


def test_a_folder(tmp_path: Path) -> None:
    class_folders(tmp_path / "pets", {"cat": 10, "dog": 20})
    data = load_data(tmp_path / "pets", batch_size=8, seed=3)
    assert repr(data) == "DataLoaders(pets: 24 training + 6 validation images of 3x12x12, 2 classes, batches of 8)"
    assert data.summary.counts == {"train": (8, 16), "valid": (2, 4)}
    assert data.summary.augment == {"shift": 0.07, "rotate": 10.0, "scale": 0.1, "flip": 0.5}
    assert data.summary.source == str(tmp_path / "pets")
    for loader in (data.train, data.valid):
        for index in range(loader.count):
            with Image.open(tmp_path / "pets" / loader.split.name(index)) as image:
                assert np.array_equal(loader.split.pixels(index), np.asarray(image).transpose(2, 0, 1))
            assert data.classes[loader.split.labels_N[index]] == Path(loader.split.name(index)).parent.name
    shown = {loader.split.name(index) for loader in (data.train, data.valid) for index in range(loader.count)}
    assert len(shown) == 30
    again = load_data(str(tmp_path / "pets"), batch_size=8, seed=3)
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(data.train.batches(0), again.train.batches(0), strict=True))


def test_the_mnist_png_layout_with_a_test_folder_as_validation(tmp_path: Path) -> None:
    digits = {str(digit): 2 for digit in range(10)}
    class_folders(tmp_path / "training", digits, channels=1, side=28)
    class_folders(tmp_path / "testing", digits, channels=1, side=28)
    data = load_data(tmp_path, batch_size=4)
    assert data.preprocess.shape == (1, 28, 28)
    assert data.summary.counts == {"train": (2,) * 10, "valid": (2,) * 10}
    assert data.summary.augment["flip"] == 0  # digits are not mirrored
    assert data.test is None


def test_a_csv_with_a_test_split(tmp_path: Path) -> None:
    class_folders(tmp_path, {"x": 6})
    splits = ("train", "train", "train", "valid", "test", "test")
    lines = ["path,label,split", *(f"x/{index}.png,{'ab'[index % 2]},{split}" for index, split in enumerate(splits))]
    data = load_data(write_csv(tmp_path / "pets.csv", lines), batch_size=2)
    assert repr(data) == "DataLoaders(pets: 3 training + 1 validation + 2 test images of 3x12x12, 2 classes, batches of 2)"
    assert (data.kind, data.classes, data.test.split.names) == ("csv", ("a", "b"), ["x/4.png", "x/5.png"])


def test_moments_are_exact() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 3, 7, 5), np.uint8)
    rows = torch.tensor([3, 1, 4, 15, 9, 2, 6])
    found = moments(Split("train", torch.from_numpy(pixels), torch.zeros(7, dtype=torch.int64), rows))
    scaled = pixels[rows.numpy()].astype(np.float64) / 255
    assert found.mean == pytest.approx(scaled.mean((0, 2, 3)), abs=1e-12)
    assert found.std == pytest.approx(scaled.std((0, 2, 3)), abs=1e-12)


def test_moments_of_images_that_are_all_alike_can_be_divided_by() -> None:
    assert moments(Split("train", torch.full((4, 1, 2, 2), 7, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))).std == pytest.approx(
        (1 / 255,)
    )


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_balanced_weights_make_classes_count_alike(counts: list[int]) -> None:
    weights = balanced_weights(counts)
    totals = [weight * count for weight, count in zip(weights, counts, strict=True)]
    assert totals == pytest.approx([totals[0]] * len(totals))
    assert sum(totals) / sum(counts) == pytest.approx(1)


# ---------------------------------------------------------------- what is told


def test_broken_files_are_listed_and_strict_refuses_them(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cat": 5, "dog": 5})
    truncated_jpeg(tmp_path / "cat" / "half.jpg")
    (tmp_path / "dog" / "notes.png").write_text("no image at all", encoding="utf-8")
    (tmp_path / "dog" / "empty.png").touch()
    data = load_data(tmp_path, batch_size=4)
    assert data.summary.skipped == (
        SkippedFile("cat/half.jpg", "truncated: the file ends before the image does"),
        SkippedFile("dog/empty.png", "empty file"),
        SkippedFile("dog/notes.png", "not an image (text)"),
    )
    assert data.summary.counts == {"train": (4, 4), "valid": (1, 1)}
    with pytest.raises(DataError) as error:
        load_data(tmp_path, strict=True)
    assert str(error.value) == (
        f"{tmp_path} has 3 files that cannot be used, and strict was asked for:\n"
        "  cat/half.jpg: truncated: the file ends before the image does\n"
        "  dog/empty.png: empty file\n"
        "  dog/notes.png: not an image (text)\n"
        "Mend or remove them, or train without --strict, which leaves them out and lists them."
    )


def test_strict_lists_ten_and_counts_the_rest(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cat": 2, "dog": 2})
    for number in range(12):
        (tmp_path / "cat" / f"empty{number}.png").touch()
    with pytest.raises(DataError) as error:
        load_data(tmp_path, strict=True)
    assert str(error.value).splitlines()[11] == "  and 2 more"


def test_a_class_none_of_whose_images_can_be_read_is_left_out(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 4, "b": 0, "c": 4})
    (tmp_path / "b" / "broken.png").touch()
    data = load_data(tmp_path, batch_size=2)
    assert data.classes == ("a", "c")
    assert data.summary.notes[0] == "No training image of 'b' could be read, so that class is left out."
    assert {data.classes[label] for label in data.train.split.labels_N} == {"a", "c"}
    for index in range(data.train.count):
        assert data.train.split.name(index).split("/")[0] == data.classes[data.train.split.labels_N[index]]


def test_too_little_that_can_be_read(tmp_path: Path) -> None:
    class_folders(tmp_path / "x", {"a": 4})
    (tmp_path / "x" / "b").mkdir()
    (tmp_path / "x" / "b" / "broken.png").touch()
    with pytest.raises(DataError) as error:
        load_data(tmp_path / "x")
    assert str(error.value) == (
        f"{tmp_path / 'x'} has readable training images of 1 class, and a classifier needs two or more. 1 of 5 files could not be read."
    )
    class_folders(tmp_path / "y", {"a": 1, "b": 1})
    with pytest.raises(DataError) as error:
        load_data(tmp_path / "y")
    assert str(error.value) == (
        f"{tmp_path / 'y'} leaves no image for validation. Give each class two readable images or more, or a valid/ folder with some."
    )


def test_a_class_missing_from_validation_is_told(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"a": 25, "b": 25})
    class_folders(tmp_path / "valid", {"a": 5})
    data = load_data(tmp_path)
    assert data.summary.counts["valid"] == (5, 0)
    assert data.summary.notes == ("No validation images of 'b': how well they are recognised is not measured.",)


def test_notes_on_balance_and_numbers() -> None:
    assert notes_on(("a", "b"), {"train": (90, 30), "valid": (9, 3)}, weighed=False) == []
    assert notes_on(("a", "b"), {"train": (91, 30), "valid": (9, 3)}, weighed=False) == [
        "The classes are unbalanced: 91 training images of 'a', 30 of 'b'. --class-weights auto weighs them."
    ]
    assert notes_on(("a", "b"), {"train": (1, 30), "valid": (9, 3), "test": (0, 0)}, weighed=True) == [
        "The classes are unbalanced: 30 training images of 'b', 1 of 'a'. They are weighed.",
        "No test images of 'a', 'b': how well they are recognised is not measured.",
        "Only 1 training image of 'a': expect results that differ much from seed to seed.",
    ]


def test_class_weights(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 10, "b": 5})
    data = load_data(tmp_path, class_weights="auto")
    assert data.class_weights == data.summary.class_weights == balanced_weights((8, 4)) == (0.75, 1.5)


def test_augmentation_can_be_chosen(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 4, "b": 4})
    assert load_data(tmp_path, augment=False).summary.augment == {}
    assert load_data(tmp_path, augment=False).train.augment is None
    assert load_data(tmp_path, augment=Augment(shift=0.5)).summary.augment["shift"] == 0.5
    data = load_data(tmp_path)
    assert (data.train.augment, data.valid.augment) == (Augment.default(3), None)


def test_arguments_that_cannot_be_meant() -> None:
    with pytest.raises(UsageError) as error:
        load_data("mnist", batch_size=0)
    assert str(error.value) == "batch_size=0 is no number of images. Give 1 or more."
    with pytest.raises(UsageError) as error:
        load_data("mnist", class_weights="balanced")
    assert str(error.value) == "class_weights='balanced' is not known. Use 'auto' or 'none'."


# ---------------------------------------------------------------- what is shown


def test_samples_are_spread_over_the_classes(mnist: DataLoaders, tmp_path: Path) -> None:
    assert [sample.label for sample in mnist.summary.samples] == list("0123456789") * 2
    with Image.open(io.BytesIO(mnist.summary.samples[0].png)) as image:
        assert (image.size, image.mode) == ((28, 28), "L")
    large = sample_image(np.zeros((3, 200, 100), np.uint8), "x", "x.png")
    with Image.open(io.BytesIO(large.png)) as image:
        assert (image.size, image.mode) == ((32, 64), "RGB")
    class_folders(tmp_path, {f"c{number}": 3 for number in range(30)})
    assert len(load_data(tmp_path).summary.samples) == 24
    few = load_data(class_folders(tmp_path / "few", {"a": 2, "b": 50}))
    names = [sample.name for sample in few.summary.samples]
    assert len(set(names)) == len(names) == 13  # one of a, twelve of b


def test_show_batch_draws_the_first_batch(mnist: DataLoaders) -> None:
    figure = mnist.show_batch(max_n=5)
    drawn = [axis for axis in figure.axes if axis.images]
    _, labels_N = next(mnist.train.batches(0))
    assert [axis.get_title() for axis in drawn] == [mnist.classes[label] for label in labels_N[:5]]
    order = mnist.train.order(0)
    for axis, index in zip(drawn, order[:5].tolist(), strict=True):
        assert np.array_equal(axis.images[0].get_array(), mnist.train.split.pixels(index)[0])
    with pytest.raises(UsageError) as error:
        mnist.show_batch(max_n=0)
    assert str(error.value) == "show_batch(max_n=0) shows nothing. Give 1 or more images."


def test_titles_are_drawn_as_they_are(tmp_path: Path) -> None:
    figure = image_grid(np.zeros((2, 3, 4, 4), np.uint8), ["$100$", "\\frac" * 9])
    figure.savefig(tmp_path / "a.png")
    assert [axis.get_title() for axis in figure.axes] == ["$100$", "\\frac\\frac\\frac\\fra…"]


def test_a_notebook_shows_pictures_counts_and_escaped_names() -> None:
    summary = DataSummary(
        source="x",
        classes=("<b>", "c"),
        counts={"train": (1, 2000), "valid": (3, 4)},
        image_shape=(1, 2, 2),
        mean=(0,),
        std=(1,),
        samples=(sample_image(np.zeros((1, 2, 2), np.uint8), "<b>"),),
        skipped=(SkippedFile("a&b.png", "empty file"),),
        notes=("Careful.",),
    )
    page = as_html(summary, "title")
    assert (
        "<tr><th>class</th><th>train</th><th>valid</th></tr><tr><td>&lt;b&gt;</td><td>1</td><td>3</td></tr><tr><td>c</td><td>2,000</td><td>4</td></tr>"
        in page
    )
    assert "<li>Careful.</li><li>1 file was left out, the first a&amp;b.png: empty file.</li>" in page
    assert page.count('<img src="data:image/png;base64,') == 1


def test_the_hugest_class_names_do_not_cost_the_split(tmp_path: Path) -> None:
    class_folders(tmp_path, {"Ärger 🙂": 3, "x" * 100: 3})
    assert load_data(tmp_path).classes == ("x" * 100, "Ärger 🙂")


def test_to_moves_all_loaders(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 3, "b": 3})
    noise(tmp_path / "a" / "more.png")
    moved = load_data(tmp_path, batch_size=2).to("meta")
    assert {moved.train.device.type, moved.valid.device.type} == {"meta"}
    assert next(iter(moved.train))[0].device.type == "meta"
