"""Answers that are amounts: sums against numpy over all samples at once, and what is seen of targets in loops that write their losses out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from convscope.records import Observation
from convscope.watch.comparison_spy import DifferenceSpy
from convscope.watch.observe import Observer
from convscope.watch.observe_amounts import AmountTally, amounts
from convscope.watch.observe_loss import holds_shares


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 5), st.sampled_from([0.0, 2000.0]), st.integers(0, 99))
def test_sums_are_those_of_all_samples_at_once(sizes: list[int], columns: int, offset: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    targets = [offset + 3 * torch.randn(size, columns, generator=generator) for size in sizes]
    said = [batch + torch.randn(batch.shape, generator=generator) for batch in targets]
    tally = AmountTally()
    for answer, target in zip(said, targets, strict=True):
        figures = amounts(answer, target)
        assert figures is not None
        tally.add(figures.tolist())
    every, answers = torch.cat(targets).double().numpy(), torch.cat(said).double().numpy()
    error, variance = ((answers - every) ** 2).mean(), every.var(0).mean()
    assert tally.samples == len(every)
    assert tally.mean_error == pytest.approx(error, rel=1e-3)
    assert tally.variance == pytest.approx(variance, rel=1e-3, abs=1e-6)
    if len(every) > 2:
        assert tally.explained == pytest.approx(1 - error / variance, rel=1e-2, abs=1e-3)


def test_targets_that_do_not_differ_are_not_explained() -> None:
    tally = AmountTally()
    figures = amounts(torch.randn(8, 2), torch.full((8, 2), 1234.5))
    assert figures is not None
    tally.add(figures.tolist())
    assert (tally.variance, tally.explained, tally.mean) == (0.0, None, 1234.5)
    assert AmountTally().explained is None


def test_of_many_columns_some_are_looked_at() -> None:
    figures = amounts(torch.zeros(4, 3, 10, 10), torch.ones(4, 3, 10, 10))
    assert figures is not None
    assert len(figures) == 2 + 2 * 16
    assert amounts(torch.zeros(8, 1), torch.zeros(8)) is None  # n answers against n times n
    assert amounts(torch.zeros(()), torch.zeros(())) is None


def test_one_hot_labels_are_shares_and_boxes_are_not() -> None:
    assert holds_shares(F.one_hot(torch.arange(6) % 3).float())
    assert holds_shares(torch.tensor([[0.9, 0.1], [0.05, 0.95]]))
    assert not holds_shares(torch.rand(6, 4))
    assert not holds_shares(torch.ones(6, 1))
    assert not holds_shares(torch.tensor([1.0, 0.0]))


def test_differences_are_told_and_the_wrappers_come_off() -> None:
    before = {name: vars(Tensor).get(name) for name in ("__sub__", "sub")}
    told: list[tuple[int, int]] = []
    spy = DifferenceSpy(lambda one, two: told.append((one.numel(), two.numel())))
    spy.listen()
    spy.listen()
    one, two = torch.arange(3.0), torch.ones(3)
    results = [one - two, one.sub(two), torch.sub(one, two), one - 1, 1 - one]
    spy.stop()
    spy.stop()
    assert told == [(3, 3)] * 3
    assert [result.tolist() for result in results] == [[-1, 0, 1]] * 4 + [[1, 0, -1]]
    assert {name: vars(Tensor).get(name) for name in ("__sub__", "sub")} == before


@contextmanager
def observed(model: nn.Module) -> Iterator[list[Observation]]:
    seen: list[Observation] = []
    observer = Observer(model, seen.append)
    handles = [
        model.register_forward_pre_hook(lambda module, arguments: observer.forward_begin(arguments)),
        model.register_forward_hook(lambda module, arguments, output: observer.forward_end(output)),
        register_optimizer_step_pre_hook(lambda optimizer, *_: observer.step_begin(optimizer)),
        register_optimizer_step_post_hook(lambda optimizer, *_: observer.step_end(optimizer)),
    ]
    try:
        yield seen
    finally:
        observer.close()
        for handle in handles:
            handle.remove()


ROWS = torch.randn(160, 5, generator=torch.Generator().manual_seed(1))
TARGETS = ROWS @ torch.tensor([[1.0, -2.0], [0.5, 1.0], [0.0, 0.3], [2.0, 0.0], [-1.0, 1.0]]) + 1
Loss = Callable[[Tensor, Tensor], Tensor]


def trained(loss: Loss, steps: int = 24) -> tuple[nn.Module, list[Observation], list[float]]:
    torch.manual_seed(0)
    model, losses = nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 2)), []
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    with observed(model) as seen:
        for step in range(steps):
            batch = slice(step % 4 * 30, step % 4 * 30 + 30)
            value = loss(model(ROWS[batch]), TARGETS[batch])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.item())
            if step % 12 == 11:
                with torch.no_grad():
                    losses.append(loss(model(ROWS[120:]), TARGETS[120:]).item())
    return model, seen, losses


@pytest.mark.parametrize(
    "loss",
    [
        F.mse_loss,
        nn.SmoothL1Loss(),
        lambda said, known: ((said - known) ** 2).mean(),
        lambda said, known: torch.mean((known - said).abs()),
        lambda said, known: said.sub(known).pow(2).sum() / len(said),
    ],
)
def test_targets_of_losses_of_every_writing(loss: Loss) -> None:
    model, seen, _ = trained(loss)
    with torch.no_grad():
        wrong = (model(ROWS[120:]) - TARGETS[120:]).double().numpy()
    last = [o.numbers for o in seen if o.kind == "validation"][-1]
    assert last["explained"] == pytest.approx(1 - (wrong**2).mean() / TARGETS[120:].double().numpy().var(0).mean(), abs=1e-4)
    assert last["accuracy"] is None
    windows = [o.numbers for o in seen if o.kind == "amounts"]
    assert sum(int(str(window["samples"])) for window in windows) >= 10 * 30
    assert windows[3]["mean"] == pytest.approx(numpy.sqrt((TARGETS[:120].double().numpy().mean(0) ** 2).mean()), rel=1e-4)
    assert windows[3]["variance"] == pytest.approx(TARGETS[:120].double().numpy().var(0).mean(), rel=1e-4)
    assert [o for o in seen if o.kind == "fit"] == []  # several amounts are no classes


def test_watching_changes_no_loss_that_is_written_out() -> None:
    def loss(said: Tensor, known: Tensor) -> Tensor:
        return ((said - known) ** 2).mean()

    _, _, losses = trained(loss)
    torch.manual_seed(0)
    model, alone = nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 2)), []
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(24):
        batch = slice(step % 4 * 30, step % 4 * 30 + 30)
        value = loss(model(ROWS[batch]), TARGETS[batch])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        alone.append(value.item())
        if step % 12 == 11:
            with torch.no_grad():
                alone.append(loss(model(ROWS[120:]), TARGETS[120:]).item())
    assert alone == losses


def test_an_ordinary_training_step_meets_no_wrapper() -> None:
    met: list[int] = []

    def loss(said: Tensor, known: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            met.append("__sub__" in vars(Tensor))
        return ((said - known) ** 2).mean()

    trained(loss)
    assert [step for step, wrapped in enumerate(met) if wrapped] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 20]


@pytest.mark.parametrize(
    ("term", "of", "total"),
    [
        (lambda p: p.pow(2).sum(), "squares", lambda p: (p**2).sum()),
        (lambda p: (p * p).sum(), "squares", lambda p: (p**2).sum()),
        (lambda p: p.abs().sum(), "sizes", lambda p: p.abs().sum()),
        (lambda p: p.abs().pow(2).sum(), "squares", lambda p: (p**2).sum()),
        (lambda p: p.norm(), "norms", lambda p: (p**2).sum().sqrt()),
        (lambda p: torch.linalg.vector_norm(p.flatten()), "norms", lambda p: (p**2).sum().sqrt()),
        (lambda p: p.norm(2) ** 2, "squares", lambda p: (p**2).sum()),
        (lambda p: p.norm(p=1), "sizes", lambda p: p.abs().sum()),
    ],
)
def test_weights_in_the_loss(term: Callable[[Tensor], Tensor], of: str, total: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = nn.Linear(5, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    sums, whole = [], []
    with observed(model) as seen:
        for _ in range(12):
            value = F.mse_loss(model(ROWS), TARGETS) + 0.1 * sum(term(p) for p in model.parameters())
            sums.append(sum(float(total(p.detach())) for p in model.parameters()))
            whole.append(value.item())
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    looks = [o for o in seen if o.kind == "penalty"]
    assert [o.step for o in looks] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10]
    for look in looks:
        assert look.numbers == {
            "of": of,
            "sum": pytest.approx(sums[look.step]),
            "weights": 12,
            "loss": pytest.approx(whole[look.step]),
        }


def test_all_weights_in_the_loss_as_one_vector() -> None:
    torch.manual_seed(0)
    model = nn.Linear(5, 2)
    length = nn.utils.parameters_to_vector(model.parameters()).norm().item()
    with observed(model) as seen:
        loss = F.mse_loss(model(ROWS), TARGETS) + 0.1 * nn.utils.parameters_to_vector(model.parameters()).norm()
        loss.backward()
        torch.optim.SGD(model.parameters(), 0.01).step()
    [look] = [o for o in seen if o.kind == "penalty"]
    assert look.numbers == {"of": "norms", "sum": pytest.approx(length), "weights": 12, "loss": pytest.approx(loss.item())}


def test_a_loss_without_weights_has_no_penalty() -> None:
    _, seen, _ = trained(F.mse_loss)
    assert [o for o in seen if o.kind == "penalty"] == []
