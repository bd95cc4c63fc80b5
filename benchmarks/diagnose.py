"""The diagnosis benchmark: run planted faults, twins and healthy controls; score the verdicts.

    python benchmarks/diagnose.py run --work DIR [--repeats 4] [--minutes 60]     resumable; two processes, one thread each
    python benchmarks/diagnose.py score --work DIR [--list]                       rules are asked again on the kept records, nothing is trained
    python benchmarks/diagnose.py repair --work DIR [--most 60]                   the suggested change against a random one from the same menu

Each finished run is one line of DIR/runs.jsonl, its records one compressed file in DIR/records. A run without its twin is not scored.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import gzip
import hashlib
import json
import multiprocessing
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from diagnose_faults import plan
from diagnose_programs import Program, Settings, accuracy, build, train

from convscope.records import Histogram, LayerStats, Observation, StepRecord, from_json, to_json
from convscope.runlog import RunLog
from convscope.watch.recording import Recording

Records = tuple[list[StepRecord], list[LayerStats], list[Observation]]
WORKERS = 2


def identity(settings: Settings) -> str:
    """A short name for everything about a run; a setting that came later counts only when it is used, so that older runs keep their names."""
    values = dataclasses.asdict(settings)
    if not values["class_weights"]:
        del values["class_weights"]
    if values["pretrained"] and values["held"] != "all":
        values["pretrained"] = "whole"  # the first version trained only the held part beforehand
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def watched(program: Program) -> Records:
    """Train under the watcher and return what it recorded."""
    log = RunLog.create()
    recording = Recording({"": program.model}, log)
    recording.open()
    try:
        train(program)
    finally:
        recording.close()
    return log.steps(), [record for records in log.layers().values() for record in records], log.observations()


LAYER_FIELDS = tuple(field.name for field in dataclasses.fields(LayerStats))


def keep(records: Records, path: Path) -> None:
    """Write records to a compressed file; layers as rows of values, because there are thousands."""
    steps, layers, observations = records
    rows = [[_plain(getattr(record, name)) for name in LAYER_FIELDS] for record in layers]
    text = json.dumps([[to_json(step) for step in steps], LAYER_FIELDS, rows, [to_json(one) for one in observations]])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 1))


def kept(path: Path) -> Records:
    """Read them again; fields that no longer exist are left out."""
    gc.disable()  # a hundred thousand small objects that all stay: looking for garbage among them takes a third of the time
    try:
        return _read(path)
    finally:
        gc.enable()


def _read(path: Path) -> Records:
    steps, names, rows, observations = json.loads(gzip.decompress(path.read_bytes()))
    columns = {
        name: [_READ[name](row[at]) if name in _READ else row[at] for row in rows] for at, name in enumerate(names) if name in LAYER_FIELDS
    }
    return (
        [from_json(StepRecord, one) for one in steps],
        [LayerStats(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)],
        [from_json(Observation, one) for one in observations],
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Histogram):
        return [value.first, value.counts]
    return value.hex() if isinstance(value, bytes) else value


_READ: dict[str, Callable[[Any], Any]] = {
    "histogram": lambda value: Histogram(value[0], tuple(value[1])),
    "positive": bytes.fromhex,
    "sampled": tuple,
}


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
            keep(watched(program), Path(work) / "records" / f"{name}.json.gz")
        else:
            train(program)
        return {"key": key, "id": name, "watched": watch, "accuracy": accuracy(program), "seconds": round(time.perf_counter() - started, 2)}
    except Exception as error:  # the benchmark goes on; the failure is reported in the table
        return {"key": key, "id": name, "watched": watch, "error": repr(error), "seconds": round(time.perf_counter() - started, 2)}


def finished(work: Path) -> dict[tuple[str, bool], dict[str, Any]]:
    """Lines already written, by (settings, watched); failed runs are tried again."""
    path = work / "runs.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines() if line] if path.exists() else []
    return {(line["id"], line["watched"]): line for line in lines if "error" not in line}


def tasks(work: Path, repeats: int, first_seed: int) -> Iterator[tuple[str, Settings, str, bool]]:
    """What is still to be run: each case, and its twin right after it."""
    done = set(finished(work))
    for case in plan(repeats, first_seed):
        wanted = [(case.key, case.settings, True)] + ([(f"twin of {case.key}", case.twin, False)] if case.twin else [])
        for key, settings, watch in wanted:
            if (identity(settings), watch) not in done and not (not watch and (identity(settings), True) in done):
                done.add((identity(settings), watch))
                yield key, settings, str(work), watch


def run(work: Path, repeats: int, first_seed: int, minutes: float, most: int, workers: int = WORKERS) -> None:
    """Run what is missing."""
    work.mkdir(parents=True, exist_ok=True)
    ends, todo = time.monotonic() + 60 * minutes, list(tasks(work, repeats, first_seed))[:most]
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
    parser.add_argument("what", choices=["run", "score", "repair"])
    parser.add_argument("--work", type=Path, required=True, help="folder for records and results, outside of the repository")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument(
        "--first-seed",
        type=int,
        default=0,
        help="0: the runs that rules are tuned on; 2 to 5: runs that were looked at later; 6: the held-out runs",
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--most", type=int, default=1_000_000, help="run at most so many")
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--list", action="store_true", help="list every miss and false alarm")
    arguments = parser.parse_args()
    if arguments.what == "repair":
        from diagnose_repair import repair

        print(repair(arguments.work, arguments.repeats, arguments.first_seed, arguments.most, arguments.minutes))
    elif arguments.what == "run":
        run(arguments.work, arguments.repeats, arguments.first_seed, arguments.minutes, arguments.most, arguments.workers)
    else:
        from diagnose_score import report

        print(report(arguments.work, arguments.repeats, arguments.first_seed, full=arguments.list))


if __name__ == "__main__":
    main()
