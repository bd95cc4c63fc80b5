"""Networks of which only the parts are called, and networks that are parts of one: what is seen of them is what is seen of the same network called whole."""

import contextlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convscope.watch import Watcher

STEPS, EVERY = 12, 4  # training steps, and steps between two evaluations


class Whole(nn.Module):
    """Body and head, to be called as a whole or one after the other."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(12, 3)

    def forward(self, inputs):
        return self.head(self.body(inputs))

    def scores(self, inputs):
        return self.head(self.body(inputs))


def data():
    maker = torch.Generator().manual_seed(7)
    return torch.randn(200, 8, generator=maker), torch.randint(0, 3, (200,), generator=maker)


def loop(forward, parts, parameters):
    """Losses of a loop with an evaluation every few steps."""
    inputs, labels = data()
    optimizer, losses = torch.optim.SGD(parameters, lr=0.1), []
    for step in range(STEPS):
        rows = slice(10 * step, 10 * step + 10)
        loss = F.cross_entropy(forward(inputs[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % EVERY == EVERY - 1:
            for part in parts:
                part.eval()
            with torch.no_grad():
                for start in (150, 175):
                    losses.append(float((forward(inputs[start : start + 25]).argmax(1) == labels[start : start + 25]).sum()))
            for part in parts:
                part.train()
    return losses


def observed(watch, kind):
    return [(o.step, o.subject, dict(o.numbers)) for o in watch.log.observations() if o.kind == kind]


def late(watch, kind):
    """What is seen after the first two steps, but for running counts of passes."""
    seen = [(step, subject, dict(numbers)) for step, subject, numbers in observed(watch, kind) if step >= 2]
    for _, _, numbers in seen:
        numbers.pop("passes", None), numbers.pop("checked", None)
    return seen


def trained(style, watched=True):
    torch.manual_seed(0)
    model = Whole()
    pieces = {"body": model.body, "head": model.head}
    target = pieces if style == "separate" else nn.ModuleDict(pieces) if style == "dict" else model
    forward = model if style == "whole" else model.scores
    with Watcher(target) if watched else contextlib.nullcontext() as watch:
        losses = loop(forward, [model.body, model.head] if style in ("separate", "dict") else [model], model.parameters())
    return losses, [p.detach().clone() for p in model.parameters()], watch


@pytest.mark.parametrize("style", ["methods", "dict", "separate"])
def test_a_network_called_in_parts_is_seen_like_one_that_is_called_whole(style):
    losses, weights, watch = trained(style)
    plain_losses, plain_weights, _ = trained(style, watched=False)
    assert losses == plain_losses
    assert all(map(torch.equal, weights, plain_weights))
    _, _, whole = trained("whole")
    for kind in ("validation", "optimizer", "updates", "filters"):
        assert late(watch, kind) == late(whole, kind), kind
    (_, _, network), (_, _, expected) = observed(watch, "network")[-1], observed(whole, "network")[-1]
    assert network == expected
    assert late(watch, "loss_input") == late(whole, "loss_input")
    assert observed(watch, "modes")[-1][2] == {**observed(whole, "modes")[-1][2], "train_passes": STEPS - 1}  # the first one began unseen
    assert list(watch.layers()) == list(whole.layers())
    assert [r.first_step for r in watch.layers()["head"]] == list(range(STEPS))
    assert [r.update_ratio for r in watch.layers()["head"]] == [r.update_ratio for r in whole.layers()["head"]]
    assert late(watch, "batch_norm") == late(whole, "batch_norm")


def test_a_network_that_is_called_whole_after_its_parts_is_watched_whole():
    torch.manual_seed(0)
    model = Whole()
    inputs, labels = data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Watcher(model) as watch:
        for step in range(10):
            forward = model.scores if step < 4 else model
            loss = F.cross_entropy(forward(inputs[:20]), labels[:20])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert observed(watch, "modes")[-1][2]["train_passes"] == 9
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_an_evaluation_of_the_whole_between_trainings_of_the_parts_is_one_pass_a_batch():
    torch.manual_seed(0)
    model = Whole()
    inputs, labels = data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Watcher(model) as watch:
        for step in range(6):
            loss = F.cross_entropy(model.scores(inputs[step * 10 : step * 10 + 10]), labels[step * 10 : step * 10 + 10])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for start in (100, 120, 140):
                F.cross_entropy(model(inputs[start : start + 20]), labels[start : start + 20])
    seen = observed(watch, "validation")[-1][2]
    assert seen["samples"] == 60
    assert observed(watch, "modes")[-1][2]["eval_passes"] == 3


def test_two_students_with_losses_of_their_own_stay_two_networks():
    torch.manual_seed(0)
    one, two = Whole(), Whole()
    inputs, labels = data()
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (one, two)]
    with Watcher({"one": one, "two": two}) as watch:
        for _ in range(6):
            for model, optimizer in zip((one, two), optimizers, strict=True):
                optimizer.zero_grad()
                F.cross_entropy(model(inputs[:20]), labels[:20]).backward()
            for optimizer in optimizers:
                optimizer.step()
    assert {subject for _, subject, _ in observed(watch, "network")} == {"one", "two"}
    assert "one/head" in watch.layers()


def test_an_encoder_and_a_decoder_with_an_optimiser_each_are_one_network():
    torch.manual_seed(0)
    model = Whole()
    inputs, labels = data()
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (model.body, model.head)]
    with Watcher({"encoder": model.body, "decoder": model.head}) as watch:
        for _ in range(6):
            for optimizer in optimizers:
                optimizer.zero_grad()
            F.cross_entropy(model.scores(inputs[:20]), labels[:20]).backward()
            for optimizer in optimizers:
                optimizer.step()
    assert [subject for _, subject, _ in observed(watch, "network")] == [""]
    assert list(watch.layers()) == ["encoder.0", "encoder.1", "encoder.2", "encoder.3", "decoder"]


def test_parts_of_a_network_that_are_trained_in_turns_are_not_judged_by_their_losses():
    torch.manual_seed(0)
    model = nn.ModuleDict({"generator": nn.Linear(4, 8), "critic": nn.Linear(8, 1)})
    of_generator, of_critic = (torch.optim.SGD(model[name].parameters(), lr=0.01) for name in ("generator", "critic"))
    with Watcher(model) as watch:
        for _ in range(40):
            made = model["generator"](torch.randn(10, 4))
            of_critic.zero_grad()
            (model["critic"](made.detach()).mean() - model["critic"](torch.randn(10, 8)).mean()).backward()
            of_critic.step()
            of_generator.zero_grad()
            (-model["critic"](made).mean()).backward()
            of_generator.step()
    reasons = {entry.name: entry.why for entry in watch.diagnose().not_checked}
    assert reasons["lr_too_high"] == (
        "optimisers take turns, so parts of the network have losses of their own, which do not tell how the whole goes"
    )


def test_a_second_stage_with_an_optimiser_of_its_own_is_no_turn():
    torch.manual_seed(0)
    model = Whole()
    inputs, labels = data()
    with Watcher(model) as watch:
        for parameters in (model.head.parameters(), model.parameters()):
            optimizer = torch.optim.SGD(parameters, lr=0.1)
            for _ in range(10):
                optimizer.zero_grad()
                F.cross_entropy(model(inputs[:20]), labels[:20]).backward()
                optimizer.step()
    assert not observed(watch, "turns")
