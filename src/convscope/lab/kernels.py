"""A kernel of the learner's own on an image: the output, what each channel adds to it, its size, the same as a matrix, and one place as products.

Every number comes from the library: sizes and partial sums from `convscope.arithmetic`, products from `convscope.tracing`. Brings in torch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from convscope.arithmetic import conv2d_as_matrix, output_size, partial_sums
from convscope.arithmetic.kernels import KERNELS
from convscope.data.shipped import read_mnist
from convscope.lab.exchange import Fields, Refused, array, refuse, text, whole
from convscope.lab.pictures import as_fields, decoded_whole
from convscope.records import to_json
from convscope.tracing import executed, trace_executed

LARGEST_IMAGE = 128  # pixels a side of an image here; larger ones are made smaller
LARGEST_KERNEL, MOST_FILTERS = 15, 16
LARGEST_STEP = 16  # of stride, padding and dilation
LARGEST_WEIGHT = 1e6
LONGEST_NAME = 100  # characters
MOST_PLACES = 40_000  # of a matrix that is sent
MOST_PARTIAL = 500_000  # numbers of partial sums that are sent: 2.7 MB
DIGITS = {"seven": 0, "two": 1, "four": 4, "five": 8, "eight": 61}  # places among the shipped test images


@dataclass(frozen=True, slots=True)
class Convolution:
    """What a request asks for, checked: image 0..1, filters, bias and geometry."""

    image_CHW: Tensor
    note: str
    weight_FCKK: Tensor
    bias_F: Tensor
    stride: int
    padding: int
    dilation: int

    def module(self) -> nn.Conv2d:
        """The convolution as a layer."""
        filters, channels, *kernel = self.weight_FCKK.shape
        settings: dict[str, Any] = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        layer = nn.Conv2d(channels, filters, (kernel[0], kernel[1]), **settings)
        with torch.no_grad():
            layer.weight.copy_(self.weight_FCKK)
            assert layer.bias is not None
            layer.bias.copy_(self.bias_F)
        return layer


def known() -> dict[str, Any]:
    """The named kernels and images."""
    kernels = [{"name": name, "title": name.replace("_", " "), "kernel": kernel.tolist()} for name, kernel in KERNELS.items()]
    images = [{"name": name, "title": name.replace("_", " "), "shape": list(make().shape)} for name, make in IMAGES.items()]
    return {"kernels": kernels, "images": images}


def apply(fields: Fields, of_run: Callable[[str, Fields], npt.NDArray[np.uint8]]) -> dict[str, Any]:
    """Apply the kernel of a request to its image.

    Args:
        fields: of the request.
        of_run: the uint8 pixels of a run's own image.

    Raises:
        Refused: the request cannot be meant.
        UsageError: the kernel does not fit into the image.
    """
    asked = _asked(fields, of_run)
    geometry: dict[str, Any] = {"stride": asked.stride, "padding": asked.padding, "dilation": asked.dilation}
    _, height, width = asked.image_CHW.shape
    filters, channels, *kernel = asked.weight_FCKK.shape
    size = [output_size(pixels, taps, **geometry) for pixels, taps in zip((height, width), kernel, strict=True)]
    with torch.no_grad():
        output = asked.module()(asked.image_CHW[None])[0]
        small = filters * channels * size[0] * size[1] <= MOST_PARTIAL
        partial = partial_sums(asked.image_CHW, asked.weight_FCKK, **geometry) if channels > 1 and small else None
    return {
        "image": array(asked.image_CHW.numpy()),
        "image_note": asked.note,
        "output": array(output.numpy()),
        "partial": None if partial is None else array(partial.numpy()),
        "size": size,
        "formula": {
            name: _formula(pixels, taps, places, asked)
            for name, pixels, taps, places in zip(("rows", "columns"), (height, width), kernel, size, strict=True)
        },
        "kernel": array(asked.weight_FCKK.numpy()),
        "bias": asked.bias_F.tolist(),
        "matrix": _matrix(asked, filters * size[0] * size[1], geometry),
    }


def pixel(fields: Fields, of_run: Callable[[str, Fields], npt.NDArray[np.uint8]]) -> dict[str, Any]:
    """One place of the output as the products that make it, those of the padding among them.

    Raises:
        (What `apply` raises, and TraceError when the place lies outside the output.)
    """
    asked = _asked(fields, of_run)
    channels, height, width = asked.image_CHW.shape
    rows, columns = asked.weight_FCKK.shape[2:]
    unit = tuple(whole(fields, name, 0, 2**31) for name in ("filter", "row", "column"))
    found = trace_executed(executed(nn.Sequential(asked.module()).eval(), asked.image_CHW), "0", unit)
    seen = {term.unit: term for term in found.terms}
    top, left = (place * asked.stride - asked.padding for place in unit[1:])
    terms = []
    for channel in range(channels):
        for a in range(rows):
            for b in range(columns):
                place = (channel, top + a * asked.dilation, left + b * asked.dilation)
                term = seen.get(place)
                weight = float(asked.weight_FCKK[unit[0], channel, a, b])
                values = (term.value, term.weight, term.product) if term else (0.0, weight, 0.0)
                terms.append({"unit": place, **dict(zip(("value", "weight", "product"), values, strict=True)), "padding": term is None})
    return {
        "terms": to_json(terms),
        "bias": found.bias,
        "total": found.total,
        "value": found.value,
        "difference": found.difference,
        "window": {
            "top": max(top, 0),
            "left": max(left, 0),
            "bottom": min(top + (rows - 1) * asked.dilation, height - 1),
            "right": min(left + (columns - 1) * asked.dilation, width - 1),
        },
    }


def _asked(fields: Fields, of_run: Callable[[str, Fields], npt.NDArray[np.uint8]]) -> Convolution:
    image_CHW, note = _image(as_fields(fields.get("image")), of_run)
    weight_FCKK = _kernel(fields.get("kernel"), len(image_CHW))
    bias = fields.get("bias")
    filters = len(weight_FCKK)
    bias_F = torch.zeros(filters) if bias is None else _tensor(bias, "bias", 1)
    if len(bias_F) != filters:
        raise Refused(400, f"There are {len(bias_F)} biases for {filters} filters.", "Give one for each.")
    stride, dilation = (whole(fields, name, 1, LARGEST_STEP, 1) for name in ("stride", "dilation"))
    return Convolution(image_CHW, note, weight_FCKK, bias_F, stride, whole(fields, "padding", 0, LARGEST_STEP, 0), dilation)


def _image(image: Fields, of_run: Callable[[str, Fields], npt.NDArray[np.uint8]]) -> tuple[Tensor, str]:
    if "name" in image:
        name = text(image, "name", LONGEST_NAME)
        if name not in IMAGES:
            raise Refused(404, "There is no such image.", f"Known are {', '.join(IMAGES)}.")
        pixels_CHW = IMAGES[name]()
    elif "run" in image:
        pixels_CHW = of_run(text(image, "run", LONGEST_NAME), {"image": image})
    else:
        grey = image.get("grey") is not False
        pixels_CHW = decoded_whole(image.get("png"), 1 if grey else 3, LARGEST_IMAGE)
    scaled = torch.from_numpy(pixels_CHW.copy()).float() / 255
    most = whole(image, "crop", 2, LARGEST_IMAGE) if "crop" in image else LARGEST_IMAGE
    if max(scaled.shape[1:]) <= most:
        return scaled, ""
    size = min(most, scaled.shape[1]), min(most, scaled.shape[2])
    return nn.functional.adaptive_avg_pool2d(scaled, size), f"made {size[0]}×{size[1]} by averaging areas"


def _kernel(value: object, channels: int) -> Tensor:
    """The filters (F, C, rows, columns): a matrix is applied to every channel alike."""
    deep, inner = 0, value
    while isinstance(inner, list) and inner and deep < 5:
        deep, inner = deep + 1, inner[0]
    if deep not in (2, 4):
        refuse("kernel", value, "rows of numbers, or filters of channels of rows of numbers")
    kernel = _tensor(value, "kernel", deep)
    kernel = kernel.expand(1, channels, *kernel.shape) if deep == 2 else kernel
    filters, has, rows, columns = kernel.shape
    if max(rows, columns) > LARGEST_KERNEL or filters > MOST_FILTERS:
        wanted = f"Give at most {MOST_FILTERS} filters of at most {LARGEST_KERNEL}×{LARGEST_KERNEL} numbers."
        raise Refused(400, f"There are {filters} filters of {rows}×{columns} numbers, which is too many.", wanted)
    if has != channels:
        raise Refused(400, f"The kernel has {has} channels and the image {channels}.", "Give as many, or one matrix for all.")
    return kernel.clone()


def _tensor(value: object, name: str, axes: int) -> Tensor:
    """Nested lists of bounded numbers as a tensor."""
    try:
        numbers = np.array(value)
    except (ValueError, TypeError, OverflowError):
        refuse(name, value, "rows of equal length")
    if numbers.dtype.kind not in "if" or numbers.ndim != axes or not numbers.size or np.abs(numbers).max() > LARGEST_WEIGHT:
        refuse(name, value, f"numbers between {-LARGEST_WEIGHT:g} and {LARGEST_WEIGHT:g}, in rows of equal length")
    return torch.from_numpy(numbers.astype(np.float32))


def _formula(pixels: int, taps: int, places: int, asked: Convolution) -> str:
    return f"floor(({pixels} + 2·{asked.padding} − {asked.dilation}·({taps} − 1) − 1) / {asked.stride}) + 1 = {places}"


def _matrix(asked: Convolution, outputs: int, geometry: dict[str, Any]) -> dict[str, Any] | None:
    """The convolution as a matrix, when it is small enough to be looked at."""
    if outputs * asked.image_CHW.numel() > MOST_PLACES:
        return None
    _, height, width = asked.image_CHW.shape
    matrix = conv2d_as_matrix(asked.weight_FCKK, (height, width), **geometry)
    return {
        "shape": list(matrix.matrix.shape),
        "share_zero": matrix.share_zero,
        "ties": array(matrix.ties().numpy()),
        "data": array(matrix.matrix.to_dense().numpy()),
        "text": str(matrix),
    }


# ---------------------------------------------------------------- images


@functools.cache
def _test_digits() -> npt.NDArray[np.uint8]:
    return read_mnist("t10k").images_NCHW


def _digit(place: int) -> npt.NDArray[np.uint8]:
    image: npt.NDArray[np.uint8] = _test_digits()[place]
    return image


def _square() -> npt.NDArray[np.uint8]:
    """A white square on black: one edge in each direction."""
    pixels = np.zeros((1, 28, 28), np.uint8)
    pixels[0, 8:20, 8:20] = 255
    return pixels


def _stripes() -> npt.NDArray[np.uint8]:
    """Vertical stripes that get finer to the right."""
    edges = np.cumsum([6, 5, 4, 3, 3, 2, 2, 1, 1, 1])
    row = np.searchsorted(edges, np.arange(28), side="right") % 2
    return np.broadcast_to((row * 255).astype(np.uint8), (1, 28, 28)).copy()


def _ramp() -> npt.NDArray[np.uint8]:
    """From black above to white below, which a top edge finds everywhere alike."""
    column = np.linspace(0, 255, 28).round().astype(np.uint8)
    return np.broadcast_to(column[:, None], (1, 28, 28)).copy()


def _dot() -> npt.NDArray[np.uint8]:
    """One white pixel: the output is the kernel turned round."""
    pixels = np.zeros((1, 15, 15), np.uint8)
    pixels[0, 7, 7] = 255
    return pixels


def _colours() -> npt.NDArray[np.uint8]:
    """A red, a green and a blue disc that overlap."""
    rows, columns = np.mgrid[:48, :48]
    discs = [(rows - top) ** 2 + (columns - left) ** 2 < 14**2 for top, left in ((17, 24), (30, 16), (30, 32))]
    return np.stack(discs).astype(np.uint8) * 255


IMAGES: dict[str, Callable[[], npt.NDArray[np.uint8]]] = {
    **{name: functools.partial(_digit, place) for name, place in DIGITS.items()},
    "square": _square,
    "stripes": _stripes,
    "ramp": _ramp,
    "dot": _dot,
    "colours": _colours,
}
