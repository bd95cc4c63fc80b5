"""What the layers' outputs look like, collected over a few steps and turned into records together.

Receives output tensors while networks train; keeps of each three sums and a small sample, in memory that is allocated once; hands out columns of
records when it is drained. On an accelerator nothing is copied to the host in between. It hooks nothing.

All layers lie in the same arrays, so that a drain costs a few calls for all of them and not a few for each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from jaxtyping import Shaped
from numpy.typing import NDArray
from torch import Tensor

from convscope.columns import ROW, LayerColumns
from convscope.watch.stats import SAMPLE_SIZE, SamplePlan, Scratch, channel_maximum, dense, sample_plan, sample_stats, sums

Array = NDArray[Any]
MASK_PERIOD = 16  # steps between looks at every channel of a layer: one look costs about as much as its sums, a sixteenth of it little
MOST_CHANNELS = 65_536  # of an output whose axis 1 is taken for channels
FIRST_LAYERS = 16  # for which there is room at once; the room doubles when they are more


@dataclass(frozen=True, slots=True)
class ParameterFigures:
    """A layer's own parameters over some steps: one value for each row of the buffers, NaN where unknown."""

    update_ratio: Array
    gradient_rms: Array
    weight_rms: Array


class Buffers:
    """Collects the layers of some networks.

    Args:
        rows: how many steps fit in before they must be drained.
        near_zero: |x| at most this counts as near zero.
    """

    def __init__(self, rows: int, near_zero: float) -> None:
        self.rows, self.near_zero = rows, near_zero
        self._names: list[str] = []
        self._kinds: list[str] = []
        self._plans: list[tuple[torch.Size, int, SamplePlan] | None] = []  # for the shape that each layer had last
        self._steps = numpy.zeros(rows, dtype=numpy.int64)
        self._sums = numpy.zeros((FIRST_LAYERS, rows, 3))  # count, sum and sum of squares
        self._seen = numpy.zeros((FIRST_LAYERS, rows), dtype=bool)
        self._looked_at = numpy.zeros((FIRST_LAYERS, rows), dtype=numpy.int64)  # elements in the sample
        self._samples = torch.zeros(0, rows, SAMPLE_SIZE, dtype=torch.float32)
        self._scratch: Scratch | None = None
        self._waiting: list[tuple[int, int, int, Tensor, Tensor]] = []  # on an accelerator: layer, row, count, mean, variance
        self._masks: list[tuple[int, int, Tensor, int]] = []  # layer, row, greatest value of each channel, images

    @property
    def names(self) -> list[str]:
        """The layers met so far, in order."""
        return self._names

    def place(self, name: str, kind: str) -> int:
        """A new layer's number."""
        self._names.append(name)
        self._kinds.append(kind)
        self._plans.append(None)
        if len(self._names) > len(self._sums):
            self._sums, self._seen, self._looked_at = (
                numpy.concatenate([old, numpy.zeros_like(old)]) for old in (self._sums, self._seen, self._looked_at)
            )
        return len(self._names) - 1

    def begin(self, row: int, step: int) -> None:
        """A step begins."""
        self._steps[row] = step

    def add(self, layer: int, row: int, values: Shaped[Tensor, ...]) -> None:
        """Take what is needed of one output; of several in one step (shared modules, accumulated batches) the first gives the sample."""
        flat, shape = dense(values), values.shape
        known = self._plans[layer]
        if known is None or known[0] != shape:
            count = flat.numel()
            known = self._plans[layer] = (shape, count, sample_plan(count, count // max(shape[0], 1) if shape else 1))
        _, count, plan = known
        self._seen[layer, row] = True
        if flat.device.type == "cpu":
            self._sums[layer, row] += sums(flat, count)
        else:
            variance, mean = torch.var_mean(flat if flat.dtype in (torch.float32, torch.float64) else flat.float(), correction=0)
            self._waiting.append((layer, row, count, mean, variance))
        if not count:
            return
        if not self._looked_at[layer, row]:
            self._take_sample(layer, row, flat, plan)
        if (self._steps[row] + layer) % MASK_PERIOD == 0 and len(shape) >= 2 and shape[1] <= MOST_CHANNELS:
            self._masks.append((layer, row, channel_maximum(values), shape[0]))

    def _take_sample(self, layer: int, row: int, flat: Tensor, plan: SamplePlan) -> None:
        if layer >= len(self._samples) or self._samples.device != flat.device:
            self._samples = self._grown(flat.device)
        self._samples[layer, row, : plan.size].view(plan.runs, plan.width).copy_(plan.take(flat, int(self._steps[row])))
        self._looked_at[layer, row] = plan.size

    def _grown(self, device: torch.device) -> Tensor:
        """Room for the samples of all layers, with what is there already."""
        grown = torch.zeros(len(self._sums), self.rows, SAMPLE_SIZE, dtype=torch.float32, device=device)
        grown[: len(self._samples)] = self._samples.to(device)
        return grown

    def forget(self, row: int) -> None:
        """Leave out what was added at a step."""
        self._sums[:, row], self._seen[:, row], self._looked_at[:, row] = 0, False, 0
        self._waiting = [entry for entry in self._waiting if entry[1] != row]
        self._masks = [entry for entry in self._masks if entry[1] != row]

    # ------------------------------------------------------------ draining

    def drain(self, figures: Mapping[str, ParameterFigures]) -> list[LayerColumns]:
        """A record for each layer and step since the last time, and empty buffers.

        Args:
            figures: by layer, what is known of its own parameters.
        """
        layers = len(self._names)
        rows = numpy.zeros((layers, self.rows), dtype=ROW)
        rows["first_step"] = rows["last_step"] = self._steps
        rows["records"] = 1
        for name in ("update_ratio", "gradient_rms", "weight_rms"):
            rows[name] = math.nan
        for layer, name in enumerate(self._names):
            if own := figures.get(name):
                rows["update_ratio"][layer], rows["gradient_rms"][layer], rows["weight_rms"][layer] = (
                    own.update_ratio,
                    own.gradient_rms,
                    own.weight_rms,
                )
        rows["parameter_records"] = ~numpy.isnan(rows["weight_rms"])
        first, bins = self._fill_samples(rows)
        self._fill_moments(rows)
        masks = self._fill_masks(rows)
        found = []
        for layer in range(layers):
            used = self._seen[layer]
            if used.any():
                mask = masks[layer][used] if layer in masks else numpy.zeros((int(used.sum()), 0), dtype=numpy.uint8)
                found.append(
                    LayerColumns(self._names[layer], self._kinds[layer], self.near_zero, rows[layer][used], first, bins[layer][used], mask)
                )
        self._sums[:], self._seen[:], self._looked_at[:] = 0, False, 0
        self._waiting, self._masks = [], []
        return found

    def _fill_samples(self, rows: Array) -> tuple[int, Array]:
        """What the samples look like; the counts of all layers and rows in one array, and its first bin."""
        looked_at = self._looked_at[: len(rows)]
        rows["sample_count"] = looked_at
        for name in ("minimum", "maximum"):
            rows[name] = math.nan
        found = []
        for layer, sizes in enumerate(looked_at):
            for width in numpy.unique(sizes[sizes > 0]).tolist():
                places = numpy.flatnonzero(sizes == width)
                start, stop = int(places[0]), int(places[-1]) + 1
                samples = self._samples[layer, start:stop, :width] if stop - start == len(places) else self._samples[layer, places, :width]
                self._scratch = Scratch.fitting(samples, self._scratch)
                stats = sample_stats(samples, self.near_zero, self._scratch)
                for name in ("nan_count", "inf_count", "zero_count", "near_zero_count", "minimum", "maximum"):
                    rows[name][layer, places] = getattr(stats, name)
                for at, (mean, variance) in stats.moments.items():
                    rows["mean"][layer, places[at]], rows["m2"][layer, places[at]] = mean, variance
                found.append((layer, places, stats))
        first = min((stats.first_bin for _, _, stats in found), default=0)
        last = max((stats.first_bin + stats.bins.shape[1] for _, _, stats in found), default=first)
        bins = numpy.zeros((*looked_at.shape, last - first), dtype=numpy.int64)
        for layer, places, stats in found:
            bins[layer, places, stats.first_bin - first : stats.first_bin - first + stats.bins.shape[1]] = stats.bins
        return first, bins

    def _fill_moments(self, rows: Array) -> None:
        """Count, mean and m2; where an element was not finite, mean and variance of the sample's finite ones stand there already."""
        if self._waiting:
            pairs = torch.stack([value.double() for *_, mean, variance in self._waiting for value in (mean, variance)]).tolist()
            for (layer, row, count, *_), mean, variance in zip(self._waiting, pairs[::2], pairs[1::2], strict=True):
                self._sums[layer, row] += (count, mean * count, (variance + mean * mean) * count)
        count, total, squares = numpy.moveaxis(self._sums[: len(rows)], 2, 0)
        finite = numpy.isfinite(squares)
        with numpy.errstate(invalid="ignore", divide="ignore"):
            mean = total / count
            m2 = numpy.maximum(squares - total * mean, 0.0)
        rows["count"] = count
        rows["mean"] = numpy.where(finite, mean, rows["mean"])
        rows["m2"] = numpy.where(finite & (count > 0), m2, rows["m2"] * count)
        rows["non_finite"] = rows["sampled"] = ~finite

    def _fill_masks(self, rows: Array) -> dict[int, Array]:
        """By layer, which channels were positive, at the steps at which they were looked at."""
        masks: dict[int, Array] = {}
        for layer, row, maximum, images in self._masks:
            channels = maximum.numel()
            packed = numpy.packbits((maximum > 0).cpu().numpy(), bitorder="little")
            mask = masks.get(layer, numpy.zeros((self.rows, 0), dtype=numpy.uint8))
            missing = max(0, len(packed) - mask.shape[1])  # a shared layer may have more channels than before
            masks[layer] = numpy.pad(mask, ((0, 0), (0, missing)))
            masks[layer][row, : len(packed)] |= packed
            rows["channels"][layer, row] = channels
            rows["positive_samples"][layer, row] += images
        return masks
