"""A list that few calls fit goes through so many, says how far, and goes on from there when asked."""

from __future__ import annotations

import html
import re
from datetime import timedelta

import pytest
from django.db import connection

from aggregator.lib import clock
from billing import calls as lists
from tests.billing import books
from tests.routing.test_activity_page import listed, sign_in, text

pytestmark = pytest.mark.django_db


@pytest.fixture
def key(client):
    made = books.make_key(books.make_organization())
    sign_in(client, made.organization)
    return made


def test_a_list_of_few_looks_so_far_says_how_far_and_goes_on_from_there(client, key, monkeypatch):
    monkeypatch.setattr(lists, "LOOKED_THROUGH", 3)
    price, began = books.make_price(), clock.now() - timedelta(hours=8)
    made = [
        books.deliver(key, price, at=began + timedelta(hours=at), error_type="odd" if at in (0, 1, 6) else "")
        for at in range(8)
    ]
    for sort, rounds in {
        "-time": [{6}, set(), {1, 0}],
        "time": [{0, 1}, set(), {6}],
        # An address tells times by minutes: the last one is looked through twice.
        "-cost": [{6}, set(), {1}, {1, 0}],
        "latency": [{6}, set(), {1}, {1, 0}],
    }.items():
        seen, address = [], f"/activity?error=odd&sort={sort}"
        while address:
            answer = client.get(address)
            page = text(answer)
            seen.append(listed(answer, made))
            further = re.search(r'href="(\?[^"]*)"[^>]*>Look further', page)
            assert ("Looked through 3 calls" in page or "None of the 3 calls" in page) == bool(further)
            address = f"/activity{html.unescape(further[1])}" if further else ""
        assert seen == [{made[at].pk for at in few} for few in rounds], sort
    assert "Look further" not in text(client.get("/activity"))


def test_a_call_is_found_by_its_providers_id_however_long_ago(client, key, monkeypatch):
    monkeypatch.setattr(lists, "LOOKED_THROUGH", 1)
    price = books.make_price()
    call = books.deliver(key, price, at=clock.now() - timedelta(hours=3), upstream_id="chatcmpl-7")
    others = [books.deliver(key, price, user_agent="about chatcmpl-7") for _ in range(3)]
    stranger = books.make_key(books.make_organization("other"))
    others.append(books.deliver(stranger, price, upstream_id="chatcmpl-7"))

    answer = client.get("/activity", {"q": "chatcmpl-7"})

    assert listed(answer, [call, *others]) == {call.pk} and "That is all." in text(answer)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(
            "EXPLAIN SELECT FROM generations WHERE upstream_id = 'chatcmpl-7' AND NOT upstream_id = ''"
        )
        assert "upstream_id" in "".join(row[0] for row in cursor.fetchall() if "Index Scan" in row[0])
