"""The usage page: told by what one asks for, of what one may see, into each line, to a file, by address."""

from __future__ import annotations

import csv
import io
import itertools
import re
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.core import roles
from aggregator.lib import graphs
from billing import posting
from billing.core.money import show_usd, usd
from billing.explorer import viewing
from billing.models import Generation
from tests.billing import books
from tests.routing.test_activity_page import sign_in, text

NOW = datetime(2026, 11, 18, 14, 30, tzinfo=UTC)
PART = {"HX-Request": "true"}


@pytest.fixture
def acme(db):
    with time_machine.travel(NOW, tick=False):
        yield books.make_organization()


@pytest.fixture
def key(acme):
    return books.make_key(acme, "Crawler")


def several(key, count: int, *, days: int = 0) -> None:
    price = books.make_price()
    for number in range(count):
        name = f"acme/model-{number:02d}"
        for _ in range(1 + number % 2):
            books.deliver(key, price, at=NOW - timedelta(days=days), model=name, endpoint=f"a:{name}",
                          end_user="ada")  # fmt: skip
    posting.post_generations()


def page(client, address: str = "/usage", **headers: str) -> str:
    answer = client.get(address, headers=headers)
    assert answer.status_code == 200, answer.content
    return text(answer)


def test_lines_graph_and_totals_are_of_the_same_calls(client, acme, key):
    sign_in(client, acme)
    several(key, 11)
    books.deliver(key, books.make_price(), at=NOW - timedelta(days=40), model="acme/older")

    said = page(client)

    total = sum(call.charge_nanos for call in Generation.objects.of(acme).filter(endpoint__startswith="a:"))
    assert show_usd(total) in said and ">acme/older</a>" not in said
    assert "11 lines" in said
    assert said.count('hx-swap="outerHTML">More lines') == 0
    legend = re.findall(r"</svg> ([^<]+)</li>", said)
    assert len(legend) == 9 and legend[-1] == "Others"
    assert "style=" not in said


def test_a_line_leads_into_itself_and_to_its_calls(client, acme, key):
    sign_in(client, acme)
    several(key, 1)

    said = page(client, "/usage?period=7d")
    into = re.search(r'href="(/usage\?[^"]*by=endpoint[^"]*)"', said)[1].replace("&amp;", "&")

    assert into == "/usage?by=endpoint&period=7d&model=acme%2Fmodel-00"
    assert "/activity?model=acme%2Fmodel-00&amp;from=2026-11-12T00%3A00&amp;to=2026-11-19T00%3A00" in said
    deeper = page(client, into)
    assert "a:acme/model-00" in deeper and "Model: acme/model-00" in deeper
    assert "/usage?by=key&amp;period=7d&amp;model=acme%2Fmodel-00&amp;endpoint=a%3Aacme%2Fmodel-00" in deeper


def test_each_way_to_tell_it_and_each_line_of_it_is_a_page(client, acme, key):
    sign_in(client, acme)
    several(key, 2)
    for by, period in zip(viewing.GROUPS, itertools.cycle(("24h", "90d", "12m"))):
        said = page(client, f"/usage?by={by}&period={period}", **PART)
        for href in set(re.findall(r'href="(/usage\?[^"]*)"', said)):
            assert "No call" not in page(client, href.replace("&amp;", "&"), **PART), href


def test_a_time_of_ones_own_is_whole_days_and_what_is_no_time_is_said(client, acme, key):
    sign_in(client, acme)
    several(key, 1, days=40)

    assert "1 line " in page(client, "/usage?period=custom&from=2026-10-09&to=2026-10-09")
    for wrong, says in (
        ("from=2026-10-09&to=2026-10-01", "must be before"),
        ("from=yesterday", "must be a day"),
        ("from=2019-10-09&to=2026-10-01", "at most 1100 days"),
    ):
        answer = client.get(f"/usage?period=custom&{wrong}")
        assert answer.status_code == 422 and says in answer.content.decode()
        assert client.get(f"/usage?period=custom&{wrong}", headers=PART).status_code == 422


def test_many_lines_come_by_pages_and_all_of_them_to_the_file(client, acme, key):
    sign_in(client, acme)
    several(key, viewing.LINES + 7)

    said = page(client, "/usage?sort=name")
    more = re.search(r'hx-get="(/usage\?[^"]*after=[^"]*)"', said)[1].replace("&amp;", "&")
    rest = page(client, more, **PART)
    lines = list(csv.DictReader(io.StringIO(client.get("/usage/export?sort=name").content.decode())))

    assert rest.lstrip().startswith("<tr>") and "More lines" not in rest
    names = re.findall(r">(acme/model-\d\d)</a>", said + rest)
    assert names == sorted(names) == [line["model"] for line in lines]
    calls = Generation.objects.of(acme).filter(model="acme/model-03")
    assert lines[3]["charge_usd"] == usd(sum(call.charge_nanos for call in calls))
    over = list(csv.DictReader(io.StringIO(client.get("/usage/export?over=time").content.decode())))
    assert {line["day"] for line in over} == {"2026-11-18"} and len(over) == len(lines)
    # Without JavaScript the same address is a page with a way back.
    assert 'href="/usage?sort=name"' in page(client, more)


def test_a_file_is_no_formula(client, acme, key):
    sign_in(client, acme)
    books.deliver(key, books.make_price(), at=NOW, model="=1+1", endpoint="a:=1+1")

    assert b"\n'=1+1," in client.get("/usage/export").content.replace(b"\r", b"")


def test_a_member_sees_the_sums_of_the_keys_they_made(client, acme, key):
    bob = sign_in(client, acme, roles.MEMBER, "bob@example.com")
    bobs = books.make_key(acme, "Bob's")
    bobs.created_by = bob
    bobs.save()
    own = books.deliver(bobs, books.make_price(), at=NOW)
    books.deliver(
        key, books.make_price(), at=NOW, model="acme/secret", endpoint="x:acme/secret", end_user="eve"
    )

    for asked in ("", "?by=member", "?by=end_user", "?end_user=eve", "?by=key", f"?key={key.public_id}"):
        said = text(client.get(f"/usage{asked}"))
        assert "secret" not in said and ">eve<" not in said and "Crawler" not in said, asked
        assert b"secret" not in client.get(f"/usage/export{asked}").content
    said = page(client)
    assert "the keys that you made" in said and f'title="{show_usd(own.charge_nanos)}"' in said
    posting.post_generations()
    assert "acme/secret" not in page(client)


def test_another_organization_is_out_of_sight(client, acme, key):
    sign_in(client, acme)
    theirs = books.make_key(books.make_organization("theirs"), "theirs")
    books.deliver(theirs, books.make_price(), at=NOW, model="their/secret", endpoint="x:their/secret")
    posting.post_generations()

    for address in ("/usage", f"/usage?by=model&key={theirs.public_id}", "/usage/export"):
        assert "their/secret" not in text(client.get(address))


def test_without_a_call_the_page_says_so_and_leads_on(client, acme):
    sign_in(client, acme)

    assert "No call in this time" in page(client)
    assert "None of the calls that you may see fits" in page(client, "/usage?model=acme/none")


def test_a_page_asks_a_bounded_number_of_statements(client, acme, key):
    sign_in(client, acme)
    several(key, 2)
    page(client)
    with CaptureQueriesContext(connection) as few:
        page(client)
    several(key, 30)
    with CaptureQueriesContext(connection) as many:
        page(client)

    assert len(many) == len(few) <= 12


def test_overview_and_usage_lead_to_each_other(client, acme, key):
    sign_in(client, acme)
    several(key, 1)

    assert 'href="/usage"' in page(client, "/overview")
    assert 'href="/overview"' in page(client)


def test_nine_stacked_series_are_told_apart():
    slots = graphs.days(NOW.date(), 1)
    series = [graphs.Series(str(number), [number + 1]) for number in range(graphs.MOST_STACKED)]

    drawn = graphs.bars("x", slots, series, title="", words="", show=str)

    assert [piece.look for piece in drawn.stacks[0].pieces] == list(range(9))
    with pytest.raises(ValueError, match="told apart"):
        graphs.bars("x", slots, [*series, *series], title="", words="", show=str)
