"""What is planted in the diagnosis benchmark, and which answers may be accepted: written down before anything was scored.

`FAULTS` has for each name of the catalogue three strengths, each a change of Settings, and the set of names that may be accepted besides the name
itself (a learning rate ten times too high may well be seen as dead units). `HEALTHY` are variants that look unusual and are fine.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from diagnose_programs import TUNED, Settings

STRENGTHS = ("blatant", "medium", "subtle")
ARCHITECTURES = ("plain5", "lenet", "vgg8", "resnet9")
SHALLOW = ("plain5", "lenet")  # drawn twice as often as the deep ones, which take three times as long
DATA = ("mnist", "fashion", "textures")
UNSTABLE = frozenset({"lr_too_high", "exploding_gradients", "activation_collapse_cycles", "dead_units", "non_finite"})
SCALE = UNSTABLE | {"bad_initial_scale", "vanishing_signal", "saturated_units"}
UNPLUGGED = frozenset({"params_not_in_optimizer", "update_no_op", "mostly_frozen"})


@dataclass(frozen=True)
class Fault:
    """A fault of the catalogue.

    Attributes:
        name: its name there.
        recipes: the change of settings at each strength.
        accepted: names that are right too.
        architectures: where it can be planted.
        exact: found by an exact rule.
        base: settings of the unfaulted twin that differ from the default.
    """

    name: str
    recipes: tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
    accepted: frozenset[str] = frozenset()
    architectures: tuple[str, ...] = ARCHITECTURES
    exact: bool = False
    base: dict[str, Any] = field(default_factory=dict)


def _times(factor: float) -> dict[str, Any]:
    return {"lr": factor}  # relative: see `plan`


NO_NORM = ("plain5", "lenet", "vgg8")
FAULTS: tuple[Fault, ...] = (
    Fault("non_finite", ({"inputs": "nan:800"}, {"inputs": "nan:20"}, {"inputs": "zero_over_zero"}), exact=True),
    Fault("grads_not_cleared", ({"clear": "never"}, {"clear": "epoch"}, {"clear": "every:8"}), UNSTABLE, exact=True),
    Fault("params_not_in_optimizer", ({"held": "first"}, {"held": "head"}, {"held": "no_head"}), UNPLUGGED, exact=True),
    Fault("update_no_op", ({"held": "copy"}, {"step": "no_backward"}, {"step": "restored"}), UNPLUGGED, exact=True),
    Fault("mostly_frozen", ({"frozen": "head"}, {"frozen": "backbone"}, {"frozen": "half"}), UNPLUGGED, exact=True),
    Fault(
        "softmax_before_cross_entropy",
        ({"output": "softmax"}, {"output": "softmax", "label_smoothing": 0.1}, {"output": "softmax", "schedule": "one_cycle"}),
        exact=True,
    ),
    Fault(
        "softmax_wrong_dim",
        ({"output": "log_softmax0", "loss": "nll"}, {"output": "softmax0"}, {"output": "softmax0", "schedule": "cosine"}),
        exact=True,
    ),
    Fault(
        "loss_output_mismatch", ({"loss": "nll"}, {"loss": "mse_index"}, {"loss": "mse_broadcast"}), frozenset({"non_finite"}), exact=True
    ),
    Fault(
        "wrong_mode",
        ({"modes": "never_train"}, {"modes": "forgot_train"}, {"modes": "valid_in_train"}),
        architectures=("resnet9", "vgg8bn"),
        exact=True,
    ),
    Fault(
        "batchnorm_unreliable",
        ({"batch_size": 2, "train_images": 480}, {"bn_momentum": 0.001}, {"bn_momentum": 0.005}),
        architectures=("resnet9", "vgg8bn"),
    ),
    Fault(
        "symmetric_init",
        ({"init": "constant:0.02"}, {"init": "constant:0"}, {"init": "constant_middle:0.02"}),
        frozenset({"vanishing_signal", "bad_initial_scale"}),
        exact=True,
    ),
    Fault(
        "missing_nonlinearity",
        ({"activation": "none"}, {"activation": "none", "schedule": "one_cycle"}, {"activation": "none", "init": "kaiming"}),
        exact=True,
    ),
    Fault(
        "input_not_normalised", ({"inputs": "bytes"}, {"inputs": "offset:12"}, {"inputs": "faint:0.004"}), SCALE | {"lr_too_low"}, NO_NORM
    ),
    Fault("bad_initial_scale", ({"init": "scale:8"}, {"init": "scale:4"}, {"init": "scale:0.2"}), SCALE | {"lr_too_low"}, NO_NORM),
    Fault(
        "vanishing_signal",
        ({"activation": "sigmoid"}, {"activation": "sigmoid", "init": "scale:0.3"}, {"activation": "tanh", "init": "scale:0.1"}),
        frozenset({"bad_initial_scale", "saturated_units", "lr_too_low"}),
        ("vgg8", "plain5"),
    ),
    Fault("exploding_gradients", ({"loss": "sum"}, {"init": "scale:6", "lr": 2.0}, {"init": "scale:3", "lr": 2.0}), SCALE, NO_NORM),
    Fault(
        "activation_collapse_cycles",
        ({"lr": 20.0}, {"lr": 12.0, "optimizer": "sgd"}, {"lr": 8.0, "optimizer": "sgd"}),
        UNSTABLE,
        ("plain5", "vgg8"),
    ),
    Fault("dead_units", ({"init": "bias:-10"}, {"init": "bias:-3"}, {"init": "bias:-1"}), SCALE, NO_NORM),
    Fault(
        "saturated_units",
        (
            {"activation": "tanh", "init": "scale:20"},
            {"activation": "tanh", "init": "scale:10"},
            {"activation": "sigmoid", "init": "scale:20"},
        ),
        SCALE,
        NO_NORM,
    ),
    Fault("lr_too_high", (_times(100), _times(30), _times(10)), UNSTABLE),
    Fault("lr_too_low", (_times(1e-4), _times(1e-3), _times(1e-2)), frozenset({"vanishing_signal"})),
    Fault(
        "lr_schedule_collapsed",
        ({"schedule": "decay:0.8"}, {"schedule": "zero:15"}, {"schedule": "negative:120"}),
        frozenset({"lr_too_low"}),
        exact=True,
    ),
    Fault(
        "labels_look_random",
        ({"labels": "shuffled:1", "epochs": 3}, {"labels": "shuffled:1", "epochs": 8}, {"labels": "shuffled:0.9"}),
        frozenset({"label_noise", "overfitting", "data_order_or_leak"}),
    ),
    Fault(
        "label_noise",
        ({"labels": "shuffled:0.6", "epochs": 5}, {"labels": "shuffled:0.45", "epochs": 5}, {"labels": "shuffled:0.3", "epochs": 5}),
        frozenset({"labels_look_random", "overfitting"}),
    ),
    Fault(
        "data_order_or_leak",
        ({"order": "sorted"}, {"order": "chunks"}, {"leak": 0.3}),
        frozenset({"one_class", "activation_collapse_cycles", "lr_too_high"}),
        exact=True,
    ),
    Fault(
        "overfitting",
        (
            {"train_images": 64, "epochs": 120, "batch_size": 16},
            {"train_images": 128, "epochs": 60, "batch_size": 16},
            {"train_images": 256, "epochs": 40, "batch_size": 32},
        ),
        frozenset(),
    ),
    Fault(
        "over_regularised",
        ({"dropout": 0.95}, {"weight_decay": 0.3}, {"weight_decay": 0.1}),
        frozenset({"lr_too_high", "vanishing_signal", "dead_units"}),
    ),
    Fault(
        "one_class",
        ({"labels": "imbalanced:200", "epochs": 28}, {"labels": "imbalanced:100", "epochs": 28}, {"labels": "imbalanced:50", "epochs": 26}),
        frozenset({"data_order_or_leak"}),
    ),
)

# Unusual and fine. `base` is every architecture with every data set and optimiser, unchanged.
HEALTHY: dict[str, dict[str, Any]] = {
    "base": {},
    "one_cycle": {"schedule": "one_cycle"},
    "cosine": {"schedule": "cosine"},
    "warmup": {"schedule": "warmup"},
    "unit_inputs": {"inputs": "unit"},
    "imagenet_inputs": {"inputs": "imagenet"},
    "frozen_backbone": {"pretrained": True, "frozen": "backbone"},
    "head_only": {"pretrained": True, "held": "head"},
    "gelu": {"activation": "gelu"},
    "leaky": {"activation": "leaky"},
    "batch_norm": {"norm": True},
    "bytes_into_batch_norm": {"norm": True, "inputs": "bytes", "arch": "plain5"},
    "strong_regularisation": {"dropout": 0.3, "mixup": True, "label_smoothing": 0.1, "epochs": 5},
    "imbalanced": {"labels": "imbalanced:4", "epochs": 4},
    "accumulation": {"accumulate": 2, "batch_size": 16},
    "spike": {"spike": 100},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.05},
    "rmsprop": {"optimizer": "rmsprop"},
    "plain_sgd": {"optimizer": "plain_sgd"},
    "clip": {"clip": 1.0},
    "bce": {"loss": "bce"},
    "loss_module": {"loss": "module"},
    "no_validation": {"validate": False},
    "validation_with_gradients": {"no_grad": False},
    "converged": {"epochs": 12, "schedule": "one_cycle"},
    "log_softmax_nll": {"output": "log_softmax", "loss": "nll"},
    "augment": {"augment": True},
    "smoke": {"most_steps": 10},
    "large_batch": {"batch_size": 128, "epochs": 12},
    "fixed_order": {"order": "fixed"},
}


@dataclass(frozen=True)
class Case:
    """One run of the benchmark: its identity, what is planted, its settings and those of its twin."""

    key: str
    fault: str
    strength: str
    settings: Settings
    twin: Settings | None


def _base(arch: str, data: str, optimizer: str, seed: int) -> Settings:
    return Settings(arch="vgg8" if arch == "vgg8bn" else arch, data=data, optimizer=optimizer, seed=seed, norm=arch == "vgg8bn")


def _apply(settings: Settings, change: dict[str, Any]) -> Settings:
    values = dict(change)
    if "lr" in values:
        values["lr"] = TUNED[settings.arch, values.get("optimizer", settings.optimizer)] * values["lr"]
    return dataclasses.replace(settings, **values)


def _options(architectures: tuple[str, ...], seeds: range) -> list[tuple[str, str, str, int]]:
    often = [arch for arch in architectures for _ in range(2 if arch in SHALLOW else 1)]
    return list(itertools.product(often, DATA, ("sgd", "adam"), seeds))


def plan(repeats: int = 4, first_seed: int = 0) -> Iterator[Case]:
    """All runs in a fixed shuffled order, so that any beginning of the list is a fair sample of it.

    Args:
        repeats: configurations (architecture, data, optimiser, seed) drawn for each fault and strength.
        first_seed: each configuration gets this seed or the next. 0 is the set that rules are tuned on, 2 the held-out set.
    """
    draw = random.Random(13 + first_seed)
    seeds = range(first_seed, first_seed + 2)
    cases: list[Case] = []
    for fault in FAULTS:
        for strength, recipe in zip(STRENGTHS, fault.recipes, strict=True):
            options = _options(fault.architectures, seeds)
            for arch, data, optimizer, seed in draw.sample(options, repeats):
                base = _apply(_base(arch, data, optimizer, seed), fault.base)
                settings = _apply(base, recipe)
                twin = dataclasses.replace(base, optimizer=settings.optimizer)
                cases.append(
                    Case(f"{fault.name}/{strength}/{arch}-{data}-{settings.optimizer}-{seed}", fault.name, strength, settings, twin)
                )
    for kind, change in HEALTHY.items():
        options = _options(ARCHITECTURES, seeds)
        count = 24 if kind == "base" else repeats + 1
        for arch, data, optimizer, seed in draw.sample(options, count):
            if kind in ("frozen_backbone", "head_only") and arch == "lenet":
                arch = "plain5"
            settings = _apply(_base(arch, data, optimizer, seed), change)
            cases.append(Case(f"healthy/{kind}/{settings.arch}-{data}-{settings.optimizer}-{seed}", "healthy", kind, settings, None))
    unique = list({case.key: case for case in cases}.values())
    draw.shuffle(unique)
    yield from unique
