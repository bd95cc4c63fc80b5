"""Recorder: the loss and every hyper-parameter at every step, and one row an epoch, written to and read from the run's log.

The log is bounded: a run of more than 2,000 steps has neighbouring steps merged, with their least, mean, greatest and last values kept.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from convscope.records import EpochRecord, Range, StepRecord
from convscope.runlog import RunLog
from convscope.show import curves
from convscope.train.callback import Callback
from convscope.watch.hyper import hyper_parameters

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from convscope.train.learner import Learner

PENDING = 32  # losses left on the GPU before they are fetched together, so that steps need not wait for the host
SMOOTHING = 0.98  # of the exponential average of the loss, debiased; fastai's value


class Recorder(Callback):
    """Keeps what happened at every step.

    Args:
        log: where to; a file, or memory.

    Attributes:
        smooth_loss: exponential average of the training loss (0.98), what progress shows.
    """

    def __init__(self, log: RunLog) -> None:
        self.log = log
        self.smooth_loss = math.nan
        self._average, self._averaged = 0.0, 0
        self._epoch_sum, self._epoch_steps, self._epoch_seconds = 0.0, 0, 0.0
        self._pending: list[tuple[int, float, Tensor, dict[str, float], Tensor | None, float]] = []
        self._losses: list[Tensor] = []
        self._clock = self._epoch_clock = 0.0
        self._logged_elsewhere = False

    @property
    def steps(self) -> list[StepRecord]:
        """What happened at each step, in order; over 2,000 steps, in spans of equal length."""
        return self.log.steps()

    @property
    def epochs(self) -> list[EpochRecord]:
        """The finished epochs, in order."""
        return self.log.epochs()

    @property
    def losses(self) -> list[float]:
        """The training loss of each step (of each merged span: its mean)."""
        return [record.loss.mean for record in self.steps]

    @property
    def lrs(self) -> list[float]:
        """The learning rate of each step (of each merged span: its mean)."""
        return self.hyper("lr")

    def hyper(self, name: str) -> list[float]:
        """One hyper-parameter at each step, NaN where the optimiser had none of that name: "lr", "momentum", "beta1", "weight_decay"."""
        return [record.hyper[name].mean if name in record.hyper else math.nan for record in self.steps]

    def plot_loss(self, ax: Axes | None = None) -> Axes:
        """Draw the training loss by step and the validation loss at the end of each epoch."""
        return curves.plot_loss(self.steps, self.epochs, ax=ax)

    def plot_sched(self) -> Any:
        """Draw every hyper-parameter that changed, by step; returns an array of matplotlib Axes."""
        return curves.plot_sched(self.steps)

    def before_fit(self, learner: Learner) -> None:
        """Start the clock."""
        self._clock = time.perf_counter()
        self._logged_elsewhere = any(callback.logs_steps for callback in learner.callbacks.callbacks)

    def before_epoch(self, learner: Learner) -> None:
        """Start the epoch's clock; sums of a resumed epoch go on."""
        self._epoch_clock = time.perf_counter()
        if learner.batch == 0:
            self._epoch_sum, self._epoch_steps, self._epoch_seconds = 0.0, 0, 0.0

    def after_loss(self, learner: Learner) -> None:
        """Keep the batch's loss; with accumulation a step's loss is the mean of its batches'."""
        self._losses.append(learner.loss.detach())

    def after_step(self, learner: Learner) -> None:
        """Keep the step."""
        now = time.perf_counter()
        loss = self._losses[0] if len(self._losses) == 1 else torch.stack(self._losses).mean()
        self._losses = []
        epoch = learner.epoch + learner.batch / len(learner.data.train)
        self._pending.append((learner.step - 1, epoch, loss, hyper_parameters(learner.optimizer), learner.gradient_norm, now - self._clock))
        self._clock = now
        if loss.device.type == "cpu" or len(self._pending) >= PENDING:
            self._fetch(learner)

    def before_checkpoint(self, learner: Learner) -> None:
        """Fetch what is pending."""
        self._fetch(learner)

    def after_validate(self, learner: Learner) -> None:
        """Keep the epoch's row."""
        self._fetch(learner)
        self._epoch_seconds += time.perf_counter() - self._epoch_clock
        train_loss = self._epoch_sum / self._epoch_steps if self._epoch_steps else math.nan
        result = learner.validation
        record = EpochRecord(learner.epoch + 1, learner.step, train_loss, result.loss, dict(result.metrics), self._epoch_seconds)
        self.log.epoch(record)

    def after_fit(self, learner: Learner) -> None:
        """Fetch what is pending; a step that was cut off is not kept."""
        self._losses = []
        self._fetch(learner)

    def state_dict(self) -> dict[str, Any]:
        """Sums of the epoch so far, so that a resumed epoch's row is the same."""
        return {
            "epoch_sum": self._epoch_sum,
            "epoch_steps": self._epoch_steps,
            "epoch_seconds": self._epoch_seconds + time.perf_counter() - self._epoch_clock,
            "average": self._average,
            "averaged": self._averaged,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the sums."""
        self._epoch_sum, self._epoch_steps, self._epoch_seconds = state["epoch_sum"], state["epoch_steps"], state["epoch_seconds"]
        self._average, self._averaged = state["average"], state["averaged"]

    def _fetch(self, learner: Learner) -> None:
        if not self._pending:
            return
        losses, processes = [entry[2] for entry in self._pending], learner.processes
        if len(losses) == processes.world == 1:
            values = [losses[0].item()]  # several times as fast, and with small batches it counts
        else:
            values = (processes.add(torch.stack([loss.double() for loss in losses])) / processes.world).tolist()
        for (step, epoch, _, hyper, norm, seconds), loss in zip(self._pending, values, strict=True):
            if not self._logged_elsewhere:
                gradient = None if norm is None else Range.of(float(norm))
                record = StepRecord(
                    step, step, epoch, Range.of(loss), {k: Range.of(v) for k, v in hyper.items()}, gradient, Range.of(seconds)
                )
                self.log.step(record)
            self._average = SMOOTHING * self._average + (1 - SMOOTHING) * loss
            self._averaged += 1
            self._epoch_sum += loss
            self._epoch_steps += 1
        self.smooth_loss = self._average / (1 - SMOOTHING**self._averaged)
        self._pending = []
