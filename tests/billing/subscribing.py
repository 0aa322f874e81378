"""What tests of subscriptions and postpaid months share: organizations on a clock that tests move."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe

from accounts.models import Membership, Organization, User
from aggregator.lib import clock
from billing import wallets
from billing.models import Alert, Customer, Letter, Posting, Subscription
from billing.payments import subscriptions
from billing.stripe_client import catalog, door
from tests.billing import books, stripe_stand

CENT = 10_000_000
GOOD, BAD = "pm_card_visa", "pm_card_chargeCustomerFail"
"""The second can be saved, but every charge of it is declined."""


_CLIENT = door._client.__wrapped__


@functools.cache
def impatient(key: str, base: str) -> stripe.StripeClient:
    """A client that tries once, for tests of what is done after that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door, "RETRIES", 0)
        return _CLIENT(key, base)


class World:
    """One organization, its customer at Stripe, and one time for both of us."""

    def __init__(self, stand: stripe_stand.Stand, patch: pytest.MonkeyPatch, at: datetime) -> None:
        self.stand, self.patch = stand, patch
        self.v1 = stand.client().v1
        self._now = at
        patch.setattr(clock, "now", lambda: self._now)
        self.clock = self.v1.test_helpers.test_clocks.create({"frozen_time": int(at.timestamp())}).id
        for plan, cents in (("pro", 9_99), ("business", 99_00)):
            catalog.create_product(f"plan_{plan}", plan.title(), key=f"product-{plan}")
            catalog.create_price(plan, f"plan_{plan}", cents, key=f"price-{plan}")
        self.owner = User.objects.create_user("owner@example.com")
        self.acme = Organization.objects.create(slug="acme", name="Acme")
        Membership.objects.create(organization=self.acme, user=self.owner, role="owner")
        patch.setattr("django.conf.settings.STARTING_CREDIT_USD", 0)
        wallets.open_wallet(self.acme.pk)
        marks = {"organization": self.acme.public_id}
        made = self.v1.customers.create(
            {"email": self.owner.email, "metadata": marks, "test_clock": self.clock}
        )
        self.customer = made.id
        Customer.objects.create(organization=self.acme, email=self.owner.email, stripe_id=made.id)

    @property
    def now(self) -> datetime:
        return self._now

    def go(self, to: datetime | timedelta) -> None:
        """Move both clocks; Stripe does what falls due on the way."""
        self._now = self._now + to if isinstance(to, timedelta) else to
        self.v1.test_helpers.test_clocks.advance(self.clock, {"frozen_time": int(self._now.timestamp())})

    def card(self, name: str = GOOD) -> None:
        """The card that invoices are charged to from now on."""
        card = self.v1.payment_methods.attach(name, {"customer": self.customer}).id
        self.v1.customers.update(self.customer, {"invoice_settings": {"default_payment_method": card}})
        for each in self.there("subscription"):
            if each["status"] not in ("canceled", "incomplete_expired"):
                self.v1.subscriptions.update(each["id"], {"default_payment_method": card})

    def there(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.stand.look("objects", customer=self.customer).get(kind, [])
        return found

    def subscribe(self, plan: str = "pro") -> Subscription:
        url = subscriptions.begin(self.acme, plan, by=self.owner)
        assert self.stand.pay(url).status_code == 303
        row = subscriptions.look(self.acme)
        assert row is not None
        return row

    def row(self) -> Subscription:
        return Subscription.objects.of(self.acme).order_by("-created_at").first()

    def hear(self) -> None:
        """All that Stripe has told of subscriptions and invoices, the newest first; each object once, and
        what came first twice."""
        told = self.stand.events()
        for event in [*{event["data"]["object"]["id"]: event for event in reversed(told)}.values(), told[0]]:
            tell(event)

    def plan(self) -> str:
        return wallets.open_wallet(self.acme.pk).plan

    def balance(self) -> int:
        return books.balance(self.acme)


def tell(event: dict[str, Any]) -> None:
    """As the inbox does: by type, and nothing of it but the id."""
    about = event["data"]["object"]
    if event["type"].startswith("customer.subscription."):
        subscriptions.refresh(about["id"])
    elif event["type"].startswith("invoice."):
        subscriptions.refresh_invoice(about["id"])
    elif event["type"].startswith("checkout.session.") and about["mode"] == "subscription":
        subscriptions.refresh_session(about["id"])


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def cents(kind: str) -> list[int]:
    """What each posting of this kind took in or gave out at Stripe, in cents, oldest first."""
    found = []
    for posting in Posting.objects.filter(kind=kind).order_by("pk"):
        cash = posting.entries.get(account__kind="stripe_cash")
        assert cash.nanos % CENT == 0
        found.append(-cash.nanos // CENT)
    return found


def letters() -> list[str]:
    return list(Letter.unscoped.order_by("created_at").values_list("kind", flat=True))


def alerts() -> list[str]:
    return sorted(Alert.objects.filter(resolved_at=None).values_list("kind", flat=True))
