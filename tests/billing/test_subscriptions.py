"""Pro and Business: begun, renewed, changed, canceled, overdue; whatever tells of it, in any order."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connections

from aggregator.lib.errors import Refusal
from billing import letters, plans, pricing, subscriptions
from billing.models import StripeInvoice, Subscription
from billing.stripe_client import door, payments
from tests.billing import books, subscribing
from tests.billing.subscribing import alerts, cents, day

pytestmark = pytest.mark.django_db(transaction=True)

START = day("2026-01-31T12:00:00")
DAYS = timedelta(days=1)


@pytest.fixture
def world(stand, monkeypatch):
    return subscribing.World(stand, monkeypatch, START)


@pytest.fixture
def once(monkeypatch):
    """The door asks Stripe once and does not try again by itself."""
    monkeypatch.setattr(door, "_client", subscribing.impatient)


def test_a_paid_page_gives_pro_and_calls_are_charged_at_five_percent_from_then_on(world):
    before = plans.terms(world.acme.pk)

    row = world.subscribe("pro")

    terms = plans.terms(world.acme.pk)
    assert (before.markup, terms.markup, terms.version) == (Decimal("0.10"), Decimal("0.05"), 2)
    price = books.make_price()
    assert pricing.charge(books.USAGE, price, terms.markup).nanos == 6_300_000
    assert (row.state, row.plan, row.next_plan, row.grace_until) == ("active", "pro", "", None)
    assert cents("subscription") == [9_99]
    assert books.entries_sum("subscription_revenue") == 9_99 * subscribing.CENT
    assert world.balance() == 0
    bill = StripeInvoice.objects.of(world.acme).get()
    assert (bill.state, bill.cents, bill.payment_intent_id is None, bill.charge_id is None) == (
        "paid",
        9_99,
        False,
        False,
    )
    assert alerts() == []


def test_a_page_that_nobody_paid_gives_nothing(world):
    url = subscriptions.begin(world.acme, "pro", by=world.owner)

    assert world.stand.pay(url, "4000000000000002").status_code == 402
    assert subscriptions.look(world.acme) is None
    world.hear()

    assert (world.plan(), world.row().state) == ("free", "open")
    assert cents("subscription") == []


def test_an_abandoned_page_is_expired_and_another_may_be_begun(world):
    first = subscriptions.begin(world.acme, "pro", by=world.owner)
    world.v1.checkout.sessions.expire(str(world.row().session_id))
    subscriptions.refresh_session(str(world.row().session_id))

    assert world.row().state == "expired"
    assert subscriptions.begin(world.acme, "pro", by=world.owner) != first


def test_the_same_page_is_offered_again_and_another_plan_closes_it(world):
    first = subscriptions.begin(world.acme, "pro", by=world.owner)

    assert subscriptions.begin(world.acme, "pro", by=world.owner) == first
    other = subscriptions.begin(world.acme, "business", by=world.owner)

    assert other != first
    states = {row.plan: row.state for row in Subscription.objects.of(world.acme)}
    assert states == {"pro": "expired", "business": "open"}
    assert [each["status"] for each in world.there("checkout.session")] == ["expired", "open"]


def test_who_has_a_subscription_or_agreed_terms_begins_none(world):
    world.subscribe("pro")
    with pytest.raises(Refusal) as refused:
        subscriptions.begin(world.acme, "business", by=world.owner)
    assert refused.value.error_type == "already_subscribed"

    other = subscribing.Organization.objects.create(slug="other", name="Other")
    subscribing.wallets.open_wallet(other.pk)
    plans.set_plan("other", "production", markup=Decimal("0.02"))
    for plan, error_type in (("pro", "plan_is_agreed"), ("free", "unknown_plan"), ("gold", "unknown_plan")):
        with pytest.raises(Refusal) as refused:
            subscriptions.begin(other, plan, by=world.owner)
        assert refused.value.error_type == error_type


def test_f50_a_month_from_the_31st_ends_with_february_and_the_one_after_on_the_31st(world):
    row = world.subscribe("pro")
    assert (row.period_start, row.period_end) == (START, day("2026-02-28T12:00:00"))

    world.go(day("2026-02-28T14:00:00"))
    world.hear()

    row = world.row()
    assert (row.period_start, row.period_end) == (day("2026-02-28T12:00:00"), day("2026-03-31T12:00:00"))
    assert cents("subscription") == [9_99, 9_99]
    assert world.plan() == "pro"


def test_an_upgrade_is_charged_at_once_for_what_is_left_of_the_period_to_the_cent(world):
    world.subscribe("pro")
    world.go(7 * DAYS)  # of 28: three quarters are left
    shown = subscriptions.preview(world.acme, "business")

    row = subscriptions.change(world.acme, "business", by=world.owner)

    # 99.00 × ¾ − 9.99 × ¾: each line rounded to cents, 74.25 − 7.49.
    assert (shown.now_cents, shown.monthly_cents, shown.begins_at) == (66_76, 99_00, None)
    assert cents("subscription") == [9_99, 66_76]
    assert (row.plan, row.wish, world.plan()) == ("business", "", "business")
    assert plans.terms(world.acme.pk).markup == Decimal("0.03")

    world.go(day("2026-02-28T14:00:00"))
    world.hear()
    assert cents("subscription") == [9_99, 66_76, 99_00]
    assert alerts() == []


def test_an_upgrade_that_the_bank_declines_changes_nothing_and_may_be_tried_again(world):
    world.subscribe("pro")
    world.card(subscribing.BAD)

    with pytest.raises(Refusal) as refused:
        subscriptions.change(world.acme, "business", by=world.owner)
    assert (refused.value.error_type, refused.value.status) == ("card_declined", 402)
    world.hear()
    assert (world.row().plan, world.row().state, world.plan()) == ("pro", "active", "pro")
    assert cents("subscription") == [9_99]

    world.card(subscribing.GOOD)
    assert subscriptions.change(world.acme, "business", by=world.owner).plan == "business"
    assert cents("subscription") == [9_99, 89_01]


def test_a_downgrade_waits_for_the_end_of_the_period(world):
    world.subscribe("business")
    shown = subscriptions.preview(world.acme, "pro")

    row = subscriptions.change(world.acme, "pro", by=world.owner)

    assert (shown.now_cents, shown.monthly_cents, shown.begins_at) == (0, 9_99, row.period_end)
    assert (row.plan, row.next_plan, world.plan()) == ("business", "pro", "business")
    world.go(day("2026-02-28T14:00:00"))
    world.hear()
    row = world.row()
    assert (row.plan, row.next_plan, world.plan()) == ("pro", "", "pro")
    assert cents("subscription") == [99_00, 9_99]
    assert alerts() == []


def test_a_downgrade_is_taken_back_by_keeping_or_by_going_up(world):
    world.subscribe("pro")
    subscriptions.change(world.acme, "business", by=world.owner)
    subscriptions.change(world.acme, "pro", by=world.owner)

    assert subscriptions.keep(world.acme, by=world.owner).next_plan == ""
    world.go(day("2026-02-28T14:00:00"))
    world.hear()

    assert (world.row().plan, world.plan()) == ("business", "business")


def test_a_canceled_subscription_lasts_to_the_end_of_its_period_and_not_longer(world):
    world.subscribe("pro")

    row = subscriptions.cancel(world.acme, by=world.owner)

    assert (row.state, row.next_plan, world.plan()) == ("active", "free", "pro")
    world.go(day("2026-02-28T11:59:00"))
    world.hear()
    assert world.plan() == "pro"
    world.go(day("2026-02-28T14:00:00"))
    world.hear()
    row = world.row()
    assert (row.state, row.next_plan, world.plan()) == ("ended", "", "free")
    assert cents("subscription") == [9_99]
    assert subscribing.letters() == ["plan_ended"]
    assert subscriptions.begin(world.acme, "pro", by=world.owner)


@pytest.mark.parametrize("way", ["keep", "up"])
def test_a_cancellation_is_taken_back(world, way):
    world.subscribe("pro")
    subscriptions.cancel(world.acme, by=world.owner)

    if way == "keep":
        row = subscriptions.keep(world.acme, by=world.owner)
    else:
        row = subscriptions.change(world.acme, "business", by=world.owner)

    assert row.next_plan == ""
    world.go(day("2026-02-28T14:00:00"))
    world.hear()
    assert world.plan() == ("pro" if way == "keep" else "business")


def test_a_scheduled_downgrade_gives_way_to_a_cancellation_and_back(world):
    world.subscribe("business")
    subscriptions.change(world.acme, "pro", by=world.owner)

    assert subscriptions.cancel(world.acme, by=world.owner).next_plan == "free"
    assert subscriptions.change(world.acme, "pro", by=world.owner).next_plan == "pro"


def test_a_failed_renewal_leaves_the_plan_for_the_grace_and_no_longer(world, settings):
    settings.BILLING_GRACE_DAYS = 7
    world.subscribe("pro")
    world.card(subscribing.BAD)
    world.go(day("2026-02-28T14:00:00"))
    world.hear()

    row = world.row()
    assert (row.state, world.plan()) == ("past_due", "pro")
    assert day("2026-03-07T12:00:00") <= row.grace_until <= day("2026-03-07T14:00:00")
    with pytest.raises(Refusal) as refused:
        subscriptions.change(world.acme, "business", by=world.owner)
    assert refused.value.error_type == "payment_overdue"
    world.go(row.grace_until - timedelta(seconds=1))
    assert subscriptions.end_grace() == 0
    assert world.plan() == "pro"

    world.go(row.grace_until)
    assert subscriptions.end_grace() == 1

    world.hear()
    assert (world.row().state, world.plan()) == ("ended", "free")
    assert [each["status"] for each in world.there("subscription")] == ["canceled"]
    assert [each["status"] for each in world.there("invoice")] == ["paid", "void"]
    assert cents("subscription") == [9_99]
    assert subscribing.letters() == ["payment_failed", "plan_ended"]
    assert alerts() == []


def test_a_renewal_that_is_paid_within_the_grace_keeps_the_plan(world):
    world.subscribe("pro")
    world.card(subscribing.BAD)
    world.go(day("2026-02-28T14:00:00"))
    world.hear()
    world.card(subscribing.GOOD)

    world.v1.invoices.pay(world.there("invoice")[-1]["id"])
    world.hear()

    row = world.row()
    assert (row.state, row.grace_until, world.plan()) == ("active", None, "pro")
    assert cents("subscription") == [9_99, 9_99]
    assert subscribing.letters() == ["payment_failed"]
    world.go(30 * DAYS)
    assert subscriptions.end_grace() == 0


def test_letters_of_overdue_and_ended_plans_say_what_to_do(world, mailoutbox):
    world.subscribe("pro")
    world.card(subscribing.BAD)
    world.go(day("2026-02-28T14:00:00"))
    world.hear()
    world.go(8 * DAYS)
    subscriptions.end_grace()

    for letter in letters.waiting():
        assert letters.send(letter)

    failed, ended = mailoutbox
    assert failed.to == ended.to == ["owner@example.com"]
    assert failed.subject == "Your payment for the Pro plan failed"
    assert "$9.99" in failed.body
    assert "until 7 March 2026" in failed.body
    assert ended.subject == "Your Pro plan has ended"
    assert "because its payment failed" in ended.body
    assert "/billing" in failed.body


def test_any_order_and_repetition_of_what_is_told_leads_to_one_state(world):
    url = subscriptions.begin(world.acme, "pro", by=world.owner)
    world.stand.pay(url)
    world.go(day("2026-02-28T14:00:00"))
    told = [
        event
        for event in world.stand.events()
        if event["type"].startswith(("checkout.session.", "customer.subscription.", "invoice.pa"))
    ]
    dice = random.Random(1)
    states = set()
    for _ in range(3):
        for event in dice.sample(told, len(told)) + dice.sample(told, 2):
            subscribing.tell(event)
        row = world.row()
        states.add((row.state, row.plan, row.period_end, world.plan(), tuple(cents("subscription"))))

    assert states == {("active", "pro", day("2026-03-31T12:00:00"), "pro", (9_99, 9_99))}
    assert plans.terms(world.acme.pk).version == 2


@pytest.mark.parametrize("first", ["checkout.session.", "customer.subscription.", "invoice."])
def test_whichever_kind_of_event_comes_first_the_plan_is_given_by_it(world, first):
    world.stand.pay(subscriptions.begin(world.acme, "pro", by=world.owner))

    subscribing.tell(next(event for event in world.stand.events() if event["type"].startswith(first)))

    assert (world.row().state, world.plan(), cents("subscription")) == ("active", "pro", [9_99])


def test_events_of_an_ended_subscription_leave_the_next_one_alone(world):
    world.subscribe("pro")
    world.v1.subscriptions.cancel(str(world.row().stripe_id))
    world.hear()
    assert world.plan() == "free"

    world.subscribe("business")
    world.hear()

    assert world.plan() == "business"
    assert sorted(row.state for row in Subscription.objects.of(world.acme)) == ["active", "ended"]


def test_two_pages_paid_at_once_leave_one_subscription_and_the_other_is_refunded(world):
    pages = [subscriptions.begin(world.acme, "pro", by=world.owner)]
    # The first page was lost sight of, so a second one could be made.
    Subscription.objects.of(world.acme).update(state="expired")
    pages.append(subscriptions.begin(world.acme, "pro", by=world.owner))
    for page in pages:
        assert world.stand.pay(page).status_code == 303

    world.hear()

    states = sorted(row.state for row in Subscription.objects.of(world.acme))
    assert states == ["active", "ended"]
    assert sorted(each["status"] for each in world.there("subscription")) == ["active", "canceled"]
    assert (cents("subscription"), cents("subscription_refund")) == ([9_99, 9_99], [-9_99])
    assert books.entries_sum("subscription_revenue") == 9_99 * subscribing.CENT
    assert (world.plan(), alerts()) == ("pro", ["stripe_subscription"])


def test_f48_a_page_whose_making_was_not_answered_is_asked_for_again_and_made_once(world, once):
    world.stand.mishap("POST /v1/checkout/sessions", "lose")
    with pytest.raises(Refusal) as refused:
        subscriptions.begin(world.acme, "pro", by=world.owner)
    assert refused.value.status == 503

    assert subscriptions.begin(world.acme, "pro", by=world.owner).startswith("http")

    assert len(world.there("checkout.session")) == 1
    assert Subscription.objects.of(world.acme).count() == 1


def test_f48_an_upgrade_whose_answer_was_lost_is_charged_once(world, once):
    row = world.subscribe("pro")
    world.stand.mishap(f"POST /v1/subscriptions/{row.stripe_id}", "lose")
    with pytest.raises(Refusal) as refused:
        subscriptions.change(world.acme, "business", by=world.owner)
    assert refused.value.status == 503
    assert world.row().wish == "up:business"

    with pytest.raises(Refusal) as refused:
        subscriptions.change(world.acme, "business", by=world.owner)

    assert refused.value.error_type == "same_plan"
    assert (world.row().plan, cents("subscription")) == ("business", [9_99, 89_01])


def test_f48_an_upgrade_that_failed_at_stripe_is_made_under_another_key_once_that_is_certain(world, once):
    row = world.subscribe("pro")
    world.stand.mishap(f"POST /v1/subscriptions/{row.stripe_id}", "error")
    with pytest.raises(Refusal):
        subscriptions.change(world.acme, "business", by=world.owner)
    first = world.row().wish_id
    with pytest.raises(Refusal):  # Stripe keeps the answer of a key, a failure too
        subscriptions.change(world.acme, "business", by=world.owner)
    assert (world.row().wish_id, world.row().wish) == (first, "up:business")

    world.go(timedelta(minutes=6))

    assert subscriptions.change(world.acme, "business", by=world.owner).wish_id is None
    assert cents("subscription") == [9_99, 89_00]


def test_a_refund_made_in_the_dashboard_takes_revenue_back_once_and_a_failed_one_gives_it_again(world):
    world.subscribe("pro")
    bill = StripeInvoice.objects.of(world.acme).get()
    made = world.v1.refunds.create({"payment_intent": bill.payment_intent_id, "amount": 5_00})

    for _ in range(2):
        assert subscriptions.refunded(payments.refund(made.id)) == "invoice refunded"
    assert books.entries_sum("subscription_revenue") == 4_99 * subscribing.CENT
    assert (cents("subscription_refund"), world.plan()) == ([-5_00], "pro")

    world.stand.control("refunds/fail", refund=made.id)
    for _ in range(2):
        assert "failed" in str(subscriptions.refunded(payments.refund(made.id)))
    assert books.entries_sum("subscription_revenue") == 9_99 * subscribing.CENT


def test_a_refund_that_is_heard_of_before_its_invoice_finds_it(world):
    world.stand.pay(subscriptions.begin(world.acme, "pro", by=world.owner))
    intent = world.there("payment_intent")[-1]["id"]
    made = world.v1.refunds.create({"payment_intent": intent})

    assert subscriptions.refunded(payments.refund(made.id)) == "invoice refunded"

    assert (cents("subscription"), cents("subscription_refund")) == ([9_99], [-9_99])


def test_tax_is_owed_on_and_is_no_revenue(world, settings):
    settings.STRIPE_TAX = True

    world.subscribe("pro")

    tax = StripeInvoice.objects.of(world.acme).get().tax_cents
    assert tax > 0
    assert cents("subscription") == [9_99 + tax]
    assert books.entries_sum("tax") == tax * subscribing.CENT
    assert books.entries_sum("subscription_revenue") == 9_99 * subscribing.CENT


def test_a_subscription_that_is_not_ours_moves_nothing_and_is_told(world):
    price = world.v1.prices.list({"lookup_keys": ["plan_pro_monthly"]}).data[0].id
    world.card()
    strange = world.v1.subscriptions.create({"customer": world.customer, "items": [{"price": price}]})

    subscriptions.refresh(strange.id)

    assert (world.plan(), cents("subscription"), alerts()) == ("free", [], ["stripe_subscription"])


def test_a_price_that_is_no_plans_gives_no_plan_and_is_told(world):
    row = world.subscribe("pro")
    cheap = world.v1.prices.create(
        {
            "currency": "usd",
            "unit_amount": 1_00,
            "product": "plan_business",
            "recurring": {"interval": "month"},
            "metadata": {"plan": "business"},
        }
    )
    item = world.there("subscription")[0]["items"]["data"][0]["id"]
    world.v1.subscriptions.update(
        str(row.stripe_id), {"items": [{"id": item, "price": cheap.id}], "proration_behavior": "none"}
    )

    subscriptions.refresh(str(row.stripe_id))

    assert (world.plan(), alerts()) == ("pro", ["stripe_subscription"])


def test_agreed_terms_are_not_overruled_by_a_subscription_that_still_runs(world):
    row = world.subscribe("pro")
    plans.set_plan("acme", "production", markup=Decimal("0.02"))

    subscriptions.refresh(str(row.stripe_id))

    assert (world.plan(), alerts()) == ("production", ["stripe_subscription"])


def test_eight_who_apply_one_subscription_at_once_book_it_once(world):
    world.stand.pay(subscriptions.begin(world.acme, "pro", by=world.owner))
    told = itertools.cycle(
        event
        for event in world.stand.events()
        if event["type"].split(".")[0] in ("checkout", "customer", "invoice") and "subscription" in str(event)
    )

    def work(event):
        try:
            subscribing.tell(event)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [next(told) for _ in range(8)]))

    assert (cents("subscription"), world.plan()) == ([9_99], "pro")
    assert plans.terms(world.acme.pk).version == 2
