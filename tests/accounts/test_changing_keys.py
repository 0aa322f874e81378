"""A change of a key is audited, raises its version, and is in force in the gate right after the commit."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.db import DatabaseError, transaction

from accounts import keyring, keys, tasks
from accounts.models import AuditEntry, Key, Organization, User
from aggregator.lib import clock, kv
from aggregator.lib.errors import Refusal

pytestmark = pytest.mark.django_db(transaction=True)


def in_force(key: Key) -> int:
    return int(kv.gate().get(keyring.place(key.public_id, key.organization.public_id)) or 0)


def verbs(organization: Organization) -> list[str]:
    return list(AuditEntry.objects.of(organization).order_by("pk").values_list("verb", flat=True))


def test_each_change_raises_the_version_and_is_in_force_at_once(key: Key, alice: User, home: Organization):
    assert (key.version, in_force(key)) == (1, 1)

    keys.update(key, by=alice, name="renamed", limit_nanos=5)
    assert in_force(key) == 2
    keys.disable(key, by=alice)
    assert in_force(key) == 3
    keys.enable(key, by=alice)
    assert in_force(key) == 4
    keys.rotate(key, by=alice)
    assert in_force(key) == 5
    keys.delete(key, by=alice)
    assert in_force(key) == 6

    assert Key.objects.of(home).get(pk=key.pk).version == 6
    assert verbs(home)[1:] == [
        "key.created",
        "key.changed",
        "key.disabled",
        "key.enabled",
        "key.rotated",
        "key.deleted",
    ]


def test_the_audit_log_says_who_and_what(key: Key, alice: User, home: Organization):
    keys.update(key, by=alice, limit_nanos=7, limit_window="day")

    entry = AuditEntry.objects.of(home).get(verb="key.changed")
    assert (entry.actor, entry.object) == ("user:alice@example.com", key.public_id)
    assert entry.detail == {"limit_nanos": [None, 7], "limit_window": ["total", "day"]}


def test_the_audit_log_cannot_be_changed(key: Key, home: Organization):
    entry = AuditEntry.objects.of(home).get(verb="key.created")

    entry.verb = "nothing.happened"
    with pytest.raises(DatabaseError, match="append_only"):
        entry.save()
    with pytest.raises(DatabaseError, match="append_only"):
        AuditEntry.objects.of(home).delete()


def test_a_change_that_changes_nothing_does_nothing(key: Key, alice: User, home: Organization):
    keys.update(key, by=alice, name=key.name)
    keys.enable(key, by=alice)

    assert in_force(key) == 1
    assert verbs(home)[1:] == ["key.created"]


def test_a_change_that_is_rolled_back_is_never_in_force(key: Key, alice: User):
    with pytest.raises(RuntimeError), transaction.atomic():
        keys.disable(key, by=alice)
        raise RuntimeError

    assert in_force(key) == 1
    key.refresh_from_db()
    assert (key.version, key.state) == (1, "active")


def test_the_version_in_the_gate_is_never_lowered(key: Key):
    place = (key.public_id, key.organization.public_id)

    assert keyring.publish(*place, 9) == 9
    assert keyring.publish(*place, 4) == 9
    assert in_force(key) == 9
    assert 0 < kv.gate().ttl(keyring.place(*place)) <= keyring.lifetime_seconds()


def test_an_empty_gate_learns_the_version_from_postgresql(key: Key, text: str, alice: User):
    keys.update(key, by=alice, name="renamed")
    kv.gate().delete(keyring.place(key.public_id, key.organization.public_id))
    principal = keys.principal(text)

    assert keyring.load(principal) == principal.key_version == 2
    assert in_force(key) == 2


def test_a_change_stands_when_the_gate_cannot_be_reached(key: Key, text: str, alice: User, settings):
    there = settings.GATE_URL
    settings.GATE_URL = "redis://127.0.0.1:1/0"
    kv.gate.cache_clear()
    kv._registered.cache_clear()
    try:
        keys.disable(key, by=alice)
    finally:
        settings.GATE_URL = there
        kv.gate.cache_clear()
        kv._registered.cache_clear()

    with pytest.raises(Refusal, match="disabled"):
        keys.principal(text)
    assert in_force(key) == 1

    tasks.publish_key(key=key.public_id)
    assert in_force(key) == 2


def test_both_texts_work_until_the_overlap_is_over(key: Key, text: str, alice: User):
    newer = keys.rotate(key, by=alice, overlap=timedelta(hours=1))
    start = clock.now()

    assert keys.principal(text).key_id == keys.principal(newer).key_id == key.pk
    assert keys.principal(newer).expires_at is None
    assert keys.principal(text).expires_at == pytest.approx(start.timestamp() + 3600, abs=5)
    with time_machine.travel(start + timedelta(hours=1, seconds=1)):
        assert keys.principal(newer).key_id == key.pk
        with pytest.raises(Refusal) as refused:
            keys.principal(text)
    assert refused.value.error_type == "revoked_key"


def test_a_rotation_without_overlap_stops_the_older_text_at_once(key: Key, text: str, alice: User):
    keys.rotate(key, by=alice, overlap=timedelta(0))

    with pytest.raises(Refusal, match="replaced by a newer one"):
        keys.principal(text)


def test_a_second_rotation_never_lengthens_the_life_of_the_first_text(key: Key, text: str, alice: User):
    keys.rotate(key, by=alice, overlap=timedelta(hours=1))
    keys.rotate(key, by=alice, overlap=timedelta(days=7))

    assert keys.principal(text).expires_at == pytest.approx(clock.now().timestamp() + 3600, abs=5)


def test_a_deleted_key_cannot_come_back(key: Key, alice: User):
    keys.delete(key, by=alice)

    for change in (keys.enable, keys.disable, keys.rotate, keys.delete):
        with pytest.raises(Refusal, match="was deleted"):
            change(key, by=alice)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("name", "", "name"),
        ("name", "x" * 81, "name"),
        ("name", "two\nlines", "name"),
        ("limit_nanos", -1, "limit"),
        ("limit_nanos", 2**53, "limit"),
        ("limit_window", "year", "limit_window"),
        ("requests_per_minute", 0, "requests_per_minute"),
        ("requests_per_minute", 10**9, "requests_per_minute"),
        ("allowed_models", ["no-slash"], "allowed_models"),
        ("allowed_models", [f"a/m{n}" for n in range(201)], "allowed_models"),
        ("expires_at", clock.now() - timedelta(seconds=1), "expires_at"),
    ],
)
def test_a_wrong_value_is_refused_by_its_field(key: Key, alice: User, field: str, value: object, named: str):
    with pytest.raises(Refusal) as refused:
        keys.update(key, by=alice, **{field: value})

    assert (refused.value.status, refused.value.param) == (400, named)
    key.refresh_from_db()
    assert key.version == 1
