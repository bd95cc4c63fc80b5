"""Loops that do more with a network than train it: save and copy it, compile, trace or transform it. Each runs with and without the watcher."""

import contextlib
import copy
import dataclasses
import io
import math
import os
import pickle
import subprocess
import sys
import time

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convscope.errors import UsageError
from convscope.runlog import RunLog
from convscope.watch import Watcher
from convscope.watch.observe_weights import MOST_OPTIMIZERS
from convscope.watch.recording import NOTHING_SEEN

STEPS = 6


def network():
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


def batches():
    maker = torch.Generator().manual_seed(7)
    return [(torch.randn(12, 8, generator=maker), torch.randint(0, 3, (12,), generator=maker)) for _ in range(STEPS)]


def train(model, forward=None, optimizer=None, loss=F.cross_entropy):
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for inputs, labels in batches():
        optimizer.zero_grad()
        value = loss((forward or model)(inputs), labels)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def both(loop, make=network):
    """What a loop returns without and with a watcher, which must be the same, and the watcher."""
    results, watches = [], []
    for watched in (False, True):
        torch.manual_seed(0)
        torch._dynamo.reset()
        model = make()
        with Watcher(model) if watched else contextlib.nullcontext() as watch:
            watches.append(watch)
            results.append([loop(model), [parameter.detach().clone() for parameter in model.parameters()]])
    assert str(results[0][0]) == str(results[1][0])
    assert all(torch.equal(one, other) for one, other in zip(results[0][1], results[1][1], strict=True))
    return watches[1]


def recorded(watch):
    return [record.loss.last for record in watch.steps()]


def test_a_whole_network_is_saved_and_loaded_where_there_is_no_convscope(tmp_path):
    model = network()
    with Watcher(model) as watch:
        train(model)
        torch.save(model, tmp_path / "model.pt")
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if 'src' not in p]; sys.modules['convscope'] = None; import torch; "
        "m = torch.load(sys.argv[1], weights_only=False); print(m(torch.ones(2, 8)).tolist())"
    )
    told = subprocess.run([sys.executable, "-c", code, tmp_path / "model.pt"], capture_output=True, text=True, check=True).stdout
    assert told.strip() == str(model(torch.ones(2, 8)).tolist())
    assert len(watch.steps()) == STEPS


def test_a_copy_of_the_network_is_not_the_network():
    model = network()
    with Watcher(model) as watch:
        losses = train(model)
        twin = copy.deepcopy(model)
        thawed = pickle.loads(pickle.dumps(model))
        train(twin)
        train(thawed)
    assert recorded(watch) == pytest.approx(losses)
    assert len(watch.layers()["0"]) == STEPS


@pytest.mark.parametrize("fullgraph", [False, True])
def test_a_pass_inside_a_compiled_function_is_left_alone(fullgraph):
    def loop(model):
        def loss(inputs, labels):
            return F.cross_entropy(model(inputs), labels)

        compiled, optimizer, losses = (
            torch.compile(loss, backend="eager", fullgraph=fullgraph),
            torch.optim.SGD(model.parameters(), 0.1),
            [],
        )
        for inputs, labels in batches():
            optimizer.zero_grad()
            value = compiled(inputs, labels)
            value.backward()
            optimizer.step()
            losses.append(value.item())
        return losses

    watch = both(loop)
    assert watch.notes == (NOTHING_SEEN,)
    assert len(watch.steps()) == STEPS
    assert not watch.diagnose().findings


def test_a_part_that_is_compiled_in_one_piece_stays_so():
    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.compile(nn.Sequential(nn.Linear(8, 6), nn.ReLU()), backend="eager", fullgraph=True)
            self.head = nn.Linear(6, 3)

        def forward(self, inputs):
            return self.head(F.relu(self.body(inputs)))

    watch = both(train, Parts)
    assert list(watch.layers()) == ["body", "relu", "head"]
    assert watch.notes == ("The module 'body' is compiled: what it returns is recorded, its inside cannot be seen.",)


@pytest.mark.filterwarnings("ignore:.torch.jit")
@pytest.mark.parametrize("export", [torch.jit.trace, torch.export.export])
def test_exporting_the_network_in_the_middle_gives_the_same_graph(export):
    def loop(model):
        losses = train(model)
        exported = export(model, (torch.ones(2, 8),))
        return losses, str(exported.inlined_graph if export is torch.jit.trace else exported.graph).count("\n"), train(model)

    watch = both(loop)
    assert not watch.notes
    assert len(watch.steps()) == 2 * STEPS


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_a_loss_inside_a_scripted_function():
    def loop(model):
        def loss(scores, labels):
            return torch.nn.functional.cross_entropy(scores, labels)

        return train(model, loss=torch.jit.script(loss))

    assert len(both(loop).steps()) == STEPS


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_what_is_scripted_cannot_be_seen():
    with pytest.raises(UsageError) as error:
        Watcher(torch.jit.script(network()))
    assert str(error.value) == (
        "The network was scripted (torch.jit.script): neither its output nor its inside can be seen. "
        "Pass the network that you train, as it is in Python."
    )
    watch = both(train, lambda: nn.Sequential(torch.jit.script(network()), nn.Linear(3, 3)))
    assert watch.notes == ("The module '0' was scripted (torch.jit.script): neither its output nor its inside can be seen.",)
    assert list(watch.layers()) == ["1"]


def test_transforms_of_torch_func_are_left_alone():
    def loop(model):
        def loss(parameters, inputs, label):
            return F.cross_entropy(torch.func.functional_call(model, parameters, (inputs[None],)), label[None])

        losses, parameters = train(model), dict(model.named_parameters())
        each = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))({n: p.detach() for n, p in parameters.items()}, *batches()[0])
        jacobian = torch.func.jacrev(model)(batches()[0][0][0])
        return losses, [gradient.sum().item() for gradient in each.values()], jacobian, train(model)

    watch = both(loop)
    assert not watch.notes
    assert len(watch.steps()) == len(watch.layers()["0"]) == 2 * STEPS


@pytest.mark.parametrize("clear", [True, False])
def test_sparse_gradients_that_are_kept(clear):
    def loop(model):
        optimizer, losses = torch.optim.SparseAdam(model.parameters(), 0.01), []
        for _ in range(STEPS):
            for part in range(2):
                value = model(torch.arange(part, part + 6).view(2, 3)).square().mean()
                value.backward()
            optimizer.step()
            if clear:
                optimizer.zero_grad()
            losses.append(value.item())
        return losses

    watch = both(loop, lambda: nn.Sequential(nn.Embedding(20, 4, sparse=True), nn.Flatten()))
    assert not watch.notes
    assert len(watch.steps()) == STEPS


class Picture(nn.Module):
    """Returns what it optimises, as style transfer does."""

    def __init__(self):
        super().__init__()
        self.image = nn.Parameter(torch.randn(1, 3, 4, 4))

    def forward(self):
        return self.image


def test_an_image_that_is_optimised_keeps_no_hook():
    model = Picture()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Watcher(model) as watch:
        for _ in range(STEPS):
            optimizer.zero_grad()
            (model() ** 2).mean().backward()
            optimizer.step()
        model()
    assert not model.image._backward_hooks
    assert len(watch.steps()) == STEPS
    assert not any(map(math.isnan, recorded(watch)))


@pytest.mark.parametrize("defaults", [{}, {"lr": None}])
def test_an_optimizer_without_a_learning_rate(defaults):
    class Sign(torch.optim.Optimizer):
        def step(self, closure=None):
            with torch.no_grad():
                for parameter in self.param_groups[0]["params"]:
                    parameter -= 0.01 * parameter.grad.sign()

    def loop(model):
        return train(model, optimizer=Sign(model.parameters(), dict(defaults)))

    watch = both(loop)
    assert not watch.notes
    assert watch.layers()["0"][0].update_ratio > 0


def test_calling_forward_by_its_name_is_a_pass_too():
    watch = both(lambda model: train(model, forward=model.forward))
    assert list(watch.layers()) == ["0", "1", "2"]
    assert len(watch.layers()["2"]) == len(watch.steps()) == STEPS


def test_the_loss_of_another_network_is_not_that_of_the_step_before():
    model, other = network(), network()
    pair, losses = [torch.optim.SGD(one.parameters(), 0.1) for one in (model, other)], []
    with Watcher(model) as watch:
        for inputs, labels in batches():
            for one, optimizer in zip((model, other), pair, strict=True):
                optimizer.zero_grad()
                loss = F.cross_entropy(one(inputs), labels) * (1 if one is model else 100)
                loss.backward()
                optimizer.step()
                losses += [loss.item()] if one is model else []
    assert recorded(watch) == pytest.approx(losses)


def test_outputs_in_a_dataclass_are_found():
    @dataclasses.dataclass
    class Answer:
        scores: torch.Tensor
        words: str = ""

    class Answering(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network()

        def forward(self, inputs):
            return Answer(self.body(inputs))

    def own_loss(answer, labels):
        return -answer.scores.log_softmax(1)[range(12), labels].mean()

    watch = both(lambda model: train(model, loss=own_loss), Answering)
    assert not any(map(math.isnan, recorded(watch)))


def test_a_file_of_the_network_is_as_small_as_without():
    """What is saved holds nothing of the watcher's."""
    model = network()
    with Watcher(model):
        train(model)
        file = io.BytesIO()
        torch.save(model, file)
    assert b"convscope" not in file.getvalue()


def test_after_a_pass_that_was_interrupted_the_next_one_is_as_ever():
    class Stopping(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.modes, self.stops = network(), [], False

        def forward(self, inputs):
            self.modes.append(torch._C._len_torch_function_stack())
            if self.stops:
                raise KeyboardInterrupt
            return F.relu(self.body(inputs))

    model = Stopping()
    with Watcher(model) as watch:
        train(model)
        model.stops = True
        with contextlib.suppress(KeyboardInterrupt):
            train(model)
        model.stops = False
        model.eval()
        with torch.no_grad():
            model(torch.ones(1, 8))
        assert model.modes[-1] == 0
    assert len(watch.steps()) == STEPS


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_is_forked_writes_nothing_to_its_parent_s_log(tmp_path):
    model = network()
    with RunLog.create(tmp_path / "log.sqlite") as log, Watcher(model, log=log) as watch:
        train(model)
        child = os.fork()
        if not child:
            train(model)
            watch.flush()
            watch.stop()
            os._exit(sum(len(module._forward_hooks) for module in model.modules()))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with RunLog.read(tmp_path / "log.sqlite") as read:
            assert not read.steps()
        train(model)
        watch.stop()
        assert len(watch.steps()) == len(watch.layers()["0"]) == 2 * STEPS


def test_a_killed_process_loses_less_than_a_second_also_when_steps_become_slow(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    model = network()
    optimizer, (inputs, labels) = torch.optim.SGD(model.parameters(), lr=0.1), batches()[0]
    with RunLog.create(tmp_path / "log.sqlite") as log, Watcher(model, log=log):
        for step in range(48):
            now[0] += 0.01 if step < 45 else 0.2
            F.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
        with RunLog.read(tmp_path / "log.sqlite") as read:
            assert len(read.steps()) >= 45  # 0.45 s for all of them, then 0.2 s for each


def test_an_optimizer_for_every_step_costs_no_more_than_one():
    model = network()
    kept = []
    with Watcher(model) as watch:
        for _ in range(150):
            kept.append(torch.optim.SGD(model.parameters(), lr=0.001))
            kept[-1].zero_grad()
            F.cross_entropy(model(batches()[0][0]), batches()[0][1]).backward()
            kept[-1].step()
        assert sum(len(parameter._backward_hooks or ()) for parameter in model.parameters()) == 1
    assert not any(parameter._backward_hooks for parameter in model.parameters())
    assert len({seen.subject for seen in watch.log.observations() if seen.kind == "optimizer"}) == MOST_OPTIMIZERS


@pytest.mark.filterwarnings("error")
def test_parameters_without_elements_and_of_complex_numbers():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.waves = nn.Linear(8, 8), nn.Parameter(torch.randn(8, 3, dtype=torch.cfloat))
            self.nothing, self.scale = nn.Parameter(torch.zeros(0, 4)), nn.Parameter(torch.tensor(1.0))

        def forward(self, inputs):
            return (self.body(inputs).to(torch.cfloat) @ self.waves).abs() * self.scale + self.nothing.sum()

    watch = both(train, Odd)
    assert not watch.notes
    assert len(watch.steps()) == STEPS


def test_a_batch_norm_that_does_not_know_its_size_yet():
    def lazy():
        return nn.Sequential(nn.Linear(8, 4), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(3))

    watch = both(lambda model: (model(torch.randn(4, 8)).sum().backward(), train(model))[1], lazy)
    assert not watch.notes
    assert len(watch.layers()["1"]) == STEPS
