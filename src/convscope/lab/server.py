"""Starting the lab: a free port on the loopback interface, the server, the browser."""

from __future__ import annotations

import socket
import sys
import webbrowser
from pathlib import Path

import uvicorn

from convscope.errors import UsageError
from convscope.lab.api import Lab
from convscope.lab.app import create_app
from convscope.lab.runs import RunsFolder
from convscope.lab.security import new_token


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
    listener = _listen(port)
    port = listener.getsockname()[1]
    app = create_app(Lab(RunsFolder(folder), opened, port, new_token()))
    url = f"http://localhost:{port}/"
    print(f"The lab is at {url} (Ctrl-C ends it).", file=sys.stderr)
    if browser:
        webbrowser.open(url)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", lifespan="on", access_log=False, server_header=False, timeout_graceful_shutdown=2)
    )
    server.run(sockets=[listener])


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


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if sys.platform != "win32":  # there it would let two programs listen on one port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise UsageError(f"Port {port} cannot be used: {error}. Give another one, such as --port {port % 60000 + 1}.") from None
    listener.listen(512)
    return listener
