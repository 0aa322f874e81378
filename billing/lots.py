"""Lots of credit, read: what is left of what came in. `billing.ledger` alone writes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from billing.core.money import Nanos

PAID_FOR = ("top_up", "invoice_paid", "invoice_paid_elsewhere", "refund_failed", "dispute_won")
"""Postings whose credit somebody paid for; a debt that we write off is none."""


@dataclass(frozen=True, slots=True)
class Lot:
    """Credit that came in with one posting, which `posting_kind` and `source_id` name."""

    posting_id: int
    posting_kind: str
    source_id: str
    nanos: Nanos
    remaining: Nanos
    expires_at: datetime | None


_LOTS = """
SELECT lot.posting_id, posting.kind, posting.source_id, lot.nanos, lot.remaining_nanos, lot.expires_at
FROM billing_creditlot AS lot JOIN billing_posting AS posting ON posting.id = lot.posting_id
WHERE lot.remaining_nanos > 0
"""


def remaining(posting_id: int) -> Nanos:
    """What is left of the credit that this posting gave; zero when it gave none."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT remaining_nanos FROM billing_creditlot WHERE posting_id = %s", [posting_id])
        found = cursor.fetchone()
    return 0 if found is None else int(found[0])


def refundable(organization_id: int) -> list[Lot]:
    """Paid credit with something left, the newest first."""
    return _lots(
        "AND lot.organization_id = %s AND posting.kind = ANY(%s) ORDER BY lot.id DESC",
        [organization_id, list(PAID_FOR)],
    )


def burning(organization_id: int) -> list[Lot]:
    """All credit with something left, in the order in which it burns."""
    return _lots(
        "AND lot.organization_id = %s ORDER BY lot.rank, lot.expires_at NULLS LAST, lot.id", [organization_id]
    )


def _lots(condition: str, values: list[Any]) -> list[Lot]:
    with connection.cursor() as cursor:
        cursor.execute(_LOTS + condition, values)
        return [Lot(*row) for row in cursor.fetchall()]
