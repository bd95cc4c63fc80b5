"""One recording: the hooks around a training loop, and when its steps begin and end.

Receives the networks to watch and a log; while it is open, it writes one StepRecord for each optimiser step, one LayerStats for each layer and
sampled step, and the observations that diagnosis needs. It draws nothing.

A step begins with the first training pass (gradients enabled) after the step before, and ends with the optimiser step that follows it; optimisers
that step one after the other without a pass between them share a step, and so do all passes that are accumulated. Where the loop changes the weights
itself, a step ends at the pass after it. Whatever goes wrong in here is kept as a note and never reaches the loop.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from convscope.capture import Capture, Hook
from convscope.records import NEAR_ZERO, Observation
from convscope.runlog import RunLog
from convscope.watch.backward import root_of_backward
from convscope.watch.buffers import Buffers
from convscope.watch.by_hand import StepsByHand
from convscope.watch.careful import Careful
from convscope.watch.dropout_spy import DropoutSpy
from convscope.watch.graph_facts import first_tensor
from convscope.watch.hyper import hyper_parameters
from convscope.watch.layers import Layer, parameter_owners, watched_layers
from convscope.watch.loss_spy import LossCall, LossSpy
from convscope.watch.observe import Observer
from convscope.watch.parameters import ParameterWatch
from convscope.watch.passes import Passes, in_backward
from convscope.watch.ranks import Alone, Sink, is_distributed, sink_for
from convscope.watch.stats import SAMPLE_SIZE
from convscope.watch.step import Step, kept
from convscope.watch.together import Together
from convscope.watch.trainers import Trainers

ROWS = 32  # steps in the buffers; what they hold is read together, which is cheaper
ROWS_ON_DEVICE = 64  # the same on an accelerator, where reading waits for the device
FEWEST_ROWS, MOST_SAMPLES = 4, 1 << 24  # elements in the buffers (64 MiB): networks of very many layers get fewer rows
DRAIN_SECONDS = (
    0.8  # after the log was written the buffers are read and it is written again, so that a killed process loses less than a second
)
MOST_CALLS = (
    8  # of one layer in one pass that are told apart; further ones count as the last (a recurrent layer may run for thousands of steps)
)

TURNS = 4  # of optimisers, after which they plainly take turns: a second stage of a training is one

NOTHING_SEEN = (
    "Optimiser steps were seen, but no pass of the network. What runs inside a compiled function or a transform of torch.func, and what a copy of the "
    "network computes, cannot be seen."
)


class Recording:
    """Watches networks while they are trained.

    Args:
        models: the networks by name; the names become prefixes when there are several.
        log: where records go.
        every: layers are recorded at one step in so many; steps themselves always.
        wanted: names of layers to record, or None for all.
        near_zero: |x| at most this counts as near zero.
        first_step: number of steps taken before.

    Attributes:
        step: number of optimiser steps taken.
        epoch: gives the epochs done, where the owner of the loop knows it.
        notes: what could not be seen, in words.
        thread: in which the loop runs, 0 before it does; only there can the buffers be drained, as nobody fills them then.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        log: RunLog,
        *,
        every: int = 1,
        wanted: Iterable[str] | None = None,
        near_zero: float = NEAR_ZERO,
        first_step: int = 0,
    ) -> None:
        self.step, self.epoch, self.thread = first_step, _unknown, 0
        self._first_step = first_step
        self._models, self._log, self._every = dict(models), log, every
        self._sink: Sink = Alone(log)
        self._layers, self.notes = watched_layers(models, wanted)
        self._hooks, self._spies = Capture(), (LossSpy(self._loss_called), DropoutSpy(self._dropout_called))
        self._passes = Passes(models, self._layers, self, self._take)
        self._together = Together(models, log.observe) if len(models) > 1 else None  # until the first step is over
        self._observers = {name: self._observer(name) for name in models}
        self._trainers = Trainers(models)
        self._by_hand: StepsByHand | None = StepsByHand(models.values())  # until an optimiser is met
        self._speaking: Observer | None = None  # of the network that was run last
        self._stepping: list[Observer] = []
        self._seen = False  # whether any pass was met, or any layer's output
        on_device = any(parameter.device.type != "cpu" for model in models.values() for parameter in model.parameters())
        rows = min(ROWS_ON_DEVICE if on_device else ROWS, MOST_SAMPLES // (SAMPLE_SIZE * len(self._layers)))
        self._buffers = Buffers(max(FEWEST_ROWS, rows), near_zero, room=len(self._layers))
        self._places: dict[str, int] = {}  # number in the buffers by name
        self._renamed: Callable[[str], str] = str  # from the name that a hook knows to that in records
        self._calls: dict[str, int] = {}
        self._parameters: ParameterWatch | None = None
        self._now: Step | None = None
        self._done: list[Step] = []
        self._used = 0  # rows of the buffers
        self._written_at = self._ended_at = time.monotonic()
        self._backward_task = -1
        self._steppers: frozenset[int] = frozenset()  # optimisers of the step before
        self._turns = 0  # times that other optimisers stepped than in the step before
        self._evaluating = self._loss_missed = False

    # ------------------------------------------------------------ opening and closing

    def open(self) -> None:
        """Attach every hook."""
        _opened.add(self)
        self._sink = sink_for(self._log, [layer.name for layer in self._layers], self.notes.append)
        for layer in self._layers:
            if self._passes.hooked_always(layer):
                self._hooks.add(layer.module.register_forward_hook(Hook(self.layer_hook(layer))))
        for observer in self._observers.values():
            observer.steps = self.step
        self._passes.open()
        self._hooks.optimizer_steps(self._step_begins, self._step_ended)
        for spy in self._spies:
            spy.__enter__()

    def close(self) -> None:
        """Take every hook off and write what is left; also after an exception in the middle of a step."""
        if self not in _opened:  # this is a child of the process that watches
            return
        self._detach()
        with self.careful("the end"):
            self._forget_evaluation()
            self._end_step_by_hand()
            self._end_step()
            self.drain()
            self._stay_apart()
        with self.careful("The end"):
            self._sink.close()
        if self.step > self._first_step and not self._seen:
            self.notes.append(NOTHING_SEEN)
        for observer in self._observers.values():
            with self.careful("the end"):
                observer.flush()
            observer.close()
        self._log.flush()

    def _detach(self) -> None:
        _opened.discard(self)
        self._passes.close()
        self._hooks.close()
        for spy in self._spies:
            spy.__exit__()

    def leave(self) -> None:
        """Take every hook off in a child process, which shares the log's file with its parent and must not touch it."""
        self._detach()
        for observer in self._observers.values():
            observer.close()

    def _observer(self, name: str) -> Observer:
        reached = functools.partial(self._backward_reached, name)
        trouble = functools.partial(self._trouble, "What the loop writes out")
        return Observer(self._models[name], self._emitter(name), spy=False, on_backward=reached, trouble=trouble)

    def _emitter(self, model: str) -> Callable[[Observation], None]:
        if len(self._models) == 1:
            return self._log.observe

        def emit(seen: Observation) -> None:
            seen = dataclasses.replace(seen, subject=f"{model}/{seen.subject}" if seen.subject else model)
            (self._log if self._together is None else self._together).observe(seen)

        return emit

    def careful(self, where: str) -> Careful:
        """Keep an exception of ours away from the loop that is watched."""
        return Careful(self._trouble, where)

    def _trouble(self, where: str, error: Exception) -> None:
        note = f"{where} could not be recorded: {type(error).__name__}: {error}"
        if note not in self.notes:
            self.notes.append(note)

    # ------------------------------------------------------------ passes

    def join_pass(self, model: nn.Module, arguments: tuple[Any, ...]) -> None:
        """A pass of a network, or of a part of one, began before `open`; what is still to be computed is recorded."""
        self._passes.join(model, arguments)

    def pass_begins(self, name: str, inputs: object, *, training: bool) -> None:
        """A pass of a network begins."""
        if self._by_hand is not None:
            self._look_for_steps_by_hand(self._by_hand)
        self._seen, self._speaking = True, self._observers[name]
        self._speaking.forward_begin(inputs, training=training)
        if torch.is_grad_enabled() and not in_backward():
            self._forget_evaluation()
            self._evaluating = not training
            self._calls.clear()
            self._begin_step()

    def part_begins(self, name: str) -> None:
        """A part of a network begins to compute."""
        self._speaking = self._observers[name]
        self._speaking.part_begin()

    def pass_ends(self, name: str, output: Any, *, whole: bool) -> None:
        """A network, or a part of it, has computed."""
        observer = self._observers[name]
        (observer.forward_end if whole else observer.part_end)(output)

    def is_sampled(self) -> bool:
        """Whether outputs of the running step are recorded."""
        return self._now is not None and self._now.row is not None

    def about_to_begin(self) -> bool:
        """A network is called; whether several networks have just turned out to be one, after the first step, which is watched as such from now on."""
        together = self._together
        if together is None or self._now is None or not self._now.optimizers:
            return False
        if is_distributed() or not together.are_one():
            self._stay_apart()
            return False
        try:
            whole = together.joined()
        except KeyError:
            self._stay_apart()
            return False
        self._end_step()
        self._together, self._models, self._renamed = None, {"": whole}, together.as_part
        for observer in self._observers.values():
            observer.close()
        self._speaking = None
        self._buffers.rename(self._renamed)
        if self._parameters is not None:
            self._parameters.rename(self._renamed)
        self._layers = [Layer(self._renamed(layer.name), layer.module) for layer in self._layers]
        self._places.update({self._renamed(name): place for name, place in self._places.items()})
        self._observers, self._trainers = {"": self._observer("")}, Trainers(self._models)
        self._observers[""].steps = self.step
        self._passes.watch_whole(whole)
        return True

    def _stay_apart(self) -> None:
        """Several networks are no parts of one, or it is too late to tell."""
        together, self._together = self._together, None
        if together is not None:
            together.release()

    # ------------------------------------------------------------ outputs

    def _forget_evaluation(self) -> None:
        """Leave out the pass before, when it was in evaluation mode and no backward pass followed: gradients were only not switched off."""
        if self._evaluating and self._now is not None and not self._now.backwards:
            self._now.losses.clear()
            if self._now.row is not None:
                self._buffers.forget(self._now.row)

    def layer_hook(self, layer: Layer) -> Callable[..., None]:
        """What is to be called after a layer has computed."""
        name, kind = layer.name, layer.kind

        def computed(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            if torch.is_grad_enabled():
                self._passes.met(layer)
                self._take(name, kind, output)

        return computed

    def _take(self, name: str, kind: str, output: Any) -> None:
        """Record an output of a training pass; of several calls in one pass the second is called "name:1"."""
        try:
            now, self._seen = self._now, True
            if now is None or now.optimizers:
                now = self._begin_step()
            if now.row is None or (name in self._calls and in_backward()):  # a checkpointed part that is computed again
                return
            call = self._calls[name] = self._calls.get(name, -1) + 1
            if call:
                name = f"{name}:{min(call, MOST_CALLS)}"
            values = output if type(output) is Tensor and output.is_floating_point() else first_tensor(output)
            if type(values) is not Tensor and type(values) is not nn.Parameter:  # nothing, or a tensor of somebody else's kind
                return
            place = self._places.get(name)
            if place is None:
                new_name = self._renamed(name)
                place = self._places[name] = self._places[new_name] = self._buffers.place(new_name, kind)
            if self._passes.follows_functions or torch.is_autocast_enabled(values.device.type):
                with torch._C.DisableTorchFunction(), torch.autocast(values.device.type, enabled=False):
                    self._buffers.add(place, now.row, values)
            else:
                self._buffers.add(place, now.row, values)
        except Exception as error:
            self._trouble(f"Layer {name}", error)

    # ------------------------------------------------------------ losses and gradients

    def _dropout_called(self) -> None:
        if self._speaking is not None:
            with self.careful("Dropout"):
                self._speaking.dropout_called()

    def _loss_called(self, call: LossCall) -> None:
        with self.careful("The loss"):
            if self._speaking is not None:
                self._speaking.loss_called(call)
            if not call.result.requires_grad:
                return
            if not self._seen and (self._now is None or self._now.optimizers):  # no pass says that a step begins
                self._begin_step()
            if self._now is not None and not self._now.optimizers:  # after it, the loss is another network's
                self._now.losses.append(kept(call.result))

    def _backward_reached(self, name: str) -> None:
        """A backward pass has come to an output of a network; of several outputs the first counts."""
        task = torch._C._current_graph_task_id()
        if self._together is not None:
            self._together.reached(name, task)
        self._passes.over(name)
        if task == self._backward_task or self._now is None:
            return
        with self.careful("A backward pass"):
            self._backward_task = task
            now, self._evaluating = self._now, False
            now.backwards += 1
            if len(now.losses) != now.backwards and (root := root_of_backward()) is not None:
                now.roots.append(kept(root))
            self._after_backward(self._gradients_complete)
            if self._by_hand is not None and self._by_hand.optimizer is not None:
                self._after_backward(self._step_by_hand_begins)

    def _after_backward(self, call: Callable[[], None]) -> None:
        torch.autograd.Variable._execution_engine.queue_callback(call)

    def _gradients_complete(self, averaged: bool = False) -> None:
        if self._now is None or self._now.row is None:
            return
        if not averaged and is_distributed():  # they are averaged over the ranks by a call that stands behind this one in the queue
            self._after_backward(lambda: self._gradients_complete(True))
            return
        with self.careful("A gradient"):
            self._parameter_watch().gradients_complete()

    def _parameter_watch(self) -> ParameterWatch:
        if self._parameters is None:
            owners = parameter_owners(self._layers, self._places)
            everyone = [parameter for model in self._models.values() for parameter in model.parameters() if parameter.is_floating_point()]
            self._parameters = ParameterWatch(owners, everyone)
        return self._parameters

    # ------------------------------------------------------------ steps

    def _begin_step(self) -> Step:
        """The step that a pass belongs to: the running one, or a new one when its optimiser has stepped."""
        if self._now is not None and not self._now.optimizers:
            return self._now
        self._end_step()
        if self._used == self._buffers.rows or time.monotonic() - self._written_at > DRAIN_SECONDS:
            self.drain()
        self.thread = threading.get_ident()
        self._calls.clear()
        self._now = Step(self.step, self._used if self.step % self._every == 0 else None)
        if self._now.row is not None:
            self._buffers.begin(self._now.row, self.step)
        return self._now

    def _step_begins(self, optimizer: Optimizer, closure: bool) -> None:
        with self.careful("A step"):
            if self._by_hand is not None and optimizer is not self._by_hand.optimizer:
                self._by_hand = None
            self._stepping = self._trained_by(optimizer)
            if not self._stepping:
                return
            now = self._now
            if now is None or closure or (now.optimizers and id(optimizer) in now.stepped):  # the last one: of its pass nothing was seen
                now = self._begin_step()
            now.stepped.add(id(optimizer))
            now.hyper.update(hyper_parameters(optimizer, now.groups))
            now.groups += len(optimizer.param_groups)
            if self._together is not None:
                self._together.stepped((name for name, observer in self._observers.items() if observer in self._stepping), id(optimizer))
            self._passes.over()
            for observer in self._stepping:
                observer.step_begin(optimizer)
            if now.row is not None:
                self._parameter_watch().step_begins(now.number)

    def _look_for_steps_by_hand(self, by_hand: StepsByHand) -> None:
        """At the beginning of a pass: the loop may have changed the weights itself since the last backward pass."""
        training = torch.is_grad_enabled() and not in_backward()
        if by_hand.begun:
            if by_hand.look():  # otherwise gradients are accumulated
                self._end_step_by_hand()
        elif (
            by_hand.optimizer is None
            and training
            and (self._now is None or self._now.backwards)
            and by_hand.look()
            and not self._trainers.met
        ):
            if by_hand.has_optimizer():
                self._by_hand = None
                return
            self._step_ended(by_hand.stand_in(), False)  # its beginning was not seen

    def _step_by_hand_begins(self) -> None:
        if self._by_hand is not None and self._by_hand.optimizer is not None and not self._by_hand.begun:
            self._by_hand.begun = True
            self._step_begins(self._by_hand.optimizer, False)

    def _end_step_by_hand(self) -> None:
        if self._by_hand is not None and self._by_hand.begun and self._by_hand.optimizer is not None:
            self._by_hand.begun = False
            self._step_ended(self._by_hand.optimizer, False)

    def _trained_by(self, optimizer: Optimizer) -> list[Observer]:
        return [self._observers[name] for name in self._trainers.concerned(optimizer)]

    def _step_ended(self, optimizer: Optimizer, _: bool) -> None:
        with self.careful("A step"):
            stepping = self._stepping or self._trained_by(optimizer)  # a step that was running when watching began has only its end
            if not stepping or self._now is None:
                return
            if not self._now.groups:  # the step had begun when watching did
                self._now.hyper, self._now.groups = hyper_parameters(optimizer), len(optimizer.param_groups)
            self._now.optimizers += 1
            if self._now.row is not None:
                self._parameter_watch().step_ended()
            for observer in stepping:
                observer.step_end(optimizer, counts=self._now.optimizers == 1)
            self._now.seconds, self._now.epoch = time.monotonic() - self._ended_at, self.epoch()

    def _end_step(self) -> None:
        now, self._now = self._now, None
        if now is None:
            return
        if self._parameters is not None:
            self._parameters.close(now.row)
        self._used += now.row is not None
        if now.optimizers:
            if not (now.losses or now.roots or self._loss_missed):
                self._loss_missed = True
                self._log.observe(Observation(now.number, "unseen_loss", "", {}))
            self._note_turns(now)
            self.step = now.number + 1
            self._ended_at += now.seconds
            self._done.append(now)

    def _note_turns(self, now: Step) -> None:
        """Say once that optimisers take turns, step after step: parts of the network then have losses of their own, as a generator and its critic."""
        steppers, before = frozenset(now.stepped), self._steppers
        if self._turns == TURNS or not steppers:
            return
        self._steppers, self._turns = steppers, self._turns + bool(before and not before & steppers)
        if self._turns == TURNS:
            self._log.observe(Observation(now.number, "turns", "", {}))

    def finish_step(self) -> None:
        """Say that nothing more belongs to a step whose optimiser has stepped; otherwise it ends when the next one begins."""
        if self._by_hand is not None and self._by_hand.look():
            self._end_step_by_hand()
        if self._now is not None and self._now.optimizers:
            self._end_step()

    def read_now(self) -> None:
        """Write everything until now, because somebody looks: a step that its optimiser has taken is over, and so is an evaluation under way."""
        self._stay_apart()
        self.finish_step()
        self.drain()
        for observer in self._observers.values():
            with self.careful("a look"):
                observer.flush()

    def drain(self) -> None:
        """Turn what the buffers hold into records and hand them to the log; in the middle of a step its rest is not recorded."""
        if self._now is not None:
            self._now.row = None
        norms, figures = self._parameters.drain(self._buffers.rows) if self._parameters is not None and self._used else (None, {})
        records = [step.record(float(norms[step.row]) if step.row is not None and norms is not None else math.nan) for step in self._done]
        self._done, self._used, began = [], 0, time.monotonic()
        self._sink.write(self._buffers.drain(figures), records, self.step)
        if self._log.flushed_at >= began:  # otherwise the log still waits, and may wait as long as it is allowed to
            self._written_at = began


_opened: weakref.WeakSet[Recording] = weakref.WeakSet()


def _leave_all() -> None:
    """In a child process that was forked: it trains by itself, and unwatched."""
    for recording in tuple(_opened):
        recording.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all)


def _unknown() -> float:
    return math.nan
