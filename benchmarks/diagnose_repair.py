"""The repair experiment: train harmful runs again with the suggested change, and with a random change from the same menu.

The figure is the share of the gap to the unfaulted twin that is closed: 1 is as good as the twin. Resumable: DIR/repairs.jsonl.
"""

from __future__ import annotations

import dataclasses
import json
import random
import statistics
import time
from pathlib import Path
from typing import Any

from diagnose_programs import Settings
from diagnose_score import Scored, scored, share

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


def first_change(run: Scored) -> dict[str, Any] | None:
    """The change of the first finding that has one."""
    return next((f.fix.change for f in run.verdict.findings if f.severity != "note" and f.cause is None and f.fix.change), None)


def repair(work: Path, repeats: int, first_seed: int, most: int, minutes: float) -> str:
    """Train the repaired runs that are missing, and report."""
    from diagnose import identity, one_run

    path, draw, ends = work / "repairs.jsonl", random.Random(5), time.monotonic() + 60 * minutes
    done = {line["id"]: line["accuracy"] for line in map(json.loads, path.read_text().splitlines())} if path.exists() else {}
    closed: dict[str, list[float]] = {"suggested": [], "random": []}
    runs = [run for run in scored(work, repeats, first_seed) if run.harmful and first_change(run)][:most]
    with path.open("a") as out:
        for run in runs:
            change = first_change(run) or {}
            variants = {
                "suggested": changed(run.case.settings, change),
                "random": changed(run.case.settings, draw.choice(RANDOM_MENU), relative=True),
            }
            accuracies = {}
            for kind, settings in variants.items():
                name = identity(settings)
                if name not in done:
                    if time.monotonic() > ends:
                        break
                    line = one_run((f"{kind} repair of {run.case.key}", settings, str(work), False))
                    done[name] = line.get("accuracy", 0.0)
                    out.write(json.dumps({**line, "accuracy": done[name], "change": change if kind == "suggested" else None}) + "\n")
                    out.flush()
                accuracies[kind] = done[name]
            if len(accuracies) == 2:
                for kind, value in accuracies.items():
                    closed[kind].append((value - run.accuracy) / (run.twin - run.accuracy))
                if closed["suggested"][-1] < CLOSED:
                    print(f"not closed ({closed['suggested'][-1]:.2f}): {run.case.key} {change}")
    return "\n".join(
        f"{kind}: closed 90 % of the gap in {share(sum(v >= CLOSED for v in values), len(values))}; median {statistics.median(values) if values else 0:.2f}"
        for kind, values in closed.items()
    )
