"""The library's own networks: the chapter's plain convolutional nets and a small residual one.

Every function returns an ordinary `torch.nn.Module` that takes images (N, C, H, W) and returns logits (N, L).
Nothing here trains or loads weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn

from convscope.errors import UsageError
from convscope.nn.init import initialise
from convscope.nn.recipe import described

PlainOrder = Literal["conv-norm-act", "conv-act-norm"]
ResidualOrder = Literal["conv-norm-act", "norm-act-conv"]

LARGEST_WITHOUT_POOLING = 28  # pixels: five halvings of at most 28 (28-14-7-4-2-1) leave one place, so that Flatten gives the logits
STEM_HALVES_FROM = 64  # pixels: below, the first stage works at full size
STEM_QUARTERS_FROM = 128  # pixels: from here on a pooling follows the stem, as in ResNet (He et al. 2015), and 224 pixels become 56


@described
def simple_cnn(
    in_channels: int = 1,
    classes: int = 10,
    *,
    channels: Sequence[int] = (8, 16, 32, 64),
    first_kernel: int = 5,
    norm: bool = True,
    order: PlainOrder = "conv-norm-act",
    image_size: int = 28,
) -> nn.Sequential:
    """A stack of stride-2 convolutions, each halving the image, the last of which gives the logits (nets A and B of fastbook chapter 13).

    Block i is `Sequential(conv, [norm], [act])`, so that the convolution of block 2 is the layer "2.0". Convolutions keep their
    biases and everything has PyTorch's default initialisation, as in the chapter. There is no activation on the logits.

    Args:
        in_channels: channels of the images: 1 for grey, 3 for colour.
        classes: number of classes, and of logits.
        channels: filters of each block before the last.
        first_kernel: rows and columns of the first kernel; the others have 3. Odd.
        norm: whether a batch norm follows each convolution (in the last block too, as in the chapter).
        order: whether the batch norm comes before or after the activation.
        image_size: pixels of the images' shorter side; over 28, global average pooling comes before the logits are flattened.

    Returns:
        A network in training mode.

    Raises:
        UsageError: a size is not positive, the kernel is even, or the order is unknown.

    Example:
        >>> net_a = simple_cnn(1, 2, channels=(4, 8, 16, 32), first_kernel=3, norm=False)
        >>> sum(parameter.numel() for parameter in net_a.parameters())
        6722
    """
    _check_sizes(
        in_channels=in_channels, classes=classes, image_size=image_size, **{f"channels[{i}]": size for i, size in enumerate(channels)}
    )
    _check_order(order, get_args(PlainOrder))
    if first_kernel < 1 or first_kernel % 2 == 0:
        raise UsageError(
            f"first_kernel is {first_kernel}; it must be odd and positive, so that the padding can be equal on both sides. Give 3 or 5."
        )
    sizes = (in_channels, *channels, classes)
    blocks: list[nn.Module] = []
    for index, (before, after) in enumerate(itertools.pairwise(sizes)):
        kernel = first_kernel if index == 0 else 3
        parts: list[nn.Module] = [nn.ReLU()] if index < len(channels) else []
        if norm:
            parts.insert(0 if order == "conv-norm-act" else len(parts), nn.BatchNorm2d(after))
        blocks.append(nn.Sequential(nn.Conv2d(before, after, kernel, stride=2, padding=kernel // 2), *parts))
    pooling = [nn.AdaptiveAvgPool2d(1)] if image_size > LARGEST_WITHOUT_POOLING else []
    return nn.Sequential(*blocks, *pooling, nn.Flatten())


@described
def small_resnet(
    in_channels: int = 3,
    classes: int = 10,
    *,
    channels: Sequence[int] = (16, 32, 64, 128),
    blocks: int = 1,
    order: ResidualOrder = "conv-norm-act",
    image_size: int = 32,
) -> nn.Sequential:
    """A residual network (He et al. 2015) small enough to train on a processor with images of 32 to 224 pixels.

    A 3×3 stem, one stage for each entry of `channels` (each stage after the first halves the image), global average pooling and a
    linear head. Convolutions have no bias, because a batch norm follows or precedes each one, and Kaiming initialisation. From 64
    pixels on the stem halves the image, from 128 on it quarters it.

    Args:
        in_channels: channels of the images: 1 for grey, 3 for colour.
        classes: number of classes, and of logits.
        channels: filters of each stage.
        blocks: residual blocks in each stage.
        order: "conv-norm-act" as in the first paper, or "norm-act-conv", the pre-activation of the second (He et al. 2016).
        image_size: pixels of the images' shorter side.

    Returns:
        A network in training mode.

    Raises:
        UsageError: a size is not positive, or the order is unknown.

    Example:
        >>> small_resnet(3, 10)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    _check_sizes(
        in_channels=in_channels,
        classes=classes,
        blocks=blocks,
        image_size=image_size,
        **{f"channels[{i}]": s for i, s in enumerate(channels)},
    )
    _check_order(order, get_args(ResidualOrder))
    if not channels:
        raise UsageError(
            "channels is empty; a residual network needs at least one stage. Give filters for each stage, such as (16, 32, 64, 128)."
        )
    layers: list[nn.Module] = [_stem(in_channels, channels[0], order, image_size)]
    before = channels[0]
    for stage, after in enumerate(channels):
        parts = []
        for index in range(blocks):
            parts.append(ResidualBlock(before, after, stride=2 if stage > 0 and index == 0 else 1, order=order))
            before = after
        layers.append(nn.Sequential(*parts))
    if order == "norm-act-conv":
        layers += [nn.BatchNorm2d(before), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))
    initialise(model, "kaiming_normal")
    return model


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut; the shortcut is a 1×1 convolution where the shape changes, and the identity elsewhere.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: step of the first convolution and of the shortcut; 2 halves the map.
        order: "conv-norm-act" (activation after the sum) or "norm-act-conv" (the sum is left as it is).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, order: ResidualOrder = "conv-norm-act") -> None:
        super().__init__()
        first = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        second = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        changes = stride != 1 or in_channels != out_channels
        self.shortcut: nn.Module = nn.Identity()
        if order == "conv-norm-act":
            self.body = nn.Sequential(first, nn.BatchNorm2d(out_channels), nn.ReLU(), second, nn.BatchNorm2d(out_channels))
            self.act: nn.Module = nn.ReLU()
            if changes:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
                )
        else:
            self.body = nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU(), first, nn.BatchNorm2d(out_channels), nn.ReLU(), second)
            self.act = nn.Identity()
            if changes:
                self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, images_NCHW: Float[Tensor, "N C H W"]) -> Float[Tensor, "N F H2 W2"]:
        """The body's output plus the shortcut's."""
        total: Tensor = self.act(self.body(images_NCHW) + self.shortcut(images_NCHW))
        return total


def _stem(in_channels: int, out_channels: int, order: ResidualOrder, image_size: int) -> nn.Sequential:
    stride = 2 if image_size >= STEM_HALVES_FROM else 1
    parts: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)]
    if order == "conv-norm-act":
        parts += [nn.BatchNorm2d(out_channels), nn.ReLU()]
    if image_size >= STEM_QUARTERS_FROM:
        parts.append(nn.MaxPool2d(3, stride=2, padding=1))
    return nn.Sequential(*parts)


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise UsageError(f"{name} is {size!r}; it must be a positive whole number.")


def _check_order(order: str, allowed: tuple[str, ...]) -> None:
    if order not in allowed:
        raise UsageError(f"order is {order!r}; it must be {' or '.join(map(repr, allowed))}.")
