"""Hyper-parameters as pure functions of the step.

A schedule receives the step (from 0) and the number of steps and returns the learning rate and momentum of that step; it keeps no state, so a
resumed run needs nothing but its step. It does not touch an optimiser.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from convscope.errors import UnknownNameError, UsageError

# The book's 1cycle (and fastai's): a quarter of the steps upwards from lr_max/25, then down to lr_max/1e5, momentum the other way.
DIV = 25.0
DIV_FINAL = 1e5
PCT_START = 0.25
MOMENTUMS = (0.95, 0.85, 0.95)


@dataclass(frozen=True, slots=True)
class Hyper:
    """The hyper-parameters of one step; momentum None leaves the optimiser's own (Adam: beta1)."""

    lr: float
    momentum: float | None = None


def cosine_between(start: float, end: float, share: float) -> float:
    """Half a cosine from `start` (share 0) to `end` (share 1).

    Example:
        >>> cosine_between(0.0, 1.0, 0.5)
        0.5
    """
    return start + (end - start) * (1 - math.cos(math.pi * share)) / 2


@dataclass(frozen=True, slots=True)
class Schedule:
    """What the learning rate and momentum do over a fit.

    Attributes:
        kind: "one_cycle", "cosine" (from lr down to lr/div_final) or "constant".
        lr: the learning rate; of one_cycle its maximum.
        div: one_cycle starts at lr/div.
        div_final: one_cycle and cosine end at lr/div_final.
        pct_start: share of the steps that one_cycle goes upwards.
        momentums: one_cycle's momentum at the start, at the maximum and at the end.
    """

    kind: Literal["one_cycle", "cosine", "constant"]
    lr: float
    div: float = DIV
    div_final: float = DIV_FINAL
    pct_start: float = PCT_START
    momentums: tuple[float, float, float] = MOMENTUMS

    def __post_init__(self) -> None:
        if self.kind not in ("one_cycle", "cosine", "constant"):
            raise UnknownNameError("schedule", self.kind, ("one_cycle", "cosine", "constant"))
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise UsageError(
                f"The learning rate is {self.lr}; it must be a number above 0, usually between 1e-5 and 1. lr_find() suggests one."
            )
        if not 0 < self.pct_start < 1:
            raise UsageError(
                f"pct_start is {self.pct_start}; it is the share of the steps that the rate goes upwards, between 0 and 1 (0.25 unless set)."
            )

    def __call__(self, step: int, steps: int) -> Hyper:
        """The hyper-parameters of step `step` (from 0) of `steps`.

        Example:
            >>> Schedule("one_cycle", 0.1)(0, 100)
            Hyper(lr=0.004, momentum=0.95)
        """
        share = step / steps
        if self.kind == "constant":
            return Hyper(self.lr)
        if self.kind == "cosine":
            return Hyper(cosine_between(self.lr, self.lr / self.div_final, share))
        first, middle, last = self.momentums
        if share < self.pct_start:
            up = share / self.pct_start
            return Hyper(cosine_between(self.lr / self.div, self.lr, up), cosine_between(first, middle, up))
        down = (share - self.pct_start) / (1 - self.pct_start)
        return Hyper(cosine_between(self.lr, self.lr / self.div_final, down), cosine_between(middle, last, down))

    def to_config(self) -> dict[str, Any]:
        """Plain values for config.json."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Schedule:
        """The schedule that `to_config` described."""
        return cls(**{**config, "momentums": tuple(config["momentums"])})
