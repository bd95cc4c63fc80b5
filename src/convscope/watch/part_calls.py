"""Passes of a network that is never called itself: the loop calls its parts, one after the other (`model.head(model.body(images))`).

Receives a network and functions to be told; says when a pass begins, and when each part of it has computed. A pass goes on from part to part until the
part that began it is called again, a backward pass or an optimiser step has come, or gradients or modes are switched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from convscope.capture import Capture, Hook
from convscope.watch.graph_facts import BATCH_NORMS, DROPOUTS
from convscope.watch.layers import fast_in_evaluation, is_opaque, is_out_of_reach

Begins = Callable[[object, bool], None]  # what the first part is given, and whether the network is in training mode
Enters = Callable[[nn.Module, str], None]  # a part, and its name
Leaves = Callable[[nn.Module, Any], None]  # a part, and its output; None when it raised


class PartCalls:
    """Watches the parts of one network.

    Args:
        network: what the parts belong to.
        begins: called when a part begins a pass.
        enters: called then, and when each further part of the pass begins.
        leaves: called when a part has computed.
    """

    def __init__(self, network: nn.Module, begins: Begins, enters: Enters, leaves: Leaves) -> None:
        self._network, self._begins, self._enters, self._leaves = network, begins, enters, leaves
        self._hooks = Capture()
        self._running: list[nn.Module] = []  # parts inside each other
        self._first: nn.Module | None = None  # that began the pass
        self._state = (False, False)  # gradients and mode with which it began
        self._waiting = False
        self._careful = [part for part in network.modules() if isinstance(part, BATCH_NORMS) or (isinstance(part, DROPOUTS) and part.p > 0)]
        left_alone = fast_in_evaluation(network)  # a hook would take them off their fused path
        inner: set[nn.Module] = set()  # of parts that run as one piece
        for name, part in network.named_modules():
            if part is network or part in left_alone or part in inner or is_out_of_reach(part):
                continue
            if is_opaque(part):
                inner.update(part.modules())
            self._hooks.add(part.register_forward_pre_hook(Hook(self._entered(name)), with_kwargs=True))
            self._hooks.add(part.register_forward_hook(Hook(self._left), always_call=True))

    def wait(self) -> None:
        """A pass is under way whose beginning was not seen: leave it alone until it is over."""
        self._waiting = True

    def over(self) -> None:
        """A backward pass or an optimiser step has come: the next part begins another pass."""
        self._waiting, self._first = False, None

    def join(self, part: nn.Module, arguments: tuple[Any, ...]) -> None:
        """A part began to compute before its hooks were attached."""
        name = next((name for name, one in self._network.named_modules() if one is part), "")
        self._entered(name)(part, arguments)

    def whole_begins(self) -> None:
        """The network itself is called: what its parts do is no pass of their own."""
        self.over()
        self._running.append(self._network)

    def whole_ended(self) -> None:
        """It has computed, or raised."""
        if self._network in self._running:
            del self._running[self._running.index(self._network) :]

    def close(self) -> None:
        """Take every hook off."""
        self._hooks.close()
        self._running.clear()

    def _entered(self, name: str) -> Callable[..., None]:
        def entered(part: nn.Module, arguments: tuple[Any, ...], keywords: Mapping[str, Any] = MappingProxyType({})) -> None:
            if part in self._running:  # a pass was broken off (KeyboardInterrupt calls no hook)
                self._running.clear()
            self._running.append(part)
            if len(self._running) > 1 or self._waiting:
                return
            state = torch.is_grad_enabled(), self._in_training(part)
            if self._first is None or part is self._first or state != self._state:
                self._first, self._state = part, state
                self._begins(arguments or keywords, state[1])
            self._enters(part, name)

        return entered

    def _left(self, part: nn.Module, _: tuple[Any, ...], output: Any) -> None:
        while self._running and self._running.pop() is not part:
            pass
        if not self._running and not self._waiting:
            self._leaves(part, output)

    def _in_training(self, part: nn.Module) -> bool:
        """Whether any layer to which it matters is in training mode; where it matters to none, this part."""
        return any(layer.training for layer in self._careful) if self._careful else part.training
