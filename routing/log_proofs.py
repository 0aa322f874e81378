"""The proof of request logs: what was deleted is not there, and what is there opens in its place alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from django.db import connection

from accounts import log_keys
from aggregator.lib import clock, seal
from routing import request_logs
from routing.models import RequestLog

_LATE = timedelta(hours=3)
"""The hourly job may have missed a turn."""
_OWNERS = """
SELECT o.id, o.public_id, o.slug,
       (SELECT count(*) FROM routing_requestlog r WHERE r.organization_id = o.id),
       (SELECT min(at) FROM routing_requestlog r WHERE r.organization_id = o.id),
       (SELECT days FROM accounts_requestlogging l WHERE l.organization_id = o.id ORDER BY id DESC LIMIT 1)
FROM accounts_organization o
WHERE EXISTS (SELECT FROM accounts_logkey k WHERE k.organization_id = o.id)
  AND (%(slug)s = '' OR o.slug = %(slug)s)
ORDER BY o.id
"""
_ORPHANS = """
SELECT r.organization_id, count(*) FROM routing_requestlog r JOIN accounts_logkey k ON k.id = r.log_key_id
WHERE k.destroyed_at IS NOT NULL OR k.organization_id <> r.organization_id GROUP BY 1
"""
_DESTROYED = """
SELECT count(*), count(*) FILTER (WHERE wrapped IS NOT NULL)
FROM accounts_logkey WHERE destroyed_at IS NOT NULL
"""
_UNRECORDED = """
SELECT k.fingerprint FROM accounts_logkey k WHERE k.destroyed_at IS NOT NULL AND NOT EXISTS (
    SELECT FROM routing_logdeletion d
    WHERE d.organization_id = k.organization_id AND k.fingerprint = ANY(d.fingerprints)
)
"""


@dataclass(slots=True)
class Findings:
    organizations: int = 0
    rows: int = 0
    opened: int = 0
    destroyed: int = 0
    problems: list[str] = field(default_factory=list)


def check(slug: str = "", *, most: int = 100) -> Findings:
    """Of one organization, or of all. `most` rows of each are opened, the newest."""
    found = Findings()
    with connection.cursor() as cursor:
        cursor.execute(_OWNERS, {"slug": slug})
        owners = cursor.fetchall()
        cursor.execute(_ORPHANS)
        for owner, count in cursor.fetchall():
            found.problems.append(f"organization {owner}: {count} rows are left of a key that is gone")
        cursor.execute(_DESTROYED)
        found.destroyed, whole = cursor.fetchone()
        if whole:
            found.problems.append(f"{whole} destroyed keys are still there")
        cursor.execute(_UNRECORDED)
        found.problems += [f"key {name[:16]} was destroyed without a record" for (name,) in cursor.fetchall()]
    for owner, public_id, name, rows, oldest, days in owners:
        found.organizations += 1
        found.rows += rows
        if oldest is not None and days is not None and oldest < clock.now() - timedelta(days=days) - _LATE:
            found.problems.append(f"{name}: rows older than {days} days are kept")
        for problem in _opening(owner, public_id, most, found):
            found.problems.append(f"{name}: {problem}")
    return found


def _opening(owner: int, public_id: str, most: int, found: Findings) -> Iterator[str]:
    rows = RequestLog.objects.of(owner).select_related("log_key").order_by("-at")[:most]
    for row in rows:
        try:
            request_logs.unsealed(row, public_id)
            found.opened += 1
        except (log_keys.KeyLost, seal.Unopened) as error:
            yield f"the log of call {row.pk} does not open: {error}"
