"""Losses of pairs and counts, a softmax along the samples, and weights that no module lists: real loops, and their correct twins."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convscope.watch import Watcher
from convscope.watch.graph_facts import fresh_share, network_numbers


def verdict_of(model, loss_of, *, steps=12):
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with Watcher(model) as watch:
        for _ in range(steps):
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
    return {finding.name: (finding.severity, finding.step, finding.message) for finding in watch.diagnose().findings}


def pairs(criterion, labels):
    def loss(model):
        return criterion(model(torch.randn(16, 8)), model(torch.randn(16, 8)), labels(torch.arange(16) % 2))

    return verdict_of(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)), loss)


@pytest.mark.parametrize("criterion", [nn.CosineEmbeddingLoss(), F.cosine_embedding_loss])
def test_labels_of_pairs_that_are_never_minus_one(criterion):
    assert pairs(criterion, lambda same: 2 * same - 1) == {}
    assert pairs(criterion, lambda same: same.float()) == {
        "loss_output_mismatch": (
            "problem",
            0,
            "The loss cosine_embedding_loss wants labels 1 and -1 but is given 1 and 0, and what is labelled 0 does not count as the opposite of 1.",
        )
    }


@pytest.mark.parametrize(
    ("end", "log_input", "expected"),
    [
        (nn.Identity(), True, None),
        (nn.Softplus(), False, None),
        (
            nn.Softplus(),
            True,
            "The loss poisson_nll_loss takes the network's answers for logarithms of the expected counts, but they are made positive before it as if "
            "they were the counts themselves.",
        ),
        (nn.Identity(), False, "The loss poisson_nll_loss is told to expect counts (log_input=False) but receives negative numbers."),
    ],
)
def test_counts_and_their_logarithms(end, log_input, expected):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1), end)
    found = verdict_of(model, lambda m: F.poisson_nll_loss(m(torch.randn(16, 8)), torch.randint(0, 5, (16, 1)), log_input=log_input))
    assert found.get("loss_output_mismatch", (None, None, None))[2] == expected


class Places(nn.Module):
    """Two choices a sample, as (samples, 2, 5)."""

    def __init__(self, axis):
        super().__init__()
        self.scores, self.axis = nn.Linear(8, 10), axis

    def forward(self, values):
        return F.log_softmax(self.scores(values).view(-1, 2, 5), dim=self.axis)


@pytest.mark.parametrize(("axis", "wrong"), [(-1, False), (2, False), (0, True), (-3, True)])
def test_the_axis_of_a_softmax_is_read_in_the_network(axis, wrong):
    found = verdict_of(Places(axis), lambda m: F.nll_loss(m(torch.randn(16, 8)).flatten(0, 1), torch.randint(0, 5, (32,))))
    sentence = (
        "The softmax that makes the answer runs over the samples of the batch instead of over the numbers of one sample, so each answer depends on the "
        "other samples."
    )
    assert found.get("softmax_wrong_dim") == (("problem", 0, sentence) if wrong else None)


class Bank(nn.Module):
    """A layer whose weights are no Parameter, unless told."""

    def __init__(self, *, listed):
        super().__init__()
        weights = torch.randn(12, 8, requires_grad=True)
        self.weights = nn.Parameter(weights) if listed else weights
        self.head = nn.Linear(12, 3)

    def forward(self, values):
        return self.head(F.relu(values @ self.weights.T))


@pytest.mark.parametrize("listed", [True, False])
def test_a_plain_tensor_that_wants_a_gradient_is_trained_by_nobody(listed):
    found = verdict_of(Bank(listed=listed), lambda m: F.cross_entropy(m(torch.randn(16, 8)), torch.randint(0, 3, (16,))), steps=30)
    assert ("params_not_in_optimizer" in found) is not listed


@pytest.mark.parametrize(
    ("end", "shift", "wrong"), [(nn.ReLU(), 0.0, True), (nn.ReLU(), 9.0, False), (nn.Sigmoid(), 0.0, True), (nn.Identity(), 0.0, False)]
)
def test_targets_that_no_answer_can_reach(end, shift, wrong):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1), end)
    found = verdict_of(model, lambda m: F.mse_loss(m(torch.randn(16, 8)), torch.randn(16, 1) + shift))
    sentence = (
        "The function at the end of the network keeps its answers within bounds (a ReLU above 0, a sigmoid between 0 and 1), but many of the targets lie "
        "outside, where no answer can get."
    )
    assert found.get("loss_output_mismatch") == (("problem", 0, sentence) if wrong else None)


class Visits(nn.Module):
    """Weighs the visits of a sample: (samples, visits, 8) to 3 classes."""

    def __init__(self, axis):
        super().__init__()
        self.weigh, self.head, self.axis = nn.Linear(8, 1), nn.Linear(8, 3), axis

    def forward(self, visits):
        return self.head((visits * F.softmax(self.weigh(visits), dim=self.axis)).sum(1))


@pytest.mark.parametrize(("axis", "wrong"), [(1, False), (2, True), (-1, True)])
def test_a_softmax_over_one_number(axis, wrong):
    found = verdict_of(Visits(axis), lambda m: F.cross_entropy(m(torch.randn(16, 5, 8)), torch.randint(0, 3, (16,))), steps=220)
    sentence = "A softmax inside the network runs over a single number, so its result is always 1, whatever it is given."
    assert found.get("softmax_wrong_dim") == (("problem", 0, sentence) if wrong else None)


def test_a_recurrent_layer_as_it_was_made_is_known_for_new():
    torch.manual_seed(0)
    layer = nn.GRU(8, 32)
    assert fresh_share(dict(layer.named_parameters())) == 1.0
    with torch.no_grad():
        for weight in layer.parameters():
            weight += 0.05 * torch.randn_like(weight)
    assert fresh_share(dict(layer.named_parameters())) == 0.0


def test_an_activation_before_a_pooling_counts():
    torch.manual_seed(0)

    def pairs(*between):
        model = nn.Sequential(nn.Conv2d(1, 4, 3), *between, nn.Conv2d(4, 4, 3), nn.Flatten(), nn.LazyLinear(2))
        numbers = network_numbers(model, model(torch.randn(2, 1, 12, 12)))
        return numbers["pairs"], numbers["linear_pairs"], numbers["active_pairs"]

    assert pairs(nn.ReLU(), nn.MaxPool2d(2)) == (2, 1, 1)
    assert pairs(nn.MaxPool2d(2)) == (2, 1, 0)
    assert pairs() == (2, 2, 0)


def test_counts_that_are_learned_as_amounts_are_no_classes():
    def count(steps):
        def loss(model):
            spots = (torch.rand(32, 8) > 0.5).float()
            return F.mse_loss(model(spots)[:, 0], spots.sum(1))

        return verdict_of(nn.Sequential(nn.Linear(8, 1)), loss, steps=steps)["loss_output_mismatch"][0]

    assert count(12) == "problem"
    assert count(400) == "note"
