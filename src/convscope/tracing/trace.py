"""One activation and the products that made it, and on request the products behind those, down to the pixels.

Receives a network and an image, or an executed `Network`; returns `Trace` records whose totals are computed here, in float64, from the
terms and by the operators' own formulas, beside PyTorch's value. Draws nothing (`convscope.show`).
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Num
from torch import Tensor, nn

from convscope.arithmetic.execution import Normalisation, execute
from convscope.arithmetic.follow import Origin, Terms, origins, second_factors, terms_of
from convscope.arithmetic.operators import Step, Sum, operator_of
from convscope.arithmetic.operators.base import Array, Indices
from convscope.arithmetic.receptive import PixelEdges, boxes_at, check_fixed
from convscope.arithmetic.units import layer_of, unit_index, unit_places
from convscope.errors import TraceError
from convscope.records import Network, Node, Term, Trace, TraceStep

MOST_TERMS = 1_000_000  # a term takes about 250 bytes, so this is 250 MB; net B needs 192,072 at most


def trace(
    model: nn.Module, image_CHW: Num[Tensor, "C H W"], layer: str, unit: Sequence[int], *, normalise: Normalisation | None = None
) -> Trace:
    """One activation of a network, and the products that made it.

    Args:
        model: any module that takes images (N, C, H, W), in evaluation mode.
        image_CHW: one image as the model wants it, or pixels 0..255 when `normalise` is given.
        layer: a module's name such as "2.0", or an operation's such as "layer1.add". A block's name stands for its output.
        unit: (channel, row, column), or (i,) of a vector, counted from 0.
        normalise: mean and deviation of each channel on the scale 0..1, when the image holds pixels; the image is then called "pixels" and
            what the model receives "input".

    Returns:
        The terms, bias and further steps, our total and PyTorch's own value.

    Raises:
        UnknownNameError: there is no such layer; the nearest names are given.
        TraceError: the unit lies outside the layer's output, or the model is in training mode where that matters.
        ModelError: the image does not fit, or the network decides by values what it does.

    Example:
        >>> found = trace(model, image, layer="2.0", unit=(0, 2, 2))
        >>> sum(term.product for term in found.terms) + found.bias == found.total
        True
    """
    network = executed(model, image_CHW, normalise)
    return trace_executed(network, layer, unit)


def trace_to_pixels(
    model: nn.Module,
    image_CHW: Num[Tensor, "C H W"],
    layer: str,
    unit: Sequence[int],
    *,
    normalise: Normalisation | None = None,
    most_terms: int = MOST_TERMS,
) -> tuple[Trace, ...]:
    """One activation, every activation that its terms come from, and so on down to the pixels; each once, the asked one first.

    Arguments and errors are those of `trace`; further:

    Args:
        model: as for `trace`.
        image_CHW: as for `trace`.
        layer: as for `trace`.
        unit: as for `trace`.
        normalise: as for `trace`.
        most_terms: how many terms to make at most.

    Returns:
        Traces in the order from the asked layer to the image. Terms of weight 0, such as what lost a maximum, are not followed.

    Raises:
        TraceError: more terms would be needed; nothing is kept.

    Example:
        >>> len(trace_to_pixels(net_b, image, "5", (3,)))  # every unit that the logit depends on
    """
    network = executed(model, image_CHW, normalise)
    with _collector_paused():
        return unfold_executed(network, layer, unit, most_terms)


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep Python's cycle collector from looking through hundred thousands of new records, which have no cycles, again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def executed(model: nn.Module, image_CHW: Num[Tensor, "C H W"], normalise: Normalisation | None = None) -> Network:
    """The executed graph of a network that can be traced.

    Raises:
        TraceError: a batch norm or dropout is in training mode.
        ModelError: the image does not fit, or the network decides by values what it does.
    """
    for name, module in model.named_modules():
        if module.training and isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd):
            does = "drop random units" if isinstance(module, nn.modules.dropout._DropoutNd) else "use this one image's statistics"
            raise TraceError(
                f"The network is in training mode: {name!r} ({type(module).__name__}) would {does}, which is not what it does when it predicts. "
                "Call model.eval() before tracing."
            )
    network = execute(model, image_CHW, normalise=normalise)
    check_fixed(network)
    return network


def trace_executed(network: Network, layer: str, unit: Sequence[int]) -> Trace:
    """The trace of one unit of an executed network; see `trace`."""
    node = layer_of(network, layer)
    index = unit_index(node, layer, unit)
    (found,), _ = _traces(network, PixelEdges(network), node, np.array([index]), layer)
    return found


def unfold_executed(network: Network, layer: str, unit: Sequence[int], most_terms: int = MOST_TERMS) -> tuple[Trace, ...]:
    """The traces from one unit of an executed network down to the pixels; see `trace_to_pixels`."""
    asked = layer_of(network, layer)
    pending: dict[int, Array] = {network.nodes.index(asked): np.array([unit_index(asked, layer, unit)])}
    edges, traces, made = PixelEdges(network), list[Trace](), 0
    while pending:
        number = max(pending)
        node, units = network.nodes[number], np.unique(pending.pop(number))
        if number == 0 and node is not asked:
            continue  # the image itself
        made += _expected_terms(network, node, units)
        if made > most_terms:
            raise TraceError(
                f"Tracing unit {tuple(unit)} of layer {layer!r} to the pixels needs {made:,} products down to layer {node.name!r} alone; "
                f"the limit is {most_terms:,}. Trace a layer nearer to the image, go on layer by layer with trace(), or raise most_terms."
            )
        found, sources = _traces(network, edges, node, units, layer if node is asked else node.name)
        traces += found
        for source, source_units in sources.items():
            pending[source] = np.concatenate([pending[source], source_units]) if source in pending else source_units
    return tuple(traces)


def _expected_terms(network: Network, node: Node, units: Indices) -> int:
    """How many products the units have, judging by the first of them, before the others are made."""
    first = origins(network, node, units[:1], through_steps=True)[0]
    if first.node is None or not isinstance(operator_of(first.node) if first.node.inputs else None, Sum):
        return len(units)
    return len(terms_of(network, first).row) * len(units)


def _traces(network: Network, edges: PixelEdges, node: Node, units: Indices, layer: str) -> tuple[list[Trace], dict[int, Array]]:
    """The traces of some units of one operation, and the units that their terms come from, by operation."""
    found_edges, unknown = edges.of(node)
    boxes = boxes_at(found_edges, node, units)
    own_places = unit_places(node, units)
    values = node.values.reshape(-1)[units].astype(np.float64)
    traces: dict[int, Trace] = {}
    sources: dict[int, list[Array]] = {}
    for origin in origins(network, node, units, through_steps=True):
        terms = terms_of(network, origin)
        total, magnitude, steps = _applied(network, origin, *terms.sums())
        bounds = np.searchsorted(terms.row, np.arange(len(origin.units) + 1))
        made = _term_records(network, terms)
        end = origin.node
        known = end is None or not end.inputs or operator_of(end) is not None
        note = _note(end, known, unknown)
        for position, row in enumerate(origin.rows.tolist()):
            traces[row] = Trace(
                layer=layer,
                unit=own_places[row],
                terms=tuple(made[bounds[position] : bounds[position + 1]]),
                bias=float(terms.bias[position]),
                steps=tuple(_step_record(step, position) for step in steps),
                total=float(total[position]),
                value=float(values[row]),
                difference=float(total[position] - values[row]),
                magnitude=float(magnitude[position]),
                receptive_field=boxes[row],
                note=note,
                summed_by=end.name if end is not None else "",
                operation=end.kind if end is not None else "constant",
            )
        if known and end is not None and end.inputs:
            for source in np.unique(terms.source).tolist():
                followed = (terms.source == source) & (terms.weight != 0)
                sources.setdefault(source, []).append(terms.unit[followed])
            for factor in second_factors(network, origin):
                if factor.node is not None:
                    sources.setdefault(network.nodes.index(factor.node), []).append(factor.units)
    return [traces[row] for row in range(len(units))], {source: np.concatenate(found) for source, found in sources.items()}


def _note(end: Node | None, known: bool, unknown: list[str]) -> str:
    if end is not None and not known:
        what = end.function if end.inputs else "a tensor whose making could not be followed (a write into part of it, or a by-product)"
        return f"The trace ends at {end.name!r}: {what} is not known here, so its value is taken as it is."
    if unknown:
        return f"On the way to the pixels the operation {unknown[0]!r} is not known; beyond it every pixel is taken to matter."
    return ""


_StepColumns = tuple[Node, Array, dict[str, Any]]


def _applied(network: Network, origin: Origin, total: Array, magnitude: Array) -> tuple[Array, Array, list[_StepColumns]]:
    """Carry sums through the steps between them and the asked units; each step's values and numbers are kept."""
    by_name, steps = network.by_name, list[_StepColumns]()
    for node, units in reversed(origin.path):
        operator, numbers = operator_of(node), dict[str, Any]()
        if isinstance(operator, Step):
            applied = operator.apply(node, [by_name[name].values for name in node.inputs], units, total)
            total, magnitude, numbers = applied.value, magnitude * applied.scale + applied.shift, applied.numbers
        steps.append((node, total, numbers))
    return total, magnitude, steps


def _step_record(step: _StepColumns, position: int) -> TraceStep:
    node, values, numbers = step
    own = {name: float(number[position]) if isinstance(number, np.ndarray) else float(number) for name, number in numbers.items()}
    return TraceStep(node.name, node.kind, own, float(values[position]))


def _term_records(network: Network, terms: Terms) -> list[Term]:
    names: list[str] = [""] * len(terms.row)
    places: list[tuple[int, ...]] = [()] * len(terms.row)
    for source in np.unique(terms.source).tolist():
        node = network.nodes[source]
        own = np.flatnonzero(terms.source == source)
        for position, place in zip(own.tolist(), unit_places(node, terms.unit[own]), strict=True):
            names[position], places[position] = node.name, place
    return list(map(Term, names, places, terms.value.tolist(), terms.weight.tolist(), terms.product.tolist()))
