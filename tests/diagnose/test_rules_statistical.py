"""Statistical rules: unusual figures with a bad outcome are found, the same figures with a good outcome raise no warning."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hand_made import (
    BATCH_NORM,
    CHANNEL,
    FIT,
    IDENTITY,
    LABELS,
    NETWORK,
    OPTIMIZER,
    STEPS,
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
from convscope.diagnose.view import RunView
from convscope.records import Histogram, LayerStats, Observation


def test_raw_bytes_as_input() -> None:
    channel = seen("input", 0, "channel 0", **{**CHANNEL, "mean": 33.0, "std": 78.0})
    finding = found(judged(channel, losses=flat()), "input_not_normalised")
    assert finding.severity == "problem"
    assert finding.message == (
        "The images reach the network with mean 33 and standard deviation 78 instead of about 0 and 1, which makes the first steps far too "
        "large or too small."
    )
    assert finding.fix.change == {"normalise": True}


@pytest.mark.parametrize(("mean", "std"), [(0.13, 0.31), (0.47, 0.25), (-2.0, 1.1), (0.0, 4.0)])
def test_unit_and_imagenet_scales_are_fine_even_in_a_bad_run(mean: float, std: float) -> None:
    channel = seen("input", 0, "channel 0", **{**CHANNEL, "mean": mean, "std": std})
    assert "input_not_normalised" not in said(judged(channel, losses=flat()))


def test_bytes_into_a_network_that_normalises_inside_are_fine() -> None:
    channel = seen("input", 0, "channel 0", **{**CHANNEL, "mean": 33.0, "std": 78.0, "normalised_inside": True})
    assert said(judged(channel)) == []


def growing_layers(factor: float, first_steps: int = STEPS) -> list[LayerStats]:
    return [layer(f"{at}.conv", step, std=factor**at) for step in range(first_steps) for at in range(5)]


def test_a_signal_that_grows_with_depth() -> None:
    finding = found(judged(losses=flat(level=9.0), rows=growing_layers(4.0)), "bad_initial_scale")
    assert finding.severity == "problem"
    assert finding.message == (
        "Before the first step the signal grows from layer to layer (1 in the first, 256 in the last), so its size hides what the images differ in."
    )


def test_tables_and_zeros_are_no_signal_that_shrinks() -> None:
    poor = [0.69 - 0.2 * step / STEPS for step in range(STEPS)]

    def run(kind: str, **last: float) -> list[str]:
        stds = [1.0, 0.1, 0.01, 1e-4]
        rows = [
            layer(f"{at}.in", step, kind if at < 3 else "Linear", std=std, **(last if at == 3 else {}))
            for step in range(STEPS)
            for at, std in enumerate(stds)
        ]
        return said(judged(*loss_inputs("margin_ranking_loss", classes=None, target="real"), rows=rows, losses=poor))

    assert run("Linear") == ["bad_initial_scale"]
    assert run("Embedding", weight_rms=0.0) == []


def test_the_default_initialisation_of_plain_networks_is_fine() -> None:
    assert said(judged(rows=growing_layers(0.41))) == []


def test_vanishing_gradients() -> None:
    rows = [
        layer(f"{at}.conv", step, gradient_rms=10.0 ** (at * 2 - 8), update_ratio=10.0 ** (at - 6))
        for step in range(STEPS)
        for at in range(4)
    ]
    finding = found(judged(losses=flat(), rows=rows), "vanishing_signal")
    assert finding.message == (
        "The first layer's gradient (what tells it how to change) is 1 million times weaker than the last layer's, so the first layers hardly learn."
    )
    assert "vanishing_signal" not in said(judged(rows=rows))


def test_gradients_that_leap() -> None:
    norms = [50.0 if step % 5 == 0 and step > 30 else 1.0 for step in range(STEPS)]
    finding = found(judged(losses=flat(level=4.0), norms=norms), "exploding_gradients")
    assert finding.step == 35
    assert finding.message == (
        "From step 35 on the gradient leaps to more than 20 times its usual size again and again, and each leap throws the weights off."
    )
    assert said(judged(norms=norms)) == []


def test_a_single_spike_that_recovers_is_fine() -> None:
    losses = falling()
    losses[100:105] = [6.0, 5.0, 4.0, 2.0, 1.5]
    norms = [100.0 if step == 100 else 1.0 for step in range(STEPS)]
    assert said(judged(losses=losses, norms=norms)) == []


def test_activations_that_grow_and_crash() -> None:
    rows = [layer(f"{at}.conv", step, std=0.1 * 1.1 ** (step % 40)) for step in range(STEPS) for at in range(3)]
    finding = found(judged(losses=flat(), rows=rows), "activation_collapse_cycles")
    assert finding.step == 40
    assert finding.message == (
        "From step 40 on the activations of layer 0.conv grow, crash to almost nothing and start again, which throws away what was learned."
    )
    assert said(judged(rows=rows)) == []


def test_a_first_step_that_tears_one_layer() -> None:
    rows = [layer(f"{at}.conv", step, update_ratio=27.0 if (at, step) == (2, 0) else 1e-3) for step in range(STEPS) for at in range(3)]
    slow = [2.3 - 0.9 * step / STEPS for step in range(STEPS)]
    finding = found(judged(losses=slow, rows=rows), "lr_too_high")
    assert (finding.severity, finding.where) == ("warning", "2.conv")
    assert finding.message == (
        "At step 0 the weights of layer 2.conv changed by more than 10 times their size (0.1 % is usual), and the network has not recovered from it: "
        "the learning rate of 0.05 is too high."
    )
    assert said(judged(rows=rows)) == []


def test_activations_that_crash_for_good() -> None:
    near = {True: {"near_zero_count": 1000}, False: {}}
    rows = [
        layer(f"{at}.conv", step, std=0.1 * 1.1 ** min(step, 40) if step <= 40 else 0.001, **near[step > 40])
        for step in range(STEPS)
        for at in range(3)
    ]
    assert found(judged(losses=flat(), rows=rows), "activation_collapse_cycles").message == (
        "At step 41 the activations of layer 0.conv, which had grown, crash to almost nothing, and they do not come back: nearly all of layer 0.conv "
        "is close to zero since then."
    )


def test_the_layer_that_went_quiet_is_named_and_its_labels_are_not_blamed() -> None:
    rows = [
        layer("0.rnn", step, "RNN", std=1.0 if step < 20 else 0.01, near_zero_count=0 if step < 20 or step == 250 else 980)
        for step in range(STEPS)
    ]
    rows += [layer("head", step, std=1.0 if step < 20 else 5.0 if step < 25 else 0.1) for step in range(STEPS)]
    thrown = [4.0] * 25 + flat()[25:]
    verdict = judged(losses=thrown, rows=rows)
    assert said(verdict) == ["activation_collapse_cycles"]
    finding = found(verdict, "activation_collapse_cycles")
    assert finding.message == (
        "From step 20 on nearly all activations of layer 0.rnn are close to zero, so hardly anything passes through it."
    )


def test_activations_that_fade_because_there_is_nothing_to_learn() -> None:
    def run(losses: list[float], ratio: float = 1e-3) -> list[str]:
        rows = [
            layer(
                f"{at}.conv",
                step,
                update_ratio=ratio,
                std=1.0 if step < 60 or at != 1 else 0.001,
                near_zero_count=0 if step < 60 or at != 1 else 990,
            )
            for step in range(STEPS)
            for at in range(3)
        ]
        return said(judged(losses=losses, rows=rows))

    assert run(flat()) == ["labels_look_random", "activation_collapse_cycles"]
    assert run([4.0] * 40 + flat()[40:]) == ["activation_collapse_cycles"]  # it was thrown
    assert run([2.3] * 40 + [1.8] * 20 + flat()[60:]) == ["activation_collapse_cycles"]  # it had learned
    assert run(flat(), ratio=0.02)[0] != "labels_look_random"


def test_dead_channels() -> None:
    rows = layers()
    rows = [r if r.layer != "1.act" else layer("1.act", r.first_step, "ReLU", weighted=False, positive=b"\x01") for r in rows]
    finding = found(judged(losses=flat(), rows=rows), "dead_units")
    assert finding.message == (
        "7 of the 8 channels of layer 1.act have not been above zero once in 256 images: they pass nothing on and can no longer learn."
    )
    assert said(judged(rows=rows)) == []


def test_sparse_activations_are_not_dead() -> None:
    rows = [layer(r.layer, r.first_step, r.kind, zero_count=750, near_zero_count=800) for r in layers()]
    assert said(judged(rows=rows)) == []


def test_saturated_tanh() -> None:
    rows = [
        one
        for step in range(STEPS)
        for one in (
            layer("0.conv", step, histogram=Histogram(257, (1000,))),
            layer("0.act", step, "Tanh", weighted=False),
            layer("1.conv", step),
        )
    ]
    finding = found(judged(losses=flat(), rows=rows), "saturated_units")
    assert finding.message == (
        "100 % of what enters layer 0.act lies beyond ±2, where its curve is flat, so those units hardly react and hardly learn."
    )
    assert said(judged(rows=rows, losses=[2.3 * math.exp(-step / 40) for step in range(STEPS)])) == []


def test_units_that_were_flat_from_the_start_explain_what_is_learned_by_heart() -> None:
    rows = [
        one
        for step in range(STEPS)
        for one in (
            layer("0.conv", step, histogram=Histogram(257, (1000,))),
            layer("0.act", step, "Tanh", weighted=False),
            layer("1.conv", step),
        )
    ]
    fits = [seen("fit", step, **{**FIT, "accuracy": 0.8}) for step in (200, 250)]
    looks = [seen("validation", step, **{**VALIDATION, "accuracy": 0.11, "loss": 3.0}) for step in (150, 200, 250)]
    verdict = judged(*fits, *looks, rows=rows, losses=[2.3 - step / STEPS for step in range(STEPS)])
    assert said(verdict)[:2] == ["saturated_units", "labels_look_random"]
    assert found(verdict, "labels_look_random").cause == "saturated_units"


def drawn(rms: float) -> list[Observation]:
    looks = [seen("filters", 0, f"{at}.conv", identical=0.0, filters=8, inputs=8, fan_in=72, largest=0.3, rms=rms) for at in range(3)]
    return [*looks, seen("filters", 20, "0.conv", identical=0.0, filters=8, inputs=8, fan_in=72, largest=0.3, rms=rms, still_moving=True)]


def test_weights_that_were_drawn_too_small() -> None:
    finding = found(judged(*drawn(0.01), losses=flat()), "bad_initial_scale")
    assert finding.message == (
        "The weights began so small that each layer hands on about 0.0849 times what it receives (0.5 to 1.5 is usual), so its size hides what "
        "the images differ in."
    )
    assert finding.fix.change == {"init": "kaiming_normal", "schedule": "one_cycle"}
    assert said(judged(*drawn(0.01))) == []
    assert "bad_initial_scale" not in said(judged(*drawn(0.07), losses=flat()))


def test_weak_gradients_of_small_weights_follow_from_them() -> None:
    rows = [layer(f"{at}.conv", step, gradient_rms=10.0 ** (at * 2 - 8)) for step in range(STEPS) for at in range(3)]
    findings = judged(*drawn(0.01), losses=flat(), rows=rows).findings
    assert [(f.name, f.cause) for f in findings][:2] == [("bad_initial_scale", None), ("vanishing_signal", "bad_initial_scale")]


def squashing_network(inputs: Histogram, gradients: tuple[float, float, float] = (1e-3, 1e-3, 1e-3)) -> list[LayerStats]:
    rows = []
    for step in range(STEPS):
        for at, gradient in enumerate(gradients):
            rows.append(
                layer(f"{at}.conv", step, histogram=inputs if at < 2 and step > 50 else Histogram(240, (1000,)), gradient_rms=gradient)
            )
            if at < 2:
                rows.append(layer(f"{at}.act", step, "Sigmoid", weighted=False))
    return rows


def test_gradients_that_fade_from_the_start_come_before_units_that_saturate_later() -> None:
    rows = squashing_network(Histogram(258, (1000,)), (1e-8, 1e-5, 1e-2))
    findings = judged(losses=flat(), rows=rows).findings
    assert [(f.name, f.step, f.cause) for f in findings][:2] == [("vanishing_signal", 0, None), ("saturated_units", 51, "vanishing_signal")]
    assert findings[0].fix.change == {"norm": True, "init": "kaiming_normal", "activation": "relu"}


def test_a_loss_that_is_summed_over_the_batch() -> None:
    finding = judged(*loss_inputs(loss=64.0, plain_loss=2.0), losses=flat(level=73.7), rows=layers(update_ratio=0.08)).findings[0]
    assert (finding.name, finding.step) == ("exploding_gradients", 0)
    assert finding.message == (
        "The loss is 32 times the mean over the images (a sum, or multiplied by a number), and so is every gradient, so each step is that much "
        "too long."
    )
    assert finding.fix.change == {"lr": 0.002}
    assert said(judged(*loss_inputs(loss=64.0, plain_loss=2.0), losses=[32 * loss for loss in falling()])) == []


def test_a_first_step_that_replaces_the_weights_is_a_learning_rate_too_high_even_when_nothing_moves_later() -> None:
    rows = [layer(f"{at}.conv", step, update_ratio=0.5 if step < 10 else 1e-9) for step in range(STEPS) for at in range(3)]
    assert said(judged(losses=flat(), rows=rows))[0] == "lr_too_high"
    assert said(judged(rows=rows)) == []


def test_activations_that_crash_again_and_again_are_named_before_the_learning_rate() -> None:
    rows = [layer(f"{at}.conv", step, std=0.1 * 1.1 ** (step % 40), update_ratio=0.08) for step in range(STEPS) for at in range(3)]
    findings = judged(losses=flat(), rows=rows).findings
    assert [(f.name, f.cause) for f in findings] == [
        ("activation_collapse_cycles", None),
        ("lr_too_high", "activation_collapse_cycles"),
    ]


def test_a_single_odd_batch_late_in_a_slow_run_is_fine() -> None:
    losses = [2.3 - step / 400 for step in range(STEPS)]
    losses[250] = 3.0
    assert said(judged(losses=losses, rows=layers(update_ratio=0.03))) == []


def test_steps_that_are_too_large() -> None:
    finding = found(judged(losses=flat(level=5.0), rows=layers(update_ratio=0.08)), "lr_too_high")
    assert finding.message == (
        "From step 0 on each step changes the weights by 8 % of their size (0.1 % is usual), so training jumps about instead of settling: the "
        "learning rate of 0.05 is too high."
    )
    assert finding.fix.change == {"lr": 0.005, "schedule": "one_cycle"}
    assert finding.fix.text == (
        "Train again with a learning rate of at most 0.005 that rises slowly at the start and falls at the end (1cycle)."
    )
    assert said(judged(rows=layers(update_ratio=0.08))) == []


@pytest.mark.parametrize(
    ("optimizer", "rate", "layer_count", "norms", "suggested"),
    [
        ("Adam", 0.3, 3, 0, 0.003),  # in batches of 32
        ("SGD", 0.5, 3, 0, 0.05),
        ("SGD", 0.5, 9, 0, 0.02),  # deep, without batch normalisation
        ("SGD", 0.5, 9, 8, 0.05),
        ("SGD", 0.1, 3, 0, 0.01),  # near the usual rate, so its own steps tell: no more than a tenth
        ("Lion", 0.3, 3, 0, 0.003),  # no usual rate is known: 80 times too large by its steps
    ],
)
def test_the_rate_that_is_suggested_is_the_usual_one_of_the_optimiser(
    optimizer: str, rate: float, layer_count: int, norms: int, suggested: float
) -> None:
    rows = [layer(f"{at}.conv", step, update_ratio=0.08) for step in range(STEPS) for at in range(layer_count)]
    seen_besides = [seen("optimizer", 0, "0", kind=optimizer), seen("network", 0, "", batch_norms=norms, weights=100, trainable=100)]
    finding = found(judged(*seen_besides, losses=flat(level=5.0), rows=rows, lr=rate), "lr_too_high")
    assert finding.fix.change == {"lr": suggested, "schedule": "one_cycle"}


def test_steps_that_are_too_small() -> None:
    creeping = [2.3 - step * 1e-4 for step in range(STEPS)]
    finding = found(judged(losses=creeping, rows=layers(update_ratio=1e-6), lr=1e-5), "lr_too_low")
    assert finding.message == (
        "Each step changes the weights by only 0.0001 % of their size (0.1 % is usual), so training hardly moves: the learning rate of 1e-05 is "
        "too low."
    )
    assert finding.fix.change == {"lr": 0.05, "schedule": "one_cycle"}
    assert finding.fix.text == (
        "Train with a learning rate of up to 0.05 that rises slowly at the start and falls at the end (1cycle), or let the learning-rate finder "
        "choose (lr='auto')."
    )


def test_a_converged_run_with_tiny_steps_is_fine() -> None:
    assert said(judged(losses=[0.01] * 10 + [0.005] * 290, rows=layers(update_ratio=1e-6))) == []


def test_a_learning_rate_that_is_gone() -> None:
    rates = [0.05 * 0.8**step for step in range(STEPS)]
    finding = found(judged(losses=[2.3 - min(step, 20) * 0.02 for step in range(STEPS)], lr=rates), "lr_schedule_collapsed")
    assert finding.message == (
        "From step 21 on the learning rate has fallen below a hundredth of its highest value (0.05), so the network stopped learning long before "
        "the end."
    )


def test_a_few_steps_at_a_monstrous_rate_do_not_make_the_usual_one_small() -> None:
    kicked, dull = [8.0] * 4 + [0.02] * (STEPS - 4), [2.3 - min(step, 20) * 0.02 for step in range(STEPS)]
    assert "lr_schedule_collapsed" not in said(judged(losses=dull, lr=kicked))
    assert said(judged(losses=dull, lr=kicked, rows=layers(update_ratio=1e-6)))[0] == "lr_schedule_collapsed"


def test_a_cosine_that_ends_near_zero_is_fine() -> None:
    assert said(judged(lr=[0.05 * (1 + math.cos(math.pi * step / STEPS)) / 2 for step in range(STEPS)])) == []


def test_new_samples_that_are_easier_tell_of_wrong_labels() -> None:
    fits = [seen("fit", step, **{**FIT, "accuracy": 0.5, "wrong": 250, "second_choice": 0.28}) for step in (40, 60, 80, 100, 120)]
    later = seen("fit", 250, **{**FIT, "accuracy": 0.8, "wrong": 100, "second_choice": 0.6})  # by heart
    looks = [seen("validation", step, **{**VALIDATION, "accuracy": accuracy}) for step, accuracy in ((60, 0.72), (80, 0.7), (250, 0.64))]
    assert found(judged(*fits, later, *looks), "label_noise").message == (
        "About 31 % of the training images seem to carry a random label: where the network disagrees, the label is not even its second guess."
    )
    steep = [seen("fit", step, **{**FIT, "accuracy": step / 100, "second_choice": 0.28}) for step in (30, 60, 90)]
    ahead = [seen("validation", step, **{**VALIDATION, "accuracy": step / 100 + 0.1}) for step in (30, 60)]  # training follows soon
    assert said(judged(*steep, *ahead)) == []
    mixed = [dataclasses.replace(fit, numbers={**fit.numbers, "mixed": 90}) for fit in (*fits, later)]
    assert said(judged(*mixed, *looks)) == []
    light, heavy = (seen("network", 0, **{**NETWORK, "dropouts": 1, "dropout": share}) for share in (0.05, 0.5))
    assert said(judged(*fits, later, *looks, light)) == ["label_noise"]
    assert said(judged(*fits, later, *looks, heavy)) == []  # it makes training harder by itself


def test_random_labels_in_a_part_of_the_images() -> None:
    fits = [seen("fit", step, **{**FIT, "samples": 300, "accuracy": 0.6, "wrong": 120, "second_choice": 0.12}) for step in (200, 220, 250)]
    finding = found(judged(*fits, losses=[2.3 - min(1.0, step / 200) for step in range(STEPS)]), "label_noise")
    assert finding.message == (
        "About 33 % of the training images seem to carry a random label: where the network disagrees, the label is not even its second guess."
    )
    honest = [seen("fit", step, **{**FIT, "samples": 300, "accuracy": 0.6, "wrong": 120, "second_choice": 0.5}) for step in (200, 220, 250)]
    assert said(judged(*honest)) == []


def test_learning_by_heart() -> None:
    losses = [0.9, 0.8, 1.0, 1.3, 1.6]
    rows = [seen("validation", 60 * at, **{**VALIDATION, "loss": loss, "accuracy": 0.7}) for at, loss in enumerate(losses, 1)]
    finding = found(judged(*rows, seen("fit", 250, **{**FIT, "accuracy": 1.0})), "overfitting")
    assert finding.message == (
        "Since step 120 the network learns the training images by heart: 100 % of them are right, of new images 70 %, and the loss on new images "
        "rises."
    )


AMOUNTS = {**VALIDATION, "accuracy": None, "largest_answer": None, "largest_label": None}


def test_learning_amounts_by_heart() -> None:
    known, new = [0.9, 0.5, 0.3, 0.2, 0.1], [0.9, 0.8, 0.9, 1.1, 1.3]
    rows = [
        seen("validation", 60 * at, **{**AMOUNTS, "loss": b, "training_loss": a})
        for at, (a, b) in enumerate(zip(known, new, strict=True), 1)
    ]
    finding = found(judged(*rows), "overfitting")
    assert (finding.severity, finding.step) == ("warning", 120)
    assert finding.message == (
        "Since step 120 the network learns the training samples by heart: their loss falls on to 0.1, that of new samples has risen from 0.8 to 1.3."
    )


@pytest.mark.parametrize(
    ("known", "new"),
    [
        ([0.9, 0.5, 0.49, 0.48, 0.48], [0.9, 0.8, 0.9, 1.1, 1.3]),  # training does not get better either
        ([0.9, 0.1, 0.001, 0.0009, 0.0005], [0.9, 0.1, 0.001, 0.002, 0.002]),  # nothing to speak of, after a perfect fit
        ([0.9, 0.5, 0.3, 0.2, 0.1], [0.9, 0.8, 0.82, 0.85, 0.81]),
    ],
)
def test_amounts_whose_validation_loss_says_little(known: list[float], new: list[float]) -> None:
    rows = [
        seen("validation", 60 * at, **{**AMOUNTS, "loss": b, "training_loss": a})
        for at, (a, b) in enumerate(zip(known, new, strict=True), 1)
    ]
    assert said(judged(*rows)) == []


def test_a_small_rise_of_the_validation_loss_is_at_most_a_note() -> None:
    rows = [
        seen("validation", 60 * at, **{**VALIDATION, "loss": loss, "accuracy": 0.99})
        for at, loss in enumerate([0.03, 0.034, 0.035, 0.036], 1)
    ]
    assert said(judged(*rows, seen("fit", 250, **{**FIT, "accuracy": 1.0}))) == []


def test_dropout_that_leaves_nothing() -> None:
    finding = found(judged(seen("network", **{**NETWORK, "dropouts": 1, "dropout": 0.95}), losses=flat()), "over_regularised")
    assert finding.message == "Dropout switches off 95 % of the units in every step, so the rest can hardly learn anything."
    assert said(judged(seen("network", **{**NETWORK, "dropouts": 1, "dropout": 0.95}))) == []


def test_weight_decay_that_outweighs_the_images() -> None:
    rows = [layer(f"{at}.conv", step, weight_rms=0.1 * 0.99**step, gradient_rms=1e-4) for step in range(STEPS) for at in range(3)]
    finding = found(judged(seen("optimizer", 0, "0", **{**OPTIMIZER, "weight_decay": 0.3}), losses=flat(), rows=rows), "over_regularised")
    assert finding.where == "weight decay"


def test_always_the_same_answer() -> None:
    looks = [seen("validation", step, **{**VALIDATION, "largest_answer": 1.0, "accuracy": 0.1}) for step in (150, 300)]
    assert found(judged(*looks, losses=flat()), "one_class").message == (
        "The network gives the same answer for 100 % of the samples, although only 11 % have that label."
    )


def test_the_same_answer_because_the_loss_asks_for_it() -> None:
    fits = [seen("fit", step, **{**FIT, "largest_answer": 0.97, "accuracy": 0.3}) for step in (30, 40, 200, 250)]
    blind = seen("validation", 300, **{**VALIDATION, "accuracy": None, "largest_label": None})
    verdict = judged(*fits, blind, *loss_inputs(weight_ratio=200.0))
    finding = found(verdict, "one_class")
    assert (finding.severity, finding.step) == ("warning", 30)
    assert finding.message == (
        "The network gives the same answer for 97 % of the samples, although only 11 % have that label: the loss counts one class 200 times as much "
        "as another."
    )
    assert finding.fix.text == "Leave out the loss's weights of classes, or make them no more uneven than the labels are."
    assert {entry.name: entry.why for entry in verdict.not_checked}["overfitting"] == (
        "in validation no loss was computed and no answers were compared with labels by torch, so right and wrong answers to new samples are unknown"
    )


def test_a_rare_class_that_is_never_the_likelier_answer() -> None:
    looks = [
        seen("validation", step, **{**VALIDATION, "largest_answer": 1.0, "largest_label": 0.95, "accuracy": 0.95}) for step in (150, 300)
    ]
    rare = seen("labels", 250, **{**LABELS, "classes": 2, "entropy": 0.198, "batch_entropy": 0.19, "largest_share": 0.95})
    assert said(judged(*looks, rare, losses=[0.69 - 0.6 * min(1, step / 200) for step in range(STEPS)])) == []
    assert "one_class" in said(judged(*looks, rare, losses=[0.69 - 0.49 * min(1, step / 50) for step in range(STEPS)]))


def test_batch_norm_over_too_few_values() -> None:
    few = seen("batch_norm", 100, "1.bn", **{**BATCH_NORM, "values": 2})
    assert found(judged(few), "batchnorm_unreliable").message == (
        "Batch normalisation in layer 1.bn averages over only 2 values per channel, so it mostly adds noise."
    )
    assert said(judged(seen("batch_norm", 100, "1.bn", **BATCH_NORM))) == []


def test_running_averages_that_are_mostly_their_start() -> None:
    young = seen("batch_norm", 300, "1.bn", **{**BATCH_NORM, "momentum": 0.001, "updates": 301.0, "mean_gap": 0.4})
    unknown = seen("validation", 290, **{**VALIDATION, "accuracy": None, "loss": None})  # of a segmentation, say
    finding = found(judged(young, unknown), "batchnorm_unreliable")
    assert (finding.severity, finding.message) == (
        "warning",
        "The averages that batch normalisation uses for new images still consist to 74 % of their starting values, so results on new images must be worse "
        "than in training.",
    )
    assert said(judged(young)) == []  # as good as in training
    older = seen("batch_norm", 300, "1.bn", **{**BATCH_NORM, "momentum": 0.01, "updates": 100.0})
    assert said(judged(older, unknown)) == []


def test_images_of_two_kinds_that_take_turns_in_the_batches() -> None:
    def looks(first: float, others: float) -> list[Observation]:
        return [
            seen("batch_norm", step, f"{at}.bn", **{**BATCH_NORM, "mean_gap": others if at else first})
            for step in (200, 250)
            for at in range(3)
        ]

    fit = seen("fit", 250, **{**FIT, "accuracy": 0.94})
    worse = seen("validation", 290, **{**VALIDATION, "accuracy": 0.24, "loss": 0.3})
    assert found(judged(*looks(1.28, 0.2), fit, worse), "batchnorm_unreliable").message == (
        "In layer 0.bn the averages that batch normalisation uses for new images are 1.28 standard deviations away from those of the batches, so results on "
        "new images are far worse than in training."
    )
    slightly = seen("validation", 290, **{**VALIDATION, "accuracy": 0.8, "loss": 0.3})
    assert "batchnorm_unreliable" not in said(judged(*looks(1.28, 0.2), fit, slightly))
    assert "batchnorm_unreliable" not in said(judged(*looks(0.2, 0.2), fit, worse))


def test_a_slow_run_that_began_far_off() -> None:
    losses = [4.6 * 0.9**step + 1.9 for step in range(STEPS)]
    finding = found(judged(losses=losses, rows=layers(update_ratio=1.5e-4)), "lr_too_low")
    assert finding.message == (
        "Each step changes the weights by only 0.015 % of their size (0.1 % is usual), so training hardly moves: the learning rate of 0.05 is too low."
    )


def test_steps_that_silenced_the_first_layers() -> None:
    def run(*, lost: bool) -> Verdict:
        rows = []
        for step in range(STEPS):
            rate = 0.15 * 0.9**step + 1e-4
            rows += [
                layer("0.conv", step, update_ratio=rate, gradient_rms=1e-3 if step < 10 or not lost else 1e-9),
                layer("1.conv", step, update_ratio=rate),
                layer("2.head", step, update_ratio=rate),
            ]
        return judged(losses=flat(), rows=rows)

    assert said(run(lost=True)) == ["lr_too_high", "vanishing_signal"]
    assert "lr_too_low" not in said(run(lost=False))


def test_first_steps_that_made_the_weights_many_times_their_size() -> None:
    def run(growth: float, end: float) -> list[str]:
        rows = [
            layer(f"{at}.conv", step, weight_rms=0.1 * min(growth, 1 + 0.5 * step), update_ratio=0.8 / (1 + step))
            for step in range(STEPS)
            for at in range(3)
        ]
        return said(judged(losses=[2.3 - (2.3 - end) * (1 - math.exp(-step / 60)) for step in range(STEPS)], rows=rows))

    assert run(5.0, 1.0) == ["lr_too_high"]
    assert run(1.5, 1.0) == []
    assert run(5.0, 0.2) == []  # it has learned well


def test_weights_that_a_network_keeps_beside_its_layers_are_no_last_layer() -> None:
    rows = [*layers(2), layer("Net", 0, "Net"), layer("Net", 1, "Net")]
    view = RunView.of(step_records(flat(2)), rows, [])
    assert view.weighted_layers == ("0.conv", "1.conv", "2.conv")


def test_batches_that_repeat() -> None:
    finding = found(judged(seen("identity", 250, **{**IDENTITY, "duplicates": 0.75})), "data_order_or_leak")
    assert finding.message == "The same images come again at once (75 % of them), as when loading processes share one random seed."


def test_batch_norm_over_two_images() -> None:
    few = seen("batch_norm", 100, "1.bn", **BATCH_NORM)
    finding = found(judged(few, *loss_inputs(rows=2), losses=flat()), "batchnorm_unreliable")
    assert finding.step == 0
    assert finding.message == (
        "Batch normalisation averages over only 2 images per step, so what it subtracts jumps from step to step and differs from what it uses for new "
        "images."
    )
    assert said(judged(few, *loss_inputs(rows=2))) == []


def test_no_gradient_passes_a_layer() -> None:
    rows = [
        layer(f"{at}.conv", step, gradient_rms=0.0 if at < 2 and step > 30 else 1e-3, positive_samples=0)
        for step in range(STEPS)
        for at in range(4)
    ]
    finding = found(judged(losses=flat(), rows=rows), "dead_units")
    assert (finding.where, finding.step) == ("2.conv", 31)
    assert finding.message == (
        "No gradient (what tells a layer how to change) passes layer 2.conv any more: the 2 layers before it stand still, because what they hand on is "
        "cut to zero for every image."
    )
    assert said(judged(rows=rows, losses=[2.3 * math.exp(-step / 30) for step in range(STEPS)])) == []


def test_new_images_that_are_easier_than_training_images_hint_at_wrong_labels() -> None:
    fits = [seen("fit", step, **{**FIT, "samples": 300, "accuracy": 0.4, "wrong": 180, "second_choice": 0.22}) for step in (140, 200, 280)]
    looks = [seen("validation", step, **{**VALIDATION, "accuracy": 0.7}) for step in (150, 290)]
    slow = [2.3 - step / 400 for step in range(STEPS)]
    assert said(judged(*fits, *looks, losses=slow)) == ["label_noise"]
    equal = [seen("validation", step, **{**VALIDATION, "accuracy": 0.42}) for step in (150, 290)]
    assert said(judged(*fits, *equal, losses=slow)) == []
    dropout = seen("network", **{**NETWORK, "dropouts": 1, "dropout": 0.3})
    assert said(judged(*fits, *looks, dropout, losses=slow)) == []


def test_steps_that_throw_an_ordinary_start_far_off() -> None:
    losses = [2.3, 5.0, 20.0] + [max(1.96, 16 - step / 6) for step in range(297)]
    assert said(judged(losses=losses, rows=layers(update_ratio=0.05))) == ["lr_too_high"]


def test_a_fresh_head_on_a_trained_body_may_begin_far_off() -> None:
    body = seen("network", **{**NETWORK, "trainable": 3000, "frozen_fresh": 0.0})
    losses = [9.0, 8.0, *falling()[2:]]
    assert said(judged(body, losses=losses)) == []
    assert said(judged(losses=losses)) == []  # a few steps undid it
    slow = [9.0 * 0.98**step for step in range(STEPS)]
    assert said(judged(*loss_inputs(loss=9.0), losses=slow)) == ["bad_initial_scale"]
    assert said(judged(*loss_inputs(loss=2.0), losses=slow)) == []  # the rest is another term, such as a teacher's answers


def test_many_images_are_a_fair_budget_too() -> None:
    labels = seen("labels", 90, **{**LABELS, "batches": 100, "batch_size": 256.0})
    findings = judged(labels, losses=flat(100), rows=layers(100, update_ratio=1e-5))
    assert said(findings) == ["lr_too_low"]
    assert said(judged(losses=flat(100), rows=layers(100, update_ratio=1e-5))) == []


def test_mostly_the_same_answer_and_no_better_than_that_answer_alone() -> None:
    looks = [seen("validation", step, **{**VALIDATION, "largest_answer": 0.87, "accuracy": 0.12}) for step in (150, 300)]
    unsure = seen("fit", 250, **{**FIT, "accuracy": 0.2, "wrong": 400})
    assert said(judged(*looks, unsure, losses=flat(level=1.9))) == ["one_class"]
    useful = [
        seen("validation", step, **{**VALIDATION, "largest_answer": 0.87, "largest_label": 0.8, "accuracy": 0.9}) for step in (150, 300)
    ]
    assert said(judged(*useful, losses=flat(level=1.9))) == []


def test_images_without_anything_in_them() -> None:
    empty = seen("input", 0, "channel 0", **{**CHANNEL, "mean": 0.0, "std": 0.0})
    finding = found(judged(empty, losses=flat()), "input_not_normalised")
    assert (finding.severity, finding.step) == ("problem", 0)
    assert finding.message == "Every number in the images that reach the network is 0, so there is nothing in them to learn from."
    others = [seen("input", 0, f"channel {at}", **CHANNEL) for at in (1, 2)]
    assert said(judged(empty, *others)) == []


def test_layers_that_no_gradient_reaches_although_the_head_learns_a_little() -> None:
    rows = [
        dataclasses.replace(row, gradient_rms=0.0) if row.layer in ("0.conv", "1.conv") and row.first_step >= 40 else row
        for row in layers()
    ]
    learned_some = [1.4 + 0.9 * math.exp(-step / 20) - 0.6 for step in range(STEPS)]
    finding = found(judged(rows=rows, losses=learned_some), "dead_units")
    assert (finding.severity, finding.where, finding.step) == ("warning", "2.conv", 40)
    assert said(judged(rows=rows)) == ["dead_units"]
    assert said(judged(rows=rows, losses=[2.3 * math.exp(-step / 30) for step in range(STEPS)])) == []  # nothing is left to learn


def test_amounts_that_do_not_belong_to_the_images() -> None:
    unseen = [o for o in healthy_observations() if o.kind not in ("loss_input", "labels", "fit", "validation")]
    amounts = loss_inputs("mse_loss", classes=1, target="real", same_shape=True)
    verdict = diagnose(step_records(flat(level=1.0)), layers(), [*unseen, *amounts])
    finding = found(verdict, "labels_look_random")
    assert finding.severity == "problem"
    assert finding.message == (
        "The network takes steps of a usual size and passes its signal on from the first layer to the last, yet after 300 steps it is no better than "
        "at the start: the labels do not seem to belong to the images."
    )
    own_loss = diagnose(step_records(flat(level=1.0)), layers(), unseen)  # two views of a sample may stay equally far apart
    assert "labels_look_random" not in said(own_loss)


def thrown(back: int, *, samples_change: bool = False) -> list[float]:
    """A loss of 0.3 that gradients throw up at step 100, and that is back after so many steps."""
    up = [2.0 if samples_change else 0.4, *(1.5 - 1.2 * step / back for step in range(1, back))]
    return [0.3 + 2 * math.exp(-step / 10) for step in range(100)] + up + [0.25] * (200 - back)


def thrown_from_the_bottom() -> list[float]:
    """A loss of next to nothing that gradients throw up, and that is next to nothing again."""
    return (
        [0.001 + 2 * math.exp(-step / 10) for step in range(100)]
        + [0.4, *(1.5 - 1.49 * step / 100 for step in range(1, 100))]
        + [0.01] * 100
    )


def test_a_leap_is_told_when_it_took_long_to_come_back_from_it() -> None:
    norms = [1.0] * 100 + [50.0] * 3 + [1.0] * 197
    finding = found(judged(losses=thrown(180), norms=norms), "exploding_gradients")
    assert (finding.severity, finding.step) == ("warning", 100)
    assert said(judged(losses=thrown(60), norms=norms)) == []  # a spike that recovers
    assert said(judged(losses=thrown_from_the_bottom(), norms=norms)) == []  # nothing is left to learn
    assert said(judged(losses=thrown(180, samples_change=True), norms=norms)) == []  # other samples, and a new task to learn


def test_amounts_are_compared_with_their_mean() -> None:
    def outcome(level: float, variance: float, *, other: float = 1.0) -> tuple[bool, bool]:
        amounts = [seen("amounts", step, samples=64, error=level * other, mean=0.0, variance=variance) for step in (0, 290)]
        of_the_run = RunView.of(step_records(flat(level=level)), [], amounts).outcome
        return of_the_run.stuck, of_the_run.poor

    assert outcome(5.0, 1.0) == (True, True)
    assert outcome(5.0, 5.4) == (False, True)
    assert outcome(5.0, 40.0) == (False, False)
    assert outcome(5.0, 40.0, other=0.5) == (True, True)  # not the whole loss, which has not moved from its start


def test_a_robust_loss_is_poor_where_the_mean_would_be_a_better_answer() -> None:
    def poor(error: float, name: str = "smooth_l1_loss", loss: float = 5.0) -> bool:
        looks = [Observation(step, "loss_input", name, {"training": True, "loss": loss}) for step in range(3)]
        amounts = [seen("amounts", step, samples=64, error=error, mean=0.0, variance=1.0) for step in (250, 290)]
        return RunView.of(step_records([5.0] * 3 + [0.5] * 297), [], [*looks, *amounts]).outcome.poor

    assert poor(37.0)
    assert not poor(0.9)
    assert not poor(37.0, "kl_div")
    assert not poor(37.0, loss=2.0)  # there is another term


def test_yes_or_no_is_compared_with_how_often_it_is_yes() -> None:
    numbers = {"training": True, "loss": 0.33, "plain_binary_loss": 0.33, "target_mean": 0.1}
    look = [Observation(0, "loss_input", "binary_cross_entropy", numbers)]
    of_the_run = RunView.of(step_records(flat(level=0.33)), [], look).outcome
    assert of_the_run.guessing == pytest.approx(-0.1 * math.log(0.1) - 0.9 * math.log(0.9))
    assert (of_the_run.stuck, of_the_run.poor) == (True, True)


def test_a_plateau_that_is_left_at_last_is_no_sign_of_random_labels() -> None:
    def looked(*accuracies: float) -> list[str]:
        looks = [
            seen("validation", 60 * at, **{**VALIDATION, "accuracy": accuracy, "loss": 2.3}) for at, accuracy in enumerate(accuracies, 1)
        ]
        return said(judged(*looks, losses=flat()))

    assert "labels_look_random" in looked(0.1, 0.11, 0.1)
    assert "labels_look_random" in looked(0.1, 0.11, 0.19)  # labels that are random in part
    assert "labels_look_random" not in looked(0.1, 0.11, 0.35)
    assert "labels_look_random" in looked(0.1, 0.3, 0.35)  # better than guessing for long, and not beginning to be
