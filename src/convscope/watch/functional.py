"""Activations that are called as functions (`F.relu(x)`, `x.sigmoid()`), which no module hook sees.

Receives a network whose training pass begins and a function that takes outputs; reports every activation function that is called until the pass
ends, under the name of the module that calls it. It is active only in training passes, and after the first one only when that showed that the network
calls such functions: a TorchFunctionMode sees every torch function, which costs some microseconds for each, and it switches off the fast path of
attention in evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from convscope.capture import Capture, Hook, out_of_sight
from convscope.watch.layers import fast_in_evaluation, is_opaque, is_out_of_reach

_PLAIN = (
    "gelu",
    "glu",
    "hardsigmoid",
    "hardswish",
    "log_softmax",
    "logsigmoid",
    "mish",
    "prelu",
    "relu6",
    "silu",
    "softmax",
    "softplus",
    "softsign",
)
_ALSO_IN_PLACE = ("celu", "elu", "hardtanh", "leaky_relu", "relu", "rrelu", "selu", "sigmoid", "tanh", "threshold")
_NAMES = (*_PLAIN, *_ALSO_IN_PLACE, *(f"{name}_" for name in _ALSO_IN_PLACE))


def _functions() -> dict[Callable[..., Any], str]:
    """The activation functions of torch.nn.functional, torch and Tensor, with the name to report."""
    found: dict[Callable[..., Any], str] = {}
    for owner in (F, torch, Tensor):
        for name in _NAMES:
            function = getattr(owner, name, None)
            if function is not None:
                found[function] = name.rstrip("_")
    return found


ACTIVATIONS: Mapping[Callable[..., Any], str] = _functions()


class FunctionCalls:
    """Reports activation functions that a network calls.

    Args:
        report: receives the name of the call ("features.relu"), the function's name and its output.
    """

    def __init__(self, report: Callable[[str, str, Tensor], None]) -> None:
        self._report = report
        self._mode = _Mode(self._called)
        self._model: nn.Module | None = None  # whose pass is running
        self._hooks: dict[nn.Module, Capture | None] = {}  # None: the network calls no such function
        self._running: list[
            str | None
        ] = []  # names of the modules that are running inside each other; None for one that is recorded as a whole
        self._prefix, self._found = "", False

    @property
    def active(self) -> bool:
        """Whether functions are being followed now."""
        return self._model is not None

    def begin(self, model: nn.Module, prefix: str = "") -> None:
        """A training pass of a network begins."""
        self.recover(model)
        if self._model is not None or self._hooks.get(model, _NEW) is None:
            return
        if model not in self._hooks:
            self._hooks[model] = self._follow(model)
        self._model, self._prefix, self._found = model, prefix, False
        self._running.clear()
        self._mode.__enter__()  # type: ignore[no-untyped-call]

    def recover(self, model: nn.Module) -> None:
        """A pass of a network begins: whatever is left of one that was broken off (KeyboardInterrupt calls no hook) ends."""
        if self._model is model:
            self.end(model)

    def end(self, model: nn.Module) -> None:
        """The pass ends, or has raised."""
        if self._model is not model:
            return
        self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        self._model = None
        hooks = self._hooks[model]
        if hooks is None:
            return
        if not self._found:
            hooks.close()
            self._hooks[model] = None
        elif fast_in_evaluation(model):
            hooks.close()
            del self._hooks[model]  # attached again when the next training pass begins

    def close(self) -> None:
        """Leave everything as it was."""
        if self._model is not None:
            self.end(self._model)
        for hooks in self._hooks.values():
            if hooks is not None:
                hooks.close()
        self._hooks.clear()

    def _follow(self, model: nn.Module) -> Capture:
        """Hooks that keep track of which module is running."""
        hooks = Capture()
        inner: set[nn.Module] = set()  # of modules that run as one piece
        for name, module in model.named_modules():
            if module is model or module in inner or is_out_of_reach(module):
                continue
            whole = is_opaque(module)
            if whole:
                inner.update(module.modules())
            inside = None if whole or next(module.children(), None) is None else name
            hooks.add(module.register_forward_pre_hook(Hook(self._entered(inside))))
            hooks.add(module.register_forward_hook(Hook(self._left), always_call=True))
        return hooks

    def _entered(self, name: str | None) -> Callable[..., None]:
        return lambda *_: self._running.append(name)

    def _left(self, *_: object) -> None:
        if self._running:
            self._running.pop()

    def _called(self, function: str, output: Tensor) -> None:
        if out_of_sight():
            return
        owner = self._running[-1] if self._running else ""
        if owner is not None:
            self._found = True
            self._report(f"{self._prefix}{owner}.{function}" if owner else f"{self._prefix}{function}", function, output)


_NEW = Capture()  # stands for a network that was not met yet


class _Mode(TorchFunctionMode):
    """Calls every torch function as it is, and reports the activations."""

    def __init__(self, report: Callable[[str, Tensor], None]) -> None:
        super().__init__()
        self._report = report

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = ACTIVATIONS.get(func)
        if name is not None and isinstance(output, Tensor):
            self._report(name, output)
        return output
