"""Published rules, written again over the same records, to be scored on the same runs: AutoTrainer, UMLAUT, DeepDiagnosis.

Thresholds are the published defaults. Where a rule looks at something that our records do not hold, the nearest figure is taken and named in a comment.
An answer is a list of catalogue names, the first being the tool's own first answer; an alarm without a counterpart in the catalogue is "other".
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable

from convscope.diagnose.rules.layers import beyond
from convscope.diagnose.view import RunView, number
from convscope.records import LayerStats

RELU = ("relu", "relu6", "leakyrelu", "leaky_relu")


def auto_trainer(view: RunView) -> list[str]:
    """AutoTrainer: symptoms are looked at only when training does not converge (accuracy below 0.7) or is slow (gain below 0.01 an epoch)."""
    accuracies = [number(o, "accuracy") for o in view.seen("fit")]
    validated = [number(o, "accuracy", 0.0) for o in view.seen("validation")]
    if not accuracies:
        return []
    late = accuracies[int(0.3 * len(accuracies)) :]
    slow = len(validated) > 1 and max(abs(b - a) for a, b in itertools.pairwise(validated)) < 0.01
    if max(accuracies + validated) >= 0.7 and not slow:
        return []
    first, last = _ends(view)
    blown = any(not math.isfinite(s.loss.last) for s in view.steps)
    found: list[str] = []
    zeros = [statistics.fmean(r.share_zero for r in records[-20:]) for records in _relus(view)]
    if any(share >= 0.7 for share in zeros):  # AutoTrainer looks at zero gradient entries; zero outputs have zero gradients
        found.append("dead_units")
    if blown or (first and last and first / last > 70):
        found.append("exploding_gradients")
    if first < 1e-4 and last > 0 and first / last < 1e-3:
        found.append("vanishing_signal")
    swings = sum(abs(b - a) >= 0.03 and b < a for a, b in itertools.pairwise(late))
    if late and swings / len(late) >= 0.2:
        found.append("lr_too_high")
    if slow:
        found.append("lr_too_low")
    return found or ["other"]


def umlaut(view: RunView) -> list[str]:
    """UMLAUT's checks for image classifiers."""
    found: list[str] = []
    inputs = view.seen("input")
    if any(not math.isfinite(number(o, "mean")) for o in inputs) or any(not math.isfinite(s.loss.last) for s in view.steps):
        found.append("non_finite")
    if any(number(o, "lowest") < -1 or number(o, "highest") > 1 for o in inputs):
        found.append("input_not_normalised")
    top = max((rate for _, rate in view.learning_rates), default=math.nan)
    if top > 0.01:
        found.append("lr_too_high")
    if top < 1e-7:
        found.append("lr_too_low")
    network = view.last("network")
    if network is not None and number(network, "linear_pairs", 0) > 0:
        found.append("missing_nonlinearity")
    if network is not None and number(network, "dropout", 0) > 0.5:
        found.append("over_regularised")
    losses = [number(o, "loss") for o in view.seen("validation")]
    if any(b > a for a, b in itertools.pairwise(losses)) and view.losses and view.losses[-1][1] < view.losses[0][1]:
        found.append("overfitting")
    if any(number(o, "accuracy", 0) > 0.95 for o in view.seen("validation")):
        found.append("data_order_or_leak")
    return found


def deep_diagnosis(view: RunView) -> list[str]:
    """DeepDiagnosis's symptoms, in the order in which it checks them."""
    found: list[str] = []
    if any(not math.isfinite(s.loss.last) for s in view.steps):
        found.append("non_finite")
    if any(number(o, "lowest") < -1 or number(o, "highest") > 1 for o in view.seen("input")):
        found.append("input_not_normalised")
    for records in _relus(view):
        if statistics.fmean(r.share_zero for r in records[-20:]) >= 0.7:
            found.append("dead_units")
            break
    names = list(view.layers)
    squashing = [before for before, name in itertools.pairwise(names) if view.layers[name][-1].kind.lower() in ("tanh", "sigmoid")]
    if any(statistics.fmean(beyond(r, 4.0) for r in view.layers[name][-20:]) > 0.5 for name in squashing):  # nearest bin edge to 5
        found.append("saturated_units")
    gradients = [r.gradient_rms for name in view.weighted_layers for r in view.layers[name][-20:] if math.isfinite(r.gradient_rms)]
    if gradients and min(gradients) < 1e-7:  # mean |g| there, root mean square here
        found.append("vanishing_signal")
    ratios = [ratio for _, ratio in view.median_ratios]
    if ratios and statistics.median(ratios) > 0.1:
        found.append("lr_too_high")
    if ratios and statistics.median(ratios) < 1e-5:
        found.append("lr_too_low")
    if any(not 1e-5 <= r.std**2 <= 10 for name in view.weighted_layers for r in view.layers[name][-1:]):
        found.append("bad_initial_scale")
    return found


def _relus(view: RunView) -> list[tuple[LayerStats, ...]]:
    return [records for records in view.layers.values() if records[-1].kind.lower() in RELU]


def _ends(view: RunView) -> tuple[float, float]:
    """Median gradient of the first and the last weighted layer over the run's second half."""
    medians = []
    for name in (view.weighted_layers[:1] + view.weighted_layers[-1:]) or ():
        records = view.layers[name]
        values = [r.gradient_rms for r in records[len(records) // 2 :] if math.isfinite(r.gradient_rms)]
        medians.append(statistics.median(values) if values else 0.0)
    return (medians[0], medians[1]) if len(medians) == 2 else (0.0, 0.0)


RIVALS: dict[str, Callable[[RunView], list[str]]] = {"AutoTrainer": auto_trainer, "UMLAUT": umlaut, "DeepDiagnosis": deep_diagnosis}
