"""What the arithmetic must know of an operator: how a unit of its output comes from units of its inputs.

Units are flat indices into an operation's `values` array (with its leading image axis). Three kinds of operators cover everything:

    Sum     a unit is a sum of products of input units and weights, plus a bias: convolution, linear, pooling, addition
    Step    a unit is a function of one input unit at the same place: norms, activations, scaling by a constant
    Move    a unit is an input unit, at another place: flatten, concatenation, padding, slicing

All work on many units at once. Nothing here looks at a whole network (`convscope.arithmetic.receptive`, `convscope.tracing`).
"""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from convscope.records import Node

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]
Inputs = Sequence[Array]

PRODUCTS_AT_ONCE = 4_000_000  # products held in memory at once while fields are found: about 100 MB
NOTHING = 2**40  # in a field: no pixel; greater than the number of any row or column


@dataclass(frozen=True, slots=True)
class Part:
    """Products of the asked units with units of one input, as columns of equal length.

    Attributes:
        input: number of the input.
        row: which of the asked units, counted from 0.
        unit: flat index into that input.
        weight: float64.
        tie: flat index into the operation's weights of each weight, of operators that have any: what stands in several products is tied.
    """

    input: int
    row: Indices
    unit: Indices
    weight: Array
    tie: Indices | None = None


@dataclass(frozen=True, slots=True)
class Products:
    """The products that make some units: `value[row] = sum of weight * input + bias[row]`."""

    parts: tuple[Part, ...]
    bias: Array


@dataclass(frozen=True, slots=True)
class Applied:
    """What a step made of some units: `value`, and how errors of its input grow (`scale`) and what is added (`shift`), for tolerances.

    Attributes:
        value: float64.
        scale: factor on the input's error; shift: magnitude of what is added to it.
        numbers: what the step's formula used, by name; arrays have one entry a unit.
    """

    value: Array
    scale: Array | float = 1.0
    shift: Array | float = 0.0
    numbers: dict[str, Any] = field(default_factory=dict)


class Operator(abc.ABC):
    """How units of an operation's output come from units of its inputs."""

    @abc.abstractmethod
    def reach(self, node: Node, inputs: Inputs, fields: Sequence[Array]) -> Array:
        """The pixels that the output's units can depend on, whatever the weights are.

        A field is an array of shape (4, ...) that holds, for each unit, the first row, the first column, minus the last row and minus the
        last column of its pixels, so that the field of a union is the least of the fields; `NOTHING` where a unit depends on no pixel. Its
        further axes are those of the units, or 1 where units along an axis do not differ.

        Args:
            node: the operation.
            inputs: the values of its inputs.
            fields: the fields of its inputs.

        Returns:
            The fields of its output.
        """


class Sum(Operator):
    """A unit is a sum of products plus a bias."""

    @abc.abstractmethod
    def products(self, node: Node, inputs: Inputs, units: Indices) -> Products:
        """The products that make the given units."""

    def reach(self, node: Node, inputs: Inputs, fields: Sequence[Array]) -> Array:
        """The fields of all factors together, product by product; operators with windows have a faster way."""
        flat = [np.broadcast_to(found, (4, *values.shape)).reshape(4, -1) for found, values in zip(fields, inputs, strict=True)]
        result = np.full((4, node.values.size), NOTHING, dtype=np.int64)
        for units in chunks(np.arange(node.values.size), max(1, PRODUCTS_AT_ONCE // max(values.size for values in inputs))):
            for part in self.products(node, inputs, units).parts:
                for edge, found in zip(result, flat[part.input], strict=True):
                    np.minimum.at(edge, units[part.row], found[part.unit])
        return result.reshape(4, *node.values.shape)


class Step(Operator):
    """A unit is a function of the one input unit at the same place (and perhaps of statistics over others)."""

    @abc.abstractmethod
    def apply(self, node: Node, inputs: Inputs, units: Indices, x: Array) -> Applied:
        """The values of the given units, by the operator's own formula, when the input units that they are made of have the values `x`."""

    def origin(self, node: Node, inputs: Inputs, units: Indices) -> Indices:
        """The input unit that each of the given units is made of."""
        return broadcast_units(inputs[0].shape, node.values.shape, units)

    def reach(self, node: Node, inputs: Inputs, fields: Sequence[Array]) -> Array:
        """The same fields."""
        return aligned(fields[0], node.values.ndim)


class Move(Operator):
    """A unit is an input unit, at another place, or a constant such as padding."""

    @abc.abstractmethod
    def origin(self, node: Node, inputs: Inputs, units: Indices) -> tuple[Indices, Indices]:
        """The number of the input and the unit of it that each of the given units is; -1 and -1 for a constant."""

    def reach(self, node: Node, inputs: Inputs, fields: Sequence[Array]) -> Array:
        """The fields, moved with their units."""
        number, unit = self.origin(node, inputs, np.arange(node.values.size))
        result = np.full((4, node.values.size), NOTHING, dtype=np.int64)
        for index, (found, values) in enumerate(zip(fields, inputs, strict=True)):
            from_it = number == index
            result[:, from_it] = np.broadcast_to(found, (4, *values.shape)).reshape(4, -1)[:, unit[from_it]]
        return result.reshape(4, *node.values.shape)


def aligned(field: Array, axes: int) -> Array:
    """A field with as many axes of units as an array of `axes` axes, to broadcast with it: 1s go in front, as in all broadcasting."""
    return field.reshape(4, *[1] * (axes + 1 - field.ndim), *field.shape[1:])


def broadcast_units(shape: tuple[int, ...], output_shape: tuple[int, ...], units: Indices) -> Indices:
    """The unit of an array of `shape` that broadcasting puts at each of the given places of an array of `output_shape`."""
    if shape == output_shape:
        return units
    found: Indices = np.broadcast_to(np.arange(math.prod(shape)).reshape(shape), output_shape).reshape(-1)[units]
    return found


def chunks(units: Indices, size: int) -> Iterator[Indices]:
    """Pieces of at most `size` units."""
    for start in range(0, len(units), size):
        yield units[start : start + size]


def places(units: Indices, shape: tuple[int, ...]) -> tuple[Indices, ...]:
    """The index along each axis of flat indices."""
    return tuple(np.unravel_index(units, shape))
