"""Listening to operations that a loop writes out: `model(images).argmax(1) == labels`, `model(rows) - targets`, `log_softmax(...)[range(n), labels]`.

Receives a listener, and calls it with the tensors of every such operation while it listens. Comparisons are listened to only between the end of an
evaluation pass and the next training pass, differences also after the training passes of scheduled steps, and what labels pick and products only where
the loop calls no loss function, so that an ordinary training step never meets the wrappers. They call the original and change nothing. Operations outside torch
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
Trouble = Callable[[Exception], None]
_lock = threading.Lock()
_busy = threading.local()


def raised(error: Exception) -> None:
    """Raise what went wrong."""
    raise error


class _OperationSpy:
    """Tells a listener of an operation between tensors, from `listen` until `stop`; both may be called twice.

    Args:
        listener: is told what `_read` finds.
        trouble: is given what goes wrong in reading and listening, which must not reach the loop; unless given, it is raised.
    """

    places: ClassVar[tuple[tuple[Any, str], ...]]
    _listening: ClassVar[list[_OperationSpy]]
    _before: ClassVar[dict[tuple[int, str], Any]]  # what stood at each place itself, None when it was inherited

    def __init_subclass__(cls) -> None:
        cls._listening, cls._before = [], {}

    def __init__(self, listener: Listener, trouble: Trouble = raised) -> None:
        self._listener, self._trouble = listener, trouble
        self._listens = False

    @staticmethod
    def _read(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Tensor, ...] | None:
        """The tensors to tell of; None for an operation between other things."""
        raise NotImplementedError

    def listen(self) -> None:
        """Begin to tell."""
        if self._listens:
            return
        self._listens = True
        with _lock:
            if not self._listening:
                for owner, name in self.places:
                    self._before[id(owner), name] = vars(owner).get(name)
                    setattr(owner, name, self._wrapped(getattr(owner, name)))
            self._listening.append(self)

    def stop(self) -> None:
        """Tell nothing any more; the last one to stop takes the wrappers off."""
        if not self._listens:
            return
        self._listens = False
        with _lock:
            self._listening.remove(self)
            for owner, name in self.places if not self._listening else ():
                original = self._before.pop((id(owner), name))
                if original is None:
                    delattr(owner, name)
                else:
                    setattr(owner, name, original)

    @classmethod
    def _wrapped(cls, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def operate(*arguments: Any, **keywords: Any) -> Any:
            result = original(*arguments, **keywords)
            if not getattr(_busy, "now", False) and not out_of_sight():
                cls._tell(arguments, keywords)
            return result

        return operate

    @classmethod
    def _tell(cls, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        _busy.now = True  # what a listener computes is not told
        try:
            for spy in tuple(cls._listening):
                try:
                    if (tensors := cls._read(arguments, keywords)) is not None:
                        spy._listener(*tensors)
                except Exception as error:
                    spy._trouble(error)
        finally:
            _busy.now = False


class _PairSpy(_OperationSpy):
    """Tells of both tensors of an operation between two."""

    @staticmethod
    def _read(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Tensor, ...] | None:
        given = {**dict(zip(("input", "other"), arguments, strict=False)), **keywords}
        one, two = given.get("input"), given.get("other")
        return (one, two) if isinstance(one, Tensor) and isinstance(two, Tensor) else None


class ComparisonSpy(_PairSpy):
    """Tells of comparisons for equality: `==`, `eq` and `torch.eq`.

    Example:
        >>> spy = ComparisonSpy(lambda one, two: print(one.shape, two.shape))
        >>> spy.listen()
        >>> _ = torch.tensor([1, 2]) == torch.tensor([1, 3])
        torch.Size([2]) torch.Size([2])
        >>> spy.stop()
    """

    places = ((Tensor, "__eq__"), (Tensor, "eq"), (torch, "eq"))


class DifferenceSpy(_PairSpy):
    """Tells of differences: `-`, `sub` and `torch.sub`.

    Example:
        >>> spy = DifferenceSpy(lambda one, two: print(one.shape, two.shape))
        >>> spy.listen()
        >>> _ = torch.ones(2) - torch.zeros(2)
        torch.Size([2]) torch.Size([2])
        >>> spy.stop()
    """

    places = ((Tensor, "__sub__"), (Tensor, "sub"), (torch, "sub"))


class ProductSpy(_PairSpy):
    """Tells of products: `*`, `mul` and `torch.mul`.

    Example:
        >>> spy = ProductSpy(lambda one, two: print(one.shape, two.shape))
        >>> spy.listen()
        >>> _ = torch.ones(2) * torch.zeros(2)
        torch.Size([2]) torch.Size([2])
        >>> spy.stop()
    """

    places = ((Tensor, "__mul__"), (Tensor, "mul"), (torch, "mul"))


class PickSpy(_OperationSpy):
    """Tells of labels that pick one number from each row of a table: `table[range(n), labels]` and `gather` along the columns.

    The listener receives the table and the labels, one per row.

    Example:
        >>> spy = PickSpy(lambda table, labels: print(labels))
        >>> spy.listen()
        >>> _ = torch.eye(2)[range(2), torch.tensor([0, 0])]
        tensor([0, 0])
        >>> spy.stop()
    """

    places = ((Tensor, "__getitem__"), (Tensor, "gather"), (torch, "gather"))

    @staticmethod
    def _read(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Tensor, ...] | None:
        table = arguments[0] if arguments else keywords.get("input")
        if not isinstance(table, Tensor) or table.ndim != 2:
            return None
        labels = _labels(len(table), arguments[1:], keywords)
        return (table, labels) if labels is not None else None


def _labels(count: int, others: tuple[Any, ...], keywords: dict[str, Any]) -> Tensor | None:
    """The labels among the arguments of a pick from a table of so many rows; None when the arguments ask for something else."""
    if len(others) == 1 and isinstance(others[0], tuple):  # table[rows, labels]
        rows, labels = others[0] if len(others[0]) == 2 else (None, None)
        each = isinstance(rows, Tensor | Sequence | numpy.ndarray) and len(rows) == count
        return labels if each and _is_labels(labels, (count,)) else None
    given = {**dict(zip(("dim", "index"), others, strict=False)), **keywords}
    dim, index = given.get("dim"), given.get("index")
    return index[:, 0] if isinstance(dim, int) and dim in (1, -1) and isinstance(index, Tensor) and _is_labels(index, (count, 1)) else None


def _is_labels(values: Any, shape: tuple[int, ...]) -> bool:
    return isinstance(values, Tensor) and values.dtype == torch.int64 and tuple(values.shape) == shape
