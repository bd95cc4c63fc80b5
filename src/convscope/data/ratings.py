"""`load_ratings`: from a CSV of user, item and rating to loaders of batches; the counterpart of `load_data` for collaborative filtering.

Users and items are numbered from 1 by their training ratings. Number 0 stands for every user or item without one: networks give it no factors
and no bias, so that it is judged by the other side and the mean alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float32, Int32
from torch import Tensor

from convscope import seeds
from convscope.data.epochs import Batch, EpochLoader, Share
from convscope.data.ratings_table import RatingTable, SkippedRow, read_ratings
from convscope.data.titles import read_titles
from convscope.errors import DataError, UsageError

MARGIN = 0.1  # of the ratings' span, added at both ends: a sigmoid reaches its ends nowhere, so the extreme ratings must lie inside
BATCH_SIZE = 512
LEAST_BATCH_SIZE = 16
STEPS_AN_EPOCH = 100  # at least, where the data is small
VALID_BATCH_SIZE = 8192  # at least: validation needs no gradients, and a pair is two numbers
UNKNOWN = 0  # the number of every user or item without a training rating

Range = tuple[float, float]


class RatingLoader(EpochLoader):
    """Batches of the ratings of one split, taken from tensors in memory.

    Args:
        pairs_N2: number of the user and of the item of each rating.
        ratings_N: the ratings.
        batch_size: ratings of a batch, over all processes.
        shuffle: a new order each epoch, and the last incomplete batch dropped, unless it is the only one.
        seed: decides the order.
    """

    def __init__(
        self, pairs_N2: Int32[Tensor, "N 2"], ratings_N: Float32[Tensor, " N"], *, batch_size: int, shuffle: bool = False, seed: int = 0
    ) -> None:
        super().__init__(len(ratings_N), batch_size=batch_size, shuffle=shuffle, seed=seed)
        self.pairs_N2, self.ratings_N = pairs_N2, ratings_N

    def to(self, device: torch.device | str) -> RatingLoader:
        """The same batches on another device."""
        return RatingLoader(
            self.pairs_N2.to(device), self.ratings_N.to(device), batch_size=self.batch_size, shuffle=self.shuffle, seed=self.seed
        )

    def gatherer(self, epoch: int) -> Callable[[Share], Batch]:
        """Rows in the epoch's order, which is applied once: a batch is then a view."""
        pairs_N2, ratings_N = self.pairs_N2, self.ratings_N
        if self.shuffle:
            order_N = self.order(epoch).to(pairs_N2.device)
            pairs_N2, ratings_N = pairs_N2[order_N], ratings_N[order_N]
        return lambda share: (pairs_N2[share.rows], ratings_N[share.rows])


@dataclass(frozen=True, slots=True)
class RatingsFound:
    """What was found in a CSV of ratings.

    Attributes:
        source: the file.
        users, items: how many have a training rating.
        train, valid: ratings.
        lowest, highest, mean: of the training ratings.
        split: "random" or "time".
        skipped_count: rows left out; `skipped` has the first of them.
        notes: sentences worth telling.
    """

    source: str
    users: int
    items: int
    train: int
    valid: int
    lowest: float
    highest: float
    mean: float
    split: str
    skipped_count: int = 0
    skipped: tuple[SkippedRow, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class RatingLoaders:
    """Batches of training and validation ratings, and what is known of them.

    Attributes:
        train, valid: loaders of batches; `test` is None.
        users, items: names by number; number 0, the empty name, stands for all that have no training rating.
        name: what a run on this data is called.
        summary: counts, skipped rows and notes.
        y_range: what predictions lie between, or None for no limits.
        table: all ratings that were read, and the rows that were not.
        valid_rows_N: for each validation rating its row in `table`.
        titles: of items, for people to read; items without one go by their name.
        classes, class_weights: empty, because a rating is no class.
    """

    train: RatingLoader
    valid: RatingLoader
    users: tuple[str, ...]
    items: tuple[str, ...]
    name: str
    summary: RatingsFound
    y_range: Range | None
    table: RatingTable
    valid_rows_N: npt.NDArray[np.int64]
    titles: Mapping[str, str] = field(default_factory=dict)
    test: None = None
    classes: tuple[str, ...] = ()
    class_weights: tuple[float, ...] = ()
    kind: Literal["ratings"] = "ratings"

    @property
    def model_arguments(self) -> dict[str, Any]:
        """What `dot_product` and `rating_net` need to know of the data."""
        return {"users": len(self.users), "items": len(self.items), "y_range": self.y_range, "mean": self.summary.mean}

    def to(self, device: torch.device | str) -> RatingLoaders:
        """The same data with batches on another device."""
        return replace(self, train=self.train.to(device), valid=self.valid.to(device))

    def __repr__(self) -> str:
        found = self.summary
        counts = f"{found.train:,} training + {found.valid:,} validation ratings of {found.items:,} items by {found.users:,} users"
        return f"RatingLoaders({self.name}: {counts}, {found.lowest:g} to {found.highest:g}, batches of {self.train.batch_size})"


def load_ratings(
    source: str | Path,
    batch_size: int | None = None,
    *,
    split: Literal["random", "time"] = "random",
    valid_pct: float = 0.2,
    y_range: Range | Literal["auto"] | None = "auto",
    titles: str | Path | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> RatingLoaders:
    """Load ratings for collaborative filtering.

    Args:
        source: a CSV with the columns user, item, rating and perhaps timestamp.
        batch_size: ratings of a batch; None takes 512, or halves it until an epoch has at least 100 batches (but takes no fewer than 16).
        split: "random" sets a seeded share of the ratings aside for validation, "time" the latest ones.
        valid_pct: that share.
        y_range: lowest and highest prediction; "auto" takes the training ratings' ends and a tenth of their span more; None sets no limits.
        titles: a CSV with the columns item and title, for people to read.
        seed: decides the split and the order of the ratings.
        device: where batches are wanted.

    Returns:
        Loaders of batches: `.train`, `.valid`, and what is known of the data.

    Raises:
        DataError: the file cannot be read, has no such columns, or too few ratings; or a rating lies outside `y_range`.
        UsageError: an argument cannot be meant.

    Example:
        >>> data = load_ratings("ratings.csv")
        >>> learner = Learner(data, dot_product(**data.model_arguments, factors=50))
    """
    _check(batch_size, split, valid_pct, y_range)
    path = Path(source).expanduser().absolute()
    if not path.is_file():
        raise DataError(f"There is no file {str(source)!r}. Give a CSV with the columns user, item and rating.")
    table = read_ratings(path)
    for what, names in (("user", table.users), ("item", table.items)):
        if len(names) < 2:
            raise DataError(
                f"{path} has ratings of one {what}, {names[0]!r}, and there is nothing to compare it with. Add ratings of another {what}."
            )
    if isinstance(y_range, tuple):
        _check_inside(path, table, y_range)
    order_N = _order(path, table, split, seed)
    held = max(1, round(valid_pct * len(order_N)))
    if held >= len(order_N):
        raise DataError(f"{path} has {len(order_N)} rating, too few to set some aside for validation. Add ratings.")
    data = _loaders(path, table, np.sort(order_N[:-held]), np.sort(order_N[-held:]), batch_size, split, y_range, seed, device)
    return replace(data, titles=_titles(read_titles(Path(titles)), data.items)) if titles else data


def _titles(titles: Mapping[str, str], items: tuple[str, ...]) -> dict[str, str]:
    """The titles of items that have a training rating."""
    return {item: titles[item] for item in items if item in titles}


def _check(batch_size: int | None, split: str, valid_pct: float, y_range: Range | Literal["auto"] | None) -> None:
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch_size={batch_size} is no number of ratings. Give 1 or more.")
    if split not in ("random", "time"):
        raise UsageError(f"split={split!r} is not known. Use 'random' or 'time'.")
    if not 0 < valid_pct < 1:
        raise UsageError(f"valid_pct={valid_pct} is no share. Give a number between 0 and 1, such as 0.2.")
    if y_range not in ("auto", None) and not (isinstance(y_range, tuple) and len(y_range) == 2 and y_range[0] < y_range[1]):
        raise UsageError(f"y_range={y_range!r} is no range. Give its lowest and highest value, such as (0, 5.5), or None for no limits.")


def _check_inside(path: Path, table: RatingTable, y_range: Range) -> None:
    low, high = y_range
    outside = np.flatnonzero((table.ratings_N < low) | (table.ratings_N > high))
    if len(outside):
        count = f"{len(outside):,} ratings" if len(outside) > 1 else "a rating"
        first = f"{table.ratings_N[outside[0]]:g} in line {table.lines_N[outside[0]]}"
        raise DataError(
            f"{path} has {count} outside y_range ({low:g}, {high:g}), which no prediction can reach: {first}{' is the first' if len(outside) > 1 else ''}. "
            "Widen y_range, mend the file, or leave y_range out."
        )


def _order(path: Path, table: RatingTable, split: str, seed: int) -> npt.NDArray[np.int64]:
    """The rows in an order whose end is set aside for validation."""
    if split == "random":
        return torch.randperm(len(table.ratings_N), generator=seeds.generator(seed, "split")).numpy()
    if table.times_N is None:
        raise DataError(f"{path} has no column timestamp, so it cannot be split by time. Add the column, or use split='random'.")
    return np.argsort(table.times_N, kind="stable")


def _loaders(
    path: Path,
    table: RatingTable,
    train_N: npt.NDArray[np.int64],
    valid_N: npt.NDArray[np.int64],
    batch_size: int | None,
    split: str,
    y_range: Range | Literal["auto"] | None,
    seed: int,
    device: torch.device | str,
) -> RatingLoaders:
    users, users_N = _numbered(table.users, table.users_N, train_N)
    items, items_N = _numbered(table.items, table.items_N, train_N)
    ratings_N = table.ratings_N[train_N]
    low, high = float(ratings_N.min()), float(ratings_N.max())
    if y_range == "auto":
        margin = MARGIN * (high - low)
        y_range = (low - margin, high + margin) if margin else None
    found = RatingsFound(
        source=str(path),
        users=len(users) - 1,
        items=len(items) - 1,
        train=len(train_N),
        valid=len(valid_N),
        lowest=low,
        highest=high,
        mean=float(ratings_N.mean(dtype=np.float64)),
        split=split,
        skipped_count=table.skipped_count,
        skipped=tuple(row for row, _ in zip(table.skipped(), range(20), strict=False)),
        notes=tuple(_notes(users_N[valid_N], items_N[valid_N], low == high)),
    )
    size = batch_size or _fitting_batch_size(len(train_N))

    def loader(rows_N: npt.NDArray[np.int64], *, training: bool) -> RatingLoader:
        pairs_N2 = torch.from_numpy(np.stack([users_N[rows_N], items_N[rows_N]], 1)).to(device)
        ratings_N = torch.from_numpy(table.ratings_N[rows_N]).to(device)
        batch_size = size if training else max(size, VALID_BATCH_SIZE)
        return RatingLoader(pairs_N2, ratings_N, batch_size=batch_size, shuffle=training, seed=seed)

    return RatingLoaders(
        loader(train_N, training=True), loader(valid_N, training=False), users, items, path.stem, found, y_range, table, valid_N
    )


def _numbered(
    names: tuple[str, ...], numbers_N: npt.NDArray[np.int32], train_N: npt.NDArray[np.int64]
) -> tuple[tuple[str, ...], npt.NDArray[np.int32]]:
    """The names with a training rating, after the empty one for all others; and every rating's number among them."""
    trained = np.bincount(numbers_N[train_N], minlength=len(names)) > 0
    numbers = np.where(trained, np.cumsum(trained), UNKNOWN).astype(np.int32)
    return ("", *(name for name, there in zip(names, trained.tolist(), strict=True) if there)), numbers[numbers_N]


def _notes(users_N: npt.NDArray[np.int32], items_N: npt.NDArray[np.int32], constant: bool) -> Iterator[str]:
    for what, numbers_N in (("users", users_N), ("items", items_N)):
        strange = int((numbers_N == UNKNOWN).sum())
        if strange:
            count = f"{strange:,} validation ratings are" if strange > 1 else "1 validation rating is"
            yield f"{count} of {what} without a training rating; they are predicted from the other side and the mean alone."
    if constant:
        yield "All training ratings are the same: there is nothing to learn."


def _fitting_batch_size(ratings: int) -> int:
    """The default size of a batch: small data need small batches, or a few epochs would be only a handful of steps."""
    size = BATCH_SIZE
    while size > LEAST_BATCH_SIZE and ratings // size < STEPS_AN_EPOCH:
        size //= 2
    return size
