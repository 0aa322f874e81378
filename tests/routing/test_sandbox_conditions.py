"""What a simulated provider does may change while it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from routing.sandbox.conditions import Conditions, Invalid
from tests.routing.sandboxes import AUTHORIZED, HTTP, Running, running

ASKED = [{"role": "user", "content": "How do lighthouses talk to ships?"}]
PRICES = {"input": "0.40", "output": "1.20"}
SCENE = {"provider": "sandbox-scene", "model": "m", "prices": PRICES, "ttft_ms": 80, "tokens_per_second": 200}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with running() as found:
        yield found


@pytest.fixture(autouse=True)
def _fresh(sandbox: Running) -> None:
    HTTP.post(f"{sandbox.base_url}/_sandbox/reset")


def post(sandbox: Running, *conditions: dict[str, Any], seed: int = 1) -> httpx.Response:
    said = {"seed": seed, "offers": [{**SCENE, "tokens": 8}], "conditions": list(conditions)}
    return HTTP.post(f"{sandbox.base_url}/_sandbox/conditions", json=said)


def statuses(sandbox: Running, count: int) -> list[int]:
    return [sandbox.post("sandbox-scene", model="m", messages=ASKED).status_code for _ in range(count)]


def held(*conditions: dict[str, Any]) -> Conditions:
    found = Conditions()
    found.post(json.dumps({"offers": [SCENE], "conditions": conditions}).encode(), 100.0)
    return found


def test_a_condition_holds_in_its_time_and_what_lies_over_each_other_adds_up():
    named = {"provider": "sandbox-scene", "model": "m"}
    dearer = {"input": "4", "output": "12"}
    conditions = held(
        {**named, "after": 5, "seconds": 10, "slowdown": 2},
        {"provider": "sandbox-scene", "after": 10, "slowdown": 3, "prices": dearer},
    )
    seen = {
        second: conditions.offer_in_force("sandbox-scene", "m", 100.0 + second) for second in (4, 5, 12, 15)
    }

    paces = {second: (offer.ttft_ms, round(offer.tokens_per_second, 2)) for second, offer in seen.items()}
    assert paces == {4: (80, 200), 5: (160, 100), 12: (480, 33.33), 15: (240, 66.67)}
    assert [offer.input for offer in seen.values()] == [Decimal(p) for p in ("0.40", "0.40", "4", "4")]
    assert conditions.offers_of("sandbox-scene", 112.0) == [seen[12]]


def test_a_price_in_force_is_billed_and_a_reset_forgets_it(sandbox: Running):
    dearer = {"input": "4", "output": "12"}
    assert post(sandbox, {"provider": "sandbox-scene", "prices": dearer}).json()["ok"] is True

    usage = sandbox.post("sandbox-scene", model="m", messages=ASKED).json()["usage"]

    bill = HTTP.get(f"{sandbox.base_url}/_sandbox/bill").json()
    cost = (4 * usage["prompt_tokens"] + 12 * usage["completion_tokens"]) / Decimal(1_000_000)
    assert Decimal(bill["total_usd"]) == cost and usage["completion_tokens"] == 8
    HTTP.post(f"{sandbox.base_url}/_sandbox/reset")
    assert statuses(sandbox, 1) == [404]


def test_failures_are_drawn_from_the_seed_alone(sandbox: Running):
    half = {"provider": "sandbox-scene", "model": "m", "failure": 0.5, "status": 503}
    post(sandbox, half)
    once = statuses(sandbox, 40)
    post(sandbox, half)
    again = statuses(sandbox, 40)
    post(sandbox, half, seed=2)
    other = statuses(sandbox, 40)

    assert once == again != other and 8 < once.count(503) < 32


def test_beyond_its_capacity_a_provider_answers_429_and_says_when_to_come_back(sandbox: Running):
    post(sandbox, {"provider": "sandbox-scene", "capacity": 3, "retry_after": 2})

    replies = [sandbox.post("sandbox-scene", model="m", messages=ASKED) for _ in range(5)]

    assert [reply.status_code for reply in replies] == [200, 200, 200, 429, 429]
    assert replies[-1].headers["retry-after"] == "2"
    conditions = held({"provider": "sandbox-scene", "capacity": 3})
    offer = conditions.offer_in_force("sandbox-scene", "m", 100.0)
    struck = [conditions.strike(offer, 100.0 + at / 5) is not None for at in range(10)]
    assert struck == [False, False, False, True, True, False, False, False, True, True]


def test_a_provider_that_hangs_takes_the_request_and_never_answers(sandbox: Running):
    post(sandbox, {"provider": "sandbox-scene", "hang": True})

    with pytest.raises(httpx.ReadTimeout):
        HTTP.post(
            sandbox.url("sandbox-scene"),
            json={"model": "m", "messages": ASKED},
            headers=AUTHORIZED,
            timeout=httpx.Timeout(30, read=0.2),
        )


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"provider": "sandbox-nowhere"}, "conditions[0].provider"),
        ({"provider": "sandbox-scene", "model": "other"}, "conditions[0].model"),
        ({"provider": "sandbox-scene", "failure": 1.5}, "conditions[0].failure"),
        ({"provider": "sandbox-scene", "status": 418}, "conditions[0].status"),
        ({"provider": "sandbox-scene", "slowdown": 0}, "conditions[0].slowdown"),
        ({"provider": "sandbox-scene", "prices": {"input": "NaN", "output": "1"}}, "prices.input"),
        ({"provider": "sandbox-scene", "prices": {"input": 1, "output": "-1"}}, "prices.output"),
        ({"provider": "sandbox-scene", "outage": True}, "conditions[0]"),
    ],
)
def test_a_set_that_makes_no_sense_is_refused_by_field_and_the_old_one_stays(
    sandbox: Running, wrong: dict[str, Any], param: str
):
    post(sandbox, {"provider": "sandbox-scene", "failure": 1.0})

    refused = post(sandbox, wrong)

    error = refused.json()["error"]
    assert (refused.status_code, error["type"]) == (400, "invalid_conditions")
    assert error["param"].endswith(param) and error["message"]
    shown = HTTP.get(f"{sandbox.base_url}/_sandbox/conditions").json()
    assert [said["failure"] for said in shown["in_force"]] == [1.0] and shown["passed"] >= 0
    assert statuses(sandbox, 1) == [500]


def test_what_is_not_json_is_refused():
    with pytest.raises(Invalid, match="not JSON"):
        Conditions().post(b"{", 0.0)
