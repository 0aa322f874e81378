"""The frequent check of the ledger adds what is new to what was proven; the nightly one believes no sum."""

from __future__ import annotations

from datetime import timedelta

import pytest

from aggregator.lib import clock, kv
from billing import gate, posting, proven, reconcile, tasks, wallets
from billing.core.budgets import wallet_account
from billing.models import Alert, Posting, ProvenSum
from tests.billing import books
from tests.billing.test_check_ledger import plant

pytestmark = pytest.mark.django_db(transaction=True)


class Ledger:
    """An organization's postings, those before `since` proven."""

    def __init__(self):
        self.key = books.make_key(books.make_organization())
        self.price = books.make_price()
        self.use()
        self.since = clock.now()
        reconcile.remember(reconcile.check(), self.since)
        self.mark = Posting.objects.latest("id").pk
        wallets.grant("acme", 7)
        self.use()

    def use(self):
        books.deliver(self.key, self.price)
        posting.post_generations()
        organization = self.key.organization
        kv.gate().delete(gate.wallet_key(wallet_account(organization.public_id, organization.pk)))

    def broken(self, *, whole=False):
        found = reconcile.check(None if whole else self.since)
        return {finding.name for finding in found if not finding.holds}


@pytest.fixture
def books_proven():
    return Ledger()


def test_the_frequent_check_begins_where_the_ledger_was_proven(books_proven):
    assert proven.reached() == books_proven.mark
    assert books_proven.broken() == set()
    assert books_proven.broken(whole=True) == set()

    reconcile.remember(reconcile.check(books_proven.since), clock.now())

    assert proven.reached() == Posting.objects.latest("id").pk > books_proven.mark
    assert books_proven.broken() == set()
    assert books_proven.broken(whole=True) == set()
    assert sum(row.nanos for row in ProvenSum.objects.all()) == 0


NEW = "(SELECT id FROM billing_posting WHERE kind = 'grant' ORDER BY id DESC LIMIT 1)"
OLD = "(SELECT id FROM billing_posting WHERE kind = 'grant' ORDER BY id LIMIT 1)"
WALLET = "account_id = (SELECT id FROM billing_account WHERE kind = 'wallet')"
A_PAIR = (
    "UPDATE billing_entry SET nanos = nanos + CASE WHEN {wallet} THEN 1 ELSE -1 END WHERE posting_id = {one}"
)
INSERTED = (
    "WITH one AS (INSERT INTO billing_posting (id, kind, source, source_id, note, created_at,"
    " organization_id, chain_index, chain_hash)"
    " SELECT {id}, 'grant', '', 'slipped in', '', '2020-01-01', organization_id, 99, ''"
    " FROM billing_wallet RETURNING id)"
    " INSERT INTO billing_entry (posting_id, account_id, nanos) SELECT one.id, account.id,"
    " CASE account.kind WHEN 'wallet' THEN 3 ELSE -3 END FROM one, billing_account AS account"
    " WHERE account.kind IN ('wallet', 'promotion')"
)


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        (f"UPDATE billing_entry SET nanos = nanos + 1 WHERE posting_id = {NEW}", "ledger_is_zero"),
        (f"DELETE FROM billing_entry WHERE posting_id = {NEW} AND NOT {WALLET}", "ledger_is_zero"),
        (A_PAIR.format(wallet=WALLET, one=NEW), "balances_are_sums"),
        (INSERTED.format(id="nextval('billing_posting_id_seq')"), "balances_are_sums"),
        ("UPDATE billing_wallet SET balance_nanos = balance_nanos + 1", "balances_are_sums"),
        ("UPDATE billing_provensum SET nanos = nanos + 1", "balances_are_sums"),
        ("UPDATE billing_provensum SET posting_id = posting_id + 1", "balances_are_sums"),
        (f"DELETE FROM billing_provensum WHERE {WALLET}", "balances_are_sums"),
    ],
)
def test_a_wrong_above_the_mark_is_found_by_the_frequent_check(books_proven, statement, name):
    plant(statement)
    mark = proven.reached()

    findings = reconcile.check(books_proven.since)

    assert name in {finding.name for finding in findings if not finding.holds}
    reconcile.remember(findings, clock.now())
    assert proven.reached() == mark


def test_without_a_mark_the_frequent_check_looks_at_everything(books_proven):
    plant("DELETE FROM billing_provensum")
    assert books_proven.broken() == set()

    plant(A_PAIR.format(wallet=WALLET, one=OLD))

    assert "balances_are_sums" in books_proven.broken()


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        (f"UPDATE billing_entry SET nanos = nanos + 1 WHERE posting_id = {OLD}",
         {"postings_balance", "ledger_is_zero", "proven_is_proven", "balances_are_sums"}),
        (A_PAIR.format(wallet=WALLET, one=OLD), {"balances_are_sums", "proven_is_proven"}),
        (f"DELETE FROM billing_entry WHERE posting_id = {OLD}", {"balances_are_sums", "proven_is_proven"}),
        (INSERTED.format(id=0), {"balances_are_sums", "proven_is_proven"}),
    ],
)  # fmt: skip
def test_a_wrong_below_the_mark_is_found_at_night(books_proven, statement, names):
    plant(statement)

    assert names <= books_proven.broken(whole=True)


def test_proven_sums_that_were_changed_are_told_and_made_anew_at_night(books_proven):
    """Two of them, by turns, so that no balance of a wallet tells."""
    plant("UPDATE billing_provensum SET nanos = nanos + CASE account.kind WHEN 'promotion' THEN 1 ELSE -1 END"
          " FROM billing_account AS account WHERE account.id = account_id"
          " AND account.kind IN ('promotion', 'provider_cost')")  # fmt: skip
    assert books_proven.broken() == set()

    tasks.check_ledger(whole=True)

    assert Alert.objects.filter(subject="proven_is_proven", resolved_at=None).count() == 1
    assert books_proven.broken(whole=True) == set()
    tasks.check_ledger(whole=True)
    assert not Alert.objects.filter(resolved_at=None).exists()


def test_the_job_proves_what_is_older_than_it_looks_back(books_proven, monkeypatch):
    tasks.check_ledger()
    assert proven.reached() == books_proven.mark  # all that came since is new still

    tomorrow = clock.now() + timedelta(days=1)
    monkeypatch.setattr(clock, "now", lambda: tomorrow)
    tasks.check_ledger()

    assert proven.reached() == Posting.objects.latest("id").pk


def test_a_posting_that_says_it_is_old_moves_no_mark(books_proven):
    plant(INSERTED.format(id="nextval('billing_posting_id_seq')"))

    proven.advance(books_proven.since)

    assert proven.reached() == books_proven.mark
