"""What a document says, put together from rows. The package's docstring has the shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.conf import settings

from accounts.models import Organization
from billing import letters, stretches
from billing.core.money import Nanos, nanos_of_cents, usd
from billing.documents import movements, usage_lines
from billing.documents.movements import instant
from billing.models import BillingProfile, Document, MonthClose, StripeInvoice

VERSION = 2
"""Of documents that are issued now. It grows with every change in what is said of the same rows; what was
issued before is put together as it was then. Version 1 does not say which it is."""

_NOTHING: Mapping[str, Any] = {
    "usage": [],
    "others": [],
    "uncharged": "0",
    "rounding": "0",
    "usage_total": "0",
    "requests": 0,
    "late": {"requests": 0, "amount": "0"},
    "subscription": [],
    "rebate": None,
    "fees": [],
    "credits": [],
    "refunds": [],
    "disputes": [],
    "expired": [],
    "tax": [],
    "opening_balance": None,
    "closing_balance": None,
    "due": None,
    "corrects": None,
}


class Differs(RuntimeError):
    """What a document would say does not add up. Nothing is issued."""


@dataclass(frozen=True, slots=True)
class Heading:
    """What is said of a document as a whole, in words as they are when it is issued."""

    kind: str
    purpose: str
    number: str | None
    issued_at: datetime
    seller: Mapping[str, Any]
    buyer: Mapping[str, Any]
    plan: str
    version: int = VERSION

    def content(self, month: date | None) -> dict[str, Any]:
        period = None
        if month is not None:
            since, until = stretches.bounds(month)
            period = {"from": instant(since), "until": instant(until)}
        return {
            **_NOTHING,
            **({} if self.version == 1 else {"version": self.version}),
            "kind": self.kind,
            "purpose": self.purpose,
            "number": self.number,
            "issued_at": instant(self.issued_at),
            "currency": "USD",
            "month": None if month is None else f"{month:%Y-%m}",
            "period": period,
            "seller": dict(self.seller),
            "buyer": dict(self.buyer),
            "plan": self.plan,
        }


@dataclass(frozen=True, slots=True)
class Said:
    """A document's content, and its total in nanos."""

    content: dict[str, Any]
    total: Nanos


def canonical(content: Mapping[str, Any]) -> bytes:
    """The one way to write it: sorted keys, no spaces, UTF-8."""
    written = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return written.encode()


def seller() -> dict[str, Any]:
    return {
        "name": settings.SELLER_NAME,
        "address": list(settings.SELLER_ADDRESS),
        "tax_id": settings.SELLER_TAX_ID,
        "email": settings.SELLER_EMAIL,
    }


def buyer(organization: Organization) -> dict[str, Any]:
    """As its billing profile says, and where that says nothing, as the organization is known."""
    profile = BillingProfile.objects.of(organization).first() or BillingProfile(organization=organization)
    readers = [] if profile.email else letters.readers(organization.pk)
    return {
        "name": profile.name or organization.name,
        "id": organization.public_id,
        "email": profile.email or (readers[0] if readers else ""),
        "address": [line.strip() for line in profile.address.splitlines() if line.strip()],
        "tax_id": profile.tax_id,
        "reference": profile.reference,
    }


def heading(organization: Organization, kind: str, purpose: str, number: str | None, at: datetime) -> Heading:
    """With seller and buyer as they are now; the plan is the one of who calls."""
    return Heading(kind, purpose, number, at, seller(), buyer(organization), "")


def of_month(
    organization_id: int,
    month: date,
    top: Heading,
    *,
    asked: StripeInvoice | None = None,
    names: Mapping[str, str] | None = None,
) -> Said:
    """A closed month: a statement, or with `asked` the invoice that Stripe collects. Raises `Differs`."""
    bill = usage_lines.bill(organization_id, month, usage_lines.read(organization_id, month), names=names)
    moved = movements.of_month(organization_id, month)
    opening = movements.opening_balance(organization_id, month)
    closed = MonthClose.objects.of(organization_id).get(month=month)
    if bill.total != closed.charged_nanos:
        raise Differs(f"its lines come to {bill.total} nanos, its close to {closed.charged_nanos}")
    rebate, fees = moved.gained("rebate"), -moved.gained("monthly_fee")
    if rebate != closed.rebate_nanos:
        raise Differs(f"its rebate is {rebate} nanos in the ledger, {closed.rebate_nanos} in its close")
    total = bill.total + fees - rebate
    content = {
        **top.content(month),
        **bill.content(),
        **moved.content(),
        "rebate": rebate_of(closed.detail, rebate) if rebate else None,
        "opening_balance": usd(opening),
        "closing_balance": usd(opening + moved.gained() - bill.total),
        "due": None if asked is None else due(asked, total),
        "total": usd(total),
    }
    return Said(content, total)


def of_subscription(row: StripeInvoice, top: Heading) -> Said:
    """A paid invoice of a plan's period."""
    lines = [(says, cents) for says, cents in row.lines] or [("Subscription", row.cents)]
    if sum(cents for _, cents in lines) != row.cents:
        raise Differs(
            f"its lines come to {sum(cents for _, cents in lines)} cents, the invoice to {row.cents}"
        )
    at = instant(row.paid_at or row.created_at)
    total = nanos_of_cents(row.cents)
    content = {
        **top.content(None),
        "subscription": [
            {
                "says": says,
                "at": at,
                "amount": usd(nanos_of_cents(cents)),
                "tax": "0",
                "invoice": row.stripe_id,
            }
            for says, cents in lines
        ],
        "tax": _tax("subscription", nanos_of_cents(row.tax_cents)),
        "due": due(row, total),
        "total": usd(total),
    }
    return Said(content, total)


def of_correction(corrected: Document, top: Heading, *, reason: str, nanos: Nanos, tax: Nanos) -> Said:
    """A credit note over `nanos`, and the part of the tax that goes back with it."""
    content = {
        **top.content(corrected.month),
        "tax": _tax("credit_note", tax),
        "corrects": {
            "id": str(corrected.pk),
            "number": corrected.number,
            "issued_at": instant(corrected.issued_at),
            "reason": reason,
            "to": "wallet",
        },
        "total": usd(nanos),
    }
    return Said(content, nanos)


def due(row: StripeInvoice, total: Nanos) -> dict[str, Any]:
    return {
        "carried": usd(nanos_of_cents(row.cents) - total),
        "cents": row.cents,
        "tax_cents": row.tax_cents,
        "total_cents": row.cents + row.tax_cents,
        "due_at": None if row.due_at is None else instant(row.due_at),
        "stripe_invoice": row.stripe_id,
    }


def rebate_of(detail: list[dict[str, Any]], nanos: Nanos, *, posted: bool = True) -> dict[str, Any]:
    """The rebate with its arithmetic, from what `MonthClose.detail` says."""
    return {"amount": usd(nanos), "posted": posted, "detail": [_share(line) for line in detail]}


def _share(line: Mapping[str, Any]) -> dict[str, Any]:
    amount = usage_lines.plain(Decimal(line["rebate"]))
    if "late" in line:
        return {"used_in": line["late"], "usage": usd(line["charge_nanos"]), "amount": amount}
    on_base = line["basis"] == "base"
    return {
        "from": line["from"],
        "until": line["until"],
        "plan": line["plan"],
        "rate": usage_lines.literal(Decimal(line["rate"])),
        "threshold": usd(line["threshold_nanos"]),
        "basis": line["basis"],
        "usage": usd(line["base_nanos"] if on_base else line["charge_nanos"]),
        "amount": amount,
    }


def _tax(kind: str, nanos: Nanos) -> list[dict[str, Any]]:
    return [{"kind": kind, "says": "Tax", "amount": usd(nanos)}] if nanos else []
