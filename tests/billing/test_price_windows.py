"""Prices by the hour: half-open windows in UTC, and bills that name the window they were charged in."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.lib import clock, ids
from billing import flush, prices, receipts, recompute, statements
from billing.core import generation, pricing, windows
from billing.core.generation import Generation
from billing.spool import Settlement
from tests.billing import books

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
NIGHT = {"from": "16:30", "until": "00:30", "input": "1"}
STATED = {"input": "2", "output": "8", "cache_read": "0.5", "windows": [NIGHT]}
times = st.integers(0, 1439).map(windows.time_of_day)


def price(**stated: object) -> pricing.Price:
    return pricing.parse_price(7, {**STATED, **stated})


def at(days: int = 0, **time: int) -> datetime:
    return MONDAY + timedelta(days=days, **time)


@pytest.mark.parametrize(
    ("moment", "window"),
    [
        (at(hours=16, minutes=29, seconds=59), 0),
        (at(hours=16, minutes=30), 1),
        (at(hours=23, minutes=59), 1),
        (at(hours=0), 1),
        (at(hours=0, minutes=29, seconds=59), 1),
        (at(hours=0, minutes=30), 0),
    ],
)
def test_a_window_is_half_open_and_passes_midnight(moment, window):
    now = price().at(moment)

    assert (now.id, now.window) == (7, window)
    assert now.rates.input == (Decimal(1000) if window else Decimal(2000))


def test_what_a_window_leaves_out_is_as_the_price_states():
    night = price().within(1).rates

    assert (night.output, night.cache_read, night.cache_write_5m) == (8000, 500, 1000)


def test_a_day_named_is_the_day_on_which_the_window_begins():
    weekend = price(windows=[{**NIGHT, "days": ["sun"]}])

    assert weekend.at(at(days=6, hours=20)).window == 1
    assert weekend.at(at(days=7, minutes=10)).window == 1  # Monday, still Sunday's night
    assert weekend.at(at(days=0, hours=20)).window == 0


def test_a_price_brought_into_a_window_can_be_brought_out_of_it_again():
    night = price().at(at(hours=20))

    assert night.at(at(hours=12)) == price()
    assert night.within(1) == night
    assert str(night.hours) == "16:30–00:30 UTC"


@pytest.mark.parametrize(
    "listed",
    [
        [{**NIGHT, "from": "25:00"}],
        [{**NIGHT, "until": "16:30"}],
        [{**NIGHT, "until": 30}],
        [{**NIGHT, "days": ["caturday"]}],
        [{**NIGHT, "days": []}],
        [{**NIGHT, "inptu": "1"}],
        [{**NIGHT, "windows": []}],
        [NIGHT, {"from": "00:29", "until": "01:00"}],
        ["16:30"],
        {"from": "16:30"},
    ],
)
def test_a_window_that_cannot_be_meant_is_refused(listed):
    with pytest.raises(ValueError):
        price(windows=listed)


def test_a_window_of_a_price_with_tiers_states_its_own():
    tiers = [{"above": 1000, "input": "3"}]

    with pytest.raises(ValueError, match="states its own"):
        price(tiers=tiers)
    night = price(tiers=tiers, windows=[{**NIGHT, "tiers": [{"above": 1000, "input": "1.5"}]}]).within(1)
    assert night.rates_for(1001).input == 1500


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(times, times, st.lists(st.sampled_from(windows.DAYS), min_size=1, unique=True), st.integers(0, 10079))
def test_between_two_changes_the_same_window_holds(begins, ends, days, minute):
    if begins == ends:
        return
    stated = price(windows=[{"from": begins, "until": ends, "days": days, "input": "1"}])
    moment = at(minutes=minute)
    change = stated.next_change(moment)

    assert change is not None and moment < change <= moment + timedelta(days=7)
    last = change - timedelta(seconds=1)
    assert stated.at(moment).window == stated.at(last).window
    assert stated.at(last).window != stated.at(change).window or len(days) > 1


@pytest.fixture
def key():
    return books.make_key(books.make_organization())


@pytest.mark.django_db
def test_a_bill_is_computed_again_in_the_window_that_it_names(key):
    night = books.make_price(stated=STATED).within(1)
    row = books.deliver(key, night, price_window=1)

    assert list(recompute.differences(uuid.UUID(int=0))) == []
    receipt = receipts.of(statements.find_call(key.organization_id, row.id))
    assert receipt.lines[0].unit_price == "$1.00" and str(receipt.hours) == "16:30–00:30 UTC"


@pytest.mark.django_db
@pytest.mark.parametrize("window", [0, 2, -1])
def test_a_bill_that_names_another_window_is_found(key, window):
    night = books.make_price(stated=STATED).within(1)
    books.deliver(key, night, price_window=window)

    assert len(list(recompute.differences(uuid.UUID(int=0)))) == 1


@pytest.mark.django_db
def test_a_price_that_differs_in_its_windows_alone_is_a_new_row():
    old = prices.record(books.ENDPOINT, STATED, source="test")
    again = prices.record(books.ENDPOINT, {**STATED, "windows": [{**NIGHT, "output": "8.0"}]}, source="test")
    new = prices.record(books.ENDPOINT, {**STATED, "windows": [{**NIGHT, "input": "0.9"}]}, source="test")

    assert again == old and new != old


@pytest.mark.django_db(transaction=True)
def test_a_record_from_before_windows_were_stored_is_read_and_kept_with_none(key):
    spool = str(uuid.uuid4())
    flush.register(spool)
    made = Generation(
        id=ids.uuid7(), organization_id=key.organization_id, key_id=key.pk, status="completed", price_window=1
    )
    old = msgspec.json.decode(generation.encode(made))
    del old["price_window"]
    earlier = generation.decode(msgspec.json.encode({**old, "id": str(ids.uuid7())}))
    flush.write(spool, [Settlement(each, "acme", {}) for each in (made, earlier)])

    kept = {call.id: call.price_window for call in statements.calls(key.organization_id)}
    assert kept == {made.id: 1, earlier.id: 0}


@pytest.mark.django_db
def test_what_begins_later_is_announced():
    now = clock.now()
    prices.record(books.ENDPOINT, STATED, source="test", starts_at=now + timedelta(hours=3))

    assert prices.next_start(now) == now + timedelta(hours=3)
    assert prices.next_start(now + timedelta(hours=3)) is None
