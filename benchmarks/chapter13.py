"""The book chapter's table of training runs, run again with several seeds: `python benchmarks/chapter13.py [--seeds 3] [--collapse-seeds 10]`.

Each run's numbers go to results/chapter13.json as soon as it ends, and a second call goes on where the first stopped.
Each of the chapter's numbers is one unseeded run on a GPU; ours are the mean and standard deviation over seeds, on the processor named in the file.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from common import RESULTS, keep, spread

import convscope as cs
from convscope.data.batches import BatchLoader, Split
from convscope.data.preprocess import Preprocess
from convscope.train.callback import Callback

COLLAPSED = 0.2  # accuracy of ten digits below which a run counts as collapsed; always answering "1" gives 0.1135


@dataclass(frozen=True)
class Row:
    """One row of the chapter's table: how it is trained, and the chapter's (train loss, valid loss, accuracy) for each epoch it prints."""

    name: str
    network: dict[str, Any]
    batch_size: int
    epochs: int
    lr: float
    one_cycle: bool
    chapter: tuple[tuple[float | None, float | None, float], ...]
    digits: tuple[int, ...] = field(default=tuple(range(10)))
    collapses: bool = False


NET_A = {"channels": (4, 8, 16, 32), "first_kernel": 3, "norm": False, "in_channels": 1, "classes": 2}
PLAIN = {"norm": False}
BEFORE, AFTER = {"order": "conv-norm-act"}, {"order": "conv-act-norm"}
FIVE = ((None, None, 0.9609), (None, None, 0.9818), (None, None, 0.9871), (None, None, 0.9902), (None, None, 0.9912))
THREES_AND_SEVENS = ((0.072684, 0.045110, 0.990186), (0.022580, 0.030775, 0.990186))
ROWS = [
    Row("3s against 7s, net A, 1cycle 0.01", NET_A, 64, 2, 0.01, True, THREES_AND_SEVENS, (3, 7)),
    Row("ten digits, no batch norm, constant 0.06, batch 64", PLAIN, 64, 1, 0.06, False, ((2.307071, 2.305865, 0.1135),), collapses=True),
    Row("ten digits, no batch norm, constant 0.06, batch 512", PLAIN, 512, 1, 0.06, False, ((2.309385, 2.302744, 0.1135),), collapses=True),
    Row("no batch norm, 1cycle 0.06", PLAIN, 512, 1, 0.06, True, ((0.210838, 0.084827, 0.9743),)),
    Row("batch norm before ReLU, 1cycle 0.06", BEFORE, 512, 1, 0.06, True, ((0.130036, 0.055021, 0.9864),)),
    Row("batch norm after ReLU, 1cycle 0.06", AFTER, 512, 1, 0.06, True, ((0.130036, 0.055021, 0.9864),)),
    Row("batch norm before ReLU, 1cycle 0.1, 5 epochs", BEFORE, 512, 5, 0.1, True, FIVE),
    Row("batch norm after ReLU, 1cycle 0.1, 5 epochs", AFTER, 512, 5, 0.1, True, FIVE),
]


class SmoothLoss(Callback):
    """Keeps the smoothed training loss at the end of each epoch, which is what the chapter prints."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def after_validate(self, learner: cs.Learner) -> None:
        self.losses.append(learner.recorder.smooth_loss)


@cache
def data_of(digits: tuple[int, ...], batch_size: int, seed: int) -> cs.DataLoaders:
    """MNIST as the chapter uses it; of two digits only, its images are scaled to 0..1 and not normalised."""
    data = cs.load_data("mnist", batch_size, seed=seed)
    if len(digits) == 10:
        return data
    preprocess = Preprocess(1, 28, 28, (0.0,), (1.0,))

    def loader(source: BatchLoader, shuffle: bool) -> BatchLoader:
        split = source.split
        rows = torch.isin(split.labels_N, torch.tensor(digits)).nonzero().squeeze(1)
        labels = torch.searchsorted(torch.tensor(digits), split.labels_N[rows])
        return BatchLoader(
            Split(split.title, split.images_MCHW[rows], labels), preprocess, batch_size=batch_size, shuffle=shuffle, seed=seed
        )

    classes = tuple(map(str, digits))
    return cs.DataLoaders(loader(data.train, True), loader(data.valid, False), None, classes, "digits", "mnist", data.summary, preprocess)


def run(row: Row, seed: int) -> dict[str, Any]:
    """Train once."""
    torch.manual_seed(seed)
    smooth = SmoothLoss()
    learner = cs.Learner(
        data_of(row.digits, row.batch_size, seed), cs.simple_cnn(**row.network), callbacks=[smooth], seed=seed, device="cpu"
    )
    if row.one_cycle:
        learner.fit_one_cycle(row.epochs, row.lr)
    else:
        learner.fit(row.epochs, row.lr)
    epochs = learner.recorder.epochs
    return {
        "seed": seed,
        "train_loss": smooth.losses,
        "valid_loss": [epoch.valid_loss for epoch in epochs],
        "accuracy": [epoch.metrics["accuracy"] for epoch in epochs],
        "seconds": sum(epoch.seconds for epoch in epochs),
    }


def report(results: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """What is kept: for each row the chapter's numbers, ours, and their spread."""
    rows = []
    for row in ROWS:
        runs = results.get(row.name, [])
        if not runs:
            continue
        last = {key: [run[key][-1] for run in runs] for key in ("train_loss", "valid_loss", "accuracy")}
        rows.append(
            {
                "row": row.name,
                "chapter": row.chapter,
                "ours": {key: spread(values) for key, values in last.items()},
                "accuracy_by_epoch": [spread([run["accuracy"][epoch] for run in runs]) for epoch in range(row.epochs)],
                **({"collapsed": sum(value < COLLAPSED for value in last["accuracy"]), "of": len(runs)} if row.collapses else {}),
                "runs": runs,
            }
        )
    return {"rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--collapse-seeds", type=int, default=10)
    options = parser.parse_args()
    path = RESULTS / "chapter13.json"
    results: dict[str, list[dict[str, Any]]] = {}
    if path.exists():
        results = {row["row"]: row["runs"] for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}
    for row in ROWS:
        runs = results.setdefault(row.name, [])
        for seed in range(len(runs), options.collapse_seeds if row.collapses else options.seeds):
            runs.append(run(row, seed))
            keep("chapter13", report(results))
            print(f"{row.name:<52} seed {seed}  accuracy {runs[-1]['accuracy'][-1]:.4f}  chapter {row.chapter[-1][-1]:.4f}", flush=True)


if __name__ == "__main__":
    main()
