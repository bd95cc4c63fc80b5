"""What a trace refuses, in words, and the effective receptive field."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from traced_architectures import build

from convscope.errors import ModelError, TraceError, UnknownNameError, UsageError
from convscope.nn import simple_cnn
from convscope.records import Trace, from_json, to_json
from convscope.tracing import effective_receptive_field, receptive_field, trace, trace_to_pixels


class Decides(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(1, 2, 3))

    def forward(self, x):
        x = self.inner(x)
        while x.abs().max() > 1:
            x = x / 2
        return x


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        return self.head(x.flatten(1))


IMAGE = torch.zeros(1, 28, 28)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: trace(simple_cnn().eval(), IMAGE, "conv2", (0, 0, 0)),
            UnknownNameError,
            "There is no layer 'conv2'. Known are 21, among them 'input', '0.0', '0.1', '0.2', '1.0', '1.1', '1.2', '2.0', '2.1', '2.2', '3.0', '3.1'.",
        ),
        (
            lambda: trace(simple_cnn().eval(), IMAGE, "5", (10,)),
            TraceError,
            "The unit (10,) lies outside layer '5', whose output is 10. Units go from 0 to 9.",
        ),
        (
            lambda: trace(simple_cnn(), IMAGE, "2.0", (0, 0, 0)),
            TraceError,
            "The network is in training mode: '0.1' (BatchNorm2d) would use this one image's statistics, which is not what it does when it "
            "predicts. Call model.eval() before tracing.",
        ),
        (
            lambda: trace(nn.Sequential(nn.Dropout()), IMAGE, "0", (0, 0, 0)),
            TraceError,
            "The network is in training mode: '0' (Dropout) would drop random units, which is not what it does when it predicts. "
            "Call model.eval() before tracing.",
        ),
        (
            lambda: trace(Dense(), torch.zeros(1, 5, 5), "head", (0,)),
            ModelError,
            "Dense cannot be run on an image of shape (1, 5, 5) (C, H, W): it failed in the module 'head' with RuntimeError: "
            "mat1 and mat2 shapes cannot be multiplied (1x25 and 16x2). Give the image size and channels that it was made for.",
        ),
        (
            lambda: trace(simple_cnn().eval(), torch.zeros(28, 28), "2.0", (0, 0, 0)),
            UsageError,
            "The image has shape (28, 28), which is 2 axes; 3 are needed: CHW (C = channels, H = rows, W = columns).",
        ),
        (
            lambda: trace(simple_cnn().eval(), IMAGE, "2.0", (0, 0, 0), normalise=([0.1, 0.2], [1.0, 1.0])),
            UsageError,
            "The mean of the pixels has shape (2,); axis C (channels) is 2 but must be 1.",
        ),
        (
            lambda: trace(Decides(), torch.ones(1, 5, 5), "inner", (0, 0, 0)),
            ModelError,
            "Decides reads a value of a tensor in its forward (an `if` on a tensor, `.item()`, or a mask), so that what it computes can differ "
            "from image to image and one execution does not show it. Only networks that do the same for every image can be traced: give the "
            "part before or after the decision, or replace it by tensor operations such as torch.where.",
        ),
        (
            lambda: effective_receptive_field(simple_cnn(), IMAGE[None], "9", (0,)),
            UnknownNameError,
            "There is no module '9'. Known are 20, among them '0', '0.0', '0.1', '0.2', '1', '1.0', '1.1', '1.2', '2', '2.0', '2.1', '2.2'.",
        ),
    ],
)
def test_messages(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


def test_too_many_terms_are_refused_with_their_number():
    model, image = build("residual")
    with pytest.raises(TraceError) as caught:
        trace_to_pixels(model, image, "5", (1,), most_terms=1_000)
    text = str(caught.value)
    assert text.startswith("Tracing unit (1,) of layer '5' to the pixels needs ")
    assert text.endswith("the limit is 1,000. Trace a layer nearer to the image, go on layer by layer with trace(), or raise most_terms.")


def test_the_effective_field_lies_within_the_theoretical_one():
    model, image = build("net b")
    images = torch.stack([image, image.flip(1)])
    found = effective_receptive_field(model, images, "2.0", (1, 2, 1))
    box = receptive_field(model, (1, 28, 28), "2.0", (1, 2, 1)).box
    assert found.weight_HW.sum() == pytest.approx(1)
    outside = found.weight_HW.copy()
    outside[box.top : box.bottom + 1, box.left : box.right + 1] = 0
    assert not outside.any()
    assert box.top <= found.box.top <= found.box.bottom <= box.bottom
    gradient = torch.zeros(28, 28)
    for one in images:  # the slow reference: each pixel moved by itself
        pixel = one.clone().double().requires_grad_(True)
        output = model[:2].double()(pixel[None])
        output = model[2][0].double()(output)[0, 1, 2, 1]
        gradient += torch.autograd.grad(output, pixel)[0].abs().sum(0).float()
    model.float()
    assert np.allclose(found.weight_HW, (gradient / gradient.sum()).numpy(), atol=1e-6)


def test_a_unit_that_nothing_moves_has_an_empty_effective_field():
    dead = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU())
    nn.init.constant_(dead[0].bias, -1e6)
    found = effective_receptive_field(dead, torch.zeros(1, 1, 5, 5), "1", (0, 0, 0))
    assert (found.box.height, float(found.weight_HW.sum())) == (0, 0.0)


def test_nothing_is_changed_by_tracing():
    model, image = build("net b")
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    trace(model, image, "2.0", (0, 1, 1))
    effective_receptive_field(model, image[None], "2.0", (0, 1, 1))
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


class Scripted(nn.Module):
    """A part that was compiled to TorchScript, and an autograd function of its own."""

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clamp(min=0) * 2

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3)
        self.second = torch.jit.script(nn.Conv2d(2, 2, 3))

    def forward(self, x):
        return self.Double.apply(self.second(self.first(x)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_parts_and_functions_of_ones_own_are_seen_too():
    torch.manual_seed(0)
    found = trace(Scripted().eval(), torch.randn(1, 6, 6), "mul", (1, 1, 1))
    assert (len(found.terms), [step.operation for step in found.steps]) == (18, ["clamp", "mul"])
    assert abs(found.difference) <= 1e-6 * found.magnitude


def test_a_compiled_network_is_traced_under_its_own_names():
    model = torch.compile(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).eval(), backend="eager")
    assert trace(model, torch.randn(1, 6, 6), "0", (0, 1, 1)).operation == "Conv2d"


def test_a_half_precision_network_in_another_memory_format():
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).eval().to(memory_format=torch.channels_last).bfloat16()
    found = trace(model, torch.randn(3, 6, 6), "0", (1, 2, 3))
    assert abs(found.difference) <= 2**-8 * found.magnitude  # bfloat16 keeps 8 bits


def test_attention_ends_the_trace_and_says_so():
    class Attentive(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.attention = nn.Conv2d(1, 8, 3), nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            x = self.conv(x).flatten(2).transpose(1, 2)
            return self.attention(x, x, x, need_weights=False)[0]

    found = trace(Attentive().eval(), torch.randn(1, 6, 6), "attention", (3, 1))
    assert found.note == (
        "The trace ends at 'attention.native_multi_head_attention': aten._native_multi_head_attention.default is not known here, "
        "so its value is taken as it is."
    )
    assert (found.receptive_field.height, found.receptive_field.width) == (6, 6)


def test_a_trace_survives_json():
    model, image = build("net b")
    found = trace(model, image, "1", (2, 3, 3))
    assert from_json(Trace, json.loads(json.dumps(to_json(found)))) == found
