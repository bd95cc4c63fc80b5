"""Named kernels, and what a kernel does to an image step by step.

The edge kernels answer with a positive number where the image gets brighter in their direction: `top_edge` where it is darker above and
brighter below, as in fastbook chapter 13. Sobel's and the Laplacian are the usual ones of image processing; blurs add up to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Tensor

from convscope.errors import UnknownNameError, UsageError
from convscope.shapes import check_shape


def _kernel(*rows: tuple[int, int, int], scale: float = 1.0) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32) * scale


top_edge = _kernel((-1, -1, -1), (0, 0, 0), (1, 1, 1))
bottom_edge = _kernel((1, 1, 1), (0, 0, 0), (-1, -1, -1))
left_edge = _kernel((-1, 0, 1), (-1, 0, 1), (-1, 0, 1))
right_edge = _kernel((1, 0, -1), (1, 0, -1), (1, 0, -1))
diagonal_edge = _kernel((0, -1, 1), (-1, 1, 0), (1, 0, 0))
antidiagonal_edge = _kernel((1, -1, 0), (0, 1, -1), (0, 0, 1))
sobel_horizontal = _kernel((-1, -2, -1), (0, 0, 0), (1, 2, 1))
sobel_vertical = _kernel((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))
laplacian = _kernel((0, 1, 0), (1, -4, 1), (0, 1, 0))
sharpen = _kernel((0, -1, 0), (-1, 5, -1), (0, -1, 0))
box_blur = _kernel((1, 1, 1), (1, 1, 1), (1, 1, 1), scale=1 / 9)
gaussian_blur = _kernel((1, 2, 1), (2, 4, 2), (1, 2, 1), scale=1 / 16)
identity = _kernel((0, 0, 0), (0, 1, 0), (0, 0, 0))

KERNELS: dict[str, Tensor] = {
    "top_edge": top_edge,
    "bottom_edge": bottom_edge,
    "left_edge": left_edge,
    "right_edge": right_edge,
    "diagonal_edge": diagonal_edge,
    "antidiagonal_edge": antidiagonal_edge,
    "sobel_horizontal": sobel_horizontal,
    "sobel_vertical": sobel_vertical,
    "laplacian": laplacian,
    "sharpen": sharpen,
    "box_blur": box_blur,
    "gaussian_blur": gaussian_blur,
    "identity": identity,
}


def named(name: str) -> Float[Tensor, "K K"]:
    """A kernel by its name.

    Raises:
        UnknownNameError: there is no such kernel.

    Example:
        >>> named("top_edge").tolist()
        [[-1.0, -1.0, -1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    if name not in KERNELS:
        raise UnknownNameError("kernel", name, KERNELS)
    return KERNELS[name].clone()


@dataclass(frozen=True, slots=True)
class KernelStep:
    """One place of a kernel on an image.

    Attributes:
        row, column: of the output.
        top, left: row and column of the image under the kernel's first number.
        window: the pixels under the kernel; products: each times its number; total: their sum, the output there.
    """

    row: int
    column: int
    top: int
    left: int
    window: tuple[tuple[float, ...], ...]
    products: tuple[tuple[float, ...], ...]
    total: float


def apply_kernel(
    image_HW: Num[Tensor, "H W"], kernel_KK: Float[Tensor, "K1 K2"], *, stride: int = 1, padding: int = 0
) -> tuple[Float[Tensor, "H2 W2"], tuple[KernelStep, ...]]:
    """Slide a kernel over a grey image, by plain loops, and keep every step.

    Args:
        image_HW: grey pixels, any numbers.
        kernel_KK: the kernel's numbers; it is not turned round, as in every deep-learning library.
        stride: pixels from one place to the next.
        padding: rows and columns of zeros around the image.

    Returns:
        The output, and the steps row by row.

    Raises:
        UsageError: the image or kernel is not a matrix, the stride or padding cannot be meant, or the kernel is larger than the padded image.

    Example:
        >>> output, steps = apply_kernel(torch.eye(4), kernels.top_edge)
        >>> steps[0].total == output[0, 0]
        tensor(True)
    """
    check_shape(image_HW, "HW", "image")
    if kernel_KK.ndim != 2:
        raise UsageError(f"The kernel has shape {tuple(kernel_KK.shape)}; a matrix of rows and columns is needed.")
    if stride < 1 or padding < 0:
        raise UsageError(f"stride is {stride} and padding {padding}; the stride must be at least 1 and the padding at least 0.")
    rows, columns = kernel_KK.shape
    padded = torch.nn.functional.pad(image_HW.double(), (padding,) * 4)
    if rows > padded.shape[0] or columns > padded.shape[1]:
        raise UsageError(f"The kernel is {rows}×{columns} and the image with its padding {padded.shape[0]}×{padded.shape[1]}; it must fit.")
    steps = []
    for row, top in enumerate(range(0, padded.shape[0] - rows + 1, stride)):
        for column, left in enumerate(range(0, padded.shape[1] - columns + 1, stride)):
            window = padded[top : top + rows, left : left + columns]
            products = window * kernel_KK.double()
            step = KernelStep(row, column, top - padding, left - padding, _rows(window), _rows(products), float(products.sum()))
            steps.append(step)
    height, width = steps[-1].row + 1, steps[-1].column + 1
    return torch.tensor([step.total for step in steps], dtype=torch.float32).reshape(height, width), tuple(steps)


def _rows(matrix: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in matrix.tolist())
