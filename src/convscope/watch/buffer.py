"""What one layer's outputs look like, collected over a few steps and turned into records together.

Receives output tensors while a network trains; keeps of each a few numbers and a small sample, in memory that was allocated once; hands out columns
of records when it is drained. On an accelerator nothing is copied to the host in between. It hooks nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from jaxtyping import Shaped
from numpy.typing import NDArray
from torch import Tensor

from convscope.columns import ROW, LayerColumns
from convscope.watch.stats import (
    Moments,
    SamplePlan,
    SampleStats,
    channel_maximum,
    dense,
    merged_moments,
    moments,
    sample_plan,
    sample_stats,
)

Array = NDArray[Any]
MASK_PERIOD = 16  # steps between looks at every channel of a layer: one look costs about as much as its moments, a sixteenth of it little
MOST_CHANNELS = 65_536  # of an output whose axis 1 is taken for channels


@dataclass(frozen=True, slots=True)
class Slot:
    """One step's place in the buffers: its row, and the optimiser step."""

    row: int
    step: int


@dataclass(frozen=True, slots=True)
class ParameterFigures:
    """A layer's own parameters over some steps: one value for each row of the buffers, NaN where unknown."""

    update_ratio: NDArray[numpy.float64]
    gradient_rms: NDArray[numpy.float64]
    weight_rms: NDArray[numpy.float64]


@dataclass(slots=True)
class LayerBuffer:
    """Collects one layer.

    Attributes:
        name: the layer's name in records.
        kind: what computes it.
        place: its number among the layers, which decides at which steps its channels are looked at.
        near_zero: |x| at most this counts as near zero.
        rows: how many steps fit in before it must be drained.
    """

    name: str
    kind: str
    place: int
    near_zero: float
    rows: int
    _steps: dict[int, int] = field(default_factory=dict)  # optimiser step by row
    _moments: list[tuple[int, Moments]] = field(default_factory=list)  # by row, one for each output
    _waiting: list[tuple[int, int, Tensor, Tensor]] = field(default_factory=list)  # on an accelerator: row, count, mean, variance
    _masks: list[tuple[int, Tensor, int]] = field(default_factory=list)  # row, greatest value of each channel, images
    _sampled: dict[int, int] = field(default_factory=dict)  # elements looked at, by row
    _samples: Tensor | None = None
    _plans: dict[torch.Size, SamplePlan] = field(default_factory=dict)

    @property
    def used(self) -> bool:
        """Whether there is anything to drain."""
        return bool(self._steps)

    def add(self, slot: Slot, values: Shaped[Tensor, ...]) -> None:
        """Take what is needed of one output; of several in one step (shared modules, accumulated batches) the first gives the sample."""
        flat, row = dense(values), slot.row
        self._steps[row] = slot.step
        if flat.device.type == "cpu":
            self._moments.append((row, moments(flat)))
        else:
            wide = flat if flat.dtype in (torch.float32, torch.float64) else flat.float()
            variance, mean = torch.var_mean(wide, correction=0)
            self._waiting.append((row, flat.numel(), mean, variance))
        if not flat.numel():
            return
        if row not in self._sampled:
            self._sample(slot, values.shape, flat)
        if (slot.step + self.place) % MASK_PERIOD == 0 and values.ndim >= 2 and values.shape[1] <= MOST_CHANNELS:
            self._masks.append((row, channel_maximum(values), values.shape[0]))

    def _sample(self, slot: Slot, shape: torch.Size, flat: Tensor) -> None:
        plan = self._plans.get(shape)
        if plan is None:
            plan = self._plans[shape] = sample_plan(flat.numel(), flat.numel() // shape[0] if shape else 1)
        if self._samples is None or self._samples.shape[1] < plan.size or self._samples.device != flat.device:
            self._samples = self._grown(plan.size, flat.device)
        self._samples[slot.row, : plan.size].view(plan.runs, plan.width).copy_(plan.take(flat, slot.step))
        self._sampled[slot.row] = plan.size

    def _grown(self, width: int, device: torch.device) -> Tensor:
        """Room for samples of this width, with what is there already."""
        grown = torch.empty(self.rows, width, dtype=torch.float32, device=device)
        if self._samples is not None:
            grown[:, : self._samples.shape[1]] = self._samples.to(device)
        return grown

    def forget(self, row: int) -> None:
        """Leave out what was added at a step."""
        self._moments = [entry for entry in self._moments if entry[0] != row]
        self._waiting = [entry for entry in self._waiting if entry[0] != row]
        self._masks = [entry for entry in self._masks if entry[0] != row]
        self._steps.pop(row, None)
        self._sampled.pop(row, None)

    def drain(self, own: ParameterFigures | None = None) -> LayerColumns:
        """A record for each step since the last time, and an empty buffer.

        Args:
            own: what is known of the layer's own parameters.
        """
        used = list(self._steps)
        place = {row: at for at, row in enumerate(used)}
        rows = numpy.zeros(len(used), dtype=ROW)
        rows["first_step"] = rows["last_step"] = list(self._steps.values())
        rows["records"] = 1
        for name in ("mean", "m2", "minimum", "maximum", "update_ratio", "gradient_rms", "weight_rms"):
            rows[name] = math.nan
        if own is not None:
            rows["update_ratio"], rows["gradient_rms"] = own.update_ratio[used], own.gradient_rms[used]
            rows["weight_rms"] = own.weight_rms[used]
            rows["parameter_records"] = ~numpy.isnan(rows["weight_rms"])
        first, bins = self._fill_samples(rows, place)
        self._fill_moments(rows, place)
        masks = self._fill_masks(rows, place)
        self._steps, self._moments, self._waiting, self._masks, self._sampled = {}, [], [], [], {}
        return LayerColumns(self.name, self.kind, self.near_zero, rows, first, bins, masks)

    def _fill_samples(self, rows: Array, place: Mapping[int, int]) -> tuple[int, Array]:
        """What the samples look like; those of one width are worked out together."""
        widths: dict[int, list[int]] = {}
        for row, width in self._sampled.items():
            widths.setdefault(width, []).append(row)
        found: list[tuple[list[int], SampleStats]] = []
        for width, sampled in widths.items():
            assert self._samples is not None
            neighbours = sampled[-1] - sampled[0] + 1 == len(sampled)
            samples = self._samples[sampled[0] : sampled[-1] + 1] if neighbours else self._samples[sampled]
            stats = sample_stats(samples[:, :width], self.near_zero)
            places = [place[row] for row in sampled]
            rows["sample_count"][places] = width
            for name in ("nan_count", "inf_count", "zero_count", "near_zero_count", "minimum", "maximum"):
                rows[name][places] = getattr(stats, name)
            for at, (mean, variance) in stats.moments.items():
                rows["mean"][places[at]], rows["m2"][places[at]] = mean, variance
            found.append((places, stats))
        first = min((stats.first_bin for _, stats in found), default=0)
        bins = numpy.zeros((len(rows), max((s.first_bin - first + s.bins.shape[1] for _, s in found), default=0)), dtype=numpy.int64)
        for places, stats in found:
            bins[places, stats.first_bin - first : stats.first_bin - first + stats.bins.shape[1]] = stats.bins
        return first, bins

    def _fill_moments(self, rows: Array, place: Mapping[int, int]) -> None:
        """Count, mean and m2; where an element was not finite, mean and variance of the sample's finite ones stand there already."""
        if self._waiting:
            pairs = torch.stack([value for _, _, mean, variance in self._waiting for value in (mean, variance)]).tolist()
            for (row, count, _, _), mean, variance in zip(self._waiting, pairs[::2], pairs[1::2], strict=True):
                self._moments.append((row, Moments(count, mean if math.isfinite(variance) else math.nan, variance * count)))
        merged: dict[int, Moments] = {}
        for row, exact in self._moments:
            merged[row] = merged_moments(merged[row], exact) if row in merged else exact
        places = [place[row] for row in merged]
        count, mean, m2 = numpy.array([(one.count, one.mean, one.m2) for one in merged.values()], dtype=numpy.float64).T
        finite = ~numpy.isnan(mean) | (count == 0)
        rows["count"][places] = count
        rows["mean"][places] = numpy.where(finite, mean, rows["mean"][places])
        rows["m2"][places] = numpy.where(finite, m2, rows["m2"][places] * count)
        rows["non_finite"][places] = rows["sampled"][places] = ~finite

    def _fill_masks(self, rows: Array, place: Mapping[int, int]) -> Array:
        """Which channels were positive, at the steps at which they were looked at."""
        width = max((-(-len(maximum) // 8) for _, maximum, _ in self._masks), default=0)
        masks = numpy.zeros((len(rows), width), dtype=numpy.uint8)
        for row, maximum, images in self._masks:
            at, channels = place[row], maximum.numel()
            masks[at, : -(-channels // 8)] |= numpy.packbits((maximum > 0).cpu().numpy(), bitorder="little")
            rows["channels"][at] = max(channels, rows["channels"][at])
            rows["positive_samples"][at] += images
        return masks
