"""A folder of 70,000 small PNG files, trained on from a cold start, against fastai 2.8's DataBlock: `python benchmarks/folder.py [--rounds 3]`.

Claims: the first epoch, decoding included, is at least 4 times as fast, and the second at least 10 times. Both sides train the book's net B with
batch norm on MNIST written as PNG files in training/ and testing/, batch 512, 1cycle with lr 0.06, 2 epochs, each with a validation pass, no
augmentation, on the CPU. Each run is a process of its own, begun without a cache; time begins after the imports, with the listing of the files.
The two take turns. Processor time of all their processes is reported too, which a busy machine disturbs less. fastai loads by worker processes,
as many as it chooses. Its environment is made in a temporary folder and deleted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import keep, make_environment, result_of, spread
from folder_fastai import by_clock, now, span

BATCH, LR, EPOCHS = 512, 0.06, 2
FASTAI = "fastai==2.8.*"
BOUNDS = {"first": 4.0, "second": 10.0}
HERE = Path(__file__).parent


def write_mnist(folder: Path) -> None:
    """MNIST as PNG files: training/DIGIT/INDEX.png and testing/DIGIT/INDEX.png."""
    from PIL import Image

    from convscope.data.shipped import read_mnist

    for split, stem in (("training", "train"), ("testing", "t10k")):
        digits = read_mnist(stem)
        for label in range(10):
            (folder / split / str(label)).mkdir(parents=True)
        for index, (image_CHW, label) in enumerate(zip(digits.images_NCHW, digits.labels_N.tolist(), strict=True)):
            Image.fromarray(image_CHW[0]).save(folder / split / str(label) / f"{index}.png")


def ours(folder: Path) -> dict[str, Any]:
    """One cold run of convscope in this process; the environment names an empty cache."""
    import convscope as cs

    class Clock(cs.Callback):
        ends: list[tuple[float, float]] = []  # noqa: RUF012

        def after_epoch(self, learner: cs.Learner) -> None:
            self.ends.append(now())

    begin = now()
    data = cs.load_data(folder, BATCH, augment=False)
    loaded = now()
    learner = cs.Learner(data, cs.simple_cnn(), callbacks=[clock := Clock()], seed=0, device="cpu")
    learner.fit_one_cycle(EPOCHS, lr_max=LR)
    spans = [span(*pair) for pair in itertools.pairwise([begin, *clock.ends])]
    return {**by_clock(spans), "load_data": span(begin, loaded)[0], "accuracy": learner.validation.metrics["accuracy"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fastai-python", type=Path, help="interpreter of an environment that has fastai; made and deleted when left out")
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        print(json.dumps(ours(arguments.ours)))
        return
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "fastai": []}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write_mnist(place / "mnist_png")
        fastai_python = arguments.fastai_python or make_environment(place / "environment", [FASTAI], uv=True)
        for number in range(arguments.rounds):
            sides = {
                "ours": (Path(sys.executable), [__file__, "--ours", str(place / "mnist_png")]),
                "fastai": (fastai_python, [str(HERE / "folder_fastai.py"), str(place / "mnist_png"), str(BATCH), str(LR), str(EPOCHS)]),
            }
            for side in sorted(sides, reverse=number % 2 == 0):
                busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # others on the machine make any number here doubtful
                result = {**result_of(*sides[side], CONVSCOPE_CACHE=str(place / f"cache{number}")), "load_average_before": busy}
                runs[side].append(result)
                print(f"round {number + 1}, {side}: epochs {', '.join(f'{seconds:.1f} s' for seconds in result['seconds'])}", flush=True)
    report(runs)


def report(runs: dict[str, list[dict[str, Any]]]) -> None:
    """Print the ratios beside their bounds and keep everything."""
    ratios = {}
    for clock in ("seconds", "processor_seconds"):
        for epoch, (name, bound) in enumerate(BOUNDS.items()):
            pairs = zip(runs["fastai"], runs["ours"], strict=True)
            ratio = ratios[f"{name} epoch, {clock}"] = spread([theirs[clock][epoch] / own[clock][epoch] for theirs, own in pairs])
            verdict = ("holds" if ratio["median"] >= bound else "FAILS") if clock == "seconds" else "not judged"
            extent = f"median {ratio['median']:.1f} times, {ratio['min']:.1f} to {ratio['max']:.1f}, n {ratio['n']}"
            print(f"{name} epoch, {clock}: {extent}; bound {bound}: {verdict}")
    seconds = {
        side: {name: spread([result["seconds"][epoch] for result in results]) for epoch, name in enumerate(BOUNDS)}
        for side, results in runs.items()
    }
    seconds["ours"]["load_data"] = spread([result["load_data"] for result in runs["ours"]])
    keep(
        "folder",
        {
            "bounds": BOUNDS,
            "ratios": ratios,
            "seconds": seconds,
            "accuracy": {side: [result["accuracy"] for result in results] for side, results in runs.items()},
            "load_average_before": {side: [result["load_average_before"] for result in results] for side, results in runs.items()},
            "fastai": runs["fastai"][0]["versions"],
            "settings": {"images": 70_000, "batch": BATCH, "lr": LR, "epochs": EPOCHS, "augment": False},
        },
    )


if __name__ == "__main__":
    main()
