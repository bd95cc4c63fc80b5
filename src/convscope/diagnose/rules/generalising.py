"""Rules on what comes out: learning by heart, being held back too hard, or always giving the same answer.

Receives a RunView, returns one Finding or None per rule.
"""

from __future__ import annotations

import math
import statistics

from convscope.diagnose.rule import Rule, ev, gated, loss_evidence, percent, short
from convscope.diagnose.rules.images_and_labels import only_trained_on
from convscope.diagnose.view import RunView, Threshold, number
from convscope.records import Finding, Fix, Observation, Severity

RISE = Threshold(1.1, "times its minimum", "SageMaker Overfit; diagnoses.md, row 24")
STEEP_RISE = Threshold(1.5, "times its minimum", "chosen: well beyond what a converged run drifts")
EVALUATIONS = Threshold(3, "evaluations", "diagnoses.md, row 24")
ACCURACY_GAP = Threshold(0.1, "of the images", "chosen: a tenth of the images right only when learned by heart")
BY_HEART = 0.95  # of the training images right
HEAVY_DROPOUT = Threshold(0.8, "of the activations", "diagnoses.md, row 24", share=True)
DECAY_SHARE = Threshold(1.0, "times the gradient", "diagnoses.md, row 24: the decay pulls harder than the images")
LOPSIDED = Threshold(0.8, "of the training labels", "chosen: beyond it a class with fair competition would be rare", share=True)
ONLY_ANSWER = 0.999  # of the answers: no other class is ever answered
RARE_LABELS = 0.99  # of the labels: beyond it, hardly any image of another class is there to be answered
ANSWER_GAP = 0.1  # of the images: how far the share of the answers lies above that of the labels
USELESS = 0.02  # of the images: better than one constant answer by no more than chance
MOST_ANSWERS = Threshold(0.8, "of the answers", "chosen: with an accuracy that one constant answer would reach", share=True)
ONE_ANSWER = Threshold(0.95, "of the answers", "diagnoses.md, row 24", share=True)


def overfitting(view: RunView) -> Finding | None:
    """Validation gets worse, evaluation after evaluation, while training gets better."""
    evaluations = [o for o in view.seen("validation") if math.isfinite(number(o, "loss")) and number(o, "in_training", 0) < 0.5]
    fits = view.seen("fit")
    if len(evaluations) < view.limit(EVALUATIONS) + 1 or not fits:
        return None
    losses = [number(o, "loss") for o in evaluations]
    best = min(range(len(losses)), key=losses.__getitem__)
    risen = [loss for loss in losses[best + 1 :] if loss > view.limit(RISE) * losses[best]]
    trained, validated = view.training_accuracy, number(evaluations[-1], "accuracy")
    gap = trained - validated
    rises = len(risen) >= view.limit(EVALUATIONS) and losses[-1] >= view.limit(RISE) * losses[best]
    by_heart = trained > BY_HEART and all(
        trained - number(o, "accuracy") > 2 * view.limit(ACCURACY_GAP) for o in evaluations[-int(view.limit(EVALUATIONS)) :]
    )
    if not (rises or by_heart) or not gap > 0:
        return None
    severe = losses[-1] > view.limit(STEEP_RISE) * losses[best] and gap > view.limit(ACCURACY_GAP)
    severity: Severity = "warning" if severe or by_heart else "note"
    if severe and gap > 2 * view.limit(ACCURACY_GAP):
        severity = "problem"
    return Finding(
        "overfitting",
        severity,
        "",
        evaluations[best].step,
        f"Since step {evaluations[best].step} the network learns the training images by heart: {percent(trained)} of them are right, of "
        f"new images {percent(validated)}{', and the loss on new images rises' if rises else ''}.",
        Fix(
            "Use more images or augmentation (random flips and crops), or stop at the best evaluation.",
            {"augment": True, "weight_decay": 0.01},
        ),
        (
            ev("lowest validation loss", losses[best]),
            ev("validation loss now", losses[-1]),
            ev("right on training images", percent(trained)),
            ev("right on validation images", percent(validated)),
        ),
        "SageMaker Overfit; gradsnitch",
    )


def over_regularised(view: RunView) -> Finding | None:
    """Dropout or weight decay so strong that little can be learned."""
    outcome, network, optimizer = view.outcome, view.last("network"), view.last("optimizer")
    if not outcome.fair or not (outcome.bad or outcome.poor):
        return None
    dropout = number(network, "dropout", 0.0) if network is not None else 0.0
    if dropout >= view.limit(HEAVY_DROPOUT):
        return Finding(
            "over_regularised",
            gated(outcome),
            "dropout",
            0,
            f"Dropout switches off {percent(dropout)} of the units in every step, so the rest can hardly learn anything.",
            Fix("Lower dropout to 0.5 or less.", {"dropout": 0.25}),
            (ev("dropout", dropout), *loss_evidence(outcome)),
            "TheDeepChecker; diagnoses.md, row 24",
        )
    decay = number(optimizer, "weight_decay", 0.0) if optimizer is not None else 0.0
    pull = _decay_pull(view, decay, decoupled=optimizer is not None and optimizer.numbers.get("decoupled") is True)
    shrunk = _shrinking(view)
    if decay <= 0 or pull < view.limit(DECAY_SHARE) or shrunk > 0.7:
        return None
    return Finding(
        "over_regularised",
        gated(outcome),
        "weight decay",
        0,
        f"Weight decay ({short(decay)}) pulls the weights towards zero harder than the images pull them anywhere: they have shrunk to "
        f"{percent(shrunk)} of their size.",
        Fix("Lower the weight decay to 0.01 or less.", {"weight_decay": rounded_decay(decay)}),
        (
            ev("weight decay", decay),
            ev("pull of the decay over that of the images", pull),
            ev("size of the weights now", percent(shrunk)),
            *loss_evidence(outcome),
        ),
        "TheDeepChecker: overwhelming regularisation",
    )


def rounded_decay(decay: float) -> float:
    """A usual weight decay below the present one."""
    return 0.01 if decay > 0.1 else decay / 100


def _decay_pull(view: RunView, decay: float, *, decoupled: bool) -> float:
    """Median over layers of weight decay's part of a step over the gradient's."""
    lr = max((rate for _, rate in view.learning_rates), default=0.0)
    pulls = []
    for name in view.weighted_layers:
        recent = [r for r in view.layers[name][-20:] if math.isfinite(r.weight_rms)]
        for r in recent:
            if decoupled and math.isfinite(r.update_ratio) and r.update_ratio > 0:
                pulls.append(lr * decay / r.update_ratio)
            elif not decoupled and r.gradient_rms > 0:
                pulls.append(decay * r.weight_rms / r.gradient_rms)
    return statistics.median(pulls) if pulls else 0.0


def _shrinking(view: RunView) -> float:
    """Median over layers of the weights' size now over their size at the start."""
    shares = []
    for name in view.weighted_layers:
        sizes = [r.weight_rms for r in view.layers[name] if math.isfinite(r.weight_rms) and r.weight_rms > 0]
        if len(sizes) >= 2:
            shares.append(sizes[-1] / sizes[0])
    return statistics.median(shares) if shares else 1.0


def one_class(view: RunView) -> Finding | None:
    """Nearly all answers are the same class although the labels are not; or one class drowns the others in training."""
    outcome = view.outcome
    if not outcome.fair:
        return None
    return _same_answer(view) or _drowned(view)


def _drowned(view: RunView) -> Finding | None:
    """Training images nearly all of one class, and a validation that shows what that costs."""
    labels, validation = view.last("labels"), view.last("validation")
    if labels is None or validation is None:
        return None
    share, answers, truth = number(labels, "largest_share"), number(validation, "largest_answer"), number(validation, "largest_label")
    lopsided = share > view.limit(LOPSIDED) and answers > 2 * truth and share > 2 * truth
    if not lopsided or not view.generalisation_gap > ANSWER_GAP:
        return None
    return Finding(
        "one_class",
        "problem" if view.generalisation_gap > 2 * ANSWER_GAP else "warning",
        "training labels",
        0,
        f"{percent(share)} of the training images belong to one class, so the network gives that answer for {percent(answers)} of new "
        "images, "
        f"of which only {percent(truth)} are of one class.",
        Fix("Make rare classes count more in the loss (class weights), or show them more often.", {"class_weights": "auto"}),
        (
            ev("most frequent training label", percent(share)),
            ev("most frequent answer", percent(answers)),
            ev("most frequent label in validation", percent(truth)),
        ),
        "diagnoses.md, row 24",
    )


def _one_answer(look: Observation) -> Threshold:
    """The share of equal answers that counts; fewer are enough where they are right no more often than one constant answer would be."""
    useless = number(look, "accuracy") < number(look, "largest_label") + USELESS
    return MOST_ANSWERS if useless else ONE_ANSWER


def _same_answer(view: RunView) -> Finding | None:
    """Two looks in a row at which nearly all answers were the same."""
    outcome = view.outcome
    looks: list[Observation] = [o for o in view.seen("validation") if math.isfinite(number(o, "largest_label"))][-2:]
    labels = view.last("labels")
    if len(looks) < 2:
        looks = [o for o in view.seen("fit") if number(o, "samples", 0) >= 50][-2:]
    if len(looks) < 2 or any(number(o, "largest_answer", 0) < view.limit(_one_answer(o)) for o in looks):
        return None
    truth = number(looks[-1], "largest_label", number(labels, "largest_share") if labels is not None else math.nan)
    answers = min(number(o, "largest_answer") for o in looks)
    gone = answers > ONLY_ANSWER and truth < RARE_LABELS
    if not (truth < answers - ANSWER_GAP or gone):
        return None
    uneven = truth > 2 / max(2, view.classes or 2)
    return Finding(
        "one_class",
        "problem" if outcome.bad or answers > 0.99 else "warning",
        "",
        looks[0].step,
        f"The network gives the same answer for {percent(answers)} of the images, although only {percent(truth)} have that label.",
        Fix("Make rare classes count more in the loss (class weights), or show them more often.", {"class_weights": "auto"})
        if uneven
        else Fix("Look at the other findings first; if there is none, train with a tenth of the learning rate.", None),
        (ev("most frequent answer", percent(answers)), ev("most frequent label", percent(truth)), *loss_evidence(outcome)),
        "diagnoses.md, row 24",
    )


def new_samples_unknown(view: RunView) -> str:
    """Why it is not known how many new samples are answered rightly; "" when it is."""
    looks = view.seen("validation")
    if any(number(o, "in_training", 0) < 0.5 and math.isfinite(number(o, "accuracy")) for o in looks):
        return ""
    return only_trained_on(view) or (
        "in validation no loss was computed and no answers were compared with labels by torch, so right and wrong answers to new samples are unknown"
    )


RULES = (
    Rule("overfitting", overfitting, False, ("validation", "fit"), unknown=new_samples_unknown),
    Rule("over_regularised", over_regularised, False, ("loss", "layers", "optimizer"), least_steps=50),
    Rule("one_class", one_class, False, ("fit", "validation"), least_steps=50),
)
