"""Observations about passes of the network: training or evaluation, in which mode, on which images, with what result.

Receives the beginning and end of each outermost forward pass and the losses in between; makes "modes", "input", "labels", "fit", "validation" and
"identity" observations. A pass is training when a backward pass reached its output before the next optimiser step; everything else evaluates.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convscope.diagnose.observations import scheduled
from convscope.records import Observation
from convscope.watch.deferred import Codes, Deferred, Numbers
from convscope.watch.graph_facts import BATCH_NORMS, DROPOUTS, NORMS, first_tensor, tensors_of
from convscope.watch.identity import Identity, hashes_of
from convscope.watch.loss_spy import LossCall
from convscope.watch.observe_loss import Answers, answers

Emit = Callable[[Observation], None]
Counts = NDArray[numpy.int64]
MOST_PENDING = 64  # passes that wait for a backward pass
INPUT_STEPS = (0, 1, 2, 20)  # steps at which the images' scale is measured
MOST_IMAGES, MOST_CHANNELS = 64, 4  # for the images' scale
WHOLLY_KNOWN = 0.95  # of a batch: an evaluation on training images
EVERY_PASS_UNTIL, THEN_EVERY = 64, 4  # training passes whose answers are counted


@dataclass(slots=True, eq=False)
class Pass:
    """One forward pass of the network."""

    step: int
    network_training: bool
    norms_training: bool
    exempt: bool
    hashes: Tensor | None
    backward: bool = False
    answers: list[Answers] = field(default_factory=list)


@dataclass(slots=True)
class Tally:
    """Sums of Answers on the host.

    Attributes:
        images, loss, right, second: how many, the sum of their losses, how many were answered rightly, and of how many others the label was the
            second choice.
        said, labels: answers and labels per class.
    """

    images: int = 0
    loss: float = 0.0
    right: int = 0
    second: int = 0
    said: Counts = field(default_factory=lambda: numpy.zeros(0, dtype=numpy.int64))
    labels: Counts = field(default_factory=lambda: numpy.zeros(0, dtype=numpy.int64))

    def add(self, codes: Codes, classes: int) -> Counts:
        """Add one batch's answers; its labels per class."""
        said, labels, above = codes[1:].reshape(3, -1)
        counts = labels >= 0
        if not counts.all():
            said, labels, above = said[counts], labels[counts], above[counts]
        right = said == labels
        images, labels = len(labels), numpy.bincount(labels, minlength=classes)
        self.images += images
        self.loss += float(codes[:1].view(numpy.float64)[0]) * images
        self.right += int(right.sum())
        self.second += int(((above == 1) & ~right).sum())
        self.said, self.labels = _sum(self.said, numpy.bincount(said, minlength=classes)), _sum(self.labels, labels)
        return labels


@dataclass(slots=True)
class _Modes:
    train_passes: int = 0
    train_in_eval: int = 0
    streak: int = 0
    since: int = 0
    eval_passes: int = 0
    eval_in_train: int = 0
    phases: int = 0
    eval_since: int = 0
    norm_in_train: bool = False


@dataclass(slots=True)
class _Overlap:
    """Images of an evaluation that were also trained on.

    An evaluation of the training images themselves is no leak: its batches are known wholly. Batches of validation images are known in part
    when some images are in both sets, which can be told once all training images have been seen.
    """

    images: int = 0
    known: float = 0.0
    trained: int = 0  # images in batches that are known wholly
    mixed_known: float = 0.0

    def add(self, images: int, known: float, *, mixed: bool) -> None:
        """Add one batch."""
        self.images += images
        self.known += known
        self.trained += images if known >= WHOLLY_KNOWN * images else 0
        self.mixed_known += known if mixed else 0.0


class PassWatch:
    """Watches the outermost forward passes of one model.

    Args:
        model: the watched model.
        deferred: where small results wait.
        emit: receives observations.
        on_backward: called when a backward pass reaches an output.
    """

    def __init__(self, model: nn.Module, deferred: Deferred, emit: Emit, on_backward: Callable[[], None] = lambda: None) -> None:
        self._deferred, self._emit, self._on_backward = deferred, emit, on_backward
        self._model = model
        self._norms = [m for m in model.modules() if isinstance(m, BATCH_NORMS)]
        self._drops = [m for m in model.modules() if isinstance(m, DROPOUTS) and m.p > 0]
        self._pending: list[Pass] = []
        self._now: Pass | None = None
        self._modes, self._fit, self._evaluation = _Modes(), Tally(), Tally()
        self._overlap = _Overlap()
        self._phase_passes = 0
        self._label_batches: list[tuple[float, float]] = []
        self._labels: Counts = numpy.zeros(0, dtype=numpy.int64)
        self._label_count = [0, 0.0, 0.0]  # batches, sum of their entropies, sum of their sizes
        self.identity = Identity()
        self._normalised_inside = _begins_with_norm(model)
        self._images: Tensor | None = None  # of the running pass, until its loss is known
        self._input_spoilt = False

    @property
    def train_passes(self) -> int:
        """Passes that were followed by a backward pass."""
        return self._modes.train_passes

    # ------------------------------------------------------------ passes

    def begin(self, inputs: object, step: int) -> None:
        """A pass begins."""
        self._images = images = first_tensor(inputs)
        hashes = hashes_of(images) if images is not None else None
        norms = any(m.training for m in self._norms)
        exempt = not torch.is_grad_enabled() and any(m.momentum is None for m in self._norms)  # averaging anew, as swa_utils.update_bn does
        self._now = Pass(step, self._model.training, norms, exempt, hashes)
        if torch.is_grad_enabled():
            self._pending.append(self._now)
            if step in INPUT_STEPS and images is not None and self._model.training:
                self._measure_input(images, step)
            if len(self._pending) > MOST_PENDING:
                self._evaluated(self._pending.pop(0))

    def end(self, output: object) -> None:
        """The pass ends; learn later whether a backward pass follows."""
        current = self._now
        if current is None:
            return
        if not torch.is_grad_enabled():
            self._evaluated(current)
            return

        def reached(_: Tensor) -> None:
            current.backward = True
            self._on_backward()

        for tensor in tensors_of(output):
            if tensor.requires_grad:
                tensor.register_hook(reached)  # type: ignore[no-untyped-call]

    def loss_called(self, call: LossCall) -> None:
        """A loss was computed on the output of the current pass."""
        current, images, self._images = self._now, self._images, None
        if current is None or current.answers:
            return
        if images is not None and torch.is_grad_enabled() and (scheduled(current.step) or not _surely_finite(call.result)):
            self._check_finite(images, current.step)
        training = current in self._pending and current.network_training
        if training and self.train_passes > EVERY_PASS_UNTIL and self.train_passes % THEN_EVERY:
            return
        counted = answers(call)
        if counted is None:
            return
        current.answers.append(counted)
        if current not in self._pending:
            self._count_evaluation(counted)

    def stepping(self, step: int) -> None:
        """An optimiser is about to step: what waits is training if a backward pass reached it, else evaluation."""
        pending, self._pending, self._images = self._pending, [], None
        if pending and not any(p.backward for p in pending):
            pending[-1].backward = True  # the loss was not computed from the network's first output
        if pending and self._phase_passes:
            self._close_evaluation(pending[-1].step)
        for one in pending:
            if one.backward:
                self._trained(one)
            else:
                self._evaluated(one)
        if pending and any(not p.backward for p in pending):
            self._close_evaluation(step)

    def finish(self, step: int) -> None:
        """The run ends, or is looked at: an evaluation that is under way counts."""
        if self._phase_passes:
            self._close_evaluation(step)

    # ------------------------------------------------------------ what a pass was

    def _trained(self, one: Pass) -> None:
        modes = self._modes
        modes.train_passes += 1
        if not one.network_training and (self._norms or self._drops):
            modes.train_in_eval += 1
            modes.since = modes.since if modes.streak else one.step
            modes.streak += 1
        else:
            modes.streak = 0
        if one.hashes is not None:
            self._deferred.add_codes(one.hashes, self.identity.trained)
        for answered in one.answers:
            self._deferred.add_codes(answered.codes, functools.partial(self._count_training, answered.classes))

    def _evaluated(self, one: Pass) -> None:
        if one.step == 0 and not self._modes.train_passes:
            return  # a look at the untrained network
        self._phase_passes += 1
        self._modes.eval_passes += 1
        in_training = one.norms_training or (one.network_training and bool(self._drops))
        step = one.step

        def receive(found: Codes) -> None:
            known = self.identity.known(found)
            share = known / len(found)
            self._overlap.add(len(found), known, mixed=0 < share < WHOLLY_KNOWN and self.identity.all_known)
            if in_training and not one_exempt and one_training and known < 0.5 * max(1, len(found)):
                self._note_eval_in_train(step, norms)

        one_exempt, one_training, norms = one.exempt, one.network_training, one.norms_training
        if one.hashes is not None:
            self._deferred.add_codes(one.hashes, receive)
        for answered in one.answers:
            self._count_evaluation(answered)

    def _note_eval_in_train(self, step: int, norms: bool) -> None:
        modes = self._modes
        modes.eval_since = modes.eval_since if modes.eval_in_train else step
        modes.eval_in_train += 1
        modes.norm_in_train = norms

    def _count_training(self, classes: int, codes: Codes) -> None:
        labels = self._fit.add(codes, classes)
        if labels.any():
            self._labels = _sum(self._labels, labels)
            self._label_count[0] += 1
            self._label_count[1] += entropy(labels)
            self._label_count[2] += int(labels.sum())

    def _count_evaluation(self, answered: Answers) -> None:
        def receive(codes: Codes) -> None:
            self._evaluation.add(codes, answered.classes)

        self._deferred.add_codes(answered.codes, receive)

    def _close_evaluation(self, step: int) -> None:
        self._phase_passes = 0
        self._modes.phases += 1

        def write(_: Numbers) -> None:
            tally, overlap = self._evaluation, self._overlap
            self._evaluation, self._overlap = Tally(), _Overlap()
            self._emit(Observation(step, "validation", "", _validation_numbers(tally, overlap)))
            self._write_modes(step)

        self._deferred.add_known([], write)

    # ------------------------------------------------------------ writing

    def write(self, step: int) -> None:
        """Emit the running counts (the deferred results have been read)."""
        self._write_modes(step)
        if self._label_count[0]:
            batches, entropies, sizes = self._label_count
            largest = int(self._labels.max()) / int(self._labels.sum())
            numbers = {"batches": int(batches), "batch_size": sizes / batches, "classes": int((self._labels > 0).sum())}
            shares = {"entropy": entropy(self._labels), "batch_entropy": entropies / batches, "largest_share": largest}
            self._emit(Observation(step, "labels", "", {**numbers, **shares}))
        fit, self._fit = self._fit, Tally()
        if fit.images:
            wrong = fit.images - fit.right
            second = fit.second / wrong if wrong else None
            figures = {"samples": fit.images, "accuracy": fit.right / fit.images, "wrong": wrong, "second_choice": second}
            largest = int(fit.said.max()) / fit.images
            self._emit(Observation(step, "fit", "", {**figures, "largest_answer": largest, "classes": len(fit.said)}))
        if self.identity.train_images:
            self._emit(Observation(step, "identity", "", self.identity.numbers()))

    def _write_modes(self, step: int) -> None:
        m = self._modes
        numbers = {
            "train_passes": m.train_passes,
            "train_in_eval": m.train_in_eval,
            "train_in_eval_streak": m.streak,
            "train_in_eval_since": m.since,
        }
        evaluation = {
            "eval_passes": m.eval_passes,
            "evaluations": m.phases,
            "eval_in_train": m.eval_in_train,
            "eval_in_train_since": m.eval_since,
        }
        self._emit(Observation(step, "modes", "", {**numbers, **evaluation, "batch_norm_in_train": m.norm_in_train}))

    def _check_finite(self, images: Tensor, step: int) -> None:
        """One NaN or infinite pixel makes the sum so too."""
        if self._input_spoilt:
            return

        def receive(numbers: Numbers) -> None:
            if not math.isfinite(numbers[0]) and not self._input_spoilt:
                self._input_spoilt = True
                self._emit(Observation(step, "non_finite", "input", {}))

        self._deferred.add(images.detach().sum(dtype=torch.float32), receive)

    def _measure_input(self, images: Tensor, step: int) -> None:
        some = images.detach()[:MOST_IMAGES].float()
        if some.ndim < 2 or some.numel() == 0:
            return
        channels = some.flatten(2).transpose(0, 1).flatten(1)[:MOST_CHANNELS] if some.ndim >= 4 else some.reshape(1, -1)
        with torch.no_grad():
            std, mean = torch.std_mean(channels, dim=1, correction=0)
            figures = torch.stack([mean, std, channels.amin(1), channels.amax(1)], 1)
        count, samples, inside = len(channels), channels.shape[1], self._normalised_inside

        def receive(numbers: Numbers) -> None:
            for channel in range(count):
                mean, std, low, high = numbers[4 * channel : 4 * channel + 4]
                seen = {"mean": mean, "std": std, "lowest": low, "highest": high, "samples": samples, "normalised_inside": inside}
                self._emit(Observation(step, "input", f"channel {channel}", {**seen}))

        self._deferred.add(figures, receive)


def _surely_finite(loss: Tensor) -> bool:
    """Whether a loss shows that the images were finite, without waiting for a device: NaN and infinity reach it, in any usual network."""
    return loss.is_cpu and loss.numel() == 1 and math.isfinite(loss.item())


def _validation_numbers(tally: Tally, overlap: _Overlap) -> dict[str, float | int | str | bool | None]:
    images = tally.images
    shares = {
        "in_training": overlap.known / max(1, overlap.images),
        "leaked": overlap.mixed_known / max(1, overlap.images - overlap.trained),
    }
    if not images:
        nothing = {"loss": None, "accuracy": None, "largest_answer": None, "largest_label": None}
        return {"samples": overlap.images, **nothing, **shares}
    return {
        "samples": images,
        "loss": tally.loss / images,
        "accuracy": tally.right / images,
        "largest_answer": int(tally.said.max()) / images,
        "largest_label": int(tally.labels.max()) / images,
        **shares,
    }


def _sum(one: Counts, two: Counts) -> Counts:
    """Counts per class added; where there are fewer classes, the others count as zero."""
    short, long = sorted((one, two), key=len)
    return long + numpy.pad(short, (0, len(long) - len(short)))


def entropy(counts: Counts) -> float:
    """Entropy in nats of the shares that these counts are."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * numpy.log(shares)).sum())


def _begins_with_norm(model: nn.Module) -> bool:
    first = next((m for m in model.modules() if next(m.parameters(recurse=False), None) is not None), None)
    return isinstance(first, NORMS)
