"""Scoring of the diagnosis benchmark: who was harmed (by twins), who was found, under which name, how soon, and false alarms, with Wilson intervals.

Each run's records are read once and judged in a process of its own: the verdict, the verdicts with thresholds halved and doubled, the rivals' answers,
and the step at which the first warning would have been said live. Judgements stay beside the records (DIR/judged) while the rules stay the same.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnose_faults import ARCHITECTURES, FAULTS, Case, plan
from diagnose_rivals import RIVALS

import convscope.diagnose
from convscope.diagnose import diagnose
from convscope.diagnose.view import RunView
from convscope.records import Finding, Verdict, from_json, to_json
from diagnose import Records, finished, identity, kept

LEARNED = 0.5  # accuracy, five times that of guessing, that a control must reach to count as healthy; so that what did not learn is not called healthy
HARM = 0.05  # points of accuracy below the twin
SCALES = (0.5, 1.0, 2.0)
LOOKS = (*range(1, 13), *range(15, 201, 5), *range(250, 501, 50), 600, 700)  # steps at which a live diagnosis asks
EXACT_DELAY, STATISTICAL_DELAY = (
    5,
    200,
)  # steps, diagnoses.md; a live look comes every few steps, so an exact finding may be said up to one look later
BY_NAME = {fault.name: fault for fault in FAULTS}
Marks = tuple[bool, bool, bool, bool]


@dataclass(frozen=True)
class Judged:
    """What was said about one run's records.

    Attributes:
        verdicts: by factor on the thresholds.
        said_at: steps seen when a live diagnosis first said the final first name; None when it never did before the end.
        rivals: each rival's names, its own first answer first.
        spoilt_at: the first step with a loss or an output that was not finite.
    """

    verdicts: dict[str, Verdict]
    said_at: int | None
    rivals: dict[str, list[str]]
    spoilt_at: int | None = None


@dataclass(frozen=True)
class Measured:
    """One run: what was planted, and what it cost."""

    case: Case
    accuracy: float
    twin: float

    @property
    def harmful(self) -> bool:
        """Whether the plant did harm."""
        return self.case.fault != "healthy" and self.twin - self.accuracy >= HARM

    @property
    def healthy(self) -> bool:
        """Whether it is a control that learned (or was too short to)."""
        return self.case.fault == "healthy" and (self.accuracy >= LEARNED or self.case.strength == "smoke")


@dataclass(frozen=True)
class Scored(Measured):
    """One run, and what was said about it."""

    judged: Judged

    @property
    def verdict(self) -> Verdict:
        """With the thresholds as they are."""
        return self.judged.verdicts["1"]

    @property
    def rivals(self) -> dict[str, list[str]]:
        """The rivals' answers."""
        return self.judged.rivals

    def names(self, scale: float = 1.0) -> list[str]:
        """Findings of at least a warning, in their order."""
        return [finding.name for finding in self.judged.verdicts[f"{scale:g}"].findings if finding.severity != "note"]

    def marks(self, names: Sequence[str] | None = None) -> Marks:
        """Detected, strict first name, accepted first name, accepted among the first three."""
        fault, names = BY_NAME[self.case.fault], self.names() if names is None else names
        accepted = fault.accepted | {fault.name}
        return bool(names), list(names[:1]) == [fault.name], bool(set(names[:1]) & accepted), bool(set(names[:3]) & accepted)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % Wilson interval of a share."""
    if not count:
        return (0.0, 1.0)
    z, p = 1.96, hits / count
    middle, half = p + z * z / (2 * count), z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return (max(0.0, (middle - half) / (1 + z * z / count)), min(1.0, (middle + half) / (1 + z * z / count)))


def share(hits: int, count: int) -> str:
    """Hits, count, percent and interval as text."""
    low, high = wilson(hits, count)
    return f"{hits}/{count} = {100 * hits / max(count, 1):.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


# ---------------------------------------------------------------- judging


def judge(records: Records) -> Judged:
    """Ask the rules and the rivals about one run's records."""
    verdicts = {f"{scale:g}": diagnose(*records, scale=scale) for scale in SCALES}
    view = RunView.of(*records)
    return Judged(verdicts, _said_at(records, verdicts["1"]), {name: rival(view) for name, rival in RIVALS.items()}, _spoilt_at(records))


def _said_at(records: Records, final: Verdict) -> int | None:
    """Steps seen when a live look first gives the name that is first at the end, as a warning or a problem."""
    name = next((f.name for f in final.findings if f.severity != "note"), None)
    if name is None:
        return None
    looks = [look for look in LOOKS if look < final.steps]
    for look in looks:
        steps, layers, observations = records
        seen = diagnose(
            [s for s in steps if s.last_step < look], [r for r in layers if r.last_step < look], [o for o in observations if o.step < look]
        )
        if any(f.name == name and f.severity != "note" for f in seen.findings):
            return look
    return final.steps


def _spoilt_at(records: Records) -> int | None:
    steps, layers, _ = records
    spoilt = [step.first_step for step in steps if not math.isfinite(step.loss.last)]
    return min(spoilt + [record.first_step for record in layers if record.non_finite], default=None)


def _rules() -> str:
    """A short name for the rules and rivals as they are now."""
    folders = [Path(convscope.diagnose.__file__).parent, Path(__file__).parent]
    sources = [*folders[0].rglob("*.py"), folders[1] / "diagnose_rivals.py", folders[1] / "diagnose_score.py"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources))).hexdigest()[:12]


def _judge_file(task: tuple[str, str]) -> None:
    source, target = map(Path, task)
    target.write_text(json.dumps(to_json(judge(kept(source)))))


def measured(work: Path, repeats: int, first_seed: int) -> list[Measured]:
    """Every finished run with a finished twin, in the plan's order."""
    done, runs = finished(work), []
    for case in plan(repeats, first_seed):
        line = done.get((identity(case.settings), True))
        twin = (done.get((identity(case.twin), False)) or done.get((identity(case.twin), True))) if case.twin else line
        if line is not None and twin is not None and "accuracy" in line and "accuracy" in twin:
            runs.append(Measured(case, line["accuracy"], twin["accuracy"]))
    return runs


def records_of(work: Path, run: Measured) -> Path:
    """Where the records of a watched run are."""
    return work / "records" / f"{identity(run.case.settings)}.json.gz"


def scored(work: Path, repeats: int, first_seed: int, workers: int = 2) -> list[Scored]:
    """Every finished run with a finished twin, judged from its records by the rules as they are."""
    return judged(work, measured(work, repeats, first_seed), workers)


def judged(work: Path, runs: Sequence[Measured], workers: int = 2) -> list[Scored]:
    """What the rules as they are say about runs; those that they have judged before are not asked for again."""
    folder = work / "judged" / _rules()
    folder.mkdir(parents=True, exist_ok=True)
    places = [(records_of(work, run), folder / f"{identity(run.case.settings)}.json") for run in runs]
    tasks = [(str(source), str(target)) for source, target in places]
    todo = [task for task in dict.fromkeys(tasks) if not Path(task[1]).exists()]
    if todo:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            list(pool.imap_unordered(_judge_file, todo, chunksize=4))
    return [
        Scored(run.case, run.accuracy, run.twin, from_json(Judged, json.loads(target.read_text())))
        for run, (_, target) in zip(runs, places, strict=True)
    ]


# ---------------------------------------------------------------- the table


def report(work: Path, repeats: int, first_seed: int, *, full: bool) -> str:
    """The whole table as text."""
    runs = scored(work, repeats, first_seed)
    harmful, healthy = [r for r in runs if r.harmful], [r for r in runs if r.healthy]
    benign = [r for r in runs if r.case.fault != "healthy" and not r.harmful]
    strays = [r for r in runs if r.case.fault == "healthy" and not r.healthy]
    parts = {"all harmful runs": harmful}
    parts |= {f"{strength}": [r for r in harmful if r.case.strength == strength] for strength in ("blatant", "medium", "subtle")}
    parts |= {
        f"{word} faults": [r for r in harmful if BY_NAME[r.case.fault].exact is exact]
        for word, exact in (("exact", True), ("statistical", False))
    }
    lines = [f"{len(runs)} runs: {len(harmful)} harmful, {len(healthy)} healthy, {len(benign)} plants that did no harm, "]
    lines[0] += f"{len(strays)} controls that did not learn (accuracy below {LEARNED}; not counted as healthy)"
    lines += ["", _table(("runs", "detected", "planted name first", "accepted name first", "accepted among three"), _rows(parts, harmful))]
    lines += [
        "",
        _table(("on healthy runs", "problem", "warning or worse"), [["convscope", *_alarms(healthy, lambda r: r.verdict.verdict)]]),
    ]
    lines += ["", "Thresholds halved and doubled:", "", _scaled(harmful, healthy)]
    lines += ["", "By architecture (no rule has a parameter for one; the spread says how far the figures depend on which are tried):", ""]
    lines += [_by_group(harmful, healthy, ARCHITECTURES, lambda r: r.case.settings.arch)]
    lines += ["", "Published rules, written again, on the same records:", "", _rivals(harmful, healthy)]
    lines += ["", _delays(harmful)]
    lines += [
        "",
        f"Something was said in {sum(bool(r.names()) for r in benign)} of the {len(benign)} plants that did no harm.",
        "",
        _by_fault(harmful, benign),
    ]
    return "\n".join([*lines, "", *(_listed(runs) if full else [])])


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows))


def _shares(marks: Sequence[Marks]) -> list[str]:
    return [share(sum(m[at] for m in marks), len(marks)) for at in range(4)]


def _rows(parts: dict[str, list[Scored]], _: list[Scored]) -> list[list[str]]:
    return [[name, *_shares([r.marks() for r in runs])] for name, runs in parts.items()]


def _alarms(healthy: list[Scored], word: Callable[[Scored], str]) -> list[str]:
    words = [word(r) for r in healthy]
    return [share(sum(w in kinds for w in words), len(words)) for kinds in (("problem",), ("problem", "warning"))]


def _scaled(harmful: list[Scored], healthy: list[Scored]) -> str:
    rows = []
    for scale in SCALES:
        alarms = _alarms(healthy, lambda r, scale=scale: r.judged.verdicts[f"{scale:g}"].verdict)  # type: ignore[misc]
        rows.append([f"x {scale:g}", *_shares([r.marks(r.names(scale)) for r in harmful])[:3], *alarms])
    return _table(("thresholds", "detected", "planted name first", "accepted", "problem on healthy", "warning on healthy"), rows)


def _by_group(harmful: list[Scored], healthy: list[Scored], groups: Sequence[str], of: Callable[[Scored], str]) -> str:
    rows = []
    for group in groups:
        mine, fine = [r for r in harmful if of(r) == group], [r for r in healthy if of(r) == group]
        rows.append([group, *_shares([r.marks() for r in mine])[:3], _alarms(fine, lambda r: r.verdict.verdict)[1]])
    return _table(("", "detected", "planted name first", "accepted", "warning on healthy"), rows)


def _rivals(harmful: list[Scored], healthy: list[Scored]) -> str:
    rows = []
    for name in RIVALS:
        alarms = share(sum(bool(r.rivals[name]) for r in healthy), len(healthy))
        rows.append([name, *_shares([r.marks(r.rivals[name]) for r in harmful])[:3], alarms])
    return _table(("rules", "detected", "planted name first", "accepted", "alarms on healthy"), rows)


def _fault_began(r: Scored) -> int:
    """The first step at which the planted fault was there: 0, except where the plant says otherwise."""
    kind, _, at = r.case.settings.schedule.partition(":")
    if kind in ("zero", "negative"):
        return int(at)
    if r.case.fault == "non_finite":
        return r.judged.spoilt_at or 0
    evaluated = r.case.settings.modes in ("forgot_train", "valid_in_train") or r.case.settings.leak > 0
    return r.case.settings.train_images // r.case.settings.batch_size if evaluated else 0


def _in_time(r: Scored) -> int:
    """Steps within which a fault is to be named. Rows 21 and 23 of the catalogue are exact and statistical, by what was planted."""
    gradual = r.case.settings.schedule.startswith(("decay", "zero")) or r.case.settings.order in ("sorted", "chunks")
    return EXACT_DELAY if BY_NAME[r.case.fault].exact and not gradual else STATISTICAL_DELAY


def _delay(r: Scored) -> int:
    """Steps from the fault to the live look that named it."""
    return max(0, (r.judged.said_at or 0) - 1 - _fault_began(r))


def _delays(harmful: list[Scored]) -> str:
    rows, late = [], []
    for fault in FAULTS:
        mine = [r for r in harmful if r.case.fault == fault.name and r.judged.said_at is not None]
        delays = sorted(_delay(r) for r in mine)
        timely = [_delay(r) <= _in_time(r) for r in mine]
        if delays:
            rows.append(
                [
                    fault.name,
                    str(len(delays)),
                    f"{statistics.median(delays):g}",
                    str(delays[-1]),
                    share(sum(timely), len(timely)),
                ]
            )
            late += timely
    head = "Delay: steps from the fault to the first live look that said the final name (one after each of the first 12 steps, then every fifth); in time "
    head += f"(exact names within {EXACT_DELAY} steps, statistical ones within {STATISTICAL_DELAY}): {share(sum(late), len(late))}"
    return head + "\n\n" + _table(("planted", "runs", "median", "worst", "in time"), rows)


def _by_fault(harmful: list[Scored], benign: list[Scored]) -> str:
    rows: dict[str, list[Marks]] = defaultdict(list)
    for r in harmful:
        rows[r.case.fault].append(r.marks())
    harmless = Counter(r.case.fault for r in benign)
    cells = [
        [f.name, str(len(rows[f.name])), *(str(sum(m[at] for m in rows[f.name])) for at in range(4)), str(harmless[f.name])] for f in FAULTS
    ]
    return _table(("planted", "harmful", "detected", "planted name first", "accepted", "among three", "did no harm"), cells)


def _listed(runs: list[Scored]) -> list[str]:
    lines: list[str] = []
    for r in runs:
        word = ""
        if r.case.fault == "healthy" and r.names():
            word = "FALSE ALARM" if r.healthy else "NOT HEALTHY"
        elif r.harmful and not r.names():
            word = "MISSED"
        elif r.harmful and not r.marks()[2]:
            word = "OTHER NAME"
        if word:
            lines.append(f"{word} {r.case.key}: {_said(r.verdict.findings)}; accuracy {r.accuracy:.3f}, twin {r.twin:.3f}")
    return sorted(lines)


def _said(findings: Iterable[Finding]) -> str:
    return ", ".join(f"{f.name}({f.severity[0]}{'<' + f.cause if f.cause else ''})" for f in findings) or "nothing"


def as_json(runs: list[Scored]) -> list[dict[str, Any]]:
    """One line a run, for the results folder."""
    return [
        {"key": r.case.key, "accuracy": r.accuracy, "twin": r.twin, "harmful": r.harmful, "said": r.names(), "verdict": r.verdict.verdict}
        for r in runs
    ]
