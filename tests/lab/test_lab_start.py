"""The verb: help without torch, the page at once, only on this machine, and clear words when it cannot start."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from lab_served import Served

from convscope.errors import UsageError
from convscope.lab.server import _listen, _place
from convscope.rundir import this_process


def test_help_needs_no_torch_and_neither_does_the_first_page(lab_runs: Path):
    code = (
        "import sys; sys.argv = ['convscope', 'lab', '--help']\n"
        "try:\n    from convscope.cli import main; main()\n"
        "finally:\n    print(sorted({'torch', 'starlette', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "[]\n"
    assert "--no-browser" in done.stdout
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path; from asgi import call_now\n"
        "from convscope.lab import app as module; module.WARM_AFTER = 1000\n"
        "from convscope.lab.api import Lab; from convscope.lab.app import create_app; from convscope.lab.runs import RunsFolder\n"
        "app = create_app(Lab(RunsFolder(Path(sys.argv[1])), None, 80, 'x'))\n"
        "for path in ('/', '/static/js/main.js', '/api/state', '/api/runs', '/api/runs/tiny', '/api/questions', '/api/questions/3', '/api/compare'):\n"
        "    assert call_now(app, 'GET', path, headers=[('host', 'localhost')]).status == 200, path\n"
        "print('torch' in sys.modules)"
    )
    support = str(Path(__file__).parent.parent / "support")
    done = subprocess.run([sys.executable, "-c", code, str(lab_runs), support], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_it_listens_on_this_machine_only(lab: Served):
    name = socket.gethostname()
    try:
        others = {found[4][0] for found in socket.getaddrinfo(name, None, socket.AF_INET)} - {"127.0.0.1"}
    except OSError:
        others = set()
    for address in others:
        if address.startswith("127."):
            continue
        with pytest.raises((ConnectionRefusedError, TimeoutError)):
            socket.create_connection((address, lab.port), timeout=2)
    for own in ("127.0.0.1", "localhost", *(["[::1]"] if lab.url.startswith("http://localhost") else [])):
        with urllib.request.urlopen(f"http://{own}:{lab.port}/api/state", timeout=30) as answer:
            assert answer.status == 200


def test_it_is_ready_soon_after_a_page_asked_for_the_state(lab: Served):
    end = time.monotonic() + 60
    while not lab.ask("/api/state")[1]["ready"]:
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_port_in_use_is_told_in_words(lab: Served):
    with pytest.raises(UsageError) as error:
        _listen(lab.port)
    assert re.fullmatch(
        rf"Port {lab.port} cannot be used: .*[Aa]ddress already in use. Give another one, such as --port \d+\.", str(error.value)
    )
    with pytest.raises(UsageError, match="Port 70000 cannot be used"):
        _listen(70000)


def test_what_can_be_opened(lab_runs: Path, tmp_path: Path):
    assert _place(lab_runs / "tiny", Path("runs")) == (lab_runs.resolve(), "tiny")
    assert _place(lab_runs, Path("runs")) == (lab_runs, None)
    assert _place(None, tmp_path) == (tmp_path, None)
    with pytest.raises(UsageError, match=r"There is no run .*nothing"):
        _place(tmp_path / "nothing", Path("runs"))


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_ends_it_and_its_streams_at_once(lab_runs: Path, tmp_path: Path):
    folder = tmp_path / "runs"
    shutil.copytree(lab_runs / "tiny", folder / "one")
    config = json.loads((folder / "one" / "config.json").read_text())
    (folder / "one" / "config.json").write_text(json.dumps({**config, "status": "running", "process": this_process()}))
    command = [sys.executable, "-m", "convscope", "lab", str(folder), "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert process.stderr
    url = re.search(r"http://[a-z0-9.]+:\d+", process.stderr.readline())
    assert url
    with urllib.request.urlopen(f"{url[0]}/api/runs/one/live", timeout=60) as stream:  # this very process stands for the training
        assert stream.readline() == b"event: state\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    assert process.stderr.read() == f"one goes on training; convscope lab {folder / 'one'} follows it and can stop it.\n"
