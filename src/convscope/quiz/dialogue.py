"""The quiz in the terminal: ask, grade, show what running gave, and note when to ask again.

It receives a console and a way to read a line, and writes nothing but the progress file. The dialogue goes to stdout, remarks on files to stderr.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from convscope.quiz.catalogue import question, questions
from convscope.quiz.demonstrations import demonstrate, needs_training
from convscope.quiz.files import progress_file
from convscope.quiz.progress import RATINGS, Progress, load, review
from convscope.quiz.records import Demonstration, Grade, Json, Question

RIGHT, RIGHT_WITH_HINT, WRONG = 3, 2, 1  # fsrs's ratings of answers that the quiz grades itself
LONGEST_VALUE = 400  # characters of one computed value in the terminal; `--check --json` shows all
HELP = "Type an answer, [b]?[/b] for a hint, [b]skip[/b] or [b]quit[/b]."


class _Quit(Exception):
    """The learner wants to stop."""


def run_quiz(
    progress: Path | None = None,
    *,
    ask: Callable[[str], str] = input,
    console: Console | None = None,
    now: Callable[[], datetime] | None = None,
) -> int:
    """Ask questions until the learner stops or nothing is due; Ctrl-C and Ctrl-D stop too, and every answer given is kept.

    Args:
        progress: the file that keeps it; the user's own when None.
        ask: reads one line after a prompt; raises EOFError at the end of the input.
        console: where the dialogue goes; stdout when None.
        now: the clock.

    Returns:
        How many questions were answered.

    Raises:
        ProgressError: the progress file is damaged or cannot be written.
    """
    path, console, clock = progress or progress_file(), console or Console(), now or (lambda: datetime.now(UTC))
    state, numbers, skipped, answered = load(path), [one.id for one in questions()], set[int](), 0
    _greet(console, state, numbers, clock())
    try:
        while waiting := [number for number in state.due(numbers, clock()) if number not in skipped]:
            rating = _ask(question(waiting[0]), console, ask)
            if rating is None:
                skipped.add(waiting[0])
                continue
            state = review(path, waiting[0], rating, clock())
            answered += 1
    except (KeyboardInterrupt, EOFError, _Quit):
        console.print()
    _part(console, state, answered, clock())
    if answered:
        Console(stderr=True).print(f"Progress is kept in {path}", style="dim", soft_wrap=True, highlight=False)
    return answered


def _greet(console: Console, state: Progress, numbers: list[int], now: datetime) -> None:
    new = sum(number not in state.cards for number in numbers)
    due = len(state.due(numbers, now)) - new
    console.print(f"[b]{len(numbers)} questions on convolutional networks[/b]: {due} to repeat, {new} new. {HELP}", highlight=False)


def _part(console: Console, state: Progress, answered: int, now: datetime) -> None:
    answers = "1 question" if answered == 1 else f"{answered} questions"
    again = state.next_due()
    when = "" if again is None else f" The next one comes again {_in_words(again, now)}."
    console.print(f"{answers} answered.{when}", highlight=False)


def _in_words(then: datetime, now: datetime) -> str:
    minutes = (then - now).total_seconds() / 60
    if minutes <= 1:
        return "now"
    if minutes < 90:
        return f"in {minutes:.0f} minutes"
    return f"in {minutes / 60:.0f} hours" if minutes < 36 * 60 else f"in {minutes / 60 / 24:.0f} days"


def _ask(asked: Question, console: Console, ask: Callable[[str], str]) -> int | None:
    """Ask one question until it is answered; returns the rating, or None when it was skipped."""
    from convscope.quiz.evaluate import NotUnderstood

    console.print()
    console.print(Panel(escape(asked.text), title=f"{asked.id} · {asked.topic}", title_align="left", border_style="blue"))
    for place, choice in enumerate(asked.choices):
        console.print(f"  [b]{chr(ord('a') + place)}[/b]  {escape(choice)}", highlight=False)
    hints = list(asked.hints)
    while True:
        typed = ask("> ").strip()
        match typed.lower():
            case "quit" | "exit" | "q":
                raise _Quit
            case "skip":
                return None
            case "?" | "hint":
                console.print(f"[yellow]{escape(hints.pop(0)) if hints else 'There are no more hints.'}[/yellow]", highlight=False)
                continue
            case "" if asked.kind != "text":
                console.print(HELP, highlight=False)
                continue
        try:
            grade = _graded(asked, typed, console)
        except NotUnderstood as error:
            console.print(f"[yellow]{escape(str(error))}[/yellow]", highlight=False)
            continue
        break
    _show(asked, grade, console)
    if grade.right is None:
        return _self_rated(ask, console)
    return (RIGHT if len(hints) == len(asked.hints) else RIGHT_WITH_HINT) if grade.right else WRONG


def _graded(asked: Question, typed: str, console: Console) -> Grade:
    with console.status("running your answer ..."):
        from convscope.quiz.grading import grade  # brings in torch: seconds at the first answer

        return grade(asked, typed)


def _show(asked: Question, grade: Grade, console: Console) -> None:
    """The verdict, the answer in words, and what running it and the wrong answers gave."""
    if grade.right is not None:
        console.print(
            f"[{'green' if grade.right else 'red'}]{'Right.' if grade.right else 'Not so.'}[/] {escape(grade.said)}", highlight=False
        )
    waiting = "training small networks, once; the result is kept ..." if needs_training(asked.id) else "running the answer ..."
    try:
        with console.status(waiting):
            shown = demonstrate(asked.id)
    except KeyboardInterrupt:  # the answer was given and counts; another Ctrl-C ends the quiz
        console.print(f"\nStopped computing. {escape(asked.explanation)}", highlight=False)
        return
    console.print(f"\n{escape(shown.explanation)}\n", highlight=False)
    console.print(_table(shown))


def _table(shown: Demonstration) -> Table:
    """What was computed, and below it each wrong answer with what it gave."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim", max_width=30)
    table.add_column()
    table.add_row(shown.verified, escape(shown.how))
    for name, value in shown.value.items():
        table.add_row(escape(name), escape(in_words(value)))
    for wrong in shown.wrong:
        table.add_row("", "")
        table.add_row("[red]people also say[/red]", f"[red]{escape(wrong.answer)}[/red]")
        table.add_row("which gives", escape(in_words(wrong.gave)))
        table.add_row("", escape(wrong.why))
    return table


def in_words(value: Json) -> str:
    """A computed value as it is shown in a line: numbers with four digits, lists and names without quotes.

    Example:
        >>> in_words({"rows": [1, 0.123456]})
        'rows: 1, 0.1235'
    """
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, float):
        text = f"{value:.4g}"
    elif isinstance(value, int):
        text = f"{value:,}"
    elif isinstance(value, Mapping):
        text = "; ".join(f"{name}: {in_words(part)}" for name, part in value.items())
    elif isinstance(value, list | tuple):
        nested = any(isinstance(part, list | tuple) for part in value)
        text = " / ".join(map(in_words, value)) if nested else ", ".join(map(in_words, value))
    else:
        text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]} ..."


def _self_rated(ask: Callable[[str], str], console: Console) -> int:
    """How well the learner knew it, in the learner's own judgement."""
    names = {name: rating for rating, name in RATINGS.items()}
    prompt = "How well did you know it? " + ", ".join(f"{rating} {name}" for rating, name in RATINGS.items()) + " > "
    while True:
        typed = ask(prompt).strip().lower()
        if typed in names:
            return names[typed]
        if typed.isdecimal() and int(typed) in RATINGS:
            return int(typed)
        if typed in ("quit", "q", "exit"):
            raise _Quit
        console.print("Type 1, 2, 3 or 4.", highlight=False)
