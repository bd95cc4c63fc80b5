"""Faults that leave the loss looking almost well: batch norm spoilt by reports, dropout that no mode reaches, steps that are undone, units that died widely."""

from __future__ import annotations

import pytest
from hand_made import (
    CHANNEL,
    FIT,
    IDENTITY,
    LABELS,
    MODES,
    NETWORK,
    OPTIMIZER,
    STEPS,
    UPDATES,
    VALIDATION,
    falling,
    found,
    judged,
    layer,
    layers,
    loss_inputs,
    said,
    seen,
)

from convscope.records import Histogram, Observation

HALF_LEARNED = [0.9 + 1.4 * 0.97**step for step in range(STEPS)]  # 0.39 of the loss of guessing is left


def validations(accuracy: float) -> list[Observation]:
    return [seen("validation", step, **{**VALIDATION, "accuracy": accuracy}) for step in (150, 300)]


def test_reports_in_training_mode_spoil_the_averages_of_batch_norm() -> None:
    modes = seen("modes", 250, **{**MODES, "evaluations": 4, "eval_passes": 40, "norm_on_known": 30, "norm_on_new": 0})
    network = seen("network", **{**NETWORK, "batch_norms": 3})
    finding = found(judged(modes, network, *validations(0.8)), "wrong_mode")
    assert (finding.severity, finding.step) == ("warning", 250)
    assert finding.message == (
        "30 passes that are no training ran in training mode, and batch normalisation mixed their images into the averages that it uses for new images: "
        "of these 10 % fewer are answered rightly than of training images."
    )
    assert finding.fix.text == (
        "Call model.eval() before every pass that is no training, also in reports and checks on training images, and model.train() before training goes on."
    )
    assert said(judged(modes, network)) == []  # new images are answered as well as those trained on
    often = seen("modes", 250, **{**MODES, "evaluations": 200, "eval_passes": 200, "norm_on_known": 200, "norm_on_new": 0})
    assert said(judged(often, network, *validations(0.8))) == []  # a pass in every step is part of the training


def test_dropout_that_is_called_as_a_function() -> None:
    modes = seen(
        "modes", 250, **{**MODES, "evaluations": 2, "eval_in_train": 8, "eval_in_train_since": 75, "inner_in_train": 8, "dropped": 8}
    )
    finding = found(judged(modes), "wrong_mode")
    assert (finding.severity, finding.step) == ("warning", 75)
    assert finding.message == (
        "Dropout is called as a function that does not ask for the network's mode, so it switches off random units in validation too (8 of 8 passes)."
    )
    assert finding.fix.text == "Call F.dropout with training=self.training, or use nn.Dropout, which model.eval() switches off."
    averaged = seen("modes", 250, **{**modes.numbers, "asked_again": 7})
    assert said(judged(averaged)) == []  # answers are averaged over dropout on purpose


def test_layers_that_are_unfrozen_in_vain() -> None:
    network = seen("network", **{**NETWORK, "trainable": 1000, "frozen_fresh": 0.0})
    idle = seen("idle", 60, frozen=0.97, frozen_late=0.0, frozen_head=False, in_vain="body.0, body.1", left_out=0.0, left_out_late=0.0)
    finding = found(judged(network, idle, losses=HALF_LEARNED), "mostly_frozen")
    assert (finding.severity, finding.step, finding.where) == ("warning", 60, "body.0")
    assert finding.message == (
        "requires_grad was set to True on body.0, body.1 itself, where it does nothing: 97 % of the weights are still frozen and cannot learn."
    )
    assert (
        said(judged(network, seen("idle", 60, **{**idle.numbers, "in_vain": ""}), losses=HALF_LEARNED)) == []
    )  # a trained backbone, frozen


def test_steps_that_something_undoes() -> None:
    updates = seen("updates", 250, **{**UPDATES, "undone": 6, "surviving": 0.01})
    finding = found(judged(updates), "update_no_op")
    assert finding.severity == "warning"
    assert finding.message == "After each step something changes the weights back: only 1 % of the step is left when the next one begins."
    assert said(judged(seen("updates", 250, **{**UPDATES, "undone": 4, "surviving": 0.01}))) == []


def test_steps_that_are_rounded_away_while_much_is_left_to_learn() -> None:
    looks = [seen("updates", step, **{**UPDATES, "rounded": 6, "rounded_share": 0.97}) for step in (50, 100, 150, 200, 250)]
    finding = found(judged(*looks, losses=HALF_LEARNED), "update_no_op")
    assert finding.severity == "warning"
    assert finding.message == (
        "97 % of the weights stay exactly as they are at a step, because the steps are smaller than the gaps between the numbers that can hold these weights: "
        "they are rounded away."
    )
    assert said(judged(*looks)) == []  # nothing much is left
    lowered = [0.05 * 0.99**step for step in range(STEPS)]
    assert said(judged(*looks, losses=HALF_LEARNED, lr=lowered)) == []  # steps grow small at the end of every schedule
    now_and_then = [*looks[:-1], seen("updates", 250, **{**UPDATES, "rounded": 6, "rounded_share": 0.85})]
    assert said(judged(*now_and_then, losses=HALF_LEARNED)) == []


def test_labels_of_a_rare_class_in_small_batches_are_no_sign_of_sorting() -> None:
    labels = {**LABELS, "classes": 2, "batch_size": 4.0, "entropy": 0.11, "batch_entropy": 0.07, "largest_share": 0.98}
    fits = [seen("fit", step, **{**FIT, "accuracy": 1.0, "classes": 2}) for step in (200, 250)]
    assert "data_order_or_leak" not in said(judged(seen("labels", 250, **labels), *fits, *validations(0.9)))


def test_dropout_that_holds_training_back() -> None:
    network = seen("network", **{**NETWORK, "dropouts": 1, "dropout": 0.85})
    fits = [seen("fit", step, **{**FIT, "accuracy": 0.7}) for step in (200, 250)]
    finding = found(judged(network, *fits, losses=HALF_LEARNED), "over_regularised")
    assert (finding.severity, finding.where) == ("warning", "dropout")
    assert finding.message == (
        "Dropout switches off 85 % of the units in every step; without it, 20 % more new samples are answered rightly than training samples with it, so it "
        "holds training back."
    )
    assert said(judged(seen("network", **{**NETWORK, "dropouts": 1, "dropout": 0.5}), *fits, losses=HALF_LEARNED)) == []


def test_weights_that_decay_has_worn_down() -> None:
    rows = [layer(f"{at}.conv", step, weight_rms=0.1 * 0.995**step) for step in range(STEPS) for at in range(3)]
    optimizer = seen("optimizer", 0, "0", **{**OPTIMIZER, "weight_decay": 0.02})
    fits = [seen("fit", step, **{**FIT, "accuracy": 0.75}) for step in (200, 250)]
    finding = found(judged(optimizer, *fits, *validations(0.76), losses=HALF_LEARNED, rows=rows), "over_regularised")
    assert (finding.severity, finding.where) == ("warning", "weight decay")
    assert finding.message == (
        "Weight decay (0.02) has shrunk the weights to 22 % of their size, and the network has much left to learn of its training samples: it is held back."
    )
    assert finding.fix.change == {"weight_decay": 5e-4}
    behind_norm = seen("network", **{**NETWORK, "batch_norms": 2})
    assert said(judged(optimizer, behind_norm, *fits, *validations(0.76), losses=HALF_LEARNED, rows=rows)) == []
    monstrous = seen("optimizer", 0, "0", **{**OPTIMIZER, "weight_decay": 0.05})
    by_heart = [*fits, *validations(0.65)]
    nearly = [2.3 - 1.9 * min(1, step / 100) for step in range(STEPS)]
    assert said(judged(optimizer, *by_heart, losses=nearly, rows=rows)) == []
    poor = [1.4 + 0.3 * step / STEPS for step in range(STEPS)]  # what was learned decays again
    assert said(judged(monstrous, *by_heart, losses=poor, rows=rows))[0] == "over_regularised"
    assert found(judged(monstrous, *by_heart, losses=nearly, rows=rows), "over_regularised").message == (
        "Weight decay (0.05, 100 times the usual) has shrunk the weights to 22 % of their size, which holds the network back."
    )


def died(steps: int, first_zero: int) -> list:
    """Layers whose channels are alive in the first step, unless nearly all of their values are zero then, and mostly dead in the last."""
    rows = layers(steps)
    return [
        layer(r.layer, r.first_step, "ReLU", weighted=False, positive=b"\x01" if r.first_step > 20 else b"\xff", zero_count=first_zero)
        if r.layer.endswith("act")
        else layer(r.layer, r.first_step, update_ratio=0.2 if r.first_step < 15 else 1e-3)
        for r in rows
    ]


def test_units_that_large_steps_have_killed_are_missed() -> None:
    verdict = judged(losses=HALF_LEARNED, rows=died(STEPS, first_zero=500))
    assert said(verdict) == ["lr_too_high", "dead_units"]
    assert found(verdict, "dead_units").cause == "lr_too_high"
    assert found(verdict, "lr_too_high").message == (
        "From step 0 on each step changes the weights by 20 % of their size (0.1 % is usual), so training jumps about instead of settling: the learning rate "
        "of 0.05 is too high."
    )
    assert said(judged(losses=falling(), rows=died(STEPS, first_zero=500))) == []  # nothing is missed


def test_layers_that_begin_with_zeros_alone_and_a_run_that_waits_for_them() -> None:
    late = [2.3 if step < 120 else 0.9 + 1.4 * 0.97 ** (step - 120) for step in range(STEPS)]
    rows = [layer(r.layer, r.first_step, r.kind, weighted="conv" in r.layer, zero_count=0 if "conv" in r.layer else 960) for r in layers()]
    finding = found(judged(losses=late, rows=rows), "dead_units")
    assert (finding.severity, finding.where, finding.step) == ("warning", "0.act", 0)
    assert finding.message == (
        "Before the first step 96 % of what layer 0.act gives was zero already, so hardly anything passed through it and the first 25 % of the training "
        "taught nothing."
    )
    assert said(judged(losses=HALF_LEARNED, rows=rows)) == []


@pytest.mark.parametrize(("kind", "end"), [("Tanh", 1.0), ("ScaledTanh", 1.7)])
def test_a_tanh_shows_in_what_it_gives_that_it_is_saturated(kind: str, end: float) -> None:
    top = Histogram(252 if end == 1.0 else 254, (1000,))  # [0.75, 1) or [1.5, 2)
    rows = [
        one
        for step in range(STEPS)
        for one in (
            layer("0.conv", step, std=0.3),
            layer("0.act", step, kind, weighted=False, std=0.98 * end, minimum=-end, maximum=end, histogram=top),
            layer("1.conv", step),
        )
    ]
    finding = found(judged(losses=HALF_LEARNED, rows=rows), "saturated_units")
    assert (finding.severity, finding.step) == ("warning", 0)
    assert finding.message == (
        "100 % of what layer 0.act gives lies at the ends of its range, where its curve is flat, so those units hardly react and hardly learn."
    )
    assert [item.name for item in finding.evidence][:2] == ["outputs at the ends of the range", "in the first step"]
    calm = [
        r if r.layer != "0.act" else layer("0.act", r.first_step, kind, weighted=False, std=0.5, minimum=-end, maximum=end) for r in rows
    ]
    assert said(judged(losses=HALF_LEARNED, rows=calm)) == []


def test_weights_of_the_loss_on_the_class_that_is_frequent_anyway() -> None:
    labels = seen("labels", 250, **{**LABELS, "classes": 2, "entropy": 0.23, "largest_share": 0.94, "largest_class": 0})
    fits = [seen("fit", step, **{**FIT, "largest_answer": 1.0, "classes": 2, "accuracy": 0.94}) for step in (200, 250)]
    weighted = loss_inputs(classes=2, weight_ratio=15.0, heaviest=0)
    losses = [0.2 * 0.99**step for step in range(STEPS)]
    finding = found(judged(labels, *fits, *weighted, losses=losses), "one_class")
    assert (finding.severity, finding.where) == ("warning", "weights of the loss")
    assert finding.message == (
        "The loss counts the most frequent class (94 % of the labels) 15 times as much as another, so the network gives that answer for 100 % of the samples."
    )
    assert finding.fix.change == {"class_weights": "auto"}
    assert said(judged(labels, *fits, *loss_inputs(classes=2, weight_ratio=15.0, heaviest=1), losses=losses)) == []


def test_several_labels_in_one_cross_entropy() -> None:
    several = loss_inputs(
        target="whole", target_lowest=0.0, target_highest=1.0, target_mean=0.25, same_shape=True, shapes="32 × 10 and 32 × 10"
    )
    finding = found(judged(*several), "loss_output_mismatch")
    assert finding.severity == "warning"
    assert finding.message == (
        "Some samples have several labels at once (rows of zeros and ones with more than a single one), but cross_entropy lets the classes compete for one "
        "answer."
    )
    single = loss_inputs(target="whole", target_lowest=0.0, target_highest=1.0, target_mean=0.1, same_shape=True)
    assert said(judged(*single)) == []


def test_samples_sorted_by_their_amounts() -> None:
    amounts = seen("amounts", 250, samples=100, error=0.1, mean=0.0, variance=1.0, batch_variance=0.2)
    order = seen("identity", 250, **{**IDENTITY, "order_repeats": 20, "epoch_batches": 40})
    looks = [seen("validation", s, samples=500, loss=0.9, training_loss=0.1, explained=0.1, in_training=0.0) for s in (150, 300)]
    inputs = loss_inputs("mse_loss", target="real", classes=1, same_shape=True, target_lowest=-2.0, target_highest=2.0)
    finding = found(judged(amounts, order, *looks, *inputs, seen("input", 0, "channel 0", **CHANNEL)), "data_order_or_leak")
    assert finding.message == (
        "The training samples come sorted: the targets of one batch differ only 20 % as much as all targets, so the network learns one kind and forgets the "
        "others."
    )
    mixed = seen("amounts", 250, samples=100, error=0.1, mean=0.0, variance=1.0, batch_variance=0.95)
    assert "data_order_or_leak" not in said(judged(mixed, order, *looks, *inputs))


def test_a_table_of_words_is_no_first_layer_that_does_not_learn() -> None:
    rows = [
        one
        for step in range(STEPS)
        for one in (
            layer("words", step, "EmbeddingBag", gradient_rms=1e-8),
            layer("0.conv", step),
            layer("1.conv", step),
            layer("2.conv", step),
        )
    ]
    assert "vanishing_signal" not in said(judged(losses=[1.5 + 0.8 * 0.97**step for step in range(STEPS)], rows=rows))


WAITING = [2.3 if step < 130 else 1.7 + 0.6 * 0.99 ** (step - 130) for step in range(STEPS)]  # and learns only then


def test_gates_that_wait_long_are_given_too_short_steps() -> None:
    def run(ratio: float) -> Verdict:
        rows = [
            one
            for step in range(STEPS)
            for one in (layer("gru", step, "GRU", update_ratio=ratio), layer("out", step, "Linear", update_ratio=ratio))
        ]
        return judged(losses=WAITING, rows=rows)

    assert said(run(5e-4)) == ["lr_too_low"]
    finding = found(run(5e-4), "lr_too_low")
    assert finding.message == (
        "For the first 45 % of the training the answers were no better than guessing, and each step changes the weights by only 0.05 % of their size "
        "(0.1 % is usual): the learning rate of 0.05 is too low."
    )
    faded = found(run(2e-3), "vanishing_signal")
    assert faded.fix.text == (
        "Begin with forget gates that are open (their bias at 1), and answer from the mean over all steps instead of from the last one alone."
    )


def test_a_recurrent_network_that_waits_long_before_it_learns() -> None:
    losses = WAITING
    rows = [one for step in range(STEPS) for one in (layer("rnn", step, "RNN"), layer("out", step, "Linear"))]
    finding = found(judged(losses=losses, rows=rows), "vanishing_signal")
    assert (finding.severity, finding.where, finding.step) == ("warning", "rnn", 0)
    assert finding.message == (
        "For the first 45 % of the training the answers were no better than guessing, although the steps had a usual size: what layer rnn reads early in a "
        "sequence fades before the end."
    )
    never = judged(losses=[2.3] * STEPS, rows=rows)
    assert "vanishing_signal" not in said(never)  # random labels look like this
    plain = [one for step in range(STEPS) for one in (layer("0", step, "Linear"), layer("1", step, "Linear"))]
    assert "vanishing_signal" not in said(judged(losses=losses, rows=plain))


def test_images_that_are_hardly_shuffled() -> None:
    labels = seen("labels", 250, **{**LABELS, "batch_size": 64.0, "batch_entropy": 1.58})
    finding = found(judged(labels, *validations(0.8)), "data_order_or_leak")
    assert finding.severity == "warning"
    assert finding.message == (
        "The training images are hardly shuffled: a batch mixes only 71 % of what chance would mix in it, so the network leans to the classes that it has "
        "seen last."
    )
    assert said(judged(labels)) == []  # new images are answered as well
    assert said(judged(seen("labels", 250, **{**LABELS, "batch_size": 64.0, "batch_entropy": 2.2}), *validations(0.8))) == []


def test_a_rate_that_is_given_up_although_nothing_was_learned_by_heart() -> None:
    rates = [0.02 * 0.5 ** (step // 10) for step in range(STEPS)]
    losses = [0.55 + 1.75 * 0.95**step for step in range(STEPS)]
    verdict = judged(losses=losses, lr=rates)
    finding = found(verdict, "lr_schedule_collapsed")
    assert finding.severity == "warning"
    assert finding.message == (
        "From step 70 on the learning rate has fallen below a hundredth of its highest value (0.02), so the network stopped learning long before the end."
    )
    assert "lr_schedule_collapsed" not in said(
        judged(*validations(0.8), losses=losses, lr=rates)
    )  # the training images are learned by heart
