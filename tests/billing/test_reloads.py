"""Credit and terms are known to the gate right after the commit, and stand when it is away."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.db import transaction

from aggregator.lib import kv
from billing import gate, plans, reloads, tasks, wallets
from billing.core.budgets import wallet_account
from billing.models import Wallet
from tests.billing import books

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def organization():
    organization = books.make_organization(usd="0")
    shard = kv.shard(organization.public_id)
    kv.gate().delete(gate.epoch_key(shard))
    assert gate.open_epoch(shard, gate.begin(shard)) == []
    gate.reload(organization.public_id)
    return organization


def spendable(organization):
    return gate.look(wallet_account(organization.public_id, organization.pk)).spendable


def test_a_grant_is_spendable_at_once(organization):
    assert spendable(organization) == 1_000_000_000

    wallets.grant("acme", 5_000_000_000)

    assert spendable(organization) == 6_000_000_000


def test_a_grant_that_is_rolled_back_is_never_spendable(organization):
    with pytest.raises(RuntimeError), transaction.atomic():
        wallets.grant("acme", 5_000_000_000)
        raise RuntimeError

    assert spendable(organization) == 1_000_000_000
    assert books.balance(organization) == 1_000_000_000


def untold():
    return Wallet.unscoped.filter(untold__isnull=False).count()


def test_a_change_that_the_gate_cannot_hear_stands_and_is_told_by_a_job(organization, settings):
    reached = settings.GATE_URL
    settings.GATE_URL = "redis://127.0.0.1:1"
    kv.gate.cache_clear()
    kv._registered.cache_clear()
    try:
        wallets.grant("acme", 5_000_000_000)
        plans.set_plan("acme", "production", markup=Decimal("0.02"))
        tasks.tell_gate()
    finally:
        settings.GATE_URL = reached
        kv.gate.cache_clear()
        kv._registered.cache_clear()

    assert books.balance(organization) == 6_000_000_000
    assert plans.terms(organization.pk).markup == Decimal("0.02")
    assert (spendable(organization), untold()) == (1_000_000_000, 1)
    tasks.tell_gate()
    assert (spendable(organization), untold()) == (6_000_000_000, 0)


def test_a_process_that_dies_between_the_commit_and_the_telling_leaves_a_note(organization, monkeypatch):
    with monkeypatch.context() as dying:
        dying.setattr(reloads, "_tell", lambda organization, note: None)
        wallets.grant("acme", 5_000_000_000)
    assert (spendable(organization), untold()) == (1_000_000_000, 1)

    tasks.tell_gate()

    assert (spendable(organization), untold()) == (6_000_000_000, 0)


def test_a_change_during_the_telling_of_another_is_told_as_well(organization, monkeypatch):
    reload = gate.reload

    def reload_and_change(public_id):
        reload(public_id)
        monkeypatch.setattr(gate, "reload", reload)
        with monkeypatch.context() as dying:
            dying.setattr(reloads, "_tell", lambda organization, note: None)
            wallets.grant("acme", 2_000_000_000)

    monkeypatch.setattr(gate, "reload", reload_and_change)
    wallets.grant("acme", 5_000_000_000)

    assert (spendable(organization), untold()) == (6_000_000_000, 1)
    tasks.tell_gate()
    assert (spendable(organization), untold()) == (8_000_000_000, 0)
