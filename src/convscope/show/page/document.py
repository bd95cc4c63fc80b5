"""The page around the sections: one HTML file that needs nothing else and asks nothing of any network.

Receives finished parts, returns the text of the file. The content security policy allows exactly the scripts written here, by their hashes,
and no request at all; styles are allowed inline because plotly sets them on what it draws.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Sequence
from importlib import resources

from plotly import offline

from convscope.show.page.html import Markup, escape, join, tag
from convscope.show.page.parts import Section


@functools.cache
def static(name: str) -> str:
    """A file of this package's `static` folder."""
    return resources.files("convscope.show.page").joinpath("static", name).read_text(encoding="utf-8")


@functools.cache
def plotly_script() -> str:
    """Plotly's JavaScript, from its Python package."""
    script: str = offline.get_plotlyjs()
    return script


def _policy(scripts: Sequence[str]) -> str:
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"


def page(title: str, head: Markup, sections: Sequence[Section], foot: Markup) -> str:
    """The whole file.

    Args:
        title: in the browser's tab.
        head: what stands above the first section.
        sections: in order; each gets a link in the bar at the top.
        foot: what stands below the last.
    """
    scripts = [plotly_script(), static("page.js"), static("layers.js")]
    links = [tag("a", section.short, href=f"#{section.identifier}") for section in sections]
    bar = tag(
        "div",
        tag("nav", tag("a", "Overview", href="#top"), links, aria_label="Sections"),
        tag("button", "Dark mode", type="button", id="theme"),
        class_="bar-top",
    )
    body = join(
        tag("a", "Skip to the content", href="#content", class_="skip"),
        bar,
        tag("main", head, [section.element() for section in sections], id="content"),
        foot,
        [tag("script", Markup(script)) for script in scripts],
    )
    meta = join(
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", Markup(static("page.css"))),
    )
    return f'<!doctype html>\n<html lang="en" id="top">{tag("head", meta)}{tag("body", body)}</html>\n'


def footer(sentences: Sequence[str], version: str) -> Markup:
    """What is not on the page and why, and who wrote it."""
    missing = (
        tag("section", tag("h2", "Not on this page"), tag("ul", [tag("li", sentence) for sentence in sentences]), class_="missing")
        if sentences
        else None
    )
    return tag(
        "footer", missing, tag("p", escape(f"Written by convscope {version}".strip() + ". This file needs no network and no other file."))
    )
