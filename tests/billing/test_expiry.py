"""Promotional credit ends at its instant: what was not used goes back, and nothing that was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from aggregator.lib import clock, kv
from billing import expiry, gate, lots, posting, reconcile, reserving, tasks, wallets
from billing.core.budgets import wallet_account
from billing.core.chart import PROMOTION
from billing.models import CreditLot, Posting
from tests.billing import books

pytestmark = pytest.mark.django_db(transaction=True)

USD = 10**9
DAY = timedelta(days=1)


@pytest.fixture
def acme(settings, monkeypatch):
    """$5 for ever and $3 until tomorrow, known to the gate; it is the day after tomorrow."""
    settings.STARTING_CREDIT_USD = 0
    organization = books.make_organization(usd="5")
    now = clock.now()
    wallets.grant("acme", 3 * USD, expires_at=now + DAY)
    shard = kv.shard(organization.public_id)
    gate.open_epoch(shard, gate.begin(shard))
    gate.reload(organization.public_id)
    monkeypatch.setattr(clock, "now", lambda: now + 2 * DAY)
    return organization


def spendable(organization):
    return gate.look(wallet_account(organization.public_id, organization.pk)).spendable


def left(organization):
    return [lot.remaining for lot in lots.burning(organization.pk)]


def test_what_is_left_goes_back_once_and_the_gate_knows(acme):
    assert expiry.expire_all() == 3 * USD

    assert books.balance(acme) == spendable(acme) == 5 * USD
    assert books.entries_sum(PROMOTION) == -5 * USD
    assert left(acme) == [5 * USD]
    assert expiry.expire_all() == 0
    lot = CreditLot.objects.of(acme).get(remaining_nanos=0)
    expired = Posting.objects.get(kind="expiry")
    assert (expired.source_id, expired.from_posting_id) == (str(lot.posting_id), lot.posting_id)
    assert all(finding.holds for finding in reconcile.check())


def test_credit_lasts_until_its_instant(acme, monkeypatch):
    ends = CreditLot.objects.of(acme).get(expires_at__isnull=False).expires_at
    monkeypatch.setattr(clock, "now", lambda: ends - timedelta(microseconds=1))
    assert expiry.expire_all() == 0

    monkeypatch.setattr(clock, "now", lambda: ends)
    assert expiry.expire_all() == 3 * USD


def test_what_calls_hold_is_not_taken_from_them_and_goes_when_they_have_ended(acme):
    with reserving.credit(acme.pk, 6 * USD):  # held, as by a call
        assert expiry.expire_all() == 2 * USD
        assert spendable(acme) == 0
    assert left(acme) == [1 * USD, 5 * USD]

    assert expiry.expire_all() == 1 * USD
    assert left(acme) == [5 * USD]
    assert books.balance(acme) == spendable(acme) == 5 * USD
    assert Posting.objects.filter(kind="expiry").count() == 2


def test_a_call_that_was_delivered_burns_it_though_it_is_posted_later(acme):
    call = books.deliver(books.make_key(acme), books.make_price(), charge_nanos=2 * USD, base_nanos=USD)
    gate.reload(acme.public_id)

    assert expiry.expire_all() == 1 * USD
    posting.post_generations()

    assert call.charge_nanos == 2 * USD
    assert left(acme) == [5 * USD]
    assert expiry.expire_all() == 0
    assert books.balance(acme) == 5 * USD


def test_what_was_used_in_time_does_not_expire(acme):
    books.deliver(books.make_key(acme), books.make_price(), charge_nanos=3 * USD, base_nanos=USD)
    posting.post_generations()

    assert expiry.expire_all() == 0
    assert left(acme) == [5 * USD]


def test_a_gate_that_is_away_leaves_it_to_the_next_minute(acme, settings):
    reached = settings.GATE_URL
    for settings.GATE_URL in ("redis://127.0.0.1:1", reached):
        assert books.balance(acme) == 8 * USD
        kv.gate.cache_clear()
        kv._registered.cache_clear()
        if reached != settings.GATE_URL:
            assert expiry.expire_all() == 0

    assert expiry.expire_all() == 3 * USD


def test_the_job_takes_it_back(acme):
    tasks.expire_credit()

    assert books.balance(acme) == 5 * USD


def test_the_command_grants_credit_until_an_instant(settings):
    settings.STARTING_CREDIT_USD = 0
    organization = books.make_organization(usd="0")

    out = StringIO()
    call_command("grant", "acme", "2.50", "--expires", "2099-01-31", stdout=out, skip_checks=True)

    (lot,) = lots.burning(organization.pk)
    assert (lot.remaining, lot.expires_at) == (2_500_000_000, datetime(2099, 1, 31, tzinfo=UTC))
    with pytest.raises(CommandError, match="is past"):
        call_command("grant", "acme", "2.50", "--expires", "2020-01-31T12:00+02:00", skip_checks=True)
    with pytest.raises(CommandError, match="not a date"):
        call_command("grant", "acme", "2.50", "--expires", "soon", skip_checks=True)
