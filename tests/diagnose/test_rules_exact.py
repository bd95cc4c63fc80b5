"""Exact rules: each fires on the event and stays silent on its harmless twin. Messages are compared whole."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hand_made import (
    FIT,
    LABELS,
    MODES,
    NETWORK,
    OPTIMIZER,
    STEPS,
    UPDATES,
    VALIDATION,
    falling,
    flat,
    found,
    healthy_observations,
    judged,
    layer,
    layers,
    loss_inputs,
    said,
    seen,
    step_records,
)

from convscope.diagnose import diagnose
from convscope.records import Observation, Range


def test_a_run_that_goes_well_has_no_finding() -> None:
    verdict = judged()
    assert verdict.verdict == "healthy"
    assert verdict.findings == ()
    assert [item.name for item in verdict.not_checked] == ["batchnorm_unreliable"]


def test_nan_in_the_images_is_named_before_the_loss() -> None:
    losses = falling()[:50] + [math.nan] * 10
    finding = found(judged(seen("non_finite", 50, "input"), losses=losses), "non_finite")
    assert (finding.severity, finding.where, finding.step) == ("problem", "input", 50)
    assert finding.message == (
        "The images given to the network at step 50 held values that are not numbers, and everything computed from them is lost."
    )
    assert finding.fix.change is None


def test_the_first_layer_with_an_infinite_value_is_named() -> None:
    losses = falling()[:50] + [math.nan] * 10
    rows = [*layers(50), layer("1.conv", 50, non_finite=True)]
    finding = found(judged(losses=losses, rows=rows), "non_finite")
    assert finding.message == "At step 50 layer 1.conv became infinite or not a number (NaN), and since then the network cannot learn."
    assert finding.fix.change == {"lr": 0.005, "clip_norm": 1.0}


def test_an_overflow_that_mixed_precision_skips_is_silent() -> None:
    norms = [math.inf if step == 50 else 1.0 for step in range(len(falling()))]
    assert said(judged(norms=norms)) == []


def test_gradients_that_are_never_cleared() -> None:
    carry = seen("gradient_carry", 5, "4.bias", checked=5, carried=5, streak=5, since=1)
    finding = found(judged(carry), "grads_not_cleared")
    assert finding.severity == "problem"
    assert finding.message == (
        "The gradients of earlier steps are not set back to zero before each step, so since step 1 the steps add up old directions and overshoot."
    )
    assert finding.fix.text == "Call optimizer.zero_grad() once per step, before loss.backward()."


def test_gradients_that_are_cleared_now_and_then() -> None:
    looks = [seen("gradient_carry", 20, "4.bias", checked=20, carried=17, streak=4, since=17)]
    looks += [seen("gradient_carry", 250, "4.bias", checked=250, carried=60, streak=0, since=121)]  # dead since: no gradient is left
    assert found(judged(*looks), "grads_not_cleared").step == 17


def test_one_stale_gradient_is_no_finding() -> None:
    assert said(judged(seen("gradient_carry", 250, "4.bias", checked=250, carried=2, streak=2, since=248))) == []


def test_found_within_five_steps() -> None:
    carry = seen("gradient_carry", 4, "4.bias", checked=3, carried=3, streak=3, since=1)
    assert said(diagnose(step_records(falling(5)), layers(5), [carry])) == ["grads_not_cleared"]


@pytest.mark.parametrize(
    ("change", "losses", "severity"),
    [
        ({"held": 0.8, "head_held": False, "missing": "fc", "missing_fresh": 1.0}, falling(), "problem"),
        ({"held": 0.1, "missing": "0, 3", "missing_fresh": 1.0}, flat(), "problem"),
        ({"held": 0.0, "foreign": 1.0, "missing": "0, 3", "missing_fresh": 0.0}, falling(), "problem"),
        ({"held": 0.1, "missing": "0, 3", "missing_fresh": 0.0}, falling(), "note"),  # the head of a trained network is trained
    ],
)
def test_weights_that_no_optimiser_holds(change: dict[str, object], losses: list[float], severity: str) -> None:
    finding = found(judged(seen("optimizer", 0, "0", **{**OPTIMIZER, **change}), losses=losses), "params_not_in_optimizer")
    assert finding.severity == severity


def test_the_message_about_weights_that_no_optimiser_holds() -> None:
    optimizer = seen("optimizer", 0, "0", **{**OPTIMIZER, "held": 0.75, "head_held": False, "missing": "fc", "missing_fresh": 1.0})
    assert found(judged(optimizer), "params_not_in_optimizer").message == (
        "25 % of the weights are never updated, because the optimiser was not given them (first among them: fc)."
    )


def test_steps_that_change_nothing() -> None:
    finding = found(judged(seen("updates", 8, **{**UPDATES, "still": 6, "still_share": 1.0, "still_layers": "0, 3"})), "update_no_op")
    assert (
        finding.message
        == "The optimiser takes steps, but 100 % of the weights have not changed at all although there is a gradient for them."
    )


def test_evaluations_that_leave_other_weights_behind() -> None:
    dull = [2.3 - 0.8 * step / STEPS for step in range(STEPS)]
    left = seen("updates", 250, **{**UPDATES, "put_back": 3, "left": 0.05, "steps_between": 10})
    finding = found(judged(left, losses=dull), "update_no_op")
    assert (finding.severity, finding.message) == (
        "warning",
        "At each evaluation something writes other weights into the network and leaves them there: only 5 % of the work of the last 10 steps is left when "
        "training goes on.",
    )
    assert said(judged(seen("updates", 250, **{**UPDATES, "put_back": 2, "left": 0.05, "steps_between": 10}), losses=dull)) == []
    assert said(judged(left)) == []  # it learns all the same


def test_steps_that_change_nothing_because_the_gradient_is_endless() -> None:
    still = seen("updates", 8, **{**UPDATES, "still": 6, "still_share": 0.999, "still_layers": "0, 3"})
    assert "update_no_op" in said(judged(still, losses=flat(level=1e20), norms=[1e18] * STEPS))
    verdict = judged(still, losses=flat(level=1e20), norms=[math.inf] * STEPS)
    assert "exploding_gradients" in said(verdict)
    assert "update_no_op" not in said(verdict)


def test_an_optimiser_that_never_steps() -> None:
    verdict = diagnose([], layers(1), [seen("unstepped", passes=60, moved=False, fresh=1.0)])
    finding = found(verdict, "update_no_op")
    assert finding.message == "After 60 batches no optimiser has taken a step, so the weights are still those of the start."
    assert finding.fix.text == (
        "Call optimizer.step() after loss.backward() (scheduler.step() only changes the learning rate); where the loop changes the weights itself, it "
        "must change them in place: p -= rate * p.grad within torch.no_grad()."
    )
    by_hand = {"passes": 60, "moved": True, "fresh": 0.0}
    assert diagnose([], layers(1), [seen("unstepped", **by_hand)]).verdict == "too_early"
    assert diagnose([], layers(1), [seen("unstepped", passes=10, moved=False, fresh=1.0)]).verdict == "too_early"


def test_steps_without_gradients() -> None:
    finding = found(judged(seen("updates", 8, **{**UPDATES, "ungraded": 6, "no_gradient": 1.0})), "update_no_op")
    assert finding.message == "The optimiser takes steps, but 100 % of the weights never receive a gradient, so they stay as they are."


def test_gradients_that_stop_in_the_middle() -> None:
    looks = [seen("updates", step, **{**UPDATES, "ungraded": at, "no_gradient": 1.0}) for step, at in ((50, 0), (60, 1), (100, 5))]
    finding = found(judged(*looks), "update_no_op")
    assert finding.step == 60
    assert finding.message == (
        "Since step 60 the optimiser takes steps, but 100 % of its weights receive no gradient any more, so they stay as they are."
    )
    assert finding.fix.text == (
        "Look for what happened before that step: when the network is copied or replaced, the new one needs an optimiser of its own; detach() and "
        "no_grad() cut gradients off."
    )


def test_a_frozen_head_is_a_problem_and_a_frozen_trained_backbone_is_not() -> None:
    head = seen("network", **{**NETWORK, "trainable": 200, "head_trainable": False, "frozen_fresh": 1.0})
    assert found(judged(head), "mostly_frozen").severity == "problem"
    backbone = seen("network", **{**NETWORK, "trainable": 3000, "frozen_fresh": 0.0})
    assert said(judged(backbone)) == []
    random_backbone = seen("network", **{**NETWORK, "trainable": 3000, "frozen_fresh": 1.0})
    finding = found(judged(random_backbone, losses=[2.3 - step / 400 for step in range(300)]), "mostly_frozen")
    assert finding.message == (
        "90 % of the weights are frozen (requires_grad is False) as they were drawn at random, so these layers cannot learn."
    )


def test_a_few_frozen_layers_that_were_never_trained() -> None:
    first_layers = seen("network", **{**NETWORK, "trainable": 29_000, "frozen_fresh": 1.0})
    assert found(judged(first_layers), "mostly_frozen").severity == "warning"
    assert said(judged(first_layers, losses=[2.3 * math.exp(-step / 20) for step in range(300)])) == []  # nothing is left to learn


def test_training_in_evaluation_mode() -> None:
    network = seen("network", **{**NETWORK, "batch_norms": 4})
    modes = seen("modes", 250, **{**MODES, "train_in_eval": 170, "train_in_eval_streak": 170, "train_in_eval_since": 80})
    finding = found(judged(network, modes), "wrong_mode")
    assert finding.severity == "problem"
    assert finding.message == (
        "Since step 80 the network trains in evaluation mode, so batch normalisation does not use the batch's own statistics."
    )


def test_validating_in_training_mode() -> None:
    modes = seen("modes", 250, **{**MODES, "eval_in_train": 8, "eval_in_train_since": 80, "batch_norm_in_train": True})
    finding = found(judged(modes), "wrong_mode")
    assert finding.severity == "problem"
    assert finding.message == (
        "Validation runs in training mode (8 of 8 passes), so each answer depends on the other images in its batch, and batch normalisation "
        "learns from the validation images."
    )
    inner = seen("modes", 250, **{**MODES, "eval_in_train": 8, "inner_in_train": 8, "batch_norm_in_train": True})
    finding = found(judged(inner), "wrong_mode")
    assert finding.message == (
        "Although the network itself is in evaluation mode, layers inside it run validation in training mode (8 of 8 passes), so each answer depends on "
        "the other images in its batch, and batch normalisation learns from the validation images."
    )
    assert finding.fix.text == (
        "Call model.eval() before validation and model.train() after it: setting model.training does not reach the layers inside, and neither reaches "
        "layers in a plain list (use nn.ModuleList)."
    )
    averaged = seen("modes", 250, **{**MODES, "eval_in_train": 8, "asked_again": 7})  # over several passes with dropout
    assert said(judged(averaged)) == []


PROBABILITIES = {"row_sum_gap": 1e-7, "lowest": 0.0, "highest": 0.9, "log_gap": 10.0}


def test_softmax_before_cross_entropy() -> None:
    finding = found(judged(*loss_inputs(**PROBABILITIES)), "softmax_before_cross_entropy")
    assert finding.message == (
        "The network's answers already are probabilities, but cross_entropy turns them into probabilities once more, so the loss can never "
        "fall below 1.46."
    )


def test_log_probabilities_into_cross_entropy_are_harmless() -> None:
    assert said(judged(*loss_inputs(log_gap=1e-6, lowest=-9.0, highest=-0.01))) == []


def test_probabilities_with_a_loss_that_wants_them_are_fine() -> None:
    assert said(judged(*loss_inputs("mse_loss", target="probability", same_shape=True, **PROBABILITIES))) == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("cross_entropy", {"column_sum_gap": 1e-7, "lowest": 0.0, "highest": 0.9}),
        ("nll_loss", {"log_column_gap": 1e-7, "lowest": -9.0, "highest": -0.1}),
        ("kl_div", {"log_column_gap": 1e-7, "lowest": -9.0, "highest": -0.1}),
    ],
)
def test_softmax_over_the_batch(name: str, change: dict[str, float]) -> None:
    verdict = judged(*loss_inputs(name, **change))
    assert said(verdict) == ["softmax_wrong_dim"]
    assert verdict.findings[0].message == (
        "The softmax runs over the images of the batch instead of over the classes, so each answer depends on the other images."
    )


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "nll_loss",
            {},
            "The loss nll_loss expects logarithms of probabilities but receives something else, so it can be lowered without end and without learning.",
        ),
        (
            "kl_div",
            {"target": "probability", "lowest": 0.0, "highest": 0.9},
            "The loss kl_div expects logarithms of probabilities as answers but receives something else, so it does not measure how far answers and "
            "labels are apart.",
        ),
        (
            "cross_entropy",
            {"classes": 1},
            "The network gives one number per image, but cross_entropy compares several classes, so the loss is always zero and nothing can be learned.",
        ),
        (
            "mse_loss",
            {"classes": 1, "target": "real", "shapes": "32 × 1 and 32"},
            "Answers and labels have different shapes (32 × 1 and 32), so mse_loss compares every answer with every image's label.",
        ),
        (
            "mse_loss",
            {"classes": 1, "target": "whole", "same_shape": True},
            "The network is asked to output the class's number (0, 1, 2 ...) as if classes were amounts, so it answers with averages of classes.",
        ),
        (
            "binary_cross_entropy_with_logits",
            {"made_by": "Sigmoid", "lowest": 0.1, "highest": 0.9, "target": "real", "target_highest": 1.0, "same_shape": True},
            "The network's answers already lie between 0 and 1, but binary_cross_entropy_with_logits squeezes them into 0..1 once more, so it can "
            "never be sure.",
        ),
        (
            "cross_entropy",
            {"lowest": 0.0, "highest": 5.0, "zeros": 0.5},
            "No score is ever negative and 50 % are exactly zero: an activation function (ReLU) cuts the scores off before cross_entropy.",
        ),
    ],
)
def test_a_loss_that_does_not_fit(name: str, change: dict[str, object], message: str) -> None:
    assert found(judged(*loss_inputs(name, **change)), "loss_output_mismatch").message == message


def test_a_loss_that_was_not_seen_is_no_loss_that_is_not_a_number() -> None:
    losses = [math.nan if step % 2 else loss for step, loss in enumerate(falling())]
    assert said(judged(seen("unseen_loss", 1), losses=losses)) == []
    assert said(judged(losses=losses)) == ["non_finite"]


def of_graph(**facts: bool) -> list[Observation]:
    return [seen("loss_graph", step, found=True, classes=10, **facts) for step in range(3)]


def test_what_the_graph_of_a_loss_by_hand_shows() -> None:
    assert found(judged(*of_graph(softmax_twice=True)), "softmax_before_cross_entropy").message == (
        "The network's answers already are probabilities, but the loss turns them into probabilities once more, so it can never be sure of a class."
    )
    assert said(judged(*of_graph(softmax_over_batch=True))) == ["softmax_wrong_dim"]
    assert found(judged(*of_graph(broadcast=True)), "loss_output_mismatch").message == (
        "The loss compares every answer with every sample's label, because answers and labels have different shapes (a column and a row), so the "
        "network can only learn the labels' mean."
    )
    assert found(judged(*of_graph(softmax_across=True)), "softmax_wrong_dim").message == (
        "The softmax before the loss runs along another axis than the one from which the labels choose their class, so the classes do not compete with "
        "each other."
    )
    assert said(judged(*of_graph(softmax_twice=False, softmax_over_batch=False, softmax_across=False, broadcast=False))) == []


def test_counts_that_are_asked_for_beside_classes() -> None:
    counts = loss_inputs(
        "smooth_l1_loss", classes=None, target="whole", target_lowest=0.0, target_highest=3.0, same_shape=True, shapes="32 and 32"
    )
    kinds = loss_inputs("binary_cross_entropy_with_logits", target="whole", same_shape=True, lowest=-4.0, highest=4.0, target_highest=1.0)
    assert "loss_output_mismatch" in said(judged(*counts))
    assert "loss_output_mismatch" not in said(judged(*counts, *kinds))


def test_logarithms_from_a_softmax_over_another_axis() -> None:
    steps = {"classes": 6, "highest": -0.2, "lowest": -10.0, "log_column_gap": 1e9, "row_sum_gap": 45.0}
    verdict = judged(*loss_inputs("nll_loss", **steps, made_by="LogSoftmax", log_gap=0.9))
    assert said(verdict) == ["softmax_wrong_dim", "loss_output_mismatch"]
    assert found(verdict, "loss_output_mismatch").cause == "softmax_wrong_dim"
    assert said(judged(*loss_inputs("nll_loss", **steps, made_by="Addmm", log_gap=0.9))) == ["loss_output_mismatch"]
    assert said(judged(*loss_inputs("nll_loss", **steps, made_by="LogSoftmax", log_gap=1e-6))) == []


def test_a_trained_last_layer_that_is_frozen_may_be_used_as_it_is() -> None:
    def run(fresh: float, losses: list[float]) -> list[str]:
        frozen = seen("network", 0, **{**NETWORK, "head_trainable": False, "trainable": 1_500, "frozen_fresh": fresh})
        return said(judged(frozen, seen("idle", 100, frozen=0.95, frozen_late=0.0, frozen_head=True), losses=losses))

    assert run(0.0, falling()) == []
    assert run(1.0, falling()) == ["mostly_frozen"]
    assert "mostly_frozen" in run(0.0, flat())


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("binary_cross_entropy_with_logits", {"target": "whole", "target_highest": 1.0, "same_shape": True}),
        ("mse_loss", {"target": "probability", "same_shape": True}),
        ("kl_div", {"target": "probability", "log_gap": 1e-7, "lowest": -9.0, "highest": -0.1}),
        ("kl_div", {"target": "real", "lowest": -12.0, "highest": -0.1}),
        ("nll_loss", {"log_gap": 1e-7, "lowest": -9.0, "highest": -0.1}),
    ],
)
def test_a_loss_that_fits(name: str, change: dict[str, object]) -> None:
    assert said(judged(*loss_inputs(name, **change))) == []


def test_equal_filters_that_stay_equal() -> None:
    looks = [seen("filters", step, "1.conv", identical=1.0, filters=16, still_moving=step > 0) for step in (0, 20)]
    assert found(judged(*looks), "symmetric_init").message == (
        "All filters of layer 1.conv began equal and are still equal after 20 steps, so the layer works like a single filter."
    )


def test_equal_filters_that_go_the_same_way() -> None:
    looks = [seen("filters", step, "1.conv", identical=1.0, filters=16, still_moving=step > 0, together=float(step > 0)) for step in (0, 4)]
    finding = found(judged(*looks), "symmetric_init")
    assert (finding.severity, finding.step) == ("problem", 0)
    assert finding.message == (
        "All filters of layer 1.conv began equal and are still equal after 4 steps, so the layer works like a single filter."
    )
    parting = [seen("filters", step, "1.conv", identical=1.0, filters=16, still_moving=step > 0, together=0.0) for step in (0, 4)]
    assert said(judged(*parting)) == []


def test_zeros_in_every_hidden_layer_are_told_at_once_although_rounding_parts_them() -> None:
    def looks(*identical: float) -> list[Observation]:
        zeros = {"filters": 16, "inputs": 8, "largest": 0.0, "still_moving": True}
        first = [seen("filters", 0, f"{at}.conv", identical=share, **zeros) for at, share in enumerate(identical)]
        return [*first, *(seen("filters", 4, f"{at}.conv", identical=0.0, **zeros) for at in range(len(identical)))]

    finding = found(judged(*looks(1.0, 1.0)), "symmetric_init")
    assert (finding.severity, finding.step) == ("warning", 0)
    assert finding.message == "All filters of layer 0.conv began equal, so for a long time they learn the same thing."
    assert said(judged(*looks(1.0, 1.0, 0.0))) == []  # the end of a residual branch begins so


def test_a_zero_head_that_parts_is_fine() -> None:
    looks = [
        seen("filters", 0, "head", identical=1.0, filters=10, still_moving=False),
        seen("filters", 20, "head", identical=0.0, filters=10, still_moving=True),
    ]
    assert said(judged(*looks)) == []


def test_layers_without_an_activation_between() -> None:
    network = seen("network", **{**NETWORK, "linear_pairs": 4, "active_pairs": 0, "linear_pair": "0 and 3"})
    assert found(judged(network), "missing_nonlinearity").message == (
        "There is no activation function between layers 0 and 3 and other layers, so together they can do no more than a single layer."
    )
    bottleneck = seen("network", **{**NETWORK, "pairs": 12, "linear_pairs": 4, "active_pairs": 8, "linear_pair": "0 and 3"})
    assert said(judged(bottleneck)) == []


def test_images_sorted_by_class() -> None:
    finding = found(judged(seen("labels", 50, **{**LABELS, "batch_entropy": 0.2})), "data_order_or_leak")
    assert finding.severity == "problem"
    assert finding.message == (
        "The training images come sorted by class: a batch of 32 images holds far fewer kinds of labels than the whole, so the network learns "
        "one class and forgets the others."
    )


def test_validation_images_that_are_trained_on() -> None:
    finding = found(judged(seen("validation", 100, **{**VALIDATION, "in_training": 0.3})), "data_order_or_leak")
    assert finding.message == (
        "30 % of the validation samples are also trained on (exactly the same numbers), so the validation result is better than the network."
    )


def test_adapters_around_frozen_layers() -> None:
    frozen = seen("network", 0, **{**NETWORK, "head": "1.inner", "head_trainable": False, "trainable": 3_000, "frozen_fresh": 0.0})
    idle = seen("idle", 100, frozen=0.9, frozen_late=0.0, frozen_head=True)
    zeros = [seen("filters", 0, f"{at}", identical=1.0, filters=16, inputs=4, largest=0.0, still_moving=False) for at in range(2)]

    def run(*, adapted: bool) -> list[str]:
        rows = []
        for step in range(STEPS):
            for at in range(2):
                rows.append(layer(f"{at}.inner", step, gradient_rms=math.nan, update_ratio=math.nan))
                rows += [layer(f"{at}", step, "Adapter")] if adapted else []
        return said(judged(frozen, idle, *zeros, rows=rows, losses=[2.3 - 1.2 * step / STEPS for step in range(STEPS)]))

    assert run(adapted=True) == []
    assert run(adapted=False) == ["mostly_frozen"]
    alone = [layer(f"{at}", step) for step in range(STEPS) for at in range(2)]  # with no layer within
    assert "symmetric_init" in said(judged(*zeros, rows=alone, losses=[2.3 - 1.2 * step / STEPS for step in range(STEPS)]))


def test_new_samples_that_are_looked_up_among_the_trained_ones_are_no_leak() -> None:
    gallery = {**VALIDATION, "in_training": 0.8, "coverage": 1.0, "accuracy": None, "loss": None}
    assert said(judged(seen("validation", 100, **gallery))) == []
    assert said(judged(seen("validation", 100, **{**gallery, "coverage": 0.3}))) == ["data_order_or_leak"]
    assert said(judged(seen("validation", 100, **{**gallery, "accuracy": 0.9}))) == ["data_order_or_leak"]


def evaluations(**changes: Any) -> list[Observation]:
    """Two evaluations of samples that were all trained on."""
    return [seen("validation", step, **{**VALIDATION, "in_training": 1.0, "coverage": 0.3, **changes}) for step in (120, 200)]


def identity(**changes: Any) -> Observation:
    return seen("identity", 100, **{"train_images": 4000, "duplicates": 0.0, "epochs": 4.0, "bits": 600.0, **changes})


def test_nothing_but_training_samples_is_evaluated() -> None:
    verdict = judged(identity(), *evaluations())
    finding = found(verdict, "data_order_or_leak")
    assert (finding.severity, finding.step, finding.where) == ("warning", 120, "validation samples")
    assert finding.message == (
        "100 % of the validation samples are also trained on (exactly the same numbers), so the validation result is better than the network."
    )
    whys = {entry.name: entry.why for entry in verdict.not_checked}
    assert whys["overfitting"] == "every sample that was evaluated was also trained on, so how the network does on new ones is unknown"
    assert found(judged(identity(duplicates=0.02), *evaluations()), "data_order_or_leak").severity == "problem"  # copies on both sides


def test_measuring_the_training_accuracy_is_no_leak() -> None:
    all_of_them = judged(identity(), *evaluations(coverage=1.0))
    assert said(all_of_them) == []
    assert {entry.name for entry in all_of_them.not_checked} >= {"data_order_or_leak", "overfitting"}
    with_new_ones = judged(identity(), *evaluations(), seen("validation", 210, **VALIDATION))
    assert said(with_new_ones) == []
    assert said(judged(identity(bits=8.0), *evaluations())) == []  # eight switches: there are no more than 256 different samples
    assert said(judged(identity(epochs=1.0), evaluations()[0])) == []


def test_samples_that_come_again_at_once() -> None:
    assert said(judged(identity(duplicates=0.8))) == ["data_order_or_leak"]
    assert said(judged(identity(duplicates=0.8, bits=8.0))) == []  # one of eight states again and again, as in a replay memory


def test_labels_learned_by_heart() -> None:
    verdict = judged(seen("fit", 250, **{**FIT, "accuracy": 0.8}), seen("validation", 250, **{**VALIDATION, "accuracy": 0.11, "loss": 4.0}))
    assert found(verdict, "labels_look_random").message == (
        "The network learns the training images by heart (80 % right) but is no better than guessing on new ones (11 %): the labels do not "
        "belong to the images."
    )


def test_layers_that_the_network_does_not_hold() -> None:
    strays = seen("strays", 20, weights=9000, share=0.95, shapes="24 × 24, 24", fresh=1.0)
    finding = found(judged(strays, losses=[2.3 - step / 400 for step in range(300)]), "params_not_in_optimizer")
    assert finding.severity == "problem"
    assert finding.message == (
        "95 % of the weights are never updated, because the optimiser was not given them (first among them: weights of shape 24 × 24, 24, in layers "
        "that the network does not hold as its own)."
    )
    trained_before = seen("strays", 20, weights=9000, share=0.95, shapes="24 × 24, 24", fresh=0.0)
    assert said(judged(trained_before)) == []


def test_a_group_without_a_learning_rate() -> None:
    steps = [
        dataclasses.replace(record, hyper={"lr": Range.of(0.0), "lr:1": Range.of(0.001)})
        for record in step_records([2.3 - step / 400 for step in range(300)])
    ]
    finding = found(diagnose(steps, layers(), healthy_observations()), "update_no_op")
    assert finding.message == (
        "The weights in the optimiser's parameter group 0 (counted from 0) have a learning rate of zero in every step, so they stay as they are."
    )
    good = [dataclasses.replace(record, loss=Range.of(loss)) for record, loss in zip(steps, falling(), strict=True)]
    assert said(diagnose(good, layers(), healthy_observations())) == []  # layers that are kept as they are, on purpose


def test_nothing_after_the_loss_broke_is_a_cause() -> None:
    losses = falling()[:60] + [math.nan] * 240
    rows = [
        layer(f"{at}.conv", step, std=1.0 if step < 60 else 0.1 * 1.2 ** (step % 20), update_ratio=1e-3 if step < 60 else 0.5)
        for step in range(300)
        for at in range(3)
    ]
    verdict = judged(losses=losses, rows=rows)
    assert said(verdict) == ["non_finite"]
    assert verdict.findings[0].message == (
        "At step 60 the loss became infinite or not a number (NaN), although everything that went into it was finite and the losses before were "
        "ordinary: look for a logarithm of 0 or a division by 0 in the loss."
    )


def test_steps_that_grow_until_the_loss_breaks_are_its_cause() -> None:
    losses = [2.3, 40.0, 9e5] + [math.nan] * 200
    rows = [layer(f"{at}.conv", step, update_ratio=30.0) for step in range(203) for at in range(3)]
    findings = judged(losses=losses, rows=rows).findings
    assert [(f.name, f.cause) for f in findings] == [("lr_too_high", None), ("non_finite", "lr_too_high")]
    assert findings[0].message == (
        "From step 0 on each step changes the weights by more than 10 times their size (0.1 % is usual), so training jumps about instead of "
        "settling: the learning rate of 0.05 is too high."
    )


def test_a_teacher_that_answers_on_training_images_is_no_validation() -> None:
    leaked = seen("validation", 250, **{**VALIDATION, "in_training": 0.9, "leaked": 0.9})
    between_all_steps = seen("modes", 250, **{**MODES, "eval_passes": STEPS, "evaluations": STEPS})
    assert said(judged(leaked, between_all_steps)) == []
    assert said(judged(leaked)) == ["data_order_or_leak"]
