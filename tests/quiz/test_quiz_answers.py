"""Computed answers against slow references written here, and the whole check, offline and again from the cache."""

from __future__ import annotations

import json
import socket
import time

import pytest
import torch
from torch import nn

from convscope.errors import UnknownNameError
from convscope.nn import simple_cnn
from convscope.quiz import check, demonstrate, question, questions
from convscope.quiz.answers import ANSWERS, materials, outcome_of
from convscope.quiz.catalogue import TRAINED
from convscope.quiz.demonstrations import check_text
from convscope.records import to_json


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "cache"))


def test_the_forty_questions_are_complete():
    assert [one.id for one in questions()] == list(range(1, 41)) == sorted(ANSWERS)
    for one in questions():
        assert one.kind in ("number", "matrix", "shape", "code", "choice", "text")
        assert one.verified in ("computed", "illustrated", "definition")
        assert one.hints
        assert one.text
        assert one.explanation
        assert one.how
        assert (one.kind == "choice") == bool(one.choices) == (0 < one.right <= len(one.choices))
    assert sum(one.verified == "computed" for one in questions()) >= 33
    assert sum(len(one.wrong) for one in questions()) == 34


def test_an_unknown_question():
    with pytest.raises(UnknownNameError, match="There is no question 41"):
        question(41)


@pytest.mark.parametrize("number", sorted(set(ANSWERS) - TRAINED))
def test_what_is_explained_comes_out_and_wrong_answers_fail(number):
    shown = demonstrate(number)
    assert shown.holds
    assert [wrong.fails for wrong in shown.wrong] == [True] * len(question(number).wrong)
    json.dumps(to_json(shown), allow_nan=False)
    assert shown.value or shown.verified == "definition"


# ---------------------------------------------------------------------------------------------- slow references


def slow_convolution(image, weight, bias, stride, padding):
    """A convolution by six loops over lists; also counts its multiplications, all and those with a real pixel."""
    channels, height, width = len(image), len(image[0]), len(image[0][0])
    kernel = len(weight[0][0])
    outputs, products, real = [], 0, 0
    for filter_, offset in zip(weight, bias, strict=True):
        rows = []
        for top in range(-padding, height + padding - kernel + 1, stride):
            row = []
            for left in range(-padding, width + padding - kernel + 1, stride):
                total = offset
                for c in range(channels):
                    for a in range(kernel):
                        for b in range(kernel):
                            inside = 0 <= top + a < height and 0 <= left + b < width
                            total += filter_[c][a][b] * (image[c][top + a][left + b] if inside else 0.0)
                            products += 1
                            real += inside
                row.append(total)
            rows.append(row)
        outputs.append(rows)
    return outputs, products, real


def test_question_15_counts_what_six_loops_do():
    layer = nn.Conv2d(8, 16, 3, stride=2, padding=1)
    image = torch.rand(8, 7, 7)
    outputs, products, real = slow_convolution(image.tolist(), layer.weight.tolist(), layer.bias.tolist(), 2, 1)
    assert torch.allclose(torch.tensor(outputs), layer(image[None])[0], atol=1e-5)
    value = outcome_of(15).value
    assert (value["multiplications"], value["of them with a real pixel"]) == (products, real) == (18_432, 12_800)
    assert value["the book's"] == 56_448
    assert value["whole network"] == {"multiplications": 58_608, "the book's way": 217_152}


def test_question_2_and_3_by_hand():
    patch, kernel = [[0, 0, 1], [0, 2, 3], [1, 4, 5]], [[-1, -1, -1], [0, 0, 0], [1, 1, 1]]
    total = sum(patch[r][c] * kernel[r][c] for r in range(3) for c in range(3)) + 0.5
    assert outcome_of(3).answer == total == 9.5
    assert outcome_of(2).value["answers to steps"] == {"top edge": 3.0, "bottom edge": -3.0, "left edge": 0.0, "right edge": 0.0}


def test_sizes_by_listing_places():
    def places(size, kernel, stride, padding):
        return len(range(-padding, size + padding - kernel + 1, stride))

    assert outcome_of(6).answer == places(28, 3, 2, 1) == 14
    assert [pad for pad in range(6) if places(28, 5, 1, pad) == 28] == [outcome_of(5).answer] == [2]


def test_receptive_field_by_walking_back():
    rows = {3}
    for _ in range(2):
        rows = {2 * row - 1 + tap for row in rows for tap in range(3)}
    assert outcome_of(17).answer == len(rows) == 7
    assert outcome_of(16).value["pixels that move the activation"] == len(rows) ** 2
    assert outcome_of(16).value["first row, column, last row, column"] == [min(rows), min(rows), max(rows), max(rows)]


def test_matrix_of_a_convolution_by_hand():
    places = {(r * 2 + c, (r + a) * 4 + c + b) for r in range(2) for c in range(2) for a in range(3) for b in range(3)}
    value = outcome_of(10).value
    assert (value["places that hold a weight"], value["places fixed at 0"]) == (len(places), 64 - len(places))
    assert value["different weights"] == 9


def test_activations_of_question_23_by_halving():
    sides, channels = [14, 7, 4, 2, 1], [4, 8, 16, 32, 2]
    assert outcome_of(23).value["activations by layer"] == [c * s * s for c, s in zip(channels, sides, strict=True)]


def test_randomness_outside_stays_as_it_was():
    before = torch.random.get_rng_state()
    for number in (11, 16, 29, 35):
        ANSWERS[number]()
    assert torch.equal(before, torch.random.get_rng_state())


def test_gradients_spread_less_over_larger_batches():
    spread = list(outcome_of(29).value["spread of the gradient, by batch size"].values())
    assert spread[0] > 1.5 * spread[1] > 1.5**2 * spread[2]  # by about 2 for each factor 4


# ---------------------------------------------------------------------------------------------- the whole check


@pytest.fixture
def offline(monkeypatch):
    def refuse(*arguments, **keywords):
        raise AssertionError("the quiz opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_the_whole_check_offline_and_again_from_the_cache(tmp_path, monkeypatch):
    started = time.perf_counter()
    first = check()
    assert time.perf_counter() - started < 180
    assert (first["failed"], first["total"]) == ([], 40)
    assert first["computed"] >= 33
    wrong = [one for asked in first["questions"] for one in asked["wrong"]]
    assert len(wrong) == 34
    assert all(one["fails"] is True and one["gave"] and one["why"] for one in wrong)
    json.dumps(first, allow_nan=False)
    assert check_text(first).endswith("40 of 40 as explained, 36 of them computed by running")

    monkeypatch.setattr(materials.Learner, "fit_plan", lambda *_: pytest.fail("trained again"))
    materials.training.cache_clear()
    materials.collapsed.cache_clear()
    outcome_of.cache_clear()
    trained = set(TRAINED)
    started = time.perf_counter()
    again = {number: to_json(demonstrate(number)) for number in trained}
    assert time.perf_counter() - started < 20
    for asked in first["questions"]:
        if asked["id"] in trained:
            assert again[asked["id"]]["value"] == asked["value"]
    [kept] = (tmp_path / "cache" / "quiz").glob("*.json")

    monkeypatch.undo()
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "cache"))
    kept.write_text("{damaged")
    monkeypatch.setitem(ANSWERS, 34, lambda: outcome_of.__wrapped__(31))  # computed again, whatever it is
    assert demonstrate(34).id == 34
    assert list(json.loads(kept.read_text())) == ["34"]


def test_the_slip_of_a_definition_would_be_noticed(monkeypatch):
    """The checker itself: break an answer, and the check says which."""
    outcome = outcome_of(4)
    monkeypatch.setitem(ANSWERS, 4, lambda: type(outcome)(outcome.value, holds=False, wrong=outcome.wrong))
    outcome_of.cache_clear()
    assert not demonstrate(4).holds
    outcome_of.cache_clear()


def test_the_bad_training_is_the_chapters():
    """Net B without batch norm has the chapter's number of parameters."""
    assert sum(parameter.numel() for parameter in simple_cnn(norm=False).parameters()) == 30_282
