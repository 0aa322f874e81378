"""Lists by cursor: every row once, in each order, whatever an address says."""

from __future__ import annotations

import base64

import pytest
from django.http import QueryDict

from accounts.models import User
from aggregator.lib import cursors

pytestmark = pytest.mark.django_db
SORTS = {"email": "email", "created": "created_at"}


def _walk(sort: str, size: int = 2) -> list[str]:
    seen, query = [], f"?sort={sort}"
    while query:
        page = cursors.listed(
            User.objects.all(), QueryDict(query[1:]).dict(), sorts=SORTS, default="-created", size=size
        )
        assert len(page.rows) <= size
        seen += [row.email for row in page.rows]
        query = page.more
    return seen


@pytest.mark.parametrize("sort", ["email", "-email", "created", "-created"])
def test_every_row_is_met_once_in_its_order(sort: str):
    one = User.objects.create(email="e@example.com")
    for name in "dcba":  # equals in time
        User.objects.create(email=f"{name}@example.com", created_at=one.created_at)

    seen = _walk(sort)

    assert sorted(seen) == [f"{name}@example.com" for name in "abcde"]
    if "email" in sort:
        assert seen == sorted(seen, reverse=sort.startswith("-"))


@pytest.mark.parametrize("after", ["nonsense", "W10", "WyJ4IiwgIjEiXQ", "%00", "a" * 900])
def test_a_cursor_that_is_none_begins_at_the_beginning(after: str):
    User.objects.create(email="a@example.com")

    page = cursors.listed(
        User.objects.all(), {"after": after, "sort": "created"}, sorts=SORTS, default="-created", size=2
    )

    assert [row.email for row in page.rows] == ["a@example.com"]
    assert page.first == ""


def test_links_carry_the_filters_on():
    for name in "abc":
        User.objects.create(email=f"{name}@example.com")

    page = cursors.listed(
        User.objects.all(), {}, sorts=SORTS, default="email", size=2, keep={"q": "a&b", "state": ""}
    )

    assert page.more.startswith("?q=a%26b&after=") and "state" not in page.more
    assert page.query("-email") == "?q=a%26b&sort=-email"


@pytest.mark.parametrize(
    "place",
    [
        '["2026-01-01T00:00:00Z", 1e400]',
        '["0001-01-01T00:00:00+14:00", "1"]',
        '["9999-12-31T23:59:59-14:00", "1"]',
        f'["2026-01-01T00:00:00Z", {10**30}]',
        '[1e400, "1"]',
        '[NaN, "1"]',
        '[null, "1"]',
        '["2026-01-01T00:00:00Z", null]',
        '["2026-01-01T00:00:00", "1"]',
        '["a\\u0000b", "1"]',
        '["\\ud800", "1"]',
        "[" * 300,
    ],
)
@pytest.mark.parametrize("sort", ["email", "created"])
def test_a_cursor_that_nobody_can_stand_at_is_no_fault_of_ours(place: str, sort: str):
    User.objects.create(email="a@example.com")
    after = base64.urlsafe_b64encode(place.encode()).decode()

    page = cursors.listed(
        User.objects.all(), {"after": after, "sort": sort}, sorts=SORTS, default="created", size=2
    )

    assert isinstance(page.rows, list)


def test_an_address_with_a_null_character_is_refused_before_anything_is_asked(client):
    for path in ("/models?q=%00", "/keys/%00", "/api/v1/keys/%00", "/status?open=a%00b"):
        assert client.get(path).status_code == 400, path
    assert client.get("/api/v1/keys/%00").json()["error"]["type"] == "invalid_request"
    assert client.get("/pricing?model=%2500").status_code == 200
