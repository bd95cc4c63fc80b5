"""The lab's application: routes wired to what answers them (api.py), in worker threads, behind the guard.

Receives a `Lab`; returns an ASGI application. Whatever needs torch runs in one thread at a time, because PyTorch's state belongs to the process;
what reads files runs in a few. The event loop itself only passes bytes on, so that a page is answered while a network computes.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, ExceptionHandler

from convscope.errors import ConvscopeError, RunError, UnknownNameError
from convscope.lab import live, questions
from convscope.lab.api import Api, Ask, Lab
from convscope.lab.exchange import Refused, answer, body_of, error_answer
from convscope.lab.security import Guard

MOST_STREAMS = 24  # runs followed at once; each page follows one
READERS = 6  # files read at once
WARM_AFTER = 0.3  # seconds after a page first asked for the state, when it has been drawn: importing torch would hold it up

Endpoint = Callable[[Request], Awaitable[Response]]


def create_app(lab: Lab) -> ASGIApp:
    """The whole application."""
    api = Api(lab)
    torch, readers = anyio.CapacityLimiter(1), anyio.CapacityLimiter(READERS)
    reading, computing = functools.partial(_threaded, limiter=readers), functools.partial(_threaded, limiter=torch)
    routes = [
        Route("/", reading(api.index)),
        Route("/static/{path:path}", reading(api.file)),
        Route("/api/state", _warming(reading(api.state), api)),
        Route("/api/runs", reading(api.runs)),
        Route("/api/runs/{run}", reading(api.run)),
        Route("/api/runs/{run}/live", _live(api, readers)),
        Route("/api/train", reading(api.train), methods=["POST"]),
        Route("/api/runs/{run}/stop", reading(api.stop), methods=["POST"]),
        Route("/api/runs/{run}/resume", reading(api.resume), methods=["POST"]),
        Route("/api/runs/{run}/images", computing(api.images)),
        Route("/api/runs/{run}/inside", computing(api.inside), methods=["POST"]),
        Route("/api/runs/{run}/kernels/{layer}", computing(api.kernels_of)),
        Route("/api/runs/{run}/trace", computing(api.trace), methods=["POST"]),
        Route("/api/runs/{run}/workbook", computing(api.workbook), methods=["POST"]),
        Route("/api/kernels", computing(api.kernels)),
        Route("/api/kernel", computing(api.kernel), methods=["POST"]),
        Route("/api/kernel/pixel", computing(api.kernel_pixel), methods=["POST"]),
        Route("/api/compare", reading(api.compare)),
        Route("/api/questions", reading(api.questions)),
        Route("/api/questions/{number}", reading(api.question)),
        Route("/api/questions/{number}/answer", computing(api.answer), methods=["POST"]),
        Route("/api/questions/{number}/rate", reading(api.rate), methods=["POST"]),
        Route("/api/questions/{number}/demonstration", _trained(computing(api.demonstration), readers)),
    ]
    handlers: dict[Any, ExceptionHandler] = {
        Refused: _refused,
        ConvscopeError: _failed,
        HTTPException: _http,
        ClientDisconnect: _gone,
        Exception: _unexpected,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return Guard(app, lab.port, lab.token)


# ---------------------------------------------------------------- endpoints


def _threaded(work: Callable[[Ask], Any], limiter: anyio.CapacityLimiter) -> Endpoint:
    """An endpoint that works in a thread, where its answer is turned into bytes, too."""

    def answered(ask: Ask) -> Response:
        value = work(ask)
        return value if isinstance(value, Response) else answer(value)

    async def endpoint(request: Request) -> Response:
        fields = await body_of(request) if request.method == "POST" else {}
        takes_gzip = "gzip" in request.headers.get("accept-encoding", "")
        ask = Ask(request.path_params, request.query_params, fields, request.headers.get("if-none-match"), takes_gzip)
        return await anyio.to_thread.run_sync(answered, ask, limiter=limiter)

    return endpoint


def _warming(endpoint: Endpoint, api: Api) -> Endpoint:
    """The endpoint that a page asks first: a moment after it torch is imported, so that the first click finds it there."""
    timer = threading.Timer(WARM_AFTER, api.warm)
    timer.daemon = True  # ends with the lab, also in the middle of it

    async def warming(request: Request) -> Response:
        response = await endpoint(request)
        if timer.ident is None:
            timer.start()
        return response

    return warming


def _trained(endpoint: Endpoint, readers: anyio.CapacityLimiter) -> Endpoint:
    """A demonstration's endpoint: its trainings, if it needs any, run in another process first."""

    async def trained(request: Request) -> Response:
        number = questions.number_of(request.path_params["number"])
        if await anyio.to_thread.run_sync(questions.untrained, number, limiter=readers):
            await anyio.to_thread.run_sync(questions.train_for, number)
        return await endpoint(request)

    return trained


def _live(api: Api, readers: anyio.CapacityLimiter) -> Endpoint:
    """The endpoint that follows a run."""
    streams = anyio.CapacityLimiter(MOST_STREAMS)

    async def follow(follower: live.Follower) -> AsyncIterator[bytes]:
        try:
            streams.acquire_on_behalf_of_nowait(follower)
        except anyio.WouldBlock:
            yield live.encoded("busy", {"message": f"{MOST_STREAMS} pages follow runs already. Close some."})
            return
        try:
            async for part in live.events(follower, readers, api.lab.ending):
                yield part
        finally:
            streams.release_on_behalf_of(follower)

    async def endpoint(request: Request) -> Response:
        name = request.path_params["run"]
        find = functools.partial(api.lab.runs.find_if_there, name)
        if await anyio.to_thread.run_sync(find, limiter=readers) is None:
            api.jobs.fate(name)
        if streams.available_tokens < 1:
            raise Refused(503, f"{MOST_STREAMS} pages follow runs already.", "Close pages of the lab that you do not need.")
        follower = live.Follower(find, functools.partial(api.jobs.fate, name), api.jobs.state)
        return StreamingResponse(follow(follower), media_type="text/event-stream", headers={"cache-control": "no-store"})

    return endpoint


# ---------------------------------------------------------------- errors


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error_answer(error.status, error.message, error.hint)


async def _failed(_: Request, error: Exception) -> Response:
    """What the library refuses is told in its own words."""
    return error_answer(404 if isinstance(error, UnknownNameError | RunError) else 400, str(error))


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_answer(error.status_code, f"{error.detail}.")


async def _gone(_: Request, __: Exception) -> Response:
    return error_answer(400, "The request ended before its body did.")


async def _unexpected(_: Request, __: Exception) -> Response:
    return error_answer(500, "Something unexpected went wrong in convscope itself.", "The terminal that runs the lab shows where.")
