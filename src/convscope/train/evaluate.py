"""What a trained classifier does with each image of a split, as the record that the page draws."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from convscope.records import Evaluation, SampleImage
from convscope.train.metrics import balanced_accuracy

if TYPE_CHECKING:
    from convscope.train.learner import Learner

WRONG_KEPT = 24  # most confidently wrong images kept for the page: three rows of eight
SIDE_KEPT = 64  # pixels; larger images are shrunk for the page (SampleImage)


@torch.no_grad()
def evaluate(learner: Learner, split: str) -> Evaluation:
    """Run the network over a split and keep the confusion matrix and the most confidently wrong images.

    Every process of a run must call it; each looks at all images itself, so that the record is the same everywhere.

    Args:
        learner: with a classifier.
        split: "valid" or "test".
    """
    loader = getattr(learner.data, split)
    learner.model.eval()
    probabilities, labels = [], []
    loss, count = 0.0, 0
    for images_NCHW, labels_N in loader.batches(epoch=0):
        with learner.autocast():
            logits_NL = learner.model(images_NCHW).float()
        loss += float(learner.valid_loss(logits_NL, labels_N).double()) * len(labels_N)
        count += len(labels_N)
        probabilities.append(logits_NL.softmax(1).cpu())
        labels.append(labels_N.cpu())
    probabilities_NL, labels_N = torch.cat(probabilities), torch.cat(labels)
    confidence_N, predicted_N = probabilities_NL.max(1)
    classes = len(learner.data.classes)
    confusion = torch.bincount(labels_N * classes + predicted_N, minlength=classes * classes).view(classes, classes)
    table = tuple(tuple(int(value) for value in row) for row in confusion.tolist())
    accuracy = float((predicted_N == labels_N).double().mean())
    wrong = _wrong(learner, split, confidence_N, predicted_N, labels_N)
    return Evaluation(split, count, loss / count, accuracy, balanced_accuracy(table), table, wrong)


def _wrong(
    learner: Learner, split: str, confidence_N: Float[Tensor, " N"], predicted_N: Tensor, labels_N: Tensor
) -> tuple[SampleImage, ...]:
    rows = (predicted_N != labels_N).nonzero().squeeze(1)
    rows = rows[confidence_N[rows].argsort(descending=True, stable=True)][:WRONG_KEPT]
    source, classes = getattr(learner.data, split).split, learner.data.classes
    return tuple(
        SampleImage(
            as_png(source.pixels(row)),
            classes[int(labels_N[row])],
            source.name(row),
            classes[int(predicted_N[row])],
            float(confidence_N[row]),
        )
        for row in rows.tolist()
    )


def as_png(pixels_CHW: npt.NDArray[np.uint8]) -> bytes:
    """A PNG file's bytes of uint8 pixels (C, H, W), shrunk to at most 64 pixels a side."""
    image = Image.fromarray(pixels_CHW[0] if len(pixels_CHW) == 1 else pixels_CHW.transpose(1, 2, 0))
    image.thumbnail((SIDE_KEPT, SIDE_KEPT))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
