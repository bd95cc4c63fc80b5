"""A network's table: shapes, parameters and work of every layer, from one execution on an image of zeros."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from convscope.arithmetic.cost import Cost, cost_of
from convscope.arithmetic.execution import execute, untouched
from convscope.arithmetic.operators import Move, operator_of
from convscope.errors import UsageError
from convscope.records import LayerRow, Network, NetworkSummary, Node

JOINS = frozenset({"cat", "stack"})  # of the operations that only move units, those that a table of layers should show


def summary(model: nn.Module, input_shape: tuple[int, int, int]) -> NetworkSummary:
    """The table of a network: a row for each layer, and for each function call outside one that computes something, as executed.

    The network runs once in evaluation mode, without gradients, on zeros; its modes, buffers and PyTorch's random state stay as they were.

    Args:
        model: any module that takes images (N, C, H, W).
        input_shape: (C, H, W) of one image, in channels and pixels.

    Returns:
        The table; `print` shows it. A shared layer's parameters are counted at its first call; a layer that did not run is listed as such.

    Raises:
        UsageError: the shape is not three positive numbers.
        ModelError: the network cannot be run on such an image.

    Example:
        >>> print(summary(simple_cnn(), (1, 28, 28)))
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise UsageError(
            f"The input shape is {tuple(input_shape)}; it must be three positive numbers: channels, rows and columns, such as (1, 28, 28)."
        )
    with untouched(model):
        network = execute(model.eval(), torch.zeros(input_shape), keep_values=False)
    parameters = _Parameters(model)
    rows = [row for _, row in sorted([*_call_rows(network, parameters), *_function_rows(network)], key=lambda entry: entry[0])]
    return NetworkSummary(network.model, tuple(input_shape), (*rows, *parameters.never_called()))


class _Parameters:
    """Hands out each module's own parameters once, at its first call."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = dict(model.named_modules())
        self.counted: set[int] = set()

    def of(self, name: str) -> tuple[int, int, bool]:
        """How many parameters the module has itself, how many of them learn, and whether some had been counted before."""
        own = list(self.modules[name].parameters(recurse=False))
        new = [parameter for parameter in own if id(parameter) not in self.counted]
        self.counted |= {id(parameter) for parameter in new}
        return sum(p.numel() for p in new), sum(p.numel() for p in new if p.requires_grad), len(new) < len(own)

    def never_called(self) -> list[LayerRow]:
        """Rows for the modules whose parameters nobody asked for."""
        rows = []
        for name, module in self.modules.items():
            count, trainable, _ = self.of(name)
            if count:
                kind = type(module).__name__
                rows.append(LayerRow(name, kind, (), count, trainable, 0, 0, 0, 0, 0, name.count("."), "was not called"))
        return rows


def _call_rows(network: Network, parameters: _Parameters) -> list[tuple[tuple[int, int], LayerRow]]:
    """A row for each call of a module without modules inside, or with parameters of its own, with the place of its beginning."""
    rows = []
    for call in network.calls:
        count, trainable, shared = parameters.of(call.module)
        if not call.leaf and not count:
            continue
        cost = _total(network, [network.nodes[index] for index in call.nodes] if call.leaf else [])
        name = f"{call.module}:{call.repeat}" if call.repeat else call.module
        notes = ["parameters counted above"] * shared + [f"not counted: {cost.uncounted}"] * bool(cost.uncounted)
        row = _row(name, call.kind, call.output_shape, cost, call.depth, count, trainable, ", ".join(notes))
        rows.append(((call.start, 0), row))
    return rows


def _function_rows(network: Network) -> list[tuple[tuple[int, int], LayerRow]]:
    """A row for each operation outside such modules that computes something, with its place."""
    inside = {index for call in network.calls if call.leaf for index in call.nodes}
    rows = []
    for index, node in enumerate(network.nodes):
        moves_only = isinstance(operator_of(node), Move) and node.operation not in JOINS
        if index not in inside and node.inputs and not moves_only:
            cost = _total(network, [node])
            note = f"not counted: {cost.uncounted}" if cost.uncounted else ""
            rows.append(((index, 1), _row(node.name, node.kind, node.shape, cost, node.name.count("."), note=note)))
    return rows


def _total(network: Network, nodes: Iterable[Node]) -> Cost:
    by_name = network.by_name
    return sum((cost_of(node, [tuple(by_name[name].values.shape) for name in node.inputs]) for node in nodes), Cost())


def _row(
    name: str, kind: str, shape: tuple[int, ...], cost: Cost, depth: int, parameters: int = 0, trainable: int = 0, note: str = ""
) -> LayerRow:
    counts = (cost.macs, cost.macs_with_bias, cost.flops, cost.real_products, cost.input_grid_products)
    return LayerRow(name or "(itself)", kind, shape, parameters, trainable, *counts, max(depth, 0), note)
