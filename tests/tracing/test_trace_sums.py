"""The terms of every unit add up to PyTorch's value: all architectures, all operators, random settings."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from traced_architectures import ARCHITECTURES, build

from convscope.arithmetic.execution import execute
from convscope.arithmetic.operators import operator_of
from convscope.records import TraceStep
from convscope.tracing import executed, trace, trace_executed, trace_to_pixels, unfold_executed
from convscope.tracing.trace import PixelEdges, _traces

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-13}


def every_trace(network):
    """The traces of all units of all operations."""
    edges = PixelEdges(network)
    for node in network.nodes[1:]:
        if node.values.dtype.kind == "f":
            yield from _traces(network, edges, node, np.arange(node.values.size), node.name)[0]


def check(model, image, *, unknown=()):
    network = executed(model, image)
    assert {node.operation for node in network.nodes[1:] if operator_of(node) is None} == set(unknown)
    count = 0
    for found in every_trace(network):
        summed = math.fsum(term.value * term.weight for term in found.terms) + found.bias
        reached = found.steps[-1].value if found.steps else summed
        assert math.isclose(reached, found.total, rel_tol=1e-12, abs_tol=1e-12 * found.magnitude)
        assert abs(found.total - found.value) <= TOLERANCE[image.dtype] * found.magnitude + 1e-300, found
        assert not found.note or unknown
        count += 1
    return count


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_unit_of_every_architecture_adds_up(name, dtype):
    model, image = build(name, dtype)
    assert check(model, image) > 100


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_random_convolutions(data):
    draw = data.draw
    groups, axes = draw(st.sampled_from([1, 1, 2, 3])), draw(st.sampled_from([1, 2, 2, 2, 3]))
    transposed = draw(st.booleans())
    each = [draw(st.integers(1, 3)) for _ in range(axes)], [draw(st.integers(1, 3)) for _ in range(axes)]
    padding, dilation = [draw(st.integers(0, 2)) for _ in range(axes)], [draw(st.integers(1, 2)) for _ in range(axes)]
    sizes = [draw(st.integers(5, 7)) for _ in range(axes)]
    kind = getattr(nn, f"Conv{'Transpose' * transposed}{axes}d")
    torch.manual_seed(draw(st.integers(0, 99)))
    layer = kind(groups * 2, groups * draw(st.integers(1, 2)), *each, padding, dilation=dilation, groups=groups, bias=draw(st.booleans()))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))

    class Wrapped(nn.Module):  # images have rows and columns whatever the layer's axes are
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x.reshape(1, groups * 2, *sizes))

    check(Wrapped().to(dtype).eval(), torch.randn(groups * 2, sizes[0], math.prod(sizes[1:]), dtype=dtype))


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_random_pools(data):
    draw = data.draw
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    stride, ceil = (draw(st.integers(1, 3)), draw(st.integers(1, 3))), draw(st.booleans())
    padding = tuple(draw(st.integers(0, size // 2)) for size in kernel)
    pool = draw(
        st.sampled_from(
            [
                nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil),
                nn.MaxPool2d(kernel, stride, padding, dilation=2, ceil_mode=ceil),
                nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil),
                nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, count_include_pad=False),
                nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, divisor_override=7),
                nn.AdaptiveAvgPool2d(kernel),
                nn.AdaptiveMaxPool2d(kernel),
            ]
        )
    )
    torch.manual_seed(draw(st.integers(0, 99)))
    check(nn.Sequential(pool).eval(), torch.randn(2, draw(st.integers(7, 10)), draw(st.integers(7, 10))))


ACTIVATIONS = [
    *(nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.2), nn.PReLU(2), nn.RReLU(), nn.ELU(1.5), nn.SELU(), nn.CELU(0.7), nn.GELU(), nn.GELU("tanh")),
    *(nn.SiLU(), nn.Mish(), nn.Sigmoid(), nn.LogSigmoid(), nn.Tanh(), nn.Softplus(2.0, 3.0), nn.Softsign(), nn.Tanhshrink()),
    *(nn.Hardtanh(-0.4, 0.7), nn.Hardsigmoid(), nn.Hardswish(), nn.Hardshrink(), nn.Softshrink(0.3), nn.Threshold(0.1, 2.0)),
    *(nn.Softmax(1), nn.LogSoftmax(2), nn.Softmax2d(), nn.Softmin(3), nn.Identity(), nn.Dropout(), nn.Dropout2d()),
    *(nn.BatchNorm2d(2), nn.InstanceNorm2d(2, affine=True), nn.GroupNorm(2, 2), nn.LayerNorm((2, 3, 4)), nn.LayerNorm(4)),
    *(
        nn.LocalResponseNorm(2),
        nn.Upsample(scale_factor=2),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Upsample(size=(5, 7), mode="bicubic"),
    ),
    *(nn.PixelShuffle(1), nn.ZeroPad2d(1), nn.ReflectionPad2d(1), nn.ReplicationPad2d((1, 0, 2, 1)), nn.ConstantPad2d(1, 3.5)),
    *(nn.Flatten(), nn.Unflatten(1, (1, 2)), nn.AvgPool1d(2)),
]


class After(nn.Module):
    """A convolution, then the layer under test."""

    def __init__(self, layer):
        super().__init__()
        self.conv, self.layer = nn.Conv2d(1, 2, 3), layer

    def forward(self, x):
        x = self.conv(x)
        return self.layer(x[0] if isinstance(self.layer, nn.AvgPool1d) else x)


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=lambda layer: str(layer))
def test_each_layer_after_a_convolution(layer):
    torch.manual_seed(1)
    rounds = (
        isinstance(layer, nn.Upsample) and layer.mode == "bicubic"
    )  # PyTorch's forward rounds its float32 weights otherwise than its backward
    for dtype in (torch.float64,) if rounds else (torch.float32, torch.float64):
        check(After(layer).to(dtype).eval(), torch.randn(1, 5, 6, dtype=dtype) * 3)


FUNCTIONS = {
    "arithmetic": lambda x: (2 - x) * 3 / 4 + x / 2 - (x - 1) * x - torch.rsub(x, 1, alpha=2),
    "quotient": lambda x: x / (x.abs() + 1),
    "constants in front": lambda x: torch.ones(1) / (x.exp() + 2) - torch.full((1, 1, 4, 1), 0.5),
    "broadcast": lambda x: x + x.mean((2, 3), keepdim=True) * x.amax((1,), keepdim=True),
    "powers": lambda x: (
        x.pow(2) + (x.abs() + 1).sqrt() + torch.rsqrt(x * x + 1) + (x.abs() + 0.1).log() - x.neg().reciprocal().clamp(-3, 3)
    ),
    "reductions": lambda x: x.sum(1) + x.amax((1, 3), keepdim=True)[0] + x.mean() + x.max(),
    "moves": lambda x: x.flip(2).roll(1, 3).transpose(2, 3)[:, ::2, 1:].unsqueeze(0).repeat(1, 1, 2, 1, 1).squeeze(0),
    "joins": lambda x: torch.stack([x, torch.ones_like(x), -x], 1).flatten(1, 2),
    "pieces": lambda x: sum(part * number for number, part in enumerate(x.split([1, 2, 1], 2)[1].unbind(3), 1)),
    "indexing": lambda x: x[:, torch.tensor([1, 0, 1])].index_select(3, torch.tensor([0, 2])),
    "matrix from the left": lambda x: torch.mm(torch.ones(2, 4, dtype=x.dtype), x[0, 0]),
    "clamps": lambda x: x.clamp_min(-0.5) + x.clamp_max(0.5) + x.clamp(min=0.1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    class Function(nn.Module):
        def forward(self, x):
            return FUNCTIONS[name](x)

    torch.manual_seed(2)
    check(Function(), torch.randn(2, 4, 5, dtype=torch.float64))


def test_traces_to_the_pixels_reach_every_unit_once():
    model, image = build("net b")
    traces = trace_to_pixels(model, image, "5", (3,))
    assert traces[0] == trace(model, image, "5", (3,))
    asked = [(found.layer, found.unit) for found in traces]
    assert len(asked) == len(set(asked))
    needed = {(term.source, term.unit) for found in traces for term in found.terms if term.weight != 0 and term.source != "input"}
    assert needed == set(asked[1:])
    made = {(found.layer, found.unit): found.total for found in traces}
    for found in traces:
        for term in found.terms:
            if (term.source, term.unit) in made:
                assert math.isclose(term.value, made[term.source, term.unit], abs_tol=1e-5)


def test_both_factors_of_a_gate_are_followed():
    model, image = build("branching")
    traces = trace_to_pixels(model, image, "mul", (4, 2, 3))
    followed = {found.layer for found in traces}
    assert {"gate.1", "gate.2", "norm", "cat"} & followed
    assert "gate.2" in followed or "gate.1" in followed


def recomputed(found, values):
    """A trace's value from other values of its sources: its own arithmetic, once more."""
    x = sum(values[term.source, term.unit] * term.weight for term in found.terms) + found.bias
    for step in found.steps:
        numbers = step.numbers
        if step.operation == "BatchNorm2d":
            x = (x - numbers["mean"]) / math.sqrt(numbers["variance"] + numbers["eps"]) * numbers["weight"] + numbers["bias"]
        elif step.operation == "ReLU":
            x = max(x, 0.0)
    return x


def test_traces_alone_predict_a_changed_image():
    model, image = build("net b", torch.float64)
    traces = trace_to_pixels(model, image, "5", (3,))
    changed = image + 0.3 * torch.randn_like(image)
    values = {("input", (c, y, x)): float(changed[c, y, x]) for c in range(1) for y in range(28) for x in range(28)}
    for found in reversed(traces):
        values[found.layer, found.unit] = recomputed(found, values)
    assert math.isclose(values["5", (3,)], model(changed[None])[0, 3].item(), abs_tol=1e-9)


def test_normalisation_is_the_last_traced_step():
    model, _ = build("net a")
    pixels = torch.randint(0, 256, (1, 28, 28), dtype=torch.uint8)
    normalise = ([0.13], [0.31])
    traces = trace_to_pixels(model, pixels, "0.0", (1, 3, 4), normalise=normalise)
    last = traces[-1]
    (term,) = last.terms
    assert (last.layer, term.source, term.value) == ("input", "pixels", float(pixels[last.unit]))
    assert math.isclose(last.total, (pixels[last.unit].item() / 255 - 0.13) / 0.31, rel_tol=1e-9, abs_tol=1e-9)
    assert math.isclose(traces[0].value, model(((pixels / 255 - 0.13) / 0.31)[None]).new_tensor(traces[0].value).item())
    assert [found.layer for found in traces].count("input") == 9


def test_steps_of_a_block():
    model, image = build("net b")
    found = trace(model, image, "1", (2, 3, 3))
    assert [(step.layer, step.operation) for step in found.steps] == [("1.1", "BatchNorm2d"), ("1.2", "ReLU")]
    assert (found.summed_by, found.operation) == ("1.0", "Conv2d")
    assert isinstance(found.steps[0], TraceStep)
    norm = model[1][1]
    assert found.steps[0].numbers == pytest.approx(
        {"mean": norm.running_mean[2].item(), "variance": norm.running_var[2].item(), "eps": 1e-5}
        | {"weight": norm.weight[2].item(), "bias": norm.bias[2].item()}
    )
    assert found.value == model[:2](image[None])[0, 2, 3, 3].item()


def test_terms_are_in_the_order_of_the_weights_and_padding_gives_none():
    model, image = build("net a")
    corner = trace(model, image, "1.0", (5, 0, 6))
    inside = [(c, y, x) for c in range(4) for y in range(3) for x in range(3) if y > 0]
    assert [term.weight for term in corner.terms] == [model[1][0].weight[5, c, y, x].item() for c, y, x in inside]
    assert [term.unit for term in corner.terms] == [(c, y - 1, 12 - 1 + x) for c, y, x in inside]
    assert {term.source for term in corner.terms} == {"0.1"}


def test_values_are_those_of_pytorch_hooks_and_nothing_is_copied_wrongly_in_place():
    model, image = build("shuffled")
    before = image.clone()
    network = execute(model, image)
    seen = {}
    hooks = [
        module.register_forward_hook(lambda m, i, o, n=name: seen.update({n: o.clone()})) for name, module in model.named_modules() if name
    ]
    with torch.no_grad():
        model(image[None])
    for hook in hooks:
        hook.remove()
    assert torch.equal(image, before)
    for name, value in seen.items():
        assert np.array_equal(network.by_name[network.layers[name]].values, value.numpy()), name


def test_executed_twice_is_the_same_and_traces_agree():
    model, image = build("residual")
    network = executed(model, image)
    assert trace(model, image, "2.0.add", (1, 2, 2)) == trace_executed(network, "2.0.add", (1, 2, 2))
    assert unfold_executed(network, "0.0", (1, 2, 2))[0] == trace(model, image, "0.0", (1, 2, 2))


def test_maximum_lists_what_lost():
    image = torch.tensor([[[1.0, 5.0], [3.0, 2.0]]])
    found = trace(nn.Sequential(nn.MaxPool2d(2)), image, "0", (0, 0, 0))
    assert [(term.value, term.weight) for term in found.terms] == [(1.0, 0.0), (5.0, 1.0), (3.0, 0.0), (2.0, 0.0)]


def test_an_unknown_operator_ends_the_trace_and_says_so():
    class Sorted(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x):
            return F.relu(x.sort(dim=3).values) + 1 if x.shape[1] == 2 else self.forward(self.conv(x))

    torch.manual_seed(0)
    found = trace(Sorted(), torch.randn(1, 5, 5), "add", (0, 1, 1))
    assert [term.source for term in found.terms] == ["sort"]
    assert found.note == "The trace ends at 'sort': aten.sort.default is not known here, so its value is taken as it is."
    assert found.total == pytest.approx(found.value)
    assert (found.receptive_field.height, found.receptive_field.width) == (5, 5)
