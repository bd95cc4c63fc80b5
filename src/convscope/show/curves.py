"""Matplotlib figures of a training: loss, schedules, the learning-rate finder, the confusion matrix.

Receives records (records), returns the Axes that it drew on, so that a caller can go on drawing. It reads no file, needs no torch and
no display, and shows nothing by itself. The page has charts of its own (show/page/charts.py) of the same records.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy

from convscope.errors import UnknownNameError, UsageError
from convscope.records import EpochRecord, Evaluation, Finding, Range, StepRecord, shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAIN, VALID, THIRD = "#0064a8", "#c65300", "#00805c"  # apart for every common kind of colour blindness, after Okabe and Ito
SEVERITY_COLOURS = {"problem": "#b3261e", "warning": "#8f5b00", "note": "#0b5ea8"}
MOST_CELLS_WITH_TEXT = 20  # classes; the counts of more do not fit their cells
MOST_NAMES = 40  # on an axis
TITLES = {"lr": "learning rate", "beta1": "momentum (beta 1)", "beta2": "beta 2", "weight_decay": "weight decay"}


def plot_loss(
    steps: Sequence[StepRecord],
    epochs: Sequence[EpochRecord] = (),
    findings: Sequence[Finding] = (),
    *,
    log: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw the training loss at every step, the validation loss at each epoch's end, and a line where each finding begins.

    Args:
        steps: in order; a merged record is drawn as its mean, with a band from its least to its greatest loss.
        epochs: their validation losses are drawn where they are not empty.
        findings: numbered in their order.
        log: a logarithmic axis for the loss.
        ax: where to draw; a new figure when None.

    Returns:
        The Axes.

    Raises:
        UsageError: there is no step to draw.

    Example:
        >>> plot_loss([StepRecord(0, 0, 0.1, Range.of(2.3)), StepRecord(1, 1, 0.2, Range.of(1.9))]).get_xlabel()
        'step'
    """
    _needed(steps)
    ax = _axes(ax, (8, 4))
    _draw_ranges(ax, [record.last_step for record in steps], [record.loss for record in steps], TRAIN, "training loss")
    if epochs:
        ax.plot(
            [row.steps - 1 for row in epochs], [row.valid_loss for row in epochs], "D-", color=VALID, markersize=5, label="validation loss"
        )
    for place, finding in enumerate(findings, 1):
        colour = SEVERITY_COLOURS[finding.severity]
        ax.axvline(finding.step, color=colour, linestyle=":", label=f"{place}. {finding.name.replace('_', ' ')}")
        ax.text(finding.step, 1.01, str(place), color=colour, ha="center", va="bottom", transform=ax.get_xaxis_transform())
    if log:
        ax.set_yscale("log")
    ax.set(xlabel="step", ylabel="loss")
    ax.legend(frameon=False)
    return ax


def plot_sched(steps: Sequence[StepRecord], names: Sequence[str] | None = None, *, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Draw hyper-parameters over the steps, one beside the other.

    Args:
        steps: in order.
        names: which ones, such as "lr" and "beta1"; None draws those that moved, or the first when none did.
        axes: where to draw, one for each; a new figure when None.

    Returns:
        The Axes, in the order of the names.

    Raises:
        UsageError: there is no step to draw, or `axes` and `names` differ in number.
        UnknownNameError: a hyper-parameter was not recorded.
    """
    _needed(steps)
    held = {
        name: [(r.last_step, r.hyper[name]) for r in steps if name in r.hyper] for name in dict.fromkeys(n for r in steps for n in r.hyper)
    }
    if names is None:
        moved = [name for name, pairs in held.items() if min(r.minimum for _, r in pairs) < max(r.maximum for _, r in pairs)]
        # A group of parameters whose schedule is that of the first is drawn once.
        names = [name for name in moved if ":" not in name or held[name] != held.get(name.partition(":")[0])] or list(held)[:1]
    for name in names:
        if name not in held:
            raise UnknownNameError("hyper-parameter", name, held)
    if axes is None:
        from matplotlib import pyplot

        _, grid = pyplot.subplots(1, max(len(names), 1), figsize=(4 * max(len(names), 1), 3), squeeze=False, layout="constrained")
        axes = list(grid[0])
    elif len(axes) != len(names):
        raise UsageError(f"plot_sched got {len(axes)} axes for {len(names)} hyper-parameters ({', '.join(names)}). Give one for each.")
    for place, (name, ax) in enumerate(zip(names, axes, strict=False)):
        colour = (TRAIN, VALID, THIRD)[place % 3]
        _draw_ranges(ax, [step for step, _ in held[name]], [value for _, value in held[name]], colour, name)
        ax.set(xlabel="step", ylabel=TITLES.get(name, name.replace("_", " ")))
    return list(axes)


def plot_lr_find(rates: Sequence[float], losses: Sequence[float], suggestion: float | None = None, *, ax: Axes | None = None) -> Axes:
    """Draw the loss at each tried learning rate on a logarithmic axis, and the suggested one.

    Args:
        rates: learning rates in the order of trying.
        losses: the loss at each; losses that are not finite leave gaps.
        suggestion: the learning rate to mark, or None.
        ax: where to draw; a new figure when None.

    Raises:
        UsageError: there is nothing to draw, or the two differ in length.
    """
    if not rates or len(rates) != len(losses):
        raise UsageError(
            f"plot_lr_find got {len(rates)} learning rates and {len(losses)} losses; it needs one loss for each of at least one rate."
        )
    ax = _axes(ax, (6, 4))
    ax.plot(rates, [loss if math.isfinite(loss) else math.nan for loss in losses], color=TRAIN)
    if suggestion is not None:
        tried = [(abs(math.log(rate / suggestion)), loss) for rate, loss in zip(rates, losses, strict=True) if math.isfinite(loss)]
        ax.axvline(suggestion, color=VALID, linestyle=":")
        if tried:
            ax.plot([suggestion], [min(tried)[1]], "o", color=VALID, label=f"suggested: {suggestion:.2g}")
            ax.legend(frameon=False)
    ax.set(xscale="log", xlabel="learning rate", ylabel="loss")
    return ax


def plot_confusion(evaluation: Evaluation, classes: Sequence[str], *, ax: Axes | None = None) -> Axes:
    """Draw the confusion matrix: right answers in blue, mistakes in orange, each by its share of the true class on a scale of its own.

    Args:
        evaluation: its `confusion` is drawn; counts are written into the cells of up to 20 classes.
        classes: the names, in the order of the matrix.
        ax: where to draw; a new figure when None.

    Raises:
        UsageError: the number of names is not that of the matrix.
    """
    counts_LL = numpy.array(evaluation.confusion)
    n = len(counts_LL)
    if len(classes) != n:
        raise UsageError(f"plot_confusion got {len(classes)} class names for a matrix of {n} classes. Give one name for each class.")
    ax = _axes(ax, (min(4 + 0.35 * n, 12),) * 2)
    shares_LL = numpy.array([shares(row) for row in evaluation.confusion])
    right_LL = numpy.ma.masked_where(~numpy.eye(n, dtype=bool) | (counts_LL == 0), shares_LL)
    wrong_LL = numpy.ma.masked_where(numpy.eye(n, dtype=bool) | (counts_LL == 0), shares_LL)
    ax.imshow(right_LL, cmap="Blues", vmin=0, vmax=2)  # half of the colour map, so that black text stays readable
    ax.imshow(wrong_LL, cmap="Oranges", vmin=0, vmax=1.4 * float(wrong_LL.max() if wrong_LL.count() else 1))
    if n <= MOST_CELLS_WITH_TEXT:
        for i, j in numpy.argwhere(counts_LL):
            ax.text(j, i, f"{counts_LL[i, j]:,}", ha="center", va="center", fontsize=8)
    shown = range(0, n, math.ceil(n / MOST_NAMES))
    longest = max((len(classes[i]) for i in shown), default=0)
    ax.set_xticks(list(shown), [classes[i] for i in shown], rotation=90 if longest > 3 else 0)
    ax.set_yticks(list(shown), [classes[i] for i in shown])
    ax.set(xlabel="answer", ylabel="true class", xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5))
    return ax


def _needed(steps: Sequence[StepRecord]) -> None:
    if not steps:
        raise UsageError("There is no training step to draw yet. Train for at least one step first, for example with fit_one_cycle(1).")


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """The Axes given, or those of a new figure of `size` inches."""
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=size, layout="constrained")[1]


def _draw_ranges(ax: Axes, x: Sequence[int], ranges: Sequence[Range], colour: str, label: str) -> None:
    """A line of means, with a band where records were merged."""
    ax.plot(x, [r.mean for r in ranges], color=colour, linewidth=1.2, label=label)
    if any(r.count > 1 for r in ranges):
        ax.fill_between(x, [r.minimum for r in ranges], [r.maximum for r in ranges], color=colour, alpha=0.15, linewidth=0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.2)
