"""Listening to comparisons for equality: how most loops count the right answers of a validation, `(model(images).argmax(1) == labels).sum()`.

Receives a listener, and calls it with both tensors of every `==`, `eq` and `torch.eq` between tensors while it listens. The network's owner listens only
between the end of an evaluation pass and the next training pass, so that a training step never meets the wrappers. They call the original and change
nothing. Comparisons outside torch (NumPy, scikit-learn) are not heard, and the rules then say "not checked".
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convscope.capture import out_of_sight

Listener = Callable[[Tensor, Tensor], None]
_PLACES: tuple[tuple[Any, str], ...] = ((Tensor, "__eq__"), (Tensor, "eq"), (torch, "eq"))
_listeners: list[Listener] = []
_before: dict[tuple[int, str], Any] = {}  # what stood at each place itself, None when it was inherited
_lock = threading.Lock()
_busy = threading.local()


class ComparisonSpy:
    """Tells a listener of comparisons for equality, from `listen` until `stop`; both may be called twice.

    Example:
        >>> spy = ComparisonSpy(lambda one, two: print(one.shape, two.shape))
        >>> spy.listen()
        >>> _ = torch.tensor([1, 2]) == torch.tensor([1, 3])
        torch.Size([2]) torch.Size([2])
        >>> spy.stop()
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._listens = False

    def listen(self) -> None:
        """Begin to tell."""
        if self._listens:
            return
        self._listens = True
        with _lock:
            if not _listeners:
                for owner, name in _PLACES:
                    _before[id(owner), name] = vars(owner).get(name)
                    setattr(owner, name, _wrapped(getattr(owner, name)))
            _listeners.append(self._listener)

    def stop(self) -> None:
        """Tell nothing any more; the last one to stop takes the wrappers off."""
        if not self._listens:
            return
        self._listens = False
        with _lock:
            _listeners.remove(self._listener)
            for owner, name in _PLACES if not _listeners else ():
                original = _before.pop((id(owner), name))
                if original is None:
                    delattr(owner, name)
                else:
                    setattr(owner, name, original)


def _wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def compare(one: Any, *others: Any, **keywords: Any) -> Any:
        result = original(one, *others, **keywords)
        two = others[0] if others else keywords.get("other")
        if isinstance(one, Tensor) and isinstance(two, Tensor) and not getattr(_busy, "now", False) and not out_of_sight():
            _busy.now = True  # what a listener compares is not told
            try:
                for listener in tuple(_listeners):
                    listener(one, two)
            finally:
                _busy.now = False
        return result

    return compare
