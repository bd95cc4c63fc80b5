"""The MNIST that comes with the package: four IDX files, checked against their SHA-256 each time they are read.

Returns pixels and labels in the order of the original files. Where they come from, and their licence, stand in mnist/README.md.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from convscope.errors import DataError

# Source: the original distribution; the same list stands in mnist/README.md, and a test compares the two.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
IMAGE_HEADER, LABEL_HEADER = 16, 8  # bytes before the values: magic number, then one 32-bit size per axis
SIDE = 28
CLASSES = tuple("0123456789")


class Digits(NamedTuple):
    """Images (N, 1, 28, 28) uint8 and labels (N) uint8."""

    images_NCHW: npt.NDArray[np.uint8]
    labels_N: npt.NDArray[np.uint8]


def mnist_folder() -> Traversable:
    """Where the package keeps the files."""
    return resources.files("convscope.data") / "mnist"


def read_mnist(stem: str, folder: Traversable | None = None) -> Digits:
    """Read one half of MNIST.

    Args:
        stem: "train" (60,000 images) or "t10k" (10,000).
        folder: where the files lie; the package's own when None.

    Raises:
        DataError: a file is missing or is not the original one.

    Example:
        >>> read_mnist("t10k").images_NCHW.shape
        (10000, 1, 28, 28)
    """
    folder = mnist_folder() if folder is None else folder
    images = _read(folder, f"{stem}-images-idx3-ubyte")
    labels = _read(folder, f"{stem}-labels-idx1-ubyte")
    return Digits(
        np.frombuffer(images, np.uint8, offset=IMAGE_HEADER).reshape(-1, 1, SIDE, SIDE),
        np.frombuffer(labels, np.uint8, offset=LABEL_HEADER),
    )


def _read(folder: Traversable, name: str) -> bytes:
    file = folder / f"{name}.gz"
    again = "Install convscope again, for example with `pip install --force-reinstall --no-deps convscope`."
    try:
        content = gzip.decompress(file.read_bytes())
    except FileNotFoundError:
        raise DataError(f"The shipped MNIST file {file} is missing. {again}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"The shipped MNIST file {file} is damaged ({error}). {again}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        raise DataError(f"The shipped MNIST file {file} is damaged: its SHA-256 is {found}, not {SHA256[name]}. {again}")
    return content
