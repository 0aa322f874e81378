"""What else moved an organization's money in a month: read from the ledger, which never changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from django.db import connection

from billing.core.money import Nanos, usd
from billing.stretches import bounds

OF_A_MONTH = ("rebate", "monthly_fee")
"""Postings that name the month they belong to, `organization:YYYY-MM`; all others belong to that in which
they were booked."""
OURS = ("usage", "after_cancel", "stripe_fee", "stripe_fee_back")
"""Postings that a document does not list: usage has lines of its own, the rest no customer sees."""

_SUBSCRIPTION = ("subscription", "subscription_refund", "subscription_refund_failed")
_GROUPS = {
    "credits": (
        *("welcome", "grant", "top_up", "invoice_paid", "invoice_paid_elsewhere", "write_off", "credit_note"),
    ),
    "refunds": ("refund", "refund_failed"),
    "disputes": ("dispute", "dispute_won"),
    "expired": ("expiry",),
}
_WORDS = {
    "welcome": "Starting credit",
    "grant": "Credit given",
    "top_up": "Top-up",
    "invoice_paid": "Invoice paid",
    "invoice_paid_elsewhere": "Invoice paid by bank transfer",
    "write_off": "Debt written off",
    "credit_note": "Credit note",
    "refund": "Refund",
    "refund_failed": "Refund that failed",
    "dispute": "Disputed payment",
    "dispute_won": "Dispute decided for you",
    "expiry": "Credit expired",
    "subscription": "Subscription paid",
    "subscription_refund": "Subscription refunded",
    "subscription_refund_failed": "Refund of a subscription that failed",
}
_SAID_IN_THE_NOTE = ("top_up", "credit_note")
_EXPLAINED_BY_THE_NOTE = ("grant", "write_off")

_MONTH = """CASE WHEN posting.kind IN ('rebate', 'monthly_fee') THEN split_part(posting.source_id, ':', 2)
                ELSE to_char(posting.created_at AT TIME ZONE 'UTC', 'YYYY-MM') END"""

_MOVED = f"""
SELECT posting.kind, posting.source_id, posting.note, posting.created_at, posting.expires_at,
       coalesce(sum(entry.nanos) FILTER (WHERE account.kind = 'wallet'), 0)::bigint,
       coalesce(sum(entry.nanos) FILTER (WHERE account.kind = 'tax'), 0)::bigint,
       coalesce(sum(entry.nanos) FILTER (WHERE account.kind = 'subscription_revenue'), 0)::bigint
FROM billing_posting AS posting
JOIN billing_entry AS entry ON entry.posting_id = posting.id
JOIN billing_account AS account ON account.id = entry.account_id
WHERE posting.organization_id = %(organization)s AND posting.kind <> 'usage' AND posting.kind <> ALL(%(ours)s)
  AND {_MONTH} = %(month)s
GROUP BY posting.id ORDER BY posting.id
"""  # noqa: S608 (our own constants)

_BEFORE = f"""
SELECT coalesce((SELECT sum(entry.nanos) FROM billing_posting AS posting
                 JOIN billing_entry AS entry ON entry.posting_id = posting.id
                 JOIN billing_account AS account ON account.id = entry.account_id
                 WHERE posting.organization_id = %(organization)s AND posting.kind <> 'usage'
                   AND account.kind = 'wallet' AND {_MONTH} < %(month)s), 0)::bigint
     - coalesce((SELECT sum(charge_nanos) FROM billing_billedusage
                 WHERE organization_id = %(organization)s AND month < %(first)s), 0)::bigint
"""  # noqa: S608 (our own constants)


@dataclass(frozen=True, slots=True)
class Moved:
    """One posting. `nanos` is what the balance gained."""

    kind: str
    source_id: str
    note: str
    at: datetime
    expires_at: datetime | None
    nanos: Nanos
    tax_nanos: Nanos
    revenue_nanos: Nanos

    @property
    def says(self) -> str:
        if self.kind in _SAID_IN_THE_NOTE and self.note:
            return self.note
        words = _WORDS.get(self.kind, self.kind)
        return f"{words}: {self.note}" if self.kind in _EXPLAINED_BY_THE_NOTE and self.note else words

    def content(self) -> dict[str, Any]:
        return {
            "says": self.says,
            "at": instant(self.at),
            "kind": self.kind,
            "amount": usd(self.nanos),
            "tax": usd(self.tax_nanos),
            "expires_at": None if self.expires_at is None else instant(self.expires_at),
            "source": self.source_id,
        }


@dataclass(frozen=True, slots=True)
class Month:
    """All of them, in the order in which they were booked."""

    rows: tuple[Moved, ...]

    def of(self, kinds: Iterable[str]) -> list[Moved]:
        wanted = frozenset(kinds)
        return [row for row in self.rows if row.kind in wanted]

    def gained(self, *kinds: str) -> Nanos:
        """What the balance gained, by these kinds or by all."""
        return sum(row.nanos for row in self.rows if not kinds or row.kind in kinds)

    def content(self) -> dict[str, Any]:
        """The parts of a document that tell of payments."""
        grouped: dict[str, Any] = {
            name: [row.content() for row in self.of(kinds)] for name, kinds in _GROUPS.items()
        }
        grouped["subscription"] = [
            {
                "says": row.says,
                "at": instant(row.at),
                "amount": usd(row.revenue_nanos),
                "tax": usd(row.tax_nanos),
                "invoice": row.source_id,
            }
            for row in self.of(_SUBSCRIPTION)
        ]
        grouped["fees"] = [fee(row.note, row.at, -row.nanos) for row in self.of(("monthly_fee",))]
        taxes: dict[str, Nanos] = {}
        for row in self.rows:
            taxes[row.kind] = taxes.get(row.kind, 0) + row.tax_nanos
        grouped["tax"] = [
            {"kind": kind, "says": _WORDS.get(kind, kind), "amount": usd(nanos)}
            for kind, nanos in sorted(taxes.items())
            if nanos
        ]
        return grouped


def fee(says: str, at: datetime, nanos: Nanos, *, posted: bool = True) -> dict[str, Any]:
    return {"says": says, "at": instant(at), "amount": usd(nanos), "posted": posted}


def of_month(organization_id: int, month: date) -> Month:
    with connection.cursor() as cursor:
        cursor.execute(
            _MOVED, {"organization": organization_id, "month": f"{month:%Y-%m}", "ours": list(OURS)}
        )
        return Month(tuple(Moved(*row) for row in cursor.fetchall()))


def opening_balance(organization_id: int, month: date) -> Nanos:
    """The sum of all that belongs to earlier months."""
    with connection.cursor() as cursor:
        values: dict[str, Any] = {
            "organization": organization_id,
            "month": f"{month:%Y-%m}",
            "first": bounds(month)[0].date(),
        }
        cursor.execute(_BEFORE, values)
        return int(cursor.fetchone()[0])


def instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()
