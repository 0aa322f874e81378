"""PaymentIntents, their charges, and SetupIntents."""

from __future__ import annotations

from collections.abc import Iterator

from billing.sandbox import cards, charging, customers
from billing.sandbox.account import Account, random_id, shown
from billing.sandbox.lists import page
from billing.sandbox.refusals import Invalid, Refused, Thing

LEAST_CENTS, MOST_CENTS = 50, 99_999_999
_OPEN = ("requires_payment_method", "requires_confirmation", "requires_action", "requires_capture")


def require_amount(amount: int, currency: str, param: str = "amount") -> None:
    """Stripe's own bounds of a card payment in US dollars."""
    if currency != "usd":
        raise Invalid(f"Invalid currency: {currency}. The sandbox knows usd alone.", param="currency")
    if amount < LEAST_CENTS:
        said = "The amount must be greater than or equal to the minimum charge amount, $0.50 usd."
        raise Invalid(said, param=param, code="amount_too_small")
    if amount > MOST_CENTS:
        raise Invalid("Amount must be no more than $999,999.99", param=param, code="amount_too_large")


def new_intent(account: Account, params: Thing) -> Thing:
    """An intent without an attempt. The caller has checked what it is given."""
    customer = params.get("customer")
    intent = account.add(
        "payment_intent",
        {
            "amount": params["amount"],
            "amount_capturable": 0,
            "amount_received": 0,
            "automatic_payment_methods": params.get("automatic_payment_methods"),
            "canceled_at": None,
            "cancellation_reason": None,
            "capture_method": "automatic_async",
            "client_secret": None,
            "confirmation_method": "automatic",
            "currency": params["currency"],
            "customer": customer,
            "description": params.get("description"),
            "last_payment_error": None,
            "latest_charge": None,
            "metadata": dict(params.get("metadata") or {}),
            "next_action": None,
            "payment_method": None,
            "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
            "payment_method_types": params.get("payment_method_types") or ["card"],
            "processing": None,
            "receipt_email": params.get("receipt_email"),
            "setup_future_usage": params.get("setup_future_usage"),
            "shipping": None,
            "statement_descriptor": None,
            "statement_descriptor_suffix": params.get("statement_descriptor_suffix"),
            "status": "requires_payment_method",
            "_return_url": params.get("return_url"),
        },
        customer=customer,
    )
    intent["client_secret"] = random_id(f"{intent['id']}_secret")
    account.emit("payment_intent.created", intent)
    return intent


def create(account: Account, params: Thing) -> Thing:
    require_amount(params["amount"], params["currency"])
    if params.get("customer"):
        customers.existing(account, params["customer"], "customer")
    off_session = _is_true(params.get("off_session"))
    if off_session and not _is_true(params.get("confirm")):
        raise Invalid("off_session can only be used when confirm is true.", param="off_session")
    calculation = params.get("hooks", {}).get("inputs", {}).get("tax", {}).get("calculation")
    if calculation and account.get("tax.calculation", calculation)["amount_total"] != params["amount"]:
        raise Invalid("The amount is not the total of the tax calculation.", param="amount")
    method = _method(account, params)
    intent = new_intent(account, params)
    if method is None:
        if _is_true(params.get("confirm")):
            raise Invalid(
                "You cannot confirm this PaymentIntent because it's missing a payment method.",
                code="payment_intent_unexpected_state",
            )
        return intent
    intent |= {"payment_method": method["id"], "status": "requires_confirmation"}
    if _is_true(params.get("confirm")):
        charging.attempt(account, intent, method, off_session=off_session)
    return intent


def confirm(account: Account, params: Thing, intent_id: str) -> Thing:
    intent = account.get("payment_intent", intent_id)
    if intent["status"] not in ("requires_payment_method", "requires_confirmation", "requires_action"):
        raise unexpected_state(intent, "confirm")
    found = _method(account, {"customer": intent["customer"], **params})
    method = found or account.lookup(intent["payment_method"])
    if method is None:
        raise Invalid(
            "You cannot confirm this PaymentIntent because it's missing a payment method.",
            code="payment_intent_unexpected_state",
        )
    return charging.attempt(account, intent, method, off_session=_is_true(params.get("off_session")))


def _method(account: Account, params: Thing) -> Thing | None:
    """The card that was named, which another customer does not own."""
    if not params.get("payment_method"):
        return None
    method = cards.named(account, params["payment_method"])
    if method.get("_detached"):
        raise Invalid(
            "The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment "
            "or was detached from a Customer. It may not be used again."
        )
    if method["customer"] and method["customer"] != params.get("customer"):
        raise Invalid(
            f"The PaymentMethod {method['id']} belongs to a Customer. "
            "Please include the Customer in the `customer` parameter on the PaymentIntent.",
            param="payment_method",
        )
    return method


def _is_true(value: object) -> bool:
    """`off_session` may also be a word of the past, so its type leaves `true` a text."""
    return value in (True, "true", "recurring", "one_off")


def retrieve(account: Account, params: Thing, intent_id: str) -> Thing:
    return account.get("payment_intent", intent_id)


def update(account: Account, params: Thing, intent_id: str) -> Thing:
    intent = account.get("payment_intent", intent_id)
    intent["metadata"] = customers.merged(intent["metadata"], params.get("metadata"))
    for name in ("description", "receipt_email", "setup_future_usage"):
        if name in params:
            intent[name] = params[name] or None
    return account.changed(intent)


def list_all(account: Account, params: Thing) -> Thing:
    wanted = {"customer": params["customer"]} if "customer" in params else {}
    return page(account, account.find("payment_intent", **wanted), params, "/v1/payment_intents")


def cancel(account: Account, params: Thing, intent_id: str) -> Thing:
    intent = account.get("payment_intent", intent_id)
    if intent["status"] not in _OPEN:
        raise unexpected_state(intent, "cancel")
    return stop(account, intent, params.get("cancellation_reason"))


def stop(account: Account, intent: Thing, reason: str | None) -> Thing:
    intent |= {
        "status": "canceled",
        "canceled_at": account.now(intent["customer"]),
        "cancellation_reason": reason,
        "next_action": None,
    }
    account.changed(intent)
    account.emit("payment_intent.canceled", intent)
    return intent


def unexpected_state(intent: Thing, verb: str) -> Refused:
    return Refused(
        400,
        "invalid_request_error",
        f"You cannot {verb} this PaymentIntent because it has a status of {intent['status']}.",
        code="payment_intent_unexpected_state",
        payment_intent=shown(intent),
    )


# ── Charges ──────────────────────────────────────────────────────────────────────────────────────


def retrieve_charge(account: Account, params: Thing, charge_id: str) -> Thing:
    return account.get("charge", charge_id)


def list_charges(account: Account, params: Thing) -> Thing:
    equal = {name: params[name] for name in ("customer", "payment_intent") if name in params}
    found: Iterator[Thing] = account.find("charge", **equal)
    return page(account, found, params, "/v1/charges")


def update_charge(account: Account, params: Thing, charge_id: str) -> Thing:
    charge = account.get("charge", charge_id)
    charge["metadata"] = customers.merged(charge["metadata"], params.get("metadata"))
    if "fraud_details" in params:
        charge["fraud_details"] = params["fraud_details"] or {}
    account.changed(charge)
    account.emit("charge.updated", charge)
    return charge


# ── SetupIntents ─────────────────────────────────────────────────────────────────────────────────


def new_setup(account: Account, params: Thing) -> Thing:
    setup = account.add(
        "setup_intent",
        {
            "automatic_payment_methods": None,
            "cancellation_reason": None,
            "client_secret": None,
            "customer": params.get("customer"),
            "description": params.get("description"),
            "last_setup_error": None,
            "latest_attempt": None,
            "metadata": dict(params.get("metadata") or {}),
            "next_action": None,
            "payment_method": None,
            "payment_method_types": ["card"],
            "status": "requires_payment_method",
            "usage": "off_session",
        },
        customer=params.get("customer"),
    )
    setup["client_secret"] = random_id(f"{setup['id']}_secret")
    account.emit("setup_intent.created", setup)
    return setup


def finish_setup(account: Account, setup: Thing, method: Thing, *, authenticated: bool) -> Thing:
    """Save the card; a card that cannot be saved is `Refused` 402."""
    try:
        if setup["customer"]:
            customers.keep_card(account, method, setup["customer"], authenticated=authenticated)
    except Refused as refused:
        setup["last_setup_error"] = {**refused.error, "payment_method": shown(method)}
        account.changed(setup)
        account.emit("setup_intent.setup_failed", setup)
        raise
    setup |= {"status": "succeeded", "payment_method": method["id"], "last_setup_error": None}
    account.changed(setup)
    account.emit("setup_intent.succeeded", setup)
    return setup


def retrieve_setup(account: Account, params: Thing, setup_id: str) -> Thing:
    return account.get("setup_intent", setup_id)


def list_setups(account: Account, params: Thing) -> Thing:
    equal = {name: params[name] for name in ("customer", "payment_method") if name in params}
    return page(account, account.find("setup_intent", **equal), params, "/v1/setup_intents")
