"""Settlements from a spool into PostgreSQL: COPY to staging, INSERT … ON CONFLICT DO NOTHING.

Generations and the spool's tallies go in one transaction, and both are safe to repeat: an id is
inserted once, a tally keeps the greatest. A commit whose outcome is unknown is therefore sent again.

What PostgreSQL refuses for its content would be refused for ever: it goes aside (`quarantine`), its money is
written without its texts, and nothing waits behind it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
from django.conf import settings
from django.db import DatabaseError, DataError, IntegrityError, connection, transaction

from aggregator.lib import crash
from billing import quarantine
from billing import spool as spools
from billing.core.generation import COLUMNS, Generation
from billing.spool import Orphan, Settlement

_json = msgspec.json.Encoder().encode

_NOT_NULL, _CHECK = "23502", "23514"
_CAPPED = "capped_at_nanos"
_INTO = ("spool", *COLUMNS)
_STAGING = "generation_staging"
_NAMES = ", ".join(_INTO)
_COPY = f"COPY {_STAGING} ({_NAMES}) FROM STDIN"
_MERGE = f"INSERT INTO generations ({_NAMES}) SELECT {_NAMES} FROM {_STAGING} ON CONFLICT DO NOTHING"  # noqa: S608
_TALLY = """
INSERT INTO tallies (account, spool, nanos) SELECT * FROM unnest(%s::text[], %s::uuid[], %s::bigint[])
ON CONFLICT (account, spool) DO UPDATE SET nanos = greatest(tallies.nanos, excluded.nanos)
"""

# The name of an account has its window after its owner; what follows there is an end user's own text.
_DROP_OVER = r"""
DELETE FROM tallies WHERE (
    SELECT (said[2]::timestamp + ('1 ' || said[1])::interval) AT TIME ZONE 'UTC'
    FROM regexp_match(account, '^(?:key|budget|member|user):[^:]*:(day|week|month):(\d{4}-\d\d-\d\d)') AS said
) < %s
"""


def register(spool_id: str) -> None:
    """Before the process joins the gate: no snapshot may miss a spool that charges go through."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO spools (id, host, pid, started_at) VALUES (%s, %s, %s, now())",
            [spool_id, socket.gethostname(), os.getpid()],
        )


def seen(spool_id: str) -> bool:
    """Say that the spool's process lives. False when its row is gone: nothing can be charged through it."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE spools SET seen_at = now() WHERE id = %s", [spool_id])
        return bool(cursor.rowcount == 1)


def close(spool_id: str) -> None:
    """When everything in the spool is cut. Its tallies go with it; a late flush then fails whole."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM spools WHERE id = %s", [spool_id])


def write(spool_id: str, settlements: Sequence[Settlement]) -> None:
    """One transaction; raises django.db.Error with nothing written."""
    highest: dict[str, int] = {}
    for settlement in settlements:
        for account, total in settlement.totals.items():
            highest[account] = max(highest.get(account, 0), total)
    _insert(spool_id, [settlement.generation for settlement in settlements], highest)
    crash.point("after_commit")


def deliver(spool_id: str, settlements: Sequence[Settlement]) -> None:
    """As `write`, but a record that is refused for its content ends in quarantine. Raises django.db.Error.

    Halves are transactions of their own: each is whole, and its totals are those of its last record.
    """
    try:
        write(spool_id, settlements)
    except (DataError, IntegrityError) as error:
        if not _is_of_content(error):
            raise
        if len(settlements) == 1:
            _deliver_bare(spool_id, settlements[0], str(error))
            return
        middle = len(settlements) // 2
        deliver(spool_id, settlements[:middle])
        deliver(spool_id, settlements[middle:])


def drop_tallies_over(before: datetime) -> int:
    """Tallies of budgets whose window ended before this; answers how many. See `budgets.long_over`."""
    with connection.cursor() as cursor:
        cursor.execute(_DROP_OVER, [before])
        return int(cursor.rowcount)


def recover(orphan: Orphan) -> int:
    """Replay a dead process's spool; its unsettled calls become `void`. Answers how many records it held.

    One whose row is gone was closed, and its process died before the folder went: its totals are counted
    nowhere any more, so they are not written again.
    """
    void = [Settlement(spools.void_record(dispatch), "", {}) for dispatch in orphan.void]
    records = [*orphan.settlements, *void]
    if not is_open(orphan.id):
        records = [Settlement(record.generation, record.organization, {}) for record in records]
    if records:
        deliver(orphan.id, records)
    crash.point("after_replay")
    return len(records)


def is_open(spool_id: str) -> bool:
    """Whether snapshots still count this spool's tallies."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM spools WHERE id = %s", [spool_id])
        return cursor.fetchone() is not None


def _is_of_content(error: DatabaseError) -> bool:
    """Whether the record is at fault: a foreign key is not, it says that the spool was closed."""
    if isinstance(error, DataError):
        return True
    return getattr(error.__cause__, "sqlstate", None) in (_NOT_NULL, _CHECK)


def _deliver_bare(spool_id: str, settlement: Settlement, why: str) -> None:
    """The money of a refused record, without what others wrote into it; the whole of it goes aside."""
    record = settlement.generation
    charged = True
    try:
        write(spool_id, [msgspec.structs.replace(settlement, generation=_without_texts(record))])
    except (DataError, IntegrityError) as error:
        if not _is_of_content(error):
            raise
        charged = False
    quarantine.put(settings.SPOOL_DIR, record, why=why, charged=charged)


def _without_texts(record: Generation) -> Generation:
    kept = {_CAPPED: record.decision[_CAPPED]} if _CAPPED in record.decision else {}
    return msgspec.structs.replace(
        record,
        model_asked="",
        preference="",
        finish_reason="",
        native_finish_reason="",
        error_type="",
        upstream_id="",
        user_agent="",
        decision={**kept, "quarantined": True},
    )


def _insert(spool_id: str, records: Iterable[Generation], totals: dict[str, int]) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE IF NOT EXISTS {_STAGING} (LIKE generations) ON COMMIT DELETE ROWS")
        # COPY goes past Django's cursor, so its errors have to be made Django's.
        with connection.wrap_database_errors, cursor.copy(_COPY) as copy:
            for record in records:
                copy.write_row((spool_id, *_row(record)))
        cursor.execute(_MERGE)
        if totals:
            cursor.execute(_TALLY, [list(totals), [spool_id] * len(totals), list(totals.values())])
        crash.point("before_commit")


def _row(record: Generation) -> Iterable[object]:
    for name in COLUMNS:
        value = getattr(record, name)
        yield _json(value).decode() if name in ("parts", "decision") else value
