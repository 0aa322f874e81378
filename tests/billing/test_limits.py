"""Budgets of organizations, members and end users: set, in force, and how much of each is used."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, connection, connections

from accounts import audit, keyring, keys, members
from accounts.core import roles
from accounts.core.principal import Budgets
from accounts.models import AuditEntry, Key, User
from aggregator.lib import clock, ids, kv
from aggregator.lib.errors import Refusal
from billing import gate, limits, posting, snapshots
from billing.core import budgets
from billing.core.budgets import accounts_of
from billing.models import Budget
from tests.billing import books

pytestmark = pytest.mark.django_db


class House:
    """An organization with two members, each with a key, and what its calls cost."""

    def __init__(self):
        self.organization = books.make_organization()
        self.ada, self.bob = self.member("ada"), self.member("bob")
        self.key = self.key_of(self.ada)
        self.price = books.make_price()

    def member(self, name):
        person = User.objects.create_user(f"{name}@example.com")
        members.add(self.organization, person, roles.MEMBER)
        return person

    def key_of(self, person, **limited):
        return keys.create(self.organization, name="test", by=person, **limited)

    def principal(self, key=None):
        found = keys.principal((key or self.key)[1])
        return replace(found, budgets=limits.applying(found))

    def set(self, kind, window="total", limit=1000, **more):
        return limits.set_budget(
            self.organization, kind=kind, window=window, limit_nanos=limit, by=self.ada, **more
        )

    def call(self, key=None, *, at=None, end_user="", nanos=100):
        columns = {"base_nanos": nanos, "charge_nanos": nanos, "end_user": end_user}
        books.deliver((key or self.key)[0], self.price, at=at, **columns)

    def accounts(self, key=None, *, at=None, end_user=""):
        """By kind, what PostgreSQL says is spendable."""
        found = accounts_of(self.principal(key), at or clock.now(), end_user)
        return {account.kind: snapshots.snapshot(account, []).credit for account in found[1:]}

    def standings(self, **how):
        rows = list(limits.live(self.organization.pk))
        return limits.of_budgets(self.organization, rows, at=clock.now(), **how)


@pytest.fixture
def house():
    return House()


def refusal(verb, *said, **more):
    with pytest.raises(Refusal) as refused:
        verb(*said, **more)
    return refused.value


# ── In force ─────────────────────────────────────────────────────────────────────────────────────


def test_a_call_without_budgets_draws_on_the_wallet_alone(house):
    assert house.principal().budgets is None
    assert [account.kind for account in accounts_of(house.principal(), clock.now(), "eve")] == ["org"]


def test_a_key_carries_the_windows_of_the_budgets_that_its_calls_draw_on(house):
    house.set("organization", "month")
    house.set("member", "day")
    house.set("member", "week", member=house.bob)
    house.set("end_user", "day", end_user="eve")
    house.set("end_user", "total")

    assert house.principal().budgets == Budgets(6, ("month",), ("day",), ("day", "total"))
    assert house.principal(house.key_of(house.bob)).budgets.member == ("day", "week")
    assert house.principal(house.key_of("system")).budgets.member == ()


def test_the_names_of_accounts_say_what_they_are(house):
    for kind in ("organization", "member", "end_user"):
        for window in budgets.WINDOWS:
            house.set(kind, window)
    key = house.key_of(house.ada, limit_nanos=5, limit_window="week")
    at = datetime(2026, 11, 4, 23, 59, tzinfo=UTC)
    found = accounts_of(house.principal(key), at, "total:x day:2026-01-01:y")

    assert len({account.name for account in found}) == len(found) == 14
    for account in found[1:]:
        said = budgets.named(account.name)
        assert (said.kind, said.window) == (account.kind, account.window)
        assert (said.member_id, said.end_user) == (account.member_id, account.end_user)
        assert budgets.is_over(account.name, at + timedelta(days=31)) == (said.window.kind != "total")
        assert not budgets.is_over(account.name, at)
    assert not budgets.is_over(found[0].name, at + timedelta(days=9999))


@pytest.mark.django_db(transaction=True)
def test_a_change_raises_the_versions_of_the_budgets_and_of_every_key(house):
    other = house.key_of(house.bob)
    before = house.principal(), house.principal(other)

    budget = house.set("organization", "day")
    limits.change(budget, limit_nanos=7, by=house.ada)
    limits.change(budget, limit_nanos=7, thresholds=[90], by=house.ada)  # what nobody is refused for is none
    limits.delete(budget, by=house.ada)

    house.organization.refresh_from_db()
    assert house.organization.budgets_version == 4
    for key, was in zip((house.key, other), before, strict=True):
        version = Key.unscoped.get(pk=key[0].pk).version
        assert version == was.key_version + 3
        place = keyring.place(key[0].public_id, house.organization.public_id)
        assert kv.gate().get(place) == str(version)
    said = AuditEntry.objects.of(house.organization).filter(object=budget.public_id).order_by("id")
    assert [(entry.verb, entry.detail) for entry in said][1] == (
        "budget.changed",
        {"limit_nanos": [1000, 7]},
    )
    assert [entry.verb.partition(".")[2] for entry in said] == ["set", "changed", "changed", "deleted"]


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"kind": "team"}, "kind"),
        ({"kind": "organization", "window": "hour"}, "window"),
        ({"kind": "organization", "limit": -1}, "limit"),
        ({"kind": "organization", "limit": 2**53}, "limit"),
        ({"kind": "organization", "thresholds": [0]}, "thresholds"),
        ({"kind": "organization", "thresholds": range(1, 12)}, "thresholds"),
        ({"kind": "organization", "end_user": "eve"}, "end_user"),
        ({"kind": "end_user", "end_user": "a\nb"}, "end_user"),
        ({"kind": "end_user", "end_user": "a" * 257}, "end_user"),
    ],
)
def test_what_no_budget_can_be_is_refused_by_name(house, said, field):
    refused = refusal(house.set, **said)

    assert (refused.status, refused.error_type, refused.param) == (400, "invalid_request", field)
    assert not Budget.objects.of(house.organization).exists()


def test_a_budget_is_of_a_member_of_the_organization_and_stands_once(house):
    stranger = User.objects.create_user("stranger@example.com")
    assert refusal(house.set, "member", member=stranger).param == "member"
    assert refusal(house.set, "organization", member=house.ada).param == "member"

    budget = house.set("member", member=house.ada)
    assert refusal(house.set, "member", member=house.ada).error_type == "budget_exists"
    limits.delete(budget, by=house.ada)
    assert refusal(limits.change, budget, limit_nanos=1, by=house.ada).error_type == "budget_deleted"
    assert house.set("member", member=house.ada).public_id != budget.public_id


# ── What the gate loads ──────────────────────────────────────────────────────────────────────────


def test_each_budget_counts_its_own_calls_posted_or_not(house):
    for kind in ("organization", "member", "end_user"):
        house.set(kind, "day")
    bobs = house.key_of(house.bob)
    yesterday = clock.now() - timedelta(days=1)
    for post in (True, False):
        house.call()
        house.call(bobs, end_user="eve")
        house.call(end_user="eve")
        house.call(end_user="dan")
        house.call(end_user="eve", at=yesterday)
        if post:
            assert posting.post_generations() == 5

    assert house.accounts(end_user="eve") == {"budget": 200, "member": 400, "user": 600}
    assert house.accounts(bobs, end_user="dan") == {"budget": 200, "member": 800, "user": 800}
    assert house.accounts(end_user="eve", at=yesterday) == {"budget": 800, "member": 800, "user": 800}
    assert set(house.accounts()) == {"budget", "member"}  # who names no user draws on no end user's


def test_ones_own_budget_stands_in_place_of_the_general_one(house):
    house.set("member", limit=1000)
    house.set("member", limit=50, member=house.ada)
    house.set("end_user", "day", limit=30, end_user="eve")

    assert house.accounts(end_user="eve") == {"member": 50, "user": 30}
    assert house.accounts(house.key_of(house.bob))["member"] == 1000
    unlimited = house.accounts(end_user="dan")["user"]
    assert unlimited > 10**15  # others have none, and are asked all the same

    house.set("end_user", "day", limit=20)
    assert house.accounts(end_user="eve")["user"] == 30
    assert house.accounts(end_user="dan")["user"] == 20


def test_a_budget_of_another_organization_counts_for_nothing(house):
    other = books.make_organization("other")
    key = keys.create(other, name="test", by=house.ada)  # the same person
    limits.set_budget(other, kind="organization", window="total", limit_nanos=1, by="test")
    house.set("member")
    house.call(key, end_user="eve")

    assert house.accounts() == {"member": 1000}


def test_any_account_of_the_gate_is_found_by_its_name_and_forgotten_when_it_is_over(house):
    for kind in ("organization", "member", "end_user"):
        house.set(kind, "day")
    shard = kv.shard(house.organization.public_id)
    assert gate.open_epoch(shard, gate.begin(shard)) == []
    past = accounts_of(house.principal(), clock.now() - timedelta(days=2), "eve: of day:1")
    present = accounts_of(house.principal(), clock.now(), "eve")
    for account in (*past, *present):
        assert gate.load(account).outcome == "ok"
    spool = str(ids.uuid7())
    for account in present:
        kv.gate().hset(gate.wallet_key(account), mapping={f"s:{spool}": 5, "spent": 5})

    assert gate.drop_totals(spool) == len(present)
    gate.sweep()

    assert [gate.look(account).spent for account in present] == [0] * 4
    assert [gate.look(account) for account in past[1:]] == [None] * 3
    assert gate.look(past[0]) is not None


# ── Used and left ────────────────────────────────────────────────────────────────────────────────


def test_the_standing_of_budgets_tells_each_of_their_accounts(house):
    house.set("organization", "month", limit=2000)
    every = house.set("member", "day", limit=1000)
    house.set("member", "day", limit=400, member=house.bob)
    house.set("end_user", "total", limit=200, end_user="eve")
    house.set("end_user", "total", limit=300)
    bobs = house.key_of(house.bob)
    house.call(end_user="eve")
    house.call(bobs, end_user="dan")
    posting.post_generations()
    house.call(bobs, end_user="dan", nanos=50)
    house.call(end_user="ann", nanos=30)
    house.call(at=clock.now() - timedelta(days=400), nanos=999)

    found = {
        (each.budget.kind, each.member_id, each.end_user): (each.used_nanos, each.left_nanos, each.percent)
        for each in house.standings()
    }
    assert found == {
        ("organization", None, ""): (280, 1720, 14),
        ("member", house.ada.pk, ""): (130, 870, 13),
        ("member", house.bob.pk, ""): (150, 250, 37),
        ("end_user", None, "eve"): (100, 100, 50),
        ("end_user", None, "dan"): (150, 150, 50),
        ("end_user", None, "ann"): (30, 270, 10),
    }
    assert {each.end_user for each in house.standings(least_percent=50)} == {"eve", "dan"}
    assert [each.end_user for each in house.standings(most=1) if each.end_user] == ["dan", "eve"]
    assert {each.member_id for each in house.standings() if each.budget == every} == {house.ada.pk}
    names = {account.name for account in accounts_of(house.principal(), clock.now(), "eve")[1:]}
    assert names <= {each.account for each in house.standings()}


def test_a_budget_of_nothing_is_used_up_from_the_start(house):
    house.set("organization", limit=0)

    (standing,) = house.standings()
    assert (standing.left_nanos, standing.percent) == (0, 100)
    assert limits.find(house.organization.pk, standing.budget.public_id) == standing.budget
    assert limits.find(books.make_organization("other").pk, standing.budget.public_id) is None


@pytest.mark.django_db(transaction=True)
def test_a_key_that_is_changed_while_a_budget_is_set_waits_and_neither_is_refused(house, monkeypatch):
    began, wrong = threading.Event(), []

    def work():
        began.set()
        try:
            house.set("organization")
        except DatabaseError as error:
            wrong.append(error)
        connections.close_all()

    other = threading.Thread(target=work)
    record = audit.record

    def recorded(*said, **more):
        if more["object"] == house.key[0].public_id:
            other.start()
            began.wait(10)
            _until_somebody_waits()
        return record(*said, **more)

    monkeypatch.setattr(audit, "record", recorded)
    keys.update(house.key[0], by=house.ada, name="another")
    other.join(30)

    assert wrong == []
    assert limits.live(house.organization.pk).count() == 1
    assert Key.objects.of(house.organization).get(pk=house.key[0].pk).version == 3


def _until_somebody_waits():
    """For a lock, in this database."""
    for _ in range(3000):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND wait_event_type = 'Lock'"
            )
            if cursor.fetchone()[0]:
                return
        time.sleep(0.02)
    raise AssertionError("nobody waits")
