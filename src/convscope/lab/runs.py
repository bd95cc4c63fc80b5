"""The runs in one folder: which there are, how far each is, and what is known of one. No torch.

Run names come from the browser, so that each is looked up among the folder's own entries; no path is ever built from anything else.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from convscope.diagnose import diagnose_log, verdict_to_json
from convscope.errors import ConvscopeError
from convscope.lab.exchange import Refused
from convscope.records import to_json
from convscope.rundir import NAME, RunDir, is_alive, open_run
from convscope.runlog import RunLog

State = Literal["starting", "running", "finished", "stopped", "failed", "broken"]
ENDED: dict[str, State] = {"finished": "finished", "interrupted": "stopped", "failed": "failed"}  # what config.json says, and what that is
DEFAULTS: dict[str, Any] = {  # the settings of the lab's form
    "data": "mnist",
    "model": "simple_cnn",
    "epochs": 5,
    "batch_size": None,
    "lr": "auto",
    "norm": True,
    "init": None,
    "schedule": "one_cycle",
    "seed": 0,
    "weight_decay": None,
    "clip_norm": None,
    "augment": None,
    "label_smoothing": 0.0,
}
SILENT_SECONDS = 60.0  # after which a watched script that wrote nothing is taken for ended; it writes every half second


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

    def find_if_there(self, name: str) -> RunDir | None:
        """A run by its name, or None."""
        try:
            return self.find(name)
        except (Refused, ConvscopeError):
            return None

    def names(self) -> list[str]:
        """The names of all runs, the newest first."""
        try:
            entries = [entry.name for entry in os.scandir(self.path) if NAME.fullmatch(entry.name)]
        except OSError:
            return []
        found = [(stat.st_mtime, name) for name in entries if (stat := _stat(self.path / name / "config.json"))]
        return [name for _, name in sorted(found, reverse=True)]

    def rows(self) -> list[dict[str, Any]]:
        """One line for each run; a run that cannot be read is listed as broken, with the reason."""
        return [self._row(name) for name in self.names()]

    def _row(self, name: str) -> dict[str, Any]:
        try:
            return row_of(self.find(name))
        except (ConvscopeError, Refused, KeyError, TypeError, AttributeError) as error:
            return {"run": name, "state": "broken", "message": f"{error}", "can_inspect": False, "stoppable": False}

    def _leaves(self, name: str) -> bool:
        return (self.path / name).resolve().parent != self.path.resolve()


def row_of(run: RunDir) -> dict[str, Any]:
    """What the list of runs shows of one."""
    config = run.read_config()
    state = state_of(run, config)
    result = config.get("result") or {}
    epochs = len(run.results.read_text(encoding="utf-8").splitlines()) - 1 if run.results.is_file() else 0
    return {
        "run": run.path.name,
        "state": state,
        "message": config.get("message"),
        "command": config.get("command"),
        "data": _get(config, "data", "source"),
        "model": _get(config, "model", "name") or config.get("model"),
        "accuracy": result.get("accuracy"),
        "epochs_done": result.get("epochs", max(epochs, 0)),
        "epochs": _get(config, "train", "epochs"),
        "steps": result.get("steps"),
        "created": config.get("created"),
        "verdict": result.get("verdict"),
        "can_inspect": run.weights.is_file() and "classes" in config,
        "stoppable": state == "running" and config.get("command") == "train",
    }


def detail_of(run: RunDir) -> dict[str, Any]:
    """Everything that the lab shows of a run besides its curves.

    Raises:
        RunError: a file of it is damaged.
    """
    config = run.read_config()
    network, data, evaluation = run.network(), run.data(), run.evaluation()
    rows = network.rows if network else ()
    epochs, verdict = [], None
    if run.log.is_file():
        with RunLog.read(run.log) as log:
            epochs, verdict = log.epochs(), verdict_to_json(diagnose_log(log))
    return {
        **row_of(run),
        "config": config,
        "settings": settings_of(config),
        "classes": config.get("classes", []),
        "image": list(data.image_shape) if data else list(network.input_shape) if network else None,
        "layers": [{"name": row.name, "kind": row.kind, "shape": list(row.output_shape), "parameters": row.parameters} for row in rows],
        "results": to_json(epochs),
        "evaluation": to_json(evaluation) and {**to_json(evaluation), "wrong": None},
        "verdict": verdict,
    }


def state_of(run: RunDir, config: dict[str, Any]) -> State:
    """How far a run is: what config.json says, and for one that says it is running, whether its process still is.

    A script under `convscope watch` says nothing; its log is in write-ahead mode until it ends.
    """
    status = config.get("status")
    if status in ENDED:
        return ENDED[status]
    if status == "running":
        return "running" if is_alive(config.get("process")) else "broken"
    found = _stat(run.log.with_name(run.log.name + "-wal"))
    return "running" if found and time.time() - found.st_mtime < SILENT_SECONDS else "finished"


def changed_at(run: RunDir) -> tuple[tuple[int, int], ...]:
    """When the files that a run writes as it goes were last written, in nanoseconds, and their sizes: differs when there is something new."""
    files = (run.log, run.log.with_name(run.log.name + "-wal"), run.config)
    return tuple((found.st_mtime_ns, found.st_size) for file in files if (found := _stat(file)))


def _stat(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:
        return None


def settings_of(config: dict[str, Any]) -> dict[str, Any] | None:
    """What POST /api/train takes to repeat a run; None for one that the lab cannot start."""
    settings = config.get("settings")
    if config.get("command") != "train" or not isinstance(settings, dict):
        return None
    return {name: settings[name] for name in DEFAULTS if name in settings} | {"norm": settings.get("norm") is not False}


def _get(config: dict[str, Any], outer: str, inner: str) -> Any:
    value = config.get(outer)
    return value.get(inner) if isinstance(value, dict) else None
