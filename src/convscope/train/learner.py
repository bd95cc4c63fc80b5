"""Learner: trains a network on data. The loop itself is `fit_plan`, `_epoch` and `_batch`, and fits on one screen.

It receives DataLoaders and a network and leaves the network trained and the Recorder filled. It reads and writes no files: checkpoints, run
directories and pages are made by callbacks and by `convscope.train.runs`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from convscope.diagnose import diagnose_log
from convscope.errors import ConvscopeError, ModelError, UsageError
from convscope.nn import Recipe, recipe_of
from convscope.records import NetworkSummary, Verdict
from convscope.runlog import RunLog
from convscope.show.notebook import learner_html
from convscope.train.callback import Callback, CallbackList, CancelFit
from convscope.train.finder import END_LR, START_LR, STEPS, LRFind, lr_find
from convscope.train.guard import StopOnNonFinite
from convscope.train.metrics import Loss, Metric, MetricFunction, Validation, as_metric, validate
from convscope.train.optimizers import OptimizerFactory, adam, parameter_groups, set_hyper
from convscope.train.predict import Classifier, Prediction
from convscope.train.processes import join
from convscope.train.randomness import deterministic_algorithms, restored_random_state, seed_global
from convscope.train.recorder import Recorder
from convscope.train.schedules import Hyper, Schedule
from convscope.train.settings import Precision
from convscope.train.tasks import Classification, Data, task_of

if TYPE_CHECKING:
    from convscope.train.task import Task

PRECISIONS: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Plan:
    """A fit: how many epochs by which schedule, and where in the learner's life it began."""

    epochs: int
    schedule: Schedule
    first_epoch: int
    first_step: int


class Learner:
    """Trains a network.

    Args:
        data: what `load_data` or `load_ratings` returned.
        model: any module that maps a batch of inputs to outputs, for a classifier logits of shape (N, classes).
        loss_func: (outputs, targets) to the mean loss; unless given, cross-entropy with the data's class weights and `label_smoothing`, or for
            ratings the squared error.
        opt_func: makes the optimiser from parameter groups; Adam as in the book unless given.
        metrics: functions (outputs, targets) to a value per image or a mean; unless given, accuracy, or for ratings the RMSE. Balanced accuracy
            is always reported of a classifier.
        callbacks: run in the order of the list, after the Recorder.
        seed: every random choice of training comes from it; the network's initial weights were drawn before.
        device: "auto", "cpu", "cuda", "mps".
        precision: "fp32", or "bf16" / "fp16" through torch.autocast.
        weight_decay: decoupled, for weights only, not for biases and norms; 0.01, or 0.1 for ratings, unless given.
        label_smoothing: share of the target spread over all classes in training, 0 to below 1.
        clip_norm: gradients are scaled down to this L2 norm, None for no clipping.
        accumulate: batches whose gradients are averaged for one step.
        deterministic: choose deterministic algorithms only (on CUDA needed for a bit-exact resume).
        log: where steps and epochs are kept; in memory unless given.

    Attributes:
        recorder: the Recorder; further callbacks are held under their snake_case names.
        epoch, batch, step: done so far: whole epochs, batches in this epoch, optimiser steps.
        xb, yb, pred, loss: of the current batch; validation: of the last epoch.

    Raises:
        UsageError: an argument is out of range, or a callback is none.

    Example:
        >>> learner = Learner(load_data("mnist"), simple_cnn(), seed=0)
        >>> learner.fit_one_cycle(5, lr_max=0.1)
    """

    recorder: Recorder
    xb: Tensor
    yb: Tensor
    pred: Tensor
    loss: Tensor
    validation: Validation
    optimizer: torch.optim.Optimizer
    plan: Plan
    task: Task

    def __init__(
        self,
        data: Data,
        model: nn.Module,
        *,
        loss_func: Loss | None = None,
        opt_func: OptimizerFactory = adam,
        metrics: Sequence[Metric | MetricFunction] | None = None,
        callbacks: Sequence[Callback] = (),
        seed: int = 0,
        device: str | torch.device = "auto",
        precision: Precision = "fp32",
        weight_decay: float | None = None,
        label_smoothing: float = 0.0,
        clip_norm: float | None = None,
        accumulate: int = 1,
        deterministic: bool = False,
        log: RunLog | None = None,
    ) -> None:
        _check_settings(precision, weight_decay, label_smoothing, clip_norm, accumulate)
        self.processes = join(device)
        self.device = self.processes.device
        self.data: Data = data.to(self.device)
        self.task = task_of(self.data, self.device)
        self.model = model.to(self.device)
        self.opt_func, self.weight_decay = opt_func, self.task.weight_decay if weight_decay is None else weight_decay
        self.metrics = tuple(map(as_metric, self.task.metrics if metrics is None else metrics))
        self.seed, self.precision, self.deterministic = seed, precision, deterministic
        self.clip_norm, self.accumulate = clip_norm, accumulate
        self.train_loss: Loss = loss_func or self.task.train_loss(label_smoothing)
        self.valid_loss: Loss = loss_func or self.task.valid_loss
        self.epoch = self.batch = self.step = 0
        self.log = log or RunLog.create()
        self.gradient_norm: Tensor | None = None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.callbacks = CallbackList([Recorder(self.log), StopOnNonFinite(), *callbacks])
        for callback in self.callbacks.callbacks:
            if hasattr(self, callback.name):
                raise UsageError(
                    f"A callback cannot be named {callback.name!r}: the learner has an attribute of that name. Rename its class."
                )
            setattr(self, callback.name, callback)
        self.reset_optimizer()

    # ------------------------------------------------------------ the loop

    def fit_plan(self, plan: Plan) -> None:
        """Train by a plan from wherever the learner stands in it, which is its start or, after a resume, the middle of an epoch."""
        self.plan = plan
        steps = plan.epochs * self.steps_per_epoch
        with self._fitting():
            while self.epoch < plan.first_epoch + plan.epochs:
                self._epoch(steps)
                self.processes.agree_on_buffers(self.model)
                self.validation = self.validate()
                self.callbacks.call("after_validate", self)
                self.epoch, self.batch = self.epoch + 1, 0
                self.callbacks.call("after_epoch", self)

    def _epoch(self, steps: int) -> None:
        self.network.train()
        self.callbacks.call("before_epoch", self)
        batches = self.data.train.batches(self.epoch, self.batch, self.processes.rank, self.processes.world)
        for self.xb, self.yb in batches:
            self._batch(self.plan.schedule(self.step - self.plan.first_step, steps))

    def _batch(self, hyper: Hyper) -> None:
        call = self.callbacks.call
        seed_global(self.device, self.seed, "batch", self.epoch, self.batch, self.processes.rank)
        set_hyper(self.optimizer, hyper.lr, hyper.momentum)
        call("before_batch", self)
        with self.autocast(), self._explained():
            self.pred = self.network(self.xb)
            call("after_pred", self)
            self.loss = self.train_loss(self.pred, self.yb)
        call("after_loss", self)
        group = self.batch - self.batch % self.accumulate
        self.batch += 1
        in_group = min(self.accumulate, len(self.data.train) - group)
        self.scaler.scale(self.loss / in_group if in_group > 1 else self.loss).backward()  # type: ignore[no-untyped-call]
        if self.batch - group < in_group:
            return
        self.scaler.unscale_(self.optimizer)
        call("before_step", self)
        if self.clip_norm is not None:
            self.gradient_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.step += 1
        call("after_step", self)

    def validate(self, split: str = "valid") -> Validation:
        """Loss and metrics on a split, "valid", "train" or "test", with the network in evaluation mode; its mode is put back."""
        batches = getattr(self.data, split).batches(0, 0, self.processes.rank, self.processes.world)
        mode = self.model.training
        self.model.eval()
        self.callbacks.call("before_validate", self)
        try:
            with self.autocast():
                return validate(self.model, batches, self.valid_loss, self.metrics, len(self.data.classes) or None, self.processes)
        finally:
            self.model.train(mode)

    @contextlib.contextmanager
    def _fitting(self) -> Iterator[None]:
        self.network = self.processes.wrap(self.model)
        with restored_random_state(self.device), deterministic_algorithms(self.deterministic):
            try:
                self.callbacks.call("before_fit", self)
                yield
            except CancelFit:
                pass
            finally:
                self.optimizer.zero_grad()
                self.model.eval()
                self.callbacks.call("after_fit", self)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Say of a network or loss that fails on the very first batch that it does not fit the data."""
        try:
            yield
        except (RuntimeError, IndexError, ValueError) as error:
            if self.batch or self.step or isinstance(error, ConvscopeError | torch.OutOfMemoryError):
                raise
            raise ModelError(
                f"{type(self.model).__name__} cannot be trained on {self.data.name}: its first batch, of shape {tuple(self.xb.shape)} with targets of "
                f"shape {tuple(self.yb.shape)}, failed with {type(error).__name__}: {str(error).rstrip('.')}. "
                "Give a network and a loss made for these inputs and targets."
            ) from error

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which the network runs: torch.autocast for bf16 and fp16, nothing for fp32."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, PRECISIONS[self.precision])

    # ------------------------------------------------------------ what a user calls

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in one epoch."""
        return -(-len(self.data.train) // self.accumulate)

    def fit(self, epochs: int, lr: float, schedule: Literal["constant", "cosine"] = "constant") -> None:
        """Train with a constant learning rate, or with one that falls along half a cosine.

        Args:
            epochs: passes over the training images, 1 or more.
            lr: learning rate of the first step.
            schedule: "constant" or "cosine".

        Raises:
            UsageError: epochs or lr is out of range.
            ModelError: the network or the loss does not fit the data.
            NonFiniteError: the loss became NaN or infinite; the last good weights are back in the model.
        """
        self.fit_schedule(epochs, Schedule(schedule, lr))

    def fit_one_cycle(self, epochs: int, lr_max: float, **shape: Any) -> None:
        """Train with the 1cycle policy: the rate rises from lr_max/25 over a quarter of the steps, then falls to lr_max/1e5; momentum the other way.

        Args:
            epochs: passes over the training images, 1 or more.
            lr_max: the highest learning rate.
            **shape: `div`, `div_final`, `pct_start`, `momentums` of `Schedule`.

        Raises:
            UsageError: an argument is out of range.
            ModelError: the network or the loss does not fit the data.
            NonFiniteError: the loss became NaN or infinite; the last good weights are back in the model.
        """
        self.fit_schedule(epochs, Schedule("one_cycle", lr_max, **shape))

    def fit_schedule(self, epochs: int, schedule: Schedule) -> None:
        """Train by any schedule; see `fit` and `fit_one_cycle`."""
        if not (isinstance(epochs, int) and epochs >= 1):
            raise UsageError(f"epochs is {epochs!r}; it must be a whole number, 1 or more.")
        self.fit_plan(Plan(epochs, schedule, self.epoch, self.step))

    def lr_find(self, start_lr: float = START_LR, end_lr: float = END_LR, steps: int = STEPS) -> LRFind:
        """Train for a few steps while the rate grows exponentially, and suggest a maximum rate for 1cycle; everything is put back afterwards.

        Args:
            start_lr: the first rate.
            end_lr: the last.
            steps: how many; it ends earlier when the loss diverges.

        Returns:
            The suggestion, and the losses by rate with `.plot()`.

        Raises:
            UsageError: the rates do not grow.
            TrainingError: the loss is not finite even at tiny rates.
        """
        return lr_find(self, start_lr, end_lr, steps)

    def predict(self, image: object) -> Prediction:
        """What is on an image: a path, a Pillow image, or uint8 pixels of shape (C, H, W) or (H, W), 0 to 255, as an array or tensor.

        Returns:
            The label, its confidence and the probabilities of all classes.

        Raises:
            DataError: it cannot be used as an image.
            UsageError: the learner is no classifier.
        """
        if not isinstance(self.task, Classification):
            raise UsageError("This learner predicts ratings, not what is on images. Use cs.recommender(learner).")
        mode = self.model.training
        self.model.eval()
        try:
            return Classifier(self.model, self.data.classes, self.task.data.preprocess).predict_one(image)
        finally:
            self.model.train(mode)

    def diagnose(self, ignore: Iterable[str] = ()) -> Verdict:
        """What is wrong with the training, if anything; with ActivationStats among the callbacks it sees most.

        Args:
            ignore: names of rules to leave out.

        Raises:
            UnknownNameError: a name in `ignore` is not a rule.
        """
        self.callbacks.call("before_checkpoint", self)
        return diagnose_log(self.log, ignore=ignore)

    def save(self, path: str | Path) -> Path:
        """Write a run directory with weights, log, results and page, which `convscope predict`, `report`, `diagnose` and `trace` take.

        Args:
            path: a new directory, or a run to replace.

        Returns:
            The directory.

        Raises:
            RunError: the path is something else, or cannot be written.
        """
        from convscope.train.saving import save

        return save(self, path)

    def summary(self) -> NetworkSummary:
        """The network's table of shapes, parameters and multiplications for one input; printing it shows it."""
        return self.task.summary(self.model)

    def __repr__(self) -> str:
        name = (recipe_of(self.model) or Recipe(type(self.model).__name__, {})).name
        trained = f"{self.epoch} epochs" if self.epoch else "untrained"
        return f"Learner({name} on {self.data.name}, {trained}, on {self.device})"

    def _repr_html_(self) -> str:
        return learner_html(repr(self), self.recorder.epochs, str(self.summary()))

    def reset_optimizer(self) -> None:
        """Make a new optimiser over the parameters that are trainable now.

        Raises:
            ModelError: none is.
        """
        groups = parameter_groups(self.model, self.weight_decay)
        if not groups:
            raise ModelError(
                "The network has no trainable parameter: every parameter has requires_grad=False, or there are none. Unfreeze some."
            )
        self.optimizer = self.opt_func(groups)


def _check_settings(precision: str, weight_decay: float | None, label_smoothing: float, clip_norm: float | None, accumulate: int) -> None:
    if precision not in PRECISIONS:
        raise UsageError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}.")
    if weight_decay is not None and not weight_decay >= 0:
        raise UsageError(f"weight_decay is {weight_decay}; it must be 0 or more, usually 0.01.")
    if not 0 <= label_smoothing < 1:
        raise UsageError(f"label_smoothing is {label_smoothing}; it must be at least 0 and below 1, usually 0 or 0.1.")
    if clip_norm is not None and not clip_norm > 0:
        raise UsageError(f"clip_norm is {clip_norm}; it must be above 0, usually 1.0, or None for no clipping.")
    if not (isinstance(accumulate, int) and accumulate >= 1):
        raise UsageError(f"accumulate is {accumulate!r}; it must be a whole number, 1 or more.")
