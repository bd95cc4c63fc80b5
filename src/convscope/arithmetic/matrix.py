"""Convolution as one matrix: the sparse matrix whose product with the flattened image is the convolution.

Most of its entries are zero, because a filter looks at a few pixels only, and those that are not are tied: the same few weights, again and
again. Both are marked, which is the whole difference between a convolution and a linear layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from convscope.arithmetic.sizes import output_size
from convscope.arithmetic.windows import PADDING, sliding_windows
from convscope.errors import UsageError
from convscope.shapes import check_shape


@dataclass(frozen=True, slots=True, eq=False)
class ConvolutionMatrix:
    """A convolution as a sparse matrix.

    Attributes:
        matrix: sparse (COO, coalesced), of shape (F * H2 * W2, C * H * W), in the type of the weights.
        tie: for each entry of `matrix.values()`, the flat index of the weight that it is; entries with the same number are tied.
        input_shape: (C, H, W); output_shape: (F, H2, W2).
    """

    matrix: Tensor
    tie: Tensor
    input_shape: tuple[int, int, int]
    output_shape: tuple[int, int, int]

    @property
    def share_zero(self) -> float:
        """Share of the matrix's places that are structurally zero: no weight stands there."""
        rows, columns = self.matrix.shape
        return 1 - len(self.tie) / (rows * columns)

    def ties(self) -> Tensor:
        """The dense matrix of ties: the flat index of the weight at each place, and -1 where there is none."""
        dense = torch.full(tuple(self.matrix.shape), -1, dtype=torch.int64)
        rows, columns = self.matrix.indices()
        dense[rows, columns] = self.tie
        return dense

    def __matmul__(self, image_CHW: Float[Tensor, "C H W"]) -> Float[Tensor, "F H2 W2"]:
        """The convolution of an image, by multiplying."""
        check_shape(image_CHW, "CHW", "image", C=self.input_shape[0], H=self.input_shape[1], W=self.input_shape[2])
        return (self.matrix @ image_CHW.reshape(-1, 1).to(self.matrix.dtype)).reshape(self.output_shape)

    def __str__(self) -> str:
        """How many places hold a weight, and how many weights those are."""
        rows, columns = self.matrix.shape
        weights = len(torch.unique(self.tie))
        return (
            f"{rows}×{columns} matrix: {len(self.tie):,} of {rows * columns:,} places hold one of {weights} weights, "
            f"the other {self.share_zero:.1%} are zero"
        )


def conv2d_as_matrix(
    weight_FCKK: Float[Tensor, "F C K1 K2"],
    size: tuple[int, int],
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> ConvolutionMatrix:
    """The sparse matrix whose product with the flattened image is `conv2d` of the image, without bias.

    Args:
        weight_FCKK: the filters, with the channels of one group.
        size: rows and columns of the image.
        stride: pixels from one place to the next, down and across.
        padding: rows and columns of zeros on each side.
        dilation: pixels from one tap to the next.
        groups: how many groups the channels are divided into.

    Returns:
        The matrix with its ties.

    Raises:
        UsageError: a number cannot be meant, the filters do not divide into the groups, or the kernel is larger than the padded image.

    Example:
        >>> matrix = conv2d_as_matrix(conv.weight, (28, 28), stride=2, padding=1)
        >>> torch.allclose(matrix @ image, conv2d(image, conv.weight, stride=2, padding=1))
        True
    """
    check_shape(weight_FCKK, "FCHW", "weight")
    filters, in_group, *kernel = weight_FCKK.shape
    if groups < 1 or filters % groups:
        raise UsageError(f"{filters} filters cannot be divided into {groups} groups; give a number of groups that divides them.")
    strides, paddings, dilations = ((value, value) if isinstance(value, int) else tuple(value) for value in (stride, padding, dilation))
    tables, places = [], []
    for axis in (0, 1):
        outputs = output_size(size[axis], kernel[axis], stride=strides[axis], padding=paddings[axis], dilation=dilations[axis])
        tables.append(sliding_windows(size[axis], outputs, kernel[axis], strides[axis], paddings[axis], dilations[axis]))
        places.append(outputs)
    shape = (filters, places[0], places[1], in_group, kernel[0], kernel[1])
    f, y, x, c, a, b = np.indices(shape, sparse=True)
    row_seen, column_seen = tables[0][y, a], tables[1][x, b]
    real = np.broadcast_to((row_seen != PADDING) & (column_seen != PADDING), shape)
    channel = f // (filters // groups) * in_group + c
    rows = np.broadcast_to((f * places[0] + y) * places[1] + x, shape)[real]
    columns = np.broadcast_to((channel * size[0] + row_seen) * size[1] + column_seen, shape)[real]
    tie = np.broadcast_to(((f * in_group + c) * kernel[0] + a) * kernel[1] + b, shape)[real]
    order = np.lexsort((columns, rows))
    index, tied = torch.from_numpy(np.stack([rows, columns])[:, order]), torch.from_numpy(tie[order])
    channels = in_group * groups
    full = (filters * places[0] * places[1], channels * size[0] * size[1])
    values = weight_FCKK.detach().reshape(-1)[tied]
    matrix = torch.sparse_coo_tensor(index, values, full, is_coalesced=True, check_invariants=False)
    return ConvolutionMatrix(matrix, tied, (channels, size[0], size[1]), (filters, places[0], places[1]))
