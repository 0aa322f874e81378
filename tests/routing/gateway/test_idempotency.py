"""`Idempotency-Key`: the same request again is called once and charged once, whichever worker takes it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from tests.routing.gateway.caller import FAST, HELLO, Caller, error_of
from tests.routing.gateway.test_workers_that_are_killed import workers

pytestmark = pytest.mark.xdist_group("gateway")

SLOW = "sandbox/oracle"
"""A second and a half until it begins to answer."""


@pytest.fixture(autouse=True)
def _fresh_bill(sandbox):
    sandbox.http.post(f"{sandbox.url}/_sandbox/reset")


def ask(caller, key="order-1", *, model=FAST, client=None, **fields):
    """One request with a key, on a connection of its own: whichever worker takes it."""
    with httpx.Client(timeout=30, trust_env=False) as fresh:
        return (client or fresh).post(
            f"{caller.api_base}/chat/completions",
            content=written(caller.body(model, **fields)),
            headers={"Authorization": f"Bearer {caller.text}", "Idempotency-Key": key},
        )


def written(body):
    """To the byte the same for the same fields."""
    return json.dumps(body, sort_keys=True).encode()


def ask_slowly(caller, key, *, stream=False, model=SLOW):
    """A request whose answer is not waited for; answers its connection once the provider has it."""
    base = urlsplit(caller.api_base)
    connection = http.client.HTTPConnection(base.hostname, base.port, timeout=30)
    connection.request(
        "POST",
        f"{base.path}/chat/completions",
        written(caller.body(model, max_tokens=8, stream=stream)),
        {
            "Authorization": f"Bearer {caller.text}",
            "Idempotency-Key": key,
            "Content-Type": "application/json",
        },
    )
    return connection


def await_dispatch(sandbox, model):
    until = time.monotonic() + 10
    while not dispatched(sandbox, model):
        assert time.monotonic() < until, "the provider was not called"
        time.sleep(0.01)


def dispatched(sandbox, model=FAST):
    """How many calls the provider has seen."""
    name = model.removeprefix("sandbox/")
    seen = sandbox.calls(model=name)
    return len(seen["recent"]) + sum(call["model"] == name for call in seen["in_flight"])


def ours(response):
    """The headers that say something of the call."""
    kept = {
        name: value for name, value in response.headers.items() if name.startswith(("x-", "content-type"))
    }
    return {name: value for name, value in kept.items() if not name.startswith("x-ratelimit")}


def test_a_plain_answer_is_given_again_and_charged_once(caller, desk, sandbox):
    first = ask(caller, max_tokens=5)
    again = [ask(caller, max_tokens=5) for _ in range(6)]

    assert first.status_code == 200 and "idempotent-replayed" not in first.headers
    for answer in again:
        assert (answer.status_code, answer.content) == (200, first.content)
        assert answer.headers["idempotent-replayed"] == "true"
        assert ours(answer) == ours(first)
    assert dispatched(sandbox) == 1
    desk.await_generations(caller.organization, 1, posted=True)
    spent = desk.await_no_holds(caller.organization).spent
    assert spent in (0, first.json()["usage"]["cost_nanos"])  # 0: posted, and the wallet loaded anew
    assert desk.wallet(caller.organization).funds == 10 * 10**9 - first.json()["usage"]["cost_nanos"]


def test_a_stream_is_given_again_byte_for_byte(caller, desk, sandbox):
    first = ask(caller, stream=True, max_tokens=8)
    again = ask(caller, stream=True, max_tokens=8)

    assert first.status_code == again.status_code == 200
    assert first.content.endswith(b"data: [DONE]\n\n") and b'"cost_nanos"' in first.content
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true" and "idempotent-replayed" not in first.headers
    assert ours(again) == ours(first) and again.headers["content-type"].startswith("text/event-stream")
    assert dispatched(sandbox) == 1
    desk.await_generations(caller.organization, 1)


def test_both_prefixes_are_one_path(caller, sandbox):
    first = ask(caller, max_tokens=5)
    other = caller.http.post(
        f"{caller.api_base.removesuffix('/api/v1')}/v1/chat/completions",
        content=written(caller.body(max_tokens=5)),
        headers={"Idempotency-Key": "order-1"},
    )

    assert other.content == first.content and dispatched(sandbox) == 1


def test_another_request_under_the_same_key_is_refused(caller, desk, sandbox):
    first = ask(caller, max_tokens=5)
    refused = ask(caller, max_tokens=6)

    assert error_of(refused) == (422, "idempotency_mismatch")
    assert refused.json()["error"]["metadata"]["generation_id"] == first.json()["id"]
    assert dispatched(sandbox) == 1
    assert ask(caller, max_tokens=5).content == first.content
    desk.await_generations(caller.organization, 1)


def test_another_key_is_another_call(caller, desk, sandbox):
    answers = [ask(caller, key, max_tokens=5).json()["id"] for key in ("a", "b", "a", "b")]

    assert answers[0] == answers[2] != answers[1] == answers[3]
    assert dispatched(sandbox) == 2
    desk.await_generations(caller.organization, 2)


@pytest.mark.parametrize("stream", [False, True])
def test_a_hundred_at_once_are_one_call_and_one_charge(caller, desk, sandbox, stream):
    begin = threading.Barrier(100)

    def work(_):
        begin.wait(30)
        return ask(caller, "storm", model="sandbox/swallow", max_tokens=20, stream=stream)

    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(work, range(100)))

    seen = Counter(answer.status_code for answer in answers)
    assert set(seen) <= {200, 409} and seen[200] >= 1
    assert {error_of(each)[1] for each in answers if each.status_code == 409} <= {"idempotency_in_flight"}
    assert len({each.content for each in answers if each.status_code == 200}) == 1
    assert dispatched(sandbox, "sandbox/swallow") == 1
    (row,) = desk.await_generations(caller.organization, 1, posted=True)
    assert row["status"] == "completed" and row["charge_nanos"] > 0
    assert desk.await_no_holds(caller.organization).funds == 10 * 10**9 - row["charge_nanos"]


def test_in_flight_is_told_and_the_answer_comes_when_it_has_ended(caller, sandbox):
    connection = ask_slowly(caller, "slow")
    await_dispatch(sandbox, SLOW)

    refused = ask(caller, "slow", model=SLOW, max_tokens=8, stream=False)
    first = connection.getresponse().read()

    assert error_of(refused) == (409, "idempotency_in_flight") and refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["metadata"]["generation_id"] == json.loads(first)["id"]
    assert ask(caller, "slow", model=SLOW, max_tokens=8, stream=False).content == first
    connection.close()


def test_a_plain_call_goes_on_without_its_client_who_then_has_the_answer(caller, desk, sandbox):
    connection = ask_slowly(caller, "broken")
    await_dispatch(sandbox, SLOW)
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()

    until = time.monotonic() + 20
    while (again := ask(caller, "broken", model=SLOW, max_tokens=8, stream=False)).status_code == 409:
        assert error_of(again)[1] == "idempotency_in_flight" and time.monotonic() < until
        time.sleep(0.1)

    assert again.status_code == 200 and again.headers["idempotent-replayed"] == "true"
    assert dispatched(sandbox, SLOW) == 1
    (row,) = desk.await_generations(caller.organization, 1)
    assert (row["status"], row["charge_nanos"]) == ("completed", again.json()["usage"]["cost_nanos"])


def test_a_stream_that_its_client_left_was_charged_and_is_not_called_again(caller, desk, sandbox):
    connection = ask_slowly(caller, "left", stream=True)
    await_dispatch(sandbox, SLOW)
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    (row,) = desk.await_generations(caller.organization, 1)
    assert row["status"] == "aborted" and row["charge_nanos"] > 0

    until = time.monotonic() + 20
    while error_of(again := ask(caller, "left", model=SLOW, max_tokens=8, stream=True))[1] != (
        "idempotency_answer_not_kept"
    ):
        assert error_of(again)[1] == "idempotency_in_flight" and time.monotonic() < until
        time.sleep(0.1)

    assert again.status_code == 409
    assert again.json()["error"]["metadata"]["generation_id"] == row["id"]
    assert caller.http.get("/generation", params={"id": row["id"]}).json()["data"]["id"] == row["id"]
    assert dispatched(sandbox, SLOW) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_its_own_deadline_ended_ends_so_again(caller, desk, sandbox, stream):
    first, again = [ask(caller, model=SLOW, timeout=0.8, stream=stream) for _ in range(2)]

    assert error_of(first) == (408, "deadline_exceeded")
    assert (again.status_code, again.content) == (408, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert dispatched(sandbox, SLOW) == 1
    (row,) = desk.await_generations(caller.organization, 1)
    assert row["status"] == "aborted" and row["charge_nanos"] > 0


def test_a_stream_that_its_own_deadline_cut_is_given_again(caller, desk, sandbox):
    model = "sandbox/fault-hang-after-3"
    first, again = [ask(caller, model=model, timeout=1, stream=True) for _ in range(2)]

    assert first.status_code == 200 and b"deadline_exceeded" in first.content
    assert again.content == first.content and again.headers["idempotent-replayed"] == "true"
    assert dispatched(sandbox, model) == 1
    desk.await_generations(caller.organization, 1)


def holder_of(connection, product):
    """The worker at the other end of a connection."""
    ends = [f":{end[1]:04X}" for end in (connection.sock.getpeername(), connection.sock.getsockname())]
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    of_ours = [row for row in table if row[1].endswith(ends[0]) and row[2].endswith(ends[1])]
    (inode,) = [row[9] for row in of_ours if row[9] != "0"]
    for pid in workers(product):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if os.readlink(entry) == f"socket:[{inode}]":
                return pid
    raise AssertionError("no worker has the connection")


@pytest.mark.parametrize("stream", [False, True])
def test_a_killed_worker_leaves_the_key_to_a_new_call_once_its_lease_is_over(
    running, caller, desk, sandbox, stream
):
    connection = ask_slowly(caller, "killed", stream=stream)
    await_dispatch(sandbox, SLOW)
    os.kill(holder_of(connection, running), signal.SIGKILL)
    killed = time.monotonic()
    with pytest.raises((OSError, http.client.HTTPException)):
        connection.getresponse().read()
    connection.close()

    refused = ask(caller, "killed", model=SLOW, max_tokens=8, stream=stream)
    if time.monotonic() - killed < 1.5:  # within what is left of its lease
        assert error_of(refused) == (409, "idempotency_in_flight")
    until = time.monotonic() + 30
    while (again := ask(caller, "killed", model=SLOW, max_tokens=8, stream=stream)).status_code != 200:
        assert again.status_code in (409, 503) and time.monotonic() < until, again.text
        time.sleep(0.2)

    assert "idempotent-replayed" not in again.headers
    rows = desk.await_generations(caller.organization, 2, seconds=40, posted=True)
    assert sorted(row["status"] for row in rows) == ["completed", "void"]
    charged = [row["charge_nanos"] for row in rows if row["status"] == "completed"]
    assert desk.await_no_holds(caller.organization).funds == 10 * 10**9 - sum(charged)
    repeated = ask(caller, "killed", model=SLOW, max_tokens=8, stream=stream)
    assert repeated.headers["idempotent-replayed"] == "true" and dispatched(sandbox, SLOW) == 2


def test_a_refused_request_leaves_its_key_free(caller, desk, sandbox):
    desk.change(caller.key_id, limit_nanos=1)
    assert error_of(ask(caller, max_tokens=5)) == (402, "key_limit_exceeded")
    desk.change(caller.key_id, limit_nanos=None, requests_per_minute=1)
    assert ask(caller, "another", max_tokens=5).status_code == 200
    assert error_of(ask(caller, max_tokens=5)) == (429, "rate_limit_exceeded")
    desk.change(caller.key_id, requests_per_minute=None)
    assert error_of(ask(caller, model="sandbox/none")) == (404, "model_not_found")

    assert ask(caller, max_tokens=5).status_code == 200  # at once, and with another body
    assert dispatched(sandbox) == 2


@pytest.mark.parametrize(
    ("model", "stream"),
    [("fault-500", False), ("fault-500", True), ("fault-reset-after-3", True), ("fault-cut", False)],
)
def test_a_call_that_failed_is_made_anew(caller, desk, sandbox, model, stream):
    wanted = {"model": f"sandbox/{model}", "stream": stream, "max_tokens": 8, "num_retries": 0}
    answers = [ask(caller, **wanted) for _ in range(2)]

    for answer in answers:
        assert answer.status_code == 502 or b'"error"' in answer.content
    assert dispatched(sandbox, model) == 2
    rows = desk.await_generations(caller.organization, 2)
    assert {(row["status"], row["charge_nanos"]) for row in rows} == {("failed", 0)}


def test_an_answer_too_long_to_keep_is_not_called_again(caller, desk, sandbox):
    model = "sandbox/stream-100"
    first = ask(caller, model=model, stream=True)
    again = ask(caller, model=model, stream=True)

    assert first.status_code == 200 and len(first.content) > 8192
    assert error_of(again) == (409, "idempotency_answer_not_kept")
    named = again.json()["error"]["metadata"]["generation_id"]
    assert named == first.headers["x-generation-id"] and named in again.json()["error"]["message"]
    assert dispatched(sandbox, model) == 1
    desk.await_generations(caller.organization, 1)


def test_keys_are_an_organizations_own(running, caller, desk, sandbox):
    mine = ask(caller, "shared", max_tokens=5)
    stranger = desk.open(usd="10")
    text, public_id = desk.key(stranger)
    with Caller(running.api_base, text, key_id=public_id, organization=stranger) as other:
        theirs = ask(other, "shared", max_tokens=5)
        different = ask(other, "shared", max_tokens=6)
    colleague, colleague_id = desk.key(caller.organization)
    with Caller(running.api_base, colleague, key_id=colleague_id, organization=caller.organization) as beside:
        ours_too = ask(beside, "shared", max_tokens=5)

    assert theirs.status_code == 200 and theirs.json()["id"] != mine.json()["id"]
    assert "idempotent-replayed" not in theirs.headers
    assert different.json()["error"]["metadata"]["generation_id"] == theirs.json()["id"]
    assert ours_too.content == mine.content
    assert dispatched(sandbox) == 2


def test_an_answer_is_not_given_again_to_a_key_that_is_no_longer_valid(caller, desk):
    assert ask(caller, max_tokens=5).status_code == 200
    desk.disable(caller.key_id)

    assert error_of(ask(caller, max_tokens=5)) == (401, "disabled_key")


def test_a_changed_key_is_asked_for_anew(caller, desk, sandbox):
    first = ask(caller, max_tokens=5)
    desk.change(caller.key_id, requests_per_minute=600)

    assert ask(caller, max_tokens=5).content == first.content
    assert ask(caller, "next", max_tokens=5).headers["x-ratelimit-limit"] == "600"
    assert dispatched(sandbox) == 2


def test_the_official_sdk_has_the_same_completion_again(caller, sandbox):
    client = openai.OpenAI(
        base_url=caller.api_base,
        api_key=caller.text,
        max_retries=0,
        http_client=httpx.Client(trust_env=False),
    )
    with client:
        answers = [
            client.chat.completions.create(
                model=FAST, messages=HELLO, max_tokens=5, extra_headers={"Idempotency-Key": "sdk"}
            )
            for _ in range(2)
        ]
        streams = [
            list(
                client.chat.completions.create(
                    model=FAST, messages=HELLO, stream=True, extra_headers={"Idempotency-Key": "sdk-stream"}
                )
            )
            for _ in range(2)
        ]

    assert answers[0] == answers[1] and answers[0].choices[0].message.content
    assert streams[0] == streams[1] and streams[0][-1].usage is not None
    assert dispatched(sandbox) == 2
