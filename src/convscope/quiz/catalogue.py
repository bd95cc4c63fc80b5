"""The forty questions, read from questions.toml: words only, no numbers that are not asked for. Nothing is computed here."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources

from convscope.errors import UnknownNameError
from convscope.quiz.records import Question, WrongWords

TRAINED = frozenset({24, 25, 27, 28, 30, 32, 33, 34, 36, 37, 40})  # answers that need trainings of 50 steps, worth keeping


@cache
def questions() -> tuple[Question, ...]:
    """All questions, in the order of the book's chapter.

    Example:
        >>> len(questions())
        40
    """
    text = (resources.files("convscope.quiz") / "questions.toml").read_text(encoding="utf-8")
    return tuple(_question(**table) for table in tomllib.loads(text)["question"])


def question(number: int) -> Question:
    """One question by its number, from 1.

    Raises:
        UnknownNameError: there is no such question.
    """
    for one in questions():
        if one.id == number:
            return one
    raise UnknownNameError("question", number, [str(one.id) for one in questions()])


def _question(
    *, hints: list[str], wrong: list[dict[str, str]] | None = None, choices: list[str] | None = None, **words: object
) -> Question:
    trimmed = {name: value.strip() if isinstance(value, str) else value for name, value in words.items()}
    return Question(
        hints=tuple(hints),
        wrong=tuple(WrongWords(**one) for one in wrong or ()),
        choices=tuple(choices or ()),
        **trimmed,  # type: ignore[arg-type]  # a test checks every field's type
    )
