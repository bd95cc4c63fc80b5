"""Observer: what the rules need beyond statistics, seen from the outside of a training loop.

Receives five kinds of event from a Watcher (a pass of the outermost module begins and ends, an optimiser is about to step and has stepped, the run
ends) and listens to losses itself; hands out Observations. It changes nothing that it observes: no random numbers, no gradients, no flags, and its
hooks are taken off by `close`. What it computes stays on the device until the steps of the schedule.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from convscope.diagnose.observations import scheduled
from convscope.records import Observation
from convscope.watch.comparison_spy import raised
from convscope.watch.deferred import Deferred
from convscope.watch.graph_facts import first_tensor, network_numbers, strays
from convscope.watch.loss_spy import LossCall, LossSpy
from convscope.watch.observe_batch_norm import BatchNormWatch
from convscope.watch.observe_loss import look_at_loss_input
from convscope.watch.observe_passes import PassWatch
from convscope.watch.observe_weights import FILTER_STEPS, WeightWatch


class Observer:
    """Makes Observations of one model's training.

    Args:
        model: the outermost module.
        emit: receives each observation, at scheduled steps and at `close`.
        spy: whether to listen to losses here (otherwise the owner calls `loss_called`).
        on_backward: called when a backward pass reaches an output of the model.
        trouble: is given what goes wrong while operations of the loop are listened to; unless given, it is raised.

    Example:
        >>> observer = Observer(model, log.observe)
        >>> model.register_forward_pre_hook(lambda m, args: observer.forward_begin(args))
        >>> model.register_forward_hook(lambda m, args, output: observer.forward_end(output))
        >>> # and from optimizer step hooks: observer.step_begin(optimizer), observer.step_end(optimizer)
        >>> observer.close()
    """

    def __init__(
        self,
        model: nn.Module,
        emit: Callable[[Observation], None],
        *,
        spy: bool = True,
        on_backward: Callable[[], None] = lambda: None,
        trouble: Callable[[Exception], None] = raised,
    ) -> None:
        self.steps = 0
        self._model = model
        self._deferred = Deferred()
        self._emit = emit
        self._weights = WeightWatch(model, self._deferred, emit)
        self._passes = PassWatch(model, self._deferred, emit, self._backward_reached, self.loss_called, trouble)
        self._on_backward, self._unstepped = on_backward, 0  # backward passes before the first step
        self._norms = BatchNormWatch(model, self._deferred, emit)
        self._described = self._looked = self._stepped = False
        self._last: Tensor | None = None  # output of the newest part of a pass, until the network is described
        self._spy = LossSpy(self.loss_called) if spy else None
        if self._spy is not None:
            self._spy.__enter__()

    # ------------------------------------------------------------ events

    def forward_begin(self, inputs: object, *, training: bool | None = None) -> None:
        """A pass begins; `inputs` are its positional arguments (or keyword ones), `training` the mode where the outermost module's flag does not tell."""
        with _quiet():
            if not self._looked and torch.is_grad_enabled():
                self._looked = True
                self._weights.look_at_filters(0)
            training = self._model.training if training is None else training
            if training and torch.is_grad_enabled():
                self._weights.written_back.training_begins()
            else:
                self._weights.written_back.evaluation_begins()
            self._passes.begin(inputs, self.steps, training=training)
            self._norms.begin(self.steps)

    def forward_end(self, output: object) -> None:
        """The pass ends."""
        self._norms.end(self.steps)
        tensor = first_tensor(output)
        if tensor is not None:
            self._describe(tensor)
        self._passes.end(output)

    def part_begin(self) -> None:
        """A part of the network begins to compute, in a network that is never called as a whole."""
        with _quiet():
            self._norms.begin(self.steps)

    def part_end(self, output: object) -> None:
        """A part has computed; whether it was the last one shows when the backward pass begins."""
        self._norms.end(self.steps)
        if not self._described:
            self._last = first_tensor(output)
        self._passes.end(output)

    def _describe(self, output: Tensor) -> None:
        """Say what the network is, once, by the graph of an output."""
        if self._described or output.grad_fn is None:
            return
        self._described, self._last = True, None
        numbers = network_numbers(self._model, output)
        self._weights.head = str(numbers["head"])
        self._emit(Observation(self.steps, "network", "", numbers))
        self._weights.follow_strays(strays(self._model, output))

    def loss_called(self, call: LossCall) -> None:
        """A loss was computed."""
        with _quiet():
            if scheduled(self.steps) and call.input.requires_grad:
                look_at_loss_input(call, self.steps, self._deferred, self._emit)
            self._passes.loss_called(call)

    def dropout_called(self) -> None:
        """Dropout has dropped something, in a module or called as a function."""
        self._passes.dropout_called()

    def _backward_reached(self) -> None:
        self._unstepped += 1
        if self._last is not None:
            self._describe(self._last)
        self._on_backward()

    def step_begin(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimiser is about to step."""
        self._stepped = True
        with _quiet():
            self._passes.stepping(self.steps)
            self._weights.step_begin(optimizer, self.steps, self._passes.train_passes)

    def step_end(self, optimizer: torch.optim.Optimizer, *, counts: bool = True) -> None:
        """An optimiser has stepped; `counts` is False for a second optimiser in the same step."""
        with _quiet():
            self._weights.step_end(optimizer, self.steps)
            if not counts:
                return
            self._weights.written_back.step_ended()
            if self.steps in FILTER_STEPS:
                self._weights.look_at_filters(self.steps)
            if scheduled(self.steps) or self._deferred.crowded:
                self._write(self.steps)
            self.steps += 1

    def flush(self) -> None:
        """Read what waits and emit it, because somebody wants to know now."""
        with _quiet():
            self._passes.finish(self.steps)
            self._write(max(0, self.steps - 1))
            if not self._stepped and self._unstepped:
                seen = {"passes": self._unstepped, "moved": self._weights.have_moved(), "fresh": self._weights.fresh()}
                self._emit(Observation(0, "unstepped", "", {**seen}))

    def close(self) -> None:
        """Emit what is left and take every hook off. Safe to call twice."""
        if self._spy is not None:
            self._spy.__exit__()
            self._spy = None
            self.flush()
        self._passes.close()
        self._weights.close()
        self._norms.close()

    def _write(self, step: int) -> None:
        self._deferred.flush()
        self._weights.write(step)
        self._passes.write(step)


_AS_IT_IS = contextlib.nullcontext()


def _quiet() -> contextlib.AbstractContextManager[object]:
    """Compute in the tensors' own precision, whatever the loop asked for."""
    devices = [device for device in ("cpu", "cuda") if torch.is_autocast_enabled(device)]
    if not devices:
        return _AS_IT_IS
    stack = contextlib.ExitStack()
    for device in devices:
        stack.enter_context(torch.autocast(device, enabled=False))
    return stack
