"""What is told of subscriptions: in any order, twice, late, by mistake, or of what is not ours."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connections

from aggregator.lib.errors import Refusal
from billing import freezing, plans
from billing.models import StripeInvoice, Subscription
from billing.payments import subscriptions
from billing.stripe_client import door, payments, whole
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


def test_any_order_and_repetition_of_what_is_told_leads_to_one_state(world):
    url = subscriptions.begin(world.acme, "pro", by=world.owner)
    world.stand.pay(url)
    world.go(day("2026-02-28T14:00:00"))
    kinds = ("checkout.session.completed", "customer.subscription.created", "invoice.paid")
    told = world.stand.events(*kinds)
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


def test_f47_without_a_single_event_the_job_finds_what_was_paid_renewed_and_ended(world):
    world.stand.pay(subscriptions.begin(world.acme, "pro", by=world.owner))
    world.go(timedelta(minutes=11))
    assert subscriptions.end_grace() == 1
    assert world.plan() == "pro"
    assert subscriptions.end_grace() == 0

    world.go(day("2026-02-28T15:00:01"))
    assert subscriptions.end_grace() == 1
    assert (world.row().period_end, cents("subscription")) == (day("2026-03-31T12:00:00"), [9_99, 9_99])

    world.v1.subscriptions.cancel(str(world.row().stripe_id))
    world.go(day("2026-03-31T15:00:01"))
    assert subscriptions.end_grace() == 1
    assert (world.row().state, world.plan()) == ("ended", "free")


def test_a_suspended_account_begins_no_subscription_but_for_what_it_owes(world):
    freezing.freeze(world.acme.pk, "unpaid", by="test")
    assert subscriptions.begin(world.acme, "pro", by=world.owner)

    freezing.freeze(world.acme.pk, "dispute", by="test")
    with pytest.raises(Refusal) as refused:
        subscriptions.begin(world.acme, "pro", by=world.owner)
    assert refused.value.error_type == "account_suspended"


def test_what_was_read_before_somebody_applied_something_newer_is_read_again(world, monkeypatch):
    row = world.subscribe("pro")
    read = whole.read
    meanwhile = iter([lambda: subscriptions.cancel(world.acme, by=world.owner)])

    def slow(*arguments, **options):
        found = read(*arguments, **options)
        next(meanwhile, lambda: None)()
        return found

    monkeypatch.setattr(whole, "read", slow)
    subscriptions.refresh(str(row.stripe_id))

    assert (world.row().next_plan, world.row().looks) == ("free", 4)
