"""Convolution as arithmetic: what each operator does to one unit, and the sizes, costs and receptive fields that follow."""

from convscope.arithmetic import kernels
from convscope.arithmetic.execution import execute
from convscope.arithmetic.kernels import apply_kernel
from convscope.arithmetic.matrix import ConvolutionMatrix, conv2d_as_matrix
from convscope.arithmetic.receptive import receptive_field
from convscope.arithmetic.sizes import batch_norm_by_hand, output_size, partial_sums
from convscope.arithmetic.summary import summary

__all__ = [
    "ConvolutionMatrix",
    "apply_kernel",
    "batch_norm_by_hand",
    "conv2d_as_matrix",
    "execute",
    "kernels",
    "output_size",
    "partial_sums",
    "receptive_field",
    "summary",
]
