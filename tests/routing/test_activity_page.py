"""The pages of calls: exact figures, only what one may see, in pages, filtered; and the list of models."""

from __future__ import annotations

import csv
import html
import io
import re
from datetime import timedelta
from decimal import Decimal

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import connections
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext

from accounts.core import roles
from accounts.models import Membership, User
from aggregator.lib import clock
from billing import calls as lists
from billing import receipts, statements
from billing.core import generation
from billing.core.money import show_usd
from billing.core.usage import Usage
from routing.core import picture
from routing.pages import activity as pages
from tests.billing import books

pytestmark = pytest.mark.django_db

DECISION = {
    "asked": "auto",
    "preference": "balanced",
    "chosen": "thrift:acme/slow",
    "reason": "best balance of 2: $0.0001 and 0.40 s predicted",
    "considered": 2,
    "candidates": [
        {"endpoint": "thrift:acme/slow", "rank": 1, "cost_nanos": 100_000, "seconds": 0.4, "score": 0.0},
        {"endpoint": "sandbox:acme/swift", "rank": 2, "cost_nanos": 200_000, "seconds": 0.8, "score": 1.4},
    ],
    "excluded": [{"endpoint": "deep:acme/blind", "reason": "no vision"}],
    "excluded_count": 1,
    "served": "sandbox:acme/swift",
    "attempts": [{"endpoint": "thrift:acme/slow", "failure": "rate_limited", "status": 429, "seconds": 0.12}],
}


def sign_in(client, organization, role=roles.OWNER, email="alice@example.com"):
    user = User.objects.create(email=email)
    Membership.objects.create(organization=organization, user=user, role=role)
    client.force_login(user)
    return user


@pytest.fixture
def acme():
    return books.make_organization()


@pytest.fixture
def key(acme):
    return books.make_key(acme, "Crawler")


@pytest.fixture
def owner(client, acme):
    return sign_in(client, acme)


def text(answer):
    assert answer.status_code == 200
    return answer.content.decode()


def listed(answer, calls):
    """Which of the calls a page links to."""
    page = text(answer)
    return {call.pk for call in calls if f'href="{page_of(call)}"' in page}


def page_of(call):
    return f"/activity/{generation.public_id(call.pk)}"


def test_the_list_and_the_page_show_the_exact_cost_of_the_row(client, owner, key):
    call = books.deliver(key, books.make_price(), usage=Usage(input=7, cache_read=3, output=11))
    cost = show_usd(call.charge_nanos)

    for answer in (client.get("/activity"), client.get(page_of(call))):
        page = text(answer)
        assert f">{cost}<" in page
        assert show_usd(call.base_nanos) in page
        assert show_usd(call.charge_nanos - call.base_nanos) in page


def test_a_receipt_can_be_computed_again(client, owner, key):
    price = books.make_price(stated={"input": "0.0005", "output": "8"})
    row = books.deliver(key, price, usage=Usage(input=3, output=5))

    receipt = receipts.of(statements.find_call(key.organization_id, row.pk))

    assert [(line.units, line.unit_price, line.amount) for line in receipt.lines] == [
        (3, "$0.0005", "$0.0000000015"),
        (5, "$8.00", "$0.00004"),
    ]
    assert receipt.sum == "$0.0000400015"
    assert receipt.total == "$0.000041201545"
    assert (receipt.rounded_nanos, receipt.charge_nanos, receipt.is_rounded) == (
        41_202,
        row.charge_nanos,
        True,
    )
    page = text(client.get(page_of(row)))
    assert f"At price row {price.id} of {books.ENDPOINT}, in force since" in page
    for shown in ("$0.0000400015", "$0.000041201545", "$0.000041202", "mark-up of 3 %"):
        assert shown in page


def test_a_failed_call_shows_what_it_would_have_cost_and_charges_nothing(client, owner, key):
    call = books.deliver(key, books.make_price(), status="failed", free=True, error_type="timeout")

    page = text(client.get(page_of(call)))

    assert "Free, because it failed" in page
    assert 'id="charge">$0.00<' in page


def test_a_fallback_is_told_in_one_sentence_and_drawn(client, owner, key):
    call = books.deliver(key, books.make_price(), decision=DECISION)

    assert "fallback: thrift was at capacity (429)" in text(client.get("/activity"))
    page = text(client.get(page_of(call)))
    assert "The first choice was at capacity (429), and the next in line served." in page
    assert "after 120 ms" in page
    assert "no vision" in page and "Predicted cost against predicted time" in page
    drawn = picture.of(DECISION, status="completed")
    assert [(each.cost_bar, each.chosen, each.served) for each in drawn.candidates] == [
        ("50.00", True, False),
        ("100.00", False, True),
    ]


def test_a_stream_that_broke_off_is_told_as_that():
    cut = {"endpoint": "thrift:acme/slow", "failure": "unreachable", "seconds": 0.1, "begun": True}
    broken = {**DECISION, "attempts": [cut], "served": "thrift:acme/slow"}

    assert picture.why(broken, status="failed") == "thrift broke off in the middle of its answer"
    assert picture.of(broken, status="failed").served == ""
    assert picture.why({**broken, "attempts": []}, status="completed") == DECISION["reason"]


def test_another_organizations_call_is_neither_listed_nor_found(client, owner, acme):
    theirs = books.deliver(books.make_key(books.make_organization("other")), books.make_price())

    assert client.get(page_of(theirs)).status_code == 404
    assert listed(client.get("/activity"), [theirs]) == set()


def test_another_organizations_key_filters_everything_out(client, owner, key):
    other = books.make_key(books.make_organization("other"))
    calls = [books.deliver(each, books.make_price()) for each in (key, other)]

    assert listed(client.get("/activity", {"key": other.public_id}), calls) == set()


def test_a_member_sees_the_calls_of_the_keys_they_made(client, acme, key):
    bob = sign_in(client, acme, roles.MEMBER, "bob@example.com")
    bobs = books.make_key(acme, "Bob's")
    bobs.created_by = bob
    bobs.save()
    own = books.deliver(bobs, books.make_price())
    others = books.deliver(key, books.make_price())

    assert listed(client.get("/activity"), [own, others]) == {own.pk}
    assert listed(client.get("/activity", {"key": key.public_id}), [own, others]) == set()
    assert client.get(page_of(own)).status_code == 200
    assert client.get(page_of(others)).status_code == 404
    assert "Crawler" not in text(client.get("/activity"))


def test_calls_of_a_deleted_key_stay(client, owner, key):
    call = books.deliver(key, books.make_price())
    key.state = "deleted"
    key.save()

    assert listed(client.get("/activity"), [call]) == {call.pk}
    assert "Crawler (deleted)" in text(client.get("/activity"))


@pytest.mark.usefixtures("owner")
@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}])
@pytest.mark.parametrize("sort", ["-time", "-cost", "-latency", "latency"])
def test_pages_go_on_where_the_last_one_ended(client, key, monkeypatch, headers, sort):
    monkeypatch.setattr(pages, "_PAGE", 2)
    price, start = books.make_price(), clock.now() - timedelta(minutes=5)
    calls = [
        books.deliver(
            key,
            price,
            at=start + timedelta(seconds=number),
            latency_ms=number % 2,
            usage=Usage(input=1 + number),
        )
        for number in range(5)
    ]
    by = {"time": "pk", "cost": "charge_nanos", "latency": "latency_ms"}[sort.lstrip("-")]
    order = sorted(calls, key=lambda call: (getattr(call, by), call.pk), reverse=sort.startswith("-"))

    seen, address = [], f"/activity?sort={sort}"
    while address:
        answer = client.get(address, headers=headers)
        page = text(answer)
        seen.append(listed(answer, calls))
        more = re.search(r'hx-get="(\?[^"]*after=[^"]*)"', page)
        address = f"/activity{html.unescape(more[1])}" if more else ""

    wanted = [call.pk for call in order]
    assert seen == [set(wanted[:2]), set(wanted[2:4]), set(wanted[4:])]
    assert "That is all." in page


def test_htmx_gets_rows_alone_and_a_restored_page_whole(client, owner, key):
    books.deliver(key, books.make_price())

    part = client.get("/activity", headers={"HX-Request": "true"})
    whole = client.get("/activity", headers={"HX-Request": "true", "HX-History-Restore-Request": "true"})

    assert text(part).lstrip().startswith('<div id="calls">')
    assert "<!doctype html>" in text(whole)
    assert "HX-Request" in part["Vary"]


def test_filters_by_key_model_and_status(client, owner, acme, key):
    price, other = books.make_price(), books.make_key(acme, "Other")
    first = books.deliver(key, price)
    second = books.deliver(other, price, model="acme/slow", model_asked="acme/slow")
    third = books.deliver(key, price, status="failed", free=True)
    calls = [first, second, third]

    def shown(**query):
        return listed(client.get("/activity", query), calls)

    assert shown() == {first.pk, second.pk, third.pk}
    assert shown(key=other.public_id) == {second.pk}
    assert shown(model="acme/slow") == {second.pk}
    assert shown(model="auto") == {first.pk, third.pk}
    assert shown(status="failed") == {third.pk}
    assert shown(status="failed", key=other.public_id) == set()
    assert "No call matches" in text(client.get("/activity", {"status": "void"}))


def test_filters_by_place_time_cost_and_kind(client, owner, key):
    price, now = books.make_price(), clock.now()
    cheap = books.deliver(key, price, usage=Usage(input=1), streamed=True, preference="cost")
    old = books.deliver(key, price, at=now - timedelta(days=3), endpoint="other:acme/swift")
    failed = books.deliver(key, price, status="failed", free=True, error_type="provider_unavailable")
    calls = [cheap, old, failed]

    def shown(**query):
        return listed(client.get("/activity", query), calls)

    assert shown(endpoint="other:acme/swift") == shown(endpoint="other") == {old.pk}
    assert shown(to=f"{now - timedelta(days=1):%Y-%m-%dT%H:%M}") == {old.pk}
    assert shown(**{"from": f"{now - timedelta(days=1):%Y-%m-%d}"}) == {cheap.pk, failed.pk}
    assert shown(cost=str(Decimal(old.charge_nanos) / 10**9)) == {old.pk}
    assert shown(streamed="yes") == shown(preference="cost") == {cheap.pk}
    assert shown(error="provider_unavailable") == {failed.pk}
    assert shown(cost="nonsense", to="never", streamed="perhaps", status="odd") == {call.pk for call in calls}


def test_a_search_finds_a_call_by_its_id_and_by_what_the_provider_called_it(client, owner, key):
    call = books.deliver(key, books.make_price(), upstream_id="chatcmpl-7", user_agent="curl/8.5")
    other = books.deliver(key, books.make_price())

    for typed in (generation.public_id(call.pk), call.pk.hex, str(call.pk)):
        assert client.get("/activity", {"q": typed})["Location"] == page_of(call)
    part = client.get("/activity", {"q": call.pk.hex}, headers={"HX-Request": "true"})
    assert part["HX-Redirect"] == page_of(call)
    for typed in ("chatcmpl-7", "Curl"):
        assert listed(client.get("/activity", {"q": typed}), [call, other]) == {call.pk}


def test_new_calls_are_counted_and_not_pushed_in(client, owner, key):
    first = books.deliver(key, books.make_price())
    address = html.unescape(re.search(r'hx-get="(/activity/new[^"]*)"', text(client.get("/activity")))[1])

    assert client.get(address).status_code == 204
    for _ in range(3):
        books.deliver(key, books.make_price())
    books.deliver(books.make_key(books.make_organization("other")), books.make_price())

    assert "3 new calls" in text(client.get(address))
    assert generation.public_id(first.pk) in address
    assert "data-live" not in text(client.get("/activity?sort=-cost"))


def test_an_export_holds_the_filtered_calls_and_no_formula(client, owner, acme, key):
    price = books.make_price()
    evil = books.make_key(acme, "=cmd()")
    call = books.deliver(evil, price, user_agent="@SUM(1)", usage=Usage(input=7, cache_read=2, output=3))
    books.deliver(key, price, status="failed", free=True)
    books.deliver(books.make_key(books.make_organization("other")), price)

    answer = client.get("/activity/export.csv", {"status": "completed"})
    lines = list(csv.DictReader(io.StringIO(answer.getvalue().decode())))

    assert answer["Content-Type"].startswith("text/csv")
    assert [line["id"] for line in lines] == [generation.public_id(call.pk)]
    assert (lines[0]["key_name"], lines[0]["user_agent"]) == ("'=cmd()", "'@SUM(1)")
    assert (lines[0]["prompt_tokens"], lines[0]["cached_tokens"]) == ("9", "2")
    assert Decimal(lines[0]["charge_usd"]) * 10**9 == call.charge_nanos


def test_an_export_is_bounded_and_goes_on_over_its_chunks(key, monkeypatch):
    monkeypatch.setattr(lists, "_CHUNK", 2)
    monkeypatch.setattr(lists, "MOST_EXPORTED", 5)
    calls = [books.deliver(key, books.make_price()) for _ in range(6)]

    found = [line[0] for line in lists.export(key.organization_id, lists.Wanted())][1:]

    assert found == [generation.public_id(call.pk) for call in reversed(calls)][:5]


def test_under_asgi_an_export_is_sent_while_it_is_read(acme, key, monkeypatch):
    monkeypatch.setattr(lists, "_CHUNK", 2)
    monkeypatch.setattr(pages, "_LINES", 2)
    user = User.objects.create(email="alice@example.com")
    Membership.objects.create(organization=acme, user=user, role=roles.OWNER)
    calls = [books.deliver(key, books.make_price()) for _ in range(5)]
    asked = AsyncClient()
    asked.force_login(user)

    async def read():
        answer = await asked.get("/activity/export.csv")
        assert (answer.status_code, answer.is_async) == (200, True)
        return [(part.decode(), len(queries)) async for part in answer.streaming_content]

    with CaptureQueriesContext(connections["default"]) as queries:
        parts = async_to_sync(read)()

    lines = list(csv.DictReader(io.StringIO("".join(part for part, _ in parts))))
    assert [line["id"] for line in lines] == [generation.public_id(call.pk) for call in reversed(calls)]
    assert len(parts) == 3  # a head and five calls, two lines at a time
    assert parts[0][1] < parts[1][1] < parts[2][1]


def test_a_member_exports_the_calls_of_their_own_keys(client, acme, key):
    sign_in(client, acme, roles.MEMBER, "bob@example.com")
    books.deliver(key, books.make_price())

    assert client.get("/activity/export.csv").getvalue().decode().count("\n") == 1


def test_without_a_call_the_page_tells_how_to_make_one(client, owner):
    page = text(client.get("/activity"))

    assert "No call yet" in page
    assert "/api/v1/chat/completions" in page


@pytest.mark.parametrize("wanted", ["nonsense", "gen-nonsense", "gen-" + "0" * 32])
def test_what_is_no_call_is_not_found(client, owner, wanted):
    assert client.get(f"/activity/{wanted}").status_code == 404


def test_strangers_sign_in_first(client):
    assert client.get("/activity").status_code == 302
    assert client.get("/activity/gen-" + "0" * 32).status_code == 302


def test_pages_hold_neither_inline_script_nor_style(client, owner, key):
    call = books.deliver(key, books.make_price(), decision=DECISION)

    for url in ("/activity", page_of(call), "/models"):
        page = text(client.get(url))
        assert "style=" not in page
        assert "<style" not in page
        assert "<script>" not in page


def test_anybody_may_search_the_models_and_their_prices(client, settings):
    settings.SANDBOX_BASE_URL = "http://127.0.0.1:1"
    call_command("sync_catalog")

    every = text(client.get("/models"))
    found = text(client.get("/models", {"q": "FRONTIER oracle"}, headers={"HX-Request": "true"}))

    assert "sandbox/harbor" in every
    assert "sandbox/fault-500" not in every
    assert "sandbox/oracle" in found
    assert "$25.00" in found
    assert "sandbox/harbor" not in found
    assert "No model matches" in text(client.get("/models", {"q": "nothing like it"}))
