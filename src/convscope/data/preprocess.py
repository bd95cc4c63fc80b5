"""How an image becomes what the network sees: fitted to a shape, and normalised.

`Preprocess` receives a file, a Pillow image or a batch of uint8 pixels, and returns pixels of the network's shape, or floats. It is saved with
the weights, so that a run predicts without its data. It knows nothing of classes, folders or augmentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Num
from PIL import Image
from torch import Tensor

from convscope.data.decode import Shape, Unreadable, decode_file, fit
from convscope.errors import DataError


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Shape and normalisation of the images that a network was trained on.

    Attributes:
        channels: 1 (grey) or 3 (red, green, blue).
        height, width: pixels; the shorter side is resized and the centre cropped.
        mean, std: per channel, of the training images scaled to 0..1.
    """

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what the network sees."""
        return self.channels, self.height, self.width

    def load(self, path: str | Path) -> npt.NDArray[np.uint8]:
        """Read an image file as uint8 pixels of shape (C, H, W), prepared exactly as in training.

        Raises:
            DataError: the file cannot be used, with the reason.
        """
        try:
            return decode_file(str(path), Shape(*self.shape))
        except Unreadable as error:
            raise DataError(f"{path} cannot be used as an image: {error}. Give an image file that opens in a viewer.") from None

    def from_image(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """The uint8 pixels, shape (C, H, W), of a Pillow image.

        Raises:
            DataError: its mode cannot be turned into grey or colour.
        """
        try:
            return fit(image, Shape(*self.shape))
        except Unreadable as error:
            raise DataError(f"The image cannot be used: {error}.") from None

    def normalise(self, images_NCHW: Num[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        """Pixels 0..255 (uint8 or float) to float32, mean 0 and deviation 1 over the training images: (pixel / 255 - mean) / std."""
        mean, std = _constants(self.mean, self.std, images_NCHW.device)
        return torch.sub(images_NCHW, mean).div_(std)

    def to_pixels(self, images_NCHW: Float[Tensor, "N C H W"]) -> Num[Tensor, "N C H W"]:
        """The uint8 pixels that `normalise` made these floats of; the nearest ones where augmentation came between."""
        mean, std = _constants(self.mean, self.std, images_NCHW.device)
        return images_NCHW.mul(std).add_(mean).round_().clamp_(0, 255).to(torch.uint8)

    def to_config(self) -> dict[str, Any]:
        """As plain JSON values; `from_config` is the way back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Preprocess:
        """Build it from what `to_config` made.

        Raises:
            DataError: a field is missing or cannot be meant.
        """
        try:
            made = cls(
                channels=int(config["channels"]),
                height=int(config["height"]),
                width=int(config["width"]),
                mean=tuple(map(float, config["mean"])),
                std=tuple(map(float, config["std"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"The preprocessing {dict(config)!r} is damaged ({error!r}). Restore the run's files from a copy.") from None
        if (
            made.channels not in (1, 3)
            or not len(made.mean) == len(made.std) == made.channels
            or min(made.height, made.width, *made.std) <= 0
        ):
            raise DataError(
                f"The preprocessing {dict(config)!r} cannot be meant: 1 or 3 channels, with a mean and a positive std for each."
            )
        return made


@lru_cache(maxsize=32)
def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and std in units of 0..255, ready to broadcast over a batch."""
    mean_1C11, std_1C11 = torch.tensor([mean, std], dtype=torch.float64).mul_(255).float().view(2, 1, -1, 1, 1).to(device)
    return mean_1C11, std_1C11
