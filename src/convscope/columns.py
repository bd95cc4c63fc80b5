"""Many LayerStats of one layer as columns: numpy arrays instead of objects, so that a watched loop pays a microsecond for a record. No torch.

Receives records or arrays; merges neighbours, joins, cuts, and turns into bytes and back. A record and its row are the same thing:
`LayerColumns.of(records).records() == records`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import NDArray

from convscope.records import NEAR_ZERO, Histogram, LayerStats

Array = NDArray[Any]

_INTEGERS = (
    "first_step", "last_step", "count", "sample_count", "nan_count", "inf_count", "zero_count", "near_zero_count",
    "channels", "positive_samples", "parameter_records", "records",
)  # fmt: skip
_FLOATS = ("mean", "m2", "minimum", "maximum", "update_ratio", "gradient_rms", "weight_rms")
_FLAGS = ("non_finite", "sampled")
ROW = numpy.dtype([*((name, "<i8") for name in _INTEGERS), *((name, "<f8") for name in _FLOATS), *((name, "?") for name in _FLAGS)])
SAMPLED_MOMENTS = ("mean", "m2")  # what `sampled` may name; the flag of the same name stands for both
_SUMS = tuple(name for name in _INTEGERS if name not in ("first_step", "last_step", "channels"))
_HEADER = struct.Struct("<IiIIB")  # rows, index of the first bin, bins, bytes of a mask, bytes of a count


@dataclass(frozen=True, slots=True, eq=False)
class LayerColumns:
    """Some records of one layer, in order.

    Attributes:
        layer, kind, near_zero: as in LayerStats, the same for all.
        rows: one element of `ROW` for each record, named as the fields of LayerStats.
        first_bin: index of the first bin held (see records.Histogram).
        bins: counts, one row for each record.
        masks: `positive` of each record as bytes, filled up with zeros.
    """

    layer: str
    kind: str
    near_zero: float
    rows: Array
    first_bin: int
    bins: Array
    masks: Array

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def empty(cls, layer: str, kind: str = "", near_zero: float = NEAR_ZERO) -> LayerColumns:
        """No record at all."""
        counts = numpy.zeros((0, 0), dtype=numpy.int64)
        return cls(layer, kind, near_zero, numpy.zeros(0, dtype=ROW), 0, counts, counts.astype(numpy.uint8))

    @classmethod
    def of(cls, records: Sequence[LayerStats]) -> LayerColumns:
        """The records as columns; there must be at least one, all of one layer."""
        rows = numpy.zeros(len(records), dtype=ROW)
        for name in (*_INTEGERS, *_FLOATS, "non_finite"):
            rows[name] = [getattr(record, name) for record in records]
        rows["sampled"] = [bool(record.sampled) for record in records]
        used = [record.histogram for record in records if record.histogram.counts]
        first = min((histogram.first for histogram in used), default=0)
        bins = numpy.zeros((len(records), max((h.first + len(h.counts) for h in used), default=first) - first), dtype=numpy.int64)
        masks = numpy.zeros((len(records), max(len(record.positive) for record in records)), dtype=numpy.uint8)
        for at, record in enumerate(records):
            start = record.histogram.first - first
            bins[at, start : start + len(record.histogram.counts)] = record.histogram.counts
            masks[at, : len(record.positive)] = list(record.positive)
        return cls(records[0].layer, records[-1].kind, records[0].near_zero, rows, first, bins, masks)

    def records(self) -> list[LayerStats]:
        """The records as objects."""
        columns = {name: self.rows[name].tolist() for name in ROW.names or ()}
        found = []
        for at, counts in enumerate(self.bins):
            values: dict[str, Any] = {name: column[at] for name, column in columns.items()}
            values["sampled"] = SAMPLED_MOMENTS if values["sampled"] else ()
            mask = self.masks[at, : -(-values["channels"] // 8)].tobytes()
            histogram = _trimmed(self.first_bin, counts)
            found.append(LayerStats(self.layer, **values, kind=self.kind, near_zero=self.near_zero, histogram=histogram, positive=mask))
        return found

    # ------------------------------------------------------------ taking apart and putting together

    def part(self, start: int, stop: int | None = None) -> LayerColumns:
        """The records from place `start` up to `stop`."""
        here = slice(start, stop)
        return LayerColumns(self.layer, self.kind, self.near_zero, self.rows[here], self.first_bin, self.bins[here], self.masks[here])

    def after(self, step: int) -> LayerColumns:
        """The records that begin after a step."""
        return self.part(int(numpy.searchsorted(self.rows["first_step"], step, side="right")))

    def before(self, step: int) -> LayerColumns:
        """The records that begin before a step."""
        return self.part(0, int(numpy.searchsorted(self.rows["first_step"], step, side="left")))

    def joined(self, later: LayerColumns) -> LayerColumns:
        """These records and the later ones."""
        if not len(self) or not len(later):
            return later if not len(self) else self
        first = min(self.first_bin, later.first_bin)
        end = max(self.first_bin + self.bins.shape[1], later.first_bin + later.bins.shape[1])
        width = max(self.masks.shape[1], later.masks.shape[1])
        parts = (self, later)
        rows = numpy.empty(len(self) + len(later), dtype=ROW)  # concatenating structured arrays takes twenty times as long
        rows[: len(self)], rows[len(self) :] = self.rows, later.rows
        bins = numpy.concatenate([_padded(part.bins, part.first_bin - first, end - first) for part in parts])
        masks = numpy.concatenate([_padded(part.masks, 0, width) for part in parts])
        return LayerColumns(self.layer, later.kind, self.near_zero, rows, first, bins, masks)

    def grouped(self, span: int) -> LayerColumns:
        """Neighbours merged so that each row spans `span` single records, the last row perhaps fewer."""
        if not len(self) or span == 1:
            return self
        place = (numpy.cumsum(self.rows["records"]) - 1) // span
        starts = numpy.flatnonzero(numpy.diff(place, prepend=-1))
        return self if len(starts) == len(self) else self._merged(starts)

    def _merged(self, starts: Array) -> LayerColumns:
        """One row for each group of neighbours that begins at one of these places; the same as LayerStats.merge, for many at once."""
        old, new = self.rows, numpy.zeros(len(starts), dtype=ROW)
        for name in _SUMS:
            new[name] = numpy.add.reduceat(old[name], starts)
        for name, reduce in (("first_step", numpy.minimum), ("last_step", numpy.maximum), ("channels", numpy.maximum)):
            new[name] = reduce.reduceat(old[name], starts)
        new["minimum"], new["maximum"] = numpy.fmin.reduceat(old["minimum"], starts), numpy.fmax.reduceat(old["maximum"], starts)
        for name in _FLAGS:
            new[name] = numpy.logical_or.reduceat(old[name], starts)
        new["mean"], new["m2"] = _moments(old, new["count"], starts)
        weight, squared = old["parameter_records"], old["gradient_rms"] ** 2
        new["update_ratio"] = _weighted_mean(old["update_ratio"], weight, starts)
        new["gradient_rms"] = numpy.sqrt(_weighted_mean(squared, weight, starts))
        known = numpy.where(numpy.isnan(old["weight_rms"]), -1, numpy.arange(len(old)))
        last = numpy.maximum.reduceat(known, starts)
        new["weight_rms"] = numpy.where(last >= 0, old["weight_rms"][last], math.nan)
        bins = numpy.add.reduceat(self.bins, starts, axis=0)
        masks = numpy.bitwise_or.reduceat(self.masks, starts, axis=0)
        return LayerColumns(self.layer, self.kind, self.near_zero, new, self.first_bin, bins, masks)

    # ------------------------------------------------------------ bytes

    def to_bytes(self) -> bytes:
        """Everything but layer, kind and near_zero: a header, the rows, the counts (in as few bytes as they need) and the masks."""
        most = int(self.bins.max(initial=0))
        width = next(width for width in (1, 2, 4, 8) if most < 256**width)
        header = _HEADER.pack(len(self), self.first_bin, self.bins.shape[1], self.masks.shape[1], width)
        return b"".join((header, self.rows.tobytes(), self.bins.astype(f"<u{width}").tobytes(), self.masks.tobytes()))

    @classmethod
    def from_bytes(cls, content: bytes, layer: str, kind: str, near_zero: float) -> LayerColumns:
        """What `to_bytes` made.

        Raises:
            ValueError: the bytes are not of that form.
        """
        try:
            count, first, bins, mask, width = _HEADER.unpack_from(content)
            at = _HEADER.size
            rows = numpy.frombuffer(content, ROW, count, at)
            at += rows.nbytes
            counts = numpy.frombuffer(content, f"<u{width}", count * bins, at)
            masks = numpy.frombuffer(content, numpy.uint8, count * mask, at + counts.nbytes)
        except (struct.error, TypeError) as error:
            raise ValueError(f"a block of {len(content)} bytes is not what the log writes") from error
        return cls(layer, kind, near_zero, rows, first, counts.reshape(count, bins).astype(numpy.int64), masks.reshape(count, mask))


def merged_ranks(parts: Sequence[LayerColumns]) -> LayerColumns:
    """One layer's records of several ranks of a distributed run, those of the same steps merged.

    Args:
        parts: at least one; each rank's records are single steps, in order.

    Returns:
        One record for each step that any rank has; `records` and `parameter_records` count steps, not ranks.
    """
    if len(parts) == 1:
        return parts[0]
    joined = functools.reduce(LayerColumns.joined, parts)
    order = numpy.argsort(joined.rows["first_step"], kind="stable")
    ordered = dataclasses.replace(joined, rows=joined.rows[order], bins=joined.bins[order], masks=joined.masks[order])
    starts = numpy.flatnonzero(numpy.diff(ordered.rows["first_step"], prepend=-1))
    merged = ordered._merged(starts)
    for name in ("records", "parameter_records"):
        merged.rows[name] = numpy.maximum.reduceat(ordered.rows[name], starts)
    return merged


def _trimmed(first: int, counts: Array) -> Histogram:
    """The counts as a record, without the empty ends."""
    used = numpy.flatnonzero(counts)
    if not used.size:
        return Histogram()
    return Histogram(first + int(used[0]), tuple(counts[used[0] : used[-1] + 1].tolist()))


def _padded(columns: Array, before: int, width: int) -> Array:
    if columns.shape[1] == width:
        return columns
    return numpy.pad(columns, ((0, 0), (before, width - before - columns.shape[1])))


def _moments(rows: Array, counts: Array, starts: Array) -> tuple[Array, Array]:
    """Mean and m2 of each group in float64, from distances to the group's first mean; rows with a NaN mean only count."""
    lengths = numpy.diff(starts, append=len(rows))
    known = ~numpy.isnan(rows["mean"]) & (rows["count"] > 0)
    weight = numpy.where(known, rows["count"], 0).astype(numpy.float64)
    leading = numpy.where(known, numpy.arange(len(rows)), len(rows))
    first = numpy.minimum.reduceat(leading, starts)
    centre = numpy.append(rows["mean"], math.nan)[first]
    distance = numpy.where(known, rows["mean"] - numpy.repeat(centre, lengths), 0.0)
    whole = numpy.add.reduceat(weight, starts)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        shift = numpy.add.reduceat(weight * distance, starts) / whole
        m2 = numpy.add.reduceat(numpy.where(known, rows["m2"], 0.0) + weight * distance**2, starts) - whole * shift**2
        m2 = numpy.where(whole > 0, numpy.maximum(m2, 0.0) * counts / whole, rows["m2"][starts])
    return centre + shift, m2


def _weighted_mean(values: Array, weight: Array, starts: Array) -> Array:
    known = ~numpy.isnan(values) & (weight > 0)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        summed = numpy.add.reduceat(numpy.where(known, values * weight, 0.0), starts)
        mean: Array = summed / numpy.add.reduceat(numpy.where(known, weight, 0), starts)
    return mean
