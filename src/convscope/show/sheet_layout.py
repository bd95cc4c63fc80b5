"""Where everything of a network's workbook lies: which sheet an operation is on, and the cell of each unit and weight.

Receives the executed graph and the units that are needed; returns places. Writes nothing (`convscope.show.sheet`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from convscope.arithmetic.follow import Origin, origins, second_factors, terms_of
from convscope.arithmetic.operators import Move, Step, Sum, operator_of
from convscope.arithmetic.operators.base import Array, Indices, chunks
from convscope.arithmetic.operators.norms import Normalise, Softmax, uses_stored_statistics
from convscope.arithmetic.operators.weighted import Convolution, Linear
from convscope.errors import TraceError
from convscope.records import Network, Node

MOST_CELLS = 250_000  # formulas and weights; such a workbook is about 30 MB and takes LibreOffice a minute
MOST_PRODUCTS = 3_000_000  # what the formulas multiply in all; more takes minutes to write and to recalculate
FIRST_ROW, FIRST_COLUMN = 5, 2  # of the first channel's map: titles above, channel and row numbers to the left
UNITS_AT_ONCE = 2_000
Needed = dict[str, Indices]


def map_shape(node: Node) -> tuple[int, int, int]:
    """Channels, rows and columns under which an operation's units are laid out; a vector is a column of 1×1 maps."""
    shape = node.values.shape
    return (node.values.size, 1, 1) if len(shape) < 4 else (math.prod(shape[:-2]), shape[-2], shape[-1])


@dataclass(frozen=True, slots=True)
class Block:
    """The cells of one operation's units, channel under channel, or of its weights.

    Attributes:
        sheet: the sheet's name.
        row, column: of the first cell, counted from 0.
        pitch: rows from one channel to the next.
        shape: channels, rows and columns.
    """

    sheet: str
    row: int
    column: int
    pitch: int
    shape: tuple[int, int, int]

    def cells(self, units: Indices) -> tuple[Indices, Indices]:
        """The row and column of each unit's cell."""
        _, height, width = self.shape
        channel, place = np.divmod(units, height * width)
        down, across = np.divmod(place, width)
        return self.row + channel * self.pitch + down, self.column + across


@dataclass(frozen=True, slots=True)
class WeightBlock:
    """The cells of an operation's weights: each filter in the rows of its channel, its kernels side by side; a matrix as it is.

    Attributes:
        sheet, row, column: of the first cell.
        pitch: rows from one filter to the next; 0 for a linear layer, whose outputs are columns.
        shape: of the weights: (filters, channels, rows, columns) or (inputs, outputs).
    """

    sheet: str
    row: int
    column: int
    pitch: int
    shape: tuple[int, ...]

    def cells(self, ties: Indices) -> tuple[Indices, Indices]:
        """The row and column of each weight's cell."""
        if len(self.shape) == 2:
            down, across = np.divmod(ties, self.shape[1])
            return self.row + down, self.column + across
        filters, channel, down, across = np.unravel_index(ties, self.shape)
        return self.row + filters * self.pitch + down, self.column + channel * (self.shape[3] + 1) + across

    @property
    def width(self) -> int:
        """Columns that it takes."""
        return self.shape[1] if len(self.shape) == 2 else self.shape[1] * (self.shape[3] + 1)


@dataclass(frozen=True, slots=True)
class SheetPlan:
    """One sheet: an operation that sums, and the steps that follow it, side by side.

    Attributes:
        name: the sheet's name.
        nodes: the operations, from left to right.
        parameters: first column of the bias and the norms' numbers, one row a channel.
        partials: first column where the parts of formulas that are too long are added up.
    """

    name: str
    nodes: tuple[Node, ...]
    parameters: int
    partials: int


@dataclass(frozen=True, slots=True)
class Layout:
    """All places: sheets in the order of execution, the block of each operation, and of the weights of those that have any."""

    sheets: tuple[SheetPlan, ...]
    blocks: dict[str, Block]
    weights: dict[str, WeightBlock]
    needed: Needed


def needed_units(network: Network, node: Node, units: Indices) -> tuple[Needed, int]:
    """The units of every operation that some units depend on, themselves included, and the number of products behind them.

    Raises:
        TraceError: they are too many for a workbook; nothing has been written.
    """
    masks = {node.name: np.isin(np.arange(node.values.size), units)}
    products = 0
    for current in reversed(network.nodes[: network.nodes.index(node) + 1]):
        if current.name not in masks or not current.inputs:
            continue
        for part in chunks(np.flatnonzero(masks[current.name]), UNITS_AT_ONCE):
            sources, count = _sources(network, current, part)
            products += count
            for name, found in sources:
                mask = masks.setdefault(name, np.zeros(network.by_name[name].values.size, dtype=np.bool_))
                mask[found] = True
            cells = sum(int(mask.sum()) for mask in masks.values())
            if products > MOST_PRODUCTS or cells > MOST_CELLS:
                raise TraceError(_too_large(network, cells, products, current))
    return {name: np.flatnonzero(mask) for name, mask in masks.items()}, products


def _sources(network: Network, node: Node, units: Indices) -> tuple[list[tuple[str, Indices]], int]:
    """What units are computed from, through moves, and how many products that takes."""
    operator, by_name = operator_of(node), network.by_name
    inputs = [by_name[name] for name in node.inputs]
    if isinstance(operator, Sum):
        origin = Origin(np.arange(len(units)), node, units, ())
        terms = terms_of(network, origin)
        found = [(factor.node.name, factor.units) for factor in second_factors(network, origin) if factor.node is not None]
        found += [(network.nodes[source].name, terms.unit[terms.source == source]) for source in np.unique(terms.source).tolist()]
        return found, len(terms.row)
    if isinstance(operator, Step):
        own = operator.origin(node, [given.values for given in inputs], units)
        if isinstance(operator, Softmax) or (isinstance(operator, Normalise) and not uses_stored_statistics(node)):
            own = np.arange(inputs[0].values.size)  # statistics over others: all of them, to be safe
        return _resolved(network, inputs[0], own), len(units)
    if isinstance(operator, Move):
        return _resolved(network, node, units), len(units)
    return [], 0


def _resolved(network: Network, node: Node, units: Indices) -> list[tuple[str, Indices]]:
    return [(found.node.name, found.units) for found in origins(network, node, units, through_steps=False) if found.node is not None]


def _too_large(network: Network, cells: int, products: int, node: Node) -> str:
    return (
        f"A workbook of {network.model} would be too large: down to {node.name!r} alone it has {cells:,} cells and {products:,} products; "
        f"the limits are {MOST_CELLS:,} and {MOST_PRODUCTS:,}. "
        "Give a layer and unit, so that only what it depends on is written, choose one nearer to the image, or use smaller images."
    )


def plan(network: Network, needed: Needed, taken: set[str]) -> Layout:
    """Lay out every operation that is needed.

    Args:
        network: the executed graph.
        needed: units of each operation.
        taken: names of sheets that are used otherwise.
    """
    sheets, blocks, weights = list[SheetPlan](), dict[str, Block](), dict[str, WeightBlock]()
    for nodes in _groups(network, needed):
        name = _sheet_name(nodes[0].name, taken)
        channels, height, width = map_shape(nodes[0])
        kernel = _weight_shape(nodes[0])
        tall = max(height, kernel[2] if kernel is not None and len(kernel) == 4 else 1)
        pitch = tall if tall == 1 or nodes[0].inputs == () else tall + 1
        column = FIRST_COLUMN
        for node in nodes:
            blocks[node.name] = Block(name, FIRST_ROW, column, pitch, (channels, height, width))
            column += width + 1
        parameters = column
        column += sum(len(parameter_names(node)) for node in nodes) + 1
        if kernel is not None:
            weights[nodes[0].name] = WeightBlock(name, FIRST_ROW, column, pitch if len(kernel) == 4 else 0, kernel)
            column += weights[nodes[0].name].width + 1
        sheets.append(SheetPlan(name, tuple(nodes), parameters, column))
    return Layout(tuple(sheets), blocks, weights, needed)


def _groups(network: Network, needed: Needed) -> list[list[Node]]:
    """Operations that share a sheet: one, and the steps that follow directly with maps of the same size."""
    groups: list[list[Node]] = []
    for node in network.nodes:
        if node.name not in needed or isinstance(operator_of(node) if node.inputs else None, Move):
            continue
        last = groups[-1][-1] if groups else None
        follows = last is not None and bool(last.inputs) and node.inputs == (last.name,) and isinstance(operator_of(node), Step)
        if follows and last is not None and map_shape(node) == map_shape(last):
            groups[-1].append(node)
        else:
            groups.append([node])
    return groups


def _weight_shape(node: Node) -> tuple[int, ...] | None:
    operator = operator_of(node) if node.inputs else None
    if isinstance(operator, Convolution) and node.weights["weight"].ndim == 4 and not node.settings["transposed"]:
        return tuple(node.weights["weight"].shape)
    if isinstance(operator, Linear):
        return tuple(linear_weights(node).shape)
    return None


def linear_weights(node: Node) -> Array:
    """The constant matrix of a linear layer."""
    return next(array for name, array in node.weights.items() if name != "self" or node.operation == "mm")


def parameter_names(node: Node) -> tuple[str, ...]:
    """What an operation has one number of for each channel, in the order of its columns."""
    operator = operator_of(node) if node.inputs else None
    if isinstance(operator, Convolution):
        return ("bias",) * ("bias" in node.weights)
    if isinstance(operator, Linear):
        return ("bias",) * (node.operation == "addmm")
    if isinstance(operator, Normalise) and uses_stored_statistics(node):
        return ("mean", "variance", *(name for name in ("weight", "bias") if name in node.weights))
    return ()


def _sheet_name(wanted: str, taken: set[str]) -> str:
    """A name that spreadsheets allow: at most 31 characters, no brackets, colons, asterisks, question marks or slashes, not used yet."""
    base = re.sub(r"[\[\]:*?/\\']", "_", wanted)[-28:]
    name, number = base, 1
    while name.lower() in taken:
        number += 1
        name = f"{base}~{number}"
    taken.add(name.lower())
    return name
