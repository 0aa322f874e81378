"""The open month as its document would be now: what is posted, and what will be."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

from accounts.models import Organization
from aggregator.lib import clock
from billing import rebates, stretches
from billing.core.money import Nanos, usd
from billing.documents import content, movements, usage_lines
from billing.documents.content import Heading
from billing.models import AgreedTerms, Document


def statement(
    organization: Organization, month: date | None = None, *, most: int | None = None
) -> dict[str, Any]:
    """Of this month, or of one before it that is not closed yet, `most` lines one by one. Rebate and fee that
    are to come are in the total, with `posted` false, and not in the closing balance. Nothing is written."""
    month = (month or clock.now().date()).replace(day=1)
    top, coming, moved = _begun(organization, month)
    rows = usage_lines.read(organization.pk, month, unposted=True)
    bill = usage_lines.bill(organization.pk, month, rows)
    opening = movements.opening_balance(organization.pk, month)
    said = {**top.content(month), **bill.content(most=most), **moved.content()}
    if coming:
        until = stretches.bounds(month)[1]
        said["fees"] = [movements.fee(f"Fee of {month:%B %Y}", until, coming, posted=False)]
    reckoned = rebates.reckon(organization.pk, month)
    posted = moved.gained("rebate")
    rebate = posted or reckoned.rebate
    return {
        **said,
        "rebate": content.rebate_of(reckoned.detail(), rebate, posted=posted > 0) if rebate else None,
        "opening_balance": usd(opening),
        "closing_balance": usd(opening + moved.gained() - bill.total),
        "total": usd(_total(bill.total, coming, moved, rebate)),
    }


def heading(organization: Organization) -> dict[str, Any]:
    """The same of this month without its lines: to whom it is made out, and its total."""
    month = clock.now().date().replace(day=1)
    top, coming, moved = _begun(organization, month)
    charged = usage_lines.charged(organization.pk, month)
    rebate = moved.gained("rebate") or rebates.accrued(organization.pk, month)
    total = _total(charged, coming, moved, rebate)
    return {**top.content(month), "total": usd(total)}


def _begun(organization: Organization, month: date) -> tuple[Heading, Nanos, movements.Month]:
    """What it is headed by, the fee that is to come, and what was booked beside usage."""
    terms = stretches.of(organization.pk, month)[-1].terms
    top = content.heading(organization, Document.Kind.STATEMENT, Document.Purpose.MONTH, None, clock.now())
    moved = movements.of_month(organization.pk, month)
    top = replace(top, plan="" if terms is None else terms.plan)
    return top, _fee_to_come(month, terms, moved), moved


def _total(charged: Nanos, coming: Nanos, moved: movements.Month, rebate: Nanos) -> Nanos:
    return charged + coming - moved.gained("monthly_fee") - rebate


def _fee_to_come(month: date, terms: AgreedTerms | None, moved: movements.Month) -> Nanos:
    """What who pays afterwards is going to be asked for the month itself."""
    if terms is None or not terms.postpaid or moved.gained("monthly_fee"):
        return 0
    return terms.monthly_nanos
