"""What lies between a network's output and the loss, read from the graph that autograd recorded: also of losses that the loop computes by itself.

Receives the root of a backward pass and which node of its graph made the network's output; returns the numbers of a "loss_graph" observation. Only the
kinds of operations, their axes and the sizes of what they took are read, no values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from convscope.watch.graph_facts import SOFTMAX, operation

REDUCING = ("Mean", "Sum")
ONE_BY_ONE = frozenset({
    "Pow", "Sub", "Rsub", "Abs", "Mul", "Div", "Add", "Neg", "Log", "Log1P", "Exp", "Sqrt", "Clamp", "Where", "Relu", "Softplus", "Sigmoid", "Tanh",
    "Sign", "Cosh", "Squeeze", "Select", "Slice", "View", "Alias", "ToCopy",
})  # fmt: skip
UNCHANGED = frozenset({"Alias", "ToCopy"})  # operations that hand on the same values in the same places
MOST_NODES = 500  # of a loss; beyond it nothing is claimed


class Penalty(NamedTuple):
    """Weights that a loss holds besides the network's output: as the sum of their squares, or of their sizes."""

    squared: bool
    weights: tuple[Tensor, ...]


class Output(NamedTuple):
    """A network's output as it is found again in a graph: the number of its node, and its shape."""

    number: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> Output | None:
        """None for a tensor that no operation made."""
        node: Any = tensor.grad_fn
        return cls(node._sequence_nr(), tuple(tensor.shape)) if node is not None else None


def loss_graph(root: Any, output: Output) -> dict[str, float | int | str | bool | None]:
    """The numbers of the "loss_graph" observation (see `convscope.diagnose.observations`).

    Args:
        root: the node that made what backward was called on.
        output: of the network.
    """
    nodes = _nodes(root, output.number)
    made_by = next((node for node in nodes if node._sequence_nr() == output.number), None)
    if made_by is None:
        return {"found": False}
    outer = [node for node in nodes if operation(node) in SOFTMAX and node is not made_by]
    applied = [node for node in outer if _source(node) is made_by]
    return {
        "found": True,
        "classes": output.shape[1] if len(output.shape) == 2 else None,
        "softmax_twice": any(_takes_softmax(node) for node in outer),
        "softmax_over_batch": any(_is_over_batch(node, output.shape) for node in (*applied, made_by) if operation(node) in SOFTMAX),
        "broadcast": _is_broadcast(nodes, made_by, output.shape),
    }


def penalty(root: Any, output: Output) -> Penalty | None:
    """The weights whose squares or sizes a loss sums up besides the network's output; None when there are none, or both kinds.

    Args:
        root: the node that made what backward was called on.
        output: of the network.
    """
    squares: dict[int, Tensor] = {}
    sizes: dict[int, Tensor] = {}
    for node in _nodes(root, output.number):
        leaves = [leaf for parent, _ in node.next_functions if (leaf := getattr(parent, "variable", None)) is not None]
        if node._sequence_nr() == output.number or not leaves:
            continue
        if _is_square(node, leaves):
            squares[id(leaves[0])] = leaves[0]
        elif operation(node) == "Abs":
            sizes[id(leaves[0])] = leaves[0]
    if bool(squares) == bool(sizes):
        return None
    return Penalty(bool(squares), tuple((squares or sizes).values()))


def _is_square(node: Any, leaves: Sequence[Tensor]) -> bool:
    """Whether an operation squares a weight: `w ** 2`, or `w * w`."""
    if operation(node) == "Pow":
        return bool(node._saved_exponent == 2)
    return operation(node) == "Mul" and len(leaves) == 2 and leaves[0] is leaves[1]


def _nodes(root: Any, last: int) -> list[Any]:
    """The nodes from the root down to the network's output."""
    found: list[Any] = []
    waiting, seen = [root], {root}
    while waiting and len(found) < MOST_NODES:
        node = waiting.pop()
        found.append(node)
        if node._sequence_nr() == last:
            continue
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen and not hasattr(parent, "variable"):
                seen.add(parent)
                waiting.append(parent)
    return found


def _takes_softmax(node: Any) -> bool:
    """Whether a softmax takes the result of another one."""
    source = _source(node)
    return source is not None and operation(source) == "Softmax"


def _source(node: Any) -> Any:
    """The node whose result an operation takes, those passed over that hand on the same values."""
    node = node.next_functions[0][0]
    while node is not None and operation(node) in UNCHANGED:
        node = node.next_functions[0][0]
    return node


def _is_over_batch(node: Any, shape: Sequence[int]) -> bool:
    """Whether a softmax runs along the batch of a table (samples, classes); of a square one both axes may be meant."""
    if len(shape) != 2 or min(shape) < 2 or shape[0] == shape[1]:
        return False
    axis: int = node._saved_dim
    return axis in (0, (1 << 64) - 2)  # negative axes are kept as unsigned numbers


def _is_broadcast(nodes: Sequence[Any], made_by: Any, shape: Sequence[int]) -> bool:
    """Whether n answers became n times n numbers by operations that work number by number, before they were summed or averaged."""
    count = math.prod(shape)
    if count < 2 or shape[0] != count:
        return False
    for node in nodes:
        sizes = tuple(getattr(node, "_saved_self_sym_sizes", ())) if operation(node) in REDUCING and not hasattr(node, "_saved_dim") else ()
        if sizes == (count, count):
            return _leads_straight(node, made_by)
    return False


def _leads_straight(node: Any, made_by: Any) -> bool:
    """Whether one path of operations number by number leads down to the output: with two, answers are compared with each other."""
    while node is not made_by:
        edges = [parent for parent, _ in node.next_functions if parent is not None]
        if len(edges) != 1 or (operation(edges[0]) not in ONE_BY_ONE and edges[0] is not made_by):
            return False
        node = edges[0]
    return True
