"""The matplotlib figures hold the records' numbers."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator

import matplotlib
import numpy
import pytest
import report_runs
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from convscope.errors import UnknownNameError, UsageError
from convscope.records import Evaluation, Range, StepRecord
from convscope.show.curves import SEVERITY_COLOURS, plot_confusion, plot_loss, plot_lr_find, plot_sched


@pytest.fixture(autouse=True)
def without_display() -> Iterator[None]:
    matplotlib.use("Agg")
    yield
    pyplot.close("all")


def line(ax: Axes, label: str) -> tuple[list[float], list[float]]:
    found = next(item for item in ax.get_lines() if item.get_label() == label)
    return [float(x) for x in numpy.asarray(found.get_xdata())], [float(y) for y in numpy.asarray(found.get_ydata())]


def test_the_loss_of_every_step_and_epoch() -> None:
    ax = plot_loss(report_runs.steps(), report_runs.epochs(), report_runs.findings())
    assert line(ax, "training loss") == ([float(i) for i in range(8)], [record.loss.mean for record in report_runs.steps()])
    assert line(ax, "validation loss") == ([3.0, 7.0], [0.7654321, 0.3141592])
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["training loss", "validation loss", "1. lr too high", "2. dead units"]
    marked = [item for item in ax.get_lines() if str(item.get_label())[:2] in ("1.", "2.")]
    assert [float(numpy.asarray(item.get_xdata())[0]) for item in marked] == [3.0, 5.0]
    assert [item.get_color() for item in marked] == [SEVERITY_COLOURS["problem"], SEVERITY_COLOURS["warning"]]
    assert plot_loss(report_runs.steps(), log=True).get_yscale() == "log"


def test_merged_steps_have_a_band_from_their_least_to_their_greatest() -> None:
    steps = [StepRecord(2 * i, 2 * i + 1, 1.0, Range(0.5, 1.0 + i, 3.5, 1.0, 2)) for i in range(3)]
    ax = plot_loss(steps)
    assert line(ax, "training loss") == ([1.0, 3.0, 5.0], [1.0, 2.0, 3.0])
    corners = ax.collections[0].get_paths()[0].get_extents()
    assert (corners.y0, corners.y1) == (0.5, 3.5)
    assert plot_loss(report_runs.steps()).collections[:] == []


def test_drawing_goes_on_where_one_says() -> None:
    one, two, three, four = pyplot.subplots(1, 4)[1]
    assert plot_loss(report_runs.steps(), ax=one) is one
    assert plot_lr_find([0.1, 1.0], [2.0, 1.0], ax=two) is two
    assert plot_confusion(report_runs.evaluation(), ["a", "b", "c"], ax=three) is three
    assert plot_sched(report_runs.steps(), ["lr"], axes=[four]) == [four]


def test_schedules_that_moved_are_drawn() -> None:
    axes = plot_sched(report_runs.steps())
    assert [ax.get_ylabel() for ax in axes] == ["learning rate", "momentum (beta 1)"]
    assert line(axes[0], "lr")[1] == [record.hyper["lr"].mean for record in report_runs.steps()]
    assert [ax.get_ylabel() for ax in plot_sched(report_runs.steps(), ["weight_decay"])] == ["weight decay"]
    grouped = [StepRecord(i, i, 0.0, Range.of(1.0), {"lr": Range.of(i), "lr:1": Range.of(i), "lr:2": Range.of(2.0 * i)}) for i in range(3)]
    assert [ax.get_ylabel() for ax in plot_sched(grouped)] == ["learning rate", "lr:2"]
    constant = [StepRecord(i, i, 0.0, Range.of(1.0), {"lr": Range.of(0.1)}) for i in range(3)]
    assert line(plot_sched(constant)[0], "lr")[1] == [0.1] * 3


def test_the_finder_marks_its_suggestion_on_the_curve() -> None:
    rates, losses = [1e-4, 1e-3, 1e-2, 1e-1, 1.0], [2.3, 2.2, 1.5, 1.1, math.inf]
    ax = plot_lr_find(rates, losses, 0.012)
    assert line(ax, "suggested: 0.012") == ([0.012], [1.5])
    drawn = numpy.asarray(ax.get_lines()[0].get_ydata(), dtype=float)
    numpy.testing.assert_array_equal(drawn, [2.3, 2.2, 1.5, 1.1, math.nan])
    assert ax.get_xscale() == "log"


def test_the_confusion_matrix_counts_and_colours() -> None:
    ax = plot_confusion(report_runs.evaluation(), ["cat", "dog", "fish"])
    written = {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in ax.texts}
    assert written == {(0, 0): "30", (0, 1): "1", (0, 2): "2", (1, 1): "28", (1, 2): "3", (2, 2): "32"}
    right, wrong = (numpy.ma.filled(image.get_array(), -1).tolist() for image in ax.images)
    assert right == [[30 / 33, -1, -1], [-1, 28 / 31, -1], [-1, -1, 1.0]]
    assert wrong == [[-1, 1 / 33, 2 / 33], [-1, -1, 3 / 31], [-1, -1, -1]]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["cat", "dog", "fish"]
    assert to_rgba(ax.texts[0].get_color()) == (0.0, 0.0, 0.0, 1.0)


def test_a_hundred_classes_have_no_text_and_few_names() -> None:
    n = 100
    judged = Evaluation("valid", n, 0.0, 1.0, 1.0, tuple(tuple(int(i == j) for j in range(n)) for i in range(n)))
    ax = plot_confusion(judged, [f"c{i}" for i in range(n)])
    assert (len(ax.texts), len(ax.get_yticklabels())) == (0, 34)


def test_errors_say_what_to_do() -> None:
    nothing = "There is no training step to draw yet. Train for at least one step first, for example with fit_one_cycle(1)."
    for draw in (plot_loss, plot_sched):
        with pytest.raises(UsageError) as raised:
            draw([])
        assert str(raised.value) == nothing
    with pytest.raises(UnknownNameError) as unknown:
        plot_sched(report_runs.steps(), ["momentun"])
    assert str(unknown.value) == "There is no hyper-parameter 'momentun'. Known: 'lr', 'beta1', 'weight_decay'."
    with pytest.raises(UsageError) as few:
        plot_sched(report_runs.steps(), ["lr", "beta1"], axes=[pyplot.subplots()[1]])
    assert str(few.value) == "plot_sched got 1 axes for 2 hyper-parameters (lr, beta1). Give one for each."
    with pytest.raises(UsageError) as unequal:
        plot_lr_find([0.1], [])
    assert str(unequal.value) == "plot_lr_find got 1 learning rates and 0 losses; it needs one loss for each of at least one rate."
    with pytest.raises(UsageError) as names:
        plot_confusion(report_runs.evaluation(), ["cat"])
    assert str(names.value) == "plot_confusion got 1 class names for a matrix of 3 classes. Give one name for each class."


def test_figures_need_no_torch() -> None:
    code = (
        "import sys; from convscope.records import Range, StepRecord; from convscope.show.curves import plot_loss; "
        "plot_loss([StepRecord(0, 0, 0.0, Range.of(1.0))]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"MPLBACKEND": "Agg"})
    assert done.stdout == "False\n"
