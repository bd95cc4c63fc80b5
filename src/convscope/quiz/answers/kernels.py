"""Answers about kernels and places: questions 1 to 6, 10 and 21, each run on small images or digits."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from convscope.arithmetic import apply_kernel, conv2d_as_matrix, output_size, partial_sums
from convscope.arithmetic.kernels import bottom_edge, top_edge
from convscope.quiz.answers.materials import digit
from convscope.quiz.records import Outcome

SIDE = 12  # pixels of the step images
PATCH = torch.tensor([[0.0, 0.0, 1.0], [0.0, 2.0, 3.0], [1.0, 4.0, 5.0]])  # question 3
BIAS = 0.5  # questions 3, 4 and 21
COLOUR_SUMS = (2.0, -1.0, 4.0)  # question 21


def _steps() -> dict[str, Tensor]:
    """Images with one edge each, ink 1 and paper 0."""
    ink_below = torch.zeros(SIDE, SIDE)
    ink_below[SIDE // 2 :] = 1
    images = {"top edge": ink_below, "bottom edge": ink_below.flip(0), "left edge": ink_below.T, "right edge": ink_below.T.flip(1)}
    return {name: image.contiguous() for name, image in images.items()}


STEPS = _steps()


def strongest(image_HW: Float[Tensor, "H W"], kernel_KK: Float[Tensor, "K K"]) -> float:
    """The answer of a kernel that is farthest from zero, with its sign."""
    answers = apply_kernel(image_HW, kernel_KK)[0]
    return float(answers.flatten()[answers.abs().argmax()])


def feature() -> Outcome:
    """Question 1."""
    one, other = digit(0), digit(2)
    maps = [apply_kernel(image, top_edge, padding=1)[0] for image in (one, other)]
    differing = float((maps[0] != maps[1]).float().mean())
    value = {"share of places where the two maps differ": differing, "strongest top edge of the first digit": float(maps[0].max())}
    gave = {"numbers of the kernel that differ from digit to digit": 0, "numbers of the map that differ": int((maps[0] != maps[1]).sum())}
    pictures = {"the digit": one.tolist(), "its top edges": maps[0].tolist()}
    return Outcome(value, differing > 0, [(gave, differing > 0)], pictures=pictures)


def detects_top_edges() -> Outcome:
    """Question 2."""
    right, wrong = ({name: strongest(image, kernel) for name, image in STEPS.items()} for kernel in (top_edge, bottom_edge))
    image = digit(0)
    places = {}
    for name, kernel in (("right", top_edge), ("wrong", bottom_edge)):
        answers = apply_kernel(image, kernel)[0]
        row, column = divmod(int(answers.argmax()), answers.shape[1])
        window = image[row : row + 3, column : column + 3]
        places[name] = {"row": row + 1, "column": column + 1, "ink above": float(window[0].sum()), "ink below": float(window[2].sum())}
    value = {"answers to steps": right, "strongest place of a digit": places["right"]}
    gave = {"answers to steps": wrong, "strongest place of a digit": places["wrong"]}
    holds = right["top edge"] > 0 > right["bottom edge"] and places["right"]["ink below"] > places["right"]["ink above"]
    pictures = {"the digit": image.tolist(), "its top edges": apply_kernel(image, top_edge)[0].tolist()}
    return Outcome(value, holds, [(gave, wrong["top edge"] < 0 < wrong["bottom edge"])], pictures=pictures)


def one_pixel() -> Outcome:
    """Question 3."""
    products = [[float(PATCH[row, column] * top_edge[row, column]) + 0.0 for column in range(3)] for row in range(3)]
    by_hand = sum(itertools.chain.from_iterable(products)) + BIAS
    result = F.conv2d(PATCH[None, None], top_edge[None, None], torch.tensor([BIAS]))
    value = {"products": products, "sum and bias": by_hand, "conv2d": float(result)}
    return Outcome(value, by_hand == float(result) and result.numel() == 1, [(products, len(products) * 3 != result.numel())], by_hand)


def on_zeros() -> Outcome:
    """Question 4."""
    zeros = torch.zeros(1, 1, 3, 3)
    bare = F.conv2d(zeros, top_edge[None, None])
    biased = F.conv2d(zeros, top_edge[None, None], torch.tensor([BIAS]))
    products = zeros[0, 0] * top_edge
    many = {"numbers before they are added": products.numel(), "numbers that come out": bare.numel()}
    matrix = {"shape before adding": list(products.shape), "numbers that come out": bare.numel()}
    fails = products.numel() != bare.numel()
    value = {"without bias": float(bare), "with a bias of 0.5": float(biased)}
    holds = bare.numel() == 1 and float(bare) == 0 and float(biased) == BIAS
    return Outcome(value, holds, [(many, fails), (matrix, fails)], float(bare))


def padding() -> Outcome:
    """Question 5."""
    keeping: dict[int, set[int]] = {}
    for kernel in (1, 3, 5, 7, 9):
        kept = [{pad for pad in range(6) if _real_size(size, kernel, 1, pad) == size} for size in range(9, 33)]
        keeping[kernel] = set.union(*kept) if all(one == kept[0] for one in kept) else set()
    holds = all(pads == {kernel // 2} for kernel, pads in keeping.items())
    value = {"padding that keeps the size, by kernel": {str(kernel): sorted(pads) for kernel, pads in keeping.items()}}
    return Outcome(value, holds, answer=min(keeping[5], default=-1))


def stride() -> Outcome:
    """Question 6."""
    settings = [
        (size, kernel, step, pad)
        for size in range(1, 33)
        for kernel in range(1, 8)
        for step in range(1, 5)
        for pad in range(4)
        if kernel <= size + 2 * pad
    ]
    agree = sum(_real_size(*setting) == (setting[0] + 2 * setting[3] - setting[1]) // setting[2] + 1 for setting in settings)
    answer = output_size(28, 3, stride=2, padding=1)
    value = {"settings tried": len(settings), "settings where the formula agrees": agree, "rows left of 28": answer}
    return Outcome(value, agree == len(settings) and answer == _real_size(28, 3, 2, 1), answer=answer)


def _real_size(size: int, kernel: int, step: int, pad: int) -> int:
    """Places that conv2d really gives along one axis."""
    return F.conv2d(torch.zeros(1, 1, size, 1), torch.zeros(1, 1, kernel, 1), stride=(step, 1), padding=(pad, 0)).shape[2]


def as_matrix() -> Outcome:
    """Question 10."""
    generator = torch.Generator().manual_seed(0)
    weight, image = torch.randn(1, 1, 3, 3, generator=generator), torch.randn(1, 4, 4, generator=generator)
    made = conv2d_as_matrix(weight, (4, 4))
    dense, ties = made.matrix.to_dense(), made.ties()
    difference = float((made @ image - F.conv2d(image[None], weight)[0]).abs().max())
    free_places, own_weights = dense.numel(), len(torch.unique(ties[ties >= 0]))
    value = {
        "rows × columns": list(dense.shape),
        "places fixed at 0": int((ties < 0).sum()),
        "places that hold a weight": int((ties >= 0).sum()),
        "different weights": own_weights,
        "largest difference from conv2d": difference,
    }
    free = torch.randn(dense.shape, generator=generator)  # any matrix, and the nearest one that keeps zeros and ties
    nearest = torch.zeros_like(free)
    for weight_index in range(own_weights):
        nearest[ties == weight_index] = free[ties == weight_index].mean()
    missed = float(((free - nearest) ** 2).sum() / (free**2).sum())
    span = torch.stack([(ties == weight_index).float().flatten() for weight_index in range(own_weights)])
    dimensions = int(torch.linalg.matrix_rank(span))
    unconstrained = {"share of a random matrix that no 3×3 kernel can give": missed}
    same = {"dimensions of all such matrices": free_places, "of those that are convolutions": dimensions}
    return Outcome(
        value, difference < 1e-5, [(unconstrained, missed > 0), (same, dimensions < free_places)], pictures={"the matrix": dense.tolist()}
    )


def colour() -> Outcome:
    """Question 21."""
    image = torch.ones(3, 3, 3)
    weight = torch.zeros(1, 3, 3, 3)
    weight[0, :, 1, 1] = torch.tensor(COLOUR_SUMS)
    parts = partial_sums(image, weight)[0].flatten().tolist()
    whole = F.conv2d(image[None], weight, torch.tensor([BIAS]))
    separate = F.conv2d(image[None], weight.transpose(0, 1), groups=3)
    value = {"red, green, blue": parts, "their sum and the bias": sum(parts) + BIAS, "conv2d": float(whole)}
    return Outcome(
        value, float(whole) == sum(parts) + BIAS, [(separate.flatten().tolist(), separate.numel() != whole.numel())], float(whole)
    )
