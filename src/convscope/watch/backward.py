"""What backward was called on: the loss of a loop whose loss function nobody could see.

Receives nothing; returns the first tensor that the running `torch.autograd.backward` was given. A loss that the loop computes by itself
(`-(scores * targets).mean()`) passes through no function that could be listened to, and PyTorch tells hooks nothing about the root of the pass that
calls them. The root is an argument of a function on the call stack, of this thread or, on an accelerator, of the one that waits for the backward
pass; reading it there changes nothing and costs a few microseconds.
"""

from __future__ import annotations

import sys
from types import FrameType

import torch
from torch import Tensor

MOST_FRAMES = 50  # up the stack; a hook lies less than ten below torch.autograd.backward


def root_of_backward() -> Tensor | None:
    """The tensor whose backward pass is running, or None when none is found. To be called from a hook on a tensor or parameter."""
    code = torch.autograd.backward.__code__
    found = _argument(sys._getframe(1), code)
    if found is None:
        for frame in sys._current_frames().values():
            found = _argument(frame, code)
            if found is not None:
                break
    return found


def _argument(frame: FrameType | None, code: object) -> Tensor | None:
    for _ in range(MOST_FRAMES):
        if frame is None:
            return None
        if frame.f_code is code:
            tensors = frame.f_locals.get("tensors")
            first = tensors[0] if isinstance(tensors, tuple | list) and tensors else tensors
            return first.detach() if isinstance(first, Tensor) else None
        frame = frame.f_back
    return None
