"""Good and bad training side by side: shipped pairs of real runs (tools/lab_pairs.py made them), and any runs of the learner's own. No torch."""

from __future__ import annotations

import json
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


def shipped() -> bytes:
    """The pairs that come with the package: JSON, compressed by gzip."""
    return (resources.files("convscope.lab") / "pairs.json.gz").read_bytes()


def side(log: RunLog, columns: int = COLUMNS, kinds: tuple[str, ...] = ()) -> dict[str, Any]:
    """What one side shows of a run's log: its curves, its layers (all, or those of some kinds), its verdict, its last losses.

    "layer" is the one to look at first: the last activation, where what went wrong on the way has added up.
    """
    series = Series(columns)
    layers = [layer for layer in series.layers(log) if not kinds or layer["kind"] in kinds]
    verdict = verdict_to_json(diagnose_log(log))
    epochs = log.epochs()
    activations = [layer["layer"] for layer in layers if layer["kind"].lower() == "relu"]
    return {
        "steps": series.steps(log),
        "layers": layers,
        "layer": (activations or [layer["layer"] for layer in layers] or [None])[-1],
        "verdict": verdict["verdict"],
        "findings": verdict["findings"],
        "valid_loss": epochs[-1].valid_loss if epochs else None,
        "train_loss": epochs[-1].train_loss if epochs else None,
    }


def pair_of(words: dict[str, Any], sides: list[dict[str, Any]]) -> dict[str, Any]:
    """Sides under their words, with the settings in which they differ."""
    names = list(dict.fromkeys(name for one in sides for name in one["settings"]))
    differs = [name for name in names if len({json.dumps(one["settings"].get(name)) for one in sides}) > 1]
    return {**words, "differs": differs, "layer": sides[0]["layer"], "sides": sides}


def of_runs(runs: list[RunDir]) -> dict[str, Any]:
    """One pair (or more than two sides) of runs of the learner's own.

    Raises:
        Refused: there are too few or too many.
    """
    if not 2 <= len(runs) <= MOST_RUNS:
        raise Refused(400, f"{len(runs)} runs cannot be compared.", f"Choose 2 to {MOST_RUNS}.")
    sides = []
    for run in runs:
        row, settings = row_of(run), settings_of(run.read_config()) or {}
        with RunLog.read(run.log) as log:
            known = {name: row[name] for name in ("accuracy", "state", "message")}
            sides.append(
                {"name": run.path.name, "run": run.path.name, "seed": settings.get("seed"), "settings": settings, **known, **side(log)}
            )
    title = " and ".join(run.path.name for run in runs)
    return {"pairs": [pair_of({"id": "runs", "title": title, "question": None, "explanation": None}, sides)]}
