"""Mallory, of another organization, walks every address with ids of Alice's and sees nothing of hers."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.core.cache import cache
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from accounts import keys, roles, signup
from accounts.models import AuditEntry, Invitation, Key, Membership, Organization, User
from aggregator import planes
from aggregator.lib import clock
from billing import generation, wallets
from billing.models import Customer, Generation, TopUp, Wallet
from tests.accounts import passkeys
from tests.billing import books, stripe_stand

CANARY = "canary-of-alice"
METHODS = ("get", "post", "put", "patch", "delete")
CLOSED = {302, 400, 401, 403, 404, 405, 415}
"""What an address with an id of somebody else may answer."""

NO_ID = {
    "uidb36": "1",
    "app_label": "accounts",
    "content_type_id": "1",
    "url": "anything",
    "from_field": "id",
    "plan": "pro",
    "what": "top_up",
    "author": "sandbox",
    "model": "pebble",
    "token": "a" * 40,
    "slug": "errors",
}
"""Parts of addresses that name nothing of an organization."""
_PART = re.compile(r"<(?:\w+:)?(\w+)>")


@dataclasses.dataclass(frozen=True)
class Person:
    user: User
    organization: Organization
    key: Key
    inference: str
    management: str
    generation: Generation
    top_up: TopUp
    invitation: Invitation
    factor: Authenticator
    session: UserSession

    @property
    def ids(self) -> dict[str, str]:
        """Every kind of id that an address may carry."""
        return {
            "key": self.key.public_id,
            "generation_id": generation.public_id(self.generation.id),
            "object_id": str(self.key.pk),
            "top_up": str(self.top_up.pk),
            "payment": str(self.top_up.pk),
            "member": str(Membership.objects.of(self.organization).get(user=self.user).pk),
            "invitation": str(self.invitation.pk),
            "pk": str(self.factor.pk),
            "session": str(self.session.pk),
        }


@pytest.fixture(autouse=True)
def _stripe(settings) -> None:
    """Some addresses lead on to Stripe: here to the simulated one, with an empty account."""
    stand = stripe_stand.running()
    stand.reset()
    settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE = stand.key, stand.url


@pytest.fixture
def client() -> Client:
    """One for each test: making one reads every static file there is."""
    return Client(raise_request_exception=False)


@pytest.fixture
def alice(db: None) -> Person:
    return _person("alice@example.com", CANARY)


@pytest.fixture
def mallory(db: None) -> Person:
    return _person("mallory@example.com", "mallory")


def _person(email: str, name: str) -> Person:
    cache.clear()
    user, organization = signup.register(email, "correct horse battery", slug=name, name=name)
    wallets.open_wallet(organization.pk)
    key, inference = keys.create(organization, name=name, by=user)
    _, management = keys.create(organization, name=f"{name}-m", by=user, scope=roles.MANAGEMENT)
    price = books.make_price(f"{name}:acme/swift")
    called = books.deliver(key, price, at=clock.now() - timedelta(minutes=2), model=f"acme/{name}")
    paid = TopUp.objects.create(
        organization=organization, kind="checkout", state="paid", cents=2000, charge_id=f"ch_{name}"
    )
    asked = Invitation.objects.create(
        organization=organization,
        email=f"guest@{name}.example",
        role="member",
        digest=name.encode(),
        expires_at=clock.now() + timedelta(days=7),
    )
    factor = passkeys.add(user, name)
    session = UserSession.objects.create(user=user, ip="10.1.2.3", session_key=f"session-of-{name}")
    return Person(user, organization, key, inference, management, called, paid, asked, factor, session)


def _addresses(ids: dict[str, str]) -> Iterator[tuple[str, bool]]:
    """Every address of the urlconf with these ids in it, and whether it carries one."""
    values = {**NO_ID, **ids}
    for route in _routes(get_resolver()):
        names = set(_PART.findall(route))
        assert names <= set(values), f"{route}: what stands for {names - set(values)}?"
        path = _PART.sub(lambda found: values[found[1]], route)
        yield f"/{path}", bool(names & set(ids))


def _routes(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    for entry in resolver.url_patterns:
        route = prefix + _as_route(str(entry.pattern))
        if isinstance(entry, URLPattern):
            yield route
        else:
            yield from _routes(entry, route)


def _as_route(pattern: str) -> str:
    """A regular expression, as allauth and the admin have some, in the form of the others."""
    named = re.sub(r"\(\?P<(\w+)>(?:[^()]|\([^()]*\))*\)", r"<\1>", pattern)
    return named.replace("^", "").replace("$", "").replace("\\Z", "")


def _shows(answer: HttpResponse, person: Person) -> bool:
    body = b"".join(answer.streaming_content) if answer.streaming else answer.content
    said = body + json.dumps(dict(answer.headers)).encode()
    return any(
        secret.encode() in said for secret in (CANARY, person.user.email, person.organization.public_id)
    )


def _state(person: Person) -> list[object]:
    """All that somebody else could have changed."""
    organization = person.organization.pk
    return [
        list(Key.objects.of(organization).order_by("pk").values()),
        list(Membership.objects.of(organization).order_by("pk").values()),
        list(Generation.objects.of(organization).order_by("pk").values()),
        list(AuditEntry.objects.of(organization).order_by("pk").values()),
        list(Wallet.objects.of(organization).values()),
        list(TopUp.objects.of(organization).order_by("pk").values()),
        list(Customer.objects.of(organization).values()),
        list(Invitation.objects.of(organization).order_by("pk").values()),
        list(Authenticator.objects.filter(user=person.user).values()),
        list(UserSession.objects.filter(pk=person.session.pk).values()),
        Organization.objects.values().get(pk=organization),
    ]


@pytest.mark.parametrize("method", METHODS)
def test_no_page_shows_mallory_anything_of_alice(client: Client, alice: Person, mallory: Person, method: str):
    before = _state(alice)

    for path, is_hers in _addresses(alice.ids):
        client.force_login(mallory.user)  # one of the addresses signs out
        answer = getattr(client, method)(path, {"name": "taken", "id": alice.ids["generation_id"]})

        assert answer.status_code < 500, path
        assert not is_hers or answer.status_code in CLOSED, f"{method} {path}: {answer.status_code}"
        assert not _shows(answer, alice), f"{method} {path}"
    assert _state(alice) == before


@pytest.mark.parametrize("method", METHODS)
def test_no_page_shows_a_stranger_anything_of_alice(client: Client, alice: Person, method: str):
    before = _state(alice)

    for path, is_hers in _addresses(alice.ids):
        answer = getattr(client, method)(path)

        assert answer.status_code < 500, path
        assert not is_hers or answer.status_code in CLOSED, f"{method} {path}: {answer.status_code}"
        assert not _shows(answer, alice), f"{method} {path}"
    assert _state(alice) == before


@pytest.mark.parametrize("filter_", ["key=KEY", "before=GEN", f"model=acme/{CANARY}", "key=KEY&before=GEN"])
def test_no_filter_of_the_activity_page_reaches_alice(
    client: Client, alice: Person, mallory: Person, filter_: str
):
    query = filter_.replace("KEY", alice.ids["key"]).replace("GEN", alice.ids["generation_id"])

    client.force_login(mallory.user)
    answer = client.get(f"/activity?{query}", headers={"HX-Request": "true"})

    assert answer.status_code == 200
    assert f"acme/{CANARY}".encode() not in answer.content.replace(query.encode(), b"")
    assert alice.ids["generation_id"].encode() not in answer.content.replace(query.encode(), b"")


def _calls(person: Person) -> Iterator[tuple[planes.Route, str]]:
    for route, prefix in itertools.product(planes.ROUTES, planes.PREFIXES):
        if route.plane == planes.MANAGEMENT:
            path = route.path.replace("{key}", person.ids["key"])
            query = f"?id={person.ids['generation_id']}" if route.name == "generation" else ""
            yield route, prefix + path + query


def _call(client: Client, text: str, route: planes.Route, path: str) -> HttpResponse:
    body = json.dumps({"name": "mine"}) if route.method in ("POST", "PATCH") else ""
    headers = {"Authorization": f"Bearer {text}"}
    return client.generic(route.method, path, body, content_type="application/json", headers=headers)


@pytest.mark.parametrize("scope", ["inference", "management"])
def test_no_key_of_mallory_reaches_anything_of_alice(
    client: Client, alice: Person, mallory: Person, scope: str
):
    before = _state(alice)

    for route, path in _calls(alice):
        answer = _call(client, getattr(mallory, scope), route, path)

        assert answer.status_code < 500, path
        if "{" in route.path or "?" in path:
            assert answer.status_code in (403, 404), f"{route.method} {path}: {answer.status_code}"
        assert not _shows(answer, alice), f"{route.method} {path}"
    assert _state(alice) == before


def test_the_data_plane_takes_no_id_of_an_organization():
    parts = {
        part
        for route in planes.ROUTES
        if route.plane == planes.DATA
        for part in re.findall(r"\{\w+\}", route.path)
    }

    assert parts <= {"{author}", "{slug}"}


def test_a_browser_session_opens_nothing_of_the_api(client: Client, alice: Person):
    client.force_login(alice.user)
    for route, path in _calls(alice):
        if route.scope is None:
            continue  # anybody's
        answer = client.generic(route.method, path, "", content_type="application/json")

        assert answer.status_code == 401, path


def test_the_walk_is_not_blind(client: Client, alice: Person):
    """Alice herself sees the canary, on these at least."""
    seen = set()
    for path, _ in _addresses(alice.ids):
        client.force_login(alice.user)
        if _shows(client.get(path), alice):
            seen.add(path)
    of_keys = {
        (route.name, route.method)
        for route, path in _calls(alice)
        if route.method != "DELETE" and _shows(_call(client, alice.management, route, path), alice)
    }

    key, call = alice.ids["key"], alice.ids["generation_id"]
    assert seen >= {"/keys", f"/keys/{key}", "/organization", "/activity", f"/activity/{call}", "/billing"}
    assert of_keys >= {("keys", "GET"), ("key_detail", "GET"), ("generation", "GET"), ("key", "GET")}
