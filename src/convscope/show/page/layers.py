"""The section on what happened inside the network: the values of every layer over the steps, with the findings on them, and a table.

Receives `Contents`, returns a section, or a sentence where no layer was watched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from convscope.records import LayerStats
from convscope.show.page.contents import Contents
from convscope.show.page.html import Child, Markup, embedded_json, join, number, table, tag
from convscope.show.page.layer_values import belongs, last_signed, layer_values
from convscope.show.page.parts import Absent, Section, more
from convscope.show.page.words import NO_NUMBER, chosen, count, percent, plural

HOW_TO_READ = (
    "Each picture is a layer's output over the steps, from left to right: values near zero in the middle, positive above, negative below; "
    "the stronger the colour, the more values. A healthy layer spreads out soon and then stays smooth. One that collapses shows a single line, "
    "or teeth: growing spread that falls back to zero again and again."
)


def layers(run: Contents) -> Section | Absent:
    """Pictures of all layers, one of them large with its numbers at any step, and the last statistics as a table."""
    watched = {name: records for name, records in run.layers.items() if records}
    if not watched:
        return Absent("What happened inside the layers is missing: no layer was watched.")
    with_findings = [name for name in watched if any(belongs(finding, name) for finding in run.findings)]
    label = f"Pictures of the values of {plural(len(watched), 'layer')} over the steps"
    label += f"; findings are marked on {', '.join(with_findings)}." if with_findings else "."
    grid = tag("div", class_="thumbnails", role="group", aria_label=label)
    values = embedded_json("layers-values", layer_values(watched, run.findings))
    body = join(
        tag("p", HOW_TO_READ, class_="muted"),
        tag("div", grid, _detail(), id="layers-explorer"),
        values,
        more("The last statistics as a table", _table(watched)),
    )
    return Section("layers", "Inside the layers", "Layers", body)


def _detail() -> Markup:
    """The place of the chosen layer; the page's script fills it."""
    slider = tag("input", type="range", id="layer-step", min="0", value="0")
    return tag(
        "figure",
        tag("div", tag("h3", id="layer-name"), tag("label", "Step ", slider, for_="layer-step"), class_="chart-head"),
        tag("p", id="layer-numbers", class_="muted", aria_live="polite"),
        tag(
            "div",
            tag("div", id="layer-picture", role="img", aria_label="Values of the chosen layer over the steps"),
            tag("div", id="layer-histogram", role="img", aria_label="Histogram of the chosen step"),
            class_="layer-row",
        ),
        tag(
            "div",
            tag("canvas", id="layer-channels", role="img", aria_label="Channels that were never positive"),
            tag("figcaption", id="layer-channels-caption"),
            id="layer-map",
        ),
        tag("div", id="layer-moments", role="img", aria_label="Mean, spread and share near zero over the steps"),
        class_="panel",
    )


def _table(watched: Mapping[str, Sequence[LayerStats]]) -> Markup:
    rows: list[list[Child]] = []
    for name, records in watched.items():
        last = records[-1]
        signed = last_signed(records)[-1]
        silent = signed.never_positive
        lost = last.nan_count + last.inf_count
        rows.append(
            [
                name,
                last.kind,
                number(last.mean, chosen(last.mean)),
                number(last.std, chosen(last.std)),
                number(last.minimum, chosen(last.minimum)),
                number(last.maximum, chosen(last.maximum)),
                number(last.share_near_zero, percent(last.share_near_zero)),
                join(number(len(silent), count(len(silent))), f" of {count(signed.channels)}") if signed.positive_samples else NO_NUMBER,
                number(lost, count(lost)),
                number(last.update_ratio, NO_NUMBER if math.isnan(last.update_ratio) else chosen(last.update_ratio)),
            ]
        )
    head = [
        "Layer",
        "Kind",
        "Mean",
        "Spread",
        "Least",
        "Greatest",
        "Near zero",
        "Channels never positive",
        "NaN or infinite",
        "Update / weight",
    ]
    return table("Every layer's output at its last recorded steps", head, rows, numeric=range(2, 10))
