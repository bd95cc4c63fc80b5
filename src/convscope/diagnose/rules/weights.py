"""Weights that are not trained: left out of every optimiser, without a gradient, frozen, or rounded back to where they were.

Receives a RunView, returns one Finding or None per rule. Where the event alone is legitimate (weights left out on purpose, a frozen backbone),
the rule says what else must be true.
"""

from __future__ import annotations

import math

from convscope.diagnose.observations import BY_NAME
from convscope.diagnose.rule import Rule, ev, loss_evidence, percent
from convscope.diagnose.rules.layers import lies_within
from convscope.diagnose.view import RunView, Threshold, number
from convscope.records import Finding, Fix, Observation, Severity

LEAST_LEFT_OUT = 0.01  # of the weights: less of them cannot matter much
SETTLED = 3  # steps after which every optimiser of the loop has stepped
STILL = Threshold(5, "steps in a row", "diagnoses.md, row 3")
PUT_BACK = Threshold(3, "evaluations in a row", "chosen: a network that is set back on purpose, for another fold, is so less often")
MOST = Threshold(0.5, "of the weights", "diagnoses.md, row 3", share=True)
NEARLY_ALL = Threshold(0.9, "of the weights", "diagnoses.md, row 4", share=True)
LEARNED_WELL = Threshold(
    0.25, "of the loss of guessing", "chosen: below it the layers that do not train are plainly good as they are", share=True
)
PERFECT = Threshold(0.05, "of the loss of guessing", "chosen: nothing worth having is left to learn", share=True)
A_PART = Threshold(0.01, "of the weights", "chosen: the first convolutions of a small network are no more than that", share=True)
SOON = Threshold(0.25, "of the steps", "chosen: a first stage that is meant to end takes longer", share=True)
OVERFLOW = 1.8e19  # square root of the greatest float32
WHOLE = 0.99  # of the weights: as good as all
NEVER_STEPPED = Threshold(50, "backward passes", "chosen: more than gradient accumulation needs before its first step")


def params_not_in_optimizer(view: RunView) -> Finding | None:
    """Trainable weights that no optimiser holds: the head, or most of a network that was not trained before."""
    newest = view.last("optimizer")
    if newest is None:
        return _without_optimizer(view)
    if view.step_count < SETTLED:
        return None
    held, missing = number(newest, "held", 1.0), str(newest.numbers.get("missing") or "")
    later = _left_out_later(view)
    if held >= 1.0 or (later is not None and newest.step > 0):
        return later or _strays(view)
    outcome, left_out = view.outcome, 1 - held
    fresh = number(newest, "missing_fresh", 1.0)
    head_missing = newest.numbers.get("head_held") is False
    if head_missing or number(newest, "foreign", 0) > view.limit(MOST) or (left_out > view.limit(MOST) and outcome.bad):
        severity: Severity = "problem"
    else:
        severity = _left_out_severity(view, left_out, fresh)
    return _left_out(newest.step, severity, left_out, missing or "unknown", fresh)


def _no_optimizer_seen(view: RunView) -> str:
    return "" if view.seen("optimizer") else BY_NAME["optimizer"].missing


def _without_optimizer(view: RunView) -> Finding | None:
    """One of several networks gets gradients, is as it was drawn at random, and no optimiser holds it."""
    unstepped = view.last("unstepped")
    if unstepped is None or view.alone or unstepped.numbers.get("moved") is not False:
        return None
    passes, fresh = number(unstepped, "passes", 0), number(unstepped, "fresh", 0.0)
    if passes < view.limit(NEVER_STEPPED) or fresh <= view.limit(MOST):
        return None
    return Finding(
        "params_not_in_optimizer",
        "problem",
        "",
        0,
        "This network is part of what is trained and its weights are as they were drawn at random, but no optimiser holds them, so it never learns.",
        Fix("Give its parameters to an optimiser too: Optimizer([*first.parameters(), *second.parameters()]), or an optimiser of its own."),
        (ev("backward passes", int(passes)), ev("weights as drawn at random", percent(fresh))),
        "exact: no optimiser that stepped holds any of its parameters (TrainCheck)",
    )


def _left_out_later(view: RunView) -> Finding | None:
    """Weights in use that an optimiser has let go, or that came into the network after the optimiser was made."""
    idle = view.last("idle")
    share, since = number(idle, "left_out_late", 0.0) if idle is not None else 0.0, _late(idle, "left_out")
    if idle is None or since is None or share <= view.limit(A_PART):
        return None
    layers, head = str(idle.numbers.get("left_out_layers") or ""), idle.numbers.get("left_out_head") is True
    fresh = number(idle, "fresh", 0.0)
    if number(idle, "left_out", 0.0) > WHOLE or (fresh > 0 and (head or fresh > view.limit(MOST))):
        severity: Severity = "problem"
    elif fresh > view.limit(A_PART):
        severity = "warning"
    elif (later := _stopped_early(view, number(idle, "left_out", 0.0), head, since)) is not None:
        severity = later
    else:
        return None
    return Finding(
        "params_not_in_optimizer",
        severity,
        layers.split(", ")[0],
        since,
        f"Since step {since} {percent(share)} of the weights are not updated any more: they get gradients, but no optimiser holds them "
        f"(first among them: {layers}).",
        Fix(
            "Look for what happened before that step: after a layer was replaced, or weights were loaded with assign=True, make the optimiser anew, or "
            "add the new weights with optimizer.add_param_group; and take no weights out of its groups that should still learn.",
        ),
        (ev("left out", percent(share)), ev("of these as drawn at random", percent(fresh / share)), *loss_evidence(view.outcome)),
        "exact: set difference of the trainable parameters in use and the optimisers' groups (TrainCheck)",
    )


def _late(idle: Observation | None, reason: str) -> int | None:
    """The step at which weights that were trained stopped being so."""
    since = idle.numbers.get(f"{reason}_since") if idle is not None else None
    return int(since) if isinstance(since, int | float) else None


def _stopped_early(view: RunView, share: float, head: bool, since: int) -> Severity | None:
    """How grave it is that weights which were trained for a while are not any more: nothing, unless little was learned.

    It must be the last layer or nearly all of them, or most of them for most of a run that goes poorly.
    """
    outcome = view.outcome
    soon = since < view.limit(SOON) * view.step_count and (outcome.poor or outcome.bad)
    if not share > view.limit(MOST) or not (head or share > view.limit(NEARLY_ALL) or soon):
        return None
    if not outcome.fair or outcome.now < view.limit(LEARNED_WELL) * outcome.guessing:
        return None
    return "problem" if outcome.poor or outcome.bad else "warning"


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
    if (idle := _never_stepped(view)) is not None:
        return idle
    updates = view.last("updates")
    if (erased := _erased(view, updates)) is not None:
        return erased
    if updates is not None and number(updates, "ungraded", 0) >= view.limit(STILL):
        return _ungraded(view, updates)
    if (idle := _idle_group(view)) is not None:
        return idle
    if updates is None or number(updates, "still", 0) < view.limit(STILL) or number(updates, "still_share", 0) < view.limit(MOST):
        return _undone(view, updates) or _put_back(view, updates) or _rounded(view, updates)
    if _overflows(view):
        return None  # such a gradient is told by its size: Adam divides by it, which leaves nothing of the step
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


def _overflows(view: RunView) -> bool:
    """Whether most of the last gradients are so great that their squares are infinite in single precision."""
    norms = [s.gradient_norm.maximum for s in view.steps[-20:] if s.gradient_norm is not None]
    return 2 * sum(not norm < OVERFLOW for norm in norms) > len(norms)


def _ungraded(view: RunView, updates: Observation) -> Finding | None:
    """No gradient reaches most of the weights; a trained part that is used as it is may do without."""
    share, since, outcome = number(updates, "no_gradient", 0), _since(view, "ungraded"), view.outcome
    named = str(updates.numbers.get("ungraded_layers") or "")
    layers = named.split(", ") if named else []
    severity: Severity = "warning"
    if share > WHOLE or outcome.bad:
        severity = "problem"
    elif not outcome.poor:
        untrained = not since and number(updates, "ungraded_fresh", 0) > view.limit(MOST)
        if not untrained or not outcome.fair or outcome.now < view.limit(LEARNED_WELL) * outcome.guessing:
            return None
        severity = "warning" if any(layer in view.layers for layer in layers) else "note"  # what was never run may be there for later
    which = f" (first among them: {named})" if named and share <= WHOLE else ""
    return Finding(
        "update_no_op",
        severity,
        layers[0] if layers and share <= WHOLE else "",
        since,
        f"Since step {since} the optimiser takes steps, but {percent(share)} of its weights receive no gradient any more{which}, so they stay as they are."
        if since
        else f"The optimiser takes steps, but {percent(share)} of the weights never receive a gradient{which}, so they stay as they are.",
        Fix(
            "Look for what happened before that step: when the network is copied or replaced, the new one needs an optimiser of its own; detach() "
            "and no_grad() cut gradients off."
            if since
            else "Call loss.backward() before optimizer.step(); look for detach(), no_grad(), .item() or torch.tensor() between these weights and the "
            "loss, and for a copy of the network that is run in its place."
        ),
        (ev("weights without a gradient", percent(share)), ev("looks in a row", int(number(updates, "ungraded")))),
        "exact: the gradient is None at the step (TrainCheck)",
    )


def _never_stepped(view: RunView) -> Finding | None:
    """Gradients come and come, no optimiser steps, and nobody else changes the weights."""
    unstepped = view.last("unstepped")
    if unstepped is None or not view.alone or view.step_count or view.seen("optimizer") or unstepped.numbers.get("moved") is not False:
        return None
    passes = number(unstepped, "passes", 0)
    if passes < view.limit(NEVER_STEPPED):
        return None
    return Finding(
        "update_no_op",
        "problem",
        "",
        0,
        f"After {int(passes)} batches no optimiser has taken a step, so the weights are still those of the start.",
        Fix(
            "Call optimizer.step() after loss.backward() (scheduler.step() only changes the learning rate); where the loop changes the weights itself, "
            "it must change them in place: p -= rate * p.grad within torch.no_grad()."
        ),
        (ev("backward passes", int(passes)), ev("optimiser steps", 0)),
        "exact (TrainCheck)",
    )


def _erased(view: RunView, updates: Observation | None) -> Finding | None:
    """Gradients come, and are gone when the optimiser steps."""
    if updates is None or number(updates, "erased", 0) < view.limit(STILL):
        return None
    gone = number(updates, "ungraded", 0) >= view.limit(STILL) and number(updates, "no_gradient", 0) > WHOLE
    since = _since(view, "erased")
    when = f"Since step {since}" if since > 1 else "From the start"  # at the very first step nobody looks yet
    return Finding(
        "update_no_op",
        "problem",
        "",
        since if since > 1 else 0,
        f"{when} the gradients that each batch gives are deleted before the optimiser takes its step, so the weights stay as they are."
        if gone
        else f"{when} the gradients that each batch gives are set to zero before the optimiser takes its step, so they cannot steer it.",
        Fix(
            "Call optimizer.zero_grad(), loss.backward() and optimizer.step() in this order, with nothing between backward and step that clears, masks or "
            "clips the gradients to zero."
        ),
        (
            ev("looks in a row", int(number(updates, "erased"))),
            ev("weights without a gradient", percent(number(updates, "no_gradient", 0))),
        ),
        "exact: a gradient that was not zero when it came is zero or None at the step",
    )


def _undone(view: RunView, updates: Observation | None) -> Finding | None:
    """Something puts the weights back, nearly to where they were, after each step."""
    if updates is None or number(updates, "undone", 0) < view.limit(STILL):
        return None
    left, since = number(updates, "surviving"), _since(view, "undone")
    return Finding(
        "update_no_op",
        "problem" if view.outcome.bad or view.outcome.poor else "warning",
        "",
        since,
        f"After each step something changes the weights back: only {percent(max(0.0, left))} of the step is left when the next one begins.",
        Fix(
            "Look for what writes to the weights between the steps: an average of weights (EMA) belongs into a copy of the network, and is not to be loaded "
            "into the one that is trained."
        ),
        (ev("left of the step", percent(max(0.0, left))), ev("looks in a row", int(number(updates, "undone")))),
        "exact: weights before and after a step, and before the next one",
    )


def _put_back(view: RunView, updates: Observation | None) -> Finding | None:
    """Evaluations leave weights behind that hold hardly anything of the steps since the evaluation before."""
    if updates is None or number(updates, "put_back", 0) < view.limit(PUT_BACK) or not view.outcome.much_left:
        return None
    left, steps, since = percent(max(0.0, number(updates, "left"))), int(number(updates, "steps_between", 0)), _since(view, "put_back")
    return Finding(
        "update_no_op",
        "problem" if view.outcome.bad else "warning",
        "",
        since,
        f"At each evaluation something writes other weights into the network and leaves them there: only {left} of the work of the last {steps} steps is "
        "left when training goes on.",
        Fix(
            "Keep a copy of the weights right before the evaluation (copy.deepcopy(model.state_dict())) and load it back right after it, or evaluate "
            "averaged weights in a network of their own."
        ),
        (
            ev("left of the steps in between", left),
            ev("steps in between", steps),
            ev("evaluations in a row", int(number(updates, "put_back"))),
        ),
        "exact: weights before and after evaluations",
    )


def _rounded(view: RunView, updates: Observation | None) -> Finding | None:
    """Most single weights lie in numbers too coarse for their steps, and the run goes badly."""
    outcome = view.outcome
    held_back = outcome.much_left and _lately_rounded(view)
    if updates is None or number(updates, "rounded", 0) < view.limit(STILL) or not (outcome.bad or outcome.poor or held_back):
        return None
    share, since = number(updates, "rounded_share"), _since(view, "rounded")
    return Finding(
        "update_no_op",
        "problem" if outcome.bad else "warning",
        "",
        since,
        f"{percent(share)} of the weights stay exactly as they are at a step, because the steps are smaller than the gaps between the numbers that can "
        "hold these weights: they are rounded away.",
        Fix(
            "Keep the weights in float32 (model.float()) and use torch.autocast for speed; where they are float32 already, they are too large: draw them "
            "smaller at the start."
        ),
        (
            ev("weights with a gradient that do not move", percent(share)),
            ev("looks in a row", int(number(updates, "rounded"))),
            *loss_evidence(outcome),
        ),
        "exact: single weights before and after a step are equal while their gradient is not zero",
    )


def _lately_rounded(view: RunView) -> bool:
    """Whether nearly all steps were rounded away over the last looks, at a learning rate that has not been lowered."""
    looks = view.seen("updates")[-int(view.limit(STILL)) :]
    rates = [rate for _, rate in view.learning_rates]
    lowered = not rates or rates[-1] <= max(rates) / 2
    return not lowered and bool(looks) and min(number(o, "rounded_share", 0) for o in looks) > view.limit(NEARLY_ALL)


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
    total, trainable, idle = number(network, "weights"), number(network, "trainable"), view.last("idle")
    frozen = 1 - trainable / total if total else 0.0
    head_frozen = network.numbers.get("head_trainable") is False and not _is_adapted(view, str(network.numbers.get("head") or ""))
    if idle is not None:  # what was frozen at first may be trained later, or by turns
        since_start = number(idle, "frozen", 0.0) - number(idle, "frozen_late", 0.0)
        frozen, head_frozen = min(frozen, since_start), head_frozen and idle.numbers.get("frozen_head") is True
    if not frozen > 0:
        return _frozen_later(view, idle)
    outcome, fresh = view.outcome, number(network, "frozen_fresh", 0.0)
    if (in_vain := _unfrozen_in_vain(view, frozen)) is not None:
        return in_vain
    well = LEARNED_WELL if frozen > view.limit(MOST) else PERFECT
    learned = outcome.fair and outcome.now < view.limit(well) * outcome.guessing
    if head_frozen and not fresh > view.limit(MOST):  # trained before: layers or adapters below it may learn to use it
        head_frozen = outcome.fair and not learned
    if head_frozen or (frozen > view.limit(NEARLY_ALL) and outcome.bad):
        severity: Severity = "problem"
    elif frozen > view.limit(A_PART) and fresh > view.limit(MOST) and not learned:
        severity = "problem" if outcome.poor or outcome.bad else "warning"
    else:
        return _frozen_later(view, idle)
    return Finding(
        "mostly_frozen",
        severity,
        str(network.numbers.get("head") or "") if head_frozen else "",
        0,
        f"{percent(frozen)} of the weights are frozen (requires_grad is False) as they were drawn at random, so these layers cannot learn."
        if not head_frozen
        else f"The last layer is frozen (requires_grad is False), and with it {percent(frozen)} of the weights, so the answers cannot be learned.",
        Fix(
            "Set requires_grad to True for the layers that should learn; check the names that the freezing code selects.",
            {"freeze_body": False},
        ),
        (ev("frozen weights", percent(frozen)), ev("of these still as drawn at random", percent(fresh)), *loss_evidence(outcome)),
        "exact: requires_grad of every parameter (TrainCheck)",
    )


def _is_adapted(view: RunView, head: str) -> bool:
    """Whether the last layer lies within one that is trained, which adds to its answers what it has learned itself (LoRA)."""
    around = [name for name in view.weighted_layers if lies_within(head, name)]
    return any(math.isfinite(record.gradient_rms) for name in around for record in view.layers[name][-1:])


def _unfrozen_in_vain(view: RunView, frozen: float) -> Finding | None:
    """requires_grad was set on a layer, which does not hand it on to its weights."""
    seen = next((o for o in view.seen("idle") if o.numbers.get("in_vain")), None)
    outcome = view.outcome
    if seen is None or not frozen > view.limit(A_PART) or not outcome.fair:
        return None
    layers = str(seen.numbers["in_vain"])
    learned = outcome.now < view.limit(LEARNED_WELL) * outcome.guessing
    return Finding(
        "mostly_frozen",
        "note" if learned else "problem" if outcome.poor or outcome.bad else "warning",
        layers.split(", ")[0],
        seen.step,
        f"requires_grad was set to True on {layers} itself, where it does nothing: {percent(frozen)} of the weights are still frozen and cannot learn.",
        Fix("Call layer.requires_grad_(True), which reaches the weights, or set requires_grad on each of layer.parameters()."),
        (ev("frozen weights", percent(frozen)), ev("set in vain on", layers), *loss_evidence(outcome)),
        "exact: an attribute requires_grad of a module, and requires_grad of its parameters (TrainCheck)",
    )


def _frozen_later(view: RunView, idle: Observation | None) -> Finding | None:
    """Weights that were trained for a while were frozen before much was learned, the last layer or nearly all of them."""
    since = _late(idle, "frozen")
    if idle is None or since is None:
        return None
    share = number(idle, "frozen", 0.0)
    severity = _stopped_early(view, share, idle.numbers.get("frozen_head") is True, since)
    if severity is None:
        return None
    layers = str(idle.numbers.get("frozen_layers") or "")
    return Finding(
        "mostly_frozen",
        severity,
        layers.split(", ")[0],
        since,
        f"Since step {since} {percent(share)} of the weights are frozen (requires_grad is False), so they have stopped learning (first among them: {layers}).",
        Fix("Look for what sets requires_grad to False before that step, and check the names that it selects."),
        (ev("frozen weights", percent(share)), *loss_evidence(view.outcome)),
        "exact: requires_grad of every parameter (TrainCheck)",
    )


RULES = (
    Rule("params_not_in_optimizer", params_not_in_optimizer, True, (), unknown=_no_optimizer_seen),
    Rule("update_no_op", update_no_op, True, ("updates",)),
    Rule("mostly_frozen", mostly_frozen, True, ("network",)),
)
