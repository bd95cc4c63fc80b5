"""The repair experiment: train harmful runs again with the suggested change, and with a random change from the same menu.

The figure is the share of the gap to the unfaulted twin that is closed: 1 is as good as the twin. The suggested change is that of the first finding of at
least a warning that has one and does not follow from another. The random one is drawn by the run's name alone, so that it stays the same when the rules
change. Resumable: DIR/repairs.jsonl; the result is kept in results/diagnose_repair.json.
"""

from __future__ import annotations

import dataclasses
import json
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import keep
from diagnose_programs import Settings
from diagnose_score import Scored, judged, measured, share, wilson

from convscope.records import Finding
from diagnose import finished, identity, one_run

CLOSED = 0.9  # of the gap
RANDOM_MENU: tuple[dict[str, Any], ...] = (
    {"lr": 0.1},  # times the present one
    {"lr": 10.0},
    {"norm": True},
    {"init": "kaiming_normal"},
    {"clip_norm": 1.0},
    {"schedule": "one_cycle"},
    {"weight_decay": 0.01},
    {"normalise": True},
    {"shuffle": True},
    {"dropout": 0.25},
    {"batch_size": 64},
    {"activation": "relu"},
    {"freeze_body": False},
    {"class_weights": "auto"},
    {"augment": True},
)


def changed(settings: Settings, change: dict[str, Any], *, relative: bool = False) -> Settings:
    """Settings with a change of the menu applied."""
    new: dict[str, Any] = {}
    for name, value in change.items():
        if name == "lr":
            new["lr"] = settings.rate * value if relative else value
        elif name == "normalise":
            new["inputs"] = "normalised"
        elif name == "shuffle":
            new["order"] = "shuffled"
        elif name == "freeze_body":
            new |= {"held": "all", "frozen": "none"}
        elif name == "class_weights":
            new["class_weights"] = True
        elif name == "init":
            new["init"] = "kaiming"
        elif name == "clip_norm":
            new["clip"] = value
        else:
            new[name] = value
    result = dataclasses.replace(settings, **new)
    if "norm" in change and result.arch == "lenet":
        result = dataclasses.replace(result, norm=False)
    return result


def cure(run: Scored) -> Finding | None:
    """The first finding that has a change to offer and does not follow from another."""
    return next((f for f in run.verdict.findings if f.severity != "note" and f.cause is None and f.fix.change), None)


@dataclass(frozen=True)
class Repair:
    """One harmful run: what was suggested, and what share of the gap to its twin two changes closed."""

    run: Scored
    finding: Finding
    suggested: float
    random: float

    @property
    def exact(self) -> bool:
        """Whether the suggested change gives the twin's very settings, so that its result is the twin's."""
        settings = changed(self.run.case.settings, self.finding.fix.change or {})
        return self.run.case.twin is not None and identity(settings) == identity(self.run.case.twin)


class Trainer:
    """Accuracies of settings: those that are known, in this folder or from the benchmark's own runs, and those that are trained now."""

    def __init__(self, work: Path, minutes: float) -> None:
        self.work, self.path, self.ends = work, work / "repairs.jsonl", time.monotonic() + 60 * minutes
        lines = [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []
        self.known = {line["id"]: line["accuracy"] for line in [*finished(work).values(), *lines] if "error" not in line}
        self.errors: list[dict[str, Any]] = []

    def accuracy(self, key: str, settings: Settings) -> float | None:
        """The accuracy after training with these settings; None when time is up or the run fails."""
        name = identity(settings)
        if name not in self.known and time.monotonic() < self.ends:
            line = one_run((key, settings, str(self.work), False))
            if "error" in line:
                self.errors.append(line)
                return None
            self.known[name] = line["accuracy"]
            with self.path.open("a") as out:
                out.write(json.dumps(line) + "\n")
        return self.known.get(name)


def repair(work: Path, repeats: int, first_seed: int, most: int, minutes: float) -> str:
    """Train the repaired runs that are missing, keep the result, and report."""
    harmful = judged(work, [run for run in measured(work, repeats, first_seed) if run.harmful], workers=1)
    trainer, repairs = Trainer(work, minutes), []
    for run in [run for run in harmful if cure(run)][:most]:
        finding = cure(run)
        assert finding is not None
        chance = random.Random(run.case.key).choice(RANDOM_MENU)
        suggested = trainer.accuracy(f"suggested repair of {run.case.key}", changed(run.case.settings, finding.fix.change or {}))
        drawn = trainer.accuracy(f"random repair of {run.case.key}", changed(run.case.settings, chance, relative=True))
        if suggested is not None and drawn is not None:
            gap = run.twin - run.accuracy
            repairs.append(Repair(run, finding, (suggested - run.accuracy) / gap, (drawn - run.accuracy) / gap))
    result = _result(harmful, repairs) | {"first_seed": first_seed, "repeats": repeats, "errors": trainer.errors}
    keep("diagnose_repair", result)
    return _report(harmful, repairs)


def _result(harmful: Sequence[Scored], repairs: Sequence[Repair]) -> dict[str, Any]:
    def row(values: Sequence[float]) -> dict[str, Any]:
        hits, count = sum(value >= CLOSED for value in values), len(values)
        return {"closed": hits, "n": count, "wilson_95": wilson(hits, count), "median": statistics.median(values) if values else None}

    return {
        "harmful": len(harmful),
        "with a change": sum(cure(run) is not None for run in harmful),
        "suggested": row([one.suggested for one in repairs]),
        "random": row([one.random for one in repairs]),
        "suggested, without those that give the twin's very settings": row([one.suggested for one in repairs if not one.exact]),
        "random, for the same runs": row([one.random for one in repairs if not one.exact]),
        "runs": [
            {"key": one.run.case.key, "finding": one.finding.name, "change": one.finding.fix.change}
            | {
                "accuracy": one.run.accuracy,
                "twin": one.run.twin,
                "suggested": round(one.suggested, 3) + 0.0,
                "random": round(one.random, 3) + 0.0,
            }
            for one in repairs
        ],
    }


def _report(harmful: Sequence[Scored], repairs: Sequence[Repair]) -> str:
    offered = [run for run in harmful if cure(run)]
    lines = [f"A change that a machine can make is offered for {share(len(offered), len(harmful))} of the harmful runs."]
    for which, runs in (
        ("", repairs),
        (", where the change does not give the twin's very settings", [one for one in repairs if not one.exact]),
    ):
        for kind in ("suggested", "random"):
            values = [getattr(one, kind) for one in runs]
            closed = share(sum(value >= CLOSED for value in values), len(values))
            lines.append(f"{kind}{which}: closed 90 % of the gap in {closed}; median {statistics.median(values) if values else 0:.2f}")
    by_name: dict[str, list[Repair]] = defaultdict(list)
    for one in repairs:
        by_name[one.finding.name].append(one)
    lines += ["", "| finding | runs | closed by the suggested change | median | by a random one |", "| --- | --- | --- | --- | --- |"]
    for name, found in sorted(by_name.items()):
        suggested, chance = [one.suggested for one in found], [one.random for one in found]
        closed = [sum(value >= CLOSED for value in values) for values in (suggested, chance)]
        lines.append(f"| {name} | {len(found)} | {closed[0]} | {statistics.median(suggested):.2f} | {closed[1]} |")
    without = Counter(
        next((f.name for f in run.verdict.findings if f.severity != "note"), "nothing found") for run in harmful if not cure(run)
    )
    lines += ["", "No change for a machine, by first finding: " + ", ".join(f"{name} {count}" for name, count in without.most_common())]
    missed = [one for one in repairs if one.suggested < CLOSED]
    lines += ["", *(f"not closed ({one.suggested:.2f}): {one.run.case.key}: {one.finding.name} {one.finding.fix.change}" for one in missed)]
    return "\n".join(lines)
