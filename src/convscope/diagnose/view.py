"""What a rule looks at: one immutable view of a run's records, and the outcome that statistical rules must be borne out by.

Receives StepRecords, LayerStats and Observations; offers them grouped and in order, with a few figures that many rules share (loss at the start
and now, chance, medians of windows). It finds nothing and says nothing.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from convscope.records import LayerStats, Observation, StepRecord


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number that a rule compares with, its unit and where it comes from.

    Attributes:
        value: the number.
        unit: "" for a plain ratio.
        source: who uses it, or how it was derived.
        share: whether it is a share of a whole; scaling it scales its odds, share : rest, so that 95 % becomes 90 % or 97 % and never more than 100 %.
        excess: whether it says how many times something exceeds a level; scaling it scales what is above 1.
    """

    value: float
    unit: str
    source: str
    share: bool = False
    excess: bool = False

    def scaled(self, factor: float) -> float:
        """The threshold made `factor` times stricter or laxer, to measure how much the verdicts depend on it."""
        if self.share:
            return factor * self.value / (1 - self.value + factor * self.value)
        if self.excess:
            return 1 + (self.value - 1) * factor
        return self.value * factor


FAIR_STEPS = Threshold(200, "steps", "diagnoses.md, G2: the budget after which a run must have learned something")
NOT_LEARNED = Threshold(0.05, "", "diagnoses.md, G2: improved by less than 5 %")
DIVERGED = Threshold(1.5, "times the start", "diagnoses.md, G1", excess=True)
BLOWN_UP = Threshold(10, "times the first loss and guessing", "chosen: steps threw the weights there; no image did")
POOR = Threshold(
    0.5, "of the loss of guessing", "chosen: a classifier that has halved the loss of guessing has learned its task", share=True
)
POOR_AMOUNTS = Threshold(
    0.9, "of the loss of a constant answer", "chosen: noise leaves much of many amounts unexplained, but hardly nine tenths", share=True
)
MANY_IMAGES = 10_000  # more than an epoch of most small data sets
LEARNED = 0.9  # of the loss of guessing: below it something was learned
MUCH_LEFT = 0.25  # of the loss of guessing, half of what counts as poor
ROBUST = ("l1_loss", "smooth_l1_loss", "huber_loss")  # what the best constant answer costs in them is not known
HOPELESS = 2.0  # times the loss of guessing: a fall from far above it is no learning yet
ENOUGH_IMAGES = 256  # an accuracy over so many is known to +-0.03 (one standard deviation)
LOSS_UNIT = 3.0  # a loss that differs by more from plain cross-entropy is summed or scaled; less may be label smoothing or class weights
LEAST_DROP = 0.005  # of the loss: less than this from one third of the run to the next is standing still
SHORT_EPOCH = 60  # steps of an epoch that is long enough to judge by
TWO_EPOCHS = 2.0  # times each training sample was seen
ENOUGH_BITS = 20  # of information in a sample: fewer, and equal samples occur by nature
START_STEPS = 3  # losses whose median is "the start": a single first batch may be unlucky


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the run goes, whatever the cause.

    Attributes:
        start: median loss of the first steps.
        now: mean loss of the last window.
        best: lowest mean of any window.
        guessing: loss of always answering with the labels' frequencies (nats) or with the targets' mean; the start when that is unknown.
        fair: whether there were enough steps, not counting a warm-up, to expect learning.
        diverged: the loss is not finite, or well above both its start and guessing.
        stuck: after a fair budget the loss is still that of guessing (of the start, where guessing is not known), and it does not fall.
        poor: after a fair budget more than half of the loss of guessing is left.
    """

    start: float
    now: float
    best: float
    guessing: float
    fair: bool
    diverged: bool
    stuck: bool
    poor: bool

    @property
    def bad(self) -> bool:
        """Diverged or stuck: what a statistical rule needs to call something a problem."""
        return self.diverged or self.stuck

    @property
    def much_left(self) -> bool:
        """Whether, after a fair budget, so much of the loss of guessing is left that something holds the network back."""
        return self.fair and self.now > MUCH_LEFT * self.guessing


@dataclass(frozen=True)
class RunView:
    """The records of a run, grouped.

    Attributes:
        steps: in order.
        layers: records of each layer's output by name, in the order of execution.
        observations: by kind, in order.
        scale: factor on every threshold; 1 except when their robustness is measured.
        broke: whether these are the records up to a loss that is not finite.
        alone: whether this is the only network that is trained, and as a whole.
    """

    steps: tuple[StepRecord, ...]
    layers: Mapping[str, tuple[LayerStats, ...]]
    observations: Mapping[str, tuple[Observation, ...]]
    scale: float = 1.0
    broke: bool = False
    alone: bool = True

    @classmethod
    def of(
        cls, steps: Iterable[StepRecord], layers: Iterable[LayerStats], observations: Iterable[Observation], scale: float = 1.0
    ) -> RunView:
        """Group records as they come from a watcher or a log."""
        by_layer: dict[str, list[LayerStats]] = {}
        for record in layers:
            if record.role == "output":
                by_layer.setdefault(record.layer, []).append(record)
        by_kind: dict[str, list[Observation]] = {}
        for observation in observations:
            by_kind.setdefault(observation.kind, []).append(observation)
        return cls(
            tuple(sorted(steps, key=lambda record: record.first_step)),
            {name: tuple(sorted(records, key=lambda record: record.first_step)) for name, records in by_layer.items()},
            {kind: tuple(found) for kind, found in by_kind.items()},
            scale,
            alone="turns" not in by_kind,
        )

    def limit(self, threshold: Threshold) -> float:
        """The threshold to compare with."""
        return threshold.scaled(self.scale)

    def seen(self, kind: str, subject: str | None = None) -> tuple[Observation, ...]:
        """All observations of a kind, of one subject or of any."""
        found = self.observations.get(kind, ())
        return found if subject is None else tuple(o for o in found if o.subject == subject)

    def last(self, kind: str) -> Observation | None:
        """The newest observation of a kind."""
        found = self.observations.get(kind, ())
        return found[-1] if found else None

    def newest(self, kind: str) -> tuple[Observation, ...]:
        """The newest observation of a kind for each subject, in the order in which subjects were first seen."""
        return tuple({o.subject: o for o in self.observations.get(kind, ())}.values())

    @cached_property
    def step_count(self) -> int:
        """Optimiser steps seen."""
        return self.steps[-1].last_step + 1 if self.steps else 0

    @cached_property
    def losses(self) -> tuple[tuple[int, float], ...]:
        """(first step, mean loss) of every span with a finite loss."""
        return tuple((s.first_step, s.loss.mean) for s in self.steps if math.isfinite(s.loss.mean))

    @cached_property
    def images_seen(self) -> float:
        """Training images whose labels were seen by the loss; 0 when none were."""
        labels = self.last("labels")
        return number(labels, "batches", 0) * number(labels, "batch_size", 0) if labels is not None else 0.0

    @cached_property
    def epochs(self) -> float:
        """How often each different training sample was seen; 0 when samples were not told apart, or equal ones occur by nature."""
        identity = self.last("identity")
        if identity is None or not number(identity, "bits", 0) >= ENOUGH_BITS or number(identity, "duplicates", 0) > 0:
            return 0.0
        return number(identity, "epochs", 0)

    @cached_property
    def training_accuracy(self) -> float:
        """Share of the newest few hundred training images that were answered rightly before their step; NaN when unknown."""
        samples = right = 0.0
        for window in reversed(self.seen("fit")):
            samples, right = samples + number(window, "samples", 0), right + number(window, "samples", 0) * number(window, "accuracy", 0)
            if samples >= ENOUGH_IMAGES:
                break
        return right / samples if samples else math.nan

    @cached_property
    def generalisation_gap(self) -> float:
        """Training accuracy minus that of the newest validation on images not trained on; NaN when one is unknown."""
        known = [o for o in self.seen("validation") if number(o, "in_training", 0) < 0.5 and math.isfinite(number(o, "accuracy"))]
        return self.training_accuracy - number(known[-1], "accuracy") if known else math.nan

    @cached_property
    def learning_rates(self) -> tuple[tuple[int, float], ...]:
        """(first step, highest learning rate of any parameter group) of every span that has one."""
        groups = ((s.first_step, [s.hyper[name].last for name in s.hyper if name.partition(":")[0] == "lr"]) for s in self.steps)
        finite = ((step, [rate for rate in rates if math.isfinite(rate)]) for step, rates in groups)
        return tuple((step, max(rates)) for step, rates in finite if rates)

    def is_broken(self, loss: float) -> bool:
        """Whether a loss is not finite; NaN says nothing where some steps' losses were not seen."""
        return math.isinf(loss) or (math.isnan(loss) and not self.seen("unseen_loss"))

    @cached_property
    def broken_at(self) -> int | None:
        """The step from which on the loss (a layer's output, where no loss was seen) is never finite again; None when it is at the end."""
        bad = [self.is_broken(s.loss.last) for s in self.steps] if self.losses or self.seen("loss_input") else []
        if bad and bad[-1]:
            return self.steps[next((at + 1 for at in range(len(bad) - 1, -1, -1) if not bad[at]), 0)].first_step
        if not bad:
            return min((r[-1].first_step for r in self.layers.values() if r[-1].non_finite), default=None)
        return None

    @cached_property
    def until_broken(self) -> RunView:
        """The records before the run broke down: what a statistic says of numbers that are not finite, it says of nothing."""
        end = self.broken_at
        if end is None:
            return self
        layers = {name: kept for name, records in self.layers.items() if (kept := tuple(r for r in records if r.last_step < end))}
        observations = {kind: seen for kind, found in self.observations.items() if (seen := tuple(o for o in found if o.step <= end))}
        steps = tuple(s for s in self.steps if s.last_step < end)
        return RunView(steps, layers, observations, self.scale, broke=True, alone=self.alone)

    @cached_property
    def classes(self) -> int | None:
        """Number of possible answers, when a classification loss or the labels were seen."""
        for observation in reversed(self.seen("loss_input")):
            if observation.subject in ("cross_entropy", "nll_loss") and isinstance(classes := observation.numbers.get("classes"), int):
                return classes
        return None

    @cached_property
    def guessing(self) -> float | None:
        """Loss in nats of answering with the labels' frequencies, when the loss is a cross-entropy; else None."""
        if not any(o.subject in ("cross_entropy", "nll_loss") for o in self.seen("loss_input")):
            return None
        labels = self.last("labels")
        if labels is not None and number(labels, "entropy") > 0 and number(labels, "batches") >= 5:
            return number(labels, "entropy") * self.loss_unit
        return math.log(self.classes) * self.loss_unit if self.classes and self.classes > 1 else None

    @cached_property
    def constant_answer(self) -> float | None:
        """Loss of the best constant answer where there are no classes: the targets' variance, or the entropy of yes and no; None where it is unknown.

        It is known when the loop's loss is the mean squared error, or the mean cross-entropy of yes-or-no answers.
        """
        if not self.alone:  # a critic's targets are the loop's own
            return None
        binary = [o for o in self.seen("loss_input") if o.numbers.get("training") is True and number(o, "plain_binary_loss") > 0]
        if binary and all(_close(number(o, "loss"), number(o, "plain_binary_loss")) for o in binary):
            yes = statistics.fmean(number(o, "target_mean") for o in binary)
            return (
                -yes * math.log(yes) - (1 - yes) * math.log(1 - yes) if 0 < yes < 1 and self._is_all_of_the_loss(binary, "loss") else None
            )
        squared = [o for o in self.seen("amounts") if number(o, "variance", 0) > 0]
        return number(squared[-1], "variance") if squared and self._is_all_of_the_loss(squared, "error") else None

    def _is_all_of_the_loss(self, looks: Sequence[Observation], name: str) -> bool:
        """Whether a number of these looks is the loop's loss at the steps at which both are known one by one."""
        losses = {s.first_step: s.loss.mean for s in self.steps[:START_STEPS] if s.first_step == s.last_step}
        pairs = [(number(o, name), losses[o.step]) for o in looks if o.step in losses]
        return bool(pairs) and all(_close(one, two) for one, two in pairs)

    @cached_property
    def loss_unit(self) -> float:
        """What the loop's loss is for one nat per image: 1 for a mean, the batch size for a sum; 1 where it differs little."""
        known = [o for o in self.seen("loss_input") if number(o, "plain_loss", 0) > 0.05][:START_STEPS]  # later, class weights would tell
        ratios = [number(o, "loss") / number(o, "plain_loss") for o in known]
        ratio = statistics.median(ratios) if ratios else 1.0
        return ratio if math.isfinite(ratio) and (ratio > LOSS_UNIT or 0 < ratio < 1 / LOSS_UNIT) else 1.0

    @cached_property
    def warming_up(self) -> bool:
        """Whether the learning rate has been rising until now from less than half of its value."""
        rates = [rate for _, rate in self.learning_rates]
        if len(rates) < 20:
            return False
        return rates[-1] >= max(rates) and rates[-1] > rates[-len(rates) // 10 or -1] and rates[0] < rates[-1] / 2

    @cached_property
    def outcome(self) -> Outcome:
        """How the run goes; every field is NaN or False while there is no loss."""
        losses = [loss for _, loss in self.losses]
        blown = any(self.is_broken(s.loss.last) for s in self.steps[-3:])
        if not losses:
            return Outcome(math.nan, math.nan, math.nan, math.nan, False, blown, False, False)
        start, now = statistics.median(losses[:START_STEPS]), self.loss_now
        windows = window_means(losses, max(5, len(losses) // 20))
        constant, poor = (self.guessing, POOR) if self.guessing is not None else (self.constant_answer, POOR_AMOUNTS)
        guessing, poor = (constant, poor) if constant is not None else (start, POOR)
        fair = self.step_count >= self.limit(FAIR_STEPS) * 1.0 and not self.warming_up
        if not fair and not self.warming_up:  # an epoch is a fair budget too, when it has steps enough to average
            validated = len(self.seen("validation")) >= 2
            fair = (self.step_count >= SHORT_EPOCH and self.steps[-1].epoch >= 1) or (self.step_count >= 2 * SHORT_EPOCH and validated)
        if not fair and not self.warming_up:  # so is the second time that every sample is seen
            fair = self.step_count >= SHORT_EPOCH and self.epochs >= TWO_EPOCHS
        if not fair and not self.warming_up:  # so are many samples
            fair = self.step_count >= SHORT_EPOCH and self.images_seen >= MANY_IMAGES
        hopeless = constant is not None and now > HOPELESS * guessing
        blown_up = hopeless or max(losses) > self.limit(BLOWN_UP) * max(losses[0], guessing)  # and on its way back, which is no learning
        stuck = fair and now >= (1 - self.limit(NOT_LEARNED)) * guessing and (blown_up or not self.falling)
        if self.guessing is None and min(losses) < 0:  # a reward, a likelihood or a critic's score: no level of it is good or bad
            return Outcome(start, now, min(windows), guessing, fair, blown, False, False)
        diverged = blown or now > self.limit(DIVERGED) * max(start, guessing)
        is_poor = fair and (now > self.limit(poor) * guessing or self._amounts_missed)
        return Outcome(start, now, min(windows), guessing, fair, diverged, stuck and not diverged, is_poor)

    @property
    def _amounts_missed(self) -> bool:
        """Whether answers that a robust loss compares with amounts are lately worse than always answering the mean, where that loss is all there is."""
        looks = [o for o in self.seen("loss_input") if o.subject in ROBUST and o.numbers.get("training") is True]
        newest = self.seen("amounts")[-2:]
        missed = [number(o, "error") > number(o, "variance", math.inf) for o in newest]
        return self.alone and len(missed) == 2 and all(missed) and self._is_all_of_the_loss(looks, "loss")

    @cached_property
    def falling(self) -> bool:
        """Whether the loss is lower in the last third of the run than in the middle one, by more than chance and by more than half a percent."""
        losses = [loss for _, loss in self.losses]
        third = len(losses) // 3
        if third < 10:
            return False
        before, after = losses[third : 2 * third], losses[-third:]
        noise = math.sqrt((statistics.variance(before) + statistics.variance(after)) / third)
        drop = statistics.fmean(before) - statistics.fmean(after)
        return drop > 3 * noise and drop > LEAST_DROP * abs(statistics.fmean(before))

    @cached_property
    def loss_now(self) -> float:
        """Mean loss of the last fifth of the run, at least 10 and at most 100 spans."""
        losses = [loss for _, loss in self.losses]
        size = min(100, max(10, len(losses) // 5))
        return statistics.fmean(losses[-size:]) if losses else math.nan

    def update_ratios(self, name: str) -> tuple[tuple[int, float], ...]:
        """(first step, update-to-weight ratio) of a layer's own weights, where it is known."""
        return tuple((r.first_step, r.update_ratio) for r in self.layers.get(name, ()) if math.isfinite(r.update_ratio))

    @cached_property
    def median_ratios(self) -> tuple[tuple[int, float], ...]:
        """(first step, median over weighted layers of the update-to-weight ratio)."""
        by_step: dict[int, list[float]] = {}
        for name in self.layers:
            ratios = self.update_ratios(name)
            for step, ratio in ratios if any(ratio > 0 for _, ratio in ratios) else ():  # a layer that is never updated has no pace
                by_step.setdefault(step, []).append(ratio)
        return tuple((step, statistics.median(ratios)) for step, ratios in sorted(by_step.items()))

    @cached_property
    def weighted_layers(self) -> tuple[str, ...]:
        """Names of the layers with weights of their own, in the order of execution; weights that the whole network keeps beside its layers are none."""
        names = tuple(name for name, records in self.layers.items() if any(math.isfinite(r.weight_rms) for r in records))
        whole = len(names) > 1 and names[-1] == self.layers[names[-1]][-1].kind  # it is named by its class, and done after all its layers
        return names[:-1] if whole else names


def number(observation: Observation, name: str, default: float = math.nan) -> float:
    """A number of an observation; `default` when it is absent or None."""
    value = observation.numbers.get(name)
    return float(value) if isinstance(value, int | float) else default


def _close(one: float, two: float) -> bool:
    """Whether two losses are the same but for rounding and the samples that were looked at."""
    return math.isclose(one, two, rel_tol=0.02)


def window_means(values: Sequence[float], size: int) -> list[float]:
    """Means of consecutive windows of `size` values; the last one may be longer; at least one."""
    count = max(1, len(values) // size)
    cuts = [round(i * len(values) / count) for i in range(count + 1)]
    return [statistics.fmean(values[a:b]) for a, b in itertools.pairwise(cuts) if b > a]
