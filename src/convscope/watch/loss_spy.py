"""Seeing the loss's input: light wrappers around the loss functions of torch.nn.functional, only while somebody watches.

`nn.CrossEntropyLoss` and the other loss modules look their function up in torch.nn.functional at each call, so one wrapper sees modules and functions
alike. (A TorchFunctionMode would see them too, but costs 0.8 ms a step and switches off PyTorch's fast path for attention.) A function that was
imported by name before watching began is not seen, and the rules then say "not checked". The wrappers call the original and change nothing.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from convscope.capture import out_of_sight

LOSSES = (
    "cross_entropy",
    "nll_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "kl_div",
)
# PyTorch's warnings about a loss name the line that called it. Python passes over frames of files so named when it looks for that line
# (warnings._is_internal_frame), so that the line is the user's and not one of ours.
PASSED_OVER = f"{__file__} (like importlib/_bootstrap)"


@dataclass(frozen=True, slots=True)
class LossCall:
    """One call of a loss function: its name, input, target, result and the weights of the classes, if it has any."""

    name: str
    input: Tensor
    target: Tensor
    result: Tensor
    weight: Tensor | None = None


Listener = Callable[[LossCall], None]
_listeners: list[Listener] = []
_originals: dict[str, Callable[..., Any]] = {}
_lock = threading.Lock()


class LossSpy:
    """Context manager: while it is open, `listener` is told of every loss that is computed in this process.

    Example:
        >>> with LossSpy(lambda call: print(call.name)):
        ...     nn.CrossEntropyLoss()(scores_NL, labels_N)
        cross_entropy
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def __enter__(self) -> LossSpy:
        with _lock:
            if not _listeners:
                for name in LOSSES:
                    _originals[name] = getattr(F, name)
                    setattr(F, name, _wrapped(name, _originals[name]))
            _listeners.append(self._listener)
        return self

    def __exit__(self, *_: object) -> None:
        with _lock:
            _listeners.remove(self._listener)
            if not _listeners:
                for name, original in _originals.items():
                    setattr(F, name, original)
                _originals.clear()


def keep_wrapped() -> None:
    """Leave the wrappers in place until the process ends, so that a name imported from torch.nn.functional later on can be listened to."""
    LossSpy(lambda _: None).__enter__()


def _weight(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """How much each class counts."""
    by_class = name in ("cross_entropy", "nll_loss")
    weight = args[2] if by_class and len(args) > 2 else kwargs.get("weight" if by_class else "pos_weight")
    return weight if isinstance(weight, Tensor) else None


def _wrapped(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def loss(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if not out_of_sight():
            values = args[0] if args else kwargs.get("input")
            target = args[1] if len(args) > 1 else kwargs.get("target")
            if isinstance(values, Tensor) and isinstance(target, Tensor) and isinstance(result, Tensor):
                call = LossCall(name, values, target, result, _weight(name, args, kwargs))
                for listener in tuple(_listeners):
                    listener(call)
        return result

    loss.__prepare_scriptable__ = lambda: original  # type: ignore[attr-defined]  # torch.jit.script compiles the source of what it finds
    loss.__code__ = loss.__code__.replace(co_filename=PASSED_OVER)  # type: ignore[attr-defined]
    return loss
