"""The verdict: order and causes, "too early", what was not checked, JSON, and rules as pure functions."""

from __future__ import annotations

import dataclasses
import functools
import json
import math

import pytest
from hand_made import CHANNEL, falling, flat, healthy_observations, judged, layers, loss_inputs, said, seen, step_records

from convscope.diagnose import NAMES, RULES, diagnose, diagnose_log, verdict_to_json
from convscope.diagnose.changes import MENU, check_change, rounded
from convscope.diagnose.observations import BY_NAME, scheduled
from convscope.diagnose.ranking import AGAIN, AT_START, BY_HEART, CALM, CRASHES, EXPLAINS, FROM_ONE_STEP, IN_PART, ORDER, UNMOVED, ranked
from convscope.diagnose.rule import ev, percent, short
from convscope.diagnose.view import Threshold
from convscope.errors import UnknownNameError
from convscope.records import Evidence, Finding, Fix, Observation
from convscope.runlog import RunLog

RAW = seen("input", 0, "channel 0", **{**CHANNEL, "mean": 33.0, "std": 78.0})


def test_the_catalogue_has_28_names_each_with_a_rule_a_place_and_consequences() -> None:
    assert len(NAMES) == len(set(NAMES)) == 28
    assert set(ORDER) == set(EXPLAINS)
    kinds = (AT_START, AGAIN, CALM, FROM_ONE_STEP, BY_HEART, IN_PART, UNMOVED)
    assert {functools.reduce(str.removesuffix, kinds, key) for key in ORDER} == set(NAMES) <= set(ORDER)
    place = {name: at for at, name in enumerate(ORDER)}
    assert all(consequences <= set(ORDER) for consequences in EXPLAINS.values())
    assert place["input_not_normalised"] < place["bad_initial_scale"] < place["lr_too_high"] < place["dead_units"] < place["one_class"]


def test_every_need_is_a_kind_of_observation_or_a_record() -> None:
    for rule in RULES:
        assert all(need in BY_NAME or need in ("loss", "layers", "learning rate", "gradient norm") for need in rule.needs)


def test_a_consequence_follows_its_cause() -> None:
    verdict = judged(RAW, losses=flat(level=5.0), rows=layers(update_ratio=0.08))
    assert [(finding.name, finding.cause) for finding in verdict.findings] == [
        ("input_not_normalised", None),
        ("lr_too_high", "input_not_normalised"),
    ]


def test_of_several_networks_only_exact_events_are_judged_and_each_by_itself() -> None:
    def named(name: str, observations: list[Observation]) -> list[Observation]:
        return [dataclasses.replace(o, subject=f"{name}/{o.subject}" if o.subject else name) for o in observations]

    carry = seen("gradient_carry", 5, "4.bias", checked=5, carried=5, streak=5, since=1)
    observations = named("generator", healthy_observations()) + named("critic", [*healthy_observations(), carry])
    verdict = diagnose(step_records(flat(level=5.0)), layers(update_ratio=0.08), observations)
    assert [(finding.name, finding.where) for finding in verdict.findings] == [("grads_not_cleared", "critic/4.bias")]
    assert ("lr_too_high", "several networks are trained together, so the loss does not tell how one of them goes") in [
        (item.name, item.why) for item in verdict.not_checked
    ]


def test_a_short_run_is_too_early_to_judge() -> None:
    verdict = diagnose(step_records(flat(10)), layers(10), healthy_observations())
    assert (verdict.verdict, verdict.steps, verdict.findings) == ("too_early", 10, ())


def test_an_exact_event_is_a_problem_even_in_a_short_run() -> None:
    observations = [o for o in healthy_observations() if o.kind != "loss_input"] + loss_inputs(row_sum_gap=0.0, lowest=0.0, highest=0.9)
    verdict = diagnose(step_records(flat(10)), layers(10), observations)
    assert (verdict.verdict, said(verdict)) == ("problem", ["softmax_before_cross_entropy"])


def test_what_could_not_be_seen_is_said() -> None:
    verdict = diagnose(step_records(falling()), layers(), [])
    reasons = {item.name: item.why for item in verdict.not_checked}
    assert reasons["softmax_before_cross_entropy"] == (
        "the loss was not computed by a function of torch.nn.functional or a module of torch.nn, so its input could not be seen"
    )
    assert "lr_too_high" not in reasons


def test_a_rule_can_be_switched_off() -> None:
    verdict = diagnose(step_records(flat(level=5.0)), layers(), [RAW], ignore=["input_not_normalised"])
    assert "input_not_normalised" not in said(verdict)
    assert ("input_not_normalised", "it was switched off (--ignore)") in [(item.name, item.why) for item in verdict.not_checked]


def test_a_rule_that_does_not_exist() -> None:
    with pytest.raises(UnknownNameError, match=r"There is no rule 'lr_to_high'\. Did you mean 'lr_too_high'"):
        diagnose([], [], ignore=["lr_to_high"])


def test_the_json_object() -> None:
    value = json.loads(json.dumps(verdict_to_json(judged(RAW, losses=flat(level=5.0))), allow_nan=False))
    assert list(value) == ["schema", "verdict", "steps", "findings", "not_checked"]
    assert (value["schema"], value["verdict"], value["steps"]) == (1, "problem", 300)
    assert set(value["findings"][0]) == {"name", "severity", "where", "step", "message", "fix", "evidence", "source", "cause"}
    assert set(value["findings"][0]["fix"]) == {"text", "change"}


def test_the_same_records_give_the_same_verdict_from_memory_and_from_a_log() -> None:
    log = RunLog.create()
    for step in step_records(flat(level=5.0)):
        log.step(step)
    for record in layers():
        log.layer(record)
    for observation in [*healthy_observations(), RAW]:
        log.observe(observation)
    assert diagnose_log(log) == diagnose(log.steps(), log.layers(), log.observations())
    assert said(diagnose_log(log))[0] == "input_not_normalised"


def test_an_empty_run() -> None:
    assert diagnose([], []).verdict == "too_early"


def test_a_run_whose_loss_was_not_seen_is_not_called_healthy() -> None:
    blind = diagnose(step_records([math.nan] * 300), layers())
    assert (blind.verdict, blind.findings) == ("too_early", ())
    assert diagnose(step_records(falling()), []).verdict == "healthy"


def test_how_thresholds_scale() -> None:
    number, share, excess = Threshold(3, "", ""), Threshold(0.95, "", "", share=True), Threshold(1.2, "", "", excess=True)
    assert [one.scaled(0.5) for one in (number, share, excess)] == pytest.approx([1.5, 19 / 21, 1.1])
    assert [one.scaled(1.0) for one in (number, share, excess)] == pytest.approx([3, 0.95, 1.2])
    assert [one.scaled(2.0) for one in (number, share, excess)] == pytest.approx([6, 38 / 39, 1.4])


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_thresholds_can_be_scaled(scale: float) -> None:
    assert diagnose(step_records(falling()), layers(), healthy_observations(), scale=scale).verdict in (
        "healthy",
        "note",
        "warning",
        "problem",
    )


def test_changes_are_on_the_menu() -> None:
    assert check_change({"lr": 0.1, "norm": True}) == {"lr": 0.1, "norm": True}
    with pytest.raises(UnknownNameError, match=r"There is no setting that a machine may change 'learning_rate'"):
        check_change({"learning_rate": 0.1})
    assert "lr" in MENU


@pytest.mark.parametrize(("value", "expected"), [(0.0437, 0.05), (7.0, 5.0), (8.0, 10.0), (1e-7, 1e-7), (123.0, 100.0)])
def test_rounded(value: float, expected: float) -> None:
    assert rounded(value) == pytest.approx(expected)


def test_observations_are_written_rarely_but_early() -> None:
    assert [step for step in range(45) if scheduled(step)] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 20, 30, 40]
    assert sum(scheduled(step) for step in range(1_000_000)) < 500


def test_gradients_that_leap_out_of_a_calm_come_before_what_they_throw_over() -> None:
    fix = Fix("-")
    leaps = Finding("exploding_gradients", "problem", "", 65, "-", fix, (), "-")
    crashes = Finding("activation_collapse_cycles", "problem", "", 69, "-", fix, (Evidence(CRASHES, 9),), "-")
    assert [(f.name, f.cause) for f in ranked([leaps, crashes])] == [
        ("exploding_gradients", None),
        ("activation_collapse_cycles", "exploding_gradients"),
    ]
    early = dataclasses.replace(leaps, step=5)
    assert [f.name for f in ranked([early, crashes])] == ["activation_collapse_cycles", "exploding_gradients"]


@pytest.mark.parametrize(("axes", "what"), [(4, "images"), (2, "samples"), (None, "images")])
def test_what_is_learned_from_has_its_right_name(axes, what) -> None:
    sorted_labels = seen("labels", 50, batches=100, batch_size=32.0, classes=10, entropy=2.302, batch_entropy=0.2, largest_share=0.11)
    rows = seen("identity", 250, train_images=5000, duplicates=0.0, axes=axes)
    finding = next(f for f in judged(sorted_labels, rows).findings if f.name == "data_order_or_leak")
    assert finding.where == f"training {what}"
    assert finding.message == (
        f"The training {what} come sorted by class: a batch of 32 {what} holds far fewer kinds of labels than the whole, so the network learns "
        "one class and forgets the others."
    )
    assert finding.fix.text == f"Shuffle the training {what} in every epoch: DataLoader(..., shuffle=True)."


def test_numbers_have_three_digits() -> None:
    assert [short(value) for value in (2684.004, 12345.6, 1.23456e7, 7.85e10, 0.000123456)] == [
        "2680",
        "12300",
        "12.3 million",
        "78.5 billion",
        "0.000123",
    ]
    assert [percent(share) for share in (0.9997, 0.9951, 1.0, 0.123)] == ["99.9 %", "99.5 %", "100 %", "12 %"]
    assert (ev("x", 123456.0).value, ev("x", math.nan).value) == (123000.0, None)


def test_a_reward_or_a_critics_score_has_no_bad_level() -> None:
    rewards = [-0.003 if step < 3 else 0.01 * math.sin(step) for step in range(300)]
    unseen = [o for o in healthy_observations() if o.kind not in ("loss_input", "labels", "fit", "validation")]
    hot = layers(update_ratio=0.2)
    assert [f.name for f in diagnose(step_records(rewards), hot, unseen).findings if f.severity != "note"] == []
    positive = diagnose(step_records([abs(reward) + 0.003 * step for step, reward in enumerate(rewards)]), hot, unseen)
    assert [f.name for f in positive.findings if f.severity == "problem"] == ["lr_too_high"]


@pytest.mark.parametrize(("share", "first"), [("91 %", "input_not_normalised"), ("100 %", "update_no_op")])
def test_weights_that_stand_still_in_part_may_do_so_for_want_of_a_signal(share: str, first: str) -> None:
    still = Finding("update_no_op", "problem", "g", 0, "", Fix(""), (Evidence("weights that do not move", share),))
    raw = Finding("input_not_normalised", "warning", "channel 0", 0, "", Fix(""))
    assert ranked([still, raw])[0].name == first
