"""Weights that nobody trains any more: frozen, or with a gradient that no optimiser takes up.

Receives the network's parameters and what the optimisers hold, at the scheduled steps; returns the numbers of an "idle" observation. A parameter counts
only while its values stay as they are, so that parts which are trained by turns never do. It reads a few elements of the idle parameters alone: a network
that is trained as a whole costs a walk through its names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from convscope.watch.deferred import Deferred, Numbers
from convscope.watch.graph_facts import fresh_share

ELEMENTS = 16  # of each idle parameter that are compared with those at the look before
MOSTLY = 0.5  # of the weights that were left out together
MOST_LAYERS = 4  # that are named

Value = float | int | str | bool | None
Reason = Literal["frozen", "left_out"]


@dataclass(slots=True, eq=False)
class _Idle:
    """A parameter that nobody trains, and since which look."""

    name: str
    parameter: Tensor
    reason: Reason
    since: int
    fresh: bool
    sample: Tensor

    @property
    def layer(self) -> str:
        return self.name.rpartition(".")[0] or self.name


class Standstill:
    """Follows the idle parameters of one network.

    Args:
        deferred: where the comparisons wait.
    """

    def __init__(self, deferred: Deferred) -> None:
        self._deferred = deferred
        self._idle: dict[int, _Idle] = {}
        self._moving: set[int] = set()  # ids of parameters that were idle at two looks and had moved between them: trained by turns
        self._weights = 1
        self._looks = 0
        self._told: dict[str, Value] = {}

    def look(self, step: int, own: Mapping[str, Tensor], held: Collection[int]) -> None:
        """Compare what is idle with the look before; to be called when gradients are complete.

        Args:
            step: number of the step.
            own: the network's parameters by name, as it has them now.
            held: ids of the parameters that any optimiser holds.
        """
        reasons = {name: reason for name, p in own.items() if id(p) not in self._moving and (reason := _reason(p, held))}
        now = {id(own[name]): name for name in reasons}
        self._weights = sum(p.numel() for p in own.values()) or 1
        stayed = [idle for key, idle in self._idle.items() if key in now and idle.reason == reasons[now[key]]]
        if stayed:
            self._compare(stayed)
        known = {id(idle.parameter) for idle in stayed}
        new = {name: own[name] for key, name in now.items() if key not in known}
        late = {name: p for name, p in new.items() if self._looks and reasons[name] == "left_out"}
        fresh = bool(late) and fresh_share(late) > MOSTLY
        self._idle = {id(idle.parameter): idle for idle in stayed}
        for name, p in new.items():
            self._idle[id(p)] = _Idle(name, p, reasons[name], step if self._looks else 0, fresh and name in late, _some(p).clone())
        self._looks += 1

    def _compare(self, stayed: list[_Idle]) -> None:
        device = stayed[0].parameter.device
        now = [_some(idle.parameter) for idle in stayed]
        changed = torch.cat([(values != idle.sample).to(device) for values, idle in zip(now, stayed, strict=True)])

        def receive(numbers: Numbers) -> None:
            start = 0
            for idle in stayed:
                end = start + len(idle.sample)
                if any(numbers[start:end]):
                    self._moving.add(id(idle.parameter))
                    self._idle.pop(id(idle.parameter), None)
                start = end

        self._deferred.add(changed, receive)

    def numbers(self, head: str, in_vain: str = "") -> dict[str, Value] | None:
        """The numbers of an "idle" observation, when they are others than those before.

        Args:
            head: name of the layer that gives the network's answers.
            in_vain: what `unfrozen_in_vain` gives.
        """
        if not self._looks:
            return None
        seen: dict[str, Value] = {}
        for reason in ("frozen", "left_out"):
            idle = [one for one in self._idle.values() if one.reason == reason]
            late = [one for one in idle if one.since]
            layers = list(dict.fromkeys(one.layer for one in late))
            seen |= {
                reason: sum(one.parameter.numel() for one in idle) / self._weights,
                f"{reason}_late": sum(one.parameter.numel() for one in late) / self._weights,
                f"{reason}_since": min((one.since for one in late), default=None),
                f"{reason}_head": any(one.layer == head and one.parameter.ndim > 1 for one in idle),
                f"{reason}_layers": ", ".join(layers[:MOST_LAYERS]) + (" ..." if len(layers) > MOST_LAYERS else ""),
            }
        seen["fresh"] = sum(one.parameter.numel() for one in self._idle.values() if one.fresh) / self._weights
        seen["in_vain"] = in_vain
        if seen == self._told:
            return None
        self._told = seen
        return seen


def unfrozen_in_vain(model: nn.Module) -> str:
    """Names of modules on which `requires_grad = True` was set, which a module does not hand on, and whose weights are frozen; "" without any."""
    set_on = [(name, list(module.parameters())) for name, module in model.named_modules() if vars(module).get("requires_grad") is True]
    layers = [name for name, own in set_on if own and not any(parameter.requires_grad for parameter in own)]
    return ", ".join(layers[:MOST_LAYERS]) + (" ..." if len(layers) > MOST_LAYERS else "")


def _reason(parameter: Tensor, held: Collection[int]) -> Reason | None:
    """Why nobody trains a parameter; None when it is trained, or is not used at all."""
    if not parameter.is_floating_point() or not parameter.numel():
        return None
    if not parameter.requires_grad:
        return "frozen"
    return "left_out" if id(parameter) not in held and parameter.grad is not None else None


def _some(parameter: Tensor) -> Tensor:
    return parameter.detach().reshape(-1)[:ELEMENTS]
