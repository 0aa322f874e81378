"""Prices are dated: a change is a new row, and what begins later is in force later."""

from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connections

from aggregator.lib import clock
from billing import prices
from billing.models import Price
from tests.billing import books


@pytest.mark.django_db
def test_a_price_that_says_the_same_is_not_written_again():
    first = prices.record(books.ENDPOINT, {"input": "2", "output": "8"}, source="test")
    again = prices.record(
        books.ENDPOINT, {"input": "2.00", "output": "8.0", "cache_read": "2"}, source="other"
    )

    assert again == first
    assert Price.objects.count() == 1


@pytest.mark.django_db
def test_a_new_price_succeeds_the_old_one_which_stays():
    old = prices.record(books.ENDPOINT, {"input": "2", "output": "8"}, source="test")
    new = prices.record(books.ENDPOINT, {"input": "3", "output": "8"}, source="test")

    current = prices.current()[books.ENDPOINT]

    assert (current.id, current.rates.input) == (new, Decimal(3000))
    assert prices.by_id([old])[old].rates.input == Decimal(2000)


@pytest.mark.django_db
def test_a_price_that_begins_later_is_in_force_later():
    now = clock.now()
    prices.record(
        books.ENDPOINT, {"input": "2", "output": "8"}, source="test", starts_at=now - timedelta(days=1)
    )
    coming = prices.record(
        books.ENDPOINT, {"input": "1", "output": "4"}, source="test", starts_at=now + timedelta(days=1)
    )

    assert prices.current()[books.ENDPOINT].id != coming
    assert prices.current(now + timedelta(days=2))[books.ENDPOINT].id == coming


@pytest.mark.django_db
def test_an_endpoint_without_a_price_is_absent_and_zero_is_a_price():
    prices.record("sandbox:acme/free", {"input": "0", "output": "0"}, source="test")

    assert set(prices.current()) == {"sandbox:acme/free"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "stated", [{"input": "2"}, {"input": 0.5, "output": "1"}, {"input": "x", "output": "1"}]
)
def test_a_bad_price_is_refused_and_nothing_is_stored(stated):
    with pytest.raises(ValueError):
        prices.record(books.ENDPOINT, stated, source="test")
    assert not Price.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_same_price_recorded_by_many_at_once_is_one_row():
    def work():
        prices.record(books.ENDPOINT, {"input": "2", "output": "8"}, source="test")
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Price.objects.count() == 1
