"""The hyper-parameters of an optimiser, as they are at a step.

Receives an optimiser; returns plain numbers by name. A learning rate that lives in a tensor on an accelerator is left out, because reading it would
wait for the device.
"""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer

MOST_GROUPS = 8  # parameter groups recorded; layer-wise schedules have dozens that move together
_PLAIN = ("lr", "momentum", "weight_decay", "eps")


def hyper_parameters(optimizer: Optimizer, first: int = 0) -> dict[str, float]:
    """Learning rate, momentum or betas, weight decay and eps of each parameter group.

    Args:
        optimizer: any optimiser.
        first: how many groups were recorded before it in this step.

    Returns:
        "lr" of the first group, "lr:1" of the second, and so on; of later groups only what differs from the optimiser's first group, and "lr".

    Example:
        >>> hyper_parameters(torch.optim.SGD(parameters, lr=0.1, momentum=0.9))
        {'lr': 0.1, 'momentum': 0.9, 'weight_decay': 0.0}
    """
    found: dict[str, float] = {}
    base: dict[str, float] = {}
    for number, group in enumerate(optimizer.param_groups[: max(0, MOST_GROUPS - first)], first):
        values = {name: value for name in _PLAIN if (value := _number(group.get(name))) is not None}
        betas = group.get("betas")
        if betas is not None:
            values.update({f"beta{place}": value for place, beta in enumerate(betas, 1) if (value := _number(beta)) is not None})
        if number == 0:
            found = dict(values)
        else:
            found.update({f"{name}:{number}": value for name, value in values.items() if name == "lr" or value != base.get(name)})
        base = base or values
    return found


def _number(value: object) -> float | None:
    if isinstance(value, Tensor):
        return float(value) if value.device.type == "cpu" and value.numel() == 1 else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
