"""Operators: how each of PyTorch's tensor functions makes a unit from others, by the function's name."""

from __future__ import annotations

from convscope.arithmetic.operators.base import Applied, Move, Operator, Part, Products, Step, Sum
from convscope.arithmetic.operators.combine import Combine, Pixels, Probed
from convscope.arithmetic.operators.moves import MOVES, Relocate
from convscope.arithmetic.operators.norms import Normalise, Softmax
from convscope.arithmetic.operators.pointwise import ARITHMETIC, FORMULAS, Activation, Constant
from convscope.arithmetic.operators.pooling import Pool, Reduce
from convscope.arithmetic.operators.weighted import Convolution, Linear
from convscope.records import Node

__all__ = ["Applied", "Move", "Operator", "Part", "Products", "Step", "Sum", "operator_of"]

_OPERATORS: dict[str, Operator] = {
    **{name: Relocate() for name in MOVES},
    **{name: Activation() for name in FORMULAS},
    "normalise": Pixels(),
    "convolution": Convolution(),
    "addmm": Linear(),
    "mm": Linear(),
    **{f"avg_pool{axes}d": Pool(largest=False, adaptive=False) for axes in (1, 2, 3)},
    **{f"max_pool{axes}d_with_indices": Pool(largest=True, adaptive=False) for axes in (2, 3)},
    **{name: Pool(largest=False, adaptive=True) for name in ("adaptive_avg_pool1d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d")},
    **{f"adaptive_max_pool{axes}d": Pool(largest=True, adaptive=True) for axes in (2, 3)},
    "mean": Reduce("mean"),
    "sum": Reduce("sum"),
    "amax": Reduce("max"),
    "max": Reduce("max"),
    **{f"upsample_{name}": Probed() for name in ("linear1d", "bilinear2d", "trilinear3d", "bicubic2d")},
    **{
        name: Normalise()
        for name in (
            *("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "_native_batch_norm_legit_no_training"),
            *("native_group_norm", "native_layer_norm"),
        )
    },
    "_softmax": Softmax(logarithm=False),
    "_log_softmax": Softmax(logarithm=True),
}
_PAIRS = {name: Combine(name) for name in ARITHMETIC}
_WITH_CONSTANT = Constant()


def operator_of(node: Node) -> Operator | None:
    """How a node's units come from its inputs' units, or None when that is not known here.

    Args:
        node: an operation other than the input.

    Returns:
        A `Sum`, `Step` or `Move`; None for a function that is not known, or is known but used in another way (two activations multiplied
        as matrices, a maximum of two tensors, a division that rounds).

    Example:
        >>> operator_of(network.by_name["0.0"])
        <convscope.arithmetic.operators.weighted.Convolution object at ...>
    """
    name, data = node.operation, node.settings.get("data", [])
    if name in ARITHMETIC:
        rounds = node.settings.get("rounding_mode") is not None
        return None if rounds else _PAIRS[name] if len(data) == 2 else _WITH_CONSTANT
    operator = _OPERATORS.get(name)
    if isinstance(operator, Move):
        return operator
    if node.function == "aten.max.other":
        return None
    data_may_be = [["mat1"], ["mat2"]] if name == "addmm" else [["self"], ["input"], ["mat2"]]
    return operator if data in data_may_be else None
