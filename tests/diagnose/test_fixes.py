"""What is suggested: rates that are usual for the optimiser, and no change where no change could make up for what is missing."""

from __future__ import annotations

import pytest
from hand_made import FIT, IDENTITY, LABELS, OPTIMIZER, STEPS, VALIDATION, flat, found, judged, layer, layers, loss_inputs, seen

from convscope.records import Finding, Observation


def learned_by_heart(**identity: float) -> Finding:
    evaluations = [seen("validation", step, **{**VALIDATION, "loss": 0.5 + step / 300, "accuracy": 0.6}) for step in range(40, STEPS, 40)]
    besides = [seen("fit", 250, **{**FIT, "accuracy": 1.0}), seen("labels", 290, **{**LABELS, "batches": 300, "batch_size": 32.0})]
    return found(judged(*evaluations, *besides, *loss_inputs(), seen("identity", 290, **{**IDENTITY, **identity})), "overfitting")


def test_learning_by_heart_is_met_by_augmentation_where_there_are_images_enough() -> None:
    finding = learned_by_heart(epochs=4.0)
    assert finding.fix.text == "Use more images or augmentation (random flips and crops), or stop at the best evaluation."
    assert finding.fix.change == {"augment": True}


def test_no_change_is_offered_against_learning_a_few_dozen_images_by_heart() -> None:
    finding = learned_by_heart(epochs=60.0)
    assert finding.fix.text == (
        "Collect more images: there are about 16 of each class to learn from. Until then stop at the best evaluation, and try augmentation "
        "(random flips and crops)."
    )
    assert finding.fix.change is None


def drowned(epochs: float) -> Finding:
    looks = [
        seen("validation", step, **{**VALIDATION, "largest_answer": 0.7, "largest_label": 0.1, "accuracy": 0.3}) for step in (150, 290)
    ]
    labels = seen("labels", 290, **{**LABELS, "batches": 300, "batch_size": 32.0, "largest_share": 0.91})
    fit = [seen("fit", step, **{**FIT, "accuracy": 0.95}) for step in (280, 290)]
    return found(judged(*looks, labels, *fit, *loss_inputs(), seen("identity", 290, **{**IDENTITY, "epochs": epochs})), "one_class")


def test_class_weights_are_suggested_where_a_rare_class_has_images_to_be_weighted() -> None:
    assert drowned(epochs=1.0).fix.change == {"class_weights": "auto"}


def test_no_weight_makes_up_for_images_that_are_not_there() -> None:
    finding = drowned(epochs=20.0)
    assert finding.fix.change is None
    assert finding.fix.text == (
        "Collect more images of the rare classes: there are about 5 of each, and letting them count more in the loss cannot make up for so few."
    )


@pytest.mark.parametrize(("decoupled", "decay"), [(True, 0.003), (False, 5e-4)])
def test_the_weight_decay_that_is_suggested_depends_on_how_it_is_applied(decoupled: bool, decay: float) -> None:
    rows = [
        layer(f"{at}.conv", step, weight_rms=0.1 * 0.99**step, gradient_rms=1e-4, update_ratio=1e-3)
        for step in range(STEPS)
        for at in range(3)
    ]
    optimizer: Observation = seen("optimizer", 0, "0", **{**OPTIMIZER, "weight_decay": 0.3, "decoupled": decoupled})
    finding = found(judged(optimizer, losses=flat(), rows=rows), "over_regularised")
    assert finding.fix.change == {"weight_decay": decay}


@pytest.mark.parametrize(("batch_size", "suggested"), [(8.0, 0.003), (128.0, 0.005), (512.0, 0.01), (8192.0, 0.01)])
def test_rates_for_adam_grow_with_the_batch(batch_size: float, suggested: float) -> None:
    besides = [seen("optimizer", 0, "0", **{**OPTIMIZER, "kind": "AdamW"}), seen("labels", 0, **{**LABELS, "batch_size": batch_size})]
    finding = found(judged(*besides, losses=flat(level=5.0), rows=layers(update_ratio=0.2), lr=0.5), "lr_too_high")
    assert finding.fix.change == {"lr": suggested, "schedule": "one_cycle"}


def test_units_that_died_in_training_need_a_lower_rate_and_units_that_began_dead_do_not() -> None:
    dead = {"positive": b"\x00", "zero_count": 1000}
    late = [row for row in layers() if row.kind != "ReLU"] + [
        layer("0.act", step, "ReLU", weighted=False, **(dead if step > 100 else {})) for step in range(STEPS)
    ]
    early = [row for row in layers() if row.kind != "ReLU"] + [
        layer("0.act", step, "ReLU", weighted=False, **dead) for step in range(STEPS)
    ]
    fresh = {"init": "kaiming_normal", "schedule": "one_cycle"}
    finding = found(judged(losses=flat(), rows=late), "dead_units")
    assert finding.fix.change == {**fresh, "lr": 0.02}
    assert finding.fix.text == (
        "Train again with Kaiming's initial weights and a learning rate of about 0.02 that rises slowly at the start (1cycle), or use LeakyReLU."
    )
    finding = found(judged(losses=flat(), rows=early), "dead_units")
    assert finding.fix.change == fresh
    assert finding.fix.text == (
        "Train again with Kaiming's initial weights and a learning rate that rises slowly at the start (1cycle), or use LeakyReLU."
    )
