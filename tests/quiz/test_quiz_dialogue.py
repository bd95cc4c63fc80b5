"""The dialogue, with typed lines in place of a person."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

from rich.console import Console

from convscope.quiz.catalogue import questions
from convscope.quiz.dialogue import in_words, run_quiz
from convscope.quiz.progress import load, review

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=3650)


def talk(path, *lines, end=EOFError, now=NOW):
    """Answer with these lines, then end the input; returns what was shown and how many questions were answered."""
    waiting, out = list(lines), io.StringIO()

    def ask(prompt):
        if not waiting:
            raise end
        return waiting.pop(0)

    answered = run_quiz(path, ask=ask, console=Console(file=out, width=140), now=lambda: now)
    return out.getvalue(), answered


def test_a_text_is_shown_its_answer_and_rated_by_the_learner(tmp_path):
    text, answered = talk(tmp_path / "quiz.json", "an edge", "what?", "3", "quit")
    assert answered == 1
    assert "A feature is what a transformation makes of the data" in text
    assert "the values of a kernel" in text
    assert "Type 1, 2, 3 or 4." in text
    assert text.rstrip().endswith("1 question answered. The next one comes again in 10 minutes.")
    assert load(tmp_path / "quiz.json").reviews[0]["rating"] == 3


def test_graded_answers_hints_and_what_cannot_be_read(tmp_path):
    text, answered = talk(tmp_path / "quiz.json", "skip", "?", "1 2 3", "-1 -1 -1/0 0 0/1 1 1", "9", "q")
    assert answered == 2
    assert "Which row of the kernel lies on ink" in text
    assert "A 3×3 kernel is asked for; this one is 1×3." in text
    assert "Right. It detects top edges" in text
    assert "Not so. You say 9; computed: 9.5." in text
    assert [one["rating"] for one in load(tmp_path / "quiz.json").reviews] == [2, 1]


def test_ctrl_c_and_the_end_of_input_keep_what_was_answered(tmp_path):
    for end in (KeyboardInterrupt, EOFError):
        path = tmp_path / f"{end.__name__}.json"
        text, answered = talk(path, "an edge", "4", end=end)
        assert answered == 1
        assert len(load(path).cards) == 1
        assert "1 question answered." in text


def test_ctrl_c_while_computing_stops_that_and_the_answer_counts(tmp_path, monkeypatch):
    def interrupted(number):
        raise KeyboardInterrupt

    monkeypatch.setattr("convscope.quiz.dialogue.demonstrate", interrupted)
    text, answered = talk(tmp_path / "quiz.json", "skip", "1 1 1/0 0 0/-1 -1 -1", "quit")
    assert answered == 1
    assert "Stopped computing. -1 -1 -1 / 0 0 0 / 1 1 1:" in text
    assert load(tmp_path / "quiz.json").reviews[0]["rating"] == 1


def test_nothing_is_due(tmp_path):
    path = tmp_path / "quiz.json"
    for one in questions():
        review(path, one.id, 4, NOW)
    text, answered = talk(path)
    assert answered == 0
    assert text.splitlines()[0].startswith("40 questions on convolutional networks: 0 to repeat, 0 new.")
    assert "0 questions answered. The next one comes again in" in text
    assert "40 to repeat, 0 new" in talk(path, now=LATER)[0]


def test_values_in_words():
    assert in_words({"rows": [1, 0.123456], "seen": True}) == "rows: 1, 0.1235; seen: yes"
    assert in_words([[1, 2], [3, 4]]) == "1, 2 / 3, 4"
    assert in_words("x" * 500) == "x" * 400 + " ..."
