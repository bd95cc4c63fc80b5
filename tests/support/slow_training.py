"""Trainings in processes of their own that write a checkpoint after every step and then wait, so that they can be killed in the middle of an epoch."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from safetensors.numpy import load_file

# The beginning of a script: sys.argv[3] is how many seconds to wait after a step; 0 leaves the training as it is.
SLOWLY = """
import sys, time
from convscope.train import runs, training_run
from convscope.train.checkpoint import Checkpointing
from convscope.train.settings import TrainSettings

if slow := float(sys.argv[3]):
    class EveryStep(Checkpointing):  # a checkpoint after every step, so that a resume begins in the middle of an epoch
        def __init__(self, folder):
            super().__init__(folder, seconds=0.0)
        def write(self, learner):
            super().write(learner)
            print(learner.epoch, learner.batch, flush=True)
            time.sleep(slow)
    training_run.Checkpointing = EveryStep
"""


def kill_at(process: subprocess.Popen[str], epoch: int, batch: int) -> None:
    """Kill a slow training, as nothing can be caught, once it has done so many epochs and batches of the next."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.split() == [str(epoch), str(batch)]:
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=30) == -signal.SIGKILL


def weights(run: Path) -> dict[str, bytes]:
    """A run's weights, to be compared bit for bit."""
    return {name: value.tobytes() for name, value in load_file(run / "weights.safetensors").items()}
