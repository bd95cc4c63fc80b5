"""Rules on the signal inside the network: its size at the start, through the layers, over time, and units that carry none.

Receives a RunView, returns one Finding or None per rule. All but the first two are statistical: unusual figures alone are a note.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

from convscope.diagnose.rule import Rule, ev, gated, loss_evidence, percent, short
from convscope.diagnose.view import RunView, Threshold, number, window_means
from convscope.records import Finding, Fix, LayerStats, Severity

SAME_FILTERS = Threshold(0.9, "of the filters", "diagnoses.md, row 10: all pairs of the sampled sixteen", share=True)
LINEAR_PAIRS = Threshold(0.8, "of the pairs", "diagnoses.md, row 11: bottlenecks and separable convolutions stay below", share=True)
START_LOSS = Threshold(3, "times the loss of guessing", "diagnoses.md, row 13")
GROWTH = Threshold(1.0, "octaves a layer", "diagnoses.md, row 13")
SHRINKING = Threshold(
    2.0, "octaves a layer", "derived: PyTorch's default loses 1.3 an ordinary ReLU layer (gain 1/sqrt(6)) and trains all the same"
)
LEAST_DEPTH = Threshold(4, "layers", "diagnoses.md, row 13")
GRADIENT_RATIO = Threshold(1e-3, "of the last layer's", "AutoTrainer's beta_1")
FAINT_SIGNAL = Threshold(1e-3, "spread over images in the last activations", "chosen: three decades below what LSUV aims at")
FIRST_UPDATE = Threshold(1e-6, "of the weight", "diagnoses.md, row 14")
JUMP = Threshold(20, "times the rolling median", "diagnoses.md, row 15")
TOOTH_RISE, TOOTH_FALL = 3.0, 5.0  # diagnoses.md, row 16: growth within 60 steps, fall within 5
COLLAPSED = Threshold(0.95, "of the values near zero", "diagnoses.md, row 16", share=True)
DEAD = Threshold(0.6, "of a layer's channels", "diagnoses.md, row 17; 2 of 83 healthy runs had a layer beyond it", share=True)
DEAD_SAMPLES = 256  # images over which a dead channel is never positive, at every place of each; with the outcome gate few are enough
ALIVE_GRADIENT = 0.01  # of the last layer's, relative to the weights: ten times what counts as vanished
SATURATED = Threshold(0.5, "of the values", "DeepDiagnosis; TheDeepChecker", share=True)

RELU_KINDS = frozenset(
    {
        "relu",
        "relu6",
        "relu_",
        "leaky_relu",
        "leakyrelu",
        "prelu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "hardswish",
        "mish",
        "softplus",
        "hardtanh",
    }
)
CUTTING_KINDS = frozenset({"relu", "relu_", "relu6", "threshold"})
SQUASHING = {
    "tanh": 2.0,
    "sigmoid": 3.0,
    "hardtanh": 1.0,
    "softsign": 16.0,
    "logsigmoid": 4.0,
}  # |x| beyond which the slope is below a tenth (tanh(2) = 0.964, sigmoid(3) = 0.953)


def symmetric_init(view: RunView) -> Finding | None:
    """All filters of a layer are equal and stay equal while they are trained."""
    for newest in view.newest("filters"):
        if newest.step < 20 or number(newest, "filters", 0) < 2 or number(newest, "identical", 0) < view.limit(SAME_FILTERS):
            continue
        looks = view.seen("filters", newest.subject)
        if len(looks) < 2 or number(looks[0], "identical", 0) < view.limit(SAME_FILTERS):
            continue
        layers = [o.subject for o in view.newest("filters") if o.step >= 20 and number(o, "identical", 0) >= view.limit(SAME_FILTERS)]
        return Finding(
            "symmetric_init",
            "problem" if newest.numbers.get("still_moving") is True or view.outcome.bad else "warning",
            newest.subject,
            0,
            f"All filters of layer {newest.subject} began equal and are still equal after {newest.step} steps, so the layer works like a "
            "single filter.",
            Fix("Draw the weights at random (PyTorch's default, or Kaiming) instead of setting them to one value.", {"init": "kaiming"}),
            (
                ev("filters equal to the first", percent(number(newest, "identical"))),
                ev("layers like this", ", ".join(layers[:5])),
                ev("step of the last look", newest.step),
            ),
            "exact: equal filters receive equal gradients and never part (TheDeepChecker)",
        )
    return _began_equal(view)


def _began_equal(view: RunView) -> Finding | None:
    """A hidden layer whose filters began equal and were parted only by their surroundings, in a run that learns poorly."""
    network = view.last("network")
    head = str(network.numbers.get("head")) if network is not None else ""
    first = {o.subject: o for o in reversed(view.seen("filters"))}
    equal = [o for o in first.values() if number(o, "identical", 0) >= view.limit(SAME_FILTERS) and o.subject != head]
    filled = [
        o for o in equal if number(o, "largest", 0) > 0 and number(o, "inputs", 0) > 1
    ]  # not zero, as the end of a residual branch may be
    if not equal or not (view.outcome.bad or view.outcome.poor or filled):
        return None
    name = (filled or equal)[-1].subject
    return Finding(
        "symmetric_init",
        gated(view.outcome, early="warning"),
        name,
        0,
        f"All filters of layer {name} began equal, so for a long time they learn the same thing.",
        Fix("Draw the weights at random (PyTorch's default, or Kaiming) instead of setting them to one value.", {"init": "kaiming"}),
        (ev("layers like this", ", ".join(o.subject for o in reversed(equal[-5:]))), *loss_evidence(view.outcome)),
        "TheDeepChecker",
    )


def missing_nonlinearity(view: RunView) -> Finding | None:
    """Weighted layers that feed each other without an activation function between them."""
    network = view.last("network")
    if network is None or number(network, "pairs", 0) < 1:
        return None
    pairs, linear, active = (number(network, name, 0) for name in ("pairs", "linear_pairs", "active_pairs"))
    if linear < 1 or (linear / pairs <= view.limit(LINEAR_PAIRS) and active > 0):
        return None
    between = str(network.numbers.get("linear_pair") or "")
    return Finding(
        "missing_nonlinearity",
        "problem" if pairs > 1 else "warning",
        between.split(" and ")[0],
        0,
        f"There is no activation function between layers {between}{' and other layers' if linear > 1 else ''}, so together they can do "
        "no more than a single layer.",
        Fix("Put an activation function such as ReLU after every layer but the last.", {"activation": "relu"}),
        (ev("pairs of layers", int(pairs)), ev("without an activation between", int(linear)), ev("with one", int(active))),
        "exact: the operations between weighted layers (UMLAUT)",
    )


def _start(view: RunView) -> list[tuple[str, LayerStats]]:
    """First record of every weighted layer, as long as it shows the first steps."""
    first = [(name, view.layers[name][0]) for name in view.weighted_layers]
    return [(name, record) for name, record in first if record.first_step <= 1 and record.count and math.isfinite(record.std)]


def _slope(values: Sequence[float]) -> float:
    """Least-squares slope of log2 of positive values against their place."""
    points = [(place, math.log2(value)) for place, value in enumerate(values) if value > 0]
    if len(points) < 2:
        return 0.0
    return statistics.linear_regression([p for p, _ in points], [v for _, v in points]).slope


def bad_initial_scale(view: RunView) -> Finding | None:
    """The first loss is far above guessing, or the signal grows or shrinks geometrically with depth before the first step."""
    outcome, start = view.outcome, _start(view)
    stds = [record.std for _, record in start]
    slope = _slope(stds) if len(stds) >= LEAST_DEPTH.value else 0.0
    guessing = max(
        outcome.guessing, math.log(view.classes or 1) * view.loss_unit
    )  # at the start the frequencies of the labels cannot be known
    first_loss = view.losses[0][1] if view.losses and view.losses[0][0] == 0 else math.nan
    high = view.guessing is not None and first_loss > view.limit(START_LOSS) * guessing
    faint = bool(stds) and stds[-1] < view.limit(FAINT_SIGNAL)
    growing, shrinking = slope > view.limit(GROWTH), slope < -view.limit(SHRINKING)
    huge = bool(stds) and max(stds) > 100 and growing
    if not (high or growing or shrinking or faint):
        return None
    severity: Severity = "note"
    if outcome.bad:
        severity = "problem"
    elif outcome.poor or high or (huge and outcome.fair):
        severity = "warning"
    name, _record = start[-1] if start else ("", None)
    way = "grows" if growing or (high and not shrinking) else "shrinks"
    if growing or shrinking or faint:
        message = (
            f"Before the first step the signal {way} from layer to layer ({short(stds[0])} in the first, {short(stds[-1])} in the last), "
            "so its size hides what the images differ in."
        )
    else:
        message = (
            f"The first loss is {short(first_loss)}, where guessing would give {short(guessing)}: the untrained network is "
            "sure of wrong answers, and the first steps must undo that."
        )
    return Finding(
        "bad_initial_scale",
        severity,
        name,
        0,
        message,
        Fix(
            "Draw the weights so that the signal keeps its size (Kaiming for ReLU layers), or add batch normalisation.", {"init": "kaiming"}
        ),
        (
            ev("first loss", first_loss),
            ev("loss of guessing", guessing),
            ev("spread in the first layer", stds[0] if stds else None),
            ev("spread in the last layer", stds[-1] if stds else None),
            ev("change per layer", slope, "octaves"),
        ),
        "Karpathy's recipe; LSUV; He et al. 2015",
    )


def _windows_of(view: RunView, name: str, field: str, size: int) -> list[float]:
    values = [getattr(r, field) for r in view.layers[name] if math.isfinite(getattr(r, field))]
    return window_means(values[-2 * size :], size) if values else []


def vanishing_signal(view: RunView) -> Finding | None:
    """The first layers' gradients are a tiny fraction of the last layers', and the network does not learn."""
    outcome, layers = view.outcome, view.weighted_layers
    if len(layers) < 3 or not outcome.fair:
        return None
    relative = []
    for name in (layers[0], layers[-1]):
        early = [r for r in view.layers[name] if r.first_step < 200]
        values = [r.gradient_rms / r.weight_rms for r in early if math.isfinite(r.gradient_rms) and r.weight_rms > 0]
        relative.append(statistics.median(values) if values else math.nan)
    first, last = relative
    if not (math.isfinite(first) and last > 0 and first / last < view.limit(GRADIENT_RATIO)):
        return None
    ratios = [ratio for _, ratio in view.update_ratios(layers[0])]
    update = statistics.median(ratios) if ratios else math.nan
    severity: Severity = gated(outcome)
    if severity == "note" and not update < view.limit(FIRST_UPDATE):
        return None
    return Finding(
        "vanishing_signal",
        severity,
        layers[0],
        0,
        f"The first layer's gradient is {short(last / first)} times weaker than the last layer's, so the first layers hardly learn."
        if first > 0
        else "No gradient at all reaches the first layer, so it cannot learn.",
        Fix(
            "Use ReLU between layers, add batch normalisation or skip connections, or draw the weights with Kaiming's rule.",
            {"norm": True, "init": "kaiming"},
        ),
        (
            ev("gradient over weight, first layer", first),
            ev("gradient over weight, last layer", last),
            ev("update over weight, first layer", update),
            *loss_evidence(outcome),
        ),
        "Glorot and Bengio 2010; AutoTrainer",
    )


def exploding_gradients(view: RunView) -> Finding | None:
    """The gradient's size leaps again and again to many times its recent median, and the run suffers."""
    norms = [(s.first_step, s.gradient_norm.maximum) for s in view.steps if s.gradient_norm is not None]
    outcome = view.outcome
    if len(norms) < 10:
        return None
    jumps: list[int] = []
    recent: list[float] = []
    for step, norm in norms:
        typical = statistics.median(recent[-20:]) if len(recent) >= 5 else math.nan
        if not math.isfinite(norm) or (math.isfinite(typical) and typical > 0 and norm > view.limit(JUMP) * typical):
            jumps.append(step)
        if math.isfinite(norm):
            recent.append(norm)
    crowded = [step for at, step in enumerate(jumps) if at + 2 < len(jumps) and jumps[at + 2] - step <= 20]
    if not crowded or not (outcome.bad or outcome.poor):
        return None
    finite = [norm for _, norm in norms if math.isfinite(norm)]
    lr = view.learning_rates[-1][1] if view.learning_rates else math.nan
    change: dict[str, object] = {"clip": 1.0, **({"lr": lr / 3} if lr > 0 else {})}
    return Finding(
        "exploding_gradients",
        "problem" if outcome.bad else "warning",
        "",
        crowded[0],
        f"From step {crowded[0]} on the gradient leaps to more than {short(view.limit(JUMP))} times its usual size again and again, and "
        "each leap throws the weights off.",
        Fix("Limit the gradient's size (clip_grad_norm_ with 1.0), and lower the learning rate.", change),
        (
            ev("leaps", len(jumps)),
            ev("greatest gradient", max(finite) if finite else None),
            ev("usual gradient", statistics.median(finite) if finite else None),
            *loss_evidence(outcome),
        ),
        "AutoTrainer; TheDeepChecker; Pascanu et al. 2013",
    )


def _teeth(records: Sequence[LayerStats]) -> list[int]:
    """Steps at which a layer's spread, after growing at least threefold within 60 records, falls at least fivefold within 5."""
    stds = [r.std if math.isfinite(r.std) else 0.0 for r in records]
    teeth: list[int] = []
    for at in range(6, len(stds)):
        top = max(stds[at - 5 : at])
        if top <= 0 or stds[at] * TOOTH_FALL > top or (teeth and records[at].first_step - teeth[-1] < 10):
            continue
        before = [s for s in stds[max(0, at - 65) : at - 4] if s > 0]
        if before and min(before) * TOOTH_RISE < top:
            teeth.append(records[at].first_step)
    return teeth


def activation_collapse_cycles(view: RunView) -> Finding | None:
    """A layer's activations grow, crash to almost nothing and start again; or they crashed and stay there."""
    outcome = view.outcome
    teeth = {name: found for name in view.layers if (found := _teeth(view.layers[name]))}
    collapsed = [name for name in view.weighted_layers[:-1] or () if _stays_collapsed(view, name)]
    cycles = len(teeth) >= 2 or any(len(found) >= 2 for found in teeth.values())
    if not cycles and not (collapsed and outcome.bad):
        return None
    if teeth:
        where, step = min(((name, found[0]) for name, found in teeth.items()), key=lambda item: item[1])
    else:
        where, step = collapsed[0], _collapse_step(view, collapsed[0])
    severity: Severity = gated(outcome)
    if severity == "note":
        return None  # a spike that recovers
    count = sum(len(found) for found in teeth.values())
    lr = max((rate for _, rate in view.learning_rates), default=math.nan)
    message = (
        f"From step {step} on the activations of layer {where} grow, crash to almost nothing and start again, which throws away what was "
        "learned."
        if cycles
        else f"From step {step} on nearly all activations of layer {where} are close to zero, so hardly anything passes through it."
    )
    return Finding(
        "activation_collapse_cycles",
        severity,
        where,
        step,
        message,
        Fix(
            "Lower the learning rate to a tenth, raise it slowly at the start (1cycle), and add batch normalisation.",
            {"norm": True, "schedule": "one_cycle", **({"lr": lr / 10} if lr > 0 else {})},
        ),
        (ev("crashes", count), ev("layers that crash", len(teeth)), ev("layers near zero", len(collapsed)), *loss_evidence(outcome)),
        "fastai's colour_dim, lesson notebook 10",
    )


def _stays_collapsed(view: RunView, name: str) -> bool:
    records = view.layers[name]
    recent = [r.share_near_zero for r in records[-20:] if r.sample_count]
    early = [r.std for r in records[:5] if math.isfinite(r.std)]
    late = [r.std for r in records[-20:] if math.isfinite(r.std)]
    if not recent or not early or not late:
        return False
    return min(recent) > view.limit(COLLAPSED) and statistics.median(late) < statistics.median(early) / TOOTH_FALL


def _collapse_step(view: RunView, name: str) -> int:
    records = view.layers[name]
    for at in range(len(records) - 1, -1, -1):
        if records[at].sample_count and records[at].share_near_zero <= view.limit(COLLAPSED):
            return records[min(at + 1, len(records) - 1)].first_step
    return records[0].first_step


def recent_never_positive(records: Sequence[LayerStats]) -> tuple[int, int, int]:
    """(channels never positive, channels, images looked at) over the newest records that together saw enough images."""
    images, mask, channels = 0, 0, 0
    for record in reversed(records):
        if not record.channels or not record.positive_samples:
            continue
        channels = channels or record.channels
        mask |= int.from_bytes(record.positive, "little")
        images += record.positive_samples
        if images >= DEAD_SAMPLES:
            break
    return channels - (mask & ((1 << channels) - 1)).bit_count(), channels, images


def carries_signal(view: RunView) -> bool:
    """Whether, at the end, the first layer still gets a gradient worth the name and no ReLU layer is dead throughout."""
    ends = []
    for name in view.weighted_layers[:1] + view.weighted_layers[-1:]:
        values = [r.gradient_rms / r.weight_rms for r in view.layers[name][-40:] if math.isfinite(r.gradient_rms) and r.weight_rms > 0]
        ends.append(statistics.median(values) if values else 0.0)
    if len(ends) < 2 or not ends[0] > ALIVE_GRADIENT * ends[1] or ends[1] == 0:
        return False
    cutting = [records for records in view.layers.values() if records[-1].kind.lower() in CUTTING_KINDS]
    counts = [recent_never_positive(records) for records in cutting]
    return all(dead < channels for dead, channels, _ in counts if channels)


def dead_units(view: RunView) -> Finding | None:
    """Channels of a ReLU layer that were not positive once in hundreds of images, and a run that goes badly."""
    outcome = view.outcome
    worst: tuple[float, str, int, int, int] | None = None
    for name, records in view.layers.items():
        if records[-1].kind.lower() not in CUTTING_KINDS:
            continue
        dead, channels, images = recent_never_positive(records)
        if channels < 2 or images < DEAD_SAMPLES or dead / channels < view.limit(DEAD):
            continue
        if worst is None or dead / channels > worst[0]:
            worst = (dead / channels, name, dead, channels, images)
    if worst is None:
        return None
    share, name, dead, channels, images = worst
    severity: Severity = gated(outcome)
    if share == 1.0 and outcome.fair and severity == "warning":
        severity = "problem"
    since = _dead_since(view.layers[name], dead)
    lr = max((rate for _, rate in view.learning_rates), default=math.nan)
    return Finding(
        "dead_units",
        severity,
        name,
        since,
        f"{dead} of the {channels} channels of layer {name} have not been above zero once in {images} images: they pass nothing on and "
        "can no longer learn.",
        Fix(
            "Train again with a third of the learning rate and Kaiming's initial weights, or use LeakyReLU.",
            {"init": "kaiming", **({"lr": lr / 3} if lr > 0 else {})},
        ),
        (ev("dead channels", dead), ev("channels", channels), ev("images looked at", images), *loss_evidence(outcome)),
        "per channel, never positive over many images (SageMaker DeadRelu, TheDeepChecker)",
    )


def _dead_since(records: Sequence[LayerStats], dead: int) -> int:
    """First step from which on the number of channels without a positive value never fell below `dead`."""
    since = records[-1].first_step
    for record in reversed(records):
        if record.channels and len(record.never_positive) < dead:
            break
        since = record.first_step
    return since


def saturated_units(view: RunView) -> Finding | None:
    """Most inputs of a tanh or sigmoid layer lie where its slope is almost zero."""
    outcome, names = view.outcome, list(view.layers)
    worst: tuple[float, str, float] | None = None
    for before, name in itertools.pairwise(names):
        limit = SQUASHING.get(view.layers[name][-1].kind.lower())
        if limit is None:
            continue
        shares = [beyond(record, limit) for record in view.layers[before][-20:] if record.sample_count]
        share = min(window_means(shares, 10)) if shares else 0.0
        if share > view.limit(SATURATED) and (worst is None or share > worst[0]):
            worst = (share, name, limit)
    if worst is None:
        return None
    share, name, limit = worst
    lr = max((rate for _, rate in view.learning_rates), default=math.nan)
    return Finding(
        "saturated_units",
        gated(outcome),
        name,
        0,
        f"{percent(share)} of what enters layer {name} lies beyond ±{short(limit)}, where its curve is flat, so those units hardly react "
        "and hardly learn.",
        Fix(
            "Normalise the images, draw smaller weights at the start, lower the learning rate, or use ReLU.",
            {"norm": True, **({"lr": lr / 10} if lr > 0 else {})},
        ),
        (ev("inputs in the flat part", percent(share)), ev("beyond", limit), *loss_evidence(outcome)),
        "Glorot and Bengio 2010; DeepDiagnosis; TheDeepChecker",
    )


def beyond(record: LayerStats, limit: float) -> float:
    """Share of a record's finite looked-at values with |x| >= limit, by whole histogram bins (edges at powers of two and halfway between)."""
    octave = math.floor(math.log2(limit))
    first_bin = 2 * (octave + 126) + (1 if limit <= 2.0**octave else 2)
    total = record.histogram.total
    outside = sum(count for index, count in enumerate(record.histogram.counts, record.histogram.first) if abs(index) >= first_bin)
    return outside / total if total else 0.0


RULES = (
    Rule("symmetric_init", symmetric_init, True, ("filters",), least_steps=20),
    Rule("missing_nonlinearity", missing_nonlinearity, True, ("network",)),
    Rule("bad_initial_scale", bad_initial_scale, False, ("loss", "layers")),
    Rule("vanishing_signal", vanishing_signal, False, ("loss", "layers"), least_steps=50),
    Rule("exploding_gradients", exploding_gradients, False, ("loss", "gradient norm"), least_steps=10),
    Rule("activation_collapse_cycles", activation_collapse_cycles, False, ("loss", "layers"), least_steps=20),
    Rule("dead_units", dead_units, False, ("loss", "layers")),
    Rule("saturated_units", saturated_units, False, ("loss", "layers")),
)
