"""Rules on what comes out: learning by heart, being held back too hard, or always giving the same answer.

Receives a RunView, returns one Finding or None per rule.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

from convscope.diagnose.rule import Rule, ev, gated, loss_evidence, percent, short
from convscope.diagnose.rules.images_and_labels import new_samples_unknown, only_trained_on
from convscope.diagnose.view import LEARNED, RunView, Threshold, number
from convscope.records import Finding, Fix, Observation, Severity

RISE = Threshold(1.1, "times its minimum", "SageMaker Overfit; diagnoses.md, row 24", excess=True)
STEEP_RISE = Threshold(1.5, "times its minimum", "chosen: well beyond what a converged run drifts", excess=True)
APART = Threshold(3, "times the training loss", "chosen: well beyond what new samples usually cost", excess=True)
STILL_LEARNING = 0.9  # of the training loss at the best evaluation
MATTERS = 0.02  # of the first loss: less of a rise, near a perfect fit, is the last digits' noise
EVALUATIONS = Threshold(3, "evaluations", "diagnoses.md, row 24")
ACCURACY_GAP = Threshold(0.1, "of the images", "chosen: a tenth of the images right only when learned by heart")
BY_HEART = 0.95  # of the training images right
DECOUPLED_DECAY = 0.01  # PyTorch's default for AdamW
ADDED_DECAY = 5e-4  # of SGD for image classifiers (Simonyan and Zisserman 2015); 1e-4 in He et al. 2016
HEAVY_DROPOUT = Threshold(0.8, "of the activations", "diagnoses.md, row 24", share=True)
LEAD = Threshold(0.1, "of the samples", "chosen, beside heavy dropout only: with mixup and dropout of 0.3 healthy runs lead by up to 0.46")
WORN = Threshold(
    0.4, "of the weights' first size", "chosen: of 132 healthy runs of the benchmark without batch norm none fell below 1", share=True
)
MEMORY = 0.05  # of the samples: more than that is learned by heart, which decay is there against
EXTREME_DECAY, UNLEARNED = 50, 0.1  # times the usual decay; of the loss of guessing: then something worth having is left to learn
DECAY_SHARE = Threshold(1.0, "times the gradient", "diagnoses.md, row 24: the decay pulls harder than the images")
PENALTY_SHARE = Threshold(0.5, "times the rest of the loss", "chosen: a usual penalty is a hundredth of it")
NEXT_TO_NOTHING = 1e-3  # of a loss
FACTORS, SAME_FACTOR = 3, 1.05  # looks that agree on the penalty's factor
STRONG = {
    "squares": 2.5e-3,
    "sizes": 1e-4,
    "norms": 1e-2,
}  # factor of a penalty: ten times the usual 5e-4 / 2, and what keeps a small network's sizes and its layers' norms below a nat
SUMMED_UP = {"squares": "squares", "sizes": "sizes", "norms": "norms (the length of each tensor)"}
SHRUNK = 0.7  # of the weights' first size
FEW_OF_A_CLASS = Threshold(50, "images", "chosen: a small network learns no class from so few, whatever they count in the loss")
LOPSIDED = Threshold(0.8, "of the training labels", "chosen: beyond it a class with fair competition would be rare", share=True)
ONLY_ANSWER = 0.999  # of the answers: no other class is ever answered
RARE_LABELS = 0.96  # of the labels: beyond it, that class is the honest answer to nearly every image
ANSWER_GAP = 0.1  # of the images: how far the share of the answers lies above that of the labels
FEWEST_ANSWERS = 50  # in a window of training
LARGE_WEIGHTS = Threshold(3, "times", "chosen: less hardly changes which class is answered", excess=True)
FREQUENT = 1.5  # times an equal share of the labels
USELESS = 0.02  # of the images: better than one constant answer by no more than chance
MOST_ANSWERS = Threshold(0.8, "of the answers", "chosen: with an accuracy that one constant answer would reach", share=True)
ONE_ANSWER = Threshold(0.95, "of the answers", "diagnoses.md, row 24", share=True)


def overfitting(view: RunView) -> Finding | None:
    """Validation gets worse, evaluation after evaluation, while training gets better."""
    return _answers_by_heart(view) or _amounts_by_heart(view)


def _answers_by_heart(view: RunView) -> Finding | None:
    """Of samples that belong to classes, by their loss and the share of right answers."""
    evaluations = [o for o in view.seen("validation") if math.isfinite(number(o, "loss")) and number(o, "in_training", 0) < 0.5]
    fits = view.seen("fit")
    if len(evaluations) < view.limit(EVALUATIONS) + 1 or not fits:
        return None
    losses = [number(o, "loss") for o in evaluations]
    best, rises = _rise(view, losses)
    trained, validated = view.training_accuracy, number(evaluations[-1], "accuracy")
    gap = trained - validated
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
        _against_learning_by_heart(view),
        (
            ev("lowest validation loss", losses[best]),
            ev("validation loss now", losses[-1]),
            ev("right on training images", percent(trained)),
            ev("right on validation images", percent(validated)),
        ),
        "SageMaker Overfit; gradsnitch",
    )


def _rise(view: RunView, losses: Sequence[float]) -> tuple[int, bool]:
    """The place of the lowest loss, and whether the losses have risen from there and stayed up."""
    best = min(range(len(losses)), key=losses.__getitem__)
    limit = view.limit(RISE) * losses[best]
    return best, sum(loss > limit for loss in losses[best + 1 :]) >= view.limit(EVALUATIONS) and losses[-1] >= limit


def _amounts_by_heart(view: RunView) -> Finding | None:
    """Of samples with amounts instead of classes, by the loss of new samples and the same loss of training samples."""
    looks = [o for o in view.seen("validation") if number(o, "in_training", 0) < 0.5 and not math.isfinite(number(o, "accuracy"))]
    looks = [o for o in looks if number(o, "loss") > 0 and number(o, "training_loss") > 0]
    if len(looks) < view.limit(EVALUATIONS) + 1:
        return None
    losses, trained = [number(o, "loss") for o in looks], [number(o, "training_loss") for o in looks]
    best, rises = _rise(view, losses)
    still_learning = trained[-1] < STILL_LEARNING * trained[best]
    matters = losses[-1] - losses[best] > MATTERS * max(losses[0], trained[0])
    if not (rises and still_learning and matters):
        return None
    severe = losses[-1] > view.limit(STEEP_RISE) * losses[best] or losses[-1] > view.limit(APART) * trained[-1]
    return Finding(
        "overfitting",
        "warning" if severe else "note",
        "",
        looks[best].step,
        f"Since step {looks[best].step} the network learns the training samples by heart: their loss falls on to {short(trained[-1])}, that of new "
        f"samples has risen from {short(losses[best])} to {short(losses[-1])}.",
        Fix("Use more samples or a smaller network, stop at the best evaluation, or add dropout or weight decay."),
        (
            ev("lowest validation loss", losses[best]),
            ev("validation loss now", losses[-1]),
            ev("training loss at that time", trained[best]),
            ev("training loss now", trained[-1]),
        ),
        "SageMaker Overfit; gradsnitch",
    )


def _against_learning_by_heart(view: RunView) -> Fix:
    """Augmentation, where there are images enough: of a few dozen it made as many runs worse as better."""
    images = _training_images(view) / (view.classes or 1)
    if images < view.limit(FEW_OF_A_CLASS):
        return Fix(
            f"Collect more images: there are about {max(1, round(images))} of each class to learn from. Until then stop at the best evaluation, and try "
            "augmentation (random flips and crops)."
        )
    return Fix(
        "Use more images or augmentation (random flips and crops), or stop at the best evaluation.",
        {"augment": True, **({"weight_decay": DECOUPLED_DECAY} if _decoupled(view) else {})},
    )


def over_regularised(view: RunView) -> Finding | None:
    """Dropout or weight decay so strong that little can be learned."""
    outcome, network = view.outcome, view.last("network")
    if not outcome.fair:
        return None
    if not (outcome.bad or outcome.poor):
        return _penalised(view) or _held_back(view) or _worn_down(view)
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
    return _penalised(view) or _decayed(view) or _worn_down(view)


def _held_back(view: RunView) -> Finding | None:
    """Dropout so strong that the whole network answers new samples far better than the thinned one answers those it is trained on."""
    network, outcome = view.last("network"), view.outcome
    dropout = number(network, "dropout", 0.0) if network is not None else 0.0
    lead = -view.generalisation_gap
    if dropout < view.limit(HEAVY_DROPOUT) or not lead > view.limit(LEAD) or not outcome.much_left:
        return None
    return Finding(
        "over_regularised",
        "warning",
        "dropout",
        0,
        f"Dropout switches off {percent(dropout)} of the units in every step; without it, {percent(lead)} more new samples are answered rightly than "
        "training samples with it, so it holds training back.",
        Fix("Lower dropout to 0.5 or less (it is the share that is switched off, not the share that is kept).", {"dropout": 0.25}),
        (ev("dropout", dropout), ev("validation accuracy minus training accuracy", lead), *loss_evidence(outcome)),
        "TheDeepChecker; diagnoses.md, row 24",
    )


def _worn_down(view: RunView) -> Finding | None:
    """Weight decay that has shrunk the weights to a fraction, in a network that has much left to learn even of its training samples."""
    optimizer, network, outcome = view.last("optimizer"), view.last("network"), view.outcome
    decay = number(optimizer, "weight_decay", 0.0) if optimizer is not None else 0.0
    normalises = network is None or number(network, "batch_norms", 0) > 0  # then the size of weights tells nothing
    shrunk = _shrinking(view)
    if normalises or decay <= _usual_decay(view) or shrunk > view.limit(WORN):
        return None
    times = decay / _usual_decay(view)
    extreme = times > EXTREME_DECAY and outcome.now > UNLEARNED * outcome.guessing
    if not extreme and not (view.generalisation_gap < MEMORY and outcome.much_left):
        return None
    return Finding(
        "over_regularised",
        "warning",
        "weight decay",
        0,
        f"Weight decay ({short(decay)}{f', {short(times)} times the usual' if extreme else ''}) has shrunk the weights to {percent(shrunk)} of their size, "
        + (
            "which holds the network back."
            if extreme
            else "and the network has much left to learn of its training samples: it is held back."
        ),
        Fix(f"Lower the weight decay to {short(_usual_decay(view))} or less.", {"weight_decay": min(_usual_decay(view), decay / 10)}),
        (
            ev("weight decay", decay),
            ev("size of the weights now", percent(shrunk)),
            ev("training accuracy minus validation accuracy", view.generalisation_gap),
            *loss_evidence(outcome),
        ),
        "TheDeepChecker: overwhelming regularisation",
    )


def _decayed(view: RunView) -> Finding | None:
    """By the optimiser's weight decay."""
    outcome, optimizer = view.outcome, view.last("optimizer")
    decay = number(optimizer, "weight_decay", 0.0) if optimizer is not None else 0.0
    pull = _decay_pull(view, decay, decoupled=_decoupled(view))
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
        Fix(f"Lower the weight decay to {short(_usual_decay(view))} or less.", {"weight_decay": min(_usual_decay(view), decay / 100)}),
        (
            ev("weight decay", decay),
            ev("pull of the decay over that of the images", pull),
            ev("size of the weights now", percent(shrunk)),
            *loss_evidence(outcome),
        ),
        "TheDeepChecker: overwhelming regularisation",
    )


def _penalised(view: RunView) -> Finding | None:
    """By a penalty on the weights that the loop adds to the loss, when it outweighs what the answers cost and has shrunk the weights."""
    looks, layers = view.seen("penalty"), len(view.weighted_layers)
    compared = {o.step: number(o, "loss") for o in view.seen("loss_input") if o.numbers.get("training") is True}
    added = [(number(o, "loss") - compared[o.step], compared[o.step], o) for o in looks if o.step in compared]
    factors = [extra / number(o, "sum") for extra, _, o in added if number(o, "sum") > 0]
    if len(factors) < FACTORS or layers < 2 or not min(factors) > 0 or max(factors) > SAME_FACTOR * min(factors):
        return None
    factor, of = statistics.median(factors), str(looks[0].numbers.get("of"))
    extra, cost, most = max(added, key=lambda part: part[0] / max(part[1], NEXT_TO_NOTHING))
    shrunk, learned = _shrinking(view), statistics.fmean(part[1] for part in added[-FACTORS:]) < LEARNED * view.outcome.guessing
    outweighs = factor > STRONG[of] and extra > view.limit(PENALTY_SHARE) * cost
    if not outweighs or shrunk > SHRUNK:
        return None
    usual = _usual_decay(view) / 2 if of == "squares" else STRONG[of] / 10
    return Finding(
        "over_regularised",
        "warning" if learned else "problem",
        "penalty on the weights",
        0,
        f"The loss adds {short(factor)} times the sum of the weights' {SUMMED_UP[of]} to what the answers cost: that is "
        f"{short(extra)} of {short(extra + cost)} at step {most.step}, and the weights have shrunk to {percent(shrunk)} of their size, so little "
        "is left to learn with.",
        Fix(f"Make the factor of this penalty {short(min(usual, factor / 100))} or smaller, or leave the penalty out."),
        (
            ev("factor of the penalty", factor),
            ev("penalty at its greatest", extra),
            ev("rest of the loss then", cost),
            ev("size of the weights now", percent(shrunk)),
        ),
        "the loss less its comparison with the labels, over the sum of the weights that autograd's graph shows in it (TheDeepChecker)",
    )


def _decoupled(view: RunView) -> bool:
    """Whether the optimiser takes the decay off the weights directly (AdamW) instead of adding it to the gradient."""
    optimizer = view.last("optimizer")
    return optimizer is not None and optimizer.numbers.get("decoupled") is True


def _usual_decay(view: RunView) -> float:
    return DECOUPLED_DECAY if _decoupled(view) else ADDED_DECAY


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
    return _drowned(view) or _frequent_weighted(view) or _same_answer(view)


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
        _for_rare_classes(view),
        (
            ev("most frequent training label", percent(share)),
            ev("most frequent answer", percent(answers)),
            ev("most frequent label in validation", percent(truth)),
        ),
        "diagnoses.md, row 24",
    )


def _frequent_weighted(view: RunView) -> Finding | None:
    """The loss gives the class that is most frequent anyway the greatest weight, and nearly all answers are that class."""
    labels = view.last("labels")
    weighted = [o for o in view.newest("loss_input") if o.numbers.get("heaviest") is not None]
    if labels is None or not weighted or labels.numbers.get("largest_class") != weighted[0].numbers["heaviest"]:
        return None
    weights, share = number(weighted[0], "weight_ratio", 1), number(labels, "largest_share")
    looks = [o for o in view.seen("fit") if number(o, "samples", 0) >= FEWEST_ANSWERS][-2:]
    answers = min((number(o, "largest_answer") for o in looks), default=0.0)
    if weights <= view.limit(LARGE_WEIGHTS) or share < FREQUENT / max(2, view.classes or 2) or answers < view.limit(ONE_ANSWER):
        return None
    return Finding(
        "one_class",
        "problem" if answers > share + ANSWER_GAP else "warning",
        "weights of the loss",
        0,
        f"The loss counts the most frequent class ({percent(share)} of the labels) {short(weights)} times as much as another, so the network gives that "
        f"answer for {percent(answers)} of the samples.",
        Fix("Give rare classes the greater weights: one over their number, not their number.", {"class_weights": "auto"}),
        (
            ev("greatest weight of a class over the least", weights),
            ev("most frequent label", percent(share)),
            ev("most frequent answer", percent(answers)),
        ),
        "exact: weights of the loss and counts of the labels",
    )


def _for_rare_classes(view: RunView) -> Fix:
    """Class weights, where there is enough to be weighted: nothing makes up for images that are not there."""
    images = _images_of_a_rare_class(view)
    if images < view.limit(FEW_OF_A_CLASS):
        return Fix(
            f"Collect more images of the rare classes: there are about {max(1, round(images))} of each, and letting them count more in the loss cannot "
            "make up for so few."
        )
    return Fix("Make rare classes count more in the loss (class weights), or show them more often.", {"class_weights": "auto"})


def _images_of_a_rare_class(view: RunView) -> float:
    """About how many different training images each class but the most frequent has; infinite when unknown."""
    labels = view.last("labels")
    if labels is None or not view.classes or view.classes < 2:
        return math.inf
    return _training_images(view) * (1 - number(labels, "largest_share")) / (view.classes - 1)


def _training_images(view: RunView) -> float:
    """About how many different training images there are; infinite when unknown."""
    identity = view.last("identity")
    times = number(identity, "epochs") if identity is not None else math.nan
    times = times if times >= 1 else len(view.seen("validation"))
    return view.images_seen / times if view.images_seen and times else math.inf


def _same_answer(view: RunView) -> Finding | None:
    """Two looks in a row at which nearly all answers were the same; of validation, or of training where there is no validation to look at."""
    outcome, labels = view.outcome, view.last("labels")
    in_training = number(labels, "largest_share") if labels is not None else math.nan
    looks: list[Observation] = [o for o in view.seen("validation") if math.isfinite(number(o, "largest_label"))]
    if len(looks) < 2:
        looks = [o for o in view.seen("fit") if number(o, "samples", 0) >= FEWEST_ANSWERS]
    lasting = list(itertools.takewhile(lambda o: _one_sided(view, o, in_training), reversed(looks)))
    if len(lasting) < 2:
        return None
    truth, answers = number(lasting[0], "largest_label", in_training), min(number(o, "largest_answer") for o in lasting[:2])
    gone = answers > ONLY_ANSWER and truth < RARE_LABELS and not _tells_apart(view)
    if not (truth < answers - ANSWER_GAP or gone):
        return None
    message = f"The network gives the same answer for {percent(answers)} of the samples, although only {percent(truth)} have that label"
    weights = _class_weights(view)
    fix = Fix("Look at the other findings first; if there is none, train with a tenth of the learning rate.")
    if weights > view.limit(LARGE_WEIGHTS) and truth < LOPSIDED.value:
        message += f": the loss counts one class {short(weights)} times as much as another"
        fix = Fix("Leave out the loss's weights of classes, or make them no more uneven than the labels are.", {"class_weights": "none"})
    elif truth > 2 / max(2, view.classes or 2):
        fix = _for_rare_classes(view)
    return Finding(
        "one_class",
        "problem" if outcome.bad or answers > 0.99 else "warning",
        "",
        lasting[-1].step,
        f"{message}.",
        fix,
        (
            ev("most frequent answer", percent(answers)),
            ev("most frequent label", percent(truth)),
            ev("greatest weight of a class over the least", weights),
            *loss_evidence(outcome),
        ),
        "diagnoses.md, row 24",
    )


def _one_sided(view: RunView, look: Observation, in_training: float) -> bool:
    """Whether nearly all answers are the same; fewer are enough where they are no better than one constant answer, or the loss asks for them."""
    useless = number(look, "accuracy") < number(look, "largest_label", in_training) + USELESS
    weighted = _class_weights(view) > view.limit(LARGE_WEIGHTS)
    return number(look, "largest_answer", 0) >= view.limit(MOST_ANSWERS if useless or weighted else ONE_ANSWER)


def _class_weights(view: RunView) -> float:
    """The greatest weight that the loss gives a class over the least."""
    return max((number(o, "weight_ratio", 1) for o in view.newest("loss_input")), default=1.0)


def _tells_apart(view: RunView) -> bool:
    """Whether the loss is well below that of guessing: a rare class is ranked above the others, although it is never the likelier answer."""
    labels = view.last("labels")
    return labels is not None and view.outcome.now < LEARNED * number(labels, "entropy", 0) * view.loss_unit


def _losses_unknown(view: RunView) -> str:
    """Why it is not known whether new samples get worse; "" when it is."""
    looks = view.seen("validation")
    if any(number(o, "training_loss", 0) > 0 for o in looks):
        return ""
    if looks and not view.seen("fit"):
        return (
            only_trained_on(view)
            or "no loss of torch.nn.functional was computed in training and in validation, so there is nothing to compare"
        )
    return new_samples_unknown(view)


RULES = (
    Rule("overfitting", overfitting, False, ("validation",), unknown=_losses_unknown),
    Rule("over_regularised", over_regularised, False, ("loss", "layers", "optimizer"), least_steps=50),
    Rule("one_class", one_class, False, ("fit",), least_steps=50),
)
