"""Which rows make up each batch of an epoch: what loaders of every sort of data share.

A number of rows, a batch size and a seed come in; shares of batches go out, a function of (seed, epoch, step, rank) alone. What a row is, and how
rows become tensors, is the business of the classes built on this one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Int64
from torch import Tensor

from convscope import seeds

Batch: TypeAlias = tuple[Tensor, Tensor]  # inputs and targets


@dataclass(frozen=True, slots=True)
class Share:
    """One process's part of one batch.

    Attributes:
        step: the batch, counted from 0 in its epoch.
        size: rows of the whole batch, over all processes.
        mine: places within the batch that belong to this process; of a last small batch perhaps none.
        rows: the same places within the epoch's order.
    """

    step: int
    size: int
    mine: slice
    rows: slice


class EpochLoader(ABC):
    """Batches of one split, epoch by epoch.

    Args:
        count: rows of the split.
        batch_size: rows of a batch, over all processes.
        shuffle: a new order each epoch, and the last incomplete batch dropped, unless it is the only one.
        seed: decides the order.
    """

    def __init__(self, count: int, *, batch_size: int, shuffle: bool = False, seed: int = 0) -> None:
        self.count, self.batch_size, self.shuffle, self.seed = count, batch_size, shuffle, seed
        self.drop_last = shuffle and count >= batch_size
        self._epoch = 0

    @abstractmethod
    def gatherer(self, epoch: int) -> Callable[[Share], Batch]:
        """Prepare an epoch, counted from 0; returns what makes a batch of a share of it."""

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.count // self.batch_size if self.drop_last else -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the next epoch: 0 at the first call, then 1."""
        epoch, self._epoch = self._epoch, self._epoch + 1
        return self.batches(epoch)

    def batches(self, epoch: int, first_step: int = 0, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """The batches of one epoch, a function of the seed and these arguments alone.

        Args:
            epoch: counted from 0.
            first_step: the batch of the epoch to begin with, for a resume in its middle.
            rank: which process this is, counted from 0; each gets its contiguous share of every batch.
            world: how many processes there are.

        Yields:
            Inputs and targets on the device: of images, normalised float32 (N, C, H, W) and int64 labels (N); of ratings, int32 numbers of
            users and items (N, 2) and float32 ratings (N).

        Example:
            >>> images_NCHW, labels_N = next(loader.batches(epoch=0))
        """
        gather = self.gatherer(epoch)
        for step in range(first_step, len(self)):
            start = step * self.batch_size
            size = min(self.batch_size, self.count - start)
            first, last = rank * size // world, (rank + 1) * size // world
            yield gather(Share(step, size, slice(first, last), slice(start + first, start + last)))

    def order(self, epoch: int) -> Int64[Tensor, " N"]:
        """The order of the rows in an epoch."""
        if not self.shuffle:
            return torch.arange(self.count)
        return torch.randperm(self.count, generator=seeds.generator(self.seed, "order", epoch))
