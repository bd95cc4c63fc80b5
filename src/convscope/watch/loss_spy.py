"""Seeing the loss's input: the loss functions of torch.nn.functional, which the loss modules call too, tell who listens, only while somebody watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from convscope.watch.exchange import Hearing

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
        _hearing.add(self._listener)
        return self

    def __exit__(self, *_: object) -> None:
        _hearing.remove(self._listener)


def _heard(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
    place = 2 if name in OF_PAIRS else 1
    values = args[0] if args else kwargs.get("input1" if name in OF_PAIRS else "input")
    target = args[place] if len(args) > place else kwargs.get("target")
    if isinstance(values, Tensor) and isinstance(target, Tensor) and isinstance(result, Tensor):
        log_input = (args[2] if len(args) > 2 else kwargs.get("log_input", True)) if name == "poisson_nll_loss" else None
        call = LossCall(name, values, target, result, _weight(name, args, kwargs), log_input)
        for listener in _hearing.listeners:
            listener(call)


def _weight(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """How much each class counts."""
    by_class = name in ("cross_entropy", "nll_loss")
    weight = args[2] if by_class and len(args) > 2 else kwargs.get("weight" if by_class else "pos_weight")
    return weight if isinstance(weight, Tensor) else None


_hearing = Hearing(LOSSES, _heard)
