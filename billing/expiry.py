"""Promotional credit that nobody used by its end goes back to us, as a posting of its own.

What calls have spent already is theirs: what was delivered and waits to be posted burns the same lot
within seconds, and what calls hold is not taken. Either is looked at again a minute later.
"""

from __future__ import annotations

import time
from datetime import datetime

import structlog
from django.db import connection, transaction

from aggregator.lib import clock
from aggregator.lib.errors import Refusal
from billing import ledger, lots, reloads, reserving
from billing.core import chart
from billing.core.money import Nanos

log = structlog.get_logger(__name__)

_DUE = """
SELECT lot.posting_id, lot.organization_id, organization.public_id,
       lot.remaining_nanos - coalesce((SELECT sum(charge_nanos) FROM generations AS generation
            WHERE generation.organization_id = lot.organization_id AND posting_id IS NULL), 0)::bigint
FROM billing_creditlot AS lot
JOIN accounts_organization AS organization ON organization.id = lot.organization_id
WHERE lot.remaining_nanos > 0 AND lot.expires_at <= %s
ORDER BY lot.expires_at, lot.id
"""


def expire_all(*, seconds: int | None = None) -> Nanos:
    """Take back all credit whose time is over; how much of it there was. An organization whose gate does
    not answer is left to the next run."""
    until = None if seconds is None else time.monotonic() + seconds
    now = clock.now()
    with connection.cursor() as cursor:
        cursor.execute(_DUE, [now])
        due = cursor.fetchall()
    gone = 0
    for posting_id, organization_id, organization, nanos in due:
        if nanos > 0:
            try:
                gone += _expire(posting_id, organization_id, organization, nanos, now)
            except Refusal as error:
                log.warning("credit not expired yet", organization=organization, error=str(error))
        if until is not None and time.monotonic() >= until:
            break
    return gone


def _expire(posting_id: int, organization_id: int, organization: str, nanos: Nanos, now: datetime) -> Nanos:
    with reserving.credit(organization_id, nanos, at_most=True) as taken, transaction.atomic():
        ledger.lock_wallets({organization_id})
        left = lots.remaining(posting_id)
        gone = min(taken, left)
        if gone:
            ledger.post(
                "expiry",
                str(posting_id) if gone == left else f"{posting_id} {now.isoformat()}",
                entries={(chart.WALLET, organization_id): -gone, (chart.PROMOTION, None): gone},
                organization_id=organization_id,
                source="posting",
                note="Promotional credit that was not used in time",
                from_posting=posting_id,
            )
            reloads.after_commit(organization)
    return gone
