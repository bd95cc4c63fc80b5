"""`load_data`: from a source of images to loaders of batches, with a summary of what was found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convscope.data import report
from convscope.data.batches import BatchLoader
from convscope.data.preprocess import Preprocess
from convscope.errors import UsageError
from convscope.records import DataSummary

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class DataLoaders:
    """Batches of training, validation and perhaps test images, and what is known of them.

    Attributes:
        train, valid, test: loaders of batches; `test` is None when there is no test set besides the validation images.
        classes: names of the classes; a label is an index into them.
        name: what a run on this data is called.
        kind: "mnist", "folder" or "csv".
        summary: counts, sample images, skipped files and notes.
        preprocess: how an image becomes what the network sees.
        class_weights: weight of each class in the loss, empty when all are 1.
    """

    train: BatchLoader
    valid: BatchLoader
    test: BatchLoader | None
    classes: tuple[str, ...]
    name: str
    kind: str
    summary: DataSummary
    preprocess: Preprocess
    class_weights: tuple[float, ...] = ()

    def to(self, device: torch.device | str) -> DataLoaders:
        """The same data with batches on another device."""
        test = None if self.test is None else self.test.to(device)
        return replace(self, train=self.train.to(device), valid=self.valid.to(device), test=test)

    def show_batch(self, max_n: int = 9) -> Figure:
        """A figure of the first training images as the network gets them, augmentation included.

        Args:
            max_n: at most so many images, and at most an epoch.
        """
        from convscope.show.images import image_grid  # matplotlib is imported only by those who draw

        if max_n < 1:
            raise UsageError(f"show_batch(max_n={max_n}) shows nothing. Give 1 or more images.")
        images, labels = list[Tensor](), list[int]()
        for images_NCHW, labels_N in self.train.batches(epoch=0):
            images.append(images_NCHW[: max_n - len(labels)].cpu())
            labels += labels_N[: max_n - len(labels)].tolist()
            if len(labels) == max_n:
                break
        pixels_NCHW = self.preprocess.to_pixels(torch.cat(images)).numpy()
        return image_grid(pixels_NCHW, [self.classes[label] for label in labels])

    def __repr__(self) -> str:
        parts = [f"{self.train.count:,} training", f"{self.valid.count:,} validation"]
        if self.test is not None:
            parts.append(f"{self.test.count:,} test")
        images = f"{' + '.join(parts)} images of {'x'.join(map(str, self.preprocess.shape))}"
        return f"DataLoaders({self.name}: {images}, {len(self.classes)} classes, batches of {self.train.batch_size})"

    def _repr_html_(self) -> str:
        return report.as_html(self.summary, repr(self))
