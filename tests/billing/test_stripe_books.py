"""Our books agree with Stripe's, and what does not is told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine

from accounts.models import Organization
from aggregator.lib import clock
from billing import ledger, tasks
from billing.core import chart
from billing.models import Alert, JobRun, Posting, TopUp
from billing.payments import disputes, refunds, stripe_books, top_ups
from billing.stripe_client.door import StripeUnreachable
from tests.billing import books, paying
from tests.billing.stripe_stand import Stand

pytestmark = pytest.mark.django_db(transaction=True)

CENT = 10_000_000
PAID, FEE = 20_00, 88
"""Twenty dollars, and 2.9 % and 30 cents of it."""


def bought(stand: Stand, organization: Organization) -> TopUp:
    """A top-up that was paid, credited or not."""
    top_up, url = paying.begin(organization, PAID)
    stand.pay(url)
    return top_up


def later(minutes: int = 31) -> time_machine.travel:
    """After news of a movement may be late."""
    return time_machine.travel(clock.now() + timedelta(minutes=minutes), tick=True)


def check():
    return stripe_books.check(clock.now() - timedelta(hours=3))


def test_a_payment_and_its_refund_agree_and_their_fees_are_booked_once(stand: Stand):
    organization = paying.organization()
    top_up = top_ups.look(bought(stand, organization))
    assert top_up.state == TopUp.State.PAID
    refunds.ask(organization, top_up.pk, by="test")

    with later():
        for _ in range(2):
            assert check().holds, check().examples

    (fee,) = Posting.objects.filter(kind="stripe_fee")
    assert fee.organization_id == organization.pk
    assert books.entries_sum(chart.STRIPE_FEES) == -FEE * CENT
    assert books.entries_sum(chart.STRIPE_CASH) == FEE * CENT, "paid in and back; Stripe kept its fee"


def test_a_payment_that_nobody_credited_is_told_once_its_news_should_be_here(stand: Stand):
    organization = paying.organization()
    bought(stand, organization)
    assert check().holds, "it may be on its way"

    with later():
        tasks.check_stripe()

    (alert,) = Alert.objects.filter(subject="stripe_agrees")
    assert f"of {PAID} cents has no posting" in alert.says
    assert JobRun.objects.filter(name="billing.check_stripe").exists()


def test_credit_for_money_that_never_came_is_told(stand: Stand):
    organization = paying.organization()
    ledger.post(
        "top_up",
        "pi_invented",
        entries={(chart.WALLET, organization.pk): 7 * CENT, (chart.STRIPE_CASH, None): -7 * CENT},
        organization_id=organization.pk,
    )

    with later():
        found = check()

    assert found.breaches == 1 and "pi_invented) is not in Stripe's books" in found.examples[0]


def test_a_payment_of_yesterday_that_was_credited_late_is_not_told(stand: Stand):
    organization = paying.organization()
    top_up = bought(stand, organization)

    with later(minutes=24 * 60):
        assert top_ups.look(top_up).state == TopUp.State.PAID
        with later():
            found = check()

    assert found.holds, found.examples


def test_a_posting_of_another_amount_is_told(stand: Stand):
    organization = paying.organization()
    top_up = bought(stand, organization)
    intent = stand.events("payment_intent.succeeded")[0]["data"]["object"]
    TopUp.objects.of(organization).filter(pk=top_up.pk).update(
        payment_intent_id=intent["id"], charge_id=intent["latest_charge"]
    )
    ledger.post(
        "top_up",
        intent["id"],
        entries={(chart.WALLET, organization.pk): 7 * CENT, (chart.STRIPE_CASH, None): -7 * CENT},
        organization_id=organization.pk,
    )

    found = check()

    assert found.breaches == 1 and f"moved {PAID} cents of usd" in found.examples[0]


def test_a_dispute_and_its_fee_agree(stand: Stand):
    organization = paying.organization()
    top_up = top_ups.look(bought(stand, organization))
    stand.control("disputes", charge=top_up.charge_id)
    (opened,) = stand.events("charge.dispute.created")
    disputes.refresh(opened["data"]["object"]["id"])

    with later():
        found = check()

    assert found.holds, found.examples
    assert books.entries_sum(chart.STRIPE_FEES) == -(FEE + 15_00) * CENT


def test_while_stripe_is_away_the_job_fails_and_so_falls_silent(stand: Stand, once: None):
    stand.mishap("GET /v1/balance_transactions", "error")

    with pytest.raises(StripeUnreachable):
        tasks.check_stripe()

    assert not JobRun.objects.filter(name="billing.check_stripe").exists()


def test_without_a_key_there_is_nothing_to_compare(settings: Any):
    settings.STRIPE_SECRET_KEY = ""

    assert check().holds
