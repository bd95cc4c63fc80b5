"""What is measured at steps: statistics of layers and figures of optimiser steps. Records of adjacent spans merge into one, so that a log stays bounded."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field

NEAR_ZERO = 0.05  # |x| at most this is "near zero"; the limit of fastai's ActivationStats, there without the absolute value


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts over fixed bins that cover every finite float32 with its sign: two bins an octave, [2^k, 1.5*2^k) and [1.5*2^k, 2^(k+1)).

    A bin's index is 0 for |x| < 2^-126 (zero and denormals), `2*(k+126)+1` or `+2` for the two halves of octave k, negative for negative values.
    Because the bins are fixed, two histograms merge by adding.

    Attributes:
        first: the index of the first bin held.
        counts: elements in each bin from `first` on; empty when nothing was counted.
    """

    first: int = 0
    counts: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        """Elements counted."""
        return sum(self.counts)

    def merge(self, other: Histogram) -> Histogram:
        """The histogram of both samples together."""
        if not other.counts:
            return self
        if not self.counts:
            return other
        first = min(self.first, other.first)
        counts = [0] * (max(self.first + len(self.counts), other.first + len(other.counts)) - first)
        for part in (self, other):
            for offset, count in enumerate(part.counts, part.first - first):
                counts[offset] += count
        return Histogram(first, tuple(counts))


def bin_edges(index: int) -> tuple[float, float]:
    """The lower and upper edge of histogram bin `index` (lower included for positive bins, upper for negative ones).

    Example:
        >>> bin_edges(253)  # the first half of octave 0
        (1.0, 1.5)
    """
    if index == 0:
        return (-(2.0**-126), 2.0**-126)
    octave, half = divmod(abs(index) - 1, 2)
    low, high = (1.0, 1.5) if half == 0 else (1.5, 2.0)
    scale = 2.0 ** (octave - 126)
    return (low * scale, high * scale) if index > 0 else (-high * scale, -low * scale)


@dataclass(frozen=True, slots=True)
class LayerStats:
    """What one layer's values looked like over a span of steps.

    `count`, `mean`, `m2` (hence `std`) and `non_finite` are exact over every element unless `sampled` names them; `histogram`, `nan_count`, `inf_count`,
    `zero_count`, `near_zero_count`, `minimum` and `maximum` come from `sample_count` elements looked at (all of them when it equals `count`).
    Always `histogram.total + nan_count + inf_count == sample_count`.

    Attributes:
        layer: qualified module name, such as "2.0"; functional activations are named after the module that calls them, "features.relu:1".
        role: "output" of a layer (so far the only one; gradients and weights are in the fields below).
        kind: what computed it: "Conv2d", "ReLU", "relu".
        first_step, last_step: the span of optimiser steps, both included, counted from 0.
        count: elements seen.
        mean: mean of the finite elements; NaN when there are none.
        m2: sum of squared deviations from the mean.
        minimum, maximum: of the finite elements; NaN when there are none.
        non_finite: whether any element was NaN or infinite.
        sample_count: elements looked at for what comes from a sample.
        nan_count, inf_count, zero_count, near_zero_count: among those looked at; exactly 0 and |x| <= near_zero.
        near_zero: the limit used for `near_zero_count`.
        histogram: of the finite elements looked at.
        positive: one bit per channel (axis 1), least significant first: was it ever positive? Merges by "or".
        channels: number of channels, 0 when the output has no channel axis.
        positive_samples: images (axis 0) looked at for `positive`.
        update_ratio: norm of the last update over norm of the weight, of the layer's own parameters (mean over the span, NaN when it has none).
        gradient_rms: root mean square of the gradient of the layer's own parameters (over the span, NaN when it has none).
        weight_rms: root mean square of the layer's own parameters (last of the span, NaN when it has none).
        parameter_records: how many of the single records carry these three (the update ratio may be measured on some steps only).
        records: how many single records were merged into this one.
        sampled: the names of figures that are usually exact but here come from the sample.
    """

    layer: str
    first_step: int
    last_step: int
    count: int
    mean: float
    m2: float
    minimum: float
    maximum: float
    role: str = "output"
    kind: str = ""
    non_finite: bool = False
    sample_count: int = 0
    nan_count: int = 0
    inf_count: int = 0
    zero_count: int = 0
    near_zero_count: int = 0
    near_zero: float = NEAR_ZERO
    histogram: Histogram = Histogram()
    positive: bytes = b""
    channels: int = 0
    positive_samples: int = 0
    update_ratio: float = math.nan
    gradient_rms: float = math.nan
    weight_rms: float = math.nan
    parameter_records: int = 0
    records: int = 1
    sampled: tuple[str, ...] = ()

    @property
    def std(self) -> float:
        """Standard deviation of the finite elements, population form (divided by n); NaN when there are none."""
        return math.sqrt(max(self.m2, 0.0) / self.count) if self.count else math.nan

    @property
    def share_near_zero(self) -> float:
        """Share of the elements looked at with |x| <= near_zero; NaN when none was looked at."""
        return self.near_zero_count / self.sample_count if self.sample_count else math.nan

    @property
    def share_zero(self) -> float:
        """Share of the elements looked at that are exactly zero; NaN when none was looked at."""
        return self.zero_count / self.sample_count if self.sample_count else math.nan

    @property
    def never_positive(self) -> tuple[int, ...]:
        """The channels that were not positive once in `positive_samples` images."""
        return tuple(c for c in range(self.channels) if not self.positive[c // 8] >> (c % 8) & 1)

    def merge(self, later: LayerStats) -> LayerStats:
        """The statistics over this span and the one after it, or over another rank's share of the same span.

        Counts and histograms add, masks "or", and moments merge in float64 as in one pass (Chan, Golub and LeVeque, 1979).
        A part without finite elements keeps its count but has no say in mean and std.
        """
        assert (self.layer, self.role, self.near_zero) == (later.layer, later.role, later.near_zero), "only records of one layer merge"
        mean, m2 = merge_moments((self.count, self.mean, self.m2), (later.count, later.mean, later.m2))
        return LayerStats(
            layer=self.layer,
            first_step=min(self.first_step, later.first_step),
            last_step=max(self.last_step, later.last_step),
            count=self.count + later.count,
            mean=mean,
            m2=m2,
            minimum=_extreme(min, self.minimum, later.minimum),
            maximum=_extreme(max, self.maximum, later.maximum),
            role=self.role,
            kind=later.kind,
            non_finite=self.non_finite or later.non_finite,
            sample_count=self.sample_count + later.sample_count,
            nan_count=self.nan_count + later.nan_count,
            inf_count=self.inf_count + later.inf_count,
            zero_count=self.zero_count + later.zero_count,
            near_zero_count=self.near_zero_count + later.near_zero_count,
            near_zero=self.near_zero,
            histogram=self.histogram.merge(later.histogram),
            positive=_either(self.positive, later.positive),
            channels=max(self.channels, later.channels),
            positive_samples=self.positive_samples + later.positive_samples,
            update_ratio=_mean_of(self, later, self.update_ratio, later.update_ratio),
            gradient_rms=math.sqrt(_mean_of(self, later, self.gradient_rms**2, later.gradient_rms**2)),
            weight_rms=self.weight_rms if math.isnan(later.weight_rms) else later.weight_rms,
            parameter_records=self.parameter_records + later.parameter_records,
            records=self.records + later.records,
            sampled=tuple(dict.fromkeys(self.sampled + later.sampled)),
        )


def merge_moments(one: tuple[int, float, float], two: tuple[int, float, float]) -> tuple[float, float]:
    """Mean and m2 of two samples together, each given as (count, mean, m2); a NaN mean stands for "no finite elements"."""
    (count, mean, m2), (more, later_mean, later_m2) = one, two
    if not more or math.isnan(later_mean):
        return mean, m2 * ((count + more) / count) if count else m2  # std = sqrt(m2 / count) stays what it was
    if not count or math.isnan(mean):
        return later_mean, later_m2 * ((count + more) / more)
    share = more / (count + more)
    delta = later_mean - mean
    return mean + delta * share, m2 + later_m2 + delta * delta * count * share


def _extreme(choose: Callable[[float, float], float], one: float, two: float) -> float:
    if math.isnan(one) or math.isnan(two):
        return two if math.isnan(one) else one
    return choose(one, two)


def _either(one: bytes, two: bytes) -> bytes:
    size = max(len(one), len(two))
    return (int.from_bytes(one, "little") | int.from_bytes(two, "little")).to_bytes(size, "little")


def _mean_of(one: LayerStats, two: LayerStats, value: float, other: float) -> float:
    if not two.parameter_records or math.isnan(other):
        return value
    if not one.parameter_records or math.isnan(value):
        return other
    share = two.parameter_records / (one.parameter_records + two.parameter_records)
    return value + (other - value) * share


@dataclass(frozen=True, slots=True)
class Range:
    """A number over a span of steps: its least, mean, greatest and last value, NaN left out of all but `last`."""

    minimum: float
    mean: float
    maximum: float
    last: float
    count: int = 1

    @classmethod
    def of(cls, value: float) -> Range:
        """The range of one value."""
        return cls(value, value, value, value)

    def merge(self, later: Range) -> Range:
        """The range over this span and the one after it."""
        parts = [part for part in (self, later) if not math.isnan(part.mean)]
        if not parts:
            return dataclasses.replace(later, count=self.count + later.count)
        weight = sum(part.count for part in parts)
        mean = sum(part.mean * (part.count / weight) for part in parts)
        return Range(min(p.minimum for p in parts), mean, max(p.maximum for p in parts), later.last, self.count + later.count)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What one span of optimiser steps did.

    Attributes:
        first_step, last_step: both included, counted from 0.
        epoch: epochs done at the last step, with its fraction (0.5 is the middle of the first epoch); NaN when it is not known.
        loss: training loss as the loop computed it.
        hyper: hyper-parameters by name: "lr", "momentum", "beta1", "beta2", "weight_decay", "eps"; further optimisers and parameter groups as "lr:1", "lr:2".
        gradient_norm: global L2 norm of all gradients before clipping, or None when it was not measured.
        seconds: wall time per step.
    """

    first_step: int
    last_step: int
    epoch: float
    loss: Range
    hyper: dict[str, Range] = field(default_factory=dict)
    gradient_norm: Range | None = None
    seconds: Range | None = None

    def merge(self, later: StepRecord) -> StepRecord:
        """The record of this span and the one after it."""
        hyper = {
            name: self.hyper[name].merge(later.hyper[name])
            if name in self.hyper and name in later.hyper
            else (later.hyper.get(name) or self.hyper[name])
            for name in {**self.hyper, **later.hyper}
        }
        return StepRecord(
            self.first_step,
            later.last_step,
            later.epoch,
            self.loss.merge(later.loss),
            hyper,
            _merge_optional(self.gradient_norm, later.gradient_norm),
            _merge_optional(self.seconds, later.seconds),
        )


def _merge_optional(one: Range | None, two: Range | None) -> Range | None:
    return one.merge(two) if one and two else one or two
