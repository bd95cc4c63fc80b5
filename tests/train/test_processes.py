"""Two processes started by torchrun train as one would: the same losses on the same global batches, one run directory, one object on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_data import write_folder

from convscope.errors import UsageError
from convscope.runlog import RunLog
from convscope.train import runs
from convscope.train.processes import Processes
from convscope.train.settings import TrainSettings

SCRIPT = """
import sys
from convscope.train import runs
from convscope.train.settings import TrainSettings
from convscope.cli import _print_json

settings = TrainSettings(sys.argv[1], model="simple_cnn", model_arguments={"norm": False}, epochs=2, batch_size=8, lr=0.02, device="cpu", augment=True)
_print_json(runs.train_run(settings, out=sys.argv[2]))
"""


def run(folder: Path, out: Path, processes: int) -> tuple[dict, list[str]]:
    script = out / "script.py"
    out.mkdir()
    script.write_text(SCRIPT)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(script), str(folder), str(out / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == 1
    return json.loads(lines[0]), done.stderr.splitlines()


def test_two_processes_equal_one(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "cache"))
    folder = write_folder(tmp_path / "stripes", per_class=24)
    alone, _ = run(folder, tmp_path / "alone", 1)
    together, told = run(folder, tmp_path / "together", 2)
    assert together["steps"] == alone["steps"] == 12
    assert together["valid_loss"] == pytest.approx(alone["valid_loss"], rel=1e-3)
    assert together["accuracy"] == pytest.approx(alone["accuracy"], abs=0.03)
    rows = {
        place: (Path(result["run"]) / "results.csv").read_text().splitlines()
        for place, result in (("alone", alone), ("together", together))
    }
    for one, two in zip(rows["alone"][1:], rows["together"][1:], strict=True):
        assert float(one.split(",")[2]) == pytest.approx(float(two.split(",")[2]), rel=1e-3)
    assert sum(line.startswith("accuracy ") for line in told) == 1
    assert [path.name for path in (tmp_path / "together" / "runs").iterdir()] == ["stripes-001"]
    one, two = (RunLog.read(Path(result["run"]) / "log.sqlite") for result in (alone, together))
    for record, reference in zip(two.steps(), one.steps(), strict=True):
        assert record.loss.last == pytest.approx(reference.loss.last, rel=1e-3)
        assert record.gradient_norm.last == pytest.approx(reference.gradient_norm.last, rel=1e-2)
    assert two.layer_names() == one.layer_names()
    for name, expected in one.layers().items():  # of all ranks together
        for record, reference in zip(two.layers()[name], expected, strict=True):
            assert (record.count, record.records) == (reference.count, 1)
            assert record.mean == pytest.approx(reference.mean, abs=1e-2 * reference.std)
            assert record.std == pytest.approx(reference.std, rel=1e-2)


def test_healing_in_several_processes_is_refused(monkeypatch):
    two = Processes(0, 2, torch.device("cpu"), "asked for")
    monkeypatch.setattr(runs, "join", lambda device: two)
    with pytest.raises(UsageError) as caught:
        runs.train_run(TrainSettings("mnist"), heal=True)
    assert str(caught.value) == "--heal works in one process, and this run has 2. Leave out --heal, or start it without torchrun."
