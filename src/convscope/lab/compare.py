"""Good and bad training side by side: shipped pairs of real runs (tools/lab_pairs.py made them), and any runs of the learner's own. No torch."""

from __future__ import annotations

import gzip
import json
from functools import cache
from importlib import resources
from typing import Any

from convscope.diagnose import diagnose_log, verdict_to_json
from convscope.lab.exchange import Refused
from convscope.lab.runs import row_of, settings_of
from convscope.lab.series import Series
from convscope.rundir import RunDir
from convscope.runlog import RunLog

MOST_RUNS = 4  # side by side
COLUMNS = 200  # of a picture, when several stand side by side


@cache
def shipped() -> dict[str, Any]:
    """The pairs that come with the package."""
    content = (resources.files("convscope.lab") / "pairs.json.gz").read_bytes()
    value: dict[str, Any] = json.loads(gzip.decompress(content))
    return value


def side(name: str, log: RunLog, columns: int = COLUMNS) -> dict[str, Any]:
    """One side of a pair, from a run's log: its curves, its layers, its verdict."""
    series = Series(columns)
    verdict = verdict_to_json(diagnose_log(log))
    return {"name": name, "steps": series.steps(log), "layers": series.layers(log), "verdict": verdict}


def of_runs(runs: list[RunDir]) -> dict[str, Any]:
    """One pair (or more than two sides) of runs of the learner's own.

    Raises:
        Refused: there are too few or too many.
    """
    if not 2 <= len(runs) <= MOST_RUNS:
        raise Refused(400, f"{len(runs)} runs cannot be compared.", f"Choose 2 to {MOST_RUNS}.")
    sides = []
    for run in runs:
        row, settings = row_of(run), settings_of(run.read_config())
        with RunLog.read(run.log) as log:
            known = {"settings": settings or {}, "accuracy": row["accuracy"], "state": row["state"], "message": row["message"]}
            sides.append({**side(run.path.name, log), **known})
    names = list(dict.fromkeys(name for one in sides for name in one["settings"]))
    differs = [name for name in names if len({json.dumps(one["settings"].get(name)) for one in sides}) > 1]
    title = " and ".join(run.path.name for run in runs)
    return {"pairs": [{"id": "runs", "title": title, "question": "", "explanation": "", "differs": differs, "sides": sides}]}
