"""One log for several processes: the ranks of a distributed run send what they saw to rank 0, which merges it.

Receives what a Recording drains from its buffers, on every rank; rank 0's log gets the merged records, the other ranks' logs keep their own share.
Nothing here is a collective operation: a rank leaves its records in the store through which torch.distributed's processes met, and rank 0 takes
them from there when it drains the next time. So no step waits, and a rank that ends early or fails holds nobody up: rank 0 waits for the others
once, at the end, for at most `END_SECONDS`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from convscope.columns import LayerColumns, merged_ranks
from convscope.records import Range, StepRecord, from_json, to_json
from convscope.runlog import RunLog

END_SECONDS = 5.0  # that rank 0 waits for the last records of the others; they end within a step of each other unless one failed
POLL_SECONDS = 0.01
MOST_PARTS = 64  # not taken by rank 0 yet, or waiting there for a rank that sends nothing: whoever is that far behind is left out
_PREFIX = "convscope/watch"
_LENGTH = struct.Struct("<Q")
_opened: Counter[str] = Counter()  # how many recordings of the same layers were opened in this process


class Store(Protocol):
    """What is used of a torch.distributed store; nothing here waits for a key that is not there."""

    def set(self, key: str, value: Any, /) -> None:
        """Keep a value."""

    def get(self, key: str, /) -> bytes:
        """The value of a key that is there."""

    def check(self, keys: list[str], /) -> bool:
        """Whether all keys are there."""

    def delete_key(self, key: str, /) -> bool:
        """Forget a key."""


class Sink(Protocol):
    """Where a Recording's records go."""

    def write(self, columns: Iterable[LayerColumns], steps: Iterable[StepRecord], complete: int) -> None:
        """Take records; everything about steps before `complete` has been handed over with them."""

    def close(self) -> None:
        """Nothing more will come."""


def sink_for(log: RunLog, layers: Sequence[str], tell: Callable[[str], None]) -> Sink:
    """Where the records of this process go: straight into its log, or to be merged with those of other ranks.

    Args:
        log: of this process.
        layers: names of the watched layers, by which the ranks know that they watch the same thing.
        tell: is told what could not be merged.
    """
    store = _store()
    if store is None:
        return Alone(log)
    name = hashlib.sha1("\n".join(layers).encode(), usedforsecurity=False).hexdigest()[:16]
    _opened[name] += 1
    mailbox = Mailbox(store, f"{_PREFIX}/{name}/{_opened[name]}")
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    return Receiver(log, mailbox, world, tell) if rank == 0 else Sender(log, mailbox, rank, tell)


def is_main() -> bool:
    """Whether this process is the one that writes: the only one, or rank 0."""
    return not is_distributed() or torch.distributed.get_rank() == 0


def is_distributed() -> bool:
    """Whether several processes train together now."""
    return torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1


def _store() -> Store | None:
    """A connection of its own to the store through which the processes met; None for a single process."""
    if not is_distributed():
        return None
    from torch.distributed.distributed_c10d import _get_default_store  # there is no public way to it

    try:
        store: Any = _get_default_store()
    except (RuntimeError, ValueError):
        return None
    if store is None:  # processes that met in another way, such as MPI's, keep their own logs
        return None
    try:
        own: Store = store.clone()  # so that nobody who waits at the store holds us up
    except (AttributeError, NotImplementedError, RuntimeError):  # not every kind of store can do it
        own = store
    return own


# ---------------------------------------------------------------- what is sent


@dataclass(frozen=True, slots=True)
class Part:
    """What one rank saw since its last part.

    Attributes:
        complete: everything about steps before this one has been sent.
        ended: whether it is the last part.
        columns: of each layer; steps: what each step did.
    """

    complete: int
    ended: bool = False
    columns: tuple[LayerColumns, ...] = ()
    steps: tuple[StepRecord, ...] = ()

    def split(self, step: float) -> tuple[Part, Part]:
        """The records of steps before one, and those from it on."""
        if step == math.inf:
            return self, Part(self.complete)
        before = tuple(one for columns in self.columns if len(one := columns.before(int(step))))
        later = tuple(one for columns in self.columns if len(one := columns.after(int(step) - 1)))
        return (
            dataclasses.replace(self, columns=before, steps=tuple(one for one in self.steps if one.first_step < step)),
            dataclasses.replace(self, columns=later, steps=tuple(one for one in self.steps if one.first_step >= step)),
        )

    def to_bytes(self) -> bytes:
        """A JSON object with its length before it, and the columns."""
        blocks = [columns.to_bytes() for columns in self.columns]
        head = json.dumps(
            {
                "complete": self.complete,
                "ended": self.ended,
                "layers": [[one.layer, one.kind, one.near_zero, len(block)] for one, block in zip(self.columns, blocks, strict=True)],
                "steps": to_json(self.steps),
            }
        ).encode()
        return b"".join([_LENGTH.pack(len(head)), head, *blocks])

    @classmethod
    def from_bytes(cls, content: bytes) -> Part:
        """What `to_bytes` made."""
        at = _LENGTH.size + _LENGTH.unpack_from(content)[0]
        head, columns = json.loads(content[_LENGTH.size : at]), []
        for layer, kind, near_zero, size in head["layers"]:
            columns.append(LayerColumns.from_bytes(content[at : at + size], layer, kind, near_zero))
            at += size
        return cls(head["complete"], head["ended"], tuple(columns), tuple(from_json(StepRecord, step) for step in head["steps"]))


class Mailbox:
    """Numbered parts of each rank in a store; nothing in here waits."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store, self._prefix = store, prefix

    def announce(self, rank: int) -> None:
        """Say that a rank takes part."""
        self._store.set(f"{self._prefix}/{rank}", "here")

    def takes_part(self, rank: int) -> bool:
        """Whether a rank has said so."""
        return self._store.check([f"{self._prefix}/{rank}"])

    def put(self, rank: int, number: int, part: Part) -> bool:
        """Leave a part for rank 0; False when it is too far behind."""
        if number >= MOST_PARTS and self._store.check([self._key(rank, number - MOST_PARTS)]):
            return False
        self._store.set(self._key(rank, number), part.to_bytes())
        return True

    def take(self, rank: int, number: int) -> Part | None:
        """Take a part out; None when it has not come yet."""
        key = self._key(rank, number)
        if not self._store.check([key]):
            return None
        part = Part.from_bytes(self._store.get(key))
        self._store.delete_key(key)
        return part

    def _key(self, rank: int, number: int) -> str:
        return f"{self._prefix}/{rank}/{number}"


# ---------------------------------------------------------------- who keeps what


class Alone:
    """The sink of a single process: its log."""

    def __init__(self, log: RunLog) -> None:
        self._log = log

    def write(self, columns: Iterable[LayerColumns], steps: Iterable[StepRecord], complete: int) -> None:
        """Write at once."""
        self._log.extend([*columns, *steps])

    def close(self) -> None:
        """Nothing is left."""


class Sender:
    """The sink of ranks other than 0: their own log, and rank 0."""

    def __init__(self, log: RunLog, mailbox: Mailbox, rank: int, tell: Callable[[str], None]) -> None:
        self._own, self._mailbox, self._rank, self._tell = Alone(log), mailbox, rank, tell
        self._sent = self._complete = 0
        self._connected = True
        mailbox.announce(rank)

    def write(self, columns: Iterable[LayerColumns], steps: Iterable[StepRecord], complete: int) -> None:
        """Write at once, and send."""
        columns, steps, self._complete = tuple(columns), tuple(steps), complete
        self._own.write(columns, steps, complete)
        self._send(Part(complete, False, columns, steps))

    def close(self) -> None:
        """Say that nothing more will come; nobody is waited for."""
        self._send(Part(self._complete, True))

    def _send(self, part: Part) -> None:
        if not self._connected:
            return
        why = "takes none any more"
        try:
            self._connected = self._mailbox.put(self._rank, self._sent, part)
        except RuntimeError as error:
            self._connected, why = False, f"cannot be reached ({error})"
        self._sent += 1
        if not self._connected:
            self._tell(f"Records of rank {self._rank} up to step {part.complete} are not in rank 0's log, which {why}.")


@dataclass(slots=True)
class _Rank:
    """What rank 0 knows of one rank: the parts that wait to be merged, how many were taken, and before which step nothing is missing."""

    heard: bool = False
    gone: bool = False
    taken: int = 0
    complete: float = 0
    parts: list[Part] = field(default_factory=list)

    def add(self, part: Part) -> None:
        """Take the next part."""
        self.parts.append(part)
        self.complete = math.inf if part.ended else part.complete


class Receiver:
    """The sink of rank 0: its log, in which each step is written when all ranks that take part have sent theirs."""

    def __init__(self, log: RunLog, mailbox: Mailbox, world: int, tell: Callable[[str], None]) -> None:
        self._log, self._mailbox, self._tell = Alone(log), mailbox, tell
        self._own = _Rank(heard=True)
        self._others = {rank: _Rank() for rank in range(1, world)}

    def write(self, columns: Iterable[LayerColumns], steps: Iterable[StepRecord], complete: int) -> None:
        """Take this rank's records, and write those that the others have sent too."""
        self._own.add(Part(complete, False, tuple(columns), tuple(steps)))
        self._receive()
        if len(self._own.parts) > MOST_PARTS:
            self._leave_out("sends nothing any more")
        self._merge()

    def close(self) -> None:
        """Wait for the others' last records, for a bounded time, and write everything."""
        self._own.complete = math.inf
        deadline = time.monotonic() + END_SECONDS
        self._receive()
        while self._missing() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            self._receive()
        self._leave_out(f"did not end within {END_SECONDS:.0f} s")
        self._merge()

    def _missing(self) -> list[tuple[int, _Rank]]:
        """The ranks that take part and are behind this one."""
        return [(number, rank) for number, rank in self._others.items() if rank.heard and rank.complete < self._own.complete]

    def _receive(self) -> None:
        try:
            for number, rank in self._others.items():
                rank.heard = rank.heard or self._mailbox.takes_part(number)
                while rank.heard and not rank.gone and (part := self._mailbox.take(number, rank.taken)) is not None:
                    rank.taken += 1
                    rank.add(part)
        except RuntimeError as error:
            self._leave_out(f"cannot be heard ({error})")

    def _leave_out(self, why: str) -> None:
        """Go on without the ranks that are missing."""
        for number, rank in self._missing():
            self._tell(f"Rank {number} {why}: from step {rank.complete:.0f} on the statistics are without it.")
            rank.gone, rank.complete = True, math.inf

    def _merge(self) -> None:
        """Write every step that is complete on all ranks that take part."""
        ranks = [self._own, *(rank for rank in self._others.values() if rank.heard)]
        until = min(rank.complete for rank in ranks)
        layers: dict[str, list[LayerColumns]] = {}
        steps: dict[int, list[StepRecord]] = {}
        for rank in ranks:
            pairs = [part.split(until) for part in rank.parts]
            rank.parts = [later for _, later in pairs if later.columns or later.steps]
            for now, _ in pairs:
                for columns in now.columns:
                    layers.setdefault(columns.layer, []).append(columns)
                for step in now.steps:
                    steps.setdefault(step.first_step, []).append(step)
        self._log.write(map(merged_ranks, layers.values()), [one_step(steps[number]) for number in sorted(steps)], 0)


def one_step(ranks: Sequence[StepRecord]) -> StepRecord:
    """One record of what the ranks did in the same step: the mean of their losses, and the rest as the first of them has it.

    Gradients are averaged over the ranks before the step, so that their norm is the same on all of them.
    """
    loss = sum(record.loss.last for record in ranks) / len(ranks)
    return dataclasses.replace(ranks[0], loss=Range.of(loss))
