"""Runs listed and read: states, damaged runs, and what is told of one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from lab_served import Application

from convscope.diagnose import diagnose_log, verdict_to_json
from convscope.lab.runs import RunsFolder, settings_of, state_of
from convscope.rundir import RunDir, is_alive, open_run, this_process
from convscope.runlog import RunLog


def test_the_list_tells_of_each_run(application: Application):
    answer = application.get("/api/runs").json
    [row] = [row for row in answer["runs"] if row["run"] == "tiny"]
    config = json.loads((application.folder / "tiny" / "config.json").read_text())
    assert row == {
        "run": "tiny",
        "state": "finished",
        "message": None,
        "command": "train",
        "data": config["data"]["source"],
        "model": "simple_cnn",
        "accuracy": config["result"]["accuracy"],
        "epochs_done": 2,
        "epochs": 2,
        "steps": 40,
        "created": config["created"],
        "verdict": config["result"]["verdict"],
        "can_inspect": True,
        "stoppable": False,
    }


def test_one_run_is_told_with_what_its_files_hold(application: Application, digits_folder: Path):
    answer = application.get("/api/runs/tiny").json
    run = open_run(application.folder / "tiny")
    with RunLog.read(run.log) as log:
        assert answer["verdict"] == json.loads(json.dumps(verdict_to_json(diagnose_log(log))))
        assert [row["valid_loss"] for row in answer["results"]] == [epoch.valid_loss for epoch in log.epochs()]
    network = run.network()
    assert network
    assert [layer["name"] for layer in answer["layers"]] == [row.name for row in network.rows]
    assert answer["image"] == [1, 28, 28]
    assert answer["classes"] == list("0123456789")
    assert answer["evaluation"]["count"] == 60
    assert answer["settings"] == {
        "data": str(digits_folder),
        "model": "simple_cnn",
        "epochs": 2,
        "batch_size": 32,
        "lr": 0.02,
        "init": None,
        "schedule": "one_cycle",
        "seed": 0,
        "weight_decay": None,
        "clip_norm": None,
        "augment": False,
        "label_smoothing": 0.0,
        "norm": True,
    }


def test_a_folder_that_does_not_exist_yet_has_no_runs(tmp_path: Path):
    assert RunsFolder(tmp_path / "nothing").rows() == []


def write_run(path: Path, **config: object) -> RunDir:
    path.mkdir(parents=True)
    run = RunDir(path)
    run.write_config({"command": "train", **config})
    return run


@pytest.mark.parametrize(
    ("config", "state"),
    [
        ({"status": "finished"}, "finished"),
        ({"status": "interrupted"}, "stopped"),
        ({"status": "failed"}, "failed"),
        ({"status": "running", "process": this_process()}, "running"),
        ({"status": "running", "process": {"pid": os.getpid(), "began": 12.0}}, "broken"),  # its number was given to another process
        ({"status": "running", "process": {"pid": 2**31 - 5, "began": 12.0}}, "broken"),
        ({"status": "running"}, "broken"),
        ({"status": "running", "process": "nonsense"}, "broken"),
        ({"kind": "watch"}, "finished"),
    ],
)
def test_states(tmp_path: Path, config: dict[str, object], state: str):
    run = write_run(tmp_path / "one", **config)
    assert state_of(run, run.read_config()) == state
    [row] = RunsFolder(tmp_path).rows()
    assert row["state"] == state
    assert row["stoppable"] is (state == "running")


def test_a_watched_script_runs_as_long_as_its_log_is_written(tmp_path: Path):
    run = write_run(tmp_path / "one", kind="watch", command=["python", "script.py"])
    log = RunLog.create(run.log)
    log.set("a", 1)
    log.flush()
    if not run.log.with_name("log.sqlite-wal").exists():
        pytest.skip("this file system has no write-ahead log")
    assert state_of(run, run.read_config()) == "running"
    assert not RunsFolder(tmp_path).rows()[0]["stoppable"]
    log.close()
    assert state_of(run, run.read_config()) == "finished"


def test_a_process_is_known_by_its_number_and_its_beginning():
    own = this_process()
    assert is_alive(own)
    assert not is_alive({**own, "began": own["began"] - 100})
    parent = psutil.Process(os.getpid()).parent()
    assert parent is None or is_alive({"pid": parent.pid, "began": parent.create_time()})
    ended = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    described = {"pid": ended.pid, "began": psutil.Process(ended.pid).create_time()}
    assert is_alive(described)
    assert ended.stdin
    ended.stdin.close()
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # it has ended and is a zombie now
    assert not is_alive(described)
    ended.wait()
    assert not is_alive(described)
    for nonsense in (None, {}, {"pid": "x", "began": 1}, {"pid": -1, "began": 1}, {"pid": 10**30, "began": 1}, [], sys):
        assert not is_alive(nonsense)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{", "is damaged and cannot be read"),
        ("log.sqlite", "this is no database, and long enough to be taken for one" * 20, "is damaged (file is not a database)"),
        ("network.json", '{"model": 3}', "is damaged"),
    ],
)
def test_damaged_runs_are_told_in_words(lab_runs: Path, tmp_path: Path, application: Application, file: str, content: str, message: str):
    run = application.folder / f"damaged-{file.partition('.')[0]}"
    shutil.copytree(lab_runs / "tiny", run)
    (run / file).write_text(content)
    try:
        answer = application.get(f"/api/runs/{run.name}")
        assert answer.status == 404
        assert message in answer.message
        listed = {row["run"]: row["state"] for row in application.get("/api/runs").json["runs"]}
        assert listed[run.name] == ("broken" if file == "config.json" else "finished")
    finally:
        shutil.rmtree(run)


def test_only_a_training_can_be_repeated():
    assert settings_of({"command": ["python", "x.py"]}) is None
    assert settings_of({"command": "train"}) is None
    assert settings_of({"command": "train", "settings": {"norm": False, "lr": "auto"}}) == {"lr": "auto", "norm": False}
