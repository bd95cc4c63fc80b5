"""The legend of axis letters, and the check that an array has the axes its name promises.

A name such as `images_NCHW` carries one letter per axis:

    N  images in a batch              K  kernel height and width, where they are the same
    C  channels                       F  filters: the output channels of a convolution
    H  rows, from the top down        L  classes (labels)
    W  columns, from left to right    D  features of a vector
    B  histogram bins                 S  steps
    U  users                          I  items

Lower-case words in a name are not axes. This module imports nothing of convscope and works on anything with a `.shape`.
"""

from __future__ import annotations

from typing import Protocol

from convscope.errors import UsageError

AXES = {
    "N": "images in a batch",
    "C": "channels",
    "H": "rows",
    "W": "columns",
    "K": "kernel rows or columns",
    "F": "filters",
    "L": "classes",
    "D": "features",
    "B": "histogram bins",
    "S": "steps",
    "U": "users",
    "I": "items",
}


class HasShape(Protocol):
    """Anything with a shape: a tensor or an array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each axis."""


def check_shape(array: HasShape, axes: str, what: str, **sizes: int) -> dict[str, int]:
    """Check that an array has the axes that `axes` names and return their sizes.

    Args:
        array: anything with a `.shape`.
        axes: one letter of the legend per axis, for example "NCHW".
        what: what the array is, for the message: "image".
        **sizes: sizes that some letters must have, for example `C=3`.

    Returns:
        The size of each letter.

    Raises:
        UsageError: the rank differs, a letter has two sizes, or a size is not the one asked for.

    Example:
        >>> check_shape(numpy.zeros((3, 28, 28)), "CHW", "image", C=3)
        {'C': 3, 'H': 28, 'W': 28}
    """
    shape = tuple(array.shape)
    legend = ", ".join(f"{letter} = {AXES[letter]}" for letter in dict.fromkeys(axes))
    if len(shape) != len(axes):
        raise UsageError(f"The {what} has shape {shape}, which is {len(shape)} axes; {len(axes)} are needed: {axes} ({legend}).")
    found: dict[str, int] = dict(sizes)
    for letter, size in zip(axes, shape, strict=True):
        if found.setdefault(letter, size) != size:
            raise UsageError(f"The {what} has shape {shape}; axis {letter} ({AXES[letter]}) is {size} but must be {found[letter]}.")
    return found
