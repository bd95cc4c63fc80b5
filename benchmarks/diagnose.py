"""The diagnosis benchmark: run planted faults, twins and healthy controls; score the verdicts.

    python benchmarks/diagnose.py run --work DIR [--repeats 4] [--minutes 60]     resumable; two processes, one thread each
    python benchmarks/diagnose.py score --work DIR [--scale 2] [--list]           rules are asked again on the kept logs, nothing is trained

Each finished run is one line of DIR/runs.jsonl, its log one file in DIR/logs. A run without its twin is not scored.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import multiprocessing
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from diagnose_faults import plan
from diagnose_programs import Program, Settings, accuracy, build, train

from convscope.records import LayerStats, Observation, StepRecord, from_json, to_json

Records = tuple[list[StepRecord], list[LayerStats], list[Observation]]
WORKERS = 2


def identity(settings: Settings) -> str:
    """A short name for everything about a run."""
    return hashlib.sha256(json.dumps(dataclasses.asdict(settings), sort_keys=True).encode()).hexdigest()[:16]


def watched(program: Program, path: Path) -> None:
    """Train under the watcher, which writes its log to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    log = RunLog.create(path)
    recording = Recording({"": program.model}, log)
    recording.open()
    try:
        train(program)
    finally:
        recording.close()
        log.close()


def one_run(task: tuple[str, Settings, str, bool]) -> dict[str, Any]:
    """Train once; in a process of its own."""
    import torch

    key, settings, work, watch = task
    torch.set_num_threads(1)
    started, name = time.perf_counter(), identity(settings)
    try:
        program = build(settings)
        torch.manual_seed(settings.seed + 1)
        if watch:
            watched(program, Path(work) / "logs" / f"{name}.sqlite")
        else:
            train(program)
        return {"key": key, "id": name, "watched": watch, "accuracy": accuracy(program), "seconds": round(time.perf_counter() - started, 2)}
    except Exception as error:  # the benchmark goes on; the failure is reported in the table
        return {"key": key, "id": name, "watched": watch, "error": repr(error), "seconds": round(time.perf_counter() - started, 2)}


def finished(work: Path) -> dict[tuple[str, bool], dict[str, Any]]:
    """Lines already written, by (settings, watched)."""
    path = work / "runs.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines() if line] if path.exists() else []
    return {(line["id"], line["watched"]): line for line in lines}


def tasks(work: Path, repeats: int) -> Iterator[tuple[str, Settings, str, bool]]:
    """What is still to be run: each case, and its twin right after it."""
    done = set(finished(work))
    for case in plan(repeats):
        wanted = [(case.key, case.settings, True)] + ([(f"twin of {case.key}", case.twin, False)] if case.twin else [])
        for key, settings, watch in wanted:
            if (identity(settings), watch) not in done and not (not watch and (identity(settings), True) in done):
                done.add((identity(settings), watch))
                yield key, settings, str(work), watch


def run(work: Path, repeats: int, minutes: float, most: int, workers: int = WORKERS) -> None:
    """Run what is missing."""
    work.mkdir(parents=True, exist_ok=True)
    ends, todo = time.monotonic() + 60 * minutes, list(tasks(work, repeats))[:most]
    print(f"{len(todo)} runs to do; {platform.machine()}, Python {platform.python_version()}")
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=60) as pool, (work / "runs.jsonl").open("a") as out:
        for at, line in enumerate(pool.imap_unordered(one_run, todo), 1):
            out.write(json.dumps(line) + "\n")
            out.flush()
            if at % 20 == 0 or "error" in line:
                print(at, line, flush=True)
            if time.monotonic() > ends:
                pool.terminate()
                break


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run", "score"])
    parser.add_argument("--work", type=Path, required=True, help="folder for records and results, outside of the repository")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--most", type=int, default=1_000_000, help="run at most so many")
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--list", action="store_true", help="list every miss and false alarm")
    arguments = parser.parse_args()
    if arguments.what == "run":
        run(arguments.work, arguments.repeats, arguments.minutes, arguments.most, arguments.workers)
    else:
        from diagnose_score import report

        print(report(arguments.work, arguments.repeats, arguments.scale, full=arguments.list))


if __name__ == "__main__":
    main()
