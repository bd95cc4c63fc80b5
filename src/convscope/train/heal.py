"""Healing: the settings that a finding's fix changes, when a machine may change them. It touches neither data nor code."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from convscope.records import Finding, Verdict
from convscope.train.settings import TrainSettings

MOST_RESTARTS = 3  # a run that three changes did not mend needs a person (docs/design.md: at most three times)
CHANGEABLE = ("lr", "batch_size", "init", "augment", "clip_norm", "weight_decay", "class_weights", "epochs")


def cure_of(verdict: Verdict, settings: TrainSettings) -> Finding | None:
    """The first problem whose fix changes a setting of this run to another value; None when there is none."""
    problems = (finding for finding in verdict.findings if finding.severity == "problem")
    return next((finding for finding in problems if changes_of(finding, settings)), None)


def changes_of(finding: Finding, settings: TrainSettings) -> dict[str, tuple[Any, Any]]:
    """What a finding's fix changes in these settings: name to (before, after); settings that the fix leaves as they are, are left out."""
    change = finding.fix.change or {}
    return {
        name: (getattr(settings, name), change[name]) for name in CHANGEABLE if name in change and change[name] != getattr(settings, name)
    }


def healed(settings: TrainSettings, finding: Finding) -> TrainSettings:
    """The settings with a finding's fix applied."""
    assert set(CHANGEABLE) <= {f.name for f in fields(TrainSettings)}
    return replace(settings, **{name: after for name, (_, after) in changes_of(finding, settings).items()})
