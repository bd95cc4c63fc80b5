"""Networks that predict ratings: factors and biases of users and items, as a dot product or through a small neural net.

They map numbers of users and items (N, 2) to ratings (N). Row 0 of every table stands for users and items that were never rated in training:
it is zero and stays zero, so that they are judged by the other side and the mean alone.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from convscope.errors import UnknownNameError, UsageError
from convscope.nn.recipe import described

FACTORS = 50  # fastai's collab_learner
FACTOR_STD = 0.01  # of the initial factors and biases; fastai's value: products begin near nothing, and the biases are learned first
Range = tuple[float, float]


class _RatingModel(nn.Module):
    """What both networks share: the tables of factors and biases, and the range of the answer."""

    def __init__(self, users: int, items: int, factors: int, y_range: Sequence[float] | None, mean: float) -> None:
        super().__init__()
        _check(users, items, factors, y_range, mean)
        self.y_range: Range | None = None if y_range is None else (float(y_range[0]), float(y_range[1]))
        self.user_factors, self.item_factors = _table(users, factors), _table(items, factors)
        self.user_bias, self.item_bias = _table(users, 1), _table(items, 1)
        self.offset = nn.Parameter(torch.tensor([_before_sigmoid(mean, self.y_range)]))

    def ranged(self, sums_N: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        """The ratings of sums: inside `y_range` through a sigmoid, or as they are."""
        if self.y_range is None:
            return sums_N
        low, high = self.y_range
        return torch.sigmoid(sums_N) * (high - low) + low


class DotProduct(_RatingModel):
    """A rating as the dot product of a user's and an item's factors, plus both biases and an offset; see `dot_product`."""

    def forward(self, pairs_N2: Int[Tensor, "N 2"]) -> Float[Tensor, " N"]:
        """Ratings of pairs of user and item."""
        users_N, items_N = pairs_N2.unbind(1)
        products_NF = self.user_factors(users_N) * self.item_factors(items_N)
        biases_N = (self.user_bias(users_N) + self.item_bias(items_N)).squeeze(1)
        return self.ranged(products_NF.sum(1) + biases_N + self.offset)


class RatingNet(_RatingModel):
    """A rating by a small neural net over both factors, plus both biases and an offset; see `rating_net`."""

    def __init__(self, users: int, items: int, factors: int, hidden: Sequence[int], y_range: Sequence[float] | None, mean: float) -> None:
        super().__init__(users, items, factors, y_range, mean)
        if not hidden or min(hidden) < 1:
            raise UsageError(f"hidden={tuple(hidden)!r} gives no layer. Give the sizes of one or more, such as (64,).")
        sizes = [2 * factors, *hidden]
        steps = [nn.Sequential(nn.Linear(one, two), nn.ReLU()) for one, two in itertools.pairwise(sizes)]
        self.layers = nn.Sequential(*steps, nn.Linear(sizes[-1], 1))

    def forward(self, pairs_N2: Int[Tensor, "N 2"]) -> Float[Tensor, " N"]:
        """Ratings of pairs of user and item."""
        users_N, items_N = pairs_N2.unbind(1)
        both_NF = torch.cat([self.user_factors(users_N), self.item_factors(items_N)], 1)
        sums_N = (self.layers(both_NF) + self.user_bias(users_N) + self.item_bias(items_N)).squeeze(1)
        return self.ranged(sums_N + self.offset)


@described
def dot_product(users: int, items: int, *, factors: int = FACTORS, y_range: Sequence[float] | None = None, mean: float = 0.0) -> DotProduct:
    """Matrix factorisation: a rating is the dot product of a user's and an item's factors, plus their biases and an offset.

    Args:
        users: rows of the users' tables; row 0 is for those without a training rating.
        items: rows of the items' tables, likewise.
        factors: numbers that describe a user or an item.
        y_range: lowest and highest rating, reached through a sigmoid; None for no limits.
        mean: what an untrained network answers, the mean training rating.

    Returns:
        The network, freshly initialised: pairs (N, 2) in, ratings (N) out.

    Raises:
        UsageError: an argument is out of range.

    Example:
        >>> dot_product(**data.model_arguments, factors=50)
    """
    return DotProduct(users, items, factors, y_range, mean)


@described
def rating_net(
    users: int,
    items: int,
    *,
    factors: int = FACTORS,
    hidden: Sequence[int] = (64,),
    y_range: Sequence[float] | None = None,
    mean: float = 0.0,
) -> RatingNet:
    """A small neural net over both factors instead of their product; the other arguments are those of `dot_product`.

    Args:
        users: rows of the users' tables; row 0 is for those without a training rating.
        items: rows of the items' tables, likewise.
        factors: numbers that describe a user or an item.
        hidden: sizes of the hidden layers.
        y_range: lowest and highest rating, reached through a sigmoid; None for no limits.
        mean: what an untrained network answers about.

    Returns:
        The network, freshly initialised: pairs (N, 2) in, ratings (N) out.

    Raises:
        UsageError: an argument is out of range.
    """
    return RatingNet(users, items, factors, hidden, y_range, mean)


RATING_MODELS: dict[str, Callable[..., nn.Module]] = {"dot_product": dot_product, "rating_net": rating_net}


def build_rating_model(name: str, data: dict[str, Any], **arguments: Any) -> nn.Module:
    """A rating network by name, fitted to the data.

    Args:
        name: one of `RATING_MODELS`.
        data: `RatingLoaders.model_arguments`.
        **arguments: further keyword arguments of that network's function.

    Raises:
        UnknownNameError: there is no such network, or it has no such argument.
        UsageError: an argument has an impossible value.
    """
    if name not in RATING_MODELS:
        raise UnknownNameError("model for ratings", name, RATING_MODELS)
    known = [name for name in inspect.signature(RATING_MODELS[name]).parameters if name not in data]
    for argument in arguments:
        if argument not in known:
            raise UnknownNameError(f"argument of {name}", argument, known)
    return RATING_MODELS[name](**data, **arguments)


def _table(rows: int, columns: int) -> nn.Embedding:
    table = nn.Embedding(rows, columns, padding_idx=0)
    nn.init.trunc_normal_(table.weight, std=FACTOR_STD, a=-2 * FACTOR_STD, b=2 * FACTOR_STD)
    with torch.no_grad():
        table.weight[0].zero_()
    return table


def _before_sigmoid(mean: float, y_range: Range | None) -> float:
    """The sum whose answer is the mean."""
    if y_range is None:
        return mean
    share = (mean - y_range[0]) / (y_range[1] - y_range[0])
    return math.log(share / (1 - share))


def _check(users: int, items: int, factors: int, y_range: Sequence[float] | None, mean: float) -> None:
    if min(users, items) < 2:
        raise UsageError(f"There are {users} users and {items} items with the unknown one; each table needs 2 rows or more.")
    if factors < 1:
        raise UsageError(f"factors={factors} describe nothing. Give 1 or more, such as 50.")
    if y_range is None:
        return
    if not (len(y_range) == 2 and y_range[0] < y_range[1]):
        raise UsageError(
            f"y_range={tuple(y_range)!r} is no range. Give its lowest and highest value, such as (0, 5.5), or None for no limits."
        )
    if not y_range[0] < mean < y_range[1]:
        raise UsageError(
            f"mean={mean:g} lies outside y_range ({y_range[0]:g}, {y_range[1]:g}). Give the mean training rating, or a wider range."
        )
