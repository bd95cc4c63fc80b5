"""What a long run costs in memory and on disk: `nice python benchmarks/watch_growth.py [--steps 1000000] [--watched 40000]`.

Claims: once a series is full (the first merge, at 2,000 rows), the log file and the process's resident memory stay flat; and the merged moments
and histogram of the whole run are those of one pass over every value.

Two runs, each in a process of its own, because memory that one freed would hide what the other takes:
    recorded    a million records of one layer and a million step records, fed to the log in the portions in which a Watcher hands them over.
                The reference is one pass over all of them in float64, with the mean subtracted first.
    watched     the real Watcher around a real loop with a tiny network. Its output is small enough to be looked at whole, so that the reference
                can add up every element the layer ever gave.
"Flat" compares the greatest size in the second half of the run with that in the first half, both after the first merge: a merge rewrites a series
and holds it twice for a moment. Counts are written with as many bytes as they need (1, 2, 4 or 8), so that a file of merged rows may grow a little
while its rows do not get more. Results go to results/watch_growth.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy
from common import keep

from convscope.columns import ROW, LayerColumns
from convscope.records import LayerStats, Range, StepRecord
from convscope.runlog import CAPACITY, RunLog, merge_all

PORTION = 16  # steps that a Watcher hands over together
LOOKS = 200  # how often file and memory are looked at
BINS, FIRST_BIN = 60, 200  # of the made-up histograms
ELEMENTS = 1000  # of the made-up outputs
FLAT_FILE = 1.10  # the greatest in the second half over that in the first
FLAT_MEMORY = 1.02
SAME_MOMENTS = 1e-9  # relative; float64 sums of a million terms, in another order


def resident() -> int:
    """Bytes of memory that this process holds now; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class Looks:
    """File size and memory by step."""

    def __init__(self, path: Path, steps: int) -> None:
        self.path, self.every, self.started = path, max(PORTION, steps // LOOKS // PORTION * PORTION), time.monotonic()
        self.rows: list[tuple[int, int, int]] = []

    def look(self, step: int) -> None:
        """Take a look when it is time."""
        if step % self.every == 0:
            files = (self.path, self.path.with_name(self.path.name + "-wal"))  # what is new lies in the second for a while
            self.rows.append((step, sum(file.stat().st_size for file in files if file.exists()), resident()))

    def summary(self) -> dict[str, Any]:
        """The greatest of both in the two halves of the run after the first merge, and every tenth look."""
        merged = [row for row in self.rows if row[0] > CAPACITY] or self.rows
        half = max(1, len(merged) // 2)
        found: dict[str, Any] = {"seconds": round(time.monotonic() - self.started, 1), "looks": len(self.rows)}
        for name, column in (("file", 1), ("memory", 2)):
            early, late = (max(row[column] for row in part) for part in (merged[:half], merged[-half:]))
            found[name] = {"early_bytes": early, "late_bytes": late, "ratio": late / early if early else None}
        return {**found, "step_file_memory": self.rows[:: max(1, len(self.rows) // 20)]}


def recorded(steps: int, path: Path) -> dict[str, Any]:
    """Feed made-up records to a log, and compare what it keeps with one pass over all of them."""
    rng, looks = numpy.random.default_rng(0), Looks(path, steps)
    means, squares = numpy.ones(steps), numpy.ones(steps)  # ones: the memory of zeros would only be taken when they are overwritten
    histogram = numpy.zeros(BINS, dtype=numpy.int64)
    log = RunLog.create(path)
    for start in range(0, steps, PORTION):
        count = min(PORTION, steps - start)
        rows = numpy.zeros(count, dtype=ROW)
        rows["first_step"] = rows["last_step"] = numpy.arange(start, start + count)
        rows["count"], rows["records"], rows["sample_count"] = ELEMENTS, 1, BINS
        rows["mean"], rows["m2"] = rng.normal(100, 1, count), rng.uniform(1, 2, count)
        bins = rng.integers(0, 3, (count, BINS))
        means[start : start + count], squares[start : start + count] = rows["mean"], rows["m2"]
        histogram += bins.sum(0)
        log.columns(LayerColumns("2.0", "Conv2d", 0.05, rows, FIRST_BIN, bins, numpy.zeros((count, 0), dtype=numpy.uint8)))
        for step in range(start, start + count):
            log.step(StepRecord(step, step, math.nan, Range.of(float(step)), {"lr": Range.of(0.1)}, Range.of(1.0), Range.of(0.01)))
        looks.look(start)
    layer, step = merge_all(log.layers()["2.0"]), merge_all(log.steps())
    rows_kept = len(log.layer_columns("2.0"))
    log.close()
    mean = float(means.mean())
    m2 = float(squares.sum() + ELEMENTS * ((means - mean) ** 2).sum())
    same = same_as_reference(layer, ELEMENTS * steps, mean, m2, histogram.tolist())
    return {"steps": steps, "rows_kept": rows_kept, "bytes_at_the_end": path.stat().st_size, **looks.summary(), **same} | {
        "losses_counted": step.loss.count,
        "loss_mean_error": abs(step.loss.mean / ((steps - 1) / 2) - 1),
    }


def watched(steps: int, path: Path) -> dict[str, Any]:
    """Watch a tiny network for many steps, and compare what the log keeps with every element its first layer gave."""
    import torch
    from torch import nn

    from convscope.watch import Watcher

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    inputs, targets = torch.randn(64, 16, 4), torch.randn(64, 16, 2)
    looks, outputs = Looks(path, steps), torch.ones(steps, 16, 8)

    def keep_output(_: nn.Module, __: tuple[object, ...], output: torch.Tensor) -> None:
        outputs[step].copy_(output.detach())

    model[0].register_forward_hook(keep_output)
    log = RunLog.create(path)
    with Watcher(model, log=log):
        for step in range(steps):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(inputs[step % 64]), targets[step % 64]).backward()
            optimizer.step()
            looks.look(step)
    layer, rows_kept = merge_all(log.layers()["0"]), len(log.layer_columns("0"))
    log.close()
    values = outputs.double().numpy().ravel()
    same = same_as_reference(layer, values.size, float(values.mean()), float(((values - values.mean()) ** 2).sum()), bins_of(values, layer))
    return {"steps": steps, "rows_kept": rows_kept, "bytes_at_the_end": path.stat().st_size, **looks.summary(), **same}


def bins_of(values: numpy.ndarray[Any, Any], layer: LayerStats) -> list[int]:
    """How many values lie in each bin that a record holds, by the definition in records.Histogram."""
    size = numpy.abs(values)
    mantissa, exponent = numpy.frexp(size)  # size = mantissa * 2**exponent, 0.5 <= mantissa < 1
    index = numpy.where(size < 2.0**-126, 0, 2 * (exponent - 1 + 126) + 1 + (mantissa >= 0.75)) * numpy.sign(values).astype(int)
    first = layer.histogram.first
    return [int((index == at).sum()) for at in range(first, first + len(layer.histogram.counts))]


def same_as_reference(layer: LayerStats, count: int, mean: float, m2: float, histogram: list[int]) -> dict[str, Any]:
    """How far a merged record is from one pass over everything."""
    return {
        "count_equal": layer.count == count,
        "histogram_equal": list(layer.histogram.counts) == histogram,
        "mean_error_in_std": abs(layer.mean - mean) / math.sqrt(m2 / count),
        "m2_relative_error": abs(layer.m2 / m2 - 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--watched", type=int, default=40_000)
    parser.add_argument("--part", choices=("recorded", "watched"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = {"recorded": arguments.steps, "watched": arguments.watched}
    with tempfile.TemporaryDirectory() as folder:
        if arguments.part:
            part = {"recorded": recorded, "watched": watched}[arguments.part]
            print(json.dumps(part(sizes[arguments.part], Path(folder, "log.sqlite"))))
            return
    results: dict[str, dict[str, Any]] = {}
    for name, steps in sizes.items():
        option = "--steps" if name == "recorded" else "--watched"
        done = subprocess.run([sys.executable, __file__, "--part", name, option, str(steps)], stdout=subprocess.PIPE, text=True, check=True)
        results[name] = json.loads(done.stdout)
        memory, file = results[name]["memory"]["ratio"], results[name]["file"]["ratio"]
        print(f"{name}: {steps:,} steps, file {file:.3f}, memory {memory:.3f} (late over early), {results[name]['rows_kept']} rows kept")
    holds = {
        name: result["count_equal"]
        and result["histogram_equal"]
        and result["mean_error_in_std"] < (SAME_MOMENTS if name == "recorded" else 1e-6)  # the Watcher adds up in float32
        and result["m2_relative_error"] < (SAME_MOMENTS if name == "recorded" else 1e-4)
        and result["file"]["ratio"] < FLAT_FILE
        and (result["memory"]["ratio"] or 1) < FLAT_MEMORY
        for name, result in results.items()
    }
    print(f"claims hold: {holds}")
    keep("watch_growth", {"bounds": {"file": FLAT_FILE, "memory": FLAT_MEMORY, "moments": SAME_MOMENTS}, "holds": holds, **results})


if __name__ == "__main__":
    main()
