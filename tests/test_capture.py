import pytest
import torch
from torch import nn
from torch.optim import optimizer as torch_optimizer

from convscope.capture import Capture


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True)), nn.Flatten(), nn.Linear(2 * 4 * 4, 3))


def hooks_of(model):
    own = [len(hooks) for module in model.modules() for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)]
    steps = [len(torch_optimizer._global_optimizer_pre_hooks), len(torch_optimizer._global_optimizer_post_hooks)]
    return own, steps, [len(p._post_accumulate_grad_hooks or ()) for p in model.parameters()]


def test_every_module_is_seen_with_its_name_and_output():
    model, seen = network(), []
    with Capture(model, lambda name, module, output: seen.append((name, type(module).__name__, tuple(output.shape)))):
        model(torch.zeros(5, 1, 6, 6))
    assert seen == [
        ("0.0", "Conv2d", (5, 2, 4, 4)),
        ("0.1", "ReLU", (5, 2, 4, 4)),
        ("0", "Sequential", (5, 2, 4, 4)),
        ("1", "Flatten", (5, 32)),
        ("2", "Linear", (5, 3)),
        ("", "Sequential", (5, 3)),
    ]


def test_all_hooks_call_in_order_and_are_gone_afterwards_even_after_an_exception():
    model, seen = network(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = hooks_of(model)
    hooks = Capture()
    hooks.before_forward(model, lambda module, arguments: seen.append("before"))
    hooks.forward(model, lambda module, arguments, output: seen.append("after"))
    hooks.gradient(model[2].bias, lambda parameter: seen.append(("gradient", parameter.grad is not None)))
    hooks.optimizer_steps(lambda _, closure: seen.append(("step", closure)), lambda _, closure: seen.append(("stepped", closure)))

    def train_and_fail():
        model(torch.zeros(5, 1, 6, 6)).sum().backward()
        optimizer.step()
        optimizer.step(closure=lambda: 0.0)
        raise KeyError

    with pytest.raises(KeyError), hooks:
        train_and_fail()
    assert seen == ["before", "after", ("gradient", True), ("step", False), ("stepped", False), ("step", True), ("stepped", True)]
    seen.clear()
    model(torch.zeros(5, 1, 6, 6)).sum().backward()
    optimizer.step()
    hooks.close()  # a second time does nothing
    assert seen == []
    assert hooks_of(model) == before


def test_what_a_hook_returns_changes_nothing():
    model, images = network(), torch.ones(5, 1, 6, 6)
    plain = model(images)
    with Capture(model, lambda name, module, output: output * 0) as hooks:
        hooks.before_forward(model, lambda module, arguments: (arguments[0] * 0,))
        assert torch.equal(model(images), plain)
