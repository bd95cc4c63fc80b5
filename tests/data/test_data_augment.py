"""Augmentation against slow references: nothing is exactly nothing, and each kind alone does what its name says."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from convscope.data.augment import Augment, warp
from convscope.seeds import generator

OFF = Augment(shift=0.0, rotate=0.0, scale=0.0, flip=0.0)


def digits(count: int = 8, side: int = 21) -> torch.Tensor:
    """Smooth random images with a dark margin."""
    images_NCHW = F.interpolate(torch.rand(count, 1, 5, 5, generator=generator(0, "digits")) * 255, size=side - 8, mode="bicubic")
    return F.pad(images_NCHW, (4, 4, 4, 4))


def test_off_is_falsy_and_any_strength_is_not() -> None:
    assert not OFF
    assert all(Augment(**{**OFF.to_config(), name: 0.1}) for name in ("shift", "rotate", "scale", "flip"))
    assert Augment.default(3).flip == 0.5
    assert Augment.default(1).flip == 0


def test_strengths_of_0_map_every_place_to_itself() -> None:
    maps_N23 = OFF.maps(4, generator(0))
    assert torch.equal(maps_N23, torch.eye(2, 3).expand(4, 2, 3))


def test_flip_alone_mirrors() -> None:
    images_NCHW = digits()
    maps_N23 = Augment(shift=0.0, rotate=0.0, scale=0.0, flip=1.0).maps(len(images_NCHW), generator(0))
    torch.testing.assert_close(warp(images_NCHW, maps_N23), images_NCHW.flip(3), atol=1e-2, rtol=0)
    some = Augment(shift=0.0, rotate=0.0, scale=0.0, flip=0.3).maps(20_000, generator(0))[:, 0, 0]
    assert (some < 0).float().mean() == pytest.approx(0.3, abs=0.01)


def test_shift_alone_moves_by_at_most_its_share() -> None:
    images_NCHW = digits(200)
    maps_N23 = Augment(shift=0.1, rotate=0.0, scale=0.0).maps(200, generator(1))
    moved_N2 = maps_N23[:, :, 2] / 2  # -1..1 is one image wide
    assert 0.09 < moved_N2.abs().max() <= 0.1
    whole = torch.tensor([[[1.0, 0, 2 * 3 / 21], [0, 1, -2 * 2 / 21]]])  # 3 columns to the left, 2 rows down
    torch.testing.assert_close(warp(images_NCHW[:1], whole)[:, :, 2:, :-3], images_NCHW[:1, :, :-2, 3:], atol=1e-2, rtol=0)


def test_rotation_keeps_distances_also_where_images_are_not_square() -> None:
    maps_N23 = Augment(shift=0.0, rotate=30.0, scale=0.0).maps(500, generator(2), aspect=2.0)
    stretch = torch.diag(torch.tensor([2.0, 1.0]))  # -1..1 in units of half the height
    turns_N22 = stretch @ maps_N23[:, :, :2] @ stretch.inverse()
    torch.testing.assert_close(turns_N22 @ turns_N22.transpose(1, 2), torch.eye(2).expand(500, 2, 2), atol=1e-5, rtol=0)
    degrees = torch.rad2deg(torch.asin(turns_N22[:, 1, 0]))
    assert 29 < degrees.abs().max() <= 30.001


def test_scale_alone_is_even_about_1() -> None:
    zoom = 1 / Augment(shift=0.0, rotate=0.0, scale=0.25).maps(5000, generator(3))[:, 0, 0]
    assert zoom.max() <= 1.2501
    assert zoom.min() >= 0.7999
    assert zoom.log().mean() == pytest.approx(0, abs=0.01)
    assert zoom.log().std() == pytest.approx(math.log(1.25) / math.sqrt(3), rel=0.05)


def test_beyond_the_edge_an_image_is_reflected() -> None:
    image = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 4, 4).contiguous()
    left = torch.tensor([[[1.0, 0, -0.5], [0, 1, 0]]])  # one column
    assert warp(image, left)[0, 0, 0].tolist() == [0, 0, 1, 2]


def test_warp_by_hand() -> None:
    images_NCHW, maps_N23 = digits(2, side=15), Augment().maps(2, generator(5))
    fast = warp(images_NCHW, maps_N23)
    for image, row, column in ((0, 7, 7), (1, 5, 9), (1, 8, 4)):
        x, y = (2 * column + 1) / 15 - 1, (2 * row + 1) / 15 - 1
        source = maps_N23[image] @ torch.tensor([x, y, 1.0])
        across = ((float(source[0]) + 1) * 15 - 1) / 2
        down = ((float(source[1]) + 1) * 15 - 1) / 2
        left, top = math.floor(across), math.floor(down)
        expected = sum(
            float(images_NCHW[image, 0, top + i, left + j]) * abs(1 - i - (down - top)) * abs(1 - j - (across - left))
            for i in (0, 1)
            for j in (0, 1)
        )
        assert float(fast[image, 0, row, column]) == pytest.approx(expected, abs=0.05)
