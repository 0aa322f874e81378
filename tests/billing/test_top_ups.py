"""Credit is bought once for each payment, whoever tells of it, and only for one that fits our own row."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from aggregator.lib.errors import Refusal
from billing.models import Alert, Card, TopUp, Wallet
from billing.payments import crediting, refunds, stripe_setup, subscriptions, top_ups
from billing.stripe_client import payments
from tests.billing import books, paying
from tests.billing.paying import CENT, DOLLAR

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def acme(stand):
    return paying.organization()


def test_w1_session_intent_charge_return_page_and_sweep_of_one_payment_give_one_credit(stand, acme):
    row, url = paying.begin(acme)
    assert stand.pay(url).status_code == 303
    session, intent = (
        paying.there(stand, acme, "checkout.session"),
        paying.there(stand, acme, "payment_intent"),
    )
    charge = paying.there(stand, acme, "charge")
    told = itertools.cycle(
        [
            lambda: top_ups.refresh_session(session[0]["id"]),
            lambda: top_ups.refresh_intent(intent[0]["id"]),
            lambda: refunds.refresh_charge(charge[0]["id"]),
            lambda: top_ups.look(row).state,
        ]
    )
    paying.age(row, minutes=20)

    said = paying.at_once(8, lambda: next(told)())
    top_ups.settle()

    assert not [each for each in said if isinstance(each, Exception)]
    assert [posting.source_id for posting in paying.postings("top_up")] == [intent[0]["id"]]
    assert paying.balance(acme) == paying.spendable(acme) == 20 * DOLLAR
    assert books.entries_sum("stripe_cash") == -20 * DOLLAR
    assert TopUp.objects.of(acme).get().charge_id == charge[0]["id"]
    assert paying.alerts() == []


def test_w4_a_payment_that_does_not_fit_our_row_gives_nothing(stand, acme):
    row, url = paying.begin(acme)
    stand.pay(url)
    intent = payments.intent(paying.there(stand, acme, "payment_intent")[0]["id"])
    other = paying.organization("other")
    changes = [
        {"received": 19_99},
        {"received": 20_01, "amount": 20_01},
        {"currency": "eur"},
        {"customer": "cus_other"},
        {"metadata": {**intent.metadata, "organization": other.public_id}},
        {"metadata": {"organization": acme.public_id}},
    ]

    for change in changes:
        assert "not credited" in crediting.apply(row, dataclasses.replace(intent, **change))
    assert "not credited" in crediting.apply(row, intent, tax_cents=1)
    for status in ("processing", "requires_capture", "requires_action"):
        assert crediting.apply(row, dataclasses.replace(intent, status=status)) == f"payment {status}"

    assert paying.postings("top_up") == []
    assert paying.balance(acme) == paying.balance(other) == 0
    assert Alert.objects.get(kind="payment").count == 7
    assert crediting.apply(row, intent) == "credited"


def test_w4_a_payment_made_at_stripe_that_names_our_row_moves_nothing_unless_it_fits(stand, acme):
    row, url = paying.begin(acme)
    stranger = paying.organization("stranger")
    card = paying.save_card(stand, stranger)
    named = {"top_up": str(row.pk)}

    def paid(**metadata):
        params = {"amount": 20_00, "currency": "usd", "customer": paying.customer_of(stranger)}
        params |= {"payment_method": card, "off_session": True, "confirm": True, "metadata": metadata}
        return stand.client().v1.payment_intents.create(params).id

    assert "unknown here" in top_ups.refresh_intent(paid(organization=stranger.public_id, **named))
    assert "customer" in top_ups.refresh_intent(paid(organization=acme.public_id, **named))
    assert "unknown here" in top_ups.refresh_intent(paid(organization="x", top_up="not-an-id"))
    assert top_ups.refresh_intent(paid(invoice="some other thing of ours")) == "not a top-up"

    assert paying.alerts() == ["payment"] * 3
    assert paying.balance(acme) == paying.balance(stranger) == 0
    stand.pay(url)
    assert top_ups.look(row).state == TopUp.State.PAID


def test_a_second_payment_of_one_top_up_is_told_and_gives_nothing(stand, acme):
    row = paying.buy(stand, acme)
    again = dataclasses.replace(payments.intent(row.payment_intent_id), id="pi_another")

    assert "paid before" in crediting.apply(row, again)

    assert paying.balance(acme) == 20 * DOLLAR
    assert paying.alerts() == ["payment"]


def test_a_page_that_was_left_expires_and_one_that_is_open_stays(stand, acme):
    row, url = paying.begin(acme)
    paying.age(row, minutes=20)
    top_ups.settle()
    assert top_ups.look(row).state == TopUp.State.OPEN

    stand.client().v1.checkout.sessions.expire(row.session_id)
    assert top_ups.settle() == 1

    row.refresh_from_db()
    assert (row.state, paying.balance(acme)) == (TopUp.State.EXPIRED, 0)
    assert top_ups.settle() == 0


def test_one_page_that_stripe_does_not_know_keeps_no_other_from_being_looked_at(stand, acme):
    row, url = paying.begin(acme)
    lost, _ = paying.begin(acme, 30_00)
    TopUp.objects.of(acme).filter(pk=lost.pk).update(session_id="cs_of_another_account")
    stand.pay(url)
    paying.age(row, minutes=20)
    paying.age(lost, minutes=20)

    assert top_ups.settle() == 2

    assert paying.balance(acme) == 20 * DOLLAR


def test_a_declined_card_leaves_the_page_open_for_another(stand, acme):
    row, url = paying.begin(acme)
    assert stand.pay(url, "4000000000000002").status_code == 402
    row = top_ups.look(row)
    assert (row.state, row.failure_code) == (TopUp.State.OPEN, "generic_decline")

    stand.pay(url)

    row = top_ups.look(row)
    assert (row.state, row.failure_code, paying.balance(acme)) == (TopUp.State.PAID, "", 20 * DOLLAR)


def test_a_payment_that_its_bank_refuses_when_the_page_is_over_has_failed(stand, acme):
    row, url = paying.begin(acme)
    assert stand.pay(url, "4000000000000002").status_code == 402
    account = stand._sandbox.account  # the simulated Stripe takes cards alone, which are refused at once
    session = account.get("checkout.session", row.session_id)
    session["status"] = "complete"
    account.changed(session)

    assert top_ups.refresh_session(row.session_id).startswith("declined")

    row.refresh_from_db()
    assert row.state == TopUp.State.FAILED
    assert top_ups.settle() == 0, "it is not looked at for ever"


def test_three_d_secure_gives_credit_when_it_is_passed_and_none_before(stand, acme):
    row, url = paying.begin(acme)
    step = stand.pay(url, "4000002760003184").headers["location"]
    assert top_ups.look(row).state == TopUp.State.OPEN
    assert stand.authenticate(step, completed=False).status_code == 402
    assert top_ups.look(row).failure_code == "authentication_required"
    step = stand.pay(url, "4000002760003184").headers["location"]

    stand.authenticate(step)

    assert top_ups.look(row).state == TopUp.State.PAID
    assert paying.balance(acme) == 20 * DOLLAR


def test_f48_a_page_whose_making_was_not_answered_is_asked_for_again_and_is_the_same(stand, acme, once):
    paying.customers.ensure(acme, email="acme@example.com")
    stand.mishap("POST /v1/checkout/sessions", "lose")
    with pytest.raises(Refusal) as refused:
        paying.begin(acme)
    assert (refused.value.status, refused.value.error_type) == (503, "service_unavailable")

    row, url = paying.begin(acme)

    (session,) = paying.there(stand, acme, "checkout.session")
    assert (row.session_id, url) == (session["id"], session["url"])
    assert TopUp.objects.of(acme).count() == 1


def test_f48_the_sweep_finds_a_page_whose_making_was_not_answered(stand, acme, once):
    paying.customers.ensure(acme, email="acme@example.com")
    stand.mishap("POST /v1/checkout/sessions", "lose")
    with pytest.raises(Refusal):
        paying.begin(acme)
    row = TopUp.objects.of(acme).get()
    paying.age(row, minutes=5)

    top_ups.settle()

    row.refresh_from_db()
    (session,) = paying.there(stand, acme, "checkout.session")
    assert (row.state, row.session_id) == (TopUp.State.OPEN, session["id"])


def test_a_page_that_stripe_never_heard_of_is_given_up_when_it_could_not_last(stand, acme, once):
    paying.customers.ensure(acme, email="acme@example.com")
    stand.mishap("POST /v1/checkout/sessions", "limit")
    with pytest.raises(Refusal):
        paying.begin(acme)
    row = TopUp.objects.of(acme).get()
    paying.age(row, hours=25)

    top_ups.settle()

    row.refresh_from_db()
    assert row.state == TopUp.State.EXPIRED
    assert paying.there(stand, acme, "checkout.session") == []


@pytest.mark.parametrize(
    ("cents", "said"),
    [
        (4_99, "amount_too_small"),
        (-5_00, "amount_too_small"),
        (25_000_01, "amount_too_large"),
        (True, "invalid_amount"),
        ("2000", "invalid_amount"),
    ],
)
def test_an_amount_that_one_may_not_buy_is_refused_before_anything_is_written(cents, said):
    with pytest.raises(Refusal) as refused:
        top_ups.refuse_amount(cents)
    assert (refused.value.error_type, refused.value.status) == (said, 400)


def test_the_smallest_and_the_largest_amount_may_be_bought(stand, acme):
    paying.buy(stand, acme, 5_00)
    paying.buy(stand, acme, 25_000_00)

    assert paying.balance(acme) == 25_005 * DOLLAR


def test_a_page_asked_for_twice_is_the_same_and_a_paid_one_is_not_shown_again(stand, acme):
    row, url = paying.begin(acme)
    assert paying.begin(acme) == (row, url)
    stand.pay(url)

    again, other = paying.begin(acme)

    assert (again != row, other != url) == (True, True)
    row.refresh_from_db()
    assert row.state == TopUp.State.PAID


def test_who_tries_out_cards_opens_five_pages_in_an_hour_and_no_more(stand, acme, settings):
    settings.CHECKOUTS_PER_HOUR = 5
    assert [step.changes for step in stripe_setup.run(webhook=False)]
    amounts = itertools.count(5_00)
    said = paying.at_once(8, lambda: top_ups.begin(acme, next(amounts), by=paying.owner(acme)))

    refused = [each for each in said if isinstance(each, Refusal)]
    assert {(each.error_type, each.status) for each in refused} == {("too_many_checkouts", 429)}
    assert len(refused) == 3
    assert len(paying.there(stand, acme, "checkout.session")) == 5
    with pytest.raises(Refusal) as refusal:
        subscriptions.begin(acme, "pro", by=paying.owner(acme))
    assert refusal.value.error_type == "too_many_checkouts", "a page for a plan takes cards as well"
    for row in TopUp.objects.of(acme):
        paying.age(row, minutes=61)
    paying.begin(acme, 5_00)


@pytest.mark.parametrize(
    ("because", "may"), [("unpaid", True), ("operator", False), ("dispute", False), ("fraud_warning", False)]
)
def test_a_suspended_account_may_pay_only_where_paying_helps(stand, acme, because, may):
    Wallet.objects.of(acme).update(frozen_at=acme.created_at, frozen_because=because)
    if may:
        assert paying.buy(stand, acme).state == TopUp.State.PAID
        return
    with pytest.raises(Refusal) as refused:
        paying.begin(acme)
    assert (refused.value.error_type, refused.value.status) == ("account_suspended", 402)
    assert TopUp.objects.of(acme).count() == 0


def test_tax_comes_on_top_and_is_owed_to_others(stand, acme, settings):
    settings.STRIPE_TAX = True

    row = paying.buy(stand, acme, 12_35)

    assert (row.cents, row.tax_cents) == (12_35, 1_24)
    assert paying.balance(acme) == 1235 * CENT
    assert books.entries_sum("tax") == 124 * CENT
    assert books.entries_sum("stripe_cash") == -1359 * CENT


def test_a_card_is_kept_only_when_its_owner_says_so(stand, acme):
    paying.buy(stand, acme)
    assert Card.objects.of(acme).count() == 0

    paying.buy(stand, acme, save_card=True)

    assert Card.objects.of(acme).get(is_default=True).last4 == "4242"


def test_credit_of_a_page_paid_while_stripe_is_away_waits_and_then_comes(stand, acme, once):
    row, url = paying.begin(acme)
    stand.pay(url)
    stand.mishap("GET /v1/checkout/sessions/*", "error", times=1)
    assert top_ups.look(row).state == TopUp.State.OPEN

    assert top_ups.look(row).state == TopUp.State.PAID
