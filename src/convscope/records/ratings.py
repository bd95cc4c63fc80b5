"""What is told of a run on ratings: the best and the worst liked, surprises, and one rating taken apart."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from convscope.records.results import text_table


@dataclass(frozen=True, slots=True)
class RatedItem:
    """An item of a rating network: its bias, its training ratings (how many, and their mean), and its place in the picture of the factors."""

    item: str
    bias: float
    count: int
    mean: float
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class SurprisingRating:
    """A rating that lies far from what the network predicted."""

    user: str
    item: str
    rating: float
    predicted: float


@dataclass(frozen=True, slots=True)
class RatingTrace:
    """One predicted rating and the products and biases that make it.

    Attributes:
        user, item: names; "" for one without a training rating.
        user_factors, item_factors: their products, in order, are the terms.
        user_bias, item_bias, offset: added to the products.
        y_range: lowest and highest answer, reached through a sigmoid; empty when the sum is the answer.
        total: our value; value: PyTorch's own; difference: total - value.
        rating: what the user gave, or None.
    """

    user: str
    item: str
    user_factors: tuple[float, ...]
    item_factors: tuple[float, ...]
    user_bias: float
    item_bias: float
    offset: float
    y_range: tuple[float, ...]
    total: float
    value: float
    difference: float
    rating: float | None = None

    @property
    def products(self) -> tuple[float, ...]:
        """Factor by factor."""
        return tuple(one * two for one, two in zip(self.user_factors, self.item_factors, strict=True))

    @property
    def sum(self) -> float:
        """Products, biases and offset together, before the sigmoid."""
        return math.fsum((*self.products, self.user_bias, self.item_bias, self.offset))

    def __str__(self) -> str:
        """The sum as text: a line for each factor, the biases, and both values."""
        rows = [
            (f"factor {number}", f"{one:.6g}", f"{two:.6g}", f"{product:.6g}")
            for number, (one, two, product) in enumerate(zip(self.user_factors, self.item_factors, self.products, strict=True), 1)
        ]
        rows += [("bias of the user", "", "", f"{self.user_bias:.6g}"), ("bias of the item", "", "", f"{self.item_bias:.6g}")]
        rows += [("offset", "", "", f"{self.offset:.6g}"), ("sum", "", "", f"{self.sum:.6g}")]
        if self.y_range:
            rows.append((f"sigmoid between {self.y_range[0]:g} and {self.y_range[1]:g}", "", "", f"{self.total:.6g}"))
        given = "" if self.rating is None else f"; {self.user} gave {self.rating:g}, an error of {self.total - self.rating:+.4g}"
        return "\n".join(
            [
                f"{self.item or 'an unknown item'} for {self.user or 'an unknown user'}: {self.total:.4g}{given}",
                text_table(("", "user", "item", "product"), rows, right=(1, 2, 3)),
                f"our total {self.total:.9g}, PyTorch's value {self.value:.9g}, difference {self.difference:.1e}",
            ]
        )


@dataclass(frozen=True, slots=True)
class RatingsEvaluation:
    """What a trained rating network does on the ratings set aside for validation, and what it learned of the items.

    Attributes:
        count, loss, rmse: of the validation ratings; loss is the mean squared error, rmse its root.
        baseline_rmse: of always answering the mean training rating.
        mean: that mean.
        users, items, train: how many, in training.
        lowest, highest: training ratings.
        split: how validation ratings were chosen, "random" or "time".
        skipped: rows that were left out; notes: sentences worth telling.
        most_liked, least_liked: items by their bias, the most extreme first.
        picture: the most rated items, placed by the two principal components of all items' factors.
        explained: share of the factors' variance that each of the two components holds.
        surprising: validation ratings furthest from their prediction, worst first.
        trace: the worst of them, traced; None for networks that are not one sum.
        titles: what people call the items that are named here, where it is known.
    """

    count: int
    loss: float
    rmse: float
    baseline_rmse: float
    mean: float
    users: int
    items: int
    train: int
    lowest: float
    highest: float
    split: str
    skipped: int
    notes: tuple[str, ...]
    most_liked: tuple[RatedItem, ...]
    least_liked: tuple[RatedItem, ...]
    picture: tuple[RatedItem, ...]
    explained: tuple[float, float]
    surprising: tuple[SurprisingRating, ...]
    trace: RatingTrace | None = None
    titles: dict[str, str] = field(default_factory=dict)

    def title(self, item: str) -> str:
        """What people call an item: its title, or else its name."""
        return self.titles.get(item, item)
