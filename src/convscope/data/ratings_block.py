"""A block of a CSV of ratings as columns, without looking at each row: whole lines in, names as bytes and numbers as arrays out.

It reads plain blocks only: no quotes, as many columns in every line, every cell good. For any other it answers None, and the caller reads that
block row by row, which finds out what is wrong and where.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

WIDEST = 64  # bytes of a cell; longer ones are read row by row
EXACT_DIGITS = 15  # decimal digits that a float64 holds exactly
BLANK = 32  # the space; what lies below are no letters
# First bytes of Unicode's other blanks in UTF-8: U+0085 and U+00A0, U+1680, U+2000 to U+205F, U+3000.
OTHER_BLANKS = np.array([0xC2, 0xE1, 0xE2, 0xE3], np.uint8)

Cells = npt.NDArray[np.uint8]  # a row of bytes for each cell, filled up with zeros


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The columns of a block's rows; names are UTF-8, perhaps with blanks around them."""

    users: list[bytes]
    items: list[bytes]
    numbers: list[npt.NDArray[np.float64]]


def plain_block(lines: bytes, delimiter: str, places: Sequence[int]) -> Block | None:
    """The columns of whole lines of UTF-8, each ended by a newline, or None where they must be read row by row.

    Args:
        lines: of the file, without quotes and NUL.
        delimiter: one ASCII character.
        places: column of the user, of the item and of each number.
    """
    columns = _columns(np.frombuffer(lines, np.uint8), ord(delimiter), places)
    if columns is None or any(map(_has_blank, columns[:2])):
        return None
    numbers = [values for column in columns[2:] if (values := _numbers(column)) is not None]
    if len(numbers) < len(columns) - 2:
        return None
    return Block(_texts(columns[0]), _texts(columns[1]), numbers)


def _columns(bytes_B: Cells, delimiter: int, places: Sequence[int]) -> list[Cells] | None:
    """The cells of each wanted column."""
    ends_N = np.flatnonzero(bytes_B == ord("\n"))
    starts_N = np.concatenate([[0], ends_N[:-1] + 1])
    marks = np.flatnonzero(bytes_B == delimiter)
    count, odd = divmod(len(marks), len(ends_N))
    if odd or count < max(places):
        return None
    marks_NC = marks.reshape(-1, count)
    if (marks_NC[:, 0] < starts_N).any() or (marks_NC[:, -1] > ends_N).any():  # as many in all, but not in every line
        return None
    if (bytes_B[ends_N - 1] == ord("\r")).all():
        ends_N = ends_N - 1
    padded_B = np.concatenate([bytes_B, np.zeros(WIDEST, np.uint8)])
    columns = []
    for place in places:
        first_N = marks_NC[:, place - 1] + 1 if place else starts_N
        sizes_N = (marks_NC[:, place] if place < count else ends_N) - first_N
        width = max(int(sizes_N.max()), 1)
        if width > WIDEST:
            return None
        cells_NW = sliding_window_view(padded_B, width)[first_N]
        cells_NW *= np.arange(width, dtype=np.uint8) < sizes_N.astype(np.uint8)[:, None]
        columns.append(cells_NW)
    return columns


def _texts(cells_NW: Cells) -> list[bytes]:
    texts: list[bytes] = cells_NW.view(f"S{cells_NW.shape[1]}")[:, 0].tolist()
    return texts


def _has_blank(cells_NW: Cells) -> bool:
    """Whether a cell is empty or holds nothing but blanks."""
    first_N = cells_NW[:, 0]
    perhaps = (first_N <= BLANK) | np.isin(first_N, OTHER_BLANKS)
    return any(not text.decode().strip() for text in _texts(cells_NW[perhaps]))


class _Floats(dict[bytes, float]):
    """Numbers by their text: ratings are a few different ones, so that most are looked up."""

    def __missing__(self, text: bytes) -> float:
        self[text] = value = float(text.decode())
        return value


def _numbers(cells_NW: Cells) -> npt.NDArray[np.float64] | None:
    """The cells as numbers; None when one is no finite number."""
    whole_N = _whole_numbers(cells_NW)
    if whole_N is not None:
        return whole_N
    floats = _Floats()
    try:
        values_N = np.fromiter(map(floats.__getitem__, _texts(cells_NW)), np.float64, len(cells_NW))
    except ValueError:
        return None
    return values_N if all(map(math.isfinite, floats.values())) else None


def _whole_numbers(cells_NW: Cells) -> npt.NDArray[np.float64] | None:
    """Cells of digits alone, computed a digit of all at a time; None when one is anything else."""
    there_NW = cells_NW != 0
    digits_NW = cells_NW - np.uint8(ord("0"))  # below "0" it wraps around to a large number
    if cells_NW.shape[1] > EXACT_DIGITS or not there_NW[:, 0].all() or (there_NW & (digits_NW > 9)).any():
        return None
    values_N = np.zeros(len(cells_NW))
    for place in range(cells_NW.shape[1]):
        values_N = np.where(there_NW[:, place], values_N * 10 + digits_NW[:, place], values_N)
    return values_N
