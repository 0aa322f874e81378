"""Events as the API lists them, and the endpoints that are told of them."""

from __future__ import annotations

import fnmatch
import secrets

from billing.sandbox.account import API_VERSION, Account
from billing.sandbox.customers import merged
from billing.sandbox.lists import page
from billing.sandbox.refusals import Thing


def matches(kind: str, wanted: list[str]) -> bool:
    """Whether an event's type is one of these, which may hold `*`."""
    return any(fnmatch.fnmatchcase(kind, pattern) for pattern in wanted)


def list_all(account: Account, params: Thing) -> Thing:
    wanted = params.get("types") or ([params["type"]] if "type" in params else ["*"])
    found = (each for each in account.find("event") if matches(each["type"], wanted))
    return page(account, found, params, "/v1/events")


def retrieve(account: Account, params: Thing, event_id: str) -> Thing:
    return account.get("event", event_id)


def create_endpoint(account: Account, params: Thing) -> Thing:
    """The secret is told in this answer, and never again."""
    endpoint = account.add(
        "webhook_endpoint",
        {
            "api_version": params.get("api_version", API_VERSION),
            "application": None,
            "description": params.get("description"),
            "enabled_events": params["enabled_events"],
            "metadata": dict(params.get("metadata") or {}),
            "status": "enabled",
            "url": params["url"],
            "_secret": f"whsec_{secrets.token_hex(16)}",
        },
    )
    return {**endpoint, "secret": endpoint["_secret"]}


def retrieve_endpoint(account: Account, params: Thing, endpoint_id: str) -> Thing:
    return account.get("webhook_endpoint", endpoint_id)


def update_endpoint(account: Account, params: Thing, endpoint_id: str) -> Thing:
    endpoint = account.get("webhook_endpoint", endpoint_id)
    for name in ("url", "enabled_events", "description"):
        if name in params:
            endpoint[name] = params[name]
    if "disabled" in params:
        endpoint["status"] = "disabled" if params["disabled"] else "enabled"
    endpoint["metadata"] = merged(endpoint["metadata"], params.get("metadata"))
    return account.changed(endpoint)


def delete_endpoint(account: Account, params: Thing, endpoint_id: str) -> Thing:
    account.remove(account.get("webhook_endpoint", endpoint_id))
    return {"id": endpoint_id, "object": "webhook_endpoint", "deleted": True}


def list_endpoints(account: Account, params: Thing) -> Thing:
    return page(account, account.find("webhook_endpoint"), params, "/v1/webhook_endpoints")
