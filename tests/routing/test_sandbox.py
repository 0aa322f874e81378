from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal

import httpx
import openai
import pytest

from routing.sandbox.fleet import OFFERS
from tests.routing.sandboxes import AUTHORIZED, HTTP, Running, running

ASKED = [{"role": "user", "content": "How do lighthouses talk to ships?"}]
LONG = [{"role": "system", "content": "Be brief. " * 60}, *ASKED]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with running() as found:
        yield found


@pytest.fixture(autouse=True)
def _fresh(sandbox: Running) -> None:
    sandbox.bill.reset()


def client(sandbox: Running, provider: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{sandbox.base_url}/{provider}/v1", api_key="simulated", max_retries=0)


def events(text: str) -> list[dict]:
    assert text.endswith("data: [DONE]\n\n")
    return [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]


def stream(sandbox: Running, provider: str, model: str, **more: object) -> tuple[str, Exception | None]:
    """Everything that arrived, and what ended it."""
    body = {"model": model, "messages": ASKED, "stream": True, **more}
    text = ""
    try:
        with HTTP.stream("POST", sandbox.url(provider), json=body, headers=AUTHORIZED, timeout=1) as reply:
            assert reply.status_code == 200
            for part in reply.iter_text():
                text += part
    except httpx.HTTPError as error:
        return text, error
    return text, None


@pytest.mark.parametrize(
    "offer", [offer for offer in OFFERS.values() if offer.fault is None], ids=lambda o: o.model
)
def test_every_model_answers_and_bills_usage_times_its_own_price(sandbox: Running, offer):
    usage = sandbox.post(offer.provider, model=offer.model, messages=ASKED).json()["usage"]

    cached = usage["prompt_tokens_details"]["cached_tokens"]
    cost = (
        offer.input * (usage["prompt_tokens"] - cached)
        + (offer.cache_read or 0) * cached
        + offer.output * usage["completion_tokens"]
    ) / 1_000_000
    bill = HTTP.get(f"{sandbox.base_url}/_sandbox/bill").json()
    assert bill["count"] == 1 and Decimal(bill["total_usd"]) == cost > 0
    assert bill["calls"][0]["usage"] == usage and bill["calls"][0]["ending"] == "complete"
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_the_same_question_and_seed_get_the_same_answer_streamed_or_not(sandbox: Running):
    def ask(**more: object) -> str:
        return sandbox.post("sandbox-steady", model="meridian", messages=ASKED, **more).json()["choices"][0][
            "message"
        ]["content"]

    text, _ = stream(sandbox, "sandbox-steady", "meridian", seed=1)
    streamed = "".join(part["choices"][0]["delta"].get("content", "") for part in events(text))

    assert ask(seed=1) == ask(seed=1) == streamed
    assert ask(seed=1) != ask(seed=2)
    assert "lighthouses" in streamed and len(streamed.split()) > 20


def test_usage_is_streamed_only_when_asked_in_a_chunk_without_choices(sandbox: Running):
    quiet = events(stream(sandbox, "sandbox-steady", "meridian")[0])
    asked = events(stream(sandbox, "sandbox-steady", "meridian", stream_options={"include_usage": True})[0])

    assert all("usage" not in part for part in quiet)
    assert all(part["usage"] is None for part in asked[:-1])
    assert asked[-1]["choices"] == [] and asked[-1]["usage"]["completion_tokens"] > 0
    assert asked[-2]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_bound_on_the_answer_is_kept(sandbox: Running, name: str):
    reply = sandbox.post("sandbox-steady", model="meridian", messages=ASKED, **{name: 7}).json()

    assert reply["usage"]["completion_tokens"] == 7
    assert reply["choices"][0]["finish_reason"] == "length"


def test_a_reasoning_model_reports_reasoning_inside_the_completion(sandbox: Running):
    free = sandbox.post("sandbox-deep", model="oracle", messages=ASKED).json()["usage"]
    bound = sandbox.post("sandbox-deep", model="oracle", messages=ASKED, max_completion_tokens=18).json()[
        "usage"
    ]

    assert 0 < free["completion_tokens_details"]["reasoning_tokens"] < free["completion_tokens"]
    assert bound["completion_tokens"] == 18 and bound["completion_tokens_details"]["reasoning_tokens"] == 8


def test_a_repeated_prefix_is_cached_and_cheaper(sandbox: Running):
    first = sandbox.post("sandbox-deep", model="summit", messages=LONG)
    again = sandbox.post(
        "sandbox-deep", model="summit", messages=[*LONG[:1], {"role": "user", "content": "And now?"}]
    )

    assert first.json()["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    cached = again.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert 64 <= cached < again.json()["usage"]["prompt_tokens"]
    call = list(sandbox.bill.find({}))[-1]
    assert call.cost == call.offer.cost(prompt=call.prompt, cached=cached, completion=call.completion)
    assert call.cost < call.offer.cost(prompt=call.prompt, cached=0, completion=call.completion)


def test_choices_stops_tools_and_json(sandbox: Running):
    with client(sandbox, "sandbox-steady") as steady:
        several = steady.chat.completions.create(model="meridian", messages=ASKED, n=3)
        assert len({choice.message.content for choice in several.choices}) == 3

        stopped = steady.chat.completions.create(model="meridian", messages=ASKED, stop=["lighthouses"])
        assert "lighthouses" not in stopped.choices[0].message.content

        parameters = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Oslo"]}}}
        tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]
        called = steady.chat.completions.create(
            model="meridian", messages=ASKED, tools=tools, tool_choice="required"
        ).choices[0]
        assert called.finish_reason == "tool_calls"
        assert called.message.tool_calls[0].function.name == "weather"
        assert json.loads(called.message.tool_calls[0].function.arguments) == {"city": "Oslo"}

        parts = steady.chat.completions.create(
            model="meridian", messages=ASKED, tools=tools, tool_choice="required", stream=True
        )
        deltas = [part.choices[0].delta.tool_calls[0] for part in parts if part.choices[0].delta.tool_calls]
        assert json.loads("".join(delta.function.arguments for delta in deltas)) == {"city": "Oslo"}

        plain = steady.chat.completions.create(
            model="meridian", messages=ASKED, response_format={"type": "json_object"}
        )
        assert "answer" in json.loads(plain.choices[0].message.content)


def test_a_stream_of_several_choices_bills_all_of_them(sandbox: Running):
    text, _ = stream(
        sandbox, "sandbox-steady", "meridian", n=3, max_tokens=5, stream_options={"include_usage": True}
    )

    assert events(text)[-1]["usage"]["completion_tokens"] == 15


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": ASKED}, "model"),
        ({"model": "meridian"}, "messages"),
        ({"model": "meridian", "messages": []}, "messages"),
        ({"model": "meridian", "messages": ASKED, "max_tokens": 0}, "max_tokens"),
        ({"model": "meridian", "messages": ASKED, "stream_options": {}}, "stream_options"),
        ({"model": "meridian", "messages": ASKED, "route_preference": "cost"}, "route_preference"),
    ],
)
def test_a_bad_request_is_refused_naming_the_field_and_not_billed(sandbox: Running, body: dict, param: str):
    reply = sandbox.post("sandbox-steady", **body)

    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
    assert HTTP.get(f"{sandbox.base_url}/_sandbox/bill").json()["total_usd"] == "0"


def test_a_key_must_be_there_and_a_model_must_exist(sandbox: Running):
    body = {"model": "meridian", "messages": ASKED}
    assert HTTP.post(sandbox.url("sandbox-steady"), json=body).status_code == 401
    assert sandbox.post("sandbox-steady", model="nothing", messages=ASKED).status_code == 404
    assert sandbox.post("sandbox-nowhere", model="meridian", messages=ASKED).status_code == 404
    with client(sandbox, "sandbox-deep") as deep:
        assert {model.id for model in deep.models.list()} == {"meridian", "summit", "oracle"}


@pytest.mark.parametrize(
    ("model", "status"),
    [("fault-refuse", 400), *((f"fault-{code}", code) for code in (401, 402, 403, 404, 429, 500, 503))],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_fault_by_status_is_free_and_in_openais_shape(
    sandbox: Running, model: str, status: int, streamed: bool
):
    reply = sandbox.post("sandbox-faults", model=model, messages=ASKED, stream=streamed)

    assert reply.status_code == status
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert ("retry-after" in reply.headers) == (status in (429, 503))
    assert [(call.ending, call.cost) for call in sandbox.bill.find({})] == [("refused", 0)]


@pytest.mark.parametrize(
    ("model", "ending", "raised"),
    [
        ("fault-hang-after-3", "hung", httpx.ReadTimeout),
        ("fault-reset-after-3", "reset", httpx.ReadError),
        ("fault-error-event", "failed", None),
        ("fault-malformed-after-3", "malformed", None),
        ("fault-truncated", "failed", None),
        ("fault-cut", "failed", httpx.RemoteProtocolError),
    ],
)
def test_a_stream_that_breaks_after_three_chunks_is_free(sandbox: Running, model: str, ending: str, raised):
    text, error = stream(sandbox, "sandbox-faults", model)
    wait_until(lambda: not sandbox.bill.in_flight)

    assert text.count('"content":') - text.count('"content": ""') == 3
    assert "[DONE]" not in text and '"finish_reason":"stop"' not in text
    assert type(error) is raised if raised else error is None
    assert [(call.ending, call.cost, call.chunks) for call in sandbox.bill.find({})] == [(ending, 0, 3)]


@pytest.mark.parametrize(
    ("model", "raised"),
    [
        ("fault-hang", httpx.ReadTimeout),
        ("fault-hang-after-3", httpx.ReadTimeout),
        ("fault-reset", httpx.ReadError),
        ("fault-reset-after-3", httpx.ReadError),
        ("fault-truncated", httpx.RemoteProtocolError),
        ("fault-cut", httpx.RemoteProtocolError),
    ],
)
def test_a_plain_answer_that_breaks(sandbox: Running, model: str, raised):
    with pytest.raises(raised):
        HTTP.post(
            sandbox.url("sandbox-faults"),
            json={"model": model, "messages": ASKED},
            headers=AUTHORIZED,
            timeout=httpx.Timeout(30, read=0.5 if raised is httpx.ReadTimeout else 30),
        )
    wait_until(lambda: not sandbox.bill.in_flight)
    assert [call.cost for call in sandbox.bill.find({})] == [0]


def test_malformed_answers_are_not_json(sandbox: Running):
    reply = sandbox.post("sandbox-faults", model="fault-malformed", messages=ASKED)
    with pytest.raises(json.JSONDecodeError):
        reply.json()

    text, _ = stream(sandbox, "sandbox-faults", "fault-malformed")
    assert '"content":' not in text and "choices" in text


def test_no_usage_is_reported_but_billed(sandbox: Running):
    reply = sandbox.post("sandbox-faults", model="fault-no-usage", messages=ASKED).json()
    text, _ = stream(sandbox, "sandbox-faults", "fault-no-usage", stream_options={"include_usage": True})

    assert "usage" not in reply
    assert all(part["usage"] is None and part["choices"] for part in events(text))
    assert [call.cost > 0 for call in sandbox.bill.find({})] == [True, True]


def test_slow_headers_arrive_in_the_end(sandbox: Running):
    started = time.monotonic()
    reply = sandbox.post("sandbox-faults", model="fault-slow-headers", messages=ASKED)

    assert reply.json()["choices"][0]["finish_reason"] == "stop"
    assert time.monotonic() - started > 1.8


def test_the_first_half_of_a_flaky_pair_fails_and_the_second_serves(sandbox: Running):
    assert sandbox.post("sandbox-faults", model="flaky", messages=ASKED).status_code == 500
    assert sandbox.post("sandbox-faults", model="flaky-429", messages=ASKED).status_code == 429
    with pytest.raises(httpx.ReadError):
        sandbox.post("sandbox-faults", model="flaky-reset", messages=ASKED)
    for model in ("flaky", "flaky-429", "flaky-401", "flaky-404", "flaky-reset"):
        assert sandbox.post("sandbox-steady", model=model, messages=ASKED).status_code == 200


def test_chunks_keep_the_models_pace_and_an_abort_is_noticed_and_billed_so_far():
    with running(pace=1.0) as real:
        started = time.monotonic()
        text, _ = stream(real, "sandbox-bench", "stream-100")
        assert 0.48 < time.monotonic() - started < 20
        assert len([part for part in events(text) if part["choices"][0]["delta"].get("content")]) == 100

        body, late = {"model": "stream-100", "messages": ASKED, "stream": True}, []
        while len(late) < 6 and min(late, default=50) >= 50:  # never in time is not busy but wrong
            with HTTP.stream("POST", real.url("sandbox-bench"), json=body, headers=AUTHORIZED) as reply:
                for seen, _ in enumerate(reply.iter_lines()):
                    if seen > 20:
                        break
            closed = time.monotonic() * 1000
            wait_until(lambda: not real.bill.in_flight)

            recent = HTTP.get(f"{real.base_url}/_sandbox/calls").json()["recent"][-1]
            assert recent["ending"] == "client_closed"
            late.append(abs(recent["client_closed_ms"] - closed))
            assert 5 < recent["chunks"] == recent["usage"]["completion_tokens"] < 100
            assert Decimal(recent["cost_usd"]) > 0
        assert min(late) < 50, late


def test_the_bill_is_filtered_and_reset(sandbox: Running):
    sandbox.post("sandbox-steady", model="meridian", messages=ASKED, user="alice")
    sandbox.post("sandbox-deep", model="summit", messages=ASKED, user="bob")

    def bill(**wanted: object) -> dict:
        return HTTP.get(f"{sandbox.base_url}/_sandbox/bill", params=wanted).json()

    assert [call["user"] for call in bill()["calls"]] == ["alice", "bob"]
    assert (
        bill(user="bob")["count"]
        == bill(provider="sandbox-deep")["count"]
        == bill(model="summit")["count"]
        == 1
    )
    assert bill(since=time.time() + 5)["count"] == 0
    assert Decimal(bill()["total_usd"]) == sum(Decimal(call["cost_usd"]) for call in bill()["calls"])
    assert HTTP.get(f"{sandbox.base_url}/_sandbox/health").json()["ok"] is True

    HTTP.post(f"{sandbox.base_url}/_sandbox/reset")
    assert bill() == {"count": 0, "total_usd": "0", "complete": True, "calls": []}


def test_one_connection_serves_many_requests(sandbox: Running):
    body = json.dumps({"model": "instant", "messages": ASKED}).encode()
    head = (
        b"POST /sandbox-bench/v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer x\r\n"
        b"content-length: %d\r\n\r\n" % len(body)
    )
    port = int(sandbox.base_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.settimeout(30)
        raw.sendall((head + body) * 3)
        got = b""
        while got.count(b'"finish_reason"') < 3:
            got += raw.recv(65536)

    assert got.count(b"HTTP/1.1 200 OK") == 3


def launch(**environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "routing.sandbox"],
        env={**os.environ, "SANDBOX_PORT": "0", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_program_starts_answers_and_stops_on_sigterm():
    with launch(EMBEDDED="1") as process:
        line = process.stdout.readline()
        address = line.split()[-1]
        assert HTTP.get(f"{address}/_sandbox/health").json()["ok"] is True
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


def test_the_program_refuses_to_run_outside_the_embedded_default():
    with launch(EMBEDDED="0") as process:
        assert process.wait(60) == 1
        assert process.stderr.read().count("\n") == 1


def test_a_taken_port_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with launch(EMBEDDED="1", SANDBOX_PORT=port) as process:
            assert process.wait(60) == 1
            said = process.stderr.read()
    assert said.startswith("The sandbox cannot listen on port") and said.count("\n") == 1


def wait_until(true, *, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.005)
