"""The table of a network that is named on the command line: a run's, or a model's by name."""

from __future__ import annotations

from pathlib import Path

from convscope.arithmetic import summary
from convscope.errors import RunError, UsageError
from convscope.nn import MODELS, build
from convscope.records import NetworkSummary
from convscope.rundir import open_run

CLASSES = 10  # of a model by name, which has no data to count


def describe(model_or_run: str, input_size: str | None) -> NetworkSummary:
    """The table of a run's network, or of a model by name for images of a given size.

    Args:
        model_or_run: a run directory, or a name such as "simple_cnn" (then with 10 classes).
        input_size: "C,H,W"; 1,28,28 unless given. For a run it is the run's own.

    Raises:
        UsageError: the size is not three positive numbers, or goes with a run.
        RunError: it is neither a model nor a run.
    """
    if model_or_run not in MODELS:
        if not Path(model_or_run).exists():
            raise UsageError(f"{model_or_run!r} is neither a run directory nor a model. The models are {', '.join(MODELS)}.")
        if input_size:
            raise UsageError("--input-size goes with a model's name; a run has the size of its own images.")
        table = open_run(model_or_run).network()
        if table is None:
            raise RunError(f"{model_or_run} kept no table of its network.")
        return table
    shape = _shape(input_size or "1,28,28")
    return summary(build(model_or_run, shape[0], CLASSES, min(shape[1:])), shape)


def _shape(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"--input-size {text} is no shape; give channels, rows and columns, such as 3,32,32.")
    channels, rows, columns = map(int, parts)
    return channels, rows, columns
