"""Training in a process of its own, started and stopped from the lab: one at a time, and it outlives the lab.

A training is `convscope train` as in a terminal, with a session of its own, so that Ctrl-C in the lab's terminal ends the lab alone. Whether a run
goes on is read from the run directory (runs.py), so that a lab that was started anew knows as much as the one that started it.
To stop it, a file is made in its directory (rundir.py), which works on every platform and for runs that somebody else started.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from convscope.errors import ConvscopeError
from convscope.lab.exchange import Fields, Refused, choice, flag, number, text, whole
from convscope.lab.runs import DEFAULTS, RunsFolder, State, state_of
from convscope.rundir import RunDir
from convscope.train.settings import TrainSettings

DATA = ("mnist",)
MODELS = ("simple_cnn", "small_resnet")
INITS = ("pytorch", "kaiming_normal", "kaiming_uniform", "xavier_normal", "orthogonal")  # convscope.nn.init.SCHEMES, which needs torch
SCHEDULES = ("one_cycle", "cosine", "constant")
PAGE_SECONDS = 20  # that a run which has ended may take for its page
LONGEST_PATH = 4096  # characters; Linux's own limit


def settings_from(fields: Fields) -> TrainSettings:
    """The settings that the page sent.

    Raises:
        Refused: a field cannot be meant.
        UsageError: a setting is out of range.
    """
    unknown = sorted(set(fields) - set(DEFAULTS))
    if unknown:
        raise Refused(400, f"There is no setting {unknown[0]!r}.", f"Known are {', '.join(DEFAULTS)}.")

    def given(name: str) -> bool:
        return fields.get(name) not in (None, "")

    data, lr = text(fields, "data", LONGEST_PATH), fields.get("lr", "auto")
    if data not in DATA:
        place = Path(data).expanduser()
        if not place.is_absolute() or not place.exists():
            raise Refused(
                400, f"There is no folder or file {data!r}.", "Give mnist, or the whole path of a folder of images or a CSV file."
            )
        data = str(place)
    model = choice(fields, "model", MODELS, "simple_cnn") if given("model") else None
    norm = flag(fields, "norm", True)
    if not norm and (model or ("simple_cnn" if data == "mnist" else "small_resnet")) != "simple_cnn":
        raise Refused(400, "Only simple_cnn can be built without batch norm.", "Choose simple_cnn, or leave batch norm on.")
    return TrainSettings(
        data=data,
        model=model,
        epochs=whole(fields, "epochs", 1, 1000, 5),
        batch_size=whole(fields, "batch_size", 1, 65536) if given("batch_size") else None,
        lr="auto" if lr in ("auto", None, "") else number(fields, "lr", 1e-9, 1e4),
        norm=None if norm else False,
        init=choice(fields, "init", INITS, "pytorch") if given("init") else None,
        schedule=choice(fields, "schedule", SCHEDULES, "one_cycle"),  # type: ignore[arg-type]  # checked against the same words
        seed=whole(fields, "seed", 0, 2**31 - 1, 0),
        weight_decay=number(fields, "weight_decay", 0, 10) if given("weight_decay") else None,
        clip_norm=number(fields, "clip_norm", 1e-9, 1e9) if given("clip_norm") else None,
        augment=flag(fields, "augment", False) if fields.get("augment") is not None else None,
        label_smoothing=number(fields, "label_smoothing", 0, 0.99, 0.0),
    )


@dataclass(frozen=True, slots=True)
class _Job:
    """A training that was started here.

    Attributes:
        name: of the run.
        process: that trains.
        said: what it said.
        before: of a run that goes on, the process that config.json named before; None of a new one.
    """

    name: str
    process: subprocess.Popen[bytes]
    said: IO[bytes]
    before: object = None

    def last_words(self) -> str | None:
        """What the process said last, usually the reason why it ended."""
        self.said.seek(max(0, self.said.seek(0, os.SEEK_END) - 4000))
        words = self.said.read().decode("utf-8", errors="replace")
        return words.rpartition("convscope: ")[2].strip().partition("\n")[0] or None


class Jobs:
    """Starts and stops training in one folder of runs; safe to call from several threads."""

    def __init__(self, runs: RunsFolder) -> None:
        self.runs = runs
        self._job: _Job | None = None
        self._lock = threading.Lock()

    def training(self) -> str | None:
        """The name of a run of the folder that is being trained, by whomever; None when there is none."""
        if self._job and self._job.process.poll() is None and self._state(self._job.name) in (None, "starting", "running"):
            return self._job.name
        return next((name for name in self.runs.names() if self._state(name) == "running"), None)

    def state(self, run: RunDir, config: dict[str, Any]) -> State:
        """How far a run is; one that was told to go on and has not begun yet is starting."""
        job = self._job
        waits = job and job.name == run.path.name and job.before is not None and job.before == config.get("process")
        return "starting" if job and waits and job.process.poll() is None else state_of(run, config)

    def starting(self) -> str | None:
        """The name of a run that was started and has not begun to train."""
        job = self._job
        if job is None or job.process.poll() is not None:
            return None
        run = self.runs.find_if_there(job.name)
        return job.name if run is None or self._state(job.name) == "starting" else None

    def fate(self, name: str) -> tuple[State, str | None]:
        """What became of a run that has no directory (yet): its state and why it failed.

        Raises:
            Refused: nobody knows of it.
        """
        job = self._job
        if job is None or job.name != name:
            raise Refused(404, f"There is no run {name!r} in {self.runs.path}.", "Choose one of the list.")
        return ("starting", None) if job.process.poll() is None else ("failed", job.last_words())

    def start(self, settings: TrainSettings) -> str:
        """Begin to train.

        Returns:
            The name of the run, whose directory comes when its data is loaded.

        Raises:
            Refused: something trains already.
        """
        with self._lock:
            self._check_idle()
            name = self._next_name("mnist" if settings.data == "mnist" else Path(settings.data).stem)
            self._run(name, [*settings.command()[1:], "--out", str(self.runs.path), "--name", name])
            return name

    def resume(self, run: RunDir) -> str:
        """Go on with a run that was stopped or whose process was killed.

        Raises:
            Refused: something trains already, or there is nothing to go on with.
        """
        with self._lock:
            self._check_idle()
            config = run.read_config()
            state = self.state(run, config)
            if state not in ("stopped", "broken"):
                raise Refused(409, f"{run.path.name} is {state}, so there is nothing to go on with.", "Train anew instead.")
            self._run(run.path.name, ["train", "--resume", str(run.path)], before=config.get("process", {}))
            return run.path.name

    def stop(self, name: str) -> str:
        """Ask a run to save and end; one that has not begun to train is ended at once.

        Raises:
            Refused: it does not train.
        """
        job = self._job
        if job and self.starting() == name:
            job.process.terminate()
            return "stopped"
        run = self.runs.find(name)
        config = run.read_config()
        if self.state(run, config) != "running" or config.get("command") != "train":
            raise Refused(409, f"{name} is not training now.")
        run.stop_request.touch()
        return "stopping"

    def _check_idle(self) -> None:
        if busy := self.training():
            raise Refused(
                409, f"{busy} is training, and two trainings at once would only slow each other.", f"Wait for {busy}, or stop it."
            )

        if self._job:  # it has ended and writes its page
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._job.process.wait(PAGE_SECONDS)

    def _run(self, name: str, words: list[str], before: object = None) -> None:
        said = tempfile.TemporaryFile()  # noqa: SIM115 (stays open as long as the training); not a pipe, which would end the training when the lab has gone
        options: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
        command = [sys.executable, "-m", "convscope", *words]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, **options)
        self._job = _Job(name, process, said, before)

    def _next_name(self, stem: str) -> str:
        """The name that `convscope train` itself would give next."""
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:80] or "run"
        taken = [int(found[1]) for name in self._entries() if (found := re.fullmatch(re.escape(stem) + r"-(\d{3,})", name))]
        return f"{stem}-{max(taken, default=0) + 1:03d}"

    def _entries(self) -> list[str]:
        try:
            return [entry.name for entry in self.runs.path.iterdir()]
        except OSError:
            return []

    def _state(self, name: str) -> State | None:
        try:
            run = self.runs.find(name)
            return self.state(run, run.read_config())
        except (ConvscopeError, Refused):
            return None
