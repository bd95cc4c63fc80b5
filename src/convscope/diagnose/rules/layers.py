"""Facts about layers that several rules share: how strongly they are pulled, how saturated or dead they are, how large their weights were drawn.

Receives a RunView or a layer's records, returns numbers. It judges nothing.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence

from convscope.diagnose.changes import DEEP, higher_rate, lower_rate, usual_rate
from convscope.diagnose.view import RunView, Threshold, number, window_means
from convscope.records import LayerStats

USUAL_RATIO = 1e-3  # update over weight of a step (Karpathy, CS231n notes)
HIGH_RATIO = Threshold(1e-2, "update over weight", "diagnoses.md, row 19 (Karpathy's 1e-3, one decade up)")
STRAYED = (0.97, 1.05)  # of the loss of guessing: windows of ten batches stay within while nothing is learned and nothing thrown about
DEAD = Threshold(0.6, "of a layer's channels", "diagnoses.md, row 17; 2 of 83 healthy runs had a layer beyond it", share=True)
WIDELY = Threshold(0.5, "of the ReLU layers", "chosen: of 176 healthy runs of the benchmark none had a single such layer", share=True)
DEAD_SAMPLES = 256  # images over which a dead channel is never positive, at every place of each; with the outcome gate few are enough
ALIVE_GRADIENT = 0.01  # of the last layer's, relative to the weights: ten times what counts as vanished
AT_FIRST, AT_LAST = slice(1), slice(-40, None)  # parts of a layer's records
EARLY, MANY_STEPS = 400, 40  # steps of a start; steps in a row over which an update is judged
ALL_ZERO = 0.95  # of a layer's values in the first step: no healthy start is so sparse
COLLAPSED = Threshold(0.95, "of the values near zero", "diagnoses.md, row 16", share=True)
CRASH = 5.0  # diagnoses.md, row 16: a fall of the spread to less than a fifth
START_RECORDS = 10  # of a layer: what they show was there before training could change much
CUTTING_KINDS = frozenset({"relu", "relu_", "relu6", "threshold"})
PLAIN_RECURRENT = frozenset({"rnn", "rnncell"})
GATED = frozenset({"lstm", "gru", "lstmcell", "grucell"})  # recurrent layers whose gates keep what they read early
LONG_WAIT = Threshold(0.3, "of the run", "chosen: nine of ten healthy runs of the benchmark are below it after 0.15")
LEAST_WAIT, NOT_YET = 50, 0.97  # steps; of the loss of guessing
SQUASHING = {
    "tanh": 2.0,
    "sigmoid": 3.0,
    "hardtanh": 1.0,
    "softsign": 16.0,
    "logsigmoid": 4.0,
}  # |x| beyond which the slope is below a tenth (tanh(2) = 0.964, sigmoid(3) = 0.953)


def kind_of(records: Sequence[LayerStats]) -> str:
    """What computed a layer, in small letters."""
    return records[-1].kind.lower()


def waited(view: RunView) -> tuple[float, str]:
    """(share of the training in which the answers were no better than guessing, first recurrent layer); nothing for other networks and outcomes.

    A run that ends well needs no reason for its plateau, and with random labels it is never left.
    """
    outcome, losses = view.outcome, [loss for _, loss in view.losses]
    recurrent = [name for name in view.weighted_layers if kind_of(view.layers[name]) in (*PLAIN_RECURRENT, *GATED)]
    if not recurrent or view.guessing is None or not outcome.poor or outcome.bad or len(losses) < LEAST_WAIT:
        return 0.0, ""
    means = window_means(losses, max(10, len(losses) // 20))
    return next((at for at, mean in enumerate(means) if mean < NOT_YET * view.guessing), len(means)) / len(means), recurrent[0]


def lies_within(name: str, outer: str) -> bool:
    """Whether a layer is a part of another one, by their names."""
    return name.startswith(f"{outer}.")


def is_a_table(view: RunView, name: str) -> bool:
    """Whether a layer looks up rows (an embedding): most of them rest at each step, and nothing passes through it."""
    return "embedding" in kind_of(view.layers[name])


def holds_a_layer(view: RunView, name: str) -> bool:
    """Whether another layer with weights lies within a layer, as an adapter's weights lie around those of the layer that it adapts."""
    return any(lies_within(other, name) for other in view.weighted_layers)


def relative_gradient(records: Iterable[LayerStats]) -> float:
    """Median of the gradient's size over the weights' size; NaN when it was never measured."""
    values = [r.gradient_rms / r.weight_rms for r in records if math.isfinite(r.gradient_rms) and r.weight_rms > 0]
    return statistics.median(values) if values else math.nan


def squashed_layers(view: RunView) -> dict[str, tuple[Sequence[LayerStats], float]]:
    """Each tanh-like layer with the records of what enters it, and the size beyond which its curve is flat: infinite where its scale is the user's own."""
    pairs = [(before, name, kind_of(view.layers[name])) for before, name in itertools.pairwise(view.layers)]
    return {
        name: (view.layers[before], SQUASHING.get(kind, math.inf)) for before, name, kind in pairs if kind in SQUASHING or is_a_tanh(kind)
    }


def is_a_tanh(kind: str) -> bool:
    """Whether a layer is a tanh, or a module of the user's that is called after it (ScaledTanh)."""
    return "tanh" in kind and "hard" not in kind and "shrink" not in kind


def is_squashing(view: RunView) -> bool:
    """Whether most activation functions of the network are of the tanh kind."""
    squashing = sum(kind_of(records) in SQUASHING for records in view.layers.values())
    return squashing > sum(kind_of(records) in CUTTING_KINDS for records in view.layers.values())


def beyond(record: LayerStats, limit: float) -> float:
    """Share of a record's finite looked-at values with |x| >= limit, by whole histogram bins (edges at powers of two and halfway between)."""
    octave = math.floor(math.log2(limit))
    first_bin = 2 * (octave + 126) + (1 if limit <= 2.0**octave else 2)
    total = record.histogram.total
    outside = sum(count for index, count in enumerate(record.histogram.counts, record.histogram.first) if abs(index) >= first_bin)
    return outside / total if total else 0.0


def drawn_gain(view: RunView) -> float:
    """Median over hidden layers of (root mean square of the weights as drawn) x sqrt(weights per filter); NaN when unknown.

    A layer hands on about so many times what it receives: sqrt(2) after Kaiming, 1 after Xavier, 0.58 after PyTorch's default.
    """
    network = view.last("network")
    head = str(network.numbers.get("head")) if network is not None else ""
    first = {o.subject: o for o in reversed(view.seen("filters"))}
    gains = [number(o, "rms") * math.sqrt(number(o, "fan_in")) for o in first.values() if o.subject != head and number(o, "fan_in", 0) > 1]
    known = [gain for gain in gains if math.isfinite(gain)]
    return statistics.median(known) if known else math.nan


def rate_instead(view: RunView, times: float) -> dict[str, float]:
    """The change to a lower learning rate, for steps that look so many times too large (above 1), or to a higher one (below 1); {} when none is known."""
    present = max((rate for _, rate in view.learning_rates), default=math.nan)
    if not present > 0:
        return {}
    network, optimizer, labels = view.last("network"), view.last("optimizer"), view.last("labels")
    kind = str(optimizer.numbers.get("kind") or "") if optimizer is not None else ""
    batch_size = number(labels, "batch_size", 0) if labels is not None else 0.0
    deep = len(view.weighted_layers) >= DEEP and network is not None and number(network, "batch_norms", 0) == 0
    usual = usual_rate(kind, batch_size, deep=deep)
    return {"lr": lower_rate(present, usual, times) if times > 1 else higher_rate(present, usual, 1 / max(times, 1e-9))}


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


def died_widely(view: RunView) -> bool:
    """Whether most channels are never positive now in many ReLU layers that were no layers of zeros at the start, and are missed: much is left to learn."""
    if not view.outcome.much_left:
        return False
    layers = [records for records in view.layers.values() if kind_of(records) in CUTTING_KINDS]
    died = 0
    for records in layers:
        dead, channels, images = recent_never_positive(records)
        alive_first = records[0].first_step <= 1 and records[0].share_zero < ALL_ZERO
        died += channels > 1 and images >= DEAD_SAMPLES and dead >= view.limit(DEAD) * channels and alive_first
    return bool(layers) and died >= view.limit(WIDELY) * len(layers)


def stays_collapsed(view: RunView, name: str) -> bool:
    """Whether nearly all a layer gives is close to zero of late, and its spread is a fraction of what it began with."""
    records = view.layers[name]
    recent = [r.share_near_zero for r in records[-20:] if r.sample_count]
    early = [r.std for r in records[:5] if math.isfinite(r.std)]
    late = [r.std for r in records[-20:] if math.isfinite(r.std)]
    if not recent or not early or not late:
        return False
    return min(recent) > view.limit(COLLAPSED) and statistics.median(late) < statistics.median(early) / CRASH


def highest_window(view: RunView, size: int) -> tuple[int, float]:
    """(first step, level) of the `size` consecutive updates over weights of which half reach the highest level, early in training."""
    best, ratios = (0, 0.0), [(step, ratio) for step, ratio in view.median_ratios if step < EARLY]
    for at in range(0, max(1, len(ratios) - size + 1), 10):
        window = sorted((r for _, r in ratios[at : at + size]), reverse=True)
        level = window[max(1, len(window) // 2) - 1] if window else 0.0
        if level > best[1]:
            best = (ratios[at][0], level)
    return best


def was_never_moved(view: RunView) -> bool:
    """Whether steps of a usual size, in a network that passed its signal on at first, kept the loss at that of guessing from the first batch to the last.

    A network that has nothing to learn lets its activations fade; one that steps too large have broken shows these in its loss.
    """
    guessing = view.guessing
    if guessing is None or not reaches_the_first_layer(view, AT_FIRST) or highest_window(view, MANY_STEPS)[1] > view.limit(HIGH_RATIO):
        return False
    means = window_means([loss for _, loss in view.losses], 10)
    return STRAYED[0] * guessing < min(means) and max(means) < STRAYED[1] * guessing


def reaches_the_first_layer(view: RunView, part: slice) -> bool:
    """Whether in a part of the records the first layer gets a gradient worth the name, relative to its weights and beside the last layer's."""
    names = view.weighted_layers
    ends = [relative_gradient(view.layers[name][part]) for name in (*names[:1], *names[-1:])]
    return len(ends) == 2 and ends[0] > ALIVE_GRADIENT * ends[1] > 0


def carries_signal(view: RunView) -> bool:
    """Whether, at the end, the first layer still gets a gradient worth the name, and no layer before the last is dead or close to zero throughout."""
    if any(stays_collapsed(view, name) for name in view.weighted_layers[:-1]):
        return False
    if not reaches_the_first_layer(view, AT_LAST):
        return False
    cutting = [records for records in view.layers.values() if kind_of(records) in CUTTING_KINDS]
    counts = [recent_never_positive(records) for records in cutting]
    return all(dead < channels for dead, channels, _ in counts if channels)
