"""Rules on targets that do not belong to their samples, on records made by hand: whole messages, and the look-alikes that must stay silent."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hand_made import (
    FIT,
    IDENTITY,
    LABELS,
    STEPS,
    VALIDATION,
    falling,
    flat,
    found,
    judged,
    layers,
    loss_inputs,
    said,
    seen,
)

from convscope.records import LayerStats, Observation

NO_CLASSES = {**VALIDATION, "accuracy": None, "largest_answer": None, "largest_label": None}
OF_AMOUNTS = loss_inputs("mse_loss", classes=None, target="real", same_shape=True, shapes="32 and 32")


def amounts(errors: list[float], *, mean: float = 0.0, variance: float = 1.0) -> list[Observation]:
    """Windows of training with these squared errors."""
    steps = [round(STEPS * (at + 1) / len(errors)) - 1 for at in range(len(errors))]
    return [
        seen("amounts", step, samples=300, error=error, mean=mean, variance=variance) for step, error in zip(steps, errors, strict=True)
    ]


def evaluations(explained: list[float], samples: int = 200) -> list[Observation]:
    """Looks at new samples that explained these shares."""
    return [
        seen("validation", 50 * at, **{**NO_CLASSES, "samples": samples, "explained": share, "loss": 1 - share})
        for at, share in enumerate(explained, 1)
    ]


def test_amounts_that_belong_to_other_samples() -> None:
    verdict = judged(*amounts([1.0, 0.8, 0.6]), *evaluations([-0.1, -0.2, -0.3, -0.5]), *OF_AMOUNTS)
    finding = found(verdict, "labels_look_random")
    assert (finding.severity, finding.step) == ("problem", 50)
    assert finding.message == (
        "The network learns the training samples by heart (40 % of what their targets differ in), but its answers to new samples are no better than "
        "always answering the mean of the targets: the targets do not seem to belong to the samples."
    )


def test_amounts_that_change_partners_in_every_epoch_cannot_be_learned_by_heart() -> None:
    finding = found(judged(*amounts([1.0, 1.0, 1.0]), *evaluations([-0.1, -0.02, 0.0]), *OF_AMOUNTS), "labels_look_random")
    assert finding.message.startswith(
        "The network takes steps of a usual size and passes its signal on from the first layer to the last, but its"
    )


@pytest.mark.parametrize(
    ("trained", "new", "different"),
    [
        ([1.0, 0.9, 0.8], [0.02, 0.1, 0.05, -0.2], 5000),  # hardly anything can be known, but a little is
        ([1.0, 0.5, 0.2], [-0.1, -0.2, -0.3, -0.5], 60),  # too few to learn from
        ([1.0, 0.5, 0.2], [-0.1, -0.2], 5000),  # two looks are too few
        ([1.0, 0.95, 0.9], [-0.1, 0.0, 0.0, 0.0], 5000),  # neither learned by heart nor stuck
    ],
)
def test_amounts_that_are_hard_to_know(trained: list[float], new: list[float], different: int) -> None:
    identity = seen("identity", 250, **{**IDENTITY, "train_images": 5000, "epochs": 5000 / different})
    assert "labels_look_random" not in said(judged(*amounts(trained), *evaluations(new), *OF_AMOUNTS, identity))


def test_a_noisy_task_at_the_level_of_its_noise_is_none_of_random_labels() -> None:
    """Once told as random: its loss stays within 5 % of the start, yet some of the targets' variance is explained."""
    level = [1.0 + 0.03 * math.sin(step) for step in range(STEPS)]
    rest = [*evaluations([math.nan, math.nan]), *OF_AMOUNTS, seen("fit", 250, **{**FIT, "accuracy": 0.1})]
    assert found(judged(*amounts([1.0, 1.0, 1.0]), *rest, losses=level), "labels_look_random")
    assert said(judged(*amounts([1.0, 0.95, 0.95]), *rest, losses=level)) == []


LEAP = [0.1 + 0.9 * math.exp(-step / 20) for step in range(150)] + [0.9 - step / 1000 for step in range(150)]


def looks(before: float, after: float) -> list[Observation]:
    accuracies = {60: before - 0.1, 120: before, 160: after, 200: after, 240: after, 280: after}
    return [seen("validation", step, **{**VALIDATION, "accuracy": share}) for step, share in accuracies.items()]


def test_labels_that_change_at_a_step() -> None:
    finding = found(judged(*looks(0.9, 0.3), losses=LEAP), "labels_look_random")
    assert (finding.severity, finding.step) == ("problem", 150)
    assert finding.message == (
        "At step 150 the loss leaps from 0.101 to 0.89, although the steps just before were no larger than usual, and new samples are answered worse from "
        "then on (90 % right before, 30 % right now): the labels seem to belong to other samples since then."
    )
    assert finding.fix.text == (
        "Compare a few samples and their labels from before and after step 150: a second file, a sort or a shuffle of only one of the two?"
    )


def test_labels_that_change_are_no_consequence_of_the_learning_rate() -> None:
    rows = [seen("validation", step, **{**VALIDATION, "accuracy": 0.3}) for step in (200, 240, 280)]
    wide = layers(STEPS, update_ratio=0.02)
    verdict = judged(seen("validation", 120, **VALIDATION), *rows, losses=LEAP, rows=wide)
    assert verdict.findings[0].name == "labels_look_random"
    assert "lr_too_high" not in [finding.name for finding in verdict.findings if finding.cause is None]


def test_a_leap_for_other_reasons() -> None:
    assert said(judged(*looks(0.7, 0.9), losses=LEAP)) == []  # a harder part of a curriculum
    rates = [0.05] * 148 + [0.5] * 152
    assert "labels_look_random" not in said(judged(*looks(0.9, 0.3), losses=LEAP, lr=rates))
    spike = [*LEAP[:150], *LEAP[150:155], *[0.1] * 145]
    assert said(judged(*looks(0.9, 0.85), losses=spike)) == []


def test_targets_that_are_all_the_same() -> None:
    finding = found(judged(*amounts([0.1, 0.0], variance=0.0), *evaluations([-7.0, -7.0]), *OF_AMOUNTS), "labels_look_random")
    assert (
        finding.message == "Every training target is the same number (0), while those of new samples differ, so there is nothing to learn."
    )
    assert (
        said(judged(*amounts([0.1, 0.0], mean=1.0, variance=0.0), *OF_AMOUNTS)) == []
    )  # a residual that should vanish, or a discriminator's ones


def test_targets_far_from_zero() -> None:
    years = amounts([4e6, 9e5, 3e5], mean=2000.0, variance=64.0)
    finding = found(
        judged(*years, *evaluations([-5e3] * 4), *OF_AMOUNTS, losses=[4e6 * math.exp(-step / 100) for step in range(STEPS)]),
        "bad_initial_scale",
    )
    assert (finding.severity, finding.where) == ("problem", "targets")
    assert finding.message == (
        "The targets lie around 2000 and differ by about 8, while an untrained network answers about 0, so training is spent on reaching their size: after "
        "300 steps the answers are worse than always answering their mean."
    )
    assert (
        finding.fix.text
        == "Subtract the training targets' mean, divide by their standard deviation, and undo both in the network's answers."
    )
    reached = amounts([9e4, 100.0, 900.0], mean=300.0, variance=3600.0)
    assert "bad_initial_scale" not in said(judged(*reached, *OF_AMOUNTS))  # prices that are learned all the same


def test_a_question_with_two_answers_exchanged() -> None:
    exchanged = [seen("validation", step, **{**VALIDATION, "accuracy": 0.1, "largest_label": 0.52}) for step in (150, 300)]
    fit = [seen("fit", step, **{**FIT, "accuracy": 0.98, "classes": 2}) for step in (200, 250)]
    yes_or_no = loss_inputs("binary_cross_entropy_with_logits", classes=None, target="whole", target_highest=1.0)
    finding = found(judged(*exchanged, *fit, *yes_or_no), "labels_look_random")
    assert finding.message == (
        "The network learns the training images (98 % right) but answers new ones far worse than by guessing (10 %): the classes seem to have other "
        "numbers there."
    )
    assert (
        finding.fix.text == "Compare how training and validation number their classes (the order of folders or names, 0 and 1 exchanged)."
    )
    weak = [seen("validation", step, **{**VALIDATION, "accuracy": 0.58, "largest_label": 0.52}) for step in (150, 300)]
    assert "labels_look_random" not in said(judged(*weak, *fit, *yes_or_no))  # little of it can be known


def test_a_few_sequences_learned_by_heart_are_overfitting() -> None:
    rows = [seen("validation", 60 * at, **{**VALIDATION, "accuracy": 0.1, "loss": 2.0 + at}) for at in range(1, 6)]
    few = seen("identity", 250, **{**IDENTITY, "train_images": 5000, "epochs": 125.0})
    assert said(judged(*rows, few)) == ["overfitting"]
    assert said(judged(*rows))[0] == "labels_look_random"


def test_classes_that_stay_away_from_a_step_on() -> None:
    def running(batches: int, entropy: float) -> Observation:
        return seen("labels", batches, **{**LABELS, "batches": batches, "batch_entropy": entropy})

    mixed = [running(batches, 2.15) for batches in (50, 100, 150)]
    since = [running(batches, 150 * 2.15 / batches) for batches in (180, 200, 220)]
    fit, worse = seen("fit", 280, **{**FIT, "accuracy": 1.0}), seen("validation", 280, **{**VALIDATION, "accuracy": 0.3})
    finding = found(judged(*mixed, *since, fit, worse), "data_order_or_leak")
    assert (finding.severity, finding.step) == ("problem", 150)
    assert finding.message == (
        "From about step 150 on a batch holds far fewer kinds of labels than before, so the network learns some classes and forgets the others."
    )
    assert said(judged(*mixed, *since)) == []  # it does no harm to new samples
    assert "data_order_or_leak" not in said(judged(*mixed, running(300, 2.15), fit, worse))


def test_one_batch_again_and_again() -> None:
    same = {**IDENTITY, "train_images": 12_000, "repeated_batches": 1.0, "epoch_batches": 1, "epochs": 300.0}
    fit, worse = seen("fit", 280, **{**FIT, "accuracy": 1.0}), seen("validation", 280, **{**VALIDATION, "accuracy": 0.45})
    finding = found(judged(seen("identity", 250, **same), fit, worse), "data_order_or_leak")
    assert finding.message == "Every step trains on the same 40 images, while 500 others are evaluated and answered much worse."
    assert finding.fix.text.startswith("Take the next batch in each step (`for images, labels in loader:`)")
    assert said(judged(seen("identity", 250, **same))) == []  # new ones are answered as well
    whole = seen("identity", 250, **{**same, "train_images": 120_000})
    assert "data_order_or_leak" not in said(judged(whole, fit, worse))  # 400 samples at once, and 500 new ones: a small table


def test_a_penalty_that_outweighs_the_answers() -> None:
    rows = [row for step in range(STEPS) for row in layers(1, weight_rms=0.1 * math.exp(-step / 100))]
    looks = [seen("penalty", step, of="squares", sum=44.0 - step, weights=900, loss=2.0 + 0.05 * (44.0 - step)) for step in range(5)]
    finding = found(judged(*looks, rows=[*_at_their_steps(rows)]), "over_regularised")
    assert finding.severity == "warning"
    assert finding.message == (
        "The loss adds 0.05 times the sum of the weights' squares to what the answers cost: that is 2.2 of 4.2 at step 0, and the weights have shrunk to "
        "5.03 % of their size, so little is left to learn with."
    ).replace("5.03 %", "5 %")
    assert finding.fix.text == "Make the factor of this penalty 0.00025 or smaller, or leave the penalty out."
    usual = [seen("penalty", step, of="squares", sum=44.0, weights=900, loss=2.0 + 0.0005 * 44.0) for step in range(5)]
    assert said(judged(*usual, rows=[*_at_their_steps(rows)])) == []
    odd = [seen("penalty", step, of="squares", sum=44.0, weights=900, loss=4.0 + step) for step in range(5)]  # no factor: another term
    assert said(judged(*odd, rows=[*_at_their_steps(rows)])) == []


def _at_their_steps(rows: list[LayerStats]) -> list[LayerStats]:
    """Rows of single steps, numbered as they come."""
    return [dataclasses.replace(row, first_step=at // 5, last_step=at // 5) for at, row in enumerate(rows)]


@pytest.mark.parametrize(("lead", "told"), [(0.3, True), (0.2, False)])
def test_one_evaluation_far_ahead_of_training_tells_of_wrong_labels(lead: float, told: bool) -> None:
    look = seen("validation", 140, **{**VALIDATION, "accuracy": 0.5 + lead})
    fits = [seen("fit", step, **{**FIT, "samples": 60, "accuracy": 0.5, "wrong": 30, "second_choice": 0.2}) for step in range(130, 190, 10)]
    names = [finding.name for finding in judged(look, *fits, losses=falling(180)).findings]
    assert ("label_noise" in names) is told


def test_an_untrained_network_s_wrong_answers_are_no_noise_yet() -> None:
    fits = [seen("fit", step, **{**FIT, "samples": 300, "accuracy": 0.4, "wrong": 180, "second_choice": 0.12}) for step in (70, 80, 90)]
    assert "label_noise" not in [finding.name for finding in judged(*fits, losses=falling(100)).findings]
    assert "label_noise" in [finding.name for finding in judged(*(dataclasses.replace(o, step=o.step + 200) for o in fits)).findings]


def test_first_answers_that_miss_by_far() -> None:
    looks = [seen("amounts", step, samples=64, error=5e6, mean=0.0, variance=4.0) for step in (0, 290)]
    verdict = judged(*looks, *OF_AMOUNTS, losses=flat(level=5e6))
    finding = found(verdict, "bad_initial_scale")
    assert (finding.severity, finding.message) == (
        "problem",
        "The first loss is 5 million, where guessing would give 4: the untrained network is far off with every answer, and the first steps must undo that.",
    )
    near = [seen("amounts", step, samples=64, error=50.0, mean=0.0, variance=4.0) for step in (0, 290)]
    assert "bad_initial_scale" not in said(judged(*near, *OF_AMOUNTS, losses=flat(level=50.0)))
