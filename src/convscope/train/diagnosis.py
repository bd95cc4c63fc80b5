"""LiveDiagnosis: asks for the verdict while training goes on, and tells each finding once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from convscope.diagnose import diagnose_log
from convscope.records import Finding, Verdict
from convscope.train.callback import Callback, CancelFit

if TYPE_CHECKING:
    from convscope.train.learner import Learner

EVERY_SECONDS = 5.0  # between two looks at the log
MOST_SHARE = 0.01  # of the time that looking may take: a look that took 0.2 s is followed by 20 s without one


class LiveDiagnosis(Callback):
    """Looks at the log every few seconds and says what is new in it.

    Args:
        tell: called with one line for each new finding.
        ignore: rules to leave out.
        stop: whether a verdict is a reason to end the fit.

    Attributes:
        stopped: whether it was.
    """

    def __init__(
        self, tell: Callable[[str], None], ignore: tuple[str, ...] = (), stop: Callable[[Verdict], bool] = lambda _: False
    ) -> None:
        self.tell, self.ignore, self.stop = tell, ignore, stop
        self.stopped = False
        self._told: set[tuple[str, str]] = set()
        self._next = 0.0

    def before_fit(self, learner: Learner) -> None:
        """Start the clock."""
        self._next = time.monotonic() + EVERY_SECONDS

    def after_step(self, learner: Learner) -> None:
        """Look, when it is time.

        Raises:
            CancelFit: the verdict is a reason to end the fit.
        """
        if learner.processes.is_main and time.monotonic() >= self._next:
            started = time.monotonic()
            learner.callbacks.call("before_checkpoint", learner)
            verdict = self.look(learner)
            if self.stop(verdict):
                self.stopped = True
                raise CancelFit("a problem was found")
            took = time.monotonic() - started
            self._next = time.monotonic() + max(EVERY_SECONDS, took / MOST_SHARE)

    def look(self, learner: Learner) -> Verdict:
        """The verdict now; findings that were not told yet are told, and all are kept in the log."""
        verdict = diagnose_log(learner.log, ignore=self.ignore)
        for finding in verdict.findings:
            learner.log.finding(finding)
            key = finding.name, finding.where
            if key not in self._told:
                self._told.add(key)
                self.tell(line_of(finding))
        return verdict


def line_of(finding: Finding) -> str:
    """One line that says what was found and what to do."""
    return f"  {finding.severity}: {finding.message} {finding.fix.text}".rstrip()
