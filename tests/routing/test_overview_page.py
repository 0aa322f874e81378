"""The overview: figures of a period beside the one before, exact, of what one may see, and what to do."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from accounts import keys as verbs
from accounts.core import roles
from aggregator.lib import numbers
from billing import posting, spans
from billing.core.money import brief_usd, parse_usd, show_usd
from billing.core.usage import Usage
from routing import overview
from routing.core import comparing, periods
from tests.billing import books
from tests.routing.test_activity_page import sign_in, text

NOW = datetime(2026, 11, 18, 14, 30, tzinfo=UTC)
CACHING = {"input": "2", "cache_read": "0.2", "output": "8"}


@pytest.fixture
def acme(db):
    return books.make_organization()


@pytest.fixture
def key(acme):
    return books.make_key(acme, "Crawler")


@pytest.fixture
def _at_now():
    with time_machine.travel(NOW, tick=False):
        yield


def seen(organization, name="7d", keys=(), **how):
    found = [overview.Seen(each.pk, each.public_id, each.name, "") for each in keys]
    how = {"all_keys": True, "balance_nanos": 0, **how}
    return overview.of(organization.pk, periods.of(name, NOW), found, **how)


def figure(of, name):
    return next(each for each in of.figures if each.name == name)


# ── Periods ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "since", "slots", "before"),
    [
        ("24h", datetime(2026, 11, 17, 15, tzinfo=UTC), 24, timedelta(hours=24)),
        ("7d", datetime(2026, 11, 12, tzinfo=UTC), 7, timedelta(days=7)),
        ("90d", datetime(2026, 8, 21, tzinfo=UTC), 90, timedelta(days=90)),
        ("month", datetime(2026, 11, 1, tzinfo=UTC), 18, timedelta(days=31)),
        ("nonsense", datetime(2026, 11, 12, tzinfo=UTC), 7, timedelta(days=7)),
    ],
)
def test_a_period_and_the_one_before_are_of_the_same_length(name, since, slots, before):
    period = periods.of(name, NOW)

    assert period.now.since == since
    assert len(period.slots) == len(period.starts) == len(period.before_starts) == slots
    assert period.before[0].since == since - before
    assert period.before[-1].until == datetime(2026, 11, 18, 15, tzinfo=UTC) - before
    for one, other in zip(period.before, period.before[1:], strict=False):
        assert one.until == other.since


def test_the_month_before_never_reaches_into_this_one():
    period = periods.of("month", datetime(2027, 3, 31, 12, tzinfo=UTC))

    assert period.before[0].since == datetime(2027, 2, 1, tzinfo=UTC)
    assert period.before[-1].until == datetime(2027, 3, 1, tzinfo=UTC)


# ── Figures ──────────────────────────────────────────────────────────────────────────────────────


def test_figures_are_the_sums_of_the_calls_and_the_change_from_before(acme, key):
    price = books.make_price(stated=CACHING)
    cached = Usage(input=100, cache_read=900, output=10)
    now = [books.deliver(key, price, at=NOW - timedelta(days=day), usage=cached) for day in (0, 2)]
    books.deliver(key, price, at=NOW - timedelta(days=1), status="failed", free=True)
    was = books.deliver(key, price, at=NOW - timedelta(days=8), usage=cached)
    books.deliver(key, price, at=NOW - timedelta(days=7) + timedelta(hours=3))  # later in the day than now
    posting.post_generations()

    found = seen(acme, keys=[key])

    assert figure(found, "Spend").exact == show_usd(sum(call.charge_nanos for call in now))
    assert figure(found, "Spend").change.text == f"100 % from {brief_usd(was.charge_nanos)}"
    assert figure(found, "Requests").exact == "3"
    assert figure(found, "Failed").value == "33 %"
    assert figure(found, "Failed").change.tone == "bad"
    assert figure(found, "Saved by caches").exact == show_usd(2 * 1_668_600)  # 900 × $1.80 a million × 1.03
    assert sum(len(stack.pieces) for stack in found.spend.stacks) == 2
    assert [line.name for line in found.groups[0].lines] == ["acme/swift"]
    assert found.groups[0].lines[0].share == 1000


def test_an_endpoint_that_began_to_fail_is_named_first(acme, key):
    price = books.make_price()
    for number in range(6):
        books.deliver(key, price, at=NOW - timedelta(minutes=number), status="failed", free=True)
    books.deliver(key, price, at=NOW - timedelta(days=8))
    books.deliver(key, price, at=NOW - timedelta(hours=1), model="acme/slow", endpoint="x:acme/slow")

    first, *rest = seen(acme, keys=[key]).movers

    assert (first.kind, first.name, first.tone) == ("Endpoint", books.ENDPOINT, "bad")
    assert first.words == "100 % of its requests failed, 0 % before"
    assert {mover.name for mover in rest} == {"acme/slow", "acme/swift"}


def test_days_left_go_by_the_pace_of_the_period(acme, key):
    call = books.deliver(key, books.make_price(), at=NOW - timedelta(days=3))
    elapsed = NOW - periods.of("7d", NOW).now.since

    found = seen(acme, keys=[key], balance_nanos=10 * call.charge_nanos)

    assert found.days_left == 10 * elapsed.total_seconds() // 86_400
    assert seen(acme, keys=[key], all_keys=False).days_left is None


@pytest.mark.parametrize(
    ("now", "was", "better", "text", "tone"),
    [
        (0, 0, 0, "none before either", ""),
        (5, 5, 0, "unchanged", ""),
        (5, 0, 1, "none before", "good"),
        (150, 100, 0, "50 % from 100", ""),
        (50, 100, -1, "50 % from 100", "good"),
        (1200, 100, -1, "12 × of 100", "bad"),
        (1001, 1000, 1, "about as before, 1000", ""),
    ],
)
def test_changes_say_how_much_and_from_what(now, was, better, text, tone):
    found = comparing.change(now, was, str(was), better=better)

    assert (found.text, found.tone) == (text, tone)


@pytest.mark.parametrize("milliseconds", [1, 85, 812, 1420, 30_000])
def test_a_median_is_right_to_a_seventh(milliseconds):
    step = int(3 * math.log2(milliseconds) + 1e-9)

    assert comparing.median({step: 7}) == pytest.approx(milliseconds, rel=1 / 7, abs=1)
    assert comparing.median({}) is None


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (9_999, "9,999"), (12_345, "12.3k"), (999_999, "1M"), (1_234_567, "1.23M"), (2.5, "2.5")],
)
def test_counts_are_brief(number, text):
    assert numbers.brief(number) == text


@pytest.mark.parametrize(
    ("nanos", "text"),
    [
        (0, "$0.00"), (1_234_567_891_234, "$1,234.57"), (999_999_999, "$1.00"), (71_340_661, "$0.0713"),
        (1_230, "$0.00000123"), (7, "$0.000000007"), (-71_350_000, "-$0.0714"), (2_005_000_000, "$2.00"),
    ],
)  # fmt: skip
def test_amounts_at_a_glance_are_rounded_half_to_even(nanos, text):
    assert brief_usd(nanos) == text


# ── The page ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("_at_now")
def test_a_member_sees_the_sums_of_the_keys_they_made_and_is_told_so(client, acme, key):
    bob = sign_in(client, acme, roles.MEMBER, "bob@example.com")
    bobs = books.make_key(acme, "Bob's")
    bobs.created_by = bob
    bobs.save()
    own = books.deliver(bobs, books.make_price(), at=NOW)
    books.deliver(key, books.make_price(), at=NOW, model="acme/secret")

    page = text(client.get("/overview"))

    assert f'title="{show_usd(own.charge_nanos)}"' in page
    assert "the keys that you made" in page
    assert "acme/secret" not in page
    assert "Crawler" not in page


@pytest.mark.usefixtures("_at_now")
def test_lines_lead_to_the_calls_behind_them(client, acme, key):
    sign_in(client, acme)
    books.deliver(key, books.make_price(), at=NOW)
    posting.post_generations()

    page = text(client.get("/overview"))

    assert "/activity?model=acme%2Fswift&amp;from=2026-11-12" in page
    assert f"/activity?key={key.public_id}&amp;from=2026-11-12" in page
    assert "style=" not in page


@pytest.mark.usefixtures("_at_now")
def test_the_page_refreshes_only_when_something_is_new(client, acme, key):
    sign_in(client, acme)
    books.deliver(key, books.make_price(), at=NOW)
    address = re.search(r'hx-get="(/overview[^"]*)"', text(client.get("/overview")))[1].replace("&amp;", "&")

    assert client.get(address, headers={"HX-Request": "true"}).status_code == 204
    books.deliver(key, books.make_price(), at=NOW)
    part = client.get(address, headers={"HX-Request": "true"})

    assert part.status_code == 200
    assert text(part).lstrip().startswith('<div id="overview"')


def test_without_a_call_the_page_leads_to_the_first_steps(client, acme):
    sign_in(client, acme)

    page = text(client.get("/overview"))

    assert "No call yet" in page
    assert 'href="/start"' in page


def test_a_period_without_a_call_says_that_there_are_older_ones(client, acme, key):
    sign_in(client, acme)
    books.deliver(key, books.make_price(), at=datetime(2026, 1, 5, tzinfo=UTC))

    assert "There are calls of before" in text(client.get("/overview?period=24h"))


def test_a_key_near_its_limit_is_named_with_what_to_do(client, acme, key):
    sign_in(client, acme)
    call = books.deliver(key, books.make_price())
    verbs.update(key, by="test", limit_nanos=call.charge_nanos, limit_window="day")
    posting.post_generations()

    page = text(client.get("/overview"))

    assert "has used 100 % of its" in page
    assert f"/keys/{key.public_id}" in page


def test_an_empty_wallet_says_that_calls_are_refused(client, acme, key):
    sign_in(client, acme)
    books.deliver(key, books.make_price(), charge_nanos=parse_usd("101"), base_nanos=0)

    page = text(client.get("/overview"))

    assert "Calls are refused until there is credit" in page


def test_strangers_sign_in_first(client):
    assert client.get("/overview").status_code == 302


def test_nearness_counts_what_is_not_posted_yet(acme, key):
    call = books.deliver(key, books.make_price())

    used = spans.charged(acme.pk, since=call.ended_at.replace(hour=0, minute=0, second=0), key_ids=[key.pk])

    assert used == {key.pk: call.charge_nanos}
