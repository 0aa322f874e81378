"""Every address with every method, asked by each kind of person with ids of Alice's.

Strangers, owners of another organization, plain members of hers, operators, and Alice herself: who may use an
address stands in `tests/declared.py`. What is declared nowhere fails.
"""

from __future__ import annotations

import ast
import base64
import dataclasses
import functools
import inspect
import itertools
import json
import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from allauth.usersessions.models import UserSession
from django.core.cache import cache
from django.http import HttpResponse
from django.test import Client

from accounts import keys, log_keys, privacy, signup
from accounts.core import roles
from accounts.models import (
    AuditEntry,
    Invitation,
    Key,
    Membership,
    Organization,
    User,
    WebhookDelivery,
    WebhookEndpoint,
)
from accounts.webhooks import endpoints
from aggregator import asgi, planes
from aggregator.lib import clock, seal
from billing import limits, wallets
from billing.core import generation
from billing.models import Budget, Customer, Document, Generation, LowCredit, TopUp, Wallet
from routing import request_logs
from routing.core import kept
from tests import declared
from tests.accounts import passkeys
from tests.billing import books, papers, stripe_stand
from tests.declared import Address
from tests.walking import REFUSED, Walk, asks_to_sign_in, is_refused

CANARY = "canary-of-alice"
NOT_THERE = {"routing:model", "admin:login"}
"""No model is listed here; and where operators sign in, one who is signed in and no operator is refused."""


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
    deletion: str
    told: WebhookDelivery
    budget: Budget
    document: Document

    @functools.cached_property
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
            "deletion": self.deletion,
            "webhook": self.told.endpoint.public_id,
            "delivery": str(self.told.pk),
            "budget": self.budget.public_id,
            "document_id": str(self.document.pk),
            "invoice": str(self.document.pk),
        }


@pytest.fixture(autouse=True)
def _stripe(settings) -> None:
    """Some addresses lead on to Stripe: here to the simulated one, with an empty account."""
    stand = stripe_stand.running()
    stand.reset()
    settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE = stand.key, stand.url
    settings.PASSWORD_HASHERS = ["tests.accounts.hashing.QuickScrypt"]
    settings.LOG_MASTER_KEYS = [base64.b64encode(seal.make_key()).decode()]


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


@pytest.fixture
def bob(alice: Person) -> User:
    user, own = signup.register("bob@example.com", "correct horse battery")
    Membership.objects.of(own).delete()
    Membership.objects.create(
        organization=alice.organization, user=user, role=roles.MEMBER, seen_at=clock.now()
    )
    return user


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
    TOTP.activate(user, generate_totp_secret())
    RecoveryCodes.activate(user)
    session = UserSession.objects.create(user=user, ip="10.1.2.3", session_key=f"session-of-{name}")
    gone = request_logs.delete_everything(organization, by=name).public_id
    _log(organization, called, name)
    hook, _ = endpoints.add(organization, name=name, url="http://127.0.0.1:1/", wanted=(), by=user)
    told = endpoints.test(hook, by=user)
    budget = limits.set_budget(
        organization, kind="organization", window="total", limit_nanos=2**52, thresholds=(50,), by=name
    )
    said = {"lines": 1, "buyer": {**papers.BUYER, "name": name}, "pdf": b"%PDF-" + name.encode()}
    document = papers.issue(organization, **said)
    return Person(
        *(user, organization, key, inference, management, called, paid, asked, factor, session, gone),
        *(told, budget, document),
    )


def _log(organization: Organization, called: Generation, said: str) -> None:
    """What the call said is kept: the name."""
    privacy.set_logging(organization, privacy.LogRules(on=True), by=said)
    asked = json.dumps({"messages": [{"role": "user", "content": said}]}).encode()
    content = kept.Content(kept.Text(asked, len(asked)), None, False)
    log_key = log_keys.living(organization.pk)
    assert log_key is not None
    made = request_logs.Entry(
        *(called.id, organization.pk, organization.public_id, called.key_id, log_key.pk),
        *(called.ended_at, content),
    )
    assert request_logs.write([made], {}) == 0


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
        list(Wallet.objects.of(organization).order_by("pk").values()),
        list(TopUp.objects.of(organization).order_by("pk").values()),
        list(Budget.objects.of(organization).order_by("pk").values()),
        list(LowCredit.objects.of(organization).order_by("pk").values()),
        list(Customer.objects.of(organization).order_by("pk").values()),
        list(Invitation.objects.of(organization).order_by("pk").values()),
        list(WebhookEndpoint.objects.of(organization).order_by("pk").values()),
        list(WebhookDelivery.objects.of(organization).order_by("pk").values()),
        list(Authenticator.objects.filter(user=person.user).order_by("pk").values()),
        list(UserSession.objects.filter(pk=person.session.pk).order_by("pk").values()),
        Organization.objects.values().get(pk=organization),
    ]


def test_a_stranger_is_asked_to_sign_in_where_things_are_somebodys(client: Client, alice: Person):
    before, walk = _state(alice), Walk(client, None, alice)

    for address, method in walk.every():
        answer, access = walk.ask(address, method), address.access.to(method)
        if access == declared.ANYBODY:
            fits = True
        elif access == declared.SECRET:
            fits = is_refused(access, answer)
        else:
            fits = asks_to_sign_in(answer) or answer.status_code == 405
        walk.require(fits and not _shows(answer, alice), address, method, answer)

    assert not walk.wrong, "\n".join(walk.wrong)
    assert _state(alice) == before


def test_an_owner_of_another_organization_reaches_nothing(client: Client, alice: Person, mallory: Person):
    before, walk = _state(alice), Walk(client, mallory.user, alice)

    for address, method in walk.every(admin=("get", "post"), believing=False):  # so others may believe
        said_no = not walk.may_take(address, method)
        answer, access = walk.ask(address, method), address.access.to(method)
        closed = address.parts & alice.ids.keys() or access in (declared.OPERATOR, declared.SECRET)
        fits = (not closed or is_refused(access, answer)) and (not said_no or answer.status_code == 405)
        walk.require(fits and not _shows(answer, alice), address, method, answer)

    assert not walk.wrong, "\n".join(walk.wrong)
    assert _state(alice) == before
    assert Membership.objects.of(mallory.organization).get().role == roles.OWNER, "the walk went on as nobody"


def test_a_member_may_do_what_their_role_allows_and_no_more(client: Client, alice: Person, bob: User):
    before, walk = _state(alice), Walk(client, bob, alice)

    for address, method in walk.every():
        access = address.access.to(method)
        allowed = access in {declared.ANYBODY, declared.SIGNED_IN, *roles.ROLES[roles.MEMBER]}
        open_to_them = allowed and not address.parts & alice.ids.keys()
        answer = walk.ask(address, method, undone=open_to_them)
        walk.require(open_to_them or is_refused(access, answer), address, method, answer)

    assert not walk.wrong, "\n".join(walk.wrong)
    assert _state(alice) == before


def test_an_operator_uses_no_page_of_an_organization_that_they_do_not_belong_to(
    client: Client, alice: Person
):
    operator = User.objects.create_superuser("operator@example.com", "a long password 42")
    before, walk = _state(alice), Walk(client, operator, alice)

    for address, method in walk.every():
        access = address.access.to(method)
        if access != declared.OPERATOR:
            allowed = access in (declared.ANYBODY, declared.SIGNED_IN)
            answer = walk.ask(address, method, undone=allowed)
            fits = allowed or is_refused(access, answer)
            walk.require(fits and not _shows(answer, alice), address, method, answer)

    assert not walk.wrong, "\n".join(walk.wrong)
    assert _state(alice) == before
    assert client.get("/admin/").status_code == 200


def test_the_owner_gets_in_by_some_method_wherever_it_is_declared(client: Client, alice: Person):
    """So a walk that is refused everywhere, or asks for what is not there, is no proof."""
    walk, shown = Walk(client, alice.user, alice), set()
    refused: dict[Address, bool] = {}

    for address, method in walk.every():
        access = address.access.to(method)
        if access in (declared.OPERATOR, declared.SECRET) or not refused.get(address, True):
            continue
        answer = walk.ask(address, method, undone=True)
        walk.require(access == declared.ANYBODY or not asks_to_sign_in(answer), address, method, answer)
        refused[address] = answer.status_code in REFUSED
        if _shows(answer, alice):
            shown.add(address.name)

    assert not walk.wrong, "\n".join(walk.wrong)
    assert {address.name for address, closed in refused.items() if closed} <= NOT_THERE
    assert shown >= {"accounts:keys", "accounts:key_edit", "accounts:organization", "accounts:members"}
    assert shown >= {"routing:activity", "routing:call", "billing:overview"}


def test_what_the_server_answers_itself_is_declared():
    source = ast.parse(inspect.getsource(asgi))
    paths = {node.value for node in ast.walk(source) if isinstance(node, ast.Constant)} - {
        inspect.getdoc(asgi)
    }

    assert {path for path in paths if isinstance(path, str) and path.startswith("/")} == declared.ASIDE


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


ASKED_BY_ID = ("generation", "generation_content")


def _calls(person: Person) -> Iterator[tuple[planes.Route, str]]:
    for route, prefix in itertools.product(planes.ROUTES, planes.PREFIXES):
        if route.plane == planes.MANAGEMENT:
            path = re.sub(r"\{(\w+)\}", lambda part: person.ids[part[1]], route.path)
            query = f"?id={person.ids['generation_id']}" if route.name in ASKED_BY_ID else ""
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
        answer = client.generic(route.method, path, "", content_type="application/json")

        assert answer.status_code == (401 if route.scope else 200), path


def test_the_walk_of_the_api_is_not_blind(client: Client, alice: Person):
    """Alice's own key shows the canary, on these at least."""
    seen = {
        (route.name, route.method)
        for route, path in _calls(alice)
        if route.method != "DELETE" and _shows(_call(client, alice.management, route, path), alice)
    }

    assert seen >= {("keys", "GET"), ("key_detail", "GET"), ("generation", "GET"), ("key", "GET")}
    assert seen >= {("invoice", "GET"), ("invoice_pdf", "GET"), ("invoice_current", "GET")}
    assert ("generation_content", "GET") in seen
