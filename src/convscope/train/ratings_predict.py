"""Recommendations of a saved run on ratings: a user or an item in, the nearest items out. It needs the run directory alone, not the ratings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from convscope.data.ratings import UNKNOWN
from convscope.errors import UnknownNameError, UsageError
from convscope.nn import RATING_MODELS, Recipe, rebuild
from convscope.records import RatingTrace, text_table
from convscope.rundir import RunDir
from convscope.train.predict import weights_path
from convscope.train.ratings import trace_rating
from convscope.train.weights import load_into, load_tensors, load_weights

if TYPE_CHECKING:
    from convscope.train.learner import Learner

BATCH = 65_536  # pairs run through the network at once


@dataclass(frozen=True, slots=True)
class Recommendation:
    """An item, and its predicted rating, or its likeness to another item from -1 to 1."""

    item: str
    score: float


@dataclass(frozen=True, eq=False)
class Recommender:
    """A trained rating network with the names of users and items.

    Attributes:
        model: the network.
        users, items: names by number; number 0 stands for all without a training rating.
        rated_N2: user and item of each rating, so that nothing is recommended twice.
        titles: of items, as far as they are known.
    """

    model: nn.Module
    users: tuple[str, ...]
    items: tuple[str, ...]
    rated_N2: Int[Tensor, "N 2"]
    titles: Mapping[str, str] = field(default_factory=dict)

    @torch.no_grad()
    def top(self, user: str, count: int = 10) -> list[Recommendation]:
        """The items that a user has not rated with the highest predicted ratings.

        Args:
            user: a name; one without training ratings gets what everybody likes.
            count: how many, 1 or more.

        Raises:
            UsageError: the count is below 1.
        """
        if count < 1:
            raise UsageError(f"--top {count} shows nothing. Give 1 or more, such as 10.")
        number = self.number_of(user)
        scores_I = self._ratings(number)
        if number != UNKNOWN:
            scores_I[self.rated_N2[self.rated_N2[:, 0] == number, 1].long()] = -torch.inf
        scores_I[UNKNOWN] = -torch.inf
        scores, places = scores_I.topk(min(count, len(self.items) - 1))
        return [Recommendation(self.items[i], s) for i, s in zip(places.tolist(), scores.tolist(), strict=True) if s > -torch.inf]

    @torch.no_grad()
    def similar(self, item: str, count: int = 10) -> list[Recommendation]:
        """The items whose factors point most nearly in the same direction (cosine).

        Raises:
            UnknownNameError: no training rating is of such an item.
            UsageError: the count is below 1.
        """
        if count < 1:
            raise UsageError(f"--top {count} shows nothing. Give 1 or more, such as 10.")
        if item not in self.items[1:]:
            raise UnknownNameError("item with a training rating", item, self.items[1:])
        factors_IF = F.normalize(self.model.get_parameter("item_factors.weight").float(), dim=1)
        likeness_I = factors_IF @ factors_IF[self.items.index(item)]
        likeness_I[[UNKNOWN, self.items.index(item)]] = -torch.inf
        scores, places = likeness_I.topk(min(count, len(self.items) - 2))
        return [Recommendation(self.items[i], s) for i, s in zip(places.tolist(), scores.tolist(), strict=True)]

    def trace(self, user: str, item: str, rating: float | None = None) -> RatingTrace:
        """The products and biases that make one rating.

        Raises:
            UnknownNameError: no training rating is of such an item.
            TraceError: the network is not one sum of products.
        """
        if item not in self.items[1:]:
            raise UnknownNameError("item with a training rating", item, self.items[1:])
        return trace_rating(self.model, self.users, self.items, self.number_of(user), self.items.index(item), rating)

    def number_of(self, user: str) -> int:
        """A user's number; 0 for one without a training rating."""
        return self.users.index(user) if user in self.users[1:] else UNKNOWN

    def _ratings(self, user: int) -> Float[Tensor, " I"]:
        items_I = torch.arange(len(self.items), device=self.rated_N2.device)
        pairs_I2 = torch.stack([torch.full_like(items_I, user), items_I], 1)
        return torch.cat([self.model(part).float() for part in torch.split(pairs_I2, BATCH)])


def recommender(learner: Learner) -> Recommender:
    """What a trained learner recommends.

    Raises:
        UsageError: it was not trained on ratings.
    """
    from convscope.data import RatingLoaders

    if not isinstance(learner.data, RatingLoaders):
        raise UsageError("This learner was trained on images, and recommends nothing. Use learner.predict.")
    rated_N2 = torch.cat([learner.data.train.pairs_N2, learner.data.valid.pairs_N2])
    return Recommender(learner.model.eval(), learner.data.users, learner.data.items, rated_N2, learner.data.titles)


def load_recommender(run: str | Path) -> Recommender:
    """The network of a saved run on ratings, on the CPU.

    Raises:
        RunError: it is no run.
        CheckpointError: the weights are missing or damaged.
        UsageError: the run is not on ratings.
    """
    path = weights_path(run)
    tensors, info = load_weights(path)
    if info.model not in RATING_MODELS:
        raise UsageError(f"{run} is no run on ratings, so it has no users. Give image files: convscope predict RUN PATH...")
    model = rebuild(Recipe(info.model, info.arguments))
    load_into(model, tensors, path)
    rated = RunDir(path.parent).rated
    rated_N2 = load_tensors(rated)[0]["pairs"] if rated.exists() else torch.empty((0, 2), dtype=torch.int32)
    names = tuple(info.preprocess["users"]), tuple(info.preprocess["items"])
    return Recommender(model.eval(), *names, rated_N2, info.preprocess.get("titles", {}))


def as_text(found: list[Recommendation], titles: Mapping[str, str], what: str) -> str:
    """Recommendations as aligned lines of text.

    Args:
        found: best first.
        titles: by item; items without one are shown by their name alone.
        what: the score's heading.
    """
    rows = [(f"{r.score:.3f}", r.item, titles.get(r.item, "")) for r in found]
    return text_table((what, "item", "title" if titles else ""), rows, right=(0,))
