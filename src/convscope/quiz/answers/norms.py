"""Answers about batch norm: questions 38 and 39."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convscope.arithmetic import batch_norm_by_hand
from convscope.quiz.records import Outcome

CHANNELS = 3


def trained_parameters() -> Outcome:
    """Question 38."""
    norm = nn.BatchNorm2d(CHANNELS)
    norm(torch.randn(8, CHANNELS, 4, 4, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    parameters = {name: list(parameter.shape) for name, parameter in norm.named_parameters() if parameter.grad is not None}
    buffers = {name: list(buffer.shape) for name, buffer in norm.named_buffers()}
    gradients = {name: buffer.requires_grad for name, buffer in norm.named_buffers()}
    value = {"parameters with a gradient": parameters, "buffers": buffers}
    holds = parameters == {"weight": [CHANNELS], "bias": [CHANNELS]}
    fails = "running_mean" not in parameters and not any(gradients.values())
    return Outcome(value, holds, [({"learned": gradients}, fails)])


def statistics() -> Outcome:
    """Question 39."""
    generator = torch.Generator().manual_seed(0)
    norm = nn.BatchNorm2d(CHANNELS)
    for _ in range(3):  # so that the running averages are those of earlier batches
        norm(torch.randn(16, CHANNELS, 5, 5, generator=generator) * 2 + 1)
    images = torch.randn(16, CHANNELS, 5, 5, generator=generator) * 3 - 2
    mean, variance = (getattr(norm, name).clone() for name in ("running_mean", "running_var"))

    def by_hand(training: bool) -> Tensor:
        known = (norm.weight.detach(), norm.bias.detach(), mean, variance)
        return batch_norm_by_hand(
            images, weight_C=known[0], bias_C=known[1], running_mean_C=known[2], running_var_C=known[3], training=training
        )[0]

    norm.eval()  # first, because training moves the running averages
    in_validation = norm(images).detach()
    norm.train()
    differences = {
        "training": float((norm(images).detach() - by_hand(True)).abs().max()),
        "validation": float((in_validation - by_hand(False)).abs().max()),
    }
    apart = float((in_validation - by_hand(True)).abs().max())
    value = {"largest difference of the formula from PyTorch": differences}
    return Outcome(value, max(differences.values()) < 1e-5, [({"difference in validation": apart}, apart > 1e-3)])
