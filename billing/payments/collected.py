"""Invoices that Stripe collects, as rows of ours, and the money that they bring: booked once, as it came.

Whoever calls holds the lock of the organization's customer, and has asked Stripe how the invoice stands.
"""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import Q

from billing import alerts, ledger, reloads
from billing.core import chart
from billing.core.money import nanos_of_cents, show_usd
from billing.models import Posting, StripeInvoice
from billing.stripe_client.invoices import InvoiceThere
from billing.stripe_client.payments import RefundMade

_FAILED = ("failed", "canceled")


def note(mine: StripeInvoice, there: InvoiceThere) -> None:
    """Write down what Stripe has, but for the money: `paid_at` is set by who books it."""
    mine.stripe_id, mine.state = there.id, there.status or mine.state
    mine.hosted_url, mine.pdf_url = there.hosted_url, there.pdf_url
    mine.due_at = there.due_at or there.finalized_at
    mine.save()


def oddity(there: InvoiceThere, customer: str, prices: Collection[int] | None) -> str:
    """Why a paid invoice is not what we expect; empty when it is. `prices`: one of these cents before tax,
    or None when the total is whatever Stripe reckoned."""
    if there.customer != customer:
        return f"{there.id} is of the customer {there.customer}, not {customer}"
    if there.currency != "usd":
        return f"{there.id} is in {there.currency}"
    if there.paid_elsewhere_cents:
        return f"{there.id} was marked as paid, but {there.paid_elsewhere_cents} cents came beside Stripe"
    if there.paid_cents != there.due_cents:
        return f"{there.id} asks for {there.due_cents} cents and {there.paid_cents} were paid"
    if prices is not None and there.net_cents not in prices:
        return f"{there.id} is over {there.net_cents} cents, which is nothing that we ask for"
    return ""


def tell(mine: StripeInvoice, says: str) -> str:
    """An operator must look: nothing was moved."""
    alerts.raise_alert(
        "stripe_invoice", mine.stripe_id or str(mine.pk), says, organization_id=mine.organization_id
    )
    return says


def book(kind: str, mine: StripeInvoice, there: InvoiceThere, paid_by: tuple[str, str]) -> None:
    """The money of a paid invoice, once: `subscription` is revenue, `invoice_paid` credit of the wallet.

    What was paid by transfer to our bank is `invoice_paid_elsewhere`. `paid_by`: payment intent and charge.
    """
    mine.tax_cents = min(there.tax_cents, there.paid_cents)
    mine.paid_at = there.paid_at or there.created
    mine.state = there.status
    if there.paid_cents:
        intent, charge = paid_by
        mine.payment_intent_id, mine.charge_id = intent or None, charge or None
        ledger.post(
            kind,
            there.id,
            entries=_entries(kind, mine, there.paid_cents, mine.tax_cents),
            organization_id=mine.organization_id,
            source="stripe_invoice",
            note=f"{show_usd(nanos_of_cents(there.paid_cents))} paid",
        )
    mine.save()
    reloads.after_commit(mine.organization.public_id)


def of_payment(refund: RefundMade) -> StripeInvoice | None:
    """The invoice whose payment this refund gives back."""
    known = Q()
    if refund.charge:
        known |= Q(charge_id=refund.charge)
    if refund.payment_intent:
        known |= Q(payment_intent_id=refund.payment_intent)
    return StripeInvoice.unscoped.filter(known).first() if known else None


def give_back(mine: StripeInvoice, refund: RefundMade) -> str:
    """Book a refund of an invoice's payment, or that it failed; words for the event."""
    kind = "subscription_refund" if mine.purpose == StripeInvoice.Purpose.SUBSCRIPTION else "refund"
    booked = Posting.objects.filter(kind=kind, source_id=refund.id).first()
    if refund.status in _FAILED:
        if booked is None:
            return "a refund that failed"
        ledger.reverse(f"{kind}_failed", refund.id, of=booked.pk, source="stripe_refund")
        reloads.after_commit(mine.organization.public_id)
        return "the refund failed: booked back"
    if refund.status not in ("pending", "succeeded"):
        return f"the refund is {refund.status}"
    if refund.currency != "usd" or mine.paid_at is None:
        return tell(mine, f"{refund.id} gives back {refund.cents} {refund.currency} that was never booked")
    if booked is None:
        total = mine.cents + mine.tax_cents
        tax = refund.cents * mine.tax_cents // total if total else 0
        paid_as = "subscription" if kind == "subscription_refund" else "invoice_paid"
        entries = _entries(paid_as, mine, refund.cents, tax)
        ledger.post(
            kind,
            refund.id,
            entries={account: -nanos for account, nanos in entries.items()},
            organization_id=mine.organization_id,
            source="stripe_refund",
            note=f"{show_usd(nanos_of_cents(refund.cents))} given back",
        )
        reloads.after_commit(mine.organization.public_id)
    return "invoice refunded"


def _entries(kind: str, mine: StripeInvoice, cents: int, tax_cents: int) -> ledger.Entries:
    ours: tuple[str, int | None] = (chart.SUBSCRIPTION_REVENUE, None)
    gains = ours if kind == "subscription" else (chart.WALLET, mine.organization_id)
    cash = chart.BANK_CASH if kind == "invoice_paid_elsewhere" else chart.STRIPE_CASH
    moved: dict[tuple[str, int | None], int] = {
        gains: nanos_of_cents(cents - tax_cents),
        (chart.TAX, None): nanos_of_cents(tax_cents),
        (cash, None): -nanos_of_cents(cents),
    }
    return {account: nanos for account, nanos in moved.items() if nanos}
