"""Telling how training goes, on stderr: a live bar in a terminal, plain lines in a log file, the same row for each epoch in both."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from convscope.train.callback import Callback

if TYPE_CHECKING:
    from convscope.train.learner import Learner

QUIET_SECONDS = 30.0  # in a log file, a long epoch says how far it is this often


class ProgressReport(Callback):
    """One row an epoch; between rows a bar with the loss and the time left, or, where stderr is no terminal, a line every 30 s.

    Args:
        console: where to; stderr unless given.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._told = self._started = 0.0
        self._first_step = 0
        self._header_shown = False

    def before_fit(self, learner: Learner) -> None:
        """Show the bar."""
        self._started = self._told = time.monotonic()
        self._first_step, self._header_shown = learner.step, False
        if not (learner.processes.is_main and self.console.is_terminal):
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TextColumn("left"),
        )
        self._bar = Progress(*columns, TimeRemainingColumn(), console=self.console, transient=True)
        self._bar.start()
        total = learner.plan.epochs * learner.steps_per_epoch
        self._task = self._bar.add_task("training", total=total, completed=learner.step - learner.plan.first_step)

    def after_step(self, learner: Learner) -> None:
        """Move the bar, or say how far a long epoch is."""
        if self._bar:
            self._bar.update(self._task, advance=1, description=f"epoch {learner.epoch + 1}  loss {learner.recorder.smooth_loss:.4f}")
        elif learner.processes.is_main and time.monotonic() - self._told >= QUIET_SECONDS:
            left = self._seconds_left(learner)
            place = f"  epoch {learner.epoch + 1}: step {learner.batch} of {len(learner.data.train)}"
            self._say(f"{place}, loss {learner.recorder.smooth_loss:.4f}, about {duration(left)} left")

    def after_validate(self, learner: Learner) -> None:
        """Show the epoch's row."""
        if not learner.processes.is_main:
            return
        if not self._header_shown:
            names = "".join(f"{name.replace('_', ' '):>19}" for name in learner.validation.metrics)
            self._say(f"{'epoch':>7}{'train loss':>12}{'valid loss':>12}{names}{'time':>13}")
            self._header_shown = True
        record = learner.recorder.epochs[-1]
        last = learner.plan.first_epoch + learner.plan.epochs
        values = "".join(f"{value:>19.4f}" for value in record.metrics.values())
        self._say(
            f"{f'{record.epoch}/{last}':>7}{record.train_loss:>12.4f}{record.valid_loss:>12.4f}{values}{duration(record.seconds):>13}"
        )

    def after_fit(self, learner: Learner) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar.stop()
            self._bar = None

    def _seconds_left(self, learner: Learner) -> float:
        done = learner.step - self._first_step
        left = learner.plan.first_step + learner.plan.epochs * learner.steps_per_epoch - learner.step
        return (time.monotonic() - self._started) / max(done, 1) * left

    def _say(self, line: str) -> None:
        self._told = time.monotonic()
        self.console.print(line, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds in words that fit: "8.1 s", "2 min 5 s", "1 h 3 min".

    Example:
        >>> duration(125)
        '2 min 5 s'
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
