"""Old months of generations are dropped whole, when they are over for everybody, while calls come and go."""

from __future__ import annotations

import threading
import time
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest
import time_machine
from django.db import DatabaseError, connection, transaction

from accounts import keys
from aggregator.lib import crash, ids
from billing import months, posting, reconcile, retention, statements
from billing.models import DroppedMonth, Generation, MonthClose, Spool
from tests.billing import books

NOW = datetime(2026, 11, 18, 14, 30, tzinfo=UTC)
OLD = datetime(2026, 7, 3, 12, tzinfo=UTC)
MONTH = date(2026, 7, 1)


def close(organization, month: date = MONTH) -> None:
    MonthClose.objects.create(
        organization=organization, month=month, charged_nanos=0, base_nanos=0, loss_nanos=0, margin_nanos=0
    )


def issue(organization, month: date = MONTH) -> None:
    from billing.models import Document

    Document.objects.create(
        organization=organization, kind="statement", purpose="month", number=f"S-{organization.pk}-{month}",
        month=month, content={}, total_nanos=0,
    )  # fmt: skip


def old_calls(count: int = 3):
    """Posted calls of July and of now, one of them by an end user."""
    key, price = books.make_key(books.make_organization()), books.make_price()
    with connection.cursor() as cursor:  # months that are older, and empty: of another test of this worker
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'generations'::regclass"
        )
        for name in [row[0] for row in cursor.fetchall() if row[0] < f"generations_{MONTH:%Y_%m}"]:
            cursor.execute(f"DROP TABLE {name}")
    months.make(MONTH)
    for number in range(count):
        books.deliver(key, price, at=OLD + timedelta(hours=number), end_user="ada", latency_ms=700)
    books.deliver(key, price, at=OLD, status="failed", free=True)
    posting.post_generations()
    books.deliver(key, price, at=NOW - timedelta(minutes=1))
    posting.post_generations()
    return key, price


def exists(name: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [name])
        return bool(cursor.fetchone()[0])


def broken() -> list[str]:
    return [f"{found.name}: {found.examples}" for found in reconcile.check() if not found.holds
            and found.name in OF_SUMS]  # fmt: skip


OF_SUMS = {
    *(
        "postings_balance",
        "postings_are_generations",
        "free_has_no_posting",
        "bills_are_sums",
        "spans_are_sums",
    ),
    *(
        "end_users_are_sums",
        "endpoints_are_sums",
        "speeds_are_sums",
        "dropped_months_stand",
        "bills_recompute",
    ),
    *("balances_are_sums", "generations_have_a_wallet", "guards_stand"),
}


@pytest.fixture
def _now(settings):
    settings.GENERATION_MONTHS_KEPT = 3
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.mark.django_db
@pytest.mark.usefixtures("_now")
def test_a_month_that_is_over_is_dropped_and_its_sums_and_the_books_stay_right():
    key, price = old_calls()
    before = statements.usage(key.organization_id)
    close(key.organization)
    issue(key.organization)

    assert retention.drop_old() == ["2026-07"]

    row = DroppedMonth.objects.get()
    assert (row.month, row.requests) == (MONTH, 4)
    assert not exists("generations_2026_07")
    assert Generation.objects.of(key.organization).count() == 1
    assert statements.usage(key.organization_id) == before
    assert broken() == []
    assert retention.drop_old() == []
    # What is found wrong afterwards, and what is refused.
    with pytest.raises(DatabaseError, match="dropped"), transaction.atomic():
        books.deliver(key, price, at=OLD)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE billing_usagespan SET charge_nanos = charge_nanos + 1 WHERE hours = 720")
    assert any(each.startswith("dropped_months_stand") for each in broken())


@pytest.mark.django_db
def test_a_call_of_a_dropped_month_is_told_to_be_not_kept_and_any_other_to_be_unknown(alice, _client, shop):
    DroppedMonth.objects.create(month=MONTH, requests=1, base_nanos=0, charge_nanos=0, loss_nanos=0)
    _, text = keys.create(shop, name="books", by="test")
    headers = {"Authorization": f"Bearer {text}"}
    of = lambda at: f"gen-{ids.uuid7(int(at.timestamp() * 1000)).hex}"  # noqa: E731

    answer = _client.get("/api/v1/generation", {"id": of(OLD)}, headers=headers)

    assert answer.status_code == 410
    error = answer.json()["error"]
    assert error["type"] == "generation_not_kept" and "July 2026" in error["message"]
    assert (error["metadata"]["month"], error["metadata"]["kept_since"]) == ("2026-07", "2026-08")
    page = alice.get(f"/activity/{of(OLD)}")
    assert page.status_code == 410 and "Calls of July 2026 are not kept any more" in page.content.decode()
    for at in (OLD - timedelta(days=40), OLD + timedelta(days=40)):
        assert _client.get("/api/v1/generation", {"id": of(at)}, headers=headers).status_code == 404
        assert alice.get(f"/activity/{of(at)}").status_code == 404


@pytest.mark.django_db
def test_an_id_from_beyond_all_time_is_no_id(alice, _client, shop):
    _, text = keys.create(shop, name="books", by="test")
    beyond = f"gen-{'f' * 32}"

    answer = _client.get("/api/v1/generation", {"id": beyond}, headers={"Authorization": f"Bearer {text}"})

    assert answer.status_code == 400
    assert alice.get(f"/activity/{beyond}").status_code == 404


@pytest.mark.django_db
@pytest.mark.usefixtures("_now")
def test_a_month_stays_until_it_is_over_for_everybody(settings):
    key, price = old_calls()
    waiting = books.deliver(key, price, at=OLD)
    why = lambda: retention.stays(MONTH)  # noqa: E731

    assert "not posted" in why()
    posting.post_generations()
    assert "not closed" in why() and retention.drop_old() == []
    close(key.organization)
    assert "document" in why() and retention.drop_old() == []
    issue(key.organization)
    spool = Spool.objects.create(id=waiting.spool, started_at=OLD)
    assert "spool" in why()
    spool.delete()
    assert why() == ""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE billing_usagespan SET requests = requests + 1 WHERE hours = 720")
    assert retention.drop_old() == [] and exists("generations_2026_07")
    settings.GENERATION_MONTHS_KEPT = 0
    assert retention.first_kept(NOW) is None and retention.drop_old() == []


@pytest.mark.parametrize(
    ("kept", "first"),
    [(1, date(2026, 10, 1)), (10, date(2026, 1, 1)), (11, date(2025, 12, 1)), (25, date(2024, 10, 1))],
)
def test_so_many_whole_months_are_kept_beside_the_present_one(settings, kept, first):
    settings.GENERATION_MONTHS_KEPT = kept

    assert retention.first_kept(NOW) == first


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_now")
def test_calls_are_written_and_read_while_a_month_is_dropped_and_a_long_reader_stops_nobody(monkeypatch):
    key, price = old_calls(20)
    close(key.organization)
    issue(key.organization)
    monkeypatch.setattr(retention, "_TRIES", 2)
    stop, slowest, failed = threading.Event(), [0.0], []

    def work() -> None:
        """Inserts and reads as others do, each in a transaction of its own; how long the longest waited."""
        from django.db import connection as own

        try:
            while not stop.is_set():
                began = time.monotonic()
                books.deliver(key, price, at=NOW)
                Generation.objects.of(key.organization).count()
                slowest[0] = max(slowest[0], time.monotonic() - began)
        except Exception as error:
            failed.append(error)
            raise
        finally:
            own.close()

    with psycopg.connect(**connection.get_connection_params() | {"autocommit": False}) as reader:
        reader.execute(
            "SELECT count(*) FROM generations"
        )  # and keeps its lock, as a look at the whole ledger
        worker = threading.Thread(target=work)
        worker.start()
        try:
            time.sleep(0.3)
            assert retention.drop_old() == []
            assert exists("generations_2026_07") and not DroppedMonth.objects.exists()
            reader.close()
            assert retention.drop_old() == ["2026-07"]
        finally:
            stop.set()
            worker.join()

    assert not failed and slowest[0] < 5
    posting.post_generations()
    assert broken() == []


@pytest.mark.django_db
@pytest.mark.usefixtures("_now")
def test_what_was_detached_by_a_run_that_died_is_dropped_by_the_next(monkeypatch):
    key, _ = old_calls()
    close(key.organization)
    issue(key.organization)

    class Died(BaseException):
        pass

    def die(name: str) -> None:
        if name == "after_month_detached":
            raise Died

    with monkeypatch.context() as patch:
        patch.setattr(crash, "point", die)
        with pytest.raises(Died):
            retention.drop_old()
    assert exists("generations_2026_07")

    assert retention.drop_old() == [] and not exists("generations_2026_07")
