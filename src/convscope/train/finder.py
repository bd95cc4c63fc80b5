"""The learning-rate finder: a mock training with a growing rate, the loss at each, and a suggestion. It leaves the learner exactly as it was."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from convscope.errors import TrainingError, UsageError
from convscope.show import curves
from convscope.train.optimizers import set_hyper
from convscope.train.randomness import deterministic_algorithms, restored_random_state, seed_global

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from convscope.train.learner import Learner

START_LR = 1e-6
END_LR = 10.0
STEPS = 100  # as in fastai; 14 steps a decade
SMOOTHING = 0.9  # of the exponential average of the loss over the sweep's steps, debiased
NEIGHBOURS = 5  # over which the finished sweep is averaged
BELOW_LOWEST = (
    5.0  # the least loss is where learning is about to fail; a fifth of that rate trained best or close to it (LOG.md, 2026-11-23)
)
DIVERGED = 4.0  # the sweep ends when the smoothed loss is this many times its least; fastai's value


@dataclass(frozen=True, slots=True)
class LRFind:
    """What the finder saw.

    Attributes:
        suggestion: a maximum rate for 1cycle; see `suggest`.
        lrs, losses: the rate and the training loss of each step, before divergence.
    """

    suggestion: float
    lrs: tuple[float, ...]
    losses: tuple[float, ...]

    def save_plot(self, path: Path) -> None:
        """Draw it into a PNG file."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 4), layout="constrained")
        self.plot(figure.subplots())
        figure.savefig(path, dpi=120)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the loss against the rate, with the suggestion marked."""
        return curves.plot_lr_find(self.lrs, self.losses, self.suggestion, ax=ax)


def lr_find(learner: Learner, start_lr: float = START_LR, end_lr: float = END_LR, steps: int = STEPS) -> LRFind:
    """Train for a few steps while the rate grows exponentially, and suggest one; see `Learner.lr_find`."""
    if not (0 < start_lr < end_lr and steps >= 2):
        raise UsageError(
            f"The rates must grow: start_lr is {start_lr}, end_lr is {end_lr}, over {steps} steps. The defaults are 1e-6, 10 and 100."
        )
    lrs = [start_lr * (end_lr / start_lr) ** (step / (steps - 1)) for step in range(steps)]
    model, optimizer, training = (
        copy.deepcopy(learner.model.state_dict()),
        copy.deepcopy(learner.optimizer.state_dict()),
        learner.model.training,
    )
    scaler = learner.scaler.state_dict()
    with restored_random_state(learner.device), deterministic_algorithms(learner.deterministic):
        try:
            losses = list(_sweep(learner, lrs))
        finally:
            learner.model.load_state_dict(model)
            learner.optimizer.load_state_dict(optimizer)
            learner.scaler.load_state_dict(scaler)
            learner.optimizer.zero_grad()
            learner.model.train(training)
    if len(losses) < 2:
        raise TrainingError(
            "The loss was not a finite number at the first steps, even with a tiny learning rate. "
            "Look at the images (show_batch) and at the network's outputs."
        )
    kept = lrs[: len(losses)]
    return LRFind(suggest(kept, losses), tuple(kept), tuple(losses))


def _sweep(learner: Learner, lrs: list[float]) -> Iterator[float]:
    """The loss at each rate, until it diverges."""
    network = learner.processes.wrap(learner.model)
    network.train()
    rank, world = learner.processes.rank, learner.processes.world
    endless = itertools.chain.from_iterable(learner.data.train.batches(epoch, 0, rank, world) for epoch in itertools.count())
    average, least = 0.0, math.inf
    for step, (lr, (inputs, targets)) in enumerate(zip(lrs, endless, strict=False)):
        seed_global(learner.device, learner.seed, "lr_find", step, rank)
        set_hyper(learner.optimizer, lr, None)
        loss = _step(learner, network, inputs, targets)
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smooth = average / (1 - SMOOTHING ** (step + 1))
        if not math.isfinite(loss) or smooth > DIVERGED * least:
            return
        least = min(least, smooth)
        yield loss


def _step(learner: Learner, network: torch.nn.Module, inputs: Tensor, targets: Tensor) -> float:
    with learner.autocast():
        loss = learner.train_loss(network(inputs), targets)
    learner.optimizer.zero_grad()
    learner.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    return float(learner.processes.add(loss.detach().double())) / learner.processes.world


def suggest(lrs: list[float], losses: list[float]) -> float:
    """A maximum rate for 1cycle from a sweep.

    Args:
        lrs: rates, growing by a constant factor.
        losses: the training loss at each.

    Returns:
        A fifth of the rate with the least smoothed loss.
    """
    lowest = int(_smooth(np.asarray(losses)).argmin())
    return lrs[lowest] / BELOW_LOWEST


def _smooth(losses: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """An average over neighbours on both sides, so that nothing shifts; the same length."""
    padded = np.pad(losses, NEIGHBOURS // 2, mode="edge")
    return np.convolve(padded, np.ones(NEIGHBOURS) / NEIGHBOURS, mode="valid")
