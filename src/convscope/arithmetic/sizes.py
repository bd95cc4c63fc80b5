"""How large the output of a convolution or pooling is, and what batch norm does, by hand."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from convscope.errors import UsageError
from convscope.shapes import check_shape


def output_size(size: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1, transposed: bool = False) -> int:
    """Output places along one axis: `floor((size + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1`.

    Groups divide channels and leave places as they are.

    Args:
        size: input places, such as pixels of a row.
        kernel: taps of the kernel.
        stride: places from one window to the next.
        padding: places added on each side.
        dilation: places from one tap to the next.
        transposed: for a transposed convolution, `(size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1`.

    Returns:
        The number of output places.

    Raises:
        UsageError: a number cannot be meant, or the kernel is wider than the padded input.

    Example:
        >>> output_size(28, 3, stride=2, padding=1)
        14
    """
    if min(size, kernel, stride, dilation) < 1 or padding < 0:
        raise UsageError(
            f"size {size}, kernel {kernel}, stride {stride}, dilation {dilation} and padding {padding} cannot be: "
            "the padding must be at least 0 and the others at least 1."
        )
    reach = dilation * (kernel - 1) + 1
    if transposed:
        places = (size - 1) * stride - 2 * padding + reach
        if places < 1:
            raise UsageError(f"With padding {padding} nothing is left of the transposed convolution's {places + 2 * padding} places.")
        return places
    if reach > size + 2 * padding:
        raise UsageError(f"The kernel reaches over {reach} places and the input with its padding has {size + 2 * padding}; it must fit.")
    return (size + 2 * padding - reach) // stride + 1


def partial_sums(
    image_CHW: Float[Tensor, "C H W"], weight_FCKK: Float[Tensor, "F C K1 K2"], *, stride: int = 1, padding: int = 0, dilation: int = 1
) -> Float[Tensor, "F C H2 W2"]:
    """What each input channel contributes to each filter's output: their sum over C is the convolution of the colour image, without bias.

    Args:
        image_CHW: the image.
        weight_FCKK: the filters.
        stride: pixels from one place to the next.
        padding: rows and columns of zeros around the image.
        dilation: pixels from one tap to the next.

    Returns:
        One map for each filter and channel.

    Example:
        >>> partial_sums(image, conv.weight, stride=2, padding=1).sum(1)  # conv(image) without its bias
    """
    check_shape(weight_FCKK, "FCHW", "weight", C=check_shape(image_CHW, "CHW", "image")["C"])
    filters, channels = weight_FCKK.shape[:2]
    each = weight_FCKK.transpose(0, 1).reshape(channels * filters, 1, *weight_FCKK.shape[2:])
    maps = torch.nn.functional.conv2d(image_CHW[None], each, stride=stride, padding=padding, dilation=dilation, groups=channels)
    return maps.reshape(channels, filters, *maps.shape[2:]).transpose(0, 1)


def batch_norm_by_hand(
    images_NCHW: Float[Tensor, "N C H W"],
    *,
    weight_C: Float[Tensor, " C"],
    bias_C: Float[Tensor, " C"],
    running_mean_C: Float[Tensor, " C"],
    running_var_C: Float[Tensor, " C"],
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Float[Tensor, "N C H W"], Float[Tensor, " C"], Float[Tensor, " C"]]:
    """Batch norm written out: `(x - mean) / sqrt(variance + eps) * weight + bias`, channel by channel.

    In training, mean and variance are the batch's (the variance divided by n), and the running ones move towards them by `momentum` (the
    variance divided by n - 1 there, as in PyTorch). In evaluation they are the running ones, which stay as they are.

    Args:
        images_NCHW: a batch of maps.
        weight_C: scale of each channel.
        bias_C: shift of each channel.
        running_mean_C: the mean so far.
        running_var_C: the variance so far.
        training: which mode.
        momentum: share of the batch in the new running statistics.
        eps: keeps the root away from zero; PyTorch's default.

    Returns:
        The output, the new running mean and the new running variance.

    Raises:
        UsageError: training on a single value for each channel, whose variance is unknown.
    """
    mean, variance = running_mean_C, running_var_C
    if training:
        count = images_NCHW.numel() // images_NCHW.shape[1]
        if count < 2:
            raise UsageError(
                f"Batch norm in training needs at least 2 values for each channel to know their variance; it received {count}."
            )
        mean = images_NCHW.mean(dim=(0, 2, 3))
        squares = (images_NCHW - mean[None, :, None, None]).square().sum(dim=(0, 2, 3))
        variance = squares / count
        running_mean_C = (1 - momentum) * running_mean_C + momentum * mean
        running_var_C = (1 - momentum) * running_var_C + momentum * squares / (count - 1)
    scale = weight_C / (variance + eps).sqrt()
    output = (images_NCHW - mean[None, :, None, None]) * scale[None, :, None, None] + bias_C[None, :, None, None]
    return output, running_mean_C, running_var_C
