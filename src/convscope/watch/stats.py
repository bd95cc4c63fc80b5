"""From tensors to numbers: moments, samples, histograms and channel masks. Pure functions; nothing is kept and nothing is hooked.

What is exact and what is sampled follows from what it costs (800,000 float32 on two CPU cores, measured): sum 0.04 ms and dot product 0.03 ms, so count,
mean, m2 and the presence of NaN or Inf are exact over every element; `torch.var_mean` 2.9 ms and a histogram of everything about 1.5 ms, so the rest
comes from a sample of 1,024 elements. The sample is 16 runs of 64 neighbouring elements: single strided elements miss the cache at each access.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from convscope.records import NEAR_ZERO

SAMPLE_SIZE = 1024  # elements of one output looked at in one step; the error of a share is then at most 1.6 % (one standard deviation)
RUN = 64  # neighbouring elements in a sample: 256 bytes, four cache lines
STRIDE_OF_STARTS = 7919  # a prime: where the sample begins moves on by it each step, so that in time every element is looked at
GOLDEN = 0.618  # consecutive runs begin this share of an image apart, which spreads any number of them evenly over channels and places
WELL_CONDITIONED = (
    16.0  # mean² over variance up to which E[x²] - mean² in float32 keeps 4 digits of the std; beyond it values are shifted first
)

Array = NDArray[Any]

_WIDE = (torch.float32, torch.float64)
_PATTERNS = 1024  # values of the sign, the 8 exponent bits and the top mantissa bit of a float32, negative numbers first
_NOT_FINITE = [510, 511, 1022, 1023]  # those with all exponent bits set


def dense(values: Shaped[Tensor, ...]) -> Shaped[Tensor, " elements"]:
    """All elements in the order in which they lie in memory, without autograd; a copy is made only where they overlap or have gaps."""
    values = values.detach()
    if values.is_contiguous():
        return values.view(-1)
    if values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last):
        return values.permute(0, 2, 3, 1).reshape(-1)
    return values.reshape(-1)


def sums(flat: Float[Tensor, " elements"], count: int) -> tuple[int, float, float]:
    """Count, sum and sum of squares of all elements, at the speed of memory on a CPU.

    Args:
        flat: elements of any floating point type, on the CPU.
        count: how many they are.

    Returns:
        Numbers that add up over several tensors, and from which mean and std follow: the mean within 1e-4, the std within 1e-3 of
        max(std, 1e-6 |mean|) of those in float64. The sum of squares is NaN or infinite when any element is.
    """
    if flat.dtype not in _WIDE:
        flat = flat.float()
    total, squares = flat.sum().item(), torch.dot(flat, flat).item()
    if total * total * (1 + 1 / WELL_CONDITIONED) <= count * squares < math.inf:
        return count, total, squares
    if squares < math.inf:
        return _shifted(flat, count, total / count if count else 0.0)
    if math.isfinite(total) or bool(torch.isfinite(flat).all()):  # finite, but the squares are not
        return _shifted(flat.double(), count, total / count if math.isfinite(total) else 0.0)
    return count, math.nan, math.nan


def _shifted(flat: Float[Tensor, " elements"], count: int, shift: float) -> tuple[int, float, float]:
    """The same for values whose mean is large against their spread, from their distances from about the mean."""
    shift = shift if flat.dtype == torch.float64 else float(numpy.float32(shift))  # what is really subtracted
    distances = flat - shift
    total, squares = distances.sum().item(), torch.dot(distances, distances).item()
    return count, total + shift * count, squares + 2 * shift * total + shift * shift * count


@dataclass(frozen=True, slots=True)
class SamplePlan:
    """Which elements to look at: `runs` runs of `width` neighbours, `stride` apart, beginning anywhere up to `slack`."""

    runs: int
    width: int
    stride: int
    slack: int

    @property
    def size(self) -> int:
        """Elements looked at."""
        return self.runs * self.width

    def take(self, flat: Float[Tensor, " elements"], step: int) -> Float[Tensor, "runs width"]:
        """A view of the sample at a step."""
        start = flat.storage_offset() + step * STRIDE_OF_STARTS % (self.slack + 1)
        return flat.as_strided((self.runs, self.width), (self.stride, 1), start)


def sample_plan(count: int, image: int, size: int = SAMPLE_SIZE) -> SamplePlan:
    """The plan for an output of `count` elements, `image` of them from each image.

    Example:
        >>> sample_plan(1000, 10).size  # everything
        1000
    """
    if count <= size:
        return SamplePlan(1, count, 0, 0)
    runs = size // RUN
    stride = count // runs
    if RUN < image < stride:
        spread = stride - (stride - round(GOLDEN * image)) % image
        stride = spread if spread >= RUN else stride
    return SamplePlan(runs, RUN, stride, count - RUN - (runs - 1) * stride)


@dataclass(frozen=True, slots=True)
class SampleStats:
    """What samples of k steps look like, a row for each.

    Attributes:
        first_bin, bins: counts of the finite elements, from that bin of records.Histogram to the last used.
        nan_count, inf_count, zero_count, near_zero_count: elements.
        minimum, maximum: of the finite elements, NaN without any.
        moments: mean and variance of the finite elements, for those rows that hold others.
    """

    first_bin: int
    bins: Array
    nan_count: Array
    inf_count: Array
    zero_count: Array
    near_zero_count: Array
    minimum: Array
    maximum: Array
    moments: dict[int, tuple[float, float]]


class Scratch:
    """Memory for intermediate results of `sample_stats`, kept between calls: allocating it anew would cost as much as the work."""

    def __init__(self, rows: int, width: int, device: torch.device) -> None:
        self.shape, self.device = (rows, width), device
        self.keys = torch.empty(rows, width, dtype=torch.int32, device=device)
        self.sizes = torch.empty(rows, width, dtype=torch.float32, device=device)
        self.ones = torch.empty(rows, width, dtype=torch.float32, device=device)
        self.offsets = torch.arange(_PATTERNS // 2, (rows + 0.5) * _PATTERNS, _PATTERNS, dtype=torch.float64, device=device).int()[:, None]

    @classmethod
    def fitting(cls, samples: Tensor, old: Scratch | None) -> Scratch:
        """The old one, when it fits these samples, or a new one."""
        fits = old is not None and old.shape == samples.shape and old.device == samples.device
        return old if old is not None and fits else cls(samples.shape[0], samples.shape[1], samples.device)


def sample_stats(samples: Float[Tensor, "steps elements"], near_zero: float = NEAR_ZERO, scratch: Scratch | None = None) -> SampleStats:
    """What each row looks like.

    Args:
        samples: float32, one sample a row, on any device; at least one row and one element.
        near_zero: |x| at most this (as a float32) counts as near zero.
        scratch: memory to use.
    """
    rows = samples.shape[0]
    memory = Scratch.fitting(samples, scratch)
    torch.bitwise_right_shift(samples.view(torch.int32), 22, out=memory.keys).add_(memory.offsets)
    patterns = torch.bincount(memory.keys.view(-1), minlength=rows * _PATTERNS).view(rows, _PATTERNS).cpu().numpy()
    torch.abs(samples, out=memory.sizes)
    zero = torch.eq(memory.sizes, 0, out=memory.ones).sum(1).cpu().numpy()  # floats are added three times as fast as truth values
    near = torch.le(memory.sizes, near_zero, out=memory.ones).sum(1).cpu().numpy()
    low, high = samples.amin(1).cpu().numpy(), samples.amax(1).cpu().numpy()
    nan, infinite = numpy.zeros(rows, dtype=numpy.int64), numpy.zeros(rows, dtype=numpy.int64)
    moments: dict[int, tuple[float, float]] = {}
    for row in numpy.flatnonzero(patterns[:, _NOT_FINITE].any(1)):  # rare
        values = samples[row].double().cpu().numpy()
        nan[row], infinite[row] = numpy.isnan(values).sum(), numpy.isinf(values).sum()
        finite = values[numpy.isfinite(values)]
        low[row], high[row] = (finite.min(), finite.max()) if finite.size else (math.nan, math.nan)
        moments[int(row)] = (float(finite.mean()), float(finite.var())) if finite.size else (math.nan, math.nan)
    first, bins = _record_bins(patterns)
    return SampleStats(first, bins, nan, infinite, zero, near, low, high, moments)


def _record_bins(patterns: Array) -> tuple[int, Array]:
    """Counts by the top ten bits as counts by the bins of records.Histogram, from the first that is not empty to the last."""
    negative, positive = patterns[:, :510], patterns[:, 512:1022]
    centre = positive[:, :1] + positive[:, 1:2] + negative[:, :1] + negative[:, 1:2]  # zero and denormals, of both signs
    used: Array = patterns.sum(0)
    down, up = _last(used[2:510]), _last(used[514:1022])
    bins: Array = numpy.concatenate([negative[:, down + 1 : 1 : -1], centre, positive[:, 2 : up + 2]], axis=1)
    return -down, bins


def _last(used: Array) -> int:
    """How many bins there are up to the last that is used."""
    places = numpy.flatnonzero(used)
    return int(places[-1]) + 1 if places.size else 0


def channel_maximum(values: Shaped[Tensor, "images channels ..."]) -> Shaped[Tensor, " channels"]:
    """The greatest value of each channel (axis 1) over images and places."""
    images, channels = values.shape[:2]
    return values.detach().reshape(images, -1).amax(0).view(channels, -1).amax(1)  # twice as fast as both at once
