"""The real tools on the diagnosis benchmark's programs: torchmortem, gradsnitch and trainpulse, each attached as its documentation shows.

    python benchmarks/diagnose_tools.py run --work DIR --to DIR2 [--python ENVIRONMENT]     resumable; one process, one thread
    python benchmarks/diagnose_tools.py score --work DIR --to DIR2                          the table, beside ours on the same programs

DIR is a finished folder of `diagnose.py run`: who was harmed is known from there, and our own verdicts come from its records. The sample is the first
`--harmful` harmful and the first `--healthy` healthy programs of the plan's fixed shuffled order, so no tool's answer has a say in it. Each is trained again
with a tool attached, in an environment of its own where convscope is not installed; a line of DIR2/tools.jsonl says what it found.

What counts was written down before any tool was run. A finding counts from a warning on (torchmortem's notes of severity INFO do not); the gravest comes
first, in the tool's own order otherwise. `MEANINGS` gives each finding all names of the catalogue that its own text could mean, and the planted name is
"first" when it is among those of the first finding. A tool that raises an error on a program is silent there. trainpulse's rule on slow steps is left
out (it says nothing about learning), the gradient's norm is handed to the tools that ask for it, and so is the validation loss after each epoch.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import diagnose_programs as programs
import torch
from diagnose_programs import Program, Settings
from torch import Tensor, nn
from torch.optim import Optimizer

if TYPE_CHECKING:
    from diagnose_score import Marks, Measured, Scored

ERRORS = "programs on which it raised an error"
TOOLS = ("torchmortem", "gradsnitch", "trainpulse")
TOGETHER = (
    ("torchmortem",),
    ("gradsnitch", "trainpulse"),
)  # these two only read the loss, the gradients and the weights: one training serves both
NOTHING_LEARNED = frozenset(
    {"lr_too_low", "bad_initial_scale", "dead_units", "symmetric_init", "mostly_frozen", "params_not_in_optimizer", "update_no_op"}
    | {"labels_look_random", "label_noise"}
)
STANDING_STILL = frozenset({"lr_too_low", "mostly_frozen", "params_not_in_optimizer", "update_no_op", "lr_schedule_collapsed"})
UNSTABLE = frozenset({"lr_too_high", "exploding_gradients"})
MEANINGS: dict[str, frozenset[str]] = {  # beginning of a finding's title or code, and every name that it could mean by its own text
    "torchmortem: Vanishing gradients": frozenset({"vanishing_signal"}),
    "torchmortem: Exploding gradients": UNSTABLE,
    "torchmortem: Gradient stalling": frozenset({"vanishing_signal", "dead_units", "saturated_units", "update_no_op", "mostly_frozen"}),
    "torchmortem: Dead units": frozenset({"dead_units"}),
    "torchmortem: Activation saturation": frozenset({"saturated_units"}),
    "torchmortem: Update ratio too low": STANDING_STILL | {"vanishing_signal"},
    "torchmortem: Update ratio too high": frozenset({"lr_too_high"}),
    "torchmortem: Training divergence": UNSTABLE | {"non_finite", "activation_collapse_cycles"},
    "torchmortem: Loss plateau": STANDING_STILL | NOTHING_LEARNED,
    "torchmortem: Rank collapse": frozenset({"over_regularised", "lr_too_high", "activation_collapse_cycles", "symmetric_init"}),
    "torchmortem: Weight norm explosion": UNSTABLE,
    "torchmortem: Stagnant weight norms": STANDING_STILL | {"vanishing_signal"},
    "torchmortem: Inter-layer weight norm": frozenset({"bad_initial_scale"}),
    "torchmortem: High gradient noise": frozenset({"label_noise", "labels_look_random", "batchnorm_unreliable"}),
    "gradsnitch: GS001": frozenset({"non_finite", "lr_too_high"}),
    "gradsnitch: GS002": frozenset({"exploding_gradients", "lr_too_high", "non_finite"}),
    "gradsnitch: GS003": UNSTABLE | {"activation_collapse_cycles"},
    "gradsnitch: GS004": frozenset({"overfitting"}),
    "gradsnitch: GS005": NOTHING_LEARNED,
    "gradsnitch: GS006": UNSTABLE | {"lr_schedule_collapsed", "activation_collapse_cycles"},
    "gradsnitch: GS007": frozenset({"vanishing_signal", "dead_units", "saturated_units", "bad_initial_scale", "lr_too_low"}),
    "gradsnitch: GS008 LR too high": frozenset({"lr_too_high"}),
    "gradsnitch: GS008 LR too low": STANDING_STILL,
    "gradsnitch: GS009": UNSTABLE,
    "gradsnitch: GS010": frozenset({"lr_schedule_collapsed"}),
    "trainpulse: nan_detector": frozenset({"non_finite"}),
    "trainpulse: loss_spike": UNSTABLE | {"activation_collapse_cycles"},
    "trainpulse: gradient Gradient explosion": frozenset({"exploding_gradients", "lr_too_high"}),
    "trainpulse: gradient Vanishing gradient": frozenset({"vanishing_signal"}),
    "trainpulse: learning_rate": frozenset({"lr_schedule_collapsed"}),
    "trainpulse: plateau": STANDING_STILL | NOTHING_LEARNED,
}

# ---------------------------------------------------------------- in the tools' environment

Said = list[tuple[str, str]]  # (severity: "warning" or "problem", title), the gravest first


class Attached:
    """A tool beside a loop. The calls are the lines that its documentation asks a user to write, each at its place in the loop."""

    def start(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Before the first step."""

    def before_step(self, step: int, loss: float) -> None:
        """After backward, before optimizer.step()."""

    def after_step(self, step: int, loss: float) -> None:
        """After optimizer.step()."""

    def validated(self, loss: float) -> None:
        """After an epoch's validation."""

    def end(self) -> Said:
        """After the last step: what it found."""
        raise NotImplementedError


class Torchmortem(Attached):
    """`with Autopsy(model, optimizer=optimizer)` at its default sampling, `autopsy.step(loss=...)` after each step."""

    def start(self, model: nn.Module, optimizer: Optimizer) -> None:
        from torchmortem import Autopsy

        self.autopsy = Autopsy(model, optimizer=optimizer)
        self.autopsy.attach()

    def after_step(self, step: int, loss: float) -> None:
        self.autopsy.step(loss=loss)

    def end(self) -> Said:
        self.autopsy.detach()
        report = self.autopsy.get_report()
        return _gravest_first((int(f.severity), f.title) for f in report.findings if int(f.severity) > 0)


class Gradsnitch(Attached):
    """`gradsnitch.watch(model, optimizer)`, `log(step, loss, val_loss=...)` between backward and step, `report()` at the end."""

    def start(self, model: nn.Module, optimizer: Optimizer) -> None:
        import gradsnitch

        self.monitor = gradsnitch.watch(model, optimizer)

    def before_step(self, step: int, loss: float) -> None:
        self.monitor.log(step, loss)

    def validated(self, loss: float) -> None:
        self.monitor.rows[-1]["val_loss"] = loss  # the row of the epoch's last step, as `log(..., val_loss=...)` would have written it

    def end(self) -> Said:
        return _gravest_first((2 if f.severity == "error" else 1, f"{f.code} {f.name}") for f in self.monitor.report())


class Trainpulse(Attached):
    """`Monitor()`, with the loss, the gradient's norm and the learning rate logged at each step."""

    def start(self, model: nn.Module, optimizer: Optimizer) -> None:
        from trainpulse import Monitor

        self.monitor, self.model, self.optimizer, self.norm = Monitor(), model, optimizer, 0.0

    def before_step(self, step: int, loss: float) -> None:
        gradients = [p.grad.norm() for p in self.model.parameters() if p.grad is not None]
        self.norm = float(torch.stack(gradients).norm()) if gradients else 0.0

    def after_step(self, step: int, loss: float) -> None:
        self.monitor.log("loss", step, loss)
        self.monitor.log("grad_norm", step, self.norm)
        self.monitor.log("learning_rate", step, self.optimizer.param_groups[0]["lr"])

    def end(self) -> Said:
        alerts = self.monitor.report().alerts
        return _gravest_first(
            (2 if a.severity.value == "critical" else 1, f"{a.detector} {a.message}") for a in alerts if a.severity.value != "info"
        )


def _gravest_first(findings: Iterable[tuple[int, str]]) -> Said:
    """Each title once, the gravest first and otherwise in the tool's own order."""
    once: dict[str, tuple[str, str]] = {}
    for grave, title in sorted(findings, key=lambda item: -item[0]):
        once.setdefault(_meaning(title), ("problem" if grave > 1 else "warning", title))
    return list(once.values())


def _meaning(title: str) -> str:
    """The beginning of a title without its numbers and layers: findings that differ in these alone count once."""
    return next((key for key in MEANINGS if title.startswith(key.partition(": ")[2])), title)


ATTACHED: dict[str, Callable[[], Attached]] = {"torchmortem": Torchmortem, "gradsnitch": Gradsnitch, "trainpulse": Trainpulse}


def attach(tools: Sequence[Attached], program: Program) -> Callable[[], None]:
    """Put the tools' lines into the loop by wrapping the functions that the loop is made of; returns what takes them out again."""
    real = {name: getattr(programs, name) for name in ("make_optimizer", "_forward_backward", "_step", "validate")}
    state: dict[str, Any] = {"step": 0, "loss": 0.0}

    def make_optimizer(s: Settings, parameters: list[nn.Parameter]) -> Optimizer:
        optimizer: Optimizer = real["make_optimizer"](s, parameters)
        for tool in tools:
            tool.start(program.model, optimizer)
        return optimizer

    def forward_backward(s: Settings, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = real["_forward_backward"](s, model, images, labels)
        state["loss"] = float(loss)
        return loss

    def step(s: Settings, model: nn.Module, optimizer: Optimizer) -> None:
        for tool in tools:
            tool.before_step(state["step"], state["loss"])
        real["_step"](s, model, optimizer)
        for tool in tools:
            tool.after_step(state["step"], state["loss"])
        state["step"] += 1

    def validate(validated: Program) -> tuple[float, float]:
        loss, right = real["validate"](validated)
        for tool in tools:
            tool.validated(loss)
        return loss, right

    for name, wrapped in zip(real, (make_optimizer, forward_backward, step, validate), strict=True):
        setattr(programs, name, wrapped)

    def take_out() -> None:
        for name, function in real.items():
            setattr(programs, name, function)

    return take_out


def one_run(names: Sequence[str], settings: Settings) -> list[dict[str, Any]]:
    """Train one program with tools attached, a line for each; an error of a tool is kept, and it is silent on this program."""
    started = time.perf_counter()
    program = programs.build(settings)
    torch.manual_seed(settings.seed + 1)
    tools = {name: ATTACHED[name]() for name in names}
    take_out = attach(tuple(tools.values()), program)
    try:
        programs.train(program)
        error = None
    except Exception as raised:  # a tool that raises in a user's loop says nothing about the training
        error = raised
    finally:
        take_out()
    if error is not None and len(names) > 1:  # one of them did
        return [line for name in names for line in one_run((name,), settings)]
    answers = {name: _answer(tool.end) if error is None else _failed(error) for name, tool in tools.items()}
    both = {"accuracy": programs.accuracy(program), "seconds": round(time.perf_counter() - started, 2)}
    return [{"tool": name, **answer, **both} for name, answer in answers.items()]


def _answer(end: Callable[[], Said]) -> dict[str, Any]:
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # gradsnitch prints its report
            return {"said": end(), "error": None}
    except Exception as raised:
        return _failed(raised)


def _failed(raised: Exception) -> dict[str, Any]:
    return {"said": [], "error": f"{type(raised).__name__}: {raised}"[:300]}


def measure(tasks: Path, out: Path, minutes: float) -> None:
    """In the tools' environment: what is missing of every program with every tool."""
    torch.set_num_threads(1)
    ends = time.monotonic() + 60 * minutes
    done = {(line["id"], line["tool"]) for line in lines_of(out)}
    versions = {name: version(name) for name in ("torch", *TOOLS)}
    for task in json.loads(tasks.read_text(encoding="utf-8")):
        for group in TOGETHER:
            names = [name for name in group if (task["id"], name) not in done]
            if not names or time.monotonic() > ends:
                continue
            lines = [
                {"id": task["id"], "key": task["key"], **line, "versions": versions}
                for line in one_run(names, Settings(**task["settings"]))
            ]
            with out.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)


# ---------------------------------------------------------------- in ours


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of JSON objects, none when it is not there."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def sample(work: Path, repeats: int, first_seed: int, harmful: int, healthy: int) -> list[Measured]:
    """The first harmful and the first healthy programs of the plan, in its order; no verdict has a say in it."""
    from diagnose_score import measured

    runs = measured(work, repeats, first_seed)
    chosen = {r.case.key for r in [r for r in runs if r.harmful][:harmful] + [r for r in runs if r.healthy][:healthy]}
    return [r for r in runs if r.case.key in chosen]


def run(chosen: Sequence[Measured], to: Path, python: Path, minutes: float) -> None:
    """Write down what is to be run, and run it in the tools' environment."""
    from diagnose import identity

    to.mkdir(parents=True, exist_ok=True)
    tasks = [{"id": identity(r.case.settings), "key": r.case.key, "settings": dataclasses.asdict(r.case.settings)} for r in chosen]
    (to / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")
    command = [str(python), __file__, "measure", "--to", str(to), "--minutes", str(minutes)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"})


def names_of(tool: str, said: Sequence[Sequence[str]]) -> list[frozenset[str]]:
    """The names that each finding of a tool could mean; an alarm without a counterpart in the catalogue means none."""
    return [next((meant for key, meant in MEANINGS.items() if f"{tool}: {title}".startswith(key)), frozenset()) for _, title in said]


def marks(r: Scored, meant: Sequence[frozenset[str]]) -> Marks:
    """Detected, strict first name, accepted first name, accepted among the first three: as ours are marked, with every name that may be meant."""
    from diagnose_score import BY_NAME

    fault = BY_NAME[r.case.fault]
    accepted = fault.accepted | {fault.name}
    first = meant[0] if meant else frozenset()
    return bool(meant), fault.name in first, bool(first & accepted), any(bool(names & accepted) for names in meant[:3])


def table(chosen: Sequence[Scored], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for ours and one for each tool, on the programs that were run with all of them."""
    from diagnose import identity

    lines = {(line["id"], line["tool"]): line for line in found}
    complete = [r for r in chosen if all((identity(r.case.settings), tool) in lines for tool in TOOLS)]
    harmful, healthy = [r for r in complete if r.harmful], [r for r in complete if r.healthy]
    ours = [r.verdict.verdict for r in healthy]
    rows = [_row("convscope", [r.marks() for r in harmful], [[word] if word in ("warning", "problem") else [] for word in ours], 0)]
    for tool in TOOLS:
        answer = {r.case.key: lines[identity(r.case.settings), tool] for r in complete}
        judged = [marks(r, names_of(tool, answer[r.case.key]["said"])) for r in harmful]
        words = [[severity for severity, _ in answer[r.case.key]["said"]] for r in healthy]
        rows.append(_row(tool, judged, words, sum(bool(line["error"]) for line in answer.values())))
    return rows


def _row(name: str, judged: Sequence[Marks], words: Sequence[Sequence[str]], errors: int) -> dict[str, Any]:
    heads = ("detected", "planted name first", "accepted name first", "accepted among three")
    counted = {head: (sum(m[at] for m in judged), len(judged)) for at, head in enumerate(heads)}
    counted["problem on healthy"] = (sum("problem" in said for said in words), len(words))
    counted["warning or worse on healthy"] = (sum(bool(said) for said in words), len(words))
    return {"tool": name, **{head: _with_interval(*pair) for head, pair in counted.items()}, ERRORS: errors}


def _with_interval(hits: int, count: int) -> dict[str, Any]:
    from diagnose_score import wilson

    return {
        "hits": hits,
        "n": count,
        "share": round(hits / max(count, 1), 4),
        "wilson_95": [round(bound, 4) for bound in wilson(hits, count)],
    }


def report(chosen: Sequence[Scored], to: Path, settings: dict[str, Any]) -> str:
    """Keep the result, and return its table as text."""
    from common import keep
    from diagnose_score import share

    found = lines_of(to / "tools.jsonl")
    rows = table(chosen, found)
    heads = [head for head, cell in rows[0].items() if isinstance(cell, dict)]
    raised = [{"tool": line["tool"], "program": line["key"], "error": line["error"]} for line in found if line["error"]]
    keep("diagnose_tools", {"versions": found[-1]["versions"], "sample": settings, "rows": rows, "errors": raised})
    body = [[str(row["tool"]), *(share(row[head]["hits"], row[head]["n"]) for head in heads), str(row[ERRORS])] for row in rows]
    header = ["", *heads, ERRORS]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *body))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "score", "measure"], help="measure is what `run` starts in the tools' environment")
    parser.add_argument("--work", type=Path, help="folder of diagnose.py's runs")
    parser.add_argument("--to", type=Path, required=True, help="folder for what the tools say, outside of the repository")
    parser.add_argument("--python", type=Path, help="interpreter of an environment that has the tools; made and deleted when left out")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=2)
    parser.add_argument("--harmful", type=int, default=60)
    parser.add_argument("--healthy", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=60)
    arguments = parser.parse_args()
    if arguments.what == "measure":
        measure(arguments.to / "tasks.json", arguments.to / "tools.jsonl", arguments.minutes)
        return
    chosen = sample(arguments.work, arguments.repeats, arguments.first_seed, arguments.harmful, arguments.healthy)
    if arguments.what == "score":
        from diagnose_score import judged

        settings = {name: getattr(arguments, name) for name in ("repeats", "first_seed", "harmful", "healthy")}
        print(report(judged(arguments.work, chosen, workers=1), arguments.to, settings))
        return
    from common import make_environment

    with tempfile.TemporaryDirectory() as folder:
        needed = [f"torch=={torch.__version__.split('+')[0]}", "numpy", *TOOLS]
        run(chosen, arguments.to, arguments.python or make_environment(Path(folder, "environment"), needed), arguments.minutes)


if __name__ == "__main__":
    main()
