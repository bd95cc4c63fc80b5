"""What the arithmetic must know of an operator: how a unit of its output comes from units of its inputs.

Units are flat indices into an operation's `values` array (with its leading image axis). Three kinds of operators cover everything:

    Sum     a unit is a sum of products of input units and weights, plus a bias: convolution, linear, pooling, addition
    Step    a unit is a function of one input unit at the same place: norms, activations, scaling by a constant
    Move    a unit is an input unit, at another place: flatten, concatenation, padding, slicing

All work on many units at once. Nothing here looks at a whole network (`convscope.arithmetic.receptive`, `convscope.trace`).
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convscope.arithmetic.windows import Mask
from convscope.records import Node

Array = np.ndarray[Any, Any]
Indices = np.ndarray[Any, np.dtype[np.int64]]
Inputs = Sequence[Array]

PRODUCTS_AT_ONCE = 4_000_000  # products held in memory at once while supports are found: about 100 MB


@dataclass(frozen=True, slots=True)
class Part:
    """Products of the asked units with units of one input, as columns of equal length.

    Attributes:
        input: number of the input.
        row: which of the asked units, counted from 0.
        unit: flat index into that input.
        weight: float64.
    """

    input: int
    row: Indices
    unit: Indices
    weight: Array


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
    def support(self, node: Node, inputs: Inputs, mask: Mask) -> list[Mask]:
        """The units of each input that the marked output units can depend on, whatever the weights are.

        Args:
            node: the operation.
            inputs: the values of its inputs.
            mask: marked units, of the shape of `node.values`.

        Returns:
            One mask for each input.
        """


class Sum(Operator):
    """A unit is a sum of products plus a bias."""

    @abc.abstractmethod
    def products(self, node: Node, inputs: Inputs, units: Indices) -> Products:
        """The products that make the given units."""

    def support(self, node: Node, inputs: Inputs, mask: Mask) -> list[Mask]:
        """The inputs of the marked units' products."""
        masks = [np.zeros(values.shape, dtype=np.bool_) for values in inputs]
        for units in chunks(np.flatnonzero(mask), max(1, PRODUCTS_AT_ONCE // max(values.size for values in inputs))):
            for part in self.products(node, inputs, units).parts:
                masks[part.input].reshape(-1)[part.unit] = True
        return masks


class Step(Operator):
    """A unit is a function of the one input unit at the same place (and perhaps of statistics over others)."""

    @abc.abstractmethod
    def apply(self, node: Node, inputs: Inputs, units: Indices) -> Applied:
        """The values of the given units, by the operator's own formula."""

    def origin(self, node: Node, inputs: Inputs, units: Indices) -> Indices:
        """The input unit that each of the given units is made of."""
        shape = inputs[0].shape
        if shape == node.values.shape:
            return units
        places: Indices = np.broadcast_to(np.arange(inputs[0].size).reshape(shape), node.values.shape).reshape(-1)[units]
        return places

    def support(self, node: Node, inputs: Inputs, mask: Mask) -> list[Mask]:  # noqa: ARG002 (norms look at the node)
        """The same places of the input."""
        return [unbroadcast(mask, inputs[0].shape)]


class Move(Operator):
    """A unit is an input unit, at another place, or a constant such as padding."""

    @abc.abstractmethod
    def origin(self, node: Node, inputs: Inputs, units: Indices) -> tuple[Indices, Indices]:
        """The number of the input and the unit of it that each of the given units is; -1 and -1 for a constant."""

    def support(self, node: Node, inputs: Inputs, mask: Mask) -> list[Mask]:
        """The places that the marked units come from."""
        masks = [np.zeros(values.shape, dtype=np.bool_) for values in inputs]
        number, unit = self.origin(node, inputs, np.flatnonzero(mask))
        for index, marked in enumerate(masks):
            marked.reshape(-1)[unit[number == index]] = True
        return masks


def unbroadcast(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """The places of an array of `shape` that broadcasting copies to a marked place.

    Example:
        >>> unbroadcast(numpy.array([[True, False], [False, False]]), (2, 1))
        array([[ True],
               [False]])
    """
    extra = mask.ndim - len(shape)
    axes = tuple(axis for axis in range(mask.ndim) if axis < extra or (shape[axis - extra] == 1 and mask.shape[axis] != 1))
    return np.asarray(mask.any(axis=axes, keepdims=True), dtype=np.bool_).reshape(shape)


def chunks(units: Indices, size: int) -> Iterator[Indices]:
    """Pieces of at most `size` units."""
    for start in range(0, len(units), size):
        yield units[start : start + size]


def places(units: Indices, shape: tuple[int, ...]) -> tuple[Indices, ...]:
    """The index along each axis of flat indices."""
    return tuple(np.unravel_index(units, shape))
