"""Batches: rows of one uint8 array, gathered, augmented and normalised on the device.

It receives the pixels and labels of one split and yields batches that are a function of (seed, epoch, step) alone, whatever was drawn before
and on however many processes. It opens no image file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from convscope import seeds
from convscope.data.augment import Augment, warp
from convscope.data.epochs import Batch, EpochLoader, Share
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


class BatchLoader(EpochLoader):
    """Batches of the images of one split.

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
        super().__init__(len(split), batch_size=batch_size, shuffle=shuffle, seed=seed)
        self.split, self.preprocess, self.augment = split, preprocess, augment
        self.device = torch.device(device)
        self._resident, self._rows_N = _resident(split, self.device)

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

    def gatherer(self, epoch: int) -> Callable[[Share], Batch]:
        """Rows of the pixels, augmented and normalised, and their labels."""
        order_N = self.order(epoch)
        labels_N = self.split.labels_N[order_N]
        rows_N = order_N if self._rows_N is None else self._rows_N[order_N]
        aspect = self.preprocess.width / self.preprocess.height

        def gather(share: Share) -> Batch:
            images_NCHW = self._gather(rows_N[share.rows])
            if self.augment and len(images_NCHW):  # of a last small batch, some process may get nothing
                maps_N23 = self.augment.maps(share.size, seeds.generator(self.seed, "augment", epoch, share.step), aspect)[share.mine]
                images_NCHW = warp(images_NCHW.float(), maps_N23.to(self.device, non_blocking=True))
            return self.preprocess.normalise(images_NCHW), labels_N[share.rows].to(self.device, non_blocking=True)

        return gather

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
