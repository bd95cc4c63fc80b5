"""Sums over one evaluation: answers, labels, and how many of its samples were trained on.

Receives what is known of each evaluated batch; gives the numbers of one "validation" observation. A loop may measure the training set and a held-out
set one after the other: batches that were wholly trained on are counted apart, so that they do not hide what is known of new samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy
from numpy.typing import NDArray

from convscope.watch.deferred import Codes
from convscope.watch.identity import MOST_KNOWN, Identity
from convscope.watch.observe_amounts import AmountTally

Counts = NDArray[numpy.int64]
WHOLLY_KNOWN, HARDLY_KNOWN = 0.95, 0.02  # of a batch: it was trained on, it was not
LEAST_NEW = 0.25  # of the samples in batches that were trained on in part
MOST_ASKED = 64  # of a batch, that are remembered


@dataclass(slots=True)
class Tally:
    """Sums of Answers on the host.

    Attributes:
        images, loss, right, second: how many, the sum of their losses, how many were answered rightly, and of how many others the label was the
            second choice.
        said, labels: answers and labels per class.
    """

    images: int = 0
    loss: float = 0.0
    right: int = 0
    second: int = 0
    said: Counts = field(default_factory=lambda: numpy.zeros(0, dtype=numpy.int64))
    labels: Counts = field(default_factory=lambda: numpy.zeros(0, dtype=numpy.int64))

    def add(self, codes: Codes, classes: int) -> Counts:
        """Add one batch's answers; its labels per class."""
        said, labels, above = codes[1:].reshape(3, -1)
        counts = labels >= 0
        if not counts.all():
            said, labels, above = said[counts], labels[counts], above[counts]
        right = said == labels
        images, labels = len(labels), numpy.bincount(labels, minlength=classes)
        if images:
            self.loss += float(codes[:1].view(numpy.float64)[0]) * images
        self.images += images
        self.right += int(right.sum())
        self.second += int(((above == 1) & ~right).sum())
        self.said, self.labels = sum_of_counts(self.said, numpy.bincount(said, minlength=classes)), sum_of_counts(self.labels, labels)
        return labels

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.images + other.images,
            self.loss + other.loss,
            self.right + other.right,
            self.second + other.second,
            sum_of_counts(self.said, other.said),
            sum_of_counts(self.labels, other.labels),
        )


@dataclass(slots=True)
class Part:
    """Some of an evaluation's samples: how many, how many of them were trained on (estimated), their answers; without classes batches' losses and amounts."""

    samples: int = 0
    known: float = 0.0
    answers: Tally = field(default_factory=Tally)
    losses: list[float] = field(default_factory=list)
    amounts: AmountTally = field(default_factory=AmountTally)

    def __add__(self, other: Part) -> Part:
        amounts = AmountTally()
        amounts.join(self.amounts)
        amounts.join(other.amounts)
        answers, losses = self.answers + other.answers, self.losses + other.losses
        return Part(self.samples + other.samples, self.known + other.known, answers, losses, amounts)

    @property
    def share(self) -> float:
        """Of the samples, trained on."""
        return self.known / max(1, self.samples)


@dataclass(slots=True)
class Evaluation:
    """One evaluation, from its first pass to the next training step.

    Attributes:
        new: batches of which hardly anything was trained on.
        partly: batches that were trained on in part.
        trained: batches that were trained on wholly.
        leaked: samples trained on in the first two, seen when all training samples were known.
        found: kept hashes of samples that were trained on.
        asked: some hashes of samples that were evaluated in training mode.
    """

    new: Part = field(default_factory=Part)
    partly: Part = field(default_factory=Part)
    trained: Part = field(default_factory=Part)
    leaked: float = 0.0
    found: set[int] = field(default_factory=set)
    asked: set[int] = field(default_factory=set)

    def asked_again(self, hashes: Codes) -> bool:
        """Whether these samples were all evaluated before in this very evaluation: answers are averaged over several passes, as Monte Carlo dropout does."""
        some = set(hashes[:MOST_ASKED].tolist())
        again = some <= self.asked
        if len(self.asked) < MOST_KNOWN:
            self.asked |= some
        return again

    def add(self, hashes: Codes, identity: Identity) -> float:
        """Add one batch; the share of its samples that was trained on."""
        known, samples = identity.known(hashes), len(hashes)
        share = known / samples
        part = self.part(share)
        part.samples += samples
        part.known += known
        if share < WHOLLY_KNOWN and identity.all_known:
            self.leaked += known
        self.found |= identity.trained_on(hashes)
        return share

    def part(self, share_known: float) -> Part:
        """Where a batch belongs."""
        return self.trained if share_known >= WHOLLY_KNOWN else self.new if share_known < HARDLY_KNOWN else self.partly

    def numbers(self, identity: Identity, training_losses: Sequence[float] = ()) -> dict[str, float | int | str | bool | None]:
        """The numbers of the "validation" observation: of new samples, where there are any.

        Args:
            identity: what is known of the training samples.
            training_losses: of the training passes since the last evaluation, where labels are no classes.
        """
        two_series = (
            self.partly.samples and self.new.samples >= LEAST_NEW * self.partly.samples
        )  # the second: training samples, some not drawn yet
        part, leaked = (self.new, 0.0) if two_series else (self.new + self.partly, self.leaked)
        leaked /= max(1, part.samples)
        part = part if part.samples or part.answers.images else self.trained
        tally = part.answers
        answered: dict[str, float | int | str | bool | None] = {
            "samples": tally.images or part.samples,
            "loss": finite_mean(part.losses),
            "training_loss": finite_mean(training_losses),
            "accuracy": None,
            "largest_answer": None,
            "largest_label": None,
            "explained": None if tally.images else part.amounts.explained,
        }
        if tally.images:
            loss = tally.loss / tally.images
            answered["loss"], answered["training_loss"] = loss if math.isfinite(loss) else None, None
            answered["accuracy"] = tally.right / tally.images
            answered["largest_answer"] = int(tally.said.max()) / tally.images
            answered["largest_label"] = int(tally.labels.max()) / tally.images
        return {**answered, "in_training": part.share, "leaked": leaked, "coverage": len(self.found) / max(1, identity.distinct)}


def finite_mean(values: Sequence[float]) -> float | None:
    """Their mean; None when there are none, or one is not finite."""
    return math.fsum(values) / len(values) if values and all(map(math.isfinite, values)) else None


def sum_of_counts(one: Counts, two: Counts) -> Counts:
    """Counts per class added; where there are fewer classes, the others count as zero."""
    if len(one) == len(two):
        return one + two
    short, long = sorted((one, two), key=len)
    return long + numpy.pad(short, (0, len(long) - len(short)))


def entropy(counts: Counts) -> float:
    """Entropy in nats of the shares that these counts are."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * numpy.log(shares)).sum())
