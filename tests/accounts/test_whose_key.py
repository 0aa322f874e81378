"""`keys.principal`: whose key a text is, or why it is refused."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.db import connection

from accounts import keys
from accounts.core import limits, roles, tokens
from accounts.models import Key, KeySecret, Organization, User
from aggregator.lib import clock
from aggregator.lib.errors import Refusal

pytestmark = pytest.mark.django_db


def refused_as(text: str) -> str:
    with pytest.raises(Refusal) as refused:
        keys.principal(text)
    assert refused.value.status == 401
    return refused.value.error_type


def test_a_key_tells_whose_it_is_and_what_it_may(home: Organization, alice: User):
    ends = clock.now() + timedelta(days=3)
    key, text = keys.create(
        home,
        name="limited",
        by=alice,
        expires_at=ends,
        limit_nanos=limits.nanos("12.5"),
        limit_window="week",
        requests_per_minute=30,
        allowed_models=["openai/gpt-5-mini", "openai/gpt-5-mini", "acme/*"],
    )

    principal = keys.principal(text)

    assert (principal.organization_id, principal.organization) == (home.pk, home.public_id)
    assert (principal.key_id, principal.key, principal.key_version) == (key.pk, key.public_id, 1)
    assert (principal.scope, principal.name) == (roles.INFERENCE, "limited")
    assert principal.expires_at == ends.timestamp()
    assert (principal.limit_nanos, principal.limit_window) == (12_500_000_000, "week")
    assert principal.requests_per_minute == 30
    assert principal.allowed_models == {"openai/gpt-5-mini", "acme/*"}


def test_nothing_but_the_hmac_is_stored(home: Organization, alice: User, settings):
    key, first = keys.create(home, name="secret", by=alice)
    second = keys.rotate(key, by=alice)
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        dump = []
        for table in tables:
            cursor.execute(f'SELECT row_to_json(t)::text FROM "{table}" t')
            dump += [row for (row,) in cursor.fetchall()]

    everything = "\n".join(dump)
    for text in (first, second):
        assert text not in everything
        assert text[21:-6] not in everything, "not even the secret part"
        assert tokens.digest(text, settings.KEY_PEPPER).hex() in everything
    stored = KeySecret.objects.filter(key=key).order_by("pk").last()
    assert (stored.prefix, stored.last4) == (second[:12], second[-4:])


def test_an_unknown_key_is_refused(home: Organization):
    assert refused_as(tokens.make("inference", home.public_id)) == "unknown_key"


def test_a_deleted_key_is_refused(key: Key, text: str, alice: User):
    keys.delete(key, by=alice)

    assert refused_as(text) == "revoked_key"


def test_a_disabled_key_is_refused_until_it_is_enabled(key: Key, text: str, alice: User):
    keys.disable(key, by=alice)
    assert refused_as(text) == "disabled_key"

    keys.enable(key, by=alice)
    assert keys.principal(text).key == key.public_id


def test_an_expired_key_is_refused_from_its_very_second(home: Organization, alice: User):
    ends = clock.now() + timedelta(hours=1)
    _, text = keys.create(home, name="short", by=alice, expires_at=ends)

    with time_machine.travel(ends - timedelta(milliseconds=1), tick=False):
        assert keys.principal(text).name == "short"
    with time_machine.travel(ends, tick=False):
        assert refused_as(text) == "expired_key"


def test_every_refusal_takes_the_same_steps(home: Organization, alice: User, django_assert_num_queries):
    made = {name: keys.create(home, name=name, by=alice) for name in ("deleted", "disabled", "expired")}
    keys.delete(made["deleted"][0], by=alice)
    keys.disable(made["disabled"][0], by=alice)
    Key.unscoped.filter(pk=made["expired"][0].pk).update(expires_at=clock.now())
    texts = [text for _, text in made.values()] + [tokens.make("inference", home.public_id)]

    for text in texts:
        with django_assert_num_queries(1), pytest.raises(Refusal):
            keys.principal(text)


def test_the_key_of_another_pepper_is_unknown(text: str, settings):
    settings.KEY_PEPPER = "another"

    assert refused_as(text) == "unknown_key"


def test_the_last_use_is_written_at_most_once_a_minute(key: Key, text: str, django_assert_num_queries):
    with django_assert_num_queries(4):
        keys.principal(text)
    with django_assert_num_queries(3):
        keys.principal(text)

    key.refresh_from_db()
    assert key.last_used_at is not None


def test_an_exposed_key_is_flagged_once(key: Key, text: str, home: Organization):
    assert keys.flag_exposed(text)
    key.refresh_from_db()
    first = key.exposed_at

    assert keys.flag_exposed(text)
    key.refresh_from_db()
    assert key.exposed_at == first is not None
    assert not keys.flag_exposed(tokens.make("inference", home.public_id))
