"""A run that is killed in the middle of an epoch and resumed ends bit for bit like one that was never stopped: real processes, real SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from slow_training import SLOWLY, kill_at, weights
from small_data import write_folder

TRAIN = f"""{SLOWLY}
settings = TrainSettings(sys.argv[1], model="simple_cnn", epochs=3, batch_size=8, lr=0.05, augment=True, seed=3, device="cpu", clip_norm=5.0)
print(runs.train_run(settings, out=sys.argv[2], name="run")["accuracy"])
"""


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def train(folder: Path, out: Path, slow: float = 0.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", TRAIN, str(folder), str(out), str(slow)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "cache"))
    return write_folder(tmp_path / "stripes", per_class=24)


def test_killed_and_resumed_equals_uninterrupted(folder, tmp_path):
    whole = train(folder, tmp_path / "whole")
    output, errors = whole.communicate(timeout=120)
    assert whole.returncode == 0, errors

    killed = train(folder, tmp_path / "killed", slow=0.2)
    kill_at(killed, 1, 3)  # the second epoch, after its third batch of six
    run = tmp_path / "killed" / "run"
    assert json.loads((run / "config.json").read_text())["status"] == "running"

    command = [sys.executable, "-m", "convscope", "train", "--resume", str(run), "--json"]
    resumed = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120, check=False)
    assert resumed.returncode == 0, resumed.stderr
    assert f"resuming {run.resolve()} at epoch 2 of 3, step 9" in resumed.stderr
    assert weights(run) == weights(tmp_path / "whole" / "run")
    assert json.loads(resumed.stdout.splitlines()[-1])["accuracy"] == float(output)

    def rows(path: Path) -> list[list[str]]:
        return [line.split(",")[:-1] for line in (path / "results.csv").read_text().splitlines()]  # without the seconds

    assert rows(run) == rows(tmp_path / "whole" / "run")

    again = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120, check=False)
    assert json.loads(again.stdout) == json.loads(resumed.stdout.splitlines()[-1])
    assert again.stderr == f"{run.resolve()} is finished already; this is its result. To train again, leave out --resume.\n"


def test_ctrl_c_saves_and_says_how_to_go_on(folder, tmp_path):
    process = train(folder, tmp_path / "runs", slow=0.2)
    process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    run = (tmp_path / "runs" / "run").resolve()
    assert process.returncode == 1
    assert f"everything is saved. To go on: convscope train --resume {run}" in errors
    assert json.loads((run / "config.json").read_text())["status"] == "interrupted"
    assert (run / "report.html").exists()
    assert (run / "checkpoint" / "state.safetensors").exists()
