"""The runs in one folder: which there are, how far each is, and what is known of one. No torch.

Run names come from the browser, so that each is looked up among the folder's own entries; no path is ever built from anything else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from convscope.diagnose import diagnose_log, verdict_to_json
from convscope.errors import ConvscopeError, RunError
from convscope.lab.exchange import Refused
from convscope.records import to_json
from convscope.rundir import NAME, RunDir, open_run
from convscope.runlog import RunLog

State = Literal["running", "finished", "stopped", "failed", "broken"]
ENDED: dict[str, State] = {"finished": "finished", "interrupted": "stopped", "failed": "failed"}  # what config.json says of a run that ended
SILENT_SECONDS = 120.0  # after which a run whose process is unknown is taken for dead; a log is flushed every half second, a checkpoint each 30


@dataclass(frozen=True, slots=True)
class RunsFolder:
    """The folder that holds runs; it need not exist yet."""

    path: Path

    def find(self, name: str) -> RunDir:
        """A run by its name.

        Raises:
            Refused: there is none; links that lead out of the folder are no runs of it.
        """
        if not NAME.fullmatch(name) or not (self.path / name / "config.json").is_file() or self._leaves(name):
            raise Refused(404, f"There is no run {name!r} in {self.path}.", "Choose one of the list.")
        return open_run(self.path / name)

    def names(self) -> list[str]:
        """The names of all runs, the newest first."""
        try:
            found = [entry for entry in os.scandir(self.path) if NAME.fullmatch(entry.name) and entry.is_dir()]
        except OSError:
            return []
        runs = [(config.stat().st_mtime, entry.name) for entry in found if (config := Path(entry.path) / "config.json").is_file()]
        return [name for _, name in sorted(runs, reverse=True)]

    def rows(self) -> list[dict[str, Any]]:
        """One line for each run; a run that cannot be read is listed as broken, with the reason."""
        return [self._row(name) for name in self.names()]

    def _row(self, name: str) -> dict[str, Any]:
        try:
            run = self.find(name)
            return row_of(run)
        except (ConvscopeError, Refused, KeyError, TypeError, AttributeError) as error:
            return {"run": name, "state": "broken", "message": f"{error}", "can_inspect": False}

    def _leaves(self, name: str) -> bool:
        return (self.path / name).resolve().parent != self.path.resolve()


def row_of(run: RunDir) -> dict[str, Any]:
    """What the list of runs shows of one."""
    config = run.read_config()
    result = config.get("result") or {}
    epochs = len(run.results.read_text(encoding="utf-8").splitlines()) - 1 if run.results.is_file() else 0
    return {
        "run": run.path.name,
        "state": state_of(run, config),
        "message": config.get("message"),
        "command": config.get("command"),
        "data": _get(config, "data", "source"),
        "model": _get(config, "model", "name"),
        "accuracy": result.get("accuracy"),
        "epochs_done": result.get("epochs", max(epochs, 0)),
        "epochs": _get(config, "train", "epochs"),
        "steps": result.get("steps"),
        "created": config.get("created"),
        "verdict": result.get("verdict"),
        "can_inspect": run.weights.is_file() and "classes" in config,
    }


def detail_of(run: RunDir) -> dict[str, Any]:
    """Everything that the lab shows of a run besides its curves.

    Raises:
        RunError: a file of it is damaged.
    """
    config = run.read_config()
    network, data, evaluation = run.network(), run.data(), run.evaluation()
    rows = network.rows if network else ()
    with RunLog.read(run.log) as log:
        epochs, verdict = log.epochs(), verdict_to_json(diagnose_log(log))
    return {
        **row_of(run),
        "config": config,
        "classes": config.get("classes", []),
        "image": list(data.image_shape) if data else list(network.input_shape) if network else None,
        "layers": [{"name": row.name, "kind": row.kind, "shape": list(row.output_shape), "parameters": row.parameters} for row in rows],
        "results": to_json(epochs),
        "evaluation": to_json(evaluation) and {**to_json(evaluation), "wrong": None},
        "verdict": verdict,
    }


def state_of(run: RunDir, config: dict[str, Any]) -> State:
    """How far a run is: what config.json says, and for a run that says it is running, whether its process still is."""
    status = config.get("status")
    if status in ENDED:
        return ENDED[status]
    if status != "running":  # made by Learner.save or `convscope watch`, which write when all is done
        return "finished"
    return "running" if is_alive(run, config) else "broken"


def is_alive(run: RunDir, config: dict[str, Any]) -> bool:
    """Whether somebody still writes this run."""
    return datetime.now(UTC).timestamp() - last_sign(run) < SILENT_SECONDS


def last_sign(run: RunDir) -> float:
    """When the newest of the files that a run writes as it goes was written, in seconds since 1970."""
    files = (run.log, run.log.with_name(run.log.name + "-wal"), run.config, run.checkpoint / "state.json")
    return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)


def _get(config: dict[str, Any], outer: str, inner: str) -> Any:
    value = config.get(outer)
    return value.get(inner) if isinstance(value, dict) else None
