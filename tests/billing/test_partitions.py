"""Generations lie in the partition of the month of their admission, and none is ever refused."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import DatabaseError, connection, transaction

from aggregator.lib import clock, ids
from billing import months
from billing.models import Generation
from tests.billing import books

pytestmark = pytest.mark.django_db


def partition(call: Generation) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM generations WHERE id = %s", [call.id])
        return str(cursor.fetchone()[0])


@pytest.fixture
def key():
    return books.make_key(books.make_organization())


@pytest.fixture
def price():
    return books.make_price()


def test_the_database_and_the_product_read_the_same_time_from_an_id():
    for stamp in (0, 1, 1_700_000_000_123, 253_402_300_799_000):
        made = ids.uuid7(stamp)
        with connection.cursor() as cursor:
            cursor.execute("SELECT uuid7_time(%s), uuid7_from(uuid7_time(%s))", [made, made])
            instant, first = cursor.fetchone()
        assert instant == ids.uuid7_time(made)
        assert first.int == stamp << 80


def test_a_month_begins_with_its_first_millisecond_in_utc(key, price):
    months.make(date(2031, 3, 1))
    months.make(date(2031, 4, 1))
    april = datetime(2031, 4, 1, tzinfo=UTC)

    last = books.deliver(key, price, at=april - timedelta(milliseconds=1))
    first = books.deliver(key, price, at=april)

    assert partition(last) == "generations_2031_03"
    assert partition(first) == "generations_2031_04"


def test_the_present_month_and_its_neighbours_are_there():
    today = clock.now().date().replace(day=1)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relname LIKE 'generations\\_20%%' AND relkind = 'r'"
        )
        names = {row[0] for row in cursor.fetchall()}

    assert {
        f"generations_{(today - timedelta(days=1)):%Y_%m}",
        f"generations_{today:%Y_%m}",
        f"generations_{(today + timedelta(days=32)):%Y_%m}",
    } <= names


def test_making_a_month_twice_makes_it_once():
    assert months.make(date(2032, 5, 1)) is True
    assert months.make(date(2032, 5, 17)) is False
    assert months.make_coming() == []


def test_a_call_of_a_month_that_was_not_made_is_kept_and_moves_into_it(key, price):
    at = datetime(2033, 7, 15, tzinfo=UTC)
    call = books.deliver(key, price, at=at)
    assert partition(call) == "generations_rest"

    assert months.make(date(2033, 7, 1)) is True

    assert partition(call) == "generations_2033_07"
    assert Generation.objects.of(key.organization).get() == call
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_trigger WHERE tgenabled = 'D'")
        assert cursor.fetchone()[0] == 0
        cursor.execute(
            "SELECT count(*) FROM pg_indexes WHERE tablename IN ('generations_2033_07', 'generations') "
            "GROUP BY tablename"
        )
        (of_it,), (of_all,) = cursor.fetchall()
        assert of_it == of_all > 6


def test_deletion_is_refused_in_every_partition(key, price):
    months.make(date(2034, 1, 1))
    call = books.deliver(key, price, at=datetime(2034, 1, 2, tzinfo=UTC))

    with (
        pytest.raises(DatabaseError, match="Cannot delete"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute("DELETE FROM generations_2034_01 WHERE id = %s", [call.id])
