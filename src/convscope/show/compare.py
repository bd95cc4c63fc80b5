"""One page that puts runs side by side: results, verdicts, the settings that differ, curves over each other, statistics of the layers.

Receives run directories, writes one self-contained HTML file built of the same parts as a run's own page. No torch; it judges nothing itself:
the verdicts are those of the runs' pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convscope.errors import UsageError
from convscope.records import LayerStats
from convscope.rundir import RunDir, write_text
from convscope.show.page import charts, document
from convscope.show.page.contents import Contents, read
from convscope.show.page.html import Child, Markup, embedded_json, join, number, table, tag
from convscope.show.page.layer_values import layer_values
from convscope.show.page.layers import HOW_TO_READ
from convscope.show.page.machine import flat, shown
from convscope.show.page.parts import Absent, Section, chart
from convscope.show.page.verdict import SIGNS, WORDS
from convscope.show.page.words import NO_NUMBER, chosen, count, duration, figure, percent, plural

NOT_SETTINGS = frozenset({"schema", "name", "created", "argv", "status", "message", "result", "classes"})
ABSENT = "–"  # a setting that a run does not have
COLOURS = 6  # --series-1 to 6 of the page
COLUMNS_OF_STRIP = 120  # steps, or mergers of steps, in the small picture of a layer
DASHES = ("solid", "dash", "dot", "dashdot")


def write_comparison(runs: Sequence[RunDir], path: Path) -> Path:
    """Write the page that compares runs.

    Args:
        runs: at least two run directories; they may be unfinished, and of different data and networks.
        path: the file to write.

    Returns:
        The path.

    Raises:
        UsageError: fewer than two runs were given.
        RunError: a run cannot be read, or the page cannot be written.

    Example:
        >>> write_comparison([open_run("runs/mnist-001"), open_run("runs/mnist-002")], Path("comparison.html"))
        PosixPath('comparison.html')
    """
    if len(runs) < 2:
        raise UsageError(f"A comparison needs at least two runs; it got {len(runs)}. Give two or more run directories.")
    write_text(path, render([read(run) for run in runs]))
    return path


def render(runs: Sequence[Contents]) -> str:
    """The page of what was read."""
    names = distinct([run.name for run in runs])
    made = [results(runs, names), verdicts(runs, names), settings(runs, names), curves(runs, names), layers(runs, names)]
    title = f"Comparison of {plural(len(runs), 'run')}"
    head = tag("header", tag("p", "convscope", class_="kicker"), tag("h1", title), tag("p", _lead(runs, names), class_="lead"))
    absent = [part.sentence for part in made if isinstance(part, Absent)]
    version = str(runs[0].setting("versions", "convscope") or "")
    return document.page(
        f"{title} – convscope", head, [part for part in made if isinstance(part, Section)], document.footer(absent, version)
    )


def distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number after those that were there before.

    Example:
        >>> distinct(["demo", "demo"])
        ['demo', 'demo (2)']
    """
    return [name if names[:i].count(name) == 0 else f"{name} ({names[:i].count(name) + 1})" for i, name in enumerate(names)]


def accuracy(run: Contents) -> float | None:
    """The run's accuracy, or None when it was not evaluated."""
    return run.evaluation.accuracy if run.evaluation else run.measured("accuracy")


def _lead(runs: Sequence[Contents], names: Sequence[str]) -> Child:
    known = [(value, name) for run, name in zip(runs, names, strict=True) if (value := accuracy(run)) is not None]
    if not known:
        return "None of the runs has an accuracy yet."
    best = max(value for value, _ in known)
    first = [name for value, name in known if value == best]
    said: list[Child] = [
        tag("b", " and ".join(first)),
        " has" if len(first) == 1 else " have",
        " the highest accuracy, ",
        number(best, percent(best)),
    ]
    worst = min(value for value, _ in known)
    if worst < best:
        said += [
            "; the lowest is ",
            number(worst, percent(worst)),
            " (",
            " and ".join(name for value, name in known if value == worst),
            ")",
        ]
    return join(*said, ".")


def results(runs: Sequence[Contents], names: Sequence[str]) -> Section:
    """One row a run: what came out of it."""
    best = max((value for run in runs if (value := accuracy(run)) is not None), default=None)
    rows: list[list[Child]] = []
    for place, (run, name) in enumerate(zip(runs, names, strict=True)):
        judged, reached = run.evaluation, accuracy(run)
        balanced = judged.balanced_accuracy if judged else run.measured("balanced_accuracy")
        loss = judged.loss if judged else run.measured("valid_loss")
        steps = run.measured("steps") if run.measured("steps") is not None else run.step_count
        parameters = run.network.total("parameters") if run.network else None
        written = number(reached, percent(reached))
        rows.append(
            [
                named(place, name),
                tag("strong", written, tag("span", " highest", class_="tagged")) if reached is not None and reached == best else written,
                number(balanced, percent(balanced)),
                number(loss, figure(loss)),
                number(run.measured("epochs"), figure(run.measured("epochs"))),
                number(steps, figure(steps)),
                number(run.measured("seconds"), duration(run.measured("seconds"))),
                number(parameters, count(parameters)),
                str(run.setting("status") or ABSENT),
            ]
        )
    head = ["Run", "Accuracy", "Balanced accuracy", "Loss", "Epochs", "Steps", "Time", "Parameters", "State"]
    return Section("results", "Results", "Results", table("What came out of each run", head, rows, numeric=range(1, 8)))


def verdicts(runs: Sequence[Contents], names: Sequence[str]) -> Section:
    """What the diagnosis of each run found."""
    cards = []
    for place, (run, name) in enumerate(zip(runs, names, strict=True)):
        word = run.verdict if run.verdict in WORDS else ""
        sign = tag("span", SIGNS.get(word, "?"), class_=f"sign {word}".strip(), aria_hidden="true")
        line = tag("p", sign, tag("strong", WORDS.get(word, "Not diagnosed")), class_="line")
        found = [
            tag("li", tag("b", finding.name.replace("_", " ")), f" from step {finding.step:,}: {finding.message}")
            for finding in run.findings
        ]
        cards.append(tag("article", tag("h3", named(place, name)), line, tag("ol", found, class_="notes") if found else None))
    return Section("verdicts", "Diagnosis", "Diagnosis", tag("div", cards, class_="side-by-side"))


def settings(runs: Sequence[Contents], names: Sequence[str]) -> Section:
    """The settings in which the runs differ; those in which they agree are one click away."""
    held = [_settings(run) for run in runs]
    rows: dict[bool, list[list[Child]]] = {True: [], False: []}
    for key in dict.fromkeys(key for each in held for key in each):
        values = [each.get(key, _Absent) for each in held]
        differs = any(value != values[0] for value in values)
        rows[differs].append([key, *(ABSENT if value is _Absent else shown(value) for value in values)])
    head = ["Setting", *names]
    differing = table("Settings that differ", head, rows[True]) if rows[True] else tag("p", "The runs have the same settings.")
    same = table("Settings that are the same", head[:2], [row[:2] for row in rows[False]]) if rows[False] else None
    kept = tag("details", tag("summary", f"{plural(len(rows[False]), 'setting')} that are the same"), same) if same else None
    return Section("settings", "Settings that differ", "Settings", join(differing, kept))


class _Absent:
    """Stands for a setting that a run does not have."""


def _settings(run: Contents) -> dict[str, Any]:
    """A run's settings by name, with its classes as a number of them."""
    found: dict[str, Any] = {}
    for key, value in run.config.items():
        if key not in NOT_SETTINGS:
            found |= {
                f"{key}: {name}" if isinstance(value, dict) else name: inner
                for name, inner in flat({key: value} if not isinstance(value, dict) else value).items()
            }
    return found | ({"classes": len(run.classes)} if run.classes else {})


def curves(runs: Sequence[Contents], names: Sequence[str]) -> Section | Absent:
    """Training loss, validation loss and learning rate of all runs over their steps."""
    if not any(run.steps for run in runs):
        return Absent("The curves of training are missing: no run logged a step.")
    training = [_trace(i, names[i], [r.last_step for r in run.steps], _smooth(run)) for i, run in enumerate(runs) if run.steps]
    drawn = [chart("loss", "Training loss, smoothed", _overlaid(training, 360, logarithm=True), _label("Training loss", runs, names))]
    validation = [
        _trace(i, names[i], [e.steps - 1 for e in r.epochs], [charts.finite(e.valid_loss) for e in r.epochs])
        for i, r in enumerate(runs)
        if r.epochs
    ]
    if validation:
        for trace in validation:
            trace["mode"] = "lines+markers"
        drawn.append(
            chart("valid-loss", "Validation loss", _overlaid(validation, 300, logarithm=True), _label("Validation loss", runs, names))
        )
    rates = []
    for i, run in enumerate(runs):
        held = [(record.last_step, charts.finite(record.hyper["lr"].mean)) for record in run.steps if "lr" in record.hyper]
        rates += [_trace(i, names[i], [step for step, _ in held], [rate for _, rate in held])] if held else []
    if rates:
        drawn.append(chart("rates", "Learning rate", _overlaid(rates, 300), _label("Learning rate", runs, names)))
    return Section("curves", "How they trained", "Training", join(drawn[0], tag("div", drawn[1:], class_="pair") if drawn[1:] else None))


def _smooth(run: Contents) -> list[float | None]:
    reach = min(charts.MOST_REACH, round(len(run.steps) * charts.REACH))
    return charts.smoothed([record.loss.mean for record in run.steps], reach)


def _colour(place: int) -> str:
    return f"series-{1 + place % COLOURS}"


def named(place: int, name: str) -> Markup:
    """A run's name beside the colour of its lines."""
    return join(tag("span", class_="swatch", style=f"background:var(--{_colour(place)})", aria_hidden="true"), name)


def _trace(place: int, name: str, x: list[int], y: list[float | None]) -> charts.Chart:
    """A run's line, in one of six colours; after every six comes another dash."""
    line = {"color": f"--{_colour(place)}", "width": 2, "dash": DASHES[place // COLOURS % len(DASHES)]}
    said = f"{charts.escaped(name)}: %{{y:.4g}} at step %{{x}}<extra></extra>"
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": charts.escaped(name), "line": line, "hovertemplate": said}


def _overlaid(data: list[charts.Chart], height: int, *, logarithm: bool = False) -> charts.Chart:
    layout = {"xaxis": {"title": {"text": "step"}}, "showlegend": True, "hovermode": "closest"}
    return {"data": data, "layout": layout, "height": height, "logarithm": logarithm}


def _label(what: str, runs: Sequence[Contents], names: Sequence[str]) -> str:
    return f"{what} of {plural(len(runs), 'run')} over their steps: {', '.join(names)}."


def layers(runs: Sequence[Contents], names: Sequence[str]) -> Section | Absent:
    """The last statistics of every layer, side by side."""
    if not any(run.layers for run in runs):
        return Absent("The statistics of the layers are missing: no run was watched.")
    rows: list[list[Child]] = []
    for layer in dict.fromkeys(name for run in runs for name in run.layers):
        last = [series[-1] if (series := run.layers.get(layer)) else None for run in runs]
        rows.append([layer, *(cell for stats in last for cell in _stats(stats))])
    head = ["Layer", *(cell for name in names for cell in (f"{name}: mean ± spread", "near zero"))]
    limits = sorted({stats.near_zero for run in runs for series in run.layers.values() for stats in series[-1:]})
    limit = " or ".join(chosen(value) for value in limits)
    said = f"The outputs of each layer at the end of its run; near zero: the share that is at most {limit} away from zero."
    statistics = table("Last statistics of each layer", head, rows, numeric=range(1, len(head)))
    pictures = [_strip(place, run, names[place]) for place, run in enumerate(runs) if run.layers]
    return Section(
        "layers",
        "Inside the networks",
        "Layers",
        join(tag("p", HOW_TO_READ, class_="muted"), pictures, tag("p", said, class_="muted"), statistics),
    )


def _strip(place: int, run: Contents, name: str) -> Markup:
    """The pictures of a run's layers in a row, with its findings on them."""
    identifier = f"layers-{place}"
    grid = tag("div", class_="thumbnails", data_strip=identifier, role="group", aria_label=f"Pictures of the layers of {name}")
    return join(tag("h3", named(place, name)), grid, embedded_json(identifier, layer_values(run.layers, run.findings, COLUMNS_OF_STRIP)))


def _stats(stats: LayerStats | None) -> tuple[Child, Child]:
    if stats is None:
        return NO_NUMBER, NO_NUMBER
    moments = join(number(stats.mean, chosen(stats.mean)), " ± ", number(stats.std, chosen(stats.std)))
    return moments, number(stats.share_near_zero, percent(stats.share_near_zero))
