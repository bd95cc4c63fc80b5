"""Whether an evaluation leaves other weights behind than it found: averaged ones that were swapped in, or a copy kept from earlier.

Receives the ends of steps, evaluation passes and the beginnings of training passes; counts how often hardly anything was left of the steps since the
evaluation before. A tensor's version tells for free whether anybody wrote into it; numbers are compared only where somebody did.
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
    """Compares the weights before and after evaluations during which somebody wrote into them.

    Args:
        model: the watched network.
        deferred: where small results wait.
        receive: is given (share of the steps' work that was left, number of steps) for each such evaluation but the first.
    """

    def __init__(self, model: nn.Module, deferred: Deferred, receive: Callable[[float, int], None]) -> None:
        trainable = [p for p in model.parameters() if p.requires_grad and p.is_floating_point() and p.numel()]
        self._parameters = sorted(trainable, key=torch.Tensor.numel, reverse=True)[:LARGEST]
        self._deferred, self._receive = deferred, receive
        self._versions: list[int] = []  # at the end of the step; empty until then
        self._evaluated = False  # whether an evaluation pass came since
        self._began: Tensor | None = None  # the weights when training went on after such an evaluation
        self._began_at = self._looks = 0
        self._after: Tensor | None = None  # the weights after the newest step

    def step_ended(self) -> None:
        """The optimiser has stepped."""
        if self._looks < MOST_LOOKS:
            self._versions, self._evaluated = [p._version for p in self._parameters], False
            if self._began is not None:
                self._after = self._sample()

    def evaluation_begins(self) -> None:
        """A pass without gradients, or in evaluation mode."""
        self._evaluated = True

    def training_begins(self, step: int) -> None:
        """A training pass begins."""
        versions, self._versions = self._versions, []
        if not self._evaluated or not versions or versions == [p._version for p in self._parameters]:
            return
        now, steps = self._sample(), step - self._began_at
        if self._began is not None and self._after is not None and steps <= MOST_STEPS:
            self._looks += 1
            way = self._after - self._began

            def receive(numbers: Numbers) -> None:
                if numbers[1] > 0:
                    self._receive(numbers[0] / numbers[1], steps)

            self._deferred.add(torch.stack([((now - self._began) * way).sum(), way.square().sum()]), receive)
        self._began, self._began_at, self._after = now, step, None

    def _sample(self) -> Tensor:
        with torch.no_grad():
            return torch.cat([p.detach().reshape(-1)[:SAMPLE].float() for p in self._parameters])
