"""StopOnNonFinite: ends a fit at the first loss that is NaN or infinite, and puts the last good weights back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from convscope.capture import Capture
from convscope.errors import NonFiniteError
from convscope.train.callback import Callback

if TYPE_CHECKING:
    from convscope.train.learner import Learner

CHECK_EVERY = 32  # steps between looks at the loss on a GPU, so that ordinary steps need not wait for the host
KEEP_EVERY = 50  # steps between copies of weights that gave a finite loss; a copy of 11 million weights takes 10 ms


class StopOnNonFinite(Callback):
    """Looks at every loss (on a GPU every 32 steps at all of them), and at the first that is not finite stops the fit.

    The weights go back to the last copy that is known to have given a finite loss, and NonFiniteError says where it began.
    """

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._good: dict[str, Tensor] = {}
        self._candidate: tuple[int, dict[str, Tensor]] | None = None
        self._good_step = 0

    def before_fit(self, learner: Learner) -> None:
        """Keep a copy of the weights that the fit starts from."""
        self._losses, self._candidate = [], None
        self._good, self._good_step = _copy(learner.model), learner.step

    def before_batch(self, learner: Learner) -> None:
        """Every 50 steps keep a copy of the weights; it counts once the loss that it gives is known to be finite."""
        if learner.step >= self._good_step + KEEP_EVERY and self._candidate is None:
            self._candidate = (learner.step, _copy(learner.model))

    def after_loss(self, learner: Learner) -> None:
        """Look at the loss before the optimiser uses it.

        Raises:
            NonFiniteError: the loss is NaN or infinite.
        """
        self._losses.append(learner.loss.detach())
        if learner.loss.device.type != "cpu" and len(self._losses) < CHECK_EVERY:
            return
        values = [self._losses[0].item()] if len(self._losses) == 1 else torch.stack(self._losses).tolist()
        for back, value in zip(range(len(values) - 1, -1, -1), values, strict=True):
            if not math.isfinite(value):
                self._stop(learner, max(learner.step - back, 0), value)
        self._losses = []
        if self._candidate is not None:
            self._good_step, self._good = self._candidate
            self._candidate = None

    def _stop(self, learner: Learner, step: int, loss: float) -> None:
        where = first_non_finite(learner.model, learner.xb)
        learner.model.load_state_dict(self._good)
        lr = learner.optimizer.param_groups[0]["lr"]
        raise NonFiniteError(
            f"The loss became {'NaN' if math.isnan(loss) else 'infinite'} at step {step} (epoch {learner.epoch + 1}, learning rate {lr:.3g}); {where}. "
            f"Training stopped, and the weights are back at step {self._good_step}, the last that are known to be good. "
            "Try a learning rate ten times lower, or clip the gradients (clip_norm=1.0)."
        )


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@torch.no_grad()
def first_non_finite(model: nn.Module, inputs: Tensor) -> str:
    """Where NaN or infinity first appears on the way from the inputs to the loss, in words."""
    if not torch.isfinite(inputs).all():
        return "the input batch itself holds values that are not finite"
    weights = [name for name, value in model.named_parameters() if not torch.isfinite(value).all()]
    if weights:
        return f"the weights of {weights[0].rpartition('.')[0] or weights[0]!r} were not finite any more, so the step before broke them"
    found: list[str] = []

    def look(name: str, module: nn.Module, output: object) -> None:
        if not found and isinstance(output, Tensor) and not torch.isfinite(output).all():
            found.append(f"the first layer with such an output is {name!r} ({type(module).__name__})")

    with Capture(model, look):
        model(inputs)
    return found[0] if found else "every layer's output was finite, so it began in the loss itself"
