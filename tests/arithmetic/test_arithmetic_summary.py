"""The table of a network against the chapter's counts, plain loops, and PyTorch's own parameter count."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convscope.arithmetic import summary
from convscope.errors import ModelError, UsageError
from convscope.nn import simple_cnn, small_resnet

NET_A = {"channels": (4, 8, 16, 32), "first_kernel": 3, "norm": False}
CHAPTER_A = [  # parameters, MACs, with bias, products with real pixels, book style
    (40, 7_056, 7_840, 6_724, 28_224),
    (296, 14_112, 14_504, 12_800, 56_448),
    (1_168, 18_432, 18_688, 12_800, 56_448),
    (4_640, 18_432, 18_560, 12_800, 73_728),
    (578, 576, 578, 256, 2_304),
]


def columns(row):
    return (row.parameters, row.macs, row.macs_with_bias, row.real_products, row.input_grid_products)


def test_chapters_table_of_net_a_line_by_line():
    table = summary(simple_cnn(1, 2, **NET_A), (1, 28, 28))
    assert [columns(row) for row in table.rows if row.kind == "Conv2d"] == CHAPTER_A
    assert columns_total(table) == (6_722, 58_608, 60_170, 45_380, 217_152)


def columns_total(table):
    return tuple(table.total(name) for name in ("parameters", "macs", "macs_with_bias", "real_products", "input_grid_products"))


def test_chapters_counts_of_net_b():
    table = summary(simple_cnn(norm=False), (1, 28, 28))
    assert [row.macs for row in table.rows if row.kind == "Conv2d"] == [39_200, 56_448, 73_728, 73_728, 5_760]
    assert columns_total(table)[:4] == (30_282, 248_864, 251_994, 192_072)


def test_doubling_channels_keeps_real_products_but_not_macs():
    middle = [row for row in summary(simple_cnn(1, 2, **NET_A), (1, 28, 28)).rows if row.kind == "Conv2d"][1:4]
    assert len({row.real_products for row in middle}) == 1
    assert len({row.macs for row in middle}) > 1


def loop_count(layer, height, width):
    """Every product of a convolution, one by one, with a counter; the slow reference for MACs and real products."""
    output = layer(torch.zeros(1, layer.in_channels, height, width))
    macs = real = 0
    for _, row, column in itertools.product(range(output.shape[1]), range(output.shape[2]), range(output.shape[3])):
        for tap_row, tap_column in itertools.product(range(layer.kernel_size[0]), range(layer.kernel_size[1])):
            y = row * layer.stride[0] - layer.padding[0] + tap_row * layer.dilation[0]
            x = column * layer.stride[1] - layer.padding[1] + tap_column * layer.dilation[1]
            macs += layer.in_channels // layer.groups
            real += (0 <= y < height and 0 <= x < width) * (layer.in_channels // layer.groups)
    return macs, real


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": (3, 2), "stride": (1, 3), "padding": (2, 0), "dilation": (2, 1)},
        {"kernel_size": 1, "padding": 2, "groups": 2},
        {"kernel_size": 5, "padding": 4, "dilation": 2, "groups": 4},
    ],
)
def test_convolution_costs_equal_a_plain_loop(settings):
    layer = nn.Conv2d(4, 8, **settings)
    row = summary(layer, (4, 9, 10)).rows[0]
    assert (row.macs, row.real_products) == loop_count(layer, 9, 10)
    assert row.macs_with_bias == row.macs + 8 * row.output_shape[1] * row.output_shape[2]
    assert row.flops == row.macs + row.macs_with_bias
    assert row.input_grid_products == layer.weight.numel() * 90


def test_transposed_convolution_counts_each_scattered_product():
    layer = nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, bias=False)
    row = summary(layer, (2, 4, 5)).rows[0]
    height, width = row.output_shape[1:]
    real = sum(
        0 <= 2 * y - 1 + a < height and 0 <= 2 * x - 1 + b < width
        for y, x, a, b in itertools.product(range(4), range(5), range(3), range(3))
    )
    assert row.macs == row.macs_with_bias == 2 * 3 * 9 * 20
    assert row.real_products == 2 * 3 * real


@pytest.mark.parametrize(
    ("layer", "flops"),
    [
        (nn.ReLU(), 32),
        (nn.GELU(), 32),
        (nn.MaxPool2d(2), 24),  # 3 comparisons at 8 places
        (nn.AvgPool2d(2), 32),  # 3 additions and a division at 8 places
        (nn.AdaptiveAvgPool2d(1), 32),
        (nn.BatchNorm2d(2), 128),
        (nn.BatchNorm2d(2, affine=False), 64),
        (nn.GroupNorm(1, 2), 256),
        (nn.Softmax(1), 128),
        (nn.Flatten(), 0),
        (nn.Dropout(), 0),
    ],
)
def test_layers_without_products(layer, flops):
    (row,) = summary(nn.Sequential(layer), (2, 4, 4)).rows
    assert (row.kind, row.macs, row.flops) == (type(layer).__name__, 0, flops)


class Odd(nn.Module):
    """Shared and unused layers, a parameter outside any layer, and work done by functions."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.unused = nn.Linear(3, 4)
        self.act = nn.ReLU()

    def forward(self, x):
        x = self.act(self.conv(x))
        x = self.act(self.conv(x)) + x
        x = F.max_pool2d(x, 2)
        return torch.cat([x, -x], 1).flatten(1) * self.scale


def test_functions_shared_unused_and_loose_parameters_all_have_rows():
    model = Odd()
    table = summary(model, (2, 6, 6))
    assert [(row.name, row.parameters, row.note) for row in table.rows] == [
        ("(itself)", 1, ""),
        ("conv", 38, ""),
        ("act", 0, ""),
        ("conv:1", 0, "parameters counted above"),
        ("act:1", 0, ""),
        ("add", 0, ""),
        ("max_pool2d_with_indices", 0, ""),
        ("neg", 0, ""),
        ("cat", 0, ""),
        ("mul", 0, ""),
        ("unused", 16, "was not called"),
    ]
    assert table.total("parameters") == sum(p.numel() for p in model.parameters())
    assert table.total("macs") == 2 * 2 * 2 * 9 * 36


def test_trainable_parameters():
    model = simple_cnn()
    model[0].requires_grad_(False)
    table = summary(model, (1, 28, 28))
    assert table.total("parameters") - table.total("trainable") == 224


def test_an_unknown_operator_is_named_not_counted():
    class Cumulative(nn.Module):
        def forward(self, x):
            return x.cumsum(1)

    (row,) = summary(nn.Sequential(Cumulative()), (2, 3, 3)).rows
    assert (row.flops, row.note) == (0, "not counted: cumsum")


class Meddler(nn.Module):
    """Draws random numbers and counts its calls in a buffer, in evaluation too."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.dropout = nn.Dropout()

    def forward(self, x):
        self.calls += 1
        return self.dropout(x + torch.randn_like(x))


def test_nothing_is_changed():
    model = nn.Sequential(simple_cnn(), Meddler()).train()
    model[0][1].eval()
    modes = [module.training for module in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    summary(model, (1, 28, 28))
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_hooks_are_removed_after_a_failure_too():
    model = simple_cnn()
    with pytest.raises(ModelError) as caught:
        summary(model, (3, 28, 28))
    assert str(caught.value) == (
        "Sequential cannot be run on an image of shape (3, 28, 28) (C, H, W): it failed in the module '0.0' with RuntimeError: "
        "Given groups=1, weight of size [8, 1, 5, 5], expected input[1, 3, 28, 28] to have 1 channels, but got 3 channels instead. "
        "Give the image size and channels that it was made for."
    )
    assert model.training
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())


def test_bad_shape():
    with pytest.raises(UsageError) as caught:
        summary(simple_cnn(), (28, 28))
    assert (
        str(caught.value)
        == "The input shape is (28, 28); it must be three positive numbers: channels, rows and columns, such as (1, 28, 28)."
    )


def test_a_model_whose_result_is_not_a_tensor():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(ModelError) as caught:
        summary(Pair(), (1, 4, 4))
    assert str(caught.value) == (
        "Pair returned tuple, which is not a tensor computed from the image. "
        "A network that gives one tensor, such as logits, is needed; wrap it in a module that returns that tensor."
    )


def test_the_printed_table():
    assert str(summary(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), (1, 4, 4))) == (
        "Sequential for one image of 1×4×4 (C×H×W)\n"
        "layer  kind    output  parameters  MACs  MACs + bias  FLOPs  real products  input grid\n"
        "──────────────────────────────────────────────────────────────────────────────────────\n"
        "0      Conv2d  2×2×2           20    72           80    152             72         288\n"
        "1      ReLU    2×2×2            0     0            0      8              0           0\n"
        "total                          20    72           80    160             72         288"
    )


@pytest.mark.parametrize("size", [32, 64, 128, 224])
def test_small_resnet_stays_small(size):
    assert 10_000_000 < summary(small_resnet(image_size=size), (3, size, size)).total("macs") < 60_000_000
