"""32 callers at one barrier, again and again: wallet, every kind of budget and rate limit, never oversold."""

from __future__ import annotations

import threading
import time

import pytest

from tests.faults.load import Customer, Log, call

pytestmark = pytest.mark.xdist_group("faults")

CALLERS = 32
AFFORDABLE = 10
BUSY = {503}
"""A gate that answers late refuses, on a busy machine and nowhere else; it oversells nothing by it."""
ROUNDS = [4, pytest.param(20, marks=pytest.mark.long)]
PLAIN = {"max_tokens": 16}
KINDS = ("organization", "member", "end_user")


@pytest.fixture
def price(stand):
    """What one call costs, in nanos."""
    organization = stand.open(usd="1")
    customer = Customer(organization, *stand.desk.key(organization))
    entry = call(stand.product.api_base, customer, Log(), **PLAIN)
    assert entry.cost > 0
    return entry.cost


def at_once(stand, customer, log, **fields):
    """32 calls that begin together."""
    barrier = threading.Barrier(CALLERS)

    def one():
        barrier.wait(30)
        call(stand.product.api_base, customer, log, **PLAIN, **fields)

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
        assert {entry.status for entry in mine.of("failed")} <= {402, *BUSY}, mine.counts
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
        key = stand.desk.key(organization, limit_nanos=limit, limit_window="total")
        mine = Log()
        at_once(stand, Customer(organization, *key), mine)
        oversold += sum(entry.cost for entry in mine.of("ok")) > limit
        sold_out += len(mine.of("ok")) > 0
        assert {entry.status for entry in mine.of("failed")} <= {402, 403, 429, *BUSY}, mine.counts
        log.entries += mine.entries
    figures(
        "M2 key limit",
        requests=len(log.entries),
        oversold=oversold,
        seconds=round(time.monotonic() - began, 1),
    )
    assert (oversold, sold_out) == (0, rounds)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_budget_is_never_oversold(stand, price, figures, rounds, kind):
    """Each round has an organization of its own, where the other kinds have budgets too, and more room."""
    log, began, oversold, sold_out = Log(), time.monotonic(), 0, 0
    for _ in range(rounds):
        limit = price * AFFORDABLE
        organization = stand.open(usd="10")
        key = stand.desk.key(organization, member=f"ada@{organization.slug}.example")
        for other, window in (("organization", "total"), ("member", "week"), ("end_user", "month")):
            nanos = limit if other == kind else 3 * limit
            stand.desk.set_budget(organization, kind=other, window=window, limit_nanos=nanos)
        mine = Log()
        at_once(stand, Customer(organization, *key), mine, user="eve")
        oversold += sum(entry.cost for entry in mine.of("ok")) > limit
        sold_out += len(mine.of("ok")) > 0
        refused = {entry.error for entry in mine.of("failed") if entry.status not in BUSY}
        assert refused == {f"{kind}_budget_exceeded"}, mine.counts
        log.entries += mine.entries
    figures(
        f"M2 {kind} budget",
        requests=len(log.entries),
        oversold=oversold,
        seconds=round(time.monotonic() - began, 1),
    )
    assert (oversold, sold_out) == (0, rounds)


def test_budgets_are_not_oversold_while_the_gate_is_emptied_and_both_servers_go(stand, price, log, figures):
    """What was charged before counts after it, whoever tells the new gate of it first."""
    limit = price * AFFORDABLE * 4
    organization = stand.open(usd="10")
    customer = Customer(organization, *stand.desk.key(organization, member=f"a@{organization.slug}.example"))
    for kind in KINDS:
        stand.desk.set_budget(organization, kind=kind, window="total", limit_nanos=limit)
    for fault in (None, stand.valkey.kill, None, stand.postgres.kill, None):
        under_way = threading.Thread(target=at_once, args=(stand, customer, log), kwargs={"user": "eve"})
        under_way.start()
        if fault is not None:
            time.sleep(0.1)
            fault()
            stand.heal()
        under_way.join()
        stand.await_ready()
    told = sum(entry.cost for entry in log.of("ok"))
    charged = await_charges(stand, organization, at_least=told)
    refused = [entry for entry in log.of("failed") if entry.status == 402]

    figures("M2 budgets and restarts", requests=len(log.entries), oversold=int(charged > limit))
    assert price <= charged <= limit and refused, log.counts
    assert {entry.error for entry in refused} <= {f"{kind}_budget_exceeded" for kind in KINDS}
    assert stand.desk.breaches() == []
    await_served(stand)


def await_served(stand):
    """Until every worker has both servers again: whoever comes next finds them as they were."""
    organization = stand.open(usd="1")
    customer, until = Customer(organization, *stand.desk.key(organization)), time.monotonic() + 60
    while True:
        mine = Log()
        at_once(stand, customer, mine)
        if len(mine.of("ok")) == CALLERS:
            return
        assert time.monotonic() < until, mine.counts


def await_charges(stand, organization, *, at_least):
    """What the organization was charged, once all that was told is written and posted."""
    until = time.monotonic() + 60
    while True:
        ((charged, unposted),) = stand.ask(
            "SELECT coalesce(sum(charge_nanos), 0)::bigint, count(*) FILTER (WHERE posting_id IS NULL)"
            " FROM generations WHERE organization_id = %s",
            organization.id,
        )
        if charged >= at_least and not unposted:
            return charged
        assert time.monotonic() < until, (charged, unposted, at_least)
        time.sleep(0.1)


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
        late = sum(entry.status in BUSY for entry in mine.entries)
        assert passed + late >= AFFORDABLE, mine.counts
        assert {entry.status for entry in mine.of("failed")} - BUSY == {429}, mine.counts
        log.entries += mine.entries
    figures(
        "M2 rate limit",
        requests=len(log.entries),
        oversold=oversold,
        seconds=round(time.monotonic() - began, 1),
    )
    assert oversold == 0
