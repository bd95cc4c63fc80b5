"""Scripts in the manner of different people, run as they are and watched: the same output, the same exit code, and the run written."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from convscope.rundir import open_run
from convscope.runlog import RunLog

STYLES = Path(__file__).with_name("styles")


@dataclass(frozen=True)
class Style:
    """What is known of a script: its name, optimiser steps, some layers and exit code."""

    name: str
    steps: int
    layers: tuple[str, ...]
    code: int = 0


ALL = [
    Style("mnist_main", 8, ("conv1", "relu", "conv2", "relu:1", "dropout1", "fc1", "relu:2", "fc2", "log_softmax")),
    Style("hf_like_trainer", 6, ("embeddings", "encoder.layers.0.self_attn", "encoder.layers.1.relu", "classifier")),
    Style("nano_gpt", 5, ("transformer.wte", "transformer.h.1.attn.c_attn", "transformer.h.1.mlp.1", "lm_head")),
    Style("lightning_like", 6, ("encoder.0", "encoder.1", "head")),
    Style("gan_with_penalty", 12, ("Sequential/0", "Sequential/3", "Sequential-2/0", "Sequential-2/2")),
    Style("ema_and_swa", 9, ("0", "1", "2", "4")),
    Style("checkpointed_and_shared", 4, ("shared.0", "shared.0:1", "shared.0:2", "left.out", "deep.2.2")),
    Style("compiled_scaled", 4, ("Sequential",)),
    Style("loaders_spawned", 4, ("0", "1", "2"), code=3),
    Style("threaded_lbfgs", 5, ("0", "1", "2"), code=1),
    Style("raises_in_the_middle", 3, ("0", "1", "2"), code=1),
    Style("siamese_and_list", 4, ("Tower.conv", "Tower.rnn", "Linear", "Linear-2")),
]


@pytest.mark.slow
@pytest.mark.parametrize("style", ALL, ids=lambda style: style.name)
def test_a_script_is_watched_and_does_not_notice(style, tmp_path):
    command = [sys.executable, str(STYLES / f"{style.name}.py")]
    watched = [sys.executable, "-m", "convscope", "watch", "--out", str(tmp_path / "runs"), "--", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    plain, seen = (
        subprocess.run(one, input=b"some words\n", capture_output=True, cwd=tmp_path, env=environment, check=False)
        for one in (command, watched)
    )
    assert plain.returncode == style.code, plain.stderr.decode()
    assert plain.stdout
    assert (seen.stdout, seen.returncode) == (plain.stdout, style.code), seen.stderr.decode()
    told = [line for line in seen.stderr.decode().splitlines() if not line.startswith("convscope: ")]
    assert told == plain.stderr.decode().splitlines()
    assert "could not be" not in seen.stderr.decode()
    (run,) = (tmp_path / "runs").iterdir()
    log = RunLog.read(open_run(run).log)
    assert open_run(run).report.exists()
    assert [record.first_step for record in log.steps()] == list(range(style.steps))
    assert all(record.loss.last == record.loss.last for record in log.steps())  # none is NaN
    assert all(record.hyper["lr"].last >= 0 for record in log.steps())
    layers = log.layers()
    assert set(style.layers) <= set(layers)
    for name in style.layers:
        assert {record.first_step for record in layers[name]} <= set(range(style.steps))
        assert layers[name][0].count > 0


def test_every_script_is_among_them():
    assert sorted(style.name for style in ALL) == sorted(path.stem for path in STYLES.glob("*.py"))
