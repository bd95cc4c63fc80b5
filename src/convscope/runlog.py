"""A run's log: steps, layers, observations, epochs and findings in one SQLite file of bounded size. No torch.

Receives records while a run goes on and gives them back, to this process or to another that reads the file meanwhile.
It draws and judges nothing.

Writes are buffered and go to the file in one transaction when `FLUSH_SECONDS` have passed at the next call, and at `flush()`;
a process that is killed loses no more than that. Every series (the steps, and each layer) holds at most `capacity` rows: when one is full,
neighbouring rows are merged and from then on a row spans twice as many records. A log that cannot be written any more (a full disk) must
not end the training that it describes: the failure is told once, as a warning, and the next flush tries again.

    log = RunLog.create(run.log)              log = RunLog.read(run.log)
    log.step(StepRecord(...))                 log.steps()
    log.layer(LayerStats(...))                log.layers()["2.0"]
    log.close()                               log.close()
"""

from __future__ import annotations

import functools
import json
import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from convscope import logfile
from convscope.columns import LayerColumns
from convscope.errors import RunError
from convscope.records import EpochRecord, Finding, LayerStats, Observation, StepRecord, to_json

CAPACITY = 2000  # rows of a series; a screen shows fewer columns
BLOCK = 32  # rows of a layer that are written together; the last block is written again whenever it grows
FLUSH_SECONDS = 0.5  # half of the second that may be lost, as the next call can come late
KEPT_FIRST, KEPT_OBSERVATIONS = (
    128,
    512,
)  # of one kind and subject: the first are all kept, those after them are thinned when there are too many

R = TypeVar("R", StepRecord, LayerStats)
T = TypeVar("T")
P = ParamSpec("P")


def _alone(method: Callable[Concatenate[RunLog, P], T]) -> Callable[Concatenate[RunLog, P], T]:
    """A method that threads run one after the other: a page may ask while a loop writes, on the same connection."""

    @functools.wraps(method)
    def locked(log: RunLog, /, *arguments: P.args, **keywords: P.kwargs) -> T:
        with log._lock:
            return method(log, *arguments, **keywords)

    return locked


def merged(records: list[R], most: int) -> list[R]:
    """At most `most` records, made by merging equal numbers of neighbours.

    Args:
        records: of one series, in order.
        most: how many to return at most.

    Returns:
        The records themselves when they are few enough.
    """
    group = -(-len(records) // most)
    return records if group <= 1 else [merge_all(records[at : at + group]) for at in range(0, len(records), group)]


def merge_all(records: list[R]) -> R:
    """One record over the spans of all, by a balanced tree, which keeps rounding small."""
    while len(records) > 1:
        pairs = [one.merge(two) for one, two in zip(records[::2], records[1::2], strict=False)]
        records = pairs + records[len(pairs) * 2 :]
    return records[0]


@dataclass(slots=True)
class _Steps:
    """What the writer knows of the step records: how many rows, how many steps a full row spans, and the last row."""

    rows: int = 0
    span: int = 1
    last: StepRecord | None = None

    @classmethod
    def of(cls, rows: list[StepRecord]) -> _Steps:
        """The state with these rows."""
        return cls(len(rows), _span(rows[0].loss.count), rows[-1]) if rows else cls()

    def extend(self, record: StepRecord) -> StepRecord | None:
        """Take the next record; the row that it made or changed, or None when the last row holds its step already."""
        if self.last is not None and record.first_step <= self.last.last_step:
            return None
        if self.last is not None and self.last.loss.count + record.loss.count <= self.span:
            self.last = self.last.merge(record)
        else:
            self.last, self.rows = record, self.rows + 1
        return self.last

    def halve(self, rows: list[StepRecord], capacity: int) -> list[StepRecord]:
        """Merge neighbours, and double the span, until the rows are at most `capacity`."""
        while len(rows) > capacity:
            self.span *= 2
            joined = rows[:1]
            for row in rows[1:]:
                if joined[-1].loss.count + row.loss.count <= self.span:
                    joined[-1] = joined[-1].merge(row)
                else:
                    joined.append(row)
            rows = joined
        self.rows, self.last = len(rows), rows[-1]
        return rows


@dataclass(slots=True)
class _Layer:
    """What the writer knows of a layer: how many rows lie in finished blocks, how many records a full row spans, and the last block."""

    position: int
    finished: int
    span: int
    tail: LayerColumns

    @classmethod
    def of(cls, position: int, blocks: list[LayerColumns], empty: LayerColumns) -> _Layer:
        """The state with these blocks."""
        if not blocks:
            return cls(position, 0, 1, empty)
        return cls(position, sum(map(len, blocks[:-1])), _span(int(blocks[0].rows["records"][0])), blocks[-1])

    def extend(self, columns: LayerColumns) -> list[LayerColumns]:
        """Take the next records, those left out that the last row holds already; the blocks that are made or changed by it."""
        if len(self.tail):
            columns = columns.after(int(self.tail.rows["last_step"][-1]))
        return self._cut(self.tail.joined(columns).grouped(self.span))

    def halve(self, blocks: list[LayerColumns], capacity: int) -> list[LayerColumns]:
        """Merge neighbours, and double the span, until the rows are at most `capacity`."""
        columns = functools.reduce(LayerColumns.joined, blocks)
        while len(columns) > capacity:
            self.span *= 2
            columns = columns.grouped(self.span)
        self.finished = 0
        return self._cut(columns)

    def _cut(self, columns: LayerColumns) -> list[LayerColumns]:
        blocks = [columns.part(at, at + BLOCK) for at in range(0, len(columns), BLOCK)]
        if blocks:
            self.finished += len(columns) - len(blocks[-1])
            self.tail = blocks[-1]
        return blocks


def _columns(parts: list[LayerColumns | LayerStats]) -> LayerColumns:
    """Records and columns of one layer, put together in order."""
    joined: list[LayerColumns] = []
    single: list[LayerStats] = []
    for part in parts:
        if isinstance(part, LayerStats):
            single.append(part)
        else:
            joined += [LayerColumns.of(single), part] if single else [part]
            single = []
    return functools.reduce(LayerColumns.joined, [*joined, LayerColumns.of(single)] if single else joined)


def _span(records: int) -> int:
    """How many records a full row spans, told by the first row: the next power of two, as only a single row may be incomplete."""
    return 1 << (records - 1).bit_length()


class RunLog:
    """A run's log, open for writing or for reading; build it with `create`, `append_to` or `read`.

    Attributes:
        path: the file, or None when the log is kept in memory.
        capacity: how many rows a series may have.

    Example:
        >>> log = RunLog.create()
        >>> log.step(StepRecord(0, 0, 0.1, Range.of(2.3)))
        >>> log.steps()[0].loss.last
        2.3
    """

    def __init__(self, connection: sqlite3.Connection, path: Path | None, *, writable: bool, capacity: int = CAPACITY) -> None:
        self.path, self.capacity = path, capacity
        self._connection, self._writable, self._told = connection, writable, False
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._flushed_at = time.monotonic()
        self._steps = _Steps()
        self._layers: dict[str, _Layer] = {}
        self._pending: list[StepRecord | LayerStats | LayerColumns | Observation | EpochRecord | Finding | tuple[str, Any]] = []
        if writable:
            self._load_state()

    # ------------------------------------------------------------ opening and closing

    @classmethod
    def create(cls, path: str | Path | None = None, *, capacity: int = CAPACITY) -> RunLog:
        """A new, empty log in place of any old one; without a path it is kept in memory.

        Raises:
            RunError: the file cannot be made.
        """
        path = Path(path) if path is not None else None
        try:
            return cls(logfile.create(path), path, writable=True, capacity=capacity)
        except sqlite3.Error as error:
            raise logfile.unreadable(path, error) from None
        except OSError as error:
            raise RunError(f"The log {path} cannot be written: {error.strerror}. Free some space or choose another folder.") from error

    @classmethod
    def append_to(cls, path: str | Path, *, capacity: int = CAPACITY) -> RunLog:
        """An existing log, to be written on.

        Raises:
            RunError: the file is missing, damaged, or written by a newer version.
        """
        path = Path(path)
        try:
            return cls(logfile.open_for_writing(path), path, writable=True, capacity=capacity)
        except sqlite3.Error as error:
            raise logfile.unreadable(path, error) from None

    @classmethod
    def read(cls, path: str | Path) -> RunLog:
        """An existing log, to be read only, also while another process writes it: every call sees what was last flushed.

        Raises:
            RunError: the file is missing, damaged, or written by a newer version.
        """
        path = Path(path)
        return cls(logfile.open_for_reading(path), path, writable=False)

    @_alone
    def close(self) -> None:
        """Write what is pending and close the file, which is then complete in itself."""
        if self._writable:
            self.flush()
        try:
            if self._writable and self.path is not None:
                logfile.close(self._connection)
        except sqlite3.Error as error:
            self._tell(error)
        finally:
            self._connection.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    @property
    def flushed_at(self) -> float:
        """When what was pending was last written, by the clock time.monotonic."""
        return self._flushed_at

    # ------------------------------------------------------------ writing

    def step(self, record: StepRecord) -> None:
        """Add what one optimiser step did."""
        self._add(record)

    def layer(self, record: LayerStats) -> None:
        """Add what one layer's values looked like on one step, or some; layers keep the order in which they first came."""
        self._add(record)

    def columns(self, columns: LayerColumns) -> None:
        """Add what one layer's values looked like on some steps, in order."""
        self._add(columns)

    @_alone
    def extend(self, records: Iterable[StepRecord | LayerColumns]) -> None:
        """Add many records; they are written together."""
        self._pending.extend(records)
        self._flush_when_due()

    def observe(self, record: Observation) -> None:
        """Add an observation; one of the same kind, subject and step is replaced."""
        self._add(record)

    def epoch(self, record: EpochRecord) -> None:
        """Add a finished epoch; one of the same number is replaced."""
        self._add(record)

    def finding(self, record: Finding) -> None:
        """Add a finding; one of the same name and place is replaced."""
        self._add(record)

    def set(self, key: str, value: Any) -> None:
        """Keep a JSON value under a name."""
        self._add((key, value))

    @_alone
    def flush(self) -> None:
        """Write what is pending in one transaction; a failure is told as a warning, once, and does not raise."""
        self._flushed_at = time.monotonic()
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        if os.getpid() != self._process:  # a child that was forked shares the file with its parent: SQLite forbids that both write
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._write(pending)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._tell(error)
            self._give_up()

    @_alone
    def drop_after(self, steps: int) -> None:
        """Go back to a checkpoint: forget what was logged after `steps` optimiser steps.

        A row that spans the checkpoint stays whole, and the steps that it already holds are left out when they come again:
        a resumed run repeats them bit for bit, so the log ends up as if the run had never stopped.
        """
        self.flush()
        self._connection.execute("BEGIN IMMEDIATE")
        for table, condition in (
            ("steps", "first_step >= ?"),
            ("observations", "step > ?"),
            ("findings", "step > ?"),
            ("epochs", "steps > ?"),
        ):
            self._connection.execute(f"DELETE FROM {table} WHERE {condition}", (steps,))
        for name, layer in self._layers.items():
            reaching = logfile.layer_blocks(self._connection, name, steps - 1)
            self._connection.execute("DELETE FROM layers WHERE layer = ? AND last_step >= ?", (layer.position, steps))
            logfile.put_layers(self._connection, layer.position, [block.before(steps) for block in reaching])
        self._connection.execute("COMMIT")
        self._load_state()

    # ------------------------------------------------------------ reading

    def steps(self, after: int = -1) -> list[StepRecord]:
        """The step records in order; with `after`, only those that reach beyond that step."""
        return self._read(lambda: logfile.steps(self._connection, after))

    def layers(self, after: int = -1) -> dict[str, list[LayerStats]]:
        """The records of every layer, by name, in the order of the layers; with `after`, only those that reach beyond that step."""
        return {name: self.layer_records(name, after) for name in self.layer_names()}

    def layer_names(self) -> list[str]:
        """The names of the layers, in order."""
        return list(self._read(lambda: logfile.layer_names(self._connection)))

    def layer_columns(self, name: str, after: int = -1) -> LayerColumns:
        """The records of one layer as columns; empty when there are none."""
        blocks = self._read(lambda: logfile.layer_blocks(self._connection, name, after))
        return functools.reduce(LayerColumns.joined, blocks).after(after) if blocks else LayerColumns.empty(name)

    def layer_records(self, name: str, after: int = -1) -> list[LayerStats]:
        """The records of one layer; empty when there are none."""
        return self.layer_columns(name, after).records()

    def observations(self) -> list[Observation]:
        """The observations, by step."""
        return self._read(lambda: logfile.observations(self._connection))

    def epochs(self) -> list[EpochRecord]:
        """The finished epochs, in order."""
        return self._read(lambda: logfile.epochs(self._connection))

    def findings(self) -> list[Finding]:
        """The findings, in the order in which they were written."""
        return self._read(lambda: logfile.findings(self._connection))

    def get(self, key: str, default: Any = None) -> Any:
        """The JSON value kept under a name, or `default`."""
        rows = self._read(lambda: list(self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,))))
        return json.loads(rows[0][0]) if rows else default

    @_alone
    def copy_to(self, path: str | Path) -> None:
        """Write the whole log to a new file.

        Raises:
            RunError: the file cannot be written.
        """
        if self._writable:
            self.flush()
        target = Path(path)
        try:
            target.unlink(missing_ok=True)
            connection = sqlite3.connect(target)
            self._connection.backup(connection)
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.close()
        except sqlite3.Error as error:
            raise logfile.unreadable(target, error) from None
        except OSError as error:
            raise RunError(f"The log {target} cannot be written: {error.strerror}. Free some space or choose another folder.") from error

    # ------------------------------------------------------------ inside

    @_alone
    def _add(self, record: Any) -> None:
        self._pending.append(record)
        self._flush_when_due()

    def _flush_when_due(self) -> None:
        if time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
            self.flush()

    @_alone
    def _read(self, query: Callable[[], T]) -> T:
        if self._writable:
            self.flush()
        try:
            return query()
        except sqlite3.Error as error:
            raise logfile.unreadable(self.path, error) from None
        except ValueError as error:  # a block whose bytes make no sense
            raise logfile.unreadable(self.path, sqlite3.DatabaseError(str(error))) from None

    def _tell(self, error: sqlite3.Error) -> None:
        if not self._told:
            self._told = True
            warnings.warn(f"{logfile.unreadable(self.path, error)} The run goes on, but its log has a gap.", RuntimeWarning, stacklevel=3)

    def _give_up(self) -> None:
        """Undo the failed transaction and count again what the file holds."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._load_state()
        except sqlite3.Error as error:
            self._tell(error)

    def _write(self, pending: list[Any]) -> None:
        steps: dict[int, StepRecord] = {}
        layers: dict[str, list[LayerColumns | LayerStats]] = {}
        for record in pending:
            if isinstance(record, StepRecord):
                row = self._steps.extend(record)
                steps.update({row.first_step: row} if row else {})
            elif isinstance(record, LayerColumns | LayerStats):
                layers.setdefault(record.layer, []).append(record)
        logfile.put_steps(self._connection, steps.values())
        for parts in layers.values():
            columns = _columns(parts)
            layer = self._layer(columns)
            logfile.put_layers(self._connection, layer.position, layer.extend(columns))
        self._put("observations", [logfile.observation_row(record) for record in pending if isinstance(record, Observation)])
        self._put("epochs", [logfile.epoch_row(record) for record in pending if isinstance(record, EpochRecord)])
        self._put("findings", [logfile.finding_row(record) for record in pending if isinstance(record, Finding)])
        self._put(
            "meta", [(record[0], json.dumps(to_json(record[1]), ensure_ascii=False)) for record in pending if isinstance(record, tuple)]
        )
        self._bound()

    def _put(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            logfile.put(self._connection, table, rows, len(rows[0]))

    def _layer(self, columns: LayerColumns) -> _Layer:
        name = columns.layer
        if name not in self._layers:
            position = len(self._layers)
            self._connection.execute("INSERT INTO layer_names VALUES (?, ?, ?, ?)", (position, name, columns.kind, columns.near_zero))
            self._layers[name] = _Layer.of(position, [], LayerColumns.empty(name, columns.kind, columns.near_zero))
        return self._layers[name]

    def _bound(self) -> None:
        """Merge neighbours in the series that have become too long, and thin observations."""
        if self._steps.rows > self.capacity:
            steps = self._steps.halve(logfile.steps(self._connection), self.capacity)
            self._connection.execute("DELETE FROM steps")
            logfile.put_steps(self._connection, steps)
        for name, layer in self._layers.items():
            if layer.finished + len(layer.tail) > self.capacity:
                blocks = layer.halve(logfile.layer_blocks(self._connection, name), self.capacity)
                self._connection.execute("DELETE FROM layers WHERE layer = ?", (layer.position,))
                logfile.put_layers(self._connection, layer.position, blocks)
        crowded = "SELECT kind, subject FROM observations GROUP BY kind, subject HAVING count(*) > ?"
        for kind, subject in self._connection.execute(crowded, (KEPT_OBSERVATIONS,)).fetchall():
            self._connection.execute(
                "DELETE FROM observations WHERE rowid IN (SELECT rowid FROM (SELECT rowid, row_number() OVER (ORDER BY step) AS place "
                "FROM observations WHERE kind = ? AND subject = ?) WHERE place > ? AND place % 2 = 0)",
                (kind, subject, KEPT_FIRST),
            )

    def _load_state(self) -> None:
        """Count what the file holds; after a crash, a failed write or `drop_after`."""
        self._steps = _Steps.of(logfile.steps(self._connection))
        self._layers = {
            name: _Layer.of(position, logfile.layer_blocks(self._connection, name), LayerColumns.empty(name, kind, near_zero))
            for name, (position, kind, near_zero) in logfile.layer_names(self._connection).items()
        }
