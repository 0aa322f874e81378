"""What a webhook that was down did not bring is found in Stripe's own list, by id, as often as one looks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client

from accounts.models import Organization
from aggregator.lib import clock
from billing import alerts
from billing.models import Alert, Card, StripeEvent
from billing.payments import customers, inbox, pull
from billing.stripe_client import events
from tests.billing import books, stripe_stand
from tests.billing.stripe_stand import Stand

pytestmark = pytest.mark.django_db


@pytest.fixture
def stand(settings: Any) -> Iterator[Stand]:
    stand = stripe_stand.running()
    settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE = stand.key, stand.url
    settings.STRIPE_WEBHOOK_SECRETS = [stand.webhook_secret]
    stand.reset()
    return stand


def attach(stand: Stand, customer: str, count: int) -> list[str]:
    methods = stand.client().v1.payment_methods
    return [methods.attach("pm_card_visa", {"customer": customer}).id for _ in range(count)]


def customer_of(owner: Organization) -> str:
    return customers.ensure(owner, email="olga@example.com")


def deliver(client: Client, stand: Stand, told: dict[str, Any]) -> None:
    body, signature = stand.signed(told)
    headers = {"Stripe-Signature": signature}
    answer = client.post("/hooks/stripe", body, content_type="application/json", headers=headers)
    assert answer.status_code == 200


def handle_all() -> None:
    for event in inbox.waiting():
        assert inbox.handle(event)


def test_f47_after_an_hour_without_webhooks_a_burst_and_a_pull_make_it_complete(stand: Stand):
    """Three cards come and two of them go; the burst brings half of it, twice and backwards."""
    owner = books.make_organization(usd="0")
    customer = customer_of(owner)
    cards = attach(stand, customer, 3)
    for card in cards[:2]:
        stand.client().v1.payment_methods.detach(card)
    told = [each for each in stand.events() if each["type"] in inbox.TYPES]
    assert len(told) == 5
    assert not Card.objects.of(owner).exists()

    client = Client()
    with time_machine.travel(clock.now() + timedelta(hours=1), tick=False):
        for each in [*told[::-2], *told[::-2]]:
            deliver(client, stand, each)
        assert pull.pull() == 2
        handle_all()

        assert [card.stripe_id for card in Card.objects.of(owner).filter(removed_at=None)] == [cards[2]]
        assert StripeEvent.objects.filter(source="pull").count() == 2
        assert set(StripeEvent.objects.values_list("pk", flat=True)) >= {each["id"] for each in told}
        assert not StripeEvent.objects.filter(handled_at=None).exists()
        assert "did not bring 2 events" in Alert.objects.get().says

        # The newest card was made the default, of which Stripe tells as well.
        assert pull.pull() == 1
        assert StripeEvent.objects.get(handled_at=None).type == "customer.updated"
        assert pull.pull() == 0
    assert alerts.open_alerts() == []


def test_what_is_on_its_way_is_fetched_without_an_alarm_and_stored_once(stand: Stand):
    owner = books.make_organization(usd="0")
    attach(stand, customer_of(owner), 1)
    (told,) = stand.events("payment_method.attached")

    assert pull.pull() == 1
    deliver(Client(), stand, told)

    assert StripeEvent.objects.get().source == "pull"
    assert not Alert.objects.exists()


def test_a_pull_looks_back_two_hours_and_the_nightly_one_four_days(stand: Stand):
    owner = books.make_organization(usd="0")
    attach(stand, customer_of(owner), 1)
    with time_machine.travel(clock.now() + timedelta(hours=3), tick=False):
        assert pull.pull() == 0
        assert pull.pull(pull.LONG) == 1
    with time_machine.travel(clock.now() + timedelta(days=4, minutes=1), tick=False):
        StripeEvent.objects.all().delete()
        assert pull.pull(pull.LONG) == 0


def test_a_list_of_many_pages_and_many_types_is_read_to_its_end(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(events, "_PAGE", 2)
    owner = books.make_organization(usd="0")
    customer = customer_of(owner)
    cards = attach(stand, customer, 5)

    found = events.listed(
        ["charge.failed"] * 20 + ["payment_method.attached"], clock.now() - timedelta(hours=1)
    )

    assert sorted(each.object_id for each in found) == sorted(cards)


def test_types_that_concern_nothing_of_ours_are_not_pulled(stand: Stand):
    customer_of(books.make_organization(usd="0"))
    assert stand.events("customer.created")

    assert pull.pull() == 0
    assert not StripeEvent.objects.exists()
