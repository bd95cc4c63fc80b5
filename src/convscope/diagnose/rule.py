"""What a rule is, and the few helpers that all of them use.

A rule is a pure function from a RunView to a Finding or None. Exact rules look at events that are wrong whatever the outcome; statistical rules
measure something unusual, and only call it a warning or a problem when the run's outcome bears it out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from convscope.diagnose.view import Outcome, RunView
from convscope.records import Evidence, Finding, Severity


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the catalogue.

    Attributes:
        name: the name in the catalogue.
        check: the function.
        exact: whether it may call a problem without evidence in the outcome.
        needs: what it reads: kinds of observation, "layers", "loss", or "learning rate".
        least_steps: steps before which it cannot say anything.
        unknown: why its silence says little of this run; "" when it says that all is well.
    """

    name: str
    check: Callable[[RunView], Finding | None]
    exact: bool
    needs: tuple[str, ...]
    least_steps: int = 0
    unknown: Callable[[RunView], str] = lambda _: ""


def gated(outcome: Outcome, *, early: Severity = "note") -> Severity:
    """The severity that the outcome allows a statistical rule: problem when the run is bad, warning when it is poor, else a note."""
    if outcome.bad:
        return "problem"
    return "warning" if outcome.poor else early


def ev(name: str, value: float | int | str | None, unit: str = "") -> Evidence:
    """One measured number behind a finding, rounded to three significant digits."""
    if isinstance(value, float):
        value = float(f"{value:.3g}") if math.isfinite(value) else None
    return Evidence(name, value, unit)


def loss_evidence(outcome: Outcome) -> tuple[Evidence, ...]:
    """How the loss went."""
    return (ev("loss at the start", outcome.start), ev("loss now", outcome.now), ev("loss of guessing", outcome.guessing))


def percent(share: float) -> str:
    """A share as a person reads it; only the whole is 100 %.

    Example:
        >>> percent(0.123), percent(0.99991), percent(0.0)
        ('12 %', '99.9 %', '0 %')
    """
    value = 100 * share
    if 99.5 <= value < 100:
        return f"{math.floor(10 * value) / 10:.1f} %"
    return f"{value:.0f} %" if value >= 1 or value == 0 else f"{value:.2g} %"


def short(value: float) -> str:
    """A number in three significant digits.

    Example:
        >>> short(0.00012345), short(2.3026), short(12345.6)
        ('0.000123', '2.3', '12300')
    """
    if abs(value) >= 1e13:
        return f"{value:.2g}"
    if abs(value) >= 1e9:
        return f"{value / 1e9:.3g} billion"
    if abs(value) >= 1e6:
        return f"{value / 1e6:.3g} million"
    return f"{float(f'{value:.3g}'):.0f}" if abs(value) >= 1000 else f"{value:.3g}"
