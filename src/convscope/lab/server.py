"""Starting the lab: a free port on the loopback interface, the server, the browser."""

from __future__ import annotations

import contextlib
import socket
import sys
import webbrowser
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from convscope.errors import UsageError
from convscope.lab.api import Lab
from convscope.lab.app import create_app
from convscope.lab.jobs import Jobs
from convscope.lab.runs import RunsFolder
from convscope.lab.security import new_token

BACKLOG = 512  # connections that wait to be accepted; a browser opens six
GRACE_SECONDS = 3  # that answers may take once the lab ends


def run_lab(run: Path | None = None, *, out: Path = Path("runs"), port: int = 8765, browser: bool = True) -> None:
    """Serve the lab until Ctrl-C.

    Args:
        run: a run to open, or a folder that holds runs.
        out: the folder that holds runs when `run` is None.
        port: of the loopback interface; 0 takes a free one.
        browser: whether to open the page.

    Raises:
        UsageError: the port is taken, or there is no such run.
    """
    folder, opened = _place(run, out)
    listeners = _listen(port)
    port = listeners[0].getsockname()[1]
    runs = RunsFolder(folder)
    lab = Lab(runs, opened, port, new_token())
    url = f"http://{'localhost' if len(listeners) > 1 else '127.0.0.1'}:{port}/"
    print(f"The lab is at {url} (Ctrl-C ends it).", file=sys.stderr)
    if browser:
        webbrowser.open(url)
    with contextlib.suppress(KeyboardInterrupt):
        _Server(lab).run(sockets=listeners)
    if training := Jobs(runs).training():
        print(f"{training} goes on training; convscope lab {folder / training} follows it and can stop it.", file=sys.stderr)


class _Server(uvicorn.Server):
    """A server that tells the lab's streams when it is to end; it would wait for them otherwise."""

    def __init__(self, lab: Lab) -> None:
        self._ending = lab.ending
        quiet: dict[str, Any] = {
            "log_level": "warning",
            "access_log": False,
            "server_header": False,
            "proxy_headers": False,
            "lifespan": "off",
        }
        super().__init__(uvicorn.Config(create_app(lab), timeout_graceful_shutdown=GRACE_SECONDS, **quiet))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ctrl-C, or another program's wish."""
        self._ending.set()
        super().handle_exit(sig, frame)


def _place(run: Path | None, out: Path) -> tuple[Path, str | None]:
    if run is None:
        return out.absolute(), None
    if (run / "config.json").is_file():
        path = run.resolve()
        return path.parent, path.name
    if run.is_dir():
        return run.absolute(), None
    raise UsageError(
        f"There is no run {run}. Give a run directory, such as runs/mnist-001, a folder that holds runs, or nothing for the folder runs."
    )


def _listen(port: int) -> list[socket.socket]:
    """Sockets on this machine's own addresses: IPv4's, and IPv6's where it has one, because browsers may take either for "localhost"."""
    first = _bound(socket.AF_INET, "127.0.0.1", port)
    try:
        return [first, _bound(socket.AF_INET6, "::1", first.getsockname()[1])]
    except UsageError:  # no IPv6 here, or somebody else listens there: then the address with numbers is told
        return [first]


def _bound(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(f"{address} is no address of this machine: {error}.") from None
    if sys.platform != "win32":  # there it would let two programs listen on one port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise UsageError(f"Port {port} cannot be used: {error}. Give another one, such as --port {port % 60000 + 1}.") from None
    listener.listen(BACKLOG)
    return listener
