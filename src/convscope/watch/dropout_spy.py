"""Hearing dropout that is called as a function (`F.dropout(x, 0.5)`): no training flag of the network switches it off.

Tells who listens, only while somebody watches, of every call that drops something. It changes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from convscope.watch.exchange import Hearing
from convscope.watch.graph_facts import DROPOUTS

IN_TRAINING = {  # functions of torch.nn.functional, and what they take `training` for when it is not given
    "dropout": True,
    "dropout1d": True,
    "dropout2d": True,
    "dropout3d": True,
    "alpha_dropout": False,
    "feature_alpha_dropout": False,
}
MOST_FRAMES = 12  # from a listener up to the caller of a dropout function


class DropoutSpy:
    """Context manager: while it is open, `listener` is called after every dropout of this process that drops something, functions and modules alike.

    Example:
        >>> with DropoutSpy(lambda: print("dropped")):
        ...     F.dropout(values, 0.5)
        dropped
    """

    def __init__(self, listener: Callable[[], None]) -> None:
        self._listener = listener

    def __enter__(self) -> DropoutSpy:
        _hearing.add(self._listener)
        return self

    def __exit__(self, *_: object) -> None:
        _hearing.remove(self._listener)


def called_by_a_module() -> bool:
    """Whether the dropout that is told of now was called by a dropout module, whose own flag decides. To be called from a listener."""
    frame = sys._getframe(1)
    for _ in range(MOST_FRAMES):
        if frame.f_code.co_name in IN_TRAINING and frame.f_back is not None:
            return isinstance(frame.f_back.f_locals.get("self"), DROPOUTS)
        if frame.f_back is None:
            break
        frame = frame.f_back
    return False


def _dropped(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], _: Any) -> None:
    share = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
    training = args[2] if len(args) > 2 else kwargs.get("training", IN_TRAINING[name])
    if training and share > 0:
        for listener in _hearing.listeners:
            listener()


_hearing = Hearing(IN_TRAINING, _dropped)
