"""What an organization reads about its money is whole at every moment, and only its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from aggregator.lib import clock
from billing import posting, statements
from billing.core.usage import NOTHING, Usage
from tests.billing import books

pytestmark = pytest.mark.django_db


@pytest.fixture
def key():
    return books.make_key(books.make_organization(usd="9"))


@pytest.fixture
def price():
    return books.make_price()


def test_balance_and_credit_are_the_same_before_and_after_posting(key, price):
    call = books.deliver(key, price)
    read = lambda: (statements.balance(key.organization_id).nanos, statements.credits(key.organization_id))  # noqa: E731

    before = read()
    posting.post_generations()

    assert before == read()
    assert before[0] == 10_000_000_000 - call.charge_nanos
    assert (before[1].granted_nanos, before[1].used_nanos) == (10_000_000_000, call.charge_nanos)
    assert before[1].left_nanos == before[0]


def test_usage_counts_what_is_posted_and_what_is_not_once(key, price):
    now = clock.now()
    for at in (now - timedelta(days=1), now, now):
        books.deliver(key, price, at=at, usage=Usage(input=10, cache_read=5, output=3, reasoning=1))
    posting.post_generations(limit=2)

    lines = statements.usage(key.organization_id)

    assert [line.name for line in lines] == [f"{now - timedelta(days=days):%Y-%m-%d}" for days in (1, 0)]
    assert [line.requests for line in lines] == [1, 2]
    assert (lines[1].input_tokens, lines[1].output_tokens) == (30, 8)
    assert lines[1].markup_nanos == lines[1].charge_nanos - lines[1].base_nanos


def test_usage_is_told_by_model_endpoint_and_key(key, price):
    other = books.make_key(key.organization, "other")
    books.deliver(key, price)
    books.deliver(other, price, model="acme/slow", endpoint="sandbox:acme/slow", usage=Usage(input=1))

    def names(by):
        return [line.name for line in statements.usage(key.organization_id, by=by)]

    assert names("model") == ["acme/swift", "acme/slow"]
    assert names("endpoint") == [books.ENDPOINT, "sandbox:acme/slow"]
    assert names("key") == [key.public_id, other.public_id]
    assert statements.usage(key.organization_id, by="key", key_id=other.pk)[0].requests == 1


def test_a_window_of_usage_ends_before_its_end(key, price):
    hour = datetime(2026, 11, 3, 14, tzinfo=UTC)
    for at in (hour, hour + timedelta(hours=1)):
        books.deliver(key, price, at=at)

    def requests():
        lines = statements.usage(key.organization_id, since=hour, until=hour + timedelta(hours=1))
        return sum(line.requests for line in lines)

    assert requests() == 1
    posting.post_generations()
    assert requests() == 1


def test_calls_are_listed_newest_first_and_page_by_page(key, price):
    now = clock.now()
    made = [books.deliver(key, price, at=now + timedelta(milliseconds=number)) for number in range(5)]

    first = statements.calls(key.organization_id, limit=3)
    second = statements.calls(key.organization_id, limit=3, before=first[-1].id)

    assert [call.id for call in (*first, *second)] == [call.id for call in reversed(made)]
    assert first[0].key == key.public_id
    assert first[0].parts[0][:2] == ("input", 1000)
    assert first[0].markup_nanos == 180_000


def test_a_call_without_price_or_parts_can_be_shown(key, price):
    call = books.deliver(key, price, usage=NOTHING, status="void", price_id=None)

    shown = statements.find_call(key.organization_id, call.id)

    assert (shown.status, shown.parts, shown.prompt_tokens) == ("void", (), 0)
    assert shown.public_id == f"gen-{call.id.hex}"


def test_another_organizations_calls_and_money_are_absent(key, price):
    call = books.deliver(key, price)
    stranger = books.make_organization("stranger", usd="0")

    assert statements.find_call(stranger.pk, call.id) is None
    assert statements.calls(stranger.pk) == []
    assert statements.usage(stranger.pk) == []
    assert statements.credits(stranger.pk).used_nanos == 0


def test_without_a_wallet_everything_is_zero():
    assert statements.balance(12345).nanos == 0
    assert statements.credits(12345).left_nanos == 0
