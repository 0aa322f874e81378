"""`/api/v1/keys` with a management key: strict in, explicit out."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from accounts import keys
from accounts.core import roles, tokens
from accounts.models import AuditEntry, Key, KeySecret, Organization, User
from aggregator import rest

pytestmark = pytest.mark.django_db

FIELDS = {
    "id",
    "hash",
    "name",
    "label",
    "scope",
    "disabled",
    "limit",
    "limit_nanos",
    "limit_reset",
    "requests_per_minute",
    "allowed_models",
    "created_at",
    "expires_at",
    "last_used_at",
    "exposed_at",
}


class Api:
    def __init__(self, key: str, base: str = "/api/v1") -> None:
        self.key, self.base, self.client = key, base, Client()

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> HttpResponse:
        data = body if isinstance(body, str | bytes) else json.dumps(body) if body is not None else ""
        return self.client.generic(
            method,
            self.base + path,
            data,
            content_type="application/json",
            headers={"Authorization": f"Bearer {self.key}", **headers},
        )


@pytest.fixture
def api(management: str) -> Api:
    return Api(management)


def error_of(answer: HttpResponse) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == answer.status_code
    assert error["metadata"]["error_type"] == error["type"]
    return error


@pytest.mark.parametrize("base", ["/api/v1", "/v1"])
def test_a_key_is_made_and_its_text_given_once(management: str, base: str):
    api = Api(management, base)

    answer = api("POST", "/keys", {"name": "by program", "limit": "0.000000001", "limit_reset": "daily"})

    assert answer.status_code == 201
    assert answer["Cache-Control"] == "no-store"
    made = answer.json()
    assert made["data"].keys() == FIELDS
    assert keys.principal(made["key"]).key == made["data"]["id"] == made["data"]["hash"]
    assert made["data"]["label"] == str(tokens.shown(made["key"]))
    assert (made["data"]["limit_nanos"], made["data"]["limit_reset"]) == (1, "daily")
    assert b'"limit":0.000000001,' in answer.content, "a plain literal, without an exponent"
    listed = api("GET", "/keys")
    assert made["key"] not in listed.content.decode()
    assert [key.keys() for key in listed.json()["data"]] == [FIELDS]
    read = api("GET", f"/keys/{made['data']['id']}").json()["data"]
    assert read == {**made["data"], "last_used_at": read["last_used_at"]}


def test_what_a_key_did_is_audited_as_the_key(api: Api, home: Organization):
    api("POST", "/keys", {"name": "by program"})

    entry = AuditEntry.objects.of(home).filter(verb="key.created").last()
    assert entry.actor == f"key:{keys.principal(api.key).key}"


def test_only_what_is_sent_is_changed(api: Api, key: Key, text: str):
    api("PATCH", f"/keys/{key.public_id}", {"limit": 12.5, "limit_reset": "weekly", "requests_per_minute": 7})
    answer = api("PATCH", f"/keys/{key.public_id}", {"name": "renamed", "disabled": True})

    changed = answer.json()["data"]
    assert (changed["name"], changed["disabled"], changed["limit"]) == ("renamed", True, 12.5)
    assert (changed["limit_reset"], changed["requests_per_minute"]) == ("weekly", 7)
    assert error_of(Api(text)("GET", "/keys"))["type"] == "disabled_key"

    changed = api("PATCH", f"/keys/{key.public_id}", {"disabled": False, "limit": None}).json()["data"]
    assert (changed["disabled"], changed["limit"]) == (False, None)
    key.refresh_from_db()
    assert key.version == 4


def test_a_deleted_key_is_gone_and_refused(api: Api, key: Key, text: str):
    assert api("DELETE", f"/keys/{key.public_id}").json() == {"deleted": True}

    assert api("GET", f"/keys/{key.public_id}").status_code == 404
    assert api("DELETE", f"/keys/{key.public_id}").status_code == 404
    assert error_of(Api(text)("GET", "/keys"))["type"] == "revoked_key"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": 5}, "name"),
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"name": "k", "scope": "management"}, "scope"),
        ({"name": "k", "organization_id": 1}, "organization_id"),
        ({"name": "k", "version": 9}, "version"),
        ({"name": "k", "limit": True}, "limit"),
        ({"name": "k", "limit": "lots"}, "limit"),
        ({"name": "k", "limit": -1}, "limit"),
        ({"name": "k", "limit": "NaN"}, "limit"),
        ({"name": "k", "limit": "Infinity"}, "limit"),
        ({"name": "k", "limit": "1e400"}, "limit"),
        ({"name": "k", "limit": 2**64}, "limit"),
        ({"name": "k", "limit": "0.0000000001"}, "limit"),
        ({"name": "k", "limit": []}, "limit"),
        ({"name": "k", "limit_reset": "yearly"}, "limit_reset"),
        ({"name": "k", "requests_per_minute": 0}, "requests_per_minute"),
        ({"name": "k", "requests_per_minute": "5"}, "requests_per_minute"),
        ({"name": "k", "requests_per_minute": 5.5}, "requests_per_minute"),
        ({"name": "k", "requests_per_minute": True}, "requests_per_minute"),
        ({"name": "k", "requests_per_minute": 2**64}, "requests_per_minute"),
        ({"name": "k", "expires_at": "tomorrow"}, "expires_at"),
        ({"name": "k", "expires_at": "2999-01-01T00:00:00"}, "expires_at"),
        ({"name": "k", "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "k", "expires_at": 1}, "expires_at"),
        ({"name": "k", "allowed_models": "a/b"}, "allowed_models"),
        ({"name": "k", "allowed_models": [5]}, "allowed_models[0]"),
        ({"name": "k", "allowed_models": ["nothing"]}, "allowed_models"),
        ([], None),
        ("null", None),
    ],
)
def test_a_wrong_body_is_refused_by_its_field(api: Api, home: Organization, body: Any, param: str | None):
    answer = api("POST", "/keys", body)

    assert answer.status_code == 400
    assert error_of(answer).get("param") == param
    assert Key.objects.of(home).filter(scope=roles.INFERENCE).count() == 0


@pytest.mark.parametrize(
    "body",
    [
        "{",
        '{"name": "a", "name": "b"}',
        '{"name": "a", "limit": NaN}',
        '{"name": "a", "limit": 1' + "0" * 50 + "}",
        "[" * 100_00 + "]" * 100_00,
        b'{"name": "\xff"}',
    ],
)
def test_what_is_not_exact_json_is_refused(api: Api, body: str | bytes):
    answer = api("POST", "/keys", body)

    assert (answer.status_code, error_of(answer)["type"]) == (400, "invalid_json")


def test_a_body_is_bounded(api: Api):
    answer = api("POST", "/keys", json.dumps({"name": "x" * rest.BODY_BYTES_MOST}))

    assert (answer.status_code, error_of(answer)["type"]) == (413, "payload_too_large")


def test_a_form_is_not_json(api: Api, management: str):
    answer = api.client.post("/api/v1/keys", {"name": "x"}, headers={"Authorization": f"Bearer {management}"})

    assert (answer.status_code, error_of(answer)["type"]) == (415, "unsupported_media_type")


def test_each_bad_key_has_its_own_type(home: Organization, alice: User):
    key, text = keys.create(home, name="replaced", by=alice, scope=roles.MANAGEMENT)
    keys.delete(key, by=alice)
    cases = {
        "malformed_key": text[:-1],
        "unknown_key": tokens.make("management", home.public_id),
        "revoked_key": text,
    }

    for error_type, bad in cases.items():
        answer = Api(bad)("GET", "/keys")
        assert (answer.status_code, error_of(answer)["type"]) == (401, error_type)
        assert answer["WWW-Authenticate"] == "Bearer"
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer "}):
        answer = Client().get("/api/v1/keys", headers=headers)
        assert (answer.status_code, error_of(answer)["type"]) == (401, "missing_key")


def test_a_browser_session_opens_nothing_here(alice: User, client: Client):
    client.force_login(alice)

    assert client.get("/api/v1/keys").status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/keys"), ("POST", "/keys"), ("PATCH", "/keys/key_x"), ("DELETE", "/keys/key_x")],
)
def test_an_inference_key_manages_nothing(text: str, method: str, path: str):
    answer = Api(text)(method, path, {"name": "more"})

    assert (answer.status_code, error_of(answer)["type"]) == (403, "forbidden_scope")


def test_a_management_key_cannot_touch_a_management_key(api: Api):
    own = keys.principal(api.key).key

    assert api("GET", "/keys").json() == {"data": []}
    for method in ("GET", "PATCH", "DELETE"):
        assert api(method, f"/keys/{own}", {"name": "more"} if method == "PATCH" else None).status_code == 404


def test_the_verb_itself_lets_no_key_make_a_stronger_one(home: Organization, management: str):
    with pytest.raises(Exception, match="cannot create a key that may do more"):
        keys.create(home, name="stronger", by=keys.principal(management), scope=roles.MANAGEMENT)


def test_the_keys_of_another_organization_are_not_there(api: Api, away: Organization, mallory: User):
    theirs, _ = keys.create(away, name="mallory's", by=mallory)

    assert api("GET", "/keys").json() == {"data": []}
    for method in ("GET", "PATCH", "DELETE"):
        answer = api(method, f"/keys/{theirs.public_id}", {"name": "mine"} if method == "PATCH" else None)
        missing = api(method, "/keys/key_missing", {"name": "mine"} if method == "PATCH" else None)
        assert answer.status_code == missing.status_code == 404
        assert answer.json() == missing.json()
    theirs.refresh_from_db()
    assert theirs.version == 1


def test_a_key_in_the_url_is_refused_and_flagged(api: Api, key: Key, text: str):
    answer = api("GET", f"/keys?api_key={text}")

    assert (answer.status_code, error_of(answer)["type"]) == (400, "key_in_url")
    assert text not in answer.content.decode()
    key.refresh_from_db()
    assert key.exposed_at is not None
    assert api("GET", f"/keys/{text}").status_code == 400, "in the path too"


def test_the_list_is_paged_and_strict(api: Api, home: Organization, alice: User):
    for name in ("first", "second"):
        keys.create(home, name=name, by=alice)

    assert [key["name"] for key in api("GET", "/keys").json()["data"]] == ["second", "first"]
    assert [key["name"] for key in api("GET", "/keys?offset=1").json()["data"]] == ["first"]
    assert error_of(api("GET", "/keys?offset=-1"))["param"] == "offset"
    assert error_of(api("GET", "/keys?order=name"))["param"] == "order"


def test_a_method_that_a_path_does_not_have_is_said(api: Api):
    answer = api("PUT", "/keys", {"name": "x"})

    assert (answer.status_code, error_of(answer)["type"]) == (405, "method_not_allowed")
    assert answer["Allow"] == "GET, POST, HEAD"
    assert error_of(answer)["message"] == "This path answers to GET, POST."
    assert api("GET", "/keys", **{"X-HTTP-Method-Override": "DELETE"}).status_code == 200


def test_no_hash_leaves_the_house(api: Api, key: Key, settings):
    digest = bytes(KeySecret.objects.get(key=key).digest).hex()

    assert digest not in api("GET", f"/keys/{key.public_id}").content.decode()


def test_an_unexpected_error_says_a_number_and_nothing_else():
    answer = rest.render_error(RuntimeError("password=hunter2"), {})

    assert (answer.status_code, answer["Retry-After"]) == (503, "1")
    assert "hunter2" not in json.dumps(answer.data)
    assert answer.data["error"]["metadata"]["id"].startswith("err_")


def test_a_large_amount_stays_exact(api: Api):
    made = api("POST", "/keys", '{"name": "k", "limit": 9007198.123456789}')

    assert made.json()["data"]["limit_nanos"] == 9_007_198_123_456_789
    assert json.loads(made.content, parse_float=Decimal)["data"]["limit"] == Decimal("9007198.123456789")
