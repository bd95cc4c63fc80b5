"""A run's log as series for charts, of bounded length, that grow while the run goes on. No torch.

`Series` reads the log again and again and returns what is new each time as plain values. A row is a span of steps; when a series would have more
than `MOST_ROWS`, neighbours are merged and it begins anew ("restart"). A row that comes again, with the same first step, has grown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy
from numpy.typing import NDArray

from convscope.columns import LayerColumns
from convscope.records import Range, StepRecord, bin_edges
from convscope.runlog import RunLog
from convscope.show.page.layer_values import FLOOR, MOST_BANDS

Values: TypeAlias = dict[str, Any]
MOST_ROWS = 400  # a chart on a screen has fewer columns of pixels than twice that


@dataclass(slots=True)
class Series:
    """What was read of one log so far.

    Attributes:
        most_rows: of each series.
    """

    most_rows: int = MOST_ROWS
    _steps: _Place = field(default_factory=lambda: _Place())
    _layers: dict[str, _LayerPlace] = field(default_factory=dict)

    def steps(self, log: RunLog) -> Values | None:
        """The new rows of the steps; None when there are none."""
        place = self._steps
        rows = _grouped(log.steps(place.reached), place.span)
        restart = place.rows == 0 and bool(rows)
        while place.kept + len(rows) > self.most_rows:
            place.widen()
            rows, restart = _grouped(log.steps(), place.span), True
        key = (rows[-1].first_step, rows[-1].last_step) if rows else None
        if key is None or key == place.last:
            return None
        place.advance(rows[-1].first_step, rows[-1].last_step, len(rows))
        return {"restart": restart, **step_values(rows)}

    def layers(self, log: RunLog) -> list[Values]:
        """The new rows of every layer that has some."""
        found = []
        for name in log.layer_names():
            place = self._layers.setdefault(name, _LayerPlace())
            values = self._layer(log, name, place)
            if values is not None:
                found.append(values)
        return found

    def _layer(self, log: RunLog, name: str, place: _LayerPlace) -> Values | None:
        columns = log.layer_columns(name, place.reached).grouped(place.span)
        if not len(columns):
            return None
        restart = place.rows == 0
        while place.kept + len(columns) > self.most_rows:
            place.widen()
            columns, restart = log.layer_columns(name).grouped(place.span), True
        first, last = int(columns.rows["first_step"][-1]), int(columns.rows["last_step"][-1])
        if (first, last) == place.last:
            return None
        if place.bands.grow(columns) and not restart:
            place.begin()
            columns, restart = log.layer_columns(name).grouped(place.span), True
        place.advance(first, last, len(columns))
        return {"restart": restart, **layer_values(columns, place.bands)}


@dataclass(slots=True)
class _Place:
    """How far a series was read: its rows, the records that a full row spans, and the first and last step of its last row."""

    rows: int = 0
    span: int = 1
    last: tuple[int, int] = (0, -1)

    @property
    def reached(self) -> int:
        """The step after which rows are wanted: the last row, which may have grown, is among them."""
        return self.last[0] - 1 if self.rows else -1

    @property
    def kept(self) -> int:
        """Rows that stay when the last one comes again."""
        return max(self.rows - 1, 0)

    def widen(self) -> None:
        """Begin anew with rows that span twice as many records."""
        self.span *= 2
        self.begin()

    def begin(self) -> None:
        """Forget what was read."""
        self.rows, self.last = 0, (0, -1)

    def advance(self, first: int, last: int, rows: int) -> None:
        """Note the rows that were read."""
        self.rows, self.last = self.kept + rows, (first, last)


@dataclass(slots=True)
class Bands:
    """The rows of a layer's picture, as on a run's page (show/page/layer_values.py): half octaves of either sign, what is under 2^-7 in the middle.

    Attributes:
        below, above: half octaves that negative and positive values reach; join: half octaves in one band.
    """

    below: int = 0
    above: int = 0

    @property
    def join(self) -> int:
        """One, or whole octaves when there would be too many bands."""
        reach = max(self.below, self.above)
        return 1 if reach <= MOST_BANDS else 2 * -(-reach // (2 * MOST_BANDS))

    def grow(self, columns: LayerColumns) -> bool:
        """Make room for these values; whether that was needed."""
        used = numpy.flatnonzero(columns.bins.any(axis=0)) if columns.bins.size else numpy.zeros(0, dtype=numpy.int64)
        if not used.size:
            return False
        low, high = columns.first_bin + int(used[0]), columns.first_bin + int(used[-1])
        below, above = max(self.below, -low - FLOOR), max(self.above, high - FLOOR)
        grew = (below, above) != (self.below, self.above)
        self.below, self.above = below, above
        return grew

    def edges(self) -> list[float]:
        """The values between the bands, from the most negative to the most positive, both ends included."""
        return [-edge for edge in reversed(self._side(self.below))] + self._side(self.above)

    def _side(self, reach: int) -> list[float]:
        return [bin_edges(FLOOR + band * self.join)[1] for band in range(-(-reach // self.join) + 1)]

    def counts(self, columns: LayerColumns) -> NDArray[numpy.int64]:
        """Counts of each record in each band."""
        below, above = -(-self.below // self.join), -(-self.above // self.join)
        index = columns.first_bin + numpy.arange(columns.bins.shape[1])
        band = -(-numpy.maximum(numpy.abs(index) - FLOOR, 0) // self.join)
        place = numpy.clip(below + numpy.where(index > 0, band, -band), 0, below + above)  # bins outside hold nothing
        counts = numpy.zeros((below + 1 + above, len(columns)), dtype=numpy.int64)
        numpy.add.at(counts, place, columns.bins.T)
        return counts.T


@dataclass(slots=True)
class _LayerPlace(_Place):
    """How far a layer was read, and the bands of its picture."""

    bands: Bands = field(default_factory=Bands)


def step_values(rows: Sequence[StepRecord]) -> Values:
    """Step records as lists, one entry a row."""

    def means(ranges: Sequence[Range | None]) -> list[float | None]:
        return [_finite(one.mean) if one else None for one in ranges]

    return {
        "first": [row.first_step for row in rows],
        "step": [row.last_step for row in rows],
        "loss": means([row.loss for row in rows]),
        "loss_low": [_finite(row.loss.minimum) for row in rows],
        "loss_high": [_finite(row.loss.maximum) for row in rows],
        "lr": means([row.hyper.get("lr") for row in rows]),
        "momentum": means([row.hyper.get("beta1") or row.hyper.get("momentum") for row in rows]),
        "gradient_norm": means([row.gradient_norm for row in rows]),
    }


def layer_values(columns: LayerColumns, bands: Bands) -> Values:
    """The records of one layer as lists, one entry a row."""
    rows = columns.rows
    with numpy.errstate(invalid="ignore", divide="ignore"):
        deviation = numpy.sqrt(numpy.maximum(rows["m2"], 0.0) / rows["count"])
        near, zero = rows["near_zero_count"] / rows["sample_count"], rows["zero_count"] / rows["sample_count"]
    return {
        "layer": columns.layer,
        "kind": columns.kind,
        "first": rows["first_step"].tolist(),
        "step": rows["last_step"].tolist(),
        "mean": _listed(rows["mean"]),
        "std": _listed(deviation),
        "near_zero": _listed(near),
        "zero": _listed(zero),
        "nan": rows["nan_count"].tolist(),
        "inf": rows["inf_count"].tolist(),
        "color_dim": {"counts": bands.counts(columns).tolist(), "samples": rows["sample_count"].tolist(), "edges": bands.edges()},
    }


def _grouped(records: Sequence[StepRecord], span: int) -> list[StepRecord]:
    """Neighbours merged so that each row spans `span` single steps, the last perhaps fewer."""
    rows: list[StepRecord] = []
    for record in records:
        if rows and rows[-1].loss.count + record.loss.count <= span:
            rows[-1] = rows[-1].merge(record)
        else:
            rows.append(record)
    return rows


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _listed(values: NDArray[Any]) -> list[float | None]:
    """Four digits are more than a chart shows."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values.tolist()]
