"""A shop at the simulated Stripe: two plans, and a customer with a clock of its own."""

from __future__ import annotations

from datetime import UTC, datetime

import stripe

from tests.billing import stripe_stand

STAND = stripe_stand.running()
V1 = STAND.client(max_network_retries=0).v1
START = int(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp())
DAY = 24 * 60 * 60


class Shop:
    """Two plans, a clock, and a customer whose time it is."""

    def __init__(self, card: str = "pm_card_visa") -> None:
        self.clock = V1.test_helpers.test_clocks.create({"frozen_time": START})
        self.customer = V1.customers.create(
            {"email": "pat@example.com", "address": {"country": "US"}, "test_clock": self.clock.id}
        )
        self.pro, self.business = self._price("Pro", 2000), self._price("Business", 8000)
        self.use(card)

    def _price(self, name: str, cents: int) -> stripe.Price:
        return V1.prices.create(
            {
                "currency": "usd",
                "unit_amount": cents,
                "recurring": {"interval": "month"},
                "product_data": {"name": name},
            }
        )

    def use(self, card: str) -> None:
        """Make this the default card."""
        method = V1.payment_methods.attach(card, {"customer": self.customer.id})
        V1.customers.update(self.customer.id, {"invoice_settings": {"default_payment_method": method.id}})

    def subscribe(self, **more: object) -> stripe.Subscription:
        wanted = {"customer": self.customer.id, "items": [{"price": self.pro.id}], **more}
        return V1.subscriptions.create(wanted)

    def advance(self, days: float) -> None:
        self.clock = V1.test_helpers.test_clocks.advance(
            self.clock.id, {"frozen_time": self.clock.frozen_time + int(days * DAY)}
        )


def period(subscription: stripe.Subscription) -> tuple[str, str]:
    item = subscription["items"].data[0]
    times = (item.current_period_start, item.current_period_end)
    return tuple(f"{datetime.fromtimestamp(at, tz=UTC):%m-%d}" for at in times)


def invoices(shop: Shop) -> list[tuple[str, str, int]]:
    found = V1.invoices.list({"customer": shop.customer.id}).data
    return [(each.billing_reason, each.status, each.total) for each in reversed(found)]
