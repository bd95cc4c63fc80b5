"""The base of callbacks: every hook as a typed no-op, and running them in the order of the list.

A callback receives the learner and may read and change it; the loop stays small. Hooks that a class does not override cost nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from convscope.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from convscope.train.learner import Learner


class CancelFit(Exception):  # a signal, not an error; the name is fastai's habit
    """Raise it in a hook to end the fit in good order; its text says why."""


class Callback:
    """Override the hooks that you need. After training, a callback is reached by its snake_case name on the learner.

    A callback with state returns it from `state_dict` (JSON values only), and it is kept with each checkpoint.

    Example:
        >>> class PrintLoss(Callback):
        ...     def after_step(self, learner):
        ...         print(learner.step, float(learner.loss))
    """

    logs_steps = False  # whether this callback writes the StepRecords to the learner's log in the Recorder's place

    @property
    def name(self) -> str:
        """The snake_case name under which the learner holds it."""
        return snake_case(type(self).__name__)

    def before_fit(self, learner: Learner) -> None:
        """Before the first batch of a fit; the optimiser exists, the model is on its device."""

    def before_epoch(self, learner: Learner) -> None:
        """Before the first batch of an epoch (or of what is left of it after a resume)."""

    def before_batch(self, learner: Learner) -> None:
        """`learner.xb` and `learner.yb` hold the batch; this hook may replace them."""

    def after_pred(self, learner: Learner) -> None:
        """`learner.pred` holds the model's output for the training batch."""

    def after_loss(self, learner: Learner) -> None:
        """`learner.loss` holds the training loss, a tensor without axes."""

    def before_step(self, learner: Learner) -> None:
        """The gradients are complete, unscaled and not yet clipped."""

    def after_step(self, learner: Learner) -> None:
        """The optimiser has stepped and the gradients are cleared; `learner.step` counts this step already."""

    def before_validate(self, learner: Learner) -> None:
        """Before the first validation batch; the model is in evaluation mode."""

    def after_validate(self, learner: Learner) -> None:
        """`learner.validation` holds the losses and metrics."""

    def after_epoch(self, learner: Learner) -> None:
        """After training and validation of an epoch; `learner.epoch` counts it already."""

    def before_checkpoint(self, learner: Learner) -> None:
        """The log and the states of callbacks are about to be written to a checkpoint, or read."""

    def after_fit(self, learner: Learner) -> None:
        """Always called at the end of a fit, also when it was cancelled or failed."""

    def state_dict(self) -> dict[str, Any]:
        """What must be kept in a checkpoint, as JSON values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""

    def state_tensors(self) -> dict[str, Tensor]:
        """Tensors that must be kept in a checkpoint, by name."""
        return {}

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `state_tensors` returned."""


HOOKS = tuple(name for name in vars(Callback) if re.match(r"(before|after)_", name))


def snake_case(name: str) -> str:
    """A class name in snake_case.

    Example:
        >>> snake_case("ActivationStats")
        'activation_stats'
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class CallbackList:
    """Callbacks in the order in which they run.

    Args:
        callbacks: instances of Callback.

    Raises:
        UsageError: something is not a callback, or two have the same name.
        UnknownNameError: a callback has a method that looks like a hook and is none, such as `after_bacth`.
    """

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        given: tuple[object, ...] = tuple(callbacks)
        names: set[str] = set()
        checked: list[Callback] = []
        for callback in given:
            if not isinstance(callback, Callback):
                hint = f" Write {callback.__name__}() with brackets." if isinstance(callback, type) else ""
                raise UsageError(f"callbacks holds {callback!r}, which is not an instance of convscope.Callback.{hint}")
            for method in dir(type(callback)):
                if re.match(r"(before|after)_", method) and method not in HOOKS:
                    raise UnknownNameError(f"hook of {type(callback).__name__} named", method, HOOKS)
            if callback.name in names:
                raise UsageError(
                    f"Two callbacks are named {callback.name!r}. The learner holds each under its name: give one a subclass with another name."
                )
            names.add(callback.name)
            checked.append(callback)
        self.callbacks: Sequence[Callback] = tuple(checked)
        self._by_hook = {hook: tuple(c for c in self.callbacks if getattr(type(c), hook) is not getattr(Callback, hook)) for hook in HOOKS}

    def call(self, hook: str, learner: Learner) -> None:
        """Run one hook of every callback that has it."""
        for callback in self._by_hook[hook]:
            getattr(callback, hook)(learner)

    def state_dict(self) -> dict[str, Any]:
        """The states of all callbacks that have one, by name."""
        return {callback.name: state for callback in self.callbacks if (state := callback.state_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned; callbacks without a kept state stay as they are."""
        for callback in self.callbacks:
            if callback.name in state:
                callback.load_state_dict(state[callback.name])
