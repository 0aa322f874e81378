"""Which fields travel to the provider, which are ours, and which are refused by name."""

from __future__ import annotations

import pytest

from tests.routing.gateway.caller import error_of

pytestmark = pytest.mark.xdist_group("gateway")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("service_tier", "priority"),
        ("service_tier", "flex"),
        ("store", True),
        ("web_search_options", {}),
        ("plugins", [{"id": "web"}]),
        ("audio", {"voice": "alloy", "format": "mp3"}),
        ("modalities", ["text", "audio"]),
        ("tools", [{"type": "web_search"}]),
    ],
)
def test_what_changes_the_price_or_reaches_stored_state_is_refused_by_name(caller, field, value):
    answer = caller.chat(**{field: value})

    assert error_of(answer) == (400, "unsupported_parameter")
    assert answer.json()["error"]["param"] in (field, "audio")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("service_tier", "auto"),
        ("service_tier", "default"),
        ("store", False),
        ("plugins", []),
        ("modalities", ["text"]),
    ],
)
def test_their_harmless_values_pass(caller, field, value):
    assert caller.chat(**{field: value}).status_code == 200


def test_unknown_fields_travel_and_ours_do_not(caller, desk, sandbox):
    ours = {
        "route_preference": "cost",
        "max_cost": "1.5",
        "min_class": "standard",
        "models": ["sandbox/pebble"],
        "route": "show",
        "provider": {"sort": "price"},
        "transforms": [],
        "usage": {"include": True},
        "session_id": "s",
    }
    answer = caller.chat(
        **ours, logit_bias={"1": 2}, a_field_of_tomorrow={"deep": [1]}, user="someone", max_tokens=3
    )

    assert answer.status_code == 200
    (row,) = desk.await_generations(caller.organization, 1)
    (call,) = sandbox.bill(id=row["upstream_id"])["calls"]
    assert set(call["fields"]) == {
        *("model", "messages", "max_tokens", "logit_bias", "a_field_of_tomorrow", "user"),
    }


def test_usage_is_asked_for_only_in_streams(caller, desk, sandbox):
    caller.chat(stream_options={"include_usage": False})
    caller.stream(stream_options={"include_usage": False})

    rows = desk.await_generations(caller.organization, 2)
    asked = ["stream_options" in sandbox.bill(id=row["upstream_id"])["calls"][0]["fields"] for row in rows]
    assert asked == [False, True]


def test_ids_and_model_are_ours(caller):
    answer = caller.chat("sandbox/pebble", max_tokens=3).json()
    stream = caller.stream("pebble", max_tokens=3)

    assert answer["id"].startswith("gen-") and answer["model"] == "sandbox/pebble"
    assert "chatcmpl" not in stream.raw.decode()
    for chunk in stream.chunks:
        assert chunk["id"] == stream.headers["x-generation-id"] == stream.chunks[0]["id"]
        assert chunk["model"] == "sandbox/pebble" and chunk["object"] == "chat.completion.chunk"
        assert chunk["provider"].endswith("(simulated)")


def test_max_tokens_bounds_the_answer(caller):
    answer = caller.chat("sandbox/pebble", max_tokens=3).json()

    assert answer["usage"]["completion_tokens"] == 3
    assert answer["choices"][0]["finish_reason"] == "length"


def test_max_tokens_above_what_anybody_writes_is_lowered_and_said(caller, desk):
    answer = caller.chat("sandbox/instant", max_tokens=9000)

    assert answer.status_code == 200 and answer.headers["x-fairlead-max-tokens"] == "8192"
    (row,) = desk.await_generations(caller.organization, 1)
    assert row["decision"]["max_tokens_lowered_to"] == 8192


def test_a_session_stays_at_one_endpoint_and_sessions_are_spread(caller):
    def served(session: str) -> str:
        answer = caller.chat("sandbox/summit", max_tokens=1, session_id=session)
        return answer.headers["x-fairlead-endpoint"]

    first = {session: served(session) for session in map(str, range(8))}
    assert {session: served(session) for session in first} == first
    assert set(first.values()) == {"sandbox-deep:sandbox/summit", "sandbox-steady:sandbox/summit"}


def test_a_tool_call_comes_through_whole(caller):
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    function = {"name": "weather", "parameters": parameters}
    asked = {"tools": [{"type": "function", "function": function}], "tool_choice": "required"}

    plain = caller.chat("sandbox/pebble", **asked).json()["choices"][0]
    stream = caller.stream("sandbox/pebble", **asked)

    assert plain["finish_reason"] == stream.finish == "tool_calls"
    pieces = [
        call["function"].get("arguments", "")
        for chunk in stream.chunks
        for choice in chunk["choices"]
        for call in choice["delta"].get("tool_calls", ())
    ]
    assert "".join(pieces) == plain["message"]["tool_calls"][0]["function"]["arguments"]


def test_a_model_without_tools_is_not_called_with_them(caller):
    answer = caller.chat("sandbox/instant", tools=[{"type": "function", "function": {"name": "f"}}])

    assert error_of(answer) == (404, "no_endpoints")


def test_the_next_model_serves_when_the_first_cannot(caller):
    answer = caller.chat("sandbox/fault-500", models=["sandbox/pebble"], max_tokens=3)

    assert answer.status_code == 200 and answer.json()["model"] == "sandbox/pebble"


def test_max_cost_leaves_out_what_may_cost_more(caller):
    cheap = caller.chat("auto", route_preference="speed", max_tokens=10, max_cost=0.00005)
    none = caller.chat("auto", max_tokens=10, max_cost="0.000000001")

    assert cheap.headers["x-fairlead-endpoint"] != "sandbox-swift:sandbox/swallow"
    assert cheap.json()["usage"]["cost_nanos"] <= 50_000
    assert error_of(none) == (404, "no_endpoints")


def test_max_cost_is_read_exactly(caller):
    for value in ("0.1", "0.10", 0.1, 1, "5"):
        assert caller.chat(max_cost=value, max_tokens=3).status_code == 200
