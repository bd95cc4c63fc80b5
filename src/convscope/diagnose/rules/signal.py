"""Rules on the signal inside the network while it trains: gradients that leap, activations that crash, units that carry nothing.

Receives a RunView, returns one Finding or None per rule. All are statistical: unusual figures alone are a note. A finding whose step is 0 was there
before training could bring it about.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from convscope.diagnose.changes import rounded
from convscope.diagnose.ranking import CRASHES
from convscope.diagnose.rule import Rule, ev, gated, loss_evidence, percent, short
from convscope.diagnose.rules.layers import (
    ALL_ZERO,
    COLLAPSED,
    CRASH,
    CUTTING_KINDS,
    DEAD,
    DEAD_SAMPLES,
    beyond,
    died_widely,
    is_a_tanh,
    kind_of,
    rate_instead,
    recent_never_positive,
    squashed_layers,
    stays_collapsed,
)
from convscope.diagnose.view import RunView, Threshold, window_means
from convscope.records import Finding, Fix, LayerStats, Severity

JUMP = Threshold(20, "times the rolling median", "diagnoses.md, row 15")
COME_BACK = Threshold(100, "steps", "diagnoses.md: a spike that the loss recovers from within about 100 steps is healthy")
CALM_STEPS, AT_ONCE, THROWN = 10, 6, 1.5  # steps that give a level; steps after the leap; times the loss that leapt
SUMMED = Threshold(3, "times the mean over the batch", "chosen: class weights and label smoothing change a loss by less")
TOOTH_RISE = 3.0  # diagnoses.md, row 16: growth within 60 steps, before a fall within 5
TOOTH_STEPS = 5  # from the top to the bottom
ONE_EVENT = 40  # steps within which several crashes are one
LEARNED_WELL = Threshold(0.1, "of the loss of guessing", "chosen: units that are flat from the start plainly do no harm", share=True)
HARDLY = 0.8  # of the loss of guessing: below it, a loss that still falls is on a good way
CUT_OFF = 20  # steps in a row without any gradient
BEGAN_DEAD = 0.9  # of a layer's values: an ordinary start gives half
LONG_PLATEAU = Threshold(0.25, "of the run", "chosen: nine of ten healthy runs of the benchmark are off it after 0.18")
STILL_THERE = 0.9  # of the first loss
FLAT_SQUARE = 0.93  # tanh(2) squared: beyond it the slope is less than a tenth
BELOW_SQUARE = 0.19  # mean square of values spread evenly between -0.75 and 0.75
SATURATED = Threshold(0.5, "of the values", "DeepDiagnosis; TheDeepChecker", share=True)


def exploding_gradients(view: RunView) -> Finding | None:
    """The gradient's size leaps again and again to many times its recent median, and the run suffers."""
    norms = [(s.first_step, s.gradient_norm.maximum) for s in view.steps if s.gradient_norm is not None]
    outcome = view.outcome
    if view.loss_unit > view.limit(SUMMED) and (outcome.bad or outcome.poor):
        return _summed(view)
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
    if not crowded:
        return None
    thrown = outcome.now > view.limit(LEARNED_WELL) * outcome.guessing and _thrown_back(view, crowded[0])
    if not (outcome.bad or outcome.poor or thrown):
        return None
    if not thrown and not outcome.bad and jumps[-1] - crowded[0] < ONE_EVENT and _regained(view, crowded[0]):
        return None
    finite = [norm for _, norm in norms if math.isfinite(norm)]
    change = {"clip_norm": 1.0, **rate_instead(view, 3)}
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


def _thrown_back(view: RunView, step: int) -> bool:
    """Whether a step threw the loss up further and the level before it was not met again within a hundred steps.

    Where the samples change, the loss is highest at once and falls from there.
    """
    before = [loss for at, loss in view.losses if step - CALM_STEPS <= at < step]
    after = [loss for at, loss in view.losses if at >= step]
    if len(before) < CALM_STEPS or len(after) < CALM_STEPS + AT_ONCE:
        return False
    level, given = statistics.fmean(before), min(len(after), view.limit(COME_BACK))
    back = next((at for at in range(CALM_STEPS, len(after) + 1) if statistics.fmean(after[at - CALM_STEPS : at]) <= level), math.inf)
    return max(after[1:AT_ONCE]) > THROWN * max(after[0], level) and back > given and given >= COME_BACK.value / 2


def _summed(view: RunView) -> Finding:
    """A loss that is many times the mean over the images multiplies every gradient with it."""
    unit, outcome = view.loss_unit, view.outcome
    lr = max((rate for _, rate in view.learning_rates), default=math.nan)
    return Finding(
        "exploding_gradients",
        gated(outcome),
        "",
        0,
        f"The loss is {short(unit)} times the mean over the images (a sum, or multiplied by a number), and so is every gradient, so each "
        "step is that much too long.",
        Fix(
            "Let the loss be the mean over the batch (reduction='mean'), or divide the learning rate by the same number.",
            _divided(lr, unit),
        ),
        (ev("loss over the mean loss per image", unit), ev("learning rate", lr), *loss_evidence(outcome)),
        "exact: the loop's loss over plain cross-entropy of the same answers",
    )


def _divided(lr: float, unit: float) -> dict[str, float]:
    return {"lr": rounded(lr / unit)} if lr > 0 else {}


def _teeth(records: Sequence[LayerStats]) -> list[int]:
    """Steps at which a layer's spread, after growing at least threefold within 60 records, falls at least fivefold within 5."""
    stds = [r.std if math.isfinite(r.std) else 0.0 for r in records]
    teeth: list[int] = []
    for at in range(6, len(stds)):
        top = max(stds[at - 5 : at])
        if top <= 0 or stds[at] * CRASH > top or (teeth and records[at].first_step - teeth[-1] < 10):
            continue
        before = [s for s in stds[max(0, at - 65) : at - 4] if s > 0]
        if before and min(before) * TOOTH_RISE < top:
            teeth.append(records[at].first_step)
    return teeth


def activation_collapse_cycles(view: RunView) -> Finding | None:
    """A layer's activations grow, crash to almost nothing and start again; or they crashed and stay there."""
    outcome = view.outcome
    teeth = {name: found for name in view.layers if (found := _teeth(view.layers[name]))}
    collapsed = [name for name in view.weighted_layers[:-1] or () if stays_collapsed(view, name)]
    cycles = len(teeth) >= 2 or any(len(found) >= 2 for found in teeth.values())
    if not cycles and not (collapsed and outcome.bad):
        return None
    if cycles:
        where, step = min(((name, found[0]) for name, found in teeth.items()), key=lambda item: item[1])
    else:
        where, step = collapsed[0], _collapse_step(view, collapsed[0])
    severity: Severity = gated(outcome)
    if severity == "note" or (not outcome.bad and view.falling and outcome.now < HARDLY * outcome.guessing):
        return None  # a spike that recovers
    crashes = [at for found in teeth.values() for at in found]
    if not outcome.bad and crashes and max(crashes) - min(crashes) < ONE_EVENT and _regained(view, min(crashes)):
        return None  # several layers at one time, and what was learned before is there again
    count, most = sum(len(found) for found in teeth.values()), max((len(found) for found in teeth.values()), default=0)
    lower = rate_instead(view, 10)
    if not cycles:
        message = f"From step {step} on nearly all activations of layer {where} are close to zero, so hardly anything passes through it."
    elif collapsed and most == 1:
        message = (
            f"At step {step} the activations of layer {where}, which had grown, crash to almost nothing, and they do not come back: nearly all of "
            f"layer {collapsed[0]} is close to zero since then."
        )
    else:
        message = (
            f"From step {step} on the activations of layer {where} grow, crash to almost nothing and start again, which throws away what was "
            "learned."
        )
    return Finding(
        "activation_collapse_cycles",
        severity,
        where,
        step,
        message,
        Fix(
            f"Lower the learning rate{_about('to', lower)}, raise it slowly at the start (1cycle), and add batch normalisation.",
            {"norm": True, "schedule": "one_cycle", **lower},
        ),
        (
            ev("crashes", count),
            ev(CRASHES, most),
            ev("layers that crash", len(teeth)),
            ev("layers near zero", len(collapsed)),
            *loss_evidence(outcome),
        ),
        "fastai's colour_dim, lesson notebook 10",
    )


def _about(word: str, rate: dict[str, float]) -> str:
    return f" {word} about {short(rate['lr'])}" if rate else ""


def _regained(view: RunView, step: int) -> bool:
    """Whether the loss is now no higher than it was just before a step."""
    before = [loss for at, loss in view.losses if step - ONE_EVENT <= at < step - TOOTH_STEPS]
    return bool(before) and view.loss_now <= statistics.fmean(before)


def _collapse_step(view: RunView, name: str) -> int:
    """First step from which on most of the values stay near zero; single looks at more do not count."""
    seen = [r for r in view.layers[name] if r.sample_count]
    near = [r.share_near_zero > view.limit(COLLAPSED) for r in seen]
    for end in range(len(seen), 0, -1):
        if 2 * sum(near[max(0, end - 20) : end]) <= min(end, 20):
            return next((r.first_step for r, is_near in zip(seen[max(0, end - 20) :], near[max(0, end - 20) :], strict=True) if is_near), 0)
    return seen[0].first_step


def dead_units(view: RunView) -> Finding | None:
    """Channels of a ReLU layer that were not positive once in hundreds of images, and a run that goes badly."""
    outcome = view.outcome
    worst: tuple[float, str, int, int, int] | None = None
    for name, records in view.layers.items():
        if kind_of(records) not in CUTTING_KINDS:
            continue
        dead, channels, images = recent_never_positive(records)
        if channels < 2 or images < DEAD_SAMPLES or dead / channels < view.limit(DEAD):
            continue
        if worst is None or dead / channels > worst[0]:
            worst = (dead / channels, name, dead, channels, images)
    cut_off = _cut_off(view) or _began_dead(view)
    if worst is None or (cut_off is not None and gated(outcome) == "note"):
        return cut_off
    share, name, dead, channels, images = worst
    severity: Severity = gated(outcome, early="warning" if died_widely(view) else "note")
    if share == 1.0 and outcome.fair and severity == "warning":
        severity = "problem"
    since = _dead_since(view.layers[name], dead, share)
    return Finding(
        "dead_units",
        severity,
        name,
        since,
        f"{dead} of the {channels} channels of layer {name} have not been above zero once in {images} images: they pass nothing on and "
        "can no longer learn.",
        _new_weights(view, since),
        (ev("dead channels", dead), ev("channels", channels), ev("images looked at", images), *loss_evidence(outcome)),
        "per channel, never positive over many images (SageMaker DeadRelu, TheDeepChecker)",
    )


def _new_weights(view: RunView, since: int) -> Fix:
    """Units that died in training were killed by steps too large; units that began dead only need other weights."""
    lower = rate_instead(view, 3) if since > 0 else {}
    return Fix(
        f"Train again with Kaiming's initial weights and a learning rate{_about('of', lower)} that rises slowly at the start (1cycle), or use LeakyReLU.",
        {"init": "kaiming_normal", "schedule": "one_cycle", **lower},
    )


def _cut_off(view: RunView) -> Finding | None:
    """No gradient at all reaches the layers before some layer, step after step, in a run that goes badly."""
    names, outcome = view.weighted_layers, view.outcome
    recent = {name: [r.gradient_rms for r in view.layers[name][-CUT_OFF:] if math.isfinite(r.gradient_rms)] for name in names}
    silent = [name for name in names if len(recent[name]) == CUT_OFF and max(recent[name]) == 0]
    if len(silent) < 2 or silent != list(names[: len(silent)]) or len(silent) == len(names):
        return None
    if not outcome.fair or not outcome.now > view.limit(LEARNED_WELL) * outcome.guessing:
        return None  # nothing is left to learn
    name = names[len(silent)]
    since = next((r.first_step for r in view.layers[silent[-1]] if r.gradient_rms == 0), 0)
    return Finding(
        "dead_units",
        gated(outcome, early="warning"),
        name,
        max(since, 1),
        f"No gradient (what tells a layer how to change) passes layer {name} any more: the {len(silent)} layers before it stand still, because what "
        "they hand on is cut to zero for every image.",
        _new_weights(view, max(since, 1)),
        (ev("layers without a gradient", len(silent)), ev("steps in a row", CUT_OFF), *loss_evidence(outcome)),
        "exact: the gradient is zero in every weight before the layer",
    )


def _began_dead(view: RunView) -> Finding | None:
    """Layers that gave next to nothing but zeros before the first step, and a good part of the run that went by before anything was learned."""
    outcome, losses = view.outcome, [loss for _, loss in view.losses]
    zeros = [
        name for name, r in view.layers.items() if kind_of(r) in CUTTING_KINDS and r[0].first_step <= 1 and r[0].share_zero >= BEGAN_DEAD
    ]
    if not zeros or not outcome.much_left:
        return None
    end = max(1, int(len(losses) * view.limit(LONG_PLATEAU)))
    if len(losses) <= end or not min(losses[end], statistics.fmean(losses[:end])) > STILL_THERE * losses[0]:
        return None
    share = view.layers[zeros[0]][0].share_zero
    return Finding(
        "dead_units",
        gated(outcome, early="warning"),
        zeros[0],
        0,
        f"Before the first step {percent(share)} of what layer {zeros[0]} gives was zero already, so hardly anything passed through it and the first "
        f"{percent(view.limit(LONG_PLATEAU))} of the training taught nothing.",
        Fix(
            "Begin with biases of zero in the hidden layers and Kaiming's initial weights; a bias that stands for the frequency of a class belongs into the "
            "last layer alone.",
            {"init": "kaiming_normal"},
        ),
        (ev("zeros at the start", percent(share)), ev("layers like this", len(zeros)), *loss_evidence(outcome)),
        "share of zeros before the first step (TheDeepChecker); the loss bears it out",
    )


def _dead_since(records: Sequence[LayerStats], dead: int, share: float) -> int:
    """First look from which on the number of channels without a positive value never fell below `dead`; 0 when the layer began with zeros alone."""
    first = next((r for r in records if r.sample_count), records[0])
    if first.first_step == 0 and first.share_zero >= max(share, ALL_ZERO):
        return 0
    since = records[-1].first_step
    for record in reversed(records):
        if record.channels and len(record.never_positive) < dead:
            break
        since = record.first_step if record.channels else since
    return max(since, 1)


def saturated_units(view: RunView) -> Finding | None:
    """Most inputs of a tanh or sigmoid layer lie where its slope is almost zero."""
    outcome, squashed = view.outcome, squashed_layers(view)
    now = {name: _share_flat(view, name, records, limit, slice(-20, None)) for name, (records, limit) in squashed.items()}
    start = {name: _share_flat(view, name, records, limit, slice(0, 1)) for name, (records, limit) in squashed.items()}
    flat = [name for name, share in now.items() if share > view.limit(SATURATED)]
    if not flat:
        return None
    from_start = [name for name in flat if start[name] > view.limit(SATURATED)]
    name = max(from_start or flat, key=now.__getitem__)
    share, limit = now[name], squashed[name][1]
    given = _share_at_ends(view, name, slice(-20, None)) >= share
    hindered = len(from_start) * 2 > len(squashed) and outcome.fair and outcome.now > view.limit(LEARNED_WELL) * outcome.guessing
    severity: Severity = gated(outcome, early="warning" if hindered else "note")
    change: dict[str, object] = {"norm": True, **rate_instead(view, 10)}
    if from_start:
        change = {"norm": True, "init": "kaiming_normal", "activation": "relu"}
    return Finding(
        "saturated_units",
        severity,
        name,
        0 if from_start else _saturated_since(view, name, *squashed[name]),
        f"{percent(share)} of what layer {name} gives lies at the ends of its range, where its curve is flat, so those units hardly react and hardly learn."
        if given
        else f"{percent(share)} of what enters layer {name} lies beyond ±{short(limit)}, where its curve is flat, so those units hardly react "
        "and hardly learn.",
        Fix("Normalise the images, draw smaller weights at the start, lower the learning rate, or use ReLU.", change),
        (
            ev("outputs at the ends of the range" if given else "inputs in the flat part", percent(share)),
            ev("in the first step", percent(start[name])),
            *(() if given else (ev("beyond", limit),)),
            *loss_evidence(outcome),
        ),
        "Glorot and Bengio 2010; DeepDiagnosis; TheDeepChecker",
    )


def _share_flat(view: RunView, name: str, entering: Sequence[LayerStats], limit: float, part: slice) -> float:
    """Share of the values that lie where the curve is flat: by what enters the layer, or of a tanh by what it gives, whichever tells more.

    What the layer before gives need not be what enters: a network may multiply it on the way.
    """
    entered = _share_beyond(entering[part], limit) if limit < math.inf else 0.0
    return max(entered, _share_at_ends(view, name, part))


def _share_at_ends(view: RunView, name: str, part: slice) -> float:
    """The lower mean of two windows of the shares of a tanh's values that lie at the ends of its range; 0 for other layers."""
    if not is_a_tanh(kind_of(view.layers[name])):
        return 0.0
    given = [_near_the_end(record) for record in view.layers[name][part] if record.sample_count]
    return min(window_means(given, 10)) if given else 0.0


def _near_the_end(record: LayerStats) -> float:
    """Share of a tanh's values beyond three quarters of the greatest, where these are so great on average that most lie in the flat part; else 0."""
    end = max(1.0, abs(record.minimum), abs(record.maximum))
    share = beyond(record, 0.75 * end)
    square = (record.mean**2 + record.std**2) / end**2
    return share if share and square > share * FLAT_SQUARE + (1 - share) * BELOW_SQUARE else 0.0


def _share_beyond(records: Sequence[LayerStats], limit: float) -> float:
    """The lower mean of two windows of the records' shares of values beyond a limit."""
    shares = [beyond(record, limit) for record in records if record.sample_count]
    return min(window_means(shares, 10)) if shares else 0.0


def _saturated_since(view: RunView, name: str, entering: Sequence[LayerStats], limit: float) -> int:
    """First step from which on more than the allowed share lay in the flat part."""
    since = entering[-1].first_step
    for at in range(len(entering) - 1, -1, -1):
        if entering[at].sample_count and _share_flat(view, name, entering, limit, slice(at, at + 1)) <= view.limit(SATURATED):
            break
        since = entering[at].first_step
    return since


RULES = (
    Rule("exploding_gradients", exploding_gradients, False, ("loss", "gradient norm"), least_steps=10),
    Rule("activation_collapse_cycles", activation_collapse_cycles, False, ("loss", "layers"), least_steps=20),
    Rule("dead_units", dead_units, False, ("loss", "layers")),
    Rule("saturated_units", saturated_units, False, ("loss", "layers")),
)
