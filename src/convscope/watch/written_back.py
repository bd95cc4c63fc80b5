"""Whether an evaluation leaves other weights behind than it found: averaged ones that were swapped in, or a copy kept from earlier.

Receives the ends of steps, evaluation passes and the beginnings of training passes; compares a few numbers of a few weights before and after each of the
first evaluations, and hands on how much was left of the steps since the evaluation before.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from convscope.watch.deferred import Deferred, Numbers

LARGEST, SAMPLE = 4, 64  # parameters that are looked at, and elements of each
MOST_LOOKS = 8  # after which all is known
MOST_STEPS = 100  # between two such evaluations: one that comes seldom is another stage of training, or another fold


class WrittenBack:
    """Compares the weights before and after evaluations.

    Args:
        model: the watched network.
        deferred: where small results wait.
        receive: is given (share of the steps' work that was left, number of steps) for each evaluation but the first.
    """

    def __init__(self, model: nn.Module, deferred: Deferred, receive: Callable[[float, int], None]) -> None:
        self._model, self._parameters = model, list[nn.Parameter]()  # chosen after the first evaluation, when lazy layers know their sizes
        self._deferred, self._receive = deferred, receive
        self._evaluated = False  # whether an evaluation pass came since the newest step
        self._began: Tensor | None = None  # the weights when training went on after an evaluation
        self._steps = self._looks = 0  # since then; and evaluations that were compared
        self._after: Tensor | None = None  # the weights after the newest step

    def step_ended(self) -> None:
        """The optimiser has stepped."""
        self._evaluated = False
        if self._began is not None:
            self._steps += 1
            self._after = self._sample()
            if self._steps > MOST_STEPS:
                self._began = None

    def evaluation_begins(self) -> None:
        """A pass without gradients, or in evaluation mode."""
        self._evaluated = True

    def training_begins(self) -> None:
        """A training pass begins."""
        if not self._evaluated or self._looks == MOST_LOOKS:
            return
        self._parameters = self._parameters or _largest(self._model)
        if not self._parameters:
            return
        self._evaluated, now = False, self._sample()
        if self._began is not None and self._after is not None:
            self._compare(self._began, self._after, now, self._steps)
        self._began, self._steps, self._after = now if self._looks < MOST_LOOKS else None, 0, None

    def _compare(self, began: Tensor, after: Tensor, now: Tensor, steps: int) -> None:
        self._looks += 1
        way = after - began

        def receive(numbers: Numbers) -> None:
            if numbers[1] > 0:
                self._receive(numbers[0] / numbers[1], steps)

        self._deferred.add(torch.stack([((now - began) * way).sum(), way.square().sum()]), receive)

    def _sample(self) -> Tensor:
        with torch.no_grad():
            return torch.cat([p.detach().reshape(-1)[:SAMPLE].float() for p in self._parameters])


def _largest(model: nn.Module) -> list[nn.Parameter]:
    known = [p for p in model.parameters() if not isinstance(p, nn.UninitializedParameter)]
    trainable = [p for p in known if p.requires_grad and p.is_floating_point() and p.numel()]
    return sorted(trainable, key=torch.Tensor.numel, reverse=True)[:LARGEST]
