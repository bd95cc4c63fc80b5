"""What is known only to functions that are running: what backward was called on, and by what a loss was scaled.

Receives nothing; returns the first tensor that the running `torch.autograd.backward` was given. A loss that the loop computes by itself
(`-(scores * targets).mean()`) passes through no function that could be listened to, and PyTorch tells hooks nothing about the root of the pass that
calls them. The root is an argument of a function on the call stack, of this thread or, on an accelerator, of the one that waits for the backward
pass; reading it there changes nothing and costs a few microseconds.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import torch
from torch import Tensor

MOST_FRAMES = 50  # up the stack; a hook lies less than ten below torch.autograd.backward or GradScaler.step


def root_of_backward() -> Tensor | None:
    """The tensor whose backward pass is running, without its graph, or None when none is found. To be called from a hook on a tensor or parameter."""
    root = _root()
    return root.detach() if root is not None else None


def node_of_backward() -> Any:
    """The node of the graph from which the running backward pass began; None when it is not found."""
    root = _root()
    return root.grad_fn if root is not None else None


def _root() -> Tensor | None:
    code = torch.autograd.backward.__code__
    running = _locals_of(code, sys._getframe(1))
    if running is None:
        running = next((found for frame in sys._current_frames().values() if (found := _locals_of(code, frame)) is not None), {})
    tensors = running.get("tensors")
    first = tensors[0] if isinstance(tensors, tuple | list) and tensors else tensors
    return first if isinstance(first, Tensor) else None


def loss_scale() -> Tensor | None:
    """By what a GradScaler has multiplied the loss of the step that it takes now; None without one. To be called from a hook on an optimiser.

    Gradients do not tell: they are divided again without a change of their version, and clipping may have shrunk them as well.
    """
    running = _locals_of(torch.amp.GradScaler.step.__code__, sys._getframe(1))
    scale = getattr(running["self"], "_scale", None) if running is not None else None
    return scale.detach().clone() if isinstance(scale, Tensor) else None


def _locals_of(code: object, frame: FrameType | None) -> dict[str, Any] | None:
    """The variables of the nearest function on the call stack that runs this code."""
    for _ in range(MOST_FRAMES):
        if frame is None:
            return None
        if frame.f_code is code:
            return frame.f_locals
        frame = frame.f_back
    return None
