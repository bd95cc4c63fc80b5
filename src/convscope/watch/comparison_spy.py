"""Listening to operations between tensors that a loop writes out: `(model(images).argmax(1) == labels).sum()`, `((model(rows) - targets) ** 2).mean()`.

Receives a listener, and calls it with both tensors of every such operation while it listens. Comparisons are listened to only between the end of an
evaluation pass and the next training pass, differences also after the training passes of scheduled steps, so that an ordinary training step never meets
the wrappers. They call the original and change nothing. Operations outside torch (NumPy, scikit-learn) are not heard, and the rules then say "not
checked".
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from convscope.capture import out_of_sight

Listener = Callable[[Tensor, Tensor], None]
_lock = threading.Lock()
_busy = threading.local()


class _OperationSpy:
    """Tells a listener of an operation between two tensors, from `listen` until `stop`; both may be called twice."""

    places: ClassVar[tuple[tuple[Any, str], ...]]
    _listeners: ClassVar[list[Listener]]
    _before: ClassVar[dict[tuple[int, str], Any]]  # what stood at each place itself, None when it was inherited

    def __init_subclass__(cls) -> None:
        cls._listeners, cls._before = [], {}

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._listens = False

    def listen(self) -> None:
        """Begin to tell."""
        if self._listens:
            return
        self._listens = True
        with _lock:
            if not self._listeners:
                for owner, name in self.places:
                    self._before[id(owner), name] = vars(owner).get(name)
                    setattr(owner, name, _wrapped(getattr(owner, name), self._listeners))
            self._listeners.append(self._listener)

    def stop(self) -> None:
        """Tell nothing any more; the last one to stop takes the wrappers off."""
        if not self._listens:
            return
        self._listens = False
        with _lock:
            self._listeners.remove(self._listener)
            for owner, name in self.places if not self._listeners else ():
                original = self._before.pop((id(owner), name))
                if original is None:
                    delattr(owner, name)
                else:
                    setattr(owner, name, original)


class ComparisonSpy(_OperationSpy):
    """Tells of comparisons for equality: `==`, `eq` and `torch.eq`.

    Example:
        >>> spy = ComparisonSpy(lambda one, two: print(one.shape, two.shape))
        >>> spy.listen()
        >>> _ = torch.tensor([1, 2]) == torch.tensor([1, 3])
        torch.Size([2]) torch.Size([2])
        >>> spy.stop()
    """

    places = ((Tensor, "__eq__"), (Tensor, "eq"), (torch, "eq"))


class DifferenceSpy(_OperationSpy):
    """Tells of differences: `-`, `sub` and `torch.sub`.

    Example:
        >>> spy = DifferenceSpy(lambda one, two: print(one.shape, two.shape))
        >>> spy.listen()
        >>> _ = torch.ones(2) - torch.zeros(2)
        torch.Size([2]) torch.Size([2])
        >>> spy.stop()
    """

    places = ((Tensor, "__sub__"), (Tensor, "sub"), (torch, "sub"))


def _wrapped(original: Callable[..., Any], listeners: list[Listener]) -> Callable[..., Any]:
    @functools.wraps(original)
    def operate(one: Any, *others: Any, **keywords: Any) -> Any:
        result = original(one, *others, **keywords)
        two = others[0] if others else keywords.get("other")
        if isinstance(one, Tensor) and isinstance(two, Tensor) and not getattr(_busy, "now", False) and not out_of_sight():
            _busy.now = True  # what a listener computes is not told
            try:
                for listener in tuple(listeners):
                    listener(one, two)
            finally:
                _busy.now = False
        return result

    return operate
