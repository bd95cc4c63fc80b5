"""The exception tree: everything that convscope raises on purpose.

    ConvscopeError
    ├── UsageError          an argument or option that cannot be meant (exit code 2)
    │   └── UnknownNameError    a layer, callback, model or rule that does not exist; suggests the nearest names
    ├── DataError           images, labels or ratings that cannot be used
    ├── ModelError          a network that does not fit its input, or cannot be executed as asked
    ├── TrainingError       training cannot go on
    │   ├── NonFiniteError      a loss, gradient or weight became NaN or infinite
    │   └── InterruptedRun      Ctrl-C; everything is saved (exit code 130)
    ├── RunError            a run directory that is missing, damaged or cannot be written
    │   └── CheckpointError     weights or checkpoint that cannot be loaded
    ├── TraceError          an activation that cannot be traced
    └── ProgressError       the quiz's progress file is damaged or cannot be written

A message says what is wrong, the value received, what is allowed and what to do next, in that order.
Context (which file, which run) is added once, where the public call was made. This module imports nothing of convscope.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConvscopeError(Exception):
    """Base of every error that convscope raises on purpose; the command line prints its message and exits with `exit_code`."""

    exit_code = 1


class UsageError(ConvscopeError):
    """An argument or option that cannot be meant."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that does not exist among those that do.

    Args:
        what: the sort of thing, in the singular, such as "layer".
        name: the name received.
        known: the names that exist.
    """

    def __init__(self, what: str, name: object, known: Iterable[str]) -> None:
        self.what, self.name, self.known = what, name, tuple(known)
        super().__init__(f"There is no {what} {name!r}. {suggestion(str(name), self.known)}")


class DataError(ConvscopeError):
    """Images, labels or ratings that cannot be used."""


class ModelError(ConvscopeError):
    """A network that does not fit its input, or cannot be executed as asked."""


class TrainingError(ConvscopeError):
    """Training cannot go on."""


class NonFiniteError(TrainingError):
    """A loss, gradient or weight became NaN or infinite."""


class InterruptedRun(TrainingError):
    """Training was interrupted by the user; everything is saved, and the message says how to go on."""

    exit_code = 130  # 128 + SIGINT, what shells expect of an interrupted program


class RunError(ConvscopeError):
    """A run directory that is missing, damaged or cannot be written."""


class CheckpointError(RunError):
    """Weights or a checkpoint that cannot be loaded."""


class TraceError(ConvscopeError):
    """An activation that cannot be traced."""


class ProgressError(ConvscopeError):
    """The quiz's progress file is damaged or cannot be written."""


MOST_NAMES_LISTED = 12  # a list longer than this is not read; the nearest names are shown instead


def suggestion(name: str, known: Iterable[str]) -> str:
    """One sentence that leads from a wrong name to the right one.

    Args:
        name: the name received.
        known: the names that exist.

    Returns:
        "Did you mean ...?" when something is near, and the known names when there are few.

    Example:
        >>> suggestion("relu", ["ReLU", "Conv2d"])
        "Did you mean 'ReLU'? Known: 'ReLU', 'Conv2d'."
    """
    names = [str(item) for item in known]
    if not names:
        return "There are none."
    lowered: dict[str, str] = {item.lower(): item for item in reversed(names)}
    near = [lowered[item] for item in difflib.get_close_matches(name.lower(), list(lowered), n=3, cutoff=0.6)]
    meant = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
    if len(names) > MOST_NAMES_LISTED:
        return f"{meant}Known are {len(names)}, among them {', '.join(map(repr, names[:MOST_NAMES_LISTED]))}."
    return f"{meant}Known: {', '.join(map(repr, names))}."
