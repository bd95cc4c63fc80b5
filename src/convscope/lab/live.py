"""A run as server-sent events while it goes on: its log read again whenever it has grown, by whatever process it is written. No torch.

A stream begins with everything that there is and ends when the run has ended. Reading happens in a worker thread, for which the log is opened and
closed again, so that the training process can fold the log into one file at its end.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.to_thread

from convscope.diagnose import diagnose_log, verdict_to_json
from convscope.errors import ConvscopeError
from convscope.lab.exchange import Refused, as_json
from convscope.lab.runs import State, changed_at, state_of
from convscope.lab.series import Series
from convscope.records import StepRecord, to_json
from convscope.rundir import RunDir
from convscope.runlog import RunLog

POLL_SECONDS = 0.25  # a log is flushed every half second
VERDICT_SECONDS = 2.0  # between two looks at all rules
REST = 20.0  # times as long as a look took nothing is looked at, so that following costs a core at most a twentieth
LONGEST_PAUSE = 2.0  # seconds without a look, however long one takes
ALIVE_SECONDS = 10.0  # between two comments that keep the connection open and notice that the reader has gone
GOING = ("starting", "running")

Event = tuple[str, Any]


class Follower:
    """Reads what is new of one run.

    Args:
        find: gives the run's directory, or None while it does not exist yet.
        fate: what became of a run without a directory: its state and a message.
        state: how far a run is, by its directory and its config.json.
    """

    def __init__(
        self,
        find: Callable[[], RunDir | None],
        fate: Callable[[], tuple[State, str | None]],
        state: Callable[[RunDir, dict[str, Any]], State] = state_of,
    ) -> None:
        self._find, self._fate, self._state = find, fate, state
        self._series = Series()
        self._newest: StepRecord | None = None
        self._seen: object = None
        self._told: dict[str, Any] = {}
        self._verdict_due = -math.inf

    def look(self) -> tuple[list[Event], bool]:
        """What is new, and whether the run goes on."""
        run = self._find()
        if run is None:
            state, message = self._fate()
            return self._news("state", {**progress({}, state, None), "message": message}), state in GOING
        config = run.read_config()
        state = self._state(run, config)
        going = state in GOING
        seen = (changed_at(run), state)
        if going and seen == self._seen:
            return [], True
        self._seen = seen
        try:
            with RunLog.read(run.log) as log:
                return self._read(log, config, state, going), going
        except ConvscopeError as error:  # no log yet, or a damaged one
            return self._news("state", {**progress(config, state, None), "message": None if going else str(error)}), going

    def _read(self, log: RunLog, config: dict[str, Any], state: State, going: bool) -> list[Event]:
        steps, layers = self._series.steps(log), self._series.layers(log)
        if steps:
            self._newest = log.steps(steps["first"][-1] - 1)[-1]
        events = self._news("state", progress(config, state, self._newest))
        events += [("steps", steps)] if steps else []
        events += [("layers", values) for values in layers]
        events += self._news("results", {"rows": to_json(log.epochs())})
        if not going or time.monotonic() > self._verdict_due:
            began = time.monotonic()
            events += self._news("verdict", verdict_to_json(diagnose_log(log)))
            self._verdict_due = time.monotonic() + max(VERDICT_SECONDS, REST * (time.monotonic() - began))
        return events

    def _news(self, name: str, value: Any) -> list[Event]:
        if self._told.get(name) == value:
            return []
        self._told[name] = value
        return [(name, value)]


def progress(config: dict[str, Any], state: State, newest: StepRecord | None) -> dict[str, Any]:
    """How far a run is."""
    train = config.get("train") or {}
    epochs = train.get("epochs")
    done = newest.epoch if newest and newest.epoch == newest.epoch else None
    steps = round(epochs * (newest.last_step + 1) / done) if newest and done and epochs else None
    return {
        "state": state,
        "message": config.get("message"),
        "epoch": done,
        "epochs": epochs,
        "step": newest.last_step if newest else None,
        "steps": steps,
        "lr": train.get("lr"),
    }


async def events(follower: Follower, limiter: anyio.CapacityLimiter, ending: threading.Event) -> AsyncIterator[bytes]:
    """The stream's bytes, until the run has ended, or the lab ends."""
    quiet_since = time.monotonic()
    while not ending.is_set():
        began = time.monotonic()
        try:
            news, going = await anyio.to_thread.run_sync(follower.look, limiter=limiter)
        except (ConvscopeError, Refused) as error:
            news, going = [("state", {"state": "broken", "message": str(error)})], False
        if news:
            yield b"".join(encoded(name, value) for name, value in news)
            quiet_since = time.monotonic()
        if not going:
            yield encoded("end", {})
            return
        if time.monotonic() - quiet_since > ALIVE_SECONDS:
            yield b": still here\n\n"
            quiet_since = time.monotonic()
        rested = time.monotonic() + min(REST * (time.monotonic() - began), LONGEST_PAUSE)
        await anyio.sleep(POLL_SECONDS)
        while time.monotonic() < rested and not ending.is_set():
            await anyio.sleep(POLL_SECONDS)


def encoded(name: str, value: Any) -> bytes:
    """One event as it is sent."""
    return f"event: {name}\ndata: {as_json(value)}\n\n".encode("ascii")
