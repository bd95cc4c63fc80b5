"""The Watcher around loops: what is recorded, under which names, at which steps."""

import math
import threading
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convscope.errors import UnknownNameError, UsageError
from convscope.records import Observation
from convscope.rundir import open_run
from convscope.runlog import RunLog
from convscope.watch import Watcher
from convscope.watch.layers import watched_layers


def network():
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU())
    return nn.Sequential(block, nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU()), nn.Flatten(), nn.Linear(6, 3))


def train(model, steps, lr=0.1, momentum=0.0, keep=None):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    maker = torch.Generator().manual_seed(1)
    for _ in range(steps):
        images, labels = torch.randn(10, 1, 8, 8, generator=maker), torch.randint(0, 3, (10,), generator=maker)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        if keep is not None:
            keep.append(
                (
                    loss.item(),
                    [parameter.grad.clone() for parameter in model.parameters()],
                    [p.detach().clone() for p in model.parameters()],
                )
            )
        optimizer.step()


def test_every_layer_at_every_step_with_its_name_kind_and_numbers():
    model, outputs = network(), {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda _, __, output, name=name: outputs.setdefault(name, []).append(output.detach().clone()))
    with Watcher(model) as watch:
        train(model, 4)
    assert {name: records[0].kind for name, records in watch.layers().items()} == {
        "0.0": "Conv2d", "0.1": "BatchNorm2d", "0.2": "ReLU", "1.0": "Conv2d", "1.1": "ReLU", "3": "Linear",
    }  # fmt: skip
    for name, records in watch.layers().items():
        assert [(record.first_step, record.last_step, record.records) for record in records] == [(step, step, 1) for step in range(4)]
        for record, output in zip(records, outputs[name], strict=True):
            assert record.count == record.sample_count == output.numel()
            assert record.mean == pytest.approx(float(output.double().mean()), abs=1e-6)
            assert record.std == pytest.approx(float(output.double().std(correction=0)), rel=1e-5)
            assert (record.minimum, record.maximum) == (float(output.min()), float(output.max()))
            assert record.near_zero_count == int((output.abs() <= 0.05).sum())


def test_a_network_of_many_layers_is_recorded_like_one_of_few():
    torch.manual_seed(0)
    model, outputs = nn.Sequential(*(nn.Conv2d(1 if place == 0 else 4, 4, 1) for place in range(40)), nn.Flatten(), nn.Linear(256, 3)), {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda _, __, output, name=name: outputs.setdefault(name, []).append(output.detach().clone()))
    with Watcher(model) as watch:
        train(model, 5)
    assert len(watch.layers()) == 41
    for name, records in watch.layers().items():
        assert [record.first_step for record in records] == [0, 1, 2, 3, 4]
        for record, output in zip(records, outputs[name], strict=True):
            assert record.count == output.numel()
            assert record.mean == pytest.approx(float(output.double().mean()), abs=1e-6)


def test_a_layer_whose_channels_become_more_keeps_what_was_positive_before():
    class Growing(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.scale = nn.ReLU(), nn.Parameter(torch.ones(()))

        def forward(self, few, many):
            return self.scale * (self.shared(few).sum() + self.shared(many).sum())

    model = Growing()
    few, many = torch.full((64, 3, 2, 2), 1.0), torch.full((64, 20, 2, 2), -1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Watcher(model) as watch:
        for step in range(40):
            loss = model(few, many) if step < 20 else model(many, few)
            loss.backward()
            optimizer.step()
    looked_at = [record for records in watch.layers().values() for record in records if record.positive_samples]
    assert any(record.positive for record in looked_at)
    assert all(int.from_bytes(record.positive, "little") in (0, 0b111) for record in looked_at)
    assert any(int.from_bytes(record.positive, "little") == 0b111 for record in looked_at)


def test_outputs_that_are_overwritten_in_place_are_read_before():
    torch.manual_seed(0)
    model, outputs = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 3)), []
    model[0].register_forward_hook(lambda _, __, output: outputs.append(output.detach().clone()))
    with Watcher(model) as watch:
        train(model, 4)
    assert [record.mean for record in watch.layers()["0"]] == pytest.approx([float(output.mean()) for output in outputs], abs=1e-6)
    assert all(record.minimum < 0 for record in watch.layers()["0"])
    assert watch.notes == ()


def test_steps_hold_loss_hyper_parameters_and_the_gradient_norm():
    model, kept = network(), []
    with Watcher(model) as watch:
        train(model, 3, lr=0.05, momentum=0.9, keep=kept)
    steps = watch.steps()
    assert [record.loss.last for record in steps] == pytest.approx([loss for loss, _, _ in kept])
    for record, (_, gradients, _) in zip(steps, kept, strict=True):
        assert record.gradient_norm.last == pytest.approx(math.sqrt(sum(float((g.double() ** 2).sum()) for g in gradients)), rel=1e-6)
    assert {name: value.last for name, value in steps[0].hyper.items()} == {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.0}
    assert all(record.seconds.last > 0 for record in steps)


def test_updates_and_gradients_of_a_layer_s_own_weights():
    model, kept = network(), []
    with Watcher(model) as watch:
        train(model, 3, keep=kept)
    after = [before for _, _, before in kept[1:]] + [[p.detach() for p in model.parameters()]]
    for step, ((_, gradients, before), now) in enumerate(zip(kept, after, strict=True)):
        for name, places in {"0.0": (0, 1), "0.1": (2, 3), "1.0": (4, 5), "3": (6, 7)}.items():
            weights, moved, slopes = (
                torch.cat([parts[at].flatten().double() for at in places])
                for parts in (before, [b - a for a, b in zip(before, now, strict=True)], gradients)
            )
            record = watch.layers()[name][step]
            assert record.update_ratio == pytest.approx(float(moved.norm() / weights.norm()), rel=1e-4)
            assert record.gradient_rms == pytest.approx(float(slopes.square().mean().sqrt()), rel=1e-5)
            assert record.weight_rms == pytest.approx(float(weights.square().mean().sqrt()), rel=1e-5)
    assert math.isnan(watch.layers()["0.2"][0].update_ratio)


def test_the_gradient_norm_is_that_before_clipping():
    model, norms = network(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Watcher(model) as watch:
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(torch.randn(10, 1, 8, 8)), torch.zeros(10, dtype=torch.long)).backward()
            norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), 1e-3)))
            optimizer.step()
    assert [record.gradient_norm.last for record in watch.steps()] == pytest.approx(norms, rel=1e-5)


@pytest.mark.parametrize("clipped", [False, True])
def test_the_gradient_norm_is_that_of_the_loss_before_it_was_scaled(clipped):
    model, norms = network(), []
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.1), torch.amp.GradScaler("cpu", init_scale=3000.0)
    with Watcher(model) as watch:
        for _ in range(3):
            optimizer.zero_grad()
            scaler.scale(F.cross_entropy(model(torch.randn(10, 1, 8, 8)), torch.zeros(10, dtype=torch.long))).backward()
            scaler.unscale_(optimizer)
            norms.append(math.sqrt(sum(float(parameter.grad.norm() ** 2) for parameter in model.parameters())))
            if clipped:
                nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            scaler.step(optimizer)
            scaler.update()
    assert [record.gradient_norm.last for record in watch.steps()] == pytest.approx(norms, rel=1e-5)


def test_layers_are_recorded_at_every_third_step_and_steps_always():
    model = network()
    with Watcher(model, every=3) as watch:
        train(model, 7)
    assert [record.first_step for record in watch.layers()["3"]] == [0, 3, 6]
    assert [record.first_step for record in watch.steps()] == list(range(7))


def test_only_the_layers_asked_for():
    model = network()
    with Watcher(model, layers=["1", "3"]) as watch:
        train(model, 2)
    assert list(watch.layers()) == ["1.0", "1.1", "3"]
    with pytest.raises(UnknownNameError) as error:
        Watcher(model, layers=["1.7"])
    assert str(error.value) == ("There is no layer '1.7'. Did you mean '1.1' or '1.0'? Known: '0.0', '0.1', '0.2', '1.0', '1.1', '3'.")


def test_a_layer_by_name_or_by_place():
    model = network()
    with Watcher(model) as watch:
        train(model, 1)
    assert [watch.layer_name(layer) for layer in (0, -1, -2, "0.1")] == ["0.0", "3", "1.1", "0.1"]
    for unknown in (6, -7, "conv", True):
        with pytest.raises(UnknownNameError, match=rf"^There is no layer {unknown!r}\. "):
            watch.layer_name(unknown)


def test_evaluation_passes_are_left_out():
    model = network()
    with Watcher(model) as watch:
        train(model, 1)
        model.eval()
        with torch.no_grad():
            model(torch.randn(99, 1, 8, 8))
        model(torch.randn(77, 1, 8, 8))  # gradients not switched off, as many scripts do
        model.train()
        train(model, 1)
    assert [record.count for record in watch.layers()["3"]] == [30, 30]


def test_a_module_that_is_called_twice_gives_two_records():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, rows):
            return self.layer(self.layer(rows))

    model = Twice()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Watcher(model) as watch:
        for _ in range(3):
            F.mse_loss(model(torch.randn(5, 4)), torch.zeros(5, 4)).backward()
            optimizer.step()
    assert {name: len(records) for name, records in watch.layers().items()} == {"layer": 3, "layer:1": 3}


def test_a_compiled_network_is_watched_at_its_boundary():
    model = torch.compile(network(), backend="eager")
    with Watcher(model) as watch:
        train(model, 2)
    assert {name: records[0].kind for name, records in watch.layers().items()} == {"Sequential": "Sequential"}
    assert math.isfinite(watch.layers()["Sequential"][0].update_ratio)
    assert watch.notes == ("The network is compiled: what it returns is recorded, its inside cannot be seen.",)


def test_attention_answers_for_the_weights_that_it_uses_directly():
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Watcher(model) as watch:
        model(torch.randn(2, 5, 8)).sum().backward()
        optimizer.step()
    assert math.isfinite(watch.layers()["self_attn"][0].gradient_rms)
    assert not watch.notes


@pytest.mark.parametrize("functional", [False, True])
def test_evaluation_by_one_fused_call_stays_one(functional, monkeypatch):
    """PyTorch evaluates an encoder layer by a fused call, which rounds differently, only where no hook is attached."""

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), 2, enable_nested_tensor=False)
            self.head = nn.Linear(8, 3)

        def forward(self, inputs):
            hidden = self.encoder(inputs).mean(1)
            return self.head(F.relu(hidden) if functional else hidden)

    fused, calls = torch._transformer_encoder_layer_fwd, []
    monkeypatch.setattr(torch, "_transformer_encoder_layer_fwd", lambda *arguments: calls.append(1) or fused(*arguments))

    def run(watched):
        torch.manual_seed(0)
        model, inputs = Classifier(), torch.randn(4, 5, 8)
        optimizer, results = torch.optim.SGD(model.parameters(), lr=0.1), []
        with Watcher(model) if watched else nullcontext() as watch:
            for _ in range(3):
                model.train()
                F.cross_entropy(model(inputs), torch.arange(4) % 3).backward()
                optimizer.step()
                model.eval()
                with torch.no_grad():
                    results.append(model(inputs))
        return results, watch

    plain, _ = run(False)
    watched, watch = run(True)
    assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True))
    assert len(calls) == 2 * 3 * 2  # in each run, in each evaluation, both layers
    assert len(watch.layers()["encoder.layers.1.linear2"]) == 3


def test_lbfgs_at_its_minimum_may_stand_still():
    torch.manual_seed(5)
    inputs, model = torch.randn(40, 5), nn.Linear(5, 1)
    labels = (inputs[:, 0] - inputs[:, 1] + 0.5 * torch.randn(40) > 0).float()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.3)

    def closure():
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(inputs)[:, 0], labels) + 0.02 * model.weight.square().sum()
        loss.backward()
        return loss

    with Watcher(model) as watch:
        for _ in range(12):
            optimizer.step(closure)
    assert [finding.name for finding in watch.diagnose().findings] == []


def test_watching_goes_on_where_another_run_stopped():
    model, log = network(), RunLog.create()
    with Watcher(model, log=log):
        train(model, 3)
    with Watcher(model, log=log, first_step=3) as watch:
        train(model, 2)
    assert [record.first_step for record in watch.steps()] == [0, 1, 2, 3, 4]
    assert [record.first_step for record in watch.layers()["3"]] == [0, 1, 2, 3, 4]
    assert watch.step == 5


def test_reading_in_the_middle_and_observations_reach_the_log():
    model = network()
    with Watcher(model) as watch:
        train(model, 2)
        assert len(watch.steps()) == 2  # a look ends the second, which nothing has followed yet
        train(model, 1)
    assert len(watch.steps()) == 3
    assert isinstance(watch.log.observations()[0], Observation)
    assert watch.diagnose().verdict == "too_early"


def test_a_flush_after_a_step_writes_it_whole():
    model = network()
    with Watcher(model) as watch:
        train(model, 2)
        watch.flush()
        assert len(watch.log.steps()) == 2
        train(model, 1)
    assert [record.first_step for record in watch.steps()] == [0, 1, 2]
    assert all(record.gradient_norm is not None for record in watch.steps())
    assert not any(math.isnan(record.update_ratio) for record in watch.layers()["3"])


def test_another_thread_may_look_while_the_loop_runs():
    model, seen, troubles = network(), [], []
    with Watcher(model) as watch:
        loop = threading.Thread(target=lambda: train(model, 150))
        loop.start()
        while loop.is_alive():
            try:
                seen.append(len(watch.steps()))
                watch.layers()
            except Exception as error:
                troubles.append(error)
        loop.join()
    assert not troubles
    assert not watch.notes
    assert seen == sorted(seen)
    assert [record.count for record in watch.layers()["3"]] == [30] * 150
    assert all(record.gradient_norm is not None for record in watch.steps())


def test_epochs_come_from_the_owner_of_the_loop():
    model = network()
    with Watcher(model) as watch:
        watch.report_epochs(lambda: watch.step / 10)
        train(model, 3)
    assert [record.epoch for record in watch.steps()] == [0.0, 0.1, 0.2]


def test_saving_writes_a_run_directory(tmp_path):
    model = network()
    with Watcher(model) as watch:
        train(model, 20)
    run = watch.save(tmp_path / "run")
    assert run.path == (tmp_path / "run").resolve()
    assert open_run(run.path).read_config()["model"] == "Sequential"
    assert len(RunLog.read(run.log).steps()) == 20
    assert watch.save(tmp_path / "run").path.name == "run-002"


def test_a_table_has_one_row_for_each_record():
    pandas = pytest.importorskip("pandas")
    model = network()
    with Watcher(model) as watch:
        train(model, 2)
    table = watch.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert len(table) == 12
    assert table["std"].tolist() == [record.std for records in watch.layers().values() for record in records]


def test_a_look_while_watching_includes_the_last_step_and_evaluation():
    model = network()
    images, labels = torch.randn(40, 1, 8, 8), torch.arange(40) % 3
    with Watcher(model) as watch:
        for _ in range(2):
            train(model, 4)
            with torch.no_grad():
                right = (model(images).argmax(1) == labels).float().mean().item()
            watch.diagnose()
        seen = [(o.step, o.numbers["accuracy"]) for o in watch.log.observations() if o.kind == "validation"]
        assert [step for step, _ in seen] == [4, 8]
        assert seen[-1][1] == pytest.approx(right)
        assert watch.steps()[-1].last_step == 7


def test_what_cannot_be_watched_is_told():
    with pytest.raises(UsageError) as error:
        Watcher("model")
    assert str(error.value) == "Watcher got str; it needs the network (a torch.nn.Module), or several in a dict by name."
    with pytest.raises(UsageError) as error:
        Watcher(network(), every=0)
    assert str(error.value) == "every=0: layers are recorded at one step in so many, a whole number from 1 up."
    with pytest.raises(UsageError) as error:
        Watcher(nn.Sequential(nn.Identity()))
    assert (
        str(error.value)
        == "Sequential has no layer to watch: none of its modules computes. Pass the network that you train, as it is in Python."
    )


def test_names_come_in_order_and_wrappers_do_not_show():
    layers, notes = watched_layers({"": nn.DataParallel(network())})
    assert [(layer.name, layer.kind) for layer in layers][:2] == [("0.0", "Conv2d"), ("0.1", "BatchNorm2d")]
    assert notes == []


def test_a_fault_of_ours_becomes_a_note_and_the_loop_goes_on(monkeypatch):
    model = network()
    with Watcher(model) as watch:
        monkeypatch.setattr(watch._recording._buffers, "add", lambda *_: 1 / 0)
        train(model, 2)
    assert watch.notes[0] == "Layer 0.0 could not be recorded: ZeroDivisionError: division by zero"
    assert len(watch.steps()) == 2
