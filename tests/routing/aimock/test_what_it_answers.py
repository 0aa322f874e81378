"""OpenAI as others imitate it, through the gateway, read by OpenAI's own SDK: nothing is lost or added."""

from __future__ import annotations

import json
from decimal import ROUND_HALF_EVEN, Decimal

import genai_prices
import pydantic
import pytest

from tests.routing.aimock.conftest import KEY, ROUTER

pytestmark = pytest.mark.xdist_group("aimock")

LUNA = "openai/gpt-6-luna"
SOL = "openai/gpt-6-sol"
MARKUP = Decimal("1.10")
PROSE = 'Ahoy!\n\n\t"Grüße" aus dem Hafen\\Quay — ⚓️ 港 😀\r\n```py\nprint("\\u00e9 data: [DONE]")\n```\n'
WEATHER = {"city": "Kiel", "days": [1, 2, 3], "note": 'wind "NW" 7\n', "empty": {}}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


def says(text):
    return [{"role": "user", "content": text}]


def joined(pieces):
    """Text in pieces; aimock cuts a character beyond the basic plane in two halves."""
    return "".join(pieces).encode("utf-16", "surrogatepass").decode("utf-16")


def nanos(usd):
    return int((usd * MARKUP * 10**9).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def test_a_plain_answer_arrives_word_for_word(aimock, client):
    said = aimock.will("plain, please", {"content": PROSE})

    answer = client.chat.completions.create(model=LUNA, messages=says(said))

    assert answer.choices[0].message.content == PROSE
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.model, answer.provider) == (LUNA, "OpenAI") and answer.id.startswith("gen-")


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_stream_arrives_word_for_word(aimock, client, size):
    said = aimock.will(f"stream by {size}.", {"content": PROSE}, chunkSize=size)

    with client.chat.completions.create(model=LUNA, messages=says(said), stream=True) as stream:
        chunks = list(stream)

    assert joined(c.choices[0].delta.content or "" for c in chunks if c.choices) == PROSE
    assert {chunk.id for chunk in chunks} == {chunks[0].id} and chunks[0].id.startswith("gen-")
    assert {chunk.model for chunk in chunks} == {LUNA}
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


def test_the_wire_of_a_stream_ends_once(aimock, visitor):
    said = aimock.will("the wire", {"content": PROSE}, chunkSize=5)

    stream = visitor.stream(LUNA, messages=says(said))

    assert stream.done and stream.raw.count(b"data: [DONE]\n\n") == 1 and not stream.errors
    assert joined([stream.text]) == PROSE and stream.finish == "stop"
    assert b"chatcmpl" not in stream.raw  # the provider's own id


def test_what_openai_is_sent(aimock, visitor):
    said = aimock.will("look at the request", {"content": "seen"})

    answer = visitor.chat(
        LUNA,
        messages=says(said),
        max_tokens=77,
        temperature=0.5,
        route_preference="cost",
        max_cost="1",
        models=["sandbox/instant"],
        future_field={"kept": [1, None, "é"]},
    )

    (heard,) = aimock.heard(said)
    body = heard["body"]
    assert answer.status_code == 200 and heard["path"] == "/v1/chat/completions"
    assert heard["headers"]["authorization"] not in (f"Bearer {visitor.text}", KEY)
    assert visitor.text not in json.dumps(heard)
    assert body["model"] == "gpt-6-luna" and body["messages"] == says(said)
    assert body["max_completion_tokens"] == 77 and "max_tokens" not in body
    assert body["temperature"] == 0.5 and body["future_field"] == {"kept": [1, None, "é"]}
    assert not {"route_preference", "max_cost", "models", "provider", "timeout"} & set(body)


def test_reasoning_travels_with_the_answer(aimock, client):
    thought, told = "First the tide, then the wind.", "Sail at six."
    said = aimock.will("think first", {"content": told, "reasoning": thought}, chunkSize=4)

    plain = client.chat.completions.create(model=SOL, messages=says(said))
    streamed = client.chat.completions.create(model=SOL, messages=says(said), stream=True)
    deltas = [chunk.choices[0].delta for chunk in streamed if chunk.choices]

    assert (plain.choices[0].message.content, plain.choices[0].message.reasoning_content) == (told, thought)
    assert "".join(delta.content or "" for delta in deltas) == told
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == thought


@pytest.mark.parametrize("streamed", [False, True])
def test_tool_calls_arrive_whole_and_their_results_go_back(aimock, client, streamed):
    said = f"weather, streamed {streamed}"
    call_ids = [f"call_kiel_{streamed}", f"call_lübeck_{streamed}"]
    calls = [{"id": each, "name": "get_weather", "arguments": WEATHER} for each in call_ids]
    aimock.will(said, {"toolCalls": calls}, match={"hasToolResult": False}, chunkSize=3)
    aimock.will(said, {"content": "Gale in both."}, match={"toolCallId": call_ids[1]})

    with (
        client.chat.completions.stream(model=SOL, messages=says(said), tools=TOOLS)
        if streamed
        else (_at_once(client, messages=says(said), tools=TOOLS)) as stream
    ):
        first = stream.get_final_completion().choices[0]

    assert first.finish_reason == "tool_calls"
    assert [call.id for call in first.message.tool_calls] == call_ids
    assert [json.loads(call.function.arguments) for call in first.message.tool_calls] == [WEATHER] * 2

    asked = [
        *says(said),
        {
            "role": "assistant",
            "tool_calls": [c.model_dump(exclude={"index"}) for c in first.message.tool_calls],
        },
        *({"role": "tool", "tool_call_id": each, "content": "NW 9"} for each in call_ids),
    ]
    second = client.chat.completions.create(model=SOL, messages=asked, tools=TOOLS)
    assert second.choices[0].message.content == "Gale in both."


class _at_once:
    """A plain call in the shape of the SDK's stream helper."""

    def __init__(self, client, **fields):
        self.completion = client.chat.completions.create(model=SOL, **fields)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def get_final_completion(self):
        return self.completion


def test_text_and_tool_calls_keep_their_order(aimock, visitor):
    blocks = [
        {"type": "toolCall", "name": "get_weather", "arguments": {"city": "Kiel"}},
        {"type": "text", "text": "Looking it up."},
    ]
    said = aimock.will("tool first", {"blocks": blocks}, chunkSize=4)

    stream = visitor.stream(SOL, messages=says(said), tools=TOOLS)

    kinds = [
        kind
        for chunk in stream.chunks
        for choice in chunk["choices"]
        for kind in ("tool_calls", "content")
        if choice["delta"].get(kind)
    ]
    assert kinds == sorted(kinds, reverse=True) and set(kinds) == {"tool_calls", "content"}
    assert stream.text == "Looking it up."


class Berth(pydantic.BaseModel):
    quay: str
    depth_metres: float
    free: bool


def test_a_schema_reaches_openai_and_its_answer_is_parsed(aimock, client):
    berth = Berth(quay="Süd", depth_metres=4.5, free=True)
    said = aimock.will(
        "a berth", {"content": berth.model_dump_json()}, match={"responseFormat": "json_schema"}
    )

    answer = client.chat.completions.parse(model=SOL, messages=says(said), response_format=Berth)
    with client.chat.completions.stream(model=SOL, messages=says(said), response_format=Berth) as stream:
        streamed = stream.get_final_completion()

    assert answer.choices[0].message.parsed == streamed.choices[0].message.parsed == berth
    for heard in aimock.heard(said):
        schema = heard["body"]["response_format"]["json_schema"]
        assert schema["strict"] is True and schema["schema"]["required"] == ["quay", "depth_metres", "free"]


@pytest.mark.parametrize("streamed", [False, True])
def test_the_charge_is_the_price_lists_own_sum(aimock, caller, desk, streamed):
    """The list's own calculator is the second opinion; usage None lets aimock estimate."""
    told, costs = [], []
    for model, usage in [(LUNA, (19, 7)), (SOL, (123_457, 8_191)), (SOL, (3, 0)), (LUNA, None)]:
        stated = {"usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}} if usage else {}
        said = aimock.will(f"count {usage} {streamed}", {"content": "one two three", **stated})
        told.append(asked(caller, model, said, streamed))
        if usage is None:  # aimock's own rule: a token every four characters
            usage = (-(-len(said) // 4), -(-len("one two three") // 4))
        assert (told[-1]["prompt_tokens"], told[-1]["completion_tokens"]) == usage
        counted = genai_prices.Usage(input_tokens=usage[0], output_tokens=usage[1])
        listed = model.partition("/")[2]
        cost = genai_prices.calc_price(counted, model_ref=listed, provider_id="openai").total_price
        costs.append(nanos(cost))
        assert told[-1]["cost_nanos"] == costs[-1] > 0, (model, usage)
    booked(caller, desk, told, costs)


@pytest.mark.parametrize("streamed", [False, True])
def test_cached_and_reasoning_tokens_have_their_own_prices(aimock, caller, desk, streamed):
    stated = {
        "prompt_tokens": 9_001,
        "completion_tokens": 503,
        "prompt_tokens_details": {"cached_tokens": 7_000, "cache_write_tokens": 1_500},
        "completion_tokens_details": {"reasoning_tokens": 401},
    }
    said = aimock.will(f"cached {streamed}", {"content": "short", "usage": stated})
    told = asked(caller, "router/relay", said, streamed)

    amounts = {"input": 501, "cache_read": 7_000, "cache_write_5m": 1_500, "output": 102, "reasoning": 401}
    cost = sum(Decimal(ROUTER["prices"][kind]) * count for kind, count in amounts.items()) / 10**6
    assert told["prompt_tokens_details"] == {"cached_tokens": 7_000, "cache_write_tokens": 1_500}
    assert told["completion_tokens_details"] == {"reasoning_tokens": 401}
    booked(caller, desk, [told], [nanos(cost)])


def asked(caller, model, said, streamed):
    """The usage that the customer is shown."""
    if streamed:
        return caller.stream(model, messages=says(said)).usage
    return caller.chat(model, messages=says(said)).json()["usage"]


def booked(caller, desk, told, charges):
    """The answers, the records, and the wallet say the same sums."""
    rows = desk.await_generations(caller.organization, len(charges))
    assert [row["charge_nanos"] for row in rows] == [usage["cost_nanos"] for usage in told] == charges
    assert not any(row["estimated"] for row in rows)
    wallet = desk.await_no_holds(caller.organization)
    assert wallet.funds == 10 * 10**9 - sum(charges) == wallet.credit - wallet.spent
