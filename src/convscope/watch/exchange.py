"""Hearing calls of functions of torch.nn.functional: their code is exchanged for a few lines that call a copy of it and pass on what went in and came out.

The function stays the same object, so it is heard under every name: through the module that calls it, as `F.cross_entropy`, and as
`criterion = F.cross_entropy` or `from torch.nn.functional import cross_entropy` from before watching began. (A TorchFunctionMode would hear it too, but
costs 0.8 ms a step and switches off PyTorch's fast path for attention.) Nothing that is computed changes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType
from typing import Any

from torch.nn import functional as F

from convscope.capture import out_of_sight

# PyTorch's warnings about a function name the line that called it. Python passes over frames of files so named when it looks for that line
# (warnings._is_internal_frame), so that the line is the user's and not one of ours.
PASSED_OVER = f"{__file__} (like importlib/_bootstrap)"

After = Callable[[str, tuple[Any, ...], dict[str, Any], Any], None]  # name, arguments, keywords, result

_copies: dict[str, FunctionType] = {}  # of PyTorch's functions, by name; kept for calls that are under way when nobody listens any more
_told: dict[str, After] = {}


class Hearing:
    """Those who listen to some functions, whose code is exchanged as long as there are any.

    Args:
        names: of functions of torch.nn.functional.
        after: is told of each call.
    """

    def __init__(self, names: Iterable[str], after: After) -> None:
        self._names, self._after = tuple(names), after
        self._listeners: list[Any] = []
        self._lock = threading.Lock()

    @property
    def listeners(self) -> tuple[Any, ...]:
        """Whom to tell."""
        return tuple(self._listeners)

    def add(self, listener: Callable[..., None]) -> None:
        """Somebody begins to listen."""
        with self._lock:
            if not self._listeners:
                for name in self._names:
                    _exchange(name, self._after)
            self._listeners.append(listener)

    def remove(self, listener: Callable[..., None]) -> None:
        """Somebody has heard enough."""
        with self._lock:
            self._listeners.remove(listener)
            if not self._listeners:
                for name in self._names:
                    _restore(name)


def _exchange(name: str, after: After) -> None:
    """Have `after` told of each call; what reads a function's source (torch.jit.script, inspect) is sent to the copy."""
    function: Any = getattr(F, name)
    copy = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__, copy.__annotations__, copy.__doc__ = function.__kwdefaults__, function.__annotations__, function.__doc__
    _copies[name], _told[name] = copy, after
    function.__wrapped__, function.__prepare_scriptable__ = copy, lambda: copy
    function.__code__ = _code(name)


def _restore(name: str) -> None:
    """Give a function its own code back."""
    function: Any = getattr(F, name)
    function.__code__ = _copies[name].__code__
    del function.__wrapped__, function.__prepare_scriptable__


def _code(name: str) -> CodeType:
    """The lines that stand in for a function's own. They run among PyTorch's globals, so they bring in what they need."""

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        from convscope.watch import exchange

        return exchange.heard("name", args, kwargs)

    code = stand_in.__code__
    constants = tuple(name if constant == "name" else constant for constant in code.co_consts)
    return code.replace(co_consts=constants, co_filename=PASSED_OVER, co_name=name, co_qualname=name)


def heard(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What PyTorch computes, after the listener was told."""
    result = _copies[name](*args, **kwargs)
    if not out_of_sight():
        _told[name](name, args, kwargs, result)
    return result


heard.__code__ = heard.__code__.replace(co_filename=PASSED_OVER)
