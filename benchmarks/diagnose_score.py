"""Scoring of the diagnosis benchmark: who was harmed (by twins), who was found, under which name, and false alarms, with Wilson intervals."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnose_faults import FAULTS, Case, plan
from diagnose_rivals import RIVALS

from convscope.diagnose import diagnose
from convscope.diagnose.view import RunView
from convscope.records import Verdict
from diagnose import finished, identity, kept

LEARNED = 0.5  # accuracy, five times that of guessing, that a control must reach to count as healthy; so that what did not learn is not called healthy
HARM = 0.05  # points of accuracy below the twin
BY_NAME = {fault.name: fault for fault in FAULTS}


@dataclass(frozen=True)
class Scored:
    """One run: what was planted, what it cost, and what was said."""

    case: Case
    accuracy: float
    twin: float
    verdict: Verdict
    rivals: dict[str, list[str]]

    @property
    def harmful(self) -> bool:
        """Whether the plant did harm."""
        return self.case.fault != "healthy" and self.twin - self.accuracy >= HARM

    @property
    def names(self) -> list[str]:
        """Findings of at least a warning, in their order."""
        return [finding.name for finding in self.verdict.findings if finding.severity != "note"]


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % Wilson interval of a share."""
    if not count:
        return (0.0, 1.0)
    z, p = 1.96, hits / count
    middle, half = p + z * z / (2 * count), z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return ((middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count))


def share(hits: int, count: int) -> str:
    """Hits, count, percent and interval as text."""
    low, high = wilson(hits, count)
    return f"{hits}/{count} = {100 * hits / max(count, 1):.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def scored(work: Path, repeats: int, first_seed: int, scale: float) -> list[Scored]:
    """Every finished run with a finished twin, judged anew from its records."""
    done, results = finished(work), []
    for case in plan(repeats, first_seed):
        line = done.get((identity(case.settings), True))
        twin = (done.get((identity(case.twin), False)) or done.get((identity(case.twin), True))) if case.twin else None
        if line is None or "accuracy" not in line or (case.twin and (twin is None or "accuracy" not in twin)):
            continue
        records = kept(work / "records" / f"{line['id']}.json.gz")
        verdict, view = diagnose(*records, scale=scale), RunView.of(*records)
        rivals = {name: rival(view) for name, rival in RIVALS.items()}
        results.append(Scored(case, line["accuracy"], twin["accuracy"] if twin else line["accuracy"], verdict, rivals))
    return results


def report(work: Path, repeats: int, first_seed: int, scale: float, *, full: bool) -> str:
    """The whole table as text."""
    runs = scored(work, repeats, first_seed, scale)
    harmful = [r for r in runs if r.harmful]
    controls = [r for r in runs if r.case.fault == "healthy"]
    healthy = [r for r in controls if r.accuracy >= LEARNED or r.case.strength == "smoke"]
    benign = [r for r in runs if r.case.fault != "healthy" and not r.harmful]
    lines = [f"{len(runs)} runs; thresholds x {scale:g}", "", _summary("harmful", harmful)]
    for strength in ("blatant", "medium", "subtle"):
        lines.append(_summary(f"  {strength}", [r for r in harmful if r.case.strength == strength]))
    exact = [r for r in harmful if BY_NAME[r.case.fault].exact]
    lines += [_summary("  exact faults", exact), ""]
    lines += [f"controls that did not learn (accuracy below {LEARNED}), not counted as healthy: {len(controls) - len(healthy)}"]
    problems, warnings = (sum(r.verdict.verdict in kinds for r in healthy) for kinds in (("problem",), ("problem", "warning")))
    lines += [f"healthy: problem {share(problems, len(healthy))}; warning or worse {share(warnings, len(healthy))}"]
    lines += ["", "published rules on the same records:", *(_rival(name, harmful, healthy) for name in RIVALS), ""]
    said = sum(bool(r.names) for r in benign)
    lines += [f"benign plants (not harmful): {len(benign)}, something said in {said}", "", _by_fault(harmful, benign)]
    if full:
        lines += ["", *_listed(runs)]
    return "\n".join(lines)


def _marks(r: Scored) -> tuple[bool, bool, bool, bool]:
    """Detected, strict first name, accepted first name, accepted among the first three."""
    fault, names = BY_NAME[r.case.fault], r.names
    accepted = fault.accepted | {fault.name}
    return bool(names), names[:1] == [fault.name], bool(set(names[:1]) & accepted), bool(set(names[:3]) & accepted)


def _summary(name: str, runs: list[Scored]) -> str:
    marks = [_marks(r) for r in runs]
    parts = [
        f"{word} {share(sum(m[at] for m in marks), len(marks))}" for at, word in enumerate(("detected", "strict", "accepted", "top-3"))
    ]
    return f"{name}: " + "; ".join(parts)


def _rival(name: str, harmful: list[Scored], healthy: list[Scored]) -> str:
    found, named = sum(bool(r.rivals[name]) for r in harmful), 0
    for r in harmful:
        fault = BY_NAME[r.case.fault]
        named += bool(set(r.rivals[name][:1]) & (fault.accepted | {fault.name}))
    alarms = sum(bool(r.rivals[name]) for r in healthy)
    return f"{name}: detected {share(found, len(harmful))}; accepted {share(named, len(harmful))}; alarms on healthy {share(alarms, len(healthy))}"


def _by_fault(harmful: list[Scored], benign: list[Scored]) -> str:
    rows: dict[str, list[tuple[bool, bool, bool, bool]]] = defaultdict(list)
    for r in harmful:
        rows[r.case.fault].append(_marks(r))
    harmless = Counter(r.case.fault for r in benign)
    lines = ["| planted | harmful | detected | strict | accepted | top-3 | benign |", "|---|---|---|---|---|---|---|"]
    for fault in FAULTS:
        marks = rows[fault.name]
        lines.append(
            f"| {fault.name} | {len(marks)} | "
            + " | ".join(str(sum(m[at] for m in marks)) for at in range(4))
            + f" | {harmless[fault.name]} |"
        )
    return "\n".join(lines)


def _listed(runs: list[Scored]) -> list[str]:
    lines: list[str] = []
    for r in runs:
        figures = f"accuracy {r.accuracy:.3f}, twin {r.twin:.3f}"
        if r.case.fault == "healthy" and r.names and r.accuracy < LEARNED:
            lines.append(f"NOT HEALTHY {r.case.key}: {_said(r)}; {figures}")
        elif r.case.fault == "healthy" and r.names:
            lines.append(f"FALSE ALARM {r.case.key}: {_said(r)}; {figures}")
        elif r.harmful and not r.names:
            lines.append(f"MISSED {r.case.key}: {_said(r)}; {figures}")
        elif r.harmful and not _marks(r)[2]:
            lines.append(f"OTHER NAME {r.case.key}: {_said(r)}; {figures}")
    return sorted(lines)


def _said(r: Scored) -> str:
    return ", ".join(f"{f.name}({f.severity[0]}{'<' + f.cause if f.cause else ''})" for f in r.verdict.findings) or "nothing"


def as_json(runs: list[Scored]) -> list[dict[str, Any]]:
    """One line a run, for the results folder."""
    return [
        {"key": r.case.key, "accuracy": r.accuracy, "twin": r.twin, "harmful": r.harmful, "said": r.names, "verdict": r.verdict.verdict}
        for r in runs
    ]
