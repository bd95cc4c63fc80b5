"""Answers that are amounts: how much of what the targets differ in the answers tell.

Receives the answers and targets of single passes; sums them over an evaluation or over training. "Explained" is 1 less the mean squared error over the
targets' variance: 1 when all answers are right, 0 for always answering the mean. Nothing is copied to the host here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope.watch.deferred import Numbers

LOSSES = frozenset({"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"})
MOST_ROWS, MOST_COLUMNS = 1024, 16  # of a batch, looked at; the columns evenly spaced
TELLING = 1e-12  # of the targets' mean square: less variance is a float's last digits

Sums = NDArray[numpy.float64]


def amounts(answers: Tensor, targets: Tensor) -> Tensor | None:
    """Rows looked at, mean squared error, and mean and variance of each column of the targets; None where they are no amounts of equal shape."""
    if (
        answers.shape != targets.shape
        or targets.ndim == 0
        or not answers.is_floating_point()
        or targets.is_complex()
        or not targets.numel()
    ):
        return None
    with torch.no_grad():
        rows = targets.detach()[:MOST_ROWS].flatten(1) if targets.ndim > 1 else targets.detach()[:MOST_ROWS, None]
        said = answers.detach()[:MOST_ROWS].reshape(rows.shape)
        every = -(-rows.shape[1] // MOST_COLUMNS)
        rows, said = rows[:, ::every].float(), said[:, ::every].float()
        variance, mean = torch.var_mean(rows, 0, correction=0)
        error = (said - rows).square().mean()
        return torch.cat([rows.new_full((1,), len(rows)), error.reshape(1), mean, variance])


@dataclass(slots=True)
class AmountTally:
    """Sums of many passes on the host.

    Attributes:
        samples: how many.
        error: sum over samples of the squared error, averaged over columns.
        means: mean of each column of the targets.
        squares: sum of squared deviations from it.
        within: the same from the mean of the batch alone, averaged over columns.
    """

    samples: int = 0
    error: float = 0.0
    means: Sums = field(default_factory=lambda: numpy.zeros(0))
    squares: Sums = field(default_factory=lambda: numpy.zeros(0))
    within: float = 0.0

    def add(self, figures: Numbers) -> None:
        """Add what `amounts` gave for one pass."""
        samples, error = round(figures[0]), figures[1]
        means, variances = numpy.array(figures[2:]).reshape(2, -1)
        self.join(AmountTally(samples, error * samples, means, variances * samples, float(variances.mean()) * samples))

    def join(self, other: AmountTally) -> None:
        """Add the sums of other passes (Chan, Golub and LeVeque's formula); of targets of another width only the newer are kept."""
        if not other.samples:
            return
        if len(other.means) != len(self.means):
            self.samples, self.error, self.means, self.squares = other.samples, other.error, other.means, other.squares
            self.within = other.within
            return
        samples, apart = self.samples + other.samples, other.means - self.means
        self.squares = self.squares + other.squares + apart**2 * (self.samples * other.samples / samples)
        self.means = self.means + apart * (other.samples / samples)
        self.error += other.error
        self.within += other.within
        self.samples = samples

    @property
    def mean_error(self) -> float:
        """Mean squared error."""
        return self.error / max(1, self.samples)

    @property
    def variance(self) -> float:
        """Of the targets, averaged over columns; what is only rounding counts as 0."""
        if not self.samples:
            return 0.0
        variances = self.squares / self.samples
        return float(numpy.where(variances > TELLING * self.means**2, variances, 0.0).mean())

    @property
    def mean(self) -> float:
        """Of the targets: root mean square of the columns' means, with the sign of the first."""
        if not len(self.means):
            return 0.0
        return float(numpy.copysign(numpy.sqrt((self.means**2).mean()), self.means[0]))

    @property
    def explained(self) -> float | None:
        """Share of the targets' variance that the answers explain; negative when the mean would be a better answer; None when targets do not differ."""
        return 1 - self.mean_error / self.variance if self.samples > 1 and self.variance > 0 else None
