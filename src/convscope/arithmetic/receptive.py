"""Receptive fields: which pixels an activation can depend on, computed over the executed graph.

The box of every unit is exact: it is carried forward from the pixels through each operator's own windows, so that skips, branches,
dilation, pooling, padding and dense layers need no special rules. Size, jump and offset, which hold for a whole layer before clipping at
the image's edge, are carried beside it as long as the layer is regular. All are structural: a weight of zero still counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from convscope.arithmetic.execution import execute, untouched
from convscope.arithmetic.operators import Move, Step, operator_of
from convscope.arithmetic.operators.base import NOTHING, Array, Indices, aligned
from convscope.arithmetic.operators.combine import Combine, Pixels
from convscope.arithmetic.operators.norms import Normalise, Softmax, uses_stored_statistics
from convscope.arithmetic.operators.pooling import Pool, Reduce, pool_windows, reduced_axes
from convscope.arithmetic.operators.weighted import Convolution, Linear
from convscope.arithmetic.units import layer_of, middle_unit, unit_index
from convscope.errors import ModelError, UsageError
from convscope.records import Box, Network, Node, ReceptiveField


def receptive_field(model: nn.Module, input_shape: tuple[int, int, int], layer: str, unit: Sequence[int] | None = None) -> ReceptiveField:
    """The pixels that a layer's units can see.

    Args:
        model: any module that takes images (N, C, H, W); it runs once in evaluation mode on zeros and is left as it was.
        input_shape: (C, H, W) of one image.
        layer: a module's name, or an operation's, such as "layer1.add".
        unit: (channel, row, column), or (i,) of a vector, counted from 0; None is the middle of the map.

    Returns:
        The unit's box of pixels, and the size, jump and offset of the whole layer before clipping.

    Raises:
        UnknownNameError: there is no such layer.
        TraceError: the unit lies outside the layer's output.
        ModelError: the network cannot be run on such an image, or decides by values what it does.

    Example:
        >>> receptive_field(simple_cnn(), (1, 28, 28), "2.0").size  # kernels of 5, 3 and 3 with stride 2
        (17, 17)
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise UsageError(f"The input shape is {tuple(input_shape)}; it must be channels, rows and columns, such as (1, 28, 28).")
    with untouched(model):
        network = execute(model.eval(), torch.zeros(input_shape))
    check_fixed(network)
    node = layer_of(network, layer)
    place = tuple(unit) if unit is not None else middle_unit(node)
    return field_of(network, layer, place)


def check_fixed(network: Network) -> None:
    """Refuse a network that looks at values to decide what it does.

    Raises:
        ModelError: it does; the message names the module.
    """
    if network.decisions:
        where = f"the module {network.decisions[0]!r}" if network.decisions[0] else "its forward"
        raise ModelError(
            f"{network.model} reads a value of a tensor in {where} (an `if` on a tensor, `.item()`, or a mask), so that what it computes can "
            "differ from image to image and one execution does not show it. Only networks that do the same for every image can be traced: "
            "give the part before or after the decision, or replace it by tensor operations such as torch.where."
        )


def field_of(network: Network, layer: str, unit: Sequence[int]) -> ReceptiveField:
    """The receptive field of one unit in an executed network."""
    node = layer_of(network, layer)
    index = unit_index(node, layer, unit)
    edges, unknown = PixelEdges(network).of(node)
    (box,) = boxes_at(edges, node, np.array([index]))
    image = network.nodes[0].shape
    grid = _grids(network, node)
    whole = bool((edges.reshape(4, -1) == np.array([0, 0, 1 - image[-2], 1 - image[-1]])[:, None]).all())
    note = f"Beyond {unknown[0]!r} every pixel is taken to matter, because that operator is not known here." if unknown else ""
    if grid is None:
        return ReceptiveField(layer, tuple(unit), box, None, None, None, whole, note)
    rows, columns = grid
    size, jump = (rows.size, columns.size), (rows.jump, columns.jump)
    return ReceptiveField(layer, tuple(unit), box, size, jump, (rows.first, columns.first), whole, note)


class PixelEdges:
    """The edges of the pixels that each unit of an executed network depends on, computed for an operation when it is asked for, once.

    Args:
        network: the executed graph.
        start: an operation that stands in place of the image, so that rows and columns are of its map, whatever its channels; what came
            before it is taken to depend on none of it. None is the image.
    """

    def __init__(self, network: Network, start: Node | None = None) -> None:
        image = network.nodes[0] if start is None else start
        height, width = image.shape[-2:]
        rows, columns = (np.broadcast_to(axis, (height, width)) for axis in (np.arange(height)[:, None], np.arange(width)))
        self._nodes = network.by_name
        self._everything = np.array([0, 0, 1 - height, 1 - width])
        earlier = network.nodes[: network.nodes.index(image)]
        self._found = {node.name: (np.full((4, *[1] * node.values.ndim), NOTHING), list[str]()) for node in earlier}
        self._found[image.name] = (np.stack([rows, columns, -rows, -columns])[:, None, None], list[str]())

    def of(self, node: Node) -> tuple[Array, list[str]]:
        """The edges of one operation's units.

        Returns:
            An array (4, ...) that broadcasts with the operation's values: first row, first column, minus the last row, minus the last
            column, or `NOTHING`; and the operations on the way that are not known here, behind which every pixel is taken to matter.
        """
        waiting = [node]
        while waiting:  # not by recursion: networks can be deeper than Python's stack
            current = waiting[-1]
            missing = [self._nodes[name] for name in current.inputs if name not in self._found]
            if current.name not in self._found and not missing:
                self._found[current.name] = self._next(current)
            waiting = waiting[:-1] if not missing else [*waiting, *missing]
        edges, unknown = self._found[node.name]
        return aligned(edges, node.values.ndim), unknown

    def _next(self, node: Node) -> tuple[Array, list[str]]:
        operator = operator_of(node)
        fields = [self._found[name][0] for name in node.inputs]
        unknown = list(dict.fromkeys(name for given in node.inputs for name in self._found[given][1]))
        if operator is not None:
            return operator.reach(node, [self._nodes[name].values for name in node.inputs], fields), unknown
        least = np.minimum.reduce([field.reshape(4, -1).min(axis=1) for field in fields]) if fields else self._everything
        return least.reshape(4, *[1] * node.values.ndim), [*unknown, node.name]


def boxes_at(edges: Array, node: Node, units: Indices) -> list[Box]:
    """The boxes of some units; empty, (0, 0, -1, -1), for one that depends on no pixel."""
    shape = node.values.shape or (1,)
    own = np.moveaxis(np.broadcast_to(aligned(edges, len(shape)), (4, *shape)), 0, -1)[np.unravel_index(units, shape)].T
    return [
        Box(0, 0, -1, -1) if top >= NOTHING else Box(top, left, -bottom, -right)
        for top, left, bottom, right in zip(*own.tolist(), strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Grid:
    """Along one axis: the unit at place o sees the pixels `o * jump + first` to `o * jump + last`, before clipping."""

    jump: int = 1
    first: int = 0
    last: int = 0

    @property
    def size(self) -> int:
        return self.last - self.first + 1

    def window(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> _Grid:
        """The grid after a sliding window."""
        low, high = -padding, (kernel - 1) * dilation - padding
        return _Grid(self.jump * stride, self.first + low * self.jump, self.last + high * self.jump)


_Grids = tuple[_Grid, _Grid] | None


def _grids(network: Network, node: Node) -> _Grids:
    """The grid of rows and of columns of an operation's units, or None where they are not regular."""
    grids: dict[str, _Grids] = {network.nodes[0].name: (_Grid(), _Grid())}
    by_name = network.by_name
    for current in network.nodes[1 : network.nodes.index(node) + 1]:
        grids[current.name] = _next(current, [by_name[name] for name in current.inputs], [grids[name] for name in current.inputs])
    return grids[node.name]


def _next(node: Node, inputs: list[Node], received: list[_Grids]) -> _Grids:
    operator = operator_of(node)
    merged = _merged(received)
    if operator is None or merged is None:
        return None
    before, after = inputs[0].values.shape, node.values.shape
    if isinstance(operator, Normalise | Softmax):
        alone = isinstance(operator, Normalise) and uses_stored_statistics(node)
        along_channels = isinstance(operator, Softmax) and int(node.settings["dim"]) % len(before) == 1
        return merged if alone or along_channels else None
    if isinstance(operator, Step | Combine | Linear | Pixels):  # flattening has left a grid to a linear layer only where there is one place
        return merged
    if isinstance(operator, Convolution):
        return _after_convolution(node, merged)
    if isinstance(operator, Pool):
        return _after_pool(operator, node, before, merged)
    if isinstance(operator, Reduce) and len(before) == 4:
        axes = reduced_axes(node, 4)
        return tuple(grid.window(before[a], before[a], 0) if a in axes else grid for grid, a in zip(merged, (2, 3), strict=True))  # type: ignore[return-value]
    if isinstance(operator, Move):
        return _after_move(node, before, after, merged)
    return None


def _merged(received: list[_Grids]) -> _Grids:
    """The grid of units that see what any of the inputs sees; they must step alike."""
    regular = [grids for grids in received if grids is not None]
    if not regular or len(regular) < len(received) or any(len({grids[axis].jump for grids in regular}) > 1 for axis in (0, 1)):
        return None
    rows, columns = (
        _Grid(regular[0][axis].jump, min(grids[axis].first for grids in regular), max(grids[axis].last for grids in regular))
        for axis in (0, 1)
    )
    return rows, columns


def _after_convolution(node: Node, grids: tuple[_Grid, _Grid]) -> _Grids:
    settings, kernel = node.settings, node.weights["weight"].shape[2:]
    if len(kernel) != 2 or (settings["transposed"] and max(settings["stride"]) > 1):
        return None
    result = []
    for grid, taps, stride, padding, dilation in zip(
        grids, kernel, settings["stride"], settings["padding"], settings["dilation"], strict=True
    ):
        left = (taps - 1) * dilation - padding if settings["transposed"] else padding
        result.append(grid.window(taps, stride, left, dilation))
    return result[0], result[1]


def _after_pool(operator: Pool, node: Node, before: tuple[int, ...], grids: tuple[_Grid, _Grid]) -> _Grids:
    if operator.adaptive:
        outputs = node.settings["output_size"]
        if len(outputs) != 2 or any(size % out for size, out in zip(before[-2:], outputs, strict=True)):
            return None
        windows = [(size // out, size // out, 0, 1) for size, out in zip(before[-2:], outputs, strict=True)]
    else:
        windows = pool_windows(node)
    return (grids[0].window(*windows[0]), grids[1].window(*windows[1])) if len(windows) == 2 else None


def _after_move(node: Node, before: tuple[int, ...], after: tuple[int, ...], grids: tuple[_Grid, _Grid]) -> _Grids:
    """Moves that leave rows and columns where they are, or pad them, stay regular; so does anything with one place."""
    if node.operation == "constant_pad_nd" and len(before) == 4:
        pad = [*node.settings["pad"], 0, 0, 0, 0][:4]
        return grids[0].window(1, 1, pad[2]), grids[1].window(1, 1, pad[0])
    one_place = before[2:] == (1, 1) or len(before) == 2
    keeps = node.operation in (
        "cat",
        "stack",
        "split",
        "split_with_sizes",
        "unbind",
        "clone",
        "channel_shuffle",
        "chunk",
        "view",
        "_unsafe_view",
    )
    return grids if one_place or (keeps and len(before) == 4 and before[-2:] == after[-2:]) else None
