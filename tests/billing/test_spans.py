"""Sums over hours and days are those of the single calls, posted or not, and savings are exact."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from billing import posting, reconcile, spans
from billing.core import pricing
from billing.core.sums import Range, Sums, fewest
from billing.core.usage import Usage
from billing.models import EndUserDay, EndUserMonth
from tests.billing import books

DAY = datetime(2026, 11, 20, tzinfo=UTC)
CACHING = {"input": "2", "cache_read": "0.2", "cache_write_5m": "2.5", "output": "8"}
NOW = Range(24, DAY, DAY + timedelta(days=2))
BEFORE = Range(24, DAY - timedelta(days=2), DAY)


@pytest.fixture
def key(db):
    return books.make_key(books.make_organization())


def test_sums_are_the_same_before_and_after_posting(key):
    price, other = books.make_price(stated=CACHING), books.make_key(key.organization, "other")
    books.deliver(key, price, at=DAY, usage=Usage(input=10, cache_read=90, output=5), latency_ms=800)
    books.deliver(other, price, at=DAY + timedelta(hours=30), model="acme/slow", endpoint="x:acme/slow")
    books.deliver(key, price, at=DAY + timedelta(hours=30), status="failed", free=True)
    books.deliver(key, price, at=DAY - timedelta(minutes=1), status="aborted")
    read = lambda: spans.used(key.organization_id, NOW, [BEFORE])  # noqa: E731

    unposted = read()
    posting.post_generations(limit=2)
    posting.post_generations()
    now, before = read()

    for was, now_is in zip(unposted, (now, before), strict=True):
        assert (was.charges, was.by_time, was.by_model) == (now_is.charges, now_is.by_time, now_is.by_model)
        assert (was.by_endpoint, was.by_key) == (now_is.by_endpoint, now_is.by_key)
        assert sum(now_is.by_time.values(), Sums()) == now_is.total
        assert sum(now_is.by_model.values(), Sums()) == now_is.total
    assert (now.total.requests, now.total.failed, before.total.aborted) == (3, 1, 1)
    assert now.by_model["acme/swift"].cached == 90
    assert set(now.charges) == {
        (DAY, "acme/swift"), (DAY + timedelta(days=1), "acme/slow"), (DAY + timedelta(days=1), "acme/swift")
    }  # fmt: skip
    assert sum(now.charges.values()) == now.total.charge_nanos > 0
    assert now.speeds[DAY, False] == {28: 1}  # 2^(28/3) = 645 ms, 2^(29/3) = 813 ms


def test_some_keys_and_another_organization_are_apart(key):
    price, other = books.make_price(), books.make_key(key.organization, "other")
    theirs = books.make_key(books.make_organization("theirs"))
    for each in (key, other, theirs):
        books.deliver(each, price, at=DAY)
    posting.post_generations()
    books.deliver(other, price, at=DAY)

    def requests(**of):
        return spans.used(key.organization_id, NOW, [], **of)[0].total.requests

    assert (requests(), requests(key_ids=[other.pk]), requests(key_ids=[theirs.pk])) == (3, 2, 0)
    assert requests(key_ids=[]) == 0
    assert spans.any_call(key.organization_id)
    assert not spans.any_call(key.organization_id, key_ids=[theirs.pk])


def test_a_time_may_end_within_a_day(key):
    price = books.make_price()
    for hour in (1, 5, 23):
        books.deliver(key, price, at=DAY + timedelta(hours=hour))
    posting.post_generations()
    until_six = Range(1, DAY, DAY + timedelta(hours=6))

    _, before = spans.used(key.organization_id, NOW, [until_six])

    assert {slot: sums.requests for slot, sums in before.by_time.items()} == {DAY: 2}


def test_what_end_users_spend_is_summed_by_days_and_months(key):
    price = books.make_price()
    at = datetime(2026, 11, 3, 14, tzinfo=UTC)
    calls = [books.deliver(key, price, at=at, end_user=name) for name in ("ada", "ada", "", "bob")]

    posting.post_generations()

    days = EndUserDay.objects.of(key.organization).order_by("end_user")
    assert [(row.end_user, row.day, row.requests) for row in days] == [
        ("", date(2026, 11, 3), 3),
        ("ada", date(2026, 11, 3), 2),
        ("bob", date(2026, 11, 3), 1),
    ]
    assert days[1].charge_nanos == 2 * calls[0].charge_nanos

    books.deliver(key, price, at=at + timedelta(days=9), end_user="ada")
    posting.post_generations()

    months = EndUserMonth.objects.of(key.organization).order_by("end_user")
    assert [(row.end_user, row.month, row.requests) for row in months] == [
        ("", date(2026, 11, 1), 4),
        ("ada", date(2026, 11, 1), 3),
        ("bob", date(2026, 11, 1), 1),
    ]
    assert months[1].charge_nanos == 3 * calls[0].charge_nanos


AMOUNT = st.decimals(0, 50, places=6).map(str)
COUNT = st.integers(0, 400_000)
STATED = st.fixed_dictionaries(
    {"input": AMOUNT, "output": AMOUNT},
    optional={
        "cache_read": AMOUNT,
        "cache_write_5m": AMOUNT,
        "request": AMOUNT,
        "image": AMOUNT,
        "audio": AMOUNT,
        "tiers": st.just([{"above": 200_000, "input": "7.1"}, {"above": 100_000, "cache_read": "0.3"}]),
    },
)


class Savings(TestCase):
    """What the database says a cache saved is what the price function says."""

    @settings(max_examples=40, deadline=None)
    @given(
        stated=STATED,
        usage=st.builds(Usage, *[COUNT] * 10),
        window=st.booleans(),
        markup=st.decimals(0, 1, places=6),
    )
    def test_savings_are_exact(self, stated, usage, window, markup):
        if window:
            stated = {**stated, "windows": [{"from": "01:00", "until": "02:00", "input": "3.3", "tiers": []}]}
        price = books.make_price("savings:acme/swift", stated).within(1 if window else 0)
        charged = pricing.charge(usage, price, markup)
        parts = [[kind, units, str(nanos)] for kind, units, nanos in charged.parts]
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT cache_saved_nanos(%s, %s, %s, %s::jsonb)",
                [price.id, price.window, markup, json.dumps(parts)],
            )
            (saved,) = cursor.fetchone()

        assert saved == pricing.saved_by_caches(usage, price, markup)


def test_a_cache_that_is_dearer_to_write_costs_and_one_that_is_read_saves():
    price = pricing.parse_price(1, CACHING)

    assert pricing.saved_by_caches(Usage(cache_read=1000), price, Decimal("0.1")) == 1_980_000
    assert pricing.saved_by_caches(Usage(cache_write_5m=1000), price, Decimal("0.1")) == -550_000
    assert pricing.saved_by_caches(Usage(input=1000), price, Decimal("0.1")) == 0


@pytest.mark.parametrize("unknown", [{"price_window": 7}, {"price_id": None}])
def test_a_saving_that_cannot_be_reckoned_stops_no_posting(key, unknown: dict[str, int | None]):
    price, usage = books.make_price(stated=CACHING), Usage(input=10, cache_read=90, output=5)
    books.deliver(key, price, at=DAY, usage=usage, **unknown)

    before = spans.used(key.organization_id, NOW, [])[0].total

    assert posting.post_generations() == 1
    assert spans.used(key.organization_id, NOW, [])[0].total == before
    assert next(found for found in reconcile.check() if found.name == "spans_are_sums").holds
    assert before.saved_nanos == 0 and before.charge_nanos > 0


HOURS = st.integers(0, 24 * 130).map(lambda hours: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hours))


@given(HOURS, HOURS)
def test_the_fewest_spans_of_a_time_hold_each_of_its_hours_once_and_no_other(one, other):
    since, until = sorted((one, other))
    until += timedelta(hours=1)
    held: Counter[datetime] = Counter()
    spans_read = 0
    for each in fewest(since, until):
        assert each.since < each.until
        if each.hours > 1:
            assert (each.since.hour, each.until.hour) == (0, 0)
        if each.hours == 720:
            assert (each.since.day, each.until.day) == (1, 1)
        length = (each.until - each.since) // timedelta(hours=1)
        held.update({each.since + timedelta(hours=at): each.sign for at in range(length)})
        spans_read += length // 24 if each.hours == 24 else 0
    wanted = {since + timedelta(hours=at) for at in range((until - since) // timedelta(hours=1))}
    assert {hour: count for hour, count in held.items() if count} == dict.fromkeys(wanted, 1)
    assert spans_read <= 31
