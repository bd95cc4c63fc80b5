"""The lab's page in a real browser: opened with everything watched that it says and asks for, and checked with axe."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from lab_served import Served
from playwright.sync_api import Browser, Page, Route, expect

AXE = Path(__file__).parents[2] / ".stamps/axe/node_modules/axe-core/axe.min.js"
SECONDS = 60  # that anything may take: two cores may be shared with other tests and a training


@contextlib.contextmanager
def lab_page(
    chromium: Browser,
    lab: Served,
    route: str = "",
    *,
    expected: str = "",
    size: tuple[int, int] = (1280, 900),
    scheme: Literal["light", "dark"] = "light",
) -> Iterator[Page]:
    """A page of the lab; afterwards nothing may have gone to another host, and nothing been said on the console.

    Args:
        chromium: the browser.
        lab: the server.
        route: after the "#", such as "/train/tiny".
        expected: a regular expression for what may be said, such as a refusal that the test provokes.
        size: of the page, in CSS pixels.
        scheme: light or dark.
    """
    said: list[str] = []

    def guard(asked: Route) -> None:
        if asked.request.url.startswith(f"{lab.url}/"):
            asked.continue_()
        else:
            said.append(f"asked for {asked.request.url}")
            asked.abort()

    context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce")
    context.set_default_timeout(SECONDS * 1000)
    expect.set_options(timeout=SECONDS * 1000)
    page = context.new_page()
    page.route(re.compile("^(?!data:|blob:)"), guard)
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
    page.goto(f"{lab.url}/#{route}")
    try:
        yield page
    finally:
        context.close()
    assert [text for text in said if not (expected and re.search(expected, text))] == []


def wait_until(page: Page, wanted: Callable[[], bool], what: str) -> None:
    """Waits for something that no selector can say: "networkidle" may have been reached before the last change was even sent."""
    for _ in range(SECONDS * 10):
        if wanted():
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"waited {SECONDS} s for {what}")


def serious_findings(page: Page) -> list[str]:
    """What axe finds on a page that is serious or critical, one line each; skips the test where axe is not installed."""
    if not AXE.is_file():
        message = "axe-core is not installed; `make axe` brings it."
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:200]} {node['failureSummary']}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
