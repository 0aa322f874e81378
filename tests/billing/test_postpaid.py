"""Months of who pays afterwards: invoiced once, for exactly what is owed; paid, overdue, or too little."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from decimal import Decimal

import pytest
from django.db import connections

from billing import letters, plans, posting, rebates
from billing.models import Letter, Posting, StripeInvoice, Wallet
from billing.payments import postpaid, subscriptions
from billing.stripe_client import invoices, payments
from tests.billing import books, subscribing
from tests.billing.subscribing import CENT, alerts, day

pytestmark = pytest.mark.django_db(transaction=True)

START = day("2026-12-31T20:00:00")
JANUARY, FEBRUARY = date(2027, 1, 1), date(2027, 2, 1)
DOLLAR = 100 * CENT
CLOSED = day("2027-02-01T07:00:00")


@pytest.fixture
def world(stand, monkeypatch, settings):
    settings.BILLING_GRACE_DAYS = 7
    return subscribing.World(stand, monkeypatch, START)


def agree(world, **terms):
    said = {"markup": Decimal("0.02"), "credit_limit_nanos": 5_000 * DOLLAR, "postpaid": True, **terms}
    plans.set_plan("acme", "production", **said)


def call(world, nanos, at, model="acme/swift"):
    """A call that was admitted then and is posted now."""
    key = books.Key.objects.of(world.acme).first() or books.make_key(world.acme)
    price = books.make_price(f"sandbox:{model}")
    deliver = {"charge_nanos": nanos, "base_nanos": nanos, "model": model, "endpoint": f"sandbox:{model}"}
    books.deliver(key, price, at=at, **deliver)
    posting.post_generations()


def invoice(world):
    return StripeInvoice.objects.of(world.acme).order_by("-created_at").first()


def lines(world):
    """What the newest invoice says at Stripe."""
    there = world.there("invoice")[-1]
    return [(line["description"], line["amount"]) for line in there["lines"]["data"]], there


def test_a_month_is_invoiced_after_its_end_with_a_line_for_each_model_and_paid_by_card(world):
    agree(world, monthly_nanos=500 * DOLLAR)
    world.card()
    call(world, 40 * DOLLAR + 4_000_000, day("2027-01-01T00:00:00"))
    call(world, 2 * DOLLAR + 6_000_000, day("2027-01-31T23:59:59"), "acme/deep")
    call(world, 9 * DOLLAR, day("2027-02-01T00:00:00"))
    world.go(CLOSED)

    assert postpaid.invoice_month(JANUARY) == 1

    said, there = lines(world)
    assert said == [
        ("acme/swift: 1 call", 40_00),
        ("acme/deep: 1 call", 2_01),
        ("Monthly fee", 500_00),
    ]
    assert there["total"] == sum(amount for _, amount in said) == 542_01
    assert (invoice(world).state, invoice(world).cents) == ("paid", 542_01)
    assert subscribing.cents("invoice_paid") == [542_01]
    # What February used is still owed.
    assert world.balance() == -9 * DOLLAR
    assert books.entries_sum("subscription_revenue") == 500 * DOLLAR
    assert alerts() == []


def test_a_month_cannot_be_invoiced_before_all_of_it_is_posted(world):
    agree(world)
    world.go(day("2027-02-01T05:59:59"))
    with pytest.raises(rebates.NotClosable):
        postpaid.invoice_month(JANUARY)

    key, price = books.make_key(world.acme), books.make_price()
    books.deliver(key, price, at=day("2027-01-31T23:00:00"))
    world.go(CLOSED)
    with pytest.raises(rebates.NotClosable):
        postpaid.invoice_month(JANUARY)
    assert StripeInvoice.objects.of(world.acme).count() == 0


def test_nothing_owed_is_no_invoice_and_less_than_stripe_charges_waits_for_the_next_month(world):
    agree(world)
    call(world, 49 * CENT + 9_999_999, day("2027-01-15T00:00:00"))
    world.card()
    world.go(CLOSED)

    assert postpaid.invoice_month(JANUARY) == 0

    assert (world.there("invoice"), world.balance()) == ([], -(49 * CENT + 9_999_999))
    call(world, 50 * CENT + 1, day("2027-02-10T00:00:00"))
    world.go(day("2027-03-01T07:00:00"))
    assert postpaid.invoice_month(FEBRUARY) == 1
    said, _ = lines(world)
    assert said == [("acme/swift: 1 call", 50), ("Carried over, and parts of cents", 50)]
    assert world.balance() == 0


def test_credit_that_was_paid_ahead_is_used_up_first(world):
    books.wallets.grant("acme", 30 * DOLLAR)
    agree(world)
    world.card()
    call(world, 100 * DOLLAR, day("2027-01-15T00:00:00"))
    world.go(CLOSED)

    postpaid.invoice_month(JANUARY)

    said, _ = lines(world)
    assert said == [("acme/swift: 1 call", 100_00), ("Carried over, and parts of cents", -30_00)]
    assert world.balance() == 0


def test_the_volume_discount_is_a_line_of_its_own_and_with_tax_comes_off_the_usage(world, settings):
    settings.STRIPE_TAX = True
    world.v1.customers.update(world.customer, {"address": {"country": "US", "postal_code": "94103"}})
    agree(world, volume_discount=Decimal("0.05"), discount_threshold_nanos=1_000 * DOLLAR)
    world.card()
    call(world, 2_000 * DOLLAR, day("2027-01-15T00:00:00"))
    world.go(CLOSED)

    postpaid.invoice_month(JANUARY)

    said, there = lines(world)
    assert said == [("acme/swift: 1 call (after a discount of $50.00)", 1_950_00)]
    tax = there["total"] - 1_950_00
    assert tax > 0
    assert subscribing.cents("invoice_paid") == [1_950_00 + tax]
    assert books.entries_sum("tax") == tax * CENT
    assert world.balance() == 0
    assert books.entries_sum("discount") == -50 * DOLLAR


def test_a_month_is_invoiced_once_however_often_and_by_however_many_it_is_asked_for(world):
    agree(world, monthly_nanos=20 * DOLLAR)
    world.card()
    call(world, 10 * DOLLAR, day("2027-01-15T00:00:00"))
    world.go(CLOSED)

    def work(_):
        try:
            return postpaid.invoice_month(JANUARY)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    postpaid.invoice_month(JANUARY)

    assert [each["status"] for each in world.there("invoice")] == ["paid"]
    assert [each["status"] for each in world.there("charge")] == ["succeeded"]
    assert subscribing.cents("invoice_paid") == [30_00]
    assert Posting.objects.filter(kind="monthly_fee").count() == 1
    assert world.balance() == 0


@pytest.mark.parametrize("call_lost", ["", "/add_lines", "/finalize", "/pay"])
def test_f48_an_invoice_whose_making_was_not_answered_is_made_and_charged_once(world, monkeypatch, call_lost):
    monkeypatch.setattr(subscribing.door, "_client", subscribing.impatient)
    agree(world)
    world.card()
    call(world, 10 * DOLLAR, day("2027-01-15T00:00:00"))
    world.go(CLOSED)
    if call_lost:  # the id is not known yet, so the first step must go well
        world.stand.mishap("POST /v1/invoices", "lose")
        assert postpaid.invoice_month(JANUARY) == 0
        made = world.there("invoice")[0]["id"]
        world.stand.mishap(f"POST /v1/invoices/{made}{call_lost}", "lose")
    else:
        world.stand.mishap("POST /v1/invoices", "lose", times=2)

    for _ in range(3):
        postpaid.invoice_month(JANUARY)

    assert [each["total"] for each in world.there("invoice")] == [10_00]
    assert [each["status"] for each in world.there("charge")] == ["succeeded"]
    assert (subscribing.cents("invoice_paid"), world.balance()) == ([10_00], 0)


def test_an_invoice_that_the_card_refuses_is_told_and_freezes_after_the_grace_until_it_is_paid(
    world, mailoutbox
):
    agree(world)
    world.card(subscribing.BAD)
    call(world, 10 * DOLLAR, day("2027-01-15T00:00:00"))
    world.go(CLOSED)

    postpaid.invoice_month(JANUARY)

    row = invoice(world)
    assert (row.state, row.due_at, plans.terms(world.acme.pk).frozen) == ("open", CLOSED, "")
    world.go(CLOSED + timedelta(days=7, seconds=-1))
    assert postpaid.check_overdue() == 0
    world.go(CLOSED + timedelta(days=7))
    assert postpaid.check_overdue() == 1
    assert plans.terms(world.acme.pk).frozen == "unpaid"
    assert alerts() == ["unpaid"]
    assert subscribing.letters() == ["invoice_unpaid", "frozen"]
    for letter in Letter.unscoped.values_list("pk", flat=True):
        letters.send(str(letter))
    assert "Your invoice of January 2027 could not be paid" in [mail.subject for mail in mailoutbox]

    world.card()
    world.v1.invoices.pay(str(row.stripe_id))
    subscriptions.refresh_invoice(str(row.stripe_id))
    assert (plans.terms(world.acme.pk).frozen, world.balance(), alerts()) == ("", 0, [])


def test_an_invoice_without_a_card_to_charge_is_told_at_once_and_freezes_after_the_grace(world):
    agree(world)
    call(world, 10 * DOLLAR, day("2027-01-15T00:00:00"))
    world.go(CLOSED)

    assert postpaid.invoice_month(JANUARY) == 1

    assert (invoice(world).state, subscribing.letters(), alerts()) == ("open", ["invoice_unpaid"], [])
    world.go(CLOSED + timedelta(days=7))
    assert postpaid.check_overdue() == 1
    assert plans.terms(world.acme.pk).frozen == "unpaid"


def test_an_invoice_that_was_paid_by_bank_transfer_is_credited_and_is_no_money_at_stripe(world):
    agree(world, days_until_due=30)
    call(world, 10 * DOLLAR, day("2027-01-15T00:00:00"))
    world.go(CLOSED)
    postpaid.invoice_month(JANUARY)

    world.v1.invoices.pay(str(invoice(world).stripe_id), {"paid_out_of_band": True})
    for _ in range(2):
        subscriptions.refresh_invoice(str(invoice(world).stripe_id))

    assert (invoice(world).state, world.balance(), alerts()) == ("paid", 0, [])
    assert (books.entries_sum("bank_cash"), books.entries_sum("stripe_cash")) == (-10 * DOLLAR, 0)
    call(world, 7 * DOLLAR, day("2027-02-15T00:00:00"))
    world.go(day("2027-03-01T07:00:00"))
    postpaid.invoice_month(FEBRUARY)
    assert invoice(world).cents == 7_00


def test_an_invoice_that_is_sent_is_due_when_the_terms_say_and_paid_on_its_page(world):
    agree(world, days_until_due=30)
    call(world, 10 * DOLLAR, day("2027-01-15T00:00:00"))
    world.go(CLOSED)
    postpaid.invoice_month(JANUARY)
    row = invoice(world)
    assert (row.state, row.due_at) == ("open", CLOSED + timedelta(days=30))

    world.go(CLOSED + timedelta(days=36))
    assert postpaid.check_overdue() == 0
    world.card()
    world.v1.invoices.pay(str(row.stripe_id))
    subscribing.tell(world.stand.events("invoice.paid")[-1])

    assert (invoice(world).state, world.balance()) == ("paid", 0)


def test_an_invoice_that_was_read_before_somebody_wrote_that_it_is_void_stays_void(world, monkeypatch):
    agree(world, days_until_due=14)
    call(world, 200 * DOLLAR, day("2027-01-10T12:00:00"))
    world.go(CLOSED)
    postpaid.invoice_month(JANUARY)
    bill = str(invoice(world).stripe_id)
    read = invoices.retrieve

    def overtaken(invoice_id):
        """It is voided, and the event of that handled, while the answer that it is open is on its way."""
        found = read(invoice_id)
        monkeypatch.setattr(invoices, "retrieve", read)
        world.v1.invoices.void_invoice(bill)
        assert postpaid.refresh(bill) == "January 2027 is void"
        return found

    monkeypatch.setattr(invoices, "retrieve", overtaken)

    assert postpaid.refresh(bill) == "January 2027 is void"
    assert invoice(world).state == "void"


def test_what_an_open_invoice_asks_for_is_not_asked_for_again(world):
    agree(world, days_until_due=60)
    call(world, 10 * DOLLAR, day("2027-01-15T00:00:00"))
    world.go(CLOSED)
    postpaid.invoice_month(JANUARY)
    call(world, 7 * DOLLAR, day("2027-02-15T00:00:00"))
    world.go(day("2027-03-01T07:00:00"))

    postpaid.invoice_month(FEBRUARY)

    assert sorted(each["total"] for each in world.there("invoice")) == [7_00, 10_00]
    assert world.balance() == -17 * DOLLAR


def test_what_a_voided_invoice_asked_for_is_asked_for_with_the_next_month(world):
    agree(world, days_until_due=60)
    call(world, 10 * DOLLAR, day("2027-01-15T00:00:00"))
    world.go(CLOSED)
    postpaid.invoice_month(JANUARY)
    world.v1.invoices.void_invoice(str(invoice(world).stripe_id))
    subscriptions.refresh_invoice(str(invoice(world).stripe_id))
    call(world, 7 * DOLLAR, day("2027-02-15T00:00:00"))
    world.go(day("2027-03-01T07:00:00"))

    postpaid.invoice_month(FEBRUARY)

    said, _ = lines(world)
    assert said == [("acme/swift: 1 call", 7_00), ("Carried over, and parts of cents", 10_00)]


def test_calls_that_arrive_after_their_month_was_invoiced_are_on_the_next_invoice_once(world):
    agree(world)
    world.card()
    call(world, 10 * DOLLAR, day("2027-01-15T00:00:00"))
    world.go(CLOSED)
    postpaid.invoice_month(JANUARY)
    call(world, 3 * DOLLAR, day("2027-01-20T00:00:00"))
    call(world, 7 * DOLLAR, day("2027-02-15T00:00:00"))
    world.go(day("2027-03-01T07:00:00"))

    postpaid.invoice_month(FEBRUARY)

    said, _ = lines(world)
    assert said == [("acme/swift: 2 calls", 10_00)]
    assert world.balance() == 0


def test_who_pays_ahead_gets_no_invoice(world):
    plans.set_plan("acme", "production", markup=Decimal("0.02"), monthly_nanos=20 * DOLLAR)
    books.wallets.grant("acme", 30 * DOLLAR)
    call(world, 40 * DOLLAR, day("2027-01-15T00:00:00"))
    world.go(CLOSED)

    assert postpaid.invoice_month(JANUARY) == 0
    assert (world.there("invoice"), world.balance()) == ([], -10 * DOLLAR)


def test_an_invoice_that_was_changed_at_stripe_moves_nothing_and_is_told(world):
    agree(world, days_until_due=30)
    call(world, 10 * DOLLAR, day("2027-01-15T00:00:00"))
    world.go(CLOSED)
    postpaid.invoice_month(JANUARY)
    row = invoice(world)
    StripeInvoice.objects.of(world.acme).update(cents=11_00)
    world.card()
    world.v1.invoices.pay(str(row.stripe_id))

    subscriptions.refresh_invoice(str(row.stripe_id))

    assert (subscribing.cents("invoice_paid"), alerts()) == ([], ["stripe_invoice"])


def test_a_refund_of_a_paid_invoice_makes_its_month_owed_again(world):
    agree(world)
    world.card()
    call(world, 10 * DOLLAR, day("2027-01-15T00:00:00"))
    world.go(CLOSED)
    postpaid.invoice_month(JANUARY)
    made = world.v1.refunds.create({"payment_intent": invoice(world).payment_intent_id, "amount": 4_00})

    for _ in range(2):
        assert subscriptions.refunded(payments.refund(made.id)) == "invoice refunded"

    assert (subscribing.cents("refund"), world.balance()) == ([-4_00], -4 * DOLLAR)


def test_v2_over_a_year_of_any_usage_invoices_and_debt_are_all_that_was_used(world):
    dice = random.Random(3)
    agree(world)
    world.card()
    used, month = 0, JANUARY
    for _ in range(4):
        for _ in range(dice.randint(0, 3)):
            nanos = dice.randint(1, 3 * DOLLAR)
            used += nanos
            call(world, nanos, day(f"{month}T00:00:00") + timedelta(days=dice.randint(0, 27)))
        following = (month + timedelta(days=32)).replace(day=1)
        world.go(day(f"{following}T07:00:00"))
        postpaid.invoice_month(month)
        month = following

    paid = sum(subscribing.cents("invoice_paid")) * CENT
    assert world.balance() == paid - used
    assert 0 <= used - paid < postpaid.LEAST_CENTS * CENT
    for bill in StripeInvoice.objects.of(world.acme):
        assert sum(amount for _, amount in bill.lines) == bill.cents
    assert Wallet.objects.of(world.acme).get().frozen_because == ""
