"""Credit is taken out of the gate before PostgreSQL is changed: never twice, whoever asks at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from django.db import connections, transaction

from aggregator.lib import ids, kv
from aggregator.lib.errors import Refusal
from billing import flush, gate, ledger, plans, reloads, reserving, wallets
from billing.core import chart, gate_scripts
from billing.core.budgets import wallet_account
from tests.billing import books

pytestmark = pytest.mark.django_db(transaction=True)

CREDIT = 10**9
COVER = kv.Script(gate_scripts.COVER)
RELEASE = kv.Script(gate_scripts.RELEASE)


@pytest.fixture
def organization():
    """With exactly $1, known to the gate."""
    organization = books.make_organization(usd="0")
    gate.open_epoch(shard(organization), gate.begin(shard(organization)))
    gate.reload(organization.public_id)
    return organization


def shard(organization):
    return kv.shard(organization.public_id)


def account(organization):
    return wallet_account(organization.public_id, organization.pk)


def view(organization):
    return gate.look(account(organization))


def spendable(organization):
    return view(organization).spendable


def hold(organization, amount, call=None):
    """As a call holds it; whether there was enough."""
    epoch = kv.gate().hget(gate.epoch_key(shard(organization)), "id")
    keys = [gate.wallet_key(account(organization))]
    return COVER.run(keys, [epoch, call or str(ids.uuid7()), amount, 60_000])[0] == "ok"


def release_all(organization):
    key = gate.wallet_key(account(organization))
    for field in kv.gate().hkeys(key):
        if field.startswith("h:"):
            RELEASE.run([key], [field[2:]])


def take_away(organization, nanos):
    """An expiry of credit, as it is posted."""
    with transaction.atomic():
        ledger.post(
            "expiry",
            str(ids.uuid7()),
            entries={(chart.WALLET, organization.pk): -nanos, (chart.PROMOTION, None): nanos},
            organization_id=organization.pk,
            source="test",
        )
        reloads.after_commit(organization.public_id)


def test_what_is_reserved_no_call_can_hold(organization):
    with reserving.credit(organization.pk, CREDIT - 100) as taken:
        assert taken == CREDIT - 100
        assert not hold(organization, 101)
        assert hold(organization, 100)
        take_away(organization, taken)
        assert not hold(organization, 1)

    assert (spendable(organization), view(organization).held) == (0, 100)


def test_what_calls_hold_cannot_be_reserved(organization):
    hold(organization, 400)

    with pytest.raises(Refusal) as refused, reserving.credit(organization.pk, CREDIT - 399):
        pytest.fail("more than there is was reserved")

    assert (refused.value.status, refused.value.error_type) == (402, "insufficient_credit")
    assert refused.value.metadata == {"spendable": "0.9999996"}
    assert view(organization).held == 400


def test_at_most_takes_what_is_left(organization):
    hold(organization, CREDIT - 7)
    with reserving.credit(organization.pk, CREDIT, at_most=True) as taken:
        assert taken == 7
    hold(organization, 7)
    with reserving.credit(organization.pk, CREDIT, at_most=True) as taken:
        assert taken == 0


def test_a_block_that_fails_gives_the_credit_back(organization):
    with pytest.raises(RuntimeError), reserving.credit(organization.pk, CREDIT):
        raise RuntimeError

    assert (spendable(organization), view(organization).holds) == (CREDIT, 0)


def test_a_credit_limit_is_not_credit_to_be_given_away(organization):
    plans.set_plan("acme", "production", markup=Decimal(0), credit_limit_nanos=5 * CREDIT)

    assert spendable(organization) == 6 * CREDIT
    with pytest.raises(Refusal), reserving.credit(organization.pk, CREDIT + 1):
        pytest.fail("borrowed credit was reserved")
    with reserving.credit(organization.pk, CREDIT) as taken:
        assert taken == CREDIT


@pytest.mark.parametrize("at_most", [0, 1])
def test_asked_again_because_its_answer_was_lost_it_is_the_same_reservation(organization, at_most):
    epoch = kv.gate().hget(gate.epoch_key(shard(organization)), "id")
    amount = CREDIT * 6 // 10

    for _ in range(2):
        answer = kv.Script(gate_scripts.RESERVE).run(
            [gate.wallet_key(account(organization))], [epoch, "reserve-1", amount, 60_000, 0, at_most, 1]
        )
        assert answer == ["ok", str(amount)]
    assert (spendable(organization), view(organization).holds) == (CREDIT - amount, 1)


def test_a_limit_that_was_lowered_unheard_by_the_gate_is_not_reserved_as_credit(organization, monkeypatch):
    plans.set_plan("acme", "production", markup=Decimal(0), credit_limit_nanos=5 * CREDIT)
    with monkeypatch.context() as away:
        away.setattr(reloads, "_tell", lambda *note: False)
        plans.set_plan("acme", "free")
    assert spendable(organization) == 6 * CREDIT

    with reserving.credit(organization.pk, 3 * CREDIT, at_most=True) as taken:
        assert taken == CREDIT


def test_what_calls_have_spent_cannot_be_reserved_nor_what_is_owed(organization):
    plans.set_plan("acme", "production", markup=Decimal(0), credit_limit_nanos=5 * CREDIT)
    spend, spool = kv.Script(gate_scripts.SETTLE), str(ids.uuid7())
    flush.register(spool)
    keys = [gate.receipt_key(organization.public_id, "call"), gate.wallet_key(account(organization))]

    spend.run(keys, [spool, "call", "", 60, CREDIT - 7])
    with reserving.credit(organization.pk, CREDIT, at_most=True) as taken:
        assert taken == 7
    spend.run(keys, [spool, "call", "", 60, 2 * CREDIT])
    with reserving.credit(organization.pk, CREDIT, at_most=True) as taken:
        assert taken == 0


def test_a_wallet_that_the_gate_does_not_know_is_loaded_first(organization):
    kv.gate().flushall()

    with reserving.credit(organization.pk, CREDIT):
        assert spendable(organization) == 0


def test_a_gate_that_cannot_be_reached_is_said(organization, settings):
    reached = settings.GATE_URL
    settings.GATE_URL = "redis://127.0.0.1:1"
    kv.gate.cache_clear()
    kv._registered.cache_clear()
    try:
        with pytest.raises(Refusal) as refused, reserving.credit(organization.pk, 1):
            pytest.fail("reserved without a gate")
    finally:
        settings.GATE_URL = reached
        kv.gate.cache_clear()
        kv._registered.cache_clear()
    assert (refused.value.status, refused.value.error_type) == (503, "service_unavailable")


def test_an_epoch_that_a_process_has_not_joined_reserves_nothing(organization, monkeypatch):
    flush.register(str(ids.uuid7()))
    kv.gate().flushall()
    monkeypatch.setattr(reserving, "_WAIT_SECONDS", 0.1)

    with pytest.raises(Refusal) as refused, reserving.credit(organization.pk, 1):
        pytest.fail("reserved in a closed epoch")
    assert refused.value.status == 503


def test_a_process_that_dies_inside_loses_nothing(organization, settings):
    settings.HOLD_LEASE_SECONDS = 0
    dying = reserving.credit(organization.pk, CREDIT)
    assert dying.__enter__() == CREDIT

    gate.sweep()

    assert spendable(organization) == CREDIT
    assert books.balance(organization) == CREDIT
    dying.gen.close()


def test_the_hold_stays_while_the_gate_has_not_heard_of_the_posting(organization, monkeypatch):
    def unreachable(account):
        raise kv.Unreachable[0]("away")

    with monkeypatch.context() as away, reserving.credit(organization.pk, 600):
        away.setattr(gate, "load", unreachable)
        take_away(organization, 600)

    assert (spendable(organization), view(organization).held) == (CREDIT - 600, 600)
    reloads.tell_all()
    assert view(organization).credit == CREDIT - 600


ROUNDS, CALLS, REFUNDS = 20, 24, 8


def test_calls_and_refunds_at_once_never_get_more_than_the_balance(organization):
    """Each asks for a quarter of what is there, so at most four of thirty-two can have it."""
    together = threading.Barrier(CALLS + REFUNDS)

    def call(amount):
        together.wait(60)
        return amount if hold(organization, amount) else 0

    def refund(amount):
        together.wait(60)
        try:
            with reserving.credit(organization.pk, amount) as taken:
                take_away(organization, taken)
                return taken
        except Refusal as refusal:
            assert refusal.status == 402
            return 0
        finally:
            connections.close_all()

    with ThreadPoolExecutor(CALLS) as callers, ThreadPoolExecutor(REFUNDS) as clerks:
        for _ in range(ROUNDS):
            there = spendable(organization)
            calls = callers.map(call, [there // 4] * CALLS)
            refunds = clerks.map(refund, [there // 4] * REFUNDS)
            used, refunded = sum(calls), sum(refunds)
            assert there // 4 <= used + refunded <= there
            assert (view(organization).held, spendable(organization)) == (used, there - used - refunded)
            release_all(organization)
            if refunded:
                wallets.grant("acme", refunded)
    assert spendable(organization) == books.balance(organization) == CREDIT
