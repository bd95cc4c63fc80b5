"""The section on the data: sample images, counts, preparation, and what was left out.

Receives `Contents`, returns a section, or a sentence where the run kept nothing about its data.
"""

from __future__ import annotations

from convscope.records import DataSummary
from convscope.show.page.contents import Contents
from convscope.show.page.html import Child, Markup, join, number, table, tag
from convscope.show.page.parts import Absent, Section, bar, facts, more, sample_image
from convscope.show.page.words import chosen, count, figure, plural

SPLITS = {"train": "Training", "valid": "Validation", "test": "Test"}
COLOURS = {"train": "series-1", "valid": "series-2", "test": "series-3"}
MOST_SKIPPED = 20  # listed here; all of them are in skipped_files.csv
MOST_SAMPLES = 24


def data(run: Contents) -> Section | Absent:
    """What the network was trained on."""
    summary = run.data
    if summary is None:
        return Absent("The data is not described: the run kept no summary of it.")
    samples = tag("div", map(sample_image, summary.samples[:MOST_SAMPLES]), class_="images samples") if summary.samples else None
    notes = tag("ul", [tag("li", note) for note in summary.notes], class_="notes") if summary.notes else None
    body = join(
        samples,
        notes,
        tag("div", _counts(summary), tag("div", tag("h3", "Preparation"), facts(_preparation(summary))), class_="pair"),
        _skipped(summary),
    )
    return Section("data", "The data", "Data", body)


def _counts(summary: DataSummary) -> Markup:
    splits = [split for split in SPLITS if split in summary.counts] + [split for split in summary.counts if split not in SPLITS]
    largest = max((n for split in splits for n in summary.counts[split]), default=0) or 1

    def cell(split: str, n: int) -> Markup:
        return join(number(n, count(n)), bar(n / largest, COLOURS.get(split, "series-1")))

    rows: list[list[Child]] = [
        [name, *(cell(split, summary.counts[split][i]) for split in splits)] for i, name in enumerate(summary.classes)
    ]
    totals = [sum(summary.counts[split]) for split in splits]
    foot: list[Child] = ["All classes", *(number(total, count(total)) for total in totals)]
    head = ["Class", *(SPLITS.get(split, split) for split in splits)]
    return tag(
        "div",
        tag("h3", "Images"),
        table("Images of each class", head, rows, foot=foot, numeric=range(1, len(head)), class_="tall" if len(rows) > 12 else ""),
    )


def _preparation(summary: DataSummary) -> list[tuple[Child, Child]]:
    shape = " × ".join(map(str, summary.image_shape))
    items: list[tuple[Child, Child]] = [("Source", summary.source), ("Image (channels × rows × columns)", shape)]
    items += [("Mean, then spread, taken out", join(_numbers(summary.mean), " / ", _numbers(summary.std)))] if summary.mean else []
    changes = [join(name.replace("_", " "), " ", number(strength, chosen(strength))) for name, strength in summary.augment.items()]
    items.append(("Random changes while training", [join(", " if i else None, change) for i, change in enumerate(changes)] or "none"))
    if summary.class_weights:
        weights = [
            join(", " if i else None, name, " ", number(w, chosen(w)))
            for i, (name, w) in enumerate(zip(summary.classes, summary.class_weights, strict=True))
        ]
        items.append(("Weights of the classes in the loss", weights))
    return items


def _numbers(values: tuple[float, ...]) -> Markup:
    return join([join(", " if i else None, number(value, figure(value))) for i, value in enumerate(values)])


def _skipped(summary: DataSummary) -> Markup | None:
    if not summary.skipped:
        return tag("p", "No file was skipped.", class_="muted")
    rows = [[file.path, file.reason] for file in summary.skipped[:MOST_SKIPPED]]
    where = f"; the first {MOST_SKIPPED} are shown, all are in skipped_files.csv" if len(summary.skipped) > MOST_SKIPPED else ""
    return more(f"{plural(len(summary.skipped), 'file')} skipped{where}", table("Skipped files", ["File", "Why"], rows))
