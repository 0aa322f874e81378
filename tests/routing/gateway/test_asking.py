"""What a key may ask: models, itself, its credit."""

from __future__ import annotations

import httpx
import pytest

pytestmark = pytest.mark.xdist_group("gateway")


def test_models_are_public(running):
    for base in (running.api_base, running.api_base.replace("/api/v1", "/v1")):
        listed = httpx.get(f"{base}/models", trust_env=False).json()["data"]
        slugs = [model["id"] for model in listed]
        assert slugs == sorted(slugs) and "sandbox/swallow" in slugs
    (harbor,) = [model for model in listed if model["id"] == "sandbox/harbor"]
    assert harbor["pricing"]["prompt"] == "0.00000025"
    assert {endpoint["tag"] for endpoint in harbor["endpoints"]} == {"sandbox-thrift", "sandbox-steady"}


def test_one_model(running):
    url = f"{running.api_base}/models"
    assert httpx.get(f"{url}/sandbox/pebble", trust_env=False).json()["data"]["id"] == "sandbox/pebble"

    missing = httpx.get(f"{url}/sandbox/pebbel", trust_env=False)
    assert missing.status_code == 404
    assert missing.json()["error"]["metadata"]["nearest"] == "sandbox/pebble"


def test_a_key_tells_of_itself(caller, desk):
    desk.change(caller.key_id, limit_nanos=2 * 10**9, limit_window="month", requests_per_minute=600)
    cost = caller.chat(max_tokens=5).json()["usage"]["cost_nanos"]
    desk.await_generations(caller.organization, 1)

    data = caller.http.get("/key").json()["data"]

    assert data["id"] == caller.key_id and data["plan"] == "free"
    assert round(data["usage"] * 10**9) == cost
    assert round((data["limit"] - data["limit_remaining"]) * 10**9) == cost
    assert (data["limit_reset"], data["rate_limit"]["requests"]) == ("monthly", 600)


def test_credit_is_what_was_given_less_what_was_charged(caller, desk):
    cost = caller.chat(max_tokens=5).json()["usage"]["cost_nanos"]
    desk.await_generations(caller.organization, 1)

    data = caller.http.get("/credits").json()["data"]

    assert (data["total_credits_nanos"], data["total_usage_nanos"]) == (10 * 10**9, cost)


def test_three_preferences_three_endpoints(caller):
    chosen, why = {}, {}
    for preference in ("speed", "cost", "balanced"):
        headers = caller.chat("auto", route_preference=preference, max_tokens=3).headers
        chosen[preference] = headers["x-fairlead-endpoint"]
        why[preference] = headers["x-fairlead-reason"]
        assert headers["x-fairlead-preference"] == preference

    assert chosen["cost"] == "sandbox-thrift:sandbox/harbor"
    assert chosen["speed"] == "sandbox-swift:sandbox/swallow"
    assert chosen["balanced"] == "sandbox-steady:sandbox/meridian"
    assert why["cost"].startswith("cheapest of") and why["speed"].startswith("fastest of")
    assert why["balanced"].startswith("best balance of")
