"""Hard budgets of organization, member and end user: each its own 402, in force at once everywhere."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from tests.faults.load import Customer, Log, call
from tests.routing.gateway.caller import Caller, error_of
from tests.routing.gateway.test_credit import SLOW, held_by_one, parallel
from tests.routing.gateway.test_workers_that_are_killed import workers
from tests.workers import lines_to_each

pytestmark = pytest.mark.xdist_group("gateway")

TYPES = {
    "organization": "organization_budget_exceeded",
    "member": "member_budget_exceeded",
    "end_user": "end_user_budget_exceeded",
}
EVE = {"user": "eve: of {the} day:1 ☂", "max_tokens": 5}


@pytest.fixture
def house(running, desk):
    """An organization with ten dollars, and the key of one of its members."""
    organization = desk.open(usd="10")
    text, public_id = desk.key(organization, member=f"ada@{organization.slug}.example")
    with Caller(running.api_base, text, key_id=public_id, organization=organization) as made:
        yield made


def metadata_of(answer):
    return answer.json()["error"]["metadata"]


@pytest.mark.parametrize("kind", TYPES)
def test_each_kind_of_budget_has_an_error_of_its_own_that_says_all(house, desk, kind):
    budget = desk.set_budget(house.organization, kind=kind, window="day", limit_nanos=3)
    today = datetime.now(tz=UTC)
    refused = house.chat(**EVE)

    assert error_of(refused) == (402, TYPES[kind])
    said = metadata_of(refused)
    ends = [(day + timedelta(days=1)).date().isoformat() for day in (today, datetime.now(tz=UTC))]
    assert (said["limit"], said["left"], said["window"]) == ("0.000000003", "0.000000003", "day")
    assert said["resets_at"] in [f"{tomorrow}T00:00:00+00:00" for tomorrow in ends]
    assert said["changed_by"] == ["owner", "admin"] and said["page"].endswith("/budgets")
    assert (said["affordable_tokens"], said["requested_tokens"]) == (0, 5)
    assert said.get("end_user") == (EVE["user"] if kind == "end_user" else None)
    anonymous = house.chat(max_tokens=5)
    assert anonymous.status_code == (200 if kind == "end_user" else 402)

    desk.change_budget(house.organization, budget, 10**9)
    assert house.chat(**EVE).status_code == 200
    desk.change_budget(house.organization, budget, 0)
    assert error_of(house.chat(**EVE)) == (402, TYPES[kind])
    desk.change_budget(house.organization, budget, None)
    assert house.chat(**EVE).status_code == 200


def test_people_are_told_of_a_refusal_though_nothing_is_used(house, desk):
    desk.set_budget(house.organization, kind="member", window="day", limit_nanos=3)
    assert desk.budget_alerts(house.organization) == []

    assert house.chat(**EVE).status_code == 402

    until_told(desk, house.organization)


def test_people_are_told_of_a_stream_that_was_cut_as_they_are_of_a_refusal(house, desk):
    desk.change(house.key_id, limit_nanos=40_000, limit_window="day")

    assert house.stream("sandbox/stream-100").finish == "length"

    until_told(desk, house.organization)


def until_told(desk, organization):
    """That calls were refused: at the end of the budget, or well before it."""
    until = time.monotonic() + 30
    while not {0, 100}.intersection(desk.budget_alerts(organization)):
        assert time.monotonic() < until, "the refusal was not told"
        time.sleep(0.2)


def test_the_keys_own_limit_says_as_much_and_keeps_its_type(house, desk):
    desk.change(house.key_id, limit_nanos=3, limit_window="total")
    said = metadata_of(refused := house.chat(max_tokens=5))

    assert error_of(refused) == (402, "key_limit_exceeded")
    assert (said["limit"], said["window"], said["limit_window"]) == ("0.000000003", "total", "total")
    assert said["resets_at"] is None and "creator" in said["changed_by"]


def test_what_was_charged_counts_for_each_of_its_budgets(house, desk):
    cost = house.chat(**EVE).json()["usage"]["cost_nanos"]
    (row,) = desk.await_generations(house.organization, 1)
    assert row["end_user"] == EVE["user"]
    for kind in TYPES:
        budget = desk.set_budget(house.organization, kind=kind, window="month", limit_nanos=cost)
        refused = house.chat(**EVE)
        assert error_of(refused) == (402, TYPES[kind]) and metadata_of(refused)["left"] == "0"
        desk.change_budget(house.organization, budget, 10**9)

    other = f"bob@{house.organization.slug}.example"
    text, public_id = desk.key(house.organization, member=other)
    desk.set_budget(house.organization, kind="member", window="month", limit_nanos=0, member=other)
    with Caller(house.api_base, text, key_id=public_id, organization=house.organization) as bob:
        assert error_of(bob.chat(**EVE)) == (402, TYPES["member"])
    assert house.chat(**EVE).status_code == 200


@pytest.mark.parametrize("kind", TYPES)
def test_fifty_at_once_where_the_budget_covers_five(running, house, desk, kind):
    hold = held_by_one(running, desk, SLOW)
    desk.set_budget(house.organization, kind=kind, window="week", limit_nanos=6 * hold - 1)
    answers = parallel(house, 50, SLOW | {"user": "eve"})

    assert Counter(answer.status_code for answer in answers) == {200: 5, 402: 45}
    assert {error_of(answer)[1] for answer in answers if answer.status_code == 402} == {TYPES[kind]}


def test_a_change_is_in_force_at_the_next_call_of_every_worker(running, house, desk):
    customer = Customer(house.organization, house.text, house.key_id)
    with lines_to_each(running.api_base, workers(running)) as lines:
        assert len(lines) == 2

        def statuses():
            said = [call(running.api_base, customer, Log(), max_tokens=5, at=line) for line in lines]
            return {entry.status for entry in said}

        assert statuses() == {200}
        for kind in TYPES:
            budget = desk.set_budget(house.organization, kind=kind, window="total", limit_nanos=1)
            assert statuses() == {402}
            desk.change_budget(house.organization, budget, 10**9)
            assert statuses() == {200}
            desk.change_budget(house.organization, budget, 1)
            assert statuses() == {402}
            desk.change_budget(house.organization, budget, None)
            assert statuses() == {200}


def test_without_max_tokens_an_answer_is_cut_to_what_the_tightest_budget_affords(house, desk):
    desk.set_budget(house.organization, kind="organization", window="day", limit_nanos=900_000)
    desk.set_budget(house.organization, kind="end_user", window="day", limit_nanos=600_000)
    desk.set_budget(house.organization, kind="member", window="day", limit_nanos=700_000)

    answer = house.chat("sandbox/swallow", user="eve")

    assert answer.status_code == 200
    assert int(answer.headers["x-fairlead-max-tokens"]) > 0
    assert answer.json()["usage"]["cost_nanos"] <= 600_000


@pytest.mark.parametrize("kind", TYPES)
def test_a_stream_that_meets_a_budget_is_cut_and_says_which(house, desk, kind):
    desk.set_budget(house.organization, kind=kind, window="month", limit_nanos=40_000)
    stream = house.stream("sandbox/stream-100", user="eve")

    assert stream.done and stream.finish == "length"
    (notice,) = [chunk["notice"] for chunk in stream.chunks if "notice" in chunk]
    assert (notice["type"], notice["window"]) == (TYPES[kind], "month") and notice["resets_at"]
    assert 0 < stream.usage["cost_nanos"] <= 40_000


@pytest.mark.parametrize(
    "user", ["a" * 257, "a\nb", "\u0000", "tab\t", "\u0085"], ids=["long", "line", "nul", "tab", "c1"]
)
def test_a_user_that_cannot_be_kept_is_refused_by_name(caller, user):
    refused = caller.chat(user=user)

    assert error_of(refused) == (400, "invalid_request")
    assert refused.json()["error"]["param"] == "user"


def test_the_user_travels_on_to_the_provider(caller, desk, sandbox):
    name = "é" * 256
    assert caller.chat(user=name).status_code == 200
    (row,) = desk.await_generations(caller.organization, 1)

    assert row["end_user"] == name
    (call,) = sandbox.bill(id=row["upstream_id"])["calls"]
    assert call["user"] == name
