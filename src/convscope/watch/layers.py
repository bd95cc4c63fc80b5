"""Which modules of a network are watched, and under which names.

Receives networks; returns their layers in the order in which they were registered, and sentences about what cannot be seen. It hooks nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from convscope.errors import UnknownNameError, UsageError

PASSIVE = (nn.Identity, nn.Flatten, nn.Unflatten)  # hand on the same values
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


@dataclass(frozen=True, slots=True)
class Layer:
    """A watched module and its name in records."""

    name: str
    module: nn.Module

    @property
    def kind(self) -> str:
        """Class name; of a compiled module, that of what was compiled."""
        inner = getattr(self.module, "_orig_mod", self.module)
        return type(inner).__name__


def watched_layers(models: Mapping[str, nn.Module], wanted: Iterable[str] | None = None) -> tuple[list[Layer], list[str]]:
    """The layers of some networks.

    Args:
        models: networks by name, possibly wrapped for several devices or compiled; of several, the name goes before each layer's: "generator/0.1".
        wanted: names of layers, or of modules that contain some; None for all.

    Returns:
        The modules whose outputs are to be recorded, and what cannot be seen, in words.

    Raises:
        UnknownNameError: a wanted name is in none of the networks.
        UsageError: a network has no layer to watch.
    """
    layers: list[Layer] = []
    notes: list[str] = []
    for model_name, model in models.items():
        found = list(_walk(model, "", set(), notes))
        if not found:
            why = " ".join(notes) or f"{type(model).__name__} has no layer to watch: none of its modules computes."
            raise UsageError(f"{why} Pass the network that you train, as it is in Python.")
        prefix, root = f"{model_name}/" if len(models) > 1 else "", type(unwrapped(model)).__name__
        layers += [Layer(prefix + (name or root), module) for name, module in found]
    if wanted is not None:
        names, wanted = [layer.name for layer in layers], tuple(wanted)
        for name in wanted:
            if not any(_within(layer, name) for layer in names):
                raise UnknownNameError("layer", name, names)
        layers = [layer for layer in layers if any(_within(layer.name, name) for name in wanted)]
    return layers, notes


def _walk(module: nn.Module, name: str, seen: set[int], notes: list[str]) -> Iterator[tuple[str, nn.Module]]:
    if id(module) in seen:
        return
    seen.add(id(module))
    if isinstance(module, WRAPPERS):
        yield from _walk(module.module, name, seen, notes)
    elif is_out_of_reach(module):
        how = "compiled in place (module.compile())" if is_compiled_in_place(module) else "scripted (torch.jit.script)"
        notes.append(f"{_called(name)} was {how}: neither its output nor its inside can be seen.")
    elif is_opaque(module):
        notes.append(f"{_called(name)} is compiled: what it returns is recorded, its inside cannot be seen.")
        yield name, module
    else:
        children = list(module.named_children())
        own = any(True for _ in module.parameters(recurse=False))
        if (not children or own) and not isinstance(module, PASSIVE + CONTAINERS):
            yield name, module
        for child_name, child in children:
            yield from _walk(child, f"{name}.{child_name}" if name else child_name, seen, notes)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network itself, without what spreads it over devices or compiles it."""
    while True:
        if isinstance(model, WRAPPERS):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def fast_in_evaluation(model: nn.Module) -> set[nn.Module]:
    """The modules that PyTorch evaluates by one fused call, as long as no hook is attached to any of them; it rounds differently.

    `nn.TransformerEncoderLayer` looks for hooks on itself and its submodules. Ours are attached there only while a training pass runs.
    """
    return {part for module in model.modules() if isinstance(module, nn.TransformerEncoderLayer) for part in module.modules()}


def is_opaque(module: nn.Module) -> bool:
    """Whether a module runs as one piece: compiled by torch.compile, or scripted."""
    return isinstance(getattr(module, "_orig_mod", None), nn.Module) or isinstance(module, torch.jit.ScriptModule)


def is_compiled_in_place(module: nn.Module) -> bool:
    """Whether `module.compile()` was called, which takes hooks into the compiled code."""
    return getattr(module, "_compiled_call_impl", None) is not None


def is_out_of_reach(module: nn.Module) -> bool:
    """Whether no hook of ours would run, or none can be attached."""
    return is_compiled_in_place(module) or isinstance(module, torch.jit.RecursiveScriptModule)  # type: ignore[attr-defined]


def own_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    """The floating point parameters that belong to a layer: all of one that runs as one piece, else those not held by a submodule."""
    for parameter in module.parameters(recurse=is_opaque(module)):
        if parameter.is_floating_point() and not isinstance(parameter, nn.parameter.UninitializedParameter):
            yield parameter


def parameter_owners(layers: Iterable[Layer], recorded: Collection[str]) -> dict[str, list[nn.Parameter]]:
    """The parameters that each recorded layer answers for.

    A module whose output was never seen, because the one around it uses its weights directly (as attention does), hands them to that one.
    """
    owners: dict[str, list[nn.Parameter]] = {}
    for layer in layers:
        name = layer.name
        while name and name not in recorded:
            name = name.rpartition(".")[0]
        if name:
            owners.setdefault(name, []).extend(own_parameters(layer.module))
    return owners


def _within(layer: str, name: str) -> bool:
    return layer == name or layer.startswith(name + ".")


def _called(name: str) -> str:
    return f"The module {name!r}" if name else "The network"
