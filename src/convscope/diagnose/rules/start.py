"""Rules on how a run begins: equal filters, layers without an activation between, and a signal that is too large, too small or fades on its way.

Receives a RunView, returns one Finding or None per rule. The first two are exact; the others need a bad outcome to be more than a note.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from convscope.diagnose.rule import Rule, ev, gated, loss_evidence, percent, short
from convscope.diagnose.rules.layers import (
    GATED,
    LONG_WAIT,
    START_RECORDS,
    USUAL_RATIO,
    drawn_gain,
    holds_a_layer,
    is_a_table,
    is_squashing,
    kind_of,
    relative_gradient,
    waited,
)
from convscope.diagnose.rules.targets import USUAL_RATIOS, far_targets
from convscope.diagnose.view import LEARNED, RunView, Threshold, number
from convscope.records import Finding, Fix, LayerStats, Observation, Severity

SAME_FILTERS = Threshold(0.9, "of the filters", "diagnoses.md, row 10: all pairs of the sampled sixteen", share=True)
MANY_STEPS = 20  # after which filters that began equal and learn have parted, even in a warm-up (diagnoses.md, row 10)
LINEAR_PAIRS = Threshold(0.8, "of the pairs", "diagnoses.md, row 11: bottlenecks and separable convolutions stay below", share=True)
START_LOSS = Threshold(3, "times the loss of guessing", "diagnoses.md, row 13", excess=True)
START_ERROR = Threshold(100, "times the targets' variance", "chosen: an ordinary start misses by one to three times it", excess=True)
GROWTH = Threshold(1.0, "octaves a layer", "diagnoses.md, row 13")
SHRINKING = Threshold(
    2.0, "octaves a layer", "derived: PyTorch's default loses 1.3 an ordinary ReLU layer (gain 1/sqrt(6)) and trains all the same"
)
SMALL_GAIN = Threshold(0.2, "of what enters a layer", "derived: a third of PyTorch's default 0.58, a seventh of Kaiming's 1.41")
LARGE_GAIN = Threshold(4, "times what enters a layer", "derived: three times Kaiming's 1.41", excess=True)
WIDE_DRAW = 2.0  # times what enters a layer: well above Kaiming's 1.41, so that a far start is the draw's doing and not a fresh head's
LEAST_DEPTH = Threshold(4, "layers", "diagnoses.md, row 13")
GRADIENT_RATIO = Threshold(1e-3, "of the last layer's", "AutoTrainer's beta_1")
FAINT_SIGNAL = Threshold(1e-3, "spread over images in the last activations", "chosen: three decades below what LSUV aims at")
SOON = 50  # steps
NO_GATES = "Use an LSTM or GRU, draw the recurrent weights orthogonally (nn.init.orthogonal_), or"
FIRST_UPDATE = Threshold(1e-6, "of the weight", "diagnoses.md, row 14")
NEW_WEIGHTS = {
    "init": "kaiming_normal",
    "schedule": "one_cycle",
}  # Kaiming's are larger than PyTorch's default: the first steps must be small
RANDOM_WEIGHTS = Fix(
    "Draw the weights at random (PyTorch's default, or Kaiming) instead of setting them to one value, and let the learning rate rise slowly at the "
    "start (1cycle).",
    dict(NEW_WEIGHTS),
)


def symmetric_init(view: RunView) -> Finding | None:
    """All filters of a layer are equal and stay equal while they are trained."""
    for newest in view.newest("filters"):
        if number(newest, "filters", 0) < 2 or not _stayed_equal(view, newest):
            continue
        looks = view.seen("filters", newest.subject)
        if len(looks) < 2 or number(looks[0], "identical", 0) < view.limit(SAME_FILTERS):
            continue
        layers = [o.subject for o in view.newest("filters") if _stayed_equal(view, o)]
        return Finding(
            "symmetric_init",
            "problem" if newest.step < MANY_STEPS or newest.numbers.get("still_moving") is True or view.outcome.bad else "warning",
            newest.subject,
            0,
            f"All filters of layer {newest.subject} began equal and are still equal after {newest.step} steps, so the layer works like a "
            "single filter.",
            RANDOM_WEIGHTS,
            (
                ev("filters equal to the first", percent(number(newest, "identical"))),
                ev("layers like this", ", ".join(layers[:5])),
                ev("step of the last look", newest.step),
            ),
            "exact: equal filters receive equal gradients and never part (TheDeepChecker)",
        )
    return _began_equal(view)


def _stayed_equal(view: RunView, look: Observation) -> bool:
    """Whether a layer's filters are equal after twenty steps; before that, whether they have gone the same way, or are zero and get no gradient."""
    if look.step >= MANY_STEPS:
        return number(look, "identical", 0) >= view.limit(SAME_FILTERS)
    rests = look.step > 0 and number(look, "largest") == 0 and look.numbers.get("still_moving") is False
    stuck = rests and any(record.gradient_rms == 0 for record in view.layers.get(look.subject, ()))
    return stuck or number(look, "together", 0) >= view.limit(SAME_FILTERS)


def _began_equal(view: RunView) -> Finding | None:
    """A hidden layer whose filters began equal and were parted only by their surroundings, in a run that learns poorly."""
    network = view.last("network")
    head = str(network.numbers.get("head")) if network is not None else ""
    first = {o.subject: o for o in reversed(view.seen("filters")) if not holds_a_layer(view, o.subject)}
    equal = [o for o in first.values() if number(o, "identical", 0) >= view.limit(SAME_FILTERS) and o.subject != head]
    filled = [
        o for o in equal if number(o, "largest", 0) > 0 and number(o, "inputs", 0) > 1
    ]  # not zero, as the end of a residual branch may be
    everywhere = len(equal) > 1 and len(equal) == sum(o.subject != head for o in first.values())  # then no branch goes around
    if not equal or not (view.outcome.bad or view.outcome.poor or filled or everywhere):
        return None
    name = (filled or equal)[-1].subject
    return Finding(
        "symmetric_init",
        gated(view.outcome, early="warning"),
        name,
        0,
        f"All filters of layer {name} began equal, so for a long time they learn the same thing.",
        RANDOM_WEIGHTS,
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
    """First record of every layer with weights, as long as it shows the first steps; tables of embeddings, which stand side by side, and zeros are none."""
    first = [
        (name, view.layers[name][0]) for name in view.weighted_layers if not is_a_table(view, name) and view.layers[name][0].weight_rms != 0
    ]
    return [(name, record) for name, record in first if record.first_step <= 1 and record.count and math.isfinite(record.std)]


def _slope(values: Sequence[float]) -> float:
    """Least-squares slope of log2 of positive values against their place."""
    points = [(place, math.log2(value)) for place, value in enumerate(values) if value > 0]
    if len(points) < 2:
        return 0.0
    return statistics.linear_regression([p for p, _ in points], [v for _, v in points]).slope


def bad_initial_scale(view: RunView) -> Finding | None:
    """The first loss is far above guessing, weights are drawn so that the signal grows or shrinks geometrically with depth, or targets lie far off."""
    return far_targets(view) or _far_start(view)


def _far_start(view: RunView) -> Finding | None:
    outcome, stds = view.outcome, [record.std for _, record in _start(view)]
    slope = _slope(stds) if len(stds) >= LEAST_DEPTH.value else 0.0
    guessing = max(
        outcome.guessing, math.log(view.classes or 1) * view.loss_unit
    )  # at the start the frequencies of the labels cannot be known
    first_loss = _first_loss(view)
    high = first_loss > view.limit(START_LOSS) * guessing if view.guessing is not None else _misses_by_far(view)
    gain = math.nan if _normalises(view) else drawn_gain(view)
    faint = bool(stds) and stds[-1] < view.limit(FAINT_SIGNAL)
    weak = gain < view.limit(SMALL_GAIN) and not is_squashing(view) and (outcome.bad or outcome.poor)
    strong = gain > view.limit(LARGE_GAIN) and (outcome.bad or outcome.poor)
    growing, shrinking = slope > view.limit(GROWTH), slope < -view.limit(SHRINKING)
    if not (high or growing or shrinking or faint or weak or strong):
        return None
    severity: Severity = "note"
    soon = _soon_overcome(view)
    if outcome.bad:
        severity = "problem"
    elif (outcome.poor and not soon) or (high and (gain > WIDE_DRAW or not soon)) or (growing and max(stds) > 100 and outcome.fair):
        severity = "warning"
    if growing or shrinking or faint:
        way = "grows" if growing else "shrinks"
        message = (
            f"Before the first step the signal {way} from layer to layer ({short(stds[0])} in the first, {short(stds[-1])} in the last), "
            "so its size hides what the images differ in."
        )
    elif high:
        message = (
            f"The first loss is {short(first_loss)}, where guessing would give {short(guessing)}: the untrained network is "
            f"{'sure of wrong answers' if view.guessing is not None else 'far off with every answer'}, and the first steps must undo that."
        )
    else:
        message = (
            f"The weights began so {'small' if weak else 'large'} that each layer hands on about {short(gain)} times what it receives "
            "(0.5 to 1.5 is usual), so its size hides what the images differ in."
        )
    return Finding(
        "bad_initial_scale",
        severity,
        view.weighted_layers[-1] if view.weighted_layers else "",
        0,
        message,
        Fix(
            "Draw the weights so that the signal keeps its size (Kaiming for ReLU layers) and let the learning rate rise slowly at the start "
            "(1cycle), or add batch normalisation.",
            dict(NEW_WEIGHTS),
        ),
        (
            ev("first loss", first_loss),
            ev("loss of guessing", guessing),
            ev("spread in the first layer", stds[0] if stds else None),
            ev("spread in the last layer", stds[-1] if stds else None),
            ev("change per layer", slope, "octaves"),
            ev("weights as drawn: a layer hands on", gain, "of what it receives"),
        ),
        "Karpathy's recipe; LSUV; He et al. 2015",
    )


def _first_loss(view: RunView) -> float:
    """The loss at step 0; of a sum with other terms (a teacher's answers, a penalty) the cross-entropy alone, which guessing is compared with."""
    if not view.losses or view.losses[0][0] != 0:
        return math.nan
    parts = [number(o, "loss") for o in view.seen("loss_input") if o.step == 0 and o.subject in ("cross_entropy", "nll_loss")]
    return min([view.losses[0][1], *(part for part in parts if math.isfinite(part))])


def _misses_by_far(view: RunView) -> bool:
    """Whether the first answers, where these are amounts, missed by many times what always answering with the mean would."""
    constant = view.constant_answer
    return constant is not None and _first_loss(view) > view.limit(START_ERROR) * constant


def _soon_overcome(view: RunView) -> bool:
    """Whether the loss was soon below that of guessing: a fresh head on trained layers may begin far off, and is right after a few steps."""
    losses = [loss for at, loss in view.losses if at < SOON]
    below = LEARNED * view.outcome.guessing
    return any(statistics.fmean(losses[at : at + 5]) < below for at in range(len(losses) - 4))


def _normalises(view: RunView) -> bool:
    """Whether batch normalisation takes the scale of weights away."""
    network = view.last("network")
    return network is not None and number(network, "batch_norms", 0) > 0


def vanishing_signal(view: RunView) -> Finding | None:
    """The first layers' gradients are a tiny fraction of the last layers', and the network does not learn; or nothing passes through time for long."""
    return _fading_with_depth(view) or _fading_in_time(view)


def _fading_in_time(view: RunView) -> Finding | None:
    """A recurrent network that is no better than guessing for a good part of a run that ends poorly, although its steps have a usual size."""
    share, layer = waited(view)
    ratios = [ratio for _, ratio in view.median_ratios]
    if share < view.limit(LONG_WAIT) or not ratios or not USUAL_RATIOS[0] < statistics.median(ratios) < USUAL_RATIOS[1]:
        return None
    in_gates = kind_of(view.layers[layer]) in GATED
    if in_gates and statistics.median(ratios) < USUAL_RATIO:
        return None  # what gates keep does not fade: the steps are small
    return Finding(
        "vanishing_signal",
        "warning",
        layer,
        0,
        f"For the first {percent(share)} of the training the answers were no better than guessing, although the steps had a usual size: what layer "
        f"{layer} reads early in a sequence fades before the end.",
        Fix(
            f"{'Begin with forget gates that are open (their bias at 1), and' if in_gates else NO_GATES} answer from the mean over all steps instead of from "
            "the last one alone."
        ),
        (
            ev("without progress", percent(share)),
            ev("update over weight, median", statistics.median(ratios)),
            *loss_evidence(view.outcome),
        ),
        "Pascanu et al. 2013; Le et al. 2015",
    )


def _fading_with_depth(view: RunView) -> Finding | None:
    """The gradient of the first layer is next to nothing beside the last one's; a table of embeddings is none, as most of its rows rest at each step."""
    outcome = view.outcome
    layers = [name for name in view.weighted_layers if not is_a_table(view, name)]
    if len(layers) < 3 or not outcome.fair:
        return None
    ends = [view.layers[layers[0]], view.layers[layers[-1]]]
    limit = view.limit(GRADIENT_RATIO)
    very_first, start = ([relative_gradient(records[:count]) for records in ends] for count in (1, START_RECORDS))
    from_start = (
        very_first[0] < limit * very_first[1] and start[0] < limit * start[1]
    )  # a head of zeros passes nothing on in the very first
    from_start = from_start or (is_squashing(view) and not _normalises(view) and drawn_gain(view) < view.limit(SMALL_GAIN))
    first, last = (relative_gradient(r for r in records if r.first_step < 200) for records in ends)
    if not (math.isfinite(first) and last > 0 and first < limit * last) and not from_start:
        return None
    first, last = start if from_start else (first, last)
    ratios = [ratio for _, ratio in view.update_ratios(layers[0])]
    update = statistics.median(ratios) if ratios else math.nan
    severity: Severity = gated(outcome)
    if severity == "note" and not update < view.limit(FIRST_UPDATE):
        return None
    return Finding(
        "vanishing_signal",
        severity,
        layers[0],
        0 if from_start else START_RECORDS,
        f"The first layer's gradient (what tells it how to change) is {short(last / first)} times weaker than the last layer's, so the "
        "first layers hardly learn."
        if first > 0
        else "No gradient (what tells a layer how to change) reaches the first layer, so it cannot learn.",
        Fix(
            "Use ReLU between layers, add batch normalisation or skip connections, or draw the weights with Kaiming's rule.",
            {"norm": True, "init": "kaiming_normal", "activation": "relu"}
            if is_squashing(view)
            else {"norm": True, "init": "kaiming_normal"},
        ),
        (
            ev("gradient over weight, first layer", first),
            ev("gradient over weight, last layer", last),
            ev("update over weight, first layer", update),
            *loss_evidence(outcome),
        ),
        "Glorot and Bengio 2010; AutoTrainer",
    )


RULES = (
    Rule("symmetric_init", symmetric_init, True, ("filters",), least_steps=5),
    Rule("missing_nonlinearity", missing_nonlinearity, True, ("network",)),
    Rule("bad_initial_scale", bad_initial_scale, False, ("loss", "layers")),
    Rule("vanishing_signal", vanishing_signal, False, ("loss", "layers"), least_steps=50),
)
