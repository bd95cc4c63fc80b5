"""A CSV of ratings, read in pieces into arrays: columns user, item, rating and perhaps timestamp, in, a `RatingTable` out.

Time and memory grow linearly with the rows, by some 100 bytes a row at the peak: names become numbers as they are read.
Rows that cannot be used, and second ratings of an item by the same user, are named with their line. Nothing is split here.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from convscope.errors import DataError

DELIMITERS = ",;\t"
HEADER = "The first line must name the columns user, item and rating, and may name timestamp; others are ignored."
# What other programs call the columns (MovieLens: userId, movieId), in small letters.
NAMES = {
    "user": ("user", "userid", "user_id"),
    "item": ("item", "itemid", "item_id", "movie", "movieid", "movie_id"),
    "rating": ("rating",),
    "timestamp": ("timestamp",),
}
ROWS_AT_ONCE = 100_000  # read before they become arrays: some 40 MB of text cells
LONGEST_SHOWN = 40  # characters of a cell in a message


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A row that was left out: its line, counted from 1 with the header, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class RatingTable:
    """Ratings as columns; no pair of user and item comes twice.

    Attributes:
        users, items: names, in the order in which they first came; the numbers below are indices into them.
        users_N, items_N: int32 indices of each rating.
        ratings_N: float32.
        times_N: float64 timestamps, or None when the file has none.
        lines_N: line of each rating in the file, counted from 1.
        bad: rows that could not be read, in the order of the file.
        repeated_M2: line of each second rating of a pair, and the line that was kept instead.
    """

    users: tuple[str, ...]
    items: tuple[str, ...]
    users_N: npt.NDArray[np.int32]
    items_N: npt.NDArray[np.int32]
    ratings_N: npt.NDArray[np.float32]
    times_N: npt.NDArray[np.float64] | None
    lines_N: npt.NDArray[np.int64]
    bad: tuple[SkippedRow, ...]
    repeated_M2: npt.NDArray[np.int64]

    @property
    def skipped_count(self) -> int:
        """Rows that were left out."""
        return len(self.bad) + len(self.repeated_M2)

    def skipped(self) -> Iterator[SkippedRow]:
        """The rows that were left out, those that could not be read first."""
        yield from self.bad
        for line, kept in self.repeated_M2.tolist():
            yield SkippedRow(line, f"rated again: line {kept} is kept")


def holds_ratings(path: Path) -> bool:
    """Whether a text file's first line names the columns of ratings; False for what cannot be read as text."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            names = _cells(file.readline())
    except (OSError, UnicodeDecodeError):
        return False
    return all(_column(names, wanted) is not None for wanted in ("user", "item", "rating"))


def read_ratings(path: Path) -> RatingTable:
    """Read a CSV of ratings.

    Args:
        path: text in UTF-8 with a header, its columns separated by commas, semicolons or tabs.

    Returns:
        Every rating that can be used. Of several ratings of an item by the same user the newest is kept, or the first where no column gives the time.

    Raises:
        DataError: it cannot be read, has no such columns, or holds no rating that can be used.
    """
    columns = _Columns()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            _read(path, file, columns)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8 ({error.reason} at byte {error.start}). Save it as CSV UTF-8.") from None
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV: {error}. {HEADER}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}.") from None
    table = columns.table()
    if not len(table.ratings_N):
        first = f" The first: line {table.bad[0].line}: {table.bad[0].reason}." if table.bad else ""
        raise DataError(f"{path} holds no rating that can be used; {len(table.bad):,} rows were looked at.{first} {HEADER}")
    return table


def _cells(line: str) -> list[str]:
    delimiter = max(DELIMITERS, key=line.count)
    return [cell.strip().lower() for cell in next(csv.reader([line], delimiter=delimiter), [])]


def _column(names: Sequence[str], wanted: str) -> int | None:
    return next((names.index(name) for name in NAMES[wanted] if name in names), None)


def _read(path: Path, file: TextIO, columns: _Columns) -> None:
    first = file.readline()
    if not first.strip():
        raise DataError(f"{path} is empty. {HEADER}" if not first else f"{path} begins with an empty line. {HEADER}")
    names = _cells(first)
    places = [_column(names, wanted) for wanted in ("user", "item", "rating", "timestamp")]
    if None in places[:3]:
        missing = [wanted for wanted, place in zip(NAMES, places, strict=True) if place is None and wanted != "timestamp"]
        listed = ", ".join(map(repr, names))
        raise DataError(f"{path} has no column {' and no column '.join(missing)}; it has {listed}. {HEADER}")
    chosen = [place for place in places if place is not None]
    reader = csv.reader(file, delimiter=max(DELIMITERS, key=first.count), strict=True)
    numbered = ((row, reader.line_num + 1) for row in reader)
    while piece := list(itertools.islice(numbered, ROWS_AT_ONCE)):
        columns.take([row for row, _ in piece], [line for _, line in piece], chosen)


class _Numbers(dict[str, int]):
    """Numbers names in the order in which they come."""

    def __missing__(self, name: str) -> int:
        self[name] = number = len(self)
        return number


@dataclass(slots=True)
class _Columns:
    """The columns as they grow, one array a piece of the file."""

    users: _Numbers = field(default_factory=_Numbers)
    items: _Numbers = field(default_factory=_Numbers)
    pieces: list[tuple[Any, ...]] = field(default_factory=list)
    bad: list[SkippedRow] = field(default_factory=list)

    def take(self, rows: list[list[str]], lines: list[int], places: list[int]) -> None:
        """Add rows: whole columns at once where all are good, else only the good ones."""
        try:
            parts = [[row[place] for row in rows] for place in places]
            numbers = [np.array(part, np.float64) for part in parts[2:]]
            good = all(map(str.strip, parts[0])) and all(map(str.strip, parts[1])) and all(np.isfinite(n).all() for n in numbers)
        except (IndexError, ValueError):
            good = False
        if not good:
            reasons = [_reason(row, places) for row in rows]
            self.bad += [SkippedRow(line, reason) for line, reason in zip(lines, reasons, strict=True) if reason]
            kept = [place for place, (row, reason) in enumerate(zip(rows, reasons, strict=True)) if row and not reason]
            lines = [lines[place] for place in kept]
            parts = [[rows[row][place] for row in kept] for place in places]
            numbers = [np.array(part, np.float64) for part in parts[2:]]
        users_N = np.array([self.users[name.strip()] for name in parts[0]], np.int32)
        items_N = np.array([self.items[name.strip()] for name in parts[1]], np.int32)
        times = [part.astype(np.float64) for part in numbers[1:]]
        self.pieces.append((users_N, items_N, numbers[0].astype(np.float32), np.array(lines, np.int64), *times))

    def table(self) -> RatingTable:
        """All pieces joined, and each pair once."""
        if not self.pieces:
            self.pieces.append((np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.int64)))
        users_N, items_N, ratings_N, lines_N, *times = (np.concatenate(part) for part in zip(*self.pieces, strict=True))
        self.pieces.clear()
        times_N = times[0] if times else None
        kept_N, repeated_M2 = _once(users_N.astype(np.int64) * max(len(self.items), 1) + items_N, lines_N, times_N)
        return RatingTable(
            tuple(self.users),
            tuple(self.items),
            users_N[kept_N],
            items_N[kept_N],
            ratings_N[kept_N],
            None if times_N is None else times_N[kept_N],
            lines_N[kept_N],
            tuple(self.bad),
            repeated_M2,
        )


def _reason(row: Sequence[str], places: Sequence[int]) -> str:
    """Why a row cannot be used, or "" when it can or is blank."""
    if not row:
        return ""
    if len(row) <= max(places):
        return f"{len(row)} columns, where the header has {max(places) + 1} or more"
    for name, place in zip(("user", "item"), places, strict=False):
        if not row[place].strip():
            return f"no {name}"
    for name, place in zip(("rating", "timestamp"), places[2:], strict=False):
        cell = row[place].strip()
        if not cell:
            return f"no {name}"
        if not _finite(cell):
            shown = cell if len(cell) <= LONGEST_SHOWN else cell[: LONGEST_SHOWN - 1] + "…"
            return f"the {name} {shown!r} is no number"
    return ""


def _finite(cell: str, convert: Callable[[str], float] = float) -> bool:
    try:
        return math.isfinite(convert(cell))
    except ValueError:
        return False


def _once(
    pairs_N: npt.NDArray[np.int64], lines_N: npt.NDArray[np.int64], times_N: npt.NDArray[np.float64] | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The places of each pair's newest (or else first) rating in the order of the file; and the other lines, each with the line kept."""
    order_N = np.argsort(pairs_N, kind="stable") if times_N is None else np.lexsort((-times_N, pairs_N))
    first_N = np.ones(len(pairs_N), bool)
    first_N[1:] = np.diff(pairs_N[order_N]) != 0
    if first_N.all():
        return np.arange(len(pairs_N)), np.empty((0, 2), np.int64)
    kept_by_place_N = order_N[first_N][np.cumsum(first_N) - 1]
    repeated = np.stack([lines_N[order_N[~first_N]], lines_N[kept_by_place_N[~first_N]]], 1)
    return np.sort(order_N[first_N]), repeated[np.argsort(repeated[:, 0])]
