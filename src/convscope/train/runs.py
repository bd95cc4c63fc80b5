"""Whole runs: settings in, run directories with weights, log, results and page out. `convscope train` and the lab call nothing else.

A run can be resumed because everything that decides it is in config.json and everything that it has done is in the checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from convscope.errors import NonFiniteError, RunError, UsageError
from convscope.records import to_json
from convscope.rundir import RunDir, create_run, open_run
from convscope.runlog import RunLog
from convscope.train.checkpoint import has_checkpoint
from convscope.train.finder import LRFind
from convscope.train.heal import MOST_RESTARTS, changes_of, cure_of, healed
from convscope.train.learner import Learner
from convscope.train.materials import Teller, materials
from convscope.train.processes import join
from convscope.train.settings import TrainSettings
from convscope.train.training_run import TrainingRun


def train_run(
    settings: TrainSettings, out: str | Path = "runs", name: str | None = None, console: Console | None = None, *, heal: bool = False
) -> dict[str, Any]:
    """Train from nothing to a page.

    Args:
        settings: what to train on, and how.
        out: the folder that holds runs.
        name: the run's name; None counts up from the data's name.
        console: where progress goes; stderr unless given.
        heal: when a problem is found whose fix is a change of settings, make it and start again in a new run directory, at most three times.

    Returns:
        The object that `convscope train --json` prints; with `heal`, of the last run, and under "healed" each change and what was before it.

    Raises:
        DataError: the data cannot be used; nothing has been written then.
        UsageError: a setting is out of range, or `heal` in several processes.
        RunError: the run directory cannot be written.
        NonFiniteError: the loss became NaN or infinite; the last good weights are saved.
        InterruptedRun: Ctrl-C; everything is saved.
    """
    teller = Teller(console, processes := join(settings.device))
    if heal and processes.world > 1:
        raise UsageError(
            f"--heal works in one process, and this run has {processes.world}. Leave out --heal, or start it without torchrun."
        )
    restarts: list[dict[str, Any]] = []
    while True:
        data, model, info = materials(settings, teller)
        run = processes.share(create_run(out, name, data.name) if processes.is_main else None)
        assert run is not None
        healing = heal and len(restarts) < MOST_RESTARTS
        training = TrainingRun(settings, run, data, model, info, teller, healing=healing)
        try:
            result = training.go()
        except NonFiniteError as error:
            result = {"run": str(run.path), "message": str(error)}
            if not (healing and training.verdict and cure_of(training.verdict, settings)):
                raise
        cure = cure_of(training.verdict, settings) if healing and training.verdict else None
        if cure is None:
            break
        changes = changes_of(cure, settings)
        told = ", ".join(f"{name.replace('_', ' ')} from {before} to {after}" for name, (before, after) in changes.items())
        teller.say(f"healing {cure.name}: {told}; starting again")
        restarts.append({"finding": cure.name, "changes": changes, "before": result})
        settings = healed(settings, cure)
    return {**result, "healed": restarts} if heal else result


def resume_run(path: str | Path, console: Console | None = None) -> dict[str, Any]:
    """Go on with a run where its last checkpoint is, in place and with its own settings.

    A finished run returns its result at once; a run without a checkpoint starts over and says so.

    Raises:
        RunError: there is no such run, or it was no training.
        CheckpointError: the checkpoint is damaged.
        (And all that `train_run` raises.)
    """
    run = open_run(path)
    run = RunDir(run.path.resolve())
    config = run.read_config()
    if config.get("command") != "train" or "settings" not in config:
        raise RunError(f"{run.path} is no training run, so it cannot be resumed. Give a run directory that `convscope train` made.")
    settings = TrainSettings.from_config(config["settings"])
    teller = Teller(console, join(settings.device))
    if config.get("status") == "finished":
        teller.say(f"{run.path} is finished already; this is its result. To train again, leave out --resume.")
        with RunLog.read(run.log) as log:
            return {"run": str(run.path), **config["result"], "findings": to_json(log.findings())}
    if not has_checkpoint(run.checkpoint):
        teller.say(f"{run.path} has no checkpoint yet, so it starts over.")
    data, model, info = materials(settings, teller)
    return TrainingRun(settings, run, data, model, info, teller, resumed=has_checkpoint(run.checkpoint)).go()


def find_rate(settings: TrainSettings, console: Console | None = None) -> LRFind:
    """What the learning-rate finder says about data and a fresh network; nothing is written."""
    data, model, _ = materials(settings, Teller(console, join(settings.device)))
    return Learner(data, model, seed=settings.seed, device=settings.device).lr_find()
