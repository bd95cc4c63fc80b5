"""The task of predicting ratings: squared error, its root as the metric, and what a trained network learned of users and items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor, nn

from convscope.data import RatingLoaders
from convscope.errors import TraceError, UsageError
from convscope.nn import DotProduct
from convscope.records import LayerRow, NetworkSummary, RatedItem, RatingsEvaluation, RatingTrace, SurprisingRating
from convscope.rundir import RunDir
from convscope.train import results
from convscope.train.metrics import Loss, Metric
from convscope.train.task import Judgement
from convscope.train.weights import save_tensors

if TYPE_CHECKING:
    from convscope.train.learner import Learner

WEIGHT_DECAY = 0.1  # ten times that of images: a factor is seen in few ratings only; chosen by the book's chapter 8 too
EXTREMES_KEPT = 10  # most and least liked items
SURPRISES_KEPT = 20
PICTURED = 300  # most rated items in the picture of the factors; more could not be told apart
FEWEST_RATINGS = 5  # of an item listed as liked or not; the bias of an item with fewer is mostly noise


def squared_error(predicted_N: Float[Tensor, " N"], ratings_N: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """The squared error of each rating."""
    return (predicted_N - ratings_N).square()


def mean_squared_error(predicted_N: Tensor, ratings_N: Tensor) -> Tensor:
    """The loss. Not PyTorch's function: to a watcher whole numbers in `mse_loss` look like numbers of classes taken for amounts."""
    return squared_error(predicted_N, ratings_N).mean()


rmse = Metric("rmse", squared_error, lambda mean: float(mean**0.5))


@dataclass(frozen=True)
class RatingTask:
    """One number for each pair of user and item."""

    data: RatingLoaders
    weight_decay: float = WEIGHT_DECAY
    metrics: tuple[Metric, ...] = (rmse,)

    @property
    def valid_loss(self) -> Loss:
        """Mean squared error."""
        return mean_squared_error

    def train_loss(self, label_smoothing: float) -> Loss:
        """Mean squared error.

        Raises:
            UsageError: labels shall be smoothed, and ratings have none.
        """
        if label_smoothing:
            raise UsageError(f"label_smoothing is {label_smoothing}, and ratings have no labels to smooth. Leave it out.")
        return mean_squared_error

    def summary(self, model: nn.Module) -> NetworkSummary:
        """The table for one pair."""
        return table_of(model)

    def describe(self) -> dict[str, Any]:
        """Users, items, range and split."""
        found = self.data.summary
        y_range = None if self.data.y_range is None else list(self.data.y_range)
        return {"users": found.users, "items": found.items, "y_range": y_range, "split": found.split}

    def inputs(self) -> dict[str, Any]:
        """The names of users and items by their numbers, and titles."""
        return {"users": list(self.data.users), "items": list(self.data.items), "titles": dict(self.data.titles)}

    def keep_data(self, run: RunDir) -> None:
        """The rows that were skipped, and which items each user has rated, so that these are not recommended."""
        results.write_skipped_rows(run.skipped_rows, self.data.table)
        pairs_N2 = torch.cat([self.data.train.pairs_N2, self.data.valid.pairs_N2]).cpu()
        save_tensors(run.rated, {"pairs": pairs_N2}, {})

    def judge(self, learner: Learner) -> Judgement:
        """Root mean squared error on validation ratings, and what was learned."""
        found = evaluate_ratings(learner.model, self.data)
        said = f"RMSE {found.rmse:.4f} on {found.count:,} validation ratings (always answering the mean: {found.baseline_rmse:.4f})"
        figures = {"rmse": found.rmse, "valid_loss": found.loss, "baseline_rmse": found.baseline_rmse}
        return Judgement(figures, said, lambda run: run.keep(found))


@torch.no_grad()
def evaluate_ratings(model: nn.Module, data: RatingLoaders) -> RatingsEvaluation:
    """Predict every validation rating, and look at the items' biases and factors.

    Args:
        model: a DotProduct or RatingNet trained on this data.
        data: on the model's device.
    """
    model.eval()
    predicted_N = torch.cat([model(pairs_N2).float().cpu() for pairs_N2, _ in data.valid.batches(0)]).double()
    ratings_N = data.valid.ratings_N.cpu().double()
    loss = float(squared_error(predicted_N, ratings_N).mean())
    found = data.summary
    items, explained = items_of(model, data)
    rated = sorted((item for item in items if item.count >= FEWEST_RATINGS), key=lambda item: -item.bias) or sorted(
        items, key=lambda item: -item.bias
    )
    worst_N = (predicted_N - ratings_N).abs().argsort(descending=True, stable=True)[:SURPRISES_KEPT].tolist()
    table, rows_N = data.table, data.valid_rows_N
    surprising = tuple(
        SurprisingRating(
            table.users[table.users_N[rows_N[n]]], table.items[table.items_N[rows_N[n]]], float(ratings_N[n]), float(predicted_N[n])
        )
        for n in worst_N
    )
    picture = tuple(sorted(items, key=lambda item: -item.count)[:PICTURED])
    most_liked, least_liked = tuple(rated[:EXTREMES_KEPT]), tuple(rated[::-1][:EXTREMES_KEPT])
    named = {item.item for item in (*most_liked, *least_liked, *picture)} | {rating.item for rating in surprising}
    trace = None
    if isinstance(model, DotProduct):
        user, item = data.valid.pairs_N2[worst_N[0]].tolist()
        trace = trace_rating(model, data.users, data.items, user, item, float(ratings_N[worst_N[0]]))
    return RatingsEvaluation(
        count=len(ratings_N),
        loss=loss,
        rmse=loss**0.5,
        baseline_rmse=float(squared_error(torch.full_like(ratings_N, found.mean), ratings_N).mean()) ** 0.5,
        mean=found.mean,
        users=found.users,
        items=found.items,
        train=found.train,
        lowest=found.lowest,
        highest=found.highest,
        split=found.split,
        skipped=found.skipped_count,
        notes=found.notes,
        most_liked=most_liked,
        least_liked=least_liked,
        picture=picture,
        explained=explained,
        surprising=surprising,
        trace=trace,
        titles={item: title for item, title in data.titles.items() if item in named},
    )


def items_of(model: nn.Module, data: RatingLoaders) -> tuple[list[RatedItem], tuple[float, float]]:
    """Every item with a training rating, and the share of the factors' variance along each of the picture's two axes."""
    factors_IF = _array(model.get_parameter("item_factors.weight"))[1:]
    bias_I = _array(model.get_parameter("item_bias.weight"))[1:, 0]
    places_I2, explained = principal_components(factors_IF)
    items_N, ratings_N = data.train.pairs_N2[:, 1].cpu().numpy(), data.train.ratings_N.cpu().numpy()
    counts_I = np.bincount(items_N, minlength=len(data.items))[1:]
    means_I = np.bincount(items_N, ratings_N, minlength=len(data.items))[1:] / counts_I
    columns = (data.items[1:], bias_I.tolist(), counts_I.tolist(), means_I.tolist(), places_I2[:, 0].tolist(), places_I2[:, 1].tolist())
    return [RatedItem(*row) for row in zip(*columns, strict=True)], explained


def principal_components(factors_IF: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], tuple[float, float]]:
    """Each row's place along the two directions in which the rows vary most, and the share of the variance along each.

    The signs are chosen so that the largest weight of each direction is positive: the same factors always give the same picture.
    """
    centred_IF = factors_IF - factors_IF.mean(0)
    variances_F, directions_FF = np.linalg.eigh(centred_IF.T @ centred_IF)  # ascending
    axes_F2 = np.zeros((len(variances_F), 2))
    kept = directions_FF[:, ::-1][:, :2]
    axes_F2[:, : kept.shape[1]] = kept * np.sign(kept[np.abs(kept).argmax(0), range(kept.shape[1])])
    shares = [*(variances_F[::-1] / (variances_F.sum() or 1.0)).clip(0, 1).tolist(), 0.0]
    return centred_IF @ axes_F2, (shares[0], shares[1])


@torch.no_grad()
def trace_rating(
    model: nn.Module, users: tuple[str, ...], items: tuple[str, ...], user: int, item: int, rating: float | None = None
) -> RatingTrace:
    """One predicted rating as its products and biases.

    Args:
        model: a DotProduct.
        users: names by number.
        items: names by number.
        user: number of the user, 0 for one without a training rating.
        item: number of the item, likewise.
        rating: what the user gave, if known.

    Raises:
        TraceError: the network is not one sum of products.
    """
    if not isinstance(model, DotProduct):
        raise TraceError(
            f"A rating of {type(model).__name__} goes through hidden layers and is not one sum of products. Train with --model dot_product to trace ratings."
        )
    device = model.offset.device
    value = float(model(torch.tensor([[user, item]], device=device))[0])
    user_factors, item_factors = (
        tuple(_array(table.weight[row]).tolist()) for table, row in ((model.user_factors, user), (model.item_factors, item))
    )
    biases = float(model.user_bias.weight[user]), float(model.item_bias.weight[item]), float(model.offset)
    y_range = model.y_range or ()
    parts = RatingTrace(users[user], items[item], user_factors, item_factors, *biases, y_range, 0.0, value, 0.0, rating)
    total = parts.sum if not y_range else y_range[0] + (y_range[1] - y_range[0]) / (1 + np.exp(-parts.sum))
    return RatingTrace(
        users[user], items[item], user_factors, item_factors, *biases, y_range, float(total), value, float(total) - value, rating
    )


def table_of(model: nn.Module) -> NetworkSummary:
    """The network's table for one pair: a look-up multiplies nothing, a dot product once for each factor."""
    rows = []
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        macs = module.in_features * module.out_features if isinstance(module, nn.Linear) else 0
        shape, bias = (1,), 0
        if isinstance(module, nn.Linear):
            shape, bias = (module.out_features,), module.out_features
        elif isinstance(module, nn.Embedding):
            shape = (module.embedding_dim,)
        elif isinstance(module, DotProduct):
            macs, bias = module.user_factors.embedding_dim, 1
        if not own:
            continue
        count, trainable = sum(p.numel() for p in own), sum(p.numel() for p in own if p.requires_grad)
        rows.append(
            LayerRow(name or "(itself)", type(module).__name__, shape, count, trainable, macs, macs + bias, 2 * macs + bias, macs, 0)
        )
    return NetworkSummary(type(model).__name__, (2,), (*rows[1:], rows[0]))  # the model itself adds up what the tables give


def _array(values: Tensor) -> npt.NDArray[np.float64]:
    array: npt.NDArray[np.float64] = values.detach().cpu().double().numpy()
    return array
