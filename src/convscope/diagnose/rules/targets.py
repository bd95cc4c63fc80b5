"""What targets tell that do not belong to their samples: amounts that new samples do not bear out, labels that change in the middle of a run, far-off scales.

Receives a RunView, returns a Finding or None; the rules labels_look_random and bad_initial_scale ask these functions.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from convscope.diagnose.rule import ev, loss_evidence, percent, short
from convscope.diagnose.rules.layers import carries_signal
from convscope.diagnose.view import ENOUGH_IMAGES, RunView, Threshold, number
from convscope.records import Finding, Fix, Observation

AS_THE_MEAN = Threshold(0.03, "of the targets' variance", "chosen: chance explains 1/n of it, and less than 0.03 is of no use")
TRAINED = Threshold(0.1, "of the targets' variance", "chosen: three times what counts as nothing")
BY_CHANCE = 5.0  # over the number of new samples: what the best of many evaluations explains by chance
SINGLE_STEPS, ROUNDING = 9, 0.02  # steps that each have a window of their own; of a loss
LOOKS = 3  # evaluations that agree
ENOUGH_NEW = 30  # samples of one evaluation
ENOUGH_TRAINED = 100  # different training samples: fewer can be too few to learn from
USUAL_RATIOS = (2e-4, 3e-2)  # update over weight within which a network moves at an ordinary pace (Karpathy's 1e-3 and its neighbourhood)
LEAP = Threshold(2, "times the loss before", "chosen: batches of one data set vary by a tenth or two", excess=True)
SPREADS = 4.0  # standard deviations of the losses before: a leap is no chance
BEFORE, AFTER = 30, 20  # steps around the leap that are compared
STEADY = 3.0  # times: steps before the leap that were no larger did not cause it
LOST = 0.75  # of what validation was better than guessing, at most, is left
FAR = Threshold(4, "standard deviations", "diagnoses.md, row 12: the same bound as for images")
WIDE = Threshold(30, "", "chosen: an untrained network answers about 0 to 1", excess=True)
MISSED = 0.5  # of the targets' variance that is still not explained
BEFORE_THE_LEAP = "loss in the steps before"  # name of evidence
LEARNED_BY_HEART = "learned by heart"  # name of evidence: no step too large would do so while every evaluation is no better than guessing
PAIRS = Fix("Check that samples and labels are read in the same order and shuffled together; look at a few pairs.")


def explained_in_training(view: RunView) -> float:
    """Share of the targets' variance that the newest answers in training explained, before their steps; NaN when unknown."""
    windows = view.seen("amounts")
    samples = error = 0.0
    for window in reversed(windows):
        samples, error = samples + number(window, "samples"), error + number(window, "samples") * number(window, "error")
        if samples >= ENOUGH_IMAGES:
            break
    variance = number(windows[-1], "variance") if windows else math.nan
    if variance > 0 and _loss_is_squared_error(view):
        return 1 - view.loss_now / variance  # of every step, where the windows of a loss that is written out hold a few
    return 1 - error / samples / variance if samples and variance > 0 else math.nan


def _loss_is_squared_error(view: RunView) -> bool:
    """Whether the first windows, which hold one step each, have the squared error that the loop's loss has."""
    losses = dict(view.losses)
    pairs = [(number(o, "error"), losses[o.step]) for o in view.seen("amounts") if o.step < SINGLE_STEPS and o.step in losses]
    return len(pairs) >= LOOKS and all(abs(error - loss) <= ROUNDING * max(error, loss) for error, loss in pairs)


def unrelated_amounts(view: RunView) -> Finding | None:
    """Answers to new samples are never better than the targets' mean, although the network learns its training samples or is well able to move."""
    looks = [o for o in view.seen("validation") if math.isfinite(number(o, "explained")) and number(o, "in_training", 0) < 0.5]
    looks = [o for o in looks if number(o, "samples", 0) >= ENOUGH_NEW]
    trained, different = explained_in_training(view), different_samples(view)
    best, by_heart = max((number(o, "explained") for o in looks), default=math.nan), trained > view.limit(TRAINED)
    chance = max((BY_CHANCE / number(o, "samples") for o in looks), default=0.0)
    if len(looks) < LOOKS or not view.outcome.fair or not best < max(view.limit(AS_THE_MEAN), chance) or different < ENOUGH_TRAINED:
        return None
    if by_heart:
        what = f"The network learns the training samples by heart ({percent(trained)} of what their targets differ in)"
    elif trained < view.limit(AS_THE_MEAN) and _moves_well(view):
        what = "The network takes steps of a usual size and passes its signal on from the first layer to the last"
    else:
        return None
    return Finding(
        "labels_look_random",
        "problem" if by_heart else "note",  # targets that are nearly all noise look the same
        "training labels",
        looks[0].step,
        f"{what}, but its answers to new samples are no better than always answering the mean of the targets: "
        + (
            "the targets do not seem to belong to the samples."
            if by_heart
            else "the targets are nearly all noise, or do not belong to the samples."
        ),
        PAIRS,
        (
            ev(LEARNED_BY_HEART if by_heart else "explained of the training targets' variance", percent(max(0.0, trained))),
            ev("explained of new samples' at best", best),
            ev("evaluations", len(looks)),
            *loss_evidence(view.outcome),
        ),
        "1 - squared error / variance of the targets; Zhang et al. 2017: networks fit random labels",
    )


def different_samples(view: RunView) -> float:
    """How many different training samples were seen; infinite when they were not told apart."""
    identity = view.last("identity")
    return number(identity, "train_images", 0) / max(1.0, number(identity, "epochs", 1)) if identity is not None else math.inf


def amounts_explained(view: RunView) -> bool:
    """Whether answers explained some of the targets' variance, in training or in an evaluation: then there is something to learn, however little."""
    looks = [number(o, "explained") for o in view.seen("validation")]
    return max([explained_in_training(view), *looks], key=lambda value: value if math.isfinite(value) else -math.inf) >= view.limit(
        AS_THE_MEAN
    )


def _moves_well(view: RunView) -> bool:
    ratios = sorted(r for _, r in view.median_ratios[-100:])
    return len(ratios) >= 20 and USUAL_RATIOS[0] < ratios[len(ratios) // 2] < USUAL_RATIOS[1] and carries_signal(view)


def changed_midway(view: RunView) -> Finding | None:
    """The loss leaps from one step to the next although the weights moved no more than before, stays up, and validation loses what it had."""
    leap = _leap(view)
    if leap is None:
        return None
    step, before, after = leap
    fall = _fall_in_validation(view, step)
    if fall is None or not carries_signal(view):
        return None
    was, now = fall
    return Finding(
        "labels_look_random",
        "problem",
        "training labels",
        step,
        f"At step {step} the loss leaps from {short(before)} to {short(after)}, although the steps just before were no larger than usual, and new samples "
        f"are answered worse from then on ({was} before, {now} now): the labels seem to belong to other samples since then.",
        Fix(
            f"Compare a few samples and their labels from before and after step {step}: a second file, a sort or a shuffle of only one of the two?"
        ),
        (
            ev(BEFORE_THE_LEAP, before),
            ev("loss in the steps after", after),
            ev("new samples before", was),
            ev("new samples now", now),
            *loss_evidence(view.outcome),
        ),
        "derived: a step of usual size cannot change the loss so much, so other samples or labels did",
    )


def _leap(view: RunView) -> tuple[int, float, float] | None:
    """(step, loss before, loss after) of the first leap that lasted; None without one."""
    losses = view.losses
    for at in range(BEFORE, len(losses) - 2 * AFTER):
        before, after = [loss for _, loss in losses[at - BEFORE : at]], [loss for _, loss in losses[at : at + AFTER]]
        level, height = statistics.fmean(before), statistics.fmean(after)
        above = max(level + SPREADS * statistics.stdev(before), max(before))
        if not (level > 0 and losses[at][1] > above and height > view.limit(LEAP) * level):
            continue
        lasts = view.loss_now > math.sqrt(view.limit(LEAP)) * level and statistics.median(after) > above
        if lasts and _steps_were_usual(view, losses[at][0]):
            return losses[at][0], level, height
    return None


def _steps_were_usual(view: RunView, step: int) -> bool:
    """Whether the weights moved no more just before than for a while before that, at a learning rate that did not rise."""
    just = [ratio for at, ratio in view.median_ratios if step - 5 <= at < step]
    earlier = [ratio for at, ratio in view.median_ratios if step - BEFORE <= at < step - 5]
    rates = [rate for at, rate in view.learning_rates if step - BEFORE <= at <= step]
    steady = bool(just and earlier) and max(just) < STEADY * statistics.median(earlier) and max(just) < USUAL_RATIOS[1]
    return steady and bool(rates) and rates[-1] <= 1.5 * rates[0]


def _fall_in_validation(view: RunView, step: int) -> tuple[str, str] | None:
    """How new samples were answered at best before a step and are answered since, when a good part of it is lost for good."""
    looks = [o for o in view.seen("validation") if number(o, "in_training", 0) < 0.5]
    for name, chance in (("accuracy", max((number(o, "largest_label", 0) for o in looks), default=0.0)), ("explained", 0.0)):
        before = [number(o, name) for o in looks if o.step < step and math.isfinite(number(o, name))]
        after = [number(o, name) for o in looks if o.step >= step and math.isfinite(number(o, name))][
            1:
        ]  # the first may be of the very step
        if before and len(after) >= 2 and max(before) > chance and max(after[-2:]) - chance < LOST * (max(before) - chance):
            what = "right" if name == "accuracy" else "explained"
            return f"{percent(max(before))} {what}", f"{percent(max(0.0, after[-1]))} {what}"
    return None


def all_the_same(view: RunView) -> Finding | None:
    """Every training target is one number, while those of new samples differ."""
    windows = view.seen("amounts")
    known = [o for o in view.seen("validation") if math.isfinite(number(o, "explained"))]
    if not windows or not known or number(windows[-1], "variance", 1) > 0 or sum(number(o, "samples", 0) for o in windows) < ENOUGH_TRAINED:
        return None
    value = number(windows[-1], "mean")
    return Finding(
        "labels_look_random",
        "problem",
        "training labels",
        0,
        f"Every training target is the same number ({short(value)}), while those of new samples differ, so there is nothing to learn.",
        Fix("Look at the targets just before the loss: a conversion to whole numbers, a wrong column or an empty array makes all equal."),
        (ev("target", value), ev("training samples looked at", int(sum(number(o, "samples", 0) for o in windows)))),
        "exact: the variance of the training targets is zero",
    )


def far_targets(view: RunView) -> Finding | None:
    """Targets so far from 0 that reaching their size takes most of the training."""
    windows: Sequence[Observation] = view.seen("amounts")
    if not windows or not view.outcome.fair:
        return None
    variance, mean, trained = number(windows[-1], "variance"), number(windows[-1], "mean"), explained_in_training(view)
    spread = math.sqrt(variance) if variance > 0 else math.nan
    far = abs(mean) > view.limit(FAR) * spread and abs(mean) > 1
    if not (far or spread > view.limit(WIDE)) or not trained < 1 - MISSED:
        return None
    return Finding(
        "bad_initial_scale",
        "problem" if trained < view.limit(AS_THE_MEAN) else "warning",
        "targets",
        0,
        f"The targets lie around {short(mean)} and differ by about {short(spread)}, while an untrained network answers about 0, so training is spent on "
        f"reaching their size: after {view.step_count} steps "
        + (
            f"{percent(trained)} of their differences are learned."
            if trained > 0
            else "the answers are worse than always answering their mean."
        ),
        Fix("Subtract the training targets' mean, divide by their standard deviation, and undo both in the network's answers."),
        (
            ev("targets' mean", mean),
            ev("targets' standard deviation", spread),
            ev("explained of their variance", trained),
            *loss_evidence(view.outcome),
        ),
        "diagnoses.md, rows 12 and 13, for targets",
    )
