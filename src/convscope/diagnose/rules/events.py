"""Exact events: things that are wrong whatever the outcome, seen at the step at which they happen.

Receives a RunView, returns one Finding or None per rule. Where the event alone is legitimate (weights left out on purpose, a frozen backbone),
the rule says what else must be true.
"""

from __future__ import annotations

import math

from convscope.diagnose.rule import Rule, ev, percent
from convscope.diagnose.rules.layers import rate_instead
from convscope.diagnose.view import RunView, Threshold, number
from convscope.records import Finding, Fix, Observation

CARRIED = Threshold(3, "steps in a row", "diagnoses.md, row 2: one stale gradient can be a restart, three are a missing zero_grad")
OFTEN = Threshold(8, "steps", "chosen: gradients that are cleared now and then, but not each time")
WRONG_STEPS = Threshold(5, "steps in a row", "chosen: as for the other exact rules; a pass that no step follows is no training")
SEVERAL = 2  # passes of an evaluation: a single one may be a look at something else
AVERAGED = 0.4  # of the passes in training mode ask again what was asked before
MODE_GAP = Threshold(0.05, "of the images", "chosen: the averages of batch norm are off by enough to cost accuracy")
WRONG_SHARE = Threshold(0.5, "of the passes", "chosen: most of them", share=True)


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
    by_mistake = phases * 4 <= max(trained, 4) and not on_purpose
    if as_train >= SEVERAL and as_train > view.limit(WRONG_SHARE) * evaluated and by_mistake:
        return _evaluated_in_training_mode(modes, int(as_train), int(evaluated))
    learned_from = number(modes, "norm_on_new", 0) + number(modes, "norm_on_known", 0)
    costly = view.generalisation_gap > view.limit(MODE_GAP)
    if learned_from >= SEVERAL and costly and by_mistake:
        return _averages_spoilt(view, int(learned_from), int(evaluated))
    return None


def _averages_spoilt(view: RunView, passes: int, evaluated: int) -> Finding:
    """Some passes that are no training ran in training mode, on whatever images, and those that matter may well be in evaluation mode."""
    return Finding(
        "wrong_mode",
        "warning",
        "",
        next((o.step for o in view.seen("modes") if number(o, "norm_on_new", 0) + number(o, "norm_on_known", 0) > 0), 0),
        f"{passes} passes that are no training ran in training mode, and batch normalisation mixed their images into the averages that it uses for new "
        f"images: of these {percent(view.generalisation_gap)} fewer are answered rightly than of training images.",
        Fix(
            "Call model.eval() before every pass that is no training, also in reports and checks on training images, and model.train() before training goes on."
        ),
        (
            ev("passes in training mode that are no training", passes),
            ev("passes that are no training", evaluated),
            ev("training accuracy minus validation accuracy", view.generalisation_gap),
        ),
        "exact: the training flag in passes without a backward pass; the gap bears it out (pytorch issue 4741)",
    )


def _evaluated_in_training_mode(modes: Observation, as_train: int, evaluated: int) -> Finding:
    since = int(number(modes, "eval_in_train_since", 0))
    if number(modes, "dropped", 0) == as_train:
        return _dropped(since, as_train, evaluated)
    leaks = modes.numbers.get("batch_norm_in_train") is True
    what = (
        "each answer depends on the other images in its batch, and batch normalisation learns from the validation images"
        if leaks
        else "dropout still switches off random units"
    )
    inner = number(modes, "inner_in_train", 0) == as_train
    who = (
        "Although the network itself is in evaluation mode, layers inside it run validation in training mode"
        if inner
        else "Validation runs in training mode"
    )
    fix = Fix("Call model.eval() before validation and model.train() after it.")
    if inner:
        fix = Fix(
            "Call model.eval() before validation and model.train() after it: setting model.training does not reach the layers inside, and neither reaches "
            "layers in a plain list (use nn.ModuleList)."
        )
    return Finding(
        "wrong_mode",
        "problem" if leaks and as_train == evaluated else "warning",
        "",
        since,
        f"{who} ({as_train} of {evaluated} passes), so {what}.",
        fix,
        (ev("evaluation passes in training mode", as_train), ev("evaluation passes", evaluated)),
        "exact: the training flag in passes without a backward pass on images that are not trained on (pytorch issue 4741)",
    )


def _dropped(since: int, passes: int, evaluated: int) -> Finding:
    """Dropout called as a function, which no mode of the network reaches."""
    return Finding(
        "wrong_mode",
        "warning",
        "",
        since,
        f"Dropout is called as a function that does not ask for the network's mode, so it switches off random units in validation too ({passes} of "
        f"{evaluated} passes).",
        Fix("Call F.dropout with training=self.training, or use nn.Dropout, which model.eval() switches off."),
        (ev("evaluation passes with dropout", passes), ev("evaluation passes", evaluated)),
        "exact: dropout that drops in a pass of a network in evaluation mode",
    )


RULES = (
    Rule("non_finite", non_finite, True, ()),
    Rule("grads_not_cleared", grads_not_cleared, True, ("gradient_carry",)),
    Rule("wrong_mode", wrong_mode, True, ("modes",)),
)
