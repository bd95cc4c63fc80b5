"""A cross-entropy that the loop writes out is seen as if it had called the function; other things that pick numbers are not taken for one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convscope.records import Observation
from convscope.runlog import RunLog
from convscope.watch import Watcher

SAMPLES, CLASSES, STEPS = 16, 3, 12
ROWS = torch.arange(SAMPLES)
Loss = Callable[[Tensor, Tensor], Tensor]


def trained(loss: Loss, head: nn.Module | None = None) -> list[Observation]:
    """What is seen of a few steps with a loss."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, CLASSES), *([head] if head is not None else []))
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    log = RunLog.create()
    with Watcher(network, log=log):
        for _ in range(STEPS):
            images, labels = torch.randn(SAMPLES, 5), torch.randint(0, CLASSES, (SAMPLES,))
            value = loss(network(images), labels)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    return log.observations()


def figures(seen: list[Observation], step: int) -> dict[str, object]:
    [look] = [o for o in seen if o.kind == "loss_input" and o.step == step]
    return {name: look.numbers[name] for name in ("classes", "target", "loss", "plain_loss", "made_by", "log_gap")}


def labels_seen(seen: list[Observation]) -> tuple[object, ...]:
    look = [o for o in seen if o.kind == "labels"][-1]
    return look.numbers["classes"], look.numbers["largest_class"]


WRITTEN: dict[str, Loss] = {
    "indexed": lambda scores, labels: -scores.log_softmax(1)[ROWS, labels].mean(),
    "indexed by a range": lambda scores, labels: -F.log_softmax(scores, -1)[range(SAMPLES), labels].mean(),
    "gathered": lambda scores, labels: -torch.log_softmax(scores, 1).gather(1, labels[:, None]).squeeze(1).mean(),
    "gathered by a function": lambda scores, labels: -torch.gather(scores.log_softmax(1), dim=1, index=labels.unsqueeze(1)).mean(),
    "with one-hot labels": lambda scores, labels: -(F.one_hot(labels, CLASSES) * scores.log_softmax(1)).sum(1).mean(),
    "with one-hot labels last": lambda scores, labels: (
        -torch.mul(scores.log_softmax(1), F.one_hot(labels, CLASSES).float()).sum() / SAMPLES
    ),
    "from the exponentials": lambda scores, labels: -(scores - scores.logsumexp(1, keepdim=True))[ROWS, labels].mean(),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_it_is_seen_as_nll_loss_is(name: str) -> None:
    written, called = trained(WRITTEN[name]), trained(lambda scores, labels: F.nll_loss(scores.log_softmax(1), labels))
    expected = figures(called, 5)
    found = figures(written, 5)
    if name == "from the exponentials":
        assert found.pop("made_by") == "Sub"
        expected.pop("made_by")
    assert found.pop("log_gap") == pytest.approx(0, abs=1e-5)
    expected.pop("log_gap")
    assert found == {key: pytest.approx(value) if isinstance(value, float) else value for key, value in expected.items()}
    assert [o for o in written if o.kind == "loss_input" and o.step < 3] == []  # it must be met three times
    assert labels_seen(written)[0] == labels_seen(called)[0] == CLASSES


def test_probabilities_and_sums() -> None:
    plain = figures(trained(WRITTEN["indexed"]), 5)["loss"]
    of_probabilities = figures(trained(lambda p, labels: -torch.log(p[ROWS, labels]).mean(), nn.Softmax(1)), 5)
    assert of_probabilities["loss"] == pytest.approx(plain, rel=1e-5)
    look = figures(trained(lambda scores, labels: -scores.log_softmax(1)[ROWS, labels].sum()), 5)
    assert look["loss"] == pytest.approx(SAMPLES * look["plain_loss"], rel=1e-5)  # type: ignore[operator]


def test_a_mean_of_raw_scores_is_seen_with_what_it_lacks() -> None:
    look = figures(trained(lambda scores, labels: -scores[ROWS, labels].mean()), 5)
    assert look["log_gap"] > 0.1  # type: ignore[operator]


ADVANTAGES = torch.linspace(-1, 1, SAMPLES)


@pytest.mark.parametrize(
    "loss",
    [
        lambda scores, labels: -(scores.log_softmax(1)[ROWS, labels] * ADVANTAGES).mean(),  # a reward, not a label
        lambda scores, labels: F.relu(1 + scores - scores.gather(1, labels[:, None])).mean(),  # a margin
        lambda scores, labels: (scores[:, 0] - labels.float()).square().mean(),
        lambda scores, _: scores.square().mean(),
        lambda scores, labels: (
            -((0.9 * F.one_hot(labels, CLASSES) + 0.1 / CLASSES) * scores.log_softmax(1)).sum(1).mean()
        ),  # shares of several labels
        lambda scores, _: -(scores.softmax(1) * scores.log_softmax(1)).sum(1).mean(),  # entropy
    ],
)
def test_what_is_no_cross_entropy_is_not_taken_for_one(loss: Loss) -> None:
    assert [o.kind for o in trained(loss) if o.kind == "labels"] == []
    assert [o.subject for o in trained(loss) if o.kind == "loss_input" and "nll" in o.subject] == []


NAMES = ("__getitem__", "gather", "__mul__", "mul")


def test_indexing_and_gathering_are_themselves_again() -> None:
    before = {name: vars(Tensor).get(name) for name in NAMES} | {"torch": torch.gather}
    trained(WRITTEN["indexed"])
    assert {name: vars(Tensor).get(name) for name in NAMES} | {"torch": torch.gather} == before


def test_the_loss_is_the_same_with_and_without() -> None:
    def values(watched: bool) -> list[float]:
        torch.manual_seed(1)
        network, found = nn.Linear(5, CLASSES), []
        optimizer = torch.optim.SGD(network.parameters(), 0.1)
        with Watcher(network, log=RunLog.create()) if watched else contextlib.nullcontext():
            for _ in range(STEPS):
                images, labels = torch.randn(SAMPLES, 5), torch.randint(0, CLASSES, (SAMPLES,))
                value = WRITTEN["gathered"](network(images), labels)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                found.append(value.item())
        return found

    assert values(True) == values(False)


def test_other_ways_of_choosing_are_left_alone() -> None:
    some, mask = torch.tensor([0, 3, 5]), torch.arange(SAMPLES) % 2 == 0

    def chosen(scores: Tensor, labels: Tensor) -> Tensor:
        parts = [
            scores[0],
            scores[:, 1],
            scores[some],
            scores[mask],
            scores[:, some[:2] % 3],
            scores[0, 1],
            scores[..., 0],
            scores[mask, labels[mask]],
        ]
        parts += [
            scores[None],
            scores.gather(0, labels[None, :3]),
            torch.gather(scores, 1, labels[:, None].expand(-1, 2)),
            scores[labels.tolist()],
        ]
        return F.cross_entropy(scores, labels) + 0 * sum(part.sum() for part in parts)

    assert {o.subject for o in trained(chosen) if o.kind == "loss_input"} == {"cross_entropy"}


def test_what_goes_wrong_in_listening_stays_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("nothing to pick")

    monkeypatch.setattr("convscope.watch.picked_loss._kind_of", broken)
    torch.manual_seed(0)
    network = nn.Linear(5, CLASSES)
    with Watcher(network, log=RunLog.create()) as watch:
        loss = WRITTEN["indexed"](network(torch.randn(SAMPLES, 5)), torch.zeros(SAMPLES, dtype=torch.int64))
        loss.backward()
        torch.optim.SGD(network.parameters(), 0.1).step()
    assert watch.notes == ("What the loop writes out could not be recorded: ValueError: nothing to pick",)
