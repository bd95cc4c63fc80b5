"""The lab's application: routes wired to what answers them, behind the guard.

Receives a `Lab` (which runs, which one is open, the session's token); returns an ASGI application. It serves its own files and plotly's script
from the installed packages, so that no request leaves the machine.
"""

from __future__ import annotations

import html
import mimetypes
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from convscope.errors import ConvscopeError
from convscope.lab.exchange import Refused, answer, error_answer
from convscope.lab.runs import RunsFolder, detail_of
from convscope.lab.security import Guard
from convscope.version import VERSION

STATIC = Path(str(resources.files("convscope.lab") / "static"))
SHARED = {"page.css": Path(str(resources.files("convscope.show.page") / "static" / "page.css"))}  # the look of a run's own page


@dataclass(frozen=True, slots=True)
class Lab:
    """One session of the lab.

    Attributes:
        runs: the folder of runs.
        opened: the run that was named on the command line, or None.
        port: where it listens; token: of the session.
    """

    runs: RunsFolder
    opened: str | None
    port: int
    token: str


def create_app(lab: Lab) -> ASGIApp:
    """The whole application."""

    async def index(request: Request) -> Response:
        page = (STATIC / "index.html").read_text(encoding="utf-8")
        return Response(page.replace("__TOKEN__", html.escape(lab.token)), media_type="text/html", headers={"cache-control": "no-store"})

    async def state(request: Request) -> Response:
        return answer(
            {
                "version": VERSION,
                "data": ["mnist"],
                "models": ["simple_cnn", "small_resnet"],
                "training": None,
                "opened": lab.opened,
                "runs_folder": str(lab.runs.path),
            }
        )

    async def all_runs(request: Request) -> Response:
        return answer({"runs": await anyio.to_thread.run_sync(lab.runs.rows)})

    async def one_run(request: Request) -> Response:
        run = lab.runs.find(request.path_params["run"])
        return answer(await anyio.to_thread.run_sync(detail_of, run))

    routes = [
        Route("/", index),
        Route("/plotly.min.js", plotly),
        Route("/static/{path:path}", static),
        Mount("/api", routes=[Route("/state", state), Route("/runs", all_runs), Route("/runs/{run}", one_run)]),
    ]
    app = Starlette(routes=routes, exception_handlers={Refused: _refused, ConvscopeError: _failed, HTTPException: _http, Exception: _unexpected})
    return Guard(app, lab.port, lab.token)


Handler = Callable[[Request], Awaitable[Response]]


async def static(request: Request) -> Response:
    """A file of the page."""
    asked = request.path_params["path"]
    path = SHARED.get(asked) or (STATIC / asked).resolve()
    if not (asked in SHARED or path.is_relative_to(STATIC.resolve())) or not path.is_file():
        raise Refused(404, "There is no such file.")
    kind = "text/javascript" if path.suffix == ".js" else mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Response(await anyio.to_thread.run_sync(path.read_bytes), media_type=kind, headers={"cache-control": "no-cache"})


async def plotly(request: Request) -> Response:
    """Plotly's script, from the installed package."""
    content = await anyio.to_thread.run_sync((resources.files("plotly") / "package_data" / "plotly.min.js").read_bytes)
    return Response(content, media_type="text/javascript", headers={"cache-control": "max-age=86400"})


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error_answer(error.status, error.message, error.hint)


async def _failed(request: Request, error: Exception) -> Response:
    return error_answer(400, str(error))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_answer(error.status_code, error.detail)


async def _unexpected(request: Request, error: Exception) -> Response:
    return error_answer(500, "Something unexpected went wrong in convscope itself.", "The terminal that runs the lab shows where.")
