"""Checkpoints: everything that a resume needs, in one safetensors file that is replaced atomically.

`Checkpointing` writes one every 30 s and after every epoch; `restore` puts a learner back so that it goes on bit for bit as if it had never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from convscope.errors import CheckpointError
from convscope.train.callback import Callback
from convscope.train.schedules import Schedule
from convscope.train.weights import load_into, load_tensors, save_tensors

if TYPE_CHECKING:
    from convscope.train.learner import Learner, Plan

SECONDS = 30.0  # between checkpoints: what a killed run loses at most (docs/design.md, section 3)
FILE = "state.safetensors"


class Checkpointing(Callback):
    """Writes a checkpoint at the first step after every 30 s, and after every epoch.

    Args:
        folder: where; made when missing.
        seconds: between checkpoints.
    """

    def __init__(self, folder: Path, seconds: float = SECONDS) -> None:
        self.folder, self.seconds = folder, seconds
        self._written = 0.0

    def before_fit(self, learner: Learner) -> None:
        """Start the clock."""
        self._written = time.monotonic()

    def after_step(self, learner: Learner) -> None:
        """Write one when it is time."""
        if time.monotonic() - self._written >= self.seconds:
            self.write(learner)

    def after_epoch(self, learner: Learner) -> None:
        """Write one."""
        self.write(learner)

    def write(self, learner: Learner) -> None:
        """Write one now; of several processes the main one does.

        Raises:
            RunError: it cannot be written; the one before is untouched.
        """
        learner.callbacks.call("before_checkpoint", learner)
        if learner.processes.is_main:
            self.folder.mkdir(exist_ok=True)
            learner.log.flush()
            tensors, header = state_of(learner)
            save_tensors(self.folder / FILE, tensors, header)
        self._written = time.monotonic()


def has_checkpoint(folder: Path) -> bool:
    """Whether there is something to resume from."""
    return (folder / FILE).exists()


def state_of(learner: Learner) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The learner's whole state: tensors by name ("model/...", "optimizer/..."), and JSON values."""
    tensors = {f"model/{name}": value for name, value in learner.model.state_dict().items()}
    optimizer = learner.optimizer.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    for index, state in optimizer["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{name}"] = value
            else:
                scalars.setdefault(str(index), {})[name] = value
    for callback in learner.callbacks.callbacks:
        tensors.update({f"callback/{callback.name}/{name}": value for name, value in callback.state_tensors().items()})
    return tensors, {
        "epoch": learner.epoch,
        "batch": learner.batch,
        "step": learner.step,
        "plan": {**asdict(learner.plan), "schedule": learner.plan.schedule.to_config()},
        "optimizer": {"scalars": scalars, "groups": optimizer["param_groups"]},
        "scaler": learner.scaler.state_dict(),
        "callbacks": learner.callbacks.state_dict(),
    }


def restore(learner: Learner, folder: Path) -> Plan:
    """Put a learner that was built in the same way into a checkpoint's state.

    Returns:
        The plan in whose middle it stands; `learner.fit_plan(plan)` goes on.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
        ModelError: it belongs to another network.
    """
    from convscope.train.learner import Plan

    path = folder / FILE
    tensors, header = load_tensors(path)
    try:
        plan = Plan(**{**header["plan"], "schedule": Schedule.from_config(header["plan"]["schedule"])})
        load_into(learner.model, _part(tensors, "model/"), path)
        learner.optimizer.load_state_dict(_optimizer_state(_part(tensors, "optimizer/"), header["optimizer"]))
        learner.scaler.load_state_dict(header["scaler"])
        learner.callbacks.load_state_dict(header["callbacks"])
        for callback in learner.callbacks.callbacks:
            callback.load_state_tensors(_part(tensors, f"callback/{callback.name}/"))
        learner.epoch, learner.batch, learner.step = header["epoch"], header["batch"], header["step"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of this version of convscope ({error!r}). Train again.") from error
    return plan


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _optimizer_state(tensors: Mapping[str, Tensor], kept: Mapping[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in kept["scalars"].items()}
    for name, value in tensors.items():
        index, _, field = name.partition("/")
        state.setdefault(int(index), {})[field] = value
    groups = [{**group, **({"betas": tuple(group["betas"])} if "betas" in group else {})} for group in kept["groups"]]
    return {"state": state, "param_groups": groups}
