"""Loading a CSV of ratings of 1, 3 and 10 million rows: `python benchmarks/ratings_rows.py [--rounds 1]`.

Claim: time and memory grow with the rows alone: a row of the largest file takes at most 1.5 times the time and 1.25 times the memory of a row of
the smallest (what fits in the processor's cache is faster, and sorting is a little more than linear). The ratings are made up: 100 a user of 20,000
items, with a timestamp. Each load is a process of its own; time is the processor's. Memory is the peak above what the imports took. The files are
kept in a temporary folder and deleted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import keep, spread

ROWS = (1_000_000, 3_000_000, 10_000_000)
ITEMS, RATINGS_A_USER, PIECE = 20_000, 100, 100_000
BOUNDS = {"time_ratio": 1.5, "memory_ratio": 1.25}
KILOBYTE = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss in bytes


def write(path: Path, rows: int) -> None:
    """Ratings in the order of time, as a log would have them; some pairs come twice."""
    random = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        file.write("user,item,rating,timestamp\n")
        for first in range(0, rows, PIECE):
            users, items = random.integers(0, rows // RATINGS_A_USER, PIECE), random.integers(0, ITEMS, PIECE)
            ratings, times = random.integers(1, 11, PIECE) / 2, np.arange(first, first + PIECE) + 1_000_000_000
            columns = (column.tolist() for column in (users, items, ratings, times))
            file.writelines(f"{user},{item},{rating},{when}\n" for user, item, rating, when in zip(*columns, strict=True))


def load(path: Path) -> dict[str, Any]:
    """Load one file in this process."""
    from convscope.data import load_ratings

    before, begin = _peak(), time.process_time()
    data = load_ratings(path, split="time")
    seconds = time.process_time() - begin
    return {"seconds": seconds, "megabytes": (_peak() - before) / 1e6, "ratings": data.train.count + data.valid.count}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--load", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        print(json.dumps(load(arguments.load)))
        return
    found: dict[int, list[dict[str, Any]]] = {rows: [] for rows in ROWS}
    with tempfile.TemporaryDirectory() as folder:
        for rows in ROWS:
            write(path := Path(folder) / f"{rows}.csv", rows)
            for _ in range(arguments.rounds):
                command = [sys.executable, __file__, "--load", str(path)]
                done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
                found[rows].append(result := json.loads(done.stdout))
                print(f"{rows:>12,} rows: {result['seconds']:.1f} s, {result['megabytes']:.0f} MB", flush=True)
            path.unlink()
    report(found)


def report(found: dict[int, list[dict[str, Any]]]) -> None:
    """Print what a row takes in the largest file beside the smallest, and keep everything."""
    seconds, megabytes = (
        {rows: spread([one[what] for one in results]) for rows, results in found.items()} for what in ("seconds", "megabytes")
    )
    first, last = ROWS[0], ROWS[-1]
    ratios = {
        "time_ratio": seconds[last]["median"] / seconds[first]["median"] * first / last,
        "memory_ratio": megabytes[last]["median"] / megabytes[first]["median"] * first / last,
    }
    for what, ratio in ratios.items():
        print(f"{what} of a row, {last:,} to {first:,}: {ratio:.2f}; bound {BOUNDS[what]}: {'holds' if ratio <= BOUNDS[what] else 'FAILS'}")
    keep("ratings_rows", {"bounds": BOUNDS, **ratios, "cpu_seconds": seconds, "megabytes": megabytes, "rows": ROWS})


if __name__ == "__main__":
    main()
