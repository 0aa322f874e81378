"""Invoices at Stripe: of subscriptions, written by Stripe itself, and of months, line by line by us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from billing.stripe_client import payments
from billing.stripe_client.door import call, every, keyed, v1
from billing.stripe_client.shapes import id_of, metadata_of, time_of
from billing.stripe_client.subscriptions import SubscriptionThere

if TYPE_CHECKING:
    import stripe

_PAGE = 100
MOST_LINES = 100
"""That `add_lines` is given in one call."""


@dataclass(frozen=True, slots=True)
class InvoiceThere:
    """An invoice as Stripe has it now. Amounts are cents."""

    id: str
    status: str
    """`draft`, `open`, `paid`, `void` or `uncollectible`."""
    customer: str
    currency: str
    reason: str
    """Why it was made: `subscription_create`, `subscription_cycle`, `subscription_update`, `manual`, …"""
    subscription: str
    """`sub_…`, or empty."""
    net_cents: int
    """After discounts, before tax."""
    tax_cents: int
    total_cents: int
    due_cents: int
    """The total, less what the customer had to their credit at Stripe."""
    paid_cents: int
    paid_elsewhere_cents: int
    """What was noted as paid, but did not come through Stripe."""
    attempts: int
    """How often the card was charged in vain, or at last not."""
    created: datetime
    finalized_at: datetime | None
    due_at: datetime | None
    paid_at: datetime | None
    hosted_url: str
    pdf_url: str
    lines: tuple[tuple[str, int], ...] = ()
    """What each says, with its days, and its cents; empty when there are more than Stripe shows at once."""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a change would cost now, in cents. `cents` is what the card would be charged, tax included."""

    cents: int
    tax_cents: int


def retrieve(invoice_id: str) -> InvoiceThere:
    """Raises NotAtStripe."""
    return _invoice(call(v1().invoices.retrieve, invoice_id))


def of_customer(customer: str) -> list[InvoiceThere]:
    """Every invoice of the customer, the newest first."""
    found = call(v1().invoices.list, {"customer": customer, "limit": _PAGE})
    return [_invoice(each) for each in every(found)]


def create(
    *,
    customer: str,
    says: str,
    marks: Mapping[str, str],
    days_until_due: int,
    taxed: bool,
    key: str,
) -> InvoiceThere:
    """An empty draft. With zero days until it is due, the customer's card is charged; else it is sent."""
    params: stripe.params.InvoiceCreateParams = {
        "customer": customer,
        "currency": "usd",
        "description": says,
        "metadata": dict(marks),
        "auto_advance": False,
        "pending_invoice_items_behavior": "exclude",
        "collection_method": "send_invoice" if days_until_due else "charge_automatically",
    }
    if days_until_due:
        params["days_until_due"] = days_until_due
    if taxed:
        params["automatic_tax"] = {"enabled": True}
    return _invoice(call(v1().invoices.create, params, keyed(key)))


def add_lines(invoice_id: str, lines: Sequence[tuple[str, int]], *, key: str) -> InvoiceThere:
    """Add lines to a draft: what each says, and its cents; at most `MOST_LINES`."""
    params: stripe.params.InvoiceAddLinesParams = {
        "lines": [{"description": says, "amount": cents} for says, cents in lines]
    }
    return _invoice(call(v1().invoices.add_lines, invoice_id, params, keyed(key)))


def finalize(invoice_id: str, *, key: str) -> InvoiceThere:
    """From here on nothing of it changes, and Stripe collects it by itself. Raises StripeRefused."""
    params: stripe.params.InvoiceFinalizeInvoiceParams = {"auto_advance": True}
    return _invoice(call(v1().invoices.finalize_invoice, invoice_id, params, keyed(key)))


def pay(invoice_id: str, *, key: str) -> InvoiceThere:
    """Charge the customer's card now. Raises CardDeclined, and StripeRefused when it is paid already."""
    params: stripe.params.InvoicePayParams = {"off_session": True}
    return _invoice(call(v1().invoices.pay, invoice_id, params, keyed(key)))


def void(invoice_id: str, *, key: str) -> InvoiceThere:
    """Nobody need pay it any more. Raises StripeRefused when it is paid already."""
    return _invoice(call(v1().invoices.void_invoice, invoice_id, {}, keyed(key)))


def preview(there: SubscriptionThere, price: str) -> Preview:
    """What `subscriptions.upgrade` to this price would charge at this moment."""
    params: stripe.params.InvoiceCreatePreviewParams = {
        "customer": there.customer,
        "subscription": there.id,
        "subscription_details": {
            "items": [{"id": there.item, "price": price}],
            "proration_behavior": "always_invoice",
        },
    }
    found = call(v1().invoices.create_preview, params)
    return Preview(cents=found.amount_due, tax_cents=_tax(found))


def payment(invoice_id: str) -> tuple[str, str]:
    """The payment intent and the charge that paid it, or were to; empty when it was paid otherwise."""
    found = list(every(call(v1().invoice_payments.list, {"invoice": invoice_id, "limit": _PAGE})))
    for each in sorted(found, key=lambda each: each.status != "paid"):
        intent = id_of(each.payment.payment_intent)
        if intent:
            return intent, payments.intent(intent).charge
        if each.payment.charge:
            return "", id_of(each.payment.charge)
    return "", ""


def of_payment(intent_id: str) -> str:
    """The invoice that a payment intent pays, `in_…`; empty when it pays none."""
    paid: stripe.params.InvoicePaymentListParamsPayment = {
        "type": "payment_intent",
        "payment_intent": intent_id,
    }
    found = call(v1().invoice_payments.list, {"payment": paid, "limit": 1})
    return id_of(found.data[0].invoice) if found.data else ""


def _tax(found: stripe.Invoice) -> int:
    return sum(tax.amount for tax in found.total_taxes or ())


def _invoice(found: stripe.Invoice) -> InvoiceThere:
    parent = found.parent.subscription_details if found.parent else None
    turned = found.status_transitions
    tax = _tax(found)
    return InvoiceThere(
        id=found.id,
        status=found.status or "",
        customer=id_of(found.customer),
        currency=found.currency,
        reason=found.billing_reason or "",
        subscription=id_of(parent.subscription) if parent else "",
        net_cents=found.total - tax,
        tax_cents=tax,
        total_cents=found.total,
        due_cents=found.amount_due,
        paid_cents=found.amount_paid,
        paid_elsewhere_cents=getattr(found, "amount_paid_off_stripe", None) or 0,
        attempts=found.attempt_count,
        created=datetime.fromtimestamp(found.created, UTC),
        finalized_at=time_of(turned.finalized_at),
        due_at=time_of(found.due_date),
        paid_at=time_of(turned.paid_at),
        hosted_url=found.hosted_invoice_url or "",
        pdf_url=found.invoice_pdf or "",
        lines=() if found.lines.has_more else tuple(_line(each) for each in found.lines.data),
        metadata=metadata_of(found.metadata),
    )


def _line(found: stripe.InvoiceLineItem) -> tuple[str, int]:
    since, until = (datetime.fromtimestamp(at, UTC) for at in (found.period.start, found.period.end))
    days = f"{since:%-d %B %Y} to {until:%-d %B %Y}"
    return (f"{found.description}, {days}" if found.description else days), found.amount
