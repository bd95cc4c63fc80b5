"""What the rules of diagnosis need beyond statistics, and what they say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["note", "warning", "problem"]
HEADLINES = {
    "healthy": "Nothing wrong was found",
    "note": "Nothing is wrong, but something is worth knowing",
    "warning": "Something may be wrong",
    "problem": "Something is wrong",
    "too_early": "It is too early to say",
}


LOSS_UNSEEN = "the training loss was not seen"  # why most rules cannot be applied
ABOUT_THE_LOSS = frozenset({"softmax_before_cross_entropy", "softmax_wrong_dim", "loss_output_mismatch"})


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing seen from outside that statistics do not carry.

    Attributes:
        step: the optimiser step at which it was seen (the number of steps taken before it).
        kind: a name listed in `convscope.diagnose`, such as "gradient_not_cleared".
        subject: the layer, parameter or data set that it is about; "" for the whole run.
        numbers: named values.
    """

    step: int
    kind: str
    subject: str = ""
    numbers: dict[str, float | int | str | bool | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One measured number behind a finding: its name in words, value and unit ("" for a plain number)."""

    name: str
    value: float | int | str | None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Fix:
    """What to do: a sentence, and settings to change by machine (names of `convscope train`'s settings), or None."""

    text: str
    change: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One diagnosis. `cause` is the name of the finding that this one follows from."""

    name: str
    severity: Severity
    where: str
    step: int
    message: str
    fix: Fix
    evidence: tuple[Evidence, ...] = ()
    source: str = ""
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class NotChecked:
    """A rule that could not be applied, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The findings of a run, cause before consequence, and what was not checked.

    Attributes:
        verdict: "healthy", "note", "warning", "problem" (the worst severity) or "too_early".
        steps: optimiser steps seen.
    """

    verdict: Literal["healthy", "note", "warning", "problem", "too_early"]
    steps: int
    findings: tuple[Finding, ...] = ()
    not_checked: tuple[NotChecked, ...] = ()

    @property
    def headline(self) -> str:
        """How training goes, in one line; also what of the loss was not seen, as silence says less then.

        Example:
            >>> Verdict("healthy", 500).headline
            'Nothing wrong was found (500 steps).'
        """
        steps = f"({self.steps:,} steps)"
        if any(item.why == LOSS_UNSEEN for item in self.not_checked):
            if self.findings:
                rest = f"the training loss was not seen, so {len(self.not_checked)} rules were not checked"
                return f"{HEADLINES[self.verdict]} {steps}; {rest}."
            return f"It cannot be said how training goes {steps}: the training loss was not seen."
        if ABOUT_THE_LOSS.issubset(item.name for item in self.not_checked) and self.verdict in ("healthy", "note"):
            return f"{HEADLINES[self.verdict]} {steps}, but what the loss compares was not seen."
        return f"{HEADLINES[self.verdict]} {steps}."

    def __str__(self) -> str:
        """As text for a terminal: a paragraph for each finding, a consequence indented below its cause, then what was not checked.

        Example:
            >>> print(Verdict("healthy", 500))
            Nothing wrong was found (500 steps).
        """
        lines = [self.headline]
        for finding in self.findings:
            lines += ["", *_paragraph(finding)]
        if self.not_checked:
            lines += ["", "Not checked:"]
            reasons: dict[str, list[str]] = {}
            for item in self.not_checked:
                reasons.setdefault(item.why, []).append(item.name)
            lines += [f"  {', '.join(names)}: {why}" for why, names in reasons.items()]
        return "\n".join(lines)


def _paragraph(finding: Finding) -> list[str]:
    indent = "    " if finding.cause else ""
    where = f" in {finding.where}" if finding.where else ""
    lines = [f"{finding.severity}: {finding.name}{where}, since step {finding.step}", f"  {finding.message}"]
    if finding.evidence:
        lines.append(f"  Evidence: {'; '.join(map(_number, finding.evidence))}.")
    lines.append(f"  What to do: {finding.fix.text}")
    if finding.cause:
        lines.append(f"  It follows from {finding.cause}.")
    return [indent + line for line in lines]


def _number(evidence: Evidence) -> str:
    value = f"{evidence.value:.4g}" if isinstance(evidence.value, float) else str(evidence.value)
    return f"{evidence.name} {value}{' ' + evidence.unit if evidence.unit else ''}"
