"""People are told that credit runs low: once, below their own threshold or the usual one, until it rose."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core import mail

from accounts.core import roles
from accounts.models import AuditEntry, Membership, User, WebhookEvent
from aggregator.lib.errors import Refusal
from billing import letters, low_credit, posting, wallets
from billing.models import AutoTopUp, Letter, Wallet
from tests.billing import books, paying
from tests.billing.paying import DOLLAR

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def clock():
    with time_machine.travel(datetime(2026, 11, 23, 9, tzinfo=UTC), tick=False) as traveller:
        yield traveller


@pytest.fixture
def acme(clock):
    made = books.make_organization(usd="99")
    user = User.objects.create(email="owner@acme.example")
    Membership.objects.create(organization=made, user=user, role=roles.OWNER)
    return made


@pytest.fixture
def call(acme):
    key, price = books.make_key(acme), books.make_price()

    def spend(dollars: int) -> None:
        nanos = dollars * DOLLAR
        books.deliver(key, price, at=datetime.now(tz=UTC), charge_nanos=nanos, base_nanos=nanos)
        posting.post_generations()

    return spend


def events(organization) -> list[dict]:
    return [
        row.data for row in WebhookEvent.objects.of(organization).filter(type="credit.low").order_by("pk")
    ]


def test_it_is_told_once_and_again_only_after_it_has_risen(clock, acme, call):
    call(95)
    assert low_credit.look(None) == 0, "five dollars are not below five dollars"
    call(1)
    assert [low_credit.look(None), low_credit.look(None)] == [1, 0]
    call(1)
    assert low_credit.look(None) == 0
    wallets.grant("acme", 50 * DOLLAR)
    clock.shift(timedelta(minutes=1))
    assert low_credit.look(None) == 0, "it has risen"
    call(49)
    assert low_credit.look(None) == 1

    assert [data["threshold"] for data in events(acme)] == ["5", "5"]
    assert {data["balance"] for data in events(acme)} == {"4"}
    mail.outbox.clear()
    letters.send_waiting()
    assert [each.to for each in mail.outbox] == [["owner@acme.example"]] * 2
    assert mail.outbox[0].subject == "The credit of Acme runs low: $4.00 is left"
    assert "less than $5.00" in mail.outbox[0].body and "/budgets#low-credit" in mail.outbox[0].body


def test_who_never_added_much_is_told_at_a_fifth_of_it(clock):
    """Else everybody would hear of it with their first call."""
    small = books.make_organization("small", usd="0")
    paying.spend(small, DOLLAR // 2)
    assert low_credit.look(None) == 0

    paying.spend(small, DOLLAR * 2 // 5)
    assert low_credit.look(None) == 1
    assert events(small) == [{"balance": "0.1", "threshold": "0.2"}]


def test_an_organization_sets_its_own_threshold_or_none(clock, acme, call):
    low_credit.set(acme, is_on=True, threshold_nanos=50 * DOLLAR, by="test")
    call(51)
    assert low_credit.look(None) == 1
    low_credit.set(acme, is_on=True, threshold_nanos=60 * DOLLAR, by="test")
    assert low_credit.look(None) == 1, "another threshold is told of anew"

    low_credit.set(acme, is_on=False, threshold_nanos=60 * DOLLAR, by="test")
    low_credit.set(acme, is_on=False, threshold_nanos=60 * DOLLAR, by="test")
    call(48)
    assert low_credit.look(None) == 0
    verbs = AuditEntry.objects.of(acme).filter(verb="credit_notice.set").order_by("pk")
    assert [entry.detail for entry in verbs] == [
        {"on": True, "below_usd": "50"},
        {"on": True, "below_usd": "60"},
        {"on": False, "below_usd": "60"},
    ]
    with pytest.raises(Refusal, match="above zero"):
        low_credit.set(acme, is_on=True, threshold_nanos=0, by="test")


def test_while_top_ups_come_by_themselves_only_who_asked_is_told(clock, acme, call):
    row = AutoTopUp.objects.create(
        organization=acme, enabled=True, threshold_nanos=DOLLAR, cents=2000, monthly_cap_cents=100_00
    )
    call(97)
    assert low_credit.look(None) == 0
    AutoTopUp.objects.of(acme).filter(pk=row.pk).update(
        paused_at=datetime.now(tz=UTC), paused_because="no_card"
    )
    assert low_credit.look(None) == 1, "paused, they do not come"

    AutoTopUp.objects.of(acme).filter(pk=row.pk).update(paused_at=None, paused_because="")
    low_credit.set(acme, is_on=True, threshold_nanos=5 * DOLLAR, by="test")
    assert low_credit.look(None) == 1


def test_what_may_be_owed_counts_as_left(clock, acme, call):
    Wallet.objects.of(acme).update(credit_limit_nanos=100 * DOLLAR)
    call(99)
    assert low_credit.look(None) == 0

    call(98)
    assert low_credit.look(None) == 1
    assert events(acme) == [{"balance": "3", "threshold": "5"}]


def test_however_many_look_at_once_it_is_told_once(clock, acme, call):
    call(98)

    assert sum(paying.at_once(6, lambda: low_credit.look(None))) == 1
    assert Letter.objects.of(acme).count() == len(events(acme)) == 1


def test_as_it_stands_is_said(clock, acme, call):
    call(20)
    seen = low_credit.of(acme.pk)

    assert (seen.is_on, seen.threshold_nanos, seen.below_nanos) == (True, None, 5 * DOLLAR)
    assert (seen.left_nanos, seen.told_at) == (80 * DOLLAR, None)
    low_credit.set(acme, is_on=False, threshold_nanos=None, by="test")
    assert low_credit.of(acme.pk).below_nanos is None
