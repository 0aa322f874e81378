"""People are told, by e-mail and webhook, when credit runs low: once, until it has risen again.

Each organization may set below what, or not to be told. Without a word from it: below five dollars, or a
fifth of the most that it ever added at once if that is less; and nothing while automatic top-ups are on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import connection, transaction

from accounts import audit, webhooks
from accounts.models import Organization
from aggregator.lib import clock
from aggregator.lib.errors import Refusal
from billing import letters
from billing.core.money import MOST_NANOS, NANOS_PER_USD, Nanos, show_usd, usd
from billing.models import LowCredit

USUAL_NANOS: Final = 5 * NANOS_PER_USD
USUAL_PART: Final = 5
"""The most ever added, over this."""
PAGE: Final = "/budgets"

_OVERLAP: Final = timedelta(minutes=2)
_AGO: Final = timedelta(hours=1)

# What is left is what may be spent: the balance less what is not posted, and what may be owed.
_READ: Final = """
SELECT * FROM (
    SELECT wallet.organization_id,
           (balance_nanos + credit_limit_nanos
            - coalesce((SELECT sum(charge_nanos) FROM generations AS unposted
                        WHERE unposted.organization_id = wallet.organization_id
                          AND posting_id IS NULL), 0))::bigint AS left_nanos,
           CASE WHEN NOT coalesce(said.is_on, true) THEN NULL
                WHEN said.threshold_nanos IS NOT NULL THEN said.threshold_nanos
                WHEN coalesce(auto.enabled AND auto.paused_at IS NULL, false) THEN NULL
                ELSE least(%(usual)s, (SELECT max(nanos) / %(part)s FROM billing_creditlot AS lot
                                       WHERE lot.organization_id = wallet.organization_id))
           END::bigint AS below_nanos,
           said.told_at
    FROM billing_wallet AS wallet
    LEFT JOIN billing_lowcredit AS said ON said.organization_id = wallet.organization_id
    LEFT JOIN billing_autotopup AS auto ON auto.organization_id = wallet.organization_id
    WHERE wallet.organization_id = %(only)s
       OR %(only)s IS NULL AND wallet.organization_id IN (
            SELECT organization_id FROM billing_posting WHERE created_at >= %(since)s
            UNION SELECT organization_id FROM billing_lowcredit WHERE told_at IS NOT NULL)
) AS read
"""
_CHANGED: Final = "WHERE (told_at IS NULL) = coalesce(left_nanos < below_nanos, false)"
_TELL: Final = """
INSERT INTO billing_lowcredit (organization_id, is_on, told_at) VALUES (%s, true, %s)
ON CONFLICT (organization_id) DO UPDATE SET told_at = excluded.told_at
    WHERE billing_lowcredit.told_at IS NULL
RETURNING organization_id
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """What an organization is told of its credit, and how things stand."""

    is_on: bool
    threshold_nanos: Nanos | None
    """None: the usual."""
    below_nanos: Nanos | None
    """Below what it is told; None: not at all."""
    left_nanos: Nanos
    told_at: datetime | None


def of(organization_id: int) -> Setting:
    said = LowCredit.objects.of(organization_id).first() or LowCredit(organization_id=organization_id)
    rows = _read(only=organization_id, since=None)
    left, below = rows[0][1:3] if rows else (0, None)
    return Setting(said.is_on, said.threshold_nanos, below, left, said.told_at)


def set(organization: Organization, *, is_on: bool, threshold_nanos: Nanos | None, by: audit.Actor) -> None:
    """Say whether to be told, and below what; None is the usual. Raises Refusal `invalid_threshold`."""
    if threshold_nanos is not None and not 0 < threshold_nanos <= MOST_NANOS:
        raise Refusal("invalid_threshold", "Write an amount above zero.", param="threshold")
    with transaction.atomic():
        row, _ = (
            LowCredit.objects.of(organization).select_for_update().get_or_create(organization=organization)
        )
        if (row.is_on, row.threshold_nanos) == (is_on, threshold_nanos):
            return
        row.is_on, row.threshold_nanos, row.told_at = is_on, threshold_nanos, None
        row.save()
        detail: dict[str, Any] = {"on": is_on, "below_usd": None}
        if threshold_nanos is not None:
            detail["below_usd"] = usd(threshold_nanos)
        audit.record(organization, "credit_notice.set", by=by, object="wallet", detail=detail)


def look(since: datetime | None) -> int:
    """Tell those whose credit has run low since the last look; how many. Who has risen may be told anew."""
    now, told = clock.now(), 0
    for owner, left, below, told_at in _read(
        only=None, since=(since or now - _AGO) - _OVERLAP, where=_CHANGED
    ):
        if told_at is None and below is not None:
            told += _tell(owner, left, below, now)
        else:
            LowCredit.objects.of(owner).filter(told_at=told_at).update(told_at=None)
    return told


def _tell(organization_id: int, left: Nanos, below: Nanos, now: datetime) -> bool:
    subject = f"{organization_id}/{now.isoformat()}"
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_TELL, [organization_id, now])
            if cursor.fetchone() is None:
                return False
        context = {
            "left": show_usd(left),
            "below": show_usd(below),
            "is_out": left <= 0,
            "page": f"{settings.PUBLIC_URL}{PAGE}#low-credit",
        }
        letters.write(organization_id, "credit_low", subject, context=context)
        webhooks.send(
            organization_id, "credit.low", {"balance": usd(left), "threshold": usd(below)}, key=subject
        )
    return True


def _read(
    *, only: int | None, since: datetime | None, where: str = ""
) -> list[tuple[int, Nanos, Nanos | None, datetime | None]]:
    asked = {"only": only, "since": since, "usual": USUAL_NANOS, "part": USUAL_PART}
    with connection.cursor() as cursor:
        cursor.execute(_READ + where, asked)
        return list(cursor.fetchall())
