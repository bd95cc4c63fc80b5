"""Training on ratings: planted factors are found again, the network is what its formula says, and unknown users are judged without factors."""

import numpy as np
import pytest
import torch
from ratings_files import planted, small, write_rows

from convscope.data import load_ratings
from convscope.errors import DataError, TraceError, UnknownNameError, UsageError
from convscope.nn import build_rating_model, dot_product, rating_net
from convscope.train.learner import Learner
from convscope.train.ratings import evaluate_ratings, principal_components, trace_rating


def test_planted_factors_are_found_up_to_rotation_and_the_error_is_the_noise(tmp_path):
    truth = planted(tmp_path / "planted.csv")
    data = load_ratings(truth.path, 2048, y_range=None, valid_pct=0.1)
    torch.manual_seed(0)
    learner = Learner(data, dot_product(**data.model_arguments, factors=5), weight_decay=0.02, device="cpu")
    learner.fit_one_cycle(12, lr_max=0.03)
    assert learner.validation.metrics["rmse"] < 0.3 * 1.05
    for found, names, planted_factors in (
        (learner.model.user_factors, data.users, truth.user_UF),
        (learner.model.item_factors, data.items, truth.item_IF),
    ):
        rows = [int(name[1:]) for name in names[1:]]
        true_NF, found_NF = planted_factors[rows], found.weight.detach().numpy()[1:]
        with_one = np.hstack([found_NF, np.ones((len(found_NF), 1))])
        rebuilt = with_one @ np.linalg.lstsq(with_one, true_NF, rcond=None)[0]
        share = 1 - ((true_NF - rebuilt) ** 2).sum() / ((true_NF - true_NF.mean(0)) ** 2).sum()
        assert share > 0.97  # of the planted factors' variance is a linear map of the found ones


def test_a_rating_is_the_formula(tmp_path):
    data = load_ratings(small(tmp_path / "r.csv"))
    model = dot_product(**data.model_arguments, factors=4)
    torch.nn.init.normal_(model.user_bias.weight)
    pairs_N2, _ = next(data.train.batches(0))
    low, high = data.y_range
    model.requires_grad_(False)
    for (user, item), predicted in zip(pairs_N2.tolist(), model(pairs_N2).tolist(), strict=True):
        total = sum(float(model.user_factors.weight[user, f]) * float(model.item_factors.weight[item, f]) for f in range(4))
        total += float(model.user_bias.weight[user, 0]) + float(model.item_bias.weight[item, 0]) + float(model.offset)
        assert predicted == pytest.approx(low + (high - low) / (1 + np.exp(-total)), abs=1e-6)


def test_an_unknown_user_has_no_factors_before_and_after_training(tmp_path):
    data = load_ratings(small(tmp_path / "r.csv"))
    learner = Learner(data, dot_product(**data.model_arguments, factors=4), device="cpu")
    learner.fit_one_cycle(1, lr_max=0.05)
    for table in (learner.model.user_factors, learner.model.item_factors, learner.model.user_bias, learner.model.item_bias):
        assert not table.weight[0].any()
        assert table.weight[1:].any()


def test_the_small_neural_variant_learns_too(tmp_path):
    data = load_ratings(small(tmp_path / "r.csv"))
    torch.manual_seed(0)
    learner = Learner(data, rating_net(**data.model_arguments, factors=8, hidden=(16,)), weight_decay=0.01, device="cpu")
    learner.fit_one_cycle(20, lr_max=0.03)
    assert learner.validation.metrics["rmse"] < 0.6 * evaluate_ratings(learner.model, data).baseline_rmse


def test_validation_is_what_a_plain_loop_measures(tmp_path):
    data = load_ratings(small(tmp_path / "r.csv"))
    learner = Learner(data, dot_product(**data.model_arguments, factors=4), device="cpu")
    learner.fit_one_cycle(2, lr_max=0.05)
    learner.model.requires_grad_(False)
    errors = [float(learner.model(pair[None])) - float(r) for pair, r in zip(data.valid.pairs_N2, data.valid.ratings_N, strict=True)]
    rmse = np.sqrt(np.mean(np.square(errors)))
    found = evaluate_ratings(learner.model, data)
    assert learner.validation.metrics["rmse"] == pytest.approx(rmse, rel=1e-6)
    assert found.rmse == pytest.approx(rmse, rel=1e-6)
    assert found.baseline_rmse == pytest.approx(
        float((data.valid.ratings_N - data.train.ratings_N.mean()).square().mean().sqrt()), rel=1e-6
    )
    assert [abs(s.rating - s.predicted) for s in found.surprising] == pytest.approx(sorted(map(abs, errors), reverse=True)[:20], abs=1e-6)
    biases = {item.item: item.bias for item in found.most_liked + found.least_liked}
    for name, bias in biases.items():
        assert bias == float(learner.model.item_bias.weight[data.items.index(name), 0])
    assert found.most_liked[0].bias == max(biases.values())
    assert found.least_liked[0].bias == min(biases.values())


def test_a_traced_rating_adds_up_to_the_networks_own(tmp_path):
    data = load_ratings(small(tmp_path / "r.csv"))
    learner = Learner(data, dot_product(**data.model_arguments, factors=4), device="cpu")
    learner.fit_one_cycle(2, lr_max=0.05)
    trace = trace_rating(learner.model, data.users, data.items, 3, 4, 5.0)
    assert (trace.user, trace.item, trace.rating) == (data.users[3], data.items[4], 5.0)
    assert trace.value == float(learner.model(torch.tensor([[3, 4]])))
    assert abs(trace.difference) < 1e-6
    assert f"{trace.item} for {trace.user}: {trace.total:.4g}; {trace.user} gave 5, an error of {trace.total - 5:+.4g}" in str(trace)
    with pytest.raises(TraceError) as error:
        trace_rating(rating_net(**data.model_arguments), data.users, data.items, 3, 4)
    assert str(error.value) == (
        "A rating of RatingNet goes through hidden layers and is not one sum of products. Train with --model dot_product to trace ratings."
    )


def test_principal_components_are_those_of_the_singular_values():
    rows_NF = np.random.default_rng(0).normal(size=(40, 6)) * [3, 1, 2, 0.5, 1, 1]
    places_N2, shares = principal_components(rows_NF)
    left, sizes, _ = np.linalg.svd(rows_NF - rows_NF.mean(0))
    np.testing.assert_allclose(np.abs(places_N2), np.abs(left[:, :2] * sizes[:2]), atol=1e-9)
    assert shares == pytest.approx(tuple(sizes[:2] ** 2 / (sizes**2).sum()))
    assert principal_components(rows_NF[:, :1])[0].shape == (40, 2)


def test_a_seeded_split_is_repeated_and_a_split_by_time_holds_back_the_latest(tmp_path):
    path = small(tmp_path / "r.csv")
    one, two, other = load_ratings(path), load_ratings(path), load_ratings(path, seed=1)
    assert one.valid_rows_N.tolist() == two.valid_rows_N.tolist() != other.valid_rows_N.tolist()
    assert one.train.count + one.valid.count == len(one.table.ratings_N)
    header = "user,item,rating,timestamp"
    path = write_rows(tmp_path / "t.csv", "a,x,1,50", "b,x,2,10", "a,y,3,30", "b,y,4,20", "c,x,5,60", header=header)
    data = load_ratings(path, split="time", valid_pct=0.4)
    assert data.valid.ratings_N.tolist() == [1, 5]
    assert data.valid.pairs_N2.tolist() == [[1, 1], [0, 1]]  # c has no training rating: number 0
    assert data.users == ("", "a", "b")
    note = "1 validation rating is of users without a training rating; they are predicted from the other side and the mean alone."
    assert data.summary.notes == (note,)


def test_messages(tmp_path):
    path = write_rows(tmp_path / "r.csv", "ann,Alien,5", "ann,Brazil,4")

    def message(kind, call, *arguments, **named):
        with pytest.raises(kind) as error:
            call(*arguments, **named)
        return str(error.value)

    assert message(DataError, load_ratings, path) == (
        f"{path} has ratings of one user, 'ann', and there is nothing to compare it with. Add ratings of another user."
    )
    assert message(DataError, load_ratings, tmp_path / "no.csv") == (
        f"There is no file '{tmp_path / 'no.csv'}'. Give a CSV with the columns user, item and rating."
    )
    path = write_rows(tmp_path / "r.csv", "ann,Alien,5", "bob,Brazil,7", "bob,Alien,9")
    assert message(DataError, load_ratings, path, y_range=(0, 5.5)) == (
        f"{path} has 2 ratings outside y_range (0, 5.5), which no prediction can reach: 7 in line 3 is the first. "
        "Widen y_range, mend the file, or leave y_range out."
    )
    assert message(DataError, load_ratings, path, split="time") == (
        f"{path} has no column timestamp, so it cannot be split by time. Add the column, or use split='random'."
    )
    assert message(UsageError, load_ratings, path, split="late") == "split='late' is not known. Use 'random' or 'time'."
    assert message(UsageError, load_ratings, path, y_range=(5, 1)) == (
        "y_range=(5, 1) is no range. Give its lowest and highest value, such as (0, 5.5), or None for no limits."
    )
    assert (
        message(UsageError, load_ratings, path, valid_pct=1.0) == "valid_pct=1.0 is no share. Give a number between 0 and 1, such as 0.2."
    )
    assert message(UsageError, dot_product, 4, 4, factors=0) == "factors=0 describe nothing. Give 1 or more, such as 50."
    assert (
        message(UnknownNameError, build_rating_model, "dot", {})
        == "There is no model for ratings 'dot'. Known: 'dot_product', 'rating_net'."
    )
