"""What happened inside the layers, as values for the page's script: for each layer a picture of its values over the steps, and its numbers.

Receives LayerStats, returns JSON. A picture has a row for each band of values, from the most negative to the most positive with the values
near zero in the middle, and a column for each span of steps. Every element looked at is in one row of its column, or is counted as NaN or infinite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from convscope.columns import LayerColumns
from convscope.records import Finding, Histogram, LayerStats, bin_edges
from convscope.show.page.charts import escaped, finite

Values: TypeAlias = dict[str, Any]
SMALLEST_OCTAVE = -7  # values under 2^-7 share the row in the middle; the bands of half octaves above it span what a healthy layer shows
FLOOR = 2 * (126 + SMALLEST_OCTAVE)  # the histogram's bins up to this one, with either sign, lie under 2^-7
MOST_BANDS = 32  # of one sign; more are joined, so that a layer that explodes still fits
MOST_CELLS = 3500  # columns times layers: keeps the page under some megabytes
FEWEST_COLUMNS, MOST_COLUMNS = 40, 240


def layer_values(layers: Mapping[str, Sequence[LayerStats]], findings: Sequence[Finding] = (), most_columns: int = MOST_COLUMNS) -> Values:
    """All layers with their findings, in order.

    Args:
        layers: the records of each layer, by name.
        findings: numbered in their order; those of a layer, or of one of its parameters, are marked on it.
        most_columns: of one picture.
    """
    columns = min(max(MOST_CELLS // max(len(layers), 1), FEWEST_COLUMNS), most_columns)
    shown = [_layer(name, fewer(records, columns), _marks(name, findings)) for name, records in layers.items() if records]
    return {"kind": "layers", "layers": shown}


def fewer(records: Sequence[LayerStats], most: int) -> Sequence[LayerStats]:
    """The records, or when there are more than `most`, mergers of neighbours that span equally many of them."""
    if len(records) <= most:
        return records
    span = -(-sum(record.records for record in records) // most)
    return LayerColumns.of(records).grouped(span).records()


def belongs(finding: Finding, layer: str) -> bool:
    """Whether a finding is about this layer or one of its parameters."""
    return bool(finding.where) and (
        finding.where == layer or (finding.where.startswith(f"{layer}.") and "." not in finding.where[len(layer) + 1 :])
    )


def _marks(layer: str, findings: Sequence[Finding]) -> list[Values]:
    return [
        {"place": place, "name": escaped(finding.name.replace("_", " ")), "severity": finding.severity, "step": finding.step}
        for place, finding in enumerate(findings, 1)
        if belongs(finding, layer)
    ]


def _layer(name: str, records: Sequence[LayerStats], marks: list[Values]) -> Values:
    least, greatest = _extent([record.histogram for record in records])
    join = 1 if max(least, greatest) <= MOST_BANDS else 2 * -(-max(least, greatest) // (2 * MOST_BANDS))  # whole octaves
    signed = last_signed(records)
    below, above = -(-least // join), -(-greatest // join)
    return {
        "name": escaped(name),
        "type": records[-1].kind,
        "marks": marks,
        "edges": [-edge for edge in reversed(_edges(below, join))] + _edges(above, join),
        "first": [record.first_step for record in records],
        "last": [record.last_step for record in records],
        "counts": [banded(record.histogram, below, above, join) for record in records],
        "samples": [record.sample_count for record in records],
        "nan": [record.nan_count for record in records],
        "inf": [record.inf_count for record in records],
        "mean": [finite(record.mean) for record in records],
        "std": [finite(record.std) for record in records],
        "near": [finite(record.share_near_zero) for record in records],
        "zero": [finite(record.share_zero) for record in records],
        "least": [finite(record.minimum) for record in records],
        "greatest": [finite(record.maximum) for record in records],
        "channels": max(record.channels for record in records),
        "silent": [list(record.never_positive) if record.positive_samples else [] for record in signed],
        "images": [record.positive_samples for record in signed],
    }


def last_signed(records: Sequence[LayerStats]) -> list[LayerStats]:
    """For each record the last one until then that looked at which channels were positive, as only some do; itself while none has."""
    found: list[LayerStats] = []
    for record in records:
        found.append(record if record.positive_samples or not found else found[-1])
    return found


def _extent(histograms: Sequence[Histogram]) -> tuple[int, int]:
    """How many half octaves above 2^-7 the values reach, negative and positive."""
    low = min((h.first for h in histograms if h.counts), default=0)
    high = max((h.first + len(h.counts) - 1 for h in histograms if h.counts), default=0)
    return max(-low - FLOOR, 0), max(high - FLOOR, 0)


def _edges(bands: int, join: int) -> list[float]:
    """The positive edges of the bands, beginning with the end of the middle row."""
    return [bin_edges(FLOOR)[1], *(bin_edges(FLOOR + band * join)[1] for band in range(1, bands + 1))]


def banded(histogram: Histogram, below: int, above: int, join: int) -> list[int]:
    """A histogram's counts in the rows of the picture, from the most negative to the most positive.

    Args:
        histogram: of the fixed bins of records.
        below: rows of negative values.
        above: rows of positive values; the middle row is between them.
        join: bins in a row.
    """
    rows = [0] * (below + 1 + above)
    for place, count in enumerate(histogram.counts, histogram.first):
        if count:
            band = -(-max(abs(place) - FLOOR, 0) // join)
            rows[below + (band if place > 0 else -band)] += count
    return rows
