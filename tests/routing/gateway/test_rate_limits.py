"""A key's requests a minute: smooth, shared by all workers, told in headers."""

from __future__ import annotations

import time

import pytest

from tests.routing.gateway.caller import error_of

pytestmark = pytest.mark.xdist_group("gateway")


def test_the_limit_is_kept_and_told(caller, desk):
    desk.change(caller.key_id, requests_per_minute=5)

    answers = [caller.chat(max_tokens=2) for _ in range(5)]
    refused = caller.chat(max_tokens=2)

    assert [answer.status_code for answer in answers] == [200] * 5
    left = [int(answer.headers["x-ratelimit-remaining"]) for answer in answers]
    assert left == sorted(left, reverse=True) and left[-1] == 0
    assert {answer.headers["x-ratelimit-limit"] for answer in answers} == {"5"}
    assert error_of(refused) == (429, "rate_limit_exceeded")
    assert (refused.headers["x-ratelimit-limit"], refused.headers["x-ratelimit-remaining"]) == ("5", "0")
    assert 1 <= int(refused.headers["retry-after"]) <= 12
    assert 0 < refused.json()["error"]["metadata"]["retry_after_ms"] <= 12_000


def test_it_lets_the_next_one_through_when_it_said_so(caller, desk):
    desk.change(caller.key_id, requests_per_minute=60)
    while (answer := caller.chat(max_tokens=1)).status_code == 200:
        continue

    time.sleep(answer.json()["error"]["metadata"]["retry_after_ms"] / 1000 + 0.01)

    assert caller.chat(max_tokens=1).status_code == 200


def test_a_refused_request_costs_nothing_and_holds_nothing(caller, desk):
    desk.change(caller.key_id, requests_per_minute=1)
    cost = caller.chat(max_tokens=2).json()["usage"]["cost_nanos"]
    assert caller.stream(max_tokens=2).status == 429

    desk.await_generations(caller.organization, 1)
    assert desk.await_no_holds(caller.organization).spent == cost


def test_a_key_without_a_limit_says_nothing_of_one(caller):
    assert "x-ratelimit-limit" not in caller.chat(max_tokens=1).headers


def test_another_key_has_a_limit_of_its_own(caller, desk):
    desk.change(caller.key_id, requests_per_minute=1)
    other, _ = desk.key(caller.organization, requests_per_minute=1)
    assert [caller.chat(max_tokens=1).status_code for _ in range(2)] == [200, 429]

    answer = caller.http.post(
        "/chat/completions", json=caller.body(max_tokens=1), headers={"Authorization": f"Bearer {other}"}
    )

    assert answer.status_code == 200
