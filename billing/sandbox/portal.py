"""The customer portal: its settings and its sessions, as the API makes them."""

from __future__ import annotations

import copy

from billing.sandbox import customers
from billing.sandbox.account import Account, random_id
from billing.sandbox.lists import page
from billing.sandbox.refusals import Invalid, Thing, required

_FEATURES: Thing = {
    "customer_update": {"allowed_updates": [], "enabled": False},
    "invoice_history": {"enabled": False},
    "payment_method_update": {"enabled": False, "payment_method_configuration": None},
    "subscription_cancel": {
        "cancellation_reason": {"enabled": False, "options": []},
        "enabled": False,
        "mode": "at_period_end",
        "proration_behavior": "none",
    },
    "subscription_update": {
        "billing_cycle_anchor": None,
        "default_allowed_updates": [],
        "enabled": False,
        "products": None,
        "proration_behavior": "none",
        "schedule_at_period_end": {"conditions": []},
    },
}


def create_configuration(account: Account, params: Thing) -> Thing:
    is_first = next(account.find("billing_portal.configuration"), None) is None
    configuration = account.add(
        "billing_portal.configuration",
        {
            "active": True,
            "application": None,
            "business_profile": {"headline": None, "privacy_policy_url": None}
            | {"terms_of_service_url": None}
            | (params.get("business_profile") or {}),
            "default_return_url": params.get("default_return_url") or None,
            "features": _merged(_FEATURES, params["features"]),
            "is_default": is_first,
            "login_page": {"enabled": False, "url": None},
            "metadata": dict(params.get("metadata") or {}),
            "name": params.get("name"),
            "updated": account.now(),
        },
    )
    account.emit("billing_portal.configuration.created", configuration)
    return configuration


def update_configuration(account: Account, params: Thing, configuration_id: str) -> Thing:
    configuration = account.get("billing_portal.configuration", configuration_id)
    if "features" in params:
        configuration["features"] = _merged(configuration["features"], params["features"])
    for name in ("active", "default_return_url", "name"):
        if name in params:
            configuration[name] = params[name] if params[name] != "" else None
    if "business_profile" in params:
        configuration["business_profile"] |= params["business_profile"]
    configuration["metadata"] = customers.merged(configuration["metadata"], params.get("metadata"))
    configuration["updated"] = account.now()
    account.changed(configuration)
    account.emit("billing_portal.configuration.updated", configuration)
    return configuration


def _merged(features: Thing, asked: Thing) -> Thing:
    both = copy.deepcopy(features)
    for name, wanted in asked.items():
        both[name] = {**both.get(name, {}), **wanted}
    return both


def retrieve_configuration(account: Account, params: Thing, configuration_id: str) -> Thing:
    return account.get("billing_portal.configuration", configuration_id)


def list_configurations(account: Account, params: Thing) -> Thing:
    equal = {name: params[name] for name in ("active", "is_default") if name in params}
    found = account.find("billing_portal.configuration", **equal)
    return page(account, found, params, "/v1/billing_portal/configurations")


def create_session(account: Account, params: Thing) -> Thing:
    if not params.get("customer"):
        raise required("customer")
    customer = customers.existing(account, params["customer"], "customer")
    configuration = _configuration(account, params.get("configuration"))
    return_url = params.get("return_url") or configuration["default_return_url"]
    session = account.add(
        "billing_portal.session",
        {
            "configuration": configuration["id"],
            "customer": customer["id"],
            "flow": None,
            "locale": params.get("locale"),
            "on_behalf_of": None,
            "return_url": return_url,
        },
        customer=customer["id"],
    )
    session["url"] = f"{account.url}/p/session/{session['id']}_{random_id('live', 16)}"
    session["_path"] = session["url"].rpartition("/")[2]
    account.emit("billing_portal.session.created", session)
    return session


def _configuration(account: Account, wanted: str | None) -> Thing:
    if wanted:
        return account.get("billing_portal.configuration", wanted, "configuration")
    found = next(account.find("billing_portal.configuration", is_default=True), None)
    if found is None:
        raise Invalid(
            "No configuration provided and your test mode default configuration has not been created. "
            "Provide a configuration or create your default by saving your customer portal settings."
        )
    return found
