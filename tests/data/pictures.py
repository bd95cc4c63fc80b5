"""Small image files for tests, good ones and broken ones."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def noise(path: Path, seed: int = 0, *, side: int = 12, channels: int = 3, **options: object) -> Path:
    """An image of random pixels."""
    shape = (side, side) if channels == 1 else (side, side, channels)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def class_folders(root: Path, counts: dict[str, int], *, channels: int = 3, side: int = 12) -> Path:
    """root/NAME/0.png, 1.png ... for every name."""
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            noise(root / name / f"{index}.png", 1000 * number + index, channels=channels, side=side)
    return root


def truncated_jpeg(path: Path) -> Path:
    """A JPEG file whose second half is missing."""
    noise(path, side=64)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(path: Path, side: int) -> Path:
    """A PNG of a few bytes that says it is `side` pixels wide and high."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b""))
    return path


def write_csv(path: Path, lines: Iterable[str]) -> Path:
    """A text file of these lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
