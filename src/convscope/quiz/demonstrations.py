"""Brings a question's words and its computed numbers together, and keeps what took trainings.

Answers without training are computed every time. Those that need trainings of 50 steps are kept in one file of the cache folder, whose name
holds the versions of the library and of torch and a hash of the quiz's own source, so that a change of any of them computes anew.
A file that cannot be read or written is never an error: the answer is computed again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from functools import cache
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from convscope.quiz.catalogue import TRAINED, question, questions
from convscope.quiz.files import cache_folder, write_whole
from convscope.quiz.records import Demonstration, Outcome, WrongShown
from convscope.records import from_json, text_table, to_json
from convscope.version import VERSION

LOG = logging.getLogger("convscope.quiz")
LOCK_SECONDS = 10  # to wait for another process that writes the cache; then this answer is not kept


def demonstrate(number: int) -> Demonstration:
    """Run the answer of a question and its wrong answers.

    Args:
        number: of the question, 1 to 40.

    Returns:
        What was computed, with the words.

    Raises:
        UnknownNameError: there is no such question.

    Example:
        >>> demonstrate(15).answer
        18432
    """
    asked = question(number)
    outcome = _outcome(number)
    wrong = tuple(WrongShown(words.answer, gave, fails, words.why) for words, (gave, fails) in zip(asked.wrong, outcome.wrong, strict=True))
    return Demonstration(
        id=asked.id,
        topic=asked.topic,
        verified=asked.verified,
        how=asked.how,
        value=outcome.value,
        holds=outcome.holds,
        wrong=wrong,
        answer=outcome.answer,
        pictures=outcome.pictures,
        explanation=asked.explanation,
    )


def check() -> dict[str, Any]:
    """Run all answers and all wrong answers without a person.

    Returns:
        JSON values: `schema`, `questions` with `id, topic, verified, how, value, answer, holds, wrong`, `computed` (how many were verified
        by running and came out as they are explained), `total`, and `failed`, the numbers of questions where something did not come out so.
    """
    shown = [demonstrate(one.id) for one in questions()]
    failed = [one.id for one in shown if not (one.holds and all(wrong.fails for wrong in one.wrong))]
    keys = ("id", "topic", "verified", "how", "value", "answer", "holds", "wrong")
    return {
        "schema": 1,
        "questions": [{key: to_json(getattr(one, key)) for key in keys} for one in shown],
        "computed": sum(one.verified == "computed" and one.id not in failed for one in shown),
        "total": len(shown),
        "failed": failed,
    }


def check_text(checked: Mapping[str, Any]) -> str:
    """What `check` found, as text: a line for each question, and the count."""
    lines = [
        (
            str(one["id"]),
            one["topic"],
            one["verified"],
            f"{len(one['wrong'])} fail" if one["wrong"] else "",
            "FAILED" * (one["id"] in checked["failed"]),
        )
        for one in checked["questions"]
    ]
    count = (
        f"{checked['total'] - len(checked['failed'])} of {checked['total']} as explained, {checked['computed']} of them computed by running"
    )
    return f"{text_table(('', 'topic', 'verified', 'wrong answers', ''), lines, right=(0,))}\n{count}"


def needs_training(number: int) -> bool:
    """Whether the answer needs trainings that are neither done in this process nor kept in the cache."""
    return number in TRAINED and str(number) not in _read(_cache_file())


def _outcome(number: int) -> Outcome:
    from convscope.quiz.answers import outcome_of

    if number not in TRAINED:
        return outcome_of(number)
    path = _cache_file()
    kept = _read(path).get(str(number))
    try:
        return from_json(Outcome, kept)
    except (KeyError, TypeError, ValueError):  # not there, or damaged
        outcome = outcome_of(number)
        _keep(path, number, outcome)
        return outcome


@cache
def _source_hash() -> str:
    """A hash of every source file of the quiz, words and computations."""
    seen = hashlib.sha256()

    def add(folder: Traversable) -> None:
        for entry in sorted(folder.iterdir(), key=lambda one: one.name):
            if entry.is_dir():
                add(entry)
            elif entry.name.endswith((".py", ".toml")):
                seen.update(entry.name.encode() + b"\0" + entry.read_bytes())

    add(resources.files("convscope.quiz"))
    return seen.hexdigest()[:16]


def _cache_file() -> Path:
    return cache_folder() / f"answers-{VERSION}-torch-{metadata.version('torch')}-{_source_hash()}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _keep(path: Path, number: int, outcome: Outcome) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=LOCK_SECONDS):
            write_whole(path, json.dumps({**_read(path), str(number): to_json(outcome)}, allow_nan=False))
    except (OSError, Timeout) as error:
        LOG.info("The answer of question %d was not kept in %s: %s", number, path, error)
