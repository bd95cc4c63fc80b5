"""A small fixed part of the diagnosis benchmark: real training runs, watched, and what is said about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from diagnose_faults import FAULTS, HEALTHY, plan
from diagnose_programs import Settings, build
from diagnose_score import wilson

from convscope.diagnose import NAMES, diagnose
from convscope.records import Verdict
from diagnose import identity, keep, kept, watched

SMALL = Settings(arch="plain5", data="mnist", train_images=320, most_steps=25, epochs=3)


def verdict_of(**changes: Any) -> Verdict:
    import dataclasses

    return diagnose(*watched(build(dataclasses.replace(SMALL, **changes))))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"clear": "never"}, "grads_not_cleared"),
        ({"output": "softmax"}, "softmax_before_cross_entropy"),
        ({"output": "log_softmax0", "loss": "nll"}, "softmax_wrong_dim"),
        ({"loss": "nll"}, "loss_output_mismatch"),
        ({"loss": "mse_broadcast"}, "loss_output_mismatch"),
        ({"held": "no_head"}, "params_not_in_optimizer"),
        ({"frozen": "head"}, "mostly_frozen"),
        ({"activation": "none"}, "missing_nonlinearity"),
        ({"init": "constant:0.02"}, "symmetric_init"),
        ({"step": "restored"}, "update_no_op"),
        ({"inputs": "nan:100"}, "non_finite"),
        ({"order": "sorted"}, "data_order_or_leak"),
    ],
)
def test_exact_faults_are_named_after_25_steps(changes: dict[str, Any], name: str) -> None:
    verdict = verdict_of(**changes)
    assert verdict.verdict == ("warning" if name == "symmetric_init" else "problem")  # equal filters part by their biases, slowly
    assert verdict.findings[0].name == name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"accumulate": 2},
        {"output": "log_softmax", "loss": "nll"},
        {"loss": "bce"},
        {"norm": True, "inputs": "bytes"},
        {"no_grad": False},
        {"arch": "lenet", "optimizer": "adam"},
    ],
)
def test_nothing_is_said_about_runs_without_a_fault(changes: dict[str, Any]) -> None:
    verdict = verdict_of(**changes)
    assert [finding.name for finding in verdict.findings if finding.severity != "note"] == []
    assert verdict.verdict == "too_early"


def test_a_learning_rate_far_too_high_is_named_in_a_whole_run() -> None:
    verdict = verdict_of(lr=2.0, most_steps=0, train_images=2240)
    assert verdict.verdict == "problem"
    assert verdict.findings[0].name in ("lr_too_high", "activation_collapse_cycles")


def test_records_survive_their_file(tmp_path: Path) -> None:
    records = watched(build(SMALL))
    keep(records, tmp_path / "one.json.gz")
    assert diagnose(*kept(tmp_path / "one.json.gz")) == diagnose(*records)


def test_every_name_is_planted_at_three_strengths_and_accepts_known_names() -> None:
    assert {fault.name for fault in FAULTS} == set(NAMES)
    assert all(len(fault.recipes) == 3 and fault.accepted <= set(NAMES) for fault in FAULTS)
    cases = list(plan(2))
    assert len({case.key for case in cases}) == len(cases)
    assert {case.strength for case in cases if case.fault == "healthy"} == set(HEALTHY)
    assert identity(SMALL) == identity(Settings(**SMALL.__dict__))


def test_wilson_intervals_against_published_values() -> None:
    low, high = wilson(8, 10)
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)
