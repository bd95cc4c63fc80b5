"""Reads a page back with the standard library's parser, so that its numbers can be compared with the records."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"br", "col", "img", "input", "link", "meta"}


@dataclass
class Element:
    name: str
    attributes: dict[str, str | None]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, name: str, **attributes: str) -> list[Element]:
        """Every element inside with that name and those attributes (`class_` is one of its classes)."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                if child.name == name and all(_matches(child, key, value) for key, value in attributes.items()):
                    found.append(child)
                found += child.all(name, **attributes)
        return found

    def one(self, name: str, **attributes: str) -> Element:
        found = self.all(name, **attributes)
        assert len(found) == 1, f"{len(found)} elements <{name}> {attributes}"
        return found[0]

    @property
    def numbers(self) -> list[float | None]:
        """The exact values of the numbers inside."""
        return [float(item.attributes["value"]) if item.attributes["value"] else None for item in self.all("data")]


def _matches(element: Element, key: str, value: str) -> bool:
    held = element.attributes.get(key.rstrip("_"))
    return value in (held or "").split() if key == "class_" else held == value


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("page", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> ends <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parse(page: str) -> Element:
    """The page as a tree; an element that is not ended is an error."""
    builder = _Builder()
    builder.feed(page)
    builder.close()
    assert builder.open == [builder.root]
    return builder.root


def values(page: Element, identifier: str) -> dict[str, Any]:
    """The values of a chart."""
    read: dict[str, Any] = json.loads(page.one("script", id=f"{identifier}-values").text)
    return read


def table(page: Element, caption: str) -> list[list[Element]]:
    """The cells of the table with that caption, its head included."""
    for candidate in page.all("table"):
        if candidate.one("caption").text == caption:
            return [row.all("th") + row.all("td") for row in candidate.all("tr")]
    raise AssertionError(f"no table {caption!r}; there are {[t.one('caption').text for t in page.all('table')]}")
