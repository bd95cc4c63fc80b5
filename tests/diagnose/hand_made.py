"""Records made by hand: a run that goes well, and the pieces to make it go wrong."""

from __future__ import annotations

import math
from typing import Any

from convscope.diagnose import diagnose
from convscope.records import Finding, Histogram, LayerStats, Observation, Range, StepRecord, Verdict

STEPS = 300


def falling(steps: int = STEPS) -> list[float]:
    """The loss of a run that learns ten classes."""
    return [2.3 * math.exp(-step / 80) + 0.2 for step in range(steps)]


def flat(steps: int = STEPS, level: float = 2.302) -> list[float]:
    """The loss of a run that does not learn."""
    return [level] * steps


def step_records(losses: list[float], lr: float | list[float] = 0.05, norms: list[float] | None = None) -> list[StepRecord]:
    """One record a step."""
    rates = lr if isinstance(lr, list) else [lr] * len(losses)
    return [
        StepRecord(step, step, math.nan, Range.of(loss), {"lr": Range.of(rates[step])}, Range.of(norms[step]) if norms else Range.of(1.0))
        for step, loss in enumerate(losses)
    ]


def layer(name: str, step: int, kind: str = "Conv2d", *, std: float = 1.0, weighted: bool = True, **changes: Any) -> LayerStats:
    """One record of a layer whose values are fine."""
    figures: dict[str, Any] = {
        "layer": name,
        "first_step": step,
        "last_step": step,
        "count": 1000,
        "mean": 0.0,
        "m2": 1000 * std * std,
        "minimum": -3.0,
        "maximum": 3.0,
        "kind": kind,
        "sample_count": 1000,
        "near_zero_count": 40,
        "histogram": Histogram(253, (1000,)),
        "positive": b"\xff",
        "channels": 8,
        "positive_samples": 64,
        "update_ratio": 1e-3 if weighted else math.nan,
        "gradient_rms": 1e-3 if weighted else math.nan,
        "weight_rms": 0.1 if weighted else math.nan,
    }
    return LayerStats(**{**figures, **changes})


def layers(steps: int = STEPS, **changes: Any) -> list[LayerStats]:
    """Three weighted layers with a ReLU after each of the first two; `changes` go to the weighted ones."""
    rows = []
    for step in range(steps):
        for at in range(3):
            rows.append(layer(f"{at}.conv", step, **changes))
            if at < 2:
                rows.append(layer(f"{at}.act", step, "ReLU", weighted=False))
    return rows


def seen(kind: str, step: int = 0, subject: str = "", /, **numbers: Any) -> Observation:
    """An observation."""
    return Observation(step, kind, subject, numbers)


def loss_inputs(name: str = "cross_entropy", **changes: Any) -> list[Observation]:
    """Five looks at what the loss receives: raw scores, unless changed."""
    usual = {
        "training": True,
        "rows": 32,
        "classes": 10,
        "row_sum_gap": 4.0,
        "column_sum_gap": 9.0,
        "log_gap": 20.0,
        "log_column_gap": 30.0,
        "lowest": -3.0,
        "highest": 3.0,
        "zeros": 0.0,
        "target": "index",
        "target_lowest": 0.0,
        "target_highest": 9.0,
        "shapes": "32 × 10 and 32",
        "same_shape": False,
        "loss": 2.0,
    }
    return [seen("loss_input", step, name, **{**usual, **changes}) for step in range(5)]


NETWORK = {
    "outputs": 10,
    "weights": 30_000,
    "trainable": 30_000,
    "head": "4",
    "head_trainable": True,
    "frozen_fresh": None,
    "batch_norms": 0,
    "dropouts": 0,
    "dropout": 0.0,
    "pairs": 4,
    "linear_pairs": 0,
    "active_pairs": 4,
    "linear_pair": "",
}
OPTIMIZER = {
    "kind": "SGD",
    "lr": 0.05,
    "weight_decay": 0.0,
    "decoupled": False,
    "held": 1.0,
    "foreign": 0.0,
    "head_held": True,
    "missing": "",
    "missing_fresh": None,
}
MODES = {
    "train_passes": STEPS,
    "train_in_eval": 0,
    "train_in_eval_streak": 0,
    "train_in_eval_since": 0,
    "eval_passes": 8,
    "eval_in_train": 0,
    "eval_in_train_since": 0,
    "batch_norm_in_train": False,
}
UPDATES = {"checked": 10, "still": 0, "ungraded": 0, "still_share": 0.0, "no_gradient": 0.0, "still_layers": "", "passes": STEPS}
LABELS = {"batches": 100, "batch_size": 32.0, "classes": 10, "entropy": 2.302, "batch_entropy": 2.15, "largest_share": 0.11}
FIT = {"samples": 500, "accuracy": 0.9, "wrong": 50, "second_choice": 0.6, "largest_answer": 0.12, "classes": 10}
VALIDATION = {"samples": 500, "loss": 0.3, "accuracy": 0.9, "largest_answer": 0.12, "largest_label": 0.11, "in_training": 0.0}
IDENTITY = {"train_images": 5000, "duplicates": 0.0, "repeated_batches": 0.0, "order_repeats": 0, "epoch_batches": None}
CHANNEL = {"mean": 0.0, "std": 1.0, "lowest": -0.4, "highest": 2.8, "samples": 50_000, "normalised_inside": False}
BATCH_NORM = {"values": 6272, "momentum": 0.1, "updates": 200.0, "mean_gap": 0.1, "variance_ratio": 1.2}


def healthy_observations() -> list[Observation]:
    """What is seen of a run that goes well."""
    return [
        seen("network", **NETWORK),
        seen("optimizer", 0, "0", **OPTIMIZER),
        seen("gradient_carry", 250, "4.bias", checked=250, carried=0, streak=0, since=0),
        seen("updates", 250, **UPDATES),
        seen("modes", 250, **MODES),
        *loss_inputs(),
        seen("input", 0, "channel 0", **CHANNEL),
        seen("labels", 250, **LABELS),
        seen("fit", 200, **FIT),
        seen("fit", 250, **FIT),
        seen("validation", 150, **VALIDATION),
        seen("validation", 300, **VALIDATION),
        seen("identity", 250, **IDENTITY),
        seen("filters", 0, "0.conv", identical=0.0, filters=8, still_moving=False),
        seen("filters", 20, "0.conv", identical=0.0, filters=8, still_moving=True),
    ]


def replaced(*new: Observation) -> list[Observation]:
    """A healthy run's observations, those of the given kinds replaced."""
    kinds = {observation.kind for observation in new}
    return [observation for observation in healthy_observations() if observation.kind not in kinds] + list(new)


def judged(*new: Observation, losses: list[float] | None = None, rows: list[LayerStats] | None = None, **steps: Any) -> Verdict:
    """The verdict on a healthy run with some of it replaced."""
    return diagnose(
        step_records(losses or falling(), **steps), rows if rows is not None else layers(len(losses or falling())), replaced(*new)
    )


def found(verdict: Verdict, name: str) -> Finding:
    """The finding of a name, which must be there."""
    findings = {finding.name: finding for finding in verdict.findings}
    assert name in findings, f"{name} not in {sorted(findings)}"
    return findings[name]


def said(verdict: Verdict) -> list[str]:
    """Names of findings that are more than a note, in order."""
    return [finding.name for finding in verdict.findings if finding.severity != "note"]
