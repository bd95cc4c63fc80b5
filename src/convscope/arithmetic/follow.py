"""Following units of an executed network back to the sums that made them. Works on arrays of units; builds no records."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convscope.arithmetic.operators import Move, Products, Step, Sum, operator_of
from convscope.arithmetic.operators.base import Array, Indices, broadcast_units
from convscope.arithmetic.operators.combine import Combine
from convscope.records import Network, Node


@dataclass(frozen=True, slots=True)
class Origin:
    """Some of the asked units, and where they come from.

    Attributes:
        rows: which of the asked units.
        node: the operation whose units they are; None for constants such as padding.
        units: flat indices into its values; the constants' places in the last of `path` for None.
        path: the operations passed on the way back with the units there, the asked one first.
    """

    rows: Indices
    node: Node | None
    units: Indices
    path: tuple[tuple[Node, Indices], ...]


def origins(network: Network, node: Node, units: Indices, *, through_steps: bool) -> list[Origin]:
    """Follow units back through operations that only move them and, when asked, through steps on single units.

    Args:
        network: the executed graph.
        node: the operation that the units belong to.
        units: flat indices into its values.
        through_steps: whether to pass norms and activations too.

    Returns:
        Groups of units that took the same way; together they are all of them.
    """
    by_name, found = network.by_name, list[Origin]()
    waiting = [Origin(np.arange(len(units)), node, units, ())]
    while waiting:
        here = waiting.pop()
        assert here.node is not None
        operator = operator_of(here.node) if here.node.inputs else None
        inputs = [by_name[name] for name in here.node.inputs]
        values = [given.values for given in inputs]
        path = (*here.path, (here.node, here.units))
        if isinstance(operator, Step) and through_steps:
            waiting.append(Origin(here.rows, inputs[0], operator.origin(here.node, values, here.units), path))
        elif isinstance(operator, Move):
            numbers, places = operator.origin(here.node, values, here.units)
            for number in np.unique(numbers).tolist():
                own = numbers == number
                narrowed = tuple((passed, passed_units[own]) for passed, passed_units in path)
                if number < 0:
                    found.append(Origin(here.rows[own], None, here.units[own], narrowed))
                else:
                    waiting.append(Origin(here.rows[own], inputs[number], places[own], narrowed))
        else:
            found.append(here)
    return found


@dataclass(frozen=True, slots=True)
class Terms:
    """Products of some units, as columns of equal length in the order of the rows.

    Attributes:
        row: which of the units.
        source: index of an operation in `Network.nodes`.
        unit: flat index into that operation's values.
        value, weight: the factors, float64.
        bias: one for each unit.
        tie: flat index into the operation's weights, -1 for operators without any.
    """

    row: Indices
    source: Indices
    unit: Indices
    value: Array
    weight: Array
    bias: Array
    tie: Indices

    @property
    def product(self) -> Array:
        """The products: value * weight."""
        return self.value * self.weight

    def sums(self) -> tuple[Array, Array]:
        """Each unit's sum with its bias, and the sum of the terms' magnitudes."""
        count = len(self.bias)
        total = np.bincount(self.row, weights=self.product, minlength=count) + self.bias
        magnitude = np.bincount(self.row, weights=np.abs(self.product), minlength=count) + np.abs(self.bias)
        return total, magnitude


def terms_of(network: Network, origin: Origin) -> Terms:
    """The products that make the units of a group; a unit of an unknown operation, or of the image, is its own only term."""
    node, count = origin.node, len(origin.units)
    order = {given.name: index for index, given in enumerate(network.nodes)}
    if node is None:
        constant = origin.path[-1][0].values.reshape(-1)[origin.units].astype(np.float64)
        none = np.zeros(0, dtype=np.int64)
        return Terms(none, none, none, np.zeros(0), np.zeros(0), constant, none)
    operator = operator_of(node) if node.inputs else None
    if not isinstance(operator, Sum):
        value = node.values.reshape(-1)[origin.units].astype(np.float64)
        return Terms(
            np.arange(count), np.full(count, order[node.name]), origin.units, value, np.ones(count), np.zeros(count), np.full(count, -1)
        )
    by_name = network.by_name
    inputs = [by_name[name] for name in node.inputs]
    products = operator.products(node, [given.values for given in inputs], origin.units)
    return _resolved(network, order, inputs, products)


def second_factors(network: Network, origin: Origin) -> list[Origin]:
    """Where the weights of products of two activations come from; nothing for sums whose weights are constants."""
    operator = operator_of(origin.node) if origin.node is not None and origin.node.inputs else None
    if origin.node is None or not isinstance(operator, Combine) or operator.kind not in ("mul", "div"):
        return []
    given = network.by_name[origin.node.inputs[1]]
    units = broadcast_units(given.values.shape, origin.node.values.shape, origin.units)
    return origins(network, given, units, through_steps=False)


def _resolved(network: Network, order: dict[str, int], inputs: list[Node], products: Products) -> Terms:
    """Products with the units that the factors were before they were moved; constant factors go to the bias, and zeros nowhere."""
    bias = products.bias.astype(np.float64)
    columns: list[tuple[Array, ...]] = []
    for number, part in enumerate(products.parts):
        given = inputs[part.input]
        for found in origins(network, given, part.unit, through_steps=False):
            row, weight = part.row[found.rows], part.weight[found.rows]
            value = given.values.reshape(-1)[part.unit[found.rows]].astype(np.float64)
            if found.node is None:
                bias += np.bincount(row, weights=value * weight, minlength=len(bias))
            else:
                place = found.rows + number * len(part.row)  # keeps the order of the weights within a unit, and that of the parts
                tie = np.full(len(row), -1) if part.tie is None else part.tie[found.rows]
                columns.append((row, place, np.full(len(row), order[found.node.name]), found.units, value, weight, tie))
    if not columns:
        none = np.zeros(0, dtype=np.int64)
        columns.append((none, none, none, none, np.zeros(0), np.zeros(0), none))
    row, place, source, unit, value, weight, tie = (np.concatenate(column) for column in zip(*columns, strict=True))
    by_row = np.lexsort((place, row))
    return Terms(row[by_row], source[by_row], unit[by_row], value[by_row], weight[by_row], bias, tie[by_row])
