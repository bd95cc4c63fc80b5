"""Progress of decoding on stderr: a bar in a terminal, a line now and then in a log, nothing for what is done within a second."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

QUIET_SECONDS = 1.0  # below this a bar only flickers
LOG_SECONDS = 15.0  # between lines where there is no terminal


class DecodingProgress:
    """A context that is told how many images are done.

    Args:
        total: images to decode.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self._begin = self._logged = time.monotonic()
        self._bar: Progress | None = None
        self._terminal = Console(stderr=True).is_terminal

    def advance(self, count: int) -> None:
        """So many more images are done."""
        self.done += count
        now = time.monotonic()
        if self._terminal:
            if self._bar is None and now - self._begin > QUIET_SECONDS:
                self._start()
            if self._bar is not None:
                self._bar.update(self._bar.task_ids[0], completed=self.done)
        elif now - self._logged > LOG_SECONDS:
            self._logged = now
            left = (now - self._begin) / self.done * (self.total - self.done)
            share = self.done / self.total
            print(f"Decoding images: {self.done:,} of {self.total:,} ({share:.0%}), about {left:.0f} s left", file=sys.stderr, flush=True)

    def _start(self) -> None:
        self._bar = Progress(
            TextColumn("Decoding images"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar.start()
        self._bar.add_task("Decoding images", total=self.total)

    def __enter__(self) -> DecodingProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        seconds = time.monotonic() - self._begin
        if kind is None and seconds > QUIET_SECONDS:
            print(f"Decoded {self.done:,} images in {seconds:.1f} s.", file=sys.stderr, flush=True)
