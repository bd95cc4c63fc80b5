"""What the network is, read from the graph that autograd recorded in one training pass and from its modules.

Receives the module and its output; returns the numbers of a "network" observation. Functional activations are seen as well as modules, because both
leave a node in the graph. A compiled or checkpointed part is one opaque node: nothing is claimed about it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

Value = float | int | str | bool | None
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
BATCH_NORMS = nn.modules.batchnorm._BatchNorm
DROPOUTS = nn.modules.dropout._DropoutNd

WEIGHTED = ("Convolution", "Addmm", "Mm", "Linear", "MkldnnConvolution", "SlowConv", "ThnnConv")
POOLED = ("MaxPool", "AdaptiveMaxPool", "Amax")
LINEAR = (
    "View", "UnsafeView", "Reshape", "Flatten", "T", "Transpose", "Permute", "Squeeze", "Unsqueeze", "Expand", "Slice", "Select", "Cat", "Split",
    "Stack", "Add", "Sub", "Div", "Neg", "Mean", "Sum", "AvgPool", "AdaptiveAvgPool", "NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm",
    "NativeLayerNorm", "NativeGroupNorm", "Upsample", "ConstantPad", "ReflectionPad", "ReplicationPad", "ToCopy", "Clone", "Alias", "Copy",
    "AsStrided", "NativeDropout", "FusedDropout", "MkldnnAvgPool", "Contiguous", "Narrow", "Unfold", "Movedim", "PixelShuffle", "BatchNorm",
)  # fmt: skip
SOFTMAX = ("Softmax", "LogSoftmax")
HANDED_ON = frozenset(
    {"View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Alias", "ToCopy", "Flatten"}
)  # the same values in the same order
MOST_NODES = 20_000  # of the graph; beyond it nothing is claimed


@dataclass(slots=True)
class Pairs:
    """Pairs of weighted layers that feed each other: all, with only linear operations between, and with an activation between."""

    all: int = 0
    linear: int = 0
    active: int = 0
    first: str = ""
    head: str = ""
    names: dict[int, str] = field(default_factory=dict)


def network_numbers(model: nn.Module, output: Tensor | None) -> dict[str, Value]:
    """The numbers of the "network" observation (see `convscope.diagnose.observations`)."""
    parameters = dict(model.named_parameters())
    names = {id(parameter): name.rpartition(".")[0] or name for name, parameter in parameters.items()}
    pairs = linear_pairs(output.grad_fn, names) if output is not None else Pairs()
    head = pairs.head or _last_weighted(model)
    head_weights = [p for name, p in parameters.items() if name.rpartition(".")[0] == head]
    frozen = {name: p for name, p in parameters.items() if not p.requires_grad}
    dropouts = [m.p for m in model.modules() if isinstance(m, DROPOUTS) and m.p > 0]
    return {
        "outputs": int(output.shape[1]) if output is not None and output.ndim > 1 else None,
        "weights": sum(p.numel() for p in parameters.values()),
        "trainable": sum(p.numel() for p in parameters.values() if p.requires_grad),
        "head": head,
        "head_trainable": any(p.requires_grad for p in head_weights) if head_weights else None,
        "frozen_fresh": fresh_share(frozen) if frozen else None,
        "batch_norms": sum(isinstance(m, BATCH_NORMS) for m in model.modules()),
        "dropouts": len(dropouts),
        "dropout": max(dropouts, default=0.0),
        "pairs": pairs.all,
        "linear_pairs": pairs.linear,
        "active_pairs": pairs.active,
        "linear_pair": pairs.first,
        "softmax_over_batch": _softmax_over_batch(output) if output is not None and not _time_comes_first(model) else None,
    }


def _time_comes_first(model: nn.Module) -> bool:
    """Whether some layer takes (time, samples, features): then axis 0 need not be the samples."""
    return any(getattr(module, "batch_first", True) is False for module in model.modules())


def _softmax_over_batch(output: Tensor) -> str | None:
    """Where a softmax runs along axis 0 over as many numbers as there are samples: in "the answer" or "between" layers; or along "one number"; or None."""
    if output.ndim < 1 or output.shape[0] < 2:
        return None
    last, found = output.grad_fn, None
    while last is not None and operation(last) in HANDED_ON and last.next_functions:
        last = last.next_functions[0][0]
    for node in _nodes(output.grad_fn):
        shape = _shape_of_softmax(node) if operation(node) in SOFTMAX else None
        if shape is None:
            continue
        axis = axis_of(node, len(shape))
        if axis == 0 and shape[0] == output.shape[0] not in shape[1:]:
            found = "the answer" if node is last else found or "between"
        elif shape[axis] == 1 and max(shape[1:]) > 1:
            found = found or "one number"
    return found


def _shape_of_softmax(node: Any) -> tuple[int, ...] | None:
    """Of its result; None for a single axis, or where the result was overwritten."""
    try:
        shape = tuple(node._saved_result.shape)
    except RuntimeError:
        return None
    return shape if len(shape) > 1 else None


def strays(model: nn.Module, output: Tensor) -> tuple[Tensor, ...]:
    """Weights that the output depends on although they are not the model's: of layers kept in a plain list, of another network before it, or tensors.

    A tensor that wants a gradient counts when some module of the model keeps it as an attribute, alone or in a list or dict; other tensors may be
    images that are optimised.
    """
    own = {id(parameter) for parameter in model.parameters()}
    leaves = [leaf for node in _nodes(output.grad_fn) if (leaf := getattr(node, "variable", None)) is not None and id(leaf) not in own]
    kept = {id(tensor) for module in model.modules() for tensor in _attributes(module)} if leaves else set()
    return tuple(leaf for leaf in leaves if isinstance(leaf, nn.Parameter) or id(leaf) in kept)


def _attributes(module: nn.Module) -> Iterator[Tensor]:
    """Tensors that a module keeps without registering them, alone or in a list or dict."""
    return (one for one in _kept(module) if isinstance(one, Tensor))


def unlisted_modules(model: nn.Module) -> list[nn.Module]:
    """Modules in plain lists and dicts of the model's modules, with all that they hold: `model.train()` and `model.eval()` do not reach them."""
    listed = set(model.modules())
    kept = (one for module in listed for one in _kept(module) if isinstance(one, nn.Module) and one not in listed)
    return [inner for module in dict.fromkeys(kept) for inner in module.modules() if inner not in listed]


def _kept(module: nn.Module) -> Iterator[Any]:
    for name, value in vars(module).items():
        if name not in ("_parameters", "_buffers", "_modules"):
            yield from (value, *_parts(value))


def _last_weighted(model: nn.Module) -> str:
    layers = [name for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
    return layers[-1] if layers else ""


def linear_pairs(root: Any, names: dict[int, str]) -> Pairs:
    """Walk the graph back from the output and look at what lies between weighted layers.

    Args:
        root: the output's grad_fn, or None.
        names: layer name by id of its parameter.
    """
    found = Pairs()
    weighted = [node for node in _nodes(root) if _is(node, WEIGHTED) and _is_layer(node)]
    if not weighted:
        return found
    found.head = _name(weighted[0], names)
    for node in weighted:
        source, linear, active, pooled = _upstream(node)
        if not (linear or active or pooled):
            continue
        found.all += 1
        if linear and not active and not pooled and _is_bottleneck(source, node):
            found.active += 1  # a product of two thin matrices is chosen for its low rank, which a single layer does not have
        elif linear and not active and not pooled:  # with both, a shortcut goes around layers that have an activation
            found.linear += 1
            found.first = f"{_name(source, names) or 'one layer'} and {_name(node, names) or 'the next'}"
        elif active:
            found.active += 1
    return found


def _nodes(root: Any) -> Iterator[Any]:
    """Nodes of the graph, breadth first from the output."""
    seen, wave = {root}, [root] if root is not None else []
    while wave and len(seen) < MOST_NODES:
        yield from wave
        following = []
        for node in wave:
            for parent, _ in node.next_functions:
                if parent is not None and parent not in seen:
                    seen.add(parent)
                    following.append(parent)
        wave = following


def axis_of(node: Any, axes: int) -> int:
    """The axis, of so many, that an operation runs along; the graph keeps negative ones as unsigned numbers."""
    axis: int = node._saved_dim
    return (axis + axes) % (1 << 64) % axes


def operation(node: Any) -> str:
    """The operation of a node, such as "Softmax"."""
    name: str = node.name() if hasattr(node, "name") else type(node).__name__
    return name.rpartition("::")[2].partition("Backward")[0]


def _is(node: Any, kinds: tuple[str, ...]) -> bool:
    kind = operation(node)
    return kind in kinds or (kinds is not WEIGHTED and any(kind.startswith(k) for k in kinds if len(k) > 3))


def _data_edge(node: Any) -> Any:
    """The node that computed the data (not the weight) of a weighted operation."""
    place = 1 if operation(node) == "Addmm" else 0
    edges = node.next_functions
    return edges[place][0] if len(edges) > place else None


def _weight(node: Any) -> Any:
    """The parameter of a weighted operation, or None when it is frozen or computed."""
    place = 2 if operation(node) == "Addmm" else 1
    edges = node.next_functions
    edge = edges[place][0] if len(edges) > place else None
    for _ in range(4):
        if edge is None or hasattr(edge, "variable"):
            break
        edge = edge.next_functions[0][0] if edge.next_functions else None
    return getattr(edge, "variable", None)


def _is_layer(node: Any) -> bool:
    """A matrix product of two activations (attention) is no layer."""
    return operation(node) not in ("Mm",) or _weight(node) is not None


def _name(node: Any, names: dict[int, str]) -> str:
    weight = _weight(node)
    return names.get(id(weight), "") if weight is not None else ""


def _upstream(node: Any) -> tuple[Any, bool, bool, bool]:
    """(the nearest weighted layer reached by linear operations only, whether there is one, whether an activation, whether a max pooling is met)."""
    stack: list[Any] = [_data_edge(node)]
    seen: set[Any] = set()
    source, active, pooled = None, False, False
    while stack and len(seen) < MOST_NODES:
        at = stack.pop()
        if at is None or at in seen:
            continue
        seen.add(at)
        if _is(at, WEIGHTED):
            source = source if source is not None else at
        elif _is(at, LINEAR) or _is_straight(at) or _is(at, POOLED):  # an activation may stand before the pooling
            pooled |= _is(at, POOLED)
            stack += [parent for parent, _ in at.next_functions]
        elif not hasattr(at, "variable"):
            active = True
    return source, source is not None, active, pooled


def _is_bottleneck(first: Any, second: Any) -> bool:
    """Whether two fully connected layers meet in fewer numbers than go in and come out."""
    into, out = _weight(first), _weight(second)
    if into is None or out is None or into.ndim != 2 or out.ndim != 2:
        return False
    shared = set(into.shape) & set(out.shape)
    width = min(shared, default=0)
    return bool(0 < width < min(max(into.shape), max(out.shape)))


def _is_straight(node: Any) -> bool:
    """Whether an operation that is not always linear is so here: a product with a constant, a leaky ReLU of slope 1."""
    kind = operation(node)
    if kind == "Mul":
        return sum(edge is not None for edge, _ in node.next_functions) == 1
    return bool(kind == "LeakyRelu" and node._saved_negative_slope == 1)


def fresh_share(weights: Mapping[str, Tensor]) -> float:
    """Share of these weights that look as if just drawn at random: nothing about them or the biases beside them tells of training.

    Args:
        weights: parameters by qualified name. Shares are of the matrices and kernels; biases and normalisation only testify against.

    Returns:
        0..1; 0 when nothing can be judged.
    """
    layers: dict[str, list[Tensor]] = {}
    for name, weight in weights.items():
        layers.setdefault(name.rpartition(".")[0], []).append(weight.detach())
    total, fresh = 0, 0
    for parameters in layers.values():
        kernels = [p for p in parameters if p.ndim >= 2 and p.numel() >= 64]
        vectors = [p for p in parameters if p.ndim == 1 and p.numel() > 1]
        if all(p.ndim < 2 for p in parameters) and any(not _constant(p) for p in vectors):
            return 0.0  # a normalisation layer that was trained
        untouched = all(_bias_looks_fresh(bias, kernels[0]) for bias in vectors) if kernels else False
        total += sum(p.numel() for p in kernels)
        fresh += sum(p.numel() * (untouched and _looks_fresh(p)) for p in kernels)
    return fresh / total if total else 0.0


def _constant(values: Tensor) -> bool:
    return bool((values == values.reshape(-1)[0]).all())


def _bias_looks_fresh(bias: Tensor, kernel: Tensor) -> bool:
    """A bias begins as a constant, or, by PyTorch's default, uniform within 1 / sqrt(fan in); that of a recurrent layer within the kernel's own bound."""
    if _constant(bias):
        return True
    values = bias.float()
    spread, error = math.sqrt(float(values.square().mean())), 1.5 / math.sqrt(values.numel())
    bounds = 1 / math.sqrt(kernel[0].numel()), float(kernel.detach().abs().amax())
    return any(float(values.abs().amax()) <= bound * 1.01 and abs(spread * math.sqrt(3) / bound - 1) < error for bound in bounds)


def _looks_fresh(weight: Tensor) -> bool:
    """Whether weights are still as drawn.

    A uniform draw has a sharp edge at sqrt(3) standard deviations, which the first steps of training blur. A normal draw has a kurtosis of 3 and
    a spread that follows from the layer's size; both are compared within three standard errors.
    """
    values = weight.reshape(-1)[:200_000].float()
    count, std, mean = values.numel(), float(values.std(unbiased=False)), float(values.mean())
    if std == 0:
        return True
    error = 3 / math.sqrt(count)
    kurtosis = float((((values - mean) / std) ** 4).mean())
    if abs(kurtosis - 1.8) < error * 1.5:  # the standard error of a uniform sample's kurtosis is below 0.5 / sqrt(n)
        return float(values.abs().amax()) <= math.sqrt(3) * std * (1 + error / 2)
    fan_in, fan_out = weight[0].numel(), weight.numel() // weight.shape[1]
    usual = [math.sqrt(scale / fan) for scale in (1 / 3, 1.0, 2.0) for fan in (fan_in, fan_out)] + [
        (2 / (fan_in + fan_out)) ** 0.5,
        0.01,
        0.02,
        0.05,
        0.1,
        1.0,
    ]
    return abs(kurtosis - 3.0) < error * math.sqrt(24) and any(abs(std / scale - 1) < 0.75 * error for scale in usual)


def first_tensor(output: Any) -> Tensor | None:
    """The first floating point tensor of a module's output or input (tuples, lists, dicts and dataclasses are searched)."""
    if isinstance(output, Tensor):
        return output if output.is_floating_point() else None
    if output is not None:
        for part in _parts(output):
            found = first_tensor(part)
            if found is not None:
                return found
    return None


def tensors_of(output: Any, *, whole: bool = False) -> Iterator[Tensor]:
    """Every floating point tensor in a module's output, with `whole` those of whole numbers too; tuples, lists, dicts and dataclasses are searched."""
    if isinstance(output, Tensor):
        if whole or output.is_floating_point():
            yield output
    elif output is not None:
        for value in _parts(output):
            yield from tensors_of(value, whole=whole)


def _parts(output: Any) -> list[Any]:
    """What a container holds; nothing of anything else."""
    if isinstance(output, dict):
        return list(output.values())
    if isinstance(output, list | tuple):
        return list(output)
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return [getattr(output, field.name, None) for field in dataclasses.fields(output)]
    return []
