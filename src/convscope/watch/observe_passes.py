"""Observations about passes of the network: training or evaluation, in which mode, on which samples, with what result.

Receives the beginning and end of each outermost forward pass and the losses in between, and hears what an evaluation's answers are compared with; makes
"modes", "input", "labels", "fit", "validation" and "identity" observations. A pass is training when a backward pass reached its output before the
next optimiser step; everything else evaluates.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from convscope.diagnose.observations import scheduled
from convscope.records import Observation
from convscope.watch.backward import node_of_backward, root_of_backward
from convscope.watch.comparison_spy import ComparisonSpy, DifferenceSpy, raised
from convscope.watch.deferred import Codes, Deferred, Numbers
from convscope.watch.dropout_spy import called_by_a_module
from convscope.watch.graph_facts import BATCH_NORMS, DROPOUTS, NORMS, first_tensor, tensors_of, unlisted_modules
from convscope.watch.identity import THEN_EVERY as SAMPLES_THEN_EVERY
from convscope.watch.identity import Identity, hashes_of_inputs
from convscope.watch.loss_graph import Output, loss_graph, penalty
from convscope.watch.loss_spy import LossCall
from convscope.watch.observe_amounts import LOSSES as LOSSES_OF_AMOUNTS
from convscope.watch.observe_amounts import AmountTally, amounts
from convscope.watch.observe_evaluation import Counts, Evaluation, Tally, entropy, sum_of_counts
from convscope.watch.observe_loss import YES_OR_NO, Answers, answers, choices, compared_answers, compared_choices, holds_shares
from convscope.watch.picked_loss import PickedLoss

Emit = Callable[[Observation], None]
MOST_PENDING = 64  # passes that wait for a backward pass
LONG_STREAK = 5  # steps in evaluation mode that are told at once: as many as a verdict needs
MOST_LOSSES = 256  # the newest training losses that an evaluation is compared with
MOST_PASSES = 4096  # of one evaluation, whose answers are remembered until they are compared with labels
INPUT_STEPS = (0, 1, 2, 20)  # steps at which the images' scale is measured
GRAPH_STEPS = (0, 1, 2)  # at which the graph between output and loss is looked at
MOST_IMAGES, MOST_CHANNELS = 64, 4  # for the images' scale
MOST_VALUES = 4096  # of a batch, among which different ones are counted
REAL_BITS = 23  # of a float32 value that is hardly ever met twice
EVERY_PASS_UNTIL, THEN_EVERY = 64, 4  # training passes whose answers are counted


@dataclass(slots=True, eq=False)
class Pass:
    """One forward pass of the network."""

    step: int
    network_training: bool
    norms_training: bool
    exempt: bool
    hashes: Tensor | None
    every: int = 1  # training passes for which these hashes stand
    backward: bool = False
    answers: list[Answers] = field(default_factory=list)
    loss: Tensor | None = None  # one number, where the labels are no classes
    amounts: Tensor | None = None  # what `amounts` gives, where answers are compared with amounts
    counts: bool = False  # as an evaluation
    share_known: float = 0.0  # of its samples, trained on; set when the hashes are read
    dropped: bool = False  # whether dropout was called as a function although the network is in evaluation mode


@dataclass(slots=True)
class _Modes:
    train_passes: int = 0
    train_in_eval: int = 0
    streak: int = 0
    since: int = 0
    eval_passes: int = 0
    eval_in_train: int = 0
    inner_in_train: int = 0
    phases: int = 0
    eval_since: int = 0
    norm_in_train: bool = False
    asked_again: int = 0
    norm_on_known: int = 0
    norm_on_new: int = 0
    dropped: int = 0


class PassWatch:
    """Watches the outermost forward passes of one model.

    Args:
        model: the watched model.
        deferred: where small results wait.
        emit: receives observations.
        on_backward: called when a backward pass reaches an output.
        on_loss: told of losses that the loop writes out, as of the others.
        trouble: is given what goes wrong while operations of the loop are listened to, which must not reach it.
    """

    def __init__(
        self,
        model: nn.Module,
        deferred: Deferred,
        emit: Emit,
        on_backward: Callable[[], None] = lambda: None,
        on_loss: Callable[[LossCall], None] = lambda _: None,
        trouble: Callable[[Exception], None] = raised,
    ) -> None:
        self._deferred, self._emit, self._on_backward = deferred, emit, on_backward
        self._model = model
        self._norms = [m for m in model.modules() if isinstance(m, BATCH_NORMS)]
        self._drops = [m for m in model.modules() if isinstance(m, DROPOUTS) and m.p > 0]
        self._out_of_reach = [m for m in unlisted_modules(model) if isinstance(m, BATCH_NORMS) or (isinstance(m, DROPOUTS) and m.p > 0)]
        self._pending: list[Pass] = []
        self._now: Pass | None = None
        self._modes, self._fit, self._evaluation = _Modes(), Tally(), Evaluation()
        self._phase_passes = 0
        self._on_leaves: list[RemovableHandle] = []
        self._comparisons = ComparisonSpy(self._compared, trouble)
        self._output: Tensor | None = None  # of the evaluation pass that has just ended
        self._differences = DifferenceSpy(self._subtracted, trouble)
        self._picked = PickedLoss(on_loss, trouble)
        self._penalised = False  # whether the loss held weights besides the output, at the last look
        self._of_classes: dict[str, bool] = {}  # losses of amounts, and whether their targets are classes, one column each
        self._minuend: Tensor | None = None  # the output of the newest pass, until a difference from it is computed
        self._amounts, self._all_amounts = AmountTally(), AmountTally()  # of training: since the last observation, and all
        self._choices: list[tuple[Pass, Tensor]] = []  # the answers of this evaluation's passes
        self._cross_entropy = False  # whether that is the loss of training
        self._training_losses: deque[float] = deque(maxlen=MOST_LOSSES)  # since the last evaluation, where the labels are no classes
        self._labels: Counts = numpy.zeros(0, dtype=numpy.int64)
        self._label_count = [0, 0.0, 0.0]  # steps, sum of their entropies, sum of their sizes
        self._mixed = 0  # training passes whose answers were compared with several labels each
        self._step_labels: tuple[int, Counts] = (-1, numpy.zeros(0, dtype=numpy.int64))
        self.identity = Identity()
        self._normalised_inside = _begins_with_norm(model)
        self._images: Tensor | None = None  # of the running pass, until its loss is known
        self._input_spoilt = False

    @property
    def train_passes(self) -> int:
        """Passes that were followed by a backward pass."""
        return self._modes.train_passes

    # ------------------------------------------------------------ passes

    def begin(self, inputs: object, step: int, *, training: bool) -> None:
        """A pass begins; `training` is the network's mode."""
        self._leave_leaves()
        self._images = images = first_tensor(inputs)
        self._output = None
        self._picked.stop()
        self._ignore_differences()
        every = SAMPLES_THEN_EVERY if self.identity.settled and torch.is_grad_enabled() and training else 1
        hashes = hashes_of_inputs(inputs) if self.train_passes % every == 0 else None
        norms = any(m.training for m in (*self._norms, *self._out_of_reach))
        exempt = not torch.is_grad_enabled() and any(m.momentum is None for m in self._norms)  # averaging anew, as swa_utils.update_bn does
        self._now = Pass(step, training, norms, exempt, hashes, every)
        if torch.is_grad_enabled() and training:
            self._stop_listening()
        if torch.is_grad_enabled():
            self._pending.append(self._now)
            if step in INPUT_STEPS and images is not None and training:
                self._measure_input(images, step)
            if self.identity.bits is None and step == 0 and training:
                self._count_levels(inputs)
            if len(self._pending) > MOST_PENDING:
                self._evaluated(self._pending.pop(0))

    def end(self, output: object) -> None:
        """The pass ends, or a part of it; learn later whether a backward pass follows."""
        current = self._now
        if current is None:
            return
        if not (torch.is_grad_enabled() and current.network_training):
            self._listen(current, output)
        if not (torch.is_grad_enabled() and current.network_training) or scheduled(current.step):
            self._listen_for_differences(output)
        if not torch.is_grad_enabled():
            if not current.counts:
                self._evaluated(current)
            return

        tensors = [tensor for tensor in tensors_of(output) if tensor.requires_grad]
        made = Output.of(tensors[0]) if len(tensors) == 1 and self._looks_at_graph(current.step) else None

        def reached(_: Tensor) -> None:  # keeps no output alive
            if made is not None and not current.backward:
                self._look_at_loss_graph(current.step, made)
            if not current.backward:
                self._picked.backward_began()
            current.backward = True
            self._on_backward()

        if tensors and current.network_training:
            self._picked.pass_ended(tensors[0])
        for tensor in tensors:
            handle = tensor.register_hook(reached)  # type: ignore[no-untyped-call]
            if tensor.is_leaf:  # such as an image that is optimised; other outputs take their hook with them
                self._on_leaves.append(handle)

    def _looks_at_graph(self, step: int) -> bool:
        return step in GRAPH_STEPS or (self._penalised and scheduled(step))

    def _look_at_loss_graph(self, step: int, made: Output) -> None:
        root = node_of_backward()
        if root is None:
            return
        if step in GRAPH_STEPS:
            self._emit(Observation(step, "loss_graph", "", loss_graph(root, made)))
        held, loss = penalty(root, made), root_of_backward()
        self._penalised = held is not None
        if held is not None and loss is not None:
            of, count = held.of, held.single_weights

            def receive(numbers: Numbers) -> None:
                self._emit(Observation(step, "penalty", "", {"of": of, "sum": numbers[0], "weights": count, "loss": numbers[1]}))

            self._deferred.add(torch.stack([held.total(), loss.float().sum()]), receive)

    def loss_called(self, call: LossCall) -> None:
        """A loss was computed on the output of the current pass."""
        current, images, self._images = self._now, self._images, None
        if current is None or current.answers:
            self._mixed += current is not None and _mixes(current, call)
            return
        if images is not None and torch.is_grad_enabled() and (scheduled(current.step) or not _surely_finite(call.result)):
            self._check_finite(images, current.step)
        training = current in self._pending and current.network_training
        if training:
            self._picked.loss_called()
        self._cross_entropy = call.name in ("cross_entropy", "nll_loss") if training else self._cross_entropy
        if training and self.train_passes > EVERY_PASS_UNTIL and self.train_passes % THEN_EVERY:
            return
        counted = answers(call) if self._chooses(call) else None
        if counted is not None:
            self._answered(current, counted)
        elif current.loss is None and call.result.is_floating_point() and call.result.numel():
            self._ignore_differences()
            figures = amounts(call.input, call.target) if call.name in LOSSES_OF_AMOUNTS else None
            self._amounted(current, call.result.detach().mean(), figures)

    def dropout_called(self) -> None:
        """Dropout has dropped something."""
        current = self._now
        if current is not None and not current.network_training and not current.dropped:
            current.dropped = not called_by_a_module()

    def _chooses(self, call: LossCall) -> bool:
        """Whether a loss compares scores of classes; of one that compares amounts or several yes-or-no answers too, the first targets tell, once."""
        several = call.name in YES_OR_NO and call.target.ndim > 1 and call.target.shape == call.input.shape and call.target.shape[1] > 1
        if call.name not in LOSSES_OF_AMOUNTS and not several:
            return True
        if call.name not in self._of_classes:
            self._of_classes[call.name] = holds_shares(call.target)
        return self._of_classes[call.name]

    def _answered(self, current: Pass, counted: Answers) -> None:
        current.answers.append(counted)
        if current not in self._pending and current.counts:
            self._count_evaluation(current, counted)

    def _amounted(self, current: Pass, loss: Tensor, figures: Tensor | None) -> None:
        current.loss, current.amounts = loss, figures
        if current not in self._pending and current.counts:
            self._count_loss(current)

    # ------------------------------------------------------------ answers that the loop compares with labels itself

    def _listen_for_differences(self, output: object) -> None:
        """A pass has ended; what its output is subtracted from, or what is subtracted from it, are the targets."""
        tensor = first_tensor(output)
        if tensor is not None and tensor.is_floating_point() and tensor.numel() > 1:
            self._minuend = tensor.detach()
            self._differences.listen()

    def _ignore_differences(self) -> None:
        self._differences.stop()
        self._minuend = None

    def _subtracted(self, one: Tensor, two: Tensor) -> None:
        """Two tensors were subtracted; perhaps the answers of the last pass and their targets."""
        current, output = self._now, self._minuend
        if current is None or output is None or current.loss is not None or current.answers or one.shape != two.shape:
            return
        for said, targets in ((one, two), (two, one)):
            is_output = said.numel() == output.numel() and said.data_ptr() == output.data_ptr()
            if is_output and not targets.requires_grad and (figures := amounts(said, targets)) is not None:
                self._ignore_differences()
                self._amounted(current, figures[1], figures)
                return

    def _listen(self, current: Pass, output: object) -> None:
        """An evaluation pass has ended; what its output is compared with are the labels."""
        tensor = first_tensor(output)
        if tensor is None or tensor.ndim == 0 or (chosen := choices(tensor)) is None:
            return
        self._output = tensor.detach()
        if self._choices and self._choices[-1][0] is current:  # what an earlier part of the same pass gave
            self._choices.pop()
        if len(self._choices) < MOST_PASSES:
            self._choices.append((current, chosen))
        self._comparisons.listen()

    def _stop_listening(self) -> None:
        self._comparisons.stop()
        self._output = None
        self._choices.clear()

    def _leave_leaves(self) -> None:
        """Take the hooks off tensors that outlive their pass."""
        while self._on_leaves:
            self._on_leaves.pop().remove()

    def _compared(self, one: Tensor, two: Tensor) -> None:
        """Two tensors were compared; perhaps the answers of the last pass, or of several, with their labels."""
        if not self._choices or one.shape != two.shape:
            return
        last = self._choices[-1][0]
        if last.answers:
            return
        with torch.no_grad():
            if self._output is not None and len(self._output) == one.numel():
                found = compared_answers(self._output, one, two, cross_entropy=self._cross_entropy)
                if found is not None:
                    self._answered(last, found)
                return
            passes = _newest(self._choices, one.numel())
            found = compared_choices(torch.cat([chosen for _, chosen in passes]), one, two) if len(passes) > 1 else None
            if found is not None:
                self._answered(last, found)

    def stepping(self, step: int) -> None:
        """An optimiser is about to step: what waits is training if a backward pass reached it, else evaluation."""
        pending, self._pending, self._images = self._pending, [], None
        self._leave_leaves()
        self._picked.stop()
        self._stop_listening()
        self._ignore_differences()
        if pending and not any(p.backward for p in pending):
            pending[-1].backward = True  # the loss was not computed from the network's first output
        if pending and self._phase_passes:
            self._close_evaluation(pending[-1].step)
        self._tell_mode([one for one in pending if one.backward])
        for one in pending:
            if one.backward:
                self._trained(one)
            else:
                self._evaluated(one)
        if pending and any(not p.backward for p in pending):
            self._close_evaluation(step)

    def close(self) -> None:
        """Take every hook off again."""
        self._leave_leaves()
        self._picked.stop()
        self._stop_listening()
        self._ignore_differences()

    def finish(self, step: int) -> None:
        """The run ends, or is looked at: an evaluation that is under way counts."""
        self.close()
        if self._phase_passes:
            self._close_evaluation(step)

    # ------------------------------------------------------------ what a pass was

    def _tell_mode(self, passes: list[Pass]) -> None:
        """Count the training passes of one step; it trains in evaluation mode when all of them did, as adversarial images are made in it too."""
        modes = self._modes
        modes.train_passes += len(passes)
        if not passes or any(one.network_training for one in passes) or not (self._norms or self._drops):
            modes.streak = 0 if passes else modes.streak
            return
        modes.train_in_eval += len(passes)
        modes.since = modes.since if modes.streak else passes[0].step
        modes.streak += 1
        if modes.streak == LONG_STREAK:
            self._write_modes(passes[0].step)

    def _trained(self, one: Pass) -> None:
        if one.hashes is not None:
            self._deferred.add_codes(one.hashes, functools.partial(self.identity.trained, every=one.every, step=one.step))
        for answered in one.answers:
            self._deferred.add_codes(answered.codes, functools.partial(self._count_training, one.step, answered.classes))
        if one.loss is not None:
            self._deferred.add(one.loss, lambda numbers: self._training_losses.extend(numbers))
        if one.amounts is not None:
            self._deferred.add(one.amounts, lambda numbers: self._amounts.add(numbers))

    def _evaluated(self, one: Pass) -> None:
        if one.step == 0 and not self._modes.train_passes:
            return  # a look at the untrained network
        self._phase_passes += 1
        self._modes.eval_passes += 1
        one.counts = True

        def receive(found: Codes) -> None:
            one.share_known = self._evaluation.add(found, self.identity)
            in_training = one.norms_training or one.dropped or (one.network_training and bool(self._drops))
            if (
                in_training and not one.exempt and (one.share_known < 0.5 or one.dropped)
            ):  # a graph is evaluated with the nodes that it is trained on
                self._note_eval_in_train(one, again=self._evaluation.asked_again(found))
            elif one.norms_training and not one.exempt:
                self._modes.norm_on_known += 1

        if one.hashes is not None:
            self._deferred.add_codes(one.hashes, receive)
            one.hashes = None
        for answered in one.answers:
            self._count_evaluation(one, answered)
        if one.loss is not None:
            self._count_loss(one)

    def _note_eval_in_train(self, one: Pass, *, again: bool) -> None:
        modes = self._modes
        modes.asked_again += again
        modes.eval_since = modes.eval_since if modes.eval_in_train else one.step
        modes.eval_in_train += 1
        modes.inner_in_train += not one.network_training
        modes.norm_in_train = one.norms_training
        modes.norm_on_new += one.norms_training
        modes.dropped += one.dropped

    def _count_training(self, step: int, classes: int, codes: Codes) -> None:
        labels = self._fit.add(codes, classes)
        if self._step_labels[0] != step:  # a step may be made of several passes, such as true and made-up samples
            self._count_labels(step)
        self._step_labels = (step, sum_of_counts(self._step_labels[1], labels))

    def _count_labels(self, step: int) -> None:
        """The labels of one step are complete."""
        labels, self._step_labels = self._step_labels[1], (step, numpy.zeros(0, dtype=numpy.int64))
        if labels.any():
            self._labels = sum_of_counts(self._labels, labels)
            self._label_count[0] += 1
            self._label_count[1] += entropy(labels)
            self._label_count[2] += int(labels.sum())

    def _count_evaluation(self, one: Pass, answered: Answers) -> None:
        def receive(codes: Codes) -> None:
            self._evaluation.part(one.share_known).answers.add(codes, answered.classes)

        self._deferred.add_codes(answered.codes, receive)

    def _count_loss(self, one: Pass) -> None:
        if one.loss is not None:
            self._deferred.add(one.loss, lambda numbers: self._evaluation.part(one.share_known).losses.extend(numbers))
        if one.amounts is not None:
            self._deferred.add(one.amounts, lambda numbers: self._evaluation.part(one.share_known).amounts.add(numbers))

    def _close_evaluation(self, step: int) -> None:
        self._phase_passes = 0
        self._modes.phases += 1

        def write(_: Numbers) -> None:
            evaluation, self._evaluation = self._evaluation, Evaluation()
            self._emit(Observation(step, "validation", "", evaluation.numbers(self.identity, self._training_losses)))
            self._training_losses = deque(maxlen=MOST_LOSSES)
            self._write_modes(step)

        self._deferred.add_known([], write)

    # ------------------------------------------------------------ writing

    def write(self, step: int) -> None:
        """Emit the running counts (the deferred results have been read)."""
        self._write_modes(step)
        self._count_labels(-1)
        if self._label_count[0]:
            batches, entropies, sizes = self._label_count
            largest = int(self._labels.max()) / int(self._labels.sum())
            numbers = {"batches": int(batches), "batch_size": sizes / batches, "classes": int((self._labels > 0).sum())}
            shares = {"entropy": entropy(self._labels), "batch_entropy": entropies / batches, "largest_share": largest}
            shares["largest_class"] = int(self._labels.argmax())
            self._emit(Observation(step, "labels", "", {**numbers, **shares}))
        fit, self._fit = self._fit, Tally()
        if fit.images:
            wrong = fit.images - fit.right
            second = fit.second / wrong if wrong else None
            figures = {"samples": fit.images, "accuracy": fit.right / fit.images, "wrong": wrong, "second_choice": second}
            largest = int(fit.said.max()) / fit.images
            self._emit(Observation(step, "fit", "", {**figures, "largest_answer": largest, "classes": len(fit.said), "mixed": self._mixed}))
        self._write_amounts(step)
        if self.identity.train_images:
            self._emit(Observation(step, "identity", "", self.identity.numbers()))

    def _write_amounts(self, step: int) -> None:
        newest = self._amounts
        if not newest.samples:
            return
        every = self._all_amounts
        every.join(newest)
        figures = {"samples": newest.samples, "error": newest.mean_error, "mean": every.mean, "variance": every.variance}
        figures["batch_variance"] = every.within / every.samples
        self._amounts = AmountTally()
        self._emit(Observation(step, "amounts", "", {**figures}))

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
            "inner_in_train": m.inner_in_train,
            "asked_again": m.asked_again,
            "norm_on_known": m.norm_on_known,
            "norm_on_new": m.norm_on_new,
            "dropped": m.dropped,
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

    def _count_levels(self, inputs: object) -> None:
        """How many different samples are possible: where there are few, equal ones occur by nature."""
        tensors = [values for values in tensors_of(inputs, whole=True) if values.ndim and values.numel()]
        batch = [values for values in tensors if len(values) == len(tensors[0])]
        self.identity.axes = batch[0].ndim if batch else None
        if not batch:
            return
        sizes = [values.numel() // len(values) for values in batch]
        with torch.no_grad():
            levels = torch.stack([_levels(values.detach()) for values in batch])

        def receive(numbers: Numbers) -> None:
            self.identity.bits = sum(size * math.log2(max(2.0, count)) for size, count in zip(sizes, numbers, strict=True))

        self._deferred.add(levels, receive)

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


def _mixes(one: Pass, call: LossCall) -> bool:
    """Whether the same answers are compared with other labels once more, as for images that were mixed."""
    known = one.answers[0].labels
    labels = call.target.detach()[: len(known)]
    same_kind = call.input.requires_grad and not labels.is_floating_point() and labels.shape == known.shape
    return same_kind and call.input.ndim == 2 and call.input.shape[1] == one.answers[0].classes


def _levels(values: Tensor) -> Tensor:
    """How many different numbers there can be: the range of whole numbers; of others, those that differ among some, when they are few."""
    if not values.is_floating_point():
        return (values.amax() - values.amin()).float() + 1
    some = values[:MOST_IMAGES].reshape(-1)[:MOST_VALUES]
    different = (some.sort().values.diff() != 0).sum() + 1.0  # torch.unique would have to know its result's size
    return torch.where(different > len(some) / 2, torch.full_like(different, 2.0**REAL_BITS), different)


def _surely_finite(loss: Tensor) -> bool:
    """Whether a loss shows that the images were finite, without waiting for a device: NaN and infinity reach it, in any usual network."""
    return loss.is_cpu and loss.numel() == 1 and math.isfinite(loss.item())


def _newest(choices: list[tuple[Pass, Tensor]], count: int) -> list[tuple[Pass, Tensor]]:
    """The last passes that gave so many answers together; none when there are no such."""
    for at in range(len(choices) - 1, -1, -1):
        count -= len(choices[at][1])
        if count <= 0:
            return choices[at:] if count == 0 else []
    return []


def _begins_with_norm(model: nn.Module) -> bool:
    first = next((m for m in model.modules() if next(m.parameters(recurse=False), None) is not None), None)
    return isinstance(first, NORMS)
