"""Law 1: the observer changes nothing. Every kind of network and loop is trained twice, with and without the watcher, and compared bit for bit."""

import contextlib
import copy
import random

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import optimizer as torch_optimizer

from convscope.watch import Watcher
from convscope.watch.loss_spy import LOSSES

STEPS = 5


class Functional(nn.Module):
    """Calls its activations as functions, in place too, and shares a module."""

    def __init__(self):
        super().__init__()
        self.first, self.shared, self.drop = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Dropout(0.3)
        self.head = nn.Linear(4, 3)

    def forward(self, images):
        hidden = F.relu_(self.first(images))
        hidden = self.shared(self.shared(hidden).tanh()).relu()
        return self.head(self.drop(hidden).mean((2, 3)))


class Residual(nn.Module):
    """In-place activations, one of them used twice, and batch norm."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.relu = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    def forward(self, images):
        hidden = self.relu(self.norm(self.stem(images)))
        return self.head(self.relu(self.block(hidden) + hidden))


class Attention(nn.Module):
    """Outputs that are tuples, and a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.embed, self.attend, self.head = nn.Linear(8, 8), nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, images):
        rows = self.embed(images.flatten(1).unflatten(1, (8, 8)))
        rows = torch.cat([self.token.expand(len(rows), -1, -1), rows], 1)
        return self.head(self.attend(rows, rows, rows)[0][:, 0])


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, images):
        return self.head(self.cell(images[:, 0])[0][:, -1])


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(4 * 36, 3)

    def forward(self, images):
        return self.head(torch.utils.checkpoint.checkpoint(self.body, images, use_reentrant=False).flatten(1))


def plain():
    layers = [
        nn.Conv2d(1, 4, 3, 2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 8, 3),
        nn.Sigmoid(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(8, 3),
    ]
    return nn.Sequential(*layers)


def channels_last():
    return plain().to(memory_format=torch.channels_last)


MODELS = {
    "plain": plain,
    "channels last": channels_last,
    "functional": Functional,
    "residual": Residual,
    "attention": Attention,
    "recurrent": Recurrent,
    "checkpointed": Checkpointed,
}


def batches():
    maker = torch.Generator().manual_seed(7)
    return [(torch.randn(12, 1, 8, 8, generator=maker), torch.randint(0, 3, (12,), generator=maker)) for _ in range(STEPS)]


def ordinary(model, optimizer):
    for images, labels in batches():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        yield loss


def accumulated(model, optimizer):
    criterion = nn.CrossEntropyLoss()
    for number, (images, labels) in enumerate(batches()):
        loss = criterion(model(images), labels) / 2
        loss.backward()
        if number % 2:
            optimizer.step()
            optimizer.zero_grad()
        yield loss


def autocast(model, optimizer):
    for images, labels in batches():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss


def validated(model, optimizer):
    for images, labels in batches():
        model.train()
        loss = -(F.log_softmax(model(images), 1)[range(12), labels]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            yield F.cross_entropy(model(images), labels)
        yield loss


def closure(model, _):
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    for images, labels in batches():

        def again(images=images, labels=labels):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            return loss

        yield optimizer.step(again)


def two_optimizers(model, _):
    parameters = list(model.parameters())
    optimizers = torch.optim.SGD(parameters[:2], lr=0.1), torch.optim.Adam(parameters[2:], lr=0.01)
    for images, labels in batches():
        loss = F.cross_entropy(model(images), labels)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        yield loss


LOOPS = {loop.__name__: loop for loop in (ordinary, accumulated, autocast, validated, closure, two_optimizers)}


def state_of(model):
    """Everything that an observer could have changed."""
    hooks = []
    for module in model.modules():
        kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_forward_hooks_always_called")
        hooks.append([len(getattr(module, kind)) for kind in kinds])
    torch_module = torch.nn.modules.module
    hooks.append([len(torch_module._global_forward_hooks), len(torch_module._global_forward_pre_hooks)])
    hooks.append([len(torch_optimizer._global_optimizer_pre_hooks), len(torch_optimizer._global_optimizer_post_hooks)])
    hooks.append([len(parameter._post_accumulate_grad_hooks or ()) for parameter in model.parameters()])
    hooks.append([len(parameter._backward_hooks or ()) for parameter in model.parameters()])
    return {
        "parameters and buffers": {name: value.clone() for name, value in model.state_dict().items()},
        "gradients": [None if parameter.grad is None else parameter.grad.clone() for parameter in model.parameters()],
        "flags": [module.training for module in model.modules()] + [parameter.requires_grad for parameter in model.parameters()],
        "hooks": hooks,
        "torch's random numbers": torch.get_rng_state(),
        "python's random numbers": random.getstate(),
        "numpy's random numbers": numpy.random.get_state()[1].tolist(),
        "losses replaced": [getattr(F, name).__module__ for name in LOSSES],
        "modes": torch._C._len_torch_function_stack(),
        "gradients enabled": torch.is_grad_enabled(),
    }


def trained(make, loop, watched, *, fails=False, every=1):
    random.seed(0)
    numpy.random.seed(0)
    torch.manual_seed(0)
    model = make()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []

    def run():
        for number, loss in enumerate(loop(model, optimizer)):
            losses.append(loss.detach().clone())
            if fails and number == 2:
                raise ArithmeticError("in the middle of the loop")

    watch = Watcher(model, every=every) if watched else None
    try:
        if watch is not None:
            with watch:
                run()
        else:
            run()
    except ArithmeticError:
        assert fails
    return losses, state_of(model), watch


def assert_same(one, two, what=""):
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two), f"{what} differs"
    elif isinstance(one, dict):
        assert list(one) == list(two), what
        for key in one:
            assert_same(one[key], two[key], f"{what} {key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), what
        for left, right in zip(one, two, strict=True):
            assert_same(left, right, what)
    else:
        assert one == two, what


PAIRS = [
    (make, loop) for make in MODELS for loop in LOOPS if (make, loop) != ("channels last", "closure")
]  # which PyTorch itself cannot do


@pytest.mark.parametrize(("make", "loop"), PAIRS)
def test_nothing_changes_by_watching(make, loop):
    losses, state, _ = trained(MODELS[make], LOOPS[loop], watched=False)
    watched_losses, watched_state, watch = trained(MODELS[make], LOOPS[loop], watched=True)
    assert_same(losses, watched_losses, "losses")
    assert_same(state, watched_state)
    assert not watch.notes
    assert watch.layers()
    assert watch.steps()


@pytest.mark.parametrize("make", MODELS)
def test_nothing_changes_when_the_loop_raises_in_the_middle(make):
    losses, state, _ = trained(MODELS[make], ordinary, watched=False, fails=True)
    watched_losses, watched_state, watch = trained(MODELS[make], ordinary, watched=True, fails=True)
    assert_same(losses, watched_losses, "losses")
    assert_same(state, watched_state)
    assert [record.last_step for record in watch.steps()] == [0, 1, 2]


def test_nothing_changes_when_the_network_itself_raises():
    def broken(model, optimizer):
        yield from ordinary(model, optimizer)
        model(torch.zeros(1, 5, 8, 8))  # five channels where the network expects one

    for make in MODELS.values():
        model = make()
        before = state_of(copy.deepcopy(model))["hooks"]
        with contextlib.suppress(RuntimeError), Watcher(model) as watch:  # the recurrent network takes any number of channels
            list(broken(model, torch.optim.SGD(model.parameters(), lr=0.0)))
        assert state_of(model)["hooks"] == before
        assert torch._C._len_torch_function_stack() == 0
        assert len(watch.steps()) == STEPS


def test_watching_every_third_step_changes_nothing_either():
    losses, state, _ = trained(Residual, ordinary, watched=False)
    watched_losses, watched_state, watch = trained(Residual, ordinary, watched=True, every=3)
    assert_same(losses, watched_losses, "losses")
    assert_same(state, watched_state)
    assert {record.first_step for records in watch.layers().values() for record in records} == {0, 3}
    assert len(watch.steps()) == STEPS


def test_the_comparison_would_notice_a_change():
    """The meta-test: an observer that draws one random number is caught."""

    def disturbed(model, optimizer):
        for loss in ordinary(model, optimizer):
            torch.rand(1)
            yield loss

    losses, state, _ = trained(plain, ordinary, watched=False)
    other_losses, other_state, _ = trained(plain, disturbed, watched=False)
    with pytest.raises(AssertionError, match="differs"):
        assert_same([losses, state], [other_losses, other_state])
