"""Augmentation of a whole batch at once, on its device: shift, rotate, scale and flip.

`Augment.maps` draws one affine map per image from a random generator, and `warp` applies them by one sampling, so that nothing is
interpolated twice. The numbers are drawn on the CPU, hence the same on every device.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Augment:
    """Strengths of the augmentations; each is drawn anew, evenly, for every image. All 0 changes nothing, exactly.

    Attributes:
        shift: at most this share of the width and of the height, either way. 0.07 of 28 pixels is 2.
        rotate: at most this many degrees, either way. 10 is fastai's default (max_rotate).
        scale: larger or smaller by at most this share. 0.1 is fastai's default (max_zoom=1.1).
        flip: probability of a left-right mirror image.
    """

    shift: float = 0.07
    rotate: float = 10.0
    scale: float = 0.1
    flip: float = 0.0

    @classmethod
    def default(cls, channels: int) -> Augment:
        """What suits most images: colour photographs are mirrored half the time, grey images (digits, letters, X-rays) never."""
        return cls(flip=0.5 if channels == 3 else 0.0)

    def to_config(self) -> dict[str, float]:
        """The strengths by name, for the run's settings."""
        return asdict(self)

    def __bool__(self) -> bool:
        return any(asdict(self).values())

    def maps(self, count: int, generator: torch.Generator, aspect: float = 1.0) -> Float[Tensor, "N 2 3"]:
        """One affine map per image, from output to input places, both in -1..1 from edge to edge.

        Args:
            count: images.
            generator: of the CPU.
            aspect: width over height, so that a rotation stays one.
        """
        draws_5N = torch.rand(5, count, generator=generator).mul_(2).sub_(1)  # -1..1
        angles = draws_5N[0] * math.radians(self.rotate)
        zoom = torch.exp(draws_5N[1] * math.log1p(self.scale))  # as often larger as smaller
        mirror = 1 - 2 * ((draws_5N[2] + 1) / 2 < self.flip).float()
        cosine, sine = torch.cos(angles) / zoom, torch.sin(angles) / zoom
        along_x = torch.stack((mirror * cosine, -mirror * sine / aspect, 2 * self.shift * draws_5N[3]), dim=1)
        along_y = torch.stack((sine * aspect, cosine, 2 * self.shift * draws_5N[4]), dim=1)
        return torch.stack((along_x, along_y), dim=1)


def warp(images_NCHW: Float[Tensor, "N C H W"], maps_N23: Float[Tensor, "N 2 3"]) -> Float[Tensor, "N C H W"]:
    """Sample each image through its affine map, bilinearly; beyond its edge an image is reflected."""
    places_NHW2 = F.affine_grid(maps_N23, list(images_NCHW.shape), align_corners=False)
    return F.grid_sample(images_NCHW, places_NHW2, mode="bilinear", padding_mode="reflection", align_corners=False)
