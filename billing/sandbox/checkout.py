"""Checkout Sessions: made by the API, finished by a person on the hosted page."""

from __future__ import annotations

from billing.sandbox import cards, charging, customers, payments, prices, subscriptions, taxes
from billing.sandbox.account import DAY, Account
from billing.sandbox.lists import inline, page
from billing.sandbox.refusals import Invalid, Thing

_BANK_SECONDS = 60
_LEAST_OPEN = 30 * 60
_ADDRESS = {"city": None, "country": "US", "line1": None, "line2": None} | {
    "postal_code": "94103",
    "state": "CA",
}
"""Where everybody who pays here is; the page asks nobody."""
_MODES = ("payment", "setup", "subscription")


def create(account: Account, params: Thing) -> Thing:
    mode = params.get("mode")
    if mode not in _MODES:
        raise Invalid("Invalid mode: must be one of payment, setup, or subscription", param="mode")
    if not params.get("success_url"):
        raise Invalid("Missing required param: success_url.", param="success_url", code="parameter_missing")
    customer = params.get("customer")
    if customer:
        known = customers.existing(account, customer, "customer")
        taxed = params.get("automatic_tax", {}).get("enabled", False)
        if params.get("customer_update", {}).get("address") != "auto":
            taxes.require_place(known, taxed)
        if params.get("customer_email"):
            raise Invalid("You may only specify one of these parameters: customer, customer_email.")
    lines = _lines(account, params, mode)
    session = account.add("checkout.session", _session(account, params, lines), customer=customer)
    session["expires_at"] = params.get("expires_at", session["created"] + DAY)
    if not session["created"] + _LEAST_OPEN <= session["expires_at"] <= session["created"] + DAY:
        account.remove(session)
        raise Invalid("expires_at must be between 30 minutes and 24 hours from now.", param="expires_at")
    session["url"] = f"{account.url}/c/pay/{session['id']}"
    if mode == "setup":
        given = params.get("setup_intent_data", {})
        session["setup_intent"] = payments.new_setup(account, {**given, "customer": customer})["id"]
    return session


def _lines(account: Account, params: Thing, mode: str) -> list[Thing]:
    if mode == "setup":
        if not {"payment_method_types", "currency"} & set(params):
            raise Invalid("`currency` is required in `setup` mode without `payment_method_types`.")
        if params.get("line_items"):
            raise Invalid("You can not pass `line_items` in `setup` mode.", param="line_items")
        return []
    if not params.get("line_items"):
        raise Invalid(
            f"line_items is required in `{mode}` mode.", param="line_items", code="parameter_missing"
        )
    taxed = params.get("automatic_tax", {}).get("enabled", False)
    lines = []
    for place, item in enumerate(params["line_items"]):
        price = prices.inline_price(account, item, f"line_items[{place}]")
        if mode == "payment" and price["type"] == "recurring":
            raise Invalid("You specified `payment` mode but passed a recurring price.", param="mode")
        quantity = item.get("quantity", 1)
        subtotal = price["unit_amount"] * quantity
        tax = taxes.on(subtotal, taxed)
        product = account.get("product", price["product"])
        line = {
            "amount_discount": 0,
            "amount_subtotal": subtotal,
            "amount_tax": tax,
            "amount_total": subtotal + tax,
            "currency": price["currency"],
            "description": product["name"],
            "id": f"li_{price['id'][6:]}",
            "object": "item",
            "price": price,
            "quantity": quantity,
        }
        lines.append(line)
    if mode == "subscription" and not any(line["price"]["type"] == "recurring" for line in lines):
        raise Invalid("You must provide at least one recurring price in `subscription` mode.", param="mode")
    total = sum(line["amount_total"] for line in lines)
    if mode == "payment":
        payments.require_amount(total, "usd", "line_items")
    return lines


def _session(account: Account, params: Thing, lines: list[Thing]) -> Thing:
    mode = params["mode"]
    subtotal = sum(line["amount_subtotal"] for line in lines)
    tax = sum(line["amount_tax"] for line in lines)
    amounts: Thing = {"amount_subtotal": None, "amount_total": None, "currency": None, "total_details": None}
    if lines:
        amounts = {
            "amount_subtotal": subtotal,
            "amount_total": subtotal + tax,
            "currency": lines[0]["currency"],
            "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": tax},
        }
    return {
        **amounts,
        "allow_promotion_codes": None,
        "automatic_tax": taxes.automatic(params.get("automatic_tax", {}).get("enabled", False)),
        "billing_address_collection": params.get("billing_address_collection"),
        "cancel_url": params.get("cancel_url"),
        "client_reference_id": params.get("client_reference_id"),
        "client_secret": None,
        "consent": None,
        "custom_fields": [],
        "custom_text": {},
        "customer": params.get("customer"),
        "customer_creation": params.get("customer_creation")
        or ("if_required" if mode == "payment" else None),
        "customer_details": None,
        "customer_email": params.get("customer_email"),
        "discounts": None,
        "expires_at": 0,
        "invoice": None,
        "locale": params.get("locale"),
        "metadata": dict(params.get("metadata") or {}),
        "mode": mode,
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": "always" if mode == "subscription" else "if_required",
        "payment_method_types": params.get("payment_method_types") or ["card"],
        "payment_status": "no_payment_required" if mode == "setup" else "unpaid",
        "recovered_from": None,
        "saved_payment_method_options": params.get("saved_payment_method_options"),
        "setup_intent": None,
        "status": "open",
        "submit_type": params.get("submit_type"),
        "subscription": None,
        "success_url": params["success_url"],
        "ui_mode": "hosted_page",
        "url": None,
        "_lines": lines,
        "_given": {
            name: params.get(name, {})
            for name in ("payment_intent_data", "subscription_data", "customer_update")
        },
    }


def retrieve(account: Account, params: Thing, session_id: str) -> Thing:
    return account.get("checkout.session", session_id)


def list_all(account: Account, params: Thing) -> Thing:
    names = ("customer", "payment_intent", "subscription", "status")
    equal = {name: params[name] for name in names if name in params}
    return page(account, account.find("checkout.session", **equal), params, "/v1/checkout/sessions")


def list_lines(account: Account, params: Thing, session_id: str) -> Thing:
    session = account.get("checkout.session", session_id)
    return inline(session["_lines"], f"/v1/checkout/sessions/{session_id}/line_items")


def update(account: Account, params: Thing, session_id: str) -> Thing:
    session = account.get("checkout.session", session_id)
    session["metadata"] = customers.merged(session["metadata"], params.get("metadata"))
    return account.changed(session)


def expire(account: Account, params: Thing, session_id: str) -> Thing:
    session = account.get("checkout.session", session_id)
    if session["status"] != "open":
        raise Invalid(
            'Only Checkout Sessions with a status in ["open"] can be expired. '
            f"This Checkout Session has a status of {session['status']}."
        )
    close_unpaid(account, session)
    return session


def close_unpaid(account: Account, session: Thing) -> None:
    """Nobody can pay here any more."""
    session |= {"status": "expired", "url": None}
    account.changed(session)
    intent = account.lookup(session["payment_intent"])
    if intent is not None and intent["status"] != "succeeded":
        payments.stop(account, intent, "automatic")
    subscription = account.lookup(session.get("_subscription"))
    if subscription is not None and subscription["status"] == "incomplete":
        subscriptions.expire(account, subscription)
    account.emit("checkout.session.expired", session)


# ── What the hosted page does ────────────────────────────────────────────────────────────────────


def pay(
    account: Account, session: Thing, method: Thing, *, email: str, save: bool, authenticated: bool = False
) -> str:
    """Finish the session with this card. Gives the path of the 3-D Secure step, or an empty text when done.

    A decline is `Refused` 402, and the session stays open.
    """
    _identify(account, session, email)
    if not authenticated and charging.asks(method):
        session["_waiting"] = {"method": method["id"], "email": email, "save": save}
        account.changed(session)
        if session["mode"] == "payment":
            _take(account, session, method, save=save, authenticated=False)
        return f"/c/3ds/{session['id']}"
    if session["mode"] == "payment":
        _take(account, session, method, save=save, authenticated=authenticated)
    elif session["mode"] == "setup":
        setup = account.get("setup_intent", session["setup_intent"])
        setup["customer"] = session["customer"]
        payments.finish_setup(account, setup, method, authenticated=authenticated)
    else:
        _subscribe(account, session, method, authenticated=authenticated)
    complete(account, session)
    return ""


def pay_from_bank(account: Account, session: Thing, *, email: str) -> None:
    """Finish a payment whose money comes later: the session is complete, and not paid."""
    _identify(account, session, email)
    intent = intent_of(account, session, save=False)
    method = cards.make_bank(account, email=email)
    now = account.now(session["customer"])
    intent |= {
        "status": "processing",
        "payment_method": method["id"],
        "payment_method_types": ["us_bank_account"],
        "_settles_at": now + _BANK_SECONDS,
    }
    account.changed(intent)
    account.emit("payment_intent.processing", intent)
    complete(account, session, paid=False)


def settle_later(account: Account, intent: Thing, *, succeeds: bool = True) -> None:
    """The bank has paid, or has said no."""
    if intent["status"] != "processing":
        raise Invalid(f"{intent['id']} is not processing: it is {intent['status']}.")
    method = account.get("payment_method", intent["payment_method"])
    (session,) = account.find("checkout.session", payment_intent=intent["id"])
    if succeeds:
        charging.settle(account, intent, method)
        session["payment_status"] = "paid"
    else:
        charging.refuse(account, intent, method, "insufficient_funds")
    account.changed(session)
    told = "succeeded" if succeeds else "failed"
    account.emit(f"checkout.session.async_payment_{told}", session)


def complete(account: Account, session: Thing, *, paid: bool = True) -> None:
    session |= {"status": "complete", "url": None}
    if session["mode"] != "setup":
        session["payment_status"] = "paid" if paid else "unpaid"
    account.changed(session)
    account.emit("checkout.session.completed", session)


def fail_authentication(account: Account, session: Thing) -> None:
    """The person failed the 3-D Secure step: another card may be tried."""
    waiting = session.pop("_waiting", None)
    account.changed(session)
    intent = account.lookup(session["payment_intent"])
    if waiting and intent is not None:
        method = account.get("payment_method", waiting["method"])
        charging.refuse(account, intent, method, "authentication_required")


def _identify(account: Account, session: Thing, email: str) -> None:
    """Who pays: the customer that was named, or a new one."""
    session["customer_details"] = {
        "address": dict(_ADDRESS),
        "email": email or None,
        "name": None,
        "phone": None,
        "tax_exempt": "none",
        "tax_ids": [],
    }
    wants = session["mode"] != "payment" or session["customer_creation"] == "always"
    if session["customer"] is None and wants:
        session["customer"] = customers.create(account, {"email": email, "address": _ADDRESS})["id"]
    elif session["customer"] and session["_given"]["customer_update"].get("address") == "auto":
        account.get("customer", session["customer"])["address"] = dict(_ADDRESS)
    account.changed(session)


def intent_of(account: Account, session: Thing, *, save: bool) -> Thing:
    """The session's PaymentIntent, which exists from the first attempt on."""
    given = session["_given"]["payment_intent_data"]
    intent = account.lookup(session["payment_intent"])
    if intent is None:
        wanted = {
            **given,
            "amount": session["amount_total"],
            "currency": session["currency"],
            "customer": session["customer"],
        }
        intent = payments.new_intent(account, wanted)
        session["payment_intent"] = intent["id"]
        account.changed(session)
    saves = "off_session" if save and session["customer"] else None
    intent["setup_future_usage"] = given.get("setup_future_usage") or saves
    return account.changed(intent)


def _take(account: Account, session: Thing, method: Thing, *, save: bool, authenticated: bool) -> None:
    intent = intent_of(account, session, save=save)
    charging.attempt(account, intent, method, off_session=False, authenticated=authenticated)


def _subscribe(account: Account, session: Thing, method: Thing, *, authenticated: bool) -> None:
    customers.keep_card(account, method, session["customer"], authenticated=authenticated)
    subscription = subscriptions.from_checkout(account, session, method, authenticated=authenticated)
    session |= {"subscription": subscription["id"], "invoice": subscription["latest_invoice"]}
    account.changed(session)
