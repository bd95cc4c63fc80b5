"""Initialisation of weights by name, for networks that exist already; the network is changed in place and nothing else is."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from convscope.errors import UnknownNameError

WeightLayer = nn.Linear | nn.modules.conv._ConvNd
Rule = Callable[[Tensor, torch.Generator | None], object]


def _pytorch(weight: Tensor, generator: torch.Generator | None) -> object:
    return nn.init.kaiming_uniform_(
        weight, a=math.sqrt(5), generator=generator
    )  # what Conv2d and Linear do themselves: bound 1/sqrt(fan_in)


def _kaiming_normal(weight: Tensor, generator: torch.Generator | None) -> object:
    return nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)


def _kaiming_uniform(weight: Tensor, generator: torch.Generator | None) -> object:
    return nn.init.kaiming_uniform_(weight, nonlinearity="relu", generator=generator)


def _xavier_normal(weight: Tensor, generator: torch.Generator | None) -> object:
    return nn.init.xavier_normal_(weight, generator=generator)


def _orthogonal(weight: Tensor, generator: torch.Generator | None) -> object:
    return nn.init.orthogonal_(weight, gain=nn.init.calculate_gain("relu"), generator=generator)


SCHEMES: dict[str, Rule] = {
    "pytorch": _pytorch,
    "kaiming_normal": _kaiming_normal,
    "kaiming_uniform": _kaiming_uniform,
    "xavier_normal": _xavier_normal,
    "orthogonal": _orthogonal,
}


def initialise(model: nn.Module, scheme: str = "kaiming_normal", generator: torch.Generator | None = None) -> None:
    """Draw the weights of every convolution and linear layer anew; biases become 0 and norms the identity.

    The scheme "pytorch" is PyTorch's own default, in which biases are drawn too, from +-1/sqrt(fan_in). Kaiming (He et al. 2015)
    and orthogonal (Saxe et al. 2013) keep the spread of activations through ReLU layers; Xavier (Glorot and Bengio 2010) through
    layers without activation or with tanh.

    Args:
        model: the network, changed in place; its parameters stay the same objects, so that an optimiser goes on holding them.
        scheme: one of `SCHEMES`.
        generator: where random numbers come from; None is PyTorch's global generator.

    Raises:
        UnknownNameError: there is no such scheme.

    Example:
        >>> initialise(simple_cnn(), "kaiming_normal", torch.Generator().manual_seed(0))
    """
    if scheme not in SCHEMES:
        raise UnknownNameError("initialisation", scheme, SCHEMES)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, WeightLayer):
                SCHEMES[scheme](module.weight, generator)
                _set_bias(module, scheme, generator)
            elif isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm):
                module.reset_parameters()


def _set_bias(layer: WeightLayer, scheme: str, generator: torch.Generator | None) -> None:
    if layer.bias is None:
        return
    if scheme == "pytorch":
        fan_in, _ = nn.init._calculate_fan_in_and_fan_out(layer.weight)
        bound = 1 / math.sqrt(fan_in)
        nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    else:
        nn.init.zeros_(layer.bias)
