"""A request sent again after its worker died: called anew if it was free, and never charged twice."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.routing.gateway.test_idempotency import ask, dispatched

pytestmark = pytest.mark.xdist_group("gateway")


def retried(caller, **fields):
    """What a client has that retries for as long as it is told to."""
    until = time.monotonic() + 40
    while True:
        assert time.monotonic() < until, "no answer came"
        try:
            answer = ask(caller, **fields)
        except httpx.TransportError:  # the worker that died still had the connection
            continue
        error_type = "" if answer.status_code == 200 else answer.json()["error"]["type"]
        if error_type != "idempotency_in_flight" and answer.status_code != 503:
            return answer
        time.sleep(0.1)


PLACES = ("after_dispatch", "before_spool", "after_spool", "before_claim_done")


def rare(place):
    return pytest.param((place, True), marks=pytest.mark.long)


@pytest.mark.parametrize("case", [(place, False) for place in PLACES] + list(map(rare, PLACES)), ids=str)
def test_one_request_one_charge(running, caller, desk, sandbox, case):
    place, stream = case
    sandbox.http.post(f"{sandbox.url}/_sandbox/reset")
    armed = running.var.parent / "crashes" / place
    armed.touch()

    with pytest.raises(httpx.TransportError):
        ask(caller, max_tokens=5, stream=stream)
    assert not armed.exists()
    answer = retried(caller, max_tokens=5, stream=stream)

    calls = dispatched(sandbox)
    if place in ("after_dispatch", "before_spool"):
        assert answer.status_code == 200 and "idempotent-replayed" not in answer.headers
        rows = desk.await_generations(caller.organization, 2, seconds=40, posted=True)
        assert sorted(row["status"] for row in rows) == ["completed", "void"]
        assert calls == (1 if place == "after_dispatch" else 2)
    else:
        rows = desk.await_generations(caller.organization, 1, seconds=40, posted=True)
        assert rows[0]["status"] == "completed" and calls == 1
        if place == "after_spool":
            error = answer.json()["error"]
            assert (answer.status_code, error["type"]) == (409, "idempotency_answer_not_kept")
            assert error["metadata"]["generation_id"] == rows[0]["id"]
        else:
            assert (answer.status_code, answer.headers["idempotent-replayed"]) == (200, "true")
            assert answer.headers["x-generation-id"] == rows[0]["id"]
    (charged,) = [row["charge_nanos"] for row in rows if row["status"] == "completed"]
    assert charged > 0 and desk.wallet(caller.organization).funds == 10 * 10**9 - charged
    assert desk.breaches() == []
