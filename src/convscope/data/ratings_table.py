"""A CSV of ratings, read in blocks into arrays: columns user, item, rating and perhaps timestamp, in, a `RatingTable` out.

Time and memory grow linearly with the rows (benchmarks/ratings_rows.py): names become numbers as they are read, whole blocks at once where all
rows are good (ratings_block.py), row by row where one is not. Rows that cannot be used, and second ratings of an item by the same user, are named
with their line. Nothing is split here.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from convscope.data.ratings_block import plain_block
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
BLOCK = 2**21  # bytes read at once: some 100,000 rows, whose arrays take some 50 MB for a moment
ROWS_AT_ONCE = 100_000  # of a file with quotes, read before they become arrays: some 40 MB of text cells
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
    try:
        columns = _read(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8 ({error.reason} at byte {_first_bad_byte(path)}). Save it as CSV UTF-8.") from None
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


def _read(path: Path) -> _Columns:
    with path.open(encoding="utf-8-sig", newline="") as text:
        first = text.readline()
    delimiter, places = _header(path, first)
    columns = _Columns(delimiter, places)
    with path.open("rb") as file:
        file.seek(len(first.encode()) + (len(codecs.BOM_UTF8) if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0))
        rest = b""
        while block := file.read(BLOCK):
            lines, newline, rest = (rest + block).rpartition(b"\n")
            if not newline or not _is_plain(lines + newline):
                file.seek(-len(lines + newline + rest), io.SEEK_CUR)
                columns.read_rows(io.TextIOWrapper(file, "utf-8", newline=""))
                return columns
            columns.take_block(lines + newline)
        if rest and _is_plain(rest + b"\n"):
            columns.take_block(rest + b"\n")
        elif rest:
            columns.read_rows(io.StringIO(rest.decode(), newline=""))
    return columns


def _header(path: Path, first: str) -> tuple[str, list[int]]:
    """What separates the columns, and where user, item, rating and perhaps timestamp are."""
    if not first.strip():
        raise DataError(f"{path} is empty. {HEADER}" if not first else f"{path} begins with an empty line. {HEADER}")
    names = _cells(first)
    places = [_column(names, wanted) for wanted in ("user", "item", "rating", "timestamp")]
    if None in places[:3]:
        missing = [wanted for wanted, place in zip(NAMES, places, strict=True) if place is None and wanted != "timestamp"]
        listed = ", ".join(map(repr, names))
        raise DataError(f"{path} has no column {' and no column '.join(missing)}; it has {listed}. {HEADER}")
    return max(DELIMITERS, key=first.count), [place for place in places if place is not None]


def _is_plain(lines: bytes) -> bool:
    """Whether lines can be cut at every newline and delimiter: without quotes, NUL, and line ends of an old Macintosh."""
    returns = lines.count(b"\r")
    return not (b'"' in lines or b"\0" in lines or (returns and not returns == lines.count(b"\r\n") == lines.count(b"\n")))


def _first_bad_byte(path: Path) -> int:
    """Where a file ceases to be UTF-8, in bytes from its start."""
    decoder, position = codecs.getincrementaldecoder("utf-8")(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                return position - pending + error.start
            position += len(block)
    return position - len(decoder.getstate()[0])  # a character that is cut off at the end


class _Names(dict[str, int]):
    """Numbers names in the order in which they come."""

    def __init__(self) -> None:
        self._cells = _Cells(self)

    def __missing__(self, name: str) -> int:
        self[name] = number = len(self)
        return number

    def of(self, names: list[str]) -> npt.NDArray[np.int32]:
        """The number of each name."""
        return np.fromiter(map(self.__getitem__, names), np.int32, len(names))

    def of_cells(self, cells: list[bytes]) -> npt.NDArray[np.int32]:
        """The number of each name in UTF-8, perhaps with blanks around it."""
        return np.fromiter(map(self._cells.__getitem__, cells), np.int32, len(cells))


class _Cells(dict[bytes, int]):
    """The numbers by what stands in the file, so that each spelling is decoded once."""

    def __init__(self, names: _Names) -> None:
        self._names = names

    def __missing__(self, cell: bytes) -> int:
        self[cell] = number = self._names[cell.decode().strip()]
        return number


@dataclass(slots=True)
class _Columns:
    """The columns as they grow, one array a piece of the file."""

    delimiter: str
    places: list[int]
    line: int = 2  # the next to be read
    users: _Names = field(default_factory=_Names)
    items: _Names = field(default_factory=_Names)
    pieces: list[tuple[Any, ...]] = field(default_factory=list)
    bad: list[SkippedRow] = field(default_factory=list)

    def take_block(self, lines: bytes) -> None:
        """Add plain lines: whole columns at once where all are good, else row by row."""
        text = "" if lines.isascii() else lines.decode()  # before names are cut out of it: an error is one of the whole file
        block = plain_block(lines, self.delimiter, self.places)
        if block is None:
            self.read_rows(io.StringIO(text or lines.decode(), newline=""))
            return
        lines_N = np.arange(self.line, self.line + len(block.users))
        self._add(self.users.of_cells(block.users), self.items.of_cells(block.items), lines_N, block.numbers)
        self.line += len(lines_N)

    def read_rows(self, text: TextIO) -> None:
        """Add the rows of a text, which may hold quotes."""
        reader, before = csv.reader(text, delimiter=self.delimiter, strict=True), self.line - 1
        numbered = ((row, before + reader.line_num) for row in reader)
        while piece := list(itertools.islice(numbered, ROWS_AT_ONCE)):
            self._take_rows([row for row, _ in piece], [line for _, line in piece])
        self.line = before + reader.line_num + 1

    def _take_rows(self, rows: list[list[str]], lines: list[int]) -> None:
        columns = self._good(rows)
        if columns is None:
            reasons = [_reason(row, self.places) for row in rows]
            self.bad += [SkippedRow(line, reason) for line, reason in zip(lines, reasons, strict=True) if reason]
            kept = [place for place, (row, reason) in enumerate(zip(rows, reasons, strict=True)) if row and not reason]
            lines = [lines[place] for place in kept]
            columns = self._good([rows[place] for place in kept])
            assert columns is not None
        users, items, numbers = columns
        self._add(self.users.of(users), self.items.of(items), np.array(lines, np.int64), numbers)

    def _good(self, rows: list[list[str]]) -> tuple[list[str], list[str], list[npt.NDArray[np.float64]]] | None:
        """Users, items and numbers of rows, or None when one of them cannot be used or is blank."""
        try:
            users, items, *numbers = ([row[place].strip() for row in rows] for place in self.places)
            values = [np.array(list(map(float, column)), np.float64) for column in numbers]
        except (IndexError, ValueError):
            return None
        return (users, items, values) if all(users) and all(items) and all(np.isfinite(value).all() for value in values) else None

    def _add(
        self,
        users_N: npt.NDArray[np.int32],
        items_N: npt.NDArray[np.int32],
        lines_N: npt.NDArray[np.int64],
        numbers: list[npt.NDArray[np.float64]],
    ) -> None:
        self.pieces.append((users_N, items_N, numbers[0].astype(np.float32), lines_N, *numbers[1:]))

    def table(self) -> RatingTable:
        """All pieces joined, and each pair once; the pieces are gone afterwards."""
        columns = [list(column) for column in zip(*self.pieces, strict=True)] or [[np.empty(0, kind)] for kind in ("i4", "i4", "f4", "i8")]
        self.pieces.clear()
        joined = [
            np.concatenate(columns.pop(0)) for _ in range(len(columns))
        ]  # one after the other: no more than one column is there twice
        users_N, items_N, ratings_N, lines_N, *times = joined
        kept_N, repeated_M2 = _once(users_N, items_N, len(self.items), lines_N, times[0] if times else None)
        if kept_N is not None:
            users_N, items_N, ratings_N, lines_N, *times = (column[kept_N] for column in joined)
        return RatingTable(
            tuple(self.users),
            tuple(self.items),
            users_N,
            items_N,
            ratings_N,
            times[0] if times else None,
            lines_N,
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
    users_N: npt.NDArray[np.int32],
    items_N: npt.NDArray[np.int32],
    items: int,
    lines_N: npt.NDArray[np.int64],
    times_N: npt.NDArray[np.float64] | None,
) -> tuple[npt.NDArray[np.bool_] | None, npt.NDArray[np.int64]]:
    """Which ratings are their pair's newest (or else first), None for all; and the lines of the others, each with the line kept."""
    pairs_N = users_N.astype(np.int64) * items + items_N
    sorted_N = np.sort(pairs_N)
    repeats_K = np.unique(sorted_N[1:][sorted_N[1:] == sorted_N[:-1]])
    if not len(repeats_K):
        return None, np.empty((0, 2), np.int64)
    at_N = np.searchsorted(repeats_K, pairs_N).clip(max=len(repeats_K) - 1)
    again_M = np.flatnonzero(repeats_K[at_N] == pairs_N)
    keys = (pairs_N[again_M],) if times_N is None else (-times_N[again_M], pairs_N[again_M])
    order_M = again_M[np.lexsort(keys)]  # stable: of equal times the first in the file leads
    leads_M = np.ones(len(order_M), bool)
    leads_M[1:] = np.diff(pairs_N[order_M]) != 0
    leader_M = order_M[leads_M][np.cumsum(leads_M) - 1]
    kept_N = np.ones(len(pairs_N), bool)
    kept_N[order_M[~leads_M]] = False
    repeated_M2 = np.stack([lines_N[order_M[~leads_M]], lines_N[leader_M[~leads_M]]], 1)
    return kept_N, repeated_M2[np.argsort(repeated_M2[:, 0])]
