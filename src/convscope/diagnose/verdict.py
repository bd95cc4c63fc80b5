"""From records to a verdict: every rule is asked, what it finds is ranked, and what could not be checked is said.

Receives step records, layer statistics and observations (from a watcher, or a saved log); returns a Verdict. No torch, no state, no side effects:
the same records give the same verdict, and asking costs milliseconds, so it can be asked again and again while a run goes on.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from convscope.diagnose.observations import BY_NAME
from convscope.diagnose.ranking import SEVERITIES, ranked
from convscope.diagnose.rule import Rule
from convscope.diagnose.rules import batch_norm, events, generalising, images_and_labels, loss_head, pace, signal, start, weights
from convscope.diagnose.view import RunView, number
from convscope.errors import UnknownNameError
from convscope.records import LOSS_UNSEEN, SCHEMA, Finding, LayerStats, NotChecked, Observation, StepRecord, Verdict, to_json
from convscope.runlog import RunLog

RULES: tuple[Rule, ...] = (
    *events.RULES,
    *weights.RULES,
    *loss_head.RULES,
    *start.RULES,
    *signal.RULES,
    *batch_norm.RULES,
    *images_and_labels.RULES,
    *pace.RULES,
    *generalising.RULES,
)
NAMES = tuple(rule.name for rule in RULES)
IMAGE_AXES = 4  # of a batch of images; fewer are rows of a table or sequences
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
    early = view.step_count < EARLY_STEPS
    unseen = not view.losses  # that nothing was found says little then
    findings: list[Finding] = []
    not_checked: dict[str, str] = {}
    parts = by_network(view)
    for network, part in parts.items():
        found, lacking = _ask(part, ignored, early=early)
        findings += [dataclasses.replace(f, where=f"{network}/{f.where}" if f.where else network) if network else f for f in ranked(found)]
        not_checked.update(lacking)
    return Verdict(
        _word(findings, early=early or unseen), view.step_count, tuple(findings), tuple(NotChecked(*item) for item in not_checked.items())
    )


def by_network(view: RunView) -> dict[str, RunView]:
    """One view for each of several networks that are trained together, by name; a single one is called ""."""
    networks = [observation.subject for observation in view.newest("network")]
    if len(networks) < 2:
        return {"": view}
    return {network: _of_network(view, f"{network}/") for network in networks}


def _of_network(view: RunView, prefix: str) -> RunView:
    """What belongs to one network, with the names that it has by itself."""
    layers = {name.removeprefix(prefix): records for name, records in view.layers.items() if name.startswith(prefix)}
    observations = {
        kind: tuple(dataclasses.replace(o, subject=o.subject.removeprefix(prefix)) for o in seen if f"{o.subject}/".startswith(prefix))
        for kind, seen in view.observations.items()
    }
    observations = {
        kind: tuple(dataclasses.replace(o, subject="") if o.subject == prefix[:-1] else o for o in seen)
        for kind, seen in observations.items()
    }
    return RunView(view.steps, layers, {kind: seen for kind, seen in observations.items() if seen}, view.scale, alone=False)


def _ask(view: RunView, ignored: tuple[str, ...], *, early: bool) -> tuple[list[Finding], dict[str, str]]:
    """What every rule finds, and why some could not be applied."""
    findings: list[Finding] = []
    lacking: dict[str, str] = {}
    for rule in RULES:
        looked_at = view if rule.exact else view.until_broken
        if rule.name in ignored:
            lacking[rule.name] = "it was switched off (--ignore)"
        elif not rule.exact and view.seen("turns"):
            lacking[rule.name] = (
                "optimisers take turns, so parts of the network have losses of their own, which do not tell how the whole goes"
            )
        elif not rule.exact and not view.alone:
            lacking[rule.name] = "several networks are trained together, so the loss does not tell how one of them goes"
        elif (why := _lacking(rule, looked_at)) and rule.name != "update_no_op":  # an optimiser that never steps leaves nothing else to see
            lacking[rule.name] = why
        elif (rule.exact or not early) and (finding := rule.check(looked_at)) is not None:
            findings.append(_worded(finding, view))
        elif (rule.exact or not early) and (why := rule.unknown(looked_at)):
            lacking[rule.name] = why
    return findings, lacking


def _worded(finding: Finding, view: RunView) -> Finding:
    """A finding without evidence that is not known, and about samples where the data are no images."""
    known = tuple(item for item in finding.evidence if item.value is not None)
    identity = view.last("identity")
    if identity is None or not number(identity, "axes", IMAGE_AXES) < IMAGE_AXES:
        return dataclasses.replace(finding, evidence=known)
    fix = dataclasses.replace(finding.fix, text=_about_samples(finding.fix.text))
    evidence = tuple(dataclasses.replace(item, name=_about_samples(item.name)) for item in known)
    message, where = _about_samples(finding.message), _about_samples(finding.where)
    return dataclasses.replace(finding, message=message, where=where, fix=fix, evidence=evidence)


def _about_samples(text: str) -> str:
    return re.sub(r"\b([Ii])mage(s?)\b", lambda found: ("Sample" if found[1] == "I" else "sample") + found[2], text)


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


def _word(findings: Sequence[Finding], *, early: bool) -> Literal["healthy", "note", "warning", "problem", "too_early"]:
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
        return "" if view.losses or any(not math.isnan(s.loss.last) for s in view.steps) else LOSS_UNSEEN
    if need == "layers":
        return "" if view.layers else "no layer was watched"
    if need == "learning rate":
        return "" if view.learning_rates else "the learning rate was not seen"
    if need == "gradient norm":
        return "" if any(s.gradient_norm is not None for s in view.steps) else "the size of the gradient was not measured"
    return "" if need in view.observations else BY_NAME[need].missing
