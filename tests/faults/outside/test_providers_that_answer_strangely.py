"""Answers of providers in every odd form: a valid one arrives whole, a broken one is an error and free."""

from __future__ import annotations

import json
import time

import pytest

from routing.sandbox import answers
from routing.sandbox.strange import BROKEN, NEVER_BEGUN, VALID
from tests.routing.gateway.caller import HELLO, error_of

pytestmark = pytest.mark.xdist_group("outside")

FOR_EVER = ("drip", "comments-for-ever", "flood")
ALSO_PLAIN = [
    *("gzip", "page", "empty", "redirect", "accepted", "no-http", "two-lengths", "long-headers"),
    *("retry-in-an-age", "endless-error", "no-unicode", "of-another-kind"),
]


def nothing_charged(caller, desk, *, error_type):
    (row,) = desk.await_generations(caller.organization, 1)
    assert (row["status"], row["charge_nanos"], row["error_type"]) == ("failed", 0, error_type)
    assert desk.await_no_holds(caller.organization).funds == 10 * 10**9


@pytest.mark.parametrize("form", sorted(VALID))
def test_a_valid_stream_in_an_unusual_form_arrives_whole(caller, desk, sandbox, form):
    expected = answers.compose(form, {"messages": HELLO}, choice=0, length=12, most=None)
    stream = caller.stream(f"strange/{form}")

    assert stream.status == 200 and stream.done and not stream.errors and not stream.broken
    assert stream.raw.count(b"[DONE]") == 1
    assert (stream.text, stream.finish) == (expected.text, expected.finish_reason)
    assert stream.usage["completion_tokens"] == 12
    (row,) = desk.await_generations(caller.organization, 1)
    assert (row["status"], row["estimated"]) == ("completed", False)
    until = time.monotonic() + 60  # a provider writes its bill after its last byte
    while not sandbox.bill(id=row["upstream_id"])["calls"]:
        assert time.monotonic() < until, "the provider sends no bill"
        time.sleep(0.05)
    assert row["charge_nanos"] == stream.usage["cost_nanos"] == sandbox.charge(row["upstream_id"])


@pytest.mark.parametrize("form", sorted(NEVER_BEGUN))
def test_an_answer_that_never_begins_is_an_error_and_free(caller, desk, form):
    stream = caller.stream(f"strange/{form}", num_retries=0)  # nor a comment while it is asked again

    kind = "provider_rate_limited" if form == "retry-in-an-age" else "provider_unavailable"
    assert stream.status in (502, 429), stream.raw
    assert json.loads(stream.raw)["error"]["metadata"]["error_type"] == kind
    nothing_charged(caller, desk, error_type=kind)


@pytest.mark.parametrize("form", sorted(NEVER_BEGUN))
def test_an_answer_that_never_begins_falls_back_unseen(caller, desk, sandbox, form):
    stream = caller.stream(f"pair/{form}", route_preference="speed")

    assert stream.status == 200 and stream.done and not stream.errors
    assert stream.headers["x-fairlead-attempts"] == "2"
    (row,) = desk.await_generations(caller.organization, 1)
    assert row["endpoint"] == f"sandbox-bench:pair/{form}"
    assert row["charge_nanos"] == stream.usage["cost_nanos"] == sandbox.charge(row["upstream_id"])


@pytest.mark.parametrize("form", ALSO_PLAIN)
def test_a_plain_answer_that_is_none_falls_back_and_then_is_an_error(caller, desk, sandbox, form):
    saved = caller.chat(f"pair/{form}", route_preference="speed")
    assert saved.status_code == 200
    attempts = saved.headers["x-fairlead-attempts"]  # one, if it asked before to be left alone for an age
    assert attempts == "2" or (attempts, form) == ("1", "retry-in-an-age")

    status, _ = error_of(answer := caller.chat(f"strange/{form}"))
    assert status == (429 if form == "retry-in-an-age" else 502)
    if status == 429:
        assert 0 < int(answer.headers["retry-after"]) <= 3600
    rows = desk.await_generations(caller.organization, 2)
    assert [row["status"] for row in rows] == ["completed", "failed"]
    assert rows[0]["charge_nanos"] == sandbox.charge(rows[0]["upstream_id"]) > rows[1]["charge_nanos"] == 0


@pytest.mark.parametrize("form", sorted(BROKEN.keys() - set(FOR_EVER)))
def test_a_stream_that_breaks_is_one_error_event_and_free(caller, desk, form):
    stream = caller.stream(f"strange/{form}")

    assert stream.status == 200 and not stream.broken
    assert stream.text and b"[DONE]" not in stream.raw
    (error,) = stream.errors
    assert error["metadata"]["error_type"] == "provider_unavailable"
    assert stream.chunks[-1]["error"] == error
    nothing_charged(caller, desk, error_type="provider_unavailable")


@pytest.mark.parametrize("form", ["drip", "comments-for-ever"])
def test_a_stream_that_does_not_end_is_ended_at_the_total_deadline(caller, desk, form):
    stream = caller.stream(f"strange/{form}")

    assert stream.status == 200 and b"[DONE]" not in stream.raw
    assert stream.raw.endswith(b"}\n\n") and stream.raw.count(b'"error":{') == 1
    nothing_charged(caller, desk, error_type="timeout")


@pytest.mark.parametrize("streamed", [False, True])
def test_only_what_we_list_of_a_providers_headers_reaches_the_customer(caller, streamed):
    model = "strange/curious-headers"
    headers = (caller.stream(model) if streamed else caller.chat(model)).headers

    ours = {"content-type", "cache-control", "x-content-type-options", "x-accel-buffering", "date"}
    ours |= {"content-length", "transfer-encoding", "x-generation-id", "x-ratelimit-limit"}
    ours |= {"x-ratelimit-remaining"}
    foreign = {name for name in headers if name not in ours and not name.startswith("x-fairlead-")}
    assert foreign == set()
    assert "provider" not in str(headers.get("x-generation-id")) and "77777" not in headers.values()


def test_no_informational_answer_reaches_the_customer(caller):
    stream = caller.stream("strange/informational")

    assert stream.done and "set-cookie" not in stream.headers


@pytest.mark.parametrize("form", ["left-over", "late-left-over"])
@pytest.mark.parametrize("streamed", [False, True])
def test_bytes_after_an_answer_are_never_the_next_callers(caller, form, streamed):
    """A connection on which something arrived that nobody asked for is not used again."""
    model = f"strange/{form}"
    for _ in range(4):
        if streamed:
            stream = caller.stream(model)
            assert stream.done and stream.usage["completion_tokens"] == 12
        else:
            answer = caller.chat(model)
            assert answer.status_code == 200, answer.text
            assert answer.json()["usage"]["completion_tokens"] == 12
        time.sleep(0.35)  # until what is left over has arrived


def test_the_books_are_right_after_all_that(desk):
    assert desk.breaches() == []
