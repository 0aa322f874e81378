"""What an upstream of others does wrong: each fault a typed error or another endpoint, and never charged."""

from __future__ import annotations

import openai
import pytest

from tests.routing.gateway.caller import FAST, error_of

pytestmark = pytest.mark.xdist_group("aimock")

LUNA = "openai/gpt-6-luna"
"""Where nobody else is asked it is called even while it rests."""
CHAOS = {
    "dropRate": "server_error",
    "malformedRate": "malformed",
    "rateLimitRate": "rate_limited",
    "disconnectRate": "unreachable",
}
STATUSES = [
    (400, 400, "invalid_request"),
    (401, 502, "provider_unavailable"),
    (402, 502, "provider_unavailable"),
    (403, 502, "provider_unavailable"),
    (404, 502, "provider_unavailable"),
    (429, 429, "provider_rate_limited"),
    (500, 502, "provider_unavailable"),
    (503, 503, "provider_overloaded"),
]
LONG = "The tide comes in twice a day, and twice a day it goes. " * 4


def says(text):
    return [{"role": "user", "content": text}]


def fails(status, **more):
    return {
        "error": {"message": f"org-4711 of sk-4711 says {status}", "code": "upstream"},
        "status": status,
        **more,
    }


def are_free(caller, desk, count):
    """The records of this organization; nothing is charged or held."""
    rows = desk.await_generations(caller.organization, count)
    assert [row["charge_nanos"] for row in rows] == [0] * count
    wallet = desk.await_no_holds(caller.organization)
    assert wallet.funds == wallet.credit == 10 * 10**9 and wallet.spent == 0
    return rows


@pytest.mark.parametrize("streamed", [False, True])
def test_each_status_of_openai_is_told_in_our_words(aimock, caller, desk, streamed):
    for theirs, ours, kind in STATUSES:
        said = aimock.will(f"status {theirs} {streamed}", fails(theirs, retryAfter=0))

        answer = caller.chat(LUNA, messages=says(said), stream=streamed)

        assert error_of(answer) == (ours, kind)
        told = "4711" in answer.json()["error"]["message"]
        assert told == (theirs == 400)  # only of the customer's own request; never of our account
        assert ("retry-after" in answer.headers) == (ours in (429, 503)), theirs
    are_free(caller, desk, len(STATUSES))


@pytest.mark.parametrize("streamed", [False, True])
def test_what_another_could_serve_falls_back(aimock, caller, desk, unspoilt, streamed):
    statuses = (401, 404, 429, 500, 503)
    for theirs in statuses:
        said = aimock.will(f"fall back on {theirs} {streamed}", fails(theirs, retryAfter=0))
        model = next(unspoilt)
        if streamed:
            stream = caller.stream(model, messages=says(said), models=[FAST], max_tokens=5)
            assert stream.status == 200 and stream.done and stream.text, theirs
        else:
            answer = caller.chat(model, messages=says(said), models=[FAST], max_tokens=5)
            assert answer.json()["model"] == FAST, theirs

    rows = desk.await_generations(caller.organization, len(statuses))
    for theirs, row in zip(statuses, rows, strict=True):
        assert row["decision"]["served"].endswith(FAST) and row["charge_nanos"] > 0
        assert {attempt["status"] for attempt in row["decision"]["attempts"]} == {theirs}


def test_a_request_that_openai_refuses_is_not_taken_elsewhere(aimock, caller, desk, unspoilt):
    said = aimock.will("refused for itself", fails(400))

    answer = caller.chat(next(unspoilt), messages=says(said), models=[FAST])

    assert error_of(answer) == (400, "invalid_request") and len(aimock.heard(said)) == 1
    are_free(caller, desk, 1)


def test_the_sdk_raises_its_own_types(aimock, client):
    kinds = {400: openai.BadRequestError, 429: openai.RateLimitError, 500: openai.InternalServerError}
    for status, kind in kinds.items():
        said = aimock.will(f"raise for {status}", fails(status, retryAfter=0))
        with pytest.raises(kind):
            client.chat.completions.create(model=LUNA, messages=says(said))


@pytest.mark.parametrize("streamed", [False, True])
def test_chaos_is_free_and_another_endpoint_serves(aimock, caller, desk, visitor, streamed):
    for fault, failure in CHAOS.items():
        said = aimock.will(f"chaos {fault} {streamed}", {"content": "never"}, chaos={fault: 1})

        answer = caller.chat(LUNA, messages=says(said), stream=streamed)
        served = visitor.chat(LUNA, messages=says(said), stream=streamed, models=[FAST], max_tokens=5)

        limited = (429, "provider_rate_limited")
        assert error_of(answer) == (limited if failure == "rate_limited" else (502, "provider_unavailable"))
        assert served.status_code == 200 and b"error" not in served.content, fault
    for failure, row in zip(CHAOS.values(), are_free(caller, desk, len(CHAOS)), strict=True):
        assert {attempt["failure"] for attempt in row["decision"]["attempts"]} == {failure}


@pytest.mark.parametrize("cut", [{"truncateAfterChunks": 4}, {"disconnectAfterMs": 60}])
def test_a_stream_cut_in_the_middle_ends_in_a_typed_error(aimock, caller, desk, unspoilt, cut):
    said = aimock.will(f"cut {cut}", {"content": LONG}, chunkSize=10, latency=10, **cut)

    stream = caller.stream(next(unspoilt), messages=says(said), models=[FAST])

    assert stream.status == 200 and LONG.startswith(stream.text) and 0 < len(stream.text) < len(LONG)
    (error,) = stream.errors
    assert error["metadata"]["error_type"] == "provider_unavailable" and stream.finish == "error"
    assert not stream.done and b"[DONE]" not in stream.raw
    assert are_free(caller, desk, 1)[0]["status"] == "failed"


def test_a_cut_stream_raises_in_the_sdk(aimock, client):
    said = aimock.will("cut for the sdk", {"content": LONG}, chunkSize=10, latency=10, truncateAfterChunks=4)

    stream = client.chat.completions.create(model=LUNA, messages=says(said), stream=True)
    with stream, pytest.raises(openai.APIError, match="provider"):
        list(stream)


def test_a_stream_cut_in_a_tool_call_is_never_called_whole(aimock, caller, desk):
    calls = [{"name": "sail", "arguments": {"to": LONG}}]
    said = aimock.will("cut tool", {"toolCalls": calls}, chunkSize=10, latency=10, truncateAfterChunks=5)

    stream = caller.stream(LUNA, messages=says(said))

    assert len(stream.errors) == 1 and not stream.done and stream.finish == "error"
    are_free(caller, desk, 1)


def test_an_upstream_that_thinks_too_long_for_its_customer(aimock, visitor):
    said = aimock.will("slow", {"content": "late"}, chaos={"latencyMs": 20_000})

    assert error_of(visitor.chat(LUNA, messages=says(said), timeout=0.3)) == (408, "deadline_exceeded")
