"""Frozen dataclasses that cross stages: what is measured, found, summarised and traced.

Stages never call back: watching, training and tracing fill these records; diagnosis and drawing read them.
Everything here turns into JSON (`to_json`) and back (`from_json`), with a schema number. There is no torch here, and no behaviour
beyond merging: two records of adjacent spans of steps merge into one, so that a log of any length is kept in bounded space.
"""

from __future__ import annotations

import dataclasses
import html
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    import numpy

SCHEMA = 1  # grows when a field changes its meaning; new fields alone do not change it
R = TypeVar("R")

# ---------------------------------------------------------------- JSON


def to_json(record: object) -> Any:
    """Turn records, and tuples, dicts and numbers of them, into plain JSON values; numbers that are not finite become None."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {f.name: to_json(getattr(record, f.name)) for f in dataclasses.fields(record)}
    if isinstance(record, Mapping):
        return {str(key): to_json(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [to_json(value) for value in record]
    if isinstance(record, bytes):
        return record.hex()
    if isinstance(record, float):
        return record if math.isfinite(record) else None
    return record


def from_json(kind: type[R], value: Any) -> R:
    """Build a record of the given class from what `to_json` made; unknown keys of newer versions are ignored.

    Raises:
        KeyError: a field without a default is missing.
        TypeError: the value is not of the shape that the class describes.
    """
    built: R = _build(kind, value)
    return built


def dump(record: object) -> str:
    """The record as compact JSON text, with the schema number when it is an object."""
    value = to_json(record)
    if isinstance(value, dict):
        value = {"schema": SCHEMA, **value}
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _build(kind: Any, value: Any) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any or origin is Literal:
        return value
    if origin is Union or str(origin) == "<class 'types.UnionType'>":
        if value is None and type(None) in args:
            return None
        kinds = [arg for arg in args if arg is not type(None)]
        return _build(kinds[0], value) if len(kinds) == 1 else value  # plain kinds, such as int | str: JSON tells them apart
    if kind is float:
        return math.nan if value is None else float(value)
    if kind is bytes:
        return bytes.fromhex(value)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise TypeError(f"expected an object for {kind.__name__}, got {type(value).__name__}")
        hints = get_type_hints(kind)
        return kind(
            **{f.name: _build(hints[f.name], value[f.name]) for f in dataclasses.fields(kind) if f.name in value or not _has_default(f)}
        )
    if origin is tuple:
        items = args[:1] * len(value) if len(args) == 2 and args[1] is Ellipsis else args
        return tuple(_build(item, part) for item, part in zip(items, value, strict=True))
    if origin in (dict, Mapping) or str(origin) == "<class 'collections.abc.Mapping'>":
        return {key: _build(args[1], part) for key, part in value.items()}
    return value


def _has_default(f: dataclasses.Field[Any]) -> bool:
    return f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING


# ---------------------------------------------------------------- statistics of layers

NEAR_ZERO = 0.05  # |x| at most this is "near zero"; the limit of fastai's ActivationStats, there without the absolute value


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts over fixed bins that cover every finite float32 with its sign: two bins an octave, [2^k, 1.5*2^k) and [1.5*2^k, 2^(k+1)).

    A bin's index is 0 for |x| < 2^-126 (zero and denormals), `2*(k+126)+1` or `+2` for the two halves of octave k, negative for negative values.
    Because the bins are fixed, two histograms merge by adding.

    Attributes:
        first: the index of the first bin held.
        counts: elements in each bin from `first` on; empty when nothing was counted.
    """

    first: int = 0
    counts: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        """Elements counted."""
        return sum(self.counts)

    def merge(self, other: Histogram) -> Histogram:
        """The histogram of both samples together."""
        if not other.counts:
            return self
        if not self.counts:
            return other
        first = min(self.first, other.first)
        counts = [0] * (max(self.first + len(self.counts), other.first + len(other.counts)) - first)
        for part in (self, other):
            for offset, count in enumerate(part.counts, part.first - first):
                counts[offset] += count
        return Histogram(first, tuple(counts))


def bin_edges(index: int) -> tuple[float, float]:
    """The lower and upper edge of histogram bin `index` (lower included for positive bins, upper for negative ones).

    Example:
        >>> bin_edges(253)  # the first half of octave 0
        (1.0, 1.5)
    """
    if index == 0:
        return (-(2.0**-126), 2.0**-126)
    octave, half = divmod(abs(index) - 1, 2)
    low, high = (1.0, 1.5) if half == 0 else (1.5, 2.0)
    scale = 2.0 ** (octave - 126)
    return (low * scale, high * scale) if index > 0 else (-high * scale, -low * scale)


@dataclass(frozen=True, slots=True)
class LayerStats:
    """What one layer's values looked like over a span of steps.

    `count`, `mean`, `m2` (hence `std`) and `non_finite` are exact over every element unless `sampled` names them; `histogram`, `nan_count`, `inf_count`,
    `zero_count`, `near_zero_count`, `minimum` and `maximum` come from `sample_count` elements looked at (all of them when it equals `count`).
    Always `histogram.total + nan_count + inf_count == sample_count`.

    Attributes:
        layer: qualified module name, such as "2.0"; functional activations are named after the module that calls them, "features.relu:1".
        role: "output" of a layer (so far the only one; gradients and weights are in the fields below).
        kind: what computed it: "Conv2d", "ReLU", "relu".
        first_step, last_step: the span of optimiser steps, both included, counted from 0.
        count: elements seen.
        mean: mean of the finite elements; NaN when there are none.
        m2: sum of squared deviations from the mean.
        minimum, maximum: of the finite elements; NaN when there are none.
        non_finite: whether any element was NaN or infinite.
        sample_count: elements looked at for what comes from a sample.
        nan_count, inf_count, zero_count, near_zero_count: among those looked at; exactly 0 and |x| <= near_zero.
        near_zero: the limit used for `near_zero_count`.
        histogram: of the finite elements looked at.
        positive: one bit per channel (axis 1), least significant first: was it ever positive? Merges by "or".
        channels: number of channels, 0 when the output has no channel axis.
        positive_samples: images (axis 0) looked at for `positive`.
        update_ratio: norm of the last update over norm of the weight, of the layer's own parameters (mean over the span, NaN when it has none).
        gradient_rms: root mean square of the gradient of the layer's own parameters (over the span, NaN when it has none).
        weight_rms: root mean square of the layer's own parameters (last of the span, NaN when it has none).
        parameter_records: how many of the single records carry these three (the update ratio may be measured on some steps only).
        records: how many single records were merged into this one.
        sampled: the names of figures that are usually exact but here come from the sample.
    """

    layer: str
    first_step: int
    last_step: int
    count: int
    mean: float
    m2: float
    minimum: float
    maximum: float
    role: str = "output"
    kind: str = ""
    non_finite: bool = False
    sample_count: int = 0
    nan_count: int = 0
    inf_count: int = 0
    zero_count: int = 0
    near_zero_count: int = 0
    near_zero: float = NEAR_ZERO
    histogram: Histogram = Histogram()
    positive: bytes = b""
    channels: int = 0
    positive_samples: int = 0
    update_ratio: float = math.nan
    gradient_rms: float = math.nan
    weight_rms: float = math.nan
    parameter_records: int = 0
    records: int = 1
    sampled: tuple[str, ...] = ()

    @property
    def std(self) -> float:
        """Standard deviation of the finite elements, population form (divided by n); NaN when there are none."""
        return math.sqrt(max(self.m2, 0.0) / self.count) if self.count else math.nan

    @property
    def share_near_zero(self) -> float:
        """Share of the elements looked at with |x| <= near_zero; NaN when none was looked at."""
        return self.near_zero_count / self.sample_count if self.sample_count else math.nan

    @property
    def share_zero(self) -> float:
        """Share of the elements looked at that are exactly zero; NaN when none was looked at."""
        return self.zero_count / self.sample_count if self.sample_count else math.nan

    @property
    def never_positive(self) -> tuple[int, ...]:
        """The channels that were not positive once in `positive_samples` images."""
        return tuple(c for c in range(self.channels) if not self.positive[c // 8] >> (c % 8) & 1)

    def merge(self, later: LayerStats) -> LayerStats:
        """The statistics over this span and the one after it, or over another rank's share of the same span.

        Counts and histograms add, masks "or", and moments merge in float64 as in one pass (Chan, Golub and LeVeque, 1979).
        A part without finite elements keeps its count but has no say in mean and std.
        """
        assert (self.layer, self.role, self.near_zero) == (later.layer, later.role, later.near_zero), "only records of one layer merge"
        mean, m2 = merge_moments((self.count, self.mean, self.m2), (later.count, later.mean, later.m2))
        return LayerStats(
            layer=self.layer,
            first_step=min(self.first_step, later.first_step),
            last_step=max(self.last_step, later.last_step),
            count=self.count + later.count,
            mean=mean,
            m2=m2,
            minimum=_extreme(min, self.minimum, later.minimum),
            maximum=_extreme(max, self.maximum, later.maximum),
            role=self.role,
            kind=later.kind,
            non_finite=self.non_finite or later.non_finite,
            sample_count=self.sample_count + later.sample_count,
            nan_count=self.nan_count + later.nan_count,
            inf_count=self.inf_count + later.inf_count,
            zero_count=self.zero_count + later.zero_count,
            near_zero_count=self.near_zero_count + later.near_zero_count,
            near_zero=self.near_zero,
            histogram=self.histogram.merge(later.histogram),
            positive=_either(self.positive, later.positive),
            channels=max(self.channels, later.channels),
            positive_samples=self.positive_samples + later.positive_samples,
            update_ratio=_mean_of(self, later, self.update_ratio, later.update_ratio),
            gradient_rms=math.sqrt(_mean_of(self, later, self.gradient_rms**2, later.gradient_rms**2)),
            weight_rms=self.weight_rms if math.isnan(later.weight_rms) else later.weight_rms,
            parameter_records=self.parameter_records + later.parameter_records,
            records=self.records + later.records,
            sampled=tuple(dict.fromkeys(self.sampled + later.sampled)),
        )


def merge_moments(one: tuple[int, float, float], two: tuple[int, float, float]) -> tuple[float, float]:
    """Mean and m2 of two samples together, each given as (count, mean, m2); a NaN mean stands for "no finite elements"."""
    (count, mean, m2), (more, later_mean, later_m2) = one, two
    if not more or math.isnan(later_mean):
        return mean, m2 * ((count + more) / count) if count else m2  # std = sqrt(m2 / count) stays what it was
    if not count or math.isnan(mean):
        return later_mean, later_m2 * ((count + more) / more)
    share = more / (count + more)
    delta = later_mean - mean
    return mean + delta * share, m2 + later_m2 + delta * delta * count * share


def _extreme(choose: Callable[[float, float], float], one: float, two: float) -> float:
    if math.isnan(one) or math.isnan(two):
        return two if math.isnan(one) else one
    return choose(one, two)


def _either(one: bytes, two: bytes) -> bytes:
    size = max(len(one), len(two))
    return (int.from_bytes(one, "little") | int.from_bytes(two, "little")).to_bytes(size, "little")


def _mean_of(one: LayerStats, two: LayerStats, value: float, other: float) -> float:
    if not two.parameter_records or math.isnan(other):
        return value
    if not one.parameter_records or math.isnan(value):
        return other
    share = two.parameter_records / (one.parameter_records + two.parameter_records)
    return value + (other - value) * share


@dataclass(frozen=True, slots=True)
class Range:
    """A number over a span of steps: its least, mean, greatest and last value, NaN left out of all but `last`."""

    minimum: float
    mean: float
    maximum: float
    last: float
    count: int = 1

    @classmethod
    def of(cls, value: float) -> Range:
        """The range of one value."""
        return cls(value, value, value, value)

    def merge(self, later: Range) -> Range:
        """The range over this span and the one after it."""
        parts = [part for part in (self, later) if not math.isnan(part.mean)]
        if not parts:
            return dataclasses.replace(later, count=self.count + later.count)
        weight = sum(part.count for part in parts)
        mean = sum(part.mean * (part.count / weight) for part in parts)
        return Range(min(p.minimum for p in parts), mean, max(p.maximum for p in parts), later.last, self.count + later.count)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What one span of optimiser steps did.

    Attributes:
        first_step, last_step: both included, counted from 0.
        epoch: epochs done at the last step, with its fraction (0.5 is the middle of the first epoch); NaN when it is not known.
        loss: training loss as the loop computed it.
        hyper: hyper-parameters by name: "lr", "momentum", "beta1", "beta2", "weight_decay", "eps"; further optimisers and parameter groups as "lr:1", "lr:2".
        gradient_norm: global L2 norm of all gradients before clipping, or None when it was not measured.
        seconds: wall time per step.
    """

    first_step: int
    last_step: int
    epoch: float
    loss: Range
    hyper: dict[str, Range] = field(default_factory=dict)
    gradient_norm: Range | None = None
    seconds: Range | None = None

    def merge(self, later: StepRecord) -> StepRecord:
        """The record of this span and the one after it."""
        hyper = {
            name: self.hyper[name].merge(later.hyper[name])
            if name in self.hyper and name in later.hyper
            else (later.hyper.get(name) or self.hyper[name])
            for name in {**self.hyper, **later.hyper}
        }
        return StepRecord(
            self.first_step,
            later.last_step,
            later.epoch,
            self.loss.merge(later.loss),
            hyper,
            _merge_optional(self.gradient_norm, later.gradient_norm),
            _merge_optional(self.seconds, later.seconds),
        )


def _merge_optional(one: Range | None, two: Range | None) -> Range | None:
    return one.merge(two) if one and two else one or two


# ---------------------------------------------------------------- what the rules need and say

Severity = Literal["note", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing seen from outside that statistics do not carry.

    Attributes:
        step: the optimiser step at which it was seen (the number of steps taken before it).
        kind: a name listed in `convscope.diagnose`, such as "gradient_not_cleared".
        subject: the layer, parameter or data set that it is about; "" for the whole run.
        numbers: named values.
    """

    step: int
    kind: str
    subject: str = ""
    numbers: dict[str, float | int | str | bool | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One measured number behind a finding: its name in words, value and unit ("" for a plain number)."""

    name: str
    value: float | int | str | None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Fix:
    """What to do: a sentence, and settings to change by machine (names of `convscope train`'s settings), or None."""

    text: str
    change: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One diagnosis. `cause` is the name of the finding that this one follows from."""

    name: str
    severity: Severity
    where: str
    step: int
    message: str
    fix: Fix
    evidence: tuple[Evidence, ...] = ()
    source: str = ""
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class NotChecked:
    """A rule that could not be applied, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The findings of a run, cause before consequence, and what was not checked.

    Attributes:
        verdict: "healthy", "note", "warning", "problem" (the worst severity) or "too_early".
        steps: optimiser steps seen.
    """

    verdict: Literal["healthy", "note", "warning", "problem", "too_early"]
    steps: int
    findings: tuple[Finding, ...] = ()
    not_checked: tuple[NotChecked, ...] = ()


# ---------------------------------------------------------------- data, results and networks as the page needs them


@dataclass(frozen=True, slots=True)
class SampleImage:
    """One image as a PNG file's bytes (at most 64 pixels a side), with what it is and what the network said."""

    png: bytes
    label: str
    name: str = ""
    predicted: str | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that was left out, relative to the data's folder, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class DataSummary:
    """What the data is: where it comes from, its classes, counts per class and split, and how it is prepared.

    Attributes:
        counts: images per class, in the order of `classes`, for "train", "valid" and, when there is one, "test".
        image_shape: (C, H, W) of what the network sees.
        mean, std: per channel, of the training images scaled to 0..1.
        augment: the augmentations with their strengths, empty when off.
        class_weights: weight of each class in the loss, empty when all are 1.
        notes: sentences worth telling, such as an imbalance of the classes.
    """

    source: str
    classes: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    image_shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    samples: tuple[SampleImage, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()
    augment: dict[str, float] = field(default_factory=dict)
    class_weights: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a trained classifier did on one split.

    Attributes:
        split: "valid" or "test".
        confusion: confusion[i][j] counts images of class i answered as class j, in the order of DataSummary.classes.
        wrong: the most confidently wrong images, worst first.
    """

    split: str
    count: int
    loss: float
    accuracy: float
    balanced_accuracy: float
    confusion: tuple[tuple[int, ...], ...]
    wrong: tuple[SampleImage, ...] = ()


@dataclass(frozen=True, slots=True)
class RatedItem:
    """An item of a rating network: its bias, its training ratings (how many, and their mean), and its place in the picture of the factors."""

    item: str
    bias: float
    count: int
    mean: float
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class SurprisingRating:
    """A rating that lies far from what the network predicted."""

    user: str
    item: str
    rating: float
    predicted: float


@dataclass(frozen=True, slots=True)
class RatingTrace:
    """One predicted rating and the products and biases that make it.

    Attributes:
        user, item: names; "" for one without a training rating.
        user_factors, item_factors: their products, in order, are the terms.
        user_bias, item_bias, offset: added to the products.
        y_range: lowest and highest answer, reached through a sigmoid; empty when the sum is the answer.
        total: our value; value: PyTorch's own; difference: total - value.
        rating: what the user gave, or None.
    """

    user: str
    item: str
    user_factors: tuple[float, ...]
    item_factors: tuple[float, ...]
    user_bias: float
    item_bias: float
    offset: float
    y_range: tuple[float, ...]
    total: float
    value: float
    difference: float
    rating: float | None = None

    @property
    def products(self) -> tuple[float, ...]:
        """Factor by factor."""
        return tuple(one * two for one, two in zip(self.user_factors, self.item_factors, strict=True))

    @property
    def sum(self) -> float:
        """Products, biases and offset together, before the sigmoid."""
        return math.fsum((*self.products, self.user_bias, self.item_bias, self.offset))

    def __str__(self) -> str:
        """The sum as text: a line for each factor, the biases, and both values."""
        rows = [
            (f"factor {number}", f"{one:.6g}", f"{two:.6g}", f"{product:.6g}")
            for number, (one, two, product) in enumerate(zip(self.user_factors, self.item_factors, self.products, strict=True), 1)
        ]
        rows += [("bias of the user", "", "", f"{self.user_bias:.6g}"), ("bias of the item", "", "", f"{self.item_bias:.6g}")]
        rows += [("offset", "", "", f"{self.offset:.6g}"), ("sum", "", "", f"{self.sum:.6g}")]
        if self.y_range:
            rows.append((f"sigmoid between {self.y_range[0]:g} and {self.y_range[1]:g}", "", "", f"{self.total:.6g}"))
        given = "" if self.rating is None else f"; {self.user} gave {self.rating:g}, an error of {self.total - self.rating:+.4g}"
        return "\n".join(
            [
                f"{self.item or 'an unknown item'} for {self.user or 'an unknown user'}: {self.total:.4g}{given}",
                text_table(("", "user", "item", "product"), rows, right=(1, 2, 3)),
                f"our total {self.total:.9g}, PyTorch's value {self.value:.9g}, difference {self.difference:.1e}",
            ]
        )


@dataclass(frozen=True, slots=True)
class RatingsEvaluation:
    """What a trained rating network does on the ratings set aside for validation, and what it learned of the items.

    Attributes:
        count, loss, rmse: of the validation ratings; loss is the mean squared error, rmse its root.
        baseline_rmse: of always answering the mean training rating.
        mean: that mean.
        users, items, train: how many, in training.
        lowest, highest: training ratings.
        split: how validation ratings were chosen, "random" or "time".
        skipped: rows that were left out; notes: sentences worth telling.
        most_liked, least_liked: items by their bias, the most extreme first.
        picture: the most rated items, placed by the two principal components of all items' factors.
        explained: share of the factors' variance that each of the two components holds.
        surprising: validation ratings furthest from their prediction, worst first.
        trace: the worst of them, traced; None for networks that are not one sum.
    """

    count: int
    loss: float
    rmse: float
    baseline_rmse: float
    mean: float
    users: int
    items: int
    train: int
    lowest: float
    highest: float
    split: str
    skipped: int
    notes: tuple[str, ...]
    most_liked: tuple[RatedItem, ...]
    least_liked: tuple[RatedItem, ...]
    picture: tuple[RatedItem, ...]
    explained: tuple[float, float]
    surprising: tuple[SurprisingRating, ...]
    trace: RatingTrace | None = None


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One row of results.csv: an epoch (counted from 1), steps done by its end, losses, metrics on validation, seconds."""

    epoch: int
    steps: int
    train_loss: float
    valid_loss: float
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One row of a network's table, with every way of counting its work under its own name (per image).

    Attributes:
        name: qualified module name; kind: class name; depth: nesting, 0 for the outermost.
        output_shape: without the batch axis.
        parameters: of this layer alone; trainable: those that the optimiser may change.
        macs: multiply-accumulates, bias not counted; macs_with_bias: one more per output for the bias;
        flops: 2 * macs plus one per output for the bias, or one per elementwise operation;
        real_products: multiplications whose input is a pixel or activation, not padding;
        input_grid_products: the book's count, weights * input positions (of a convolution), 0 elsewhere.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    trainable: int
    macs: int
    macs_with_bias: int
    flops: int
    real_products: int
    input_grid_products: int
    depth: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class NetworkSummary:
    """A network's table: one row a layer in the order of execution, for one image of `input_shape`."""

    model: str
    input_shape: tuple[int, ...]
    rows: tuple[LayerRow, ...]

    def total(self, column: str) -> int:
        """The sum of a numeric column over all layers."""
        return sum(int(getattr(row, column)) for row in self.rows)

    def __str__(self) -> str:
        """The table as text, one line a layer, with every way of counting work under its own name."""
        counts = ("parameters", "macs", "macs_with_bias", "flops", "real_products", "input_grid_products")
        header = ("layer", "kind", "output", "parameters", "MACs", "MACs + bias", "FLOPs", "real products", "input grid", "")
        lines = [
            (row.name, row.kind, "×".join(map(str, row.output_shape)), *(f"{getattr(row, count):,}" for count in counts), row.note)
            for row in self.rows
        ]
        lines.append(("total", "", "", *(f"{self.total(count):,}" for count in counts), ""))
        title = f"{self.model} for one image of {'×'.join(map(str, self.input_shape))} (C×H×W)"
        return f"{title}\n{text_table(header, lines, right=range(3, 9))}"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def text_table(header: Sequence[str], lines: Sequence[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Columns set side by side, under a rule; the columns numbered in `right` end at the same place."""
    widths = [max(len(line[column]) for line in (header, *lines)) for column in range(len(header))]
    aligned = set(right)

    def row(line: Sequence[str]) -> str:
        cells = enumerate(zip(line, widths, strict=True))
        return "  ".join(cell.rjust(width) if column in aligned else cell.ljust(width) for column, (cell, width) in cells).rstrip()

    return "\n".join([row(header), "─" * len(row(header)), *map(row, lines)])


# ---------------------------------------------------------------- executed networks and traces


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation of an executed network: what it received, with which weights, and what it gave.

    Attributes:
        name: the module that is this operation ("2.0"), or its module and what was done ("layer1.add"); repetitions count: "relu:1".
        module: qualified name of the innermost module that ran it, "" for the network itself.
        kind: the module's class ("Conv2d") where the module is this operation, else the operation's name ("add").
        function: the full name of the tensor function that ran ("aten.convolution.default"); "input" for the image.
        inputs: names of the operations whose outputs it received, in the order of its arguments.
        values: its output as an array with the leading axis for the one image.
        weights: the constant tensors among its arguments, by argument name.
        settings: all other arguments by name, such as the stride.
    """

    name: str
    module: str
    kind: str
    function: str
    inputs: tuple[str, ...]
    values: numpy.ndarray[Any, Any]
    weights: dict[str, numpy.ndarray[Any, Any]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def operation(self) -> str:
        """The function's plain name: "convolution", "relu"."""
        return self.function.split(".")[1].removesuffix("_") if "." in self.function else self.function

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output without the leading axis for the image."""
        shape = self.values.shape
        return tuple(shape[1:]) if len(shape) > 1 and shape[0] == 1 else tuple(shape)


@dataclass(frozen=True, slots=True, eq=False)
class ModuleCall:
    """One call of a module during an execution.

    Attributes:
        module, kind: its qualified name and class; depth: nesting, 0 for the outermost.
        repeat: how often the same module had been called before.
        start: how many operations had been recorded when it began.
        leaf: whether it has no modules inside.
        nodes: indices of the operations that it ran itself (not through modules inside it).
        output: name of the operation whose output it returned, "" when it returned no traced tensor.
        output_shape: without the image axis.
    """

    module: str
    kind: str
    depth: int
    repeat: int
    start: int
    leaf: bool
    nodes: tuple[int, ...]
    output: str
    output_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """The executed graph of a network for one image.

    Attributes:
        model: class name.
        nodes: every operation on data in the order of execution; the first is "input", the image as the network received it.
        calls: every call of a module, in the order in which they began.
        output: name of the operation that gave the result.
        decisions: where the network looked at a value to decide what to do next; empty when it does the same for every image.
    """

    model: str
    nodes: tuple[Node, ...]
    calls: tuple[ModuleCall, ...]
    output: str
    decisions: tuple[str, ...] = ()

    @property
    def by_name(self) -> dict[str, Node]:
        """The operations by name."""
        return {node.name: node for node in self.nodes}

    @property
    def layers(self) -> dict[str, str]:
        """Every name that a person may give, modules and operations, with the operation whose output it stands for."""
        modules = {f"{call.module}:{call.repeat}" if call.repeat else call.module: call.output for call in self.calls if call.module}
        return {node.name: node.name for node in self.nodes} | {name: output for name, output in modules.items() if output}


@dataclass(frozen=True, slots=True)
class Box:
    """Rows `top..bottom` and columns `left..right`, both ends included, in pixels of the image before padding."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Number of rows; 0 for the empty box (0, 0, -1, -1)."""
        return self.bottom - self.top + 1

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left + 1


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """The pixels that a layer's units can see.

    Attributes:
        layer: which layer; unit: which unit `box` is of (the middle one when none was asked for).
        box: the pixels inside the image that the unit depends on; (0, 0, -1, -1) when it sees padding only.
        size: rows and columns that a unit far from the edges sees, before clipping; None when it is the whole image or differs by unit.
        jump: pixels between the fields of neighbouring units, down and across; None where size is.
        offset: top and left pixel of the first unit's field before clipping (negative in the padding); None where size is.
        whole: whether every unit depends on the whole image.
        note: what limits the answer, "" when it is exact.
    """

    layer: str
    unit: tuple[int, ...]
    box: Box
    size: tuple[int, int] | None
    jump: tuple[int, int] | None
    offset: tuple[int, int] | None
    whole: bool = False
    note: str = ""


MOST_TERMS_SHOWN = 24  # of a sum in text; the record has them all


@dataclass(frozen=True, slots=True)
class Term:
    """One product: the unit of the layer before, its value, the weight and value * weight. `source` names that layer ("input": the image).

    The factor of a product of two activations is their second; the winner of a maximum has the weight 1 and the others 0.
    """

    source: str
    unit: tuple[int, ...]
    value: float
    weight: float
    product: float


@dataclass(frozen=True, slots=True)
class TraceStep:
    """A further step after the sum: what was done (BatchNorm2d, ReLU), with which numbers, and the value after it."""

    layer: str
    operation: str
    numbers: dict[str, float]
    value: float


@dataclass(frozen=True, slots=True)
class Trace:
    """One activation and the products that made it.

    Attributes:
        layer, unit: which activation; unit is (channel, row, column) or (i,).
        terms: the products, in the order of the layer's weights; padding gives none.
        bias: added to their sum (0 when there is none).
        steps: what was done after the sum, in order.
        total: our value after the last step; value: PyTorch's own; difference: total - value.
        magnitude: sum of |product| plus |bias|, carried through the further steps: what the difference is to be compared with.
        receptive_field: the pixels that can affect it.
        note: why the trace ends here, when it does not reach the pixels.
        summed_by, operation: the layer whose products the terms are ("2.0"), and what it is ("Conv2d").
    """

    layer: str
    unit: tuple[int, ...]
    terms: tuple[Term, ...]
    bias: float
    steps: tuple[TraceStep, ...]
    total: float
    value: float
    difference: float
    magnitude: float
    receptive_field: Box
    note: str = ""
    summed_by: str = ""
    operation: str = ""

    def __str__(self) -> str:
        """The sum as text: the terms with the largest products, the bias, the further steps, and both values."""
        by_size = sorted(range(len(self.terms)), key=lambda index: -abs(self.terms[index].product))
        shown = [self.terms[index] for index in sorted(by_size[:MOST_TERMS_SHOWN])]
        lines = [(f"{t.source} {list(t.unit)}", f"{t.value:.6g}", f"{t.weight:.6g}", f"{t.product:.6g}") for t in shown]
        if len(self.terms) > len(shown):
            rest = sum(term.product for term in self.terms) - sum(term.product for term in shown)
            lines.append((f"{len(self.terms) - len(shown):,} smaller products", "", "", f"{rest:.6g}"))
        lines += [("bias", "", "", f"{self.bias:.6g}")] if self.bias else []
        lines.append(("sum", "", "", f"{sum(term.product for term in self.terms) + self.bias:.6g}"))
        lines += [(f"then {step.operation} {step.layer}", "", "", f"{step.value:.6g}") for step in self.steps]
        used = [
            f"{step.operation} {step.layer} used {', '.join(f'{name} {number:.6g}' for name, number in step.numbers.items())}"
            for step in self.steps
            if step.numbers
        ]
        box = self.receptive_field
        by = f"{self.operation} of layer {self.summed_by}" if self.summed_by else "a constant"
        text = [
            f"Layer {self.layer}, unit {list(self.unit)}: {len(self.terms):,} products of {by}",
            text_table(("from", "value", "weight", "product"), lines, right=(1, 2, 3)),
            *used,
            f"our total {self.total:.9g}, PyTorch's value {self.value:.9g}, difference {self.difference:.1e}",
            f"it can see rows {box.top} to {box.bottom} and columns {box.left} to {box.right} of the image, {box.height}×{box.width} pixels"
            if box.height
            else "it sees no pixel, only padding",
        ]
        return "\n".join([*text, *([self.note] if self.note else [])])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def shares(counts: Sequence[int]) -> tuple[float, ...]:
    """Each count over their sum; all zero when the sum is."""
    total = sum(counts)
    return tuple(count / total if total else 0.0 for count in counts)
