"""The files of the page: the lab's own, and the style sheet that it shares with a run's page, all from the installed package."""

from __future__ import annotations

import hashlib
import html
import mimetypes
from functools import lru_cache
from importlib import resources
from pathlib import Path

from starlette.responses import Response

from convscope.lab.exchange import Refused

STATIC = Path(str(resources.files("convscope.lab") / "static")).resolve()
SHARED = {"page.css": Path(str(resources.files("convscope.show.page") / "static" / "page.css"))}
KINDS = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".html": "text/html",
}  # whatever the machine's own list says


def index(token: str) -> Response:
    """The page, with the session's token, which no cache keeps."""
    page = (STATIC / "index.html").read_text(encoding="utf-8").replace("__TOKEN__", html.escape(token))
    return Response(page, media_type="text/html", headers={"cache-control": "no-store"})


def file(name: str, known: str | None) -> Response:
    """A file of the page.

    Args:
        name: its path below static/.
        known: the tag of the version that the browser has.

    Raises:
        Refused: there is no such file.
    """
    path = SHARED.get(name) or _inside(name)
    content = path.read_bytes()
    tag = f'"{_digest(content)}"'
    headers = {"cache-control": "no-cache", "etag": tag}
    if known == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=KINDS.get(path.suffix) or mimetypes.guess_type(path.name)[0], headers=headers)


def _inside(name: str) -> Path:
    try:
        path = (STATIC / name).resolve()
        if path.is_relative_to(STATIC) and path.is_file() and path.name != "index.html":
            return path
    except (OSError, ValueError):  # a name that no file system takes
        pass
    raise Refused(404, "There is no such file.")


@lru_cache(maxsize=64)
def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
