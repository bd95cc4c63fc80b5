"""The page's charts as plain values: records in, plotly's data and layout out, as JSON.

Colours are names of the page's CSS variables ("--series-1"); its script puts in what they are in light or dark. Nothing is drawn here.
Texts that plotly shows are escaped, because it reads a little HTML in them.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from convscope.records import Evaluation, Finding, Range, StepRecord, shares

Chart: TypeAlias = dict[str, Any]
SEVERITIES = ("problem", "warning", "note")  # worst first
REACH = 1 / 50  # of the records, on either side: hides the noise of batches and keeps the fall of the first epoch
MOST_REACH = 50  # records


def finite(value: float | None) -> float | None:
    """The number, or None (JSON's null, a gap in the line) when it is not finite."""
    return value if value is not None and math.isfinite(value) else None


def smoothed(values: Sequence[float], reach: int) -> list[float | None]:
    """The mean over up to `reach` neighbours on either side, fewer near the ends, so that the line neither lags nor bends there.

    Values that are not finite are passed over; None where there is no other.

    Example:
        >>> smoothed([1.0, 3.0, 8.0], 1)
        [1.0, 4.0, 8.0]
    """
    line: list[float | None] = []
    for place in range(len(values)):
        near = min(reach, place, len(values) - 1 - place)
        held = [value for value in values[place - near : place + near + 1] if math.isfinite(value)]
        line.append(sum(held) / len(held) if held else None)
    return line


def escaped(text: str) -> str:
    """Text for plotly, which reads a little HTML, and `%{...}` in what it shows on hovering."""
    return html.escape(text).replace("%{", "%&#123;")


def span(record: StepRecord) -> str:
    """The steps of a record in words."""
    return f"step {record.first_step:,}" if record.first_step == record.last_step else f"steps {record.first_step:,}–{record.last_step:,}"


def _merged(ranges: Sequence[Range]) -> bool:
    return any(item.count > 1 for item in ranges)


def _line(x: Sequence[Any], y: Sequence[Any], name: str, colour: str, **more: Any) -> Chart:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": list(x),
        "y": list(y),
        "name": name,
        "line": {"color": colour, "width": more.pop("width", 2)},
        **more,
    }


def _range_traces(steps: Sequence[StepRecord], ranges: Sequence[Range], name: str, colour: str, soft: str, width: float = 2) -> list[Chart]:
    """A line of means, with the band from least to greatest where records were merged."""
    x = [record.last_step for record in steps]
    traces = []
    if _merged(ranges):
        low, high = [finite(r.minimum) for r in ranges], [finite(r.maximum) for r in ranges]
        edge: Chart = {"hoverinfo": "skip", "showlegend": False, "width": 0}
        traces += [_line(x, low, "least", soft, **edge), _line(x, high, "greatest", soft, fill="tonexty", fillcolor=soft, **edge)]
        said = [f"{span(s)}: mean {r.mean:.4g}, {r.minimum:.4g} to {r.maximum:.4g}" for s, r in zip(steps, ranges, strict=True)]
    else:
        said = [f"{span(s)}: {r.mean:.4g}" for s, r in zip(steps, ranges, strict=True)]
    y = [finite(r.mean) for r in ranges]
    return [*traces, _line(x, y, name, colour, width=width, text=said, hovertemplate=f"{name}, %{{text}}<extra></extra>")]


def marks(findings: Sequence[Finding], last_step: int) -> tuple[list[Chart], list[Chart]]:
    """Plotly's shapes and annotations that draw findings over steps: a line and a number where each begins, shade after a problem.

    Findings that begin at the same step share a line, and the numbers are those of the list of findings.
    """
    upright = {"xref": "x", "yref": "paper", "y0": 0, "y1": 1}
    shapes: list[Chart] = []
    notes: list[Chart] = []
    by_step: dict[int, list[tuple[int, Finding]]] = {}
    for place, finding in enumerate(findings, 1):
        by_step.setdefault(finding.step, []).append((place, finding))
    first_problem = min((finding.step for finding in findings if finding.severity == "problem"), default=last_step)
    if first_problem < last_step:
        shade = {"fillcolor": "--problem-shade", "line": {"width": 0}, "layer": "below"}
        shapes.append({"type": "rect", "x0": first_problem, "x1": last_step, **upright, **shade})
    for step, group in sorted(by_step.items()):
        severity = min((finding.severity for _, finding in group), key=SEVERITIES.index)
        shapes.append({"type": "line", "x0": step, "x1": step, **upright, "line": {"color": f"--{severity}", "width": 1.5, "dash": "dot"}})
        notes.append(_badge(step, group, severity))
    return shapes, notes


def _badge(step: int, group: Sequence[tuple[int, Finding]], severity: str) -> Chart:
    """The numbers of the findings that begin at a step, above the chart."""
    return {
        "x": step,
        "y": 1,
        "xref": "x",
        "yref": "paper",
        "yanchor": "bottom",
        "showarrow": False,
        "text": ", ".join(str(place) for place, _ in group),
        "hovertext": "<br>".join(f"{place}. {escaped(finding.name)}, from step {finding.step:,}" for place, finding in group),
        "bgcolor": f"--{severity}",
        "borderpad": 3,
        "font": {"color": "--on-badge", "size": 11},
    }


class Evaluated(NamedTuple):
    """The validation loss after a step, and when that was in words."""

    step: int
    loss: float
    when: str


def loss_chart(steps: Sequence[StepRecord], evaluations: Sequence[Evaluated], findings: Sequence[Finding] = ()) -> Chart:
    """Training loss at every step, the same smoothed, validation loss at each evaluation, and the findings where they begin."""
    x = [record.last_step for record in steps]
    losses = [record.loss for record in steps]
    data = _range_traces(steps, losses, "Training loss", "--series-1-soft", "--series-1-band", width=1.2)
    reach = min(MOST_REACH, round(len(losses) * REACH))
    data.append(_line(x, smoothed([r.mean for r in losses], reach), f"Mean of {2 * reach + 1} records", "--series-1", hoverinfo="skip"))
    if evaluations:
        data.append(
            _line(
                [one.step for one in evaluations],
                [finite(one.loss) for one in evaluations],
                "Validation loss",
                "--series-2",
                text=[f"{one.when}: {one.loss:.4g}" for one in evaluations],
                hovertemplate="Validation loss, %{text}<extra></extra>",
            )
            | {"mode": "lines+markers", "marker": {"color": "--series-2", "size": 8, "symbol": "diamond"}}
        )
    shapes, notes = marks(findings, x[-1] if x else 0)
    layout = {"xaxis": {"title": {"text": "step"}}, "yaxis": {"title": {"text": "loss"}}, "shapes": shapes, "annotations": notes}
    return {"data": data, "layout": layout, "logarithm": True, "height": 360}


def hyper_chart(steps: Sequence[StepRecord], name: str, title: str, colour: str) -> Chart:
    """One hyper-parameter over the steps."""
    held = [record for record in steps if name in record.hyper]
    data = _range_traces(held, [record.hyper[name] for record in held], title, f"--{colour}", f"--{colour}-band")
    return {"data": data, "layout": {"xaxis": {"title": {"text": "step"}}, "showlegend": False}, "height": 210}


def gradient_chart(steps: Sequence[StepRecord], findings: Sequence[Finding] = ()) -> Chart:
    """The norm of all gradients over the steps, on a logarithmic axis."""
    held = [record for record in steps if record.gradient_norm]
    data = _range_traces(
        held, [record.gradient_norm for record in held if record.gradient_norm], "Gradient norm", "--series-3", "--series-3-band", width=1.2
    )
    shapes, notes = marks(findings, held[-1].last_step if held else 0)
    layout = {"xaxis": {"title": {"text": "step"}}, "yaxis": {"type": "log"}, "showlegend": False, "shapes": shapes, "annotations": notes}
    return {"data": data, "layout": layout, "height": 210}


def confusion_chart(evaluation: Evaluation, classes: Sequence[str]) -> Chart:
    """The confusion matrix as its cells that are not empty: true class, answered class, images, their share of the true class."""
    cells = []
    for i, row in enumerate(evaluation.confusion):
        for j, (count, share) in enumerate(zip(row, shares(row), strict=True)):
            if count:
                cells.append([i, j, count, share])
    return {"kind": "confusion", "classes": [escaped(name) for name in classes], "cells": cells}
