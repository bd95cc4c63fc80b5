"""The Learner against a loop written out by hand, and what it promises besides."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_data import write_folder
from torch import nn

import convscope as cs
from convscope.errors import ModelError, NonFiniteError, UsageError
from convscope.train.callback import CancelFit
from convscope.train.metrics import Metric, balanced_accuracy
from convscope.train.schedules import Schedule


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("CONVSCOPE_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield cs.load_data(write_folder(tmp_path_factory.mktemp("stripes"), per_class=30), 8, augment=False, seed=1)
    patch.undo()


def network(seed=0, dropout=0.0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 2),
    )


def test_equals_a_hand_written_loop_bit_for_bit(data):
    learner = cs.Learner(data, network(), seed=5, device="cpu")
    learner.fit_one_cycle(2, lr_max=0.02)

    model = network()
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": weights, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), eps=1e-5)
    losses, step = [], 0
    schedule = Schedule("one_cycle", 0.02)
    for epoch in range(2):
        model.train()
        for images, labels in data.train.batches(epoch):
            hyper = schedule(step, 14)
            for group in optimizer.param_groups:
                group["lr"], group["betas"] = hyper.lr, (hyper.momentum, 0.99)
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            step += 1
    assert learner.recorder.losses == losses
    for ours, theirs in zip(learner.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_validation_equals_the_plain_averages(data):
    learner = cs.Learner(data, network(), device="cpu")
    result = learner.validate()
    model = learner.model.eval()
    images = torch.cat([batch for batch, _ in data.valid.batches(0)])
    labels = torch.cat([labels for _, labels in data.valid.batches(0)])
    with torch.no_grad():
        logits = model(images)
    assert result.count == 60
    assert result.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)
    right = [int(logit.argmax() == label) for logit, label in zip(logits, labels, strict=True)]
    assert result.metrics["accuracy"] == sum(right) / 60
    by_class = [np.mean([r for r, label in zip(right, labels, strict=True) if label == c]) for c in (0, 1)]
    assert result.metrics["balanced_accuracy"] == pytest.approx(np.mean(by_class))
    assert sum(map(sum, result.confusion)) == 60


def test_recorder_keeps_every_hyper_parameter_of_every_step(data):
    learner = cs.Learner(data, network(), device="cpu")
    learner.fit_one_cycle(1, lr_max=0.1)
    schedule = Schedule("one_cycle", 0.1)
    assert learner.recorder.lrs == [schedule(step, 7).lr for step in range(7)]
    assert learner.recorder.hyper("beta1") == [schedule(step, 7).momentum for step in range(7)]
    assert set(learner.recorder.hyper("beta2")) == {0.99}
    assert learner.recorder.hyper("weight_decay") == [0.01] * 7
    assert learner.recorder.hyper("weight_decay:1") == [0.0] * 7
    assert math.isnan(learner.recorder.hyper("momentum")[0])
    [epoch] = learner.recorder.epochs
    assert (epoch.epoch, epoch.steps) == (1, 7)
    assert epoch.train_loss == pytest.approx(sum(learner.recorder.losses) / 7)
    assert learner.recorder.plot_loss().get_xlabel() == "step"
    assert len(learner.recorder.plot_sched()) >= 2


def test_random_state_is_put_back_and_dropout_comes_from_the_seed(data):
    torch.manual_seed(11)
    random.seed(11)
    before, before_python = torch.get_rng_state(), random.getstate()
    one = cs.Learner(data, network(dropout=0.5), seed=3, device="cpu")
    torch.manual_seed(11)
    one.fit(1, 0.01)
    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == before_python
    torch.manual_seed(999)
    two = cs.Learner(data, network(dropout=0.5), seed=3, device="cpu")
    two.fit(1, 0.01)
    assert one.recorder.losses == two.recorder.losses
    three = cs.Learner(data, network(dropout=0.5), seed=4, device="cpu")
    three.fit(1, 0.01)
    assert three.recorder.losses != one.recorder.losses


def test_lr_find_leaves_no_trace(data):
    learner = cs.Learner(data, network(dropout=0.3), seed=3, device="cpu")
    learner.fit(1, 0.01)
    twin = cs.Learner(data, network(dropout=0.3), seed=3, device="cpu")
    twin.fit(1, 0.01)
    generator = torch.get_rng_state()
    found = learner.lr_find()
    assert torch.equal(torch.get_rng_state(), generator)
    assert found.lrs[0] == pytest.approx(1e-6)
    assert 1e-4 < found.suggestion < 1
    assert len(found.lrs) == len(found.losses)
    assert found.plot().get_xscale() == "log"
    assert learner.model.training == twin.model.training
    assert all(p.grad is None for p in learner.model.parameters())
    learner.fit(1, 0.01)
    twin.fit(1, 0.01)
    assert learner.recorder.losses == twin.recorder.losses
    assert all(torch.equal(a, b) for a, b in zip(learner.model.state_dict().values(), twin.model.state_dict().values(), strict=True))


def test_accumulated_gradients_equal_those_of_one_large_batch(data):
    plain = nn.Sequential(nn.Flatten(), nn.Linear(784, 2))
    start = {name: value.clone() for name, value in plain.state_dict().items()}
    large = cs.load_data(data.summary.source, 16, augment=False, seed=1)
    one = cs.Learner(large, plain, device="cpu")
    one.fit(1, 0.01)
    two_model = nn.Sequential(nn.Flatten(), nn.Linear(784, 2))
    two_model.load_state_dict(start)
    two = cs.Learner(data, two_model, device="cpu", accumulate=2)
    two.fit(1, 0.01)
    assert (one.step, two.step) == (3, 4)  # 60 images: three batches of 16, or seven of 8, the last alone in its group
    assert two.recorder.losses[:3] == pytest.approx(one.recorder.losses, rel=1e-4)


def test_clipping_bounds_the_gradient(data):
    norms = []

    class Norms(cs.Callback):
        def before_step(self, learner):
            norms.append(sum(float(p.grad.norm()) ** 2 for p in learner.model.parameters()) ** 0.5)

    learner = cs.Learner(data, network(), callbacks=[Norms()], clip_norm=0.01, device="cpu")
    learner.fit(1, 0.001)
    recorded = [record.gradient_norm.last for record in learner.recorder.steps]
    assert recorded == pytest.approx(norms, rel=1e-4)
    assert min(norms) > 0.01


def test_a_nan_stops_the_run_and_puts_good_weights_back(data):
    class Break(cs.Callback):
        def before_batch(self, learner):
            if learner.step == 9:
                with torch.no_grad():
                    learner.model[0].weight[0, 0, 0, 0] = math.nan

    learner = cs.Learner(data, network(), callbacks=[Break()], device="cpu")
    with pytest.raises(NonFiniteError) as error:
        learner.fit(3, 0.01)
    assert str(error.value) == (
        "The loss became NaN at step 9 (epoch 2, learning rate 0.01); the weights of '0' were not finite any more, so the step before broke them. "
        "Training stopped, and the weights are back at step 0, the last that are known to be good. "
        "Try a learning rate ten times lower, or clip the gradients (clip_norm=1.0)."
    )
    assert all(torch.isfinite(value).all() for value in learner.model.state_dict().values())


def test_the_first_layer_that_overflows_is_named(data):
    class Overflow(nn.Module):
        def forward(self, x):
            return x * float("inf")

    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), Overflow(), nn.Linear(8, 2))
    with pytest.raises(NonFiniteError, match=r"the first layer with such an output is '2' \(Overflow\)"):
        cs.Learner(data, model, device="cpu").fit(1, 0.01)


def test_early_stopping_and_cancelling(data):
    learner = cs.Learner(data, network(), callbacks=[cs.EarlyStopping(patience=2, min_delta=100.0)], device="cpu")
    learner.fit(9, 1e-6)
    assert learner.epoch == 3

    class Stop(cs.Callback):
        def after_step(self, learner):
            if learner.step == 4:
                raise CancelFit("enough")

    learner = cs.Learner(data, network(), callbacks=[Stop()], device="cpu")
    learner.fit(1, 0.01)
    assert (learner.step, len(learner.recorder.losses)) == (4, 4)


def test_bfloat16_trains(data):
    learner = cs.Learner(data, network(), precision="bf16", device="cpu")
    learner.fit_one_cycle(3, 0.05)
    assert learner.validation.metrics["accuracy"] > 0.7
    assert next(learner.model.parameters()).dtype == torch.float32


def test_metrics_of_the_users_own(data):
    def mean_confidence(logits, labels):
        return logits.softmax(1).amax(1)

    learner = cs.Learner(
        data, network(), metrics=[mean_confidence, Metric("root", lambda a, b: (a - a).sum(1) + 4.0, math.sqrt)], device="cpu"
    )
    assert set(learner.validate().metrics) == {"mean_confidence", "root", "balanced_accuracy"}
    assert learner.validate().metrics["root"] == 2.0
    assert 0.5 <= learner.validate().metrics["mean_confidence"] <= 1


def test_balanced_accuracy_leaves_empty_classes_out():
    assert balanced_accuracy([[8, 2, 0], [0, 0, 0], [1, 0, 1]]) == pytest.approx((0.8 + 0.5) / 2)
    assert math.isnan(balanced_accuracy([[0, 0], [0, 0]]))


def test_predict_one_image_however_it_is_given(data, tmp_path):
    from PIL import Image

    learner = cs.Learner(data, network(), device="cpu")
    learner.fit_one_cycle(3, 0.05)
    pixels = data.valid.split.pixels(0)
    path = tmp_path / "image.png"
    Image.fromarray(pixels[0]).save(path)
    answers = [learner.predict(form) for form in (path, str(path), Image.open(path), pixels, pixels[0], torch.from_numpy(pixels))]
    assert len({(a.label, a.confidence) for a in answers}) == 1
    assert sum(answers[0].probabilities) == pytest.approx(1)
    assert answers[0].label in data.classes
    with pytest.raises(cs.ConvscopeError) as error:
        learner.predict(pixels / 255)
    assert (
        str(error.value) == "The image is an array of float64; give pixels from 0 to 255 as uint8, a Pillow image, or the path of a file."
    )


def test_save_writes_a_run_that_predicts(data, tmp_path):
    from convscope.train.predict import load_classifier

    torch.manual_seed(0)
    learner = cs.Learner(data, cs.simple_cnn(1, 2, channels=(4, 8, 8, 8)), device="cpu")
    learner.fit_one_cycle(2, 0.05)
    run = learner.save(tmp_path / "run")
    assert {p.name for p in run.iterdir()} == {
        *("config.json", "weights.safetensors", "log.sqlite", "results.csv", "report.html", "data.json", "network.json", "evaluation.json")
    }
    pixels = data.valid.split.pixels(3)
    assert load_classifier(run).predict_one(pixels) == learner.predict(pixels)
    learner.save(tmp_path / "run")  # a run may be replaced
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("precious")
    with pytest.raises(cs.ConvscopeError) as error:
        learner.save(tmp_path / "other")
    assert str(error.value) == (
        f"{tmp_path / 'other'} exists and is no run directory, so nothing was written. Give a new path, or that of a run to replace."
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "fp8"}, "precision is 'fp8'; it must be one of fp32, bf16, fp16."),
        ({"weight_decay": -1}, "weight_decay is -1; it must be 0 or more, usually 0.01."),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0; it must be at least 0 and below 1, usually 0 or 0.1."),
        ({"clip_norm": 0}, "clip_norm is 0; it must be above 0, usually 1.0, or None for no clipping."),
        ({"accumulate": 0}, "accumulate is 0; it must be a whole number, 1 or more."),
    ],
)
def test_settings_out_of_range(data, settings, message):
    with pytest.raises(UsageError) as error:
        cs.Learner(data, network(), device="cpu", **settings)
    assert str(error.value) == message


def test_nothing_to_train_and_names_that_clash(data):
    model = network()
    model.requires_grad_(False)
    with pytest.raises(ModelError) as error:
        cs.Learner(data, model, device="cpu")
    assert str(error.value) == (
        "The network has no trainable parameter: every parameter has requires_grad=False, or there are none. Unfreeze some."
    )

    class Model(cs.Callback):
        pass

    with pytest.raises(UsageError) as error:
        cs.Learner(data, network(), callbacks=[Model()], device="cpu")
    assert str(error.value) == "A callback cannot be named 'model': the learner has an attribute of that name. Rename its class."
    with pytest.raises(UsageError) as error:
        cs.Learner(data, network(), device="cpu").fit(0, 0.1)
    assert str(error.value) == "epochs is 0; it must be a whole number, 1 or more."


def test_a_network_that_does_not_fit_the_data_is_refused_with_its_first_batch(data):
    shape = f"{tuple(next(iter(data.train))[0].shape)} with targets of shape ({data.train.batch_size},)"
    three_channels = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    message = f"Sequential cannot be trained on {data.name}: its first batch, of shape {shape}, failed with "
    with pytest.raises(ModelError) as caught:
        cs.Learner(data, three_channels).fit(1, 0.1)
    assert str(caught.value) == (
        f"{message}RuntimeError: Given groups=1, weight of size [4, 3, 3, 3], expected input{list(next(iter(data.train))[0].shape)} to have 3 channels, "
        "but got 1 channels instead. Give a network and a loss made for these inputs and targets."
    )
    one_class = nn.Sequential(nn.Flatten(), nn.Linear(784, 1))
    with pytest.raises(ModelError) as caught:
        cs.Learner(data, one_class).fit(1, 0.1)
    assert str(caught.value).startswith(f"{message}IndexError: Target ")
    assert str(caught.value).endswith(" is out of bounds. Give a network and a loss made for these inputs and targets.")


def test_a_learner_shows_itself_in_a_notebook(data):
    torch.manual_seed(0)
    learner = cs.Learner(data, cs.simple_cnn(1, 2), device="cpu")
    assert repr(learner) == f"Learner(simple_cnn on {data.name}, untrained, on cpu)"
    assert "<table>" not in learner._repr_html_()
    learner.fit(1, 0.01)
    shown = learner._repr_html_()
    [epoch] = learner.recorder.epochs
    assert f"<td>1</td><td>{epoch.train_loss:.4f}</td><td>{epoch.valid_loss:.4f}</td>" in shown
    assert "Conv2d" in shown
