"""From records to a verdict: every rule is asked, what it finds is ranked, and what could not be checked is said.

Receives step records, layer statistics and observations (from a watcher, or a saved log); returns a Verdict. No torch, no state, no side effects:
the same records give the same verdict, and asking costs milliseconds, so it can be asked again and again while a run goes on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from convscope.diagnose.observations import BY_NAME
from convscope.diagnose.ranking import SEVERITIES, ranked
from convscope.diagnose.rule import Rule
from convscope.diagnose.rules import events, generalising, images_and_labels, loss_head, pace, signal
from convscope.diagnose.view import RunView
from convscope.errors import UnknownNameError
from convscope.records import SCHEMA, Finding, LayerStats, NotChecked, Observation, StepRecord, Verdict, to_json
from convscope.runlog import RunLog

RULES: tuple[Rule, ...] = (
    *events.RULES,
    *loss_head.RULES,
    *signal.RULES,
    *images_and_labels.RULES,
    *pace.RULES,
    *generalising.RULES,
)
NAMES = tuple(rule.name for rule in RULES)
EARLY_STEPS = 40  # steps below which only exact events can be judged; half a statistical window of 20 twice


def diagnose(
    steps: Iterable[StepRecord],
    layers: Iterable[LayerStats] | Mapping[str, Sequence[LayerStats]],
    observations: Iterable[Observation] = (),
    *,
    ignore: Iterable[str] = (),
    scale: float = 1.0,
) -> Verdict:
    """Say what is wrong with a run.

    Args:
        steps: one record per optimiser step, or merged ones.
        layers: statistics of every layer's output, in the order of execution; a flat sequence or by layer name.
        observations: what `convscope.watch` saw besides; kinds are listed in `observations.py`.
        ignore: names of rules to leave out.
        scale: factor on every threshold, to measure how much the verdict depends on them; leave it at 1.

    Returns:
        The verdict: findings with causes before consequences, and what could not be checked.

    Raises:
        UnknownNameError: a name in `ignore` is not a rule.

    Example:
        >>> diagnose([], []).verdict
        'too_early'
    """
    ignored = tuple(ignore)
    for name in ignored:
        if name not in NAMES:
            raise UnknownNameError("rule", name, NAMES)
    flat = (record for records in layers.values() for record in records) if isinstance(layers, Mapping) else layers
    view = RunView.of(steps, flat, observations, scale)
    findings: list[Finding] = []
    not_checked: list[NotChecked] = []
    early = view.step_count < EARLY_STEPS
    for rule in RULES:
        if rule.name in ignored:
            not_checked.append(NotChecked(rule.name, "it was switched off (--ignore)"))
            continue
        why = _lacking(rule, view)
        if why and rule.name != "update_no_op":
            not_checked.append(NotChecked(rule.name, why))
            continue
        finding = None if early and not rule.exact else rule.check(view)
        if finding is not None:
            findings.append(finding)
    ordered = ranked(findings)
    return Verdict(_word(ordered, early=early), view.step_count, ordered, tuple(not_checked))


def diagnose_log(log: RunLog, *, ignore: Iterable[str] = ()) -> Verdict:
    """The verdict on a saved run, from its log alone.

    Raises:
        RunError: the log cannot be read.
        UnknownNameError: a name in `ignore` is not a rule.
    """
    return diagnose(log.steps(), log.layers(), log.observations(), ignore=ignore)


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """The object that `convscope diagnose --json` prints; numbers that are not finite are None."""
    value: dict[str, Any] = {"schema": SCHEMA, **to_json(verdict)}
    return value


def _word(findings: tuple[Finding, ...], *, early: bool) -> Literal["healthy", "note", "warning", "problem", "too_early"]:
    worst = max((finding.severity for finding in findings), key=SEVERITIES.__getitem__, default=None)
    if early and worst in (None, "note"):
        return "too_early"
    return worst or "healthy"


def _lacking(rule: Rule, view: RunView) -> str:
    """Why a rule cannot be applied; "" when it can."""
    if view.step_count < rule.least_steps:
        return f"there are {view.step_count} steps, and it needs at least {rule.least_steps}"
    missing = [why for need in rule.needs if (why := _missing(need, view))]
    if rule.name == "data_order_or_leak":  # any of its three sources is enough
        return missing[0] if len(missing) == len(rule.needs) else ""
    return missing[0] if missing else ""


def _missing(need: str, view: RunView) -> str:
    if need == "loss":
        return "" if view.losses or any(not math.isnan(s.loss.last) for s in view.steps) else "the training loss was not seen"
    if need == "layers":
        return "" if view.layers else "no layer was watched"
    if need == "learning rate":
        return "" if view.learning_rates else "the learning rate was not seen"
    if need == "gradient norm":
        return "" if any(s.gradient_norm is not None for s in view.steps) else "the size of the gradient was not measured"
    return "" if need in view.observations else BY_NAME[need].missing
