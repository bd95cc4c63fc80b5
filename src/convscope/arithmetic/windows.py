"""Which places of an axis a window sees, for every output place: the one table that sizes, products, costs and receptive fields share.

A table has one row for each output place and one column for each tap of the kernel; it holds the input place, or -1 where the tap
falls on padding. Axes are independent of each other: a unit's window is the product of its rows and its columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[np.int64]
Values = npt.NDArray[Any]

PADDING = -1  # marks a tap that falls outside the input


def sliding_windows(size: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Table:
    """The table of a convolution or pooling: tap t of output o sees input `o * stride - padding + t * dilation`.

    Args:
        size: input places.
        outputs: output places.
        kernel: taps.
        stride: input places between the windows of neighbouring outputs.
        padding: places of padding on the left; what is on the right follows from `outputs`.
        dilation: input places between neighbouring taps.

    Example:
        >>> sliding_windows(4, 2, kernel=3, stride=2, padding=1)
        array([[-1,  0,  1],
               [ 1,  2,  3]])
    """
    places = np.arange(outputs)[:, None] * stride - padding + np.arange(kernel)[None] * dilation
    return np.where((places >= 0) & (places < size), places, PADDING)


def transposed_windows(size: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Table:
    """The table of a transposed convolution: tap t of output o sees the input i with `i * stride - padding + t * dilation == o`, if any."""
    scaled = np.arange(outputs)[:, None] + padding - np.arange(kernel)[None] * dilation
    places = scaled // stride
    return np.where((scaled % stride == 0) & (places >= 0) & (places < size), places, PADDING)


def adaptive_windows(size: int, outputs: int) -> Table:
    """The table of an adaptive pooling: output o sees `floor(o * size / outputs)` to `ceil((o + 1) * size / outputs) - 1`, as in PyTorch.

    Example:
        >>> adaptive_windows(5, 2)
        array([[0, 1, 2],
               [2, 3, 4]])
    """
    starts = [o * size // outputs for o in range(outputs)]
    ends = [math.ceil((o + 1) * size / outputs) for o in range(outputs)]
    longest = max((end - start for start, end in zip(starts, ends, strict=True)), default=0)
    rows = [[start + t if start + t < end else PADDING for t in range(longest)] for start, end in zip(starts, ends, strict=True)]
    return np.array(rows, dtype=np.int64).reshape(outputs, longest)


def real_pairs(tables: Sequence[Table]) -> int:
    """How many pairs of an output place and a tap see a real input, not padding, over all axes together."""
    return math.prod(int((table != PADDING).sum()) for table in tables)


def least_seen(values: Values, tables: Sequence[Table], nothing: int) -> Values:
    """The least of what each output place's window sees, along the last axes; `nothing` where it sees padding only.

    Args:
        values: one number for each input place; its last axes are those of `tables`, earlier ones are kept.
        tables: one for each of the last axes.
        nothing: larger than any of the numbers.
    """
    for axis, table in enumerate(tables, start=values.ndim - len(tables)):
        seen = np.moveaxis(np.take(values, np.maximum(table, 0), axis=axis), (axis, axis + 1), (-2, -1))  # the places and taps last
        values = np.moveaxis(np.where(table != PADDING, seen, nothing).min(axis=-1, initial=nothing), -1, axis)
    return values
