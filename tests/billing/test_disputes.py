"""A disputed payment takes what is left of its credit, once; what was spent is our loss, and booked."""

from __future__ import annotations

import pytest

from billing import freezing, lots, plans, reconcile
from billing.models import Alert, Dispute, FraudWarning, Refund, StripeInvoice, Subscription, Wallet
from billing.payments import disputes, refunds, top_ups
from tests.billing import books, paying
from tests.billing.paying import DOLLAR

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def acme(stand):
    return paying.organization()


@pytest.fixture(autouse=True)
def books_hold(acme):
    """After each of these tests every invariant holds; their calls cost what the test says, by no price."""
    yield
    assert {finding.name for finding in reconcile.check(None) if not finding.holds} <= {"bills_recompute"}


def frozen(organization):
    return Wallet.objects.of(organization).get().frozen_because


def dispute(stand, top_up, **how):
    return stand.control("disputes", payment_intent=top_up.payment_intent_id, **how)["id"]


def test_f49_after_a_dispute_what_is_left_is_gone_what_was_spent_is_lost_and_the_account_frozen(stand, acme):
    top_up = paying.buy(stand, acme)
    paying.spend(acme, 14 * DOLLAR)
    told = dispute(stand, top_up)

    for _ in range(3):
        assert disputes.refresh(told) == "dispute needs_response"

    row = Dispute.objects.of(acme).get()
    assert (row.pk, row.top_up, row.cents, row.closed_at) == (told, top_up, 20_00, None)
    assert paying.balance(acme) == paying.spendable(acme) == 0
    assert books.entries_sum("loss") == -14 * DOLLAR
    assert books.entries_sum("stripe_cash") == 0
    assert [posting.source_id for posting in paying.postings("dispute")] == [told]
    assert frozen(acme) == "dispute"
    # At the gate: `tests/routing/gateway/test_suspended.py` shows that each worker answers 402 from now on.
    assert plans.terms(acme.pk).frozen == "dispute"
    assert Wallet.objects.of(acme).get().untold is None
    assert "dispute" in paying.alerts()
    assert "payment_disputed" in paying.letters(acme)


def test_f49_calls_that_were_spent_before_are_not_taken_twice(stand, acme):
    top_up = paying.buy(stand, acme)
    paying.spend(acme, 14 * DOLLAR, post=False)

    disputes.refresh(dispute(stand, top_up))
    paying.posting.post_generations()

    assert paying.balance(acme) == 0
    assert books.entries_sum("loss") == -14 * DOLLAR


def test_a_dispute_that_we_hear_of_before_the_refund_of_its_payment_takes_what_the_refund_left(stand, acme):
    """Or it took what the refund then lacked, and gave too much back when it was won."""
    paying.spend(acme, 2 * DOLLAR)
    top_up = paying.buy(stand, acme)
    stand.client().v1.refunds.create({"payment_intent": top_up.payment_intent_id, "amount": 5_00})
    told = dispute(stand, top_up, amount=15_00)

    disputes.refresh(told)

    assert books.entries_sum("loss") == -2 * DOLLAR
    stand.control("disputes/resolve", dispute=told, won=True)
    disputes.refresh(told)
    assert (paying.balance(acme), books.entries_sum("loss")) == (13 * DOLLAR, 0)


def test_however_many_tell_of_a_dispute_at_once_it_is_booked_once(stand, acme):
    top_up = paying.buy(stand, acme)
    told = dispute(stand, top_up)

    said = paying.at_once(8, lambda: disputes.refresh(told))

    assert "dispute needs_response" in said
    assert len(paying.postings("dispute")) == 1
    disputes.refresh(told)
    assert (paying.balance(acme), books.entries_sum("loss")) == (0, 0)


def test_a_dispute_takes_its_own_credit_first_then_other_credit_up_to_what_the_payment_gave(stand, acme):
    older, newer = paying.buy(stand, acme, 10_00), paying.buy(stand, acme, 30_00)
    paying.spend(acme, 8 * DOLLAR)

    disputes.refresh(dispute(stand, older))

    assert paying.balance(acme) == 22 * DOLLAR
    assert books.entries_sum("loss") == 0
    assert lots.remaining(paying.postings("top_up")[1].pk) == 22 * DOLLAR
    assert newer.disputes.count() == 0


def test_the_tax_of_a_disputed_payment_is_our_loss(stand, acme, settings):
    settings.STRIPE_TAX = True
    top_up = paying.buy(stand, acme)
    paying.buy(stand, acme)

    disputes.refresh(dispute(stand, top_up))

    assert paying.balance(acme) == 20 * DOLLAR
    assert books.entries_sum("loss") == -2 * DOLLAR


def test_a_dispute_that_is_won_gives_back_what_it_took_and_calls_go_on(stand, acme):
    top_up = paying.buy(stand, acme)
    paying.spend(acme, 14 * DOLLAR)
    told = dispute(stand, top_up)
    disputes.refresh(told)
    stand.control("disputes/resolve", dispute=told, won=True)

    for _ in range(2):
        assert disputes.refresh(told) == "dispute won"

    assert paying.balance(acme) == paying.spendable(acme) == 6 * DOLLAR
    assert (books.entries_sum("loss"), books.entries_sum("stripe_cash")) == (0, -20 * DOLLAR)
    assert frozen(acme) == ""
    assert "dispute" not in paying.alerts()
    assert Dispute.objects.of(acme).get().closed_at is not None


def test_a_dispute_that_is_lost_stays_booked_and_frozen_until_an_operator_thaws(stand, acme):
    top_up = paying.buy(stand, acme)
    told = dispute(stand, top_up)
    disputes.refresh(told)
    stand.control("disputes/resolve", dispute=told, won=False)

    assert disputes.refresh(told) == "dispute lost"

    assert (paying.balance(acme), frozen(acme)) == (0, "dispute")
    freezing.thaw(acme.pk, "dispute", by="operator")
    disputes.refresh(told)
    assert frozen(acme) == ""


def test_of_two_disputes_one_won_thaws_nothing(stand, acme):
    first, second = (dispute(stand, paying.buy(stand, acme)), dispute(stand, paying.buy(stand, acme)))
    disputes.refresh(first)
    disputes.refresh(second)
    stand.control("disputes/resolve", dispute=first, won=True)

    disputes.refresh(first)

    assert (frozen(acme), paying.balance(acme)) == ("dispute", 20 * DOLLAR)
    stand.control("disputes/resolve", dispute=second, won=True)
    disputes.refresh(second)
    assert (frozen(acme), paying.balance(acme)) == ("", 40 * DOLLAR)


def test_an_inquiry_is_told_and_moves_nothing(stand, acme):
    top_up = paying.buy(stand, acme)
    told = dispute(stand, top_up, inquiry=True)

    assert disputes.refresh(told) == "dispute warning_needs_response"

    assert (paying.balance(acme), frozen(acme), paying.alerts()) == (20 * DOLLAR, "", ["dispute"])
    stand.control("disputes/resolve", dispute=told, won=True)
    assert disputes.refresh(told) == "dispute warning_closed"
    assert paying.alerts() == []


def test_f49_an_early_fraud_warning_freezes_and_gives_the_whole_payment_back(stand, acme):
    top_up = paying.buy(stand, acme, number="4000000000005423")
    paying.spend(acme, 14 * DOLLAR)
    (warned,) = stand.events("radar.early_fraud_warning.created")
    told = warned["data"]["object"]["id"]

    for _ in range(2):
        assert disputes.warn(told).startswith("frozen")

    refund = Refund.objects.of(acme).get()
    assert (refund.cents, refund.reason, refund.state) == (20_00, "fraud", Refund.State.SUCCEEDED)
    assert FraudWarning.objects.of(acme).get().top_up == top_up
    assert paying.balance(acme) == paying.spendable(acme) == 0
    assert books.entries_sum("loss") == -14 * DOLLAR
    assert frozen(acme) == "fraud_warning"
    assert paying.alerts() == ["fraud_warning"]
    assert "payment_suspected" in paying.letters(acme)


def test_an_account_that_an_operator_thawed_is_not_frozen_again_by_old_news(stand, acme):
    paying.buy(stand, acme, number="4000000000005423")
    (warned,) = stand.events("radar.early_fraud_warning.created")
    told = warned["data"]["object"]["id"]
    disputes.warn(told)
    freezing.thaw(acme.pk, "fraud_warning", by="operator")

    disputes.warn(told)

    assert frozen(acme) == ""


def test_a_disputed_payment_of_an_invoice_takes_no_credit(stand, acme):
    paying.buy(stand, acme)
    params = {"amount": 9_99, "currency": "usd", "customer": paying.customer_of(acme)}
    params |= {"payment_method": paying.save_card(stand, acme), "off_session": True, "confirm": True}
    intent = stand.client().v1.payment_intents.create(params)
    pro = Subscription.objects.create(organization=acme, plan="pro", state="active", stripe_id="sub_1")
    invoice = StripeInvoice.objects.create(
        organization=acme, purpose="subscription", cents=9_99, payment_intent_id=intent.id, subscription=pro
    )
    told = stand.control("disputes", payment_intent=intent.id)["id"]

    disputes.refresh(told)

    assert Dispute.objects.of(acme).get().invoice == invoice
    assert (paying.balance(acme), frozen(acme)) == (20 * DOLLAR, "dispute")
    assert books.entries_sum("loss") == -999 * paying.CENT
    assert "sub_1 would go on charging that card" in Alert.objects.get().says


def test_a_dispute_of_a_payment_that_is_none_of_ours_is_told(stand, acme):
    params = {"amount": 9_99, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
    intent = stand.client().v1.payment_intents.create({**params, "off_session": True})
    told = stand.control("disputes", payment_intent=intent.id)["id"]

    assert disputes.refresh(told) == "a dispute of no payment of ours"

    assert paying.alerts() == ["dispute"]
    assert Dispute.objects.of(acme).count() == 0


def test_in_whatever_order_events_of_one_payment_come_they_lead_to_one_state(stand):
    """Paid, a part given back in the dashboard, the rest disputed; the first to be told is told twice."""
    ends = set()
    for place, order in enumerate([(0, 1, 2), (1, 2, 0), (2, 1, 0)]):
        organization = paying.organization(f"acme-{place}")
        _, url = paying.begin(organization)
        stand.pay(url)
        (intent,) = paying.there(stand, organization, "payment_intent")
        made = stand.client().v1.refunds.create({"payment_intent": intent["id"], "amount": 5_00})
        told = stand.control("disputes", payment_intent=intent["id"], amount=15_00)["id"]
        tell = [(top_ups.refresh_intent, intent["id"]), (refunds.refresh, made.id), (disputes.refresh, told)]
        for one in (*order, order[0]):
            handler, subject = tell[one]
            handler(subject)
        ends.add(
            (
                paying.balance(organization),
                paying.spendable(organization),
                frozen(organization),
                Dispute.objects.of(organization).get().status,
                tuple(Refund.objects.of(organization).values_list("cents", "state")),
            )
        )

    assert ends == {(0, 0, "dispute", "needs_response", ((5_00, "succeeded"),))}
    assert books.entries_sum("loss") == 0
