"""When a network computes: passes of whole networks, and of networks of which the loop calls the parts one by one.

Receives networks and a listener; attaches hooks to the networks and tells the listener when a pass begins and ends. While a training pass runs it also
follows what cannot be hooked all the time: activations called as functions, and layers that have a fused path in evaluation. It records nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from convscope.capture import Capture, Hook
from convscope.watch.functional import FunctionCalls
from convscope.watch.layers import Layer, fast_in_evaluation, is_opaque, is_out_of_reach
from convscope.watch.part_calls import PartCalls


class PassListener(Protocol):
    """Who wants to know of passes."""

    def about_to_begin(self) -> bool:
        """A network is called; whether `Passes.watch_whole` was called meanwhile, so that it is a part now."""

    def pass_begins(self, name: str, inputs: object, *, training: bool) -> None:
        """A pass of a network begins, in training mode or not."""

    def part_begins(self, name: str) -> None:
        """A part of a network begins to compute, in a pass that has begun."""

    def pass_ends(self, name: str, output: Any, *, whole: bool) -> None:
        """A network has computed (or a part of it, where `whole` is False)."""

    def is_sampled(self) -> bool:
        """Whether outputs of the running step are recorded."""

    def layer_hook(self, layer: Layer) -> Callable[..., None]:
        """What is to be called after a layer has computed."""

    def careful(self, where: str) -> AbstractContextManager[None]:
        """Keeps an exception of ours away from the loop."""


class Passes:
    """The hooks on some networks.

    Args:
        models: networks by name.
        layers: all watched layers.
        listener: is told.
        report: receives name, kind and output of activations that are called as functions.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        layers: Iterable[Layer],
        listener: PassListener,
        report: Callable[[str, str, Tensor], None],
    ) -> None:
        self._models, self._listener = dict(models), listener
        fast = {part for model in models.values() for part in fast_in_evaluation(model)}
        self._in_passing = [layer for layer in layers if layer.module in fast]  # hooked only while a training pass runs
        self._in_passing_hooks, self._hooks = Capture(), Capture()
        self._functions = FunctionCalls(report)
        self._inside: nn.Module | None = None  # the network, or part of one, that is running
        self._whole: set[str] = set()  # networks that were called themselves in training; of others the parts are
        self._parts: dict[str, PartCalls] = {}
        self._closed = True

    @property
    def follows_functions(self) -> bool:
        """Whether a mode sees every torch function now."""
        return self._functions.active

    def hooked_always(self, layer: Layer) -> bool:
        """Whether a layer may be hooked all the time."""
        return layer not in self._in_passing

    def open(self) -> None:
        """Attach the hooks."""
        self._closed = False
        for name, model in self._models.items():
            if not is_out_of_reach(model):
                self._hooks.add(model.register_forward_pre_hook(Hook(self._begins(name)), with_kwargs=True))
                self._hooks.add(model.register_forward_hook(Hook(self._ended(name)), always_call=True))

    def close(self) -> None:
        """Take every hook off."""
        self._closed = True
        self._functions.close()
        for parts in self._parts.values():
            parts.close()
        self._parts.clear()
        self._in_passing_hooks.close()
        self._hooks.close()

    def watch_whole(self, whole: nn.Module) -> None:
        """The networks turned out to be parts of this one, which is never called itself."""
        self._hooks.close()
        for parts in self._parts.values():
            parts.close()
        self._parts, self._models = {}, {"": whole}
        self._follow_parts("")

    def over(self, name: str | None = None) -> None:
        """A backward pass or an optimiser step has come: the next part of this network (of any) begins another pass."""
        for network, parts in self._parts.items():
            if name is None or network == name:
                parts.over()

    def join(self, model: nn.Module, arguments: tuple[Any, ...]) -> None:
        """A pass of a network, or of a part of one, began before `open`."""
        for name, watched in self._models.items():
            if watched is model:
                self._begins(name)(model, arguments, {})
                return
        for name, watched in self._models.items():
            if any(part is model for part in watched.modules()):
                self._follow_parts(name).join(model, arguments)
                return

    def met(self, layer: Layer) -> None:
        """A layer has computed in training; outside of any pass it shows that the loop calls parts of its network."""
        if self._inside is not None:
            return
        name = layer.name.partition("/")[0] if len(self._models) > 1 else next(iter(self._models))
        if name in self._whole or name in self._parts or is_out_of_reach(self._models[name]) or in_backward():
            return
        with self._listener.careful("A pass"):
            self._follow_parts(name).wait()

    # ------------------------------------------------------------ networks that are called themselves

    def _begins(self, name: str) -> Callable[..., None]:
        def begins(module: nn.Module, arguments: tuple[Any, ...], keywords: Mapping[str, Any] = MappingProxyType({})) -> None:
            if self._closed:  # by a hook of this very pass: torch calls the rest of them all the same, and without keywords
                return
            with self._listener.careful("A pass"):
                if self._listener.about_to_begin():
                    self._parts[""].join(module, arguments or (keywords,))
                    return
                if torch.is_grad_enabled() and not in_backward():
                    self._whole.add(name)
                    if name in self._parts:
                        self._parts.pop(name).close()
                elif name in self._parts:
                    self._parts[name].whole_begins()
                self._inside = module
                self._functions.recover(module)
                self._listener.pass_begins(name, arguments or keywords, training=module.training)
                self._follow(module, self._prefix(name))

        return begins

    def _ended(self, name: str) -> Callable[..., None]:
        def ended(module: nn.Module, _: tuple[Any, ...], output: Any) -> None:
            self._left(module)
            if name in self._parts:
                self._parts[name].whole_ended()
            self._tell_end(name, output, whole=True)

        return ended

    # ------------------------------------------------------------ networks whose parts are called one by one

    def _follow_parts(self, name: str) -> PartCalls:
        """Take calls of a network's parts for its passes from now on."""

        def begins(inputs: object, training: bool) -> None:
            with self._listener.careful("A pass"):
                self._listener.pass_begins(name, inputs, training=training)

        def enters(part: nn.Module, part_name: str) -> None:
            with self._listener.careful("A pass"):
                self._inside = part
                self._listener.part_begins(name)
                if next(part.children(), None) is not None:
                    self._follow(part, f"{self._prefix(name)}{part_name}.")

        def leaves(part: nn.Module, output: Any) -> None:
            self._left(part)
            self._tell_end(name, output, whole=False)

        self._parts[name] = parts = PartCalls(self._models[name], begins, enters, leaves)
        return parts

    # ------------------------------------------------------------ both

    def _follow(self, module: nn.Module, prefix: str) -> None:
        """See what is not hooked all the time, in a network (or a part of one) that computes in a training pass."""
        if not torch.is_grad_enabled() or in_backward():
            return
        for layer in self._in_passing:
            self._in_passing_hooks.add(layer.module.register_forward_hook(Hook(self._listener.layer_hook(layer))))
        if self._listener.is_sampled() and module.training and not is_opaque(module):
            self._functions.begin(module, prefix)

    def _left(self, module: nn.Module) -> None:
        """A network, or a part of one, has computed or raised."""
        self._inside = None
        self._in_passing_hooks.close()
        self._functions.end(module)

    def _tell_end(self, name: str, output: Any, *, whole: bool) -> None:
        if output is not None:  # None: it raised
            with self._listener.careful("A pass"):
                self._listener.pass_ends(name, output, whole=whole)

    def _prefix(self, name: str) -> str:
        return f"{name}/" if len(self._models) > 1 else ""


def in_backward() -> bool:
    """Whether a backward pass is running: a checkpointed part is computed again in it."""
    return torch._C._current_graph_task_id() != -1
