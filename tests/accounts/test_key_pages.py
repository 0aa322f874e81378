"""The pages of keys: shown once, in force at once, refused when wrong."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.test import Client

from accounts import keys
from accounts.core import roles
from accounts.models import Key, Organization, User
from aggregator.lib import clock
from aggregator.lib.errors import Refusal
from billing.models import Generation
from tests.billing import books

pytestmark = pytest.mark.django_db
Browser = Callable[[User], Client]

FORM = {"name": "from the page", "scope": "inference", "limit_window": "total"}


def test_a_key_is_shown_exactly_once(alice: User, browser: Browser):
    client = browser(alice)

    page = client.post("/keys/new", FORM)

    [text] = set(re.findall(r"fl_live_\w{12}_\w{38}", page.content.decode()))
    assert "no-store" in page["Cache-Control"]
    assert keys.principal(text).name == "from the page"
    for path in ("/keys", "/keys/new", f"/keys/{keys.principal(text).key}"):
        assert text not in client.get(path).content.decode()
    assert f"{text[:12]}…{text[-4:]}" in client.get("/keys").content.decode()


@pytest.mark.parametrize("path", ["/keys", "/organization", "/docs", "/nothing"])
def test_a_page_that_shows_who_is_signed_in_is_not_kept(alice: User, browser: Browser, path: str):
    assert "no-store" in browser(alice).get(path)["Cache-Control"]


def test_a_key_takes_its_limits_from_the_form(alice: User, home: Organization, browser: Browser):
    browser(alice).post(
        "/keys/new",
        {
            "name": "limited",
            "scope": "inference",
            "limit": "$1,250.50",
            "limit_window": "month",
            "requests_per_minute": "60",
            "expires_at": "2999-01-02T03:04",
            "allowed_models": "openai/gpt-5-mini\nacme/swift",
        },
    )

    key = Key.objects.of(home).get(name="limited")
    assert (key.limit_nanos, key.limit_window, key.requests_per_minute) == (1_250_500_000_000, "month", 60)
    assert key.expires_at.isoformat() == "2999-01-02T03:04:00+00:00"
    assert key.allowed_models == ["acme/swift", "openai/gpt-5-mini"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("limit", "lots"),
        ("limit", "-1"),
        ("limit", "NaN"),
        ("limit", "0.0000000001"),
        ("limit_window", "year"),
        ("requests_per_minute", "0"),
        ("expires_at", "2001-01-01T00:00"),
        ("allowed_models", "just-a-word"),
        ("scope", "everything"),
    ],
)
def test_a_wrong_field_is_said_at_the_field(alice: User, browser: Browser, field: str, value: str):
    page = browser(alice).post("/keys/new", {**FORM, field: value})

    assert page.status_code == 422
    assert page.context["form"].errors.keys() == {field}
    if field != "scope":
        assert f'id="id_{field}_error"' in page.content.decode()
    assert not Key.unscoped.exists()


def test_disabling_and_enabling_a_key(alice: User, key: Key, text: str, browser: Browser):
    client = browser(alice)

    page = client.post(f"/keys/{key.public_id}/disable", follow=True)
    assert "is disabled" in page.content.decode()
    with pytest.raises(Refusal, match="disabled"):
        keys.principal(text)

    page = client.post(f"/keys/{key.public_id}/enable", follow=True)
    assert "works again" in page.content.decode()
    assert keys.principal(text)


def test_deleting_asks_first(alice: User, key: Key, text: str, browser: Browser):
    client = browser(alice)

    assert "Delete “production”?" in client.get(f"/keys/{key.public_id}/delete").content.decode()
    assert keys.principal(text)

    client.post(f"/keys/{key.public_id}/delete")
    assert "No key yet" in client.get("/keys").content.decode()
    assert client.get(f"/keys/{key.public_id}").status_code == 404


def test_rotating_shows_a_new_text_and_says_how_long_the_older_one_works(
    alice: User, key: Key, text: str, browser: Browser
):
    client = browser(alice)

    page = client.post(f"/keys/{key.public_id}/rotate", {"overlap": "168"})

    [newer] = set(re.findall(r"fl_live_\w{12}_\w{38}", page.content.decode()))
    assert keys.principal(newer).key == keys.principal(text).key == key.public_id
    assert "the older one works until" in client.get("/keys").content.decode()
    assert client.post(f"/keys/{key.public_id}/rotate", {"overlap": "9999"}).status_code == 422


def test_an_expired_key_can_still_be_renamed(alice: User, key: Key, browser: Browser):
    Key.unscoped.filter(pk=key.pk).update(expires_at=clock.now().replace(second=0, microsecond=0))
    client = browser(alice)
    form = client.get(f"/keys/{key.public_id}").context["form"]

    answer = client.post(
        f"/keys/{key.public_id}",
        {
            "name": "renamed",
            "limit_window": "total",
            "expires_at": form["expires_at"].value().strftime("%Y-%m-%dT%H:%M"),
        },
    )

    assert answer.status_code == 302
    key.refresh_from_db()
    assert key.name == "renamed"
    assert "expired" in client.get("/keys").content.decode()


def test_a_name_is_text_and_never_markup(alice: User, home: Organization, browser: Browser):
    keys.create(home, name="<script>alert(1)</script>", by=alice)

    page = browser(alice).get("/keys").content.decode()

    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_member_makes_and_sees_only_their_own_inference_keys(
    alice: User, bob: User, key: Key, home: Organization, browser: Browser
):
    client = browser(bob)

    client.post("/keys/new", {**FORM, "name": "bob's", "scope": "management"})

    [made] = Key.objects.of(home).filter(created_by=bob)
    assert made.scope == roles.INFERENCE, "a member's form has no scope to choose"
    page = client.get("/keys").content.decode()
    assert "bob&#x27;s" in page
    assert key.name not in page
    assert "bob&#x27;s" in browser(alice).get("/keys").content.decode()


def test_an_owner_may_make_a_management_key(alice: User, home: Organization, browser: Browser):
    page = browser(alice).post("/keys/new", {**FORM, "scope": "management"})

    assert re.search(r"fl_mgmt_\w{12}_\w{38}", page.content.decode())
    assert "/chat/completions" not in page.content.decode(), "it calls no model"


def test_a_member_may_not_rename_the_organization(bob: User, home: Organization, browser: Browser):
    browser(bob).post("/organization", {"name": "Bob's"})

    home.refresh_from_db()
    assert home.name == "alice"


def test_keys_are_found_sorted_and_turned_over(alice: User, home: Organization, browser: Browser):
    made = {name: keys.create(home, name=name, by=alice)[0] for name in ("alpha", "Beta", "gamma")}
    keys.update(made["alpha"], by=alice, limit_nanos=5 * 10**9)
    keys.update(made["gamma"], by=alice, limit_nanos=10**9)
    keys.disable(made["Beta"], by=alice)
    client = browser(alice)

    def names(**asked: str) -> list[str]:
        return [row["key"].name for row in client.get("/keys", asked).context["rows"]]

    assert names() == ["gamma", "Beta", "alpha"]
    assert names(sort="name") == ["alpha", "Beta", "gamma"]
    assert names(sort="limit") == ["gamma", "alpha", "Beta"], "no limit is the highest"
    assert names(q="BET") == ["Beta"]
    assert names(q=made["alpha"].public_id) == ["alpha"]
    assert names(q=made["alpha"].secrets.get().last4) == ["alpha"]
    assert names(state="disabled") == ["Beta"]
    assert names(state="expired", q="alice") == []
    assert "No key fits" in client.get("/keys", {"q": "nothing"}).content.decode()
    for number in range(50):
        keys.create(home, name=f"more {number}", by=alice)
    first = client.get("/keys", {"sort": "used"})
    second = client.get("/keys" + first.context["list"].more)
    assert len(first.context["rows"]) == 50
    assert len(second.context["rows"]) == 3


def test_a_key_shows_what_its_window_has_spent_of_its_limit(
    alice: User, home: Organization, browser: Browser
):
    key, _ = keys.create(home, name="limited", by=alice, limit_nanos=10**7, limit_window="month")
    books.deliver(key, books.make_price("limited:acme/swift"), at=clock.now(), model="acme/swift")
    spent = Generation.unscoped.get(key_id=key.pk).charge_nanos

    page = browser(alice).get("/keys").content.decode()

    assert spent > 0
    assert f'value="{min(100, 100 * spent // 10**7)}" max="100"' in page
