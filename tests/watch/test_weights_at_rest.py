"""Real loops in which weights are not trained as they should be, and healthy ones that look like them: what the watcher says of each."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convscope.records import Finding, Verdict
from convscope.watch import Watcher
from convscope.watch.bootstrap import VAIN_PASSES, _Attached

MAKER = torch.Generator().manual_seed(3)
CENTRES = torch.randn(5, 12, generator=MAKER) * 1.2
LABELS = torch.randint(0, 5, (256,), generator=MAKER)
INPUTS = CENTRES[LABELS] + 0.9 * torch.randn(256, 12, generator=MAKER)
STEPS = 80

Hook = Callable[[int], None]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 5))


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=3e-3)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int = STEPS,
    before: Hook = lambda step: None,
    between: Hook = lambda step: None,
    forward: Callable[[Tensor], Tensor] | None = None,
) -> None:
    for step in range(steps):
        before(step)
        part = slice(step % 8 * 32, step % 8 * 32 + 32)
        optimizer.zero_grad()
        F.cross_entropy((forward or model)(INPUTS[part]).float(), LABELS[part]).backward()
        between(step)
        optimizer.step()


def verdict_on(model: nn.Module, loop: Callable[[], None]) -> Verdict:
    with Watcher(model) as watch:
        loop()
    return watch.diagnose()


def said(verdict: Verdict) -> list[str]:
    """Names of what is more than a note (these loops take their batches in the same order each time, which is one)."""
    return [finding.name for finding in verdict.findings if finding.severity != "note"]


def the_finding(model: nn.Module, loop: Callable[[], None], name: str) -> Finding:
    findings = [finding for finding in verdict_on(model, loop).findings if finding.severity != "note"]
    assert findings, "nothing was found"
    assert findings[0].name == name
    return findings[0]


def test_freezing_all_but_a_bias_in_the_middle() -> None:
    model = network()
    weights = [parameter for name, parameter in model.named_parameters() if name != "4.bias"]

    def freeze(step: int) -> None:
        if step == 8:
            for parameter in weights:
                parameter.requires_grad_(False)

    finding = the_finding(model, lambda: train(model, adam(model), before=freeze), "mostly_frozen")
    assert finding.step == 8
    assert finding.message.startswith("Since step 8 99.5 % of the weights are frozen")


def test_taking_weights_out_of_the_groups() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def empty(step: int) -> None:
        if step == 20:
            optimizer.param_groups.clear()

    finding = the_finding(model, lambda: train(model, optimizer, before=empty), "params_not_in_optimizer")
    assert (finding.severity, finding.step) == ("problem", 20)


def test_steps_are_counted_after_the_groups_were_emptied() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    assert (
        verdict_on(model, lambda: train(model, optimizer, before=lambda step: optimizer.param_groups.clear() if step == 20 else None)).steps
        == 80
    )


def test_a_head_that_is_replaced_in_the_middle() -> None:
    model = network()

    def replace(step: int) -> None:
        if step == 20:
            model[4] = nn.Linear(24, 5)

    finding = the_finding(model, lambda: train(model, adam(model), before=replace), "params_not_in_optimizer")
    assert (finding.severity, finding.where, finding.step) == ("problem", "4", 20)


def test_weights_that_are_loaded_in_place_of_those_that_the_optimiser_holds() -> None:
    model = network()
    state = {name: values.clone() for name, values in network().state_dict().items()}

    def load(step: int) -> None:
        if step == 10:
            model.load_state_dict(state, assign=True)

    finding = the_finding(model, lambda: train(model, adam(model), before=load), "params_not_in_optimizer")
    assert (finding.severity, finding.step) == ("problem", 10)


def test_an_optimiser_of_layers_that_came_after_watching_began() -> None:
    model = network()
    for parameter in model.parameters():
        parameter.requires_grad_(False)

    def loop() -> None:
        model[4] = nn.Linear(24, 5)
        train(model, torch.optim.SGD(model[4].parameters(), lr=0.1), steps=10)

    assert verdict_on(model, loop).steps == 10


def test_steps_that_low_precision_rounds_away() -> None:
    model = network().bfloat16()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    finding = the_finding(model, lambda: train(model, optimizer, forward=lambda inputs: model(inputs.bfloat16())), "update_no_op")
    assert "rounded away" in finding.message


def test_low_precision_with_steps_large_enough_is_fine() -> None:
    model = network().bfloat16()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    assert said(verdict_on(model, lambda: train(model, optimizer, forward=lambda inputs: model(inputs.bfloat16())))) == []


@pytest.mark.parametrize(("deleted", "word"), [(True, "deleted"), (False, "set to zero")])
def test_clearing_gradients_between_backward_and_step(deleted: bool, word: str) -> None:
    model = network()
    optimizer = adam(model)
    finding = the_finding(
        model, lambda: train(model, optimizer, steps=10, between=lambda step: optimizer.zero_grad(set_to_none=deleted)), "update_no_op"
    )
    assert finding.severity == "problem"
    assert f"are {word} before the optimiser takes its step" in finding.message


def test_clipping_at_zero() -> None:
    model = network()

    def clip(_: int) -> None:
        nn.utils.clip_grad_value_(model.parameters(), 0.0)

    assert "set to zero" in the_finding(model, lambda: train(model, adam(model), steps=10, between=clip), "update_no_op").message


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_stepping_the_scheduler_in_place_of_the_optimiser() -> None:
    model = network()
    schedule = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(model.parameters(), lr=0.1), 100)

    def loop() -> None:
        for _ in range(60):
            F.cross_entropy(model(INPUTS[:32]), LABELS[:32]).backward()
            schedule.step()

    finding = the_finding(model, loop, "update_no_op")
    assert finding.message == "After 60 batches no optimiser has taken a step, so the weights are still those of the start."


def test_a_loop_that_changes_the_weights_itself() -> None:
    model = network()

    def loop() -> None:
        for _ in range(60):
            F.cross_entropy(model(INPUTS[:32]), LABELS[:32]).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.1 * parameter.grad
            model.zero_grad()

    assert verdict_on(model, loop).findings == ()


def test_one_of_two_networks_that_is_in_no_optimiser() -> None:
    encoder, decoder = nn.Sequential(nn.Linear(12, 24), nn.ReLU()), nn.Linear(24, 5)
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.05)
    with Watcher({"encoder": encoder, "decoder": decoder}) as watch:
        train(encoder, optimizer, forward=lambda inputs: decoder(encoder(inputs)))
    assert [(finding.name, finding.where) for finding in watch.diagnose().findings] == [("params_not_in_optimizer", "decoder")]


class Encoded(nn.Module):
    """A head on an encoder whose gradients are cut off."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.head = nn.Sequential(nn.Linear(12, 64), nn.ReLU()), nn.Linear(64, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.encoder(inputs).detach())


def test_an_encoder_that_is_cut_off() -> None:
    model = Encoded()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    finding = the_finding(model, lambda: train(model, optimizer), "update_no_op")
    assert "72 % of the weights never receive a gradient (first among them: encoder.0)" in finding.message


# ------------------------------------------------------------ healthy


def test_parts_that_are_frozen_by_turns_are_fine() -> None:
    model = network()
    body, head = model[:4], model[4:]

    def turn(step: int) -> None:
        body.requires_grad_(step % 2 == 1)
        head.requires_grad_(step % 2 == 0)

    assert said(verdict_on(model, lambda: train(model, torch.optim.SGD(model.parameters(), lr=0.1), before=turn))) == []


def test_thawing_layer_by_layer_is_fine() -> None:
    model = network()
    model.requires_grad_(False)

    def thaw(step: int) -> None:
        if step in (0, 10, 20):
            model[4 - step // 5].requires_grad_(True)

    assert said(verdict_on(model, lambda: train(model, adam(model), before=thaw, steps=160))) == []


def test_groups_that_are_added_as_training_goes_on_are_fine() -> None:
    model = network()
    optimizer = torch.optim.SGD(model[4].parameters(), lr=0.1)

    def add(step: int) -> None:
        if step in (10, 20):
            optimizer.add_param_group({"params": model[4 - step // 5].parameters()})

    assert said(verdict_on(model, lambda: train(model, optimizer, before=add, steps=160))) == []


class WithTarget(nn.Module):
    """A network that carries a slow copy of itself, which no pass of training uses."""

    def __init__(self) -> None:
        super().__init__()
        self.online = network()
        self.target = copy.deepcopy(self.online)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.online(inputs)


def test_a_slow_copy_inside_the_network_is_fine() -> None:
    model = WithTarget()

    def follow(_: int) -> None:
        with torch.no_grad():
            for slow, fast in zip(model.target.parameters(), model.online.parameters(), strict=True):
                slow.lerp_(fast, 0.1)

    assert said(verdict_on(model, lambda: train(model, adam(model.online), before=follow, steps=160))) == []


def test_an_optimiser_for_each_stage_is_fine() -> None:
    model = network()

    def loop() -> None:
        for rate in (0.1, 0.05):
            train(model, torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9))

    assert said(verdict_on(model, loop)) == []


# ------------------------------------------------------------ found by itself


def test_a_copied_network_whose_layers_are_called_one_by_one_is_found() -> None:
    original = nn.ModuleDict({"body": nn.Linear(12, 24), "head": nn.Linear(24, 5)})
    optimizer, trained = adam(original), copy.deepcopy(original)
    attached = object.__new__(_Attached)
    attached._watcher, attached._searches = None, 0
    attached._new, attached._vain = weakref.WeakSet([optimizer]), weakref.WeakKeyDictionary()
    found = [attached._in_vain(trained["body"]) for _ in range(VAIN_PASSES)]
    assert found[:-1] == [None] * (VAIN_PASSES - 1)
    assert found[-1] is trained
