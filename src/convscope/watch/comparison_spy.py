"""Listening to operations that a loop writes out: `model(images).argmax(1) == labels`, `model(rows) - targets`, `log_softmax(...)[range(n), labels]`.

Receives a listener, and calls it with the tensors of every such operation while it listens. Comparisons are listened to only between the end of an
evaluation pass and the next training pass, differences also after the training passes of scheduled steps, and what labels pick only where the loop
calls no loss function, so that an ordinary training step never meets the wrappers. They call the original and change nothing. Operations outside torch
(NumPy, scikit-learn) are not heard, and the rules then say "not checked".
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy
import torch
from torch import Tensor

from convscope.capture import out_of_sight

Listener = Callable[..., None]
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
                    setattr(owner, name, self._wrapped(getattr(owner, name), self._listeners))
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

    @staticmethod
    def _wrapped(original: Callable[..., Any], listeners: list[Listener]) -> Callable[..., Any]:
        """The operation, which tells of its two tensors."""

        @functools.wraps(original)
        def operate(one: Any, *others: Any, **keywords: Any) -> Any:
            result = original(one, *others, **keywords)
            two = others[0] if others else keywords.get("other")
            if isinstance(one, Tensor) and isinstance(two, Tensor):
                _tell(listeners, one, two)
            return result

        return operate


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


class PickSpy(_OperationSpy):
    """Tells of labels that pick one number from each row of a table: `table[range(n), labels]` and `gather` along the columns.

    The listener receives the table, the labels (one per row) and what was picked.

    Example:
        >>> spy = PickSpy(lambda table, labels, picked: print(picked))
        >>> spy.listen()
        >>> _ = torch.eye(2)[range(2), torch.tensor([0, 0])]
        tensor([1., 0.])
        >>> spy.stop()
    """

    places = ((Tensor, "__getitem__"), (Tensor, "gather"), (torch, "gather"))

    @staticmethod
    def _wrapped(original: Callable[..., Any], listeners: list[Listener]) -> Callable[..., Any]:
        @functools.wraps(original)
        def pick(table: Any, *others: Any, **keywords: Any) -> Any:
            result = original(table, *others, **keywords)
            if isinstance(table, Tensor) and table.ndim == 2 and (labels := _labels(len(table), others, keywords)) is not None:
                _tell(listeners, table, labels, result)
            return result

        return pick


def _labels(count: int, others: tuple[Any, ...], keywords: dict[str, Any]) -> Tensor | None:
    """The labels among the arguments of a pick from a table of so many rows; None when the arguments ask for something else."""
    if len(others) == 1 and isinstance(others[0], tuple):  # table[rows, labels]
        rows, labels = others[0] if len(others[0]) == 2 else (None, None)
        each = isinstance(rows, Tensor | Sequence | numpy.ndarray) and len(rows) == count
        return labels if each and _is_labels(labels, (count,)) else None
    dim, index = (*others, keywords.get("dim"), keywords.get("index"))[:2] if len(others) != 1 else (others[0], keywords.get("index"))
    return index[:, 0] if dim in (1, -1) and _is_labels(index, (count, 1)) else None


def _is_labels(values: Any, shape: tuple[int, ...]) -> bool:
    return isinstance(values, Tensor) and values.dtype == torch.int64 and tuple(values.shape) == shape


def _tell(listeners: list[Listener], *tensors: Tensor) -> None:
    if getattr(_busy, "now", False) or out_of_sight():
        return
    _busy.now = True  # what a listener computes is not told
    try:
        for listener in tuple(listeners):
            listener(*tensors)
    finally:
        _busy.now = False
