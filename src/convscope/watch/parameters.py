"""Gradients and updates of parameters: how large, and how large against the weights.

Receives the layers' own parameters and is told when gradients are complete and when an optimiser steps; hands out the norm of all gradients and
ParameterFigures for each layer and step. Gradient norms are exact. The update is measured on at most 1,024 neighbouring elements of each
parameter, other ones every few steps. What it computes stays on the device until it is drained. It hooks nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convscope.watch.backward import loss_scale
from convscope.watch.buffers import ParameterFigures
from convscope.watch.stats import STRIDE_OF_STARTS, dense

Array = NDArray[numpy.float64]
SAMPLE = 1024  # elements of a parameter whose update is looked at in one step
STAY = 16  # steps for which they are the same ones, so that the values after one step need not be copied again before the next
UNSCALED = (
    -6
)  # a gradient that shrank by a power of two of at least 64 between backward and step was unscaled (mixed precision), not clipped


@dataclass(slots=True)
class _Step:
    """What was measured at one step: gradient norms by number of parameter, after backward and at the step, and norms of sampled weights and updates."""

    after_backward: tuple[list[int], Tensor] | None = None
    at_step: tuple[list[int], Tensor] | None = None
    scale: Tensor | None = None  # by which the loss was multiplied before backward (mixed precision)
    moved: Tensor | None = None  # (2, parameters): norms of the sampled weights and of their update


_NOTHING = _Step()


class ParameterWatch:
    """Measures the parameters of a network.

    Args:
        layers: the own parameters of each layer, by name; a parameter may belong to several.
        others: parameters that no layer owns but whose gradients count for the global norm.
    """

    def __init__(self, layers: Mapping[str, Sequence[nn.Parameter]], others: Sequence[nn.Parameter] = ()) -> None:
        unique = {id(parameter): parameter for parameters in (*layers.values(), others) for parameter in parameters}
        self._parameters = list(unique.values())
        place = {key: number for number, key in enumerate(unique)}
        self._layers = {name: [place[id(parameter)] for parameter in parameters] for name, parameters in layers.items() if parameters}
        self._counts = numpy.array([parameter.numel() for parameter in self._parameters], dtype=numpy.float64)
        self._trainable = numpy.array([parameter.requires_grad for parameter in self._parameters], dtype=bool)
        self._now = _Step()
        self._done: dict[int, _Step] = {}
        self._versions: list[int] = []  # of the gradients after the backward pass
        self._before, self._after = Tensor(), Tensor()  # (parameters, elements looked at), filled up with zeros
        self._views: list[Tensor] = []  # the elements that are looked at, and what fills up each row
        self._looked_at: tuple[int, list[int]] = (-1, [])  # which ones: number of the stay, and addresses of the parameters
        self._left: list[int] = []  # versions of the parameters when `_after` was copied

    def rename(self, new_name: Callable[[str], str]) -> None:
        """Give every layer another name."""
        self._layers = {new_name(name): own for name, own in self._layers.items()}

    # ------------------------------------------------------------ measuring

    def gradients_complete(self) -> None:
        """A backward pass has ended; nothing was clipped yet. Of several in one step the last counts, as gradients add up."""
        self._now.after_backward = self._gradient_norms()
        self._versions = self._gradient_versions()

    def step_begins(self, step: int) -> None:
        """An optimiser is about to change the parameters."""
        self._now.scale = loss_scale()
        if self._now.after_backward is None or self._versions != self._gradient_versions():
            self._now.at_step = self._gradient_norms()
        if self._parameters and self._now.moved is None:
            self._look(step // STAY)

    def _look(self, stay: int) -> None:
        """Have the sampled weights in `_before`: what the last step left, where nobody has changed them since (except through `.data`)."""
        looked_at = stay, [parameter.data_ptr() for parameter in self._parameters]  # one may get new memory, on another device
        if looked_at == self._looked_at and self._left == [parameter._version for parameter in self._parameters]:
            self._before, self._after = self._after, self._before
            return
        width, device = int(min(self._counts.max(), SAMPLE)), self._parameters[0].device
        if looked_at[1] != self._looked_at[1]:
            self._before, self._after = (torch.zeros(len(self._parameters), width, device=device) for _ in range(2))
        self._looked_at = looked_at
        self._choose(stay)
        self._copy(self._before)

    def _choose(self, stay: int) -> None:
        """The elements that are looked at from now on."""
        self._views, width = [], self._before.shape[1]
        for parameter in self._parameters:
            part = _part(dense(parameter), stay)
            self._views += [part, part.new_zeros(width - len(part))]

    def _copy(self, target: Tensor) -> None:
        """Copy what is looked at; one call for all is several times as fast as one for each."""
        views = self._views if target.is_cpu else [view.to(target.device) for view in self._views]  # a network may lie on several devices
        torch.cat(views, out=target.view(-1))

    def step_ended(self) -> None:
        """The optimiser has changed them; a second optimiser in the same step adds to the update."""
        if self._views:
            if [parameter.data_ptr() for parameter in self._parameters] != self._looked_at[1]:  # the step was `weight.data = ...`
                self._choose(self._looked_at[0])
            self._copy(self._after)
            self._left = [parameter._version for parameter in self._parameters]
            self._now.moved = torch.linalg.vector_norm(torch.stack([self._before, self._after - self._before]), dim=2)

    def close(self, row: int | None) -> None:
        """The step is over; keep what was measured under the number of its row, or forget it."""
        if row is not None:
            self._done[row] = self._now
        self._now = _Step()

    def drain(self, size: int) -> tuple[Array, dict[str, ParameterFigures]]:
        """The norm of all gradients by row of the buffers, which have `size` of them, and each layer's figures; what was kept is forgotten."""
        steps = [self._done.get(row, _NOTHING) for row in range(size)]
        self._done = {}
        early, late = self._squares([step.after_backward for step in steps]), self._squares([step.at_step for step in steps])
        early /= numpy.array([float(step.scale) if step.scale is not None else 1.0 for step in steps])[:, None] ** 2
        with numpy.errstate(invalid="ignore", divide="ignore"):
            shrunk = numpy.log2(numpy.sqrt(numpy.nansum(late, 1) / numpy.nansum(early, 1)))
            unscaled = (shrunk < UNSCALED) & (numpy.abs(shrunk - numpy.round(shrunk)) < 1e-3)
        gradients = numpy.where(numpy.isnan(early) | (unscaled[:, None] & ~numpy.isnan(late)), late, early)
        norms = numpy.where(numpy.isnan(gradients).all(1), math.nan, numpy.sqrt(numpy.nansum(gradients, 1)))
        everyone = list(range(len(self._parameters)))
        scale = self._counts / numpy.clip(self._counts, 1, SAMPLE)  # of the sample's squares to those of the whole
        weights = self._squares([(everyone, step.moved[0]) if step.moved is not None else None for step in steps]) * scale
        updates = self._squares([(everyone, step.moved[1]) if step.moved is not None else None for step in steps]) * scale
        return norms, {name: self._figures(own, gradients, weights, updates) for name, own in self._layers.items()}

    def _squares(self, measured: Sequence[tuple[list[int], Tensor] | None]) -> Array:
        """Squared norms, a row for each step and a column for each parameter; NaN where nothing was measured."""
        squares = numpy.full((len(measured), len(self._parameters)), math.nan)
        alike: dict[tuple[int, ...], list[int]] = {}
        for at, one in enumerate(measured):
            if one is not None:
                alike.setdefault(tuple(one[0]), []).append(at)
        for numbers, places in alike.items():
            norms = torch.stack([one[1] for one in (measured[at] for at in places) if one is not None])
            squares[numpy.ix_(places, numbers)] = norms.double().cpu().numpy() ** 2
        return squares

    def _figures(self, own: list[int], gradients: Array, weights: Array, updates: Array) -> ParameterFigures:
        """The figures of one layer; its frozen parameters count as weights only."""
        moving = [number for number in own if self._trainable[number]]
        has_gradient = ~numpy.isnan(gradients[:, moving])
        with numpy.errstate(invalid="ignore", divide="ignore"):
            weight = numpy.sqrt(weights[:, own].sum(1))
            update = numpy.sqrt(updates[:, moving].sum(1)) if moving else math.nan
            ratio = numpy.where(weight > 0, update / weight, math.nan)
            gradient = numpy.sqrt(numpy.nansum(gradients[:, moving], 1) / (has_gradient * self._counts[moving]).sum(1))
        return ParameterFigures(ratio, gradient, weight / math.sqrt(self._counts[own].sum()))

    # ------------------------------------------------------------ inside

    def _gradient_norms(self) -> tuple[list[int], Tensor] | None:
        numbers, gradients = [], []
        for number, parameter in enumerate(self._parameters):
            gradient = parameter.grad
            if gradient is not None and gradient.layout is torch.strided:
                numbers.append(number)
                gradients.append(gradient)
        if not gradients:
            return None
        half = any(gradient.dtype in (torch.float16, torch.bfloat16) for gradient in gradients)
        norms = torch._foreach_norm(gradients, 2, torch.float32) if half else torch._foreach_norm(gradients, 2)
        if not gradients[0].is_cpu:  # a network may lie on several devices
            norms = tuple(norm.to(norms[0].device) for norm in norms)
        return numbers, torch.stack(norms)

    def _gradient_versions(self) -> list[int]:
        return [gradient._version for parameter in self._parameters if (gradient := parameter.grad) is not None]


def _part(flat: Tensor, stay: int) -> Tensor:
    """A view of the elements of a parameter that are looked at."""
    spare = flat.numel() - SAMPLE
    return flat if spare <= 0 else flat.narrow(0, stay * STRIDE_OF_STARTS % (spare + 1), SAMPLE)
