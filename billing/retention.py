"""Months of generations that are no longer kept: proven, remembered as sums, dropped as a whole partition.

Only a month that is over for everybody: wholly posted, closed, its documents issued, no spool open that could
still deliver it again, its roll-ups equal to it. Roll-ups, ledger and documents stay for ever.
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import OperationalError, connection, transaction

from aggregator.lib import clock, crash

log = structlog.get_logger(__name__)

_LOCK_MS = 100
"""Detaching shuts everybody out for some milliseconds. Whoever waits for that makes all others wait."""
_TRIES = 20
_BETWEEN_SECONDS = 1

_MONTHS = """
SELECT to_date(substr(partition.relname, 13), 'YYYY_MM'), partition.relname
FROM pg_inherits JOIN pg_class AS partition ON partition.oid = inhrelid
WHERE inhparent = 'generations'::regclass AND partition.relname ~ '^generations_[0-9]{4}_[0-9]{2}$'
  AND to_date(substr(partition.relname, 13), 'YYYY_MM') < %s
ORDER BY 1
"""

_DETACHED = """
SELECT relname
FROM pg_class JOIN billing_droppedmonth ON relname = 'generations_' || to_char(month, 'YYYY_MM')
WHERE relkind = 'r' AND NOT relispartition AND relnamespace = 'public'::regnamespace
"""

# The first that says something is why the month stays.
_STAYS = (
    (
        "calls of it are not posted",
        "SELECT EXISTS (SELECT FROM generations WHERE posting_id IS NULL"
        " AND id >= uuid7_from(%(since)s) AND id < uuid7_from(%(until)s))",
    ),
    (
        "calls of it wait for their partition",
        "SELECT EXISTS (SELECT FROM generations_rest"
        " WHERE id >= uuid7_from(%(since)s) AND id < uuid7_from(%(until)s))",
    ),
    (
        "a spool of that time is open, and could deliver its calls again",
        "SELECT EXISTS (SELECT FROM spools WHERE started_at < %(until)s)",
    ),
    (
        "it is not closed for every organization",
        "SELECT EXISTS (SELECT FROM billing_billedusage AS used WHERE used_in = %(month)s AND NOT EXISTS"
        " (SELECT FROM billing_monthclose AS closed"
        "  WHERE closed.organization_id = used.organization_id AND closed.month >= used.month))",
    ),
    (
        "a document that bills it is not issued",
        "SELECT EXISTS (SELECT FROM billing_billedusage AS used WHERE used_in = %(month)s AND NOT EXISTS"
        " (SELECT FROM billing_document AS document WHERE document.organization_id = used.organization_id"
        "  AND document.month = used.month AND document.purpose IN ('month', 'postpaid')))",
    ),
    (
        "the books are not right: see the alerts",
        "SELECT EXISTS (SELECT FROM billing_alert WHERE kind = 'invariant' AND resolved_at IS NULL)",
    ),
)

_DELIVERED = """
SELECT count(*), coalesce(sum(base_nanos), 0)::bigint, coalesce(sum(charge_nanos), 0)::bigint,
       coalesce(sum(loss_nanos), 0)::bigint FROM {name}
"""

_ROLLED_UP = """
SELECT coalesce(sum(requests), 0)::bigint, coalesce(sum(base_nanos), 0)::bigint,
       coalesce(sum(charge_nanos), 0)::bigint, coalesce(sum(loss_nanos), 0)::bigint
FROM billing_usagespan WHERE hours = 720 AND start = %s
"""


def first_kept(now: datetime) -> date | None:
    """The first month that `GENERATION_MONTHS_KEPT` keeps beside the present one; None keeps all."""
    kept = int(settings.GENERATION_MONTHS_KEPT)
    if not kept:
        return None
    year, month = divmod(now.year * 12 + now.month - 1 - kept, 12)
    return date(year, month + 1, 1)


def drop_old() -> list[str]:
    """Drop the months that are no longer kept, the oldest first, up to one that has to stay; as `2024-10`."""
    _sweep()
    before = first_kept(clock.now())
    dropped: list[str] = []
    if before is None:
        return dropped
    with connection.cursor() as cursor:
        cursor.execute(_MONTHS, [before])
        found = cursor.fetchall()
    for month, name in found:
        why = stays(month) or _detach(month, name)
        if why:
            log.warning("a month of generations stays", month=f"{month:%Y-%m}", because=why)
            break
        crash.point("after_month_detached")
        _sweep()
        log.info("a month of generations dropped", month=f"{month:%Y-%m}")
        dropped.append(f"{month:%Y-%m}")
    return dropped


def stays(month: date) -> str:
    """Why a month may not be dropped; empty when it may."""
    since = datetime(month.year, month.month, 1, tzinfo=UTC)
    until = (since + timedelta(days=32)).replace(day=1)
    with connection.cursor() as cursor:
        for says, query in _STAYS:
            cursor.execute(query, {"month": month, "since": since, "until": until})
            if cursor.fetchone()[0]:
                return says
    return ""


def _detach(month: date, name: str) -> str:
    """Remember what the month came to, and take it out of `generations`; why not, or nothing.

    A share lock on this old partition alone keeps what was summed as it is; nobody writes there any more.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '10min'")
        cursor.execute(f"SET LOCAL lock_timeout = {_LOCK_MS}")
        cursor.execute(f"LOCK TABLE {name} IN SHARE MODE")
        cursor.execute(_DELIVERED.format(name=name))
        delivered = cursor.fetchone()
        cursor.execute(_ROLLED_UP, [datetime(month.year, month.month, 1, tzinfo=UTC)])
        if cursor.fetchone() != delivered:
            return "its roll-ups are not its sums"
        cursor.execute(
            "INSERT INTO billing_droppedmonth"
            " (month, requests, base_nanos, charge_nanos, loss_nanos, dropped_at)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            [month, *delivered, clock.now()],
        )
        for _ in range(_TRIES):
            if _taken_out(cursor, name):
                return ""
            time.sleep(_BETWEEN_SECONDS)
        transaction.set_rollback(True)
        return "somebody reads for long; it is tried again tomorrow"


def _taken_out(cursor: Any, name: str) -> bool:
    """Detach, if the lock is to be had at once. CONCURRENTLY knows no default partition."""
    try:
        with transaction.atomic():
            cursor.execute(f"ALTER TABLE generations DETACH PARTITION {name}")
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", "") not in ("55P03", "40P01"):
            raise
        return False
    return True


def _sweep() -> None:
    """Drop what is detached: also what an earlier run left when it died."""
    with connection.cursor() as cursor:
        cursor.execute(_DETACHED)
        for (name,) in cursor.fetchall():
            cursor.execute(f"DROP TABLE {name}")
