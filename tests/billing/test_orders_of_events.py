"""All 720 orders of six related events, with duplicates, reach one state.

A payment of $20 is partly given back, disputed and decided before we hear of any of it. What handling an
event does depends on the state alone: our rows, the wallet, the gate, and Stripe, to which nothing is written
meanwhile. So each event is handled once in each state that any order leads to, and every order, with whatever
is repeated in it, is a walk over these steps. The long form handles all 720 orders one by one.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import stripe
from django.db import connection, transaction

from accounts.models import Organization
from aggregator.lib import kv
from billing import gate, lots
from billing.models import Alert, Dispute, Letter, Posting, Refund, TopUp, Wallet
from billing.payments import inbox
from billing.stripe_client import events
from tests.billing import books, paying
from tests.billing.stripe_stand import Stand

KINDS = (
    "checkout.session.completed",
    "payment_intent.succeeded",
    "refund.created",
    "charge.refunded",
    "charge.dispute.created",
    "charge.dispute.closed",
)


@pytest.fixture
def unchanging(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Answers of Stripe are asked for once; whoever would write to it fails."""
    asked: dict[str, Any] = {}
    plain = stripe.HTTPXClient.request

    def request(self: stripe.HTTPXClient, method: str, url: str, *rest: Any, **more: Any) -> Any:
        assert method.lower() == "get", f"{method} {url}"
        if url not in asked:
            asked[url] = plain(self, method, url, *rest, **more)
        return asked[url]

    def begin() -> None:
        monkeypatch.setattr(stripe.HTTPXClient, "request", request)

    return begin


@contextmanager
def told_at_commit() -> Iterator[None]:
    """What waits for a commit is done when the outermost block ends, inside the transaction of the test."""
    depth = len(connection.savepoint_ids)
    release = connection.savepoint_commit

    def commit(savepoint: str) -> None:
        release(savepoint)
        if len(connection.savepoint_ids) == depth:
            waiting, connection.run_on_commit = connection.run_on_commit, []
            for _, does, _ in waiting:
                does()

    connection.savepoint_commit = commit  # type: ignore[method-assign]
    try:
        yield
    finally:
        del connection.savepoint_commit  # the method of the class again


def happened(stand: Stand, *, won: bool) -> tuple[Organization, list[str]]:
    """A payment with all that became of it, of which we have heard nothing yet; the ids of its events.

    The wallet owes $2 before, so not all that goes back can be taken from it.
    """
    owner = paying.organization()
    paying.spend(owner, 2 * paying.DOLLAR)
    _, url = paying.begin(owner)
    stand.pay(url)
    (intent,) = paying.there(stand, owner, "payment_intent")
    stand.client().v1.refunds.create({"payment_intent": intent["id"], "amount": 5_00})
    dispute = stand.control("disputes", payment_intent=intent["id"], amount=15_00)
    stand.control("disputes/resolve", dispute=dispute["id"], won=won)
    told = [stand.events(kind)[0] for kind in KINDS]
    for each in told:
        inbox.store(events.read(each), inbox.WEBHOOK)
    return owner, [each["id"] for each in told]


def anew(owner: Organization) -> None:
    """The gate as it is when PostgreSQL alone remembers."""
    kv.gate().flushall()
    shard = kv.shard(owner.public_id)
    assert gate.open_epoch(shard, gate.begin(shard)) == []
    gate.reload(owner.public_id)


def state(owner: Organization) -> tuple[Any, ...]:
    """All that came of it, ids of ours and times apart; postings in the order in which they were made."""
    top_up = TopUp.objects.of(owner).get()
    wallet = Wallet.objects.of(owner).get()
    refunds = Refund.objects.of(owner).order_by("stripe_id")
    disputes = Dispute.objects.of(owner).order_by("pk")
    letters = Letter.objects.of(owner).order_by("kind")
    return (
        (top_up.state, top_up.tax_cents, top_up.payment_intent_id, top_up.charge_id, top_up.failure_code),
        [(row.stripe_id, row.state, row.cents, row.tax_cents, row.reason) for row in refunds],
        [(row.pk, row.status, row.cents, row.closed_at is None) for row in disputes],
        (wallet.balance_nanos, wallet.frozen_because),
        [(lot.posting_kind, lot.remaining) for lot in lots.burning(owner.pk)],
        [row.kind for row in letters],
        sorted({(row.kind, row.subject, row.resolved_at is None) for row in Alert.objects.all()}),
        paying.spendable(owner),
        postings(),
    )


def postings() -> list[tuple[Any, ...]]:
    """Every posting with its entries, the oldest first."""
    rows = Posting.objects.order_by("pk").prefetch_related("entries__account")
    return [
        (row.kind, sorted((entry.account.kind, entry.nanos) for entry in row.entries.all())) for row in rows
    ]


def settled(reached: tuple[Any, ...]) -> tuple[Any, ...]:
    """A state in which it does not matter what was posted first."""
    return (*reached[:-1], sorted(reached[-1]))


class Steps:
    """From each state that can be reached, where each event leads; found by handling it there."""

    def __init__(self, owner: Organization, told: list[str]) -> None:
        self.owner, self.told = owner, told
        self.leads: dict[str, dict[str, str]] = {}
        self.shown: dict[str, tuple[Any, ...]] = {}

    def explore(self) -> str:
        """Try everything from here on; gives the name of the state that this is."""
        reached = state(self.owner)
        here = repr(reached)
        if here not in self.leads:
            self.leads[here], self.shown[here] = {}, reached
            for event in self.told:
                with back_afterwards(self.owner):
                    handle(event)
                    self.leads[here][event] = self.explore()
        return here

    def end(self, begin: str, order: Iterable[str]) -> tuple[Any, ...]:
        for event in order:
            begin = self.leads[begin][event]
        return settled(self.shown[begin])


@contextmanager
def back_afterwards(owner: Organization) -> Iterator[None]:
    before = transaction.savepoint()
    yield
    transaction.savepoint_rollback(before)
    anew(owner)


def handle(event: str) -> None:
    """Whatever came of it before."""
    inbox.replay([event])
    assert inbox.handle(event)


def with_duplicates(order: Sequence[str], chooser: random.Random) -> list[str]:
    """Each event comes a second time, at a random place after its first."""
    found = list(order)
    for event in order:
        found.insert(chooser.randint(found.index(event) + 1, len(found)), event)
    return found


def expect(owner: Organization, *, won: bool) -> None:
    """$2 were owed, $20 paid, $5 given back; of the $15 disputed $13 were there."""
    wallet = Wallet.objects.of(owner).get()
    left, lost = (13, 0) if won else (0, 2)
    assert wallet.balance_nanos == left * paying.DOLLAR
    assert books.entries_sum("loss") == -lost * paying.DOLLAR
    assert books.entries_sum("stripe_cash") == -(15 if won else 0) * paying.DOLLAR
    assert wallet.frozen_because == ("" if won else "dispute")
    paying.prove(owner)


either = pytest.mark.parametrize("won", [True, False], ids=["won", "lost"])


@pytest.mark.django_db
@either
def test_all_720_orders_of_six_related_events_with_duplicates_reach_one_state(
    stand: Stand, unchanging: Callable[[], None], won: bool
):
    owner, told = happened(stand, won=won)
    unchanging()
    anew(owner)
    steps = Steps(owner, told)
    chooser = random.Random(720)
    with told_at_commit():
        begin = steps.explore()
        orders = list(itertools.permutations(told))
        ends = [steps.end(begin, with_duplicates(order, chooser)) for order in orders]
        assert len(ends) == 720
        assert all(end == ends[0] for end in ends)
        assert all(steps.end(begin, order) == ends[0] for order in orders)

        # One order in full, as a proof that the steps are what happens.
        for event in with_duplicates(chooser.choice(orders), chooser):
            handle(event)
    assert settled(state(owner)) == ends[0]
    expect(owner, won=won)


@pytest.mark.long
@pytest.mark.django_db
@either
def test_all_720_orders_handled_one_by_one_reach_one_state(
    stand: Stand, unchanging: Callable[[], None], won: bool
):
    owner, told = happened(stand, won=won)
    unchanging()
    anew(owner)
    chooser = random.Random(720)
    ends: set[str] = set()

    def from_here(left: frozenset[str]) -> int:
        if not left:
            ends.add(repr(settled(state(owner))))
            return 1
        orders = 0
        for event in sorted(left):
            with back_afterwards(owner):
                handle(event)
                handle(chooser.choice(sorted(set(told) - left | {event})))
                orders += from_here(left - {event})
        return orders

    with told_at_commit():
        assert from_here(frozenset(told)) == 720
    assert len(ends) == 1


@pytest.mark.django_db(transaction=True)
@either
def test_two_workers_at_the_same_six_events_reach_the_same_state(stand: Stand, won: bool):
    owner, told = happened(stand, won=won)
    anew(owner)
    orders = iter([told, told[::-1]])

    def work() -> None:
        for event in with_duplicates(next(orders), random.Random(2)):
            inbox.handle(event)

    assert paying.at_once(2, work) == [None, None]
    assert inbox.waiting() == []
    expect(owner, won=won)
