"""The sections on the network's layers and on the run itself: settings, device, versions, and how to repeat it.

Receives `Contents`, returns sections, or a sentence where the run kept nothing. Settings that are not known here are shown as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from convscope.records import NetworkSummary
from convscope.show.page.contents import Contents
from convscope.show.page.html import Child, Markup, join, number, table, tag
from convscope.show.page.parts import Absent, Section, bar, facts, more
from convscope.show.page.words import chosen, command_line, count, moment, plural

WAYS_OF_COUNTING = {
    "macs": ("Multiply-accumulates", "one per weight and output place, the bias not counted"),
    "macs_with_bias": ("With bias", "one more per output for the bias"),
    "flops": ("FLOPs", "two per multiply-accumulate, one per bias or elementwise operation"),
    "real_products": ("Products with real pixels", "only those whose input is not padding"),
    "input_grid_products": ("Input-grid count", "weights times input places, as the fastai book counts"),
}
OF_IMAGES_ALONE = frozenset({"real_products", "input_grid_products"})
LONGEST_TYPED = 10  # characters; a number that a program chose is longer
SHOWN_ELSEWHERE = frozenset(
    {"schema", "name", "status", "message", "argv", "classes", "created", "device", "versions", "settings", "seconds"}
)


def network(run: Contents) -> Section | Absent:
    """The layers with their shapes, parameters and multiplications."""
    summary = run.network
    if summary is None or not summary.rows:
        return Absent("The network's table is missing: the run kept none.")
    shape = " × ".join(map(str, summary.input_shape))
    what = "pair of user and item" if run.is_of_ratings else f"image of {shape} (channels × rows × columns)"
    lead = tag("p", tag("b", summary.model), f" on one {what}.")
    body = join(lead, _layers(summary), more("The work for one input, by every way of counting", _ways(summary, run.is_of_ratings)))
    return Section("network", "The network", "Network", body)


def _layers(summary: NetworkSummary) -> Markup:
    most = {column: max(getattr(row, column) for row in summary.rows) or 1 for column in ("parameters", "macs")}
    frozen = any(row.trainable != row.parameters for row in summary.rows)

    def measured(value: int, column: str) -> Markup:
        return join(number(value, count(value)), bar(value / most[column]))

    rows: list[list[Child]] = []
    for row in summary.rows:
        name = tag("span", row.name or "(whole)", style=f"padding-left:{min(row.depth, 6) * 0.75}rem", class_="layer")
        cells: list[Child] = [name, row.kind, " × ".join(map(str, row.output_shape)), measured(row.parameters, "parameters")]
        cells += [number(row.trainable, count(row.trainable))] if frozen else []
        rows.append([*cells, measured(row.macs, "macs"), row.note])
    noted = any(row.note for row in summary.rows)
    head = ["Layer", "Kind", "Output", "Parameters", *(["Trainable"] if frozen else []), "Multiply-accumulates", "Note"]
    totals = [summary.total(column) for column in ("parameters", *(["trainable"] if frozen else []), "macs")]
    foot: list[Child] = [plural(len(rows), "layer"), "", "", *(number(total, count(total)) for total in totals), ""]
    if not noted:
        head, foot, rows = head[:-1], foot[:-1], [row[:-1] for row in rows]
    return table("Layers in the order of execution", head, rows, foot=foot, numeric=range(3, 6 if frozen else 5))


def _ways(summary: NetworkSummary, of_ratings: bool) -> Markup:
    ways = {column: way for column, way in WAYS_OF_COUNTING.items() if not (of_ratings and column in OF_IMAGES_ALONE)}

    def cells(amount: Callable[[str], int]) -> list[Child]:
        return [number(amount(column), count(amount(column))) for column in ways]

    rows = [[row.name or "(whole)", *cells(partial(getattr, row))] for row in summary.rows if any(getattr(row, column) for column in ways)]
    meanings = tag("ul", [tag("li", tag("b", name), f": {meaning}") for name, meaning in ways.values()], class_="notes")
    title = f"Operations for one {'pair of user and item' if of_ratings else 'image'}"
    head = ["Layer", *(name for name, _ in ways.values())]
    return join(meanings, table(title, head, rows, foot=["All layers", *cells(summary.total)], numeric=range(1, 1 + len(ways))))


def settings(run: Contents) -> Section | Absent:
    """The command that repeats the run, its settings and result, the device and why, the versions and the time."""
    kept = {key: value for key, value in run.config.items() if key not in SHOWN_ELSEWHERE and value is not None}
    groups = [_group(key.replace("_", " ").capitalize(), value) for key, value in kept.items() if isinstance(value, Mapping) and value]
    where = _time_and_place(run)
    where += [(key.replace("_", " "), shown(value)) for key, value in kept.items() if not isinstance(value, Mapping)]
    if where:
        groups.append(tag("div", tag("h3", "Time and place"), facts(where)))
    if not groups:
        return Absent("The settings are missing: the run's config.json holds none.")
    asked = run.setting("settings")
    given = [(name, shown(value)) for name, value in flat(asked).items()] if isinstance(asked, Mapping) else []
    options = more("All options as they were asked for", facts(given)) if given else None
    return Section(
        "settings", "Settings, and how to repeat it", "Settings", join(_repeat(run), tag("div", groups, class_="groups"), options)
    )


def _time_and_place(run: Contents) -> list[tuple[Child, Child]]:
    created, device, reason = run.setting("created"), run.setting("device", "name"), run.setting("device", "reason")
    versions = run.setting("versions")
    where: list[tuple[Child, Child]] = [("Started", moment(created))] if created else []
    where += [("Device", join(str(device), tag("span", f" – {reason}", class_="muted") if reason else None))] if device else []
    return where + ([(str(key), shown(value)) for key, value in versions.items()] if isinstance(versions, Mapping) else [])


def _repeat(run: Contents) -> Markup:
    arguments = run.setting("argv")
    if not isinstance(arguments, list) or not arguments:
        return tag("p", "This run was started from Python, so there is no command to repeat it; its settings are below.", class_="muted")
    seed = run.setting("train", "seed")
    same = " With the same versions, data and device it gives the same numbers." if seed is not None else ""
    command = tag("pre", tag("code", command_line(arguments), id="command"), tabindex="0")
    return join(
        tag("p", f"This command repeats the run.{same}"),
        tag("div", command, tag("button", "Copy", type="button", data_copy="command"), class_="command"),
    )


def _group(title: str, values: Mapping[str, Any]) -> Markup:
    return tag("div", tag("h3", title), facts((name, shown(value)) for name, value in flat(values).items()))


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings and those one level deeper, by their names in words."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("_", " ")
        if isinstance(value, Mapping) and value:
            found |= {f"{name}: {str(inner).replace('_', ' ')}": deeper for inner, deeper in value.items()}
        else:
            found[name] = value
    return found


def shown(value: Any) -> Child:
    """A setting's value in words: on and off for booleans, numbers with their exact value."""
    if value is None or value == {} or value == []:
        return tag("span", "none", class_="muted")
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        typed = str(value)  # as it was typed: a seed or a year has no thousands
        return number(value, typed if len(typed) <= LONGEST_TYPED else chosen(value))
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
