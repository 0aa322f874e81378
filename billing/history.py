"""What moved an organization's credit, and what it paid for its plan: newest first, usage summed by day.

Movements are read from the ledger, days of usage from the roll-ups. Each of the two goes on from a place
of its own, so a page ends anywhere without losing or repeating a row, whatever their clocks say.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db import connection
from django.db.models import Q

from billing.core.money import Nanos
from billing.models import Document, Refund, StripeInvoice, TopUp
from billing.payments.crediting import as_uuid

PAGE = 25
PAYMENTS = "payments"
USAGE = "usage"
CREDITS = "credits"

KINDS = {
    PAYMENTS: (
        *("top_up", "invoice_paid", "refund", "refund_failed", "dispute", "dispute_won", "monthly_fee"),
        *("subscription", "subscription_refund", "subscription_refund_failed"),
    ),
    CREDITS: ("welcome", "grant", "rebate", "credit_note", "expiry", "write_off"),
    USAGE: (),
}
"""What a reader may ask for → the kinds of postings that it shows; usage is shown by day instead."""

_WORDS = {
    "top_up": "Top-up",
    "invoice_paid": "Invoice paid",
    "refund": "Refund",
    "refund_failed": "Refund that failed",
    "dispute": "Disputed payment",
    "dispute_won": "Dispute decided for you",
    "monthly_fee": "Monthly fee",
    "subscription": "Subscription",
    "subscription_refund": "Refund of a subscription",
    "subscription_refund_failed": "Refund of a subscription that failed",
    "welcome": "Starting credit",
    "grant": "Credit given",
    "rebate": "Volume discount",
    "credit_note": "Credit note",
    "expiry": "Credit expired",
    "write_off": "Written off",
}
_MONTH = re.compile(r"[0-9]+:([0-9]{4}-(?:0[1-9]|1[0-2]))", re.ASCII)
_LAST_ID = 2**63 - 1
_LAST_DAY = date(9999, 1, 1)
_PLACE = re.compile(r"([0-9]{1,19})\.([0-9]{4}-[0-9]{2}-[0-9]{2})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Row:
    """One line: `credit_nanos` is what the balance gained, `card_nanos` what was paid from outside."""

    at: datetime
    """Of usage, the end of its day."""
    title: str
    kind: str
    detail: str = ""
    credit_nanos: Nanos = 0
    card_nanos: Nanos = 0
    tax_nanos: Nanos = 0
    requests: int = 0
    """Of a day of usage."""
    top_up: str = ""
    """The id of a top-up that Stripe has a receipt for."""
    invoice_url: str = ""
    document: str = ""
    """The id of the document of ours that it stands on, and its number."""
    document_number: str = ""
    posting_id: int = 0
    source_id: str = ""

    @property
    def returned_nanos(self) -> Nanos:
        """What went back to the card."""
        return -self.card_nanos

    @property
    def is_usage(self) -> bool:
        return self.kind == USAGE

    @property
    def day(self) -> date:
        """Of usage, the day that it sums."""
        return (self.at - timedelta(seconds=1)).date()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ends: postings before this id, and days of usage before this day, come next."""

    posting_id: int = _LAST_ID
    day: date = _LAST_DAY

    def __str__(self) -> str:
        return f"{self.posting_id}.{self.day.isoformat()}"


@dataclass(frozen=True, slots=True)
class Page:
    rows: Sequence[Row]
    older: Place | None
    """Where the next page begins; None when this is the last."""


def place(text: str) -> Place | None:
    """A place as an address carries it, or None when it is no such thing."""
    found = _PLACE.fullmatch(text)
    if found is None or int(found[1]) > _LAST_ID:
        return None
    try:
        return Place(int(found[1]), date.fromisoformat(found[2]))
    except ValueError:
        return None


def page(organization_id: int, *, kind: str = "", before: Place | None = None, size: int = PAGE) -> Page:
    """The newest rows before a place, of one kind in `KINDS` or of all."""
    start = before or Place()
    postings = KINDS[kind] if kind else tuple(name for names in KINDS.values() for name in names)
    moved = _movements(organization_id, start.posting_id, postings, size + 1) if postings else []
    used = _usage(organization_id, start.day, size + 1) if kind in ("", USAGE) else []
    # A merge, not a sort: each stream keeps its own order, or its place would skip a row.
    rows = list(heapq.merge(moved, used, key=lambda row: row.at, reverse=True))
    shown, older = rows[:size], None
    if len(rows) > size:
        older = Place(
            min((row.posting_id for row in shown if not row.is_usage), default=start.posting_id),
            min((row.day for row in shown if row.is_usage), default=start.day),
        )
    return Page(_explained(organization_id, shown), older)


def _movements(organization_id: int, before: int, kinds: Sequence[str], limit: int) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH latest AS (
                SELECT id, kind, source_id, note, created_at FROM billing_posting
                WHERE organization_id = %s AND id < %s AND kind = ANY(%s) AND kind <> 'usage'
                ORDER BY id DESC LIMIT %s
            )
            SELECT latest.id, latest.kind, latest.source_id, latest.note, latest.created_at,
                   coalesce(sum(entry.nanos) FILTER (WHERE account.kind = 'wallet'), 0)::bigint,
                   coalesce(-sum(entry.nanos) FILTER (WHERE account.kind = 'stripe_cash'), 0)::bigint,
                   coalesce(abs(sum(entry.nanos) FILTER (WHERE account.kind = 'tax')), 0)::bigint
            FROM latest
            JOIN billing_entry AS entry ON entry.posting_id = latest.id
            JOIN billing_account AS account ON account.id = entry.account_id
            GROUP BY 1, 2, 3, 4, 5 ORDER BY 1 DESC
            """,
            [organization_id, before, list(kinds), limit],
        )
        return [
            Row(
                at=at.astimezone(UTC),
                title=_WORDS[kind],
                kind=kind,
                detail=note if kind in ("grant", "write_off", "credit_note") else "",
                credit_nanos=wallet,
                card_nanos=cash,
                tax_nanos=tax,
                posting_id=posting_id,
                source_id=source_id,
            )
            for posting_id, kind, source_id, note, at, wallet, cash, tax in cursor.fetchall()
        ]


def _usage(organization_id: int, before: date, limit: int) -> list[Row]:
    """Days on which something was charged. Each is found by one step down the index, not by a sum of all."""
    midnight = datetime.combine(before, time(), UTC)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH RECURSIVE days (start) AS (
                (SELECT start FROM billing_endpointspan
                 WHERE organization_id = %(organization)s AND hours = 24 AND charge_nanos > 0
                   AND start < %(before)s
                 ORDER BY start DESC LIMIT 1)
                UNION ALL
                SELECT (SELECT start FROM billing_endpointspan
                        WHERE organization_id = %(organization)s AND hours = 24 AND charge_nanos > 0
                          AND start < days.start
                        ORDER BY start DESC LIMIT 1)
                FROM days WHERE days.start IS NOT NULL
            )
            SELECT found.start, sum(used.requests)::bigint, sum(used.charge_nanos)::bigint
            FROM (SELECT start FROM days WHERE start IS NOT NULL LIMIT %(limit)s) AS found
            JOIN billing_endpointspan AS used ON used.organization_id = %(organization)s
                AND used.hours = 24 AND used.start = found.start
            GROUP BY 1 ORDER BY 1 DESC
            """,
            {"organization": organization_id, "before": midnight, "limit": limit},
        )
        return [
            Row(
                at=start.astimezone(UTC) + timedelta(days=1),
                title="Usage",
                kind=USAGE,
                credit_nanos=-charge,
                requests=requests,
            )
            for start, requests, charge in cursor.fetchall()
        ]


def _explained(organization_id: int, rows: Sequence[Row]) -> list[Row]:
    """With what our own rows of payments say: which plan, which month, and what Stripe can show of it."""
    sources = [row.source_id for row in rows if not row.is_usage]
    top_ups = {
        row.payment_intent_id: row
        for row in TopUp.objects.of(organization_id).filter(payment_intent_id__in=sources)
    }
    invoices = {
        row.stripe_id: row
        for row in StripeInvoice.objects.of(organization_id)
        .filter(stripe_id__in=sources)
        .select_related("subscription")
    }
    # A refund of a top-up is posted by our own row, before Stripe has a name for it.
    asked = [as_uuid(row.source_id) for row in rows if row.kind == "refund"]
    refunds = {
        str(row.pk): row for row in Refund.objects.of(organization_id).filter(pk__in=filter(None, asked))
    }
    documents = _documents(organization_id, rows)
    return [
        replace(
            row,
            **(
                documents.get(row.source_id, {})
                | _of_top_up(top_ups.get(row.source_id))
                | _of_invoice(invoices.get(row.source_id))
                | _of_refund(row, refunds.get(row.source_id))
            ),
        )
        for row in rows
    ]


def _documents(organization_id: int, rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """By what a movement names as its source: the invoice of a plan or a month, a credit note, and of rebates
    and fees the month's own document. A month is named as `organization:2026-11`."""
    sources = [row.source_id for row in rows if not row.is_usage]
    months = {named[1]: source for source in sources if (named := _MONTH.fullmatch(source))}
    known = Document.objects.of(organization_id).filter(
        Q(stripe_invoice__stripe_id__in=sources, corrects=None)
        | Q(pk__in=filter(None, (as_uuid(row.source_id) for row in rows if row.kind == "credit_note")))
        | Q(month__in=[f"{month}-01" for month in months], corrects=None)
    )
    found: dict[str, dict[str, Any]] = {}
    columns = ("pk", "number", "month", "corrects", "stripe_invoice__stripe_id")
    for id, number, month, corrects, invoice in known.values_list(*columns):
        of_month = months.get(f"{month:%Y-%m}") if month and corrects is None else None
        for source in (str(id), invoice, of_month):
            if source:
                found[source] = {"document": str(id), "document_number": number}
    return found


def _of_top_up(found: TopUp | None) -> dict[str, Any]:
    if found is None:
        return {}
    title = "Automatic top-up" if found.kind == TopUp.Kind.AUTO else "Top-up"
    return {"title": title, "top_up": str(found.pk) if found.charge_id else ""}


def _of_invoice(found: StripeInvoice | None) -> dict[str, Any]:
    if found is None:
        return {}
    told: dict[str, Any] = {"invoice_url": found.hosted_url}
    if found.month is not None:
        told["title"] = f"Invoice of {found.month:%B %Y}"
    elif found.subscription is not None:
        told["title"] = "Subscription"
    return told


def _of_refund(row: Row, found: Refund | None) -> dict[str, Any]:
    if found is None or row.kind != "refund":
        return {}
    return {"detail": Refund.State(found.state).label.lower()}
