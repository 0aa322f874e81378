"""Second factors and sessions: set up, asked for, sealed at rest, told of, required by an organization."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from allauth.usersessions.models import UserSession
from cryptography.fernet import InvalidToken
from django.core import mail
from django.test import Client

from accounts import factors, members, signup
from accounts.core import devices, roles
from accounts.models import AuditEntry, Membership, Organization, User
from aggregator.lib.errors import Refusal
from tests.accounts import passkeys

pytestmark = pytest.mark.django_db
Browser = Callable[[User], Client]

PASSWORD = "correct horse battery staple"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def sign_in(user: User) -> Client:
    client = Client(headers={"user-agent": FIREFOX})
    client.post("/accounts/login/", {"login": user.email, "password": PASSWORD})
    return client


def code_of(secret: str) -> str:
    return format_hotp_value(hotp_value(secret, next(yield_hotp_counters_from_time())))


def set_up(client: Client) -> str:
    """An authenticator app; its secret."""
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    page = client.get("/accounts/2fa/totp/activate/").content.decode()
    secret = re.search(r'id="authenticator_secret"[^>]*value="(\w+)"', page)[1]
    answer = client.post("/accounts/2fa/totp/activate/", {"code": code_of(secret)})
    assert answer.status_code == 302, answer.content.decode()
    return secret


def test_an_authenticator_app_is_asked_for_from_then_on(alice: User, home: Organization):
    client = sign_in(alice)
    secret = set_up(client)
    codes = client.get("/accounts/2fa/recovery-codes/").content.decode()
    [shown] = re.findall(r"<textarea[^>]*>([\d\s]+)</textarea>", codes)
    assert len(shown.split()) == 10
    assert shown.split()[0] not in client.get("/accounts/2fa/recovery-codes/").content.decode(), "once"

    for text in (lambda: "000000", lambda: shown.split()[0]):
        another = sign_in(alice)
        assert another.get("/keys").status_code == 302, "the password alone opens nothing"
        page = another.post("/accounts/2fa/authenticate/", {"code": text()})
        assert another.get("/keys").status_code == (302 if text() == "000000" else 200), page
    assert secret  # the app's own code is tried in a browser


def test_the_secrets_of_factors_are_sealed_at_rest(alice: User, settings):
    secret = set_up(sign_in(alice))

    kept = Authenticator.objects.get(user=alice, type="totp").data["secret"]
    assert secret not in kept
    adapter = factors.Adapter()
    assert adapter.decrypt(kept) == secret
    settings.FACTOR_KEYS = ["a newer key of thirty-two characters", *settings.FACTOR_KEYS]
    assert adapter.decrypt(kept) == secret, "an older key opens what it has sealed"
    settings.FACTOR_KEYS = settings.FACTOR_KEYS[:1]
    with pytest.raises(InvalidToken):
        adapter.decrypt(kept)


def test_a_change_of_factors_needs_the_password_again(alice: User, browser: Browser):
    passkey = passkeys.add(alice, "laptop")
    client = browser(alice)  # signed in, but not by typing anything

    for path in (
        "totp/activate/",
        "recovery-codes/generate/",
        "webauthn/add/",
        f"webauthn/keys/{passkey.pk}/remove/",
    ):
        answer = client.post(f"/accounts/2fa/{path}")
        assert answer.status_code == 302
        assert "reauthenticate" in answer["Location"]
    assert Authenticator.objects.filter(user=alice).count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_change_of_factors_is_mailed_and_in_the_log_of_each_organization(
    alice: User, home: Organization, away: Organization
):
    members.add(away, alice, roles.MEMBER)

    set_up(sign_in(alice))

    assert any("Authenticator app activated" in message.body for message in mail.outbox)
    for organization in (home, away):
        verbs = AuditEntry.objects.of(organization).values_list("verb", flat=True)
        assert {"member.signed_in", "security.totp_activated"} <= set(verbs)


def test_a_changed_password_is_mailed(alice: User, home: Organization):
    new = "another long password 42"
    sign_in(alice).post(
        "/accounts/password/change/", {"oldpassword": PASSWORD, "password1": new, "password2": new}
    )

    [message] = mail.outbox
    assert "password has been changed" in message.body
    assert "127.0.0.1" in message.body
    assert AuditEntry.objects.of(home).filter(verb="security.password_changed").exists()


def test_every_page_of_factors_is_ours_and_runs_nothing_inline(alice: User):
    client = sign_in(alice)
    set_up(client)
    passkey = passkeys.add(alice, "laptop")
    paths = [
        "",
        "totp/deactivate/",
        "recovery-codes/",
        "recovery-codes/generate/",
        "webauthn/",
        "webauthn/add/",
    ]
    paths += [f"webauthn/keys/{passkey.pk}/{what}/" for what in ("edit", "remove")]
    visits = [
        (client, f"/accounts/2fa/{path}") for path in (*paths, "reauthenticate/", "webauthn/reauthenticate/")
    ]
    visits += [
        (sign_in(alice), "/accounts/2fa/authenticate/"),
        (client, "/settings"),
        (client, "/settings/sessions"),
    ]

    for visitor, path in visits:
        answer = visitor.get(path)
        html = answer.content.decode()
        assert answer.status_code == 200, path
        assert 'class="card' in html, path
        scripts = re.findall(r"<script[^>]*>", html)
        assert all("src=" in tag or 'type="application/json"' in tag for tag in scripts), path
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=", html), path


def test_an_organization_that_asks_for_a_second_factor_is_closed_to_who_has_none(
    alice: User, bob: User, home: Organization, browser: Browser
):
    held = Membership.objects.of(home).get(user=alice)
    with pytest.raises(Refusal, match="of your own first"):
        signup.set_rules(held, two_factor_required=True)
    passkeys.add(alice, "laptop")
    of_alice, of_bob = browser(alice), browser(bob)

    of_alice.post("/organization/rules", {"two_factor_required": "on"})

    page = of_bob.get("/keys")
    assert page.status_code == 403
    assert "asks for a second factor" in page.content.decode()
    assert not str(page.context["balance"]), "nor what it has"
    assert of_bob.get("/accounts/2fa/").status_code == 200, "where to add one stays open"
    passkeys.add(bob, "phone")
    assert of_bob.get("/keys").status_code == 200
    assert of_alice.get("/keys").status_code == 200
    assert AuditEntry.objects.of(home).filter(verb="organization.rules_changed").count() == 1


def test_a_member_does_not_set_the_rules(bob: User, home: Organization, browser: Browser):
    assert browser(bob).post("/organization/rules", {"two_factor_required": "on"}).status_code == 403


def test_sessions_are_shown_and_ended_one_by_one_or_all_others(alice: User, mallory: User):
    here, there, third = sign_in(alice), sign_in(alice), sign_in(alice)
    page = here.get("/settings/sessions")
    assert page.content.decode().count("Firefox on Linux") >= 3
    assert [each["here"] for each in page.context["sessions"]] == [True, False, False]

    theirs = UserSession.objects.get(session_key=there.session.session_key)
    assert sign_in(mallory).post(f"/settings/sessions/{theirs.pk}/end").status_code == 404
    assert there.get("/keys").status_code == 200
    here.post(f"/settings/sessions/{theirs.pk}/end")
    assert there.get("/keys").status_code == 302
    assert third.get("/keys").status_code == 200

    here.post("/settings/sessions")
    assert third.get("/keys").status_code == 302
    assert here.get("/keys").status_code == 200


def test_behind_a_proxy_a_session_shows_where_the_person_is(alice: User, settings):
    """Limits of tries go by the same address: by the proxy's, a stranger would lock everybody out."""
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1
    client = Client(headers={"x-forwarded-for": "192.0.2.1, 203.0.113.7"})

    client.post("/accounts/login/", {"login": alice.email, "password": PASSWORD})

    assert UserSession.objects.get(user=alice).ip == "203.0.113.7", "not what the person says before it"


def test_a_person_is_called_as_they_say(alice: User, browser: Browser):
    client = browser(alice)

    client.post("/settings", {"name": " Ada Lovelace "})

    assert "Ada Lovelace" in client.get("/organization/members").content.decode()
    client.post("/settings", {"name": ""})
    alice.refresh_from_db()
    assert alice.get_full_name() == alice.email


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (FIREFOX, "Firefox on Linux"),
        (
            "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile Safari/604.1",
            "Safari on iPhone",
        ),
        ("Mozilla/5.0 (Linux; Android 15) Chrome/140.0 Mobile Safari/537.36", "Chrome on Android"),
        ("", "A browser"),
    ],
)
def test_a_device_has_a_name(text: str, words: str):
    assert devices.name(text) == words
