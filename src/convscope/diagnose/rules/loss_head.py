"""Exact rules on what the loss receives: probabilities where scores are needed, sums along the wrong axis, shapes or ranges that do not fit.

Receives a RunView, returns one Finding or None per rule. Each asks for several batches that agree, so that one odd batch says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from convscope.diagnose.observations import BY_NAME
from convscope.diagnose.rule import Rule, ev, loss_evidence, percent, short
from convscope.diagnose.rules.targets import explained_in_training
from convscope.diagnose.view import RunView, Threshold, number
from convscope.records import Finding, Fix, Observation, Severity

BATCHES = Threshold(3, "batches that agree", "diagnoses.md, rows 5 and 6 ask for five; the third is as sure and two steps earlier")
WORSE_ON_NEW = Threshold(0.1, "of the images", "chosen: three standard deviations of an accuracy over a few hundred images")
WELL_EXPLAINED = 0.8  # of the targets' variance: numbers of classes are hardly ever answered so well as amounts
BEYOND = 0.25  # of the range in which answers can lie, by which targets lie outside: a few outliers may lie a little out
POSITIVE = ("Exp", "Softplus", "Relu", "Sigmoid")  # operations whose results are no logarithms
SUM_GAP = Threshold(1e-3, "distance of a sum from 1", "diagnoses.md: float32 and bfloat16 softmax rows stay within it")
NO_NEGATIVE_ZEROS = Threshold(0.2, "of the values exactly 0", "chosen: a ReLU before the loss zeroes about half of the scores", share=True)

SEVERAL_LABELS = 1.1  # labels a sample, on average
Shape = Callable[[Observation, float], bool]


def _agreeing(view: RunView, losses: tuple[str, ...], holds: Shape) -> tuple[Observation, ...]:
    """Training batches' loss inputs of these losses, when enough of them were seen and all hold; else nothing."""
    seen = tuple(o for o in view.seen("loss_input") if o.subject in losses and o.numbers.get("training") is True)
    gap = view.limit(SUM_GAP)
    enough = len(seen) >= view.limit(BATCHES)
    return seen if enough and all(holds(o, gap) for o in seen) else ()


def _is_probability_rows(o: Observation, gap: float) -> bool:
    inside = number(o, "lowest") >= 0 and number(o, "highest") <= 1 + gap
    return inside and number(o, "row_sum_gap") <= gap and number(o, "classes", 0) >= 2


def _in_graph(view: RunView, fact: str) -> tuple[Observation, ...]:
    """The looks at the graph of the loss, when enough were taken and all saw this."""
    seen = view.seen("loss_graph")
    return seen if len(seen) >= view.limit(BATCHES) and all(o.numbers.get(fact) is True for o in seen) else ()


def softmax_before_cross_entropy(view: RunView) -> Finding | None:
    """Probabilities go into a loss that applies softmax itself; log-probabilities are harmless and pass."""
    seen = _agreeing(view, ("cross_entropy",), _is_probability_rows)
    if not seen:
        return _softmax_twice(view)
    classes = int(number(seen[0], "classes"))
    floor = math.log(1 + (classes - 1) / math.e)
    return Finding(
        "softmax_before_cross_entropy",
        "problem",
        "",
        seen[0].step,
        "The network's answers already are probabilities, but cross_entropy turns them into probabilities once more, so the loss can "
        f"never fall below {short(floor)}.",
        Fix("Remove the softmax at the end of the network: cross_entropy wants the raw scores (logits)."),
        (
            ev("greatest distance of a row's sum from 1", max(number(o, "row_sum_gap") for o in seen)),
            ev("smallest and largest value", f"{number(seen[-1], 'lowest'):.3g} and {number(seen[-1], 'highest'):.3g}"),
            ev("lowest loss possible", floor),
            ev("loss now", view.loss_now),
            ev("batches that agree", len(seen)),
        ),
        "exact: rows sum to 1; bounds [ln(1+(C-1)/e), ln(e+C-1)] of cross-entropy over probabilities (TheDeepChecker)",
    )


def _softmax_twice(view: RunView) -> Finding | None:
    """The same in a loss that the loop computes by itself."""
    seen = _in_graph(view, "softmax_twice")
    if not seen:
        return None
    classes = int(number(seen[0], "classes", 0))
    return Finding(
        "softmax_before_cross_entropy",
        "problem",
        "",
        seen[0].step,
        "The network's answers already are probabilities, but the loss turns them into probabilities once more, so it can never be sure of a class.",
        Fix("Remove the softmax at the end of the network: the loss wants the raw scores (logits)."),
        (
            ev("softmax operations one after the other", 2),
            *((ev("lowest loss possible", math.log(1 + (classes - 1) / math.e)),) if classes > 1 else ()),
            ev("batches that agree", len(seen)),
        ),
        "exact: the operations between the network and the loss (TheDeepChecker)",
    )


def softmax_wrong_dim(view: RunView) -> Finding | None:
    """A softmax over the batch instead of over the classes: columns sum to 1, rows do not."""

    def plain(o: Observation, gap: float) -> bool:
        inside = number(o, "lowest") >= 0 and number(o, "highest") <= 1 + gap
        return inside and number(o, "column_sum_gap") <= gap < number(o, "row_sum_gap")

    def logarithm(o: Observation, gap: float) -> bool:
        return number(o, "highest") <= gap and number(o, "log_column_gap") <= gap < number(o, "log_gap")

    seen = _agreeing(
        view, ("cross_entropy", "nll_loss", "mse_loss", "binary_cross_entropy", "kl_div"), lambda o, gap: plain(o, gap) or logarithm(o, gap)
    )
    in_graph = () if seen else _in_graph(view, "softmax_over_batch")
    if not seen and not in_graph:
        return _within_the_network(view) or _across_the_labels(view)
    sums = (
        (
            ev(
                "distance of the columns' sums from 1, greatest",
                min(number(seen[-1], "column_sum_gap"), number(seen[-1], "log_column_gap")),
            ),
            ev("distance of the rows' sums from 1, greatest", number(seen[-1], "row_sum_gap")),
        )
        if seen
        else (ev("axis of the softmax", 0),)
    )
    return Finding(
        "softmax_wrong_dim",
        "problem",
        "",
        (seen or in_graph)[0].step,
        "The softmax runs over the images of the batch instead of over the classes, so each answer depends on the other images.",
        Fix("Use softmax or log_softmax with dim=1, the axis of the classes (or leave it out before cross_entropy)."),
        (*sums, ev("batches that agree", len(seen or in_graph))),
        "exact: columns sum to 1 and rows do not, or the axis in the recorded operations (TheDeepChecker)",
    )


def _of_another_axis(o: Observation, gap: float) -> bool:
    """Whether logarithms come from a log-softmax although they are none of probabilities along the axis of the classes."""
    return o.numbers.get("made_by") == "LogSoftmax" and number(o, "highest") <= gap < number(o, "log_gap")


def _across_the_labels(view: RunView) -> Finding | None:
    """A softmax that runs along one axis while the labels choose along another, as over the columns of an image or the steps of a sequence."""
    seen = _in_graph(view, "softmax_across") or _agreeing(view, ("nll_loss",), _of_another_axis)
    if not seen:
        return None
    return Finding(
        "softmax_wrong_dim",
        "problem",
        "",
        seen[0].step,
        "The softmax before the loss runs along another axis than the one from which the labels choose their class, so the classes do not compete with "
        "each other.",
        Fix("Use log_softmax with dim=1, the axis of the classes, or cross_entropy on the raw scores."),
        (ev("batches that agree", len(seen)), *loss_evidence(view.outcome)),
        "exact: the axes in the recorded operations of the loss, or logarithms from a softmax whose rows do not sum to 1 (TheDeepChecker)",
    )


def _within_the_network(view: RunView) -> Finding | None:
    """A softmax along the samples of the batch: wrong as the answer; between layers, wherever the run does badly."""
    network = view.last("network")
    place = network.numbers.get("softmax_over_batch") if network is not None else None
    worse = view.generalisation_gap > view.limit(WORSE_ON_NEW) or view.outcome.poor or view.outcome.bad
    if network is None or place is None or (place != "the answer" and not worse):
        return None
    if place == "one number":
        message = "A softmax inside the network runs over a single number, so its result is always 1, whatever it is given."
        advice = (
            "Give softmax the axis that holds the choices of one sample (the steps, places or classes), which has more than one number."
        )
    else:
        what = "The softmax that makes the answer" if place == "the answer" else "A softmax inside the network"
        message = f"{what} runs over the samples of the batch instead of over the numbers of one sample, so each answer depends on the other samples."
        advice = "Give softmax or log_softmax the axis that holds the choices of one sample, such as dim=-1; axis 0 holds the samples."
    return Finding(
        "softmax_wrong_dim",
        "problem",
        "",
        network.step,
        message,
        Fix(advice),
        (ev("axis of the softmax", "of one number" if place == "one number" else 0), *loss_evidence(view.outcome)),
        "exact: the axis in the recorded operations of the network (TheDeepChecker)",
    )


def _beside_classes(view: RunView) -> bool:
    """Whether another loss of the same step asks for classes, so that whoever wrote the loop knows how."""
    asked = ("cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits")
    return any(o.subject in asked and o.numbers.get("training") is True for o in view.seen("loss_input"))


def loss_output_mismatch(view: RunView) -> Finding | None:
    """The loss does not fit what the network answers, or the labels it is compared with."""
    for losses, holds, severity, sentence, advice in _MISMATCHES:
        seen = _agreeing(view, losses, holds)
        if not seen:
            continue
        level = "problem" if severity == "problem" or view.outcome.bad else severity
        if holds is _class_numbers and (explained_in_training(view) > WELL_EXPLAINED or _beside_classes(view)):
            level = "note"  # counts are whole numbers too, and rightly amounts
        newest = seen[-1]
        return Finding(
            "loss_output_mismatch",
            level,
            "",
            seen[0].step,
            sentence.format(loss=newest.subject, shapes=newest.numbers.get("shapes", ""), zeros=percent(number(newest, "zeros", 0))),
            Fix(advice),
            (
                ev("loss function", newest.subject),
                ev("shapes of answers and labels", str(newest.numbers.get("shapes", ""))),
                ev("answers from", number(newest, "lowest")),
                ev("answers to", number(newest, "highest")),
                ev("loss", number(newest, "loss")),
                ev("batches that agree", len(seen)),
            ),
            "exact: shape, range and sign of the loss's input (AutoTrainer)",
        )
    return _broadcast_by_hand(view)


def _broadcast_by_hand(view: RunView) -> Finding | None:
    """A column of answers less a row of labels, in a loss that the loop computes by itself."""
    seen = _in_graph(view, "broadcast")
    if not seen:
        return None
    return Finding(
        "loss_output_mismatch",
        "problem",
        "",
        seen[0].step,
        "The loss compares every answer with every sample's label, because answers and labels have different shapes (a column and a row), so the "
        "network can only learn the labels' mean.",
        Fix("Bring both to the same shape before they are subtracted, for example answers.squeeze(1)."),
        (ev("batches that agree", len(seen)),),
        "exact: n answers became n times n numbers in the recorded operations (AutoTrainer)",
    )


def _one_output(o: Observation, _: float) -> bool:
    return number(o, "classes", 0) == 1 and o.numbers.get("target") == "index"


def _not_log_probabilities(o: Observation, gap: float) -> bool:
    return number(o, "log_gap") > 10 * gap and number(o, "log_column_gap", math.inf) > gap


def _no_logarithms(o: Observation, gap: float) -> bool:
    """Rows of probabilities as labels, and answers that are no logarithms of such rows."""
    return o.numbers.get("target") == "probability" and _not_log_probabilities(o, gap)


def _broadcast(o: Observation, _: float) -> bool:
    return o.numbers.get("same_shape") is False and number(o, "rows", 0) > 1


def _class_numbers(o: Observation, _: float) -> bool:
    return o.numbers.get("target") == "whole" and number(o, "target_highest", 0) > 1 and number(o, "classes", 1) <= 1


def _squashed(o: Observation, gap: float) -> bool:
    """Inside 0..1 because of a sigmoid; small raw scores may lie there too in the first steps."""
    inside = number(o, "lowest") >= 0 and number(o, "highest") <= 1
    return inside and o.numbers.get("made_by") in ("Sigmoid", "Hardsigmoid") and number(o, "row_sum_gap") > gap


def _constant_one(o: Observation, _: float) -> bool:
    return number(o, "lowest") == number(o, "highest") == 1.0 and number(o, "rows", 0) > 1


def _several_labels(o: Observation, _: float) -> bool:
    """Zeros and ones for every class, and not one each."""
    zeros_and_ones = o.numbers.get("target") == "whole" and number(o, "target_lowest") == 0 and number(o, "target_highest") == 1
    return zeros_and_ones and o.numbers.get("same_shape") is True and number(o, "target_mean") * number(o, "classes", 0) > SEVERAL_LABELS


def _no_negative(o: Observation, _: float) -> bool:
    return number(o, "lowest") == 0 and number(o, "zeros", 0) > NO_NEGATIVE_ZEROS.value


def _outside_targets(o: Observation, _: float) -> bool:
    return number(o, "target_lowest", 0) < 0 or number(o, "target_highest", 0) > 1


def _no_minus_one(o: Observation, _: float) -> bool:
    return o.numbers.get("target") != "real" and number(o, "target_lowest") == 0 and number(o, "target_highest", 0) <= 1


def _exponential_twice(o: Observation, _: float) -> bool:
    """Answers that an operation has made positive, taken for logarithms."""
    return o.numbers.get("log_input") is True and o.numbers.get("made_by") in POSITIVE and number(o, "lowest") >= 0


def _no_amount(o: Observation, _: float) -> bool:
    return o.numbers.get("log_input") is False and number(o, "lowest") < 0


def _out_of_reach(o: Observation, _: float) -> bool:
    """A good part of the targets lies where the last operation's results cannot."""
    low, high, made_by = number(o, "target_lowest"), number(o, "target_highest"), o.numbers.get("made_by")
    if made_by in ("Relu", "Softplus", "Exp"):
        return low < -BEYOND * max(high, 0.0) and low < 0
    return made_by == "Sigmoid" and (low < -BEYOND or high > 1 + BEYOND)


_MISMATCHES: tuple[tuple[tuple[str, ...], Shape, Severity, str, str], ...] = (
    (
        ("cross_entropy", "nll_loss"),
        _one_output,
        "problem",
        "The network gives one number per image, but {loss} compares several classes, so the loss is always zero and nothing can be "
        "learned.",
        "Give the last layer one output per class, or use binary_cross_entropy_with_logits for a yes/no question.",
    ),
    (
        ("nll_loss",),
        _not_log_probabilities,
        "problem",
        "The loss nll_loss expects logarithms of probabilities but receives something else, so it can be lowered without end and "
        "without learning.",
        "Use cross_entropy on the raw scores, or put log_softmax(dim=1) at the end of the network.",
    ),
    (
        ("kl_div",),
        _no_logarithms,
        "problem",
        "The loss kl_div expects logarithms of probabilities as answers but receives something else, so it does not measure how far answers and "
        "labels are apart.",
        "Put log_softmax(dim=1) on the raw scores before kl_div.",
    ),
    (
        ("binary_cross_entropy", "mse_loss", "binary_cross_entropy_with_logits"),
        _constant_one,
        "problem",
        "The network's answer is 1 for every image: a softmax over a single number is always 1, so nothing can be learned.",
        "Replace the softmax by a sigmoid, or give the last layer one output per class.",
    ),
    (
        ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"),
        _broadcast,
        "problem",
        "Answers and labels have different shapes ({shapes}), so {loss} compares every answer with every image's label.",
        "Bring both to the same shape, for example answers.squeeze(1).",
    ),
    (
        ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"),
        _out_of_reach,
        "problem",
        "The function at the end of the network keeps its answers within bounds (a ReLU above 0, a sigmoid between 0 and 1), but many of the targets lie "
        "outside, where no answer can get.",
        "Remove the activation function after the last layer, or bring the targets into its range.",
    ),
    (
        ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"),
        _class_numbers,
        "problem",
        "The network is asked to output the class's number (0, 1, 2 ...) as if classes were amounts, so it answers with averages of "
        "classes.",
        "Give the last layer one output per class and use cross_entropy.",
    ),
    (
        ("hinge_embedding_loss", "soft_margin_loss", "cosine_embedding_loss", "margin_ranking_loss"),
        _no_minus_one,
        "problem",
        "The loss {loss} wants labels 1 and -1 but is given 1 and 0, and what is labelled 0 does not count as the opposite of 1.",
        "Give it labels 1 and -1, for example 2 * labels - 1.",
    ),
    (
        ("poisson_nll_loss",),
        _exponential_twice,
        "problem",
        "The loss poisson_nll_loss takes the network's answers for logarithms of the expected counts, but they are made positive before it as if they "
        "were the counts themselves.",
        "Remove the exponential (or other function) at the end of the network, or pass log_input=False.",
    ),
    (
        ("poisson_nll_loss",),
        _no_amount,
        "problem",
        "The loss poisson_nll_loss is told to expect counts (log_input=False) but receives negative numbers.",
        "Leave log_input out, so that the answers are logarithms of counts, or put softplus at the end of the network.",
    ),
    (
        ("binary_cross_entropy_with_logits", "binary_cross_entropy"),
        _outside_targets,
        "problem",
        "The labels given to {loss} lie outside 0..1, so the loss can fall without end and without learning.",
        "Use labels 0 and 1 (one column per class), or cross_entropy with class numbers.",
    ),
    (
        ("binary_cross_entropy_with_logits",),
        lambda o, gap: _squashed(o, gap) or _is_probability_rows(o, gap),
        "problem",
        "The network's answers already lie between 0 and 1, but {loss} squeezes them into 0..1 once more, so it can never be sure.",
        "Remove the sigmoid or softmax at the end of the network, or use binary_cross_entropy.",
    ),
    (
        ("cross_entropy",),
        _several_labels,
        "warning",
        "Some samples have several labels at once (rows of zeros and ones with more than a single one), but {loss} lets the classes compete for one answer.",
        "Use binary_cross_entropy_with_logits, which asks for each class by itself whether it is there.",
    ),
    (
        ("cross_entropy",),
        _squashed,
        "problem",
        "The network's answers are squeezed into 0..1 before {loss}, so it can never be sure of a class.",
        "Remove the sigmoid at the end of the network: cross_entropy wants the raw scores (logits).",
    ),
    (
        ("cross_entropy",),
        _no_negative,
        "warning",
        "No score is ever negative and {zeros} are exactly zero: an activation function (ReLU) cuts the scores off before {loss}.",
        "Remove the activation function after the last layer: cross_entropy wants the raw scores (logits).",
    ),
)


def _input_unknown(view: RunView) -> str:
    """Why it is not known what the loss receives; "" when it is."""
    return "" if view.seen("loss_input") else BY_NAME["loss_input"].missing


RULES = (
    Rule("softmax_before_cross_entropy", softmax_before_cross_entropy, True, (), unknown=_input_unknown),
    Rule("softmax_wrong_dim", softmax_wrong_dim, True, (), unknown=_input_unknown),
    Rule("loss_output_mismatch", loss_output_mismatch, True, (), unknown=_input_unknown),
)
