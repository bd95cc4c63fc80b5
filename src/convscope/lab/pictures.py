"""Images that a browser sends, decoded within bounds, and images that it is sent. No torch, though the decoder's package brings it in."""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from convscope.data.decode import Shape, Unreadable, decode
from convscope.lab.exchange import Refused

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")  # raster formats that browsers show; no format whose decoder starts another program
MOST_PIXELS = 50_000_000  # of an upload: today's telephones; 150 MB while it is decoded
TOO_MANY = "The image has too many pixels."
WANTED = "Send a PNG, JPEG, GIF, BMP or WebP file of at most 50 million pixels."


def decoded(text: object, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """The pixels (C, H, W) of a file that came as base64, fitted as in training.

    Raises:
        Refused: it is no image of a known format, damaged, or has too many pixels.
    """
    content, _ = _checked(text)
    return _fitted(content, shape)


def decoded_whole(text: object, channels: int, largest: int) -> npt.NDArray[np.uint8]:
    """The pixels (C, H, W) of a file that came as base64, as many as it has, or fewer when a side has more than `largest`.

    Raises:
        Refused: it is no image of a known format, damaged, or has too many pixels.
    """
    content, (width, height) = _checked(text)
    factor = min(1, largest / max(width, height))
    return _fitted(content, (channels, max(1, round(height * factor)), max(1, round(width * factor))))


def _checked(text: object) -> tuple[bytes, tuple[int, int]]:
    """The file's bytes and the image's width and height, which are within bounds."""
    if not isinstance(text, str):
        raise Refused(400, '"png" is not text.', f"{WANTED[:-1]}, in base64.")
    try:
        content = base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, '"png" is not base64.', f"{WANTED[:-1]}, in base64.") from None
    width, height = _size(content)
    if width * height > MOST_PIXELS:
        raise Refused(400, TOO_MANY, WANTED)
    return content, (width, height)


def _fitted(content: bytes, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    try:
        return decode(content, Shape(*shape))
    except Unreadable as error:
        raise Refused(400, f"The image cannot be used: {error}.", WANTED) from None


def _size(content: bytes) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return image.size
    except Image.DecompressionBombError:
        raise Refused(400, TOO_MANY, WANTED) from None
    except Exception:  # readers of damaged files raise anything
        raise Refused(400, "The file is not an image of a known format.", WANTED) from None


def data_url(pixels_CHW: npt.NDArray[np.uint8]) -> str:
    """A PNG file as an address that a page can show."""
    image = Image.fromarray(pixels_CHW[0] if len(pixels_CHW) == 1 else np.ascontiguousarray(pixels_CHW.transpose(1, 2, 0)))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def as_fields(value: object) -> dict[str, Any]:
    """The "image" of a request.

    Raises:
        Refused: it is no object.
    """
    if not isinstance(value, dict):
        raise Refused(400, '"image" is not an object.', 'Give {"valid": 3} or {"png": base64}.')
    return value
