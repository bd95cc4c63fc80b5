"""The collapse run and the healthy run of the book's chapter 13, as the data of their figures: `python tests/golden/make.py` writes both files.

Both train net B on the ten digits for one epoch with batches of 512 and seed 3. The first has no batch norm and a constant learning rate of 0.06;
about six seeds in ten collapse so (benchmarks/results/chapter13.json), this one does. The second has batch norm and the 1cycle schedule.
What is kept is what the figures draw, read from matplotlib's Axes and rounded: never pixels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy
import torch

import convscope as cs
from convscope.records import LayerStats
from convscope.runlog import merged
from convscope.show import figures
from convscope.train.callback import Callback, CancelFit

HERE = Path(__file__).parent
RUNS = ("collapse", "healthy")
SEED, RATE, BATCH = 3, 0.06, 512
DIGITS = 4
STEPS, POINTS, COLUMNS = 117, 39, 13  # of the epoch; of curves and of pictures of histograms: three and nine steps each
STATISTICS = ("mean", "std", "near_zero")


class StopAfter(Callback):
    """Ends a fit after some steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def after_step(self, learner: cs.Learner) -> None:
        """Count."""
        if learner.step >= self.steps:
            raise CancelFit("enough")


def train(name: str, steps: int = STEPS) -> cs.Learner:
    """One of the two runs, or its first steps."""
    torch.manual_seed(SEED)
    network = cs.simple_cnn(norm=name == "healthy")
    data = cs.load_data("mnist", BATCH)
    learner = cs.Learner(data, network, callbacks=[cs.ActivationStats(), StopAfter(steps)], seed=SEED, device="cpu")
    if name == "collapse":
        learner.fit(1, RATE)
    else:
        learner.fit_one_cycle(1, RATE)
    return learner


def figure_data(layers: dict[str, list[LayerStats]], points: int = POINTS, columns: int = COLUMNS) -> dict[str, Any]:
    """What plot_layer_stats and color_dim draw of each layer."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = {}
    for name, records in layers.items():
        axes = figures.plot_layer_stats(merged(records, points))
        curves = {key: rounded(ax.lines[0].get_ydata()) for key, ax in zip(STATISTICS, axes, strict=True)}
        ax = figures.color_dim(merged(records, columns))
        counts = numpy.expm1(numpy.asarray(ax.collections[0].get_array())).T
        ticks = dict(zip((label.get_text() for label in ax.get_yticklabels()), ax.get_yticks().round(2).tolist(), strict=True))
        found[name] = {
            "kind": records[0].kind,
            **curves,
            "color_dim": [numpy.round(row).astype(int).tolist() for row in counts],
            "color_dim_ticks": ticks,
        }
        pyplot.close("all")
    return found


def rounded(values: Any) -> list[float | None]:
    """To `DIGITS` digits; what is no number becomes None."""
    return [float(f"{value:.{DIGITS}g}") if numpy.isfinite(value) else None for value in numpy.asarray(values, dtype=float)]


def golden(name: str) -> dict[str, Any]:
    """A run's file."""
    content: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    return content


def main() -> None:
    for name in RUNS:
        watch = train(name).activation_stats.watcher
        content = {
            "run": name,
            "made_by": "tests/golden/make.py",
            "torch": str(torch.__version__),
            "loss": rounded([record.loss.last for record in watch.steps()]),
            "layers": figure_data(watch.layers()),
        }
        text = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("],", "],\n")
        (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        print(f"{name}: {len(content['loss'])} steps, last loss {content['loss'][-1]}")


if __name__ == "__main__":
    main()
