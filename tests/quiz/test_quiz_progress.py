"""Progress: kept after every answer, scheduled by fsrs, never lost to damage or to two programs at once."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest

from convscope.errors import ProgressError, UsageError
from convscope.quiz.progress import Progress, load, review

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_new_questions_come_in_order_and_answered_ones_when_they_are_due(tmp_path):
    path = tmp_path / "deep" / "quiz.json"
    assert load(path) == Progress()
    assert load(path).due([1, 2, 3], NOW) == [1, 2, 3]
    review(path, 1, 1, NOW)
    after = review(path, 2, 4, NOW)
    assert after.due([1, 2, 3], NOW) == [3]
    assert after.due([1, 2, 3], NOW + timedelta(minutes=2)) == [1, 3]  # again: in a minute
    assert after.due([1, 2, 3], NOW + timedelta(days=365)) == [1, 2, 3]
    assert after.next_due() == NOW + timedelta(minutes=1)
    assert load(path) == after
    assert [(one["question"], one["rating"]) for one in after.reviews] == [(1, 1), (2, 4)]


def test_better_knowledge_waits_longer(tmp_path):
    due = []
    for rating in (1, 2, 3, 4):
        path, now = tmp_path / f"{rating}.json", NOW
        for _ in range(4):
            now = review(path, 1, rating, now).cards[1].due
        due.append(now)
    assert due == sorted(due)
    assert due[3] - NOW > timedelta(days=30) > timedelta(hours=1) > due[0] - NOW


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"schema": 1}',
        '{"schema": 1, "cards": {"x": {}}, "reviews": []}',
        '{"schema": 1, "cards": [], "reviews": []}',
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_an_error_and_stays_as_it_is(tmp_path, content):
    path = tmp_path / "quiz.json"
    path.write_text(content)
    for action in (lambda: load(path), lambda: review(path, 1, 3, NOW)):
        with pytest.raises(ProgressError) as error:
            action()
        assert str(error.value).startswith(f"The progress file {path} is damaged (")
        assert str(error.value).endswith(" Nothing was changed. Restore it from a copy, or move it away to begin anew.")
    assert path.read_text() == content


def test_a_newer_file_and_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "quiz.json"
    path.write_text('{"schema": 2}')
    with pytest.raises(ProgressError) as error:
        load(path)
    assert str(error.value) == f"The progress file {path} has schema 2; this version reads 1. Install the newest convscope."
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProgressError, match="cannot be read"):
        load(path)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ProgressError, match="cannot be"):
        review(tmp_path / "file" / "quiz.json", 1, 3, NOW)


def test_two_programs_at_once_lose_nothing(tmp_path):
    path = tmp_path / "quiz.json"
    threads = [threading.Thread(target=review, args=(path, number, 3, NOW)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(load(path).cards) == list(range(1, 9))
    assert len(json.loads(path.read_text())["reviews"]) == 8
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".quiz")]


def test_an_unknown_rating(tmp_path):
    with pytest.raises(UsageError) as error:
        review(tmp_path / "quiz.json", 1, 5, NOW)
    assert str(error.value) == "The rating is 5; it must be 1 (again), 2 (hard), 3 (good), 4 (easy)."
