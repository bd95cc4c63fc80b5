"""Moments of a batch norm's input and output without looking at one element: from what it keeps for its backward pass.

Receives the output of a batch norm in training mode; returns the means and spreads of its channels, and later the moments of all elements. In a network
of convolutions with batch norm that is two of three outputs, and reading outputs is most of what watching costs.
"""

from __future__ import annotations

from typing import Any

import numpy
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

NODE = "NativeBatchNormBackward0"  # PyTorch's name for the backward pass of batch norm on a CPU, and without cuDNN
LEAST_VARIANCE = 1e-3  # of eps: below it the kept 1/sqrt(variance + eps), a float32, no longer tells the variance to three digits

Figures = NDArray[numpy.float64]


def kept_by_batch_norm(values: Tensor) -> tuple[Float[Tensor, "4 channels"], float, int] | None:
    """What a batch norm in training mode has kept of its input.

    Args:
        values: an output, as a layer returned it.

    Returns:
        Mean, 1/sqrt(variance + eps), weight and bias of each channel, in memory of their own; eps; and the address of the input. None when the
        output does not come from a batch norm over this batch, or not all of it can be seen (a frozen bias).
    """
    node: Any = values.grad_fn
    if type(node).__name__ != NODE or not node._saved_training or _are_packed():
        return None
    mean, spread, weight = node._saved_result1, node._saved_result2, node._saved_weight
    bias = getattr(node.next_functions[2][0], "variable", None)
    if weight is None:
        scale, shift = torch.ones_like(mean), torch.zeros_like(mean)
    elif bias is None:
        return None
    else:
        scale, shift = weight.detach().to(mean.dtype), bias.detach().to(mean.dtype)
    return torch.cat([mean, spread, scale, shift]).view(4, -1), node._saved_eps, node._saved_input.data_ptr()


def _are_packed() -> bool:
    """Whether somebody's hooks take what is kept for backward passes, and would be called by a look at it."""
    hooks: object = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return hooks is not None


def moments(kept: Float[numpy.ndarray[Any, Any], "steps 4 channels"], eps: float) -> tuple[Figures, Figures]:
    """Mean and variance of all elements that went in, and of all that came out, at each step.

    Args:
        kept: float64, what `kept_by_batch_norm` returned.
        eps: of the batch norm.

    Returns:
        Two arrays (2, steps): mean and variance of the input and of the output. NaN or infinite where the input was; the variance -1 where it cannot
        be told, because it is tiny against eps or too large for float32.
    """
    mean, spread, weight, bias = kept[:, 0], kept[:, 1], kept[:, 2], kept[:, 3]
    with numpy.errstate(invalid="ignore", divide="ignore", over="ignore"):
        variance = numpy.maximum(spread**-2.0 - eps, 0.0)
        before = _over_channels(mean, variance)
        after = _over_channels(bias, weight**2 * variance * spread**2)
    unknown = numpy.isfinite(mean).all(1) & (spread == 0).any(1)  # the variance was too large
    before[1, unknown | (before[1] < LEAST_VARIANCE * eps)] = -1.0
    after[1, unknown] = -1.0
    after[:, ~numpy.isfinite(before[0])] = numpy.nan  # NaN and infinity go through
    return before, after


def _over_channels(means: Figures, variances: Figures) -> Figures:
    """Mean and variance of all elements, from those of channels of equal size."""
    mean = means.mean(1)
    return numpy.stack([mean, (variances + (means - mean[:, None]) ** 2).mean(1)])
