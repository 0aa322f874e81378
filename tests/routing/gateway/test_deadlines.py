"""Deadlines: a customer's own `timeout` is charged as if it had left, ours are free; each holds by itself."""

from __future__ import annotations

import time

import pytest

from tests.routing.gateway.caller import error_of

pytestmark = pytest.mark.xdist_group("gateway")


def aborted(caller, desk):
    """The one generation of this organization: charged like an abort, with nothing held any more."""
    (row,) = desk.await_generations(caller.organization, 1, posted=True)
    assert (row["status"], row["finish_reason"], row["error_type"]) == (
        "aborted",
        "aborted",
        "deadline_exceeded",
    )
    assert row["estimated"] and row["input"] > 0 and row["charge_nanos"] > 0 and row["loss_nanos"] == 0
    wallet = desk.await_no_holds(caller.organization)
    assert wallet.funds == 10 * 10**9 - row["charge_nanos"] == wallet.credit - wallet.spent
    return row


@pytest.mark.parametrize("streamed", [False, True])
def test_a_timeout_that_passes_before_the_first_byte_costs_the_prompt(caller, desk, sandbox, streamed):
    began = time.monotonic()
    ask = {"model": "sandbox/oracle", "timeout": 0.8, "max_tokens": 50}
    answer = caller.http.post("/chat/completions", json=caller.body(**ask, stream=streamed))

    assert 0.7 < time.monotonic() - began < 4.5  # before the deadline of ours
    assert error_of(answer) == (408, "deadline_exceeded")
    assert answer.headers["x-should-retry"] == "false"
    row = aborted(caller, desk)
    assert row["output"] == 0
    told = answer.json()["error"]["metadata"]
    assert (told["generation_id"], told["cost_nanos"]) == (row["id"], row["charge_nanos"])
    assert "timeout" not in sandbox.calls(model="oracle")["recent"][-1]["fields"]


def test_a_timeout_that_passes_in_mid_stream_costs_what_was_produced(caller, desk, sandbox):
    stream = caller.stream("sandbox/harbor", timeout=2.2, provider={"only": ["sandbox-thrift"]})

    (error,) = stream.errors
    assert error["metadata"]["error_type"] == "deadline_exceeded" and stream.finish == "error"
    assert stream.text and not stream.done
    row = aborted(caller, desk)
    assert row["output"] > 0 and error["metadata"]["cost_nanos"] == row["charge_nanos"]
    call = sandbox.calls(model="harbor", ending="client_closed")["recent"][-1]
    produced = call["usage"]["completion_tokens"]
    assert produced * 0.5 - 3 <= row["output"] <= produced * 2 + 3


def test_a_timeout_into_a_silent_stream_is_kept(caller, desk):
    began = time.monotonic()
    stream = caller.stream("sandbox/fault-hang-after-3", timeout=1)

    assert time.monotonic() - began < 4.5  # a later deadline of ours would be a `timeout`
    assert [error["metadata"]["error_type"] for error in stream.errors] == ["deadline_exceeded"]
    aborted(caller, desk)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_timeout_longer_than_our_own_deadline_leaves_the_providers_fault_free(caller, desk, streamed):
    ask = {"model": "sandbox/fault-hang", "timeout": 60, "stream": streamed}
    answer = caller.http.post("/chat/completions", json=caller.body(**ask))

    assert b"timeout" in answer.content
    (row,) = desk.await_generations(caller.organization, 1)
    assert (row["status"], row["error_type"], row["charge_nanos"]) == ("failed", "timeout", 0)


def test_an_answer_within_its_timeout_is_as_ever(caller, desk, sandbox):
    stream = caller.stream(timeout=4)
    plain = caller.chat(timeout=4)

    assert stream.done and plain.status_code == 200
    for row in desk.await_generations(caller.organization, 2):
        assert row["status"] == "completed" and row["charge_nanos"] == sandbox.charge(row["upstream_id"])


@pytest.mark.parametrize("timeout", [0, -1, "5", True, 1e9, [1]])
def test_a_timeout_that_is_none_is_refused(caller, timeout):
    answer = caller.chat(timeout=timeout)

    assert error_of(answer) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == "timeout"


def test_the_deadline_of_the_first_event_holds_though_the_one_between_events_is_shorter(caller, desk):
    """Three seconds here, where two events of a stream may be two seconds apart."""
    began = time.monotonic()
    stream = caller.stream("sandbox/fault-hang")

    assert time.monotonic() - began > 2.8
    assert [error["metadata"]["error_type"] for error in stream.errors] == ["timeout"]
    (row,) = desk.await_generations(caller.organization, 1)
    assert 2800 < row["latency_ms"] < 4800


def test_the_deadline_between_events_holds_once_the_first_has_come(caller, desk):
    """Two seconds, not three: what a busy machine adds, it does not add to each of several calls."""
    for count in range(1, 6):
        caller.stream("sandbox/fault-hang-after-3")
        rows = desk.await_generations(caller.organization, count)
        assert all(row["error_type"] == "timeout" and row["latency_ms"] > 1900 for row in rows)
        if min(row["latency_ms"] for row in rows) < 2900:
            return
    pytest.fail(f"took {[row['latency_ms'] for row in rows]} ms")


def test_a_fallback_says_in_its_own_words_why_it_served(caller, desk):
    answer = caller.chat("sandbox/flaky-reset", max_tokens=4)

    (row,) = desk.await_generations(caller.organization, 1)
    decision = row["decision"]
    if decision["attempts"]:
        reason = "took over from sandbox-faults:sandbox/flaky-reset (unreachable)"
        assert decision["served_reason"] == reason == answer.headers["x-fairlead-reason"]
        assert decision["chosen"] == "sandbox-faults:sandbox/flaky-reset"
        assert decision["served"] == "sandbox-steady:sandbox/flaky-reset"
    else:  # it has failed so often here that it is no longer the first choice
        assert decision["served"] == decision["chosen"] and "served_reason" not in decision
