"""Small data for tests of training: coloured stripes that a network learns in a few steps, and folders of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("across", "down")


def stripes(index: int, side: int = 28) -> np.ndarray:
    """A grey image of stripes; even ones run across, odd ones down. uint8, (side, side)."""
    random = np.random.default_rng(index)
    wave = (np.sin(np.arange(side) * random.uniform(0.6, 1.2) + random.uniform(0, 6)) + 1) * 100
    image = np.tile(wave, (side, 1)) + random.uniform(0, 50, (side, side))
    return (image.T if index % 2 == 0 else image).astype(np.uint8)


def write_folder(root: Path, per_class: int = 20, side: int = 28, splits: tuple[str, ...] = ("train", "valid")) -> Path:
    """A folder of PNG files: split/class/number.png."""
    number = 0
    for split in splits:
        for index, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for _ in range(per_class):
                Image.fromarray(stripes(2 * number + index, side)).save(folder / f"{number}.png")
                number += 1
    return root
