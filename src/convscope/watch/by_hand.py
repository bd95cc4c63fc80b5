"""Loops that change the weights by themselves, without an optimiser: `weight -= rate * weight.grad`.

Receives the networks; tells whether their weights have moved since they were last looked at. Whoever records then lets `optimizer` stand for the loop's
own lines: a step of it begins when a backward pass is complete, and ends at the next pass.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

SOME_WEIGHTS, SOME_VALUES = 8, 16  # parameters, and values of each, that are compared: a change through `.data` shows only in the values


class ByHand(Optimizer):
    """Stands in records for the loop's own lines. It holds every trainable parameter, has no settings, and never steps."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        super().__init__(parameters, {})


class StepsByHand:
    """Whether weights move although no optimiser steps.

    Args:
        models: the networks that are watched.

    Attributes:
        optimizer: stands for the loop's own lines, once they were met.
        begun: whether a step of it has begun and not ended.
    """

    def __init__(self, models: Iterable[nn.Module]) -> None:
        self._models = tuple(models)
        self.optimizer: ByHand | None = None
        self.begun = False
        self._before: list[tuple[Tensor, int, Tensor]] = []

    def look(self) -> bool:
        """Whether a weight has moved since the last look. It waits for the device only for changes through `.data`, which leave no other trace."""
        before, weights = self._before, self._weights()[:SOME_WEIGHTS]
        if (
            before
            and all(weight._version == version for weight, version, _ in before)
            and all(map(torch.equal, map(_some, weights), self._values()))
        ):
            return False
        self._before = [(weight, weight._version, _some(weight).clone()) for weight in weights]
        return bool(before)

    def _values(self) -> list[Tensor]:
        return [values for _, _, values in self._before]

    def stand_in(self) -> ByHand:
        """The optimiser that stands for the loop's own lines from now on."""
        if self.optimizer is None:
            self.optimizer = ByHand(self._weights())
        return self.optimizer

    def has_optimizer(self) -> bool:
        """Whether some optimiser in this process holds the weights; it may be in the middle of a step that began before anyone looked."""
        ours = {id(weight) for weight in self._weights()}
        optimizers = (one for one in gc.get_objects() if issubclass(type(one), Optimizer))
        return any(id(weight) in ours for one in optimizers for group in one.param_groups for weight in group["params"])

    def _weights(self) -> list[nn.Parameter]:
        weights = (p for model in self._models for p in model.parameters() if p.requires_grad and not is_lazy(p))
        return list(dict.fromkeys(weights))


def _some(weight: Tensor) -> Tensor:
    return weight.detach().reshape(-1)[:SOME_VALUES]


def is_lent(module: nn.Module) -> bool:
    """Whether other tensors stand in for the module's parameters just now, as torch.func.functional_call does."""
    return any(
        parameter is not None and not isinstance(parameter, nn.Parameter)
        for part in module.modules()
        for parameter in part._parameters.values()
    )
