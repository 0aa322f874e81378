"""The gate's scripts on a real Valkey: nothing is admitted that the wallet does not cover."""

from __future__ import annotations

import time
import uuid

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.lib import ids, kv
from billing import flush, gate, wallets
from billing.core import gate_scripts
from billing.core.budgets import Account, wallet_account
from billing.models import Wallet
from tests.billing import books

pytestmark = pytest.mark.django_db(transaction=True)

ADMIT = kv.Script(gate_scripts.ADMIT)
COVER = kv.Script(gate_scripts.COVER)
SETTLE = kv.Script(gate_scripts.SETTLE)
RELEASE = kv.Script(gate_scripts.RELEASE)
LEASE_MS = 60_000


class Gate:
    """One process's view of one organization's wallet of $1."""

    def __init__(self, organization):
        self.organization = organization
        self.account = wallet_account(organization.public_id, organization.pk)
        self.shard = kv.shard(organization.public_id)
        self.spool = str(ids.uuid7())
        flush.register(self.spool)
        self.enter()

    def enter(self, **published):
        self.epoch = gate.begin(self.shard)
        if published:
            assert gate.join(self.account, self.epoch, **published)
        assert gate.joined(self.shard, self.epoch, [self.spool])
        assert gate.open_epoch(self.shard, self.epoch) == []
        assert gate.load(self.account).outcome == "ok"
        self.terms = Wallet.objects.of(self.organization.pk).get().terms_version
        kv.gate().set(f"{self.shard}:k:key", 1)

    @property
    def wallets(self):
        return [gate.wallet_key(self.account)]

    def admit(self, call, amount, *, more=(), version=1, terms=None, lease=LEASE_MS, interval=0, burst=0):
        keys = [f"{self.shard}:k:key", f"{self.shard}:g:key", *self.wallets, *map(gate.wallet_key, more)]
        terms = self.terms if terms is None else terms
        return ADMIT.run(keys, [self.epoch, call, amount, lease, version, terms, interval, burst])

    def cover(self, call, amount):
        return COVER.run(self.wallets, [self.epoch, call, amount, LEASE_MS])

    def settle(self, call, total, *, spool=None):
        receipt = gate.receipt_key(self.organization.public_id, call)
        return SETTLE.run([receipt, *self.wallets], [spool or self.spool, call, "{}", 60, total])

    def release(self, call):
        return RELEASE.run(self.wallets, [call])

    @property
    def view(self):
        return gate.look(self.account)


@pytest.fixture
def house():
    return Gate(books.make_organization(usd="0"))


CREDIT = 10**9


def test_admission_holds_and_settlement_charges(house):
    assert house.admit("a", 300) == ["ok", -1]
    assert (house.view.held, house.view.spendable) == (300, CREDIT - 300)

    house.settle("a", 120)

    assert (house.view.held, house.view.spent, house.view.spendable) == (0, 120, CREDIT - 120)


def test_what_is_not_covered_is_refused_with_what_is_left(house):
    assert house.admit("a", CREDIT - 10) == ["ok", -1]

    assert house.admit("b", 11) == ["no", 1, "10"]
    assert house.admit("b", 10) == ["ok", -1]
    assert house.admit("c", 1) == ["no", 1, "0"]


def test_admitting_the_same_call_again_holds_it_once(house):
    house.admit("a", 300)
    house.admit("a", 300)

    assert house.view.held == 300


def test_a_release_gives_all_back_and_may_be_repeated(house):
    house.admit("a", 300)
    house.release("a")
    house.release("a")

    assert (house.view.held, house.view.spent) == (0, 0)


def test_a_settlement_without_its_hold_charges_all_the_same(house):
    house.settle("never-admitted", 70)

    assert house.view.spent == 70


def test_a_settlement_may_come_again_and_late(house):
    for total in (100, 250, 100, 250, 0):
        house.settle("a", total)

    assert house.view.spent == 250


def test_totals_of_several_spools_add_up(house):
    other = str(ids.uuid7())
    house.settle("a", 100)
    house.settle("b", 40, spool=other)
    house.settle("c", 160)

    assert house.view.spent == 200


def test_a_hold_never_shrinks(house):
    house.admit("a", 300)
    assert house.cover("a", 100) == ["ok"]
    assert house.view.held == 300
    assert house.cover("a", 500) == ["ok"]
    assert house.view.held == 500
    assert house.cover("a", CREDIT + 1) == ["no", 1, str(CREDIT)]
    assert house.view.held == 500


def test_a_hold_ends_with_its_lease(house):
    house.admit("dead", CREDIT, lease=800)
    assert house.admit("b", 1)[0] == "no"

    time.sleep(0.85)

    assert house.admit("b", CREDIT) == ["ok", -1]
    assert (house.view.held, house.view.holds) == (CREDIT, 1)


def test_an_idle_wallet_is_swept(house):
    house.admit("alive", 8)
    house.admit("dead", 7, lease=30)  # the last: another admission would sweep it
    time.sleep(0.04)

    assert gate.sweep() == 1
    assert (house.view.held, house.view.holds) == (8, 1)


def test_a_renewed_lease_lives_on(house):
    house.admit("a", 7, lease=500)
    house.cover("a", 7)
    time.sleep(0.55)

    assert gate.sweep() == 0
    assert house.view.held == 7


@pytest.mark.parametrize("version", [0, 2])
def test_another_version_of_the_key_is_not_admitted(house, version):
    assert house.admit("a", 1, version=version) == ["key", "1"]
    assert house.view.held == 0


def test_an_unknown_key_version_means_ask(house):
    kv.gate().delete(f"{house.shard}:k:key")

    assert house.admit("a", 1) == ["key", ""]


def test_other_terms_mean_ask(house):
    assert house.admit("a", 1, terms=house.terms - 1)[0] == "terms"


def test_terms_that_the_wallet_has_not_heard_of_mean_load(house):
    assert house.admit("a", 1, terms=house.terms + 1) == ["missing", 1]


def test_a_wallet_that_is_not_loaded_is_not_zero_spent(house):
    kv.gate().delete(*house.wallets)

    assert house.admit("a", 1) == ["missing", 1]


def test_another_epochs_wallet_is_not_loaded(house):
    house.epoch = "other"

    assert house.admit("a", 1) == ["missing", 1]


def test_budget_and_wallet_hold_both_or_neither(house):
    budget = Account("key:k:total", house.organization.public_id, house.organization.pk)
    kv.gate().hset(gate.wallet_key(budget), mapping={"c": 100, "e": house.epoch, "in": house.epoch, "tv": 1})

    assert house.admit("a", 101, more=[budget]) == ["no", 2, "100"]
    assert house.view.held == 0
    assert house.admit("a", 60, more=[budget]) == ["ok", -1]
    assert house.admit("b", 60, more=[budget]) == ["no", 2, "40"]
    assert (house.view.held, gate.look(budget).held) == (60, 60)


def test_the_rate_limit_lets_a_burst_through_and_then_says_how_long(house):
    answers = [house.admit(str(n), 1, interval=500_000, burst=3) for n in range(4)]

    assert [answer[0] for answer in answers] == ["ok", "ok", "ok", "rate"]
    assert [answer[1] for answer in answers[:3]] == [2, 1, 0]
    assert 0 < int(answers[3][1]) <= 500
    time.sleep(int(answers[3][1]) / 1000)
    assert house.admit("again", 1, interval=500_000, burst=3)[0] == "ok"


def test_a_call_that_is_not_admitted_uses_nothing_of_the_rate_limit(house):
    assert house.admit("dear", CREDIT + 1, interval=60_000_000, burst=1)[0] == "no"
    assert house.admit("clamped", 1, interval=60_000_000, burst=1) == ["ok", 0]
    assert house.admit("next", 1, interval=60_000_000, burst=1)[0] == "rate"


# ── Loads and epochs ─────────────────────────────────────────────────────────────────────────────


def test_a_load_keeps_holds_and_totals(house):
    house.admit("a", 300)
    house.settle("b", 40)

    assert gate.load(house.account).spendable == CREDIT - 340
    assert house.admit("c", CREDIT - 340) == ["ok", -1]


def test_a_load_takes_what_reached_postgresql_only_once(house):
    house.settle("a", 40)
    key = books.make_key(house.organization)
    books.deliver(key, books.make_price(), spool=uuid.UUID(house.spool), charge_nanos=40, base_nanos=40)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO tallies (account, spool, nanos) VALUES (%s, %s, 40)",
            [house.account.name, house.spool],
        )

    assert gate.load(house.account).spendable == CREDIT - 40
    assert house.view.spendable == CREDIT - 40


def test_a_load_whose_ticket_was_taken_over_changes_nothing(house):
    kv.gate().hset(house.wallets[0], "t", "of-another-load")
    load = kv.Script(gate_scripts.LOAD)

    stale = load.run([*house.wallets, gate.epoch_key(house.shard)], ["mine", house.epoch, 5, 0, 1, 0])

    assert stale == ["late"]
    assert house.view.credit == CREDIT
    assert kv.gate().hget(house.wallets[0], "t") == "of-another-load"


def test_new_credit_is_seen_at_once(house):
    wallets.grant(house.organization.slug, 500)

    assert house.view.credit == CREDIT + 500


def test_a_wallet_that_was_lost_ends_the_epoch(house):
    kv.gate().delete(*house.wallets)

    assert gate.load(house.account).outcome == "evicted"
    assert gate.load(house.account).outcome == "closed"
    assert house.view is None

    before = house.epoch
    house.enter()
    assert house.epoch != before and house.view.spendable == CREDIT


def test_an_epoch_opens_when_every_registered_spool_has_joined(house):
    other = str(ids.uuid7())
    flush.register(other)
    kv.gate().flushall()
    epoch = gate.begin(house.shard)

    assert gate.joined(house.shard, epoch, [house.spool])
    assert gate.open_epoch(house.shard, epoch) == [other]
    assert gate.load(house.account).outcome == "closed"
    assert gate.joined(house.shard, epoch, [other])
    assert gate.open_epoch(house.shard, epoch) == []
    assert gate.load(house.account).outcome == "ok"


def test_grace_opens_it_without_the_missing(house):
    flush.register(str(ids.uuid7()))
    kv.gate().flushall()
    epoch = gate.begin(house.shard)

    assert gate.open_epoch(house.shard, epoch, force=True) != []
    assert gate.load(house.account).outcome == "ok"


def test_an_empty_gate_is_a_new_epoch_that_remembers_what_was_told_again(house):
    house.admit("running", 300)
    house.settle("done", 40)
    kv.gate().flushall()

    assert house.admit("b", 1)[0] == "key"
    house.enter(totals={house.spool: 40}, holds={"running": 300})

    assert (house.view.spent, house.view.held) == (40, 300)
    assert house.view.spendable == CREDIT - 340


def test_joining_with_an_old_epoch_is_stale(house):
    old = house.epoch
    kv.gate().flushall()
    gate.begin(house.shard)

    assert not gate.join(house.account, old, totals={}, holds={})
    assert not gate.joined(house.shard, old, [house.spool])
    assert gate.open_epoch(house.shard, old) == ["stale"]


def test_two_processes_that_begin_find_one_epoch(house):
    assert gate.begin(house.shard) == house.epoch


def test_in_an_open_epoch_holds_compete(house):
    house.admit("a", CREDIT - 100)

    assert gate.join(house.account, house.epoch, totals={}, holds={"late": 200})
    assert house.view.held == CREDIT - 100
    assert gate.join(house.account, house.epoch, totals={}, holds={"small": 100})
    assert house.view.held == CREDIT


def test_a_receipt_is_read_with_its_organization_only(house):
    house.settle("gen-1", 5)

    assert gate.receipt(house.organization.public_id, "gen-1") == "{}"
    assert gate.receipt("another", "gen-1") is None


AMOUNT = st.integers(0, CREDIT // 3)
CALL = st.sampled_from("abcd")
STEP = st.one_of(
    st.tuples(st.just("admit"), CALL, AMOUNT),
    st.tuples(st.just("cover"), CALL, AMOUNT),
    st.tuples(st.just("settle"), CALL, AMOUNT),
    st.tuples(st.just("release"), CALL),
    st.tuples(st.just("repeat"), AMOUNT),
    st.tuples(st.just("load")),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, max_size=25))
def test_whatever_happens_the_gate_is_the_model(house, steps):
    """A few lines of Python that say what the scripts must do."""
    house = Gate(house.organization)
    base = house.view.spent
    holds: dict[str, int] = {}
    total = 0
    for step in steps:
        spendable = house.view.credit - base - total - sum(holds.values())
        if step[0] in ("admit", "cover"):
            _, call, amount = step
            answer = house.admit(call, amount) if step[0] == "admit" else house.cover(call, amount)
            more = max(0, amount - holds.get(call, 0))
            assert (answer[0] == "ok") is (more <= spendable or more == 0), (step, answer)
            if answer[0] == "ok":
                holds[call] = max(amount, holds.get(call, 0))
        elif step[0] == "settle":
            _, call, amount = step
            total += min(amount, holds.pop(call, 0))
            house.settle(call, total)
        elif step[0] == "release":
            holds.pop(step[1], None)
            house.release(step[1])
        elif step[0] == "repeat":
            house.settle("z", min(step[1], total))
        else:
            assert gate.load(house.account).outcome == "ok"
        view = house.view
        assert (view.spent - base, view.held, view.holds) == (total, sum(holds.values()), len(holds))
        assert view.spendable >= 0
    for call in list(holds):
        house.release(call)
