"""Every page of keys, for everybody who should not see it; and what every page promises the browser."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import URLPattern, reverse

from accounts import owned, urls
from accounts.core import roles
from accounts.models import AuditEntry, Key, Membership, Organization, User

pytestmark = pytest.mark.django_db
Browser = Callable[[User], Client]

PAGES: list[URLPattern] = urls.pages
OF_A_KEY = [page.name for page in PAGES if "<str:key>" in str(page.pattern)]
PUBLIC = {"invitation"}
ENTRANCES = ["/accounts/login/", "/accounts/signup/", "/accounts/password/reset/"]


IDS = {
    "token": "a" * 40,
    "member": 1,
    "invitation": 1,
    "session": 1,
    "webhook": "wh_1",
    "delivery": "019a0000-0000-7000-8000-000000000000",
}
"""What stands in the addresses that carry another id than a key's."""


def path_of(name: str, key: Key) -> str:
    route = next(str(page.pattern) for page in PAGES if page.name == name)
    given = {**IDS, "key": key.public_id}
    return reverse(f"accounts:{name}", kwargs={part: given[part] for part in re.findall(r":(\w+)>", route)})


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("name", OF_A_KEY)
def test_the_key_of_another_organization_is_not_there(
    mallory: User, key: Key, browser: Browser, name: str, method: str
):
    form = {"name": "mine now", "limit_window": "total", "overlap": "0"}
    answer = getattr(browser(mallory), method)(path_of(name, key), form if method == "post" else {})

    assert answer.status_code in ({404} if method == "post" else {404, 405})
    assert "production" not in answer.content.decode()
    key.refresh_from_db()
    assert (key.version, key.name, key.state) == (1, "production", "active")


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("name", OF_A_KEY)
def test_the_key_of_a_colleague_is_not_there_for_a_member(
    bob: User, key: Key, browser: Browser, name: str, method: str
):
    answer = getattr(browser(bob), method)(path_of(name, key))

    assert answer.status_code in ({404} if method == "post" else {404, 405})
    key.refresh_from_db()
    assert key.version == 1


@pytest.mark.parametrize("name", [page.name for page in PAGES if page.name not in PUBLIC])
def test_nobody_who_is_not_signed_in_sees_a_page(key: Key, client: Client, name: str):
    for answer in (client.get(path_of(name, key)), client.post(path_of(name, key))):
        assert answer.status_code in (302, 405)
        if answer.status_code == 302:
            assert answer["Location"].startswith("/accounts/login/?next=/")


def test_somebody_without_an_organization_is_refused(alice: User, home: Organization, browser: Browser):
    Membership.objects.of(home).delete()

    assert browser(alice).get("/keys").status_code == 403


def test_an_admin_sees_the_keys_of_all(bob: User, key: Key, home: Organization, browser: Browser):
    Membership.objects.of(home).filter(user=bob).update(role=roles.ADMIN)

    assert key.name in browser(bob).get("/keys").content.decode()


@pytest.mark.parametrize("name", [page.name for page in PAGES if page.name not in PUBLIC])
def test_a_post_needs_its_csrf_token(alice: User, key: Key, name: str):
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)

    assert client.post(path_of(name, key)).status_code in (403, 405)
    key.refresh_from_db()
    assert key.version == 1


def test_every_page_has_a_policy_and_nothing_inline(alice: User, key: Key, browser: Browser):
    signed_in, stranger = browser(alice), Client()
    visits = [(stranger, path) for path in (*ENTRANCES, "/", "/docs", "/docs/errors", "/not-there")]
    visits += [(signed_in, path_of(page.name, key)) for page in PAGES]
    visits += [(signed_in, path) for path in ("/accounts/password/change/", "/accounts/logout/")]

    for client, path in visits:
        answer = client.get(path)
        policy = answer["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "default-src 'none'" in policy
        # A form whose answer leads to another place is stopped by browsers; Stripe's pages are the only ones.
        leads = next(each for each in policy.split("; ") if each.startswith("form-action"))
        assert leads == "form-action 'self' https://checkout.stripe.com https://billing.stripe.com"
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Referrer-Policy"] == "same-origin"
        assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
        html = answer.content.decode()
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", html), path
        scripts = re.findall(r"<script[^>]*>", html)
        assert all("src=" in tag or 'type="application/json"' in tag for tag in scripts), path  # data is none
        assert not re.search(r'(?:src|href)="(?:https?:)?//(?!testserver)', html), path


def test_a_session_cookie_is_out_of_reach_of_scripts(alice: User, client: Client):
    client.post("/accounts/login/", {"login": alice.email, "password": "correct horse battery staple"})

    cookie = client.cookies["session"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"


def test_rows_of_an_organization_are_not_reached_without_it(home: Organization, away: Organization, key: Key):
    assert Key.objects.of(home).count() == 1
    assert not Key.objects.of(away).exists()
    for model in (Key, Membership, AuditEntry):
        for reach in (model.objects.all, model.objects.count, lambda m=model: m.objects.get(pk=1)):
            with pytest.raises(owned.OrganizationMissing):
                reach()
        with pytest.raises(owned.OrganizationMissing):
            model.objects.create()


def test_roles_and_scopes_hold_what_they_say():
    assert roles.may(roles.OWNER, roles.KEYS_MANAGEMENT)
    assert set(roles.WORDS) == set().union(*roles.ROLES.values()), "the members page says what each may do"
    assert not roles.may(roles.MEMBER, roles.KEYS_ALL)
    assert not roles.may("guest", roles.KEYS_OWN)
    assert roles.allows("inference", None)
    assert roles.allows("inference", "inference")
    assert roles.allows("inference", "read")
    assert not roles.allows("inference", "management")
    assert not roles.allows("management", "inference")
    assert not roles.allows("unknown", "read")
