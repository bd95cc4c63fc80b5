"""The optimiser step that is running: what was seen of it, and the record that it becomes.

Receives losses, settings and times as they are met; returns one StepRecord.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from convscope.records import Range, StepRecord


@dataclass(slots=True)
class Step:
    """A step: its number, its row in the buffers when it is sampled, and what was seen of it."""

    number: int
    row: int | None
    hyper: dict[str, float] = field(default_factory=dict)
    stepped: set[int] = field(default_factory=set)  # ids of the optimisers that have begun to step
    groups: int = 0
    losses: list[float | Tensor] = field(default_factory=list)
    roots: list[float | Tensor] = field(default_factory=list)
    backwards: int = 0
    optimizers: int = 0
    seconds: float = math.nan
    epoch: float = math.nan

    def loss(self) -> float:
        """What the loss functions returned; what backward was called on, where that was made of several or by no known function."""
        values = [float(value) for value in self.roots or self.losses]
        return sum(values) / len(values) if values else math.nan

    def record(self, gradient_norm: float) -> StepRecord:
        """The step as a record; a norm that is NaN was not measured."""
        return StepRecord(
            self.number,
            self.number,
            self.epoch,
            Range.of(self.loss()),
            {name: Range.of(value) for name, value in self.hyper.items()},
            Range.of(gradient_norm) if not math.isnan(gradient_norm) else None,
            Range.of(self.seconds),
        )


def kept(value: Tensor) -> float | Tensor:
    """The value of a loss as it is now: a number, or on an accelerator a copy that nobody waits for."""
    value = value.detach()
    value = value if value.numel() == 1 else value.mean()
    return value.item() if value.device.type == "cpu" else value.clone()
