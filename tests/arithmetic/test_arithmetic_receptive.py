"""Receptive fields against the support of real gradients, unit by unit, and the chapter's sizes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.overrides import TorchFunctionMode
from traced_architectures import ARCHITECTURES, build

from convscope.arithmetic.execution import execute
from convscope.arithmetic.receptive import PixelEdges, boxes_at, field_of, receptive_field
from convscope.errors import ModelError, TraceError, UnknownNameError, UsageError
from convscope.nn import simple_cnn, small_resnet
from convscope.records import Box

ACTIVATIONS = {
    *(F.relu, F.leaky_relu, F.gelu, F.silu, F.elu, F.prelu, torch.prelu, F.hardtanh, F.relu6, F.hardswish),
    *(torch.tanh, torch.sigmoid, torch.relu, torch.relu_, F.softmax),
}


class PositiveTwins(TorchFunctionMode):
    """Activations become the identity and max-pools sums, so that the gradient shows what could matter and not only what did."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in ACTIVATIONS and func is not F.softmax:
            return args[0] * 1
        if func in (F.max_pool2d, torch.max_pool2d):
            given = dict(zip(("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode"), args, strict=False)) | kwargs
            given.pop("return_indices", None)
            assert given.pop("dilation", 1) == 1
            return F.avg_pool2d(**given)
        return func(*args, **kwargs)


def supports(model, image, *, twins):
    """For each module, the box of the pixels with a gradient, for each of its units."""
    outputs, hooks = {}, []
    for name, module in model.named_modules():

        def keep(module, given, output, name=name):
            outputs.setdefault(name, output)

        hooks += [module.register_forward_hook(keep)] if name else []
    images = image[None].clone().requires_grad_(True)
    if twins:
        with PositiveTwins():
            model(images * 1)
    else:
        model(images * 1)
    for hook in hooks:
        hook.remove()
    for name, output in outputs.items():
        flat = output.reshape(-1)
        (gradients,) = torch.autograd.grad(flat, images, torch.eye(len(flat), dtype=flat.dtype), is_grads_batched=True, retain_graph=True)
        yield name, gradients.reshape(len(flat), *image.shape).ne(0).any(dim=1).numpy()


def bounding_box(support):
    rows, columns = np.flatnonzero(support.any(axis=1)), np.flatnonzero(support.any(axis=0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]), int(columns[-1])) if len(rows) else Box(0, 0, -1, -1)


def boxes(network, name):
    node = network.by_name[network.layers[name]]
    edges, unknown = PixelEdges(network).of(node)
    assert not unknown
    return boxes_at(edges, node, np.arange(node.values.size))


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "net b"])
def test_box_of_every_unit_is_the_gradients_support(name):
    model, image = build(name, torch.float64)
    if name == "net a":  # every unit's gradient at once: fewer pixels
        image = image[:, :20, :17]
    network, checked = execute(model, image), 0
    for layer, support in supports(model, image, twins=True):
        assert [bounding_box(unit) for unit in support] == boxes(network, layer), layer
        checked += len(support)
    assert checked > 100


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_box_contains_the_real_support(name):
    model, image = build(name, torch.float64)
    network = execute(model, image)
    for layer, support in supports(model, image, twins=False):
        for unit, box in zip(support, boxes(network, layer), strict=True):
            unit[box.top : box.bottom + 1, box.left : box.right + 1] = False
            assert not unit.any()


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_random_stacks_with_dilation_and_too_much_padding(data):
    draw = data.draw
    torch.manual_seed(draw(st.integers(0, 99)))
    layers, channels = [], 2
    for _ in range(draw(st.integers(1, 3))):
        groups = draw(st.sampled_from([1, 2]))
        kernel, stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3))), (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
        padding, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        kind = draw(st.sampled_from([nn.Conv2d, nn.Conv2d, nn.ConvTranspose2d]))
        layers.append(kind(channels, 2, kernel, stride, padding if kind is nn.Conv2d else 0, dilation=dilation, groups=groups))
        layers.append(
            draw(st.sampled_from([nn.ReLU(), nn.Sigmoid(), nn.AdaptiveAvgPool2d((3, 2)), nn.ZeroPad2d((1, 0, 2, 1)), nn.InstanceNorm2d(2)]))
        )
        if not isinstance(layers[-1], nn.ReLU | nn.Sigmoid | nn.ZeroPad2d):
            layers.append(nn.Identity())
    model = nn.Sequential(*layers).double().eval()
    image = torch.randn(2, 9, 8, dtype=torch.float64)
    try:
        output = model(image[None])
    except (RuntimeError, ValueError):
        return  # the map became too small
    if output.numel() > 1500:
        return
    network = execute(model, image)
    for layer, support in supports(model, image, twins=True):
        assert [bounding_box(unit) for unit in support] == boxes(network, layer)


@pytest.mark.parametrize(("first", "sizes"), [(3, [3, 7, 15, 31, 63]), (5, [5, 9, 17, 33, 65])])
def test_chapters_sizes_before_clipping(first, sizes):
    model = simple_cnn(1, 10, first_kernel=first)
    fields = [receptive_field(model, (1, 28, 28), f"{block}.0") for block in range(5)]
    assert [field.size for field in fields] == [(size, size) for size in sizes]
    assert [field.jump for field in fields] == [(2**k, 2**k) for k in range(1, 6)]
    assert [field.offset for field in fields] == [(-(size // 2), -(size // 2)) for size in sizes]
    assert fields[-1].whole
    assert not fields[0].whole


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in ("up and down",)])
def test_size_jump_and_offset_give_the_clipped_boxes(name):
    model, image = build(name)
    height, width = image.shape[1:]
    network = execute(model, image)
    for layer, output in network.layers.items():
        shape = network.by_name[output].shape
        corners = {(0, y, x) for y in (0, shape[1] // 2, shape[1] - 1) for x in (0, shape[2] - 1)} if len(shape) == 3 else set()
        for unit in corners:
            field = field_of(network, layer, unit)
            if field.size is not None:
                top, left = (field.offset[axis] + unit[axis + 1] * field.jump[axis] for axis in (0, 1))
                bottom, right = top + field.size[0] - 1, left + field.size[1] - 1
                clipped = Box(max(top, 0), max(left, 0), min(bottom, height - 1), min(right, width - 1))
                # windows with gaps can skip a border pixel that the clipped size counts
                assert clipped.top <= field.box.top <= field.box.bottom <= clipped.bottom
                assert clipped.left <= field.box.left <= field.box.right <= clipped.right


def test_a_skip_keeps_the_larger_field_and_dense_layers_see_everything():
    model = small_resnet(3, 4, channels=(4,), image_size=32)
    assert receptive_field(model, (3, 32, 32), "1.0.shortcut").size == (3, 3)
    assert receptive_field(model, (3, 32, 32), "1.0.add").size == (7, 7)
    dense = receptive_field(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 3)), (1, 8, 8), "2", (1,))
    assert (dense.box, dense.size, dense.whole) == (Box(0, 0, 7, 7), None, True)


def test_middle_unit_and_corner():
    model = simple_cnn()
    assert receptive_field(model, (1, 28, 28), "1.0").unit == (0, 3, 3)
    assert receptive_field(model, (1, 28, 28), "1.0", (3, 0, 6)).box == Box(0, 20, 4, 27)
    assert model.training


def test_a_unit_in_the_padding_sees_no_pixel():
    field = receptive_field(nn.Conv2d(1, 1, 1, padding=1), (1, 4, 4), "convolution", (0, 0, 2))
    assert (field.box, field.box.height, field.box.width) == (Box(0, 0, -1, -1), 0, 0)


class Decides(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        x = self.conv(x)
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: receptive_field(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), (1, 8, 8), "0.1"),
            UnknownNameError,
            "There is no layer '0.1'. Known: 'input', '0', '1'.",
        ),
        (
            lambda: receptive_field(simple_cnn(), (1, 28, 28), "2.3"),
            UnknownNameError,
            "There is no layer '2.3'. Did you mean '2.2' or '2.1' or '2.0'? Known are 21, among them 'input', '0.0', '0.1', '0.2', '1.0', "
            "'1.1', '1.2', '2.0', '2.1', '2.2', '3.0', '3.1'.",
        ),
        (
            lambda: receptive_field(simple_cnn(), (1, 28, 28), "2.0", (0, 4, 1)),
            TraceError,
            "The unit (0, 4, 1) lies outside layer '2.0', whose output is 32×4×4 (channels × rows × columns). Units go from 0 to 31,3,3.",
        ),
        (
            lambda: receptive_field(simple_cnn(), (1, 28, 28), "2.0", (0, -1, 1)),
            TraceError,
            "The unit (0, -1, 1) lies outside layer '2.0', whose output is 32×4×4 (channels × rows × columns). Units go from 0 to 31,3,3.",
        ),
        (
            lambda: receptive_field(simple_cnn(), (1, 28, 28), "2.0", (3,)),
            TraceError,
            "The unit (3,) has 1 numbers; the output of layer '2.0' is 32×4×4 (channels × rows × columns). "
            "Give 3, counted from 0: at most 31,3,3.",
        ),
        (
            lambda: receptive_field(simple_cnn(), (28, 28), "2.0"),
            UsageError,
            "The input shape is (28, 28); it must be channels, rows and columns, such as (1, 28, 28).",
        ),
        (
            lambda: receptive_field(Decides(), (1, 5, 5), "conv"),
            ModelError,
            "Decides reads a value of a tensor in its forward (an `if` on a tensor, `.item()`, or a mask), so that what it computes can differ "
            "from image to image and one execution does not show it. Only networks that do the same for every image can be traced: give the "
            "part before or after the decision, or replace it by tensor operations such as torch.where.",
        ),
    ],
)
def test_messages(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


def test_a_vectors_unit_may_have_three_numbers():
    assert receptive_field(simple_cnn(), (1, 28, 28), "5", (3, 0, 0)).box == receptive_field(simple_cnn(), (1, 28, 28), "5", (3,)).box
