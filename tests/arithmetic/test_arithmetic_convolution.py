"""Kernels, sizes, matrices, partial sums and batch norm against PyTorch's own functions."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from convscope.arithmetic import apply_kernel, batch_norm_by_hand, conv2d_as_matrix, kernels, output_size, partial_sums
from convscope.arithmetic.kernels import KERNELS, named
from convscope.errors import UnknownNameError, UsageError


def test_top_edge_is_the_chapters():
    assert kernels.top_edge.tolist() == [[-1, -1, -1], [0, 0, 0], [1, 1, 1]]


def test_edges_answer_where_the_image_gets_brighter():
    image = torch.zeros(6, 6)
    image[3:] = 1
    assert apply_kernel(image, kernels.top_edge)[0].max() == 3
    assert apply_kernel(image, kernels.bottom_edge)[0].min() == -3
    assert apply_kernel(image.T, kernels.left_edge)[0].max() == 3
    assert apply_kernel(image.T, kernels.right_edge)[0].min() == -3
    assert apply_kernel(image, kernels.left_edge)[0].abs().max() == 0


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_keep_or_remove_brightness(name):
    adds_up_to_one = (
        "sharpen",
        "box_blur",
        "gaussian_blur",
        "identity",
        "diagonal_edge",
        "antidiagonal_edge",
    )  # the diagonals as in the chapter
    assert named(name).sum().item() == pytest.approx(1.0 if name in adds_up_to_one else 0.0)
    named(name).zero_()  # a copy
    assert named(name).abs().sum() > 0


@given(st.integers(3, 7), st.integers(3, 7), st.integers(1, 3), st.integers(0, 2))
@settings(max_examples=20, deadline=None)
def test_apply_kernel_is_conv2d_and_its_steps_add_up(height, width, stride, padding):
    image = torch.arange(height * width).reshape(height, width).sin()
    output, steps = apply_kernel(image, kernels.sobel_vertical, stride=stride, padding=padding)
    expected = F.conv2d(image[None, None], kernels.sobel_vertical[None, None], stride=stride, padding=padding)[0, 0]
    assert torch.allclose(output, expected, atol=1e-6)
    for step in steps:
        assert sum(map(sum, step.products)) == pytest.approx(step.total)
        assert (step.top, step.left) == (step.row * stride - padding, step.column * stride - padding)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_matrix_equals_conv2d(data):
    draw, pair = data.draw, lambda low, high: (data.draw(st.integers(low, high)), data.draw(st.integers(low, high)))
    groups, kernel, size = draw(st.sampled_from([1, 2, 3])), pair(1, 3), pair(5, 8)
    stride, padding, dilation = pair(1, 3), pair(0, 2), pair(1, 2)
    weight = torch.randn(groups * 2, 2, *kernel, dtype=torch.float64)
    image = torch.randn(groups * 2, *size, dtype=torch.float64)
    matrix = conv2d_as_matrix(weight, size, stride=stride, padding=padding, dilation=dilation, groups=groups)
    expected = F.conv2d(image[None], weight, None, stride, padding, dilation, groups)[0]
    assert torch.allclose(matrix @ image, expected, rtol=0, atol=1e-12)
    assert torch.allclose(matrix.matrix.to_dense() @ image.reshape(-1), expected.reshape(-1), rtol=0, atol=1e-12)
    ties = matrix.ties()
    assert torch.equal(torch.where(ties >= 0, weight.reshape(-1)[ties.clamp(min=0)], 0.0), matrix.matrix.to_dense())


def test_matrix_marks_zeros_and_ties():
    matrix = conv2d_as_matrix(torch.arange(1.0, 10).reshape(1, 1, 3, 3), (4, 4))
    assert str(matrix) == "4×16 matrix: 36 of 64 places hold one of 9 weights, the other 43.8% are zero"
    assert matrix.ties()[0].tolist() == [0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, -1, -1, -1, -1]
    assert matrix.share_zero == 28 / 64


@pytest.mark.parametrize("transposed", [False, True])
def test_output_size_is_pytorchs(transposed):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    for size in (5, 8, 28):
        for kernel, stride, padding, dilation in [(3, 2, 1, 1), (5, 1, 2, 1), (3, 3, 0, 2), (1, 2, 0, 1), (2, 1, 1, 2)]:
            layer = kind(1, 1, kernel, stride, padding, dilation=dilation)
            expected = layer(torch.zeros(1, 1, size, size)).shape[-1]
            assert output_size(size, kernel, stride=stride, padding=padding, dilation=dilation, transposed=transposed) == expected


def test_partial_sums_of_a_colour_image():
    conv, image = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False).double(), torch.randn(3, 9, 8, dtype=torch.float64)
    parts = partial_sums(image, conv.weight, stride=2, padding=1)
    assert parts.shape == (4, 3, 5, 4)
    assert torch.allclose(parts.sum(1), conv(image[None])[0])
    green = torch.zeros_like(image)
    green[1] = image[1]
    assert torch.allclose(parts[:, 1], conv(green[None])[0])


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_by_hand(training):
    norm = nn.BatchNorm2d(3, momentum=0.3, eps=1e-3).double().train(training)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    norm.running_var.uniform_(1, 2)
    images = torch.randn(4, 3, 5, 2, dtype=torch.float64)
    output, mean, variance = batch_norm_by_hand(
        images,
        weight_C=norm.weight,
        bias_C=norm.bias,
        running_mean_C=norm.running_mean.clone(),
        running_var_C=norm.running_var.clone(),
        training=training,
        momentum=0.3,
        eps=1e-3,
    )
    assert torch.allclose(output, norm(images))
    assert torch.allclose(mean, norm.running_mean)
    assert torch.allclose(variance, norm.running_var)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: named("top_edges"),
            UnknownNameError,
            "There is no kernel 'top_edges'. Did you mean 'top_edge' or 'bottom_edge' or 'left_edge'? Known are 13, among them 'top_edge', "
            "'bottom_edge', 'left_edge', 'right_edge', 'diagonal_edge', 'antidiagonal_edge', 'sobel_horizontal', 'sobel_vertical', "
            "'laplacian', 'sharpen', 'box_blur', 'gaussian_blur'.",
        ),
        (
            lambda: apply_kernel(torch.zeros(2, 5), kernels.top_edge),
            UsageError,
            "The kernel is 3×3 and the image with its padding 2×5; it must fit.",
        ),
        (
            lambda: apply_kernel(torch.zeros(1, 5, 5), kernels.top_edge),
            UsageError,
            "The image has shape (1, 5, 5), which is 3 axes; 2 are needed: HW (H = rows, W = columns).",
        ),
        (
            lambda: apply_kernel(torch.zeros(5, 5), kernels.top_edge, stride=0),
            UsageError,
            "stride is 0 and padding 0; the stride must be at least 1 and the padding at least 0.",
        ),
        (
            lambda: output_size(4, 3, dilation=2),
            UsageError,
            "The kernel reaches over 5 places and the input with its padding has 4; it must fit.",
        ),
        (
            lambda: conv2d_as_matrix(torch.zeros(3, 1, 3, 3), (5, 5), groups=2),
            UsageError,
            "3 filters cannot be divided into 2 groups; give a number of groups that divides them.",
        ),
        (
            lambda: conv2d_as_matrix(torch.zeros(1, 1, 3, 3), (5, 5)) @ torch.zeros(1, 5, 6),
            UsageError,
            "The image has shape (1, 5, 6); axis W (columns) is 6 but must be 5.",
        ),
        (
            lambda: batch_norm_by_hand(
                torch.zeros(1, 2, 1, 1),
                weight_C=torch.ones(2),
                bias_C=torch.zeros(2),
                running_mean_C=torch.zeros(2),
                running_var_C=torch.ones(2),
                training=True,
            ),
            UsageError,
            "Batch norm in training needs at least 2 values for each channel to know their variance; it received 1.",
        ),
    ],
)
def test_messages(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
