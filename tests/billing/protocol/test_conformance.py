"""The scripts, the SQL and the spool do what the model does: the same walks, compared after every step."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal

import pytest

from accounts import keyring, keys, members
from accounts.core import roles
from accounts.core.principal import Budgets, Principal
from accounts.models import User
from billing import limits
from billing.models import Wallet
from tests.billing import books
from tests.billing.protocol import worlds
from tests.billing.protocol.mirror import GateMirror
from tests.billing.protocol.search import walk
from tests.billing.protocol.stack import StackMirror
from tests.billing.protocol.state import Model
from tests.billing.protocol.worlds import World

with_postgresql = pytest.mark.django_db(transaction=True)

FAULTY = {
    "topup": 4,
    "kills": 2,
    "restarts": 2,
    "exits": 1,
    "delays": 3,
    "evictions": 1,
    "forgets": 1,
    "old_files": 1,
    "loads_any_time": True,
    "free_endings": True,
}


def a_world(seed, **more):
    rng = random.Random(seed)
    calls = rng.choice((worlds.TWO, worlds.THREE, worlds.GROWING, worlds.MIXED))
    odd = {"late": seed % 2, "graces": seed % 2}
    return World(**{"calls": calls, "credit": rng.choice((7, 8, 12)), **FAULTY, **odd, **more})


def anyone(credit):
    """A principal that PostgreSQL has never heard of; the gate does not mind. And the terms' version."""
    applying = Budgets(1, organization=("total",), member=("total",), end_user=("total",))
    who = {"limit_nanos": credit, "member_id": 1, "budgets": applying}
    return Principal(1, "org", 1, "key", 1, roles.INFERENCE, **who), 1


def customer(settings, credit, limit=3):
    """A principal that may spend so much, in nanos, part of it on credit; each kind of budget is as much."""
    settings.STARTING_CREDIT_USD = Decimal(credit - limit) / 10**9
    organization = books.make_organization(f"acme-{random.randrange(10**9)}", usd="0")
    Wallet.objects.of(organization).update(credit_limit_nanos=limit)
    member = User.objects.create_user(f"{organization.slug}@example.com")
    members.add(organization, member, roles.MEMBER)
    _, text = keys.create(organization, name="test", by=member, limit_nanos=credit, limit_window="total")
    for kind in ("organization", "member", "end_user"):
        limits.set_budget(organization, kind=kind, window="total", limit_nanos=credit, by="test")
    principal = keys.principal(text)
    principal = replace(principal, budgets=limits.applying(principal))
    keyring.load(principal)
    return principal, Wallet.objects.of(organization.pk).get().terms_version


def follow(mirror, world, seed, length):
    """One walk of the model, taken by the real thing as well. Returns how many steps it had."""
    rng, m = random.Random(seed), Model(world)
    mirror.start(m, m.start())
    history = []
    for d, step in walk(m, rng, length):
        history.append(step.did)
        try:
            if rng.random() < 0.2:
                mirror.probe(d, rng)
            mirror.follow(d, step)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error} after {history}") from error
    return len(history)


def gate_walks(seeds, length=150):
    steps = 0
    for seed in seeds:
        world = a_world(seed, refund=4)
        steps += follow(GateMirror(*anyone(world.credit)), world, seed, length)
    return steps


def stack_walks(settings, folder, seeds, length=100):
    steps = 0
    for seed in seeds:
        world = a_world(seed, posting=True)
        mirror = StackMirror(*customer(settings, world.credit), folder)
        try:
            steps += follow(mirror, world, seed, length)
        finally:
            mirror.end()
    return steps


def test_the_gate_is_what_the_model_is_after_every_step():
    assert gate_walks(range(20)) > 1500


@with_postgresql
def test_gate_postgresql_and_spools_are_what_the_model_is_after_every_step(settings, tmp_path):
    assert stack_walks(settings, tmp_path, range(8)) > 400


@pytest.mark.long
def test_the_gate_is_the_model_in_many_walks():
    assert gate_walks(range(1000, 1300)) > 40_000


@with_postgresql
@pytest.mark.long
def test_the_whole_stack_is_the_model_in_many_walks(settings, tmp_path):
    assert stack_walks(settings, tmp_path, range(2000, 2120)) > 10_000
