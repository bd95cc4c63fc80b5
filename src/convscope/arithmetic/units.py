"""Names of layers and numbers of units, as people give them, turned into operations and places in their arrays, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convscope.arithmetic.operators.base import Indices
from convscope.errors import TraceError, UnknownNameError
from convscope.records import Network, Node


def layer_of(network: Network, layer: str) -> Node:
    """The operation whose output a layer's name stands for.

    Raises:
        UnknownNameError: no module or operation has that name; the nearest names are given.
    """
    layers = network.layers
    if layer not in layers:
        raise UnknownNameError("layer", layer, layers)
    return network.by_name[layers[layer]]


def unit_index(node: Node, layer: str, unit: Sequence[int]) -> int:
    """The flat index of a unit given as (channel, row, column); a vector's may be `(i,)` or `(i, 0, 0)`.

    Raises:
        TraceError: the unit has another number of axes than the layer's output, or lies outside it.
    """
    place, shape = tuple(int(index) for index in unit), node.shape
    if len(shape) < len(place) and not any(place[len(shape) :]):
        place = place[: len(shape)]
    size = "×".join(map(str, shape)) or "a single number"
    axes = " (channels × rows × columns)" if len(shape) == 3 else ""
    largest = ",".join(str(size - 1) for size in shape)
    if len(place) != len(shape):
        raise TraceError(
            f"The unit {tuple(unit)} has {len(tuple(unit))} numbers; the output of layer {layer!r} is {size}{axes}. "
            f"Give {len(shape)}, counted from 0: at most {largest}."
        )
    if any(not 0 <= index < size for index, size in zip(place, shape, strict=True)):
        raise TraceError(
            f"The unit {tuple(unit)} lies outside layer {layer!r}, whose output is {size}{axes}. Units go from 0 to {largest}."
        )
    return int(np.ravel_multi_index(place, shape)) if shape else 0


def unit_places(node: Node, units: Indices) -> list[tuple[int, ...]]:
    """The units of flat indices, as (channel, row, column) or (i,)."""
    if not node.shape:
        return [()] * len(units)
    return list(zip(*(axis.tolist() for axis in np.unravel_index(units, node.shape)), strict=True))


def middle_unit(node: Node) -> tuple[int, ...]:
    """The unit in the middle of the first channel's map; the first of a vector."""
    shape = node.shape
    return (0, *((size - 1) // 2 for size in shape[1:])) if len(shape) == 3 else (0,) * len(shape)
