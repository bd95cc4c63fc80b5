"""The lab under test: the application in this process, and a real server in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from asgi import Answer, call_now
from starlette.types import ASGIApp

from convscope.rundir import is_alive

PORT = 8765
TOKEN = "the-token-of-this-test"
HOST = ("host", f"localhost:{PORT}")


@dataclass(frozen=True)
class Application:
    """The application in this process."""

    app: ASGIApp
    folder: Path

    def get(self, target: str, **headers: str) -> Answer:
        """GET as the page does."""
        return call_now(self.app, "GET", target, headers=[HOST, *headers.items()])

    def post(self, target: str, body: object = None, *, raw: bytes | None = None) -> Answer:
        """POST with the token."""
        content = json.dumps({} if body is None else body).encode() if raw is None else raw
        return call_now(self.app, "POST", target, body=content, headers=[HOST, ("x-convscope-token", TOKEN)])


@dataclass(frozen=True)
class Served:
    """A real server.

    Attributes:
        url: without a slash at the end; run: the name of the trained run; folder: of the runs; digits: a folder to train on.
    """

    url: str
    run: str
    folder: Path
    digits: Path
    process: subprocess.Popen[str] = field(repr=False)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    @property
    def token(self) -> str:
        """The session's token, as the page has it."""
        page = urllib.request.urlopen(self.url, timeout=30).read().decode()
        found = re.search(r'<meta name="token" content="([^"]+)">', page)
        assert found
        return found[1]

    def ask(self, path: str, body: object = None) -> tuple[int, Any]:
        """GET, or POST of JSON when there is a body; the status and the JSON that came back."""
        headers = {} if body is None else {"X-Convscope-Token": self.token, "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, content, headers), timeout=120) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


@contextlib.contextmanager
def served(folder: Path, digits: Path, *words: str) -> Iterator[Served]:
    """A lab on a folder of runs, ended afterwards as by Ctrl-C."""
    command = [sys.executable, "-m", "convscope", "lab", str(folder / "tiny"), "--no-browser", "--port", "0", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        assert process.stderr
        line = process.stderr.readline()
        found = re.search(r"http://(localhost|127\.0\.0\.1):\d+", line)
        assert found, line + process.stderr.read()
        yield Served(found[0], "tiny", folder, digits, process)
    finally:
        process.terminate()
        process.wait(timeout=30)


def end_trainings(folder: Path) -> None:
    """End what a test has left training in a folder of runs: it would go on without the lab."""
    for config in folder.glob("*/config.json"):
        process = json.loads(config.read_text()).get("process")
        if is_alive(process) and process["pid"] != os.getpid():
            psutil.Process(process["pid"]).kill()
