"""Pro and Business: begun, renewed, changed, canceled, overdue; whatever tells of it, in any order."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from aggregator.lib.errors import Refusal
from billing import letters, plans
from billing.core import pricing
from billing.models import StripeInvoice, Subscription
from billing.payments import subscribed, subscriptions
from tests.billing import books, subscribing
from tests.billing.subscribing import alerts, cents, day

pytestmark = pytest.mark.django_db(transaction=True)

START = day("2026-01-31T12:00:00")
DAYS = timedelta(days=1)


@pytest.fixture
def world(stand, monkeypatch):
    return subscribing.World(stand, monkeypatch, START)


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


def test_a_renewal_that_is_paid_in_the_moment_in_which_the_plan_ends_is_told(world):
    world.subscribe("pro")
    world.card(subscribing.BAD)
    world.go(day("2026-02-28T14:00:00"))
    world.hear()
    (bill,) = StripeInvoice.objects.of(world.acme).filter(state="open")
    world.card()
    world.v1.invoices.pay(str(bill.stripe_id))

    subscribed._end_there(world.row())

    assert alerts() == ["stripe_subscription"]


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
