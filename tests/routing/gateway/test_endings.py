"""How calls end when a provider fails: unseen before the first byte, typed and free after it."""

from __future__ import annotations

import time

import pytest

from tests.routing.gateway.caller import error_of

pytestmark = pytest.mark.xdist_group("gateway")

BEFORE = [
    ("fault-refuse", 400, "invalid_request"),
    ("fault-401", 502, "provider_unavailable"),
    ("fault-402", 502, "provider_unavailable"),
    ("fault-403", 502, "provider_unavailable"),
    ("fault-404", 502, "provider_unavailable"),
    ("fault-429", 429, "provider_rate_limited"),
    ("fault-500", 502, "provider_unavailable"),
    ("fault-503", 503, "provider_overloaded"),
    ("fault-reset", 502, "provider_unavailable"),
    ("fault-malformed", 502, "provider_unavailable"),
]
AFTER = [
    ("fault-reset-after-3", "provider_unavailable"),
    ("fault-error-event", "provider_unavailable"),
    ("fault-malformed-after-3", "provider_unavailable"),
    ("fault-truncated", "provider_unavailable"),
    ("fault-cut", "provider_unavailable"),
    ("fault-hang-after-3", "timeout"),
]
BROKEN_PLAIN = [*(name for name, _ in AFTER if name != "fault-hang-after-3")]


def free(caller, desk, *, error_type):
    """The one generation of this organization: failed, free, with its hold given back."""
    (row,) = desk.await_generations(caller.organization, 1)
    assert (row["status"], row["charge_nanos"], row["error_type"]) == ("failed", 0, error_type)
    wallet = desk.await_no_holds(caller.organization)
    assert wallet.funds == 10 * 10**9 == wallet.credit - wallet.spent
    return row


@pytest.mark.parametrize(("model", "status", "kind"), BEFORE)
def test_a_plain_call_that_fails(caller, desk, model, status, kind):
    answer = caller.chat(f"sandbox/{model}")

    assert error_of(answer) == (status, kind)
    row = free(caller, desk, error_type=kind)
    assert answer.json()["error"]["metadata"]["generation_id"] == row["id"]
    assert row["loss_nanos"] == 0
    if status in (429, 503):
        assert int(answer.headers["retry-after"]) in (7, 3)


@pytest.mark.parametrize(("model", "status", "kind"), BEFORE)
def test_a_stream_that_fails_before_its_first_byte_is_a_plain_error(caller, desk, model, status, kind):
    stream = caller.stream(f"sandbox/{model}")

    assert stream.status == status
    assert stream.headers["content-type"] == "application/json"
    free(caller, desk, error_type=kind)


@pytest.mark.parametrize("model", BROKEN_PLAIN)
def test_a_plain_answer_that_breaks_off(caller, desk, model):
    answer = caller.chat(f"sandbox/{model}")

    assert error_of(answer) == (502, "provider_unavailable")
    free(caller, desk, error_type="provider_unavailable")


@pytest.mark.parametrize(("model", "kind"), AFTER)
def test_a_stream_that_fails_after_its_first_byte(caller, desk, model, kind):
    stream = caller.stream(f"sandbox/{model}")

    assert stream.status == 200 and not stream.broken
    assert len(stream.text) > 0
    (error,) = stream.errors
    assert error["metadata"]["error_type"] == kind
    assert stream.chunks[-1]["error"] == error and stream.finish == "error"
    assert b"[DONE]" not in stream.raw
    row = free(caller, desk, error_type=kind)
    assert row["loss_nanos"] > 0
    assert error["metadata"]["generation_id"] == row["id"] == stream.chunks[0]["id"]


def test_silence_before_the_first_byte_ends_at_the_deadline(caller, desk):
    began = time.monotonic()
    stream = caller.stream("sandbox/fault-hang")
    took = time.monotonic() - began

    assert 1.8 < took < 20
    # Comments kept the connection alive, so the status line was gone: the error is an event.
    assert stream.status == 200 and stream.comments
    assert [error["metadata"]["error_type"] for error in stream.errors] == ["timeout"]
    assert b"[DONE]" not in stream.raw
    free(caller, desk, error_type="timeout")


def test_a_plain_call_into_silence_ends_at_the_deadline(caller, desk):
    began = time.monotonic()
    answer = caller.chat("sandbox/fault-hang")

    assert error_of(answer) == (504, "timeout")
    assert 4.5 < time.monotonic() - began < 20
    free(caller, desk, error_type="timeout")


def test_a_slow_first_token_gets_comments_and_then_its_answer(caller, desk):
    stream = caller.stream("sandbox/oracle", max_tokens=4)
    slow = caller.stream("sandbox/fault-slow-headers", max_tokens=4)

    assert stream.done and slow.done
    assert slow.comments and slow.raw.startswith(b":")
    assert slow.headers["X-Generation-Id"] == slow.chunks[0]["id"]
    assert slow.usage["cost_nanos"] > 0
    desk.await_generations(caller.organization, 2)


@pytest.mark.parametrize("streamed", [False, True])
def test_usage_that_is_not_reported_is_counted(caller, desk, streamed):
    model = "sandbox/fault-no-usage"
    usage = caller.stream(model).usage if streamed else caller.chat(model).json()["usage"]

    (row,) = desk.await_generations(caller.organization, 1)
    assert row["estimated"] and row["status"] == "completed"
    assert usage["cost_nanos"] == row["charge_nanos"] > 0
    assert 6 <= usage["completion_tokens"] <= 30  # twelve pieces of text were sent
    assert usage["prompt_tokens"] > 0


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("model", ["flaky", "flaky-429", "flaky-401", "flaky-404", "flaky-reset"])
def test_the_next_endpoint_serves_unseen(caller, desk, sandbox, model, streamed):
    if streamed:
        stream = caller.stream(f"sandbox/{model}", max_tokens=4)
        assert stream.status == 200 and stream.done and not stream.errors
        headers, usage = stream.headers, stream.usage
    else:
        answer = caller.chat(f"sandbox/{model}", max_tokens=4)
        assert answer.status_code == 200
        headers, usage = answer.headers, answer.json()["usage"]

    assert headers["x-fairlead-endpoint"] == f"sandbox-steady:sandbox/{model}"
    (row,) = desk.await_generations(caller.organization, 1)
    assert row["endpoint"] == f"sandbox-steady:sandbox/{model}"
    assert row["charge_nanos"] == usage["cost_nanos"] == sandbox.charge(row["upstream_id"])
    tried = [attempt["endpoint"] for attempt in row["decision"]["attempts"]]
    assert int(headers["x-fairlead-attempts"]) == len(tried) + 1
    assert tried in ([f"sandbox-faults:sandbox/{model}"], [])  # after three failures in a row it goes last
    desk.await_no_holds(caller.organization)


def test_a_failing_endpoint_goes_last_after_a_while(caller):
    attempts = [
        int(caller.chat("sandbox/flaky", max_tokens=1).headers["x-fairlead-attempts"]) for _ in range(8)
    ]

    assert min(attempts[-2:]) == 1  # of two in a row one at most is a probe


def test_the_books_are_right_after_all_that(caller, desk):
    assert desk.breaches() == []
