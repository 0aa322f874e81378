"""Request logs: written sealed, opened one at a time, deleted with evidence.

What is written in clear exists in memory alone, of the gateway that carries the call and of whoever reads the
page. Nothing here writes it to a file, a log line or Redis.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec
import structlog
from django.db import connection, transaction
from django.db.models import Sum

from accounts import audit, log_keys, privacy
from aggregator.lib import clock, seal
from billing.core import generation
from routing.core.kept import Content
from routing.models import LogDeletion, RequestLog, RequestLogLoss

log = structlog.get_logger(__name__)

_BATCH = 5000
_LOSS_DAYS = 30
_LOSS = """
INSERT INTO routing_requestlogloss (organization_id, day, calls) VALUES (%s, %s, %s)
ON CONFLICT (organization_id, day) DO UPDATE SET calls = routing_requestlogloss.calls + excluded.calls
"""
_DELETE = """
WITH gone AS (
    DELETE FROM routing_requestlog WHERE id IN (
        SELECT id FROM routing_requestlog
        WHERE organization_id = %s AND at >= %s AND at < %s LIMIT %s
    ) RETURNING at
) SELECT count(*), min(at), max(at) FROM gone
"""
_SUMMARY = """
SELECT count(*), min(at), max(at), coalesce(sum(octet_length(sealed)), 0)
FROM routing_requestlog WHERE organization_id = %s
"""
_RETENTION = """
SELECT DISTINCT ON (organization_id) organization_id, days FROM accounts_requestlogging
ORDER BY organization_id, id DESC
"""
_EVER = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


class Owner(Protocol):
    """The organization whose logs they are."""

    pk: int
    public_id: str


@dataclass(slots=True)
class Named:
    """An owner of whom the ids are known, and no more."""

    pk: int
    public_id: str


class Entry(msgspec.Struct, frozen=True):
    """A call to be logged, in clear: only ever in memory."""

    id: uuid.UUID
    organization_id: int
    organization: str
    key_id: int
    log_key_id: int
    at: datetime
    content: Content


@dataclass(frozen=True, slots=True)
class Summary:
    rows: int
    first_at: datetime | None
    last_at: datetime | None
    bytes: int


@dataclass(slots=True)
class Gone:
    rows: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None

    def add(self, rows: int, first_at: datetime | None, last_at: datetime | None) -> None:
        self.rows += rows
        self.first_at = min(filter(None, (self.first_at, first_at)), default=None)
        self.last_at = max(filter(None, (self.last_at, last_at)), default=None)


# ── Writing ──────────────────────────────────────────────────────────────────────────────────────


def write(entries: Sequence[Entry], lost: Mapping[int, int]) -> int:
    """Seal and insert in one transaction; `lost` are calls that came to nothing before, by organization.

    Answers how many were not written because their key is gone. Safe to repeat. Raises django.db.Error.
    """
    losses = Counter(lost)
    unsealed = 0
    with transaction.atomic():
        held = log_keys.hold({entry.log_key_id for entry in entries})
        keys: dict[int, bytes | None] = {}
        rows = []
        for entry in entries:
            row = held.get(entry.log_key_id)
            if row is None:  # destroyed since: what it was to seal is to be kept no more
                unsealed += 1
                continue
            if row.pk not in keys:
                try:
                    keys[row.pk] = log_keys.opened(row, entry.organization)
                except log_keys.KeyLost as error:
                    log.error("calls are not logged", organization=entry.organization, error=str(error))
                    keys[row.pk] = None
            key = keys[row.pk]
            if key is None:
                losses[entry.organization_id] += 1
                unsealed += 1
            else:
                rows.append(_row(entry, key))
        RequestLog.unscoped.bulk_create(rows, ignore_conflicts=True)
        if losses:
            today = clock.now().date()
            with connection.cursor() as cursor:
                cursor.executemany(_LOSS, [(owner, today, count) for owner, count in sorted(losses.items())])
    return unsealed


def place(organization: str, generation_id: uuid.UUID) -> bytes:
    """Where a log opens: its organization (the public id) and its call."""
    return f"{organization} {generation.public_id(generation_id)}".encode()


def _row(entry: Entry, key: bytes) -> RequestLog:
    clear = msgspec.msgpack.encode(entry.content)
    return RequestLog(
        id=entry.id,
        organization_id=entry.organization_id,
        key_id=entry.key_id,
        log_key_id=entry.log_key_id,
        at=entry.at,
        sealed=seal.seal(key, clear, place(entry.organization, entry.id)),
    )


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────


def read(
    owner: Owner, generation_id: uuid.UUID, *, by: audit.Actor, key_id: int | None = None
) -> Content | None:
    """What was logged of a call, and an audit entry of its being opened; None where nothing is kept.

    With `key_id`, of a call of this key alone. Raises `log_keys.KeyLost` or `seal.Unopened` for a row that
    should open and does not.
    """
    rows = RequestLog.objects.of(owner.pk).select_related("log_key").filter(pk=generation_id)
    row = (rows if key_id is None else rows.filter(key_id=key_id)).first()
    if row is None:
        return None
    content = unsealed(row, owner.public_id)
    audit.record(owner.pk, "request_log.opened", by=by, object=generation.public_id(generation_id))
    return content


def is_kept(organization_id: int, generation_id: uuid.UUID) -> bool:
    """Whether there is a log of this call; nothing is opened."""
    return RequestLog.objects.of(organization_id).filter(pk=generation_id).exists()


def unsealed(row: RequestLog, organization: str) -> Content:
    """Raises `log_keys.KeyLost` or `seal.Unopened`."""
    key = log_keys.opened(row.log_key, organization)
    clear = seal.unseal(key, bytes(row.sealed), place(organization, row.pk))
    return msgspec.msgpack.decode(clear, type=Content)


def summary(organization_id: int) -> Summary:
    with connection.cursor() as cursor:
        cursor.execute(_SUMMARY, [organization_id])
        return Summary(*cursor.fetchone())


def lost(organization_id: int) -> int:
    """Calls of the last thirty days that should have been logged and were not."""
    since = clock.now().date() - timedelta(days=_LOSS_DAYS)
    rows = RequestLogLoss.objects.of(organization_id).filter(day__gte=since)
    return rows.aggregate(all=Sum("calls"))["all"] or 0


# ── Deleting ─────────────────────────────────────────────────────────────────────────────────────


def delete_one(owner: Owner, generation_id: uuid.UUID, *, by: audit.Actor) -> LogDeletion | None:
    """None where nothing is kept of the call."""
    with transaction.atomic():
        row = RequestLog.objects.of(owner.pk).select_for_update().filter(pk=generation_id).first()
        if row is None:
            return None
        row.delete()
        return _record(owner, LogDeletion.ONE, Gone(1, row.at, row.at), by=by)


def delete_period(owner: Owner, since: datetime, until: datetime, *, by: audit.Actor) -> LogDeletion:
    """What ended from `since` until before `until`."""
    gone = Gone()
    while _delete(owner.pk, since, until, gone) == _BATCH:
        pass
    with transaction.atomic():
        _delete(owner.pk, since, until, gone)
        return _record(owner, LogDeletion.PERIOD, gone, by=by, asked=(since, until))


def delete_everything(owner: Owner, *, by: audit.Actor) -> LogDeletion:
    """Switch logging off, destroy the organization's keys, delete every row: no copy of one opens then."""
    gone = Gone()
    while _delete(owner.pk, *_EVER, gone) == _BATCH:
        pass
    with transaction.atomic():
        # Keys first: a writer holds them, and its rows refer to the organization, which the other locks.
        destroyed = log_keys.destroy(owner.pk)  # waits for writers: their rows are seen below
        privacy.switch_logging_off(owner.pk, by=by)
        while _delete(owner.pk, *_EVER, gone) == _BATCH:
            pass
        return _record(owner, LogDeletion.EVERYTHING, gone, by=by, fingerprints=destroyed)


def delete_aged() -> dict[int, int]:
    """What is older than its organization keeps it; how many rows, by organization."""
    with connection.cursor() as cursor:
        cursor.execute(_RETENTION)
        kept = cursor.fetchall()
    found = {}
    for organization_id, days in kept:
        gone = Gone()
        until = clock.now() - timedelta(days=days)
        while _delete(organization_id, _EVER[0], until, gone) == _BATCH:
            pass
        if gone.rows:
            found[organization_id] = gone.rows
            log.info(
                "request logs past their retention are deleted", organization=organization_id, rows=gone.rows
            )
    return found


def as_evidence(record: LogDeletion, owner: Owner) -> dict[str, object]:
    """A deletion as it is downloaded."""
    return {
        "object": "deletion",
        "id": record.public_id,
        "organization": owner.public_id,
        "what": record.what,
        "deleted_at": record.at.isoformat(),
        "deleted_by": record.deleted_by,
        "rows": record.rows,
        "first_call_ended_at": _iso(record.first_at),
        "last_call_ended_at": _iso(record.last_at),
        "asked_from": _iso(record.asked_from),
        "asked_until": _iso(record.asked_until),
        "destroyed_keys": [{"fingerprint_sha256": each} for each in record.fingerprints],
        "rows_left": RequestLog.objects.of(owner.pk).count(),
        "read_at": clock.now().isoformat(),
    }


def _delete(organization_id: int, since: datetime, until: datetime, gone: Gone) -> int:
    """One batch, in a transaction of its own or the caller's; how many rows it was."""
    with connection.cursor() as cursor:
        cursor.execute(_DELETE, [organization_id, since, until, _BATCH])
        rows, first_at, last_at = cursor.fetchone()
    gone.add(rows, first_at, last_at)
    return int(rows)


def _record(
    owner: Owner,
    what: str,
    gone: Gone,
    *,
    by: audit.Actor,
    asked: tuple[datetime | None, datetime | None] = (None, None),
    fingerprints: Sequence[str] = (),
) -> LogDeletion:
    record = LogDeletion.objects.create(
        organization_id=owner.pk,
        what=what,
        rows=gone.rows,
        first_at=gone.first_at,
        last_at=gone.last_at,
        asked_from=asked[0],
        asked_until=asked[1],
        fingerprints=list(fingerprints),
        deleted_by=audit.name(by)[:300],
    )
    detail = {"what": what, "rows": gone.rows, "destroyed_keys": list(fingerprints)}
    audit.record(owner.pk, "request_logs.deleted", by=by, object=record.public_id, detail=detail)
    return record


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
