"""Norms and softmax: steps that compare a unit with statistics, stored ones (batch norm in evaluation) or those of this image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from convscope.arithmetic.operators.base import Applied, Array, Indices, Inputs, Step, places
from convscope.records import Node


class Normalise(Step):
    """`(x - mean) / sqrt(variance + eps) * weight + bias`, with the mean and variance of the unit's group."""

    def apply(self, node: Node, inputs: Inputs, units: Indices, x: Array) -> Applied:
        """The formula's values; `numbers` has mean, variance, eps and, where the layer has them, weight and bias."""
        eps = float(node.settings.get("eps", node.settings.get("epsilon", 0.0)))
        mean, variance = self._statistics(node, inputs[0], units)
        weight, bias = self._affine(node, units)
        factor = (1.0 if weight is None else weight) / np.sqrt(variance + eps)
        value = (x - mean) * factor + (0.0 if bias is None else bias)
        numbers = {"mean": mean, "variance": variance, "eps": eps}
        numbers |= {name: array for name, array in (("weight", weight), ("bias", bias)) if array is not None}
        shift = np.abs(mean * factor) + (0.0 if bias is None else np.abs(bias))
        return Applied(value, np.abs(factor), shift, numbers)

    def reach(self, node: Node, inputs: Inputs, fields: Sequence[Array]) -> Array:
        """The same fields, or those of the whole group when the statistics are this image's."""
        if uses_stored_statistics(node):
            return fields[0]
        shape = inputs[0].shape
        grouped = np.broadcast_to(fields[0], (4, *shape)).reshape(4, *_groups(node, inputs[0]))
        return np.broadcast_to(grouped.min(axis=2, keepdims=True), grouped.shape).reshape(4, *shape)

    def _statistics(self, node: Node, values: Array, units: Indices) -> tuple[Array, Array]:
        if uses_stored_statistics(node):
            channel = places(units, values.shape)[1]
            return node.weights["running_mean"][channel].astype(np.float64), node.weights["running_var"][channel].astype(np.float64)
        groups = values.reshape(_groups(node, values)).astype(np.float64)
        group = units // groups.shape[1]
        return groups.mean(axis=1)[group], groups.var(axis=1)[group]

    def _affine(self, node: Node, units: Indices) -> tuple[Array | None, Array | None]:
        by_place = node.operation == "native_layer_norm"
        index = units % math.prod(node.settings["normalized_shape"]) if by_place else places(units, node.values.shape)[1]
        weight, bias = (node.weights.get(name) for name in ("weight", "bias"))
        return tuple(None if array is None else array.reshape(-1)[index].astype(np.float64) for array in (weight, bias))  # type: ignore[return-value]


def uses_stored_statistics(node: Node) -> bool:
    """Whether a norm uses statistics gathered in training, so that each unit depends on itself only."""
    return "batch_norm" in node.operation and not node.settings.get("training", False) and "running_mean" in node.weights


def _groups(node: Node, values: Array) -> tuple[int, int]:
    """Number and size of the groups of consecutive units that share a mean and a variance."""
    if node.operation == "native_layer_norm":
        size = math.prod(node.settings["normalized_shape"])
    elif node.operation == "native_group_norm":
        size = values.size // values.shape[0] // int(node.settings["group"])
    else:  # a batch norm with this image's statistics: each channel of the one image
        size = math.prod(values.shape[2:])
    return values.size // size, size


class Softmax(Step):
    """`exp(x) / sum of exp` along one axis, or its logarithm."""

    def __init__(self, *, logarithm: bool) -> None:
        self.logarithm = logarithm

    def apply(self, node: Node, inputs: Inputs, units: Indices, x: Array) -> Applied:
        """The formula's values; `numbers` has the greatest input and the sum of the exponentials of the differences from it."""
        axis = int(node.settings["dim"])
        values = inputs[0].astype(np.float64)
        greatest = values.max(axis=axis, keepdims=True)
        total = np.exp(values - greatest).sum(axis=axis, keepdims=True)
        greatest, total = (np.broadcast_to(array, values.shape).reshape(-1)[units] for array in (greatest, total))
        below = x - greatest
        value = below - np.log(total) if self.logarithm else np.exp(below) / total
        return Applied(value, 1.0, np.abs(greatest), {"greatest": greatest, "sum of exponentials": total})

    def reach(self, node: Node, inputs: Inputs, fields: Sequence[Array]) -> Array:
        """Everything along the axis."""
        return np.asarray(fields[0].min(axis=int(node.settings["dim"]) % inputs[0].ndim + 1, keepdims=True))
