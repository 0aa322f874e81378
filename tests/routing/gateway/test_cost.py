"""One cost, told in five places, equal to the nano-dollar."""

from __future__ import annotations

import json
import re

import pytest

from tests.routing.gateway.caller import HELLO

pytestmark = pytest.mark.xdist_group("gateway")


def receipt(caller, generation_id):
    return caller.http.get("/generation", params={"id": generation_id}).json()["data"]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("model", ["sandbox/instant", "sandbox/pebble", "sandbox/oracle"])
def test_every_book_says_the_same(caller, desk, sandbox, streamed, model):
    if streamed:
        stream = caller.stream(model, max_tokens=20)
        usage, generation_id = stream.usage, stream.chunks[0]["id"]
    else:
        answer = caller.chat(model, max_tokens=20).json()
        usage, generation_id = answer["usage"], answer["id"]

    shown = receipt(caller, generation_id)
    (row,) = desk.await_generations(caller.organization, 1, posted=True)
    grant, posting = desk.postings(caller.organization)
    wallet = desk.await_no_holds(caller.organization)

    charge = sandbox.charge(row["upstream_id"])
    assert charge > 0
    assert row["id"] == generation_id and row["streamed"] is streamed
    assert usage["cost_nanos"] == charge
    assert shown["cost_nanos"] == charge
    assert row["charge_nanos"] == charge
    assert abs(posting["entries"]["wallet"]) == charge
    assert sum(posting["entries"].values()) == 0
    assert wallet.funds == 10 * 10**9 - charge == wallet.credit - wallet.spent
    assert receipt(caller, generation_id)["cost_nanos"] == charge
    assert posting["id"] == row["posting_id"] != grant["id"]


def test_the_cost_is_a_plain_decimal_literal(caller):
    text = caller.chat("sandbox/instant", max_tokens=1, messages=[{"role": "user", "content": "a"}]).text

    literal = re.search(r'"cost":([^,}]+)', text)
    assert literal is not None and re.fullmatch(r"0\.0*[1-9][0-9]*", literal[1]), text
    nanos = json.loads(text)["usage"]["cost_nanos"]
    assert literal[1] == f"{nanos / 10**9:.9f}".rstrip("0")


def test_cached_tokens_are_billed_at_their_own_price(caller, desk, sandbox):
    long = [{"role": "user", "content": "The same long beginning. " * 200}]

    first = caller.chat("sandbox/summit", max_tokens=2, messages=long, route_preference="cost").json()[
        "usage"
    ]
    second = caller.chat("sandbox/summit", max_tokens=2, messages=long, route_preference="cost").json()[
        "usage"
    ]
    rows = desk.await_generations(caller.organization, 2)

    assert second["prompt_tokens_details"]["cached_tokens"] > 0
    assert second["cost_nanos"] < first["cost_nanos"]
    assert [row["charge_nanos"] for row in rows] == [sandbox.charge(row["upstream_id"]) for row in rows]


def test_the_hold_covers_the_bill_and_the_rest_comes_back(caller, desk):
    cost = caller.chat("sandbox/instant", max_tokens=500).json()["usage"]["cost_nanos"]

    wallet = desk.await_no_holds(caller.organization)

    assert (wallet.spent, wallet.credit - wallet.spent) == (cost, 10 * 10**9 - cost)


def test_both_prefixes_are_one_product(caller, desk):
    other = caller.api_base.replace("/api/v1", "/v1")

    answer = caller.http.post(f"{other}/chat/completions", json=caller.body())
    told = caller.http.get(f"{other}/generation", params={"id": answer.json()["id"]})

    assert answer.status_code == 200
    assert told.json()["data"]["cost_nanos"] == answer.json()["usage"]["cost_nanos"]
    assert caller.http.get(f"{other}/models").json() == caller.http.get("/models").json()
    desk.await_generations(caller.organization, 1)


def test_several_choices_are_one_bill(caller, desk, sandbox):
    stream = caller.stream("sandbox/pebble", n=3, max_tokens=5)

    (row,) = desk.await_generations(caller.organization, 1)
    assert stream.done
    assert {choice["index"] for chunk in stream.chunks for choice in chunk["choices"]} == {0, 1, 2}
    assert stream.usage["cost_nanos"] == row["charge_nanos"] == sandbox.charge(row["upstream_id"])


def test_a_receipt_is_only_for_its_own_organization(caller, desk, running):
    generation_id = caller.chat().json()["id"]
    stranger, _ = desk.key(desk.open())

    answer = caller.http.get(
        "/generation", params={"id": generation_id}, headers={"Authorization": f"Bearer {stranger}"}
    )

    assert answer.status_code == 404


def test_the_route_is_shown_to_who_asks(caller):
    answer = caller.chat("auto", route="show", route_preference="cost", max_tokens=4).json()
    stream = caller.stream("auto", route=True, max_tokens=4)

    assert answer["route"]["preference"] == "cost"
    assert answer["route"]["candidates"][0]["endpoint"] == answer["route"]["chosen"]
    assert stream.chunks[-1]["route"]["served"] == stream.headers["x-fairlead-endpoint"]
    assert "route" not in caller.chat().json()


def test_the_usage_chunk_is_always_sent_once_and_last(caller):
    for fields in ({}, {"stream_options": {"include_usage": True}}, {"stream_options": None}):
        stream = caller.stream(messages=HELLO, **fields)
        assert stream.done and stream.chunks[-1]["usage"] == stream.usage
        assert all(not chunk.get("usage") for chunk in stream.chunks[:-1])
