"""Credit is never spent twice: wallets, a key's spend limit, clamps, and holds that grow."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from decimal import Decimal
from http.client import HTTPConnection
from urllib.parse import urlsplit

import httpx
import pytest

from billing.core.money import usd
from tests.routing.gateway.caller import HELLO, Caller, error_of

pytestmark = pytest.mark.xdist_group("gateway")

SLOW = {"model": "sandbox/oracle", "messages": HELLO, "max_tokens": 8}
"""Takes over a second, so that all calls are under way at once."""


def parallel(caller, count, body):
    """As many calls at once: all are asked, each on a line of its own, before any answer is read."""
    where, answers = urlsplit(caller.api_base), []
    headers = {"Authorization": f"Bearer {caller.text}", "Content-Type": "application/json"}
    with contextlib.ExitStack() as stack:
        lines = [HTTPConnection(where.hostname, where.port, timeout=60) for _ in range(count)]
        for line in lines:
            stack.callback(line.close)
            line.connect()
        for line in lines:
            line.request("POST", f"{where.path}/chat/completions", json.dumps(body), headers)
        for line in lines:
            answer = line.getresponse()
            answers.append(httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read()))
    return answers


def held_by_one(running, desk, body):
    """What the gate holds for one call of this kind, seen while such a call is under way."""
    organization = desk.open(usd="10")
    text, public_id = desk.key(organization)
    with Caller(running.api_base, text, key_id=public_id, organization=organization) as caller:
        call = threading.Thread(target=caller.http.post, args=("/chat/completions",), kwargs={"json": body})
        call.start()
        held = 0
        while call.is_alive() and not held:
            held = desk.wallet(organization).held
        call.join()
    assert held > 0
    return held


def test_two_hundred_at_once_where_ten_are_covered(running, desk):
    hold = held_by_one(running, desk, SLOW)
    organization = desk.open(usd=usd(10 * hold + hold - 1))
    text, public_id = desk.key(organization)
    with Caller(running.api_base, text, key_id=public_id, organization=organization) as caller:
        answers = parallel(caller, 200, SLOW)

    assert Counter(answer.status_code for answer in answers) == {200: 10, 402: 190}
    charged = 0
    for answer in answers:
        if answer.status_code == 200:
            charged += answer.json()["usage"]["cost_nanos"]
        else:
            assert error_of(answer) == (402, "insufficient_credits")
            assert 0 <= answer.json()["error"]["metadata"]["affordable_tokens"] < 8
    rows = desk.await_generations(organization, 10, posted=True)
    wallet = desk.await_no_holds(organization)
    assert sum(row["charge_nanos"] for row in rows) == charged
    assert wallet.funds == 11 * hold - 1 - charged == wallet.credit - wallet.spent
    assert desk.breaches() == []


def test_fifty_at_once_where_the_keys_limit_covers_five(running, desk):
    hold = held_by_one(running, desk, SLOW)
    organization = desk.open(usd="10")
    text, public_id = desk.key(organization, limit_nanos=6 * hold - 1, limit_window="day")
    other, _ = desk.key(organization)
    with Caller(running.api_base, text, key_id=public_id, organization=organization) as caller:
        answers = parallel(caller, 50, SLOW)
        others = caller.http.post(
            "/chat/completions", json=caller.body(), headers={"Authorization": f"Bearer {other}"}
        )

    assert Counter(answer.status_code for answer in answers) == {200: 5, 402: 45}
    refused = next(answer for answer in answers if answer.status_code == 402)
    assert error_of(refused) == (402, "key_limit_exceeded")
    assert refused.json()["error"]["metadata"]["limit_window"] == "day"
    assert others.status_code == 200


def test_a_raised_limit_is_in_force_at_once(caller, desk):
    desk.change(caller.key_id, limit_nanos=1)
    assert error_of(caller.chat(max_tokens=5)) == (402, "key_limit_exceeded")

    desk.change(caller.key_id, limit_nanos=10**9)
    assert caller.chat(max_tokens=5).status_code == 200

    desk.change(caller.key_id, limit_nanos=1)
    assert error_of(caller.chat(max_tokens=5)) == (402, "key_limit_exceeded")

    desk.change(caller.key_id, limit_nanos=None)
    assert caller.chat(max_tokens=5).status_code == 200


def test_what_a_key_has_spent_counts_towards_a_limit_set_later(caller, desk):
    cost = caller.chat(max_tokens=16).json()["usage"]["cost_nanos"]
    desk.await_generations(caller.organization, 1)

    desk.change(caller.key_id, limit_nanos=cost)

    assert error_of(caller.chat(max_tokens=16)) == (402, "key_limit_exceeded")
    assert caller.http.get("/key").json()["data"]["limit_remaining"] == 0


def test_the_affordable_number_of_tokens_is_just_affordable(running, desk):
    organization = desk.open(usd="0.0005")
    text, public_id = desk.key(organization)
    with Caller(running.api_base, text, key_id=public_id, organization=organization) as caller:
        refused = caller.chat("sandbox/swallow", max_tokens=5000)
        most = refused.json()["error"]["metadata"]["affordable_tokens"]

        assert error_of(refused) == (402, "insufficient_credits") and most > 0
        assert caller.chat("sandbox/swallow", max_tokens=most + 1).status_code == 402
        assert caller.chat("sandbox/swallow", max_tokens=most).status_code == 200


def test_an_empty_wallet(running, desk):
    organization = desk.open(usd="0")
    text, public_id = desk.key(organization)
    with Caller(running.api_base, text, key_id=public_id, organization=organization) as caller:
        for answer in (caller.chat(), caller.chat(max_tokens=1), caller.chat("auto")):
            assert error_of(answer) == (402, "insufficient_credits")
            assert answer.json()["error"]["metadata"]["affordable_tokens"] == 0
        assert caller.stream().status == 402

        desk.grant(organization, "1")
        assert caller.chat().status_code == 200


def test_without_max_tokens_a_plain_call_is_clamped_to_what_is_affordable(running, desk, sandbox):
    organization = desk.open(usd="0.002")
    text, public_id = desk.key(organization)
    with Caller(running.api_base, text, key_id=public_id, organization=organization) as caller:
        answer = caller.chat("sandbox/swallow")

    assert answer.status_code == 200
    clamp = int(answer.headers["x-fairlead-max-tokens"])
    assert 16 <= clamp < 8192
    assert answer.json()["usage"]["completion_tokens"] <= clamp
    (row,) = desk.await_generations(organization, 1)
    assert "max_tokens" in sandbox.bill(id=row["upstream_id"])["calls"][0]["fields"]


def test_a_rich_wallet_clamps_nothing(caller):
    assert "x-fairlead-max-tokens" not in caller.chat("sandbox/swallow").headers


def test_a_stream_ends_where_the_credit_does(running, desk, sandbox):
    """No `max_tokens`: a first slice is held; with no credit to grow it, the answer is cut and says so."""
    organization = desk.open(usd="0.00004")
    text, public_id = desk.key(organization)
    with Caller(running.api_base, text, key_id=public_id, organization=organization) as caller:
        stream = caller.stream("sandbox/stream-100")

    assert stream.done and stream.finish == "length"
    assert [chunk["notice"]["type"] for chunk in stream.chunks if "notice" in chunk] == ["credit_exhausted"]
    (row,) = desk.await_generations(organization, 1, posted=True)
    assert 0 < row["charge_nanos"] == stream.usage["cost_nanos"] <= 40_000
    assert (row["status"], row["finish_reason"]) == ("completed", "length")
    assert desk.await_no_holds(organization).funds == 40_000 - row["charge_nanos"]
    (call,) = sandbox.bill(id=row["upstream_id"])["calls"]
    assert call["ending"] == "client_closed" and call["usage"]["completion_tokens"] < 100


def test_every_choice_is_told_that_the_credit_has_ended(running, desk):
    organization = desk.open(usd="0.0001")
    text, public_id = desk.key(organization)
    with Caller(running.api_base, text, key_id=public_id, organization=organization) as caller:
        stream = caller.stream("sandbox/stream-100", n=3)

    (notice,) = [chunk for chunk in stream.chunks if "notice" in chunk]
    assert [(choice["index"], choice["finish_reason"]) for choice in notice["choices"]] == [
        (0, "length"),
        (1, "length"),
        (2, "length"),
    ]
    assert stream.done and notice["notice"]["type"] == "credit_exhausted"
    (row,) = desk.await_generations(organization, 1, posted=True)
    assert 0 < row["charge_nanos"] == stream.usage["cost_nanos"] <= 100_000
    assert row["output"] < 300 and desk.await_no_holds(organization).funds == 100_000 - row["charge_nanos"]


def test_a_tool_call_is_cut_where_the_credit_ends(running, desk):
    organization = desk.open(usd="0.00041")
    text, public_id = desk.key(organization)
    names = {f"field_number_{number}": {"type": "string"} for number in range(80)}
    function = {"name": "fill_in", "parameters": {"type": "object", "properties": names}}
    tool = {"type": "function", "function": function}
    with Caller(running.api_base, text, key_id=public_id, organization=organization) as caller:
        stream = caller.stream(
            "sandbox/harbor", tools=[tool], tool_choice="required", route_preference="cost"
        )

    assert stream.status == 200, stream.raw
    (notice,) = [chunk for chunk in stream.chunks if "notice" in chunk]
    assert stream.done and stream.finish == "length"
    assert any(choice["delta"].get("tool_calls") for chunk in stream.chunks for choice in chunk["choices"])
    (row,) = desk.await_generations(organization, 1, posted=True)
    assert row["output"] > 0 and 0 < row["charge_nanos"] == stream.usage["cost_nanos"] <= 410_000
    assert desk.await_no_holds(organization).funds == 410_000 - row["charge_nanos"]


def test_a_wallet_that_others_empty_meanwhile_never_goes_below_zero(running, desk):
    organization = desk.open(usd="0.0003")
    text, public_id = desk.key(organization)
    body = {"model": "sandbox/stream-100", "messages": HELLO, "stream": True}
    with Caller(running.api_base, text, key_id=public_id, organization=organization) as caller:
        for _ in range(3):
            parallel(caller, 12, body)

    time.sleep(0.3)
    wallet = desk.await_no_holds(organization)
    assert wallet.funds >= 0
    assert Decimal(wallet.funds) < 300_000
    assert desk.breaches() == []
