"""What is left of lots of credit: how it grows and burns. `billing.ledger` alone may call this.

Whoever calls holds the wallets' locks, and names no organization twice in one call. Always, what is left
of an organization's lots comes to its balance, or to nothing while it owes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from aggregator.lib import clock
from billing.core import chart
from billing.core.money import Nanos

_BURN = """
WITH debit AS (
    SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[])
        AS debit (organization_id, nanos, first_posting_id)
), due AS (
    SELECT lot.id, debit.nanos - (sum(lot.remaining_nanos) OVER burning - lot.remaining_nanos) AS nanos
    FROM debit
    JOIN billing_creditlot AS lot
      ON lot.organization_id = debit.organization_id AND lot.remaining_nanos > 0
    WINDOW burning AS (
        PARTITION BY lot.organization_id
        ORDER BY (lot.posting_id = debit.first_posting_id) IS TRUE DESC,
                 lot.rank, lot.expires_at NULLS LAST, lot.id
    )
)
UPDATE billing_creditlot AS lot SET remaining_nanos = greatest(lot.remaining_nanos - due.nanos, 0)
FROM due WHERE lot.id = due.id AND due.nanos > 0
"""

_RESTORE = """
UPDATE billing_creditlot AS lot SET remaining_nanos = lot.remaining_nanos + room.nanos
FROM (
    SELECT id, least(nanos - remaining_nanos, %s) AS nanos FROM billing_creditlot
    WHERE posting_id = (SELECT from_posting_id FROM billing_posting WHERE id = %s)
) AS room
WHERE lot.id = room.id
RETURNING room.nanos
"""


@dataclass(frozen=True, slots=True)
class Move:
    """What a posting does to its organization's credit."""

    posting_id: int
    organization_id: int
    credit_kind: str
    nanos: Nanos
    usable: Nanos
    """Of what it gives, the part that fills no hole."""
    expires_at: datetime | None
    from_posting: int | None


def give(credits: Sequence[Move]) -> None:
    """A lot for each credit. What a reversal gives back goes into the lot it was taken from, as far as it
    fits there, and only the rest is a lot of its own."""
    lots = []
    for move in credits:
        nanos, usable = move.nanos, move.usable
        if move.from_posting is not None:
            nanos = usable = usable - _restore(move.from_posting, usable)
        if nanos:
            lots.append((move, nanos, usable))
    if not lots:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO billing_creditlot
                (posting_id, organization_id, kind, rank, nanos, remaining_nanos, expires_at, created_at)
            SELECT lot.*, %s
            FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::smallint[], %s::bigint[], %s::bigint[],
                        %s::timestamptz[]) AS lot
            """,
            [
                clock.now(),
                [move.posting_id for move, _, _ in lots],
                [move.organization_id for move, _, _ in lots],
                [move.credit_kind for move, _, _ in lots],
                [chart.RANKS[move.credit_kind] for move, _, _ in lots],
                [nanos for _, nanos, _ in lots],
                [usable for _, _, usable in lots],
                [move.expires_at for move, _, _ in lots],
            ],
        )


def burn(debits: Sequence[Move]) -> None:
    """Take from lots: from the named posting's first, then by rank, earlier expiry, earlier creation."""
    if not debits:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            _BURN,
            [
                [move.organization_id for move in debits],
                [-move.nanos for move in debits],
                [move.from_posting for move in debits],
            ],
        )


def _restore(reversed_posting: int, nanos: Nanos) -> Nanos:
    """Put back into the lot that the reversed posting was to take from; how much of it fits."""
    with connection.cursor() as cursor:
        cursor.execute(_RESTORE, [nanos, reversed_posting])
        found = cursor.fetchone()
    return 0 if found is None else int(found[0])
