"""Looking before calling: the route that a request would take, and a model's endpoints with live figures."""

from __future__ import annotations

import pytest

from tests.routing.gateway.caller import HELLO, error_of

pytestmark = pytest.mark.xdist_group("gateway")


def preview(caller, model="auto", **fields):
    return caller.http.post("/route", json={"model": model, "messages": HELLO, **fields})


@pytest.mark.parametrize("preference", ["cost", "speed", "balanced"])
def test_a_preview_names_the_endpoint_that_the_call_then_goes_to(caller, preference):
    seen = preview(caller, route_preference=preference, max_tokens=5).json()

    served = caller.chat("auto", route_preference=preference, max_tokens=5)

    assert seen["endpoint"] == seen["route"]["chosen"] == served.headers["x-fairlead-endpoint"]
    assert seen["object"] == "route" and seen["route"]["preference"] == preference
    assert {each["endpoint"] for each in seen["route"]["candidates"]} >= {seen["endpoint"]}
    assert 0 < float(seen["cost"]) <= float(seen["cost_most"])
    assert seen["max_tokens"] == 5


def test_a_preview_costs_nothing_and_calls_nobody(caller, desk, sandbox):
    before = len(sandbox.bill()["calls"]), desk.wallet(caller.organization).funds

    assert preview(caller).status_code == 200

    assert (len(sandbox.bill()["calls"]), desk.wallet(caller.organization).funds) == before
    assert desk.generations(caller.organization) == []


def test_a_preview_says_why_nothing_fits(caller):
    answer = preview(caller, "sandbox/pebble", max_cost="0.000000001")

    assert error_of(answer) == (404, "no_endpoints")


def test_previews_have_a_rate_limit_of_their_own_that_no_call_uses_up(caller, desk):
    desk.change(caller.key_id, requests_per_minute=2)
    answers = []
    while len(answers) < 300 and (not answers or answers[-1].status_code == 200):
        answers.append(preview(caller))
    refused = answers[-1]

    assert len(answers) > 30 and error_of(refused) == (429, "rate_limit_exceeded")
    assert refused.headers["x-ratelimit-limit"] == "30" and refused.headers["retry-after"] in {"1", "2"}
    assert 0 < refused.json()["error"]["metadata"]["retry_after_ms"] <= 2000
    assert error_of(caller.http.post("/cost", json={})) == (429, "rate_limit_exceeded"), (
        "they are counted as one"
    )
    assert caller.chat(max_tokens=1).status_code == 200, "and the call has its own"
    other, _ = desk.key(caller.organization)
    beside = {"authorization": f"Bearer {other}"}
    asked = caller.body(max_tokens=1)
    assert caller.http.post("/route", json=asked, headers=beside).status_code == 200, "as another key has"


def test_a_preview_wants_a_key(running, caller):
    assert caller.http.post("/route", json={}, headers={"authorization": ""}).status_code == 401
    assert error_of(preview(caller, route_preference="best")) == (400, "invalid_request")


def test_a_price_asked_for_beforehand_is_what_the_call_then_costs(caller, desk):
    model = "sandbox/pebble"
    answer = caller.chat(model, max_tokens=5)
    told = answer.json()["usage"]
    priced = caller.http.post("/cost", json={"model": model, "usage": told}).json()

    served = answer.headers["x-fairlead-endpoint"]
    (found,) = (each for each in priced["endpoints"] if each["endpoint"] == served)
    assert found["total_nanos"] == told["cost_nanos"] > 0
    assert len(desk.await_generations(caller.organization, 1)) == 1, "and nothing was called for it"
    assert caller.http.post("/cost", json={"model": model}, headers={"authorization": ""}).status_code == 401
    assert error_of(caller.http.post("/cost", json={"model": model})) == (400, "invalid_request")
    assert error_of(caller.http.post("/cost", json={"model": "no/such", "usage": told})) == (
        *(404, "model_not_found"),
    )


def test_endpoints_of_a_model_are_public_with_their_facts_and_figures(caller):
    for _ in range(3):
        assert caller.chat("sandbox/meridian", max_tokens=3).status_code == 200

    data = caller.http.get("/models/sandbox/meridian/endpoints", headers={"authorization": ""}).json()["data"]

    assert (data["id"], data["architecture"]["modality"]) == ("sandbox/meridian", "text+image->text")
    found = {each["tag"]: each for each in data["endpoints"]}
    assert set(found) == {"sandbox-steady", "sandbox-deep"}
    steady = found["sandbox-steady"]
    assert steady["pricing"]["prompt"] == "0.00000045" and steady["supports_implicit_caching"]
    assert steady["context_length"] == 128_000 and steady["data_policy"] == "zero-retention"
    assert steady["expected"] == {"latency": 200.0, "throughput": 200.0}
    assert (steady["state"], steady["status"]) == ("normal", 0)
    assert {"uptime_last_5m", "uptime_last_30m", "uptime_last_1d", "latency_last_5m"} <= set(steady)


def test_endpoints_of_an_unknown_model_are_a_404_that_names_the_nearest(caller):
    answer = caller.http.get("/models/sandbox/meridiam/endpoints")

    assert error_of(answer) == (404, "model_not_found")
    assert answer.json()["error"]["metadata"]["nearest"] == "sandbox/meridian"
