"""Observations about weights: who holds them, whether their gradients were cleared, whether they move, whether filters differ.

Receives the model and the optimiser's steps; makes "optimizer", "gradient_carry", "updates", "idle", "strays" and "filters" observations. It reads
small samples of the weights at the scheduled steps only, and one small parameter's gradient at each step.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from convscope.diagnose.observations import scheduled
from convscope.records import Observation
from convscope.watch.by_hand import ByHand
from convscope.watch.deferred import Deferred, Numbers
from convscope.watch.graph_facts import fresh_share
from convscope.watch.standstill import Standstill, unfrozen_in_vain
from convscope.watch.written_back import WrittenBack

Emit = Callable[[Observation], None]
FILTER_STEPS = (4, 20, 100)  # looks at the filters after the first one; diagnoses.md, row 10, and one within five steps
STRAYS_FROM = 20  # the step from which weights that have not moved are said to stand still
TOGETHER = 1e-3  # of how far filters have moved: what is left between equal ones is rounding
MOST_PARAMETERS = 40  # looked at per scheduled step, evenly chosen
SAMPLE = 64  # elements of each
LEAST_STEP = 1e-6  # of the weight: ten times what float32 can hold
MOST_OPTIMIZERS = 64  # of one run that are described; a loop may make one for every step
MOST_LOOKS = 64  # backward passes between two steps that are looked at
LEAST_RATE = 1e-7  # below it float32 rounds steps away by itself
COARSE = (torch.float16, torch.bfloat16)
LONG_STREAK = 5  # looks in a row: as many as a verdict needs
UNDONE = 0.2  # of a step: less of it is left when the next one begins
ROUNDED = 0.8  # of the elements with a gradient stay as they are after a step
LARGE = 1000.0  # weights beyond which float32 is coarse too: it holds steps of 6e-5 and more


@dataclass(slots=True)
class _Carry:
    """Whether the gradient of one parameter was cleared between steps."""

    name: str
    parameter: Tensor
    handle: Any = None
    armed: bool = False
    wanted: bool = False  # whether it is looked at if the gradient that comes is still there at the step
    came: Tensor | bool = False  # whether the newest gradient since the last step was not zero
    erased: int = 0  # the last consecutive looks at which one had come and none was left
    looks: list[Tensor | bool] = field(default_factory=list)  # before each backward pass since the last step: is an old gradient there?
    checked: int = 0
    carried: int = 0
    streak: int = 0
    since: int = 0
    began: int | None = None  # the step of the first old gradient

    def receive(self, step: int, old_gradient: bool) -> None:
        self.checked += 1
        if not old_gradient:
            self.streak = 0
            return
        self.carried += 1
        self.began = step if self.began is None else self.began
        self.since = self.since if self.streak else step
        self.streak += 1


@dataclass(slots=True)
class _Before:
    """Samples of the weights before a step: a row for each parameter."""

    names: list[str]
    parameters: list[Tensor]
    values: Tensor
    pulled: Tensor  # elementwise: whether there is a gradient
    asked: Tensor  # by row: whether the gradient asks for a step that float32 can hold
    coarse: Tensor  # by row: whether the parameter's numbers are coarse, of low precision or large
    after: Tensor | None = None  # the same elements right after the step

    def surviving(self) -> Tensor:
        """Which share of the step is still there: 1 where nobody touched the weights since, 0 where they were put back. Numerator and denominator."""
        if self.after is None:
            return torch.ones(2, device=self.values.device)
        step, now = _as_real(self.after - self.values), _as_real(_table(self.parameters) - self.values)
        return torch.stack([(now * step).sum(), step.square().sum()])

    def figures(self) -> Tensor:
        """By parameter: whether it has moved since, whether it should have, how many elements were pulled in vain in coarse numbers, how many at all."""
        changed = _table(self.parameters) != self.values
        stuck = (self.pulled & ~changed).sum(1) * self.coarse
        return torch.stack([changed.any(1), self.asked, stuck, self.pulled.sum(1)])


class WeightWatch:
    """Watches parameters and optimisers of one model.

    Args:
        model: the watched model.
        deferred: where small results wait.
        emit: receives observations.

    Attributes:
        head: name of the layer that gives the model's answers; "" while it is not known.
        written_back: whether evaluations leave other weights behind.
    """

    def __init__(self, model: nn.Module, deferred: Deferred, emit: Emit) -> None:
        self.head = ""
        self._model, self._deferred, self._emit = model, deferred, emit
        self._carries: dict[int, _Carry] = {}
        self._seen: dict[int, int] = {}
        self._held: dict[
            int, set[int]
        ] = {}  # ids of the parameters that an optimiser holds, by the optimiser's id; 0: those of former ones
        self._owners: dict[int, weakref.ref[torch.optim.Optimizer]] = {}
        self._standstill = Standstill(deferred)
        self.written_back = WrittenBack(model, deferred, self._receive_written_back)
        self._put_back = 0  # the last consecutive evaluations after which hardly anything was left of the steps before them
        self._before: list[_Before] = []  # one for each optimiser of the step
        self._checked = self._still = self._ungraded = self._rounded = self._undone = 0
        self._last = {
            "still_share": 0.0,
            "no_gradient": 0.0,
            "rounded_share": 0.0,
            "ungraded_fresh": 0.0,
            "surviving": 1.0,
            "left": 1.0,
            "steps_between": 0,
        }
        self._still_layers = self._ungraded_layers = ""
        self._step = self._passes = 0
        self._looked = -1  # the last step at which idle parameters were looked for
        self._filter_sums: dict[str, tuple[float, float]] = {}
        self._filters_began: dict[str, Tensor] = {}
        self._strays: list[tuple[Tensor, Tensor]] = []

    # ------------------------------------------------------------ optimiser steps

    def step_begin(self, optimizer: torch.optim.Optimizer, step: int, passes: int) -> None:
        """Before the optimiser changes the weights; gradients are complete."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if self._before and self._step < step:
            self._compare()
        self._step = step
        self._passes = passes
        carry = self._carries.get(id(optimizer))
        if carry is not None and carry.looks:
            self._judge(carry, step)
        elsewhere = isinstance(optimizer, ByHand) and all(p.grad is None for p in parameters)  # the loop keeps its gradients by itself
        if carry is not None and carry.wanted and not elsewhere:
            self._look_for_erased(carry)
        if self._seen.get(id(optimizer)) != len(parameters):
            self._meet(optimizer, parameters, step)
        if not scheduled(step):
            return
        self._hold(optimizer, parameters)
        stands_at_minimum = isinstance(optimizer, torch.optim.LBFGS)  # rightly: it stops by itself
        if parameters and not stands_at_minimum and not elsewhere and (rate := _rate(optimizer.param_groups[0], 1.0)) > LEAST_RATE:
            self._remember(parameters, rate, proportional=isinstance(optimizer, torch.optim.SGD))
        if self._looked != step:
            self._looked = step
            self._standstill.look(step, _own(self._model), set().union(*self._held.values()))

    def _judge(self, carry: _Carry, step: int) -> None:
        """The gradient is stale when it was there before every backward pass since the last step: nothing cleared it in between.

        (One look may find it: a generator's backward pass goes through the critic before the critic's own gradients are cleared.)
        """
        looks, carry.looks = carry.looks, []
        tensors = [look for look in looks if isinstance(look, Tensor)]
        if len(tensors) < len(looks):
            self._deferred.add_known([0.0], lambda _: carry.receive(step, old_gradient=False))
        else:
            self._deferred.add(torch.stack(tensors).all(), lambda numbers: carry.receive(step, old_gradient=numbers[0] > 0))

    def _look_for_erased(self, carry: _Carry) -> None:
        """Whether a gradient came and is gone before the step: set back to zero too early, or multiplied by zero."""
        came, carry.came = carry.came, False
        if not isinstance(came, Tensor):
            return
        gradient = carry.parameter.grad
        left = torch.zeros_like(came) if gradient is None else (_values(gradient) != 0).any()

        def receive(numbers: Numbers) -> None:
            carry.erased = carry.erased + 1 if numbers[0] and not numbers[1] else 0

        self._deferred.add(torch.stack([came, left]), receive)

    def step_end(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """After the optimiser changed the weights; whether they moved is looked at before the next step, in case something puts them back."""
        carry = self._carries.get(id(optimizer))
        if carry is not None:
            carry.armed, carry.looks = True, []
            carry.wanted, carry.came = scheduled(step + 1), False
        for before in self._before:
            if before.after is None:
                before.after = _table(before.parameters)

    def write(self, step: int) -> None:
        """Emit the running counts (the deferred results have been read)."""
        for carry in self._carries.values():
            if carry.checked:
                numbers = {
                    "checked": carry.checked,
                    "carried": carry.carried,
                    "streak": carry.streak,
                    "since": carry.since,
                    "began": carry.began,
                }
                self._emit(Observation(step, "gradient_carry", carry.name, {**numbers}))
        erased = max((carry.erased for carry in self._carries.values()), default=0)
        if self._checked or self._ungraded or self._rounded or erased or self._put_back:
            streaks = {"checked": self._checked, "still": self._still, "ungraded": self._ungraded, "rounded": self._rounded}
            streaks["undone"], streaks["put_back"] = self._undone, self._put_back
            names: dict[str, float | int | str | bool | None] = {
                "still_layers": self._still_layers,
                "ungraded_layers": self._ungraded_layers,
                "erased": erased,
                "passes": self._passes,
            }
            self._emit(Observation(step, "updates", "", {**streaks, **self._last, **names}))
        if (idle := self._standstill.numbers(self.head, unfrozen_in_vain(self._model))) is not None:
            self._emit(Observation(step, "idle", "", idle))

    def close(self) -> None:
        """Take every hook off again."""
        for carry in self._carries.values():
            carry.handle.remove()
        self._carries.clear()

    def _meet(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor], step: int) -> None:
        own = dict(self._model.named_parameters())
        ids = {id(p) for p in own.values()}
        place = list(self._seen).index(id(optimizer)) if id(optimizer) in self._seen else len(self._seen)
        self._seen[id(optimizer)] = len(parameters)
        self._hold(optimizer, parameters)
        if id(optimizer) not in self._carries:
            self._follow(optimizer, parameters)
        if place >= MOST_OPTIMIZERS or not parameters:
            return
        held = set().union(*self._held.values())
        trainable = {name: p for name, p in own.items() if p.requires_grad}
        in_use = (
            {name: p for name, p in trainable.items() if p.grad is not None or id(p) in held} if _any_gradient(trainable) else trainable
        )
        missing = {name: p for name, p in in_use.items() if id(p) not in held}
        size = sum(p.numel() for p in trainable.values()) or 1
        group, foreign = optimizer.param_groups[0], sum(p.numel() for p in parameters if id(p) not in ids)
        layers = list(dict.fromkeys(map(_layer, missing)))
        self._emit(
            Observation(
                step,
                "optimizer",
                str(place),
                {
                    "kind": type(optimizer).__name__,
                    "lr": _rate(group, math.nan),
                    "weight_decay": float(group.get("weight_decay", 0.0) or 0.0),
                    "decoupled": bool(group.get("decoupled_weight_decay", False)) or type(optimizer).__name__ == "AdamW",
                    "held": 1 - sum(p.numel() for p in missing.values()) / size,
                    "foreign": foreign / max(1, sum(p.numel() for p in parameters)),
                    "head_held": (self.head or _layer(_head(own))) not in layers,
                    "missing": ", ".join(layers[:4]) + (" ..." if len(layers) > 4 else ""),
                    "missing_fresh": fresh_share(missing) if missing else None,
                },
            )
        )

    def _hold(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> None:
        """Note what an optimiser holds now; what one that is gone held stays noted."""
        owner = self._owners.get(id(optimizer))
        if owner is None or owner() is not optimizer:
            self._held.setdefault(0, set()).update(self._held.get(id(optimizer), ()))
            self._owners[id(optimizer)] = weakref.ref(optimizer)
        self._held[id(optimizer)] = {id(p) for p in parameters}

    def _follow(self, optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> None:
        names = {id(p): name for name, p in self._model.named_parameters()}
        ours = [p for p in parameters if id(p) in names and p.requires_grad and p.numel()]
        known = [p for p in ours if p.grad is not None] or ours
        if not known:
            return
        parameter = min(reversed(known), key=lambda p: p.numel())
        for other, old in tuple(self._carries.items()):  # of an optimiser that this one replaces; a loop may make one for every step
            if old.parameter is parameter:
                self._carries.pop(other).handle.remove()
        carry = self._carries[id(optimizer)] = _Carry(names[id(parameter)], parameter)

        def before_accumulation(gradient: Tensor) -> None:
            if carry.wanted:
                carry.came = (_values(gradient) != 0).any()  # of the newest backward pass: one before may have been cleared rightly
            if carry.armed and len(carry.looks) < MOST_LOOKS:
                carry.looks.append(False if parameter.grad is None else (_values(parameter.grad) != 0).any())

        carry.handle = parameter.register_hook(before_accumulation)  # type: ignore[no-untyped-call]

    # ------------------------------------------------------------ do the weights move?

    def _remember(self, parameters: Iterable[Tensor], lr: float, *, proportional: bool) -> None:
        """Keep a sample of each weight, and whether its gradient asks for a step that its precision can hold."""
        held = {id(p) for p in parameters}
        ours = [(name, p) for name, p in _own(self._model).items() if p.requires_grad]
        size = sum(p.numel() for _, p in ours) or 1
        ungraded = [(name, p) for name, p in ours if p.grad is None]
        without = sum(p.numel() for _, p in ungraded) / size
        self._last["no_gradient"] = without
        self._ungraded = self._ungraded + 1 if without > 0.5 else 0
        if self._ungraded == LONG_STREAK:
            self._last["ungraded_fresh"] = fresh_share(dict(ungraded))
        self._ungraded_layers = ", ".join(list(dict.fromkeys(_layer(name) for name, _ in ungraded))[:4])
        looked_at = [(name, p) for name, p in ours if id(p) in held and p.grad is not None and not p.grad.is_sparse and p.numel()]
        looked_at = looked_at[:: -(-len(looked_at) // MOST_PARAMETERS) or 1]
        if not looked_at:
            return
        parameters = [p for _, p in looked_at]
        with torch.no_grad():
            values, pulls = _table(parameters), _table([p.grad for p in parameters if p.grad is not None]).abs().float()
            pull, largest = pulls.amax(1), values.abs().float().amax(1)
            expected = lr * pull if proportional else lr * (pull > 0)
            coarse = largest > LARGE
            if any(p.dtype in COARSE for p in parameters):
                coarse |= torch.tensor([p.dtype in COARSE for p in parameters], device=coarse.device)
            names, asked = [name for name, _ in looked_at], expected > LEAST_STEP * largest
            self._before.append(_Before(names, parameters, values, pulls > 0, asked, coarse))

    def _compare(self) -> None:
        """Queue, of each parameter: whether it moved, whether it should have, and which part of it was pulled in vain for want of precision."""
        before, self._before = self._before, []
        names = [name for one in before for name in one.names]
        sizes = [p.numel() for one in before for p in one.parameters]
        with torch.no_grad():
            figures = torch.cat([one.figures().to(before[0].values.device) for one in before], dim=1)

        def receive(numbers: Numbers) -> None:
            moves, asks, stuck, pulled = (numbers[at : at + len(sizes)] for at in range(0, len(numbers), len(sizes)))
            alive = sum(size for size, pull in zip(sizes, pulled, strict=True) if pull)
            in_vain = sum(size * held / pull for size, held, pull in zip(sizes, stuck, pulled, strict=True) if pull)
            share = in_vain / alive if alive else 0.0
            self._rounded = self._rounded + 1 if share > ROUNDED else 0
            self._last["rounded_share"] = share
            pulls = [size if ask else 0 for size, ask in zip(sizes, asks, strict=True)]
            if not sum(pulls):
                return  # no gradient anywhere: another rule's business
            still = [0 if move else pull for move, pull in zip(moves, pulls, strict=True)]
            share = sum(still) / sum(pulls)
            self._checked += 1
            self._still = self._still + 1 if share > 0.5 else 0
            self._last["still_share"] = share
            self._still_layers = ", ".join([_layer(name) for name, size in zip(names, still, strict=True) if size][:4])

        self._deferred.add(figures, receive)
        with torch.no_grad():
            surviving = torch.stack([one.surviving().to(before[0].values.device) for one in before]).sum(0)
        self._deferred.add(surviving, self._receive_surviving)

    def _receive_surviving(self, numbers: Numbers) -> None:
        kept, taken = numbers
        if not taken > 0:
            return
        self._last["surviving"] = kept / taken
        self._undone = self._undone + 1 if kept < UNDONE * taken else 0

    def _receive_written_back(self, left: float, steps: int) -> None:
        self._put_back = self._put_back + 1 if left < UNDONE else 0
        self._last.update(left=left, steps_between=steps)

    def have_moved(self) -> bool:
        """Whether the weights are others than at the first pass; waits for the device."""
        own = _own(self._model)
        began = [(own[name], rows) for name, rows in self._filters_began.items() if name in own]
        return any(bool((_rows(weight) != rows).any()) for weight, rows in began) if began else True

    def fresh(self) -> float:
        """Share of the trainable weights that look freshly drawn."""
        return fresh_share({name: p for name, p in _own(self._model).items() if p.requires_grad})

    # ------------------------------------------------------------ weights that are not the model's

    def follow_strays(self, strays: Iterable[Tensor]) -> None:
        """Remember how trainable weights that the model uses without holding them begin."""
        self._strays = [(p, p.detach().reshape(-1)[:SAMPLE].clone()) for p in strays]

    def _look_at_strays(self, step: int) -> None:
        """Emit how much of the strays has a gradient and does not move: nobody trains them."""
        pulled = [(p, some) for p, some in self._strays if p.grad is not None]
        if not pulled:
            return
        with torch.no_grad():
            moved = torch.stack([(p.detach().reshape(-1)[:SAMPLE] != some).any() for p, some in pulled])
        sizes, own = [p.numel() for p, _ in pulled], sum(p.numel() for p in self._model.parameters() if p.requires_grad)
        shapes = [" × ".join(map(str, p.shape)) for p, _ in pulled]
        fresh = fresh_share({f"{at}.weight": p for at, (p, _) in enumerate(pulled) if p.ndim > 1})

        def receive(numbers: Numbers) -> None:
            still = [at for at, number in enumerate(numbers) if not number]
            size = sum(sizes[at] for at in still)
            named = ", ".join([shapes[at] for at in still][:4])
            self._emit(
                Observation(step, "strays", "", {"weights": size, "share": size / max(1, size + own), "shapes": named, "fresh": fresh})
            )

        self._deferred.add(moved, receive)

    # ------------------------------------------------------------ do filters differ?

    def look_at_filters(self, step: int) -> None:
        """Compare the filters of each layer with its first one; called before the first step and at FILTER_STEPS."""
        if step >= STRAYS_FROM:
            self._look_at_strays(step)
        weights = [
            (n, p)
            for n, p in self._model.named_parameters()
            if p.ndim >= 2 and p.shape[0] >= 2 and p.numel() and p.is_floating_point() and p.requires_grad and not _lookup(self._model, n)
        ]
        with torch.no_grad():
            for name, weight in weights[:: -(-len(weights) // MOST_PARAMETERS) or 1]:
                rows = _rows(weight)
                scale = rows.abs().amax()
                apart = (rows[1:] - rows[:1]).abs().amax(1)
                equal = (apart <= 1e-4 * scale).float().mean()
                path = (rows - self._filters_began.setdefault(name, rows.clone())).abs().amax()
                together = ((apart <= TOGETHER * path) & (path > 0)).float().mean()
                sizes = {"filters": rows.shape[0], "inputs": weight.shape[1], "fan_in": weight[0].numel()}
                writer = self._filter_writer(step, _layer(name), sizes)
                self._deferred.add(torch.stack([equal, rows.sum(), scale, rows.square().mean().sqrt(), together]), writer)

    def _filter_writer(self, step: int, layer: str, sizes: Mapping[str, int]) -> Callable[[Numbers], None]:
        def receive(numbers: Numbers) -> None:
            first = self._filter_sums.setdefault(layer, (numbers[1], numbers[2]))
            moved = first != (numbers[1], numbers[2])
            seen = {
                "identical": numbers[0],
                **sizes,
                "largest": numbers[2],
                "rms": numbers[3],
                "still_moving": moved,
                "together": numbers[4],
            }
            self._emit(Observation(step, "filters", layer, {**seen}))

        return receive


def _own(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a model by name, without those that have no size yet."""
    return {name: p for name, p in model.named_parameters() if not isinstance(p, nn.parameter.UninitializedParameter)}


def _rows(weight: Tensor) -> Tensor:
    """Some of a layer's filters, a row each."""
    return weight.detach()[:16].flatten(1)[:, :256].float()


def _any_gradient(parameters: Mapping[str, Tensor]) -> bool:
    return any(p.grad is not None for p in parameters.values())


def _table(tensors: Sequence[Tensor]) -> Tensor:
    """The first elements of each, a row each, filled up with zeros; one call for all is several times as fast as one for each."""
    device, parts = tensors[0].device, []
    for tensor in tensors:  # a network may lie on several devices
        some = tensor.detach().reshape(-1)[:SAMPLE].to(device)
        parts += [some, some.new_zeros(SAMPLE - len(some))]
    return torch.cat(parts).view(len(tensors), SAMPLE)


def _as_real(values: Tensor) -> Tensor:
    return torch.view_as_real(values) if values.is_complex() else values.float()


def _values(gradient: Tensor) -> Tensor:
    """The numbers in a gradient; of a sparse one those that are kept."""
    return gradient.detach()._values() if gradient.layout is torch.sparse_coo else gradient.detach()


def _rate(group: Mapping[str, Any], unknown: float) -> float:
    """The learning rate of a parameter group; some optimisers have none, or None until they find it themselves."""
    rate = group.get("lr")
    return unknown if rate is None else float(rate)


def _layer(name: str) -> str:
    """The layer that a parameter belongs to."""
    return name.rpartition(".")[0] or name


def _head(parameters: Mapping[str, Tensor]) -> str:
    """Name of the last matrix-like parameter: the head's weight in a network written in order."""
    matrices = [name for name, p in parameters.items() if p.ndim >= 2]
    return matrices[-1] if matrices else ""


def _lookup(model: nn.Module, name: str) -> bool:
    """Whether a parameter belongs to an embedding, whose rows may well be equal."""
    return isinstance(model.get_submodule(name.rpartition(".")[0]), nn.Embedding)
