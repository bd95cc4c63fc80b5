"""Matplotlib figures of what happened inside the layers: statistics, histograms over time, dead units, update ratios.

Receives LayerStats (records), returns the Axes that it drew on. It reads no file, needs no torch and no display, and shows nothing by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import NDArray

from convscope.errors import UsageError
from convscope.records import LayerStats, bin_edges

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[Any]
LINE, BAND = "#0064a8", "#c65300"
NAN_COLOUR, INF_COLOUR, UNSEEN_COLOUR = "#c2185b", "#e69f00", "#777777"
LAYER_COLOURS = "viridis"  # from the first layer to the last, in order for every kind of colour blindness
HEALTHY_UPDATE = 1e-3  # update-to-weight ratio of a network that trains well (A. Karpathy, CS231n, "ratio of weights:updates")
OCTAVES_SHOWN = 14  # below the greatest value; what is smaller than 2**-14 of it lies in the middle row
MOST_LEGEND = 20  # layers named beside a figure
POINTS_PER_INCH, LABEL_HEIGHT = 72, 1.4  # of matplotlib's font sizes; of a line of text with air around it, in font sizes
STRIP_HEIGHT, PAD_OF_TITLE, LEGEND_BELOW = 5, 4, 34  # points: of a strip, of the title above it, of the legend below the axis and its label


def plot_layer_stats(records: Sequence[LayerStats], *, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Draw mean, standard deviation and share near zero of one layer by training step.

    Args:
        records: of one layer, in order.
        axes: three places to draw; a new figure when None.

    Returns:
        The three Axes.

    Raises:
        UsageError: there is no record.
    """
    _needed(records)
    axes = list(axes) if axes is not None else _new(1, 3, (12, 3.2))
    x = [record.last_step for record in records]
    limit = f"{records[0].near_zero:g}"
    for ax, values, label in (
        (axes[0], [record.mean for record in records], "mean"),
        (axes[1], [record.std for record in records], "standard deviation"),
        (axes[2], [100 * record.share_near_zero for record in records], f"|x| ≤ {limit}, % of values"),
    ):
        ax.plot(x, values, color=LINE, linewidth=1.2)
        ax.set(xlabel="training step", title=label)
        _mark_non_finite(ax, records, legend=ax is axes[0])
    axes[2].set_ylim(-2, 102)
    axes[0].set_ylabel(_title(records))
    return axes


def color_dim(records: Sequence[LayerStats], *, ax: Axes | None = None, bar: bool = True) -> Axes:
    """Draw the histograms of one layer side by side, one column a training step (or a merged span of steps).

    The vertical axis is symmetric and logarithmic, with negative values below, zero and what is smaller than 2^-14 of the greatest value in the
    middle row; nothing is cut off. The colour is log(1 + count in one step). Steps at which the layer held NaN or infinite values are marked above.

    Args:
        records: of one layer, in order.
        ax: where to draw; a new figure when None.
        bar: whether to draw the colour bar.

    Raises:
        UsageError: there is no record.
    """
    _needed(records)
    ax = ax if ax is not None else _new(1, 1, (9, 4))[0]
    counts, rows = _image(records)
    edges = [record.first_step - 0.5 for record in records] + [records[-1].last_step + 0.5]
    picture = ax.pcolormesh(edges, numpy.arange(len(rows) + 1) - 0.5, numpy.log1p(counts.T), cmap="magma_r", rasterized=True)
    places, labels = _value_ticks(rows, _rows_per_label(ax, len(rows)))
    ax.set_yticks(places, labels)
    ax.set(xlabel="training step", ylabel="value", title=_title(records))
    if 0 in rows and len(rows) > 1:
        ax.axhline(rows.index(0), color="#8888", linewidth=0.5)
    if bar:
        figure_bar = ax.figure.colorbar(picture, ax=ax, label="values counted in a step")
        marks = [
            mark for mark in (0, 1, 10, 100, 1000, 10_000, 100_000) if math.log1p(mark) <= float(numpy.log1p(counts).max(initial=0)) + 1e-9
        ]
        figure_bar.set_ticks([math.log1p(mark) for mark in marks], labels=[f"{mark:,}" for mark in marks])
    _mark_non_finite(ax, records)
    return ax


def plot_all(layers: Mapping[str, Sequence[LayerStats]]) -> list[Axes]:
    """Draw the histograms over time of every layer, exactly one panel each.

    Args:
        layers: records by layer, in order.

    Returns:
        One Axes for each layer, in order.

    Raises:
        UsageError: there is no record.
    """
    _needed([record for records in layers.values() for record in records])
    columns = min(3, len(layers))
    rows = -(-len(layers) // columns)
    places = _new(rows, columns, (5 * columns, 2.6 * rows))
    for ax, records in zip(places, layers.values(), strict=False):
        color_dim(records, ax=ax, bar=False)
    for empty in places[len(layers) :]:
        empty.remove()
    return places[: len(layers)]


def plot_dead_units(layers: Mapping[str, Sequence[LayerStats]], *, ax: Axes | None = None) -> Axes:
    """Draw, for each layer, which channels were positive at any time, and which never.

    Args:
        layers: records by layer, in order; layers without channels are left out.
        ax: where to draw; a new figure when None.

    Raises:
        UsageError: no layer's channels were looked at.
    """
    masks = {name: mask for name, records in layers.items() if (mask := _mask(records)) is not None}
    if not masks:
        raise UsageError("No layer's channels were looked at yet. Each layer is looked at once in 16 steps: watch at least so many.")
    ax = ax if ax is not None else _new(1, 1, (9, 0.8 + 0.32 * len(masks)))[0]
    width = max(len(alive) for alive, _ in masks.values())
    for place, (alive, images) in enumerate(masks.values()):
        cell = width / len(alive)
        dead = numpy.flatnonzero(~alive)
        ax.broken_barh([(0, width)], (place - 0.4, 0.8), facecolors="#cfe3f3")
        ax.broken_barh([(channel * cell, cell) for channel in dead], (place - 0.4, 0.8), facecolors="#b3261e")
        ax.text(width * 1.01, place, f"{len(dead)} of {len(alive)} never positive in {images:,} images", va="center", fontsize=8)
    ax.set_yticks(range(len(masks)), [f"{name} {layers[name][0].kind}" for name in masks])
    ax.set(xlim=(0, width), ylim=(len(masks) - 0.5, -0.5), xlabel="channels, from the first to the last", title="Dead units (red)")
    ax.set_xticks([])
    return ax


def plot_update_ratios(layers: Mapping[str, Sequence[LayerStats]], *, ax: Axes | None = None) -> Axes:
    """Draw the update-to-weight ratio of every layer with weights by training step, against the line at 1e-3.

    Args:
        layers: records by layer, in order; layers without weights are left out.
        ax: where to draw; a new figure when None.

    Raises:
        UsageError: no update was measured.
    """
    import matplotlib

    measured = {name: [r for r in records if math.isfinite(r.update_ratio) and r.update_ratio > 0] for name, records in layers.items()}
    measured = {name: records for name, records in measured.items() if records}
    if not measured:
        raise UsageError("No update of a layer's weights was measured: no optimiser that holds them has stepped.")
    ax = ax if ax is not None else _new(1, 1, (9, 4))[0]
    colours = matplotlib.colormaps[LAYER_COLOURS](numpy.linspace(0, 0.9, len(measured)))
    for colour, (name, records) in zip(colours, measured.items(), strict=True):
        label = f"{name} {records[0].kind}" if len(measured) <= MOST_LEGEND else None
        ax.plot([r.last_step for r in records], [r.update_ratio for r in records], color=colour, linewidth=1, label=label)
    ax.axhline(HEALTHY_UPDATE, color="black", linestyle="--", linewidth=1, label="1e-3, usual in healthy training")
    ax.set_yscale("log")
    ax.set(xlabel="training step", ylabel="norm of the update / norm of the weights", title="Size of the updates")
    ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return ax


# ---------------------------------------------------------------- inside


def _image(records: Sequence[LayerStats]) -> tuple[Array, list[int]]:
    """Counts in one step, a row for each record and a column for each bin; and the bins' indices, those near zero joined into 0."""
    used = [(h.first, h.first + len(h.counts) - 1) for h in (record.histogram for record in records) if h.counts]
    low, high = min((first for first, _ in used), default=0), max((last for _, last in used), default=0)
    inner = max(0, max(-low, high) - 2 * OCTAVES_SHOWN)  # bins up to this index, of both signs, form the middle row
    rows = [*range(min(low, -inner - 1), -inner), 0, *range(inner + 1, max(high, inner + 1) + 1)]
    rows = [row for row in rows if low <= row <= high or row == 0]
    column = {row: place for place, row in enumerate(rows)}
    counts = numpy.zeros((len(records), len(rows)))
    for at, record in enumerate(records):
        for offset, count in enumerate(record.histogram.counts):
            index = record.histogram.first + offset
            counts[at, column[0 if abs(index) <= inner else index]] += count / record.records
    return counts, rows


def _value_ticks(rows: Sequence[int], apart: float) -> tuple[list[float], list[str]]:
    """Places among the rows and labels of zero and powers of ten; the greatest come first, and what would crowd them is left out.

    Args:
        rows: indices of the bins that are drawn.
        apart: how many rows must lie between two labels.
    """
    wanted = [(float(rows.index(0)), "0")]
    for row in sorted((row for row in rows if row), key=abs, reverse=True):
        low, high = bin_edges(abs(row))
        decade = math.floor(math.log10(high))
        if low <= 10.0**decade < high:
            sign = 1 if row > 0 else -1
            label = f"{sign * 10.0**decade:g}".replace("-", "\N{MINUS SIGN}")
            wanted.append((rows.index(row) + sign * ((10.0**decade - low) / (high - low) - 0.5), label))
    kept: list[tuple[float, str]] = []
    for place, label in wanted:
        if all(abs(place - other) >= apart for other, _ in kept):
            kept.append((place, label))
    return [place for place, _ in kept], [label for _, label in kept]


def _rows_per_label(ax: Axes, rows: int) -> float:
    """How many rows of a picture a label of its vertical axis is high, with some air around it."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties

    points = FontProperties(size=rcParams["ytick.labelsize"]).get_size_in_points()
    return LABEL_HEIGHT * points * rows / _height_in_points(ax)


def _mask(records: Sequence[LayerStats]) -> tuple[Array, int] | None:
    """Which channels were ever positive, and in how many images they were looked at; None when they never were."""
    looked_at = [record for record in records if record.channels and record.positive_samples]
    if not looked_at:
        return None
    alive = numpy.ones(looked_at[-1].channels, dtype=bool)
    alive[list(_never(looked_at))] = False
    return alive, sum(record.positive_samples for record in looked_at)


def _never(records: Sequence[LayerStats]) -> set[int]:
    never = set(records[-1].never_positive)
    for record in records:
        never &= set(record.never_positive)
    return never


def _mark_non_finite(ax: Axes, records: Sequence[LayerStats], *, legend: bool = True) -> None:
    """Mark, in strips above the picture, the steps at which the layer held NaN or infinite values; a legend below says how many."""
    looked_at = max(1, sum(record.sample_count for record in records))
    strips = []
    for name, colour, count in (("NaN", NAN_COLOUR, "nan_count"), ("infinite", INF_COLOUR, "inf_count")):
        share = 100 * sum(getattr(record, count) for record in records) / looked_at
        strips.append((f"{name}: {share:.2g} % of the values looked at", colour, [record for record in records if getattr(record, count)]))
    unseen = [record for record in records if record.non_finite and not record.nan_count + record.inf_count]
    strips = [strip for strip in (*strips, ("NaN or infinite, but not among the values looked at", UNSEEN_COLOUR, unseen)) if strip[2]]
    if not strips:
        return
    from matplotlib.transforms import ScaledTranslation

    high = STRIP_HEIGHT / _height_in_points(ax)
    for level, (label, colour, marked) in enumerate(strips):
        steps = [(record.first_step - 0.5, record.last_step - record.first_step + 1) for record in marked]
        place, label = (1 + (level + 0.25) * high, 0.75 * high), f"{label}, first at step {marked[0].first_step}"
        ax.broken_barh(steps, place, facecolors=colour, transform=ax.get_xaxis_transform(), clip_on=False, label=label)
    ax.set_title(ax.get_title(), pad=PAD_OF_TITLE + STRIP_HEIGHT * len(strips))
    if legend:
        below = ax.transAxes + ScaledTranslation(0, -LEGEND_BELOW / POINTS_PER_INCH, ax.figure.dpi_scale_trans)
        ax.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=below, borderaxespad=0, borderpad=0)


def _height_in_points(ax: Axes) -> float:
    return float(ax.get_window_extent().height / ax.figure.dpi * POINTS_PER_INCH)


def _title(records: Sequence[LayerStats]) -> str:
    return f"{records[0].layer} {records[0].kind}".strip()


def _needed(records: Sequence[LayerStats]) -> None:
    if not records:
        raise UsageError("There is no record of a layer to draw: nothing was watched yet. Train with a Watcher around the loop first.")


def _new(rows: int, columns: int, size: tuple[float, float]) -> list[Axes]:
    """The Axes of a new figure of `size` inches."""
    from matplotlib import pyplot

    return list(pyplot.subplots(rows, columns, squeeze=False, figsize=size, layout="constrained")[1].ravel())
