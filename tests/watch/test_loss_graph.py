"""What is read from the graph between a network's output and a loss that the loop computes by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convscope.watch.backward import node_of_backward
from convscope.watch.loss_graph import Output, loss_graph

LABELS = torch.arange(8) % 3
AMOUNTS = torch.arange(8.0)
PIXELS = nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 3, 1))
OF_PIXELS = torch.arange(32).reshape(8, 1, 2, 2) % 3


def looked_at(output: Tensor, loss: Callable[[Tensor], Tensor]) -> dict[str, object]:
    """What is seen from a hook on the output, while the backward pass runs."""
    made, seen = Output.of(output), []
    assert made is not None
    output.register_hook(lambda _: seen.append(loss_graph(node_of_backward(), made)))
    loss(output).backward()
    return {name for name, value in seen[0].items() if value is True}


def smoothed(answers: Tensor) -> Tensor:
    return -(0.02 + 0.94 * F.one_hot(LABELS, 3) * answers.log_softmax(-1)).sum(1).mean()


@pytest.mark.parametrize(
    ("network", "loss", "facts"),
    [
        (nn.Linear(4, 3), smoothed, set()),
        (nn.Sequential(nn.Linear(4, 3), nn.Softmax(1)), smoothed, {"softmax_twice"}),
        (nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(1)), smoothed, set()),  # harmless
        (nn.Sequential(nn.Linear(4, 3), nn.Softmax(1)), lambda p: -torch.log(p[torch.arange(8), LABELS]).mean(), set()),
        (nn.Sequential(nn.Linear(4, 3), nn.Softmax(0)), lambda p: -torch.log(p[torch.arange(8), LABELS]).mean(), {"softmax_over_batch"}),
        (nn.Linear(4, 3), lambda s: F.nll_loss(F.log_softmax(s.softmax(1), 1), LABELS), {"softmax_twice"}),  # both outside the network
        (nn.Linear(4, 3), lambda s: -(0.5 * s.softmax(1) * s.log_softmax(1)).sum(1).mean(), set()),  # entropy: one beside the other
        (nn.Linear(4, 3), lambda s: -s.log_softmax(0)[torch.arange(8), LABELS].mean(), {"softmax_over_batch"}),
        (nn.Linear(4, 3), lambda s: -s.log_softmax(0).gather(1, LABELS[:, None]).mean(), {"softmax_over_batch", "softmax_across"}),
        (nn.Linear(4, 3), lambda s: -s.log_softmax(-1).gather(1, LABELS[:, None]).mean(), set()),
        (PIXELS, lambda s: -s.log_softmax(-1).gather(1, OF_PIXELS).mean(), {"softmax_across"}),  # over the columns of an image
        (PIXELS, lambda s: -s.log_softmax(1).gather(1, OF_PIXELS).mean(), set()),
        (PIXELS, lambda s: -s.movedim(1, -1).log_softmax(-1).gather(-1, OF_PIXELS.movedim(1, -1)).mean(), set()),
        (PIXELS, lambda s: -s.movedim(1, -1).reshape(-1, 3).log_softmax(-1).gather(1, OF_PIXELS.reshape(-1, 1)).mean(), set()),
        (nn.Linear(4, 8), lambda s: -s.log_softmax(0).diagonal().mean() - s.log_softmax(1).diagonal().mean(), set()),  # pairs, both ways
        (nn.Linear(4, 1), lambda a: ((a - AMOUNTS) ** 2).mean().sqrt(), {"broadcast"}),
        (nn.Linear(4, 1), lambda a: (a - AMOUNTS).abs().sum() / 8, {"broadcast"}),
        (nn.Linear(4, 1), lambda a: ((a.squeeze(1) - AMOUNTS) ** 2).mean(), set()),
        (nn.Linear(4, 1), lambda a: F.relu(1 - (a - a.view(1, -1))).mean(), set()),  # answers are compared with each other
    ],
)
def test_what_a_loss_does_with_the_answers(network: nn.Module, loss: Callable[[Tensor], Tensor], facts: set[str]) -> None:
    torch.manual_seed(0)
    assert looked_at(network(torch.randn(8, 4)), loss) == facts | {"found"}


def test_a_loss_that_does_not_depend_on_the_output_says_nothing() -> None:
    network, other = nn.Linear(4, 3), nn.Linear(4, 3)
    output = network(torch.randn(8, 4))
    made = Output.of(output)
    assert made is not None
    assert loss_graph(other(torch.randn(8, 4)).sum().grad_fn, made) == {"found": False}
    assert Output.of(torch.randn(8, 4, requires_grad=True)) is None
