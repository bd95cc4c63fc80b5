import matplotlib as mpl

mpl.use("Agg")

import itertools
import math

import pytest

from convscope.errors import UsageError
from convscope.records import Histogram, LayerStats
from convscope.show import figures


def layer(step, name="2.0", first=240, counts=(5, 10, 5), **more):
    return LayerStats(
        name, step, step, 20, 0.5, 2.0, -1.0, 2.0, kind="Conv2d", sample_count=20, near_zero_count=5,
        histogram=Histogram(first, counts), **more,
    )  # fmt: skip


def test_statistics_are_drawn_against_the_training_step():
    axes = figures.plot_layer_stats([layer(step) for step in range(4)])
    assert [ax.get_title() for ax in axes] == ["mean", "standard deviation", "|x| ≤ 0.05, % of values"]
    assert [list(ax.lines[0].get_ydata()) for ax in axes] == [[0.5] * 4, [math.sqrt(0.1)] * 4, [25.0] * 4]
    assert list(axes[0].lines[0].get_xdata()) == [0, 1, 2, 3]


def test_every_count_is_in_the_picture_negative_and_tiny_values_too():
    records = [
        layer(0, first=-250, counts=(7,)),
        layer(1, first=0, counts=(3,)),
        layer(2, first=250, counts=(4,)),
        layer(3, first=1, counts=(6,)),
    ]
    counts, rows = figures._image(records)
    assert counts.sum() == 20
    assert counts[0, rows.index(-250)] == 7
    assert counts[1, rows.index(0)] == 3
    assert counts[2, rows.index(250)] == 4
    assert counts[3, rows.index(0)] == 6  # 2**-126 is nothing beside 0.7
    assert rows == sorted(rows)


def test_labels_of_values_never_touch_each_other():
    wide = layer(0, first=-260, counts=(1,) * 520)
    for axes in (figures.plot_all({str(at): [wide] for at in range(7)}), [figures.color_dim([wide])]):
        axes[0].figure.canvas.draw()
        for ax in axes:
            boxes = sorted((label.get_window_extent() for label in ax.get_yticklabels()), key=lambda box: box.y0)
            assert len(boxes) >= 5
            assert all(one.y1 < two.y0 for one, two in itertools.pairwise(boxes))


def test_the_legend_of_nan_and_infinity_covers_nothing():
    for ax in (figures.color_dim([layer(0, nan_count=2)]), *figures.plot_all({str(at): [layer(0, nan_count=2)] for at in range(4)})):
        ax.figure.canvas.draw()
        legend, label = ax.get_legend().get_window_extent(), ax.xaxis.label.get_window_extent()
        assert legend.y1 < label.y0 < ax.get_window_extent().y0


def test_columns_that_held_nan_or_infinity_are_marked_with_a_legend():
    ax = figures.color_dim([layer(0), layer(1, nan_count=2), layer(2, inf_count=1), layer(3, non_finite=True)])
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == [
        "NaN: 2.5 % of the values looked at, first at step 1",
        "infinite: 1.2 % of the values looked at, first at step 2",
        "NaN or infinite, but not among the values looked at, first at step 3",
    ]
    assert figures.color_dim([layer(0)]).get_legend() is None


def test_there_is_exactly_one_panel_for_each_layer():
    for count in (1, 2, 3, 7):
        axes = figures.plot_all({str(name): [layer(0, str(name))] for name in range(count)})
        assert [ax.get_title() for ax in axes] == [f"{name} Conv2d" for name in range(count)]
        assert len(axes[0].figure.axes) == count


def test_updates_are_drawn_against_the_usual_size():
    ax = figures.plot_update_ratios({"2.0": [layer(0, update_ratio=0.01), layer(1, update_ratio=0.02)], "2.1": [layer(0)]})
    assert [line.get_label() for line in ax.lines] == ["2.0 Conv2d", "1e-3, usual in healthy training"]
    assert list(ax.lines[0].get_ydata()) == [0.01, 0.02]


def test_dead_units_are_counted_over_all_records():
    records = [layer(0, positive=b"\x01", channels=4, positive_samples=10), layer(1, positive=b"\x04", channels=4, positive_samples=10)]
    ax = figures.plot_dead_units({"2.0": records})
    assert [text.get_text() for text in ax.texts] == ["2 of 4 never positive in 20 images"]


def test_nothing_to_draw_is_told():
    for draw in (figures.plot_layer_stats, figures.color_dim):
        with pytest.raises(UsageError, match=r"^There is no record of a layer to draw: nothing was watched yet\."):
            draw([])
    with pytest.raises(UsageError, match=r"^No update of a layer's weights was measured"):
        figures.plot_update_ratios({"2.0": [layer(0)]})
