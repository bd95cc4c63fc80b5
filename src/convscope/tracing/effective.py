"""The effective receptive field: not what a unit could see, but how much each pixel moves it, by gradients (Luo et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor, nn

from convscope.arithmetic.execution import execute, untouched
from convscope.arithmetic.units import unit_index
from convscope.errors import TraceError, UnknownNameError
from convscope.records import Box, Network

SHARE = 0.95  # of the gradient, that the box of an effective field holds along each axis


@dataclass(frozen=True, slots=True, eq=False)
class EffectiveField:
    """How much each pixel moves a unit.

    Attributes:
        layer, unit: which unit.
        weight_HW: share of the absolute gradient at each pixel, over channels and images; it adds up to 1 (or is 0 everywhere).
        box: rows and columns that hold the middle 95 % of it; (0, 0, -1, -1) when there is none.
    """

    layer: str
    unit: tuple[int, ...]
    weight_HW: npt.NDArray[Any]
    box: Box


def effective_receptive_field(model: nn.Module, images_NCHW: Float[Tensor, "N C H W"], layer: str, unit: Sequence[int]) -> EffectiveField:
    """How much each pixel moves one unit, averaged over images.

    Args:
        model: any module that takes images (N, C, H, W); it is run in evaluation mode and left as it was.
        images_NCHW: images as the model wants them.
        layer: a module's name, such as "2.0".
        unit: (channel, row, column), or (i,) of a vector.

    Returns:
        The shares of the gradient and the box that holds 95 % of them along each axis.

    Raises:
        UnknownNameError: there is no such module.
        TraceError: the unit lies outside the layer's output, or the module did not run.

    Example:
        >>> effective_receptive_field(model, images, "2.0", (0, 2, 2)).box
    """
    modules = dict(model.named_modules())
    if layer not in modules:
        raise UnknownNameError("module", layer, [name for name in modules if name])
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _given: object, output: Tensor) -> None:
        outputs.append(output)

    with untouched(model), torch.enable_grad():
        network = execute(model.eval(), images_NCHW[0], keep_values=False)
        index = _index(network, layer, unit)
        hook = modules[layer].register_forward_hook(keep)
        try:
            images = images_NCHW.detach().clone().requires_grad_(True)
            model(images)
            chosen = outputs[0].reshape(len(images), -1)[:, index].sum()
            (gradient,) = torch.autograd.grad(chosen, images)
        finally:
            hook.remove()
    weight = gradient.abs().sum(dim=(0, 1)).double().cpu().numpy()
    total = float(weight.sum())
    weight = weight / total if total else weight
    return EffectiveField(layer, tuple(unit), weight, _box(weight))


def _index(network: Network, layer: str, unit: Sequence[int]) -> int:
    if layer not in network.layers:
        raise TraceError(f"The module {layer!r} did not give a tensor that comes from the image, so it has no field. Choose another layer.")
    return unit_index(network.by_name[network.layers[layer]], layer, unit)


def _box(weight_HW: npt.NDArray[Any]) -> Box:
    if not weight_HW.any():
        return Box(0, 0, -1, -1)
    edges = []
    for axis in (1, 0):
        share = np.cumsum(weight_HW.sum(axis=axis))
        beyond = (1 - SHARE) / 2
        edges.append((int(np.searchsorted(share, beyond)), int(np.searchsorted(share, 1 - beyond))))
    return Box(edges[0][0], edges[1][0], min(edges[0][1], weight_HW.shape[0] - 1), min(edges[1][1], weight_HW.shape[1] - 1))
