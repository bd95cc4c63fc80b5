"""A cross-entropy that the loop writes out itself: `-log_softmax(scores, 1)[range(n), labels].mean()`, with `gather` or one-hot labels, or from probabilities.

Receives the passes of a network and what their backward passes began with; hands on a LossCall for each such loss, as if `nll_loss` had been called.
It listens between a training pass and its backward pass only, and in the first three passes only, unless such a loss was found there; a loop that calls
a loss function is never listened to again.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from convscope.watch.backward import root_of_backward
from convscope.watch.comparison_spy import PickSpy, ProductSpy
from convscope.watch.graph_facts import operation
from convscope.watch.loss_graph import Output
from convscope.watch.loss_spy import LossCall

LOOKS = 3  # passes that must agree
CONSTANT = (
    1.02  # greatest over least factor between the loss and what was picked, when the loop multiplies it (a sum, a share of several passes)
)
NEARLY = (0.7, 1.5)  # factors that are 1 with something small added, such as label smoothing or a penalty
MOST_NODES = 12  # between what labels pick from and the output
SUMS_TO_ONE = 1e-3


class _Pick(NamedTuple):
    """What labels picked in one pass, one number per sample."""

    of: str  # "logarithms" of probabilities, "probabilities", or "scores"
    mean: Tensor  # of the cross-entropy that it stands for


class PickedLoss:
    """Finds a cross-entropy that is written out, and tells of it in every training pass from then on.

    Args:
        tell: receives each call; its input is what the labels picked from, as logarithms.
        trouble: is given what goes wrong in listening.
    """

    def __init__(self, tell: Callable[[LossCall], None], trouble: Callable[[Exception], None]) -> None:
        self._tell = tell
        self._spies = (PickSpy(self._picked, trouble), ProductSpy(self._multiplied, trouble))
        self._output: Output | None = None
        self._pick: _Pick | None = None
        self._looks: list[tuple[str, float]] = []
        self._passes = 0
        self._found: tuple[str, float] | None = None  # from what labels pick, and the factor of the mean
        self._given_up = False

    def pass_ended(self, output: Tensor) -> None:
        """A training pass has ended."""
        self._pick = None
        self._output = None if self._given_up else Output.of(output)
        for spy in self._spies if self._output is not None else ():
            spy.listen()

    def loss_called(self) -> None:
        """A loss function was called: nothing is written out."""
        if self._found is None:
            self._give_up()

    def stop(self) -> None:
        """Take the wrappers off until the next training pass."""
        for spy in self._spies:
            spy.stop()

    def backward_began(self) -> None:
        """The backward pass of the newest training pass has come to its output."""
        self.stop()
        if self._given_up or self._found is not None:
            return
        self._passes += 1
        root, pick = root_of_backward(), self._pick
        if root is None or root.numel() != 1 or pick is None:
            self._give_up()
            return
        self._looks.append((pick.of, float(root) / float(pick.mean) if float(pick.mean) else 0.0))
        if self._passes == LOOKS:
            self._decide()

    def _give_up(self) -> None:
        self._given_up = True
        self.stop()

    def _decide(self) -> None:
        kinds, factors = {of for of, _ in self._looks}, [factor for _, factor in self._looks]
        constant = min(factors) > 0 and max(factors) < CONSTANT * min(factors)
        nearly = NEARLY[0] < min(factors) and max(factors) < NEARLY[1]
        exactly = constant and 1 / CONSTANT < min(factors) < CONSTANT
        if len(kinds) != 1 or not (exactly if "scores" in kinds else constant or nearly):
            self._give_up()
            return
        self._found = (kinds.pop(), 1.0 if nearly else statistics.median(factors))

    def _multiplied(self, one: Tensor, two: Tensor) -> None:
        """Two tensors were multiplied; perhaps one-hot labels have picked."""
        for table, shares in ((one, two), (two, one)):
            if table.requires_grad and table.ndim == 2 and table.shape == shares.shape and not shares.requires_grad and _is_one_hot(shares):
                self._picked(table, shares.argmax(1))
                return

    def _picked(self, values: Tensor, labels: Tensor) -> None:
        """Labels have picked one number of each sample's."""
        if not values.requires_grad or not values.is_floating_point() or self._output is None:
            return
        if self._found is None and not _leads_to(values.grad_fn, self._output.number):
            return
        self.stop()
        with torch.no_grad():
            of, factor = self._found or (_kind_of(values), 1.0)
            picked = values.detach().gather(1, labels[:, None]).float()
            mean = -(picked.log() if of == "probabilities" else picked).mean()
        if self._found is None:
            self._pick = _Pick(of, mean)
        else:
            self._tell(LossCall("nll_loss", values.log() if of == "probabilities" else values, labels, mean * factor))


def _leads_to(node: Any, number: int) -> bool:
    """Whether a few operations on one path lie between a node and the one that made the output."""
    for _ in range(MOST_NODES):
        if node is None:
            return False
        if node._sequence_nr() == number and operation(node) != "AccumulateGrad":
            return True
        node = next((parent for parent, _ in node.next_functions if parent is not None), None)
    return False


def _is_one_hot(shares: Tensor) -> bool:
    """Whether each row has a single one among zeros; this waits for the device."""
    return bool(((shares == 0) | (shares == 1)).all() & (shares.sum(1) == 1).all())


def _kind_of(values: Tensor) -> str:
    """What a table holds; this waits for the device."""
    values = values.detach().float()
    if bool(((values.exp().sum(1) - 1).abs() < SUMS_TO_ONE).all()):
        return "logarithms"
    return "probabilities" if bool((values >= 0).all() & ((values.sum(1) - 1).abs() < SUMS_TO_ONE).all()) else "scores"
