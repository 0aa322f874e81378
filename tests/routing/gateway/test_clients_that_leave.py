"""A client that leaves: the provider is let go within 100 ms, and what was produced until then is charged."""

from __future__ import annotations

import socket
import time

import pytest

from tests.processes import wire
from tests.routing.gateway.caller import HELLO, error_of
from tests.routing.gateway.conftest import SETTINGS

pytestmark = pytest.mark.xdist_group("gateway")


TRIES = 6
"""A busy machine may be late; one that is never in time is not busy but wrong."""


def await_dispatch(sandbox, model):
    """Until the provider has a call of this model in hand."""
    until = time.monotonic() + 30
    while model not in [call["model"] for call in sandbox.calls()["in_flight"]]:
        assert time.monotonic() < until, "the provider was not called"
        time.sleep(0.01)


def left_call(sandbox, model):
    """The provider's view of the newest call that its client closed."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        found = sandbox.calls(model=model, ending="client_closed")["recent"]
        if found:
            return found[-1]
        time.sleep(0.01)
    raise AssertionError("the provider was not let go")


def test_a_provider_is_let_go_within_100_milliseconds(caller, sandbox):
    took = []
    while len(took) < TRIES and min(took, default=100) >= 100:
        sandbox.http.post(f"{sandbox.url}/_sandbox/reset")
        with caller.opened("sandbox/harbor") as response:
            next(response.iter_raw())
            left = time.monotonic() * 1000
            response.close()
        took.append(left_call(sandbox, "harbor")["client_closed_ms"] - left)

    assert min(took) < 100, took


@pytest.mark.parametrize("after", [1, 20])
def test_leaving_in_mid_stream(caller, desk, sandbox, after):
    sandbox.http.post(f"{sandbox.url}/_sandbox/reset")
    with caller.opened("sandbox/harbor") as response:
        blocks = response.iter_raw()
        for _ in range(after):
            next(blocks)
        response.close()
    call = left_call(sandbox, "harbor")

    (row,) = desk.await_generations(caller.organization, 1)
    assert (row["status"], row["finish_reason"], row["estimated"]) == ("aborted", "aborted", True)
    assert row["charge_nanos"] > 0 and row["input"] > 0
    # Our own count, of what the provider had produced when it was let go.
    produced = call["usage"]["completion_tokens"]
    assert produced * 0.5 - 3 <= row["output"] <= produced * 2 + 3
    wallet = desk.await_no_holds(caller.organization)
    assert wallet.funds == 10 * 10**9 - row["charge_nanos"] == wallet.credit - wallet.spent


@pytest.mark.parametrize("streamed", [False, True])
def test_leaving_before_the_first_byte_costs_the_prompt(caller, desk, sandbox, streamed):
    sandbox.http.post(f"{sandbox.url}/_sandbox/reset")
    host, port = caller.api_base.removeprefix("http://").removesuffix("/api/v1").split(":")
    request = caller.http.build_request(
        "POST",
        "/chat/completions",
        json={"model": "sandbox/oracle", "messages": HELLO, "stream": streamed, "max_tokens": 50},
    )
    head = f"POST {request.url.path} HTTP/1.1\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in request.headers.items()
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + b"\r\n" + request.content)
        await_dispatch(sandbox, "oracle")
    left_call(sandbox, "oracle")

    (row,) = desk.await_generations(caller.organization, 1)
    assert (row["status"], row["output"]) == ("aborted", 0)
    assert row["input"] > 0 and row["charge_nanos"] > 0
    desk.await_no_holds(caller.organization)


def test_leaving_a_call_that_hangs_costs_the_prompt_at_most(caller, desk, sandbox):
    with caller.opened("sandbox/fault-hang") as response:
        next(response.iter_raw())  # a comment

    (row,) = desk.await_generations(caller.organization, 1)
    assert row["status"] == "aborted" and row["output"] == 0
    assert desk.await_no_holds(caller.organization).holds == 0


def test_many_that_leave_leave_nothing_behind(caller, desk, sandbox):
    for _ in range(15):
        with caller.opened("sandbox/stream-100") as response:
            next(response.iter_raw())

    rows = desk.await_generations(caller.organization, 15)
    assert {row["status"] for row in rows} == {"aborted"}
    wallet = desk.await_no_holds(caller.organization)
    assert wallet.funds == 10 * 10**9 - sum(row["charge_nanos"] for row in rows)
    assert sandbox.calls()["in_flight"] == []
    assert desk.breaches() == []


def test_a_reader_that_stalls_is_let_go(caller, desk, sandbox):
    """Backpressure: the client stops reading, so nothing more is accepted for it, and then it is cut."""
    sandbox.http.post(f"{sandbox.url}/_sandbox/reset")
    with wire.connect(caller.api_base, receive_buffer=4096) as connection:
        connection.sendall(wire.request(caller, "sandbox/fault-flood", max_tokens=20_000))
        began = time.monotonic()
        assert wire.is_cut_within(connection, 30)
        assert time.monotonic() - began >= int(SETTINGS["STALLED_READER_SECONDS"])
        assert b"[DONE]" not in wire.read_all(connection)
    (row,) = desk.await_generations(caller.organization, 1, seconds=10)

    assert (row["status"], row["finish_reason"]) == ("aborted", "aborted")
    assert row["charge_nanos"] > 0
    left_call(sandbox, "fault-flood")
    desk.await_no_holds(caller.organization)


def test_an_answer_to_a_left_client_is_not_an_error_for_the_next(caller):
    for _ in range(3):
        with caller.opened("sandbox/harbor") as response:
            next(response.iter_raw())
        assert caller.chat(max_tokens=1).status_code == 200
    assert error_of(caller.chat("sandbox/none"))[0] == 404
