"""Healing: fixes name real settings with allowed values, and the command stops, changes them, starts again and reports both runs."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_data import write_folder

from convscope.diagnose.changes import HABITS, MENU, SETTINGS
from convscope.records import Finding, Fix, Verdict
from convscope.train.heal import CHANGEABLE, changes_of, cure_of, healed
from convscope.train.settings import TrainSettings

EXAMPLES: dict[str, Any] = {  # a value of each setting as rules suggest it
    "lr": 0.01,
    "batch_size": 32,
    "norm": True,
    "init": "kaiming_normal",
    "augment": True,
    "clip_norm": 1.0,
    "weight_decay": 0.01,
    "schedule": "one_cycle",
    "class_weights": "auto",
    "freeze_body": False,
}


def finding(change: dict[str, Any] | None, severity: str = "problem") -> Finding:
    return Finding("lr_too_high", severity, "", 0, "message", Fix("text", change), (), "source")  # type: ignore[arg-type]


def test_every_setting_on_the_menu_is_one_of_the_trainer_and_takes_the_suggested_value() -> None:
    from convscope.nn import initialise, simple_cnn

    assert set(EXAMPLES) == set(SETTINGS) == set(CHANGEABLE) <= {f.name for f in dataclasses.fields(TrainSettings)}
    for name, value in EXAMPLES.items():
        assert getattr(dataclasses.replace(TrainSettings("mnist"), **{name: value}), name) == value
    initialise(simple_cnn(norm=EXAMPLES["norm"]), EXAMPLES["init"])
    assert MENU == SETTINGS | HABITS


def test_what_the_trainer_does_anyway_is_no_change() -> None:
    assert changes_of(finding({"shuffle": True, "normalise": True, "norm": True}), TrainSettings("mnist")) == {}


def test_the_first_problem_that_changes_something_is_the_cure() -> None:
    settings = TrainSettings("mnist", lr=3.0, norm=False)
    cure, other = (
        finding({"lr": 0.03, "norm": True, "shuffle": True}),
        dataclasses.replace(finding({"lr": 0.1}, "warning"), name="lr_too_low"),
    )
    verdict = Verdict("problem", 200, (finding(None), other, finding({"lr": 3.0}), cure), ())
    assert cure_of(verdict, settings) is cure
    assert changes_of(cure, settings) == {"lr": (3.0, 0.03), "norm": (False, True)}
    assert (healed(settings, cure).lr, healed(settings, cure).norm) == (0.03, True)


def test_the_cause_of_a_problem_is_healed_even_when_it_is_a_warning_itself() -> None:
    cause = finding({"lr": 0.03}, "warning")
    consequence = dataclasses.replace(finding(None), name="one_class", cause="lr_too_high")
    assert cure_of(Verdict("problem", 200, (cause, consequence), ()), TrainSettings("mnist", lr=3.0)) is cause
    assert cure_of(Verdict("warning", 200, (cause,), ()), TrainSettings("mnist", lr=3.0)) is None


def train(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "convscope", "train", str(folder / "data"), "--out", str(folder / "runs"), "--json", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_a_run_with_a_bad_learning_rate_is_stopped_changed_and_started_again(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", per_class=40)
    bad = (
        "--model",
        "simple_cnn",
        "--no-norm",
        "--no-augment",
        "--lr",
        "3",
        "--schedule",
        "constant",
        "--batch-size",
        "8",
        "--epochs",
        "15",
    )
    done = train(tmp_path, *bad, "--heal", "--name", "planted")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    first = result["healed"][0]
    assert first["finding"] in ("lr_too_high", "activation_collapse_cycles")
    before, after = first["changes"]["lr"]
    assert before == 3.0
    assert 0 < after <= 0.3
    assert 1 <= len(result["healed"]) <= 3
    runs = sorted(path for path in (tmp_path / "runs").iterdir())
    assert [first["before"]["run"], result["run"]] == [str(runs[0]), str(runs[-1])]
    assert len(runs) == len(result["healed"]) + 1
    config = json.loads((runs[-1] / "config.json").read_text())
    assert config["settings"]["lr"] == result["healed"][-1]["changes"].get("lr", [0, config["settings"]["lr"]])[1]
    assert "healing" in done.stderr
    assert result["accuracy"] >= 0.9
    assert result["verdict"] in ("healthy", "note")
