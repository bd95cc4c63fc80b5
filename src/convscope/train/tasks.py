"""The task of image classification, and the choice of the task that belongs to some data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

from convscope.arithmetic import summary
from convscope.data import DataLoaders, RatingLoaders
from convscope.records import Evaluation, NetworkSummary
from convscope.rundir import RunDir
from convscope.train import results
from convscope.train.evaluate import evaluate
from convscope.train.metrics import Loss, Metric, accuracy, cross_entropy
from convscope.train.optimizers import WEIGHT_DECAY
from convscope.train.ratings import RatingTask
from convscope.train.task import Judgement, Task

if TYPE_CHECKING:
    from convscope.train.learner import Learner

Data: TypeAlias = DataLoaders | RatingLoaders


def task_of(data: Data, device: torch.device) -> Task:
    """The task that belongs to some data."""
    return RatingTask(data) if isinstance(data, RatingLoaders) else Classification(data, device)


@dataclass(frozen=True)
class Classification:
    """One class for each image: cross-entropy, accuracy, a confusion matrix."""

    data: DataLoaders
    device: torch.device
    weight_decay: float = WEIGHT_DECAY
    metrics: tuple[Metric, ...] = (accuracy,)
    valid_loss: Loss = field(default_factory=cross_entropy)

    def train_loss(self, label_smoothing: float) -> Loss:
        """Cross-entropy with the data's class weights."""
        weights = torch.tensor(self.data.class_weights, device=self.device) if self.data.class_weights else None
        return cross_entropy(weights, label_smoothing)

    def summary(self, model: nn.Module) -> NetworkSummary:
        """The table for one image."""
        return summary(model, self.data.preprocess.shape)

    def describe(self) -> dict[str, Any]:
        """Size and augmentation of the images."""
        return {"image_size": list(self.data.preprocess.shape[1:]), "augment": dict(self.data.summary.augment)}

    def inputs(self) -> dict[str, Any]:
        """How an image becomes the network's input."""
        return self.data.preprocess.to_config()

    def keep_data(self, run: RunDir) -> None:
        """data.json, and the files that were skipped."""
        run.keep(self.data.summary)
        results.write_skipped(run.skipped, self.data.summary.skipped)

    def judge(self, learner: Learner) -> Judgement:
        """Accuracy on validation and test images."""
        valid = evaluate(learner, "valid")
        test = evaluate(learner, "test") if self.data.test else None
        tested = f", {test.accuracy:.4f} on {test.count:,} test images" if test else ""
        said = f"accuracy {valid.accuracy:.4f} on {valid.count:,} validation images{tested}"
        return Judgement(_figures(valid, test), said, lambda run: run.keep(test or valid))


def _figures(valid: Evaluation, test: Evaluation | None) -> dict[str, float]:
    figures = {"accuracy": valid.accuracy, "balanced_accuracy": valid.balanced_accuracy, "valid_loss": valid.loss}
    if test:
        figures |= {"test_accuracy": test.accuracy, "test_balanced_accuracy": test.balanced_accuracy, "test_loss": test.loss}
    return figures
