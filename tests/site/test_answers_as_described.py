"""What a running product answers is what its own description says, to the last field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.product import Product
from tests.site import described

pytestmark = pytest.mark.xdist_group("product")

ASK = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 6}


@pytest.fixture(scope="module")
def calls(product: Product) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {product.api_key}"}
    with httpx.Client(base_url=product.api_base, headers=headers, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def manages(product: Product) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {product.management_key}"}
    with httpx.Client(base_url=product.api_base, headers=headers, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def document(product: Product) -> dict[str, Any]:
    return httpx.get(f"{product.api_base}/openapi.json", trust_env=False).json()


def _schema(document: dict[str, Any], answer: httpx.Response, path: str) -> dict[str, Any]:
    """What the document says of this very status of this operation; a KeyError where it says nothing."""
    operation = document["paths"][path][answer.request.method.lower()]
    found = operation["responses"][str(answer.status_code)]
    assert answer.headers["content-type"] in found["content"]
    return found["content"]["application/json"]["schema"]


def _fits(document: dict[str, Any], answer: httpx.Response, path: str) -> Any:
    """As described by its path, method and status; the body."""
    schema = _schema(document, answer, path)
    if "$ref" in schema:
        described.fits(document, schema["$ref"].rpartition("/")[2], answer.json())
        return answer.json()
    refs, said = schema["allOf"]
    described.fits(document, refs["$ref"].rpartition("/")[2], answer.json())
    error, told = answer.json()["error"], said["properties"]["error"]["properties"]
    assert error["code"] == told["code"]["const"] == answer.status_code
    assert error["type"] in told["type"]["enum"]
    return answer.json()


def test_the_description_is_there_for_anybody_and_may_be_kept(product):
    url = f"{product.api_base}/openapi.json"
    first = httpx.get(url, trust_env=False)
    tag = first.headers["etag"].removeprefix("W/")  # weak, since it was compressed on its way
    again = httpx.get(url, headers={"If-None-Match": f'"other", W/{tag}'}, trust_env=False)
    short = httpx.get(f"{product.base_url}/v1/openapi.json", trust_env=False)

    assert first.headers["content-type"] == "application/json"
    assert first.headers["cache-control"] == "public, max-age=300"
    assert first.json()["servers"] == [{"url": product.api_base}]
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert short.json() == first.json()
    assert httpx.get(f"{url}?key={product.api_key[:-1]}x", trust_env=False).status_code == 400


def test_a_plain_answer_with_its_decision_and_the_receipt(calls, document):
    answer = calls.post("/chat/completions", json={**ASK, "model": "auto", "route": True})
    completion = _fits(document, answer, "/chat/completions")
    receipt = _fits(document, calls.get("/generation", params={"id": completion["id"]}), "/generation")

    assert receipt["data"]["cost_nanos"] == completion["usage"]["cost_nanos"] > 0
    listed = document["paths"]["/chat/completions"]["post"]["responses"]["200"]["headers"]
    said = {name for name in answer.headers if name.startswith(("x-fairlead-", "x-generation", "x-rate"))}
    assert said - {name.lower() for name in listed} == set()
    assert "x-fairlead-endpoint" in said


@pytest.mark.parametrize("model", ["sandbox/pebble", "sandbox/fault-error-event"])
def test_each_event_of_a_stream(calls, document, model):
    text = calls.post("/chat/completions", json={**ASK, "model": model, "stream": True}).text
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]

    failed = "fault" in model
    assert (events[-1] == "[DONE]") != failed
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    for chunk in chunks:
        described.fits(document, "ChatCompletionChunk", chunk)
    assert ("error" in chunks[-1]) == failed
    assert ("usage" in chunks[-1]) != failed


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("/models", "/models"),
        ("/models/{author}/{slug}", "/models/sandbox/meridian"),
        ("/models/{author}/{slug}/endpoints", "/models/sandbox/meridian/endpoints"),
        ("/key", "/key"),
        ("/credits", "/credits"),
    ],
)
def test_what_may_be_read(calls, document, path, address):
    _fits(document, calls.get(address), path)


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/usage", {"group_by": "model,day", "limit": 1}),
        ("/usage", {"group_by": "key"}),
        ("/usage", {"group_by": "end_user"}),
        ("/usage", {"group_by": "colour"}),
        ("/activity", {}),
        ("/activity", {"date": "yesterday"}),
        ("/invoices", {}),
        ("/invoices", {"kind": "bill"}),
        ("/invoices/current", {}),
    ],
)
def test_usage_and_documents_by_what_one_asks_for(manages, calls, document, path, asked):
    _fits(document, manages.get(path, params=asked), path)
    _fits(document, calls.get(path, params=asked), path)


def test_a_preview_with_a_demand(calls, document):
    asked = {**ASK, "model": "auto", "provider": {"ignore": ["sandbox-deep", "nobody"]}}
    found = _fits(document, calls.post("/route", json=asked), "/route")

    assert found["route"]["excluded"] and found["route"]["unknown_providers"] == ["nobody"]


def test_what_a_usage_costs(calls, document):
    example = document["paths"]["/cost"]["post"]["requestBody"]["content"]["application/json"]["example"]
    priced = _fits(document, calls.post("/cost", json=example), "/cost")
    shown = document["paths"]["/cost"]["post"]["responses"]["200"]["content"]["application/json"]["example"]

    assert priced["endpoints"][0] | {"price_id": 0} == shown["endpoints"][0] | {"price_id": 0}
    estimated = calls.post("/cost", json={**ASK, "model": "sandbox/meridian"})
    assert _fits(document, estimated, "/cost")["estimated"]
    _fits(document, calls.post("/cost", json={"model": "sandbox/meridian"}), "/cost")


def test_keys_from_making_to_deleting(manages, calls, document):
    asked = {"name": "described", "limit": 2, "limit_reset": "daily", "requests_per_minute": 9}
    made = _fits(document, manages.post("/keys", json=asked), "/keys")
    _fits(document, manages.get("/keys"), "/keys")
    at = f"/keys/{made['data']['id']}"
    _fits(document, manages.get(at), "/keys/{key}")
    _fits(document, manages.patch(at, json={"disabled": False, "limit": None}), "/keys/{key}")
    own = {"Authorization": f"Bearer {made['key']}"}
    state = _fits(document, calls.get("/key", headers=own), "/key")["data"]
    assert (state["limit_reset"], state["rate_limit"]["requests"]) == ("daily", 9)
    said = calls.post("/chat/completions", json={**ASK, "model": "auto"}, headers=own).headers
    assert (said["x-ratelimit-limit"], said["x-ratelimit-remaining"]) == ("9", "8")
    _fits(document, manages.delete(at), "/keys/{key}")
    _fits(document, manages.get(at), "/keys/{key}")
    gone = calls.get("/key", headers=own)
    _fits(document, gone, "/key")
    assert gone.status_code == 401


def test_budgets_from_setting_to_deleting(manages, document):
    asked = {"kind": "end_user", "window": "day", "limit": "2.5", "end_user": "described"}
    made = _fits(document, manages.post("/budgets", json=asked), "/budgets")["data"]
    _fits(document, manages.post("/budgets", json=asked), "/budgets")
    _fits(document, manages.post("/budgets", json={**asked, "kind": "key"}), "/budgets")
    _fits(document, manages.get("/budgets"), "/budgets")
    at, path = f"/budgets/{made['id']}", "/budgets/{budget}"
    _fits(document, manages.get(at), path)
    changed = _fits(document, manages.patch(at, json={"limit": 3, "thresholds": []}), path)["data"]
    assert (changed["limit"], changed["thresholds"], changed["left"]) == (3, [], 3)
    _fits(document, manages.delete(at), path)
    _fits(document, manages.get(at), path)


@pytest.mark.parametrize("form", ["", ".pdf", ".csv"])
def test_a_document_that_is_not_there(manages, calls, document, form):
    for client in (manages, calls):
        _fits(document, client.get(f"/invoices/nothing{form}"), f"/invoices/{{invoice}}{form}")


def test_refusals_of_calls(calls, manages, document):
    path = "/chat/completions"
    for asked, status in (
        ({**ASK, "model": "sandbox/swalow"}, 404),
        ({**ASK, "model": "auto", "max_tokens": -1}, 400),
        ({**ASK, "model": "auto", "service_tier": "priority"}, 400),
        ({**ASK, "model": "auto", "provider": {"only": ["nobody"]}}, 404),
        ({**ASK, "model": "sandbox/oracle", "max_tokens": 32_000, "n": 16}, 402),
        ({**ASK, "model": "sandbox/fault-500"}, 502),
        ({**ASK, "model": "auto", "max_tokens": 400, "timeout": 0.01}, 408),
    ):
        answer = calls.post(path, json=asked)

        assert answer.status_code == status, answer.text
        _fits(document, answer, path)
    _fits(document, manages.post(path, json={**ASK, "model": "auto"}), path)
    _fits(document, calls.get("/keys"), "/keys")
    _fits(document, manages.post("/keys", content=b"{"), "/keys")
    _fits(document, manages.post("/keys", json={"name": "k", "surplus": 1}), "/keys")
    _fits(document, calls.get("/generation", params={"id": "gen-1"}), "/generation")


def test_what_the_description_asks_of_a_request_is_what_is_taken(calls, document):
    """Its own examples of bodies, and a body with every field that it lists."""
    whole = {
        **ASK,
        "model": "auto",
        "route_preference": "speed",
        "min_class": "small",
        "allowed_models": ["sandbox/*"],
        "max_cost": "0.5",
        "timeout": 30,
        "num_retries": 1,
        "session_id": "one",
        "provider": {
            "only": ["sandbox-swift", "sandbox-steady"],
            "allow_fallbacks": True,
            "data_collection": "deny",
            "zdr": True,
            "sort": {"by": "latency", "partition": "model"},
            "max_price": {"prompt": 100, "completion": 100, "request": 1},
            "preferred_min_throughput": 1,
            "preferred_max_latency": {"p90": 30},
            "quantizations": ["unknown"],
            "require_parameters": False,
        },
        "temperature": 0.5,
        "stop": ["never"],
        "response_format": {"type": "text"},
        "plugins": [{"id": "auto-router", "allowed_models": ["sandbox/*"]}],
    }
    described.fits(document, "ChatRequest", whole)

    assert calls.post("/chat/completions", json=whole).status_code == 200
    example = document["paths"]["/route"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert calls.post("/route", json=example).status_code == 200
