"""Rules on the learning rate: too high, too low, or given up too early by its schedule.

Receives a RunView, returns one Finding or None per rule. The measure is the update-to-weight ratio: about 1e-3 a step is usual.
"""

from __future__ import annotations

import itertools
import math
import statistics

from convscope.diagnose.rule import Rule, ev, loss_evidence, percent, short
from convscope.diagnose.rules.layers import (
    AT_FIRST,
    GATED,
    HIGH_RATIO,
    LONG_WAIT,
    MANY_STEPS,
    USUAL_RATIO,
    carries_signal,
    died_widely,
    highest_window,
    is_a_table,
    kind_of,
    rate_instead,
    reaches_the_first_layer,
    waited,
)
from convscope.diagnose.view import LEARNED, RunView, Threshold, number
from convscope.records import Finding, Fix, Severity

VERY_HIGH_RATIO = Threshold(5e-2, "update over weight", "chosen: no tuned run of the development benchmark sustains it")
SHOCK = Threshold(0.1, "update over weight", "chosen: ten such steps replace the weights altogether")
SHOCK_STEPS = 10
OVERGROWN = Threshold(3, "times the first size", "chosen: of 139 sound programs three grew so much, none of them in steps of that size")
FEW_LAYERS = 3
TORN = Threshold(10, "update over weight", "chosen: what began at zero at most doubles in its second step", excess=True)
SETTLED = 20  # steps of a start
OVERSHOOT = Threshold(
    1.2, "times the loss of guessing", "chosen: a loss that rises well above both its start and guessing was thrown there", excess=True
)
SLID_BACK = Threshold(1.3, "times the best loss", "chosen: the mean of ten batches varies by a tenth", excess=True)
LOW_RATIO = Threshold(1e-4, "update over weight", "diagnoses.md, row 20 (TheDeepChecker's lower bound)")
SLOW_RATIO = Threshold(
    3e-4, "update over weight", "chosen: a third of the usual, where more than half of the loss of guessing is left after a fair budget"
)
ROUNDED_AWAY = 1e-7  # a learning rate below which float32 rounds steps away by itself
NO_GRADIENT = 1e-7  # of the weight's size; three decades below what a slow run has
KICK = Threshold(3, "times the loss of guessing", "chosen: within twenty steps of an ordinary start", excess=True)
KICK_STEPS = 50  # a spike that recovers comes after progress, and is gone sooner
MANY_TIMES = 10  # beyond it a figure tells nothing more
SEVERAL = 3  # losses: one odd batch is no sign
HARDLY = 0.8  # of the loss of guessing: less than a fifth of it is gone
FALL = 0.1  # of the images: more than an accuracy over a few hundred of them varies by chance
SLOW = Threshold(0.7, "of the first loss", "chosen: less than a third of the way after a fair budget", share=True)
AFTER_THE_FALL = 20  # steps
GIVEN_UP = Threshold(0.01, "of its maximum", "diagnoses.md, row 21", share=True)
GIVEN_UP_SHARE = Threshold(0.5, "of the steps", "chosen: ordinary schedules spend less than 40 % of the steps there", share=True)
UNFINISHED = 0.3  # of the loss of guessing: much was left to learn
UNDERFIT, NO_MEMORY = 0.1, 0.05  # of it, and of the samples: something was left, and nothing was learned by heart
LEARNED_ALL = 0.05  # of the loss of guessing: nothing worth having is left to learn


def lr_too_high(view: RunView) -> Finding | None:
    """Steps large for their weights, over a good part of some window, and an outcome that suffers."""
    ratios, outcome = view.median_ratios, view.outcome
    rate = max((rate for _, rate in view.learning_rates), default=math.nan)
    if not ratios or not rate > 0:
        return None
    (step, high), (shock_step, shock) = highest_window(view, MANY_STEPS), highest_window(view, SHOCK_STEPS)
    jumps = _validation_jumps(view)
    hardly = outcome.poor and (not view.falling or outcome.now > HARDLY * outcome.guessing)
    kicked = _kicked(view)
    thrown_at_once = view.broke and shock > view.limit(SHOCK) and not outcome.best < LEARNED * outcome.guessing
    torn = _torn_layer(view) if outcome.poor else None
    killed = shock > view.limit(SHOCK) and died_widely(view)
    known = view.guessing is not None or view.constant_answer is not None
    overgrown = shock > view.limit(SHOCK) and known and outcome.much_left and _growth(view) > view.limit(OVERGROWN)
    silenced = outcome.stuck and _lost_its_signal(view)
    if not (outcome.bad or hardly or jumps or thrown_at_once or kicked or torn or killed or overgrown):
        return None
    where, message = "", ""
    if shock > view.limit(SHOCK) or (kicked and shock > view.limit(HIGH_RATIO)):
        step, high = shock_step, shock
    elif torn is not None:
        where, step, high = torn
        message = (
            f"At step {step} the weights of layer {where} changed by {_extent(high)} their size (0.1 % is usual), and the network has not recovered "
            f"from it: the learning rate of {short(rate)} is too high."
        )
    elif high <= view.limit(HIGH_RATIO) or jumps or (high <= view.limit(VERY_HIGH_RATIO) and not (silenced or _thrown_about(view))):
        return None
    lower = rate_instead(view, high / USUAL_RATIO)
    return Finding(
        "lr_too_high",
        "problem" if outcome.bad or view.broke else "warning",
        where,
        step,
        message
        or f"From step {step} on each step changes the weights by {_extent(high)} their size (0.1 % is usual), so training jumps about "
        f"instead of settling: the learning rate of {short(rate)} is too high.",
        Fix(
            f"Train again with a learning rate of at most {short(lower['lr'])} that rises slowly at the start and falls at the end (1cycle).",
            {**lower, "schedule": "one_cycle"},
        ),
        (ev("update over weight, median", high), ev("usual", USUAL_RATIO), ev("learning rate", rate), *loss_evidence(outcome)),
        "Karpathy, CS231n: about 1e-3; TheDeepChecker",
    )


def _torn_layer(view: RunView) -> tuple[str, int, float] | None:
    """(layer, step, ratio) of the layer that a step at the start made many times its size, as a learning rate of its own may; None without one."""
    found = [(name, step, ratio) for name in view.weighted_layers for step, ratio in view.update_ratios(name) if step < SETTLED]
    return max((one for one in found if one[2] > view.limit(TORN)), key=lambda one: one[2], default=None)


def _growth(view: RunView) -> float:
    """How many times their first size the weights of the middle layer have; 0 for fewer than three trained layers, tables of embeddings left out."""
    trained = [name for name in view.weighted_layers if view.update_ratios(name) and not is_a_table(view, name)]
    sizes = [[r.weight_rms for r in view.layers[name] if r.weight_rms > 0] for name in trained]
    times = [of_one[-1] / of_one[0] for of_one in sizes if of_one]
    return statistics.median(times) if len(times) >= FEW_LAYERS else 0.0


def _lost_its_signal(view: RunView) -> bool:
    """Whether the first layer got a gradient worth the name when training began, and gets none any more."""
    return reaches_the_first_layer(view, AT_FIRST) and not carries_signal(view)


def _kicked(view: RunView) -> bool:
    """Whether an ordinary first loss was followed at once by losses far above it, from which a run that stays poor took long to come back."""
    outcome, losses = view.outcome, [loss for _, loss in view.losses]
    if not outcome.poor or not losses or losses[0] > view.limit(OVERSHOOT) * outcome.guessing:
        return False
    level = view.limit(KICK) * max(losses[0], outcome.guessing)
    back = next((at for at in range(20, len(losses)) if statistics.fmean(losses[at - 10 : at]) < losses[0]), len(losses))
    return max(losses[1:20], default=0.0) > level and back > KICK_STEPS


def _extent(ratio: float) -> str:
    """A ratio as a person reads it: percents, or times."""
    return f"{percent(ratio)} of" if ratio < MANY_TIMES else f"more than {MANY_TIMES} times"


def _validation_jumps(view: RunView) -> bool:
    """Whether the accuracy on new images falls and recovers from one evaluation to the next, although training goes well."""
    seen = [number(o, "accuracy") for o in view.seen("validation") if number(o, "in_training", 0) < 0.5]
    known = [accuracy for accuracy in seen if math.isfinite(accuracy)]
    return view.generalisation_gap > FALL and any(after < before - FALL for before, after in itertools.pairwise(known))


def _thrown_about(view: RunView) -> bool:
    """Whether the loss rose well above its start and guessing, what was learned is lost, or a network without a signal gives all images one answer."""
    outcome = view.outcome
    level = view.limit(OVERSHOOT) * max(outcome.start, outcome.guessing)
    answers = [number(o, "largest_answer", 0) for o in view.seen("fit")[-4:]]
    constant = bool(answers) and min(answers) > 0.9 and not carries_signal(view)
    slid = outcome.poor and not view.falling and outcome.now > view.limit(SLID_BACK) * outcome.best
    late = [s.loss.maximum for s in view.steps[len(view.steps) // 4 :]]  # a jump in the first steps is common and heals
    lost = outcome.bad and outcome.best < LEARNED * outcome.guessing
    return constant or lost or slid or sum(loss > level for loss in late) >= SEVERAL or outcome.diverged


def lr_too_low(view: RunView) -> Finding | None:
    """Steps tiny for their weights from the start, and a loss that hardly falls although it falls."""
    ratios, outcome = view.median_ratios, view.outcome
    rate = max((rate for _, rate in view.learning_rates), default=math.nan)
    if len(ratios) < 20 or not rate > 0 or not outcome.fair or outcome.diverged:
        return None
    if highest_window(view, MANY_STEPS)[1] > view.limit(HIGH_RATIO):
        return None  # what moves little now was moved far at the start
    typical = statistics.median(sorted(r for _, r in ratios)[len(ratios) // 2 :])  # the larger half: a schedule's tail does not count
    usual = SLOW_RATIO if outcome.poor else LOW_RATIO
    if typical < USUAL_RATIO and (waiting := _waits_at_its_gates(view, typical)) is not None:
        return waiting
    if typical >= view.limit(usual) or outcome.now < view.limit(SLOW) * min(outcome.start, outcome.guessing) or _without_gradient(view):
        return None
    if view.guessing is not None and outcome.now < LEARNED_ALL * view.guessing:
        return None  # a trained network that goes on carefully
    if typical == 0 and rate > ROUNDED_AWAY:  # weights that stand still at any rate are another rule's
        return None
    return _too_low(
        view,
        typical,
        "problem" if outcome.stuck or outcome.now > 0.9 * outcome.start else "warning",
        f"Each step changes the weights by only {percent(typical)} of their size (0.1 % is usual), so training hardly moves: the "
        f"learning rate of {short(rate)} is too low.",
    )


def _waits_at_its_gates(view: RunView, typical: float) -> Finding | None:
    """A network with gates (LSTM, GRU) that was no better than guessing for a good part of a run that ends poorly: nothing faded, so its steps are short."""
    share, layer = waited(view)
    if share < view.limit(LONG_WAIT) or kind_of(view.layers[layer]) not in GATED:
        return None
    rate = max(rate for _, rate in view.learning_rates)
    return _too_low(
        view,
        typical,
        "warning",
        f"For the first {percent(share)} of the training the answers were no better than guessing, and each step changes the weights by only "
        f"{percent(typical)} of their size (0.1 % is usual): the learning rate of {short(rate)} is too low.",
    )


def _too_low(view: RunView, typical: float, severity: Severity, message: str) -> Finding:
    higher, rate = rate_instead(view, typical / USUAL_RATIO), max(rate for _, rate in view.learning_rates)
    return Finding(
        "lr_too_low",
        severity,
        "",
        0,
        message,
        Fix(
            f"Train with a learning rate of up to {short(higher['lr'])} that rises slowly at the start and falls at the end (1cycle), or let the "
            "learning-rate finder choose (lr='auto').",
            {**higher, "schedule": "one_cycle"},
        ),
        (ev("update over weight, median", typical), ev("usual", USUAL_RATIO), ev("learning rate", rate), *loss_evidence(view.outcome)),
        "Karpathy, CS231n: about 1e-3; TheDeepChecker: 1e-4",
    )


def _without_gradient(view: RunView) -> bool:
    """Whether half of the layers get next to no gradient: then their updates are small at any learning rate."""
    shares = []
    for name in view.weighted_layers:
        values = [r.gradient_rms / r.weight_rms for r in view.layers[name] if math.isfinite(r.gradient_rms) and r.weight_rms > 0]
        shares.append(statistics.median(values) if values else 0.0)
    return bool(shares) and statistics.median(shares) < NO_GRADIENT


def lr_schedule_collapsed(view: RunView) -> Finding | None:
    """A learning rate of zero or below, or one that its schedule took away while there was much left to learn."""
    rates, outcome = view.learning_rates, view.outcome
    if len(rates) < 10:
        return None
    top = max(rate for _, rate in rates)
    if top <= 0:
        return _no_rate(top)
    negative = [step for step, rate in rates if rate < 0]
    if negative:
        return _stopped(negative[0], "is negative, so the weights move uphill", top, outcome_bad=True, share=len(negative) / len(rates))
    faint = [step for step, rate in rates if rate < view.limit(GIVEN_UP) * top]
    peak = next(step for step, rate in rates if rate == top)
    after = [step for step in faint if step > peak]
    share = len(after) / len(rates)
    if share < view.limit(GIVEN_UP_SHARE) or not outcome.fair:
        return None
    underfit = outcome.now > UNDERFIT * outcome.guessing and view.generalisation_gap < NO_MEMORY
    unfinished = outcome.now > UNFINISHED * outcome.guessing or underfit
    if not unfinished or _moves_on(view, after[0]):
        return None
    return _stopped(
        after[0],
        f"has fallen below a hundredth of its highest value ({short(top)})",
        top,
        outcome_bad=outcome.poor or outcome.bad,
        share=share,
    )


def _moves_on(view: RunView, step: int) -> bool:
    """Whether the learning rate fell to one that is kept and makes steps of a usual size: then the high one before was out of place."""
    rates = [rate for at, rate in view.learning_rates if at >= step]
    if rates[-1] < rates[0] / 2:
        return False
    ratios = [ratio for at, ratio in view.median_ratios if step <= at < step + AFTER_THE_FALL]
    return len(ratios) >= SEVERAL and statistics.median(ratios) > view.limit(SLOW_RATIO)


def _no_rate(top: float) -> Finding:
    return Finding(
        "lr_schedule_collapsed",
        "problem",
        "",
        0,
        f"The learning rate is {'zero' if top == 0 else f'negative ({short(top)})'} in every step, so nothing is learned.",
        Fix(
            "Give the optimiser a learning rate above 0, such as 0.001 for Adam or 0.05 for SGD with momentum; if there is a schedule, check it."
        ),
        (ev("highest learning rate", top),),
        "exact for rates of zero and below; gradsnitch's collapse rule",
    )


def _stopped(step: int, what: str, top: float, *, outcome_bad: bool, share: float) -> Finding:
    return Finding(
        "lr_schedule_collapsed",
        "problem" if outcome_bad else "warning",
        "",
        step,
        f"From step {step} on the learning rate {what}, so the network stopped learning long before the end.",
        Fix(
            "Check the schedule: it may count epochs but be stepped every batch; 1cycle over the whole run is a safe choice.",
            {"schedule": "one_cycle"},
        ),
        (ev("highest learning rate", top), ev("steps with next to none", percent(share))),
        "exact for rates of zero and below; gradsnitch's collapse rule",
    )


RULES = (
    Rule("lr_schedule_collapsed", lr_schedule_collapsed, False, ("learning rate",)),
    Rule("lr_too_high", lr_too_high, False, ("loss", "layers", "learning rate"), least_steps=1),
    Rule("lr_too_low", lr_too_low, False, ("loss", "layers", "learning rate"), least_steps=50),
)
