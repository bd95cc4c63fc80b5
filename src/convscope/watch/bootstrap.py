"""Watching a script that knows nothing of it: `convscope watch -- python script.py ARGS`.

`run_watched` starts the command with a folder on PYTHONPATH whose sitecustomize.py calls `attach` as soon as the script imports torch. `attach` finds
the network by itself: the outermost module whose parameters an optimiser holds, at its first training pass. The script's output and exit code are
passed through; everything of ours goes to stderr. A script that trains one network after another (a teacher and its student, a network for each
fold) gets a run for each, and one verdict on all. This is the one file that replaces functions of another library:
`torch.optim.Optimizer.__init__`, because nothing else tells which modules are trained before the first step, and `torch.jit.script`, which would try to
compile our hooks.

Several processes: `convscope watch -- torchrun --nproc_per_node 2 script.py` and `torchrun --nproc_per_node 2 -m convscope watch -- python script.py`
both write one run with the statistics of all ranks (ranks.py). Processes that the script itself starts (loader workers, multiprocessing.spawn)
are left alone.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope.errors import ConvscopeError, UsageError
from convscope.records import NotChecked, Verdict
from convscope.rundir import RunDir, check_name, check_out, create_run, write_text
from convscope.runlog import RunLog
from convscope.version import VERSION

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.hooks import RemovableHandle

    from convscope.watch.by_hand import StepsByHand

SITE = Path(__file__).with_name("site")
SETTINGS = "CONVSCOPE_WATCH"  # environment variable with what the script's process must know, as JSON
SEVERITIES = ("note", "warning", "problem")
FAILED_ON_FINDING = 3  # exit code of --fail-on
HAND_PASSES = 4  # of a network, by which its weights have moved when a loop without an optimiser trains it
VAIN_PASSES = 3  # of a network that is in no optimiser, before the one that is was run
MOST_SEARCHES = 3  # for the network around a layer that is called by itself; each walks through all objects
NO_TRAINING = (
    "no network whose parameters an optimiser holds was run with gradients. Passes inside a compiled function cannot be seen, and processes that the "
    "script starts are left alone."
)
NO_TORCH = "the command imported no PyTorch, or its Python was told to ignore PYTHONPATH (-E, -I or -S)."
MOST_RUNS = 10  # trainings one after another that are watched in one script; a search over hundreds of settings would bury its reader

# ---------------------------------------------------------------- in the process that the user started


def run_watched(
    command: Sequence[str],
    *,
    every: int = 1,
    out: str | Path = "runs",
    name: str | None = None,
    json_file: str | Path | None = None,
    fail_on: str | None = None,
) -> int:
    """Run a command with the watcher attached to the PyTorch script that it starts.

    Args:
        command: the program and its arguments, such as ["python", "train.py", "--lr", "0.1"]; a script ending in .py runs in this Python.
        every: layers are recorded at one step in so many.
        out: the folder that holds runs.
        name: the run's name; None takes the script's.
        json_file: where to write the verdict as a JSON object.
        fail_on: "note", "warning" or "problem": the exit code is 3 when a finding is at least that severe.

    Returns:
        The command's own exit code, as a shell gives it, or 3.

    Raises:
        UsageError: no command, or one that cannot be started; a severity that does not exist; a name that cannot name a folder; or a place where
            no JSON file can be.
        RunError: the folder of runs or the JSON file cannot be written.
    """
    if not command:
        raise UsageError("There is no command to watch. Put it behind two dashes: convscope watch -- python script.py ARGS")
    if fail_on is not None and fail_on not in SEVERITIES:
        raise UsageError(f"--fail-on {fail_on!r} is no severity. Use one of: {', '.join(SEVERITIES)}.")
    if every < 1:
        raise UsageError(f"--every {every}: layers are recorded at one step in so many, a whole number from 1 up.")
    check_name(name)
    check_out(Path(out).resolve())
    if json_file is not None:
        _make_room(Path(json_file))
    command = [sys.executable, *command] if command[0].endswith(".py") else list(command)
    with tempfile.TemporaryDirectory(prefix="convscope-") as folder:
        settings = {"every": every, "out": str(Path(out).resolve()), "name": name, "folder": folder, "command": command}
        path = os.pathsep.join([str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])])
        code = _run(command, {**os.environ, SETTINGS: json.dumps(settings), "PYTHONPATH": path})
        if _rank() > 0:  # started once for each rank: the first one concludes
            return code
        reached = any(Path(folder).glob("process-*"))
        found = Path(folder, "runs")
        runs = [RunDir(Path(line)) for line in found.read_text(encoding="utf-8").splitlines()] if found.exists() else []
    verdict = joined([_conclude(run) for run in runs])
    if not runs:
        why = NO_TRAINING if reached else NO_TORCH
        verdict = _nothing_seen(why)
        _say(f"No training was seen: {why} Nothing was written.")
    if json_file is not None:
        from convscope.diagnose import verdict_to_json

        write_text(Path(json_file), json.dumps(verdict_to_json(verdict), allow_nan=False) + "\n")
    worst = [SEVERITIES.index(finding.severity) for finding in verdict.findings]
    if code == 0 and fail_on is not None and max(worst, default=-1) >= SEVERITIES.index(fail_on):
        return FAILED_ON_FINDING
    return code


def _make_room(file: Path) -> None:
    """Make the folder of the JSON file, so that a wrong path is told before the script runs and not after."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--json {file} cannot be written: {error.strerror} ({error.filename}). Choose another place.") from None
    if file.is_dir():
        raise UsageError(f"--json {file} is a folder. Give a file, such as {file / 'verdict.json'}.")


def _rank() -> int:
    """The place of this process among those of a distributed run, as launchers tell it; 0 for a single process."""
    return int(os.environ.get("RANK", "0"))


def _run(command: list[str], environment: dict[str, str]) -> int:
    try:
        process = subprocess.Popen(command, env=environment)
    except FileNotFoundError:
        raise UsageError(
            f"The command {command[0]!r} was not found. Give the program as you would type it: -- python script.py ARGS"
        ) from None
    except OSError as error:
        raise UsageError(f"The command {command[0]!r} cannot be started: {error.strerror}.") from None
    with _passing_on(signal.SIGTERM, process):
        while True:
            try:
                code = process.wait()
                return code if code >= 0 else 128 - code  # ended by a signal, as shells tell it
            except KeyboardInterrupt:  # the script got it too and decides what to do
                continue


@contextlib.contextmanager
def _passing_on(number: signal.Signals, process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Hand a signal on: schedulers and containers send it to this process alone, and the script may want to save its work."""
    if threading.current_thread() is not threading.main_thread():  # only there can signals be caught
        yield
        return
    before = signal.signal(number, lambda *_: process.send_signal(number))
    try:
        yield
    finally:
        signal.signal(number, before)


def joined(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict on trainings that came one after another: the worst, with the findings of all, those of the worst training first.

    Args:
        verdicts: one for each training; of none at all it is too early to say anything.
    """
    if len(verdicts) == 1:
        return verdicts[0]
    by_rank = sorted(verdicts, key=lambda one: ("too_early", "healthy", *SEVERITIES).index(one.verdict), reverse=True)
    findings = tuple(finding for one in by_rank for finding in one.findings)
    not_checked = {entry.name: entry for one in by_rank for entry in one.not_checked}
    steps = sum(one.steps for one in verdicts)
    return Verdict(by_rank[0].verdict if by_rank else "too_early", steps, findings, tuple(not_checked.values()))


def _nothing_seen(why: str) -> Verdict:
    """The verdict where no training was seen: every rule could not be checked, and why."""
    from convscope.diagnose import NAMES

    return Verdict("too_early", 0, (), tuple(NotChecked(name, f"no training was seen: {why.rstrip('.')}") for name in NAMES))


def _conclude(run: RunDir) -> Verdict:
    """The verdict on what was recorded, told on stderr together with the place of the page."""
    from convscope.diagnose import diagnose_log

    with RunLog.append_to(run.log) as log:
        verdict = diagnose_log(log)
        for finding in verdict.findings:
            log.finding(finding)
    _say(f"Watched {verdict.steps:,} steps. {verdict.headline.replace(f' ({verdict.steps:,} steps)', '')}")
    for finding in verdict.findings:
        _say(f"{finding.severity}: {finding.message} {finding.fix.text}")
    try:
        from convscope.show.page import write_report

        _say(f"The page: {write_report(run)}")
    except ConvscopeError as error:
        _say(f"The page could not be written: {error} The run is in {run.path}.")
    return verdict


def _say(text: str) -> None:
    print(f"convscope: {text}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------- in the script's process


def attach() -> None:
    """Wait for the script's network and watch it; called when torch was imported. Child processes are left alone."""
    settings = json.loads(os.environ[SETTINGS])
    try:  # the first process of each rank that imports torch is the one; loader workers and helpers come later
        os.close(os.open(Path(settings["folder"], f"process-{os.environ.get('RANK', 'main')}"), os.O_CREAT | os.O_EXCL))
    except OSError:
        return
    _Attached(settings)


class _Attached:
    """Finds the network at its first training pass and watches it until another one is trained, or the process ends.

    A further network is looked for from the moment at which an optimiser of other parameters is made, so that a script that trains one network
    pays nothing for it.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        import torch
        from torch.optim import Optimizer

        self._settings, self._process = settings, os.getpid()
        self._new: weakref.WeakSet[Optimizer] = weakref.WeakSet()  # made since the network that is watched began to train
        self._watcher: Any = None
        self._watched: set[int] = set()  # ids of parameters, which the watcher keeps alive
        self._runs = self._searches = 0
        self._hands: weakref.WeakKeyDictionary[nn.Module, tuple[int, StepsByHand | None]] = (
            weakref.WeakKeyDictionary()
        )  # modules' passes before any
        self._vain: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()  # passes of modules that are in no optimiser
        self._hook: RemovableHandle | None = None
        made, attached = Optimizer.__init__, self

        @functools.wraps(made)
        def remember(optimizer: Optimizer, *arguments: Any, **keywords: Any) -> None:
            made(optimizer, *arguments, **keywords)
            attached._new.add(optimizer)
            if not attached._fresh() <= attached._watched:
                attached._look_out()

        Optimizer.__init__ = remember  # type: ignore[method-assign, assignment]
        torch.jit.script = _scripting_without_hooks(torch.jit.script)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._leave)
        warnings.filterwarnings("ignore", "Using `torch.compile")  # when there are global hooks; the only one is ours, for a moment
        atexit.register(self._finish)
        self._look_out()

    def _leave(self) -> None:
        """In a child process that was forked: it is left alone (recording.py takes off what is attached to its networks)."""
        self._runs, self._watcher = MOST_RUNS + 1, None
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _fresh(self) -> set[int]:
        """Ids of the parameters that new optimisers hold."""
        return {id(parameter) for optimizer in self._new for group in optimizer.param_groups for parameter in group["params"]}

    def _look_out(self) -> None:
        from torch.nn.modules.module import register_module_forward_pre_hook

        if self._hook is not None:
            return
        if self._runs < MOST_RUNS:
            self._hook = register_module_forward_pre_hook(self._pass_begins)
        elif self._runs == MOST_RUNS:
            self._runs += 1
            _say(f"this script trains more than {MOST_RUNS} networks one after another; the later ones are not watched.")

    def _pass_begins(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        import torch

        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return
        trained = self._fresh()
        new = trained - self._watched
        if not any(id(parameter) in new for parameter in module.parameters()):
            whole = self._by_hand(module) or self._in_vain(module)
            if whole is None:
                return
            trained = {id(parameter) for parameter in whole.parameters()}
            self._vain.clear()
            self._hands.clear()
        assert self._hook is not None
        self._hook.remove()
        self._hook = None
        try:
            self._end()
            self._start(trained_networks(module, trained), module, arguments)
        except Exception as error:  # the script must not suffer from us
            _say(f"the training could not be watched: {type(error).__name__}: {error}")

    def _by_hand(self, module: nn.Module) -> nn.Module | None:
        """The network, when its weights move, or gradients are left in it, and no optimiser was made: the loop changes the weights itself."""
        from convscope.watch.by_hand import StepsByHand, is_lent

        if self._watcher is not None or self._new or not module.training or is_lent(module):
            return None
        passes, steps = self._hands.get(module, (0, None))
        steps = steps or StepsByHand([module])
        trained = passes < HAND_PASSES and (steps.look() or any(parameter.grad is not None for parameter in module.parameters()))
        self._hands[module] = passes + 1, steps if passes + 1 < HAND_PASSES else None
        return module if trained else None

    def _in_vain(self, module: nn.Module) -> nn.Module | None:
        """The network that is run pass after pass in place of the one that the optimiser holds, of whose making it is: it was made anew.

        It is this module, or one around it whose parts are called one by one.
        """
        if self._watcher is not None or not module.training:
            return None
        held = Counter(p.shape for optimizer in self._new for group in optimizer.param_groups for p in group["params"])
        if held.total() < 2:
            return None
        self._vain[module] = self._vain.get(module, 0) + 1
        if self._vain[module] != VAIN_PASSES:
            return None
        if _is_of_the_making(module, held):
            return module
        if self._searches == MOST_SEARCHES:
            return None
        self._searches += 1
        return next((one for one in _modules() if any(part is module for part in one.modules()) and _is_of_the_making(one, held)), None)

    def _start(self, models: dict[str, nn.Module], module: nn.Module, arguments: tuple[Any, ...]) -> None:
        from convscope.watch.layers import unwrapped
        from convscope.watch.watcher import Watcher

        log = None
        if _rank() == 0:
            run = create_run(self._settings["out"], self._settings["name"], _stem(self._settings["command"]))
            run.write_config(
                {
                    "kind": "watch",
                    "command": self._settings["command"],
                    "model": ", ".join(type(unwrapped(model)).__name__ for model in models.values()),
                    "every": self._settings["every"],
                    "versions": {"convscope": VERSION, "python": platform.python_version()},
                }
            )
            log = RunLog.create(run.log)
            with Path(self._settings["folder"], "runs").open("a", encoding="utf-8") as runs:
                runs.write(f"{run.path}\n")
        self._runs += 1
        self._new.clear()
        self._watched = {id(parameter) for model in models.values() for parameter in model.parameters()}
        self._watcher = Watcher(models if len(models) > 1 else next(iter(models.values())), every=self._settings["every"], log=log).start()
        self._watcher.join_pass(module, arguments)

    def _end(self) -> None:
        """Complete the log of the network that is watched, if there is one."""
        watcher, self._watcher = self._watcher, None
        if watcher is None:
            return
        watcher.stop()
        if _rank() == 0:
            for note in watcher.notes:
                _say(note)
            watcher.log.close()

    def _finish(self) -> None:
        if os.getpid() == self._process:
            self._end()


def _scripting_without_hooks(script: Callable[..., Any]) -> Callable[..., Any]:
    """torch.jit.script as it is, except that it finds no hooks of ours on a network, which it would try to compile."""
    from torch import nn

    from convscope.capture import without_hooks

    @functools.wraps(script)
    def scripted(what: Any, *arguments: Any, _frames_up: int = 0, **keywords: Any) -> Any:
        with without_hooks(what) if isinstance(what, nn.Module) else contextlib.nullcontext():
            return script(what, *arguments, _frames_up=_frames_up + 1, **keywords)  # it resolves names in its caller's frame

    return scripted


def trained_networks(module: nn.Module, trained: set[int]) -> dict[str, nn.Module]:
    """The networks that are trained in this process, by name.

    Args:
        module: one whose training pass begins; it is preferred to a module around it that holds no further trained parameters, because that
            one may never be called itself (a training framework's wrapper).
        trained: ids of the parameters that optimisers hold.
    """

    def held(one: nn.Module) -> set[int]:
        return {id(parameter) for parameter in one.parameters()} & trained

    modules = _modules()
    inner = {id(part) for one in modules for part in one.modules() if part is not one}
    outermost = [one for one in modules if id(one) not in inner and held(one)]
    own = held(module)
    networks = [module, *(one for one in outermost if not held(one) <= own)] if any(held(one) == own for one in outermost) else outermost
    names: dict[str, nn.Module] = {}
    for network in networks:
        name, number = type(network).__name__, 2
        while name in names:
            name, number = f"{type(network).__name__}-{number}", number + 1
        names[name] = network
    return names


def _modules() -> list[nn.Module]:
    """Every module in this process, but for those that the watcher made."""
    from torch import nn

    from convscope.watch.together import Joined

    return [one for one in gc.get_objects() if issubclass(type(one), nn.Module) and type(one) is not Joined]


def _is_of_the_making(module: nn.Module, held: Counter[torch.Size]) -> bool:
    """Whether a network has, among its own trainable parameters, one of each of these shapes."""
    return held <= Counter(p.shape for p in module.parameters() if p.requires_grad)


def _stem(command: Sequence[str]) -> str:
    """What the run is called: the script's name without its ending."""
    scripts = [part for part in command if part.endswith(".py")]
    return Path(scripts[0]).stem if scripts else Path(command[0]).stem
