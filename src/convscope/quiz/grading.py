"""Grades what a learner typed by running it: a kernel on images, a shape through conv2d, a number against the one that the library computes.

It receives a question and text and returns a Grade. What cannot be read raises, so that it can be typed again and counts for nothing.
Texts are not graded; only the learner can compare them with the answer.
"""

from __future__ import annotations

import ast
import math
import re
import reprlib
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.arithmetic import apply_kernel
from convscope.data import DataLoaders
from convscope.quiz.answers import outcome_of
from convscope.quiz.answers.kernels import STEPS, strongest
from convscope.quiz.evaluate import NotUnderstood, evaluate, parse
from convscope.quiz.records import Grade, Question
from convscope.train.activation_stats import ActivationStats

CLOSE = 1e-6  # relative difference of numbers that count as equal; typed answers have fewer digits than float32
SIDEWAYS = 0.5  # of the answer at a top edge: a kernel that answers other edges as much is no detector of top edges
LARGEST_AXIS = 10_000  # of a typed shape
IMAGES_8 = (1, 3, 28, 28)  # question 8: one image of the batch
FILTERS_8, KERNEL_8 = 16, (5, 5)  # question 8: channels out, rows and columns of the kernels
MOST_WEIGHTS = 1_000_000  # of a typed shape, run in milliseconds


def grade(question: Question, typed: str) -> Grade:
    """Grade an answer.

    Args:
        question: which question.
        typed: what the learner typed; matrices as "1 2 / 3 4" or [[1, 2], [3, 4]], shapes as "2, 3" or "2 x 3", numbers also as arithmetic.

    Returns:
        Right or wrong with a sentence on why; for texts `right` is None.

    Raises:
        NotUnderstood: it cannot be read as such an answer.

    Example:
        >>> grade(question(15), "4 * 4 * 1152").right
        True
    """
    if question.kind == "text":
        return Grade(None, "Compare it with the answer and say yourself how well you knew it.")
    if not typed.strip():
        raise NotUnderstood("Nothing was typed.")
    if question.kind == "choice":
        return _choice(question, typed)
    return _GRADERS[question.id](typed) if question.id in _GRADERS else _compared(question, typed)


def _choice(question: Question, typed: str) -> Grade:
    letters = [chr(ord("a") + place) for place in range(len(question.choices))]
    chosen = typed.strip().lower().rstrip(".)")
    if chosen not in letters:
        whole = [letter for letter, choice in zip(letters, question.choices, strict=True) if choice.lower() == typed.strip().lower()]
        if not whole:
            raise NotUnderstood(f"Type one letter: {', '.join(letters[:-1])} or {letters[-1]}.")
        chosen = whole[0]
    right = letters[question.right - 1]
    return Grade(chosen == right, f"{chosen} is {'right' if chosen == right else f'wrong; {right} is right'}.")


def _compared(question: Question, typed: str) -> Grade:
    """Compare a number or shape with what the library computes."""
    answer = outcome_of(question.id).answer
    if question.kind == "shape":
        shape = read_shape(typed)
        return Grade(list(shape) == list(answer), f"You say {shape}; computed: {tuple(answer)}.")
    number = read_number(typed)
    return Grade(math.isclose(number, answer, rel_tol=CLOSE, abs_tol=1e-9), f"You say {number:,g}; computed: {answer:,g}.")


# ------------------------------------------------------------------------------------------------------------------ reading


def read_number(typed: str) -> float:
    """A number, also as arithmetic ("4*4*1152"), with thousands separated by commas, or as a percentage.

    Raises:
        NotUnderstood: it is none.
    """
    text = typed.strip().replace("−", "-").replace("×", "*").replace("·", "*")
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", text):
        text = text.replace(",", "")
    if re.fullmatch(r"[^\W\d]\w*", text):
        raise NotUnderstood(f"A number is asked for, such as 784 or 28*28; {reprlib.repr(typed.strip())} is none.")
    percent = text.endswith("%")
    value = evaluate(text.removesuffix("%"))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NotUnderstood(f"A number is asked for; {reprlib.repr(value)} is none.")
    return value / 100 if percent else value


def read_shape(typed: str) -> tuple[int, ...]:
    """A shape: "(64, 3, 28, 28)", "64 x 3 x 28 x 28" or "64 3 28 28".

    Raises:
        NotUnderstood: it is none.
    """
    inside = re.sub(r"^\s*torch\.Size|[()\[\]]", " ", typed)
    parts = [part for part in re.split(r"[\s,x×*]+", inside) if part]
    if not parts or not all(part.isascii() and part.isdigit() for part in parts) or len(typed) > 200:
        raise NotUnderstood("A shape is asked for: whole numbers, such as 2, 3, 4.")
    shape = tuple(int(part) if len(part) < 10 else LARGEST_AXIS + 1 for part in parts)
    if max(shape) > LARGEST_AXIS or min(shape) < 1:
        raise NotUnderstood(f"The sizes of a shape are asked for between 1 and {LARGEST_AXIS:,}.")
    return shape


def read_matrix(typed: str) -> list[list[float]]:
    """A matrix: rows separated by "/", ";" or new lines, or a list of lists.

    Raises:
        NotUnderstood: it is none, or its rows differ in length.
    """
    if len(typed) > 1_000:
        raise NotUnderstood(f"That is {len(typed):,} characters long; a 3×3 matrix needs fewer.")
    text = typed.strip().replace("−", "-")
    rows = (
        evaluate(text) if text.startswith("[") else [re.split(r"[\s,]+", row.strip()) for row in re.split(r"[/;\n]", text) if row.strip()]
    )
    try:
        matrix = [[float(value) for value in row] for row in rows]
    except (TypeError, ValueError):
        raise NotUnderstood("A matrix of numbers is asked for, such as 1 2 3 / 4 5 6 / 7 8 9.") from None
    if len({len(row) for row in matrix}) != 1 or not all(math.isfinite(value) and abs(value) < 1e6 for row in matrix for value in row):
        raise NotUnderstood("The rows must be equally long, of numbers below a million, such as 1 2 3 / 4 5 6 / 7 8 9.")
    return matrix


# ------------------------------------------------------------------------------------------------------------------ by running


def _top_edge(typed: str) -> Grade:
    """Question 2: run the kernel over steps from paper to ink in four directions, and over plain ink."""
    rows = read_matrix(typed)
    if (len(rows), len(rows[0])) != (3, 3):
        raise NotUnderstood(f"A 3×3 kernel is asked for; this one is {len(rows)}×{len(rows[0])}.")
    kernel = torch.tensor(rows)
    answers = {name: strongest(image, kernel) for name, image in STEPS.items()}
    plain = float(apply_kernel(torch.ones(3, 3), kernel)[0])
    seen = ", ".join(f"{name} {value:g}" for name, value in answers.items()) + f", plain ink {plain:g}"
    top = answers["top edge"]
    if top <= 0:
        return Grade(False, f"It does not answer top edges with a positive number: {seen}.")
    if abs(plain) > CLOSE * float(kernel.abs().sum()):
        return Grade(False, f"It answers ink without any edge too, because its numbers do not add up to 0: {seen}.")
    if answers["bottom edge"] > 0 or max(abs(answers["left edge"]), abs(answers["right edge"])) >= SIDEWAYS * top:
        return Grade(False, f"It answers other edges too: {seen}.")
    return Grade(True, f"It detects top edges: {seen}.")


def _nested(typed: str) -> Grade:
    """Question 7: a comprehension whose expression is a comprehension, that evaluates."""
    tree = parse(typed)
    if not isinstance(tree, ast.ListComp):
        return Grade(False, "That is not a list comprehension, which looks like [expression for name in list].")
    if not isinstance(tree.elt, ast.ListComp):
        loops = len(tree.generators)
        flat = f"{loops} loops in one comprehension give one flat list" if loops > 1 else "there is one comprehension"
        return Grade(False, f"That is not nested: {flat}; the inner list needs brackets of its own.")
    return Grade(True, f"It gives {reprlib.repr(evaluate(tree))}.")


def _weight(typed: str) -> Grade:
    """Question 8: a weight of that shape given to conv2d."""
    shape = read_shape(typed)
    if math.prod(shape) > MOST_WEIGHTS:
        raise NotUnderstood(f"A weight of {math.prod(shape):,} numbers is not tried; at most {MOST_WEIGHTS:,}.")
    try:
        maps: Tensor = F.conv2d(torch.zeros(IMAGES_8), torch.zeros(shape))
    except (RuntimeError, TypeError) as error:
        return Grade(False, f"conv2d refuses a weight of shape {shape}: {_first_sentence(error)}")
    given = f"a weight of shape {shape} makes {maps.shape[1]} channels"
    if maps.shape[1] != FILTERS_8 or shape[2:] != KERNEL_8:
        return Grade(False, f"conv2d takes it, but {given}; {FILTERS_8} channels and 5×5 kernels are asked for.")
    return Grade(True, f"conv2d agrees: {given}.")


def _first_sentence(error: Exception) -> str:
    return str(error).split("\n")[0].split(". ")[0].rstrip(".") + "."


def _show_batch(typed: str) -> Grade:
    """Question 22: a call of a method of DataLoaders that returns a figure."""
    owner, name, called = _dotted(typed)
    if owner != "data" or name != "show_batch":
        there = f"data has a {name}, which shows no images" if hasattr(DataLoaders, name) else f"data has no {name}"
        return Grade(
            False, f"{there.capitalize() if owner == 'data' else f'{owner} is not the loaders'}; data.show_batch() shows a grid of images."
        )
    if not called:
        return Grade(False, "data.show_batch is the method itself; brackets call it: data.show_batch().")
    shown = outcome_of(22).value["images in the figure"]
    return Grade(True, f"It makes a figure of {shown} images.")


def _callback_name(typed: str) -> Grade:
    """Question 26: the name under which a learner holds an ActivationStats."""
    owner, name, called = _dotted(typed)
    right = ActivationStats().name
    if owner == "learner" and name == right and not called:
        return Grade(True, f"The learner holds it as {right}.")
    return Grade(False, f"learner.{right} is what it is called{', without brackets' if called and name == right else ''}.")


def _dotted(typed: str) -> tuple[str, str, bool]:
    """The parts of `owner.name` or `owner.name(...)`, and whether it is called."""
    tree = parse(typed)
    called = isinstance(tree, ast.Call)
    inner = tree.func if isinstance(tree, ast.Call) else tree
    if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name):
        return inner.value.id, inner.attr, called
    raise NotUnderstood("An expression with a dot is asked for, such as data.something().")


_GRADERS: dict[int, Callable[[str], Grade]] = {2: _top_edge, 7: _nested, 8: _weight, 22: _show_batch, 26: _callback_name}


def letters(choices: Sequence[str]) -> list[str]:
    """Choices with their letters, as they are shown.

    Example:
        >>> letters(["yes", "no"])
        ['a) yes', 'b) no']
    """
    return [f"{chr(ord('a') + place)}) {choice}" for place, choice in enumerate(choices)]
