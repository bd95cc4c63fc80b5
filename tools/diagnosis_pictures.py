"""Pictures for docs/diagnoses.md: each name as it looks in a real run of the development benchmark.

    python tools/diagnosis_pictures.py --work DIR [--repeats N --first-seed N]

DIR is where benchmarks/diagnose.py keeps its runs; docs/images/diagnosis-NAME.png are written.

For each name the first harmful run is taken in which it was named first (or, where there is none, in which it was said at all), and the figure that proves it
is drawn; a healthy run of the same kind is grey.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
matplotlib.use("Agg")

from diagnose_score import Scored, scored  # noqa: E402
from matplotlib import pyplot as plt  # noqa: E402

from convscope.diagnose import NAMES  # noqa: E402
from convscope.diagnose.rules.layers import beyond, kind_of, relative_gradient, squashed_layers  # noqa: E402
from convscope.diagnose.view import RunView, number  # noqa: E402
from diagnose import identity, kept  # noqa: E402

RED, GREY, BLUE = "#c0392b", "#9aa3ad", "#2563a8"
Drawing = Callable[[Axes, RunView, str], None]


def some(names: Sequence[str]) -> Sequence[str]:
    """At most five layers, evenly chosen."""
    return names[:: -(-len(names) // 5) or 1]


def loss(axes: Axes, view: RunView, colour: str) -> None:
    """Training loss, and that of guessing."""
    values = [max(1e-3, min(loss, 1e4)) for _, loss in view.losses]
    axes.plot([step for step, _ in view.losses], values, color=colour, lw=1)
    if colour == RED and view.guessing:
        axes.axhline(view.guessing, color="black", lw=0.8, ls=":")
        axes.text(0.99, view.guessing, "guessing", ha="right", va="bottom", fontsize=7, transform=axes.get_yaxis_transform())
    axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="training loss")


def updates(axes: Axes, view: RunView, colour: str) -> None:
    """Size of a step over the size of the weights; 1e-3 is usual."""
    points = [(step, ratio) for step, ratio in view.median_ratios if ratio > 0]
    axes.plot([step for step, _ in points], [ratio for _, ratio in points], color=colour, lw=1)
    axes.axhspan(3e-4, 1e-2, color="#dfeadf", zorder=0)
    axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="update / weight")


def rates(axes: Axes, view: RunView, colour: str) -> None:
    """The learning rate."""
    axes.plot([step for step, _ in view.learning_rates], [rate for _, rate in view.learning_rates], color=colour, lw=1)
    axes.set(xlabel="step", ylabel="learning rate")


def norms(axes: Axes, view: RunView, colour: str) -> None:
    """The gradient's size."""
    seen = [(s.first_step, s.gradient_norm.maximum) for s in view.steps if s.gradient_norm and 0 < s.gradient_norm.maximum < 1e12]
    axes.plot([step for step, _ in seen], [norm for _, norm in seen], color=colour, lw=1)
    axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="gradient norm")


def spread(axes: Axes, view: RunView, colour: str) -> None:
    """Spread of each weighted layer's values over time."""
    for name in some(view.weighted_layers):
        points = [(r.first_step, r.std) for r in view.layers[name] if 0 < r.std < 1e12]
        axes.plot([step for step, _ in points], [std for _, std in points], color=colour, lw=0.8, alpha=0.8)
    axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="spread of each layer")


def depth(axes: Axes, view: RunView, colour: str) -> None:
    """Spread of the values by depth before training."""
    stds = [max(view.layers[name][0].std, 1e-6) for name in view.weighted_layers]
    axes.plot(range(1, len(stds) + 1), stds, "o-", color=colour, ms=4, lw=1)
    axes.set_yscale("log")
    axes.set(xlabel="layer, first to last", ylabel="spread at step 0")


def gradients(axes: Axes, view: RunView, colour: str) -> None:
    """Gradient over weight by depth in the first steps."""
    values = [max(relative_gradient(view.layers[name][:10]), 1e-14) for name in view.weighted_layers]
    axes.plot(range(1, len(values) + 1), values, "o-", color=colour, ms=4, lw=1)
    axes.set_yscale("log")
    axes.set(xlabel="layer, first to last", ylabel="gradient / weight")


def zeros(axes: Axes, view: RunView, colour: str) -> None:
    """Share of zeros that each ReLU layer hands on."""
    for name in some([name for name, records in view.layers.items() if kind_of(records) == "relu"]):
        points = [(r.first_step, 100 * r.share_zero) for r in view.layers[name] if r.sample_count]
        axes.plot([step for step, _ in points], [value for _, value in points], color=colour, lw=0.8)
    axes.set(xlabel="step", ylabel="zeros, % of each ReLU", ylim=(-3, 103))


def flat(axes: Axes, view: RunView, colour: str) -> None:
    """Share of what enters tanh or sigmoid in the flat part."""
    for records, limit in squashed_layers(view).values():
        points = [(r.first_step, 100 * beyond(r, limit)) for r in records if r.sample_count]
        axes.plot([step for step, _ in points], [value for _, value in points], color=colour, lw=0.8)
    axes.set(xlabel="step", ylabel="in the flat part, %", ylim=(-3, 103))


def accuracies(axes: Axes, view: RunView, colour: str) -> None:
    """Right on training images, and on new ones."""
    for kind, style in (("fit", "-"), ("validation", "o--")):
        seen = [o for o in view.seen(kind) if math.isfinite(number(o, "accuracy")) and (kind != "fit" or number(o, "samples") >= 30)]
        axes.plot([o.step for o in seen], [100 * number(o, "accuracy") for o in seen], style, color=colour, ms=4, lw=1)
    axes.set(xlabel="step", ylabel="right, % (dots: new images)", ylim=(-3, 103))


def answers(axes: Axes, view: RunView, colour: str) -> None:
    """Share of the most frequent answer on new images."""
    seen = [o for o in view.seen("validation") if math.isfinite(number(o, "largest_answer"))]
    axes.plot([o.step for o in seen], [100 * number(o, "largest_answer") for o in seen], "o-", color=colour, ms=4, lw=1)
    axes.set(xlabel="step", ylabel="most frequent answer, %", ylim=(-3, 103))


FIGURES: dict[str, Drawing] = {
    "lr_too_high": updates,
    "lr_too_low": updates,
    "lr_schedule_collapsed": rates,
    "exploding_gradients": norms,
    "grads_not_cleared": norms,
    "activation_collapse_cycles": spread,
    "bad_initial_scale": depth,
    "input_not_normalised": depth,
    "vanishing_signal": gradients,
    "dead_units": zeros,
    "saturated_units": flat,
    "overfitting": accuracies,
    "labels_look_random": accuracies,
    "label_noise": accuracies,
    "batchnorm_unreliable": accuracies,
    "wrong_mode": accuracies,
    "one_class": answers,
}


def draw(name: str, view: RunView, healthy: RunView | None, target: Path) -> None:
    """One picture: the faulty run in red on the healthy one in grey."""
    figure, axes = plt.subplots(figsize=(3.6, 2.1), dpi=96)
    drawing = FIGURES.get(name, loss)
    for one, colour in ((healthy, GREY), (view, RED)):
        if one is not None:
            drawing(axes, one, colour)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)
    axes.xaxis.label.set_size(8)
    axes.yaxis.label.set_size(8)
    axes.set_title(name, fontsize=9, loc="left")
    figure.tight_layout()
    figure.savefig(target)
    plt.close(figure)


def best_example(name: str, runs: list[Scored]) -> Scored | None:
    """A harmful run that was planted so and named so first; else one in which it was said."""
    said = [r for r in runs if name in [f.name for f in r.verdict.findings]]
    planted = [r for r in said if r.case.fault == name]
    return next(iter([r for r in planted if r.harmful and r.names()[:1] == [name]] or planted or said), None)


def main() -> None:
    """Draw every name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--first-seed", type=int, default=0)
    arguments = parser.parse_args()
    runs = scored(arguments.work, arguments.repeats, arguments.first_seed)
    folder = ROOT / "docs" / "images"
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        example = best_example(name, runs)
        if example is None:
            print(f"{name}: no run shows it")
            continue
        twins = [r for r in runs if r.healthy and r.case.settings.arch == example.case.settings.arch]
        twins = sorted(twins, key=lambda r: (r.case.strength != "base", r.case.settings.data != example.case.settings.data))
        views = [RunView.of(*kept(arguments.work / "records" / f"{identity(r.case.settings)}.json.gz")) for r in (example, *twins[:1])]
        target = folder / f"diagnosis-{name}.png"
        draw(name, views[0], views[1] if len(views) > 1 else None, target)
        print(
            f"{name}: {example.case.key}, {target.stat().st_size / 1000:.0f} kB, {statistics.fmean([example.accuracy]):.2f} against {example.twin:.2f}"
        )


if __name__ == "__main__":
    main()
