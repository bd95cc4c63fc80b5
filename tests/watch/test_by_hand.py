"""Loops that change the weights themselves: their steps are counted, also in unmodified scripts, and what goes wrong in them is found."""

import json
import math
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convscope.watch import Watcher
from convscope.watch.bootstrap import run_watched

RATE = 0.1


def in_place(model):
    with torch.no_grad():
        for weight in model.parameters():
            weight -= RATE * weight.grad


def through_data(model):
    for weight in model.parameters():
        weight.data = weight.data - RATE * weight.grad


def under_a_local_name(model):
    for weight in model.parameters():
        weight = weight - RATE * weight.grad  # the mistake


def train(change, *, steps=30, clear=True, accumulate=1):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    inputs, losses = torch.randn(steps, 32, 8), []
    with Watcher(model) as watch:
        for number, batch in enumerate(inputs):
            loss = F.cross_entropy(model(batch), batch[:, :3].argmax(1))
            loss.backward()
            losses.append(loss.item())
            if (number + 1) % accumulate == 0:
                change(model)
                if clear:
                    model.zero_grad()
        inside = [(finding.name, finding.severity) for finding in watch.diagnose().findings]
    assert [(finding.name, finding.severity) for finding in watch.diagnose().findings] == inside
    return watch, losses, inside


@pytest.mark.parametrize("change", [in_place, through_data])
def test_every_change_of_the_weights_is_a_step(change):
    watch, losses, findings = train(change)
    assert [record.first_step for record in watch.steps()] == list(range(30))
    assert [record.loss.mean for record in watch.steps()] == pytest.approx(losses)
    ratios = [record.update_ratio for record in watch.layers()["2"]]
    assert math.isnan(ratios[0])  # what began before it was known
    assert all(0.001 < ratio < 0.2 for ratio in ratios[1:])
    assert findings == []


def test_accumulated_gradients_are_one_step():
    watch, _, findings = train(in_place, accumulate=3)
    assert len(watch.steps()) == 10
    assert findings == []


def test_gradients_that_the_loop_never_clears():
    assert ("grads_not_cleared", "problem") in train(in_place, clear=False)[2]


def test_weights_that_only_a_local_name_gets():
    watch, _, findings = train(under_a_local_name, steps=60)
    assert watch.steps() == []
    assert findings == [("update_no_op", "problem")]


def test_an_optimiser_takes_over():
    torch.manual_seed(0)
    model, optimizer = nn.Linear(8, 3), None
    with Watcher(model) as watch:
        for number in range(12):
            if number == 4:
                optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
            batch = torch.randn(16, 8)
            F.cross_entropy(model(batch), batch[:, :3].argmax(1)).backward()
            optimizer.step() if optimizer else in_place(model)
            model.zero_grad()
    assert [record.first_step for record in watch.steps()] == list(range(12))
    assert [name for name, value in watch.steps()[-1].hyper.items() if value.last == RATE] == ["lr"]


SCRIPT = """
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
for step in range(40):
    x = torch.randn(32, 8)
    loss = nn.functional.cross_entropy(net(x), x[:, :3].argmax(1))
    loss.backward()
    with torch.no_grad():
        for p in net.parameters():
            p.sub_(0.1 * p.grad)
            CLEAR
"""


@pytest.mark.parametrize(("clear", "expected"), [("p.grad = None", []), ("pass", ["grads_not_cleared"])])
def test_a_script_without_an_optimiser(tmp_path, clear, expected):
    script = tmp_path / "by_hand.py"
    script.write_text(SCRIPT.replace("CLEAR", clear))
    run_watched([sys.executable, str(script)], out=tmp_path / "runs", json_file=tmp_path / "verdict.json")
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert [finding["name"] for finding in verdict["findings"] if finding["severity"] != "note"] == expected
    assert 35 <= verdict["steps"] <= 40
