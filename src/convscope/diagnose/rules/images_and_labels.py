"""Rules on the data: how images are scaled, in which order they come, whether validation images are trained on, whether labels can be learned.

Receives a RunView, returns one Finding or None per rule.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

from convscope.diagnose.observations import BY_NAME
from convscope.diagnose.ranking import STAYED
from convscope.diagnose.rule import Rule, ev, gated, loss_evidence, percent, short
from convscope.diagnose.rules.layers import STRAYED, carries_signal, was_never_moved
from convscope.diagnose.rules.targets import (
    ENOUGH_TRAINED,
    LEARNED_BY_HEART,
    USUAL_RATIOS,
    all_the_same,
    amounts_explained,
    changed_midway,
    different_samples,
    unrelated_amounts,
)
from convscope.diagnose.view import ENOUGH_BITS, RunView, Threshold, number
from convscope.records import Finding, Fix, Observation, Severity

GREATEST_STD = Threshold(5, "", "diagnoses.md, row 12: raw 0..255 images have 60 to 80, ImageNet-normalised ones 1")
LEAST_STD = Threshold(0.02, "", "diagnoses.md, row 12: a tenth of the least natural images scaled to 0..1 have")
GREATEST_OFFSET = Threshold(4, "standard deviations", "diagnoses.md, row 12: images in 0..1 have at most 1.9")
HIGH_START = Threshold(2, "times the loss of guessing", "Karpathy's recipe: verify the loss at the start", excess=True)
FAR_OFF = 4.0  # times the threshold: bytes instead of numbers around 0..1
LEARNED_WELL = Threshold(0.25, "of the loss of guessing", "chosen: the scale of the images plainly does no harm", share=True)
MIXED = Threshold(0.6, "of the labels' entropy", "diagnoses.md, row 23", share=True)
HARDLY_MIXED = Threshold(0.8, "of what chance mixes", "chosen: the batches of 176 healthy runs hold at least 0.99 of it", share=True)
SHUFFLED_GAP = 0.05  # of the images
ALIKE = Threshold(0.5, "of the targets' variance", "chosen: shuffled batches of 16 hold 0.94 of it")
SAME_ORDER = 8  # batches in the order of the epoch before
LEAKED = Threshold(0.02, "of the validation images", "chosen: above the share of natural duplicates in MNIST and Fashion-MNIST")
ALL_TRAINED_ON = 0.98  # an evaluation on nothing but training samples measures the training accuracy, mostly on purpose
LEAST_LEAKED = 20  # samples: fewer may be natural duplicates
A_PART = Threshold(0.7, "of the training samples", "chosen: an evaluation of all of them but the last incomplete batch lies above")
A_FEW = 0.002  # of the training samples lie twice in one batch: copies that each epoch shuffles, and no chance
ALWAYS = 0.98  # of the batches
STEPS_OF_ONE_BATCH, TWICE = 50, 2  # steps; evaluated samples over those trained on
MUCH_WORSE, WELL = 3, 0.9  # times the training loss; of the targets' variance
BATCHES_APART = 20  # before and after a change of what the batches hold
ONE_EPOCH = 1.5  # times each training sample was seen, on average
TWICE_IN_BATCH = Threshold(0.5, "of the images", "chosen: sampling with replacement stays below", share=True)
SECOND_CHOICE = Threshold(
    1.6,
    "times the share of pure chance",
    "chosen: honest mistakes name the label second in over half of the cases, random labels in 1/(C-1)",
    excess=True,
)
HONEST = Threshold(0.5, "of the wrong answers", "chosen: honest mistakes name the label second more often, whatever the number of classes")
SECOND_CHOICE_IF_NEW_SAMPLES_ARE_EASIER = Threshold(
    3, "times the share of pure chance", "chosen: two signs together need less of each; honest mistakes have 4.5 for ten classes"
)
AHEAD = 0.1  # of the samples: training over evaluation
WORSE_THAN_GUESSING = 0.5  # of 1/C: no network that guesses answers so badly
FEW_LOOKS, RISEN = 3, 1.1  # evaluations, and times the lowest loss, from which on overfitting is told
FEW_STEPS = 100  # of windows that are looked at, at least
SURELY_EASIER = 0.25  # of the images, in one evaluation: of 192 healthy runs of the development benchmark none with wrong answers at random
WITH_TWO_SIGNS = 0.5  # of the wrong answers are enough
EASIER = 0.15  # of the images; running ahead of the last training batches by chance is below 0.1
DROPOUTS_LEAD = 0.5  # of its share: what dropout in training alone may make of it; chosen
NOISY = Threshold(0.1, "of the images", "chosen: a tenth of wrong labels costs accuracy that can be measured")
OF_AMOUNTS = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")  # losses between answers and given amounts
MUCH_BETTER = 0.1  # of the images: labels that are random in part are answered a little better than by guessing too
NEARLY_GUESSING = 0.8  # of the loss of guessing: less than a fifth of it is gone
NOT_BETTER = 0.01  # of the loss of guessing
WRONG_NEEDED = Threshold(200, "wrong answers", "chosen: the second-choice share is then known to +-0.03")


def input_not_normalised(view: RunView) -> Finding | None:
    """Images far from mean 0 and standard deviation 1; worth a warning only when the loss shows that it hurts."""
    worst: tuple[float, str, float, float, int] | None = None
    for o in view.newest("input"):
        mean, std = number(o, "mean"), number(o, "std")
        if o.numbers.get("normalised_inside") is True or not math.isfinite(std):
            continue
        offset = abs(mean) / std if std > 0 else math.inf
        strange = max(std / view.limit(GREATEST_STD), offset / view.limit(GREATEST_OFFSET) if std > 0 else 0)
        if std == 0 and len(view.newest("input")) == 1:  # one of several channels may well be empty
            strange = math.inf
        if 0 < std < view.limit(LEAST_STD):
            strange = max(strange, view.limit(LEAST_STD) / std)
        if strange > 1 and (worst is None or strange > worst[0]):
            worst = (strange, o.subject, mean, std, view.seen("input", o.subject)[0].step)
    if worst is None:
        return None
    extent, channel, mean, std, step = worst
    outcome = view.outcome
    if std == 0:
        return _all_the_same(view, channel, mean, step)
    severity: Severity = gated(outcome)
    if severity == "note" and (_high_start(view) or (extent > FAR_OFF and not _absorbed(view))):
        severity = "warning"
    return Finding(
        "input_not_normalised",
        severity,
        channel,
        step,
        f"The images reach the network with mean {short(mean)} and standard deviation {short(std)} instead of about 0 and 1, which makes "
        "the first steps far too large or too small.",
        Fix(
            "Scale the images: subtract the training images' mean and divide by their standard deviation (for bytes, divide by 255 first).",
            {"normalise": True},
        ),
        (ev("mean", mean), ev("standard deviation", std), ev("channel", channel), *loss_evidence(outcome)),
        "diagnoses.md, row 12 (Cockpit, UMLAUT)",
    )


def _all_the_same(view: RunView, channel: str, value: float, step: int) -> Finding:
    """Nothing but one value reaches the network."""
    return Finding(
        "input_not_normalised",
        gated(view.outcome),
        channel,
        step,
        f"Every number in the images that reach the network is {short(value)}, so there is nothing in them to learn from.",
        Fix(
            "Look at a batch just before it is given to the network: a division of whole numbers, a wrong scale or an empty array makes all equal."
        ),
        (ev("value", value), *loss_evidence(view.outcome)),
        "diagnoses.md, row 12: constant channel",
    )


def _high_start(view: RunView) -> bool:
    return view.guessing is not None and view.outcome.start > view.limit(HIGH_START) * math.log(view.classes or 1) * view.loss_unit


def _absorbed(view: RunView) -> bool:
    """Whether the scale of the images does no harm: batch norm takes it away, or the run has learned well all the same."""
    network, outcome = view.last("network"), view.outcome
    normalised = network is None or number(network, "batch_norms", 0) > 0
    return normalised or (outcome.fair and outcome.now < view.limit(LEARNED_WELL) * outcome.guessing)


def data_order_or_leak(view: RunView) -> Finding | None:
    """Sorted labels, validation images that are trained on, or batches that repeat."""
    by_labels = _classes_stay_away(view) or _sorted_labels(view) or _hardly_shuffled(view) or _sorted_amounts(view)
    return by_labels or _leak(view) or _one_batch(view) or _repeats(view)


def _mixture(view: RunView, batches: int) -> tuple[Observation, float, float] | None:
    """The labels, and their entropy over all and within a batch, when so many batches can tell."""
    labels = view.last("labels")
    if labels is None or number(labels, "batches", 0) < batches or not view.alone:  # a critic's labels are the loop's own
        return None
    classes, whole = number(labels, "classes", 0), number(labels, "entropy", 0)
    tells = classes >= 2 and number(labels, "batch_size", 0) >= 2 * classes and whole > 0.1
    return (labels, whole, number(labels, "batch_entropy", 0)) if tells else None


def _sorted_labels(view: RunView) -> Finding | None:
    mixture = _mixture(view, 8)
    if mixture is None or mixture[2] / mixture[1] >= view.limit(MIXED):
        return None
    labels, whole, batch = mixture
    size = number(labels, "batch_size")
    return Finding(
        "data_order_or_leak",
        "problem" if batch / whole < view.limit(MIXED) / 2 or view.outcome.bad else "warning",
        "training images",
        0,
        f"The training images come sorted by class: a batch of {size:.0f} images holds far fewer kinds of labels than the whole, so the "
        "network learns one class and forgets the others.",
        Fix("Shuffle the training images in every epoch: DataLoader(..., shuffle=True).", {"shuffle": True}),
        (
            ev("mixture of labels in a batch (entropy)", batch, "nats"),
            ev("mixture of all labels (entropy)", whole, "nats"),
            ev("batches looked at", int(number(labels, "batches"))),
        ),
        "entropy of a batch's labels over that of all labels below 0.6 (DeepCrime)",
    )


def _hardly_shuffled(view: RunView) -> Finding | None:
    """Batches that hold clearly fewer kinds of labels than chance would put there, and evaluations that show it."""
    mixture = _mixture(view, BATCHES_APART)
    if mixture is None or not view.generalisation_gap > SHUFFLED_GAP:
        return None
    labels, whole, batch = mixture
    lacking = (number(labels, "classes") - 1) / (
        2 * number(labels, "batch_size")
    )  # by chance, in so few samples (Miller and Madow's correction)
    by_chance = whole - lacking
    if batch >= view.limit(HARDLY_MIXED) * by_chance:
        return None
    return Finding(
        "data_order_or_leak",
        "warning",
        "training images",
        0,
        f"The training images are hardly shuffled: a batch mixes only {percent(batch / by_chance)} of what chance would mix in it, so the network leans to the "
        "classes that it has seen last.",
        Fix(
            "Shuffle the whole training set in every epoch (DataLoader(..., shuffle=True)), or enlarge the shuffling buffer of a stream.",
            {"shuffle": True},
        ),
        (
            ev("mixture of labels in a batch (entropy)", batch, "nats"),
            ev("by chance", by_chance, "nats"),
            ev("training accuracy minus validation accuracy", view.generalisation_gap),
        ),
        "entropy of a batch's labels against that of random batches (DeepCrime)",
    )


def _sorted_amounts(view: RunView) -> Finding | None:
    """Batches whose targets are much alike, in the same order in every epoch, and new samples that are answered much worse."""
    amounts, identity = view.last("amounts"), view.last("identity")
    looks = [o for o in view.seen("validation") if number(o, "in_training", 0) < LEAKED.value and math.isfinite(number(o, "explained"))]
    if amounts is None or identity is None or not looks or not view.alone or number(identity, "order_repeats", 0) < SAME_ORDER:
        return None
    whole, batch = number(amounts, "variance"), number(amounts, "batch_variance")
    if not whole > 0 or batch / whole >= view.limit(ALIKE) or not _much_worse(looks):
        return None
    return Finding(
        "data_order_or_leak",
        "problem" if number(looks[-1], "explained") < view.limit(ALIKE) else "warning",
        "training samples",
        0,
        f"The training samples come sorted: the targets of one batch differ only {percent(batch / whole)} as much as all targets, so the network learns "
        "one kind and forgets the others.",
        Fix("Shuffle the training samples in every epoch: DataLoader(..., shuffle=True).", {"shuffle": True}),
        (
            ev("variance of the targets in a batch", batch),
            ev("variance of all targets", whole),
            ev("explained of new samples' targets", number(looks[-1], "explained")),
        ),
        "variance within a batch over that of all targets, and equal hashes of batches from epoch to epoch (DeepCrime)",
    )


def _classes_stay_away(view: RunView) -> Finding | None:
    """From some step on the batches hold far fewer kinds of labels than before, and new samples are answered worse."""
    looks = view.seen("labels")
    if len(looks) < 4 or not view.alone or not view.generalisation_gap > AHEAD:
        return None
    windows = [
        (before, now, _between(before, now))
        for before, now in itertools.pairwise(looks)
        if number(now, "batches") > number(before, "batches")
    ]
    for at in range(1, len(windows)):
        before, since = windows[:at], windows[at:]
        usual, batches = (
            statistics.fmean(mixture for _, _, mixture in before),
            number(looks[-1], "batches") - number(since[0][0], "batches"),
        )
        known = number(since[0][0], "batches")
        if min(known, batches) < BATCHES_APART or max(mixture for _, _, mixture in since) >= usual * view.limit(MIXED) / 2:
            continue
        step, left = since[0][0].step, statistics.fmean(mixture for _, _, mixture in since)
        return Finding(
            "data_order_or_leak",
            "problem",
            "training images",
            step,
            f"From about step {step} on a batch holds far fewer kinds of labels than before, so the network learns some classes and forgets the others.",
            Fix(
                "Look at what chooses the training images from then on (a sampler, its weights, a filter): every batch should hold all classes."
            ),
            (
                ev("mixture of labels in a batch before (entropy)", usual, "nats"),
                ev("mixture of labels in a batch since (entropy)", left, "nats"),
                ev("batches since", int(batches)),
            ),
            "entropy of a batch's labels, by the steps between two looks (DeepCrime)",
        )
    return None


def _between(before: Observation, now: Observation) -> float:
    """Mean entropy of the labels of the batches between two looks at the running mean."""
    count, earlier = number(now, "batches"), number(before, "batches")
    return max(0.0, (count * number(now, "batch_entropy") - earlier * number(before, "batch_entropy")) / (count - earlier))


def _one_batch(view: RunView) -> Finding | None:
    """Every step trains on the same few samples, although there are more, and new ones are answered much worse."""
    identity, looks = view.last("identity"), [o for o in view.seen("validation") if number(o, "in_training", 0) < LEAKED.value]
    if identity is None or not looks or not view.alone or number(identity, "repeated_batches", 0) < ALWAYS or few_samples_possible(view):
        return None
    few, others = different_samples(view), max(number(o, "samples", 0) for o in looks)
    worse = view.generalisation_gap > AHEAD or _much_worse(looks)
    if view.step_count < STEPS_OF_ONE_BATCH or others < TWICE * few or not worse:
        return None
    return Finding(
        "data_order_or_leak",
        "problem" if view.generalisation_gap > 2 * AHEAD else "warning",
        "training images",
        0,
        f"Every step trains on the same {few:.0f} images, while {others:.0f} others are evaluated and answered much worse.",
        Fix(
            "Take the next batch in each step (`for images, labels in loader:`); `next(iter(loader))` begins anew each time, and so does a random "
            "generator that is seeded in the loop."
        ),
        (
            ev("batches equal to the one before", percent(number(identity, "repeated_batches"))),
            ev("different training images", int(few)),
            ev("evaluated images", int(others)),
        ),
        "exact: equal hashes of sampled numbers",
    )


def _much_worse(looks: Sequence[Observation]) -> bool:
    """Whether new amounts are answered several times as badly as those trained on, and not well."""
    known = [o for o in looks if number(o, "loss") > 0 and number(o, "training_loss", -1) >= 0]
    return (
        bool(known)
        and number(known[-1], "loss") > MUCH_WORSE * number(known[-1], "training_loss")
        and number(known[-1], "explained", 0) < WELL
    )


def _leak(view: RunView) -> Finding | None:
    modes = view.last("modes")
    if modes is not None and number(modes, "evaluations", 0) * 4 > max(number(modes, "train_passes", 0), 4):
        return None  # passes without gradients between most steps are part of the training: a teacher's answers, an average of weights
    if few_samples_possible(view):
        return None
    for o in view.seen("validation"):
        share, samples = number(o, "leaked", number(o, "in_training", 0.0)), number(o, "samples", 0)
        if not view.limit(LEAKED) < share < ALL_TRAINED_ON or share * samples < LEAST_LEAKED or _is_a_gallery(o):
            continue
        return _leaked(o, share, int(samples), "problem" if share > 0.2 else "warning")
    return _wholly_inside(view)


def _is_a_gallery(o: Observation) -> bool:
    """Whether all training samples were passed with others, and nothing was compared with labels: new samples may be looked up among them."""
    return number(o, "coverage", 0) >= ALL_TRAINED_ON and not math.isfinite(number(o, "accuracy")) and not math.isfinite(number(o, "loss"))


def _leaked(o: Observation, share: float, samples: int, severity: Severity) -> Finding:
    return Finding(
        "data_order_or_leak",
        severity,
        "validation samples",
        o.step,
        f"{percent(share)} of the validation samples are also trained on (exactly the same numbers), so the validation result is "
        "better than the network.",
        Fix("Split the samples before anything else, and remove duplicates across the two parts."),
        (ev("validation samples that are trained on", percent(share)), ev("validation samples", samples)),
        "exact: equal hashes of sampled numbers",
    )


def _wholly_inside(view: RunView) -> Finding | None:
    """Nothing but a part of the training samples is ever evaluated: a part of them was held out for nothing, or copies lie on both sides.

    An evaluation of all training samples measures the training accuracy, and one of a part does too when new samples are evaluated as well.
    """
    looks, identity = view.seen("validation"), view.last("identity")
    if identity is None or any(number(o, "in_training", 0) < ALL_TRAINED_ON for o in looks if _after_one_epoch(view, o)):
        return None
    inside = [o for o in looks if number(o, "in_training", 0) >= ALL_TRAINED_ON and number(o, "samples", 0) >= LEAST_LEAKED]
    if len(inside) < 2 or max(number(o, "coverage", 1.0) for o in inside) > view.limit(A_PART):
        return None
    twice = number(identity, "duplicates", 0) * number(identity, "train_images", 0)
    copies = twice >= LEAST_LEAKED and number(identity, "duplicates", 0) > A_FEW
    return _leaked(inside[0], 1.0, int(number(inside[-1], "samples")), "problem" if copies else "warning")


def _after_one_epoch(view: RunView, o: Observation) -> bool:
    """Whether every training sample was seen before an evaluation; earlier, some of them look new."""
    seen = [number(i, "epochs", 0) for i in view.seen("identity") if i.step <= o.step]
    return bool(seen) and seen[-1] >= ONE_EPOCH


def few_samples_possible(view: RunView) -> bool:
    """Whether samples hold so little that equal ones occur by nature."""
    identity = view.last("identity")
    return identity is not None and number(identity, "bits", math.inf) < ENOUGH_BITS


def _leak_unknown(view: RunView) -> str:
    looks = view.seen("validation")
    if few_samples_possible(view):
        return (
            "the samples hold so few different numbers that equal ones occur by nature, so copies in the validation samples cannot be told"
        )
    if looks and all(number(o, "in_training", 0) >= ALL_TRAINED_ON for o in looks[-2:]):
        return only_trained_on(view)
    return ""


def only_trained_on(view: RunView) -> str:
    """Why nothing is known of new samples, when all that was evaluated was trained on; else ""."""
    looks = view.seen("validation")
    if not looks or any(number(o, "in_training", 0) < 0.5 for o in looks[-2:]):
        return ""
    return "every sample that was evaluated was also trained on, so how the network does on new ones is unknown"


def _repeats(view: RunView) -> Finding | None:
    identity = view.last("identity")
    if identity is None or number(identity, "train_images", 0) < 256 or not view.alone:  # a critic judges the same sample several times
        return None
    twice, again = number(identity, "duplicates", 0), number(identity, "repeated_batches", 0)
    if (twice > view.limit(TWICE_IN_BATCH) or 0.3 < again < 0.98) and not few_samples_possible(view):
        return Finding(
            "data_order_or_leak",
            "problem" if view.outcome.bad else "warning",
            "training images",
            0,
            f"The same images come again at once ({percent(max(twice, again))} of them), as when loading processes share one random seed.",
            Fix("Give every loading process its own seed (worker_init_fn), and draw images without replacement."),
            (ev("images that occur twice in their batch", percent(twice)), ev("batches equal to the one before", percent(again))),
            "exact: equal hashes of sampled pixels",
        )
    repeats, epoch = number(identity, "order_repeats", 0), number(identity, "epoch_batches", 0)
    if repeats >= SAME_ORDER and epoch >= SAME_ORDER:
        return Finding(
            "data_order_or_leak",
            "note",
            "training images",
            int(epoch),
            f"The training images come in the same order in every epoch ({int(epoch)} batches), which usually learns a little less well.",
            Fix("Shuffle the training images in every epoch: DataLoader(..., shuffle=True).", {"shuffle": True}),
            (ev("batches in the same order as in the first epoch", int(repeats)),),
            "exact: equal hashes of sampled pixels",
        )
    return None


def labels_look_random(view: RunView) -> Finding | None:
    """Training images are learned by heart while validation stays at chance; or nothing is learned though the network is well able to move.

    Also: what was learned is lost from one step to the next, because labels changed.
    """
    return changed_midway(view) or all_the_same(view) or _by_heart(view) or unrelated_amounts(view) or _nothing_to_learn(view)


def _nothing_to_learn(view: RunView) -> Finding | None:
    """The loss stays at guessing while updates have a usual size and the signal passes through all layers."""
    outcome = view.outcome
    ratios = sorted(r for _, r in view.median_ratios[-100:])
    known = view.guessing is not None or any(o.subject in OF_AMOUNTS for o in view.seen("loss_input"))
    if view.guessing is None and amounts_explained(view):
        return None
    if not (outcome.stuck or (view.guessing is not None and _validation_guesses(view))) or not known or len(ratios) < 20:
        return None
    if _begins_to_answer(view):
        return None
    level = "guessing" if view.guessing is not None else "at the start"
    usual = USUAL_RATIOS[0] < ratios[len(ratios) // 2] < USUAL_RATIOS[1]
    unmoved, faded = was_never_moved(view), not carries_signal(view)
    if not usual or (faded and not unmoved):
        return None
    return Finding(
        "labels_look_random",
        "problem",
        "training labels",
        0,
        f"The network takes steps of a usual size and {'passed' if faded else 'passes'} its signal on from the first layer to the last"
        f"{' when training began' if faded else ''}, yet after "
        f"{view.step_count} steps it is no better than {level}: the labels do not seem to belong to the images.",
        Fix("Check that images and labels are read in the same order and shuffled together; look at a few pairs."),
        (
            ev("update over weight, median", ratios[len(ratios) // 2]),
            *((ev(STAYED, f"{STRAYED[0]} to {STRAYED[1]}"),) if unmoved else ()),
            *loss_evidence(outcome),
        ),
        "Zhang et al. 2017; TheDeepChecker",
    )


def _begins_to_answer(view: RunView) -> bool:
    """Whether the newest evaluation was answered much better than by guessing, and the one before was not: a long first plateau is left at last."""
    looks = [o for o in view.seen("validation") if math.isfinite(number(o, "accuracy"))]
    return bool(looks) and _is_far_above_chance(looks[-1]) and (len(looks) < 2 or _at_chance(looks[-2]))


def _validation_guesses(view: RunView) -> bool:
    """Whether training has hardly begun to improve and the last two validations were no better than guessing."""
    looks = [o for o in view.seen("validation") if math.isfinite(number(o, "accuracy"))][-2:]
    if len(looks) < 2 or not view.outcome.fair or view.outcome.now < NEARLY_GUESSING * view.outcome.guessing:
        return False
    return all(_at_chance(o) and number(o, "loss", 0) >= (1 - NOT_BETTER) * view.outcome.guessing for o in looks)


def _is_far_above_chance(o: Observation) -> bool:
    return number(o, "accuracy") > number(o, "largest_label", 0) + MUCH_BETTER


def _at_chance(o: Observation) -> bool:
    chance, samples = number(o, "largest_label", 0), number(o, "samples", 1)
    return number(o, "accuracy") < chance + max(0.02, 3 * math.sqrt(chance * (1 - chance) / samples))


def _by_heart(view: RunView) -> Finding | None:
    fit, validations = view.last("fit"), [o for o in view.seen("validation") if math.isfinite(number(o, "accuracy"))]
    classes = view.classes or (2 if fit is not None and number(fit, "classes") == 2 else None)
    if fit is None or not validations or classes is None or _too_few(view, validations):
        return None
    samples, label_share = number(validations[-1], "samples"), number(validations[-1], "largest_label", 1 / classes)
    chance = max(1 / classes, label_share)
    accuracy, trained = number(validations[-1], "accuracy"), view.training_accuracy
    spread = 3 * math.sqrt(chance * (1 - chance) / max(samples, 1)) if classes > 2 else 0.0  # a weak yes-or-no answer is none at random
    labels = view.last("labels")
    constant = number(labels, "largest_share", 0) if labels is not None else 0.0  # what one answer to every training image gets right
    far_ahead = max(min(2 * chance, (1 + chance) / 2), chance + 0.1, constant + 0.1)
    if not (accuracy < chance + max(spread, 0.02) and trained > far_ahead and trained > accuracy + 0.1):
        return None
    network = view.last("network")
    normalised = network is None or number(network, "batch_norms", 0) > 0  # whose running statistics may be what is off in an evaluation
    never = len(validations) >= FEW_LOOKS and all(map(_at_chance, validations))
    swapped = accuracy < WORSE_THAN_GUESSING / classes
    return Finding(
        "labels_look_random",
        "problem",
        "training labels",
        _by_heart_since(view, validations),
        f"The network learns the training images ({percent(trained)} right) but answers new ones far worse than by guessing ({percent(accuracy)}): the "
        "classes seem to have other numbers there."
        if swapped
        else f"The network learns the training images by heart ({percent(trained)} right) but is no better than guessing on new ones "
        f"({percent(accuracy)}): the labels do not belong to the images.",
        Fix("Compare how training and validation number their classes (the order of folders or names, 0 and 1 exchanged).")
        if swapped
        else Fix("Check that images and labels are read in the same order and shuffled together; look at a few pairs."),
        (
            ev(LEARNED_BY_HEART if never and not normalised else "right on training images", percent(trained)),
            ev("right on validation images", percent(accuracy)),
            ev("right by guessing", percent(chance)),
        ),
        "Zhang et al. 2017: networks fit random labels",
    )


def _too_few(view: RunView, validations: Sequence[Observation]) -> bool:
    """Whether there are so few training samples that they teach nothing about new ones, and the loss on these rises: that is overfitting."""
    losses = [number(o, "loss") for o in validations]
    return different_samples(view) < ENOUGH_TRAINED and len(losses) > FEW_LOOKS and losses[-1] > RISEN * min(losses)


def _by_heart_since(view: RunView, validations: Sequence[Observation]) -> int:
    """The first of the last evaluations in a row that were at chance while training was well ahead."""
    since = validations[-1].step
    for look in reversed(validations):
        before = [o for o in view.seen("fit") if o.step <= look.step][-2:]
        ahead = any(number(o, "accuracy", 0) > number(look, "accuracy") + AHEAD for o in before)
        if not (_at_chance(look) and ahead):
            break
        since = look.step
    return since


def _telling_windows(view: RunView, easier: Sequence[Observation]) -> list[Observation]:
    """Windows of training in which the wrong answers tell of the labels: while new samples are easier, else the later half of the run."""
    if not easier:
        return [o for o in view.seen("fit") if o.step > view.step_count / 2]
    return [o for o in view.seen("fit") if easier[0].step <= o.step <= max(easier[-1].step, easier[0].step + FEW_STEPS)]


def _new_samples_are_easier(view: RunView) -> list[Observation]:
    """Evaluations in which new samples were answered far better than the training samples just before, although nothing makes training harder."""
    network = view.last("network")
    dropout = number(network, "dropout", 0) if network is not None else 0.0
    found: list[Observation] = []
    largest = 0.0
    for look in view.seen("validation"):
        before = [o for o in view.seen("fit") if o.step <= look.step][-2:]
        after = [o for o in view.seen("fit") if o.step > look.step][:2]  # what is learned at the time shows in training a little later
        lead = number(look, "accuracy") - max(_accuracy(before), _accuracy(after))
        if lead > EASIER + DROPOUTS_LEAD * dropout:
            found.append(look)
            largest = max(largest, lead)
    return found if len(found) >= 2 or (largest > SURELY_EASIER and not dropout) else []


def _labels_are_mixed(view: RunView) -> bool:
    """Whether a sample has several labels on purpose, as mixup gives them."""
    soft = any(o.numbers.get("target") == "probability" for o in view.seen("loss_input") if o.numbers.get("training") is True)
    return soft or any(number(o, "mixed", 0) > 0 for o in view.seen("fit"))


def _accuracy(windows: Sequence[Observation]) -> float:
    """Share of right answers in several windows; 0 when there are none."""
    samples = sum(number(o, "samples", 0) for o in windows)
    return sum(number(o, "samples", 0) * number(o, "accuracy", 0) for o in windows) / samples if samples else 0.0


def label_noise(view: RunView) -> Finding | None:
    """A part of the labels is wrong at random: the wrong answers' labels are no likelier than any other class."""
    easier = _new_samples_are_easier(view)
    windows = [o for o in _telling_windows(view, easier) if number(o, "wrong", 0) >= 10]
    wrong, classes = sum(number(o, "wrong") for o in windows), view.classes or 0
    needed_wrong = view.limit(WRONG_NEEDED) * (WITH_TWO_SIGNS if easier else 1)
    if classes < 4 or wrong < needed_wrong or len(windows) < 2 or _labels_are_mixed(view) or not (easier or view.outcome.fair):
        return None
    samples = sum(number(o, "samples") for o in windows)
    second = sum(number(o, "second_choice", 0) * number(o, "wrong") for o in windows) / wrong
    share, accuracy = wrong / samples, 1 - wrong / samples
    limit = view.limit(SECOND_CHOICE_IF_NEW_SAMPLES_ARE_EASIER if easier else SECOND_CHOICE) / (classes - 1)
    needed = max(0.2, 1.5 / classes) if easier else max(0.3, 3 / classes)
    if share < view.limit(NOISY) or accuracy < needed or second > min(limit, view.limit(HONEST)):
        return None
    if easier:  # new samples tell how many are answered wrongly with right labels
        share = 1 - accuracy / max(number(o, "accuracy") for o in easier)
    return Finding(
        "label_noise",
        "warning",
        "training labels",
        windows[0].step,
        f"About {percent(share)} of the training images seem to carry a random label: where the network disagrees, the label is not even "
        "its second guess.",
        Fix("Look at the images on which network and label disagree most, and correct their labels."),
        (
            ev("training images answered otherwise", percent(share)),
            ev("label is the second guess", percent(second)),
            ev("by pure chance", percent(1 / (classes - 1))),
        ),
        "derived: a random label is the second choice in 1/(C-1) of the cases",
    )


def new_samples_unknown(view: RunView) -> str:
    """Why it is not known how many new samples are answered rightly; "" when it is."""
    looks = view.seen("validation")
    if not view.seen("fit") or not looks:
        return BY_NAME["fit" if looks else "validation"].missing
    if any(number(o, "in_training", 0) < 0.5 and math.isfinite(number(o, "accuracy")) for o in looks):
        return ""
    return only_trained_on(view) or (
        "in validation no loss was computed and no answers were compared with labels by torch, so right and wrong answers to new samples are unknown"
    )


RULES = (
    Rule("input_not_normalised", input_not_normalised, False, ("input",)),
    Rule("data_order_or_leak", data_order_or_leak, True, ("labels", "identity", "validation"), unknown=_leak_unknown),
    Rule("labels_look_random", labels_look_random, False, ("loss",), least_steps=50, unknown=new_samples_unknown),
    Rule("label_noise", label_noise, False, ("fit",), least_steps=50),
)
