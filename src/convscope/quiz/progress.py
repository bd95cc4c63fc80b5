"""A learner's progress: one JSON file with a card for each question that was answered, and when it should come again.

    {"schema": 1, "cards": {"15": {fsrs's card}}, "reviews": [{"question": 15, "rating": 3, "at": "2026-01-31T12:00:00+00:00"}]}

The file is read, changed and written whole under a lock, so that a terminal and a browser can be used at once and a crash loses nothing. Damage
is an error that leaves the file as it is. When a question comes again is decided by fsrs, the published scheduler for spaced repetition.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from fsrs import Card, Rating, Scheduler

from convscope.errors import ProgressError, UsageError
from convscope.quiz.files import write_whole

SCHEMA = 1
LOCK_SECONDS = 10  # to wait for another program that writes the same file, which takes milliseconds
RATINGS = {1: "again", 2: "hard", 3: "good", 4: "easy"}  # fsrs's
SCHEDULER = Scheduler(enable_fuzzing=False)  # fuzzing spreads large decks over days; forty cards need none


@dataclass(frozen=True, slots=True)
class Progress:
    """What a learner did so far.

    Attributes:
        cards: fsrs's card of each question that was answered.
        reviews: every answer in order: question, rating (1 again, 2 hard, 3 good, 4 easy) and time.
    """

    cards: Mapping[int, Card] = field(default_factory=dict)
    reviews: tuple[Mapping[str, Any], ...] = ()

    def due(self, numbers: Iterable[int], now: datetime | None = None) -> list[int]:
        """The questions to ask now: those whose time has come, the longest due first, then those never asked, in order.

        Args:
            numbers: all questions.
            now: with a time zone; the clock's when None.
        """
        now = now or datetime.now(UTC)
        numbers = list(numbers)
        ripe = [number for number in numbers if number in self.cards and self.cards[number].due <= now]
        return sorted(ripe, key=lambda number: self.cards[number].due) + [number for number in numbers if number not in self.cards]

    def next_due(self) -> datetime | None:
        """When the next question that was answered comes again; None when none was."""
        return min((card.due for card in self.cards.values()), default=None)


def load(path: Path) -> Progress:
    """Read a progress file; one that does not exist is empty progress.

    Raises:
        ProgressError: it cannot be read, is damaged, or comes from a newer version; it is left as it is.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Progress()
    except (OSError, UnicodeDecodeError) as error:
        raise ProgressError(f"The progress file {path} cannot be read: {error}. {_MEND}") from None
    try:
        value = json.loads(text)
        schema = value["schema"]
        if schema == SCHEMA:
            cards = {int(number): Card.from_dict(card) for number, card in value["cards"].items()}
            if any(card.due.tzinfo is None for card in cards.values()):
                raise ValueError("a time without a time zone")
            return Progress(cards, tuple(value["reviews"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ProgressError(f"The progress file {path} is damaged ({type(error).__name__}: {error}). {_MEND}") from None
    raise ProgressError(f"The progress file {path} has schema {schema!r}; this version reads {SCHEMA}. Install the newest convscope.")


_MEND = "Nothing was changed. Restore it from a copy, or move it away to begin anew."


def review(path: Path, number: int, rating: int, now: datetime | None = None) -> Progress:
    """Note how well a question was answered, and write the file.

    Args:
        path: the progress file; made when missing.
        number: of the question.
        rating: 1 again, 2 hard, 3 good, 4 easy.
        now: with a time zone; the clock's when None.

    Returns:
        The progress with this answer.

    Raises:
        UsageError: the rating is none of the four.
        ProgressError: the file is damaged, cannot be written, or another program holds it.
    """
    if rating not in RATINGS:
        raise UsageError(f"The rating is {rating!r}; it must be {', '.join(f'{key} ({name})' for key, name in RATINGS.items())}.")
    now = now or datetime.now(UTC)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=LOCK_SECONDS):
            before = load(path)
            card = before.cards.get(number) or Card(card_id=number, due=now)
            card, _ = SCHEDULER.review_card(card, Rating(rating), now)
            entry = {"question": number, "rating": rating, "at": now.isoformat()}
            after = Progress({**before.cards, number: card}, (*before.reviews, entry))
            write_whole(path, _dump(after))
    except Timeout:
        raise ProgressError(
            f"Another program holds the progress file {path} for more than {LOCK_SECONDS} s. Close it and answer again."
        ) from None
    except OSError as error:
        raise ProgressError(f"The progress file {path} cannot be written: {error.strerror or error}. The old one is as it was.") from error
    return after


def _dump(progress: Progress) -> str:
    cards = {str(number): card.to_dict() for number, card in sorted(progress.cards.items())}
    return json.dumps({"schema": SCHEMA, "cards": cards, "reviews": list(progress.reviews)}, indent=1) + "\n"
