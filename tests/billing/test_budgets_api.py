"""`/api/v1/budgets` with a management key: strict in, explicit out, exact amounts, one organization's own."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from django.http import HttpResponse
from django.test import Client

from accounts import keys
from accounts.core import roles
from accounts.models import AuditEntry, Membership, User
from billing import limits
from tests.billing import books

pytestmark = pytest.mark.django_db

FIELDS = {
    *("id", "kind", "member", "end_user", "each", "window", "limit", "limit_nanos", "thresholds", "used"),
    *("left", "resets_at", "fullest", "created_at"),
}
NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)


@pytest.fixture
def shop(db):
    return books.make_organization()


@pytest.fixture
def api(_client: Client, shop):
    _, text = keys.create(shop, name="manages", by="test", scope=roles.MANAGEMENT)

    def ask(method: str, path: str, body: Any = None, *, key: str = text) -> HttpResponse:
        data = "" if body is None else json.dumps(body)
        headers = {"Authorization": f"Bearer {key}"}
        return _client.generic(
            method, f"/api/v1/budgets{path}", data, content_type="application/json", headers=headers
        )

    return ask


@pytest.fixture
def ada(shop):
    user = User.objects.create(email="ada@example.com")
    Membership.objects.create(organization=shop, user=user, role=roles.MEMBER)
    return user


def spend(key, nanos: int, end_user: str = "") -> None:
    price = books.make_price(f"{key.public_id}:acme/swift")
    books.deliver(key, price, at=NOW, charge_nanos=nanos, base_nanos=nanos, end_user=end_user)


@time_machine.travel(NOW, tick=False)
def test_a_budget_is_set_read_changed_and_deleted(api, shop):
    made = api("POST", "", {"kind": "organization", "window": "month", "limit": "0.000000007"})
    assert made.status_code == 201
    said = made.json()["data"]
    assert said.keys() == FIELDS
    assert b'"limit":0.000000007,' in made.content, "a plain literal, without an exponent"
    assert (said["limit_nanos"], said["thresholds"], said["each"]) == (7, [50, 80, 100], False)
    assert (said["used"], said["resets_at"]) == (0, "2026-12-01T00:00:00Z")

    spend(books.make_key(shop), 2)
    at = f"/{said['id']}"
    assert b'"used":0.000000002,"left":0.000000005,' in api("GET", at).content
    changed = api("PATCH", at, {"limit": 12.5}).json()["data"]
    assert (changed["limit"], changed["thresholds"]) == (12.5, [50, 80, 100])
    assert api("PATCH", at, {"thresholds": [90, 10]}).json()["data"]["thresholds"] == [10, 90]
    assert [row["id"] for row in api("GET", "").json()["data"]] == [said["id"]]
    assert api("DELETE", at).json() == {"deleted": True}
    assert [api(method, at, {}).status_code for method in ("GET", "PATCH", "DELETE")] == [404] * 3
    verbs = AuditEntry.objects.of(shop).filter(verb__startswith="budget").order_by("pk")
    assert [entry.verb for entry in verbs] == ["budget.set", *["budget.changed"] * 2, "budget.deleted"]
    assert all(entry.actor.startswith("key:key_") for entry in verbs)


@time_machine.travel(NOW, tick=False)
def test_one_that_each_has_says_who_used_most_of_it(api, shop, ada):
    key = books.make_key(shop)
    type(key).objects.of(shop).filter(pk=key.pk).update(created_by=ada)
    spend(key, 3 * 10**9, "customer-2")
    spend(key, 10**9, "customer-1")
    for kind, more in (("member", {}), ("end_user", {}), ("member", {"member": " Ada@example.com "})):
        window = "week" if more else "day"
        body = {"kind": kind, "window": window, "limit": 10, **more}
        assert api("POST", "", body).status_code == 201

    every, own, end_users = api("GET", "").json()["data"]

    assert (every["each"], every["used"], every["left"]) == (True, None, None)
    assert every["fullest"] == [{"member": "ada@example.com", "end_user": None, "used": 4, "left": 6}]
    assert (own["member"], own["each"], own["used"], own["fullest"]) == ("ada@example.com", False, 4, [])
    assert [(row["end_user"], row["used"]) for row in end_users["fullest"]] == [
        ("customer-2", 3),
        ("customer-1", 1),
    ]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"window": "day", "limit": 1}, "kind"),
        ({"kind": "key", "window": "day", "limit": 1}, "kind"),
        ({"kind": "member", "window": "year", "limit": 1}, "window"),
        ({"kind": "member", "window": "day", "limit": -1}, "limit"),
        ({"kind": "member", "window": "day", "limit": "0.0000000001"}, "limit"),
        ({"kind": "member", "window": "day", "limit": None}, "limit"),
        ({"kind": "member", "window": "day", "limit": 1, "member": "nobody@example.com"}, "member"),
        ({"kind": "member", "window": "day", "limit": 1, "end_user": "x"}, "end_user"),
        ({"kind": "organization", "window": "day", "limit": 1, "end_user": "x"}, "end_user"),
        ({"kind": "end_user", "window": "day", "limit": 1, "end_user": "a\u0007"}, "end_user"),
        ({"kind": "end_user", "window": "day", "limit": 1, "thresholds": [0]}, "thresholds"),
        ({"kind": "end_user", "window": "day", "limit": 1, "surplus": 1}, "surplus"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name_and_sets_nothing(api, shop, body, param):
    answer = api("POST", "", body)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(param)
    assert not limits.live(shop.pk).exists()


def test_a_second_of_the_same_and_a_foreign_one_are_refused(api, shop):
    body = {"kind": "organization", "window": "day", "limit": 1}
    made = api("POST", "", body).json()["data"]
    again = api("POST", "", body)
    assert (again.status_code, again.json()["error"]["type"]) == (409, "budget_exists")

    _, foreign = keys.create(books.make_organization("other"), name="x", by="test", scope=roles.MANAGEMENT)
    assert api("GET", "", key=foreign).json() == {"data": []}
    for method in ("GET", "PATCH", "DELETE"):
        assert api(method, f"/{made['id']}", {"limit": 2}, key=foreign).status_code == 404
    assert limits.live(shop.pk).get().limit_nanos == 10**9
    _, inference = keys.create(shop, name="calls", by="test")
    assert api("GET", "", key=inference).json()["error"]["type"] == "forbidden_scope"
    assert api("GET", "?ofset=1").json()["error"]["param"] == "ofset"
