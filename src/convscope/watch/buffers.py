"""What the layers' outputs look like, collected over a few steps and turned into records together.

Receives output tensors while networks train; keeps of each three sums and a small sample, in memory that is allocated once; hands out columns of
records when it is drained. Inputs and outputs of batch norm need no reading for their sums: batch norm has them. On an accelerator nothing is copied to
the host in between. It hooks nothing.

All layers lie in the same arrays, so that a drain costs a few calls for all of them and not a few for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from jaxtyping import Shaped
from numpy.typing import NDArray
from torch import Tensor

from convscope.columns import ROW, LayerColumns
from convscope.watch.normalised import kept_by_batch_norm, moments
from convscope.watch.stats import SAMPLE_SIZE, SamplePlan, Scratch, channel_maximum, dense, sample_plan, sample_stats, sums

Array = NDArray[Any]
MASK_PERIOD = 16  # steps between looks at every channel of a layer: one look costs about as much as its sums, a sixteenth of it little
MOST_CHANNELS = 65_536  # of an output whose axis 1 is taken for channels
MOST_TOGETHER = 128  # samples turned into counts by one call: what it writes stays in the cache, and memory is bounded
FIRST_LAYERS = 16  # for which there is room at once, unless it is known how many they are; the room doubles when they are more


@dataclass(frozen=True, slots=True)
class ParameterFigures:
    """A layer's own parameters over some steps: one value for each row of the buffers, NaN where unknown."""

    update_ratio: Array
    gradient_rms: Array
    weight_rms: Array


_NOTHING = SamplePlan(0, 0, 0, 0)


@dataclass(slots=True)
class _Layer:
    """A layer and how its outputs are taken: worked out once for the shape that they have."""

    name: str
    kind: str
    shape: torch.Size | None = None
    count: int = 0
    plan: SamplePlan = _NOTHING
    targets: list[Tensor] = field(default_factory=list)  # where the sample of each row goes
    has_channels: bool = False
    sampled_row: int = -1  # the row that holds its newest sample
    feeds_norm: bool = False  # whether batch norm took its output the last time


@dataclass(frozen=True, slots=True)
class _Owed:
    """An output whose sums wait for the batch norm that takes it; nothing may have written to it until then."""

    layer: int
    row: int
    flat: Tensor
    count: int
    version: int

    def unchanged(self) -> bool:
        """Whether it still holds what the layer computed."""
        return self.flat._version == self.version


class Buffers:
    """Collects the layers of some networks.

    Args:
        rows: how many steps fit in before they must be drained.
        near_zero: |x| at most this counts as near zero.
        room: layers to expect.
    """

    def __init__(self, rows: int, near_zero: float, room: int = FIRST_LAYERS) -> None:
        self.rows, self.near_zero = rows, near_zero
        self._layers: list[_Layer] = []
        self._step = 0
        self._steps = numpy.zeros(rows, dtype=numpy.int64)
        self._looked_at = numpy.zeros((room, rows), dtype=numpy.int64)  # elements in the sample
        self._samples = torch.zeros(0, rows, SAMPLE_SIZE, dtype=torch.float32)
        self._scratch: Scratch | None = None
        self._sums: list[tuple[int, int, int, float, float]] = []  # layer, row, count, sum, sum of squares
        self._waiting: list[tuple[int, int, int, Tensor, Tensor]] = []  # on an accelerator: layer, row, count, mean, variance
        self._masks: list[tuple[int, int, Tensor, int]] = []  # layer, row, greatest value of each channel, images
        self._normed: list[tuple[int, int, int, int, float, Tensor]] = []  # layer or -1, batch norm's, row, count, eps, what it kept
        self._lost: list[tuple[int, int, int]] = []  # layer, row, count: where only the sample is known
        self._owed: _Owed | None = None
        self._newest = (-1, 0)  # layer and address of the newest output

    def place(self, name: str, kind: str) -> int:
        """A new layer's number."""
        self._layers.append(_Layer(name, kind))
        if len(self._layers) > len(self._looked_at):
            self._looked_at = numpy.concatenate([self._looked_at, numpy.zeros_like(self._looked_at)])
        return len(self._layers) - 1

    def rename(self, new_name: Callable[[str], str]) -> None:
        """Give every layer another name; records that were handed out keep theirs."""
        for layer in self._layers:
            layer.name = new_name(layer.name)

    def begin(self, row: int, step: int) -> None:
        """A step begins."""
        self._settle()
        self._steps[row] = self._step = step

    def add(self, layer: int, row: int, values: Shaped[Tensor, ...]) -> None:
        """Take what is needed of one output; of several in one step (shared modules, accumulated batches) the first gives the sample."""
        flat, known = dense(values), self._layers[layer]
        if values.shape != known.shape:
            self._meet(layer, known, values)
        count = known.count
        if (kept := kept_by_batch_norm(values)) is not None:
            self._take_kept(layer, row, count, *kept)
        else:
            self._settle()
            if known.feeds_norm:
                self._owed = _Owed(layer, row, flat, count, flat._version)
            else:
                self._measure(layer, row, flat, count)
        self._newest = layer, flat.data_ptr()
        if known.sampled_row != row and count:
            known.targets[row].copy_(known.plan.take(flat, self._step))
            self._looked_at[layer, row], known.sampled_row = known.plan.size, row
        if known.has_channels and (self._step + layer) % MASK_PERIOD == 0:
            self._masks.append((layer, row, channel_maximum(values), values.shape[0]))

    def _measure(self, layer: int, row: int, flat: Tensor, count: int) -> None:
        """Read all of an output."""
        if flat.is_cpu:
            self._sums.append((layer, row, *sums(flat, count)))
        else:
            variance, mean = torch.var_mean(flat if flat.dtype in (torch.float32, torch.float64) else flat.float(), correction=0)
            self._waiting.append((layer, row, count, mean, variance))

    def _take_kept(self, layer: int, row: int, count: int, kept: Tensor, eps: float, address: int) -> None:
        """Have the moments of a batch norm's output from itself, and those of its input where that is a layer's output, this time and the last."""
        owed, self._owed, before = self._owed, None, -1
        if owed is not None:
            if owed.flat.data_ptr() == address and owed.count == count and owed.unchanged():
                before = owed.layer
            else:
                self._owed = owed
                self._settle()
        elif self._newest[1] == address:
            self._layers[self._newest[0]].feeds_norm = True  # from now on
        self._normed.append((before, layer, row, count, eps, kept))

    def _settle(self) -> None:
        """Read an output that no batch norm took."""
        owed, self._owed = self._owed, None
        if owed is None:
            return
        self._layers[owed.layer].feeds_norm = False
        if owed.unchanged():
            self._measure(owed.layer, owed.row, owed.flat, owed.count)
        else:
            self._lost.append((owed.layer, owed.row, owed.count))

    def _meet(self, layer: int, known: _Layer, values: Tensor) -> None:
        """Work out how outputs of this shape are taken."""
        shape, count = values.shape, values.numel()
        if layer >= len(self._samples) or self._samples.device != values.device:
            self._grow(values.device)
        plan = sample_plan(count, count // max(shape[0], 1) if shape else 1)
        known.shape, known.count, known.plan = shape, count, plan
        known.targets = [row[: plan.size].view(plan.runs, plan.width) for row in self._samples[layer]]
        known.has_channels = count > 0 and len(shape) >= 2 and shape[1] <= MOST_CHANNELS

    def _grow(self, device: torch.device) -> None:
        """Make room for the samples of all layers, and keep what is there already."""
        grown = torch.zeros(len(self._looked_at), self.rows, SAMPLE_SIZE, dtype=torch.float32, device=device)
        grown[: len(self._samples)] = self._samples.to(device)
        self._samples = grown
        for known in self._layers:
            known.shape = None  # their samples go elsewhere now

    def forget(self, row: int) -> None:
        """Leave out what was added at a step."""
        self._looked_at[:, row] = 0
        self._sums = [entry for entry in self._sums if entry[1] != row]
        self._waiting = [entry for entry in self._waiting if entry[1] != row]
        self._masks = [entry for entry in self._masks if entry[1] != row]
        self._normed = [entry for entry in self._normed if entry[2] != row]
        self._lost = [entry for entry in self._lost if entry[1] != row]
        self._owed = None
        self._empty_samples()

    def _empty_samples(self) -> None:
        for known in self._layers:
            known.sampled_row = -1

    # ------------------------------------------------------------ draining

    def drain(self, figures: Mapping[str, ParameterFigures]) -> list[LayerColumns]:
        """A record for each layer and step since the last time, and empty buffers.

        Args:
            figures: by layer, what is known of its own parameters.
        """
        self._settle()
        if not (self._sums or self._waiting or self._normed or self._lost):
            return []
        rows = numpy.zeros((len(self._layers), self.rows), dtype=ROW)
        rows["first_step"] = rows["last_step"] = self._steps
        rows["records"] = 1
        for name in ("update_ratio", "gradient_rms", "weight_rms"):
            rows[name] = math.nan
        for layer, known in enumerate(self._layers):
            if own := figures.get(known.name):
                rows["update_ratio"][layer], rows["gradient_rms"][layer], rows["weight_rms"][layer] = (
                    own.update_ratio,
                    own.gradient_rms,
                    own.weight_rms,
                )
        rows["parameter_records"] = ~numpy.isnan(rows["weight_rms"])
        first, bins = self._fill_samples(rows)
        seen = self._fill_moments(rows)
        masks = self._fill_masks(rows)
        found = []
        for layer, known in enumerate(self._layers):
            used = seen[layer]
            if used.any():
                mask = masks[layer][used] if layer in masks else numpy.zeros((int(used.sum()), 0), dtype=numpy.uint8)
                found.append(LayerColumns(known.name, known.kind, self.near_zero, rows[layer][used], first, bins[layer][used], mask))
        self._looked_at[:] = 0
        self._sums, self._waiting, self._masks, self._normed, self._lost = [], [], [], [], []
        self._empty_samples()
        return found

    def _fill_samples(self, rows: Array) -> tuple[int, Array]:
        """What the samples look like; the counts of all layers and rows in one array, and its first bin."""
        looked_at = self._looked_at[: len(rows)]
        rows["sample_count"] = looked_at
        for name in ("minimum", "maximum"):
            rows[name] = math.nan
        flat, found = self._samples.flatten(0, 1), []
        for width in numpy.unique(looked_at[looked_at > 0]).tolist():
            places = numpy.argwhere(looked_at == width)
            for start in range(0, len(places), MOST_TOGETHER):
                layers, steps = places[start : start + MOST_TOGETHER].T
                samples = flat[torch.from_numpy(layers * self.rows + steps)][:, :width].contiguous()
                self._scratch = Scratch.fitting(samples, self._scratch)
                stats = sample_stats(samples, self.near_zero, self._scratch)
                for name in ("nan_count", "inf_count", "zero_count", "near_zero_count", "minimum", "maximum"):
                    rows[name][layers, steps] = getattr(stats, name)
                for at, (mean, variance) in stats.moments.items():
                    rows["mean"][layers[at], steps[at]], rows["m2"][layers[at], steps[at]] = mean, variance
                found.append((layers, steps, stats))
        first = min((stats.first_bin for *_, stats in found), default=0)
        last = max((stats.first_bin + stats.bins.shape[1] for *_, stats in found), default=first)
        bins = numpy.zeros((*looked_at.shape, last - first), dtype=numpy.int64)
        for layers, steps, stats in found:
            bins[layers, steps, stats.first_bin - first : stats.first_bin - first + stats.bins.shape[1]] = stats.bins
        return first, bins

    def _fill_moments(self, rows: Array) -> Array:
        """Count, mean and m2; where an element was not finite, mean and variance of the sample's finite ones stand there already.

        Returns:
            Whether there was any output of each layer in each row.
        """
        if self._waiting:
            pairs = torch.stack([value.double() for *_, mean, variance in self._waiting for value in (mean, variance)]).tolist()
            for (layer, row, count, *_), mean, variance in zip(self._waiting, pairs[::2], pairs[1::2], strict=True):
                self._sums.append((layer, row, count, mean * count, (variance + mean * mean) * count))
        self._add_normed()
        added = numpy.array(self._sums, dtype=numpy.float64).reshape(-1, 5)
        at = added[:, 0].astype(numpy.int64), added[:, 1].astype(numpy.int64)
        seen, sums = numpy.zeros(rows.shape, dtype=bool), numpy.zeros((*rows.shape, 3))
        seen[at] = True
        numpy.add.at(sums, at, added[:, 2:])
        count, total, squares = numpy.moveaxis(sums, 2, 0)
        finite = numpy.isfinite(squares)
        with numpy.errstate(invalid="ignore", divide="ignore"):
            mean = total / count
            m2 = numpy.maximum(squares - total * mean, 0.0)
        rows["count"] = count
        rows["mean"] = numpy.where(finite, mean, rows["mean"])
        rows["m2"] = numpy.where(finite & (count > 0), m2, rows["m2"] * count)
        rows["non_finite"] = rows["sampled"] = ~finite
        for layer, row, unread in self._lost:
            self._use_sample(rows[layer, row : row + 1], self._samples[layer, row], unread)
            seen[layer, row] = True
        return seen

    def _add_normed(self) -> None:
        """Turn what batch norms kept into sums."""
        alike: dict[tuple[int, int, float, int], list[tuple[int, Tensor]]] = {}
        for before, layer, row, count, eps, kept in self._normed:
            alike.setdefault((before, layer, eps, count), []).append((row, kept))
        for (before, layer, eps, count), entries in alike.items():
            figures = torch.stack([kept for *_, kept in entries]).double().cpu().numpy()
            for place, (means, variances) in zip((before, layer), moments(figures, eps), strict=True):
                if place < 0:
                    continue  # no layer's output went in
                for (row, *_), mean, variance in zip(entries, means.tolist(), variances.tolist(), strict=True):
                    if variance < 0:
                        self._lost.append((place, row, count))
                    else:
                        self._sums.append((place, row, count, mean * count, (variance + mean * mean) * count))

    @staticmethod
    def _use_sample(row: Array, sample: Tensor, count: int) -> None:
        """Have the moments of one output from its sample, because it could not be read whole."""
        values = sample[: int(row["sample_count"][0])].double().cpu().numpy()
        finite = values[numpy.isfinite(values)]
        row["count"] += count
        row["mean"], row["m2"] = (finite.mean(), finite.var() * row["count"]) if finite.size else (math.nan, math.nan)
        row["non_finite"], row["sampled"] = finite.size < values.size, True

    def _fill_masks(self, rows: Array) -> dict[int, Array]:
        """By layer, which channels were positive, at the steps at which they were looked at."""
        masks: dict[int, Array] = {}
        for layer, row, maximum, images in self._masks:
            channels = maximum.numel()
            packed = numpy.packbits((maximum > 0).cpu().numpy(), bitorder="little")
            mask = masks.get(layer, numpy.zeros((self.rows, 0), dtype=numpy.uint8))
            if (missing := len(packed) - mask.shape[1]) > 0:  # a shared layer may have more channels than before
                mask = numpy.pad(mask, ((0, 0), (0, missing)))
            masks[layer] = mask
            masks[layer][row, : len(packed)] |= packed
            rows["channels"][layer, row] = channels
            rows["positive_samples"][layer, row] += images
        return masks
