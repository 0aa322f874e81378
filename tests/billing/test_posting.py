"""Every delivered call is booked exactly once, with its roll-up, whoever posts and however often."""

from __future__ import annotations

import importlib
import resource
import threading
import time
import uuid
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import DatabaseError, connection, connections, transaction

from accounts.models import Organization
from billing import ledger, plans, posting, recompute
from billing.core import pricing
from billing.core.chart import LOSS, MARKUP_REVENUE, PROVIDER_COST
from billing.core.money import parse_usd
from billing.core.usage import NOTHING, Usage
from billing.models import (
    BilledUsage,
    Entry,
    Generation,
    MonthClose,
    Posting,
    UsageSpan,
    Wallet,
)
from tests.billing import books

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def key():
    return books.make_key(books.make_organization())


@pytest.fixture
def price():
    return books.make_price()


def test_a_call_moves_its_charge_from_the_wallet_to_provider_and_mark_up(key, price):
    before = books.balance(key.organization)
    call = books.deliver(key, price)  # 1000 and 500 tokens: $0.002 + $0.004, 3 % more

    assert posting.post_generations() == 1

    assert call.charge_nanos == 6_180_000
    assert books.balance(key.organization) == before - 6_180_000
    assert books.entries_sum(PROVIDER_COST) == 6_000_000
    assert books.entries_sum(MARKUP_REVENUE) == 180_000


def test_gpt_4_1_under_business_takes_its_exact_price_from_the_wallet(key):
    """$2 and $8 per million tokens and 3 %: $0.00206 for a thousand prompt tokens, $0.00824 for a thousand
    of completion, from the plan to the wallet."""
    plans.set_plan("acme", "business")
    markup = Wallet.objects.of(key.organization).get().markup
    price = books.make_price("openai:openai/gpt-4.1", {"input": "2", "output": "8"})
    for usage, dollars in ((Usage(input=1000), "0.00206"), (Usage(output=1000), "0.00824")):
        charged = pricing.charge(usage, price, markup)
        before = books.balance(key.organization)
        books.deliver(
            key,
            price,
            usage=usage,
            markup=markup,
            parts=[[kind, units, str(nanos)] for kind, units, nanos in charged.parts],
            charge_nanos=charged.nanos,
            base_nanos=charged.base_nanos,
        )
        posting.post_generations()

        assert before - books.balance(key.organization) == parse_usd(dollars)
    assert list(recompute.differences(uuid.UUID(int=0))) == []


def test_a_batch_is_one_posting_for_each_organization(key, price):
    other = books.make_key(books.make_organization("other"))
    calls = [books.deliver(owner, price) for owner in (key, other, key, other, key)]

    assert posting.post_generations() == 5

    postings = Posting.objects.filter(kind="usage").order_by("organization_id")
    assert [(row.organization_id, row.source_id) for row in postings] == [
        (key.organization_id, str(calls[0].id)),
        (other.organization_id, str(calls[1].id)),
    ]
    assert {row.posting_id for row in Generation.objects.of(key.organization)} == {postings[0].pk}


def test_posting_again_changes_nothing(key, price):
    books.deliver(key, price)
    posting.post_generations()
    after = (
        books.balance(key.organization),
        Entry.objects.count(),
        UsageSpan.objects.of(key.organization).get(hours=1),
    )

    assert posting.post_generations() == 0

    hour = UsageSpan.objects.of(key.organization).get(hours=1)
    assert (books.balance(key.organization), Entry.objects.count(), hour) == after
    assert hour.requests == 1


def test_a_free_ending_is_our_loss(key, price):
    before = books.balance(key.organization)
    books.deliver(key, price, status="failed", free=True)

    posting.post_generations()

    assert books.balance(key.organization) == before
    assert (books.entries_sum(PROVIDER_COST), books.entries_sum(LOSS)) == (6_000_000, -6_000_000)
    assert books.entries_sum(MARKUP_REVENUE) == 0


def test_a_call_that_moved_no_money_names_no_posting_and_waits_no_more(key, price):
    void = books.deliver(key, price, usage=NOTHING, status="void", price_id=None)
    charged = books.deliver(key, price)

    assert posting.post_generations() == 2

    void.refresh_from_db()
    charged.refresh_from_db()
    assert void.posting_id == 0
    assert charged.posting_id > 0
    assert posting.post_generations() == 0


def test_roll_ups_go_by_the_hour_of_admission(key, price):
    hour = datetime(2026, 11, 3, 14, tzinfo=UTC)
    for at in (hour, hour + timedelta(minutes=59, seconds=59, milliseconds=999), hour + timedelta(hours=1)):
        books.deliver(key, price, at=at, usage=Usage(input=10, cache_read=3, output=2, reasoning=1))

    posting.post_generations()
    books.deliver(key, price, at=hour + timedelta(minutes=5))
    posting.post_generations()

    first, second = UsageSpan.objects.of(key.organization).filter(hours=1).order_by("start")
    assert (first.start, first.requests, first.prompt, first.cached) == (hour, 3, 1026, 6)
    assert (first.completion, first.reasoning) == (506, 2)
    assert (second.start, second.requests) == (hour + timedelta(hours=1), 1)
    day = UsageSpan.objects.of(key.organization).get(hours=24)
    assert (day.start, day.requests, day.completion) == (hour.replace(hour=0), 4, 509)


def close(organization: Organization, month: date) -> None:
    nothing = dict.fromkeys(["charged_nanos", "base_nanos", "loss_nanos", "margin_nanos"], 0)
    MonthClose.objects.of(organization).create(organization=organization, month=month, **nothing)


def test_a_call_is_on_the_bill_of_its_month_by_all_that_made_its_price(key, price):
    at = datetime(2026, 11, 3, 14, tzinfo=UTC)
    for usage in (Usage(input=10, output=2), Usage(input=20, cache_read=5, output=1)):
        books.deliver(key, price, at=at, usage=usage)
    books.deliver(key, price, at=at, usage=Usage(input=7), price_tier=1)
    books.deliver(key, price, at=at, status="failed", free=True)
    at_most = {"decision": {"capped_at_nanos": 100}, "charge_nanos": 100, "base_nanos": 90}
    capped = books.deliver(key, price, at=at, **at_most)

    posting.post_generations()

    rows = {(row.kind, row.price_tier): row for row in BilledUsage.objects.of(key.organization)}
    assert set(rows) == {("charged", 0), ("charged", 1), ("free", 0), ("capped", 0)}
    assert {(row.month, row.used_in) for row in rows.values()} == {(date(2026, 11, 1), date(2026, 11, 1))}
    both = rows["charged", 0]
    assert (both.requests, both.priced_requests, both.input, both.cache_read, both.output) == (2, 2, 30, 5, 3)
    assert (both.price_id, both.markup) == (price.id, capped.markup)
    assert rows["capped", 0].charge_nanos == 100


def test_what_is_posted_after_its_month_was_closed_is_on_the_next_bill(key, price):
    for month in (9, 10):
        close(key.organization, date(2026, month, 1))
    for month, day in ((8, 9), (11, 1), (12, 1)):
        books.deliver(key, price, at=datetime(2026, month, day, tzinfo=UTC))

    posting.post_generations()

    rows = BilledUsage.objects.of(key.organization).order_by("used_in").values_list("used_in", "month")
    assert list(rows) == [
        (date(2026, 8, 1), date(2026, 11, 1)),
        (date(2026, 11, 1), date(2026, 11, 1)),
        (date(2026, 12, 1), date(2026, 12, 1)),
    ]


def test_bills_are_filled_from_what_was_posted_before_there_were_any(key):
    price = books.make_price(stated={**books.STATED, "tiers": [{"above": 50, "input": "4"}]})
    first = datetime(2026, 10, 31, tzinfo=UTC)
    books.deliver(key, price, at=first, usage=Usage(input=50))
    books.deliver(key, price, at=first, usage=Usage(input=90), price_tier=1)
    books.deliver(key, price, at=first, usage=Usage(input=9), status="failed", free=True)
    books.deliver(key, price, at=first, usage=NOTHING, status="void", price_id=None)
    posting.post_generations()
    close(key.organization, date(2026, 10, 1))
    books.deliver(key, price, at=first, usage=Usage(input=91), price_tier=1)
    posting.post_generations()

    def rows() -> list[str]:
        names = [each.name for each in BilledUsage._meta.fields if each.name != "id"]
        return sorted(map(str, BilledUsage.unscoped.values_list(*names)))

    kept = rows()
    BilledUsage.unscoped.all().delete()
    migration = importlib.import_module("billing.migrations.0018_bills_budgets_and_documents")
    with connection.cursor() as cursor:
        cursor.execute(migration.BILLS)

    assert rows() == kept
    assert len(kept) == 5


def test_a_call_without_a_wallet_waits_and_holds_up_nobody(key, price):
    stranger = Organization.objects.create(slug="stranger", name="Stranger")
    waiting = books.deliver(books.make_key(stranger), price)
    books.deliver(key, price)

    assert posting.post_generations(batch=1) == 1

    waiting.refresh_from_db()
    assert waiting.posting_id is None


def test_a_posted_call_is_never_changed_or_deleted(key, price):
    call = books.deliver(key, price)

    for statement in (
        "UPDATE generations SET charge_nanos = 0 WHERE id = %s",
        "UPDATE generations SET posting_id = 5, charge_nanos = 0 WHERE id = %s",
        "DELETE FROM generations WHERE id = %s",
    ):
        with pytest.raises(DatabaseError), connection.cursor() as cursor:
            cursor.execute(statement, [call.id])
    posting.post_generations()
    with pytest.raises(DatabaseError, match="once"), connection.cursor() as cursor:
        cursor.execute("UPDATE generations SET posting_id = posting_id + 1 WHERE id = %s", [call.id])


def test_amounts_that_make_no_sense_are_refused_by_the_table(key, price):
    for nonsense in (
        {"charge_nanos": -1},
        {"charge_nanos": 5, "base_nanos": 6},
        {"loss_nanos": -1},
        {"input": -1},
        {"status": "failed"},
        {"status": "lost"},
    ):
        with pytest.raises(DatabaseError):
            books.deliver(key, price, **nonsense)


def test_two_who_post_at_once_post_each_call_once(price):
    keys = [books.make_key(books.make_organization(f"org-{number}")) for number in range(5)]
    owed = {key.organization_id: books.deliver_many(key, price, 400) for key in keys}
    before = {key.organization_id: books.balance(key.organization) for key in keys}
    counts, errors = [], []
    start = threading.Barrier(2)

    def work():
        try:
            start.wait()
            counts.append(posting.post_generations(batch=60))
        except BaseException as error:
            errors.append(error)
            raise
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts.append(posting.post_generations())

    assert errors == []
    assert sum(counts) == 2000
    for key in keys:
        assert books.balance(key.organization) == before[key.organization_id] - owed[key.organization_id]
    assert sum(row.requests for row in UsageSpan.unscoped.filter(hours=1)) == 2000


def test_a_wallet_that_somebody_holds_delays_its_own_organization_alone(price):
    held, free = (books.make_key(books.make_organization(f"org-{number}")) for number in range(2))
    for key in (held, free):
        books.deliver_many(key, price, 3)
    locked, done = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            ledger.lock_wallets({held.organization_id})
            locked.set()
            done.wait(30)
        connections.close_all()

    other = threading.Thread(target=hold)
    other.start()
    assert locked.wait(10)
    try:
        assert posting.post_generations(batch=2) == 3
    finally:
        done.set()
        other.join()

    assert set(Generation.unscoped.filter(posting_id=None).values_list("organization_id", flat=True)) == {
        held.organization_id
    }
    assert posting.post_generations() == 3


def test_a_batch_that_fails_leaves_nothing_behind(key, price, monkeypatch):
    books.deliver(key, price)
    before = books.balance(key.organization)
    monkeypatch.setattr(
        posting, "_MARK_AND_ROLL_UP", posting._MARK_AND_ROLL_UP.replace("count(*) FROM", "1/0 FROM")
    )

    with pytest.raises(DatabaseError):
        posting.post_generations()
    monkeypatch.undo()

    assert books.balance(key.organization) == before
    assert not Posting.objects.filter(kind="usage").exists()
    assert posting.post_generations() == 1


def test_the_gates_view_of_a_wallet_never_moves_while_posting(key, price):
    """balance − unposted is what a snapshot for the gate reads: posting must not show through."""
    books.deliver_many(key, price, 3000)
    seen, done = set(), threading.Event()

    def look():
        try:
            while not done.is_set():
                with connection.cursor() as cursor:
                    cursor.execute(
                        "SELECT balance_nanos - (SELECT coalesce(sum(charge_nanos), 0) FROM generations"
                        " WHERE organization_id = %s AND posting_id IS NULL) FROM billing_wallet"
                        " WHERE organization_id = %s",
                        [key.organization_id] * 2,
                    )
                    seen.add(cursor.fetchone()[0])
        finally:
            connections.close_all()

    watcher = threading.Thread(target=look)
    watcher.start()
    posting.post_generations(batch=100)
    done.set()
    watcher.join()

    assert len(seen) == 1


def test_twenty_thousand_calls_are_posted_fast_and_at_flat_memory(key, price, capsys):
    owed = books.deliver_many(key, price, 20_000)
    before = books.balance(key.organization)
    posting.post_generations(limit=2_000, batch=2_000)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()

    posted = posting.post_generations(batch=2_000)

    seconds = time.perf_counter() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    with capsys.disabled():
        print(
            f"\nposted {posted} in {seconds:.2f} s: {posted / seconds:,.0f}/s, {grown} KiB more at the peak"
        )
    assert posted == 18_000
    assert books.balance(key.organization) == before - owed
    assert seconds < 20
    assert grown < 16 * 1024


def test_an_id_is_unique_for_ever(key, price):
    call = books.deliver(key, price)

    with pytest.raises(DatabaseError), transaction.atomic():
        books.deliver(key, price, id=call.id)
    assert Generation.objects.of(key.organization).count() == 1
    assert uuid.UUID(str(call.id)).version == 7
