"""Operators that only move units: reshaping, slicing, joining, padding, repeating."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from convscope.arithmetic.operators.base import Indices, Inputs, Move
from convscope.arithmetic.operators.combine import run
from convscope.records import Node

MOVES = frozenset(
    {
        *("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "squeeze", "unsqueeze", "permute", "transpose", "t", "movedim"),
        *("slice", "select", "split", "split_with_sizes", "unbind", "chunk", "narrow", "index", "index_select", "unfold", "diagonal"),
        *("expand", "repeat", "clone", "cat", "stack", "flip", "roll", "tile"),
        *("constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d"),
        *("replication_pad1d", "replication_pad2d", "replication_pad3d"),
        *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact2d"),
    }
)


class Relocate(Move):
    """Finds where units come from by moving their addresses instead of their values.

    The operator is run once more on arrays whose entries are the addresses of the inputs' units, so that whatever it does to places, it
    shows. Address 0 stands for constants: padding, and constant tensors that were joined with activations.
    """

    def origin(self, node: Node, inputs: Inputs, units: Indices) -> tuple[Indices, Indices]:
        """The input and unit of each given unit; -1 and -1 for a constant."""
        data, ends = [], np.cumsum([0, *(values.size for values in inputs)])
        for values, start in zip(inputs, ends, strict=False):
            # float64 holds every whole number up to 2**53, and every operator takes it
            data.append(torch.arange(start + 1, start + values.size + 1, dtype=torch.float64).reshape(values.shape))
        constants = {key: _constant(array) for key, array in node.weights.items()}
        changes = {"value": 0.0} if node.operation == "constant_pad_nd" else {}
        with torch.no_grad():
            address = run(node, data, constants, **changes).reshape(-1).numpy()[units].astype(np.int64) - 1
        number = np.searchsorted(ends, address, side="right") - 1
        return np.where(address < 0, -1, number), np.where(address < 0, -1, address - ends[np.maximum(number, 0)])


def _constant(array: npt.NDArray[Any]) -> torch.Tensor:
    """Constants that hold places stay as they are; those that hold values become address 0."""
    tensor = torch.from_numpy(array.copy())
    return torch.zeros(tensor.shape, dtype=torch.float64) if tensor.is_floating_point() else tensor
