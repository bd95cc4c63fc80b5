"""Which watched networks an optimiser trains.

Receives the networks' parameters and the optimisers that step; answers with names of networks. It keeps no optimiser alive.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping

from torch import nn
from torch.optim import Optimizer


class Trainers:
    """Who trains whom.

    Args:
        models: the networks by name.

    Attributes:
        met: whether an optimiser was met that holds parameters of a watched network.
    """

    def __init__(self, models: Mapping[str, nn.Module]) -> None:
        self.met = False
        self._models = dict(models)
        self._held = _held_by(self._models)
        self._known: weakref.WeakKeyDictionary[Optimizer, list[str]] = weakref.WeakKeyDictionary()

    def concerned(self, optimizer: Optimizer) -> list[str]:
        """The networks that an optimiser trains, or has trained; all of them, until one was met that trains any."""
        holders = self._holders(optimizer)
        if not holders and optimizer not in self._known:  # it may hold layers that the networks have got since
            self._held = _held_by(self._models)
            holders = self._holders(optimizer)
        if holders or optimizer not in self._known:
            self._known[optimizer] = holders
        holders = holders or self._known[optimizer]
        self.met = self.met or bool(holders)
        return holders or ([] if self.met else list(self._models))

    def _holders(self, optimizer: Optimizer) -> list[str]:
        return [name for name, held in self._held.items() if _holds(optimizer, held)]


def _held_by(models: Mapping[str, nn.Module]) -> dict[str, set[int]]:
    return {name: {id(parameter) for parameter in model.parameters()} for name, model in models.items()}


def _holds(optimizer: Optimizer, parameters: set[int]) -> bool:
    return any(id(parameter) in parameters for group in optimizer.param_groups for parameter in group["params"])
