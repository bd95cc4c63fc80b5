"""A real server: two hundred connections at once, training live to the end, stopped, resumed, and outliving the lab that started it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_served import Served, end_trainings, served

from convscope.rundir import open_run
from convscope.runlog import RunLog
from convscope.train.checkpoint import has_checkpoint

pytestmark = pytest.mark.slow
CONNECTIONS = 200


def events(url: str, run: str, seconds: float = 120) -> Iterator[tuple[str, Any]]:
    """The live events of a run, until the stream ends."""
    name = ""
    with urllib.request.urlopen(f"{url}/api/runs/{run}/live", timeout=seconds) as stream:
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        for line in stream:
            text = line.decode().rstrip("\n")
            if text.startswith("event: "):
                name = text[7:]
            elif text.startswith("data: "):
                yield name, json.loads(text[6:])


def wait_for(server: Served, run: str, *states: str, seconds: float = 120) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status, row = server.ask(f"/api/runs/{run}")
        if status == 200 and row["state"] in states:
            return row
        time.sleep(0.1)
    raise AssertionError(f"{run} did not become {states}: {status} {row}")


def until(done: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.1)


def long_training(server: Served) -> str:
    """Begin a training that nobody waits for; its name."""
    settings = {"data": str(server.digits), "model": "simple_cnn", "epochs": 500, "batch_size": 16, "lr": 0.01, "augment": False}
    status, answer = server.ask("/api/train", settings)
    assert status == 200, answer
    return str(answer["run"])


def test_two_hundred_connections_at_once(lab: Served):
    async def one(number: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", lab.port)
        path = ("/", "/api/runs", "/api/runs/tiny", "/api/state", "/static/js/main.js", "/api/questions")[number % 6]
        await barrier.wait()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost:{lab.port}\r\nConnection: close\r\n\r\n".encode())
        content = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        return int(content.split(b" ", 2)[1])

    async def main() -> list[int]:
        return await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))

    barrier = asyncio.Barrier(CONNECTIONS)  # all are open before the first asks
    assert asyncio.run(main()) == [200] * CONNECTIONS
    assert lab.ask("/api/state")[0] == 200


def test_train_live_to_the_end(lab: Served):
    settings = {"data": str(lab.digits), "model": "simple_cnn", "epochs": 3, "batch_size": 32, "lr": 0.02, "augment": False, "seed": 5}
    status, answer = lab.ask("/api/train", {**settings, "schedule": "constant", "norm": False})
    assert status == 200, answer
    run = answer["run"]
    assert lab.ask("/api/train", settings)[0] == 409
    assert lab.ask("/api/state")[1]["training"] == run
    steps: dict[int, float] = {}
    layers: dict[str, dict[int, list[int]]] = {}
    states, last = [], {}
    for name, value in events(lab.url, run):
        last[name] = value
        if name == "state":
            states.append(value["state"])
        if name == "steps":
            if value["restart"]:
                steps.clear()
            steps.update(zip(value["first"], value["loss"], strict=True))
        if name == "layers":
            if value["restart"]:
                layers[value["layer"]] = {}
            layers[value["layer"]].update(zip(value["first"], value["color_dim"]["counts"], strict=True))
    assert states[-1] == "finished"
    assert set(states) <= {"starting", "running", "finished"}
    assert last["end"] == {}
    with RunLog.read(open_run(lab.folder / run).log) as log:
        assert steps == {record.first_step: record.loss.mean for record in log.steps()}
        assert list(layers) == log.layer_names()
        for name, counts in layers.items():
            assert list(counts) == [record.first_step for record in log.layer_records(name)]
            assert [sum(row) for row in counts.values()] == [record.histogram.total for record in log.layer_records(name)]
        assert len(last["results"]["rows"]) == len(log.epochs()) == 3
        assert [finding.name for finding in log.findings()] == [finding["name"] for finding in last["verdict"]["findings"]]
    assert last["state"]["step"] == max(steps)
    row = lab.ask(f"/api/runs/{run}")[1]
    assert (row["settings"]["schedule"], row["settings"]["norm"]) == ("constant", False)
    assert not [layer for layer in row["layers"] if layer["kind"] == "BatchNorm2d"]
    assert {"config", "classes", "results"} <= set(row)
    assert list(events(lab.url, run))[-1] == ("end", {})  # a finished run is told once, and the stream ends


def test_many_pages_then_stopped_gone_on_with_and_killed(lab: Served):
    """One training through everything that can happen to it."""
    run = long_training(lab)
    assert lab.ask("/api/runs")[1]["runs"][0] == {"run": run, "state": "starting", "message": None, "can_inspect": False, "stoppable": True}
    assert next(events(lab.url, run))[1]["state"] in ("starting", "running")
    wait_for(lab, run, "running")

    streams = [urllib.request.urlopen(f"{lab.url}/api/runs/{run}/live", timeout=60) for _ in range(24)]
    for stream in streams:
        stream.readline()
    status, answer = lab.ask(f"/api/runs/{run}/live")
    assert (status, answer["error"]["message"]) == (503, "24 pages follow runs already.")
    for stream in streams:
        stream.close()
    until(lambda: not is_full(lab, run))

    next(value for name, value in events(lab.url, run) if name == "steps")
    assert lab.ask(f"/api/runs/{run}/stop", {}) == (200, {"state": "stopping"})
    row = wait_for(lab, run, "stopped")
    assert row["message"].startswith("Interrupted at step ")
    until(lambda: not open_run(lab.folder / run).stop_request.exists())  # until its page is written
    assert has_checkpoint(open_run(lab.folder / run).checkpoint)
    assert lab.ask(f"/api/runs/{run}/stop", {})[0] == 409

    assert lab.ask(f"/api/runs/{run}/resume", {}) == (200, {"run": run})
    assert lab.ask(f"/api/runs/{run}")[1]["state"] in ("starting", "running")
    wait_for(lab, run, "running")
    pid = json.loads((lab.folder / run / "config.json").read_text())["process"]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lab, run, "broken")
    assert list(events(lab.url, run))[-1] == ("end", {})
    assert lab.ask("/api/state")[1]["training"] is None


def is_full(lab: Served, run: str) -> bool:
    try:
        with urllib.request.urlopen(f"{lab.url}/api/runs/{run}/live", timeout=60) as stream:
            stream.readline()
            return False
    except urllib.error.HTTPError as error:
        return error.code == 503


def test_a_training_outlives_the_lab_and_the_next_lab_stops_it(lab_runs: Path, digits_folder: Path, lab_home: Path, tmp_path: Path):
    folder = tmp_path / "runs"
    shutil.copytree(lab_runs, folder)
    with served(folder, digits_folder) as first:
        run = long_training(first)
        wait_for(first, run, "running")
        first.process.send_signal(signal.SIGINT)
        first.process.wait(timeout=30)
    with served(folder, digits_folder) as second:
        assert second.ask(f"/api/runs/{run}")[1]["state"] == "running"
        assert second.ask("/api/state")[1]["training"] == run
        assert second.ask("/api/train", {"data": str(digits_folder)})[0] == 409
        assert second.ask(f"/api/runs/{run}/stop", {}) == (200, {"state": "stopping"})
        wait_for(second, run, "stopped")
    end_trainings(folder)


def test_a_run_of_the_command_line_is_followed_and_stopped(lab: Served):
    words = [
        "train",
        lab.digits,
        "--model",
        "simple_cnn",
        "--epochs",
        500,
        "--batch-size",
        16,
        "--lr",
        0.01,
        "--no-augment",
        "--out",
        lab.folder,
        "--name",
        "by-hand",
    ]
    command = [sys.executable, "-m", "convscope", *map(str, words)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    try:
        wait_for(lab, "by-hand", "running")
        assert next(value["first"][0] for name, value in events(lab.url, "by-hand") if name == "steps") == 0
        assert lab.ask("/api/runs/by-hand/stop", {}) == (200, {"state": "stopping"})
        assert process.wait(timeout=60) == 130
        assert process.stderr
        assert "everything is saved. To go on: convscope train --resume" in process.stderr.read()
    finally:
        process.kill()


def test_a_training_that_cannot_begin_says_why(lab: Served, tmp_path: Path):
    empty = tmp_path / "empty"
    empty.mkdir()
    status, answer = lab.ask("/api/train", {"data": str(empty)})
    assert status == 200
    last = dict(events(lab.url, answer["run"]))
    assert last["state"]["state"] == "failed"
    assert str(empty) in last["state"]["message"]
    assert lab.ask(f"/api/runs/{answer['run']}")[0] == 404
    assert lab.ask("/api/state")[1]["training"] is None
