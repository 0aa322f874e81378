"""Spools that are open, and what to do with one whose disk will never come back.

An open spool without a process is waited for: each new epoch of the gate waits out its grace, and idempotency
keys of its calls answer 409. Abandoning it deletes its row, and its tallies with it. What it had written to
PostgreSQL is booked and stays; what it had not is never charged: our loss. Should its folder come back after
all, the next process that finds it charges what is in it, once.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from django.conf import settings
from django.db import connection, transaction

from aggregator.lib import clock, kv
from aggregator.lib.errors import Refusal
from billing import gate
from billing.core.money import Nanos

log = structlog.get_logger(__name__)

ALIVE = timedelta(minutes=5)
"""Heard of within this time, a process may be alive: it says so every half minute."""

_OPEN = """
SELECT spool.id::text, spool.host, spool.pid, spool.started_at, spool.seen_at, count(tally.account),
       coalesce(sum(tally.nanos), 0)::bigint
FROM spools AS spool
LEFT JOIN tallies AS tally ON tally.spool = spool.id AND starts_with(tally.account, 'org:')
WHERE %(id)s::uuid IS NULL OR spool.id = %(id)s::uuid
GROUP BY spool.id ORDER BY spool.started_at, spool.id
"""


@dataclass(frozen=True, slots=True)
class OpenSpool:
    """What is known of it. `tallied` is what reached PostgreSQL through it, from so many organizations."""

    id: str
    host: str
    pid: int
    started_at: datetime
    seen_at: datetime
    organizations: int
    tallied: Nanos

    @property
    def may_live(self) -> bool:
        return clock.now() - self.seen_at < ALIVE

    @property
    def folder(self) -> Path | None:
        """Here, if it is here."""
        found = settings.SPOOL_DIR / self.id
        return found if found.is_dir() else None


def listed() -> list[OpenSpool]:
    """Oldest first."""
    return _found(None)


def find(spool_id: str) -> OpenSpool:
    """Raises LookupError when there is no such open spool."""
    try:
        found = _found(str(uuid.UUID(spool_id)))
    except ValueError:
        found = []
    if not found:
        raise LookupError(f"There is no open spool {spool_id!r}.")
    return found[0]


def abandon(spool_id: str) -> OpenSpool:
    """Close it as lost; what it was. Raises LookupError, and ValueError when it is not lost."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            # Its process says that it lives by writing this row: that is waited for, and then seen.
            cursor.execute("SELECT FROM spools WHERE id::text = %s FOR UPDATE", [spool_id.lower()])
        spool = find(spool_id)
        if spool.folder is not None:
            raise ValueError(
                f"{spool.folder} is here: the next gateway process that starts will replay it and close it."
            )
        if spool.may_live:
            raise ValueError(
                f"Its process was heard of at {spool.seen_at:%Y-%m-%d %H:%M:%S} UTC: it may live."
            )
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM spools WHERE id = %s", [spool.id])
    log.warning(
        "spool abandoned",
        spool=spool.id,
        host=spool.host,
        pid=spool.pid,
        started_at=spool.started_at.isoformat(),
        seen_at=spool.seen_at.isoformat(),
        organizations=spool.organizations,
        tallied_nanos=spool.tallied,
    )
    _tell_gate(spool)
    return spool


def _tell_gate(spool: OpenSpool) -> None:
    """What the gate had heard of it and PostgreSQL had not is the customers' again, now rather than later."""
    try:
        gate.drop_totals(spool.id)
    except (kv.Failed, Refusal) as error:
        log.warning("the gate learns of an abandoned spool later", spool=spool.id, error=str(error))


def _found(spool_id: str | None) -> list[OpenSpool]:
    with connection.cursor() as cursor:
        cursor.execute(_OPEN, {"id": spool_id})
        return [OpenSpool(*row) for row in cursor.fetchall()]
