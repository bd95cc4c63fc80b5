"""The quiz through the API: the same questions, grades and schedule as in the terminal, in the same file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lab_served import Application

from convscope.lab import questions
from convscope.quiz import demonstrate
from convscope.quiz import questions as all_questions
from convscope.quiz.files import progress_file
from convscope.quiz.progress import load
from convscope.records import to_json


@pytest.fixture(autouse=True)
def own_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert tmp_path in progress_file().parents


def test_all_forty_are_listed_and_the_first_is_next(application: Application):
    answer = application.get("/api/questions").json
    assert [(row["number"], row["text"]) for row in answer["questions"]] == [(one.id, one.text) for one in all_questions()]
    assert answer["next"] == 1
    assert all(row["due"] and row["answered"] == 0 and row["rating"] is None and row["due_at"] is None for row in answer["questions"])


def test_a_right_answer_a_wrong_one_and_one_that_is_none(application: Application):
    right = application.post("/api/questions/15/answer", {"answer": "16 * 1152"}).json
    assert (right["right"], right["suggested"]) == (True, 3)
    assert application.post("/api/questions/15/answer", {"answer": "18432", "hinted": True}).json["suggested"] == 2
    wrong = application.post("/api/questions/15/answer", {"answer": "55296"}).json
    assert (wrong["right"], wrong["suggested"]) == (False, 1)
    assert wrong["message"] == "You say 55,296; computed: 18,432."
    none = application.post("/api/questions/15/answer", {"answer": "__import__('os').system('true')"})
    assert none.status == 422
    assert none.json["error"]["hint"] == "Change the answer and send it again; it was not counted."
    text = application.post("/api/questions/1/answer", {"answer": "something"}).json
    assert text["right"] is None
    assert not progress_file().exists()  # nothing is noted before it is rated


def test_a_rating_is_noted_in_the_quizs_own_file(application: Application):
    answer = application.post("/api/questions/15/rate", {"rating": 3}).json
    assert (answer["answered"], answer["rating"], answer["due"], answer["next"]) == (1, 3, False, 1)
    progress = load(progress_file())
    assert [(one["question"], one["rating"]) for one in progress.reviews] == [(15, 3)]
    assert answer["due_at"] == progress.cards[15].due.isoformat()
    assert application.get("/api/questions/15").json["answered"] == 1
    assert application.post("/api/questions/15/rate", {"rating": 5}).status == 400


def test_a_damaged_progress_file_is_told_and_left(application: Application):
    progress_file().parent.mkdir(parents=True)
    progress_file().write_text("{")
    answer = application.get("/api/questions")
    assert answer.status == 400
    assert answer.message.startswith(f"The progress file {progress_file()} is damaged")
    assert application.post("/api/questions/15/rate", {"rating": 3}).status == 400
    assert progress_file().read_text() == "{"


def test_a_question_with_its_hints_and_its_demonstration(application: Application):
    asked = application.get("/api/questions/15").json
    [expected] = [one for one in all_questions() if one.id == 15]
    assert (asked["hints"], asked["verified"], asked["needs_training"]) == (list(expected.hints), "computed", False)
    shown = application.get("/api/questions/15/demonstration").json
    assert shown == {**json.loads(json.dumps(to_json(demonstrate(15)))), "trains": False}
    assert all(wrong["fails"] for wrong in shown["wrong"])


@pytest.mark.parametrize("number", ["0", "41", "x", "-1", "1.0", "٣", "9" * 5000])
def test_other_questions_do_not_exist(application: Application, number: str):
    for answer in (
        application.get(f"/api/questions/{number}"),
        application.get(f"/api/questions/{number}/demonstration"),
        application.post(f"/api/questions/{number}/answer", {"answer": "1"}),
    ):
        assert (answer.status, answer.message) == (404, "There is no such question.")


def test_trainings_run_in_a_process_of_their_own(application: Application, monkeypatch: pytest.MonkeyPatch):
    asked: list[list[str]] = []
    monkeypatch.setattr(questions.subprocess, "run", lambda command, **_: asked.append(command))
    monkeypatch.setattr(questions, "needs_training", lambda number: number == 15 and not asked)
    assert application.get("/api/questions/15/demonstration").json["holds"] is True
    [command] = asked
    assert command[1:] == ["-c", "from convscope.quiz import demonstrate; demonstrate(15)"]
