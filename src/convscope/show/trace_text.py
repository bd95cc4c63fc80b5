"""A trace for the terminal: the sum as a table, and the image with the part of it that the activation can see.

Receives a `Trace` and the image's pixels as an array; returns text. It colours nothing, so that it reads the same in a log file.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from convscope.records import Box, Trace

RAMP = " .:-=+*#%@"  # from dark to bright, for terminals with a dark background
WIDEST = 56  # pixels side by side; each is two characters, as characters are about twice as high as wide


def format_trace(trace: Trace, image_CHW: Any = None) -> str:
    """The trace as text, with a picture of its receptive field.

    Args:
        trace: what `convscope.tracing` returned.
        image_CHW: the image, any array of channels, rows and columns; None leaves the picture out.

    Returns:
        Lines of text.

    Example:
        >>> print(format_trace(trace(model, image, "2.0", (0, 2, 2)), image))
    """
    return str(trace) if image_CHW is None else f"{trace}\n\n{picture(np.asarray(image_CHW), trace.receptive_field)}"


def picture(image_CHW: npt.NDArray[Any], box: Box) -> str:
    """An image in characters, framed around the pixels of a box.

    Args:
        image_CHW: channels, rows and columns; the channels' mean is drawn, from the darkest to the brightest pixel.
        box: the pixels to frame, both ends included.

    Returns:
        One line for each row of pixels (of blocks of pixels, when the image is wide).
    """
    grey_HW = image_CHW.astype(np.float64).mean(axis=0)
    block = math.ceil(grey_HW.shape[1] / WIDEST)
    rows, columns = (math.ceil(size / block) for size in grey_HW.shape)
    small = np.array(
        [[grey_HW[y * block : (y + 1) * block, x * block : (x + 1) * block].mean() for x in range(columns)] for y in range(rows)]
    )
    low, high = float(small.min()), float(small.max())
    level = ((small - low) / (high - low or 1.0) * (len(RAMP) - 1)).round().astype(int)
    characters = [[RAMP[value] * 2 for value in row] for row in level.tolist()]
    if not box.height:
        return "\n".join("".join(row) for row in characters)
    top, bottom, left, right = (edge // block for edge in (box.top, box.bottom, box.left, box.right))
    rule = "  " * left + "+" + "--" * (right - left + 1) + "+"
    lines = []
    for number, row in enumerate(characters):
        side = "|" if top <= number <= bottom else " "
        lines += [rule] if number == top else []
        lines.append("".join(row[:left]) + side + "".join(row[left : right + 1]) + side + "".join(row[right + 1 :]))
        lines += [rule] if number == bottom else []
    return "\n".join(line.rstrip() for line in lines)
