"""Seeing the loss's input: the loss functions of torch.nn.functional tell who listens, only while somebody watches.

While somebody listens, a function's code is exchanged for a few lines that call a copy of it and pass on what went in and came out. The function stays
the same object, so it is heard under every name: through `nn.CrossEntropyLoss`, as `F.cross_entropy`, and as `criterion = F.cross_entropy` or
`from torch.nn.functional import cross_entropy` from before watching began. (A TorchFunctionMode would hear them too, but costs 0.8 ms a step and
switches off PyTorch's fast path for attention.) Nothing that is computed changes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FunctionType
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
    "poisson_nll_loss",
    "hinge_embedding_loss",
    "soft_margin_loss",
    "cosine_embedding_loss",
    "margin_ranking_loss",
)
OF_PAIRS = ("cosine_embedding_loss", "margin_ranking_loss")  # two inputs come before the target
# PyTorch's warnings about a loss name the line that called it. Python passes over frames of files so named when it looks for that line
# (warnings._is_internal_frame), so that the line is the user's and not one of ours.
PASSED_OVER = f"{__file__} (like importlib/_bootstrap)"


@dataclass(frozen=True, slots=True)
class LossCall:
    """One call of a loss function.

    Attributes:
        name: of the function.
        input: its (first) input.
        target: what the input is compared with.
        result: the loss.
        weight: of the classes, where there are any.
        log_input: whether it takes its input for a logarithm; None where that is no question.
    """

    name: str
    input: Tensor
    target: Tensor
    result: Tensor
    weight: Tensor | None = None
    log_input: bool | None = None


Listener = Callable[[LossCall], None]
_listeners: list[Listener] = []
_copies: dict[str, FunctionType] = {}  # of PyTorch's functions, by name; kept for calls that are under way when the last listener goes
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
                    _listen(name)
            _listeners.append(self._listener)
        return self

    def __exit__(self, *_: object) -> None:
        with _lock:
            _listeners.remove(self._listener)
            if not _listeners:
                for name in LOSSES:
                    _leave(name)


def _listen(name: str) -> None:
    """Exchange a function's code; what reads a function's source (torch.jit.script, inspect) is sent to the copy."""
    function: Any = getattr(F, name)
    copy = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__, copy.__annotations__, copy.__doc__ = function.__kwdefaults__, function.__annotations__, function.__doc__
    _copies[name] = copy
    function.__wrapped__, function.__prepare_scriptable__ = copy, lambda: copy
    function.__code__ = _code(name)


def _leave(name: str) -> None:
    function: Any = getattr(F, name)
    function.__code__ = _copies[name].__code__
    del function.__wrapped__, function.__prepare_scriptable__


def _code(name: str) -> CodeType:
    """The lines that stand in for a loss function's own. They run among PyTorch's globals, so they bring in what they need."""

    def loss(*args: Any, **kwargs: Any) -> Any:
        from convscope.watch import loss_spy

        return loss_spy.heard("name", args, kwargs)

    code = loss.__code__
    constants = tuple(name if constant == "name" else constant for constant in code.co_consts)
    return code.replace(co_consts=constants, co_filename=PASSED_OVER, co_name=name, co_qualname=name)


def heard(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The loss as PyTorch computes it, after the listeners were told."""
    result = _copies[name](*args, **kwargs)
    if not out_of_sight():
        place = 2 if name in OF_PAIRS else 1
        values = args[0] if args else kwargs.get("input1" if name in OF_PAIRS else "input")
        target = args[place] if len(args) > place else kwargs.get("target")
        if isinstance(values, Tensor) and isinstance(target, Tensor) and isinstance(result, Tensor):
            log_input = (args[2] if len(args) > 2 else kwargs.get("log_input", True)) if name == "poisson_nll_loss" else None
            call = LossCall(name, values, target, result, _weight(name, args, kwargs), log_input)
            for listener in tuple(_listeners):
                listener(call)
    return result


heard.__code__ = heard.__code__.replace(co_filename=PASSED_OVER)


def _weight(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """How much each class counts."""
    by_class = name in ("cross_entropy", "nll_loss")
    weight = args[2] if by_class and len(args) > 2 else kwargs.get("weight" if by_class else "pos_weight")
    return weight if isinstance(weight, Tensor) else None
