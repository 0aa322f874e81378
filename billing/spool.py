"""The local append-only file that makes a settled call survive a crash.

One folder a process life, named by a fresh id, on a persistent volume; an advisory lock says that the
process lives. Each record is one line and one `write`: `["d", …]` when a call is dispatched, `["s", …]`
when it is settled, the latter with the running total of every account it draws on. There is no fsync:
what is promised is survival of processes and services, not of a lost disk.

The file is cut by segments: a segment goes when each of its calls is settled, in PostgreSQL, and
acknowledged by the gate. A record that is replayed although it was cut changes nothing.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from aggregator.lib import crash, ids
from billing.core import generation
from billing.core.generation import Generation

log = logging.getLogger(__name__)

SEGMENT_BYTES = 16 * 1024 * 1024
_LOCK = "lock"
_UNBORN_SECONDS = 60


class Dispatch(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    """A call went upstream: whatever becomes of this process, the call is known."""

    id: uuid.UUID
    organization_id: int
    key_id: int
    model_asked: str


class Settlement(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """A call ended. `totals` are this spool's running totals by account, this charge included."""

    generation: Generation
    organization: str
    totals: dict[str, int]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Dispatch | Settlement).decode


@dataclass(slots=True, eq=False)
class Pending:
    """A settlement that is not cut yet: it waits for PostgreSQL, for the gate, or for both."""

    settlement: Settlement
    encoded: bytes
    """The generation, as it stands in the spool and in the receipt."""
    segment: Segment
    written: float
    """Monotonic seconds."""
    flushed: bool = False
    acknowledged: bool = False
    telling: bool = False
    """The gate is being told, and has not answered yet."""


@dataclass(slots=True, eq=False)
class Segment:
    number: int
    path: Path
    file: int
    size: int = 0
    calls: int = 0
    """Dispatched or settled in this segment, and not cut yet."""


@dataclass(slots=True)
class Spool:
    """This process's spool. Not thread-safe: it belongs to the event loop."""

    folder: Path
    id: str
    lock: int
    totals: dict[str, int] = field(default_factory=dict)
    pending: dict[uuid.UUID, Pending] = field(default_factory=dict)
    """Uncut settlements by generation, oldest first."""
    size: int = 0
    _segments: list[Segment] = field(default_factory=list)
    _dispatched: dict[uuid.UUID, Segment] = field(default_factory=dict)

    @classmethod
    def create(cls, parent: Path) -> Spool:
        # Under its own name only once it is locked, or a process that starts just now takes it for an orphan.
        spool_id = str(ids.uuid7())
        unborn = parent / f"{spool_id}.new"
        unborn.mkdir(parents=True, mode=0o700)
        lock = _try_lock(unborn)
        if lock is None:
            raise OSError(f"the new spool {unborn} is locked by another process")
        folder = unborn.rename(parent / spool_id)
        spool = cls(folder, spool_id, lock)
        spool._segments.append(spool._new_segment(1))
        return spool

    def dispatch(self, record: Dispatch) -> None:
        """Before the call goes upstream."""
        segment = self._write(_encode(record))
        segment.calls += 1
        self._dispatched[record.id] = segment

    def settle(self, record: Generation, organization: str, accounts: tuple[str, ...]) -> Settlement:
        """Before the last bytes go to the client. Adds the charge to the accounts' running totals."""
        totals = {account: self.totals.get(account, 0) + record.charge_nanos for account in accounts}
        settlement = Settlement(record, organization, totals)
        encoded = generation.encode(record)
        segment = self._write(b'["s",%b,%b,%b]' % (encoded, _encode(organization), _encode(totals)))
        self.totals.update(totals)
        segment.calls += 1
        self._finish(self._dispatched.pop(record.id, None))
        self.pending[record.id] = Pending(settlement, encoded, segment, time.monotonic())
        return settlement

    def cut(self, pending: Pending) -> None:
        """Once the record's transaction is committed and the gate has acknowledged its total."""
        if pending.flushed and pending.acknowledged:
            self.pending.pop(pending.settlement.generation.id, None)
            self._finish(pending.segment)

    @property
    def oldest_seconds(self) -> float:
        """The age of the oldest uncut record."""
        first = next(iter(self.pending.values()), None)
        return 0.0 if first is None else time.monotonic() - first.written

    @property
    def empty(self) -> bool:
        return not self.pending and not self._dispatched

    def close(self, *, keep: bool = False) -> None:
        """Give the folder back: removed when empty, else (or to `keep` it) left for the next process."""
        while self._segments:  # a call that still runs must not write into whatever gets the number next
            os.close(self._segments.pop().file)
        if self.empty and not keep:
            _remove(self.folder)
        os.close(self.lock)

    def _write(self, line: bytes) -> Segment:
        """All of the line or nothing. Raises OSError."""
        segment = self._segments[-1]
        if segment.size >= SEGMENT_BYTES:
            segment = self._new_segment(segment.number + 1)
            self._segments.append(segment)
        line += b"\n"
        if os.write(segment.file, line) < len(line):
            os.ftruncate(segment.file, segment.size)  # a torn line would spoil the one after it
            raise OSError(errno.ENOSPC, "the spool's disk is full")
        segment.size += len(line)
        self.size += len(line)
        return segment

    def _new_segment(self, number: int) -> Segment:
        path = self.folder / f"{number:08d}.jsonl"
        return Segment(number, path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))

    def _finish(self, segment: Segment | None) -> None:
        if segment is None:
            return
        segment.calls -= 1
        if segment.calls == 0:
            self._drop_done()

    def _drop_done(self) -> None:
        # A settlement may lie in a later segment than its dispatch, so segments go from the front only:
        # what replay then sees is always a dispatch with its settlement, or neither.
        while len(self._segments) > 1 and self._segments[0].calls == 0:
            self._remove(self._segments.pop(0))
        if len(self._segments) == 1 and self._segments[0].calls == 0:
            last = self._segments[0]
            os.ftruncate(last.file, 0)
            self.size -= last.size
            last.size = 0

    def _remove(self, segment: Segment) -> None:
        os.close(segment.file)
        segment.path.unlink(missing_ok=True)
        self.size -= segment.size


@dataclass(frozen=True, slots=True)
class Orphan:
    """The spool of a process that is dead; its lock is ours now."""

    id: str
    folder: Path
    lock: int
    settlements: tuple[Settlement, ...]
    void: tuple[Dispatch, ...]
    """Dispatched and never settled."""
    damaged: int
    """Lines that cannot be read, other than a torn last one. The folder is kept when there are any."""

    def totals(self) -> dict[tuple[str, str], int]:
        """The highest running total by (organization, account)."""
        highest: dict[tuple[str, str], int] = {}
        for settlement in self.settlements:
            for account, total in settlement.totals.items():
                name = (settlement.organization, account)
                highest[name] = max(highest.get(name, 0), total)
        return highest

    def remove(self) -> None:
        """After everything in it is in PostgreSQL and its row of `spools` is gone."""
        if self.damaged:
            self.folder.rename(self.folder.with_suffix(".damaged"))
        else:
            _remove(self.folder)
        os.close(self.lock)


def orphans(parent: Path) -> Iterator[Orphan]:
    """Spools of dead processes in a folder, each locked by us as it is found.

    What a process left half made or half removed goes: there is nothing in it that is not in PostgreSQL.
    """
    if not parent.is_dir():
        return
    for folder in sorted(parent.iterdir()):
        if not folder.is_dir():
            continue
        if folder.suffix:
            _remove_if_dead(folder)
            continue
        lock = _try_lock(folder)
        if lock is not None:
            yield _read(folder, lock)


def _remove_if_dead(folder: Path) -> None:
    """A `.closed` folder is nobody's; a `.new` one is somebody's who starts just now, unless it is old."""
    try:
        old = time.time() - folder.stat().st_mtime > _UNBORN_SECONDS
    except FileNotFoundError:
        return
    if folder.suffix == ".closed" or (folder.suffix == ".new" and old):
        shutil.rmtree(folder, ignore_errors=True)


def _read(folder: Path, lock: int) -> Orphan:
    settled: dict[uuid.UUID, Settlement] = {}
    dispatched: dict[uuid.UUID, Dispatch] = {}
    damaged = 0
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_bytes().splitlines(keepends=True):
            try:
                record = _decode(line)
            except msgspec.MsgspecError:
                if line.endswith(b"\n"):
                    damaged += 1
                    log.error(
                        "a spool record cannot be read", extra={"spool": folder.name, "file": path.name}
                    )
                continue
            if isinstance(record, Settlement):
                settled[record.generation.id] = record
            else:
                dispatched[record.id] = record
    void = tuple(record for call, record in dispatched.items() if call not in settled)
    return Orphan(folder.name, folder, lock, tuple(settled.values()), void, damaged)


def _try_lock(folder: Path) -> int | None:
    """None when another process has it, or has just removed it."""
    try:
        handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    if not folder.exists():
        os.close(handle)
        return None
    return handle


def _remove(folder: Path) -> None:
    """Out of sight first: a process that starts just now must not take half a folder for an orphan."""
    closed = folder.rename(folder.with_suffix(".closed"))
    crash.point("before_removal")
    shutil.rmtree(closed, ignore_errors=True)


def void_record(dispatch: Dispatch) -> Generation:
    """The free record of a call whose process was killed."""
    return Generation(
        id=dispatch.id,
        organization_id=dispatch.organization_id,
        key_id=dispatch.key_id,
        status=generation.VOID,
        model_asked=dispatch.model_asked,
        error_type="process_lost",
        ended_ms=int(generation.admitted_at(dispatch.id).timestamp() * 1000),
    )
