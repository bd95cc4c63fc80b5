"""Order of findings: causes first, each followed by what follows from it.

Receives findings of all rules, returns them ranked, with `cause` set on consequences. It judges nothing anew.
"""

from __future__ import annotations

import dataclasses
import functools

from convscope.records import Finding

AT_START = " from the start"  # what was found at step 0 cannot follow from what training did
FROM_ONE_STEP = " from one step on"  # labels that change at a step are no consequence of what came before it
AGAIN = " again and again"  # a layer that crashes so often shows the fault itself, and tells more than the size of the steps behind it
IN_PART = " in part"  # weights whose gradient is next to nothing stand still beside others that move: what spoils the signal explains it
STILL = "weights that do not move"  # name of the evidence
CALM = " out of a calm"  # gradients that leap after many quiet steps, and before any layer crashes, are what the crashes follow from
QUIET_STEPS = 40
OFTEN = 3  # crashes of one layer
CRASHES = "most crashes of one layer"  # name of the evidence
LEAP = "loss in the steps before"  # name of the evidence
BY_HEART = " by heart"  # steps too large would not have learned the training samples while every evaluation was no better than guessing
HEART = "learned by heart"  # name of the evidence
UNMOVED = " of a loss that never moved"  # activations that fade while there is nothing to learn follow from that
STAYED = "loss over that of guessing, in windows"  # name of the evidence
# Upstream first: what a run needs before the next thing can work.
ORDER = (
    "input_not_normalised",
    "symmetric_init",
    "missing_nonlinearity",
    "softmax_before_cross_entropy",
    "softmax_wrong_dim",
    "loss_output_mismatch",
    "params_not_in_optimizer",
    "update_no_op",
    "update_no_op in part",
    "mostly_frozen",
    "grads_not_cleared",
    "wrong_mode",
    "data_order_or_leak",
    "labels_look_random from one step on",
    "lr_schedule_collapsed",
    "over_regularised",
    "batchnorm_unreliable from the start",
    "dead_units from the start",
    "saturated_units from the start",
    "bad_initial_scale",
    "vanishing_signal from the start",
    "exploding_gradients from the start",
    "exploding_gradients out of a calm",
    "labels_look_random of a loss that never moved",
    "activation_collapse_cycles again and again",
    "labels_look_random by heart",
    "lr_too_high",
    "lr_too_low",
    "batchnorm_unreliable",
    "saturated_units",
    "exploding_gradients",
    "activation_collapse_cycles",
    "dead_units",
    "vanishing_signal",
    "non_finite",
    "labels_look_random",
    "label_noise",
    "overfitting",
    "one_class",
)
_BROKEN = frozenset(
    {
        "exploding_gradients",
        "exploding_gradients out of a calm",
        "activation_collapse_cycles",
        "activation_collapse_cycles again and again",
        "dead_units",
        "saturated_units",
        "vanishing_signal",
        "non_finite",
        "one_class",
        "labels_look_random",
        "labels_look_random of a loss that never moved",
    }
)
_FROM_START = frozenset(name for name in ORDER if name.endswith(AT_START))
_STRUCTURAL = (
    _BROKEN
    | _FROM_START
    | {
        "bad_initial_scale",
        "lr_too_high",
        "lr_too_low",
        "batchnorm_unreliable",
        "over_regularised",
        "label_noise",
        "labels_look_random by heart",
    }
)

# What may follow from what. Only findings that are present count.
EXPLAINS: dict[str, frozenset[str]] = {
    "input_not_normalised": _STRUCTURAL | {"data_order_or_leak", "update_no_op in part"},
    "symmetric_init": _STRUCTURAL,
    "missing_nonlinearity": _STRUCTURAL,
    "softmax_before_cross_entropy": _STRUCTURAL,
    "softmax_wrong_dim": _STRUCTURAL | {"softmax_before_cross_entropy", "loss_output_mismatch"},
    "loss_output_mismatch": _STRUCTURAL,
    "params_not_in_optimizer": _STRUCTURAL | {"update_no_op", "update_no_op in part"},
    "update_no_op": _STRUCTURAL,
    "update_no_op in part": _STRUCTURAL,
    "mostly_frozen": _STRUCTURAL | {"params_not_in_optimizer"},
    "grads_not_cleared": _STRUCTURAL,
    "wrong_mode": _STRUCTURAL,
    "data_order_or_leak": _STRUCTURAL | {"overfitting"},
    "labels_look_random from one step on": _STRUCTURAL | {"overfitting"},
    "lr_schedule_collapsed": _STRUCTURAL,
    "over_regularised": _BROKEN | {"lr_too_low", "lr_too_high"},
    "batchnorm_unreliable from the start": _BROKEN | {"lr_too_high", "overfitting", "labels_look_random by heart"},
    "dead_units from the start": _BROKEN | {"vanishing_signal from the start", "bad_initial_scale", "lr_too_high", "lr_too_low"},
    "saturated_units from the start": _BROKEN
    | {"vanishing_signal from the start", "bad_initial_scale", "lr_too_high", "lr_too_low", "labels_look_random by heart"},
    "bad_initial_scale": _BROKEN | _FROM_START | {"lr_too_high", "lr_too_low"},
    "vanishing_signal from the start": frozenset({"saturated_units", "lr_too_high", "lr_too_low", "one_class", "labels_look_random"}),
    "exploding_gradients from the start": _BROKEN | {"lr_too_high"},
    "exploding_gradients out of a calm": _BROKEN | {"lr_too_high"},
    "activation_collapse_cycles again and again": _BROKEN | {"lr_too_high"},
    "labels_look_random of a loss that never moved": frozenset(
        {
            "activation_collapse_cycles",
            "activation_collapse_cycles again and again",
            "dead_units",
            "vanishing_signal",
            "one_class",
            "lr_too_low",
        }
    ),
    "labels_look_random by heart": frozenset(
        {"lr_too_high", "lr_too_low", "one_class", "overfitting", "label_noise", "activation_collapse_cycles"}
    ),
    "lr_too_high": _BROKEN,
    "lr_too_low": frozenset({"vanishing_signal", "one_class", "labels_look_random"}),
    "batchnorm_unreliable": frozenset({"one_class", "labels_look_random", "labels_look_random by heart", "overfitting"}),
    "saturated_units": frozenset({"vanishing_signal", "one_class"}),
    "vanishing_signal": frozenset({"one_class"}),
    "exploding_gradients": frozenset({"activation_collapse_cycles", "dead_units", "vanishing_signal", "non_finite", "one_class"}),
    "activation_collapse_cycles": frozenset({"dead_units", "vanishing_signal", "one_class"}),
    "dead_units": frozenset({"vanishing_signal", "one_class"}),
    "non_finite": frozenset({"one_class"}),
    "labels_look_random": frozenset({"one_class", "overfitting", "label_noise"}),
    "label_noise": frozenset({"overfitting"}),
    "overfitting": frozenset(),
    "one_class": frozenset({"overfitting"}),
}
SEVERITIES = {"note": 0, "warning": 1, "problem": 2}


def ranked(findings: list[Finding]) -> tuple[Finding, ...]:
    """Findings with causes before consequences; roots by severity, then upstream first.

    A finding explains another only when it is at least as severe as a warning, or as severe as the other: a note does not excuse a problem.
    """
    others = [f.step for f in findings if f.name in ("activation_collapse_cycles", "lr_too_high", "dead_units")]
    key = functools.partial(_key, first_of_others=min((step for step in others if step is not None), default=0))
    by_root = sorted(findings, key=lambda finding: ORDER.index(key(finding)))
    cause: dict[str, str] = {}
    for finding in by_root:
        for other in by_root:
            explains = key(other) in EXPLAINS[key(finding)] and SEVERITIES[finding.severity] >= min(1, SEVERITIES[other.severity])
            if explains and other is not finding and finding.name not in cause and other.name not in cause:
                cause[other.name] = finding.name
    roots = sorted((f for f in findings if f.name not in cause), key=lambda f: (-_weight(f, by_root, cause), by_root.index(f)))
    ordered: list[Finding] = []
    for root in roots:
        ordered.append(root)
        ordered += [dataclasses.replace(f, cause=root.name) for f in by_root if cause.get(f.name) == root.name]
    return tuple(ordered)


def _key(finding: Finding, first_of_others: int) -> str:
    """The name under which ORDER and EXPLAINS hold a finding."""
    if finding.name == "exploding_gradients" and finding.step is not None and QUIET_STEPS <= finding.step < first_of_others:
        return finding.name + CALM
    if finding.name == "update_no_op" and any(item.name == STILL and item.value != "100 %" for item in finding.evidence):
        return finding.name + IN_PART
    at_start = finding.name + AT_START
    if finding.step == 0 and at_start in _FROM_START:
        return at_start
    if any(item.name == LEAP for item in finding.evidence):
        return finding.name + FROM_ONE_STEP
    for evidence, kind in ((HEART, BY_HEART), (STAYED, UNMOVED)):
        if finding.name == "labels_look_random" and any(item.name == evidence for item in finding.evidence):
            return finding.name + kind
    crashes = next((item.value for item in finding.evidence if item.name == CRASHES), 0)
    return finding.name + AGAIN if isinstance(crashes, int) and crashes >= OFTEN else finding.name


def _weight(root: Finding, findings: list[Finding], cause: dict[str, str]) -> int:
    """A root is as grave as the gravest of what follows from it."""
    return max(SEVERITIES[f.severity] for f in findings if f.name == root.name or cause.get(f.name) == root.name)
