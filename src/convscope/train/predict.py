"""Predictions of a saved run on new image files: paths in, one Prediction a file out. It needs the run's weights file alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from convscope.data import Preprocess
from convscope.errors import DataError, ModelError, UsageError
from convscope.nn import RATING_MODELS, Recipe, rebuild
from convscope.rundir import open_run
from convscope.train.weights import WeightsInfo, load_into, load_weights

BATCH = 256  # images run through the network at once
SUFFIXES = frozenset(Image.registered_extensions())


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network says about one image.

    Attributes:
        path: the file, or "" for an image that is none.
        label: the class with the highest probability; "" when the file could not be read.
        confidence: its probability, 0 to 1.
        probabilities: of every class, in the order of the classes.
        error: why there is no prediction, or "".
    """

    path: str
    label: str
    confidence: float
    probabilities: tuple[float, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Classifier:
    """A trained network with its classes and preprocessing, ready for images."""

    model: nn.Module
    classes: tuple[str, ...]
    preprocess: Preprocess
    info: WeightsInfo = field(default_factory=WeightsInfo)

    @torch.no_grad()
    def predict(self, images: Sequence[npt.NDArray[np.uint8]], paths: Sequence[str] | None = None) -> list[Prediction]:
        """Predictions for uint8 images of shape (C, H, W), prepared by `preprocess`."""
        device = next(iter(self.model.parameters())).device
        batch_NCHW = torch.from_numpy(np.stack(list(images))).to(device)
        probabilities_NL = self.model(self.preprocess.normalise(batch_NCHW)).softmax(1)
        confidence_N, best_N = probabilities_NL.max(1)
        return [
            Prediction(path, self.classes[best], confidence, tuple(row))
            for path, best, confidence, row in zip(
                paths or [""] * len(images), best_N.tolist(), confidence_N.tolist(), probabilities_NL.tolist(), strict=True
            )
        ]

    def predict_one(self, image: object) -> Prediction:
        """The prediction for one image: a path, a Pillow image, or uint8 pixels (C, H, W) or (H, W) as an array or tensor.

        Raises:
            DataError: it cannot be used as an image.
        """
        path = str(image) if isinstance(image, str | Path) else ""
        return self.predict([as_pixels(image, self.preprocess)], [path])[0]

    def predict_files(self, paths: Iterable[Path]) -> Iterator[Prediction]:
        """Predictions for image files, in their order; a file that cannot be read gives its reason instead."""
        images: list[npt.NDArray[np.uint8]] = []
        waiting: list[Prediction] = []
        for path in paths:
            try:
                images.append(self.preprocess.load(path))
                waiting.append(Prediction(str(path), "", 0.0))
            except DataError as error:
                waiting.append(Prediction(str(path), "", 0.0, error=str(error)))
            if len(images) == BATCH:
                yield from self._merge(waiting, images)
                images, waiting = [], []
        yield from self._merge(waiting, images)

    def _merge(self, waiting: list[Prediction], images: list[npt.NDArray[np.uint8]]) -> Iterator[Prediction]:
        good = iter(self.predict(images, [p.path for p in waiting if not p.error]) if images else [])
        for prediction in waiting:
            yield prediction if prediction.error else next(good)


def as_pixels(image: object, preprocess: Preprocess) -> npt.NDArray[np.uint8]:
    """The uint8 pixels (C, H, W) that a network sees of a path, a Pillow image, or pixels (C, H, W) or (H, W).

    Raises:
        DataError: it is none of these, or not uint8, or cannot be read.
    """
    if isinstance(image, str | Path):
        return preprocess.load(image)
    if isinstance(image, Image.Image):
        return preprocess.from_image(image)
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8:
        raise DataError(
            f"The image is an array of {pixels.dtype}; give pixels from 0 to 255 as uint8, a Pillow image, or the path of a file."
        )
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3):
        pixels = pixels[0] if pixels.shape[0] == 1 else pixels.transpose(1, 2, 0)
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise DataError(f"The image has shape {pixels.shape}; give (rows, columns), (1, rows, columns) or (3, rows, columns).")
    return preprocess.from_image(Image.fromarray(np.ascontiguousarray(pixels)))


def load_classifier(run_or_file: str | Path) -> Classifier:
    """The trained network of a run directory or weights file, on the CPU and in evaluation mode.

    Raises:
        RunError: it is no run.
        CheckpointError: the weights are missing or damaged.
        ModelError: the network is a class of the user's own, which cannot be built from its name.
        UsageError: it is a run on ratings.
    """
    path = weights_path(run_or_file)
    tensors, info = load_weights(path)
    if not info.model:
        raise ModelError(
            f"{path} holds the weights of a network class of your own, which convscope cannot build by itself. "
            "Build it in Python and load the file with safetensors."
        )
    if info.model in RATING_MODELS:
        raise UsageError(
            f"{run_or_file} is a run on ratings, which knows users and items instead of images: convscope predict RUN --user USER."
        )
    preprocess = Preprocess.from_config(info.preprocess)
    model = rebuild(Recipe(info.model, info.arguments))
    load_into(model, tensors, path)
    model.eval()
    return Classifier(model, info.classes, preprocess, info)


def weights_path(run_or_file: str | Path) -> Path:
    """The weights file of a run directory, or the file itself.

    Raises:
        RunError: it is neither.
    """
    path = Path(run_or_file)
    return path if path.is_file() else open_run(path).weights


def image_files(paths: Iterable[str | Path]) -> list[Path]:
    """Files as given, and the images below folders, in order; dot files and files of other kinds in folders are left out.

    Raises:
        DataError: a path does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(
                p
                for p in path.rglob("*")
                if p.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in p.relative_to(path).parts)
            )
            if not inside:
                raise DataError(f"The folder {path} holds no images. Give image files, or folders that hold some.")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"There is no file or folder {path}. Give image files, or folders that hold some.")
    return found


def as_csv(predictions: Iterable[Prediction]) -> str:
    """Rows of path, label, confidence and error as CSV text."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["path", "label", "confidence", "error"])
    writer.writerows([p.path, p.label, f"{p.confidence:.6f}" if p.label else "", p.error] for p in predictions)
    return buffer.getvalue()


def as_table(predictions: Sequence[Prediction]) -> str:
    """Predictions as aligned lines of text: label, confidence, path."""
    width = max((len(p.label) for p in predictions), default=0)
    return "\n".join(
        f"{p.label or '?':<{max(width, 1)}}  {f'{p.confidence:7.2%}' if p.label else '      -'}  {p.path}" for p in predictions
    )
