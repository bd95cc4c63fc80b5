"""The optimisers that the Learner makes by itself, with the book's defaults. Any `torch.optim.Optimizer` factory may be given instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from convscope.errors import UnknownNameError

OptimizerFactory = Callable[[Iterable[dict[str, Any]]], torch.optim.Optimizer]

# fastai's Adam, as in the book: a larger eps than PyTorch's 1e-8 keeps early steps small where gradients are tiny.
BETAS = (0.9, 0.99)
EPS = 1e-5
WEIGHT_DECAY = 0.01
SGD_MOMENTUM = 0.9
FUSED_FROM = 16_384  # elements a parameter has on average, from which on the fused kernel's one pass over memory is worth starting it


def adam(parameters: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay: betas .9 and .99, eps 1e-5; the decay comes from the parameter groups."""
    groups = list(parameters)
    # On the CPU the fused kernel wakes all threads for each parameter, which many small ones do not repay, and foreach passes over memory 13 times,
    # which large ones do not (LOG.md, 2026-11-23).
    fused = _large_on_cpu([parameter for group in groups for parameter in group["params"]])
    return torch.optim.AdamW(groups, lr=1e-3, betas=BETAS, eps=EPS, fused=fused, foreach=not fused)


def sgd(parameters: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum 0.9; the decay comes from the parameter groups and is not decoupled."""
    return torch.optim.SGD(parameters, lr=1e-3, momentum=SGD_MOMENTUM, foreach=True)


OPTIMIZERS: dict[str, OptimizerFactory] = {"adam": adam, "sgd": sgd}


def optimizer_named(name: str) -> OptimizerFactory:
    """The factory of that name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in OPTIMIZERS:
        raise UnknownNameError("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name]


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The trainable parameters in two groups: weights, which decay, and biases and norms, which do not (as fastai's do not).

    Args:
        model: its parameters with `requires_grad`.
        weight_decay: share of lr by which a weight shrinks each step.

    Returns:
        Parameter groups for an optimiser, empty ones left out.
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (decayed if parameter.ndim > 1 else plain).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _large_on_cpu(parameters: list[nn.Parameter]) -> bool:
    sizes = [parameter.numel() for parameter in parameters if parameter.device.type == "cpu" and parameter.is_floating_point()]
    return bool(sizes) and len(sizes) == len(parameters) and sum(sizes) >= FUSED_FROM * len(sizes)


def set_hyper(optimizer: torch.optim.Optimizer, lr: float, momentum: float | None) -> None:
    """Set learning rate and momentum (Adam: beta1) of every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
        if momentum is None:
            continue
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        elif "momentum" in group:
            group["momentum"] = momentum
