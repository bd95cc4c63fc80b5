"""The paired examples: the watched loop is the bare one with a few lines more, and prints the same losses."""

import difflib
import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
ADDED = {
    "import convscope as cs",
    "",
    "with cs.Watcher(model) as watch:",
    'watch.color_dim(-2).figure.savefig("layer.png")',
    'print(f"verdict: {watch.diagnose().verdict}")',
}


def printed(name, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], cwd=tmp_path, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_both_print_the_same_losses(tmp_path):
    bare, watched = printed("bare_loop.py", tmp_path), printed("watched_loop.py", tmp_path)
    losses = [line for line in watched if line.startswith("step ")]
    assert losses == bare
    assert len(bare) == 6
    assert len(watched) == 7
    assert watched[6].startswith("verdict: ")
    assert (tmp_path / "layer.png").read_bytes().startswith(b"\x89PNG")


def test_they_differ_in_the_watcher_s_lines_only():
    bare, watched = (
        [line.strip() for line in (EXAMPLES / name).read_text(encoding="utf-8").splitlines()[1:]]
        for name in ("bare_loop.py", "watched_loop.py")
    )  # without the first line, which says what the file is
    changes = [line for line in difflib.ndiff(bare, watched) if line[0] in "+-"]
    assert {line[2:] for line in changes if line[0] == "+"} == ADDED
    assert [line for line in changes if line[0] == "-"] == []
