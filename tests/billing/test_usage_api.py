"""`GET /usage`: exact sums by whatever is asked, of one organization alone."""

from __future__ import annotations

import itertools
import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import keys
from aggregator.lib import ids
from billing import posting
from billing.core.money import usd
from billing.explorer import answering, asking, courses
from billing.explorer.courses import Course
from billing.models import Generation
from tests.billing import books
from tests.billing.using import NOW, World, counted, expected, figures

SPAN = {"from": "2026-08-20", "to": "2026-11-18"}


@pytest.fixture
def world(db):
    with time_machine.travel(NOW, tick=False):
        yield World()


@pytest.fixture
def small(db):
    with time_machine.travel(NOW, tick=False):
        yield World(6)


# ── Sums ─────────────────────────────────────────────────────────────────────────────────────────

GROUPS = ["hour", "day", "month", "model", "provider", "endpoint", "key", "member"]
PAIRS = ["day,model", "month,key", "member,endpoint", "provider,hour", "key,model", "day,member"]


def test_every_grouping_is_the_sum_of_its_calls_to_the_nano_dollar(world):
    for group_by in [*GROUPS, *PAIRS]:
        groups = group_by.split(",")
        since = datetime(2026, 11, 12 if "hour" in groups or "day" in groups else 1, tzinfo=UTC)
        if "hour" not in groups and "day" not in groups:
            since = datetime(2026, 8, 20, tzinfo=UTC)
        until = datetime(2026, 11, 19, tzinfo=UTC)
        status, said = world.get(group_by=group_by, from_=f"{since:%Y-%m-%d}", to="2026-11-18", limit=1000)

        assert status == 200, said
        lines = {tuple(line[group] for group in groups): counted(line) for line in said["data"]}
        assert lines == expected(world, groups, since, until), group_by
        assert said["lines"] == len(said["data"]) == len(lines)
        everything = figures(list(filter(
            lambda call: since <= ids.uuid7_time(call.id), Generation.objects.of(world.organization)
        )))  # fmt: skip
        assert counted(said["totals"]) == everything


def test_amounts_are_plain_decimals_beside_their_nanos(small):
    _, said = small.get(group_by="model")

    for line in (*said["data"], said["totals"]):
        for name in ("base", "markup", "charge", "cache_savings"):
            assert line[name] == Decimal(usd(line[f"{name}_nanos"]))
        assert line["base"] + line["markup"] == line["charge"]


def test_filters_leave_what_they_say(world):
    for only, value in (
        ("model", "acme/swift"),
        ("provider", "a"),
        ("endpoint", "b:zoo/otter"),
        ("member", "ada@acme.example"),
        ("key", world.keys[2].public_id),
    ):
        _, said = world.get(group_by="month,endpoint", **SPAN, **{only: value}, limit=1000)
        lines = {(line["month"], line["endpoint"]): counted(line) for line in said["data"]}
        since = datetime(2026, 8, 20, tzinfo=UTC)

        assert lines == expected(
            world, ["month", "endpoint"], since, NOW + timedelta(days=1), **{only: value}
        ), only
        assert lines


def test_a_time_may_begin_and_end_at_any_hour_and_hold_whole_months(world):
    for since, until in (
        ("2026-08-29T23:00Z", "2026-11-18T05:00Z"),
        ("2026-10-01", "2026-10-31"),
        ("2026-11-18T01:00Z", "2026-11-18T03:00Z"),
        ("2026-11-17T13:00Z", "2026-11-18T04:00Z"),
    ):
        _, said = world.get(group_by="key", from_=since, to=until)
        begin, end = datetime.fromisoformat(said["from"]), datetime.fromisoformat(said["to"])
        lines = {(line["key"],): counted(line) for line in said["data"]}

        assert lines == expected(world, ["key"], begin, end), since
    assert (begin, end) == (datetime(2026, 11, 17, 13, tzinfo=UTC), datetime(2026, 11, 18, 4, tzinfo=UTC))


def test_end_users_have_requests_tokens_and_charge(world):
    _, said = world.get(group_by="end_user,month", from_="2026-08-20", to="2026-11-18")

    lines = {(line["end_user"], line["month"]): line for line in said["data"]}
    whole = expected(world, ["end_user", "month"], datetime(2026, 8, 20, tzinfo=UTC), NOW + timedelta(days=1))
    whole = {names: sums for names, sums in whole.items() if names[0]}
    assert lines.keys() == whole.keys()
    kept = ("requests", "prompt_tokens", "completion_tokens", "charge_nanos")
    for names, line in lines.items():
        assert {name: line[name] for name in kept} == {name: whole[names][name] for name in kept}
        assert line["base"] is None and line["failed"] is None
    one = world.get(group_by="day", end_user="ü2", from_="2026-08-20", to="2026-11-18")[1]
    assert one["totals"]["requests"] == sum(
        sums["requests"] for (name, _), sums in whole.items() if name == "ü2"
    )


def test_an_organization_without_a_call_hears_zeros_and_nulls_only_where_nothing_is_kept(db):
    with time_machine.travel(NOW, tick=False):
        empty = World(0)
        _, said = empty.get()
        _, users = empty.get(group_by="end_user")

    assert (said["data"], said["next"], said["totals"]["charge_nanos"]) == ([], None, 0)
    assert users["totals"]["requests"] == 0 and users["totals"]["base"] is None


# ── Pages ────────────────────────────────────────────────────────────────────────────────────────


def pages(world: World, **asked: object) -> list[list[dict]]:
    found, after = [], None
    while True:
        said = world.get(**asked, **({"after": after} if after else {}))[1]
        found.append(said["data"])
        after = said["next"]
        if not after:
            return found


def test_pages_hold_every_line_once_in_order(world):
    for sort in ("name", "-name", "charge", "-charge", "-requests", "tokens", "-failed"):
        in_order(world, sort)


def in_order(world: World, sort: str) -> None:
    asked = {"group_by": "endpoint,day", "from_": "2026-08-25", "to": "2026-11-18", "sort": sort}
    whole = world.get(**asked, limit=1000)[1]["data"]
    found = pages(world, **asked, limit=7)

    assert [line for page in found for line in page] == whole
    assert len(found) == -(-len(whole) // 7) > 3
    names = [(line["endpoint"] or "", line["day"]) for line in whole]
    if "name" in sort:
        assert names == sorted(names, reverse=sort.startswith("-"))
    else:
        value = {"tokens": lambda line: line["prompt_tokens"] + line["completion_tokens"]}.get(
            sort.lstrip("-"), lambda line: line[sort.lstrip("-").replace("charge", "charge_nanos")]
        )
        sign = -1 if sort.startswith("-") else 1
        placed = [(sign * value(line), name) for line, name in zip(whole, names, strict=True)]
        assert placed == sorted(placed)


def test_calls_that_come_while_one_pages_move_no_line_from_page_to_page(world):
    asked = {"group_by": "day,model", "from_": "2026-08-25", "to": "2026-11-18", "limit": 5}
    before = {(line["day"], line["model"]) for page in pages(world, **asked) for line in page}
    seen, after, price = [], None, books.make_price()
    for number in itertools.count():
        said = world.get(**asked, **({"after": after} if after else {}))[1]
        seen += [(line["day"], line["model"]) for line in said["data"]]
        for day in (0, 2, 45):  # also among what was shown already
            books.deliver(world.keys[0], price, at=NOW - timedelta(days=day), model=f"new/{number}")
        if number % 2:
            posting.post_generations()
        after = said["next"]
        if not after:
            break

    assert len(seen) == len(set(seen))
    assert before <= set(seen)


# ── Refusals ─────────────────────────────────────────────────────────────────────────────────────


REFUSED = [
    ({"group_by": "colour"}, "group_by"),
    ({"group_by": "day,model,key"}, "group_by"),
    ({"group_by": "day,day"}, "group_by"),
    ({"group_by": "hour,day"}, "group_by"),
    ({"group_by": ""}, "group_by"),
    ({"group_by": "end_user,model"}, "group_by"),
    ({"group_by": "end_user", "model": "acme/swift"}, "model"),
    ({"group_by": "model", "end_user": "u1"}, "group_by"),
    ({"group_by": "hour", "from": "2026-10-01"}, "from"),
    ({"group_by": "hour,key", "from": "2026-11-01"}, "from"),
    ({"group_by": "day,key", "from": "2026-01-01"}, "from"),
    ({"group_by": "day", "from": "2024-01-01"}, "from"),
    ({"group_by": "model", "from": "2021-01-01"}, "from"),
    ({"from": "yesterday"}, "from"),
    ({"from": "2026-11-02T10:30Z"}, "from"),
    ({"to": "2026-13-01"}, "to"),
    ({"to": "0001-01-01"}, "to"),
    ({"from": "2026-11-10", "to": "2026-11-09"}, "from"),
    ({"group_by": "end_user", "from": "2026-11-10T04:00Z"}, "from"),
    ({"sort": "colour"}, "sort"),
    ({"sort": "--charge"}, "sort"),
    ({"limit": "0"}, "limit"),
    ({"limit": "1001"}, "limit"),
    ({"limit": "-1"}, "limit"),
    ({"after": "nonsense"}, "after"),
    ({"after": "W10"}, "after"),
    ({"key": "key_nobody"}, "key"),
    ({"member": "nobody@acme.example"}, "member"),
    ({"model": "m" * 301}, "model"),
    ({"colour": "red"}, "colour"),
    ({"model": ["a", "b"]}, "model"),
]


def test_what_cannot_be_answered_is_refused_with_the_field_at_fault(small):
    for asked, param in REFUSED:
        status, said = small.get(**asked)
        error = said["error"]

        assert (status, error["type"], error.get("param")) == (400, "invalid_request", param), asked


def test_a_cursor_belongs_to_its_question(world):
    asked = {"group_by": "model", "from_": "2026-08-25", "limit": 1}
    after = world.get(**asked)[1]["next"]

    assert world.get(**asked, after=after)[0] == 200
    for other in ({"group_by": "endpoint"}, {"sort": "-charge"}):
        assert world.get(**{**asked, **other}, after=after)[1]["error"]["param"] == "after"


def test_only_a_management_key_may_ask(small):
    _, text = keys.create(small.organization, name="i", by="test")
    for path in ("/usage", "/activity"):
        answer = Client().get(f"/api/v1{path}", headers={"Authorization": f"Bearer {text}"})
        assert (answer.status_code, answer.json()["error"]["type"]) == (403, "forbidden_scope")
        assert Client().get(f"/api/v1{path}").status_code == 401


def test_another_organization_is_out_of_sight(small):
    theirs = books.make_key(books.make_organization("theirs"), "theirs")
    books.deliver(theirs, books.make_price(), at=NOW, model="their/secret", endpoint="x:their/secret",
                  end_user="theirs")  # fmt: skip
    for posted in (False, True):
        if posted:
            posting.post_generations()
        for group in ("model", "endpoint", "key", "end_user"):
            assert "their" not in json.dumps(small.get(group_by=group)[1], default=str)
        assert small.get(key=theirs.public_id)[1]["error"]["param"] == "key"
        assert "their" not in str(small.get("/activity")[1])


# ── Cost ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_course_of_the_biggest_and_the_rest_is_that_of_their_lines(world, monkeypatch):
    monkeypatch.setattr(courses, "BIGGEST", 1)
    figures = {"charge": "charge_nanos", "requests": "requests", "tokens": "tokens"}
    groups = ("model", "provider", "endpoint", "key", "member", "end_user")
    for group, unit, figure in itertools.product(groups, ("day", "month"), figures):
        question = asking.read({"group_by": group, "sort": f"-{figure}", "from": "2026-08-20"}, NOW)
        found = answering.answer(world.organization.pk, question, course=Course(unit, figure))
        lines = {line.names[0]: getattr(line.figures, figures[figure]) for line in found.lines}
        biggest = found.lines[0].names[0]
        assert found.biggest == (biggest,) and len(lines) > 1
        told = {
            name: sum(value for (_, each), value in found.course.items() if each == name)
            for name in (biggest, None)
        }
        assert told == {biggest: lines.pop(biggest), None: sum(lines.values())}, (group, unit, figure)
        assert len({slot for slot, _ in found.course}) > 2


def test_an_answer_is_one_statement_or_two_with_a_course_and_reads_calls_only_while_unposted(world):
    books.deliver_many(world.keys[0], books.make_price(), 3000)
    posting.post_generations()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE generations")
        cursor.execute("SET LOCAL enable_seqscan = off")  # of months with a handful of calls
        cursor.execute("SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%WHERE (posting_id IS NULL)'")
        of_unposted = {row[0] for row in cursor.fetchall()}
    for group_by in ("hour", "day,model", "key", "member,month", "end_user"):
        question = asking.read({"group_by": group_by}, NOW)
        with CaptureQueriesContext(connection) as asked:
            answering.answer(world.organization.pk, question)
        assert len(asked) == 1
        with CaptureQueriesContext(connection) as asked:
            answering.answer(world.organization.pk, question, course=Course("day", "charge"))
        *_, lines, course = (each["sql"] for each in asked if "UNION" in each["sql"])
        plan = ""
        with connection.cursor() as cursor:
            for statement in (lines, course):
                cursor.execute("EXPLAIN " + statement)
                plan += "\n".join(row[0] for row in cursor.fetchall())
        read = set(re.findall(r"(\w+) on generations_2026_11", plan))  # where the calls are: others are empty
        assert read and read <= of_unposted, plan
        assert "billing_enduser" in plan if group_by == "end_user" else "span" in plan
