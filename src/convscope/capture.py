"""Hooks on a model and on optimisers as one context manager: whatever was attached is removed at the end, also after an exception.

Receives functions to be called; returns nothing and changes nothing of what it watches. No module backward hooks are offered: they raise when
an in-place activation follows (measured with nn.ReLU(inplace=True)); gradients are seen by hooks on tensors and parameters instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

OutputHook = Callable[[str, nn.Module, Any], None]
ModuleHook = Callable[[nn.Module, tuple[Any, ...], Any], None]
ModulePreHook = Callable[[nn.Module, tuple[Any, ...]], None]
StepHook = Callable[[Optimizer, bool], None]
GradientHook = Callable[[Tensor], None]

# Looked up once: the answer is asked for several hundred times a step.
_is_compiling = torch.compiler.is_compiling
_tracing_state = torch._C._get_tracing_state
_transforms = torch._C._functorch.peek_interpreter_stack
_modes = torch._C._len_torch_dispatch_stack


def out_of_sight() -> bool:
    """Whether what runs now is no ordinary computation: it is compiled, exported, traced or transformed by torch.func, or a mode sees each operation.

    Whoever looked at values then would become a part of what is made, or would be handed stand-ins that have none.
    """
    return _is_compiling() or _tracing_state() is not None or _transforms() is not None or _modes() > 0


class Hook:
    """A function to be attached to a module, which is called in ordinary computations only, and whose result is ignored.

    Copies of the module, and what is saved of it, hold in its place one that does nothing and that any Python can load: a loop may copy or save
    its network while it is watched.

    Example:
        >>> handle = model.register_forward_hook(Hook(lambda module, arguments, output: print(output.shape)))
    """

    __name__ = "hook"  # compilers ask for it

    def __init__(self, call: Callable[..., object]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> None:
        """What torch calls."""
        if not out_of_sight():
            self._call(*arguments)

    def __deepcopy__(self, _: dict[int, Any]) -> Callable[..., object]:
        return contextlib.nullcontext().__exit__  # takes anything and does nothing

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (contextlib.nullcontext(), "__exit__")


@contextlib.contextmanager
def without_hooks(model: nn.Module) -> Iterator[None]:
    """Take every `Hook` off a model and its parts for a moment, as torch.jit.script would compile them; they come back to their places."""
    taken: list[tuple[dict[int, Any], dict[int, Any]]] = []
    for part in model.modules():
        if isinstance(part, torch.jit.ScriptModule):
            continue
        for hooks in (part._forward_hooks, part._forward_pre_hooks):
            if any(isinstance(hook, Hook) for hook in hooks.values()):
                taken.append((hooks, dict(hooks)))
                for number in [number for number, hook in hooks.items() if isinstance(hook, Hook)]:
                    del hooks[number]
    try:
        yield
    finally:
        for hooks, before in taken:
            others = {**hooks}
            hooks.clear()
            hooks.update({number: hook for number, hook in before.items() if number in others or isinstance(hook, Hook)})
            hooks.update(others)


class Capture:
    """Attaches hooks and removes all of them when the `with` block ends.

    Args:
        model: whose submodules to watch, or None to attach hooks one by one.
        output: called with (qualified name, module, output) after each forward pass of each submodule and of the model itself (named "").

    Example:
        >>> with Capture(model, lambda name, module, output: print(name, output.shape)):
        ...     model(images_NCHW)
        >>> with Capture() as hooks:
        ...     hooks.optimizer_steps(after=lambda optimizer, closure: print(optimizer.param_groups[0]["lr"]))
        ...     train(model)
    """

    def __init__(self, model: nn.Module | None = None, output: OutputHook | None = None) -> None:
        self._handles: list[RemovableHandle] = []
        if model is not None and output is not None:
            for name, module in model.named_modules():
                self.forward(module, _named(name, output))

    def forward(self, module: nn.Module, after: ModuleHook) -> None:
        """Call `after(module, arguments, output)` after each forward pass of a module; what it returns is ignored."""
        self._handles.append(module.register_forward_hook(Hook(after)))

    def before_forward(self, module: nn.Module, before: ModulePreHook) -> None:
        """Call `before(module, arguments)` before each forward pass of a module; what it returns is ignored."""
        self._handles.append(module.register_forward_pre_hook(Hook(before)))

    def gradient(self, parameter: Tensor, after: GradientHook) -> None:
        """Call `after(parameter)` whenever a gradient was accumulated into `parameter.grad`."""
        self._handles.append(parameter.register_post_accumulate_grad_hook(after))  # type: ignore[no-untyped-call]

    def optimizer_steps(self, before: StepHook | None = None, after: StepHook | None = None) -> None:
        """Call `before` and `after` around each step of every optimiser of this process, with the optimiser and whether `step` got a closure."""
        if before is not None:
            self._handles.append(register_optimizer_step_pre_hook(_of_optimizer(before)))
        if after is not None:
            self._handles.append(register_optimizer_step_post_hook(_of_optimizer(after)))

    def add(self, handle: RemovableHandle) -> None:
        """Take care of a hook that was attached elsewhere."""
        self._handles.append(handle)

    def close(self) -> None:
        """Remove every hook, the last first."""
        while self._handles:
            self._handles.pop().remove()

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def _named(name: str, output: OutputHook) -> ModuleHook:
    return lambda module, _, value: output(name, module, value)


def _of_optimizer(hook: StepHook) -> Callable[[Optimizer, tuple[Any, ...], dict[str, Any]], None]:
    def call(optimizer: Optimizer, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if not torch.compiler.is_compiling():
            hook(optimizer, (arguments[1] if len(arguments) > 1 else keywords.get("closure")) is not None)  # arguments[0] is the optimiser

    return call
