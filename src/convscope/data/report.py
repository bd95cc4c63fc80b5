"""What is told about the data: mean and deviation, class weights, sample images, notes, and the picture in a notebook.

Receives splits and counts; returns numbers, sentences and PNG bytes. Nothing here changes the data.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from convscope.data.batches import Split
from convscope.records import DataSummary, SampleImage

SAMPLE_SIDE = 64  # pixels; the limit that SampleImage states
MOST_SAMPLES = 24
IMBALANCE = 3  # the largest class over the smallest from which it is worth a word
FEW_IMAGES = 20  # of a class for training: below this, validation figures say little
EXACT_VALUES = 2**26  # pixel values whose mean is computed exactly (60,000 MNIST images have 47 million); of more, evenly spread images
CHUNK_VALUES = 2**18  # summed at a time: what fits in a processor's cache
FEWEST_STD = 1.0  # grey level; images that are all alike have no deviation to divide by


class Moments(NamedTuple):
    """Mean and standard deviation of each channel, of pixels scaled to 0..1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def moments(split: Split) -> Moments:
    """Mean and standard deviation (population form) of the pixels of a split, exact up to 2^26 values and over evenly spread images beyond.

    Example:
        >>> moments(mnist_training_images)  # Moments(mean=(0.13066,), std=(0.30811,))
    """
    count, channels = len(split), split.images_MCHW.shape[1]
    per_image = split.images_MCHW[0].numel()
    used = min(count, max(1, EXACT_VALUES // per_image))
    places = torch.arange(used) * count // used
    rows_N = places if split.rows_N is None else split.rows_N[places]
    sums_C, squares_C = torch.zeros(2, channels, dtype=torch.float64)  # of whole numbers far below 2^53: exact
    for rows in torch.split(rows_N, max(1, CHUNK_VALUES // per_image)):
        pixels_NCHW = split.images_MCHW.index_select(0, rows).double()
        sums_C += pixels_NCHW.sum((0, 2, 3))
        squares_C += pixels_NCHW.square_().sum((0, 2, 3))
    values = used * per_image // channels
    mean_C = sums_C / values
    std_C = (squares_C / values - mean_C.square()).clamp(min=FEWEST_STD**2).sqrt()
    return Moments(tuple((mean_C / 255).tolist()), tuple((std_C / 255).tolist()))


def balanced_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """A weight for each class that makes all count alike: images / (classes * images of the class). Its mean over the images is 1.

    The "balanced" heuristic of King and Zeng, Logistic Regression in Rare Events Data (2001).

    Example:
        >>> balanced_weights([30, 10])
        (0.6666666666666666, 2.0)
    """
    return tuple(sum(counts) / (len(counts) * count) for count in counts)


def notes_on(classes: Sequence[str], counts: dict[str, tuple[int, ...]], *, weighed: bool) -> list[str]:
    """Sentences about the balance and number of images.

    Args:
        classes: names of the classes.
        counts: images per class of "train", "valid" and perhaps "test".
        weighed: whether class weights are in use.
    """
    notes, train = list[str](), counts["train"]
    most, least = max(range(len(train)), key=train.__getitem__), min(range(len(train)), key=train.__getitem__)
    if train[most] > IMBALANCE * train[least]:
        remedy = "They are weighed." if weighed else "--class-weights auto weighs them."
        extremes = f"{train[most]:,} training images of {classes[most]!r}, {train[least]:,} of {classes[least]!r}"
        notes.append(f"The classes are unbalanced: {extremes}. {remedy}")
    for split in ("valid", "test"):
        missing = [name for name, count in zip(classes, counts.get(split, ()), strict=False) if count == 0]
        if missing:
            title = {"valid": "validation", "test": "test"}[split]
            notes.append(f"No {title} images of {', '.join(map(repr, missing))}: how well they are recognised is not measured.")
    if train[least] < FEW_IMAGES:
        notes.append(f"Only {_images(train[least], 'training')} of {classes[least]!r}: expect results that differ much from seed to seed.")
    return notes


def _images(count: int, title: str) -> str:
    return f"{count:,} {title} image{'' if count == 1 else 's'}"


def sample_image(pixels_CHW: npt.NDArray[np.uint8], label: str, name: str = "") -> SampleImage:
    """An image as a record for the page: a PNG of at most 64 pixels a side.

    Args:
        pixels_CHW: uint8, 1 or 3 channels.
        label: what it is.
        name: its file, or "valid:12".
    """
    pixels_HWC = pixels_CHW.transpose(1, 2, 0)
    image = Image.fromarray(np.ascontiguousarray(pixels_HWC[:, :, 0] if pixels_CHW.shape[0] == 1 else pixels_HWC))
    image.thumbnail((SAMPLE_SIDE, SAMPLE_SIDE), Image.Resampling.BOX)
    content = io.BytesIO()
    image.save(content, "PNG")
    return SampleImage(png=content.getvalue(), label=label, name=name)


def samples_of(split: Split, classes: Sequence[str]) -> tuple[SampleImage, ...]:
    """Some images of every class in turn, the same ones each time.

    Returns:
        At most 24, or one of each of the first 24 classes.
    """
    labels_N = split.labels_N.numpy()
    rounds = max(1, MOST_SAMPLES // min(len(classes), MOST_SAMPLES))
    columns = list[list[int]]()
    for label in range(min(len(classes), MOST_SAMPLES)):
        of_class = np.flatnonzero(labels_N == label).tolist()
        shown = min(rounds, len(of_class))
        columns.append([of_class[turn * len(of_class) // shown] for turn in range(shown)])
    chosen = [column[turn] for turn in range(rounds) for column in columns if turn < len(column)]
    return tuple(sample_image(split.pixels(index), classes[labels_N[index]], split.name(index)) for index in chosen)


def as_html(summary: DataSummary, title: str) -> str:
    """The data as a notebook shows it: sample images over a table of counts."""
    pictures = "".join(
        f'<figure style="display:inline-block;width:72px;margin:4px;text-align:center;font-size:11px">'
        f'<img src="data:image/png;base64,{base64.b64encode(sample.png).decode()}" width="56" height="56" '
        f'style="image-rendering:pixelated;object-fit:contain" alt="{html.escape(sample.label)}" title="{html.escape(sample.name)}">'
        f'<figcaption style="overflow:hidden;text-overflow:ellipsis;white-space:nowrap">{html.escape(sample.label)}</figcaption></figure>'
        for sample in summary.samples
    )
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("class", *summary.counts))
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td>{''.join(f'<td>{counts[label]:,}</td>' for counts in summary.counts.values())}</tr>"
        for label, name in enumerate(summary.classes)
    )
    remarks = [*summary.notes]
    if summary.skipped:
        first = summary.skipped[0]
        files = "1 file was" if len(summary.skipped) == 1 else f"{len(summary.skipped):,} files were"
        remarks.append(f"{files} left out, the first {first.path}: {first.reason}.")
    listed = "".join(f"<li>{html.escape(remark)}</li>" for remark in remarks)
    remarks_html = f"<ul>{listed}</ul>" if listed else ""
    return f"<div><b>{html.escape(title)}</b><div>{pictures}</div><table><tr>{head}</tr>{rows}</table>{remarks_html}</div>"
