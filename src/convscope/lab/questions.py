"""The quiz for a browser: the questions, the grade of an answer, its demonstration, and the learner's progress in the quiz's own file.

Grades and demonstrations bring in torch. Trainings run in a process of their own, so that the lab goes on answering meanwhile; what they gave is
then in the quiz's cache.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from convscope.lab.exchange import Fields, Refused, flag, text, whole
from convscope.quiz import demonstrate, question, questions
from convscope.quiz.demonstrations import needs_training
from convscope.quiz.dialogue import RIGHT, RIGHT_WITH_HINT, WRONG
from convscope.quiz.files import progress_file
from convscope.quiz.progress import Progress, load, review
from convscope.quiz.records import Question
from convscope.records import to_json

LONGEST_ANSWER = 10_000  # characters
TRAINING_SECONDS = 600  # after which a demonstration is given up; the slowest takes about 20 s


def listed() -> dict[str, Any]:
    """All questions with what the learner did so far, and the one to ask next."""
    progress, now = load(progress_file()), datetime.now(UTC)
    due = progress.due([one.id for one in questions()], now)
    return {"questions": [_row(one, progress, due) for one in questions()], "next": due[0] if due else None}


def shown(number: int) -> dict[str, Any]:
    """One question, its hints included; the page reveals them one by one."""
    asked, progress = question(number), load(progress_file())
    row = _row(asked, progress, progress.due([number]))
    return {**row, "choices": asked.choices, "hints": asked.hints, "verified": asked.verified, "needs_training": needs_training(number)}


def graded(number: int, fields: Fields) -> dict[str, Any]:
    """What becomes of an answer; nothing is noted yet.

    Raises:
        Refused: it cannot be read as an answer to this question (status 422).
    """
    from convscope.quiz.evaluate import NotUnderstood
    from convscope.quiz.grading import grade

    hinted = flag(fields, "hinted", False)
    try:
        found = grade(question(number), text(fields, "answer", LONGEST_ANSWER))
    except NotUnderstood as error:
        raise Refused(422, str(error), "Change the answer and send it again; it was not counted.") from None
    return {
        "right": found.right,
        "message": found.said,
        "suggested": WRONG if found.right is False else RIGHT_WITH_HINT if hinted else RIGHT,
    }


def rated(number: int, fields: Fields) -> dict[str, Any]:
    """Note how well a question was answered, and say which is next."""
    asked = question(number)
    progress = review(progress_file(), number, whole(fields, "rating", 1, 4))
    due = progress.due([one.id for one in questions()])
    return {**_row(asked, progress, due), "next": due[0] if due else None}


def demonstrated(number: int) -> dict[str, Any]:
    """The computed answer with the wrong ones run beside it."""
    asked = question(number)
    found: dict[str, Any] = to_json(demonstrate(asked.id))
    return {**found, "trains": needs_training(number)}


def untrained(number: int) -> bool:
    """Whether a demonstration needs trainings first."""
    return needs_training(number)


def train_for(number: int) -> None:
    """Run a demonstration's trainings in a process of their own, which keeps the result where `demonstrated` finds it."""
    code = f"from convscope.quiz import demonstrate; demonstrate({number})"
    subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=TRAINING_SECONDS, check=False, stdin=subprocess.DEVNULL)


def number_of(given: str) -> int:
    """A question's number, from an address.

    Raises:
        Refused: there is no such question.
    """
    if given not in {str(one.id) for one in questions()}:
        raise Refused(404, "There is no such question.", f"They are numbered from 1 to {len(questions())}.")
    return int(given)


def _row(asked: Question, progress: Progress, due: list[int]) -> dict[str, Any]:
    reviews: list[Mapping[str, Any]] = [one for one in progress.reviews if one.get("question") == asked.id]
    card = progress.cards.get(asked.id)
    return {
        "number": asked.id,
        "topic": asked.topic,
        "text": asked.text,
        "kind": asked.kind,
        "due": asked.id in due,
        "due_at": card.due.isoformat() if card else None,
        "answered": len(reviews),
        "rating": reviews[-1].get("rating") if reviews else None,
    }
