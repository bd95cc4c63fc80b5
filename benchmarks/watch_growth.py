"""What a long run costs in memory and on disk: a million recorded steps of one layer.

Claims: the file and the process do not grow after the first merge, and the merged moments and histogram are those of one pass over everything.
Run `python benchmarks/watch_growth.py [--steps 1000000]`; results go to benchmarks/results/watch_growth.json.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path

import numpy

from convscope.columns import ROW, LayerColumns
from convscope.records import Range, StepRecord
from convscope.runlog import RunLog, merge_all

ROWS = 16  # steps in one drain, as in a real run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    steps = parser.parse_args().steps
    rng = numpy.random.default_rng(0)
    sizes, means, squares = [], [], []
    histogram = numpy.zeros(60, dtype=numpy.int64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log.sqlite")
        log = RunLog.create(path)
        for start in range(0, steps, ROWS):
            count = min(ROWS, steps - start)
            rows = numpy.zeros(count, dtype=ROW)
            rows["first_step"] = rows["last_step"] = numpy.arange(start, start + count)
            rows["count"], rows["records"], rows["sample_count"] = 1000, 1, 60
            rows["mean"], rows["m2"] = rng.normal(100, 1, count), rng.uniform(1, 2, count)
            bins = rng.integers(0, 3, (count, 60))
            means.append(rows["mean"].copy())
            squares.append(rows["m2"].copy())
            histogram += bins.sum(0)
            log.columns(LayerColumns("2.0", "Conv2d", 0.05, rows, 200, bins, numpy.zeros((count, 0), dtype=numpy.uint8)))
            for step in range(start, start + count):
                log.step(StepRecord(step, step, math.nan, Range.of(float(step))))
            if start % (steps // 20 // ROWS * ROWS or ROWS) == 0:
                log.flush()
                sizes.append((start, path.stat().st_size, len(log.layer_columns("2.0"))))
        whole, lossy = merge_all(log.layers()["2.0"]), merge_all(log.steps())
        log.close()
        final = path.stat().st_size
    every, within = numpy.concatenate(means), numpy.concatenate(squares)
    exact = float(every.mean())
    m2 = float(within.sum() + 1000 * ((every - exact) ** 2).sum())
    result = {
        "steps": steps,
        "file bytes by step": sizes,
        "file bytes at the end": final,
        "relative error of the mean": abs(whole.mean - exact) / exact,
        "relative error of m2": abs(whole.m2 - m2) / m2,
        "histogram equal": list(whole.histogram.counts) == histogram.tolist(),
        "count equal": whole.count == 1000 * steps,
        "losses counted": lossy.loss.count == steps,
    }
    print(json.dumps(result))
    target = Path(__file__).with_name("results") / "watch_growth.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
