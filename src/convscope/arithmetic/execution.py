"""Run a network once and record the graph of what it did.

Receives any `torch.nn.Module` and one image; returns a `Network`: every tensor operation that touched the image's data, with its
inputs, constants, settings and values, under the names of the modules that ran them. Operations are seen where PyTorch dispatches
them, below Python, so that `x + y`, `torch.add`, `nn.ReLU(inplace=True)` and `F.relu` are recorded, whoever called them. The network
is left as it was. What an operation means is not known here (`convscope.arithmetic.operators`).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Num
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from convscope.arithmetic.operators.combine import LARGEST_PIXEL
from convscope.errors import ModelError
from convscope.records import ModuleCall, Network, Node
from convscope.shapes import check_shape

READS_A_VALUE = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero"}  # what `if tensor:`, `.item()` and masks by value come down to
SAME_VALUES = {"detach", "alias", "lift_fresh", "_to_copy", "contiguous"}  # the output is the input: not an operation of its own
SHAPE_ONLY = {  # no data comes through
    *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"),
    *("new_zeros", "new_ones", "new_full", "new_empty"),
}
UNFOLLOWED = "convscope.unknown."  # stands for the function of a tensor whose making could not be followed

Normalisation = tuple[Sequence[float], Sequence[float]]  # mean and deviation of each channel, of pixels scaled to 0..1

Place = tuple[int, int, tuple[int, ...], tuple[int, ...], torch.dtype]


def execute(
    model: nn.Module, image_CHW: Num[Tensor, "C H W"], *, normalise: Normalisation | None = None, keep_values: bool = True
) -> Network:
    """The graph of one execution of `model` on one image, in the mode that the model is in, without gradients.

    Args:
        model: any module that takes images (N, C, H, W); what it holds, its buffers and PyTorch's random state are left as they were.
        image_CHW: one image as the model wants it; moved to the model's device and type.
        normalise: mean and deviation of each channel, on the scale 0..1. When given, the image holds pixels 0..255, the model receives
            `(pixel / 255 - mean) / deviation`, and the graph begins with the operations "pixels" and "input" instead of "input".
        keep_values: False keeps only the shapes of values and weights, which costs no memory.

    Returns:
        The executed graph.

    Raises:
        UsageError: the image does not have three axes.
        ModelError: the model cannot be run on such an image, or its result does not come from the image.

    Example:
        >>> [node.name for node in execute(simple_cnn(norm=False), torch.zeros(1, 28, 28)).nodes][:3]
        ['input', '0.0', '0.1']
    """
    check_shape(image_CHW, "CHW", "image")
    model = getattr(model, "_orig_mod", model)  # a compiled network runs fused code; the one it was made from does the same in steps
    pixels_CHW, image_CHW = image_CHW, _normalised(image_CHW, normalise)
    reference = next((p for p in model.parameters() if p.is_floating_point()), image_CHW)
    images_NCHW = image_CHW.detach().to(reference.device, reference.dtype, copy=True)[None]
    recorder = _Recorder(images_NCHW)
    with untouched(model), _module_calls(model, recorder), torch.no_grad(), recorder:
        try:
            result = model(images_NCHW)
        except Exception as error:
            where = f" in the module {recorder.where!r}" if recorder.where else ""
            raise ModelError(
                f"{type(model).__name__} cannot be run on an image of shape {tuple(image_CHW.shape)} (C, H, W): it failed{where} with "
                f"{type(error).__name__}: {_first_line(error)} Give the image size and channels that it was made for."
            ) from error
        output = recorder.find(result)
    if output is None:
        raise ModelError(
            f"{type(model).__name__} returned {type(result).__name__}, which is not a tensor computed from the image. "
            "A network that gives one tensor, such as logits, is needed; wrap it in a module that returns that tensor."
        )
    network = _network(type(model).__name__, recorder, output, keep_values)
    return network if normalise is None else _with_pixels(network, pixels_CHW, normalise)


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Leave training flags, buffers and PyTorch's random state after the block as they were before it."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = {buffer.device for buffer in (*model.buffers(), *model.parameters()) if buffer.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=[device.index for device in devices]):
            yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


@dataclass(slots=True)
class _Step:
    """An operation as it was recorded, before operations have names."""

    function: str
    inputs: tuple[int, ...]
    tensor: Tensor
    weights: dict[str, Tensor]
    settings: dict[str, Any]
    call: int


@dataclass(slots=True)
class _Call:
    """A module call under way or done; calls are numbered in the order in which they began."""

    name: str
    kind: str
    depth: int
    leaf: bool
    start: int = 0
    output: int | None = None
    shape: tuple[int, ...] = ()
    steps: list[int] = field(default_factory=list)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every tensor function while it is active and keeps those that receive data which came from the image."""

    def __init__(self, images_NCHW: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls = [_Call("", "", -1, False)]
        self.stack = [0]
        self.steps = [_Step("input", (), images_NCHW, {}, {}, 0)]
        self.decisions: list[str] = []
        self.known: dict[Place, int] = {_place(images_NCHW): 0}  # where a recorded value lies in memory -> its step
        self.data = {images_NCHW.untyped_storage().data_ptr()}  # memory that holds data of the image
        self.keep: list[Tensor] = []  # so that memory is not given to another tensor while we tell tensors apart by it

    @property
    def where(self) -> str:
        """The innermost module that is running."""
        return self.calls[self.stack[-1]].name

    def find(self, value: object) -> int | None:
        """The step that computed a tensor, if it is one and comes from the image; a tensor of unknown making gets a step of its own."""
        if not isinstance(value, Tensor):
            return None
        place = _place(value)
        if place not in self.known:
            if place[0] not in self.data or value.numel() == 0:
                return None
            self._add(UNFOLLOWED, (), value, {}, {})  # written in place through another view, or a second result such as indices
        return self.known[place]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one tensor function and record it when it received data."""
        kwargs = kwargs or {}
        name = func._schema.name.rpartition(":")[2]
        inputs: list[int] = []
        weights: dict[str, Tensor] = {}
        settings: dict[str, Any] = {}
        for argument, value in zip(func._schema.arguments, (*args, *[_missing] * len(func._schema.arguments)), strict=False):
            if value is _missing:
                value = kwargs.get(argument.name, argument.default_value if argument.has_default_value() else None)
            self._sort(argument.name, value, inputs, weights, settings)
        written = [a for a, schema in zip(args, func._schema.arguments, strict=False) if schema.alias_info and schema.alias_info.is_write]
        if inputs:
            for target in written:
                self._save(target)
        result = func(*args, **kwargs)
        if not inputs or name in SHAPE_ONLY:
            return result
        if name in READS_A_VALUE:
            self.decisions.append(self.where)
        elif name in SAME_VALUES:
            self._remember(result, inputs[0])
        elif isinstance(result, Tensor):
            self._add(str(func), tuple(inputs), result, weights, settings)
        elif len(func._schema.returns) > 1:  # a result and by-products, such as the statistics of a norm or the indices of a maximum
            self._add(str(func), tuple(inputs), result[0], weights, settings)
            self.keep += [part for part in result[1:] if isinstance(part, Tensor)]
            self.data |= {part.untyped_storage().data_ptr() for part in result[1:] if isinstance(part, Tensor) and part.numel()}
        elif isinstance(result, list | tuple):  # pieces of one tensor
            for number, part in enumerate(result):
                self._add(str(func), tuple(inputs), part, weights, {**settings, "piece": number})
        return result

    def _sort(self, name: str, value: Any, inputs: list[int], weights: dict[str, Tensor], settings: dict[str, Any]) -> None:
        """Put one argument where it belongs: data, constants or settings. `settings["data"]` names the arguments that were data."""
        parts = value if isinstance(value, list | tuple) and any(isinstance(part, Tensor) for part in value) else [value]
        for number, part in enumerate(parts):
            key = name if parts[0] is value else f"{name}.{number}"
            step = self.find(part)
            if step is not None:
                inputs.append(step)
                settings.setdefault("data", []).append(key)
            elif isinstance(part, Tensor):
                weights[key] = part
            else:
                settings[key] = part

    def _save(self, target: Tensor) -> None:
        """Before memory is overwritten: give the steps whose values lie there a copy of their own, and forget them as its owners."""
        pointer = target.untyped_storage().data_ptr()
        self.data.add(pointer)
        for place, index in [(place, index) for place, index in self.known.items() if place[0] == pointer]:
            self.steps[index].tensor = self.steps[index].tensor.clone()
            del self.known[place]

    def _add(self, function: str, inputs: tuple[int, ...], tensor: Tensor, weights: dict[str, Tensor], settings: dict[str, Any]) -> None:
        self.steps.append(_Step(function, inputs, tensor, weights, settings, self.stack[-1]))
        self.calls[self.stack[-1]].steps.append(len(self.steps) - 1)
        self._remember(tensor, len(self.steps) - 1)

    def _remember(self, tensor: Tensor, step: int) -> None:
        self.keep.append(tensor)
        self.known[_place(tensor)] = step
        self.data.add(tensor.untyped_storage().data_ptr())


_missing = object()


def _place(tensor: Tensor) -> Place:
    return (tensor.untyped_storage().data_ptr(), int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride(), tensor.dtype)


@contextlib.contextmanager
def _module_calls(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Tell the recorder which module is running, through hooks that are always removed."""
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue  # takes no hooks; its operations are recorded under the module that holds it

        def enter(module: nn.Module, _: object, name: str = name) -> None:
            recorder.calls.append(
                _Call(name, type(module).__name__, name.count("."), not any(True for _ in module.children()), len(recorder.steps))
            )
            recorder.stack.append(len(recorder.calls) - 1)

        def leave(_module: nn.Module, _: object, result: object) -> None:
            number = recorder.stack.pop()
            call = recorder.calls[number]
            first = result[0] if isinstance(result, tuple | list) and result else result  # such as attention and its weights
            call.output = recorder.find(first)
            call.shape = tuple(first.shape[1:]) if isinstance(first, Tensor) else ()

        hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _network(model: str, recorder: _Recorder, output: int, keep_values: bool) -> Network:
    """Give every step its name and turn tensors into arrays."""
    names = _names(recorder)
    repeats: dict[str, int] = {}
    calls = []
    for call in recorder.calls[1:]:
        repeat = repeats[call.name] = repeats.get(call.name, -1) + 1
        out = names[call.output] if call.output is not None else ""
        calls.append(ModuleCall(call.name, call.kind, call.depth, repeat, call.start, call.leaf, tuple(call.steps), out, call.shape))
    nodes = []
    for name, step in zip(names, recorder.steps, strict=True):
        call = recorder.calls[step.call]
        alone = call.leaf and call.output is not None and names[call.output] == name and name.startswith(call.name or name)
        kind = call.kind if alone and (call.name or len(call.steps) == 1) else _plain(step.function)
        nodes.append(
            Node(
                name,
                call.name,
                kind,
                step.function,
                tuple(names[index] for index in step.inputs),
                _array(step.tensor, keep_values),
                {key: _array(tensor, keep_values, copy=True) for key, tensor in step.weights.items()},
                step.settings,
            )
        )
    return Network(model, tuple(nodes), tuple(calls), names[output], tuple(recorder.decisions))


def _normalised(image_CHW: Tensor, normalise: Normalisation | None) -> Tensor:
    if normalise is None:
        return image_CHW
    mean, std = (torch.tensor(list(values), dtype=torch.float32) for values in normalise)
    for what, values in (("mean", mean), ("deviation", std)):
        check_shape(values, "C", f"{what} of the pixels", C=image_CHW.shape[0])
    return (image_CHW.to(torch.float32) / LARGEST_PIXEL - mean[:, None, None]) / std[:, None, None]


def _with_pixels(network: Network, pixels_CHW: Tensor, normalise: Normalisation) -> Network:
    """The same graph with the normalisation as its first operation, so that everything leads back to the pixels of the file."""
    pixels = Node("pixels", "", "image", "input", (), _array(pixels_CHW[None].to(torch.float32), True))
    weights = {name: np.asarray(values, dtype=np.float64) for name, values in zip(("mean", "std"), normalise, strict=True)}
    given = network.nodes[0]
    normalised = Node(given.name, "", "Normalise", "convscope.normalise.default", ("pixels",), given.values, weights, {"data": ["input"]})
    calls = tuple(dataclasses.replace(call, start=call.start + 1, nodes=tuple(index + 1 for index in call.nodes)) for call in network.calls)
    return dataclasses.replace(network, nodes=(pixels, normalised, *network.nodes[1:]), calls=calls)


def _names(recorder: _Recorder) -> list[str]:
    """A unique name for every step: the module's for the result of a module without modules inside, else module and operation."""
    names: list[str] = []
    taken: dict[str, int] = {}
    for index, step in enumerate(recorder.steps):
        call = recorder.calls[step.call]
        if index == 0:
            name = "input"
        elif call.leaf and call.output == index and call.name:
            name = call.name
        else:
            name = f"{call.name}.{_plain(step.function)}".removeprefix(".")
        count = taken.get(name, 0)
        taken[name] = count + 1
        names.append(f"{name}:{count}" if count else name)
    return names


def _plain(function: str) -> str:
    return function.split(".")[1].strip("_") if "." in function else function


def _array(tensor: Tensor, keep_values: bool, copy: bool = False) -> npt.NDArray[Any]:
    if not keep_values:
        return np.broadcast_to(np.float32(np.nan), tuple(tensor.shape))
    tensor = tensor.detach().cpu()
    array: npt.NDArray[Any] = (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).numpy()
    return array.copy() if copy else array


def _first_line(error: Exception) -> str:
    line = (str(error).strip() or "no message").splitlines()[0]
    return line if line.endswith(".") else line + "."
