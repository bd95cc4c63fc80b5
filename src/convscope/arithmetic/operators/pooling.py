"""Pooling and reductions: windows without weights of their own, an average or the greatest of what they see."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from convscope.arithmetic.operators.base import NOTHING, Array, Indices, Inputs, Part, Products, Sum, places
from convscope.arithmetic.windows import PADDING, Table, adaptive_windows, least_seen, sliding_windows
from convscope.records import Node


class Pool(Sum):
    """Pooling over the last axes, each channel by itself.

    The products of an average have the weight 1 / divisor. Those of a maximum have the weight 1 for the winner (the first of equals)
    and 0 for the others, so that everything the window saw is listed.
    """

    def __init__(self, *, largest: bool, adaptive: bool) -> None:
        self.largest, self.adaptive = largest, adaptive

    def products(self, node: Node, inputs: Inputs, units: Indices) -> Products:
        """The products with real inputs, row by row."""
        shape = inputs[0].shape
        tables = self.tables(node, shape)
        lead, outputs = units // math.prod(node.values.shape[-len(tables) :]), places(units, node.values.shape)[-len(tables) :]
        index, real = lead.reshape(-1, *[1] * len(tables)), np.ones((1,) * (len(tables) + 1), dtype=np.bool_)
        for axis, (table, output, size) in enumerate(zip(tables, outputs, shape[-len(tables) :], strict=True)):
            seen = table[output].reshape(len(units), *(table.shape[1] if a == axis else 1 for a in range(len(tables))))
            index, real = index * size + seen, real & (seen != PADDING)
        index, real = index.reshape(len(units), -1), real.reshape(len(units), -1)
        weight = _winners(inputs[0], index, real) if self.largest else 1 / self._divisors(node, shape, real, outputs)[:, None]
        row = np.broadcast_to(np.arange(len(units))[:, None], index.shape)
        weight = np.broadcast_to(weight, index.shape)
        return Products((Part(0, row[real], index[real], weight[real]),), np.zeros(len(units)))

    def reach(self, node: Node, inputs: Inputs, fields: Sequence[Array]) -> Array:
        """The fields of the window."""
        tables = self.tables(node, inputs[0].shape)
        lead = fields[0].ndim - len(tables)
        full = np.broadcast_to(fields[0], (*fields[0].shape[:lead], *inputs[0].shape[-len(tables) :]))
        return least_seen(full, tables, NOTHING)

    def tables(self, node: Node, shape: tuple[int, ...]) -> list[Table]:
        """The window table of each pooled axis."""
        if self.adaptive:
            axes = len(node.settings["output_size"])
            return [adaptive_windows(size, out) for size, out in zip(shape[-axes:], node.values.shape[-axes:], strict=True)]
        sizes = shape[-len(node.settings["kernel_size"]) :]
        return [
            sliding_windows(size, out, *window)
            for size, out, window in zip(sizes, node.values.shape[-len(sizes) :], pool_windows(node), strict=True)
        ]

    def _divisors(self, node: Node, shape: tuple[int, ...], real: Array, outputs: Sequence[Indices]) -> Array:
        """What each unit's sum is divided by: PyTorch counts padding unless told not to, but not what lies beyond it."""
        given = node.settings.get("divisor_override")
        if given is not None:
            return np.full(len(real), float(given))
        if self.adaptive or not node.settings.get("count_include_pad", True):
            return np.asarray(real.sum(axis=1), dtype=np.float64)
        divisor = np.ones(len(real))
        for output, (kernel, stride, padding, _), size in zip(outputs, pool_windows(node), shape[-len(outputs) :], strict=True):
            start = output * stride - padding
            divisor *= np.minimum(start + kernel, size + padding) - start
        return divisor


def pool_windows(node: Node) -> list[tuple[int, int, int, int]]:
    """Kernel, stride, padding and dilation of each axis of a pooling; PyTorch's empty stride means the kernel's size."""
    kernel = node.settings["kernel_size"]
    axes = len(kernel)

    def each(name: str, default: Sequence[int]) -> list[int]:
        value = list(node.settings.get(name) or default)
        return value * axes if len(value) == 1 else value

    return list(zip(kernel, each("stride", kernel), each("padding", [0]), each("dilation", [1]), strict=True))


class Reduce(Sum):
    """`mean`, `sum`, `amax` and `max` over some or all axes."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def products(self, node: Node, inputs: Inputs, units: Indices) -> Products:
        """The products with every place along the reduced axes."""
        shape, axes = inputs[0].shape, reduced_axes(node, inputs[0].ndim)
        kept = [axis for axis in range(len(shape)) if axis not in axes]
        order = np.arange(inputs[0].size).reshape(shape).transpose(*kept, *axes).reshape(-1, math.prod(shape[axis] for axis in axes))
        index = order[units]
        count = index.shape[1]
        real = np.ones(index.shape, dtype=np.bool_)
        weight = _winners(inputs[0], index, real) if self.kind == "max" else np.full(index.shape, 1 / count if self.kind == "mean" else 1.0)
        return Products((Part(0, np.repeat(np.arange(len(units)), count), index.reshape(-1), weight.reshape(-1)),), np.zeros(len(units)))

    def reach(self, node: Node, inputs: Inputs, fields: Sequence[Array]) -> Array:
        """Everything along the reduced axes."""
        axes = reduced_axes(node, inputs[0].ndim)
        least = np.asarray(fields[0].min(axis=tuple(axis + 1 for axis in axes), keepdims=True))
        if node.values.ndim == inputs[0].ndim:
            return least
        return least.reshape(4, *(size for axis, size in enumerate(least.shape[1:]) if axis not in axes))


def reduced_axes(node: Node, rank: int) -> list[int]:
    """The axes that a reduction sums over."""
    dims = node.settings.get("dim")
    if dims is None or dims == []:
        return list(range(rank))
    return sorted(axis % rank for axis in ([dims] if isinstance(dims, int) else dims))


def _winners(values: Array, index: Array, real: Array) -> Array:
    """1 for the greatest value of each row of `index`, 0 for the others."""
    seen = np.where(real, values.reshape(-1)[np.where(real, index, 0)], -np.inf)
    weight = np.zeros(index.shape)
    weight[np.arange(len(index)), seen.argmax(axis=1)] = 1
    return weight
