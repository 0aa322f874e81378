"""32 callers at one barrier, again and again: wallet, key's budget and rate limit are never oversold."""

from __future__ import annotations

import threading
import time

import pytest

from tests.faults.load import Customer, Log, call

pytestmark = pytest.mark.xdist_group("faults")

CALLERS = 32
AFFORDABLE = 10
ROUNDS = [4, pytest.param(20, marks=pytest.mark.long)]
PLAIN = {"max_tokens": 16}


@pytest.fixture
def price(stand):
    """What one call costs, in nanos."""
    organization = stand.open(usd="1")
    customer = Customer(organization, *stand.desk.key(organization))
    entry = call(stand.product.api_base, customer, Log(), **PLAIN)
    assert entry.cost > 0
    return entry.cost


def at_once(stand, customer, log):
    """32 calls that begin together."""
    barrier = threading.Barrier(CALLERS)

    def one():
        barrier.wait(30)
        call(stand.product.api_base, customer, log, **PLAIN)

    threads = [threading.Thread(target=one) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def dollars(nanos):
    return f"{nanos // 10**9}.{nanos % 10**9:09d}"


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_wallet_is_never_oversold(stand, price, log, figures, rounds):
    began, oversold, sold_out = time.monotonic(), 0, 0
    for _ in range(rounds):
        funds = price * AFFORDABLE
        organization = stand.open(usd="0")
        stand.desk.grant(organization, dollars(funds))
        stand.opened[organization.id] = funds
        customer = Customer(organization, *stand.desk.key(organization))
        mine = Log()
        at_once(stand, customer, mine)
        oversold += sum(entry.cost for entry in mine.of("ok")) > funds
        sold_out += len(mine.of("ok")) > 0
        assert {entry.status for entry in mine.of("failed")} <= {402}, mine.counts
        log.entries += mine.entries
    figures(
        "M2 wallet",
        requests=len(log.entries),
        oversold=oversold,
        seconds=round(time.monotonic() - began, 1),
    )
    assert (oversold, sold_out) == (0, rounds)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_keys_budget_is_never_oversold(stand, price, log, figures, rounds):
    began, oversold, sold_out = time.monotonic(), 0, 0
    organization = stand.open(usd="10")
    for _ in range(rounds):
        limit = price * AFFORDABLE
        key = stand.desk.key(organization, limit_nanos=limit, limit_window="day")
        mine = Log()
        at_once(stand, Customer(organization, *key), mine)
        oversold += sum(entry.cost for entry in mine.of("ok")) > limit
        sold_out += len(mine.of("ok")) > 0
        assert {entry.status for entry in mine.of("failed")} <= {402, 403, 429}, mine.counts
        log.entries += mine.entries
    figures(
        "M2 key limit",
        requests=len(log.entries),
        oversold=oversold,
        seconds=round(time.monotonic() - began, 1),
    )
    assert (oversold, sold_out) == (0, rounds)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_rate_limit_is_never_oversold(stand, log, figures, rounds):
    began, oversold = time.monotonic(), 0
    organization = stand.open(usd="10")
    for _ in range(rounds):
        key = stand.desk.key(organization, requests_per_minute=AFFORDABLE)
        mine = Log()
        start = time.monotonic()
        at_once(stand, Customer(organization, *key), mine)
        refilled = int((time.monotonic() - start) * AFFORDABLE / 60) + 1
        passed = len(mine.of("ok"))
        oversold += passed > AFFORDABLE + refilled - 1
        assert passed >= AFFORDABLE, mine.counts
        assert {entry.status for entry in mine.of("failed")} == {429}, mine.counts
        log.entries += mine.entries
    figures(
        "M2 rate limit",
        requests=len(log.entries),
        oversold=oversold,
        seconds=round(time.monotonic() - began, 1),
    )
    assert oversold == 0
