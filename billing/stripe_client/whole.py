"""A subscription with what its state hangs on: its newest invoice, who paid it, what it will become."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from billing.stripe_client import invoices, subscriptions
from billing.stripe_client.door import NotAtStripe
from billing.stripe_client.invoices import InvoiceThere
from billing.stripe_client.subscriptions import SubscriptionThere


@dataclass(frozen=True, slots=True)
class Bill:
    there: InvoiceThere
    paid_by: tuple[str, str]
    """Payment intent and charge, when it is paid and not booked yet."""


@dataclass(frozen=True, slots=True)
class Whole:
    there: SubscriptionThere
    bills: tuple[Bill, ...]
    """The newest last."""
    next_plan: str
    """What it becomes at the period's end: a plan's slug, `free` when it ends then, empty when it stays."""

    @property
    def newest(self) -> InvoiceThere | None:
        return self.bills[-1].there if self.there.latest_invoice else None


def read(subscription_id: str, *, invoice_id: str, booked: Collection[str]) -> Whole:
    """All of it, and one more of its invoices. Of those in `booked` nobody needs to know who paid.

    Raises NotAtStripe, StripeUnreachable, StripeRefused.
    """
    there = subscriptions.retrieve(subscription_id)
    wanted = [each for each in (invoice_id, there.latest_invoice) if each]
    bills = tuple(_bill(each, booked) for each in dict.fromkeys(reversed(wanted)))
    return Whole(there, bills[::-1], _next(there))


def _bill(invoice_id: str, booked: Collection[str]) -> Bill:
    found = invoices.retrieve(invoice_id)
    moved = found.status == "paid" and found.paid_cents and found.id not in booked
    return Bill(found, invoices.payment(invoice_id) if moved else ("", ""))


def _next(there: SubscriptionThere) -> str:
    if there.ends_at is not None:
        return "free"
    if not there.schedule:
        return ""
    try:
        schedule = subscriptions.schedule(there.schedule)
    except NotAtStripe:
        return ""
    last = schedule.prices[-1] if schedule.is_in_force else there.price.id
    return "" if last == there.price.id else subscriptions.price(last).plan
