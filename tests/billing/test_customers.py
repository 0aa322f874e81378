"""One customer at Stripe for each organization, whatever is lost on the way, and its cards as there."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import connection

from accounts.models import Organization
from aggregator.lib import clock
from billing.models import Alert, Card, Customer
from billing.payments import customers
from billing.stripe_client import catalog
from billing.stripe_client import customers as there
from billing.stripe_client.door import StripeUnreachable
from tests.billing import books, stripe_stand
from tests.billing.stripe_stand import Stand

pytestmark = pytest.mark.django_db

EMAIL = "olga@example.com"


@pytest.fixture
def stand(settings: Any) -> Iterator[Stand]:
    stand = stripe_stand.running()
    settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE = stand.key, stand.url
    stand.reset()
    return stand


def organization() -> Organization:
    return books.make_organization(usd="0")


def made(stand: Stand) -> list[str]:
    """The customers that there are."""
    return [each["id"] for each in stand.look("objects").get("customer", [])]


def attach(stand: Stand, customer_id: str, method: str = "pm_card_visa") -> str:
    return stand.client().v1.payment_methods.attach(method, {"customer": customer_id}).id


def test_an_organization_without_anybody_who_looks_after_billing_is_made_a_customer_too(stand: Stand):
    nobodys = organization()

    assert customers.ensure(nobodys, email=customers.email(nobodys, "postpaid")) in made(stand)


def test_an_organization_is_made_a_customer_once(stand: Stand):
    owner = organization()

    first = customers.ensure(owner, email=EMAIL)
    again = customers.ensure(owner, email="another@example.com")

    assert first == again
    assert made(stand) == [first]
    assert there.retrieve(first) == there.CustomerThere(first, owner.public_id, EMAIL, "")


def test_f48_a_customer_whose_making_timed_out_after_it_was_made_is_made_once(stand: Stand):
    owner = organization()
    stand.mishap("POST /v1/customers", "lose")

    only = customers.ensure(owner, email=EMAIL)

    assert made(stand) == [only]


def test_f48_a_customer_whose_maker_died_before_it_heard_the_answer_is_made_once(stand: Stand):
    """The row was committed before the call, so the next who asks uses the same key."""
    owner = organization()
    Customer.objects.create(organization=owner, email=EMAIL)
    only = there.create(email=EMAIL, organization=owner.public_id, key=f"customer-{owner.public_id}")

    assert customers.ensure(owner, email="another@example.com") == only
    assert made(stand) == [only]


def test_a_customer_is_not_made_while_stripe_is_away_and_is_made_after(stand: Stand):
    owner = organization()
    stand.mishap("POST /v1/customers", "limit")

    with pytest.raises(StripeUnreachable):
        customers.ensure(owner, email=EMAIL)
    assert Customer.objects.of(owner).get().stripe_id is None

    assert made(stand) == []
    only = customers.ensure(owner, email=EMAIL)
    assert made(stand) == [only]


def test_f48_a_customer_made_more_than_a_day_ago_whose_key_stripe_forgot_is_found(stand: Stand):
    owner = organization()
    Customer.objects.create(organization=owner, email=EMAIL, created_at=clock.now() - timedelta(days=2))
    elder = there.create(email=EMAIL, organization=owner.public_id, key="forgotten")
    there.create(email=EMAIL, organization="another", key="of-another")

    assert customers.ensure(owner, email=EMAIL) == elder
    assert len(made(stand)) == 2


@pytest.mark.django_db(transaction=True)
def test_two_who_ensure_at_once_make_one_customer(stand: Stand):
    owner = organization()
    stand.mishap("POST /v1/customers", "slow", times=1, seconds=0.2)
    barrier = Barrier(2)

    def ensure(_: int) -> str:
        try:
            barrier.wait()
            return customers.ensure(owner, email=EMAIL)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        found = set(pool.map(ensure, range(2)))

    assert found == set(made(stand))
    assert len(found) == 1


def test_cards_are_mirrored_and_the_newest_is_charged_when_none_was_chosen(stand: Stand):
    owner = organization()
    customer = customers.ensure(owner, email=EMAIL)
    assert customers.refresh(customer) == "0 cards"
    assert customers.default_card(owner.pk) is None

    attach(stand, customer)
    newest = attach(stand, customer, "pm_card_mastercard")

    assert customers.refresh(customer) == "2 cards"
    card = customers.default_card(owner.pk)
    assert card is not None
    assert (card.stripe_id, card.brand, card.last4) == (newest, "mastercard", "4444")
    assert there.retrieve(customer).default_card == newest


def test_the_card_that_was_chosen_at_stripe_is_the_default_here(stand: Stand):
    owner = organization()
    customer = customers.ensure(owner, email=EMAIL)
    elder = attach(stand, customer)
    attach(stand, customer, "pm_card_mastercard")
    customers.refresh(customer)

    there.set_default_card(customer, elder, key="chosen")
    customers.refresh(customer)

    card = customers.default_card(owner.pk)
    assert card is not None
    assert card.stripe_id == elder
    assert Card.objects.of(owner).filter(is_default=True).count() == 1


def test_a_card_that_was_removed_at_stripe_stays_as_a_removed_row(stand: Stand):
    owner = organization()
    customer = customers.ensure(owner, email=EMAIL)
    gone = attach(stand, customer)
    customers.refresh(customer)
    stand.client().v1.payment_methods.detach(gone)

    for _ in range(2):
        assert customers.refresh(customer) == "0 cards"
    assert customers.default_card(owner.pk) is None
    row = Card.objects.of(owner).get()
    assert row.removed_at is not None
    assert not row.is_default


def test_a_customer_that_was_deleted_at_stripe_is_told_to_operators(stand: Stand):
    owner = organization()
    customer = customers.ensure(owner, email=EMAIL)
    attach(stand, customer)
    customers.refresh(customer)
    stand.client().v1.customers.delete(customer)

    assert customers.refresh(customer) == "deleted at Stripe"
    assert customers.default_card(owner.pk) is None
    assert Alert.objects.get().organization == owner


def test_cards_that_were_read_before_somebody_wrote_newer_ones_are_read_anew(stand: Stand, monkeypatch: Any):
    owner = organization()
    customer = customers.ensure(owner, email=EMAIL)
    read = there.cards

    def overtaken(customer_id: str) -> list[there.CardThere]:
        """Stripe's answer is on its way while another event brings the next card."""
        found = read(customer_id)
        monkeypatch.setattr(there, "cards", read)
        attach(stand, customer_id)
        assert customers.refresh(customer_id) == "1 cards"
        return found

    monkeypatch.setattr(there, "cards", overtaken)

    assert customers.refresh(customer) == "1 cards"
    assert Card.objects.of(owner).get().removed_at is None


def test_a_customer_of_nobody_here_is_left_alone(stand: Stand):
    assert customers.refresh("cus_nobody") == "not a customer of ours"
    assert not Card.unscoped.exists()


def test_the_portal_is_reached_by_who_is_a_customer(stand: Stand):
    owner = organization()
    with pytest.raises(Customer.DoesNotExist):
        customers.portal_url(owner, return_url="http://127.0.0.1/billing")
    customers.ensure(owner, email=EMAIL)
    catalog.create_portal_configuration(return_url="http://127.0.0.1/billing", key="portal")

    url = customers.portal_url(owner, return_url="http://127.0.0.1/billing")

    assert url.startswith(stand.url)
    assert stand.open(url).status_code == 200
