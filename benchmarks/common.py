"""What benchmarks share: the facts that a figure must carry, where it is kept, and environments for what others have written."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import venv
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def facts() -> dict[str, Any]:
    """Hardware, versions, commit and date."""
    root = Path(__file__).parent.parent
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def spread(values: Sequence[float]) -> dict[str, float | int]:
    """n, median, mean, standard deviation (of the sample), least and greatest."""
    return {
        "n": len(values),
        "median": statistics.median(values),
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else 0.0,
        "min": min(values),
        "max": max(values),
    }


def keep(name: str, result: dict[str, Any]) -> Path:
    """Write a benchmark's result, with the facts, to results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"benchmark": name, "facts": facts(), **result}, indent=2) + "\n", encoding="utf-8")
    return path


def make_environment(folder: Path, packages: Sequence[str], *, uv: bool = False) -> Path:
    """A virtual environment with some packages; returns its interpreter.

    Args:
        folder: to be made.
        packages: requirements.
        uv: install by uv, which brings gigabytes in half a minute; else by pip, which takes the CPU build of torch where the machine offers one.
    """
    print(f"Installing {', '.join(packages)} in a temporary environment", file=sys.stderr, flush=True)
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = ["pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in ([*pip, "uv"], ["uv", "pip", "install", "--quiet", *packages]) if uv else ([*pip, *packages],):
        subprocess.run([str(python), "-m", *command], check=True, env={**os.environ, "VIRTUAL_ENV": str(folder)})
    return python


def result_of(python: Path, arguments: Sequence[str], **environment: str) -> dict[str, Any]:
    """Run a side of a benchmark in a process of its own, without a GPU; its last line is the result, as JSON."""
    done = subprocess.run(
        [str(python), *arguments],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
