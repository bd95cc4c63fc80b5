"""The pieces that sections share: a section, a chart's place, tiles, definition lists, pictures with their captions, bars.

Receives values and elements, returns elements. It knows nothing of runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from convscope.records import SampleImage
from convscope.show.page.charts import Chart
from convscope.show.page.html import Child, Markup, embedded_json, join, number, picture, tag
from convscope.show.page.words import percent


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with its heading. `short` is its name in the bar at the top."""

    identifier: str
    title: str
    short: str
    body: Markup

    def element(self) -> Markup:
        """The section as HTML."""
        heading = f"{self.identifier}-heading"
        return tag("section", tag("h2", self.title, id=heading), self.body, id=self.identifier, aria_labelledby=heading)


@dataclass(frozen=True, slots=True)
class Absent:
    """A part that this run cannot show, and why in a sentence."""

    sentence: str


def chart(identifier: str, title: str, figure: Chart, label: str, caption: Child = None) -> Markup:
    """The place of a chart with its values beside it; the page's script draws it there.

    Args:
        identifier: unique in the page.
        title: shown above it.
        figure: what `charts` made.
        label: what the chart shows in one sentence, read aloud instead of it.
        caption: shown below it.
    """
    switch = (
        tag("button", "Logarithmic", type="button", class_="switch", data_logarithm=identifier, aria_pressed="false")
        if figure.get("logarithm")
        else None
    )
    return tag(
        "figure",
        tag("div", tag("h3", title), switch, class_="chart-head"),
        tag(
            "div",
            tag("noscript", "This chart is drawn by a script, and scripts are switched off."),
            class_="chart",
            id=identifier,
            role="img",
            aria_label=label,
        ),
        tag("figcaption", caption) if caption else None,
        embedded_json(f"{identifier}-values", figure),
        class_="panel",
    )


def tiles(items: Iterable[tuple[str, Child, Child]]) -> Markup:
    """Figures that are read first: name, value, and a few words below."""
    return tag(
        "dl",
        [tag("div", tag("dt", name), tag("dd", value, tag("small", note) if note else None)) for name, value, note in items],
        class_="tiles",
    )


def facts(items: Iterable[tuple[Child, Child]]) -> Markup:
    """Names and their values, below each other."""
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in items], class_="facts")


def bar(share: float, colour: str = "series-1") -> Markup:
    """A bar of that share of its cell, as decoration beside the number that says it."""
    return tag("span", tag("span", style=f"width:{100 * share:.2f}%;background:var(--{colour})"), class_="bar", aria_hidden="true")


def wrong_image(image: SampleImage) -> Markup:
    """An image that was answered wrongly, with the answer and how sure it was."""
    what = tag("span", "is ", tag("b", image.label), ", answered ", tag("b", image.predicted or "?"))
    sure = (
        tag("span", number(image.confidence, percent(image.confidence)), " sure", class_="muted") if image.confidence is not None else None
    )
    caption = tag("figcaption", what, sure, tag("span", image.name, class_="file", title=image.name) if image.name else None)
    return tag("figure", picture(image.png, f"{image.name or 'Image'}: is {image.label}, answered {image.predicted}"), caption)


def sample_image(image: SampleImage) -> Markup:
    """A training image with its class."""
    return tag(
        "figure",
        picture(image.png, f"{image.name or 'Image'} of class {image.label}"),
        tag("figcaption", image.label, title=image.name or None),
    )


def more(summary: str, *body: Child) -> Markup:
    """What is one click away."""
    return tag("details", tag("summary", summary), join(*body))
