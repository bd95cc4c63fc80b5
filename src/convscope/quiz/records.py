"""What the quiz's parts hand to each other: questions in words, outcomes in numbers, both together, and grades. JSON values only; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["number", "matrix", "shape", "code", "choice", "text"]
Verified = Literal["computed", "illustrated", "definition"]
Json = Any  # numbers, strings, lists and dicts of them


@dataclass(frozen=True, slots=True)
class WrongWords:
    """A wrong answer that people gave.

    Attributes:
        answer: the answer; why: what is wrong with it.
    """

    answer: str
    why: str


@dataclass(frozen=True, slots=True)
class Question:
    """One question in words.

    Attributes:
        id: its number, 1 to 40, in the order of the book's chapter.
        topic: what it is about.
        kind: how it is answered; all kinds but "text" are graded by running what was typed.
        text: the question.
        hints: from gentle to strong.
        explanation: the answer in words, and why.
        verified: how its answer is known.
        how: what is run to know it.
        wrong: answers that people gave and that fail.
        choices: of a choice; right: the number of the right one, from 1 (0 for other kinds).
    """

    id: int
    topic: str
    kind: Kind
    text: str
    hints: tuple[str, ...]
    explanation: str
    verified: Verified
    how: str
    wrong: tuple[WrongWords, ...] = ()
    choices: tuple[str, ...] = ()
    right: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What running a question's answer gave, in numbers alone.

    Attributes:
        value: what was computed, by name.
        holds: whether everything that the explanation says came out so.
        wrong: for each wrong answer, in order, what it gave instead and whether that is wrong indeed.
        answer: the right number or shape, with which a typed one is compared; None for other kinds.
        pictures: matrices of numbers worth looking at, by title.
    """

    value: Mapping[str, Json]
    holds: bool
    wrong: Sequence[tuple[Json, bool]] = ()
    answer: Json = None
    pictures: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WrongShown:
    """A wrong answer that was run.

    Attributes:
        answer: the answer; gave: what it gives instead; fails: whether it is wrong indeed; why: in words.
    """

    answer: str
    gave: Json
    fails: bool
    why: str


@dataclass(frozen=True, slots=True)
class Demonstration:
    """An answer that was run, ready to be shown.

    Attributes:
        id, topic, verified, how: of the question.
        value: what was computed, by name; answer: the right number or shape, None for other kinds.
        holds: whether everything that the explanation says came out so.
        wrong: the wrong answers, run.
        pictures: matrices of numbers worth looking at, by title.
        explanation: the answer in words.
    """

    id: int
    topic: str
    verified: Verified
    how: str
    value: Mapping[str, Json]
    holds: bool
    wrong: tuple[WrongShown, ...] = ()
    answer: Json = None
    pictures: Mapping[str, Json] = field(default_factory=dict)
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class Grade:
    """What became of an answer that was typed.

    Attributes:
        right: whether it is right; None where only the learner can say.
        said: one sentence on what running it gave.
    """

    right: bool | None
    said: str
