"""Reading the lab's maps as a person with a keyboard and a screen reader does."""

from __future__ import annotations

from collections.abc import Sequence

from playwright.sync_api import Locator


def number(text: str) -> float:
    """A number as the page writes it: a real minus sign, thousands apart."""
    return float(text.replace("−", "-").replace(",", ""))


def canvas_of(place: Locator) -> Locator:
    """The canvas of the only map grid inside an element."""
    return place.locator("canvas.drawn")


PRESS = "(canvas, keys) => keys.forEach((key) => canvas.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true })))"
MOST = 130  # maps or rows of any grid that is read


def said_at(grid: Locator, place: Sequence[int]) -> str:
    """What a map grid says at (map, row, column), reached by keys from the first cell of its first map.

    Args:
        grid: the element of class `maps`.
        place: how often Page Down, Arrow Down and Arrow Right are pressed.
    """
    canvas = canvas_of(grid)
    canvas.focus()
    first = ["Escape", "ArrowRight", *["PageUp"] * MOST, "Home", *["ArrowUp"] * MOST]
    canvas.evaluate(PRESS, [*first, *["PageDown"] * place[0], *["ArrowDown"] * place[1], *["ArrowRight"] * place[2]])
    return grid.locator("[aria-live=polite]").first.text_content() or ""


def value_at(grid: Locator, place: Sequence[int]) -> float:
    """The number that a map grid says at (map, row, column)."""
    return number(said_at(grid, place).split(", ")[0])
