"""A trace as text, with the picture of what it sees, and networks' tables in notebooks."""

import numpy as np
import torch
from torch import nn

from convscope.arithmetic import summary
from convscope.records import Box
from convscope.show.trace_text import format_trace, picture
from convscope.tracing import trace


def small():
    conv = nn.Conv2d(1, 1, 2)
    norm = nn.BatchNorm2d(1, eps=0.0)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[[1.0, -2.0], [0.5, 3.0]]]]))
        conv.bias.fill_(0.25)
        norm.running_mean.fill_(1.0)
        norm.running_var.fill_(4.0)
    return nn.Sequential(conv, norm, nn.ReLU()).eval(), torch.tensor([[[1.0, 2.0, 0.0], [4.0, 3.0, 1.0]]])


def test_the_whole_text():
    model, image = small()
    assert format_trace(trace(model, image, "2", (0, 0, 0)), image) == (
        "Layer 2, unit [0, 0, 0]: 4 products of Conv2d of layer 0\n"
        "from                value  weight  product\n"
        "──────────────────────────────────────────\n"
        "input [0, 0, 0]         1       1        1\n"
        "input [0, 0, 1]         2      -2       -4\n"
        "input [0, 1, 0]         4     0.5        2\n"
        "input [0, 1, 1]         3       3        9\n"
        "bias                                  0.25\n"
        "sum                                   8.25\n"
        "then BatchNorm2d 1                   3.625\n"
        "then ReLU 2                          3.625\n"
        "BatchNorm2d 1 used mean 1, variance 4, eps 0, weight 1, bias 0\n"
        "our total 3.625, PyTorch's value 3.625, difference 0.0e+00\n"
        "it can see rows 0 to 1 and columns 0 to 1 of the image, 2×2 pixels\n"
        "\n"
        "+----+\n"
        "|::==|\n"
        "|@@##|::\n"
        "+----+"
    )


def test_many_terms_are_shortened_but_add_up():
    torch.manual_seed(0)
    found = trace(nn.Sequential(nn.Conv2d(8, 1, 3)), torch.randn(8, 5, 5), "0", (0, 1, 1))
    lines = str(found).splitlines()
    assert lines[0] == "Layer 0, unit [0, 1, 1]: 72 products of Conv2d of layer 0"
    assert len(lines) == 3 + 24 + 3 + 2
    assert lines[27].startswith("48 smaller products")
    products = [float(line.split()[-1]) for line in lines[3:29]]
    assert abs(sum(products) - float(lines[29].split()[-1])) < 1e-4


def test_a_picture_of_a_wide_image_takes_blocks_of_pixels():
    lines = picture(np.zeros((3, 100, 200)), Box(10, 20, 39, 59)).splitlines()
    assert max(map(len, lines)) <= 2 * 56
    assert sum(line.count("|") for line in lines) == 2 * (39 // 4 - 10 // 4 + 1)


def test_a_picture_without_a_field_has_no_frame():
    assert picture(np.array([[[0.0, 9.0]]]), Box(0, 0, -1, -1)) == "  @@"


def test_notebooks_show_traces_and_tables_with_safe_text():
    class Odd(nn.Sequential):
        pass

    model, image = small()
    assert trace(model, image, "2", (0, 0, 0))._repr_html_().startswith("<pre>Layer 2, unit [0, 0, 0]")
    Odd.__name__ = "<b>"
    assert summary(Odd(model), (1, 4, 4))._repr_html_().startswith("<pre>&lt;b&gt; for one image of 1×4×4")
