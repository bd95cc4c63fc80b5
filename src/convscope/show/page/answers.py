"""The sections on what the trained network answers: the confusion matrix, each class, and the most confident mistakes.

Receives `Contents`, returns sections, or a sentence where the run was not evaluated. The shares are of the confusion matrix's counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from convscope.records import Evaluation
from convscope.show.page import charts
from convscope.show.page.contents import Contents
from convscope.show.page.html import Child, Markup, join, number, table, tag
from convscope.show.page.parts import Absent, Section, bar, chart, more, wrong_image
from convscope.show.page.words import count, percent, plural

MOST_CONFUSIONS = 10  # rows; further ones are in the matrix
MOST_SINGLE_CELLS = 100  # classes; about four pixels a cell on a wide screen, below which the page's script joins cells
CLASSES_IN_VIEW = 12  # the table of more classes begins with the worst


def answers(run: Contents) -> Section | Absent:
    """The confusion matrix with the pairs most often confused, and each class's accuracy."""
    judged = run.evaluation
    if judged is None:
        return Absent("The confusion matrix and the wrong images are missing: the network was not evaluated.")
    names = run.classes
    kind = {"valid": "validation", "test": "test"}.get(judged.split, judged.split)
    caption = (
        "Rows are the true classes, columns the answers. Blue: right answers; orange: mistakes, stronger for a larger share of the row. "
        "Each colour has a scale of its own, so that rare mistakes can be seen."
    )
    if len(names) > MOST_SINGLE_CELLS:
        caption += " Neighbouring cells are joined where they would be too small to see; the largest share is shown."
    size = f"{plural(len(names), 'class', 'classes')} over {plural(judged.count, 'image')}"
    label = f"Confusion matrix of {size}; the tables beside it hold its numbers."
    matrix = chart("confusion", "Confusion matrix", charts.confusion_chart(judged, names), label, caption)
    beside = tag("div", _confusions(judged, names), class_="stack")
    body = join(
        tag("p", f"Measured on {plural(judged.count, f'{kind} image')} that the network was not trained on.", class_="muted"),
        tag("div", matrix, beside, class_="matrix-row"),
    )
    return Section("answers", "What it answers", "Answers", join(body, _classes(judged, names)))


def _confusions(judged: Evaluation, names: Sequence[str]) -> Markup:
    """The mistakes made most often."""
    cells = [(n, i, j) for i, row in enumerate(judged.confusion) for j, n in enumerate(row) if i != j and n]
    cells.sort(key=lambda cell: (-cell[0], cell[1], cell[2]))
    if not cells:
        return tag("p", "There is no mistake to list.")
    rows = []
    for n, i, j in cells[:MOST_CONFUSIONS]:
        share = n / sum(judged.confusion[i])
        rows.append([names[i], names[j], number(n, count(n)), number(share, percent(share))])
    wrong = sum(n for n, _, _ in cells)
    title = f"Most frequent of {plural(wrong, 'mistake')}"
    return table(title, ["Is", "Answered", "Images", "Share of the class"], rows, numeric=(2, 3))


def _classes(judged: Evaluation, names: Sequence[str]) -> Markup:
    """One row a class: images, those answered right, and how far an answer can be trusted; the worst first when there are many."""
    images = [sum(row) for row in judged.confusion]
    right = [row[i] for i, row in enumerate(judged.confusion)]
    answered = [sum(column) for column in zip(*judged.confusion, strict=True)]
    missed = [1 - r / n if n else 0.0 for r, n in zip(right, images, strict=True)]
    longest = max(missed, default=0.0) or 1.0
    order = list(range(len(names)))
    many = len(names) > CLASSES_IN_VIEW
    if many:
        order.sort(key=lambda i: -missed[i])
    rows: list[list[Child]] = []
    for i in order:
        accuracy = right[i] / images[i] if images[i] else None
        precision = right[i] / answered[i] if answered[i] else None
        shown = join(number(accuracy, percent(accuracy)), bar(missed[i] / longest, "series-2"))
        rows.append(
            [names[i], number(images[i], count(images[i])), number(right[i], count(right[i])), shown, number(precision, percent(precision))]
        )
    said = tag(
        "p",
        "Accuracy: the share of the class's images that are answered right (recall). The bar: those that are not, longest for the worst. "
        "Precision: the share of the answers with this class that are right.",
        class_="muted",
    )
    caption = "Accuracy of each class" + (", worst first" if many else "")
    head = ["Class", "Images", "Right", "Accuracy", "Precision"]
    return join(tag("h3", "Class by class"), said, table(caption, head, rows, numeric=(1, 2, 3, 4), class_="tall" if many else ""))


def mistakes(run: Contents) -> Section | Absent:
    """The most confidently wrong images."""
    judged = run.evaluation
    if judged is None:
        return Absent("")
    if not judged.wrong:
        return Absent("The most confident mistakes are left out: no wrong answer was kept with its image.")
    said = tag(
        "p",
        "Where the network was most sure and still wrong. Look for wrong labels first, then for what these images have in common.",
        class_="muted",
    )
    first, rest = judged.wrong[:12], judged.wrong[12:]
    grid = tag("div", map(wrong_image, first), class_="images wrong")
    hidden = more(f"{plural(len(rest), 'further image')}", tag("div", map(wrong_image, rest), class_="images wrong")) if rest else None
    return Section("mistakes", "Most confident mistakes", "Mistakes", join(said, grid, hidden))
