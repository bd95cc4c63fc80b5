"""What training must know of a sort of data: its loss, its metrics, and how a trained network is judged and described.

The loop, the callbacks and the run directory are the same for every task; where they would differ, they ask the task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import nn

from convscope.records import NetworkSummary
from convscope.rundir import RunDir
from convscope.train.metrics import Loss, Metric

if TYPE_CHECKING:
    from convscope.train.learner import Learner


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came out of a training.

    Attributes:
        result: figures for config.json and `convscope train --json`.
        said: the main figure in words.
        keep: writes what the page shows into a run directory.
    """

    result: dict[str, float]
    said: str
    keep: Callable[[RunDir], None]


class Task(Protocol):
    """What the Learner and the run directory ask of a task; `task_of` makes the one that belongs to some data."""

    @property
    def weight_decay(self) -> float:
        """Of the optimiser, unless one is given."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is measured on validation data, unless others are given."""

    @property
    def valid_loss(self) -> Loss:
        """The loss on validation data: plain, so that runs with other weights or smoothing compare."""

    def train_loss(self, label_smoothing: float) -> Loss:
        """(outputs, targets) to the mean loss of a batch."""

    def summary(self, model: nn.Module) -> NetworkSummary:
        """The network's table for one input."""

    def describe(self) -> dict[str, Any]:
        """What config.json says of the data beside its source, kind and counts."""

    def inputs(self) -> dict[str, Any]:
        """What the weights file says, so that the network can be used without the data."""

    def keep_data(self, run: RunDir) -> None:
        """Write what is known of the data before training begins."""

    def judge(self, learner: Learner) -> Judgement:
        """Measure the trained network; every process of a run must call it."""
