"""`load_data`: from a source of images to loaders of batches, with a summary of what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from convscope.data import report
from convscope.data.augment import Augment
from convscope.data.batches import BatchLoader, Split
from convscope.data.ingest import LARGEST_ASKED, decode_listing
from convscope.data.listing import SPLITS, TRAIN, UNSPLIT, Listing, split_off
from convscope.data.loaders import DataLoaders
from convscope.data.preprocess import Preprocess
from convscope.data.shipped import CLASSES, SIDE, read_mnist
from convscope.data.sources import list_source
from convscope.errors import DataError, UsageError
from convscope.records import DataSummary, SkippedFile

BATCH_SIZE = 512  # the book's, after its lesson that 64 is unstable
LEAST_BATCH_SIZE = 8  # below, the statistics of batch norm become too noisy
BATCHES_AN_EPOCH = 20  # at least, where the data is small; 5 epochs are then 100 steps
MOST_LISTED = 10  # skipped files in the message of --strict; all of them are in skipped_files.csv without it


@dataclass(frozen=True, slots=True)
class _Found:
    """Splits and what is known of them, whatever they came from."""

    kind: str
    name: str
    source: str
    classes: tuple[str, ...]
    splits: dict[str, Split]
    skipped: tuple[SkippedFile, ...] = ()
    notes: tuple[str, ...] = ()


def load_data(
    source: str | Path,
    batch_size: int | None = None,
    *,
    image_size: int | None = None,
    valid_pct: float = 0.2,
    augment: bool | Augment | None = None,
    seed: int = 0,
    strict: bool = False,
    class_weights: Literal["none", "auto"] = "none",
    device: torch.device | str = "cpu",
) -> DataLoaders:
    """Load images for training.

    Args:
        source: "mnist" (shipped with the package), a folder of images, or a CSV of path,label.
        batch_size: images of a batch; None takes 512, or halves it until an epoch has at least 20 batches (but takes no fewer than 8).
        image_size: height and width in pixels; None keeps MNIST's 28 and takes the median shorter side of other images, at most 224.
        valid_pct: share of the images set aside for validation where folders or CSV do not say.
        augment: shift, rotate, scale and flip training images; None means no for MNIST and yes for others; an `Augment` sets the strengths.
        seed: decides the split, the order of the images and the augmentation.
        strict: refuse data with files that cannot be used, instead of listing them in `.summary.skipped`.
        class_weights: "auto" makes rare classes count as much as frequent ones in the loss.
        device: where batches are wanted.

    Returns:
        Loaders of batches: `.train`, `.valid`, `.test` (None without a test set), and what is known of the data.

    Raises:
        DataError: there is no such data, or it cannot be used.
        UsageError: an argument cannot be meant.

    Example:
        >>> load_data("mnist")
        DataLoaders(mnist: 60,000 training + 10,000 validation images of 1x28x28, 10 classes, batches of 512)
    """
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch_size={batch_size} is no number of images. Give 1 or more.")
    if class_weights not in ("none", "auto"):
        raise UsageError(f"class_weights={class_weights!r} is not known. Use 'auto' or 'none'.")
    found = _mnist(image_size) if str(source) == "mnist" else _files(list_source(source), image_size, valid_pct, seed)
    if strict and found.skipped:
        raise _refusal(found)
    return _loaders(found, batch_size or _fitting_batch_size(len(found.splits["train"])), augment, seed, class_weights == "auto", device)


def _fitting_batch_size(images: int) -> int:
    """The default size of a batch: small data need small batches, or a few epochs would be only a handful of steps."""
    size = BATCH_SIZE
    while size > LEAST_BATCH_SIZE and images // size < BATCHES_AN_EPOCH:
        size //= 2
    return size


def _loaders(
    found: _Found, batch_size: int, augment: bool | Augment | None, seed: int, weigh: bool, device: torch.device | str
) -> DataLoaders:
    train = found.splits["train"]
    channels, height, width = train.images_MCHW.shape[1:]
    preprocess = Preprocess(channels, height, width, *report.moments(train))
    if augment is None:
        augment = found.kind != "mnist"
    strengths = augment if isinstance(augment, Augment) else Augment.default(channels) if augment else None
    counts = {title: split.counts(len(found.classes)) for title, split in found.splits.items()}
    weights = report.balanced_weights(counts["train"]) if weigh else ()
    summary = DataSummary(
        source=found.source,
        classes=found.classes,
        counts=counts,
        image_shape=preprocess.shape,
        mean=preprocess.mean,
        std=preprocess.std,
        samples=report.samples_of(train, found.classes),
        skipped=found.skipped,
        augment=strengths.to_config() if strengths else {},
        class_weights=weights,
        notes=(*found.notes, *report.notes_on(found.classes, counts, weighed=weigh)),
    )

    def loader(title: str, *, training: bool = False) -> BatchLoader:
        return BatchLoader(
            found.splits[title],
            preprocess,
            batch_size=batch_size,
            shuffle=training,
            seed=seed,
            augment=strengths if training else None,
            device=device,
        )

    return DataLoaders(
        train=loader("train", training=True),
        valid=loader("valid"),
        test=loader("test") if "test" in found.splits else None,
        classes=found.classes,
        name=found.name,
        kind=found.kind,
        summary=summary,
        preprocess=preprocess,
        class_weights=weights,
    )


def _mnist(image_size: int | None) -> _Found:
    splits = dict[str, Split]()
    for title, stem in (("train", "train"), ("valid", "t10k")):
        digits = read_mnist(stem)
        images_NCHW = torch.from_numpy(digits.images_NCHW.copy())
        splits[title] = Split(title, _resized(images_NCHW, image_size), torch.from_numpy(digits.labels_N.astype(np.int64)))
    return _Found("mnist", "mnist", "mnist", CLASSES, splits)


def _resized(images_NCHW: UInt8[Tensor, "N C H W"], side: int | None) -> UInt8[Tensor, "N C side side"]:
    if side is None or side == SIDE:
        return images_NCHW
    if not 1 <= side <= LARGEST_ASKED:
        raise UsageError(f"The image size {side} cannot be meant. Give pixels of a side, 1 to {LARGEST_ASKED}, or leave it out.")
    parts = (F.interpolate(part, size=(side, side), mode="bilinear", antialias=True) for part in torch.split(images_NCHW, 4096))
    return torch.cat(list(parts))


def _files(listing: Listing, image_size: int | None, valid_pct: float, seed: int) -> _Found:
    """Decode a listing's files, and split what could be read."""
    decoded = decode_listing(listing, image_size)
    failed = np.zeros(len(listing.files), bool)
    failed[list(decoded.failed)] = True
    skipped = (*listing.skipped, *(SkippedFile(listing.files[place].path, reason) for place, reason in decoded.failed.items()))
    splits_N = listing.splits_N.copy()
    free = np.flatnonzero((splits_N == UNSPLIT) & ~failed)
    if (splits_N == UNSPLIT).any():
        splits_N[free] = split_off(listing.labels_N[free], listing.classes, valid_pct, seed)
    classes, labels_N, notes = _learnable(listing, splits_N, failed)
    images_MCHW = torch.from_numpy(decoded.images_NCHW)
    splits = dict[str, Split]()
    for number, title in enumerate(SPLITS):
        rows = np.flatnonzero((splits_N == number) & ~failed & (labels_N >= 0))
        if len(rows):
            names = [listing.files[row].path for row in rows.tolist()]
            splits[title] = Split(title, images_MCHW, torch.from_numpy(labels_N[rows]), torch.from_numpy(rows), names)
    if "valid" not in splits:
        raise DataError(
            f"{listing.source} leaves no image for validation. Give each class two readable images or more, or a valid/ folder with some."
        )
    return _Found(listing.kind, listing.name, listing.source, classes, splits, skipped, (*listing.notes, *decoded.notes, *notes))


def _learnable(listing: Listing, splits_N: np.ndarray, failed: np.ndarray) -> tuple[tuple[str, ...], np.ndarray, tuple[str, ...]]:
    """The classes of which a training image could be read, new labels (-1 for other classes), and notes on what was dropped."""
    trained = np.bincount(listing.labels_N[(splits_N == TRAIN) & ~failed], minlength=len(listing.classes)) > 0
    kept = tuple(name for name, there in zip(listing.classes, trained.tolist(), strict=True) if there)
    lost = [name for name, there in zip(listing.classes, trained.tolist(), strict=True) if not there]
    if len(kept) < 2:
        raise DataError(
            f"{listing.source} has readable training images of {len(kept)} class{'' if len(kept) == 1 else 'es'}, and a classifier needs two "
            f"or more. {int(failed.sum()):,} of {len(failed):,} files could not be read."
        )
    renumbered = np.where(trained, np.cumsum(trained) - 1, -1).astype(np.int64)
    notes = (f"No training image of {', '.join(map(repr, lost))} could be read, so that class is left out.",) if lost else ()
    return kept, renumbered[listing.labels_N], notes


def _refusal(found: _Found) -> DataError:
    listed: Sequence[str] = [f"  {item.path}: {item.reason}" for item in found.skipped[:MOST_LISTED]]
    more = [f"  and {len(found.skipped) - MOST_LISTED:,} more"] if len(found.skipped) > MOST_LISTED else []
    head = f"{found.source} has {len(found.skipped):,} files that cannot be used, and strict was asked for:"
    return DataError(
        "\n".join([head, *listed, *more, "Mend or remove them, or train without --strict, which leaves them out and lists them."])
    )
