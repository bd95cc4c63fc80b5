"""What the answers are computed from: shipped digits, and small trainings of 50 steps, each made once when it is first asked for.

Every training is the book's data, optimiser and networks with fewer images; nothing is downloaded and nothing written.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from convscope.data import BatchLoader, DataLoaders, Split, load_data
from convscope.errors import NonFiniteError
from convscope.nn import simple_cnn
from convscope.train.activation_stats import ActivationStats
from convscope.train.learner import Learner
from convscope.train.schedules import Schedule

BATCH_SIZE = 512  # the book's
STEPS = 50  # enough for a collapse at this rate to show, and for a healthy network to pass 90 %
VALID_IMAGES = 2_000
HIGH_LR, LOW_LR = 0.06, 0.0006  # the book's rate that collapses without warm-up; a hundredth of it
COLLAPSED = 0.2  # accuracy below which a network of ten classes has learned nothing (one class alone is right in 11 %)
MOST_TRIED = 8  # seeds, of which about two in three collapse

Kind = Literal["one_cycle", "constant"]


@dataclass(frozen=True, slots=True)
class Training:
    """A finished short training.

    Attributes:
        learner: with its recorder and activation statistics; the network is trained.
        accuracy, train_loss, valid_loss: at the end, on validation images and on as many training images, both in evaluation mode.
        seed: from which it came.
    """

    learner: Learner
    accuracy: float
    train_loss: float
    valid_loss: float
    seed: int

    @property
    def gap(self) -> float:
        """Validation loss minus training loss."""
        return self.valid_loss - self.train_loss


@cache
def digits() -> DataLoaders:
    """The shipped digits: one epoch is 50 steps, validation the first 2,000 images."""
    return part_of_digits(BATCH_SIZE * STEPS, VALID_IMAGES, BATCH_SIZE)


def part_of_digits(train_images: int, valid_images: int, batch_size: int) -> DataLoaders:
    """The first images of each half of MNIST, in batches."""
    data = _all_digits()

    def first(loader: BatchLoader, images: int) -> BatchLoader:
        split = Split(loader.split.title, loader.split.images_MCHW[:images], loader.split.labels_N[:images])
        return BatchLoader(split, loader.preprocess, batch_size=batch_size, shuffle=loader.shuffle, seed=loader.seed)

    return replace(data, train=first(data.train, train_images), valid=first(data.valid, valid_images))


@cache
def _all_digits() -> DataLoaders:
    return load_data("mnist")


def digit(index: int) -> Float[Tensor, "28 28"]:
    """A validation image, ink 1 and paper 0."""
    return _all_digits().valid.split.images_MCHW[index, 0].float() / 255


def fresh(seed: int, **network: object) -> nn.Sequential:
    """The chapter's second network with weights drawn from a seed; PyTorch's global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return simple_cnn(**network)  # type: ignore[arg-type]


@cache
def training(schedule: Kind = "one_cycle", lr: float = HIGH_LR, seed: int = 0, norm: bool = True, first_kernel: int = 5) -> Training:
    """Train the chapter's second network for 50 steps, watched."""
    learner = Learner(digits(), fresh(seed, norm=norm, first_kernel=first_kernel), callbacks=[ActivationStats()], seed=seed, device="cpu")
    with contextlib.suppress(NonFiniteError):  # a collapse of another kind; what was recorded until then is shown
        learner.fit_schedule(1, Schedule(schedule, lr))
    valid = learner.validate("valid")
    seen = part_of_digits(VALID_IMAGES, VALID_IMAGES, BATCH_SIZE)
    train_loss = Learner(replace(seen, valid=seen.train), learner.model, device="cpu").validate("valid").loss
    return Training(learner, valid.metrics["accuracy"], train_loss, valid.loss, seed)


@cache
def collapsed() -> Training:
    """The chapter's bad training, without batch norm and without warm-up, from the first seed that collapses.

    Whether a seed collapses hangs on the last bits of the arithmetic, which differ between processors; so seeds are tried in order.
    """
    for seed in range(MOST_TRIED):
        found = training("constant", HIGH_LR, seed, norm=False)
        if found.accuracy < COLLAPSED:
            return found
    return found
