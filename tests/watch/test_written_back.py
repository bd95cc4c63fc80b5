"""Evaluations that leave other weights behind than they found."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convscope.records import Observation
from convscope.runlog import RunLog
from convscope.watch import Watcher

STEPS, BETWEEN = 60, 6
Weights = dict[str, Tensor]


def looked_at(restored: Callable[[Weights, Weights, Weights], Weights | None]) -> Observation:
    """What is seen when every sixth step is followed by an evaluation of averaged weights, and then `restored(now, average, first)` is loaded."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    first = copy.deepcopy(network.state_dict())
    average = copy.deepcopy(first)
    log = RunLog.create()
    with Watcher(network, log=log):
        for step in range(STEPS):
            loss = F.cross_entropy(network(torch.randn(16, 6)), torch.randint(0, 3, (16,)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for name, value in network.state_dict().items():
                average[name].lerp_(value, 0.05)
            if step % BETWEEN == BETWEEN - 1:
                now = copy.deepcopy(network.state_dict())
                if (loaded := restored(now, average, first)) is not None:
                    network.load_state_dict(average)
                with torch.no_grad():
                    network(torch.randn(16, 6))
                if loaded is not None:
                    for name, parameter in network.named_parameters():
                        parameter.data.copy_(loaded[name])  # which leaves no trace but the numbers
    return [o for o in log.observations() if o.kind == "updates"][-1]


@pytest.mark.parametrize(
    ("restored", "most_left", "put_back"),
    [
        (lambda _, average, __: average, 0.2, 8),
        (lambda _, __, first: first, 0.0, 8),
        (lambda now, _, __: now, 1.0, 0),
        (lambda now, average, _: {name: 0.5 * (now[name] + average[name]) for name in now}, 1.0, 0),
    ],
)
def test_what_is_left_of_the_steps_in_between(
    restored: Callable[[Weights, Weights, Weights], Weights], most_left: float, put_back: int
) -> None:
    numbers = looked_at(restored).numbers
    assert (numbers["put_back"], numbers["steps_between"]) == (put_back, BETWEEN)
    assert numbers["left"] <= most_left + 1e-6  # type: ignore[operator]


def test_weights_into_which_nobody_writes() -> None:
    numbers = looked_at(lambda *_: None).numbers
    assert (numbers["put_back"], numbers["steps_between"], numbers["left"]) == (0, BETWEEN, 1.0)
