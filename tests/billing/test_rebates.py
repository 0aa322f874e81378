"""Closing a month: what is counted where, once, and what it leaves us."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from aggregator.lib import clock
from billing import ledger, plans, posting, rebates, stretches, tasks
from billing.core import chart
from billing.models import Alert, MonthClose, Posting
from tests.billing import books

pytestmark = pytest.mark.django_db(transaction=True)

USD = 10**9
MAY = date(2026, 5, 1)
CLOSING = datetime(2026, 6, 1, 6, tzinfo=UTC)


def in_may(day, hour=0, minute=0):
    return datetime(2026, 5, day, hour, minute, tzinfo=UTC)


class Books:
    """An organization on Pro since April, whose calls cost what a test says."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch
        self.at(datetime(2026, 4, 3, tzinfo=UTC))
        self.organization = books.make_organization(usd="0")
        self.key, self.price = books.make_key(self.organization), books.make_price()
        plans.set_plan("acme", "pro")

    def at(self, moment):
        self.monkeypatch.setattr(clock, "now", lambda: moment)

    def use(self, at, usd, *, base=None, loss=0, posted=True):
        charge = int(Decimal(usd) * USD)
        base = charge // 2 if base is None else int(Decimal(base) * USD)
        values = {"charge_nanos": charge, "base_nanos": base, "loss_nanos": loss}
        books.deliver(self.key, self.price, at=at, **values)
        if posted:
            posting.post_generations()

    def close(self, month=MAY):
        return rebates.close_month(month)

    def closed(self, month=MAY):
        return MonthClose.objects.of(self.organization).get(month=month)

    @property
    def rebates(self):
        found = Posting.objects.filter(kind="rebate").order_by("id")
        return {row.source_id: row.entries.get(account__kind="wallet").nanos for row in found}


@pytest.fixture
def acme(monkeypatch):
    return Books(monkeypatch)


def test_usage_above_the_threshold_is_rebated_once_the_month_is_closed(acme):
    acme.use(in_may(3), "900")
    acme.use(in_may(20), "600")
    acme.at(CLOSING)
    before = books.balance(acme.organization)

    assert (acme.close(), acme.close()) == (1, 0)

    assert acme.rebates == {f"{acme.organization.public_id}:2026-05": 10 * USD}
    assert books.balance(acme.organization) == before + 10 * USD
    assert acme.closed().posting.kind == "rebate"


def test_closing_a_month_by_many_at_once_posts_once(acme):
    acme.use(in_may(3), "1500")
    acme.at(CLOSING)
    closed = []

    def work():
        closed.append(acme.close())
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(closed) == 1
    assert list(acme.rebates.values()) == [10 * USD]


def test_a_month_is_cut_where_the_terms_changed_to_the_millisecond(acme):
    acme.use(in_may(3), "1200")
    changed = in_may(10, 9, 30)
    acme.use(changed - timedelta(milliseconds=1), "100")
    acme.at(changed)
    plans.set_plan("acme", "business")
    acme.use(changed, "100")
    acme.use(in_may(10, 9, 59), "10", posted=False)
    acme.use(in_may(10, 10), "90")
    acme.use(in_may(31, 23, 59), "100")
    acme.use(datetime(2026, 6, 1, tzinfo=UTC), "5000")
    acme.at(CLOSING)
    acme.close()

    pro, business = acme.closed().detail
    assert (pro["charge_nanos"], pro["requests"], pro["rate"]) == (1300 * USD, 2, "0.020000")
    assert (business["charge_nanos"], business["requests"]) == (300 * USD, 4)
    assert (pro["until"], business["from"]) == (changed.isoformat(), changed.isoformat())
    assert list(acme.rebates.values()) == [300 * USD * 2 // 100 + 300 * USD * 5 // 100]


def test_terms_that_changed_twice_within_an_hour_cut_it_twice(acme):
    for minute, plan in ((10, "business"), (40, "free")):
        acme.at(in_may(10, 9, minute))
        plans.set_plan("acme", plan)
    for minute in (5, 20, 50):
        acme.use(in_may(10, 9, minute), "1000", posted=minute != 20)

    cuts = stretches.of(acme.organization.pk, MAY)

    assert [cut.terms.plan for cut in cuts] == ["pro", "business", "free"]
    assert [one.requests for one in stretches.usage(acme.organization.pk, cuts)] == [1, 1, 1]
    assert rebates.accrued(acme.organization.pk, MAY) == 50 * USD


def test_an_agreed_discount_on_the_providers_share(acme):
    agreed = {"markup": Decimal("0.2"), "volume_discount": Decimal("0.1"), "discount_basis": "base"}
    plans.set_plan("acme", "production", discount_threshold_nanos=100 * USD, **agreed)
    acme.use(in_may(3), "360", base="300")
    acme.at(CLOSING)
    acme.close()

    assert list(acme.rebates.values()) == [20 * USD]


def test_without_a_rebate_the_month_is_closed_and_nothing_posted(acme):
    acme.use(in_may(3), "1000")
    acme.at(CLOSING)

    assert acme.close() == 1
    assert (acme.closed().posting, acme.rebates) == (None, {})


def test_a_month_is_not_closed_before_its_grace_is_over(acme):
    acme.use(in_may(3), "1500")
    acme.at(CLOSING - timedelta(seconds=1))

    with pytest.raises(rebates.NotClosable, match="2026-06-01 06:00"):
        acme.close()
    tasks.close_month()

    assert not MonthClose.unscoped.exists()


def test_a_month_is_not_closed_while_a_call_of_it_is_not_posted(acme):
    acme.use(in_may(3), "1500")
    acme.use(in_may(31, 23, 59), "1", posted=False)
    acme.at(CLOSING)
    tasks.close_month()
    assert not MonthClose.unscoped.exists()
    assert not Alert.objects.exists()
    acme.at(CLOSING + timedelta(hours=6))
    tasks.close_month()
    assert Alert.objects.get(resolved_at=None).subject == "2026-05"

    posting.post_generations()
    tasks.close_month()

    assert acme.closed().charged_nanos == 1501 * USD
    assert not Alert.objects.filter(resolved_at=None).exists()


def test_what_arrives_after_the_close_counts_in_the_next_month(acme):
    acme.use(in_may(3), "1500")
    acme.at(CLOSING)
    acme.close()
    acme.use(in_may(31), "200", base="50")
    acme.use(datetime(2026, 6, 9, tzinfo=UTC), "900")
    assert acme.close() == 0
    acme.at(datetime(2026, 7, 1, 6, tzinfo=UTC))
    acme.close(date(2026, 6, 1))
    acme.at(datetime(2026, 8, 1, 6, tzinfo=UTC))

    june = acme.closed(date(2026, 6, 1))
    assert june.detail[0]["late"] == "2026-05"
    assert (june.charged_nanos, june.base_nanos) == (1100 * USD, 500 * USD)
    assert june.rebate_nanos == 2 * USD
    assert acme.close(date(2026, 7, 1)) == 0


def test_the_margin_counts_income_fees_losses_and_the_rebate(acme):
    acme.at(in_may(15))
    acme.use(in_may(3), "1500", base="1000", loss=7)
    owner = acme.organization.pk
    for kind, entries in {
        "subscription": {chart.SUBSCRIPTION_REVENUE: 10 * USD, chart.STRIPE_CASH: -10 * USD},
        "stripe_fee": {chart.STRIPE_FEES: -USD, chart.STRIPE_CASH: USD},
        "after_cancel": {chart.PROVIDER_COST: 5, chart.LOSS: -5},
    }.items():
        booked = {(account, None): nanos for account, nanos in entries.items()}
        ledger.post(kind, f"{kind}-1", entries=booked, organization_id=owner, source="test")
    acme.at(datetime(2026, 6, 1, tzinfo=UTC))
    booked = {(chart.STRIPE_FEES, None): -USD, (chart.STRIPE_CASH, None): USD}
    ledger.post("stripe_fee", "of-june", entries=booked, organization_id=owner, source="test")
    acme.at(CLOSING)
    acme.close()

    row = acme.closed()
    assert (row.charged_nanos, row.base_nanos, row.loss_nanos) == (1500 * USD, 1000 * USD, 12)
    assert (row.subscription_nanos, row.stripe_fees_nanos) == (10 * USD, USD)
    assert row.margin_nanos == 500 * USD - 12 + 10 * USD - USD - 10 * USD
    found = rebates.margin(MAY)
    assert (found.organizations, found.margin_nanos) == (1, row.margin_nanos)
    assert rebates.margin(date(2026, 4, 1)).margin_nanos == 0


def test_what_each_plan_would_have_cost_by_hand(acme):
    acme.use(in_may(3), "1500", base="1200")
    acme.use(in_may(4), "900", base="800", posted=False)
    acme.at(in_may(20))

    (costs,) = rebates.would_have_cost(acme.organization.pk, MAY)

    shown = {
        plan: (cost.usage_nanos, cost.fee_nanos, cost.rebate_nanos, cost.total_nanos)
        for plan, cost in costs.items()
    }
    assert shown == {
        "free": (2200 * USD, 0, 0, 2200 * USD),
        "pro": (2100 * USD, 9_990_000_000, 22 * USD, 2_087_990_000_000),
        "business": (2060 * USD, 99 * USD, 53 * USD, 2106 * USD),
    }
    assert costs["pro"].so_far
    acme.at(CLOSING)
    assert not rebates.would_have_cost(acme.organization.pk, MAY)[0]["free"].so_far


def test_a_month_without_usage_would_have_cost_the_fees(acme):
    (costs,) = rebates.would_have_cost(acme.organization.pk, MAY)
    totals = [cost.total_nanos for cost in costs.values()]

    assert totals == [0, 9_990_000_000, 99_000_000_000]


def test_the_command_closes_the_month_and_shows_its_margin(acme):
    acme.use(in_may(3), "1500", base="1000")
    acme.at(CLOSING)
    out = StringIO()

    call_command("close_month", "2026-05", stdout=out, skip_checks=True)

    assert "2026-05: 1 closed now" in out.getvalue()
    assert "margin          $490.00" in out.getvalue()
    for bad in ("2026-13", "May", "2026-06"):
        with pytest.raises(CommandError):
            call_command("close_month", bad, stdout=out, skip_checks=True)
