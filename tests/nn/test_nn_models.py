"""The networks against the chapter's tables, and the shapes they give at every image size."""

import pytest
import torch
from torch import nn

from convscope.errors import UnknownNameError, UsageError
from convscope.nn import MODELS, ResidualBlock, build, simple_cnn, small_resnet


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_net_a_is_the_chapters():
    net = simple_cnn(1, 2, channels=(4, 8, 16, 32), first_kernel=3, norm=False)
    assert [parameters(block) for block in net] == [40, 296, 1_168, 4_640, 578, 0]
    assert parameters(net) == 6_722
    assert net.training


def test_net_b_is_the_chapters():
    plain, normed = simple_cnn(norm=False), simple_cnn()
    assert [parameters(block) for block in plain] == [208, 1_168, 4_640, 18_496, 5_770, 0]
    assert (parameters(plain), parameters(normed)) == (30_282, 30_542)


@pytest.mark.parametrize(
    ("order", "kinds"),
    [("conv-norm-act", ["Conv2d", "BatchNorm2d", "ReLU"]), ("conv-act-norm", ["Conv2d", "ReLU", "BatchNorm2d"])],
)
def test_simple_cnn_order_of_norm_and_activation(order, kinds):
    net = simple_cnn(order=order)
    assert [[type(part).__name__ for part in block] for block in net[:4]] == [kinds] * 4
    assert [type(part).__name__ for part in net[4]] == ["Conv2d", "BatchNorm2d"]  # no activation on the logits
    assert net.get_submodule("2.0").out_channels == 32


def test_simple_cnn_has_pytorchs_own_initialisation():
    torch.manual_seed(0)
    net = simple_cnn(norm=False)
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(1, 8, 5, 2, 2), nn.Conv2d(8, 16, 3, 2, 1), nn.Conv2d(16, 32, 3, 2, 1)]
    for block, reference in zip(net, convolutions, strict=False):
        assert torch.equal(block[0].weight, reference.weight)
        assert torch.equal(block[0].bias, reference.bias)


@pytest.mark.parametrize("size", [8, 16, 27, 28, 29, 32, 64, 224])
def test_simple_cnn_gives_one_logit_a_class_at_every_size(size):
    net = simple_cnn(3, 7, image_size=size).eval()
    assert net(torch.zeros(2, 3, size, size)).shape == (2, 7)
    assert any(isinstance(part, nn.AdaptiveAvgPool2d) for part in net) == (size > 28)


@pytest.mark.parametrize("size", [32, 64, 128, 224])
@pytest.mark.parametrize("order", ["conv-norm-act", "norm-act-conv"])
def test_small_resnet_keeps_the_first_stage_affordable(size, order):
    net = small_resnet(3, 5, image_size=size, order=order).eval()
    assert net(torch.zeros(1, 3, size, size)).shape == (1, 5)
    assert max(net[0](torch.zeros(1, 3, size, size)).shape[-2:]) <= 56


def test_small_resnet_has_no_bias_beside_a_norm_and_kaiming_spread():
    torch.manual_seed(0)
    net = small_resnet(channels=(64, 128))
    convolutions = [part for part in net.modules() if isinstance(part, nn.Conv2d)]
    assert all(part.bias is None for part in convolutions)
    for part in convolutions:
        fan_in = part.weight[0].numel()
        assert part.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)


def test_residual_block_adds_its_input():
    block = ResidualBlock(4, 4).eval()
    for parameter in block.body.parameters():
        nn.init.zeros_(parameter)
    images = torch.randn(1, 4, 5, 5)
    assert torch.equal(block(images), images.relu())
    assert isinstance(ResidualBlock(4, 8).shortcut, nn.Sequential)
    assert isinstance(ResidualBlock(4, 8, order="norm-act-conv").shortcut, nn.Conv2d)


def test_build_passes_arguments_on():
    net = build("simple_cnn", 3, 4, 64, norm=False, channels=(2, 3))
    assert net[0][0].in_channels == 3
    assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 4)
    assert sorted(MODELS) == ["simple_cnn", "small_resnet"]


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: build("simple_cn", 1, 10, 28),
            UnknownNameError,
            "There is no model 'simple_cn'. Did you mean 'simple_cnn'? Known: 'simple_cnn', 'small_resnet'.",
        ),
        (
            lambda: build("simple_cnn", 1, 10, 28, normal=True),
            UnknownNameError,
            "There is no argument of simple_cnn 'normal'. Did you mean 'norm'? Known: 'channels', 'first_kernel', 'norm', 'order'.",
        ),
        (
            lambda: simple_cnn(first_kernel=4),
            UsageError,
            "first_kernel is 4; it must be odd and positive, so that the padding can be equal on both sides. Give 3 or 5.",
        ),
        (lambda: simple_cnn(order="act-conv"), UsageError, "order is 'act-conv'; it must be 'conv-norm-act' or 'conv-act-norm'."),
        (lambda: simple_cnn(classes=0), UsageError, "classes is 0; it must be a positive whole number."),
        (lambda: simple_cnn(channels=(4, -1)), UsageError, "channels[1] is -1; it must be a positive whole number."),
        (
            lambda: small_resnet(channels=()),
            UsageError,
            "channels is empty; a residual network needs at least one stage. Give filters for each stage, such as (16, 32, 64, 128).",
        ),
        (
            lambda: build("simple_cnn", 1, 10, 28, channels=3),
            UsageError,
            "simple_cnn cannot be built with {'channels': 3}: 'int' object is not iterable. Check the type of each argument.",
        ),
    ],
)
def test_messages(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
