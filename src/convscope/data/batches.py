"""Batches: rows of one uint8 array, gathered, augmented and normalised on the device.

It receives the pixels and labels of one split and yields batches that are a function of (seed, epoch, step) alone, whatever was drawn before
and on however many processes. It opens no image file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from convscope import seeds
from convscope.data.augment import Augment, warp
from convscope.data.preprocess import Preprocess
from convscope.errors import UsageError

RESIDENT_SHARE = 0.25  # of a GPU's free memory: pixels that fit in it are kept there, which saves a copy per batch


@dataclass(frozen=True, slots=True)
class Split:
    """The images of one split, as rows of an array that splits may share.

    Attributes:
        title: "train", "valid" or "test".
        images_MCHW: uint8 pixels, M >= N; may be mapped from a file.
        labels_N: class of each image of this split.
        rows_N: its row in `images_MCHW`; None when they are the same.
        names: file names, relative to the data's folder; None for data that has none.
    """

    title: str
    images_MCHW: UInt8[Tensor, "M C H W"]
    labels_N: Int64[Tensor, " N"]
    rows_N: Int64[Tensor, " N"] | None = None
    names: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.labels_N)

    def row(self, index: int) -> int:
        """The row in `images_MCHW` of the split's image `index`."""
        return index if self.rows_N is None else int(self.rows_N[index])

    def name(self, index: int) -> str:
        """What to call the split's image `index`: its file, or "valid:12"."""
        return f"{self.title}:{index}" if self.names is None else self.names[index]

    def pixels(self, index: int) -> npt.NDArray[np.uint8]:
        """The uint8 pixels (C, H, W) of the split's image `index`.

        Raises:
            UsageError: there is no such image.
        """
        if not 0 <= index < len(self):
            raise UsageError(f"There is no image {self.title}:{index}; {self.title} has {len(self):,} images, from 0 to {len(self) - 1}.")
        pixels: npt.NDArray[np.uint8] = self.images_MCHW[self.row(index)].cpu().numpy()
        return pixels

    def counts(self, classes: int) -> tuple[int, ...]:
        """Images of each class."""
        return tuple(torch.bincount(self.labels_N, minlength=classes).tolist())


class BatchLoader:
    """Batches of one split.

    Args:
        split: its images and labels.
        preprocess: normalises them.
        batch_size: images of a batch, over all processes.
        shuffle: a new order each epoch, and the last incomplete batch dropped, unless it is the only one.
        seed: decides order and augmentation.
        augment: applied to every batch, or None.
        device: where batches are wanted.
    """

    def __init__(
        self,
        split: Split,
        preprocess: Preprocess,
        *,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        augment: Augment | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.split, self.preprocess = split, preprocess
        self.batch_size, self.shuffle = batch_size, shuffle
        self.seed, self.augment = seed, augment
        self.count, self.drop_last = len(split), shuffle and len(split) >= batch_size
        self.device = torch.device(device)
        self._epoch = 0
        self._resident, self._rows_N = _resident(split, self.device)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.count // self.batch_size if self.drop_last else -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Float[Tensor, "N C H W"], Int64[Tensor, " N"]]]:
        """The batches of the next epoch: 0 at the first call, then 1."""
        epoch, self._epoch = self._epoch, self._epoch + 1
        return self.batches(epoch)

    def to(self, device: torch.device | str) -> BatchLoader:
        """The same batches on another device."""
        return BatchLoader(
            self.split,
            self.preprocess,
            batch_size=self.batch_size,
            shuffle=self.shuffle,
            seed=self.seed,
            augment=self.augment,
            device=device,
        )

    def batches(
        self, epoch: int, first_step: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Float[Tensor, "N C H W"], Int64[Tensor, " N"]]]:
        """The batches of one epoch, a function of the seed and these arguments alone.

        Args:
            epoch: counted from 0.
            first_step: the batch of the epoch to begin with, for a resume in its middle.
            rank: which process this is, counted from 0; each gets its contiguous share of every batch.
            world: how many processes there are.

        Yields:
            Normalised float32 images (N, C, H, W) and int64 labels (N), on the device.

        Example:
            >>> images_NCHW, labels_N = next(loader.batches(epoch=0))
        """
        order_N = self.order(epoch)
        labels_N = self.split.labels_N[order_N]
        rows_N = order_N if self._rows_N is None else self._rows_N[order_N]
        aspect = self.preprocess.width / self.preprocess.height
        for step in range(first_step, len(self)):
            start, stop = step * self.batch_size, min((step + 1) * self.batch_size, self.count)
            size = stop - start
            first, last = rank * size // world, (rank + 1) * size // world
            mine = slice(start + first, start + last)
            images_NCHW = self._gather(rows_N[mine])
            if self.augment and first < last:  # of a last small batch, some process may get nothing
                maps_N23 = self.augment.maps(size, seeds.generator(self.seed, "augment", epoch, step), aspect)[first:last]
                images_NCHW = warp(images_NCHW.float(), maps_N23.to(self.device, non_blocking=True))
            yield self.preprocess.normalise(images_NCHW), labels_N[mine].to(self.device, non_blocking=True)

    def order(self, epoch: int) -> Int64[Tensor, " N"]:
        """The order of the images in an epoch."""
        if not self.shuffle:
            return torch.arange(self.count)
        return torch.randperm(self.count, generator=seeds.generator(self.seed, "order", epoch))

    def _gather(self, rows_N: Int64[Tensor, " N"]) -> UInt8[Tensor, "N C H W"]:
        if self._resident.device.type == self.device.type:  # types, because "cuda" and "cuda:0" are not equal
            return self._resident.index_select(0, rows_N.to(self.device, non_blocking=True))
        images_NCHW = self._resident.index_select(0, rows_N)
        if self.device.type == "cuda":
            images_NCHW = images_NCHW.pin_memory()  # lets the copy run while the GPU computes
        return images_NCHW.to(self.device, non_blocking=True)


def _resident(split: Split, device: torch.device) -> tuple[UInt8[Tensor, "M C H W"], Int64[Tensor, " N"] | None]:
    """The pixels, on the device when they are small beside its memory, else where they are; and each image's row in them."""
    here = split.images_MCHW, split.rows_N
    if device.type == "cpu":
        return here
    needed = len(split) * split.images_MCHW[0].numel()
    if device.type == "cuda" and needed > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
        return here
    own = split.images_MCHW if split.rows_N is None else split.images_MCHW[split.rows_N]
    return own.to(device), None
