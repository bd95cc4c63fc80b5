"""Exact events: things that are wrong whatever the outcome, seen at the step at which they happen.

Receives a RunView, returns one Finding or None per rule. Where the event alone is legitimate (weights left out on purpose, a frozen backbone),
the rule says what else must be true.
"""

from __future__ import annotations

import math

from convscope.diagnose.rule import Rule, ev, loss_evidence, percent
from convscope.diagnose.rules.layers import rate_instead
from convscope.diagnose.view import RunView, Threshold, number
from convscope.records import Finding, Fix, Observation, Severity

CARRIED = Threshold(3, "steps in a row", "diagnoses.md, row 2: one stale gradient can be a restart, three are a missing zero_grad")
OFTEN = Threshold(8, "steps", "chosen: gradients that are cleared now and then, but not each time")
LEAST_LEFT_OUT = 0.01  # of the weights: less of them cannot matter much
SETTLED = 3  # steps after which every optimiser of the loop has stepped
STILL = Threshold(5, "steps in a row", "diagnoses.md, row 3")
MOST = Threshold(0.5, "of the weights", "diagnoses.md, row 3", share=True)
NEARLY_ALL = Threshold(0.9, "of the weights", "diagnoses.md, row 4", share=True)
LEARNED_WELL = Threshold(
    0.25, "of the loss of guessing", "chosen: below it the layers that do not train are plainly good as they are", share=True
)
PERFECT = Threshold(0.05, "of the loss of guessing", "chosen: nothing worth having is left to learn", share=True)
A_PART = Threshold(0.01, "of the weights", "chosen: the first convolutions of a small network are no more than that", share=True)
WRONG_STEPS = Threshold(5, "steps in a row", "chosen: as for the other exact rules; a pass that no step follows is no training")
SEVERAL = 2  # passes of an evaluation: a single one may be a look at something else
AVERAGED = 0.4  # of the passes in training mode ask again what was asked before
WRONG_SHARE = Threshold(0.5, "of the passes", "chosen: most of them", share=True)
NEVER_STEPPED = Threshold(50, "backward passes", "chosen: more than gradient accumulation needs before its first step")


def non_finite(view: RunView) -> Finding | None:
    """The first tensor that held a NaN or an infinite value; a problem when the loss, a weight or the input did."""
    events = _non_finite_events(view)
    if not events:
        return None
    step, _, where, _ = events[0]
    spoilt = any(event[3] for event in events) or not _loss_seen(view)
    if not spoilt and math.isfinite(view.loss_now):
        return None  # an overflow that mixed precision skips over, or a mask of minus infinity inside a layer
    rate = next((rate for at, rate in reversed(view.learning_rates) if at <= step), math.nan)
    evidence = [ev("step", step), ev("first tensor", where), ev("learning rate", rate)]
    before = [loss for at, loss in view.losses if at < step]
    evidence += [ev("last finite loss", before[-1])] if before else []
    if where == "input":
        message = (
            f"The images given to the network at step {step} held values that are not numbers, and everything computed from them is lost."
        )
        fix = Fix("Look for damaged files, a division by zero or a missing value where images are prepared; skip or repair those images.")
    elif where == "loss" and not view.until_broken.outcome.bad:
        message = (
            f"At step {step} the loss became infinite or not a number (NaN), although everything that went into it was finite and the losses before "
            "were ordinary: look for a logarithm of 0 or a division by 0 in the loss."
        )
        fix = Fix(
            "Use a loss that takes raw scores (cross_entropy, binary_cross_entropy_with_logits), or add a small number inside the logarithm."
        )
    else:
        name = f"the {where}" if where in ("loss", "gradient") else f"layer {where}"
        message = f"At step {step} {name} became infinite or not a number (NaN), and since then the network cannot learn."
        fix = Fix(
            "Train again from the start with a learning rate ten times lower or more, and limit the size of a step (gradient clipping at 1).",
            {**rate_instead(view, 10), "clip_norm": 1.0},
        )
    return Finding("non_finite", "problem", where, step, message, fix, tuple(evidence), "IEEE 754; pytorch issue 160016")


def _non_finite_events(view: RunView) -> list[tuple[int, int, str, bool]]:
    """(step, place in the flow of data, what, whether it alone spoils the run), earliest first."""
    events: list[tuple[int, int, str, bool]] = []
    for observation in view.seen("non_finite"):
        events.append((observation.step, 0, observation.subject, True))
    for place, (name, records) in enumerate(view.layers.items(), 1):
        first = next((r for r in records if r.non_finite or r.nan_count or r.inf_count), None)
        if first is not None:
            events.append((first.first_step, place, name, False))
    for record in view.steps if _loss_seen(view) else ():
        if view.is_broken(record.loss.last):
            events.append((record.first_step, 10**6, "loss", True))
            break
    for record in view.steps:
        if record.gradient_norm is not None and not math.isfinite(record.gradient_norm.last):
            events.append((record.first_step, 10**6 + 1, "gradient", False))
            break
    return sorted(events)


def _loss_seen(view: RunView) -> bool:
    """Whether a loss that is not finite is one that was seen, and not one that nobody could see."""
    return bool(view.losses or view.seen("loss_input"))


def grads_not_cleared(view: RunView) -> Finding | None:
    """Old gradients were still there when the next step's were added, several steps in a row."""
    for carry in view.newest("gradient_carry"):
        carried, checked = number(carry, "carried", 0), number(carry, "checked", 0)
        longest = max(view.seen("gradient_carry", carry.subject), key=lambda look: number(look, "streak", 0))
        streak, since = number(longest, "streak", 0), int(number(carry, "began", number(longest, "since", 0)))
        lasting = number(carry, "streak", 0) >= view.limit(CARRIED)
        if not lasting and not (streak >= view.limit(CARRIED) and carried >= view.limit(OFTEN)):
            continue
        return Finding(
            "grads_not_cleared",
            "problem",
            carry.subject,
            since,
            f"The gradients of earlier steps are not set back to zero before each step, so since step {since} the steps add up old "
            "directions and overshoot.",
            Fix("Call optimizer.zero_grad() once per step, before loss.backward()."),
            (
                ev("steps in a row with an old gradient", int(streak)),
                ev("steps with an old gradient", int(carried)),
                ev("steps looked at", int(checked)),
                ev("parameter", carry.subject),
            ),
            "exact: the gradient is non-zero before the first backward pass after a step",
        )
    return None


def params_not_in_optimizer(view: RunView) -> Finding | None:
    """Trainable weights that no optimiser holds: the head, or most of a network that was not trained before."""
    optimizers = view.newest("optimizer")
    if not optimizers or view.step_count < SETTLED:
        return None
    newest = optimizers[-1]
    held, missing = number(newest, "held", 1.0), str(newest.numbers.get("missing") or "")
    if held >= 1.0:
        return _strays(view)
    outcome, left_out = view.outcome, 1 - held
    fresh = number(newest, "missing_fresh", 1.0)
    head_missing = newest.numbers.get("head_held") is False
    if head_missing or number(newest, "foreign", 0) > view.limit(MOST) or (left_out > view.limit(MOST) and outcome.bad):
        severity: Severity = "problem"
    else:
        severity = _left_out_severity(view, left_out, fresh)
    return _left_out(newest.step, severity, left_out, missing or "unknown", fresh)


def _strays(view: RunView) -> Finding | None:
    """Layers in use that the network does not hold as its own, so that its parameters() lack them."""
    seen = view.last("strays")
    if seen is None or number(seen, "weights", 0) == 0:
        return None
    share, fresh = number(seen, "share"), number(seen, "fresh", 0.0)
    where = f"weights of shape {seen.numbers.get('shapes')}, in layers that the network does not hold as its own"
    return _left_out(0, _left_out_severity(view, share, fresh), share, where, fresh)


def _left_out_severity(view: RunView, left_out: float, fresh: float) -> Severity:
    outcome = view.outcome
    learned = outcome.fair and outcome.now < view.limit(LEARNED_WELL) * outcome.guessing
    if fresh <= view.limit(MOST) or left_out <= LEAST_LEFT_OUT or learned:
        return "note"
    return "problem" if left_out > view.limit(MOST) else "warning"


def _left_out(step: int, severity: Severity, share: float, missing: str, fresh: float) -> Finding:
    return Finding(
        "params_not_in_optimizer",
        severity,
        "" if " " in missing.split(", ")[0] else missing.split(", ")[0],
        step,
        f"{percent(share)} of the weights are never updated, because the optimiser was not given them (first among them: {missing}).",
        Fix(
            "Create the optimiser after the network is complete and in its final place, with all its weights: "
            "Optimizer(model.parameters()); keep lists of layers in an nn.ModuleList.",
            {"freeze_body": False},
        ),
        (
            ev("weights that the optimiser holds", percent(1 - share)),
            ev("left out", missing),
            ev("of these still as drawn at random", percent(fresh)),
        ),
        "exact: set difference of the trainable parameters in use and the optimisers' groups (TrainCheck)",
    )


def update_no_op(view: RunView) -> Finding | None:
    """Weights have gradients, and an optimiser steps, but the weights do not change; or no optimiser ever steps."""
    updates, modes = view.last("updates"), view.last("modes")
    passes = number(modes, "train_passes", 0) if modes is not None else 0
    if not view.step_count and not view.seen("optimizer") and passes >= view.limit(NEVER_STEPPED):
        return Finding(
            "update_no_op",
            "problem",
            "",
            0,
            f"After {int(passes)} batches no optimiser has taken a step, so the weights are still those of the start.",
            Fix("Call optimizer.step() after loss.backward()."),
            (ev("backward passes", int(passes)), ev("optimiser steps", 0)),
            "exact (TrainCheck)",
        )
    if updates is not None and number(updates, "ungraded", 0) >= view.limit(STILL):
        share = number(updates, "no_gradient", 0)
        whole = share > 0.99
        if not whole and not (view.outcome.bad or view.outcome.poor):
            return None
        since = _since(view, "ungraded")
        return Finding(
            "update_no_op",
            "problem" if whole or view.outcome.bad else "warning",
            "",
            since,
            f"Since step {since} the optimiser takes steps, but {percent(share)} of its weights receive no gradient any more, so they stay as they are."
            if since
            else f"The optimiser takes steps, but {percent(share)} of the weights never receive a gradient, so they stay as they are.",
            Fix(
                "Look for what happened before that step: when the network is copied or replaced, the new one needs an optimiser of its own; detach() "
                "and no_grad() cut gradients off."
                if since
                else "Call loss.backward() before optimizer.step(), and look for detach(), no_grad() or .item() between the network and the loss."
            ),
            (ev("weights without a gradient", percent(share)), ev("looks in a row", int(number(updates, "ungraded")))),
            "exact: the gradient is None at the step (TrainCheck)",
        )
    if (idle := _idle_group(view)) is not None:
        return idle
    if updates is None or number(updates, "still", 0) < view.limit(STILL) or number(updates, "still_share", 0) < view.limit(MOST):
        return None
    layers, share = str(updates.numbers.get("still_layers") or ""), number(updates, "still_share")
    return Finding(
        "update_no_op",
        "problem",
        layers.split(", ")[0],
        _since(view, "still"),
        f"The optimiser takes steps, but {percent(share)} of the weights have not changed at all although there is a gradient for them.",
        Fix(
            "Check that the optimiser holds the weights of this very network (not of a copy), and that they are not kept in a low "
            "precision that rounds small steps away."
        ),
        (
            ev("steps looked at without a change", int(number(updates, "still"))),
            ev("weights that do not move", percent(share)),
            ev("layers", layers),
        ),
        "exact: weights before and after the step are equal while the gradient is not zero (TrainCheck)",
    )


def _since(view: RunView, streak: str) -> int:
    """The step of the first of the last looks in a row that found this; 0 when the very first one did."""
    looks = view.seen("updates")
    first = next((at + 1 for at in range(len(looks) - 1, -1, -1) if not number(looks[at], streak, 0)), 0)
    return looks[first].step if first else 0


def _idle_group(view: RunView) -> Finding | None:
    """A parameter group whose learning rate is zero in every step, beside one that learns, in a run that goes badly."""
    rates: dict[str, list[float]] = {}
    for record in view.steps:
        for name in record.hyper:
            if name.partition(":")[0] == "lr":
                rates.setdefault(name, []).append(record.hyper[name].maximum)
    idle = [name for name, seen in rates.items() if len(seen) >= view.limit(STILL) and max(seen) == 0]
    if not idle or len(idle) == len(rates) or not (view.outcome.bad or view.outcome.poor):
        return None
    group = int(idle[0].partition(":")[2] or 0)
    return Finding(
        "update_no_op",
        "problem",
        "",
        0,
        f"The weights in the optimiser's parameter group {group} (counted from 0) have a learning rate of zero in every step, so they stay as they are.",
        Fix(f"Give group {group} a learning rate above 0, or leave its weights out of the optimiser if they are meant to stay."),
        (ev("groups without a learning rate", len(idle)), ev("groups", len(rates)), *loss_evidence(view.outcome)),
        "exact: the learning rate of every parameter group",
    )


def mostly_frozen(view: RunView) -> Finding | None:
    """The head is frozen, or most weights are although they were never trained; a trained backbone frozen on purpose is fine."""
    network = view.last("network")
    if network is None:
        return None
    total, trainable = number(network, "weights"), number(network, "trainable")
    frozen = 1 - trainable / total if total else 0.0
    if not frozen > 0:
        return None
    outcome, fresh = view.outcome, number(network, "frozen_fresh", 0.0)
    well = LEARNED_WELL if frozen > view.limit(MOST) else PERFECT
    learned = outcome.fair and outcome.now < view.limit(well) * outcome.guessing
    if network.numbers.get("head_trainable") is False or (frozen > view.limit(NEARLY_ALL) and outcome.bad):
        severity: Severity = "problem"
    elif frozen > view.limit(A_PART) and fresh > view.limit(MOST) and not learned:
        severity = "problem" if outcome.poor or outcome.bad else "warning"
    else:
        return None
    return Finding(
        "mostly_frozen",
        severity,
        str(network.numbers.get("head") or "") if network.numbers.get("head_trainable") is False else "",
        0,
        f"{percent(frozen)} of the weights are frozen (requires_grad is False) as they were drawn at random, so these layers cannot learn."
        if network.numbers.get("head_trainable") is not False
        else f"The last layer is frozen (requires_grad is False), and with it {percent(frozen)} of the weights, so the answers cannot be learned.",
        Fix(
            "Set requires_grad to True for the layers that should learn; check the names that the freezing code selects.",
            {"freeze_body": False},
        ),
        (ev("frozen weights", percent(frozen)), ev("of these still as drawn at random", percent(fresh)), *loss_evidence(outcome)),
        "exact: requires_grad of every parameter (TrainCheck)",
    )


def wrong_mode(view: RunView) -> Finding | None:
    """Training in evaluation mode, or evaluating in training mode, in a network with batch norm or dropout."""
    modes, network = view.last("modes"), view.last("network")
    if modes is None:
        return None
    trained, as_eval = number(modes, "train_passes", 0), number(modes, "train_in_eval", 0)
    streak = number(modes, "train_in_eval_streak", 0)
    has_norm = network is not None and number(network, "batch_norms", 0) > 0
    if streak >= view.limit(WRONG_STEPS):
        since = int(number(modes, "train_in_eval_since", 0))
        frozen = network is not None and number(network, "trainable") < 0.5 * number(network, "weights")  # a trained backbone kept as it is
        what = "batch normalisation does not use the batch's own statistics" if has_norm else "dropout is switched off"
        return Finding(
            "wrong_mode",
            "note" if frozen else "problem" if has_norm else "warning",
            "",
            since,
            f"Since step {since} the network trains in evaluation mode, so {what}.",
            Fix("Call model.train() before each training epoch, also after every validation."),
            (ev("training passes in evaluation mode", int(as_eval)), ev("training passes", int(trained))),
            "exact: the training flag of the network while gradients are computed",
        )
    evaluated, as_train = number(modes, "eval_passes", 0), number(modes, "eval_in_train", 0)
    phases = number(modes, "evaluations", 0)  # a pass without gradients in every step is part of the training (of a generator, a teacher)
    on_purpose = not view.alone or number(modes, "asked_again", 0) > AVERAGED * as_train  # a generator's samples, averages over dropout
    if as_train >= SEVERAL and as_train > view.limit(WRONG_SHARE) * evaluated and phases * 4 <= max(trained, 4) and not on_purpose:
        return _evaluated_in_training_mode(modes, int(as_train), int(evaluated))
    return None


def _evaluated_in_training_mode(modes: Observation, as_train: int, evaluated: int) -> Finding:
    since = int(number(modes, "eval_in_train_since", 0))
    leaks = modes.numbers.get("batch_norm_in_train") is True
    what = (
        "each answer depends on the other images in its batch, and batch normalisation learns from the validation images"
        if leaks
        else "dropout still switches off random units"
    )
    return Finding(
        "wrong_mode",
        "problem" if leaks and as_train == evaluated else "warning",
        "",
        since,
        f"Validation runs in training mode ({as_train} of {evaluated} passes), so {what}.",
        Fix("Call model.eval() before validation and model.train() after it."),
        (ev("evaluation passes in training mode", as_train), ev("evaluation passes", evaluated)),
        "exact: the training flag in passes without a backward pass on images that are not trained on (pytorch issue 4741)",
    )


RULES = (
    Rule("non_finite", non_finite, True, ()),
    Rule("grads_not_cleared", grads_not_cleared, True, ("gradient_carry",)),
    Rule("params_not_in_optimizer", params_not_in_optimizer, True, ("optimizer",)),
    Rule("update_no_op", update_no_op, True, ("updates",)),
    Rule("mostly_frozen", mostly_frozen, True, ("network",)),
    Rule("wrong_mode", wrong_mode, True, ("modes",)),
)
