"""Tiny PNG files in batches against Pillow, one by one: every filter, and everything that must be left to Pillow."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import _chunk
from PIL import Image

from convscope.data.decode import Shape, decode
from convscope.data.png import FILTERS, PlainPng


def png(
    filtered_HS: np.ndarray, shape: Shape, *, extra: bytes = b"", colour_type: int | None = None, depth: int = 8, interlace: int = 0
) -> bytes:
    """A file of rows that each begin with their filter."""
    kind = {1: 0, 3: 2}[shape.channels] if colour_type is None else colour_type
    header = struct.pack(">IIBBBBB", shape.width, shape.height, depth, kind, 0, 0, interlace)
    data = _chunk(b"IDAT", zlib.compress(filtered_HS.tobytes()))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + extra + data + _chunk(b"IEND", b"")


def random_rows(shape: Shape, seed: int, *filters: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows_HS = random.integers(0, 256, (shape.height, 1 + shape.width * shape.channels), np.uint8)
    rows_HS[:, 0] = random.choice(filters, shape.height)
    return rows_HS


@given(
    shape=st.builds(Shape, st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 2**32 - 1),
    filters=st.sets(st.sampled_from(sorted(FILTERS)), min_size=1),
)
@settings(max_examples=100, deadline=None)
def test_every_mixture_of_filters_gives_pillows_pixels(shape: Shape, seed: int, filters: set[int]) -> None:
    files = [png(random_rows(shape, seed + number, *filters), shape) for number in range(4)]
    plain = PlainPng(shape)
    rows = [plain.rows(file) for file in files]
    assert all(rows)
    fast_NCHW = plain.pixels(rows)
    for fast_CHW, file in zip(fast_NCHW, files, strict=True):
        assert np.array_equal(fast_CHW, decode(file, shape))


@pytest.mark.parametrize("shape", [Shape(1, 28, 28), Shape(3, 32, 32)])
def test_what_pillow_saves_is_read_this_way(shape: Shape) -> None:
    ramp = np.add.outer(np.arange(shape.height) * 5, np.arange(shape.width) * 3)
    pixels_HWC = np.stack([ramp + 40 * channel for channel in range(shape.channels)], axis=2).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels_HWC[:, :, 0] if shape.channels == 1 else pixels_HWC).save(content, "PNG")
    plain = PlainPng(shape)
    rows = plain.rows(content.getvalue())
    assert rows is not None
    assert np.array_equal(plain.pixels([rows])[0], pixels_HWC.transpose(2, 0, 1))


def test_everything_else_is_left_to_pillow() -> None:
    shape = Shape(1, 4, 4)
    rows_HS, plain = random_rows(shape, 0, 0), PlainPng(shape)
    good = png(rows_HS, shape)
    assert plain.rows(good) == rows_HS.tobytes()
    unknown = rows_HS.copy()
    unknown[2, 0] = 5
    others = {
        "another shape": png(random_rows(Shape(1, 4, 5), 0, 0), Shape(1, 4, 5)),
        "colour": png(random_rows(Shape(3, 4, 4), 0, 0), Shape(3, 4, 4)),
        "a palette": png(rows_HS, shape, colour_type=3),
        "16 bits": png(rows_HS, shape, depth=16),
        "interlaced": png(rows_HS, shape, interlace=1),
        "transparency": png(rows_HS, shape, extra=_chunk(b"tRNS", b"\0\0")),
        "an orientation": png(rows_HS, shape, extra=_chunk(b"eXIf", b"x")),
        "an unknown filter": png(unknown, shape),
        "too few rows": png(rows_HS[:3], shape),
        "too many rows": png(np.concatenate((rows_HS, rows_HS)), shape),
        "far too much": png(np.zeros((10_000, 5), np.uint8), shape) + bytes(10_000),
        "data after its end": good + b"x",
        "no end": good[:-12],
        "half": good[: len(good) // 2],
        "only a beginning": good[:20],
        "nothing": b"",
        "a wrong checksum": good[:-13] + bytes([good[-13] ^ 1]) + good[-12:],
        "no deflate data": good.replace(_chunk(b"IDAT", zlib.compress(rows_HS.tobytes())), _chunk(b"IDAT", b"nonsense")),
    }
    assert {name: plain.rows(file) for name, file in others.items()} == dict.fromkeys(others)
