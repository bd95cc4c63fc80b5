"""The menu of changes that a machine may apply to a training run: names of settings and the values they may take.

A Finding's `fix.change` is a dict with keys from this menu. Relative changes are worked out by the rule (it knows the present value), so that whoever
applies a change only sets settings. Nothing here touches data or code: a fault in the user's own loop has a fix in words only.
`SETTINGS` are settings of `convscope train`, which `--heal` applies; `HABITS` are what that command does anyway, so that they only concern other loops.
"""

from __future__ import annotations

import math
from typing import Any

from convscope.errors import UnknownNameError

SETTINGS: dict[str, str] = {
    "lr": "the peak learning rate, above 0",
    "batch_size": "images per step, at least 1",
    "norm": "True: batch normalisation after each convolution",
    "init": '"kaiming_normal": weights drawn to keep the signal\'s size through ReLU layers',
    "augment": "True: random flips, crops and colour changes of training images",
    "clip_norm": "greatest norm of the gradient, above 0; a larger one is scaled down",
    "weight_decay": "share of each weight taken off per step and unit of learning rate, at least 0",
    "schedule": '"one_cycle": the learning rate rises for a quarter of the steps, then falls',
    "class_weights": '"auto": rare classes count more in the loss; "none": all count alike',
    "freeze_body": "False: every layer is trained",
}
HABITS: dict[str, str] = {
    "normalise": "True: subtract the training images' mean and divide by their standard deviation",
    "shuffle": "True: a new random order of the training images each epoch",
    "activation": '"relu": an activation function between weighted layers',
    "dropout": "share of activations dropped while training, 0 to 0.5",
}
MENU = SETTINGS | HABITS


def check_change(change: dict[str, Any]) -> dict[str, Any]:
    """The change itself, when every setting is on the menu.

    Raises:
        UnknownNameError: a setting is not on the menu.

    Example:
        >>> check_change({"lr": 0.01})
        {'lr': 0.01}
    """
    for name in change:
        if name not in MENU:
            raise UnknownNameError("setting that a machine may change", name, MENU)
    return change


# Peaks at which 1cycle trains image classifiers in batches of 32: Adam's family at 1e-3 to 3e-3, SGD with momentum at 0.05 to 0.1 (He et al. 2016). A deep
# network without batch normalisation bears less of SGD (0.01 in Simonyan and Zisserman 2015).
ADAPTIVE_RATES: dict[str, float] = dict.fromkeys(("adam", "adamw", "adamax", "nadam", "radam"), 0.003) | {"rmsprop": 0.001}
SGD_RATE, DEEP_SGD_RATE = 0.05, 0.02
DEEP = 8  # layers with weights
APART = 3.0  # times: a rate nearer to the usual one than this is judged by its own steps


def usual_rate(optimizer: str, batch_size: float, *, deep: bool = False) -> float | None:
    """The highest learning rate at which 1cycle usually trains an image classifier; None for an optimiser of which it is not known.

    Args:
        optimizer: class name, such as "Adam".
        batch_size: images a step; Adam's rate grows with its square root (Malladi et al. 2022), to four times at most.
        deep: whether the network has `DEEP` layers or more and no batch normalisation.

    Example:
        >>> usual_rate("Adam", 32), usual_rate("AdamW", 512), usual_rate("SGD", 512), usual_rate("SGD", 32, deep=True), usual_rate("Lion", 32)
        (0.003, 0.01, 0.05, 0.02, None)
    """
    name = optimizer.lower()
    if name == "sgd":
        return DEEP_SGD_RATE if deep else SGD_RATE
    if name not in ADAPTIVE_RATES:
        return None
    return rounded(ADAPTIVE_RATES[name] * math.sqrt(min(16.0, max(1.0, batch_size / 32))))


def lower_rate(present: float, usual: float | None, times: float) -> float:
    """A learning rate to try in place of one that is too high.

    Args:
        present: the rate, above 0.
        usual: that of the optimiser, when it is known.
        times: how many times too high the steps look; what counts where the usual rate is unknown or not far below.

    Example:
        >>> lower_rate(0.3, 0.003, 50), lower_rate(0.3, None, 50), lower_rate(0.1, 0.05, 50)
        (0.003, 0.005, 0.01)
    """
    if usual is not None and usual * APART <= present:
        return usual
    return rounded(present / min(100.0 if usual is None else 10.0, max(APART, times)))


def higher_rate(present: float, usual: float | None, times: float) -> float:
    """A learning rate to try in place of one that is too low; arguments as for `lower_rate`.

    Example:
        >>> higher_rate(1e-6, 0.05, 1000), higher_rate(0.002, 0.003, 5)
        (0.05, 0.01)
    """
    return usual if usual is not None and usual >= APART * present else rounded(present * min(1000.0, max(APART, times)))


def rounded(value: float) -> float:
    """A setting rounded to one of 1, 2, 3, 5 times a power of ten, as a person would choose it; the nearest by ratio.

    Example:
        >>> rounded(0.0437)
        0.05
    """
    if value <= 0:
        return value
    exponent = 0
    while value < 1:
        value, exponent = value * 10, exponent - 1
    while value >= 10:
        value, exponent = value / 10, exponent + 1
    nearest = min((1, 2, 3, 5, 10), key=lambda candidate: max(candidate / value, value / candidate))
    return float(f"{nearest}e{exponent}")
