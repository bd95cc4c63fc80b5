"""Weights that stop being trained, or never move: each rule fires on the event and stays silent on its harmless twin. Messages are compared whole."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hand_made import UPDATES, falling, flat, found, judged, layer, said, seen, step_records

from convscope.diagnose import diagnose
from convscope.records import Observation

IDLE = {
    "frozen": 0.0,
    "frozen_late": 0.0,
    "frozen_since": None,
    "frozen_head": False,
    "frozen_layers": "",
    "left_out": 0.0,
    "left_out_late": 0.0,
    "left_out_since": None,
    "left_out_head": False,
    "left_out_layers": "",
    "fresh": 0.0,
}


def idle(step: int, /, **changes: Any) -> Observation:
    return seen("idle", step, **{**IDLE, **changes})


def half_learned() -> list[float]:
    """A loss that stops at 0.4 of that of guessing."""
    return [max(0.9, 2.3 - step / 100) for step in range(300)]


def test_all_is_frozen_in_the_middle() -> None:
    frozen = idle(150, frozen=0.99, frozen_late=0.99, frozen_since=100, frozen_head=True, frozen_layers="0, 3, 5, 8 ...")
    finding = found(judged(frozen, losses=half_learned()), "mostly_frozen")
    assert (finding.severity, finding.step, finding.where) == ("warning", 100, "0")
    assert finding.message == (
        "Since step 100 99 % of the weights are frozen (requires_grad is False), so they have stopped learning (first among them: 0, 3, 5, 8 ...)."
    )
    assert finding.fix.text == "Look for what sets requires_grad to False before that step, and check the names that it selects."
    assert found(judged(frozen, losses=flat()), "mostly_frozen").severity == "problem"
    assert said(judged(frozen)) == []  # all was learned by then


def test_freezing_a_body_to_go_on_with_the_head_is_fine() -> None:
    assert said(judged(idle(150, frozen=0.8, frozen_late=0.8, frozen_since=140, frozen_layers="0, 3"), losses=half_learned())) == []


def test_a_head_that_is_trained_by_turns_is_not_frozen() -> None:
    network = seen("network", weights=1000, trainable=500, head="4", head_trainable=False, frozen_fresh=1.0)
    assert said(judged(network, idle(8))) == []
    assert said(judged(network, idle(8, frozen=0.5, frozen_head=True))) == ["mostly_frozen"]


@pytest.mark.parametrize(
    ("change", "losses", "severity"),
    [
        ({"left_out": 1.0, "left_out_late": 1.0}, falling(), "problem"),  # nothing is trained any more
        ({"left_out": 0.1, "left_out_late": 0.1, "left_out_head": True, "fresh": 0.1}, falling(), "problem"),  # a new head
        ({"left_out": 0.1, "left_out_late": 0.1, "fresh": 0.1}, falling(), "warning"),  # a new layer
        ({"left_out": 0.95, "left_out_late": 0.95}, half_learned(), "warning"),  # taken out of the groups
    ],
)
def test_weights_that_no_optimiser_holds_any_more(change: dict[str, Any], losses: list[float], severity: str) -> None:
    finding = found(judged(idle(100, left_out_since=50, left_out_layers="4", **change), losses=losses), "params_not_in_optimizer")
    assert (finding.severity, finding.step, finding.where) == (severity, 50, "4")


def test_the_message_about_weights_that_no_optimiser_holds_any_more() -> None:
    left_out = {"left_out": 0.12, "left_out_late": 0.12, "left_out_since": 50, "left_out_layers": "4", "left_out_head": True, "fresh": 0.12}
    finding = found(judged(idle(100, **left_out)), "params_not_in_optimizer")
    assert finding.message == (
        "Since step 50 12 % of the weights are not updated any more: they get gradients, but no optimiser holds them (first among them: 4)."
    )
    assert finding.fix.text == (
        "Look for what happened before that step: after a layer was replaced, or weights were loaded with assign=True, make the optimiser anew, or add "
        "the new weights with optimizer.add_param_group; and take no weights out of its groups that should still learn."
    )


def test_trained_layers_left_out_for_a_last_stage_are_fine() -> None:
    assert said(judged(idle(250, left_out=0.8, left_out_late=0.8, left_out_since=200, left_out_layers="0"), losses=half_learned())) == []


def test_one_of_two_networks_that_no_optimiser_holds() -> None:
    observations = [seen("network", 0, "encoder", weights=10, trainable=10), seen("network", 0, "decoder", weights=10, trainable=10)]
    observations += [seen("optimizer", 0, "encoder/0", held=1.0), seen("unstepped", 0, "decoder", passes=300, moved=False, fresh=1.0)]
    rows = [layer(f"{name}/0", step) for step in range(300) for name in ("encoder", "decoder")]
    finding = found(diagnose(step_records(falling()), rows, observations), "params_not_in_optimizer")
    assert (finding.where, finding.severity) == ("decoder", "problem")
    assert finding.message == (
        "This network is part of what is trained and its weights are as they were drawn at random, but no optimiser holds them, so it never learns."
    )
    observations[-1] = seen("unstepped", 0, "decoder", passes=300, moved=False, fresh=0.0)  # a trained network that helps
    assert said(diagnose(step_records(falling()), rows, observations)) == []


def test_gradients_that_are_gone_before_the_step() -> None:
    finding = found(judged(seen("updates", 8, **{**UPDATES, "erased": 6, "ungraded": 6, "no_gradient": 1.0})), "update_no_op")
    assert finding.message == (
        "From the start the gradients that each batch gives are deleted before the optimiser takes its step, so the weights stay as they are."
    )
    assert finding.fix.text == (
        "Call optimizer.zero_grad(), loss.backward() and optimizer.step() in this order, with nothing between backward and step that clears, masks or "
        "clips the gradients to zero."
    )


def test_gradients_that_become_zero_in_the_middle() -> None:
    looks = [seen("updates", step, **{**UPDATES, "erased": at}) for step, at in ((50, 0), (60, 1), (100, 5))]
    finding = found(judged(*looks), "update_no_op")
    assert finding.step == 60
    assert finding.message == (
        "Since step 60 the gradients that each batch gives are set to zero before the optimiser takes its step, so they cannot steer it."
    )


def test_steps_that_are_rounded_away() -> None:
    rounded = seen("updates", 250, **{**UPDATES, "rounded": 20, "rounded_share": 0.93})
    finding = found(judged(rounded, losses=flat()), "update_no_op")
    assert finding.severity == "problem"
    assert finding.message == (
        "93 % of the weights stay exactly as they are at a step, because the steps are smaller than the gaps between the numbers that can hold these "
        "weights: they are rounded away."
    )
    assert finding.fix.text == (
        "Keep the weights in float32 (model.float()) and use torch.autocast for speed; where they are float32 already, they are too large: draw them "
        "smaller at the start."
    )
    assert said(judged(rounded)) == []  # a run that learns all the same, or is done


def test_layers_that_no_gradient_reaches() -> None:
    looks = seen(
        "updates", 250, **{**UPDATES, "ungraded": 20, "no_gradient": 0.9, "ungraded_layers": "0.conv, 1.conv", "ungraded_fresh": 1.0}
    )
    finding = found(judged(looks, losses=half_learned()), "update_no_op")
    assert (finding.severity, finding.where) == ("warning", "0.conv")
    assert finding.message == (
        "The optimiser takes steps, but 90 % of the weights never receive a gradient (first among them: 0.conv, 1.conv), so they stay as they are."
    )
    assert finding.fix.text == (
        "Call loss.backward() before optimizer.step(); look for detach(), no_grad(), .item() or torch.tensor() between these weights and the loss, and "
        "for a copy of the network that is run in its place."
    )
    assert said(judged(looks)) == []  # plainly good as they are


def test_layers_without_a_gradient_that_were_never_run_are_a_note() -> None:
    looks = seen("updates", 250, **{**UPDATES, "ungraded": 20, "no_gradient": 0.9, "ungraded_layers": "decoder", "ungraded_fresh": 1.0})
    assert said(judged(looks, losses=half_learned())) == []


def test_a_trained_network_that_goes_on_with_tiny_steps_is_fine() -> None:
    losses = [0.002 + 0.001 * math.sin(step) for step in range(300)]
    rows = [layer(f"{at}.conv", step, update_ratio=1e-8) for step in range(300) for at in range(3)]
    assert said(judged(losses=losses, rows=rows, lr=1e-6)) == []
