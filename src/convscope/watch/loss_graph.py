"""What lies between a network's output and the loss, read from the graph that autograd recorded: also of losses that the loop computes by itself.

Receives the root of a backward pass and which node of its graph made the network's output; returns the numbers of a "loss_graph" observation. Only the
kinds of operations, their axes and the sizes of what they took are read, no values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from convscope.watch.graph_facts import SOFTMAX, axis_of, operation

REDUCING = ("Mean", "Sum")
ONE_BY_ONE = frozenset({
    "Pow", "Sub", "Rsub", "Abs", "Mul", "Div", "Add", "Neg", "Log", "Log1P", "Exp", "Sqrt", "Clamp", "Where", "Relu", "Softplus", "Sigmoid", "Tanh",
    "Sign", "Cosh", "Squeeze", "Select", "Slice", "View", "Alias", "ToCopy",
})  # fmt: skip
SIZED, NORMS = ("Abs",), ("LinalgVectorNorm",)
LAID_OUT = frozenset({"View", "UnsafeView", "Reshape", "Cat", "Alias", "ToCopy", "T", "Transpose", "Permute", "Clone"})
UNCHANGED = frozenset({"Alias", "ToCopy"})  # operations that hand on the same values in the same places
MOST_NODES = 500  # of a loss; beyond it nothing is claimed


class Penalty(NamedTuple):
    """Weights that a loss holds besides the network's output, in the groups of which it takes one number each.

    Attributes:
        of: that number: the sum of their "squares" or of their "sizes", or their length ("norms").
    """

    of: str
    groups: tuple[tuple[Tensor, ...], ...]

    @property
    def single_weights(self) -> int:
        """How many single weights that are."""
        return sum(weights.numel() for group in self.groups for weights in group)

    def total(self) -> Tensor:
        """The sum of the groups' numbers, which the loss multiplies with a factor."""
        power = 1 if self.of == "sizes" else 2
        sums = [torch.stack([(weights.detach().abs().float() ** power).sum() for weights in group]).sum() for group in self.groups]
        return torch.stack(sums).sqrt().sum() if self.of == "norms" else torch.stack(sums).sum()


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
        "softmax_across": any(_picks_across(node, made_by, len(output.shape)) for node in nodes),
        "softmax_over_batch": any(_is_over_batch(node, output.shape) for node in (*applied, made_by) if operation(node) in SOFTMAX),
        "broadcast": _is_broadcast(nodes, made_by, output.shape),
    }


def penalty(root: Any, output: Output) -> Penalty | None:
    """The weights whose squares, sizes or norms a loss sums up besides the network's output; None when there are none, or of several kinds.

    Args:
        root: the node that made what backward was called on.
        output: of the network.
    """
    found: dict[str, dict[tuple[int, ...], tuple[Tensor, ...]]] = {}
    within: set[Any] = set()  # nodes whose result is squared
    for node in _nodes(root, output.number):  # from the loss downwards, so that a square is met before what it squares
        number, source = _measure(node)
        if source is None or node._sequence_nr() == output.number or node in within:
            continue
        below = source[0]
        if number == "squares" and below is not None and operation(below) in (*SIZED, *NORMS):  # |w| squared, or the squared length
            within.add(below)
            source = below.next_functions[0]
        if weights := _weights(source[0]):
            found.setdefault(number, {})[tuple(map(id, weights))] = weights
    if len(found) != 1:
        return None
    [(of, groups)] = found.items()
    return Penalty(of, tuple(groups.values()))


def _measure(node: Any) -> tuple[str, Any]:
    """What an operation takes of its numbers, "squares", "sizes" or "norms", and the edge that they come by; the edge is None for other operations."""
    edges, kind = node.next_functions, operation(node)
    if (kind == "Pow" and node._saved_exponent == 2) or (kind == "Mul" and len(edges) == 2 and edges[0] == edges[1]):
        return "squares", edges[0]
    if kind in SIZED:
        return "sizes", edges[0]
    if kind in NORMS and node._saved_ord in (1, 2) and node._saved_dim is None:
        return "sizes" if node._saved_ord == 1 else "norms", edges[0]
    return "", None


def _weights(node: Any) -> tuple[Tensor, ...]:
    """The weights that reach an operation as they are, or only laid out in another way; () when anything else does."""
    if (leaf := getattr(node, "variable", None)) is not None:
        return (leaf,)
    if node is None or operation(node) not in LAID_OUT:
        return ()
    parts = [_weights(parent) for parent, _ in node.next_functions]
    return tuple(weights for part in parts for weights in part) if all(parts) else ()


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


def _picks_across(node: Any, made_by: Any, axes: int) -> bool:
    """Whether labels pick along one axis from a softmax of the output, of so many axes, that runs along another."""
    source = _source(node) if operation(node) == "Gather" else None
    if source is None or operation(source) not in SOFTMAX or _source(source) is not made_by:
        return False
    return axis_of(node, axes) != axis_of(source, axes)


def _is_over_batch(node: Any, shape: Sequence[int]) -> bool:
    """Whether a softmax runs along the batch of a table (samples, classes); of a square one both axes may be meant."""
    if len(shape) != 2 or min(shape) < 2 or shape[0] == shape[1]:
        return False
    return axis_of(node, 2) == 0


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
