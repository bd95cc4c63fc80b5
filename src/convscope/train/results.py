"""The run's small tables: results.csv, one row an epoch, and skipped_files.csv or skipped_rows.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convscope.records import EpochRecord, SkippedFile
from convscope.rundir import write_text

if TYPE_CHECKING:
    from convscope.data.ratings_table import RatingTable


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


def write_skipped_rows(path: Path, table: RatingTable) -> None:
    """Write skipped_rows.csv (line, reason), in the order of the file, unless nothing was skipped."""
    if table.skipped_count:
        rows = sorted(table.skipped(), key=lambda row: row.line)
        write_text(path, _csv(["line", "reason"], ([row.line, row.reason] for row in rows)))


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()
