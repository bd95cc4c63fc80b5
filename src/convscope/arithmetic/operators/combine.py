"""Operators that combine two or more activations: sums, differences, products and quotients, and interpolation between neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from convscope.arithmetic.operators.base import Array, Indices, Inputs, Part, Products, Sum, aligned, broadcast_units, places
from convscope.records import Node

LARGEST_PIXEL = 255.0  # of an image file


class Combine(Sum):
    """`add`, `sub`, `mul` and `div` of two activations, with broadcasting.

    A sum's two products have the weight 1 (or alpha). A product is one term: the first factor, whose weight is the second.
    A quotient's weight is one over the second.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def products(self, node: Node, inputs: Inputs, units: Indices) -> Products:
        """One product from each summand, or one in all for a product or a quotient."""
        rows = np.arange(len(units))
        first, second = (broadcast_units(values.shape, node.values.shape, units) for values in inputs)
        alpha = float(node.settings.get("alpha") or 1)
        if self.kind in ("mul", "div"):
            factor = inputs[1].reshape(-1)[second].astype(np.float64)
            return Products((Part(0, rows, first, factor if self.kind == "mul" else 1 / factor),), np.zeros(len(units)))
        signs = {"add": (1.0, alpha), "sub": (1.0, -alpha), "rsub": (-alpha, 1.0)}[self.kind]
        parts = tuple(Part(i, rows, units_of, np.full(len(units), signs[i])) for i, units_of in enumerate((first, second)))
        return Products(parts, np.zeros(len(units)))

    def reach(self, node: Node, inputs: Inputs, fields: Sequence[Array]) -> Array:
        """The fields of both."""
        first, second = (aligned(field, node.values.ndim) for field in fields)
        return np.minimum(first, second)


class Pixels(Sum):
    """The normalisation of pixels 0..255: `(pixel / 255 - mean) / std` as one product and a bias."""

    def products(self, node: Node, inputs: Inputs, units: Indices) -> Products:
        """The pixel times 1 / (255 * std), and the bias -mean / std."""
        channel = places(units, inputs[0].shape)[1]
        mean, std = node.weights["mean"][channel], node.weights["std"][channel]
        return Products((Part(0, np.arange(len(units)), units, 1 / (LARGEST_PIXEL * std)),), -mean / std)

    def reach(self, node: Node, inputs: Inputs, fields: Sequence[Array]) -> Array:
        """The same pixel."""
        return fields[0]


class Probed(Sum):
    """A linear operator without a formula here: its weights are found by running it backwards (PyTorch's own derivative)."""

    def products(self, node: Node, inputs: Inputs, units: Indices) -> Products:
        """The products whose weight is not zero."""
        with torch.enable_grad():
            data = torch.zeros_like(torch.from_numpy(inputs[0]), requires_grad=True)  # in the type in which the weights were computed
            output = run(node, [data]).reshape(-1)
            rows, indices, weights = [], [], []
            for row, unit in enumerate(units):
                (gradient,) = torch.autograd.grad(output[int(unit)], data, retain_graph=True)
                flat = gradient.reshape(-1).numpy()
                seen = np.flatnonzero(flat)
                rows.append(np.full(len(seen), row))
                indices.append(seen)
                weights.append(flat[seen].astype(np.float64))
        bias = output.detach().numpy()[units].astype(np.float64)
        empty: list[Any] = [np.zeros(0, dtype=np.int64)]
        return Products((Part(0, *(np.concatenate(column or empty) for column in (rows, indices, weights))),), bias)


def run(node: Node, data: list[torch.Tensor], constants: dict[str, torch.Tensor] | None = None, **changes: Any) -> torch.Tensor:
    """Run an operation again on other data.

    Args:
        node: the operation.
        data: what to give it instead of its inputs.
        constants: instead of its weights.
        **changes: settings to change.

    Returns:
        Its result; of several pieces, the one that the node stands for.
    """
    _, name, overload = node.function.split(".")
    function = getattr(getattr(torch.ops.aten, name), overload)
    given: dict[str, Any] = {**node.settings, **changes}
    given |= constants if constants is not None else {key: torch.from_numpy(array.copy()) for key, array in node.weights.items()}
    given |= dict(zip(node.settings["data"], data, strict=True))
    args, kwargs = [], {}
    for argument in function._schema.arguments:
        numbered = sorted((key for key in given if key.startswith(argument.name + ".")), key=lambda key: int(key.rpartition(".")[2]))
        value = [given[key] for key in numbered] if numbered else given[argument.name]
        if argument.kwarg_only:
            kwargs[argument.name] = value
        else:
            args.append(value)
    result = function(*args, **kwargs)
    piece: torch.Tensor = result[node.settings.get("piece", 0)] if isinstance(result, list | tuple) else result
    return piece
