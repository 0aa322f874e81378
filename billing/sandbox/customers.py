"""Customers and their saved cards."""

from __future__ import annotations

import re

from billing.sandbox import cards
from billing.sandbox.account import Account
from billing.sandbox.lists import page
from billing.sandbox.refusals import Invalid, Refused, Thing, declined, missing

_PLAIN = ("description", "email", "name", "phone", "address", "shipping", "preferred_locales", "tax_exempt")


def merged(old: Thing, new: Thing | str | None) -> Thing:
    """Metadata after an update: an empty value removes a name, an empty text removes all."""
    if new is None:
        return old
    if isinstance(new, str):
        return {}
    both = {**old, **new}
    return {name: value for name, value in both.items() if value != ""}


def create(account: Account, params: Thing) -> Thing:
    if params.get("email") == "":
        raise Invalid(
            "You passed an empty string for 'email'. We assume empty values are an attempt to unset a"
            " parameter; however 'email' cannot be unset.",
            param="email",
            code="parameter_invalid_empty",
        )
    clock = params.get("test_clock")
    if clock:
        account.get("test_helpers.test_clock", clock, "test_clock")
    customer = account.add(
        "customer",
        {
            "address": None,
            "balance": params.get("balance", 0),
            "currency": None,
            "default_source": None,
            "delinquent": False,
            "description": None,
            "email": None,
            "invoice_prefix": None,
            "invoice_settings": {
                "custom_fields": None,
                "default_payment_method": None,
                "footer": None,
                "rendering_options": None,
            },
            "metadata": {},
            "name": None,
            "next_invoice_sequence": 1,
            "phone": None,
            "preferred_locales": [],
            "shipping": None,
            "tax_exempt": "none",
            "test_clock": clock,
        },
    )
    customer["created"] = account.now(customer["id"])
    customer["invoice_prefix"] = customer["id"][-8:].upper()
    if params.get("payment_method"):
        keep_card(account, cards.named(account, params["payment_method"]), customer["id"])
    _apply(account, customer, params)
    account.emit("customer.created", customer)
    return customer


def update(account: Account, params: Thing, customer_id: str) -> Thing:
    customer = existing(account, customer_id)
    before = {name: customer[name] for name in params if name in customer}
    _apply(account, customer, params)
    account.emit("customer.updated", customer, before)
    return customer


def retrieve(account: Account, params: Thing, customer_id: str) -> Thing:
    customer = account.get("customer", customer_id)
    if customer.get("deleted"):
        return {"id": customer_id, "object": "customer", "deleted": True}
    return customer


def delete(account: Account, params: Thing, customer_id: str) -> Thing:
    customer = existing(account, customer_id)
    for method in cards.of_customer(account, customer_id):
        method["customer"] = None
        account.changed(method)
    customer["deleted"] = True
    account.changed(customer)
    account.emit("customer.deleted", customer)
    return {"id": customer_id, "object": "customer", "deleted": True}


def list_all(account: Account, params: Thing) -> Thing:
    found = (each for each in account.find("customer") if not each.get("deleted"))
    if "email" in params:
        found = (each for each in found if each["email"] == params["email"])
    return page(account, found, params, "/v1/customers")


def existing(account: Account, customer_id: str, param: str | None = None) -> Thing:
    customer = account.get("customer", customer_id, param)
    if customer.get("deleted"):
        raise missing("customer", customer_id, param)
    return customer


def _apply(account: Account, customer: Thing, params: Thing) -> None:
    email = params.get("email")
    if email and not re.fullmatch(r"[^@\s]+@[^@\s]+", email):
        raise Invalid(f"Invalid email address: {email}", param="email", code="email_invalid")
    for name in _PLAIN:
        if name in params:
            customer[name] = params[name] if params[name] != "" else None
    if "balance" in params:
        customer["balance"] = params["balance"]
    customer["metadata"] = merged(customer["metadata"], params.get("metadata"))
    settings = params.get("invoice_settings", {})
    if "default_payment_method" in settings:
        wanted = settings["default_payment_method"] or None
        if wanted is not None:
            param = "invoice_settings[default_payment_method]"
            method = cards.named(account, wanted, param)
            if method["customer"] != customer["id"]:
                raise Invalid(
                    f"The customer does not have a payment method with the ID {wanted}. "
                    "The payment method must be attached to the customer.",
                    param=param,
                    code="resource_missing",
                )
        customer["invoice_settings"]["default_payment_method"] = wanted
    account.changed(customer)


# ── Cards ────────────────────────────────────────────────────────────────────────────────────────


def keep_card(account: Account, method: Thing, customer_id: str, *, authenticated: bool = False) -> Thing:
    """Save a card to a customer. A card that declines is refused, unless it only fails later."""
    card = cards.card_of(method)
    if card.refuses_saving:
        code, said = cards.SAYS[card.refuses]
        raise declined(code, said, decline_code=card.refuses)
    method["_authenticated"] = method["_authenticated"] or authenticated
    if method["customer"] == customer_id:
        return account.changed(method)
    method["customer"] = customer_id
    account.changed(method)
    account.emit("payment_method.attached", method)
    return method


def methods(account: Account, params: Thing, customer_id: str) -> Thing:
    existing(account, customer_id)
    kind = params.get("type", "card")
    found = (each for each in cards.of_customer(account, customer_id) if each["type"] == kind)
    return page(account, found, params, f"/v1/customers/{customer_id}/payment_methods")


def method_of_customer(account: Account, params: Thing, customer_id: str, method_id: str) -> Thing:
    method = cards.named(account, method_id)
    if method["customer"] != customer_id:
        raise missing("PaymentMethod", method_id)
    return method


def all_methods(account: Account, params: Thing) -> Thing:
    wanted = {"customer": params["customer"]} if "customer" in params else {}
    return page(account, account.find("payment_method", **wanted), params, "/v1/payment_methods")


def retrieve_method(account: Account, params: Thing, method_id: str) -> Thing:
    return account.get("payment_method", method_id)


def attach(account: Account, params: Thing, method_id: str) -> Thing:
    customer = existing(account, params["customer"], "customer")
    method = cards.named(account, method_id)
    if method["customer"] not in (None, customer["id"]):
        raise Invalid("The payment method you provided has already been attached to a customer.")
    if method.get("_detached"):
        raise Invalid(
            "This PaymentMethod was previously used without being attached to a Customer or was detached "
            "from a Customer, and may not be used again."
        )
    return keep_card(account, method, customer["id"])


def detach(account: Account, params: Thing, method_id: str) -> Thing:
    method = account.get("payment_method", method_id)
    owner = method["customer"]
    if owner is None:
        raise Refused(
            400,
            "invalid_request_error",
            "The payment method you provided is not attached to a customer so detachment is impossible.",
        )
    drop_card(account, method)
    return method


def drop_card(account: Account, method: Thing) -> None:
    """Detach a card, and let nobody charge it by default any more."""
    owner = method["customer"]
    method |= {"customer": None, "_detached": True}
    account.changed(method)
    account.emit("payment_method.detached", method, {"customer": owner})
    customer = account.get("customer", owner)
    if customer["invoice_settings"]["default_payment_method"] == method["id"]:
        customer["invoice_settings"]["default_payment_method"] = None
        account.changed(customer)
        account.emit(
            "customer.updated", customer, {"invoice_settings": {"default_payment_method": method["id"]}}
        )
    for subscription in account.find("subscription", customer=owner):
        if subscription["default_payment_method"] == method["id"]:
            subscription["default_payment_method"] = None
            account.changed(subscription)
