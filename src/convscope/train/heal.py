"""Healing: the settings that a finding's fix changes, when a machine may change them. It touches neither data nor code."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from convscope.diagnose.changes import SETTINGS
from convscope.records import Finding, Verdict
from convscope.train.settings import TrainSettings

MOST_RESTARTS = 3  # a run that three changes did not mend needs a person (docs/design.md: at most three times)
CHANGEABLE = tuple(SETTINGS)
OWN_WAY: dict[str, Any] = {"norm": True}  # what None stands for, where a change to it would change nothing


def cure_of(verdict: Verdict, settings: TrainSettings) -> Finding | None:
    """The first problem, or cause of one, whose fix changes a setting of this run to another value; None when there is none."""
    grave = {finding.cause or finding.name for finding in verdict.findings if finding.severity == "problem"}
    candidates = (finding for finding in verdict.findings if finding.severity == "problem" or finding.name in grave)
    return next((finding for finding in candidates if changes_of(finding, settings)), None)


def changes_of(finding: Finding, settings: TrainSettings) -> dict[str, tuple[Any, Any]]:
    """What a finding's fix changes in these settings: name to (before, after); settings that the fix leaves as they are, are left out."""
    change = finding.fix.change or {}
    wanted = {name: (getattr(settings, name), change[name]) for name in CHANGEABLE if name in change}
    return {name: (before, after) for name, (before, after) in wanted.items() if _effective(name, before) != after}


def _effective(name: str, value: Any) -> Any:
    return OWN_WAY.get(name) if value is None else value


def healed(settings: TrainSettings, finding: Finding) -> TrainSettings:
    """The settings with a finding's fix applied."""
    assert set(CHANGEABLE) <= {f.name for f in fields(TrainSettings)}
    return replace(settings, **{name: after for name, (_, after) in changes_of(finding, settings).items()})
