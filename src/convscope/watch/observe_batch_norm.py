"""Observations about batch normalisation: values per channel, and how far the running statistics are from the batch's.

Receives the beginning and end of outermost passes; makes "batch_norm" observations at the scheduled steps. The batch's statistics are not computed again:
they follow from the running ones before and after the pass, new = (1 - momentum) old + momentum batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from convscope.capture import Hook
from convscope.diagnose.observations import scheduled
from convscope.records import Observation
from convscope.watch.deferred import Deferred, Numbers

MOST_LAYERS = 24  # looked at, evenly chosen
BatchNorm = nn.modules.batchnorm._BatchNorm
Snapshot = tuple[str, BatchNorm, Tensor, Tensor, Tensor]


class BatchNormWatch:
    """Watches the batch normalisation layers of one model."""

    def __init__(self, model: nn.Module, deferred: Deferred, emit: Callable[[Observation], None]) -> None:
        self._deferred, self._emit = deferred, emit
        layers: list[tuple[str, BatchNorm]] = [(name, m) for name, m in model.named_modules() if isinstance(m, BatchNorm)]
        self._layers = layers[:: -(-len(layers) // MOST_LAYERS) or 1]
        self._values: dict[str, int] = {}
        self._handles: list[Any] = []
        self._before: list[Snapshot] = []
        self._looking = False

    def begin(self, step: int) -> None:
        """A pass begins; remember the running statistics when it is a training pass of a scheduled step."""
        self._before, self._looking = [], False
        if not (torch.is_grad_enabled() and scheduled(step)):
            return
        self._looking = True
        for name, layer in self._layers:
            if layer.training:
                if isinstance(layer.running_mean, nn.parameter.UninitializedBuffer):
                    continue
                self._handles.append(layer.register_forward_pre_hook(Hook(self._size_reader(name))))
                if layer.running_mean is not None and layer.running_var is not None and layer.num_batches_tracked is not None:
                    clones = layer.running_mean.clone(), layer.running_var.clone(), layer.num_batches_tracked.clone()
                    self._before.append((name, layer, *clones))

    def end(self, step: int) -> None:
        """The pass ends; compare."""
        self.close()
        before, self._before = self._before, []
        known = {name for name, *_ in before}
        for name, layer, old_mean, old_variance, old_count in before:
            with torch.no_grad():
                count, running_mean, running_variance = layer.num_batches_tracked, layer.running_mean, layer.running_var
                assert count is not None
                assert running_mean is not None
                assert running_variance is not None
                share = layer.momentum if layer.momentum is not None else 1.0 / max(1, int(count))
                mean = (running_mean - (1 - share) * old_mean) / share
                variance = ((running_variance - (1 - share) * old_variance) / share).clamp(min=0)
                gap = ((old_mean - mean).abs() / (variance.sqrt() + layer.eps**0.5)).median()
                one, two = old_variance + layer.eps, variance + layer.eps
                ratio = (torch.maximum(one, two) / torch.minimum(one, two)).median()
                figures = torch.stack([gap.float(), ratio.float(), count.float(), (count - old_count).float()])
            self._deferred.add(figures, self._writer(step, name, layer.momentum))
        for name, layer in self._layers:
            if self._looking and layer.training and name not in known and name in self._values:
                self._deferred.add_known([float("nan"), float("nan"), float("nan"), 1.0], self._writer(step, name, layer.momentum))

    def _size_reader(self, name: str) -> Callable[..., None]:
        def read(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            if inputs and isinstance(inputs[0], Tensor) and inputs[0].ndim > 1:
                self._values[name] = inputs[0].numel() // max(1, inputs[0].shape[1])

        return read

    def _writer(self, step: int, name: str, momentum: float | None) -> Callable[[Numbers], None]:
        values = self._values.get(name)

        def receive(numbers: Numbers) -> None:
            gap, ratio, updates, passes = numbers
            if passes != 1:
                return  # used more than once in the pass, so that the batch's statistics cannot be told
            self._emit(
                Observation(
                    step,
                    "batch_norm",
                    name,
                    {"values": values, "momentum": momentum, "updates": updates, "mean_gap": gap, "variance_ratio": ratio},
                )
            )

        return receive

    def close(self) -> None:
        """Take the hooks off again."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
