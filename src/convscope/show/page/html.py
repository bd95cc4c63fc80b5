"""HTML as values: elements are built by calls, and text is escaped unless it is already HTML.

Receives text, numbers and elements; returns `Markup`. There is no way to put text into a page except through `tag`, so a class name or a
file name that holds `<script>` is shown as these eight characters. It knows nothing of runs.
"""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias, Union

VOID = frozenset({"br", "col", "img", "input", "link", "meta"})  # elements without an end tag (HTML standard, section 13.1.2)


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child: TypeAlias = Union[str, int, Iterable["Child"], None]  # noqa: UP007 - a name in quotes cannot be joined with |


def escape(child: Child) -> str:
    """A child as HTML: markup as it is, text escaped, None left out, and the parts of a sequence one after the other."""
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str | int):
        return html.escape(str(child))
    return "".join(escape(part) for part in child)


def join(*children: Child) -> Markup:
    """Children one after the other, without an element around them."""
    return Markup(escape(children))


def tag(element: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """An element.

    Args:
        element: its name.
        children: what is inside; text is escaped.
        **attributes: True gives a bare attribute, False and None leave it out; `class_` is `class`, and `data_x` is `data-x`.

    Example:
        >>> tag("p", "1 < 2", class_="note")
        '<p class="note">1 &lt; 2</p>'
    """
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        written.append(f" {key}" if value is True else f' {key}="{html.escape(str(value))}"')
    start = f"<{element}{''.join(written)}>"
    return Markup(start) if element in VOID else Markup(f"{start}{escape(children)}</{element}>")


def number(value: float | None, text: str) -> Markup:
    """A number as people read it, with its exact value kept beside it (in `<data value>`, which machines read, and as a tooltip).

    Example:
        >>> number(0.98765, "98.77 %")
        '<data value="0.98765" title="0.98765">98.77 %</data>'
    """
    if value is None or not math.isfinite(value):
        return tag("data", text, value="")
    exact = repr(value)
    return tag("data", text, value=exact, title=exact if exact != text.replace(",", "") else None)


def picture(png: bytes, alt: str) -> Markup:
    """A PNG file as an element that needs no other file."""
    return tag("img", src="data:image/png;base64," + base64.b64encode(png).decode(), alt=alt, decoding="async")


def embedded_json(identifier: str, value: Any) -> Markup:
    """A value that a script reads by its id. `<` is written as an escape, so that no text in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return Markup(f'<script type="application/json" id="{html.escape(identifier)}">{text}</script>')


def table(
    caption: Child,
    head: Sequence[Child],
    rows: Iterable[Sequence[Child]],
    *,
    foot: Sequence[Child] = (),
    numeric: Iterable[int] = (),
    class_: str = "",
) -> Markup:
    """A table with its caption, whose first column names the rows; it scrolls inside its own frame when it is wider than the page.

    Args:
        caption: what the table holds.
        head: the columns' names.
        rows: the cells; each row as long as `head`.
        foot: one last row, such as totals.
        numeric: the columns to align to the right.
        class_: further classes of the table.
    """
    right = frozenset(numeric)

    def cells(row: Sequence[Child], scope: str) -> Markup:
        first = tag("th", row[0], scope=scope, class_="n" if 0 in right else None)
        others = [
            tag("th" if scope == "col" else "td", cell, class_="n" if i in right else None, scope="col" if scope == "col" else None)
            for i, cell in enumerate(row[1:], 1)
        ]
        return tag("tr", first, others)

    body = [cells(row, "row") for row in rows]
    inner = tag(
        "table",
        tag("caption", caption),
        tag("thead", cells(head, "col")),
        tag("tbody", body),
        tag("tfoot", cells(foot, "row")) if foot else None,
        class_=class_ or None,
    )
    return tag(
        "div",
        inner,
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=caption if isinstance(caption, str) and not isinstance(caption, Markup) else "Table",
    )
