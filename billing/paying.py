"""A payment whose person has come back from Stripe's page: looked up there, and told in words."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from accounts.models import Organization
from aggregator.lib import clock
from billing.core.money import nanos_of_cents, show_usd
from billing.models import Customer, Subscription, TopUp
from billing.payments import customers, subscriptions, top_ups
from billing.stripe_client import payments

TOP_UP, SUBSCRIPTION = "top_up", "subscription"

_LOOKS = ((timedelta(minutes=2), 2), (timedelta(minutes=30), 15))
"""How long after its beginning a payment is looked at every so many seconds; later, when the page is."""


@dataclass(frozen=True, slots=True)
class Payment:
    """`tone` and `icon` are the page's; `seconds` until the next look, zero for none."""

    what: str
    id: uuid.UUID
    tone: str
    icon: str
    heading: str
    says: str
    continue_url: str = ""
    seconds: int = 0
    is_paid: bool = False


def find(organization: Organization, what: str, id: uuid.UUID, *, left: bool = False) -> Payment | None:
    """The payment as Stripe has it now; None when this organization has none of this id.

    `left` says that the person came back by the way out of the payment page.
    """
    if what == TOP_UP:
        return _top_up(organization, id, left)
    return _subscription(organization, id, left)


def after_portal(organization: Organization) -> None:
    """Look up what may have changed at Stripe's portal: cards, and the subscription.

    Raises StripeUnreachable, StripeRefused.
    """
    customer = Customer.objects.of(organization).exclude(stripe_id=None).first()
    if customer is not None and customer.stripe_id:
        customers.refresh(customer.stripe_id)
    living = Subscription.objects.of(organization).filter(ended_at=None).exclude(stripe_id=None).first()
    if living is not None and living.stripe_id:
        subscriptions.refresh(living.stripe_id)


def receipt_url(row: TopUp) -> str:
    """Stripe's receipt of a paid top-up. Raises StripeUnreachable, StripeRefused."""
    return payments.charge(str(row.charge_id)).receipt_url


def _top_up(organization: Organization, id: uuid.UUID, left: bool) -> Payment | None:
    row = TopUp.objects.of(organization).filter(pk=id).first()
    if row is None:
        return None
    row = top_ups.look(row)
    amount = show_usd(nanos_of_cents(row.cents))
    if row.state == TopUp.State.PAID:
        return Payment(
            *(TOP_UP, id, "success", "check", "Credit added"),
            f"{amount} came in and can be spent now.",
            is_paid=True,
        )
    if row.state == TopUp.State.FAILED:
        return Payment(
            *(TOP_UP, id, "danger", "alert-circle", "The payment failed"),
            f"{row.failure_message or 'The bank said no.'} Nothing was charged. Try again, or another card.",
        )
    if row.state == TopUp.State.EXPIRED:
        return _abandoned(TOP_UP, id, "")
    if left:
        return _abandoned(TOP_UP, id, row.session_url)
    return _waiting(TOP_UP, id, row.created_at, row.session_url, f"Top-up of {amount}")


def _subscription(organization: Organization, id: uuid.UUID, left: bool) -> Payment | None:
    rows = Subscription.objects.of(organization)
    row = rows.filter(pk=id).first()
    if row is None:
        return None
    if row.state == Subscription.State.OPEN:
        subscriptions.look(organization)
        row = rows.get(pk=id)
    plan = row.plan.capitalize()
    if row.state == Subscription.State.ACTIVE:
        return Payment(
            *(SUBSCRIPTION, id, "success", "check", f"You are on {plan}"),
            "Its mark-up counts for every call from now on.",
            is_paid=True,
        )
    if row.state in (Subscription.State.EXPIRED, Subscription.State.ENDED):
        return _abandoned(SUBSCRIPTION, id, "")
    if row.state == Subscription.State.PAST_DUE:
        return None
    if left:
        return _abandoned(SUBSCRIPTION, id, row.session_url)
    return _waiting(SUBSCRIPTION, id, row.created_at, row.session_url, f"Subscription to {plan}")


def _abandoned(what: str, id: uuid.UUID, url: str) -> Payment:
    return Payment(
        *(what, id, "info", "arrow-back-up", "The payment was not finished"),
        "Nothing was charged." + ("" if url else " Begin again whenever you like."),
        continue_url=url,
    )


def _waiting(what: str, id: uuid.UUID, since: datetime, url: str, title: str) -> Payment:
    age = clock.now() - since
    seconds = next((seconds for limit, seconds in _LOOKS if age < limit), 0)
    return Payment(
        *(what, id, "info", "hourglass", "Payment under way"),
        f"{title}: Stripe has not confirmed it yet. This page looks again by itself; you may also leave it.",
        continue_url=url,
        seconds=seconds,
    )
