"""Images with their labels as one matplotlib figure. It receives arrays and words, and knows neither torch nor where they come from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

INCHES = 1.6  # of one image on paper
LONGEST_TITLE = 20  # characters over an image; longer ones would run into their neighbours


def image_grid(images_NCHW: npt.NDArray[np.uint8], titles: Sequence[str], *, columns: int | None = None) -> Figure:
    """Draw images in a grid, each under its title.

    Args:
        images_NCHW: uint8 pixels with 1 (grey) or 3 channels.
        titles: one for each image.
        columns: images in a row; None makes the grid about square.

    Returns:
        A figure that belongs to nobody yet: a notebook shows it, `savefig` writes it.

    Example:
        >>> image_grid(numpy.zeros((2, 1, 28, 28), numpy.uint8), ["cat", "dog"]).savefig("batch.png")
    """
    count = len(images_NCHW)
    columns = columns or max(1, math.ceil(math.sqrt(count)))
    rows = max(1, math.ceil(count / columns))
    figure = Figure(figsize=(INCHES * columns, (INCHES + 0.25) * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image_CHW, title in zip(axes.flat, images_NCHW, titles, strict=False):
        if len(image_CHW) == 1:
            axis.imshow(image_CHW[0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        else:
            axis.imshow(image_CHW.transpose(1, 2, 0), interpolation="nearest")
        axis.set_title(title if len(title) <= LONGEST_TITLE else f"{title[: LONGEST_TITLE - 1]}…", fontsize=9, parse_math=False)
    return figure
