"""`manage.py recompute_bills`: every bill follows from what is stored, and whatever does not is said."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from billing import posting
from billing.core import pricing
from billing.core.usage import Usage
from billing.models import BilledUsage
from tests.billing import books

STATED = {
    "input": "2.000001",
    "output": "8",
    "cache_read": "0.5",
    "audio": "7",
    "image": "3",
    "image_output": "30",
    "request": "0.0000000007",
    "tiers": [{"above": 1000, "input": "4.000001"}],
    "windows": [{"from": "16:30", "until": "00:30", "input": "1", "tiers": [{"above": 500, "output": "9"}]}],
}
USAGES = [
    Usage(input=333, output=101),
    Usage(input=900, cache_read=101, output=7, reasoning=3),
    Usage(input=10, audio=300, image=200, image_output=50, audio_output=1),
    Usage(cache_write_5m=11, cache_write_1h=490, output=1),
    Usage(output=0, input=0),
]
MONTH = datetime(2026, 11, 20, tzinfo=UTC)

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> tuple[int, list[str]]:
    """(exit code, lines)."""
    out = StringIO()
    try:
        call_command("recompute_bills", *arguments, stdout=out)
    except SystemExit as ended:
        return int(str(ended.code)), out.getvalue().splitlines()
    return 0, out.getvalue().splitlines()


@pytest.fixture
def price():
    return books.make_price(stated=STATED)


@pytest.fixture
def key(price):
    """Calls of all kinds, in and outside of hours and tiers, charged, free and capped; all posted."""
    key = books.make_key(books.make_organization())
    for at in (MONTH, MONTH + timedelta(days=3)):
        for usage in USAGES:
            for window in (0, 1):
                books.deliver(key, price.within(window), usage=usage, at=at)
            books.deliver(key, price, usage=usage, at=at, status="failed", free=True)
    charged = pricing.charge(USAGES[0], price, books.MARKUP)
    capped = charged.base_nanos - 5
    books.deliver(
        *(key, price),
        usage=USAGES[0],
        base_nanos=capped,
        charge_nanos=capped,
        loss_nanos=5,
        decision={"capped_at_nanos": capped},
    )
    posting.post_generations()
    return key


def test_everything_that_was_priced_as_it_should_be_is_computed_again(key):
    assert {row.price_tier for row in BilledUsage.objects.of(key.organization)} == {0, 1}
    code, lines = run()

    assert code == 0
    rows = BilledUsage.objects.of(key.organization).count()
    assert lines == [f"31 generations and {rows} rows of bills computed again: no differences"]


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("charge_nanos", lambda row: row + 1, "was charged"),
        ("price_tier", lambda row: 1 - row, "names tier"),
        ("audio", lambda row: row + 1, "states the parts"),
        ("price_id", lambda row: row + 999, "which does not exist"),
    ],
)
def test_a_generation_that_differs_is_named(key, price, column: str, value: Callable[[int], int], says: str):
    right = {"charge_nanos": pricing.charge(USAGES[1], price, books.MARKUP).nanos, "price_tier": 1}
    right |= {"audio": 0, "price_id": price.id}
    row = books.deliver(key, price, usage=USAGES[1], **{column: value(right[column])})
    code, lines = run()

    assert code == 1 and len(lines) == 2 and lines[1].endswith(" 1 difference")
    assert lines[0].startswith(f"DIFFERS generation {row.id}") and says in lines[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("charge_nanos = charge_nanos + 1 + priced_requests", "charges"),
        ("charge_nanos = charge_nanos - 1 - priced_requests", "charges"),
        ("input = input + 1000", "charges"),
        ("price_tier = 2", "has no tier 2"),
        ("price_window = 2", "has no window 2"),
        ("price_id = 0", "names no price"),
        ("kind = 'free', markup = 0.04", "is free and charges"),
        ("base_nanos = 0", "states a base of 0"),
    ],
)
def test_a_row_of_a_bill_that_differs_is_named(key, change: str, says: str):
    row = BilledUsage.objects.of(key.organization).filter(kind="charged", price_tier=1, price_window=0)[0]
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE billing_billedusage SET {change} WHERE id = %s", [row.pk])
    code, lines = run()

    assert code == 1 and lines[-1].endswith(" 1 difference")
    assert lines[0].startswith(
        f"DIFFERS what 2026-11 bills organization {key.organization_id} for key {key.pk}"
    )
    assert says in lines[0]


def test_since_a_day_and_of_one_organization_alone(key, price):
    other = books.make_key(books.make_organization("other"))
    books.deliver(other, price, at=MONTH - timedelta(days=40), charge_nanos=1, base_nanos=1)

    assert run("--organization", "acme")[0] == 0 and run("--since", "2026-11-22")[0] == 0
    assert run()[0] == run("--organization", "other")[0] == 1
    assert run("--organization", "other", "--since", "2026-11-01")[1][0].startswith("0 generations")
    with pytest.raises(CommandError, match="There is no organization nobody"):
        run("--organization", "nobody")
    with pytest.raises(CommandError, match="is no day"):
        run("--since", "yesterday")


def test_memory_does_not_grow_with_the_bills(key, price, monkeypatch: pytest.MonkeyPatch):
    """Chunk by chunk, each asked for by where the last one ended."""
    monkeypatch.setattr("billing.recompute.CHUNK", 4)
    before: list[Any] = []
    with connection.execute_wrapper(lambda run, sql, *rest: before.append(sql) or run(sql, *rest)):
        code, lines = run()

    assert code == 0 and lines[-1].startswith("31 generations")
    calls = [sql for sql in before if 'FROM "generations"' in sql]
    assert len(calls) == 31 // 4 + 2 and all("LIMIT 4" in sql for sql in calls)


def test_a_sum_of_calls_differs_from_its_exact_price_by_rounding_alone(key):
    thirds = books.make_price("thirds", {"input": "0.0003", "output": "1"})
    for _ in range(30):
        books.deliver(key, thirds, usage=Usage(input=1), endpoint="thirds")
    posting.post_generations()
    (row,) = BilledUsage.objects.of(key.organization).filter(endpoint="thirds")
    rates = pricing.unit_prices(thirds, row.price_window, row.price_tier)

    exact = pricing.exact({"input": row.input}, rates) * (1 + books.MARKUP)
    assert (exact, row.charge_nanos) == (Decimal("9.27"), 0) and run()[0] == 0
