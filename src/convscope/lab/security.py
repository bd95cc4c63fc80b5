"""Who may talk to the lab, and what its pages may do: an ASGI middleware around the whole application.

The lab listens on the loopback interface only, which other web pages in the same browser can reach. So a request must name this server as its
Host (or a page could reach it under a name of its own, by DNS rebinding), must not come from another origin, and, when it can change or
compute something, must carry the token that only the lab's own page knows. Every answer forbids scripts, frames and connections of others.
Protects against other web pages, not against other users of the same machine, who can open the page as its owner does.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from convscope.lab.exchange import Refused, error_answer

TOKEN_HEADER = b"x-convscope-token"
LARGEST_BODY = 16 * 2**20  # bytes; a photograph of 12 MB as base64
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = [
    (b"content-security-policy", CONTENT_POLICY.encode("ascii")),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-embedder-policy", b"require-corp"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
]
SAFE = ("GET", "HEAD")


def new_token() -> str:
    """A token for one session of the lab: 256 random bits."""
    return secrets.token_urlsafe(32)


class Guard:
    """Refuses requests that do not come from the lab's own page, bounds bodies, and adds the headers.

    Args:
        app: what is guarded.
        port: where the lab listens.
        token: what every request other than GET and HEAD must carry in the header X-Convscope-Token.
        largest_body: bytes.
    """

    def __init__(self, app: ASGIApp, port: int, token: str, largest_body: int = LARGEST_BODY) -> None:
        self.app, self.token, self.largest_body = app, token.encode("ascii"), largest_body
        names = ["localhost", "127.0.0.1", "[::1]"]
        self.hosts = {f"{name}:{port}".encode() for name in names} | ({name.encode() for name in names} if port == 80 else set())
        self.origins = {b"http://" + host for host in self.hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection's request; everything that is not HTTP is closed unanswered."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *HEADERS]}
            await send(message)

        try:
            self._check(scope)
        except Refused as refused:
            await error_answer(refused.status, refused.message, refused.hint)(scope, receive, send_guarded)
            return
        await self.app(scope, self._bounded(receive), send_guarded)

    def _check(self, scope: Scope) -> None:
        host, origins = _values(scope, b"host"), _values(scope, b"origin")
        if len(host) != 1 or host[0].lower() not in self.hosts:
            raise Refused(403, "This server answers to its own name only.", "Open the address that convscope lab printed.")
        if any(origin.lower() not in self.origins for origin in origins):
            raise Refused(403, "Requests from other pages are refused.", "Open the address that convscope lab printed.")
        if scope["method"] in SAFE:
            return
        given = _values(scope, TOKEN_HEADER)
        if len(given) != 1 or not secrets.compare_digest(given[0], self.token):
            raise Refused(403, "The request lacks this session's token.", "Reload the page: the lab was started anew since it was opened.")
        length = _values(scope, b"content-length")
        if length and length[0].isdigit() and int(length[0][:20]) > self.largest_body:
            raise self._too_large()

    def _bounded(self, receive: Receive) -> Receive:
        """The body's parts as they come, until there are too many bytes."""
        seen = 0

        async def bounded() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self.largest_body:
                    raise self._too_large()
            return message

        return bounded

    def _too_large(self) -> Refused:
        return Refused(413, f"The request is larger than {self.largest_body / 2**20:.0f} MB.", "Send a smaller image.")


def _values(scope: Scope, name: bytes) -> list[bytes]:
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return [value for key, value in headers if key == name]
