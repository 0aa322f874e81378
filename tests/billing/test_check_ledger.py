"""The check of the ledger is silent on right books, and names every wrong that is planted."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from aggregator.lib import clock, kv
from billing import gate, ledger, posting, reconcile, tasks
from billing.core import chart
from billing.core.budgets import wallet_account
from billing.core.usage import NOTHING, Usage
from billing.models import AgreedTerms, Generation, Wallet
from tests.billing import books

pytestmark = pytest.mark.django_db(transaction=True)


GUARDED = (
    "billing_billedusage",
    "billing_creditlot",
    "billing_enduserday",
    "billing_endusermonth",
    "billing_entry",
    "billing_posting",
    "billing_price",
    "billing_wallet",
    "generations",
)


def plant(statement, *values):
    """Write past every trigger, as only the tables' owner or a damaged disk could."""
    with transaction.atomic(), connection.cursor() as cursor:
        for table in GUARDED:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        cursor.execute(statement, values)
        assert cursor.rowcount
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for table in GUARDED:
            cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


@pytest.fixture
def key():
    """Books with a bit of everything in them."""
    key = books.make_key(books.make_organization())
    price = books.make_price(
        stated={**books.STATED, "request": "0.001", "tiers": [{"above": 5000, "input": "4"}]}
    )
    books.deliver(key, price)
    books.deliver(
        key, price, usage=Usage(input=9000, cache_read=100, output=7, reasoning=3), status="aborted"
    )
    books.deliver(key, price, status="failed", free=True, end_user="ada")
    books.deliver(key, price, usage=NOTHING, status="void", price_id=None)
    posting.post_generations()
    books.deliver(key, price)
    kv.gate().delete(gate.wallet_key(wallet_account(key.organization.public_id, key.organization_id)))
    return key


def broken(**arguments):
    return {finding.name for finding in reconcile.check(**arguments) if not finding.holds}


def test_right_books_hold(key):
    assert broken() == set()
    assert broken(since=clock.now() - timedelta(hours=3)) == set()


def test_the_command_prints_one_line_for_each_invariant(key):
    out = StringIO()

    call_command("check_ledger", stripe_days=0, stdout=out, skip_checks=True)

    lines = out.getvalue().splitlines()
    assert len(lines) == len(reconcile.check()) + 1  # and what documents say
    assert all(line.startswith("holds") for line in lines)


def test_the_command_names_a_breach_and_fails(key):
    plant("UPDATE billing_billedusage SET charge_nanos = charge_nanos + 1 WHERE kind = 'charged'")
    out = StringIO()

    with pytest.raises(SystemExit) as ending:
        call_command("check_ledger", stripe_days=0, stdout=out, skip_checks=True)

    assert ending.value.code == 1
    wrong = [line for line in out.getvalue().splitlines() if line.startswith("BROKEN")]
    assert len(wrong) == 1
    assert wrong[0].startswith("BROKEN  bills_are_sums: ")


CHARGED = "status = 'completed' AND posting_id > 0"

BREACHES = [
    (
        "postings_balance",
        "UPDATE billing_entry SET nanos = nanos + 1 WHERE id = (SELECT min(id) FROM billing_entry)",
    ),
    ("postings_balance", "INSERT INTO billing_posting (kind, source, source_id, note, created_at,"
     " organization_id, chain_index, chain_hash)"
     " SELECT 'grant', '', 'empty', '', now(), organization_id, 99, '' FROM billing_wallet"),
    ("ledger_is_zero", "DELETE FROM billing_entry WHERE id = (SELECT min(id) FROM billing_entry)"),
    (
        "postings_are_lawful",
        "UPDATE billing_entry SET nanos = -nanos WHERE posting_id ="
        " (SELECT id FROM billing_posting WHERE kind = 'grant')",
    ),
    ("postings_are_lawful", "UPDATE billing_posting SET kind = 'theft' WHERE kind = 'grant'"),
    ("balances_are_sums", "UPDATE billing_wallet SET balance_nanos = balance_nanos - 1"),
    ("balances_are_sums", "DELETE FROM billing_wallet"),
    ("lots_are_balances", "UPDATE billing_creditlot SET remaining_nanos = remaining_nanos - 1"
     " WHERE remaining_nanos > 0"),
    ("lots_are_balances", "DELETE FROM billing_creditlot"),
    ("nobody_owes_more_than_agreed", "UPDATE billing_wallet SET balance_nanos = -1"),
    ("chains_verify", "UPDATE billing_posting SET note = 'another'"),
    ("chains_verify", "UPDATE billing_posting SET created_at = created_at + interval '1 microsecond'"),
    ("chains_verify", "UPDATE billing_posting SET source = 'elsewhere' WHERE kind = 'grant'"),
    ("chains_verify", "UPDATE billing_posting SET expires_at = now() WHERE kind = 'welcome'"),
    ("chains_verify", "UPDATE billing_entry SET nanos = nanos * 2 WHERE posting_id ="
     " (SELECT id FROM billing_posting WHERE kind = 'usage')"),
    ("chains_verify", "DELETE FROM billing_creditlot; DELETE FROM billing_entry WHERE posting_id ="
     " (SELECT id FROM billing_posting WHERE chain_index = 2);"
     " DELETE FROM billing_posting WHERE chain_index = 2"),
    ("chains_verify", "UPDATE billing_posting SET chain_hash = sha256(chain_hash) WHERE chain_index = 2"),
    ("chains_verify", "UPDATE billing_wallet SET chain_length = chain_length + 1"),
    ("chains_verify", "UPDATE billing_wallet SET chain_hash = NULL"),
    ("postings_are_generations", f"UPDATE generations SET charge_nanos = charge_nanos + 1 WHERE {CHARGED}"),
    ("postings_are_generations", f"DELETE FROM generations WHERE {CHARGED}"),
    ("postings_are_generations", f"UPDATE generations SET posting_id = 999999 WHERE {CHARGED}"),
    ("free_has_no_posting", f"UPDATE generations SET posting_id = 0 WHERE {CHARGED}"),
    ("free_has_no_posting", "UPDATE generations SET posting_id = 1 WHERE status = 'void'"),
    ("bills_are_sums", "UPDATE billing_billedusage SET requests = requests + 1 WHERE kind = 'free'"),
    ("bills_are_sums", "UPDATE billing_billedusage SET output = output + 1 WHERE kind = 'charged'"),
    ("bills_are_sums", "DELETE FROM billing_billedusage"),
    ("end_users_are_sums", "UPDATE billing_enduserday SET charge_nanos = charge_nanos + 1"),
    ("end_users_are_sums", "DELETE FROM billing_enduserday"),
    ("end_users_are_sums", "UPDATE billing_endusermonth SET requests = requests + 1"),
    ("speeds_are_sums", "DELETE FROM billing_speedspan WHERE key_id = 0 AND hours = 1"),
    ("spans_are_sums", "UPDATE generations SET posting_id = NULL WHERE status = 'void'"),
    ("spans_are_sums", "UPDATE billing_usagespan SET loss_nanos = loss_nanos + 1 WHERE hours = 1"),
    ("spans_are_sums", "UPDATE billing_usagespan SET failed = failed + 1 WHERE hours = 1"),
    ("spans_are_sums", "UPDATE billing_usagespan SET saved_nanos = saved_nanos + 1 WHERE hours = 24"),
    ("spans_are_sums", "DELETE FROM billing_usagespan WHERE hours = 24"),
    ("spans_are_sums", "UPDATE billing_usagespan SET reasoning = reasoning + 1 WHERE hours = 720"),
    ("endpoints_are_sums", "UPDATE billing_endpointspan SET aborted = aborted + 1 WHERE hours = 24"),
    ("endpoints_are_sums", "DELETE FROM billing_endpointspan WHERE hours = 1"),
    ("speeds_are_sums", "UPDATE billing_speedspan SET calls = calls + 1 WHERE hours = 1"),
    ("speeds_are_sums", "DELETE FROM billing_speedspan WHERE hours = 24"),
    ("generations_have_a_wallet", "UPDATE generations SET organization_id = 999999 WHERE posting_id IS NULL"),
    ("nothing_waits", "UPDATE generations SET ended_at = '2026-01-01' WHERE posting_id IS NULL"),
    ("bills_recompute", "UPDATE generations SET charge_nanos = charge_nanos + 1 WHERE posting_id IS NULL"),
    ("bills_recompute", "UPDATE generations SET base_nanos = base_nanos - 1 WHERE posting_id IS NULL"),
    ("bills_recompute", "UPDATE generations SET output = output + 1 WHERE posting_id IS NULL"),
    ("bills_recompute", "UPDATE generations SET markup = 0.05 WHERE posting_id IS NULL"),
    ("bills_recompute", "UPDATE generations SET parts = '[]' WHERE posting_id IS NULL"),
    ("bills_recompute", "UPDATE generations SET price_id = NULL WHERE posting_id IS NULL"),
    ("bills_recompute", "UPDATE generations SET price_id = 999999 WHERE posting_id IS NULL"),
    ("bills_recompute", "UPDATE billing_price SET stated = stated || '{\"input\": \"3\"}'"),
    ("bills_recompute", "UPDATE generations SET charge_nanos = 0, base_nanos = 0 WHERE posting_id IS NULL"),
    ("bills_recompute", "UPDATE generations SET loss_nanos = 0 WHERE status = 'failed'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "statement"), BREACHES)
def test_a_planted_wrong_is_found_by_its_invariant(key, name, statement):
    plant(statement)

    assert name in broken()
    assert name in broken(since=clock.now() - timedelta(hours=3))


LOTS = [
    # As much as before in all, but of other lots; and what a lot says of itself.
    "UPDATE billing_creditlot SET remaining_nanos = remaining_nanos"
    " + CASE WHEN id = (SELECT min(id) FROM billing_creditlot) THEN 1 ELSE -1 END",
    "UPDATE billing_creditlot SET nanos = nanos + 1",
    "UPDATE billing_creditlot SET expires_at = now()",
    "UPDATE billing_creditlot SET kind = 'paid', rank = 2",
    "UPDATE billing_creditlot SET rank = 1",
]


@pytest.mark.parametrize("statement", LOTS)
def test_a_lot_that_is_not_what_postings_make_of_it_is_found_at_night(key, statement):
    plant(statement)

    assert broken() == {"lots_replay"}


def test_all_postings_gone_are_missed(key):
    plant(
        "DELETE FROM billing_creditlot; DELETE FROM billing_entry; DELETE FROM billing_posting;"
        " UPDATE billing_wallet SET balance_nanos = 0"
    )

    assert "chains_verify" in broken()


def owing(organization, *moves):
    """An organization without starting credit, after these (kind, nanos)."""
    other = {"usage": chart.PROVIDER_COST, "monthly_fee": chart.SUBSCRIPTION_REVENUE}
    for number, (kind, nanos) in enumerate(moves):
        ledger.post(
            kind,
            f"{organization.pk} {number}",
            entries={
                (chart.WALLET, organization.pk): nanos,
                (other.get(kind, chart.STRIPE_CASH), None): -nanos,
            },
            organization_id=organization.pk,
        )
    return "nobody_owes_more_than_agreed" not in broken()


@pytest.mark.parametrize(
    ("limit", "moves", "agreed"),
    [
        (0, [("usage", -1)], False),
        (5, [("usage", -5)], True),
        (5, [("usage", -6)], False),
        (0, [("top_up", 10), ("dispute", -12)], True),
        (0, [("top_up", 10), ("dispute", -12), ("top_up", 1)], True),
        (0, [("top_up", 10), ("dispute", -12), ("usage", -10)], True),  # calls under way then
        (0, [("top_up", 10), ("dispute", -12), ("usage", -11)], False),
        (0, [("top_up", 10), ("refund", -8), ("usage", -3)], False),
        (0, [("top_up", 10), ("dispute", -12), ("top_up", 2), ("usage", -1)], False),
        (5, [("usage", -4), ("monthly_fee", -7)], True),
        (5, [("usage", -4), ("monthly_fee", -7), ("usage", -2)], False),
    ],
)
def test_below_its_limit_a_wallet_is_only_by_what_was_taken_back(settings, limit, moves, agreed):
    settings.STARTING_CREDIT_USD = 0
    organization = books.make_organization(usd="0")
    Wallet.objects.of(organization).update(credit_limit_nanos=limit)

    assert owing(organization, *moves) is agreed


def test_a_limit_that_was_lowered_is_no_breach(settings):
    settings.STARTING_CREDIT_USD = 0
    organization = books.make_organization(usd="0")
    AgreedTerms.objects.create(
        organization=organization, version=9, plan="production", markup=0, credit_limit_nanos=9
    )

    assert owing(organization, ("usage", -9))
    assert not owing(organization, ("top_up", 1), ("usage", -2))


def test_a_charge_that_the_hold_capped_says_where(key):
    price = books.make_price()
    full = books.deliver(key, price)
    capped = full.base_nanos + 5
    books.deliver(key, price, charge_nanos=capped, decision={"capped_at_nanos": capped})
    books.deliver(key, price, charge_nanos=7, base_nanos=7, loss_nanos=full.base_nanos - 7)
    assert broken() == set()

    books.deliver(key, price, charge_nanos=capped)

    assert broken() == {"bills_recompute"}


def test_a_trigger_that_is_switched_off_is_found(key):
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgname FROM pg_trigger WHERE tgrelid = 'billing_entry'::regclass"
                       " AND starts_with(tgname, 'pgtrigger_append_only')")  # fmt: skip
        name = cursor.fetchone()[0]
        cursor.execute(f"ALTER TABLE billing_entry DISABLE TRIGGER {name}")
        try:
            assert broken() == {"guards_stand"}
        finally:
            cursor.execute(f"ALTER TABLE billing_entry ENABLE TRIGGER {name}")


def test_a_gate_that_says_otherwise_is_found(key, monkeypatch):
    monkeypatch.setattr(reconcile, "_BETWEEN_LOOKS_SECONDS", 0)
    organization = key.organization
    account = wallet_account(organization.public_id, organization.pk)
    shard = kv.shard(organization.public_id)
    kv.gate().delete(gate.epoch_key(shard))
    assert gate.open_epoch(shard, gate.begin(shard)) == []
    gate.reload(organization.public_id)
    unposted = Generation.objects.of(organization).get(posting_id=None)
    assert gate.look(account).spendable == books.balance(organization) - unposted.charge_nanos
    assert broken() == set()

    kv.gate().hincrby(gate.wallet_key(account), "c", 1)

    assert broken() == {"gate_agrees"}


def test_the_job_logs_each_breach(key, caplog):
    tasks.check_ledger()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]

    plant("UPDATE billing_wallet SET balance_nanos = balance_nanos + 1")
    tasks.check_ledger()

    assert "balances_are_sums" in str(
        [record.msg for record in caplog.records if record.levelname == "ERROR"]
    )


def test_examples_are_few_however_many_break(key):
    price = books.make_price()
    for _ in range(8):
        books.deliver(key, price)
    plant("UPDATE generations SET charge_nanos = charge_nanos + 1 WHERE posting_id IS NULL")

    finding = next(finding for finding in reconcile.check() if finding.name == "bills_recompute")

    assert finding.breaches == 9
    assert len(finding.examples) == reconcile.EXAMPLES
