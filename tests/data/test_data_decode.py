"""One file to pixels: every mode against values written out by hand, and the reason for every broken file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures import bomb, noise, truncated_jpeg
from PIL import Image

from convscope.data.decode import ColourFound, Header, Shape, Unreadable, decode_file, fit, is_grey, read_header
from convscope.data.preprocess import Preprocess
from convscope.errors import DataError

GREY2, COLOUR2 = Shape(1, 2, 2), Shape(3, 2, 2)


def saved(path: Path, pixels: np.ndarray, mode: str | None = None, **options: object) -> str:
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return str(path)


def test_grey_and_colour_arrive_unchanged(tmp_path: Path) -> None:
    grey = np.array([[0, 1], [128, 255]], np.uint8)
    colour = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert decode_file(saved(tmp_path / "grey.png", grey), GREY2).tolist() == [[[0, 1], [128, 255]]]
    assert decode_file(saved(tmp_path / "grey.png", grey), COLOUR2).tolist() == [[[0, 1], [128, 255]]] * 3
    assert decode_file(saved(tmp_path / "colour.png", colour), COLOUR2).tolist() == colour.transpose(2, 0, 1).tolist()


def test_sixteen_bits_are_divided_by_257(tmp_path: Path) -> None:
    path = saved(tmp_path / "wide.png", np.array([[0, 257 * 100], [128, 65535]], np.uint16))
    with Image.open(path) as image:
        assert image.mode == "I;16"
    assert decode_file(path, GREY2).tolist() == [[[0, 100], [0, 255]]]  # 128 / 257 rounds to 0
    assert decode_file(saved(tmp_path / "wide.tiff", np.array([[129, 65534], [0, 0]], np.uint16)), GREY2).tolist() == [[[1, 255], [0, 0]]]


def test_32_bit_values_are_taken_as_16_bits_or_refused(tmp_path: Path) -> None:
    assert decode_file(saved(tmp_path / "a.tiff", np.array([[0, 65535], [257, 514]], np.int32)), GREY2).tolist() == [[[0, 255], [1, 2]]]
    with pytest.raises(Unreadable) as error:
        decode_file(saved(tmp_path / "b.tiff", np.array([[0, 65536], [0, 0]], np.int32)), GREY2)
    assert str(error.value) == "32-bit values outside 0..65535, whose black and white are not known"


def test_floating_point_values_are_taken_as_0_to_1_or_refused(tmp_path: Path) -> None:
    assert decode_file(saved(tmp_path / "a.tiff", np.array([[0, 1], [0.5, 0.2]], np.float32)), GREY2).tolist() == [[[0, 255], [128, 51]]]
    with pytest.raises(Unreadable) as error:
        decode_file(saved(tmp_path / "b.tiff", np.array([[0, 200.5], [0, 0]], np.float32)), GREY2)
    assert str(error.value) == "floating-point values outside 0..1, whose black and white are not known"


def test_one_bit(tmp_path: Path) -> None:
    path = saved(tmp_path / "bits.png", np.array([[0, 255], [255, 0]], np.uint8), "1")
    assert decode_file(path, GREY2).tolist() == [[[0, 255], [255, 0]]]


def test_transparent_pixels_are_laid_over_white(tmp_path: Path) -> None:
    rgba = np.array([[[10, 20, 30, 255], [0, 0, 0, 0]], [[0, 0, 0, 128], [200, 0, 0, 255]]], np.uint8)
    expected = [[[10, 255], [127, 200]], [[20, 255], [127, 0]], [[30, 255], [127, 0]]]
    assert decode_file(saved(tmp_path / "rgba.png", rgba), COLOUR2).tolist() == expected
    la = np.array([[[10, 255], [0, 0]], [[0, 128], [77, 255]]], np.uint8)
    assert decode_file(saved(tmp_path / "la.png", la), GREY2).tolist() == [[[10, 255], [127, 77]]]


def test_a_palette_is_looked_up_and_its_transparent_entry_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 2))
    image.putpalette([0, 0, 0, 200, 100, 50, 1, 2, 3])
    image.putdata([0, 1, 2, 1])
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "alpha.png", transparency=0)
    colours = [[[0, 200], [1, 200]], [[0, 100], [2, 100]], [[0, 50], [3, 50]]]
    assert decode_file(str(tmp_path / "plain.png"), COLOUR2).tolist() == colours
    for channel in colours:
        channel[0][0] = 255
    assert decode_file(str(tmp_path / "alpha.png"), COLOUR2).tolist() == colours


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    cmyk = Image.new("CMYK", (2, 2), (0, 255, 255, 0))  # pure red
    cmyk.save(tmp_path / "red.tiff")
    cmyk.save(tmp_path / "red.jpg", quality=100)
    assert decode_file(str(tmp_path / "red.tiff"), COLOUR2).tolist() == [[[255, 255]] * 2, [[0, 0]] * 2, [[0, 0]] * 2]
    assert np.abs(decode_file(str(tmp_path / "red.jpg"), COLOUR2).astype(int) - np.array([255, 0, 0])[:, None, None]).max() <= 3


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255  # white on top as the camera held it
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright: the top becomes the right
    for name in ("a.jpg", "a.png"):
        path = saved(tmp_path / name, pixels, exif=exif)
        upright = decode_file(path, Shape(1, 16, 16))[0]
        assert upright[:, 9:].min() > 240, name
        assert upright[:, :7].max() < 15, name


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("L", (2, 2), value) for value in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert decode_file(str(tmp_path / "a.gif"), GREY2).tolist() == [[[10, 10], [10, 10]]]


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "LA", "PA", "RGBX", "RGBa", "La", "I;16"]
)
def test_every_mode_of_pillow_becomes_grey_and_colour(mode: str) -> None:
    assert [fit(Image.new(mode, (2, 2)), shape).shape for shape in (GREY2, COLOUR2)] == [GREY2, COLOUR2]


def test_a_mode_without_a_way_to_rgb_is_named() -> None:
    class Stubborn(Image.Image):
        mode, info, size, has_transparency_data = "XYZ", {}, (2, 2), False

        def convert(self, mode: str) -> Image.Image:
            raise ValueError("conversion not supported")

    with pytest.raises(Unreadable) as error:
        fit(Stubborn(), COLOUR2)
    assert str(error.value) == "colour mode XYZ cannot be turned into RGB"


def test_the_shorter_side_is_resized_and_the_centre_cropped() -> None:
    pixels = np.zeros((40, 80), np.uint8)
    pixels[:, 20:60] = 100  # exactly the centre square
    for image, wide in ((Image.fromarray(pixels), True), (Image.fromarray(pixels.T.copy()), False)):
        fitted = fit(image, Shape(1, 10, 10))[0]
        lines = fitted if wide else fitted.T
        assert np.unique(lines[:, 1:-1]).tolist() == [100]
        assert (
            lines[:, 0].tolist() == lines[:, -1].tolist() == [88] * 10
        )  # the filter reaches an eighth over the edge, as when cropping last
    assert fit(Image.fromarray(pixels), Shape(1, 5, 20)).shape == (1, 5, 20)


def test_a_photograph_decoded_at_a_fraction_of_its_size_looks_the_same(tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(512), np.arange(512)).astype(np.float32) / 1022 * 255
    Image.fromarray(ramp.astype(np.uint8)).convert("RGB").save(tmp_path / "big.jpg", quality=95)
    fast = decode_file(str(tmp_path / "big.jpg"), Shape(3, 60, 60)).astype(int)
    with Image.open(tmp_path / "big.jpg") as image:
        slow = np.asarray(image.resize((60, 60), Image.Resampling.BOX)).transpose(2, 0, 1).astype(int)
    assert np.abs(fast - slow).max() <= 3


def test_grey_is_told_by_mode_or_palette(tmp_path: Path) -> None:
    greys = Image.new("P", (2, 2))
    greys.putpalette([0, 0, 0, 9, 9, 9])
    assert [is_grey(Image.new(mode, (1, 1))) for mode in ("1", "L", "LA", "I;16", "I", "F", "RGB", "RGBA", "CMYK")] == [True] * 6 + [
        False
    ] * 3
    assert is_grey(greys)
    with pytest.raises(ColourFound):
        decode_file(str(noise(tmp_path / "colour.png")), Shape(1, 12, 12), only_grey=True)
    assert read_header(str(noise(tmp_path / "grey.png", channels=1, side=7))) == Header(7, 7, True)


def test_every_broken_file_has_its_reason(tmp_path: Path) -> None:
    def reason(path: Path) -> str:
        with pytest.raises(Unreadable) as error:
            decode_file(str(path), Shape(3, 12, 12))
        return str(error.value)

    (tmp_path / "empty.jpg").touch()
    (tmp_path / "notes.png").write_text("Remember to buy milk — tomorrow.\n" * 40, encoding="utf-8")
    (tmp_path / "bytes.png").write_bytes(bytes([137, 0, 255, 10]) * 100)
    half_png = noise(tmp_path / "half.png", side=64)
    half_png.write_bytes(half_png.read_bytes()[:3000])
    assert reason(truncated_jpeg(tmp_path / "half.jpg")) == "truncated: the file ends before the image does"
    assert reason(half_png) == "truncated: the file ends before the image does"
    assert reason(tmp_path / "empty.jpg") == "empty file"
    assert reason(tmp_path / "notes.png") == "not an image (text)"
    assert reason(tmp_path / "bytes.png") == "not an image (begins with the bytes 89 00 ff 0a)"
    assert reason(bomb(tmp_path / "bomb.png", 30_000)) == "too large: 900,000,000 pixels, at most 89,478,485 are read"
    assert reason(tmp_path / "nothing.png") == "no such file"
    assert reason(tmp_path) == "a folder, not a file"
    assert reason(bomb(tmp_path / "small.png", 100)).startswith(("truncated", "damaged"))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_between_pillows_warning_and_its_error_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"^too large: 100,000,000 pixels, at most 89,478,485 are read$"):
        decode_file(str(bomb(tmp_path / "bomb.png", 10_000)), Shape(1, 28, 28))


def test_preprocess_loads_as_training_did_and_says_what_is_wrong(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.png", side=20)
    preprocess = Preprocess(1, 10, 10, (0.5,), (0.25,))
    assert preprocess.load(path).tolist() == decode_file(str(path), Shape(1, 10, 10)).tolist()
    with Image.open(path) as image:
        assert preprocess.from_image(image).tolist() == preprocess.load(path).tolist()
    with pytest.raises(DataError) as error:
        preprocess.load("nowhere.png")
    assert str(error.value) == "nowhere.png cannot be used as an image: no such file. Give an image file that opens in a viewer."


def test_preprocess_survives_its_config_and_refuses_a_damaged_one() -> None:
    preprocess = Preprocess(3, 64, 48, (0.1, 0.2, 0.3), (0.3, 0.2, 0.1))
    config = preprocess.to_config()
    assert config == {"channels": 3, "height": 64, "width": 48, "mean": [0.1, 0.2, 0.3], "std": [0.3, 0.2, 0.1]}
    assert Preprocess.from_config(config) == preprocess
    with pytest.raises(DataError) as error:
        Preprocess.from_config({"channels": 1})
    assert str(error.value) == "The preprocessing {'channels': 1} is damaged (KeyError('height')). Restore the run's files from a copy."
    with pytest.raises(DataError, match="cannot be meant: 1 or 3 channels, with a mean and a positive std for each"):
        Preprocess.from_config({**config, "std": [0, 1, 1]})
