"""What an operation costs for one image, under every convention that people use, each by its own name.

    macs                  multiply-accumulates of convolutions and linear layers, padding counted, bias not; a transposed convolution's are
                          its weights times the input's places
    macs_with_bias        one more for each output that has a bias
    flops                 2 * macs plus one for each bias; elsewhere one for each elementwise operation, written out below
    real_products         the products of macs whose input is a pixel or activation, not padding
    input_grid_products   a convolution's weights times the places of its input: the count of fastbook chapter 13, right for stride 1 only

Takes one recorded operation; knows nothing of modules or tables (`convscope.arithmetic.summary`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from convscope.arithmetic.operators import Move, operator_of
from convscope.arithmetic.operators.combine import Combine, Probed
from convscope.arithmetic.operators.norms import Normalise, Softmax, uses_stored_statistics
from convscope.arithmetic.operators.pointwise import Activation, Constant
from convscope.arithmetic.operators.pooling import Pool, Reduce
from convscope.arithmetic.operators.weighted import Convolution, convolution_tables
from convscope.arithmetic.windows import real_pairs
from convscope.records import Node

Shapes = Sequence[tuple[int, ...]]
INTERPOLATED_FROM = {
    "upsample_linear1d": 2,
    "upsample_bilinear2d": 4,
    "upsample_trilinear3d": 8,
    "upsample_bicubic2d": 16,
}  # inputs an output
MATRIX_PRODUCTS = frozenset({"addmm", "mm", "bmm", "baddbmm"})
SOFTMAX_FLOPS = 4  # subtract the greatest, exponentiate, add up, divide
NORM_FLOPS = 2  # subtract the mean, divide by the deviation
AFFINE_FLOPS = 2  # multiply by the weight, add the bias
STATISTICS_FLOPS = 4  # add up the mean; subtract it, square and add up for the variance


@dataclass(frozen=True, slots=True)
class Cost:
    """The counts of one or more operations for one image; costs add."""

    macs: int = 0
    macs_with_bias: int = 0
    flops: int = 0
    real_products: int = 0
    input_grid_products: int = 0
    uncounted: str = ""

    def __add__(self, other: Cost) -> Cost:
        """Both together."""
        return Cost(
            self.macs + other.macs,
            self.macs_with_bias + other.macs_with_bias,
            self.flops + other.flops,
            self.real_products + other.real_products,
            self.input_grid_products + other.input_grid_products,
            self.uncounted or other.uncounted,
        )


def cost_of(node: Node, inputs: Shapes) -> Cost:
    """The cost of one recorded operation.

    Args:
        node: the operation; of its arrays only the shapes are looked at.
        inputs: shapes of its inputs, with the image axis.

    Returns:
        The counts; an operation that is not known here costs 0 and is named in `uncounted`.

    Example:
        >>> cost_of(network.by_name["0.0"], [(1, 1, 28, 28)]).macs  # net A: 36 weights at 14 × 14 places
        7056
    """
    outputs, operator = node.values.size, operator_of(node)
    if isinstance(operator, Convolution):
        return _convolution(node, inputs[0])
    if node.operation in MATRIX_PRODUCTS:
        return _matrix_product(node, inputs)
    if isinstance(operator, Probed):
        macs = outputs * INTERPOLATED_FROM[node.operation]
        return Cost(macs, macs, 2 * macs, macs)
    if isinstance(operator, Pool):
        seen = real_pairs(operator.tables(node, inputs[0])) * math.prod(inputs[0][: -len(operator.tables(node, inputs[0]))])
        return Cost(flops=seen - outputs if operator.largest else seen)  # k - 1 comparisons, or k - 1 additions and a division
    if isinstance(operator, Reduce):
        size = math.prod(inputs[0])
        return Cost(flops=size if operator.kind == "mean" else size - outputs)
    if isinstance(operator, Normalise):
        each = NORM_FLOPS + AFFINE_FLOPS * ("weight" in node.weights) + STATISTICS_FLOPS * (not uses_stored_statistics(node))
        return Cost(flops=each * outputs)
    if isinstance(operator, Softmax):
        return Cost(flops=SOFTMAX_FLOPS * outputs)
    if isinstance(operator, Activation | Constant | Combine):
        return Cost(flops=outputs)
    return Cost() if isinstance(operator, Move) else Cost(uncounted=node.operation)


def _convolution(node: Node, shape: tuple[int, ...]) -> Cost:
    weight = node.weights["weight"]
    input_places, outputs = math.prod(shape[2:]), node.values.size
    pairs = real_pairs(convolution_tables(node, shape)) * weight.shape[0] * weight.shape[1] * shape[0]
    macs = weight.size * (input_places if node.settings["transposed"] else math.prod(node.values.shape[2:])) * shape[0]
    biases = outputs if "bias" in node.weights else 0
    return Cost(macs, macs + biases, 2 * macs + biases, pairs, weight.size * input_places)


def _matrix_product(node: Node, inputs: Shapes) -> Cost:
    """Rows times columns times what is summed over, whichever of the factors are activations."""
    shapes = {**{name: array.shape for name, array in node.weights.items()}, **dict(zip(node.settings["data"], inputs, strict=True))}
    names = ("mat1", "batch1") if node.operation in ("addmm", "baddbmm") else ("self",)
    inner = next(shapes[name] for name in names if name in shapes)[-1]
    macs = node.values.size * inner
    biases = node.values.size if node.operation in ("addmm", "baddbmm") else 0
    return Cost(macs, macs + biases, 2 * macs + biases, macs)
