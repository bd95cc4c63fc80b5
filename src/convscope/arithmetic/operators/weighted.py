"""Operators with weights: convolutions of any number of axes, strided, dilated, grouped or transposed, and linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from convscope.arithmetic.operators.base import NOTHING, Array, Indices, Inputs, Part, Products, Sum, places
from convscope.arithmetic.windows import PADDING, Table, least_seen, sliding_windows, transposed_windows
from convscope.records import Node


class Convolution(Sum):
    """`aten.convolution`: unit (f, place) is the sum over channels c and taps t of `weight[f, c, t] * input[c, seen]`, plus bias[f]."""

    def products(self, node: Node, inputs: Inputs, units: Indices) -> Products:
        """The products with real inputs, in the order of the weights: channel, then row, then column; padding gives none."""
        weight, groups = node.weights["weight"], int(node.settings["groups"])
        shape = inputs[0].shape
        image, filters, *outputs = places(units, node.values.shape)
        in_group = shape[1] // groups
        group = filters // (node.values.shape[1] // groups)
        channels = group[:, None] * in_group + np.arange(in_group)  # (units, channels of the group)
        own = (channels, (filters % weight.shape[1])[:, None]) if node.settings["transposed"] else (filters,)
        taps = weight[own]  # (units, channels of the group, *kernel)
        ties = np.arange(weight.size).reshape(weight.shape)[own]
        axes = len(shape) - 2
        index = (image * shape[1])[:, None] + channels
        index, real = index.reshape(*index.shape, *[1] * axes), np.ones((1,) * taps.ndim, dtype=np.bool_)
        for axis, (table, output, size) in enumerate(zip(convolution_tables(node, shape), outputs, shape[2:], strict=True)):
            seen = table[output].reshape(len(units), 1, *(table.shape[1] if a == axis else 1 for a in range(axes)))
            index, real = index * size + seen, real & (seen != PADDING)
        real = np.broadcast_to(real, taps.shape)
        row = np.broadcast_to(np.arange(len(units)).reshape(-1, *[1] * (taps.ndim - 1)), taps.shape)
        part = Part(0, row[real], index[real], taps[real].astype(np.float64), ties[real])
        bias = node.weights.get("bias")
        return Products((part,), np.zeros(len(units)) if bias is None else bias[filters].astype(np.float64))

    def reach(self, node: Node, inputs: Inputs, fields: Sequence[Array]) -> Array:
        """The fields of the window, in every channel of the filter's group."""
        shape, field, groups = inputs[0].shape, fields[0], int(node.settings["groups"])
        if field.shape[2] == 1:  # all channels alike
            groups = 1
        grouped = field.reshape(4, field.shape[1], groups, -1, *field.shape[3:]).min(axis=3)
        full = np.broadcast_to(grouped, (*grouped.shape[:3], *shape[2:]))
        seen = least_seen(full, convolution_tables(node, shape), NOTHING)
        return seen if groups == 1 else np.repeat(seen, node.values.shape[1] // groups, axis=2)


def convolution_tables(node: Node, shape: tuple[int, ...]) -> list[Table]:
    """The window table of each axis of a convolution whose input has the given shape."""
    settings = node.settings
    windows = transposed_windows if settings["transposed"] else sliding_windows
    kernel = node.weights["weight"].shape[2:]
    return [
        windows(size, out, taps, stride, padding, dilation)
        for size, out, taps, stride, padding, dilation in zip(
            shape[2:], node.values.shape[2:], kernel, settings["stride"], settings["padding"], settings["dilation"], strict=True
        )
    ]


class Linear(Sum):
    """`aten.addmm` and `aten.mm`: unit (n, j) is the sum over i of `input[n, i] * weight[i, j]`, plus bias[j]; one factor is constant."""

    def products(self, node: Node, inputs: Inputs, units: Indices) -> Products:
        """The products in the order of the input's features."""
        row, column = places(units, node.values.shape)
        matrix, inner, left = _constant_factor(node)
        count = inputs[0].shape[inner]
        position = np.arange(count)[None]
        ties = np.arange(matrix.size).reshape(matrix.shape)
        if left:  # constant @ data
            index, taps, ties = position * inputs[0].shape[1] + column[:, None], matrix[row], ties[row]
        else:
            index, taps, ties = row[:, None] * count + position, matrix[:, column].T, ties[:, column].T
        alpha, beta = float(node.settings.get("alpha", 1)), float(node.settings.get("beta", 1))
        rows = np.repeat(np.arange(len(units)), count)
        bias = node.weights.get("self") if node.operation == "addmm" else None
        added = np.zeros(len(units)) if bias is None else beta * np.broadcast_to(bias, node.values.shape)[row, column].astype(np.float64)
        weights = alpha * taps.astype(np.float64).reshape(-1)
        return Products((Part(0, rows, index.reshape(-1), weights, ties.reshape(-1)),), added)

    def reach(self, node: Node, inputs: Inputs, fields: Sequence[Array]) -> Array:
        """Every feature of the row."""
        _, inner, _ = _constant_factor(node)
        return np.asarray(fields[0].min(axis=inner + 1, keepdims=True))


def _constant_factor(node: Node) -> tuple[Array, int, bool]:
    """The constant matrix, the data's axis that is summed over, and whether the constant stands on the left."""
    names = ("mat1", "mat2") if node.operation == "addmm" else ("self", "mat2")
    left = names[0] in node.weights
    matrix: npt.NDArray[Any] = node.weights[names[0] if left else names[1]]
    return matrix, (0 if left else 1), left
