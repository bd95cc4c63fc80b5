"""A saved run's network looked into: an image of the user's, or of the run's own data, and an activation traced from its raw pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from convscope.data import load_data
from convscope.errors import UsageError
from convscope.records import Trace
from convscope.tracing import executed, trace_executed
from convscope.tracing.workbook import workbook
from convscope.train.predict import Classifier, load_classifier
from convscope.train.settings import TrainSettings

OWN_IMAGE = re.compile(r"(train|valid|test):(\d+)")


@dataclass(frozen=True, slots=True)
class Inspected:
    """One activation of a run's network for one image.

    Attributes:
        pixels_CHW: the image as the network's preprocessing cut it, uint8.
        trace: the activation and its terms.
        answer: the class that the network gives the image.
    """

    pixels_CHW: npt.NDArray[np.uint8]
    trace: Trace
    answer: str


def trace_run(run: str | Path, image: str, layer: str | None = None, unit: tuple[int, ...] | None = None) -> Inspected:
    """Trace one activation of a run's network.

    Args:
        run: a run directory or weights file.
        image: the path of an image, or "valid:12" for one of the run's own.
        layer: a layer's name; None traces the answer: the logit of the class that the network gives.
        unit: (channel, row, column), or (i,); needed with `layer`.

    Raises:
        UsageError: `layer` and `unit` do not go together, or there is no such image or layer.
        TraceError: the unit cannot be traced.
        DataError: the image cannot be read.
    """
    if (layer is None) != (unit is None):
        raise UsageError(
            "--layer and --unit belong together, such as --layer 2.0 --unit 0,2,2; without both, the network's answer is traced."
        )
    classifier = load_classifier(run)
    pixels_CHW = image_of(classifier, image)
    answer = classifier.predict_one(pixels_CHW)
    network = executed(classifier.model, torch.from_numpy(pixels_CHW), _normalisation(classifier))
    if layer is None or unit is None:
        layer, unit = network.output, (classifier.classes.index(answer.label),)
    return Inspected(pixels_CHW, trace_executed(network, layer, unit), answer.label)


def workbook_of_run(run: str | Path, image: str, path: Path, layer: str | None = None, unit: tuple[int, ...] | None = None) -> None:
    """Write a run's network as a live workbook for one image; with a layer and a unit, only what that unit depends on.

    Raises:
        (What `trace_run` raises, and what `convscope.workbook` does when the network is too large.)
    """
    classifier = load_classifier(run)
    pixels = torch.from_numpy(image_of(classifier, image))
    workbook(classifier.model, pixels, path, classes=classifier.classes, normalise=_normalisation(classifier), layer=layer, unit=unit)


def image_of(classifier: Classifier, image: str) -> npt.NDArray[np.uint8]:
    """The uint8 pixels (C, H, W) of an image file, or of "valid:12", the run's own validation image 12.

    Raises:
        DataError: it cannot be read.
        UsageError: the run has no such image.
    """
    own = OWN_IMAGE.fullmatch(image)
    if not own or Path(image).exists():
        return classifier.preprocess.load(image)
    settings = TrainSettings.from_config(classifier.info.train)
    data = load_data(settings.data, 1, image_size=settings.image_size, valid_pct=settings.valid_pct, seed=settings.seed)
    loader = getattr(data, own[1])
    if loader is None:
        raise UsageError(f"There is no image {image}: the data has no test set. Use valid:0 or train:0.")
    pixels: npt.NDArray[np.uint8] = loader.split.pixels(int(own[2]))
    return pixels


def _normalisation(classifier: Classifier) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return classifier.preprocess.mean, classifier.preprocess.std
