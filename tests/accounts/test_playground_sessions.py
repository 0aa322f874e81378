"""What the playground calls with: ends by itself, is one's own, has a limit, and stands in no list."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client

from accounts import access, keys, members, playground
from accounts.models import AuditEntry, Key, KeySecret, Membership, Organization, User
from aggregator.lib import clock
from aggregator.lib.errors import Refusal

pytestmark = pytest.mark.django_db
Browser = Callable[[User], Client]


@pytest.fixture
def held(alice: User) -> Membership:
    return Membership.unscoped.get(user=alice)


def test_a_session_calls_models_for_fifteen_minutes_and_no_longer(held: Membership, monkeypatch):
    session = playground.open_session(held)

    principal = keys.principal(session.text)
    assert principal.scope == "inference"
    assert principal.expires_at == session.expires_at.timestamp()
    assert timedelta(minutes=14) < session.expires_at - clock.now() <= timedelta(minutes=15)
    after = session.expires_at
    monkeypatch.setattr(clock, "now", lambda: after)
    with pytest.raises(Refusal) as refused:
        keys.principal(session.text)
    assert refused.value.status == 401


def test_a_day_in_the_playground_costs_no_more_than_its_limit(held: Membership, browser: Browser):
    first = keys.principal(playground.open_session(held).text)
    assert (first.limit_nanos, first.limit_window) == (1_000_000_000, "day")

    answer = browser(held.user).post("/playground/limit", {"limit": "$2.5"})

    assert answer.json() == {"limit": "2.5"}
    again = keys.principal(playground.open_session(held).text)
    assert (again.limit_nanos, again.key) == (2_500_000_000, first.key)
    assert again.key_version > first.key_version, "in force at the next call"


@pytest.mark.parametrize("typed", ["a lot", "-1", "99999999", "0.0000000001"])
def test_a_limit_that_is_none_is_refused_in_words(alice: User, browser: Browser, typed: str):
    answer = browser(alice).post("/playground/limit", {"limit": typed})

    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith("The limit must")


def test_a_session_belongs_to_the_organization_of_who_asks(
    bob: User, home: Organization, away: Organization, browser: Browser
):
    alice, mallory = (Membership.objects.of(each).earliest("pk").user for each in (home, away))
    texts = {user.email: browser(user).post("/playground/session").json()["key"] for user in (alice, bob)}
    hers = browser(mallory).post("/playground/session").json()["key"]

    assert {keys.principal(text).organization_id for text in texts.values()} == {home.pk}
    assert keys.principal(texts[alice.email]).key != keys.principal(texts[bob.email]).key
    assert keys.principal(hers).organization_id == away.pk


def test_who_is_no_member_or_not_signed_in_gets_no_session(alice: User, browser: Browser):
    Membership.unscoped.filter(user=alice).delete()

    assert browser(alice).post("/playground/session").status_code == 403
    assert Client().post("/playground/session").status_code == 302
    assert Client(enforce_csrf_checks=True).post("/playground/session").status_code == 403
    assert not Key.unscoped.filter(is_playground=True).exists()


def test_opening_is_audited_and_renewing_is_not(held: Membership, home: Organization, monkeypatch):
    for _ in range(3):
        playground.open_session(held)
    opened = AuditEntry.objects.of(home).filter(verb="playground.opened")
    assert [entry.actor for entry in opened] == [f"user:{held.user.email}"]

    later = clock.now() + playground.LASTS + timedelta(seconds=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    playground.open_session(held)
    assert opened.all().count() == 2


def test_opening_it_over_and_over_is_refused_for_a_while(held: Membership, browser: Browser, monkeypatch):
    monkeypatch.setattr(playground, "_MOST_AN_HOUR", 2)
    client = browser(held.user)
    assert [client.post("/playground/session").status_code for _ in range(3)] == [200, 200, 429]


def test_no_list_of_keys_shows_it_and_its_calls_are_seen(held: Membership, browser: Browser):
    key = keys.principal(playground.open_session(held).text)

    assert not access.keys_of(held).exists()
    assert [seen.name for seen in access.keys_seen(held)] == ["Playground (alice)"]
    client = browser(held.user)
    assert "Playground (alice)" not in client.get("/keys").content.decode()
    assert client.get(f"/keys/{key.key}").status_code == 404


def test_the_page_keeps_no_text_and_is_not_kept(held: Membership, browser: Browser):
    client = browser(held.user)
    answer = client.post("/playground/session")

    assert "no-store" in answer["Cache-Control"]
    assert answer.json()["key"] not in client.get("/playground").content.decode()


def test_what_ended_long_ago_is_forgotten_and_nothing_else(held: Membership, monkeypatch):
    _, own = keys.create(held.organization, name="own", by=held.user, expires_at=None)
    ended = playground.open_session(held).text
    later = clock.now() + timedelta(days=1, minutes=20)
    monkeypatch.setattr(clock, "now", lambda: later)
    living = playground.open_session(held).text

    assert playground.forget_ended() == 1

    with pytest.raises(Refusal) as gone:
        keys.principal(ended)
    assert gone.value.error_type == "unknown_key"
    assert keys.principal(own) and keys.principal(living)
    assert KeySecret.objects.count() == 2


def test_who_leaves_the_organization_loses_the_session_at_once(bob: User, home: Organization, alice: User):
    text = playground.open_session(Membership.unscoped.get(user=bob)).text

    members.remove(
        Membership.unscoped.get(user=alice), Membership.unscoped.get(user=bob).pk, disable_keys=False
    )

    with pytest.raises(Refusal) as refused:
        keys.principal(text)
    assert refused.value.error_type == "revoked_key"
