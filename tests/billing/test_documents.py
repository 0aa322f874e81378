"""What documents say: closed once and in order, to the nano-dollar what was used, booked and charged."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import DatabaseError, connection, connections, transaction

from aggregator.lib import crash
from billing import ledger, posting, rebates, tasks, wallets
from billing.core import chart
from billing.core.money import parse_usd, round_nanos, usd
from billing.core.usage import Usage
from billing.documents import credit_notes, movements, proofs, recompute, running, usage_lines
from billing.models import Alert, BilledUsage, BillingProfile, Document, DocumentNumber, MonthClose, Posting
from tests.billing import books
from tests.billing.documented import (
    FIRST_OF_JULY,
    FIRST_OF_JUNE,
    IN_JUNE,
    IN_MAY,
    JULY,
    JUNE,
    LARGE,
    MAY,
    USD,
    Books,
    broken,
    nanos,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def acme(monkeypatch):
    return Books(monkeypatch)


def test_a_month_closes_as_one_statement_with_a_line_for_each_price(acme):
    first = acme.use(IN_MAY)
    acme.use(IN_MAY, Usage(input=7, cache_read=333, output=11))
    acme.use(IN_MAY, status="failed", free=True)
    acme.at(FIRST_OF_JUNE)

    assert (acme.close(), acme.close()) == (1, 0)

    document = acme.document()
    said = document.content
    assert (document.number, document.kind, said["month"]) == ("ST-2026-000001", "statement", "2026-05")
    charged, free = said["usage"]
    assert (charged["model"], charged["provider"]) == ("acme/swift", "sandbox")
    assert (charged["key"], charged["key_name"]) == (acme.key.public_id, "test")
    assert (charged["requests"], charged["markup"], charged["price"]) == (2, "0.03", acme.price.id)
    assert charged["items"] == [
        {"kind": "input", "units": 1007, "unit_price": "2", "base": "0.002014"},
        {"kind": "cache_read", "units": 333, "unit_price": "0.123456", "base": "0.000041110848"},
        {"kind": "output", "units": 511, "unit_price": "8", "base": "0.004088"},
        {"kind": "request", "units": 2, "unit_price": "0.0001", "base": "0.0002"},
    ]
    assert Decimal(charged["amount"]) == Decimal("0.006343110848") * Decimal("1.03")
    assert (free["kind"], free["amount"], free["requests"]) == ("free", "0", 1)
    assert abs(Decimal(said["rounding"])) <= Decimal("0.000000001")
    assert first.charge_nanos < nanos(said["usage_total"]) == document.total_nanos
    assert said["total"] == said["usage_total"]
    assert [(row["kind"], row["amount"]) for row in said["credits"]] == [("welcome", "1"), ("grant", "5000")]
    assert parse_usd(said["closing_balance"]) == acme.balance()
    assert broken() == {}


def test_a_month_closes_with_rebate_late_calls_and_a_credit_note_all_equal_to_the_ledger(acme):
    for _ in range(2):
        acme.use(IN_MAY, LARGE)
    acme.at(FIRST_OF_JUNE)
    acme.close()
    late = acme.use(IN_MAY, Usage(input=3, output=1))
    acme.use(IN_JUNE, LARGE)
    acme.at(datetime(2026, 6, 20, tzinfo=UTC))
    note = credit_notes.issue(acme.document().number, 12 * USD + 1, reason="Wrong model was served")
    acme.at(FIRST_OF_JULY)
    acme.close(JUNE)

    may, june = acme.document().content, acme.document(JUNE).content
    assert may["rebate"]["amount"] == usd(
        round_nanos(Decimal("0.02") * (nanos(may["usage_total"]) - 1000 * USD))
    )
    (share,) = may["rebate"]["detail"]
    assert (share["rate"], share["threshold"], share["usage"]) == ("0.02", "1000", may["usage_total"])
    assert Decimal(may["total"]) == Decimal(may["usage_total"]) - Decimal(may["rebate"]["amount"])
    assert june["late"] == {"requests": 1, "amount": usd(late.charge_nanos)}
    assert [line["used_in"] for line in june["usage"]] == [None, "2026-05"]
    assert june["rebate"]["detail"][0]["used_in"] == "2026-05"
    assert (june["opening_balance"], may["late"]["requests"]) == (may["closing_balance"], 0)
    assert [(row["kind"], row["amount"]) for row in june["credits"]] == [("credit_note", "12.000000001")]
    assert note.content["corrects"]["number"] == acme.document().number
    charged = -sum(
        row.entries.get(account__kind="wallet").nanos for row in Posting.objects.filter(kind="usage")
    )
    assert charged == nanos(may["usage_total"]) + nanos(june["usage_total"])
    assert parse_usd(june["closing_balance"]) == acme.balance()
    assert broken() == {}


def test_closing_by_many_at_once_issues_each_document_once_and_numbers_without_a_gap(acme):
    acme.use(IN_MAY)
    for number in range(3):
        other = books.make_organization(f"other-{number}", usd="10")
        books.deliver(books.make_key(other), acme.price, at=IN_MAY)
    posting.post_generations()
    acme.at(FIRST_OF_JUNE)
    issued = []

    def work():
        issued.append(acme.close())
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    numbers = sorted(Document.unscoped.values_list("number", flat=True))
    assert numbers == [f"ST-2026-00000{number}" for number in (1, 2, 3, 4)]
    assert broken() == {}


@pytest.mark.parametrize("place", ["before_document_commit", "after_document_commit"])
def test_a_run_that_dies_leaves_one_document_and_no_gap(acme, monkeypatch, place):
    class Died(BaseException):
        pass

    def die(name):
        if name == place:
            raise Died

    acme.use(IN_MAY)
    acme.at(FIRST_OF_JUNE)
    with monkeypatch.context() as patch:
        patch.setattr(crash, "point", die)
        with pytest.raises(Died):
            acme.close()

    acme.close()

    assert acme.document().number == "ST-2026-000001"
    assert DocumentNumber.objects.get(series="ST").last == 1
    assert broken() == {}


def test_an_issued_document_never_changes_and_tells_of_words_as_they_were(acme):
    BillingProfile.objects.create(
        organization=acme.organization,
        name="Acme Ltd.",
        address="1 Street\nTown",
        tax_id="GB1",
        reference="PO 7",
    )
    acme.use(IN_MAY)
    acme.at(FIRST_OF_JUNE)
    acme.close()
    document = acme.document()
    assert document.content["buyer"]["address"] == ["1 Street", "Town"]
    assert document.content["buyer"]["reference"] == "PO 7"

    BillingProfile.objects.of(acme.organization).update(name="Other", address="")
    type(acme.key).objects.of(acme.organization).update(name="renamed")
    for change in ("total_nanos = 0", "content = '{}'", "number = 'ST-1'", "month = NULL"):
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"UPDATE billing_document SET {change}")
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM billing_document")

    assert recompute.difference(acme.document()) is None
    assert acme.document().content == document.content


def test_what_someone_writes_into_books_past_the_triggers_is_found(acme):
    acme.use(IN_MAY)
    acme.at(FIRST_OF_JUNE)
    acme.close()

    def plant(table, statement):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            cursor.execute(statement)
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")

    plant("billing_billedusage", "UPDATE billing_billedusage SET input = input + 1")
    assert set(broken()) == {"bills_are_sums", "documents_recompute"}
    plant(
        "billing_billedusage",
        "UPDATE billing_billedusage SET input = input - 1, charge_nanos = charge_nanos + 1",
    )
    assert broken().keys() >= {"documents_are_bills", "documents_recompute"}
    plant("billing_billedusage", "UPDATE billing_billedusage SET charge_nanos = charge_nanos - 1")
    plant("billing_document", "UPDATE billing_document SET number = 'ST-2026-000002'")
    assert set(broken()) == {"numbers_have_no_gap", "documents_recompute"}
    plant("billing_document", "DELETE FROM billing_document")
    assert set(broken()) == {"numbers_have_no_gap"}
    acme.at(datetime(2026, 6, 3, tzinfo=UTC))
    assert "usage_is_on_a_document" in broken()


def test_a_month_that_was_missed_is_closed_first_and_each_opens_with_what_the_last_closed_with(acme):
    acme.use(IN_MAY)
    acme.use(IN_JUNE)
    acme.at(FIRST_OF_JULY)

    assert acme.close(JUNE) == 2

    assert (acme.document().number, acme.document(JUNE).number) == ("ST-2026-000001", "ST-2026-000002")
    assert acme.document(JUNE).content["opening_balance"] == acme.document().content["closing_balance"]
    assert acme.close(MAY) == 0
    assert broken() == {}


def test_months_without_usage_have_a_statement_when_money_moved_and_none_when_nothing_did(acme):
    acme.at(FIRST_OF_JULY)

    assert acme.close(JUNE) == 1
    assert acme.document().content["usage"] == []
    assert acme.document().content["closing_balance"] == "5001"

    acme.at(datetime(2026, 7, 5, tzinfo=UTC))
    ledger.post(
        "stripe_fee",
        "fee-1",
        entries={(chart.STRIPE_FEES, None): -USD, (chart.STRIPE_CASH, None): USD},
        organization_id=acme.organization.pk,
    )
    acme.at(datetime(2026, 8, 1, 6, tzinfo=UTC))
    assert acme.close(JULY) == 0
    assert MonthClose.objects.of(acme.organization).filter(month=JULY).exists()
    assert broken() == {}


def test_every_movement_of_the_ledger_has_its_place_on_a_statement(acme):
    acme.at(datetime(2026, 5, 20, tzinfo=UTC))
    wallets.grant("acme", 3 * USD, note="For trying", expires_at=datetime(2026, 5, 25, tzinfo=UTC))
    owner = acme.organization.pk
    wallet, cash = (chart.WALLET, owner), (chart.STRIPE_CASH, None)
    for kind, entries, note in (
        ("top_up", {wallet: 10 * USD, (chart.TAX, None): 2 * USD, cash: -12 * USD}, "Automatic top-up"),
        ("refund", {wallet: -4 * USD, (chart.TAX, None): -USD, cash: 5 * USD}, ""),
        ("dispute", {wallet: -USD, cash: USD}, ""),
        (
            "subscription",
            {(chart.SUBSCRIPTION_REVENUE, None): 9 * USD, (chart.TAX, None): USD, cash: -10 * USD},
            "",
        ),
        ("expiry", {wallet: -3 * USD, (chart.PROMOTION, None): 3 * USD}, ""),
        ("stripe_fee", {(chart.STRIPE_FEES, None): -7, cash: 7}, ""),
    ):
        ledger.post(kind, f"{kind}-1", entries=entries, organization_id=owner, note=note)
    acme.at(FIRST_OF_JUNE)
    acme.close()

    said = acme.document().content
    top_up = said["credits"][-1]
    assert (top_up["says"], top_up["amount"], top_up["tax"]) == ("Automatic top-up", "10", "2")
    assert said["credits"][-2]["expires_at"] == "2026-05-25T00:00:00+00:00"
    assert said["credits"][-2]["says"] == "Credit given: For trying"
    shown = [
        (row["kind"], row["amount"]) for name in ("refunds", "disputes", "expired") for row in said[name]
    ]
    assert shown == [("refund", "-4"), ("dispute", "-1"), ("expiry", "-3")]
    assert [(row["amount"], row["tax"], row["invoice"]) for row in said["subscription"]] == [
        ("9", "1", "subscription-1")
    ]
    assert {row["kind"]: row["amount"] for row in said["tax"]} == {
        "top_up": "2",
        "refund": "-1",
        "subscription": "1",
    }
    assert parse_usd(said["closing_balance"]) == acme.balance()
    assert proofs.check().holds


def test_every_kind_of_posting_is_listed_in_one_place_of_a_document():
    grouped = [kind for kinds in movements._GROUPS.values() for kind in kinds]
    listed = [*grouped, *movements._SUBSCRIPTION, *movements.OF_A_MONTH, *movements.OURS]

    assert sorted(listed) == sorted(chart.MAY)


def test_a_month_whose_bill_and_usage_differ_is_not_closed_and_operators_hear(acme):
    acme.use(IN_MAY)
    BilledUsage.objects.of(acme.organization).update(charge_nanos=1, base_nanos=1)
    acme.at(FIRST_OF_JUNE)

    assert acme.close() == 0
    assert not MonthClose.objects.of(acme.organization).exists()
    assert Alert.objects.get(resolved_at=None).kind == "month_differs"


def test_no_month_is_closed_over_an_earlier_one_that_differs_and_both_are_once_that_is_mended(acme):
    acme.use(IN_MAY)
    right = BilledUsage.objects.of(acme.organization).values("charge_nanos", "base_nanos").get()
    BilledUsage.objects.of(acme.organization).update(charge_nanos=1, base_nanos=1)
    acme.use(IN_JUNE)
    acme.at(FIRST_OF_JULY)

    assert acme.close(JUNE) == 0
    assert not MonthClose.objects.of(acme.organization).exists()

    BilledUsage.objects.of(acme.organization).filter(month=MAY).update(**right)
    assert acme.close(JUNE) == 2
    assert acme.document(JUNE).content["opening_balance"] == acme.document().content["closing_balance"]
    assert broken() == {}


def test_a_call_that_is_posted_to_an_empty_month_while_the_next_is_closed_is_on_a_document(acme, monkeypatch):
    acme.at(FIRST_OF_JUNE)
    acme.close()
    acme.use(datetime(2026, 7, 9, tzinfo=UTC))
    acme.at(datetime(2026, 8, 1, 6, tzinfo=UTC))
    income, late = rebates._income, []

    def meanwhile(month):
        if not late:
            late.append(acme.use(IN_JUNE))
        return income(month)

    monkeypatch.setattr(rebates, "_income", meanwhile)
    acme.close(JULY)
    acme.close(JULY)

    assert [acme.document(month).content["requests"] for month in (JUNE, JULY)] == [1, 1]
    assert broken() == {}


def test_the_running_statement_has_what_is_not_posted_yet_and_what_is_to_come(acme):
    acme.use(IN_MAY, LARGE)
    acme.use(IN_MAY, LARGE)
    waiting = books.deliver(acme.key, acme.price, at=IN_MAY)
    acme.at(datetime(2026, 5, 20, tzinfo=UTC))

    said = running.statement(acme.organization)

    assert (said["number"], said["month"]) == (None, "2026-05")
    (line,) = said["usage"]
    assert line["requests"] == 3
    assert nanos(said["usage_total"]) == 2 * 1030 * USD + 2 * 103_000 + waiting.charge_nanos
    assert said["rebate"]["posted"] is False
    assert Decimal(said["total"]) == Decimal(said["usage_total"]) - Decimal(said["rebate"]["amount"])
    assert parse_usd(said["closing_balance"]) == acme.balance() - waiting.charge_nanos
    posting.post_generations()
    acme.at(FIRST_OF_JUNE)
    assert running.statement(acme.organization)["usage"] == []
    acme.close()
    closed = acme.document().content
    assert (closed["usage"], closed["rebate"]["detail"]) == (said["usage"], said["rebate"]["detail"])
    assert Decimal(closed["total"]) == Decimal(said["total"])
    late = books.deliver(acme.key, acme.price, at=IN_MAY)
    (line,) = running.statement(acme.organization)["usage"]
    assert (line["used_in"], running.statement(acme.organization)["late"]["amount"]) == (
        "2026-05",
        usd(late.charge_nanos),
    )


def test_of_very_many_lines_the_dearest_are_listed_and_the_rest_is_summed(acme, monkeypatch):
    monkeypatch.setattr(usage_lines, "MOST_LISTED", 1)
    acme.use(IN_MAY, LARGE)
    for number in range(2):
        books.deliver(books.make_key(acme.organization, str(number)), acme.price, at=IN_MAY)
    posting.post_generations()
    acme.at(FIRST_OF_JUNE)
    acme.close()

    said = acme.document().content
    assert [line["requests"] for line in said["usage"]] == [1]
    assert [(row["model"], row["lines"], row["requests"]) for row in said["others"]] == [("acme/swift", 2, 2)]
    assert broken() == {}


def test_the_job_closes_the_last_month_and_waits_for_its_time(acme):
    acme.use(IN_MAY)
    acme.at(datetime(2026, 6, 1, 5, 59, tzinfo=UTC))
    tasks.issue_documents()
    assert not Document.unscoped.exists()

    acme.at(FIRST_OF_JUNE)
    tasks.issue_documents()
    tasks.issue_documents()

    assert Document.unscoped.count() == 1
