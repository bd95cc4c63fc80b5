"""A learner's state as the files of a run directory: what config.json says, and `Learner.save`."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from convscope.errors import RunError
from convscope.nn import recipe_of
from convscope.records import SCHEMA
from convscope.rundir import RunDir, reasons
from convscope.show.page import write_report
from convscope.train import results
from convscope.train.task import Judgement
from convscope.train.weights import describe_weights, save_weights
from convscope.version import VERSION

if TYPE_CHECKING:
    from convscope.train.learner import Learner


def describe_run(learner: Learner, run: RunDir) -> dict[str, Any]:
    """What config.json says of a run: data, network, training, device and versions."""
    data = learner.data
    recipe = recipe_of(learner.model)
    return {
        "schema": SCHEMA,
        "command": "train",
        "name": run.path.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": {
            "source": data.summary.source,
            "kind": data.kind,
            **learner.task.describe(),
            "train": data.train.count,
            "valid": data.valid.count,
            "test": data.test.count if data.test else 0,
        },
        "model": {"name": recipe.name if recipe else type(learner.model).__name__, "arguments": recipe.arguments if recipe else {}},
        "classes": list(data.classes),
        "train": {
            "batch_size": data.train.batch_size,
            "optimizer": type(learner.optimizer).__name__,
            "weight_decay": learner.weight_decay,
            "clip_norm": learner.clip_norm,
            "accumulate": learner.accumulate,
            "seed": learner.seed,
            "precision": learner.precision,
            "processes": learner.processes.world,
        },
        "device": {"name": str(learner.device), "reason": learner.processes.reason},
        "versions": {
            "convscope": VERSION,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "platform": platform.platform(),
            "threads": torch.get_num_threads(),
        },
        "status": "running",
        "message": None,
        "result": None,
    }


def result_of(learner: Learner, judged: Judgement, seconds: float) -> dict[str, Any]:
    """The figures that `convscope train --json` prints, without the run's path and the verdict."""
    return {**judged.result, "epochs": learner.epoch, "steps": learner.step, "seconds": round(seconds, 3)}


def save(learner: Learner, path: str | Path) -> Path:
    """Write a learner as a run directory, with its page; see `Learner.save`."""
    run = RunDir(Path(path).absolute())
    if run.path.exists() and not (run.path.is_dir() and (run.config.exists() or not any(run.path.iterdir()))):
        raise RunError(f"{run.path} exists and is no run directory, so nothing was written. Give a new path, or that of a run to replace.")
    with reasons(run.path):
        run.path.mkdir(parents=True, exist_ok=True)
        learner.log.copy_to(run.log)
        config = describe_run(learner, run)
        if hasattr(learner, "plan"):
            config["train"].update(
                epochs=learner.epoch, schedule=learner.plan.schedule.kind, lr=learner.plan.schedule.lr, lr_source="given"
            )
        seconds = sum(epoch.seconds for epoch in learner.recorder.epochs)
        judged = learner.task.judge(learner)
        config.update(status="finished", result=result_of(learner, judged, seconds))
        run.write_config(config)
        save_weights(run.weights, learner.model, describe_weights(learner.model, learner.data.classes, learner.task, config["train"]))
        learner.task.keep_data(run)
        run.keep(learner.summary())
        judged.keep(run)
        results.write_results(run.results, learner.recorder.epochs)
        write_report(run)
    return run.path
