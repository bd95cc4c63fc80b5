"""Starting from another network's weights: which layers are the head, what is copied and what stays fresh.

Receives a freshly built network and the tensors of a trained one; changes the network in place. It reads no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convscope.errors import CheckpointError, ModelError
from convscope.nn.init import WeightLayer


@dataclass(frozen=True, slots=True)
class Transfer:
    """What `start_from` did.

    Attributes:
        copied: names of the tensors taken over.
        fresh: names of the tensors of the new head, which keep their initialisation; empty when the head was copied too.
        frozen: names of the parameters that the optimiser will leave alone.
    """

    copied: tuple[str, ...]
    fresh: tuple[str, ...]
    frozen: tuple[str, ...]


def head_of(model: nn.Module) -> tuple[str, ...]:
    """The names of the modules that make the logits: the last convolution or linear layer and what holds weights after it.

    Args:
        model: a classifier whose modules are registered in the order in which they run.

    Returns:
        Qualified module names; the first is the layer whose outputs are the classes.

    Raises:
        ModelError: the network has no convolution or linear layer.

    Example:
        >>> head_of(simple_cnn())  # the last convolution and its batch norm
        ('4.0', '4.1')
    """
    holders = [(name, module) for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))]
    last = max((i for i, (_, module) in enumerate(holders) if isinstance(module, WeightLayer)), default=None)
    if last is None:
        raise ModelError(f"{type(model).__name__} has no convolution or linear layer, so it has no classifying head. Give a classifier.")
    return tuple(name for name, _ in holders[last:])


def start_from(model: nn.Module, state: Mapping[str, Tensor], *, freeze_body: bool = False) -> Transfer:
    """Copy a trained network's weights into a new one; the head is copied only when it has the same number of classes.

    Args:
        model: the new network, changed in place.
        state: the trained network's `state_dict`, for the same architecture up to the number of classes.
        freeze_body: whether everything but the head stops learning (`requires_grad` off; batch norms keep following their statistics).

    Returns:
        What was copied, what stays fresh and what is frozen.

    Raises:
        CheckpointError: the bodies differ; nothing has been changed then.

    Example:
        >>> start_from(simple_cnn(1, 26), trained.state_dict()).fresh[0]
        '4.0.weight'
    """
    own = model.state_dict()
    head = {name for module in head_of(model) for name in own if name.rpartition(".")[0] == module}
    differs = [name for name in own if name not in state or state[name].shape != own[name].shape]
    fresh = tuple(sorted(head, key=list(own).index)) if any(name in head for name in differs) else ()
    wrong = [name for name in differs if name not in fresh]
    extra = [name for name in state if name not in own]
    if wrong or extra:
        raise CheckpointError(_mismatch(own, state, wrong, extra))
    copied = tuple(name for name in own if name not in fresh)
    with torch.no_grad():
        for name in copied:
            own[name].copy_(state[name])
    frozen = tuple(name for name, _ in model.named_parameters() if name not in head) if freeze_body else ()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return Transfer(copied, fresh, frozen)


def _mismatch(own: Mapping[str, Tensor], state: Mapping[str, Tensor], wrong: list[str], extra: list[str]) -> str:
    name = (wrong or extra)[0]
    here = f"of shape {tuple(own[name].shape)} here" if name in own else "absent here"
    there = f"of shape {tuple(state[name].shape)} in the file" if name in state else "absent from the file"
    return (
        f"These weights belong to another network: the first of {len(wrong) + len(extra)} tensors that do not fit, {name!r}, "
        f"is {here} and {there}. Only the last layer may differ, by the number of classes. "
        "Train with the same --model and settings as the weights were trained with."
    )
