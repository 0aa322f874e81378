"""Double entry, only ever added to, by one writer."""

from __future__ import annotations

import threading

import pytest
from django.db import DatabaseError, IntegrityError, connection, connections, transaction

from billing import ledger
from billing.core.chart import LOSS, MARKUP_REVENUE, PROMOTION, PROVIDER_COST, WALLET
from billing.models import Entry, Posting
from tests.billing import books

pytestmark = pytest.mark.django_db(transaction=True)


def run(statement, *values):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def grant(organization, nanos, source_id="one"):
    return ledger.post(
        "grant",
        source_id,
        entries={(WALLET, organization.pk): nanos, (PROMOTION, None): -nanos},
        organization_id=organization.pk,
    )


def bare_posting(organization):
    """Written past the ledger."""
    return Posting.objects.create(
        kind="grant",
        source="test",
        source_id="x",
        organization_id=organization.pk,
        chain_index=99,
        chain_hash=b"",
    )


def test_a_posting_moves_the_balance_by_its_wallet_entry():
    organization = books.make_organization(usd="0")

    grant(organization, 5)

    assert books.balance(organization) == 1_000_000_005
    assert books.entries_sum(WALLET) == 1_000_000_005
    assert books.entries_sum(PROMOTION) == -1_000_000_005


def test_a_repeat_returns_the_first_and_moves_nothing():
    organization = books.make_organization(usd="0")

    first, again = grant(organization, 5), grant(organization, 5)

    assert first == again
    assert books.balance(organization) == 1_000_000_005


def test_a_repeat_with_other_content_is_an_error():
    organization = books.make_organization(usd="0")
    other = books.make_organization("other", usd="0")
    grant(organization, 5)

    with pytest.raises(ledger.OtherContent):
        grant(organization, 6)
    with pytest.raises(ledger.OtherContent):
        grant(other, 5)
    assert books.balance(organization) == 1_000_000_005
    assert books.balance(other) == 1_000_000_000


def test_a_posting_repeated_by_many_at_once_happens_once():
    organization = books.make_organization(usd="0")
    found = []

    def work():
        found.append(grant(organization, 5))
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 6
    assert len(set(found)) == 1
    assert books.balance(organization) == 1_000_000_005


@pytest.mark.parametrize("table", ["billing_entry", "billing_posting", "billing_price", "billing_plan"])
def test_rows_of_the_ledger_are_neither_changed_nor_deleted(table):
    books.make_organization()
    books.make_price()

    with pytest.raises(DatabaseError, match="Cannot update or delete"):
        run(f"UPDATE {table} SET id = id + 1000000")
    with pytest.raises(DatabaseError, match="Cannot update or delete"):
        run(f"DELETE FROM {table}")


def test_an_unbalanced_posting_is_refused_at_the_commit():
    organization = books.make_organization()
    entry = Entry.objects.first()

    with pytest.raises(IntegrityError, match="does not balance"), transaction.atomic():
        posting = bare_posting(organization)
        Entry.objects.create(posting=posting, account=entry.account, nanos=5)
    assert not Posting.objects.filter(source_id="x").exists()


def test_a_posting_without_entries_is_refused_at_the_commit():
    organization = books.make_organization()
    with pytest.raises(IntegrityError, match="does not balance"), transaction.atomic():
        bare_posting(organization)


def test_an_entry_added_to_an_old_posting_is_refused_at_the_commit():
    books.make_organization()
    entry = Entry.objects.first()
    account = books.Organization.objects.create(slug="b", name="B")
    run("INSERT INTO billing_account (kind, organization_id) VALUES ('wallet', %s)", account.pk)

    with pytest.raises(IntegrityError, match="does not balance"):
        run(
            "INSERT INTO billing_entry (posting_id, account_id, nanos)"
            " SELECT %s, max(id), 7 FROM billing_account",
            entry.posting_id,
        )


@pytest.mark.parametrize(
    "kind, entries",
    [
        ("grant", {WALLET: 5, PROMOTION: -4}),
        ("grant", {WALLET: -5, PROMOTION: 5}),
        ("grant", {WALLET: 5, PROVIDER_COST: -5}),
        ("grant", {}),
        ("usage", {WALLET: 5, PROVIDER_COST: -5}),
        ("usage", {WALLET: -5, PROVIDER_COST: 5, LOSS: 0}),
        ("usage", {WALLET: -5, PROVIDER_COST: 6, MARKUP_REVENUE: -1}),
        ("theft", {WALLET: -5, PROMOTION: 5}),
    ],
)
def test_accounts_that_a_kind_may_not_touch_are_refused(kind, entries):
    organization = books.make_organization(usd="0")
    owned = {(name, organization.pk if name == WALLET else None): nanos for name, nanos in entries.items()}

    with pytest.raises(ValueError):
        ledger.post(kind, "x", entries=owned, organization_id=organization.pk)
    assert books.balance(organization) == 1_000_000_000


def test_a_wallet_that_was_not_opened_cannot_be_posted_to():
    organization = books.Organization.objects.create(slug="walletless", name="Walletless")

    with pytest.raises(ValueError, match="no wallet"):
        grant(organization, 5)
