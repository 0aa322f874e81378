"""Many calls at once while providers are down: what is asked of those, and who is served all the same.

Every promise is counted twice, by what the callers heard and by what the sandbox heard.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from urllib.parse import urlsplit

import pytest

from tests.routing.gateway.caller import HELLO

pytestmark = pytest.mark.xdist_group("outside")

AT_ONCE = 32
DOWN = {"failure": 1, "status": 500}
_numbers = itertools.count()


@pytest.fixture
def three(desk, running, sandbox):
    """A model at three providers of this test's own, the one that is named first the cheapest."""
    number = next(_numbers)
    model, providers = f"crowd/{number}", [f"crowd-{number}{letter}" for letter in "abc"]
    prices = [{"input": f"0.{place}0", "output": "0.90"} for place in (1, 2, 3)]

    def conditions(*said):
        """What holds at each of the three, by its place."""
        offers = [
            {"provider": provider, "model": "m", "prices": price, "ttft_ms": 2, "tokens_per_second": 1000}
            | {"tokens": 4}
            for provider, price in zip(providers, prices, strict=True)
        ]
        held = [{"provider": provider} | one for provider, one in zip(providers, said, strict=True) if one]
        body = {"seed": 1, "offers": offers, "conditions": held}
        assert sandbox.http.post(f"{sandbox.url}/_sandbox/conditions", json=body).status_code == 200

    conditions(None, None, None)
    stated = [
        {"provider": provider, "upstream_name": "m", "prices": price, "ttft_ms": 20}
        | {"tokens_per_second": 500}
        for provider, price in zip(providers, prices, strict=True)
    ]
    desk.list_models({model: stated})
    until = time.monotonic() + 60
    while model not in {found["id"] for found in _models(sandbox, running)}:
        assert time.monotonic() < until
        time.sleep(0.1)
    yield model, providers, conditions
    sandbox.http.post(f"{sandbox.url}/_sandbox/reset")


def _models(sandbox, running):
    return sandbox.http.get(f"{running.api_base}/models").json()["data"]


def ask_many(caller, model, count, *, at_once=AT_ONCE, **fields):
    """(status, head and body) of each call."""
    where = urlsplit(caller.api_base)
    said = {"model": model, "messages": HELLO, "max_tokens": 4, "route_preference": "cost", **fields}
    body = json.dumps(said).encode()
    head = (
        f"POST {where.path}/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {caller.text}\r\n"
        f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )

    async def ask(places):
        async with places, asyncio.timeout(60):
            reader, writer = await asyncio.open_connection(where.hostname, where.port)
            writer.write(head.encode() + body)
            answer = await reader.read(-1)
            writer.close()
            return int(answer.split(b" ", 2)[1]), answer

    async def all_of_them():
        places = asyncio.Semaphore(at_once)
        return await asyncio.gather(*(ask(places) for _ in range(count)))

    return asyncio.run(all_of_them())


def heard(sandbox, providers):
    """How many calls each of the providers has seen."""
    until = time.monotonic() + 60
    while any(call["provider"] in providers for call in sandbox.calls()["in_flight"]):
        assert time.monotonic() < until
        time.sleep(0.05)
    return [sandbox.bill(provider=provider)["count"] for provider in providers]


@pytest.mark.parametrize("stream", [False, True])
def test_with_one_of_three_up_every_call_is_served(caller, sandbox, three, stream):
    """From cold, and the two that are down are the first choices."""
    model, providers, conditions = three
    conditions(DOWN, DOWN, None)

    answers = ask_many(caller, model, 300, stream=stream)

    seen = heard(sandbox, providers)
    print(f"one of three up: heard {seen} for 300")
    assert Counter(status for status, _ in answers) == {200: 300}
    assert seen[2] == 300
    assert sum(seen) <= 1.2 * 300


def test_with_everything_down_providers_hear_at_most_a_fifth_more_than_was_asked(caller, sandbox, three):
    model, providers, conditions = three
    conditions(DOWN, DOWN, DOWN)

    answers = ask_many(caller, model, 500)

    seen = heard(sandbox, providers)
    print(f"all down: heard {seen} for 500")
    assert Counter(status for status, _ in answers) == {502: 500}
    assert 500 <= sum(seen) <= 1.2 * 500
    assert all(b'"provider_unavailable"' in answer for _, answer in answers)


def test_rate_limits_everywhere_are_told_with_the_time_to_wait(caller, sandbox, three):
    model, providers, conditions = three
    limited = {"failure": 1, "status": 429, "retry_after": 9}
    conditions(limited, limited, limited)

    answers = ask_many(caller, model, 200)

    seen = heard(sandbox, providers)
    print(f"all limited: heard {seen} for 200")
    assert Counter(status for status, _ in answers) == {429: 200}
    assert all(b"retry-after: 9\r\n" in answer.lower() for _, answer in answers)
    assert sum(seen) <= 1.2 * 200


def test_with_everything_hanging_each_call_ends_in_time_and_few_are_sent_twice(caller, sandbox, three):
    model, providers, conditions = three
    conditions(*[{"hang": True}] * 3)
    began = time.monotonic()

    answers = ask_many(caller, model, 64, at_once=64, stream=True)

    seconds = time.monotonic() - began
    sandbox.http.post(f"{sandbox.url}/_sandbox/conditions", json={})
    seen = heard(sandbox, providers)
    print(f"all hang: heard {seen} for 64 in {seconds:.1f} s")
    assert all(b'"timeout"' in answer for _, answer in answers)
    assert sum(seen) <= 1.4 * 64  # a few of each find out, then nobody
    assert seconds < 20


def test_one_that_comes_back_is_probed_by_single_calls_and_then_used(caller, sandbox, three):
    model, providers, conditions = three
    conditions(DOWN, None, None)
    ask_many(caller, model, 40)
    down = heard(sandbox, providers)[0]
    conditions(None, None, None)

    until, seen = time.monotonic() + 60, [0]
    while seen[0] < down + 20:
        assert time.monotonic() < until, "it is not the first choice again"
        answers = ask_many(caller, model, 20)
        assert Counter(status for status, _ in answers) == {200: 20}
        seen = heard(sandbox, providers)
        time.sleep(0.2)
    print(f"heard {down} of 40 while it was down")
    assert down <= 40


@pytest.mark.parametrize(("num_retries", "sent"), [(0, 1), (1, 2), (2, 3)])
def test_a_caller_may_want_fewer_retries(caller, sandbox, three, num_retries, sent):
    model, providers, conditions = three
    conditions(DOWN, DOWN, DOWN)

    ((status, answer),) = ask_many(caller, model, 1, num_retries=num_retries)

    assert status == 502
    assert sum(heard(sandbox, providers)) == sent
    assert answer.count(b'"failure"') == sent


def test_the_only_endpoint_is_asked_again_after_a_pause(caller, desk, sandbox):
    """Half of its calls fail, by chance, and there is no other: until it rests it is tried again."""
    calls = 20
    answers = ask_many(caller, "strange/flapping", calls, at_once=1)

    rows = desk.await_generations(caller.organization, calls)
    failed = {row["id"]: row["decision"]["attempts"] for row in rows}
    rescued = [row for row in rows if row["status"] == "completed" and failed[row["id"]]]
    waits = [tried["wait"] for attempts in failed.values() for tried in attempts if "wait" in tried]
    print(f"served {[status for status, _ in answers].count(200)}, {len(rescued)} later, waited {waits}")
    assert rescued or waits, "the first call that failed was tried again"
    assert all(wait > 0 for wait in waits)
    assert len(rescued) + len(waits) <= max(calls / 5, 3) + 1
