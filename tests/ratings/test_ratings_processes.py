"""Runs on ratings in real processes: killed and resumed bit for bit, and two of them as one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ratings_files import small
from slow_training import SLOWLY, kill_at, weights

from convscope.rundir import open_run

TRAIN = f"""{SLOWLY}
from convscope.cli import _print_json
settings = TrainSettings(sys.argv[1], epochs=3, batch_size=32, lr=0.02, factors=4, seed=3, device="cpu")
_print_json(runs.train_run(settings, out=sys.argv[2], name="run"))
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def train(path, out, *, slow=0.0, processes=1):
    out.mkdir()
    (out / "script.py").write_text(TRAIN)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    command = [sys.executable, *launcher, str(out / "script.py"), str(path), str(out), str(slow)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def finished(process):
    """The object that a training prints."""
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    [line] = [line for line in output.splitlines() if line.startswith("{")]
    return json.loads(line)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A file of ratings, and the result of a training on it that nothing disturbed."""
    folder = tmp_path_factory.mktemp("alone")
    path = small(folder / "small.csv")
    return path, finished(train(path, folder / "runs"))


def test_killed_and_resumed_equals_uninterrupted(alone, tmp_path):
    path, whole = alone
    killed = train(path, tmp_path / "killed", slow=0.2)
    kill_at(killed, 1, 3)  # the second epoch, after its third batch of eight
    run = tmp_path / "killed" / "run"
    command = [sys.executable, "-m", "convscope", "train", "--resume", str(run), "--json"]
    resumed = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120, check=False)
    assert resumed.returncode == 0, resumed.stderr
    assert f"resuming {run.resolve()} at epoch 2 of 3, step {whole['steps'] // 3 + 3}" in resumed.stderr
    again = json.loads(resumed.stdout.splitlines()[-1])
    assert weights(run) == weights(Path(whole["run"]))
    unlike = {"run", "seconds"}
    assert {name: value for name, value in again.items() if name not in unlike} == {k: v for k, v in whole.items() if k not in unlike}


def test_two_processes_equal_one(alone, tmp_path):
    path, whole = alone
    together = finished(train(path, tmp_path / "together", processes=2))
    assert together["steps"] == whole["steps"]
    assert together["rmse"] == pytest.approx(whole["rmse"], rel=1e-3)
    found, one = open_run(together["run"]).ratings(), open_run(whole["run"]).ratings()
    assert (found.count, found.train, found.items) == (one.count, one.train, one.items)
    assert [item.item for item in found.most_liked] == [item.item for item in one.most_liked]
    assert open_run(together["run"]).read_config()["train"]["processes"] == 2
