"""The SQLite file under a run's log: its tables, and records turned into rows and back. No torch.

Receives records (records) and columns of them (columns.py) and gives them back; numbers keep every bit, NaN is NULL.
What is kept is decided in runlog.py. Layers are kept as blocks of rows, because a row of its own for each layer and step would cost more than
measuring it; everything else can be read with any SQLite tool.

A file is in WAL mode while it is written, so that others can read it meanwhile. It is in rollback mode after it was closed, and always on
network file systems, where WAL is not safe (https://sqlite.org/wal.html).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from convscope.columns import LayerColumns
from convscope.errors import RunError
from convscope.records import EpochRecord, Finding, Observation, Range, StepRecord, from_json, to_json

SCHEMA_VERSION = 1  # PRAGMA user_version of the file
NETWORK_FILE_SYSTEMS = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "afs",
    "ceph",
    "lustre",
    "gpfs",
    "beegfs",
    "glusterfs",
    "fuse.sshfs",
    "fuse.s3fs",
    "vboxsf",
    "virtiofs",
)
WAIT_FOR_LOCK = 10.0  # seconds that a writer or reader waits for the other

_RANGE = ("minimum", "mean", "maximum", "last", "count")
_RANGES = ("loss", "gradient_norm", "seconds")
_STEP_COLUMNS = ("first_step", "last_step", "epoch", *(f"{name}_{part}" for name in _RANGES for part in _RANGE), "hyper")

_TABLES = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE steps ({", ".join(_STEP_COLUMNS)}, PRIMARY KEY (first_step));
CREATE TABLE layer_names (position INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, kind, near_zero);
CREATE TABLE layers (layer, first_step, last_step, records, block, PRIMARY KEY (layer, first_step));
CREATE TABLE observations (step, kind, subject, numbers, PRIMARY KEY (kind, subject, step));
CREATE TABLE epochs (epoch INTEGER PRIMARY KEY, steps, record);
CREATE TABLE findings (name, subject, step, record, PRIMARY KEY (name, subject));
PRAGMA user_version = {SCHEMA_VERSION};
"""

# ---------------------------------------------------------------- opening


def create(path: Path | None) -> sqlite3.Connection:
    """A new file with empty tables, in place of any old one; None keeps the log in memory."""
    if path is None:
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    else:
        for old in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm"), path.with_name(path.name + "-journal")):
            old.unlink(missing_ok=True)
        connection = _connect(path, "rwc")
        _write_ahead(connection, path)
    connection.executescript(_TABLES)
    return connection


def open_for_writing(path: Path) -> sqlite3.Connection:
    """An existing file, checked, to be written on."""
    connection = _checked(path, "rw")
    _write_ahead(connection, path)
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """An existing file, checked, that this connection cannot change."""
    alone = not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists()
    return _checked(path, "ro&immutable=1" if alone else "ro")  # WAL needs to write beside the file, unless nobody else can change it


def close(connection: sqlite3.Connection) -> None:
    """Fold the write-ahead log into the file and leave WAL mode, so that the file can be copied alone or lie on a read-only disk."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with contextlib.suppress(sqlite3.OperationalError):  # somebody reads it just now: it stays in WAL mode, complete as it is
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=WAIT_FOR_LOCK, check_same_thread=False)
    connection.execute(
        "PRAGMA synchronous = NORMAL"
    )  # in WAL mode: no wait for the disk at each transaction, and no damage when power fails
    return connection


def _checked(path: Path, mode: str) -> sqlite3.Connection:
    if not path.is_file():
        raise RunError(f"There is no log {path}. A log is the file log.sqlite in what `convscope train` or `watch` wrote.")
    try:
        connection = _connect(path, mode)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError as error:
        raise unreadable(path, error) from None
    if version > SCHEMA_VERSION:
        raise RunError(
            f"The log {path} was written by a newer convscope (log version {version}; this one reads {SCHEMA_VERSION}). Update convscope."
        )
    if not {"meta", "steps", "layers"} <= tables:
        raise RunError(f"{path} is not a convscope log: it has the tables {sorted(tables)}. Give the folder of a run, with its log.sqlite.")
    return connection


def unreadable(path: Path | None, error: sqlite3.Error) -> RunError:
    """The error to raise for what SQLite could not read or write."""
    if "unable to open" in str(error):
        return RunError(f"The log {path} cannot be opened ({error}). Check the permissions of the file and of its folder.")
    if isinstance(error, sqlite3.OperationalError):
        return RunError(
            f"The log {path} cannot be used now: {error}. If the disk is full, free some space; if another program holds the file, end it."
        )
    return RunError(
        f"The log {path} is damaged ({error}). Restore log.sqlite from a copy, or delete it to go on without the run's history."
    )


def _write_ahead(connection: sqlite3.Connection, path: Path) -> None:
    if not on_network(path):
        connection.execute("PRAGMA journal_mode = WAL")  # stays in rollback mode by itself where shared memory is missing


def on_network(path: Path, mounts: str | None = None) -> bool:
    """Whether the file lies on a network file system, as far as the system tells (Linux mounts, Windows UNC paths).

    Args:
        path: the file, which need not exist.
        mounts: the text of /proc/mounts; read when None.
    """
    if str(path).startswith(("\\\\", "//")):
        return True
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
    resolved, longest, kind = os.path.realpath(path), "", ""
    for line in mounts.splitlines():
        parts = line.split(" ")
        if len(parts) < 3:
            continue
        point = parts[1].replace("\\040", " ")
        if len(point) >= len(longest) and (resolved + "/").startswith(point.rstrip("/") + "/"):
            longest, kind = point, parts[2]
    return kind.startswith(NETWORK_FILE_SYSTEMS)


# ---------------------------------------------------------------- rows


def put(connection: sqlite3.Connection, table: str, rows: Iterable[Sequence[Any]], columns: int) -> None:
    """Insert rows, replacing those with the same key."""
    connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * columns)})", rows)


def put_steps(connection: sqlite3.Connection, records: Iterable[StepRecord]) -> None:
    """Write step records, each in place of one that begins at the same step."""
    put(connection, "steps", map(_step_row, records), len(_STEP_COLUMNS))


def put_layers(connection: sqlite3.Connection, position: int, blocks: Iterable[LayerColumns]) -> None:
    """Write one layer's blocks, each in place of one that begins at the same step."""
    rows = ((position, int(b.rows["first_step"][0]), int(b.rows["last_step"][-1]), len(b), b.to_bytes()) for b in blocks if len(b))
    put(connection, "layers", rows, 5)


def steps(connection: sqlite3.Connection, after: int = -1) -> list[StepRecord]:
    """Step records whose last step is later than `after`, in order."""
    query = f"SELECT {', '.join(_STEP_COLUMNS)} FROM steps WHERE last_step > ? ORDER BY first_step"
    return [_step_record(row) for row in connection.execute(query, (after,))]


def layer_names(connection: sqlite3.Connection) -> dict[str, tuple[int, str, float]]:
    """Position, kind and limit of "near zero" of every layer, in order."""
    rows = connection.execute("SELECT name, position, kind, near_zero FROM layer_names ORDER BY position")
    return {name: (position, kind, near_zero) for name, position, kind, near_zero in rows}


def layer_blocks(connection: sqlite3.Connection, name: str, after: int = -1) -> list[LayerColumns]:
    """One layer's blocks that reach beyond the step `after`, in order; none when there is no such layer."""
    query = (
        "SELECT kind, near_zero, block FROM layers JOIN layer_names ON layer = position "
        "WHERE name = ? AND last_step > ? ORDER BY first_step"
    )
    return [LayerColumns.from_bytes(block, name, kind, near_zero) for kind, near_zero, block in connection.execute(query, (name, after))]


def observation_row(record: Observation) -> tuple[Any, ...]:
    """The row of an observation."""
    return (record.step, record.kind, record.subject, json.dumps(to_json(record.numbers), ensure_ascii=False))


def observations(connection: sqlite3.Connection) -> list[Observation]:
    """All observations, by step, then in the order in which they were made."""
    rows = connection.execute("SELECT step, kind, subject, numbers FROM observations ORDER BY step, rowid")
    return [Observation(step, kind, subject, json.loads(numbers)) for step, kind, subject, numbers in rows]


def epoch_row(record: EpochRecord) -> tuple[Any, ...]:
    """The row of an epoch."""
    return (record.epoch, record.steps, json.dumps(to_json(record), ensure_ascii=False))


def finding_row(record: Finding) -> tuple[Any, ...]:
    """The row of a finding."""
    return (record.name, record.where, record.step, json.dumps(to_json(record), ensure_ascii=False))


def epochs(connection: sqlite3.Connection) -> list[EpochRecord]:
    """All epochs, in order."""
    return [from_json(EpochRecord, json.loads(row[0])) for row in connection.execute("SELECT record FROM epochs ORDER BY epoch")]


def findings(connection: sqlite3.Connection) -> list[Finding]:
    """All findings, in the order in which they were written."""
    return [from_json(Finding, json.loads(row[0])) for row in connection.execute("SELECT record FROM findings ORDER BY rowid")]


def _step_row(record: StepRecord) -> tuple[Any, ...]:
    ranges = [getattr(part, name) if part else None for part in (record.loss, record.gradient_norm, record.seconds) for name in _RANGE]
    hyper = {name: part.last if part.count == 1 else [getattr(part, key) for key in _RANGE] for name, part in record.hyper.items()}
    return (record.first_step, record.last_step, record.epoch, *ranges, json.dumps(to_json(hyper)))


def _step_record(row: Sequence[Any]) -> StepRecord:
    loss, norm, seconds = (_range(row[at : at + 5]) for at in (3, 8, 13))
    hyper = {name: _range(value) if isinstance(value, list) else Range.of(_number(value)) for name, value in json.loads(row[18]).items()}
    return StepRecord(row[0], row[1], _number(row[2]), loss or Range.of(math.nan), {k: v for k, v in hyper.items() if v}, norm, seconds)


def _range(parts: Sequence[Any]) -> Range | None:
    minimum, mean, maximum, last, count = parts
    return None if count is None else Range(_number(minimum), _number(mean), _number(maximum), _number(last), count)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
