"""`convscope quiz` as a user meets it."""

from __future__ import annotations

import os
import subprocess
import sys


def quiz(tmp_path, *words, typed=""):
    command = [sys.executable, "-m", "convscope", "quiz", *words]
    env = {**os.environ, "XDG_DATA_HOME": str(tmp_path), "CONVSCOPE_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, input=typed, capture_output=True, text=True, env=env, timeout=100, check=False)


def test_the_end_of_input_is_a_polite_end(tmp_path):
    done = quiz(tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("40 questions on convolutional networks: 0 to repeat, 40 new.")
    assert done.stdout.endswith("0 questions answered.\n")
    assert done.stderr == ""


def test_json_without_check_is_wrong_usage(tmp_path):
    done = quiz(tmp_path, "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("convscope: --json goes with --check: convscope quiz --check --json. Without --check the quiz is a dialogue.\n")
