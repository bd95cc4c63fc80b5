"""An executed network as arrays, and what its units can see."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation of an executed network: what it received, with which weights, and what it gave.

    Attributes:
        name: the module that is this operation ("2.0"), or its module and what was done ("layer1.add"); repetitions count: "relu:1".
        module: qualified name of the innermost module that ran it, "" for the network itself.
        kind: the module's class ("Conv2d") where the module is this operation, else the operation's name ("add").
        function: the full name of the tensor function that ran ("aten.convolution.default"); "input" for the image.
        inputs: names of the operations whose outputs it received, in the order of its arguments.
        values: its output as an array with the leading axis for the one image.
        weights: the constant tensors among its arguments, by argument name.
        settings: all other arguments by name, such as the stride.
    """

    name: str
    module: str
    kind: str
    function: str
    inputs: tuple[str, ...]
    values: numpy.ndarray[Any, Any]
    weights: dict[str, numpy.ndarray[Any, Any]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def operation(self) -> str:
        """The function's plain name: "convolution", "relu"."""
        return self.function.split(".")[1].removesuffix("_") if "." in self.function else self.function

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output without the leading axis for the image."""
        shape = self.values.shape
        return tuple(shape[1:]) if len(shape) > 1 and shape[0] == 1 else tuple(shape)


@dataclass(frozen=True, slots=True, eq=False)
class ModuleCall:
    """One call of a module during an execution.

    Attributes:
        module, kind: its qualified name and class; depth: nesting, 0 for the outermost.
        repeat: how often the same module had been called before.
        start: how many operations had been recorded when it began.
        leaf: whether it has no modules inside.
        nodes: indices of the operations that it ran itself (not through modules inside it).
        output: name of the operation whose output it returned, "" when it returned no traced tensor.
        output_shape: without the image axis.
    """

    module: str
    kind: str
    depth: int
    repeat: int
    start: int
    leaf: bool
    nodes: tuple[int, ...]
    output: str
    output_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """The executed graph of a network for one image.

    Attributes:
        model: class name.
        nodes: every operation on data in the order of execution; the first is "input", the image as the network received it.
        calls: every call of a module, in the order in which they began.
        output: name of the operation that gave the result.
        decisions: where the network looked at a value to decide what to do next; empty when it does the same for every image.
    """

    model: str
    nodes: tuple[Node, ...]
    calls: tuple[ModuleCall, ...]
    output: str
    decisions: tuple[str, ...] = ()

    @property
    def by_name(self) -> dict[str, Node]:
        """The operations by name."""
        return {node.name: node for node in self.nodes}

    @property
    def layers(self) -> dict[str, str]:
        """Every name that a person may give, modules and operations, with the operation whose output it stands for."""
        modules = {f"{call.module}:{call.repeat}" if call.repeat else call.module: call.output for call in self.calls if call.module}
        return {node.name: node.name for node in self.nodes} | {name: output for name, output in modules.items() if output}


@dataclass(frozen=True, slots=True)
class Box:
    """Rows `top..bottom` and columns `left..right`, both ends included, in pixels of the image before padding."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Number of rows; 0 for the empty box (0, 0, -1, -1)."""
        return self.bottom - self.top + 1

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left + 1


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """The pixels that a layer's units can see.

    Attributes:
        layer: which layer; unit: which unit `box` is of (the middle one when none was asked for).
        box: the pixels inside the image that the unit depends on; (0, 0, -1, -1) when it sees padding only.
        size: rows and columns that a unit far from the edges sees, before clipping; None when it is the whole image or differs by unit.
        jump: pixels between the fields of neighbouring units, down and across; None where size is.
        offset: top and left pixel of the first unit's field before clipping (negative in the padding); None where size is.
        whole: whether every unit depends on the whole image.
        note: what limits the answer, "" when it is exact.
    """

    layer: str
    unit: tuple[int, ...]
    box: Box
    size: tuple[int, int] | None
    jump: tuple[int, int] | None
    offset: tuple[int, int] | None
    whole: bool = False
    note: str = ""
