"""What one layer's outputs look like, collected over a few steps and turned into records together.

Receives output tensors while a network trains; keeps of each a few numbers and a small sample, in memory that was allocated once; hands out
LayerStats when it is drained. On an accelerator nothing is copied to the host in between. It hooks nothing.
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

from convscope.records import LayerStats
from convscope.watch.stats import (
    NO_SAMPLE,
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

MASK_PERIOD = 16  # steps between looks at every channel of a layer: one look costs about as much as its moments, a sixteenth of it little
MOST_CHANNELS = 65_536  # of an output whose axis 1 is taken for channels


@dataclass(frozen=True, slots=True)
class Slot:
    """One step's place in the buffers: its row, and the optimiser step."""

    row: int
    step: int


@dataclass(frozen=True, slots=True)
class ParameterFigures:
    """A layer's own parameters at one step (NaN where unknown)."""

    update_ratio: float = math.nan
    gradient_rms: float = math.nan
    weight_rms: float = math.nan


@dataclass(frozen=True, slots=True)
class Mask:
    """Which channels had a positive value in some images."""

    positive: NDArray[Any]
    channels: int
    images: int


NO_MASK = Mask(numpy.zeros(0, dtype=bool), 0, 0)


@dataclass(slots=True)
class _Call:
    """The moments of one output; on an accelerator its mean and variance are `waiting` there until the buffer is drained."""

    slot: Slot
    moments: Moments
    waiting: tuple[Tensor, Tensor] | None = None


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
    _calls: list[_Call] = field(default_factory=list)
    _masks: list[tuple[int, Tensor, int]] = field(default_factory=list)  # row, greatest value of each channel, images
    _sampled: dict[int, int] = field(default_factory=dict)  # elements looked at, by row
    _samples: Tensor | None = None
    _plans: dict[tuple[int, ...], SamplePlan] = field(default_factory=dict)

    def add(self, slot: Slot, values: Shaped[Tensor, ...]) -> None:
        """Take what is needed of one output; of several in one step (shared modules, accumulated batches) the first gives the sample."""
        flat = dense(values)
        if flat.device.type == "cpu":
            self._calls.append(_Call(slot, moments(flat)))
        else:
            wide = flat if flat.dtype in (torch.float32, torch.float64) else flat.float()
            variance, mean = torch.var_mean(wide, correction=0)
            self._calls.append(_Call(slot, Moments(flat.numel(), math.nan, math.nan), (mean, variance)))
        if not flat.numel():
            return
        if slot.row not in self._sampled:
            self._sample(slot, values.shape, flat)
        if (slot.step + self.place) % MASK_PERIOD == 0 and values.ndim >= 2 and values.shape[1] <= MOST_CHANNELS:
            self._masks.append((slot.row, channel_maximum(values), values.shape[0]))

    def _sample(self, slot: Slot, shape: tuple[int, ...], flat: Tensor) -> None:
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

    def forget(self, slot: Slot) -> None:
        """Leave out what was added at a step."""
        self._calls = [call for call in self._calls if call.slot.row != slot.row]
        self._masks = [mask for mask in self._masks if mask[0] != slot.row]
        self._sampled.pop(slot.row, None)

    def drain(self, parameters: Mapping[int, ParameterFigures]) -> list[LayerStats]:
        """One record for each step since the last time, and an empty buffer.

        Args:
            parameters: by row, what is known of the layer's own parameters.
        """
        slots = {call.slot.row: call.slot for call in self._calls}
        exact, samples, masks = self._read_moments(), self._read_samples(), self._read_masks()
        nothing = ParameterFigures()
        records = [
            self._record(slot, exact[row], samples.get(row), masks.get(row, NO_MASK), parameters.get(row, nothing))
            for row, slot in slots.items()
        ]
        self._calls, self._masks, self._sampled = [], [], {}
        return records

    def _read_moments(self) -> dict[int, Moments]:
        """The moments of each row, its outputs merged."""
        waiting = [call for call in self._calls if call.waiting is not None]
        if waiting:
            pairs = torch.stack([value for call in waiting if call.waiting for value in call.waiting]).tolist()
            for call, mean, variance in zip(waiting, pairs[::2], pairs[1::2], strict=True):
                call.moments = Moments(call.moments.count, mean if math.isfinite(variance) else math.nan, variance * call.moments.count)
        merged: dict[int, Moments] = {}
        for call in self._calls:
            row = call.slot.row
            merged[row] = merged_moments(merged[row], call.moments) if row in merged else call.moments
        return merged

    def _read_samples(self) -> dict[int, SampleStats]:
        """What the sample of each row looks like; rows of one width are worked out together."""
        widths: dict[int, list[int]] = {}
        for row, width in self._sampled.items():
            widths.setdefault(width, []).append(row)
        found: dict[int, SampleStats] = {}
        for width, rows in widths.items():
            assert self._samples is not None
            neighbours = rows == list(range(rows[0], rows[0] + len(rows)))
            samples = self._samples[rows[0] : rows[0] + len(rows)] if neighbours else self._samples[rows]
            found.update(zip(rows, sample_stats(samples[:, :width], self.near_zero), strict=True))
        return found

    def _read_masks(self) -> dict[int, Mask]:
        """Which channels were positive in each row that was looked at."""
        found: dict[int, Mask] = {}
        for row, maximum, images in self._masks:
            positive = (maximum > 0).cpu().numpy()
            before = found.get(row, NO_MASK)
            if before.channels == len(positive):
                positive |= before.positive
                images += before.images
            found[row] = Mask(positive, len(positive), images)
        return found

    def _record(self, slot: Slot, exact: Moments, sample: SampleStats | None, mask: Mask, own: ParameterFigures) -> LayerStats:
        sample = sample or NO_SAMPLE
        finite = exact.count == 0 or math.isfinite(exact.mean)
        mean, m2 = (exact.mean, exact.m2) if finite else sample.estimate(exact.count)
        return LayerStats(
            layer=self.name,
            first_step=slot.step,
            last_step=slot.step,
            count=exact.count,
            mean=mean,
            m2=m2,
            minimum=sample.minimum,
            maximum=sample.maximum,
            kind=self.kind,
            non_finite=not finite,
            sample_count=sample.count,
            nan_count=sample.nan_count,
            inf_count=sample.inf_count,
            zero_count=sample.zero_count,
            near_zero_count=sample.near_zero_count,
            near_zero=self.near_zero,
            histogram=sample.histogram,
            positive=numpy.packbits(mask.positive, bitorder="little").tobytes() if mask.channels else b"",
            channels=mask.channels,
            positive_samples=mask.images,
            update_ratio=own.update_ratio,
            gradient_rms=own.gradient_rms,
            weight_rms=own.weight_rms,
            parameter_records=int(not math.isnan(own.weight_rms)),
            sampled=() if finite else ("mean", "m2"),
        )
