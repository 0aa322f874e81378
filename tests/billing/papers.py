"""Contents of documents as `billing.documents` writes them, with sums that are right."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

KINDS = ("input", "cache_read", "cache_write_5m", "image", "output", "reasoning")
PRICES = ("2.5", "0.25", "3.125", "2.5", "10", "10")
SELLER = {
    "name": "Fairlead GmbH",
    "address": ["Am Sandtorkai 1", "20457 Hamburg", "Germany"],
    "tax_id": "DE999999999",
    "email": "billing@fairlead.example",
}
BUYER = {
    "name": "Harbour Works Ltd",
    "id": "org_8Fk2v9Qw3pLm",
    "email": "accounts@harbour.example",
    "address": ["14 Quay Street", "Bristol BS1 4RS", "United Kingdom"],
    "tax_id": "GB123456789",
    "reference": "PO-2026-0417",
}

CORRECTED = {
    "id": "0193b5a0-0000-7000-8000-000000000041",
    "number": "IN-2026-000041",
    "issued_at": "2026-11-01T06:00:00+00:00",
    "reason": "A provider billed a cache read twice.",
    "to": "wallet",
}


def line(at: int = 0, **changes: Any) -> dict[str, Any]:
    """One line of usage: units × unit price = base, and 5 % on it."""
    items, base = [], Decimal(0)
    for number, (kind, price) in enumerate(zip(KINDS, PRICES, strict=True)):
        units = (at + 1) * (number + 3) * 10_007
        amount = units * Decimal(price) / 1_000_000
        base += amount
        items.append({"kind": kind, "units": units, "unit_price": price, "base": format(amount, "f")})
    markup = base * Decimal("0.05")
    return {
        "model": f"acme/swift-{at // 3}",
        "endpoint": f"acme:swift-{at}",
        "provider": ("Acme", "Bolt Cloud", "Cirrus")[at % 3],
        "key": f"key_{at:016d}",
        "key_name": f"Nightly job {at}",
        "used_in": None,
        "kind": "charged",
        "requests": 1200 + at,
        "markup": "0.05",
        "price": 40 + at,
        "window": 0,
        "tier": 0,
        "items": items,
        "base": format(base, "f"),
        "markup_amount": format(markup, "f"),
        "amount": format(base + markup, "f"),
        **changes,
    }


def content(
    kind: str = "statement", *, lines: int = 7, others: Sequence[dict[str, Any]] = (), **changes: Any
) -> dict[str, Any]:
    """A statement, a postpaid month's invoice, or a credit note."""
    usage = [line(at) for at in range(lines)] if kind != "credit_note" else []
    if lines > 4 and usage:
        usage[2] |= {"used_in": "2026-10"}
        usage[3] |= {"kind": "capped", "tier": 1}
    exact = _sum([*usage, *others])
    uncharged = Decimal("-0.000731042") if usage else Decimal(0)
    booked = (exact + uncharged).quantize(Decimal("0.000000001"))
    rebate, fee = Decimal("1.25"), Decimal(500)
    total = Decimal("12.5") if kind == "credit_note" else booked
    if usage:
        total = booked + fee - rebate
    late = [each for each in usage if each["used_in"]]
    found: dict[str, Any] = {
        "version": 2,
        "kind": kind,
        "purpose": {"statement": "month", "invoice": "postpaid", "credit_note": "correction"}[kind],
        "number": {"statement": "ST", "invoice": "IN", "credit_note": "CN"}[kind] + "-2026-000042",
        "issued_at": "2026-12-01T06:00:00+00:00",
        "currency": "USD",
        "month": "2026-11",
        "period": {"from": "2026-11-01T00:00:00+00:00", "until": "2026-12-01T00:00:00+00:00"},
        "seller": SELLER,
        "buyer": BUYER,
        "plan": "business",
        "usage": usage,
        "others": list(others),
        "uncharged": _text(uncharged),
        "rounding": _text(booked - exact - uncharged),
        "usage_total": _text(booked),
        "requests": sum(each["requests"] for each in usage),
        "late": {"requests": sum(each["requests"] for each in late), "amount": _text(_sum(late))},
        "subscription": [],
        "rebate": None,
        "fees": [],
        **{name: [] for name in ("credits", "refunds", "disputes", "expired", "tax")},
        "opening_balance": None,
        "closing_balance": None,
        "due": None,
        "corrects": None,
        "total": _text(total),
    }
    if usage:
        found |= _of_month(rebate, fee, total)
    if kind == "invoice":
        found["due"] = _due(total)
    if kind == "credit_note":
        found |= {"tax": [{"kind": "credit_note", "says": "Tax", "amount": "2.375"}], "corrects": CORRECTED}
    return found | changes


def subscription() -> dict[str, Any]:
    """The invoice of a plan's period."""
    paid = {"says": "Business, 1 × month", "at": "2026-12-01T06:00:00+00:00", "amount": "500", "tax": "0"}
    due = {"carried": "0", "cents": 50000, "tax_cents": 9500, "total_cents": 59500, "due_at": None}
    return content("credit_note") | {
        "kind": "invoice",
        "purpose": "subscription",
        "number": "IN-2026-000043",
        "month": None,
        "period": None,
        "subscription": [{**paid, "invoice": "in_1Example"}],
        "tax": [{"kind": "subscription", "says": "Tax", "amount": "95"}],
        "due": {**due, "stripe_invoice": "in_1Example"},
        "corrects": None,
        "total": "500",
    }


def _of_month(rebate: Decimal, fee: Decimal, total: Decimal) -> dict[str, Any]:
    share = {
        "from": "2026-11-01T00:00:00+00:00",
        "until": "2026-12-01T00:00:00+00:00",
        "plan": "business",
        "rate": "0.05",
        "threshold": "25",
        "basis": "billed",
        "usage": "50",
        "amount": _text(rebate),
    }
    top_up = {
        "says": "Top-up by card",
        "at": "2026-11-04T10:20:00+00:00",
        "kind": "top_up",
        "amount": "1000",
        "tax": "190",
        "expires_at": None,
        "source": "pi_1Example",
    }
    return {
        "opening_balance": "20",
        "credits": [top_up],
        "closing_balance": _text(1020 - total),
        "rebate": {"amount": _text(rebate), "posted": True, "detail": [share]},
        "fees": [
            {"says": "Business, November 2026", "at": top_up["at"], "amount": _text(fee), "posted": True}
        ],
        "tax": [{"kind": "top_up", "says": "Top-up", "amount": "190"}],
    }


def _due(total: Decimal) -> dict[str, Any]:
    cents = int(total.scaleb(2))
    return {
        "carried": _text(Decimal(cents).scaleb(-2) - total),
        "cents": cents,
        "tax_cents": 9500,
        "total_cents": cents + 9500,
        "due_at": "2026-12-31T06:00:00+00:00",
        "stripe_invoice": "in_1Example",
    }


def _sum(lines: list[dict[str, Any]]) -> Decimal:
    return sum((Decimal(each["amount"]) for each in lines), Decimal(0))


def _text(amount: Decimal) -> str:
    return format(amount.normalize(), "f") if amount else "0"


def other(lines: int, model: str) -> dict[str, Any]:
    """Lines that are summed by model."""
    return {
        "model": model,
        "lines": lines,
        "requests": 9,
        "base": "2",
        "markup_amount": "0.1",
        "amount": "2.1",
    }


def issue(
    organization: Any,
    kind: str = "statement",
    *,
    month: date = date(2026, 11, 1),
    corrects: Any = None,
    pdf: bytes | None = None,
    asked: Any = None,
    **said: Any,
) -> Any:
    """A document's row as `billing.documents` writes it, without the month behind it; `asked`: for which
    invoice of Stripe's."""
    from billing.models import Document

    made = content(kind, month=f"{month:%Y-%m}", **said)
    number = f"{made['number'][:2]}-{month:%Y}-{uuid.uuid4().hex[:6]}"
    if corrects is not None:
        made["corrects"] = CORRECTED | {"id": str(corrects.pk), "number": corrects.number}
    due = made["due"] or {}
    return Document.objects.create(
        organization=organization,
        kind=kind,
        purpose=made["purpose"],
        number=number,
        month=month,
        corrects=corrects,
        stripe_invoice=asked,
        content={**made, "number": number},
        total_nanos=int(Decimal(made["total"]).scaleb(9)),
        cents=due.get("cents"),
        tax_cents=due.get("tax_cents", 0),
        issued_at=datetime(month.year, month.month, 2, 6, tzinfo=UTC),
        pdf=pdf,
    )
