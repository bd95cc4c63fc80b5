"""Formulas of a network's workbook: what each cell computes, as text that Excel and LibreOffice understand.

Receives an operation, some of its units and the layout; returns one formula for each unit, or None where there is no formula for that
operator and the cell can hold a value only.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from convscope.arithmetic.follow import Origin, Terms, origins, terms_of
from convscope.arithmetic.operators import Move, Step, Sum, operator_of
from convscope.arithmetic.operators.base import Array, Indices
from convscope.arithmetic.operators.combine import LARGEST_PIXEL, Combine, Pixels
from convscope.arithmetic.operators.norms import Normalise, Softmax, uses_stored_statistics
from convscope.arithmetic.operators.pointwise import Activation, Constant
from convscope.arithmetic.operators.pooling import Pool, Reduce
from convscope.records import Network, Node
from convscope.show.sheet_layout import Layout, parameter_names

LONGEST = 8_000  # characters of a formula; Excel's limit is 8,192
Formula = str | tuple[str, ...]  # a tuple: parts that are to be added up, because together they are too long


@dataclass(frozen=True, slots=True)
class Rectangles:
    """Rectangles of neighbouring cells, and of the weights' cells that go with them, unit by unit.

    Attributes:
        row: which unit.
        source: index of the operation in `Network.nodes`.
        corners: top, left, bottom, right of the units' cells; weights: top and left of the weights' cells, -1 where there are none.
    """

    row: Indices
    source: Indices
    corners: Array
    weights: Array


def cell(row: int, column: int, *, fixed: bool = False) -> str:
    """The name of a cell, such as B5 or $B$5."""
    letters, number = "", column + 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return f"${letters}${row + 1}" if fixed else f"{letters}{row + 1}"


def area(top: int, left: int, bottom: int, right: int) -> str:
    """The name of a rectangle of cells, such as B5:D7; of a single cell, B5."""
    return cell(top, left) if (top, left) == (bottom, right) else f"{cell(top, left)}:{cell(bottom, right)}"


def formulas(network: Network, layout: Layout, node: Node, units: Indices) -> list[Formula] | None:
    """The formula of each unit, or None when there is none for this operator (or for this use of it).

    Args:
        network: the executed graph.
        layout: the places of everything.
        node: the operation.
        units: flat indices of its units.
    """
    operator = operator_of(node) if node.inputs else None
    if isinstance(operator, Pixels):
        return _normalised_pixels(network, layout, node, units)
    if isinstance(operator, Combine):
        return _combined(network, layout, node, units)
    if isinstance(operator, Sum):
        terms = terms_of(network, Origin(np.arange(len(units)), node, units, ()))
        if isinstance(operator, Pool | Reduce):
            return _pooled(
                network, layout, node, units, terms, largest=getattr(operator, "largest", getattr(operator, "kind", "") == "max")
            )
        return _weighted(network, layout, node, units, terms)
    if isinstance(operator, Step):
        return _stepped(network, layout, node, units)
    return None


def _references(network: Network, layout: Layout, node: Node, units: Indices, sheet: str) -> list[str] | None:
    """The cell of each unit, through moves; constants as numbers."""
    texts = [""] * len(units)
    for found in origins(network, node, units, through_steps=False):
        if found.node is None:
            constants = found.path[-1][0].values.reshape(-1)[found.units]
            for row, constant in zip(found.rows.tolist(), constants.tolist(), strict=True):
                texts[row] = repr(float(constant))
        elif found.node.name in layout.blocks:
            block = layout.blocks[found.node.name]
            prefix = _prefix(block.sheet, sheet)
            for row, down, across in zip(found.rows.tolist(), *(axis.tolist() for axis in block.cells(found.units)), strict=True):
                texts[row] = prefix + cell(down, across)
        else:
            return None
    return texts


def _prefix(sheet: str, here: str) -> str:
    return "" if sheet == here else f"'{sheet}'!"


def rectangles(network: Network, layout: Layout, node: Node, terms: Terms, *, weighted: bool) -> Rectangles:
    """Merge the cells of terms into rectangles: first along rows, then rows of the same columns."""
    top, left = np.zeros(len(terms.row), dtype=np.int64), np.zeros(len(terms.row), dtype=np.int64)
    for source in np.unique(terms.source).tolist():
        own = terms.source == source
        top[own], left[own] = layout.blocks[network.nodes[source].name].cells(terms.unit[own])
    weights = layout.weights[node.name].cells(terms.tie) if weighted else (top, left)  # unweighted: their own places alone decide
    columns = np.stack([terms.row, terms.source, top, left, top, left, *weights])
    columns = _merged(columns, along=3)
    columns = _merged(columns, along=2)
    return Rectangles(columns[0], columns[1], columns[2:6], columns[6:8])


def _merged(columns: Array, along: int) -> Array:
    """Merge neighbours in a list of rectangles (row, source, top, left, bottom, right, weight top, weight left) along an axis (3: columns, 2: rows)."""
    if columns.shape[1] == 0:
        return columns
    row, source, top, left, bottom, right, weight_top, weight_left = columns
    start, end, weight_start = (left, right, weight_left) if along == 3 else (top, bottom, weight_top)
    across = [top, bottom, weight_top] if along == 3 else [left, right, weight_left]
    same = (row[1:] == row[:-1]) & (source[1:] == source[:-1]) & (start[1:] == end[:-1] + 1)
    same &= weight_start[1:] - weight_start[:-1] == start[1:] - start[:-1]
    for axis in across:
        same &= axis[1:] == axis[:-1]
    first = np.flatnonzero(np.concatenate([[True], ~same]))
    last = np.concatenate([first[1:], [columns.shape[1]]]) - 1
    merged = columns[:, first].copy()
    merged[4], merged[5] = bottom[last], right[last]
    return merged


def _weighted(network: Network, layout: Layout, node: Node, units: Indices, terms: Terms) -> list[Formula] | None:
    """Sums of products: weights from their cells where they have any, else as numbers; then the bias."""
    here = layout.blocks[node.name].sheet
    parts: list[list[str]] = [[] for _ in units]
    sheets = [_prefix(layout.blocks[given.name].sheet, here) if given.name in layout.blocks else "" for given in network.nodes]
    if node.name in layout.weights:
        found = rectangles(network, layout, node, terms, weighted=True)
        columns = (found.row, found.source, *found.corners, *found.weights)
        for row, source, top, left, bottom, right, down, across in zip(*(column.tolist() for column in columns), strict=True):
            seen = sheets[source] + area(top, left, bottom, right)
            weights = area(down, across, down + bottom - top, across + right - left)
            parts[row].append(f"{weights}*{seen}" if (top, left) == (bottom, right) else f"SUMPRODUCT({weights},{seen})")
    else:
        top, left = np.zeros(len(terms.row), dtype=np.int64), np.zeros(len(terms.row), dtype=np.int64)
        for source in np.unique(terms.source).tolist():
            own = terms.source == source
            top[own], left[own] = layout.blocks[network.nodes[source].name].cells(terms.unit[own])
        columns = (terms.row, terms.source, top, left, terms.weight)
        for row, source, down, across, weight in zip(*(column.tolist() for column in columns), strict=True):
            parts[row].append(f"{weight!r}*{sheets[source]}{cell(down, across)}")
    bias = _bias_cells(layout, node, units)
    own_bias = _own_bias(node, units)
    for row, (extra, reference) in enumerate(zip((terms.bias - own_bias).tolist(), bias, strict=True)):
        if extra or (reference is None and own_bias[row]):
            parts[row].append(repr(extra if reference is not None else terms.bias[row].item()))
        parts[row] += [reference] if reference is not None else []
    return [_sum(own) for own in parts]


def _own_bias(node: Node, units: Indices) -> Array:
    """The bias that has a cell; what padding constants add comes on top."""
    if "bias" not in parameter_names(node):
        return np.zeros(len(units))
    channel = np.unravel_index(units, node.values.shape)[1]
    return np.asarray(node.weights["bias" if "bias" in node.weights else "self"], dtype=np.float64).reshape(-1)[channel]


def _bias_cells(layout: Layout, node: Node, units: Indices) -> list[str | None]:
    if "bias" not in parameter_names(node) or node.name not in layout.weights:
        return [None] * len(units)
    return list(parameter_cells(layout, node, "bias", units))


def parameter_cells(layout: Layout, node: Node, name: str, units: Indices) -> list[str]:
    """The cell of a channel's parameter for each unit."""
    sheet = next(sheet for sheet in layout.sheets if node in sheet.nodes)
    column = sheet.parameters
    for other in sheet.nodes:
        if other is node:
            break
        column += len(parameter_names(other))
    column += parameter_names(node).index(name)
    block = layout.blocks[node.name]
    channels = units // (block.shape[1] * block.shape[2])
    return [cell(row, column, fixed=True) for row in (block.row + channels * block.pitch).tolist()]


def _sum(parts: list[str]) -> Formula:
    """One formula, or the parts of one that would be too long."""
    text = "=" + ("+".join(parts) if parts else "0")
    if len(text) <= LONGEST:
        return text.replace("+-", "-")
    pieces, length = [list[str]()], 0
    for part in parts:
        if length + len(part) + 1 > LONGEST:
            pieces.append([])
            length = 0
        pieces[-1].append(part)
        length += len(part) + 1
    return tuple("=" + "+".join(piece).replace("+-", "-") for piece in pieces)


def _pooled(network: Network, layout: Layout, node: Node, units: Indices, terms: Terms, *, largest: bool) -> list[Formula] | None:
    """The greatest, the sum or the average of rectangles."""
    if np.any(terms.bias):  # constants in the window: a maximum could be one of them
        return None
    here = layout.blocks[node.name].sheet
    found = rectangles(network, layout, node, terms, weighted=False)
    areas: list[list[str]] = [[] for _ in units]
    for row, source, *corners in zip(found.row.tolist(), found.source.tolist(), *(axis.tolist() for axis in found.corners), strict=True):
        areas[row].append(_prefix(layout.blocks[network.nodes[source].name].sheet, here) + area(*corners))
    if largest:
        return [f"=MAX({','.join(own)})" for own in areas]
    counts = np.bincount(terms.row, minlength=len(units))
    weights = np.zeros(len(units))
    weights[terms.row] = terms.weight
    divided = [1 / weight if weight else 1.0 for weight in weights.tolist()]
    return [_average(own, divisor, count) for own, divisor, count in zip(areas, divided, counts.tolist(), strict=True)]


def _average(areas: list[str], divisor: float, count: int) -> str:
    if not areas:
        return "=0"
    inside = ",".join(areas)
    if abs(divisor - count) < 1e-6 * count:
        return f"=AVERAGE({inside})"
    return f"=SUM({inside})" if divisor == 1 else f"=SUM({inside})/{round(divisor, 9):g}"


def _combined(network: Network, layout: Layout, node: Node, units: Indices) -> list[Formula] | None:
    here, alpha = layout.blocks[node.name].sheet, float(node.settings.get("alpha") or 1)
    sides = []
    for name in node.inputs:
        given = network.by_name[name]
        own = np.broadcast_to(np.arange(given.values.size).reshape(given.values.shape), node.values.shape).reshape(-1)[units]
        sides.append(_references(network, layout, given, own, here))
    first, second = sides
    if first is None or second is None:
        return None
    scale = "" if alpha == 1 else f"{alpha!r}*"
    patterns: dict[str, Callable[[str, str], str]] = {
        "add": lambda a, b: f"={a}+{scale}{b}",
        "sub": lambda a, b: f"={a}-{scale}{b}",
        "rsub": lambda a, b: f"={b}-{scale}{a}",
        "mul": lambda a, b: f"={a}*{b}",
        "div": lambda a, b: f"={a}/{b}",
    }
    return [patterns[node.operation](a, b) for a, b in zip(first, second, strict=True)]


def _normalised_pixels(network: Network, layout: Layout, node: Node, units: Indices) -> list[Formula] | None:
    pixels = _references(network, layout, network.by_name[node.inputs[0]], units, layout.blocks[node.name].sheet)
    channel = np.unravel_index(units, node.values.shape)[1]
    mean, std = (node.weights[name][channel].tolist() for name in ("mean", "std"))
    return [f"=({pixel}/{LARGEST_PIXEL:g}-{m!r})/{s!r}" for pixel, m, s in zip(pixels or [], mean, std, strict=True)]


ACTIVATIONS: dict[str, Callable[[str, dict[str, Any]], str]] = {
    "relu": lambda x, _: f"MAX(0,{x})",
    "leaky_relu": lambda x, s: f"IF({x}>0,{x},{s['negative_slope']!r}*{x})",
    "elu": lambda x, s: f"{s['scale']!r}*IF({x}>0,{x},{s['alpha']!r}*(EXP({x}*{s['input_scale']!r})-1))",
    "celu": lambda x, s: f"IF({x}>0,{x},{s['alpha']!r}*(EXP({x}/{s['alpha']!r})-1))",
    "sigmoid": lambda x, _: f"1/(1+EXP(-{x}))",
    "tanh": lambda x, _: f"TANH({x})",
    "silu": lambda x, _: f"{x}/(1+EXP(-{x}))",
    "softplus": lambda x, s: f"IF({x}*{s['beta']!r}>{s['threshold']!r},{x},LN(1+EXP({x}*{s['beta']!r}))/{s['beta']!r})",
    "mish": lambda x, _: f"{x}*TANH(LN(1+EXP({x})))",
    "hardtanh": lambda x, s: f"MIN({s['max_val']!r},MAX({s['min_val']!r},{x}))",
    "hardsigmoid": lambda x, _: f"MIN(6,MAX(0,{x}+3))/6",
    "hardswish": lambda x, _: f"{x}*MIN(6,MAX(0,{x}+3))/6",
    "abs": lambda x, _: f"ABS({x})",
    "neg": lambda x, _: f"-{x}",
    "exp": lambda x, _: f"EXP({x})",
    "sqrt": lambda x, _: f"SQRT({x})",
    "gelu": lambda x, s: (
        f"0.5*{x}*(1+ERF({x}/SQRT(2)))" if s["approximate"] == "none" else f"0.5*{x}*(1+TANH(SQRT(2/PI())*({x}+0.044715*{x}^3)))"
    ),
}
ARITHMETIC = {"add": "+", "sub": "-", "mul": "*", "div": "/"}


def _stepped(network: Network, layout: Layout, node: Node, units: Indices) -> list[Formula] | None:
    """A step's formula of the one cell that it works on."""
    operator, given = operator_of(node), network.by_name[node.inputs[0]]
    assert isinstance(operator, Step)
    here = layout.blocks[node.name].sheet
    cells = _references(network, layout, given, operator.origin(node, [given.values], units), here)
    if cells is None:
        return None
    if isinstance(operator, Activation):
        pattern = ACTIVATIONS.get(node.operation)
        return [f"={pattern(x, node.settings)}" for x in cells] if pattern else None
    if isinstance(operator, Normalise) and uses_stored_statistics(node):
        names = parameter_names(node)
        columns = [parameter_cells(layout, node, name, units) for name in names]
        eps = repr(float(node.settings.get("eps", node.settings.get("epsilon", 0.0))))
        return [_batch_norm(x, dict(zip(names, numbers, strict=True)), eps) for x, *numbers in zip(cells, *columns, strict=True)]
    if isinstance(operator, Softmax) and node.values.ndim == 2:
        everything = _references(network, layout, given, np.arange(given.values.size), here) or []
        total = "+".join(f"EXP({x}-MAX({everything[0]}:{everything[-1].rpartition('!')[2]}))" for x in everything)
        greatest = f"MAX({everything[0]}:{everything[-1].rpartition('!')[2]})"
        pattern_text = "={x}-{g}-LN({t})" if operator.logarithm else "=EXP({x}-{g})/({t})"
        return [pattern_text.format(x=x, g=greatest, t=total) for x in cells] if len(total) < LONGEST else None
    if isinstance(operator, Constant) and node.operation in ARITHMETIC and float(node.settings.get("alpha") or 1) == 1:
        applied = operator.apply(node, [given.values], units, np.ones(len(units))).numbers["constant"]
        sign, front = ARITHMETIC[node.operation], node.settings["data"][0] != "self"
        constants = np.broadcast_to(applied, len(units)).tolist()
        return [f"={c!r}{sign}{x}" if front else f"={x}{sign}({c!r})" for x, c in zip(cells, constants, strict=True)]
    return None


def _batch_norm(x: str, numbers: dict[str, str], eps: str) -> str:
    scale = f"*{numbers['weight']}" if "weight" in numbers else ""
    shift = f"+{numbers['bias']}" if "bias" in numbers else ""
    return f"=({x}-{numbers['mean']})/SQRT({numbers['variance']}+{eps}){scale}{shift}"


def is_move(node: Node) -> bool:
    """Whether an operation has no cells of its own, because it only moves units."""
    return bool(node.inputs) and isinstance(operator_of(node), Move)


def output_references(network: Network, layout: Layout, node: Node, units: Indices, sheet: str) -> list[str]:
    """The cells that hold some units, as seen from another sheet."""
    return _references(network, layout, node, units, sheet) or list(itertools.repeat("0", len(units)))
