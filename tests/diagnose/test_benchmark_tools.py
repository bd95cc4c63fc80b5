"""The diagnosis benchmark's comparison with other tools and its repair experiment: what is compared is what it says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import diagnose_programs as programs
import diagnose_tools as tools
import pytest
import torch
from diagnose_faults import FAULTS, Case
from diagnose_programs import Settings, accuracy, build, train
from diagnose_repair import RANDOM_MENU, Trainer, changed, cure
from diagnose_score import Judged, Scored
from torch import nn
from torch.optim import Optimizer

from convscope.diagnose import NAMES
from convscope.diagnose.changes import MENU
from convscope.records import Finding, Fix, Severity, Verdict
from diagnose import identity

SMALL = Settings(arch="plain5", data="mnist", train_images=320, epochs=2)
SCHEDULED = dataclasses.replace(SMALL, lr=3.0, schedule="cosine")


class Listener(tools.Attached):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []

    def start(self, model: nn.Module, optimizer: Optimizer) -> None:
        self.told.append(("start", type(optimizer).__name__))

    def before_step(self, step: int, loss: float) -> None:
        self.told.append(("before", step))

    def after_step(self, step: int, loss: float) -> None:
        self.told.append(("after", step))

    def validated(self, loss: float) -> None:
        self.told.append(("validated", round(loss, 3)))


def scored(fault: str, settings: Settings, *findings: Finding) -> Scored:
    verdict = Verdict(findings[0].severity if findings else "healthy", 200, findings, ())
    return Scored(Case(f"{fault}/a", fault, "blatant", settings, SMALL), 0.2, 0.9, Judged({"1": verdict}, None, {}))


def finding(name: str, change: dict[str, object] | None, severity: Severity = "problem", cause: str | None = None) -> Finding:
    return Finding(name, severity, "", 0, "message", Fix("text", change), (), "source", cause)


def test_a_tool_is_told_of_every_step_in_order_and_changes_nothing() -> None:
    plain = build(SMALL)
    torch.manual_seed(1)
    train(plain)
    watched, listener = build(SMALL), Listener()
    loops = [getattr(programs, name) for name in ("make_optimizer", "_forward_backward", "_step", "validate")]
    torch.manual_seed(1)
    take_out = tools.attach((listener,), watched)
    train(watched)
    take_out()
    steps = [("before", step) for step in range(20)] + [("after", step) for step in range(20)]
    kinds = [kind for kind, _ in listener.told]
    assert sorted(told for told in listener.told if told[0] in ("before", "after")) == sorted(steps)
    assert kinds == ["start", *["before", "after"] * 10, "validated", *["before", "after"] * 10, "validated"]
    assert accuracy(watched) == accuracy(plain)
    assert loops == [getattr(programs, name) for name in ("make_optimizer", "_forward_backward", "_step", "validate")]


def test_a_tool_that_raises_is_silent_and_leaves_the_loop_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Listener):
        def after_step(self, step: int, loss: float) -> None:
            raise RuntimeError("hooks exclude in-place activations")

    class Quiet(Listener):
        def end(self) -> tools.Said:
            return [("warning", "plateau")]

    monkeypatch.setitem(tools.ATTACHED, "torchmortem", Broken)
    monkeypatch.setitem(tools.ATTACHED, "trainpulse", Quiet)
    lines = {line["tool"]: line for line in tools.one_run(("torchmortem", "trainpulse"), SMALL)}
    assert (lines["torchmortem"]["said"], lines["torchmortem"]["error"]) == ([], "RuntimeError: hooks exclude in-place activations")
    assert (lines["trainpulse"]["said"], lines["trainpulse"]["error"]) == ([("warning", "plateau")], None)
    assert programs.validate.__module__ == "diagnose_programs"


def test_findings_mean_names_of_the_catalogue_and_each_counts_once_the_gravest_first() -> None:
    assert set().union(*tools.MEANINGS.values()) <= set(NAMES)
    said = tools._gravest_first(
        [(1, "Dead units in 3"), (2, "Update ratio too high in 0"), (1, "Dead units in 5"), (2, "Update ratio too high in 7")]
    )
    assert said == [("problem", "Update ratio too high in 0"), ("warning", "Dead units in 3")]
    assert tools.names_of("torchmortem", said) == [{"lr_too_high"}, {"dead_units"}]
    assert tools.names_of("trainpulse", [("warning", "step_time Slow step")]) == [frozenset()]


def test_tools_are_marked_as_generously_as_their_findings_are_meant() -> None:
    run = scored("dead_units", SCHEDULED)
    assert tools.marks(run, []) == (False, False, False, False)
    assert tools.marks(run, [frozenset({"vanishing_signal", "dead_units"})]) == (True, True, True, True)
    assert tools.marks(run, [frozenset(), frozenset({"lr_too_high"})]) == (
        True,
        False,
        False,
        True,
    )  # accepted for this plant, but not first


@pytest.mark.parametrize("change", RANDOM_MENU)
def test_every_change_of_the_menu_changes_a_program_or_is_its_habit(change: dict[str, object]) -> None:
    assert set(change) <= set(MENU)
    spoilt = Settings(inputs="bytes", order="sorted", held="head", activation="tanh")
    assert changed(spoilt, change, relative=True) != spoilt


def test_unfreezing_gives_the_settings_of_the_twin() -> None:
    frozen = next(fault for fault in FAULTS if fault.name == "mostly_frozen").recipes[0]
    assert changed(dataclasses.replace(SMALL, **frozen), {"freeze_body": False}) == SMALL
    assert changed(Settings(arch="lenet"), {"norm": True, "init": "kaiming_normal"}) == Settings(arch="lenet", init="kaiming")


def test_the_cure_is_the_first_cause_that_has_a_change() -> None:
    words, follows, first = (
        finding("label_noise", None),
        finding("dead_units", {"lr": 1.0}, cause="label_noise"),
        finding("lr_too_high", {"lr": 0.1}),
    )
    assert cure(scored("lr_too_high", SMALL, words, follows, first)) is first
    assert cure(scored("lr_too_high", SMALL, words, finding("lr_too_low", {"lr": 1.0}, "note"))) is None


def test_a_failed_training_is_told_and_is_no_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(tmp_path, minutes=1)
    monkeypatch.setattr("diagnose_repair.one_run", lambda task: {"key": task[0], "id": identity(task[1]), "error": "no memory"})
    assert trainer.accuracy("a run", SMALL) is None
    assert [line["error"] for line in trainer.errors] == ["no memory"]
    monkeypatch.setattr("diagnose_repair.one_run", lambda task: {"key": task[0], "id": identity(task[1]), "accuracy": 0.5})
    assert trainer.accuracy("a run", SMALL) == 0.5
    assert Trainer(tmp_path, minutes=0).accuracy("a run", SMALL) == 0.5  # kept in the file
    assert Trainer(tmp_path, minutes=0).accuracy("another", SCHEDULED) is None
