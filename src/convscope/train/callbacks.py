"""Further callbacks: early stopping, keeping the weights that count, and a polite end on Ctrl-C."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

import torch

from convscope.errors import UsageError
from convscope.train.callback import Callback, CancelFit
from convscope.train.weights import WeightsInfo, load_into, load_weights, save_weights

if TYPE_CHECKING:
    from convscope.train.learner import Learner


class EarlyStopping(Callback):
    """Ends the fit when the validation loss has not fallen for a while.

    Args:
        patience: epochs without a new least loss before the fit ends, 1 or more.
        min_delta: a smaller gain than this does not count.

    Raises:
        UsageError: an argument is out of range.
    """

    def __init__(self, patience: int = 3, min_delta: float = 0.0) -> None:
        if patience < 1 or not min_delta >= 0:
            raise UsageError(
                f"EarlyStopping(patience={patience}, min_delta={min_delta}): patience must be 1 or more and min_delta 0 or more."
            )
        self.patience, self.min_delta = patience, min_delta
        self.best, self.epochs_without = math.inf, 0

    def after_validate(self, learner: Learner) -> None:
        """Count the epochs without a gain."""
        if learner.validation.loss < self.best - self.min_delta:
            self.best, self.epochs_without = learner.validation.loss, 0
        else:
            self.epochs_without += 1

    def after_epoch(self, learner: Learner) -> None:
        """End the fit when there were too many.

        Raises:
            CancelFit: to end it in good order.
        """
        if self.epochs_without >= self.patience:
            raise CancelFit(f"the validation loss has not fallen for {self.patience} epochs")

    def state_dict(self) -> dict[str, Any]:
        """The least loss and the count; infinity, before the first epoch, as None."""
        return {"best": self.best if math.isfinite(self.best) else None, "epochs_without": self.epochs_without}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them up."""
        self.best = math.inf if state["best"] is None else state["best"]
        self.epochs_without = state["epochs_without"]


class KeepWeights(Callback):
    """Writes the weights file after each epoch: always (select "last"), or when the validation loss is the least so far ("best").

    Args:
        path: the file.
        info: what it says about itself.
        select: "last" reports without selection; "best" needs a separate test set for an honest number.
    """

    def __init__(self, path: Path, info: WeightsInfo, select: Literal["last", "best"] = "last") -> None:
        self.path, self.info, self.select = path, info, select
        self.best, self.best_epoch = math.inf, 0

    def after_validate(self, learner: Learner) -> None:
        """Write the file, if this epoch's weights count; of several processes the main one does."""
        loss = learner.validation.loss
        if self.select == "best" and not loss < self.best and self.best_epoch:
            return
        self.best, self.best_epoch = loss, learner.epoch + 1
        if learner.processes.is_main:
            save_weights(self.path, learner.model, self.info)

    def put_back(self, learner: Learner) -> None:
        """Load the weights that count into the model."""
        learner.processes.wait()
        if self.select == "best" and self.best_epoch:
            load_into(learner.model, load_weights(self.path)[0], self.path)

    def state_dict(self) -> dict[str, Any]:
        """The least loss so far, and its epoch."""
        return {"best": self.best if math.isfinite(self.best) else None, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them up."""
        self.best = math.inf if state["best"] is None else state["best"]
        self.best_epoch = state["best_epoch"]


class StopOnInterrupt(Callback):
    """Lets Ctrl-C end the fit after the current step, so that a checkpoint is whole; a second Ctrl-C ends it at once.

    Args:
        save: called before the fit ends.
        request: a file whose existence ends the fit too, so that another program can ask for it on any platform; None for no such file.
    """

    def __init__(self, save: Callable[[Learner], None], request: Path | None = None) -> None:
        self.save, self.request, self.interrupted = save, request, False
        self._before: Any = None

    def before_fit(self, learner: Learner) -> None:
        """Take over the signal; only the main thread can."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._remember)

    def after_step(self, learner: Learner) -> None:
        """Save and end the fit, on every process at the same step.

        Raises:
            CancelFit: to end it in good order.
        """
        asked = self.interrupted or (self.request is not None and self.request.exists())
        if learner.processes.world > 1:
            asked = bool(learner.processes.add(torch.tensor(float(asked), device=learner.device)) > 0)
        if asked:
            self.interrupted = True
            self.save(learner)
            raise CancelFit("interrupted")

    def after_fit(self, learner: Learner) -> None:
        """Give the signal back."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _remember(self, _number: int, _frame: FrameType | None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
