"""Metrics and one pass over validation data: a network and batches in, losses, metrics and a confusion matrix out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from convscope.train.processes import Processes

Loss = Callable[[Tensor, Tensor], Tensor]
MetricFunction = Callable[[Tensor, Tensor], Tensor]


def _same(value: float) -> float:
    return value


@dataclass(frozen=True, slots=True)
class Metric:
    """A number averaged over the images of a split.

    Attributes:
        name: under which it is reported.
        function: (predictions, targets) of one batch to a value per image, or to the batch's mean.
        finish: applied once to the mean, for example a square root.
    """

    name: str
    function: MetricFunction
    finish: Callable[[float], float] = _same


def is_right(logits_NL: Float[Tensor, "N L"], labels_N: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """1.0 for each image whose highest logit is its label's, else 0.0."""
    return (logits_NL.argmax(1) == labels_N).float()


def cross_entropy(weights_L: Float[Tensor, " L"] | None = None, label_smoothing: float = 0.0) -> Loss:
    """Cross-entropy of logits and labels as a function of both.

    Args:
        weights_L: weight of each class, or None.
        label_smoothing: share of each target spread over all classes.
    """

    def loss(logits_NL: Tensor, labels_N: Tensor) -> Tensor:
        # Looked up at each call: a watcher sees the loss's input by standing in for this function while it is open.
        return F.cross_entropy(logits_NL, labels_N, weight=weights_L, label_smoothing=label_smoothing)

    return loss


accuracy = Metric("accuracy", is_right)


def as_metric(metric: Metric | MetricFunction) -> Metric:
    """A Metric as it is, or a function wrapped under its own name."""
    return metric if isinstance(metric, Metric) else Metric(getattr(metric, "__name__", type(metric).__name__), metric)


@dataclass(frozen=True, slots=True)
class Validation:
    """What a network did on one split.

    Attributes:
        loss: mean over the images.
        metrics: by name; includes "balanced_accuracy" (the mean of the classes' accuracies) when there is a confusion matrix.
        count: images.
        confusion: confusion[i][j] counts images of class i answered as j; None when the task is no classification.
    """

    loss: float
    metrics: dict[str, float] = field(default_factory=dict)
    count: int = 0
    confusion: tuple[tuple[int, ...], ...] | None = None


def balanced_accuracy(confusion: Sequence[Sequence[int]]) -> float:
    """The mean over the classes of the share of their images answered right; classes without images are left out.

    Example:
        >>> balanced_accuracy([[90, 10], [5, 5]])
        0.7
    """
    shares = [row[index] / sum(row) for index, row in enumerate(confusion) if sum(row)]
    return sum(shares) / len(shares) if shares else math.nan


@torch.no_grad()
def validate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss_func: Loss,
    metrics: Sequence[Metric],
    classes: int | None,
    processes: Processes,
) -> Validation:
    """Run a model, which must be in evaluation mode, over batches and average.

    Args:
        model: its outputs go to the loss as they are.
        batches: pairs of inputs and targets; one copy of each image over all processes together.
        loss_func: (outputs, targets) to the batch's mean loss.
        metrics: what else to average.
        classes: number of classes, for the confusion matrix; None for no classification.
        processes: sums are added over them.

    Returns:
        Averages over all images, summed in float64.
    """
    sums: Tensor | None = None
    confusion: Tensor | None = None
    for inputs, targets in batches:
        if not len(targets):
            continue
        outputs = model(inputs).float()
        values = [loss_func(outputs, targets).double(), *(metric.function(outputs, targets).double().mean() for metric in metrics)]
        weighted = torch.stack([*values, torch.ones_like(values[0])]) * len(targets)
        sums = weighted if sums is None else sums + weighted
        if classes is not None:
            pairs = torch.bincount(targets * classes + outputs.argmax(1), minlength=classes * classes)
            confusion = pairs if confusion is None else confusion + pairs
    if sums is None:
        sums = torch.zeros(len(metrics) + 2, dtype=torch.float64, device=processes.device)
    sums = processes.add(sums)
    loss, *means = (sums[:-1] / sums[-1]).tolist()
    named = {metric.name: metric.finish(mean) for metric, mean in zip(metrics, means, strict=True)}
    table = None
    if classes is not None:
        empty = torch.zeros(classes * classes, dtype=torch.int64, device=processes.device)
        rows = processes.add(confusion if confusion is not None else empty).view(classes, classes)
        table = tuple(tuple(int(value) for value in row) for row in rows.tolist())
        named["balanced_accuracy"] = balanced_accuracy(table)
    return Validation(loss, named, int(sums[-1].item()), table)
