"""The run's small tables: results.csv, one row an epoch, and skipped_files.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from convscope.records import EpochRecord, SkippedFile
from convscope.rundir import write_text


def write_results(path: Path, epochs: Sequence[EpochRecord]) -> None:
    """Write results.csv: epoch, steps, train_loss, valid_loss, each metric, seconds."""
    metrics = list(epochs[0].metrics) if epochs else []
    rows = [
        [e.epoch, e.steps, e.train_loss, e.valid_loss, *(e.metrics.get(name, "") for name in metrics), round(e.seconds, 3)] for e in epochs
    ]
    write_text(path, _csv(["epoch", "steps", "train_loss", "valid_loss", *metrics, "seconds"], rows))


def write_skipped(path: Path, skipped: Sequence[SkippedFile]) -> None:
    """Write skipped_files.csv (path, reason), unless nothing was skipped."""
    if skipped:
        write_text(path, _csv(["path", "reason"], [[s.path, s.reason] for s in skipped]))


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()
