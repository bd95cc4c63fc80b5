"""One image file to uint8 pixels of a fixed shape, or the reason in words why not.

It receives a path or a Pillow image and the shape wanted; it returns an array (C, H, W). Every format and mode that Pillow reads is turned into
8-bit grey or colour: 16-bit grey is divided by 257, palettes are looked up, transparent pixels are laid over white, CMYK becomes RGB, EXIF
rotation is applied, and of an animation the first frame is taken. It knows nothing of folders, threads or caches.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

MOST_PIXELS = 89_478_485  # Pillow's own limit against decompression bombs: 256 MiB of RGB
ORIENTATIONS = ("exif", "xmp", "Raw profile type exif")  # where Pillow keeps what may hold an orientation
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
BY_WAY_OF = {"LAB": "RGB", "HSV": "RGB", "La": "LA", "RGBa": "RGBA"}  # modes that Pillow does not turn into all others in one step
WHITE = 255  # what shows through transparent pixels, as on paper and on most pages
REDUCING_GAP = 3.0  # shrink by whole numbers first, down to 3 times the size wanted: Pillow's documentation calls it indistinguishable


class Shape(NamedTuple):
    """Channels (1 or 3), height and width in pixels."""

    channels: int
    height: int
    width: int


class Unreadable(Exception):
    """Why a file cannot be used, in a few words: "empty file"."""


class ColourFound(Exception):
    """A colour image where all were taken to be grey."""


def read_content(path: str) -> bytes:
    """A file's bytes.

    Raises:
        Unreadable: it cannot be read.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (pathlib costs a third of a tiny image's time)
            return file.read()
    except Exception as error:
        raise _reason(error) from None


def decode(content: bytes, shape: Shape, *, only_grey: bool = False) -> npt.NDArray[np.uint8]:
    """Turn the content of an image file into pixels (C, H, W).

    Args:
        content: the file's bytes.
        shape: the shape wanted; the shorter side is resized and the centre cropped.
        only_grey: raise when the image is in colour, instead of turning it grey.

    Raises:
        Unreadable: the file cannot be used.
        ColourFound: with `only_grey`.
    """
    with _reasons(), _opened(content) as image:
        if only_grey and not is_grey(image):
            raise ColourFound
        if image.format in ("JPEG", "MPO"):  # a photograph is decoded at 1/2, 1/4 or 1/8 of its size where that is still enough
            enough = max(shape.height, shape.width)
            image.draft(None, (enough, enough))
        image.load()
        return fit(image, shape)


def decode_file(path: str, shape: Shape, *, only_grey: bool = False) -> npt.NDArray[np.uint8]:
    """Read a file as pixels (C, H, W); arguments and errors are those of `decode`."""
    return decode(read_content(path), shape, only_grey=only_grey)


class Header(NamedTuple):
    """What an image says of itself before it is decoded."""

    height: int
    width: int
    grey: bool


def read_header(path: str) -> Header:
    """Size and kind of an image without decoding it.

    Raises:
        Unreadable: the file cannot be used.
    """
    with _reasons(), _opened(read_content(path)) as image:
        return Header(image.height, image.width, is_grey(image))


def is_grey(image: Image.Image) -> bool:
    """Whether an image is grey by its mode, or by a palette of greys; colour images whose pixels happen to be grey count as colour."""
    if image.mode in ("P", "PA") and image.palette is not None:
        mode, content = image.palette.mode, bytes(image.palette.palette or b"")
        step = len(mode)
        return mode.startswith("RGB") and content[0::step] == content[1::step] == content[2::step]
    return image.mode in GREY_MODES


def fit(image: Image.Image, shape: Shape) -> npt.NDArray[np.uint8]:
    """The pixels (C, H, W) of a Pillow image: turned upright, 8 bits, resized on the shorter side and cropped to the centre.

    Raises:
        Unreadable: the mode cannot be turned into grey or colour.
    """
    if any(name in image.info for name in ORIENTATIONS):
        image = ImageOps.exif_transpose(image)
    image = _eight_bit(image, "L" if shape.channels == 1 else "RGB")
    if image.size != (shape.width, shape.height):
        image = _resized(image, shape)
    pixels = np.frombuffer(image.tobytes(), np.uint8)
    if shape.channels == 1:
        return pixels.reshape(1, shape.height, shape.width)
    return np.ascontiguousarray(pixels.reshape(shape.height, shape.width, 3).transpose(2, 0, 1))


def _resized(image: Image.Image, shape: Shape) -> Image.Image:
    scale = min(image.width / shape.width, image.height / shape.height)
    across, down = shape.width * scale, shape.height * scale
    left, top = (image.width - across) / 2, (image.height - down) / 2
    box = (left, top, left + across, top + down)
    return image.resize((shape.width, shape.height), Image.Resampling.BILINEAR, box=box, reducing_gap=REDUCING_GAP)


def _eight_bit(image: Image.Image, mode: str) -> Image.Image:
    """The image in mode "L" or "RGB"."""
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = _from_wide(image)
    try:
        if image.mode in BY_WAY_OF:
            image = image.convert(BY_WAY_OF[image.mode])
        if image.has_transparency_data:
            image = image.convert("RGBA")
            paper = Image.new("RGBA", image.size, (WHITE, WHITE, WHITE, WHITE))
            image = Image.alpha_composite(paper, image).convert("RGB")
        return image.convert(mode)
    except ValueError:
        raise Unreadable(f"colour mode {image.mode} cannot be turned into {mode}") from None


def _from_wide(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and floating-point grey to 8 bits, rounded to the nearest."""
    values = np.asarray(image)
    if image.mode == "F":
        if not (values.size and values.min() >= 0 and values.max() <= 1):
            raise Unreadable("floating-point values outside 0..1, whose black and white are not known")
        return Image.fromarray(np.rint(values * 255.0).astype(np.uint8))
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise Unreadable("32-bit values outside 0..65535, whose black and white are not known")
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """The image in a file's content, not decoded yet; refused when it is too large or no image."""
    if not content:
        raise Unreadable("empty file")
    try:
        image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        raise Unreadable(f"not an image ({_looks_like(content)})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = re.search(r"\d+", str(error))
        raise Unreadable(f"too large: {int(pixels[0]) if pixels else 0:,} pixels, at most {MOST_PIXELS:,} are read") from None
    with image:
        if image.width * image.height > MOST_PIXELS:
            raise Unreadable(f"too large: {image.width * image.height:,} pixels, at most {MOST_PIXELS:,} are read")
        yield image


def _looks_like(content: bytes) -> str:
    start = content[:512]
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        text = start[: error.start].decode("utf-8") if error.start > len(start) - 4 else "\0"  # a character cut in two at the end
    if text.isprintable() or not any(ord(letter) < 32 and letter not in "\t\r\n\f" for letter in text):
        return "text"
    return f"begins with the bytes {content[:4].hex(' ')}"


@contextmanager
def _reasons() -> Iterator[None]:
    """Turn whatever a damaged file makes Pillow raise into one reason."""
    try:
        yield
    except (Unreadable, ColourFound):
        raise
    except Exception as error:  # decoders of damaged files raise anything: OSError, SyntaxError, struct.error, zlib.error, ValueError
        raise _reason(error) from None


REASONS: dict[type[Exception], str] = {
    FileNotFoundError: "no such file",
    PermissionError: "permission denied",
    IsADirectoryError: "a folder, not a file",
    MemoryError: "too large for this machine's memory",
    EOFError: "truncated: the file ends before the image does",
}


def _reason(error: Exception) -> Unreadable:
    for kind, words in REASONS.items():
        if isinstance(error, kind):
            return Unreadable(words)
    said = " ".join(str(error).split()) or type(error).__name__
    return Unreadable(REASONS[EOFError] if "truncated" in said.lower() else f"damaged: {said}")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Pillow's warnings about files that are reported as skipped anyway; once around many decodes, because filters are global."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
