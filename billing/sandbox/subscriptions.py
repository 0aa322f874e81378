"""Subscriptions: begun, changed with proration, canceled; each paid by invoices."""

from __future__ import annotations

import copy

from billing.sandbox import cards, customers, invoices, prices, prorations, taxes
from billing.sandbox.account import Account, random_id
from billing.sandbox.lists import inline, page
from billing.sandbox.periods import end_of_period
from billing.sandbox.refusals import Invalid, Refused, Thing, missing

OVER = ("canceled", "incomplete_expired")
_BEHAVIORS = ("allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete")


def create(account: Account, params: Thing) -> Thing:
    customer = customers.existing(account, params["customer"], "customer")
    behavior = _behavior(params)
    taxes.require_place(customer, params.get("automatic_tax", {}).get("enabled", False))
    subscription = begin(account, customer, params)
    invoice = bill(account, subscription, reason="subscription_create")
    account.emit("customer.subscription.created", subscription)
    try:
        if behavior != "default_incomplete":
            settle(account, invoice, off_session=bool(params.get("off_session", False)))
    except Refused:
        if behavior == "error_if_incomplete":
            expire(account, subscription)
            raise
    return subscription


def from_checkout(account: Account, session: Thing, method: Thing, *, authenticated: bool) -> Thing:
    """What a person subscribes to on the hosted page: begun by the first attempt, active when it is paid.

    A decline is `Refused` 402, and leaves it incomplete.
    """
    subscription = account.lookup(session.get("_subscription"))
    if subscription is None:
        customer = customers.existing(account, session["customer"])
        given = session["_given"]["subscription_data"]
        wanted = {
            "items": [
                {"price": line["price"]["id"], "quantity": line["quantity"]} for line in session["_lines"]
            ],
            "metadata": given.get("metadata"),
            "description": given.get("description"),
            "automatic_tax": {"enabled": session["automatic_tax"]["enabled"]},
        }
        subscription = begin(account, customer, wanted)
        session["_subscription"] = subscription["id"]
        bill(account, subscription, reason="subscription_create")
        account.emit("customer.subscription.created", subscription)
    subscription["default_payment_method"] = method["id"]
    invoice = account.get("invoice", subscription["latest_invoice"])
    settle(account, invoice, off_session=False, authenticated=authenticated)
    return subscription


def expire(account: Account, subscription: Thing) -> None:
    """Its first invoice was never paid."""
    subscription |= {"status": "incomplete_expired", "ended_at": account.now(subscription["customer"])}
    account.changed(subscription)
    invoice = account.get("invoice", subscription["latest_invoice"])
    if invoice["status"] == "open":
        invoices.void(account, invoice)
    account.emit("customer.subscription.updated", subscription, {"status": "incomplete"})


def begin(account: Account, customer: Thing, params: Thing) -> Thing:
    """An incomplete subscription whose first period begins now; no invoice yet."""
    now = account.now(customer["id"])
    subscription = account.add(
        "subscription",
        {
            **dict.fromkeys(_NONE),
            "automatic_tax": taxes.automatic(params.get("automatic_tax", {}).get("enabled", False)),
            "billing_cycle_anchor": now,
            "billing_mode": {"type": "flexible", "flexible": None},
            "billing_schedules": [],
            "cancel_at_period_end": False,
            "cancellation_details": {"comment": None, "feedback": None, "reason": None},
            "collection_method": params.get("collection_method", "charge_automatically"),
            "currency": "usd",
            "customer": customer["id"],
            "default_payment_method": None,
            "default_tax_rates": [],
            "description": params.get("description"),
            "discounts": [],
            "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
            "items": inline([], ""),
            "metadata": dict(params.get("metadata") or {}),
            "payment_settings": {"payment_method_options": None, "payment_method_types": None}
            | {"save_default_payment_method": "off"},
            "start_date": now,
            "status": "incomplete",
            "test_clock": customer["test_clock"],
        },
        customer=customer["id"],
    )
    try:
        if params.get("default_payment_method"):
            wanted = cards.named(account, params["default_payment_method"], "default_payment_method")
            subscription["default_payment_method"] = wanted["id"]
        if not params.get("items"):
            raise Invalid("Missing required param: items.", param="items", code="parameter_missing")
        items = [_item(account, subscription, wanted, place) for place, wanted in enumerate(params["items"])]
    except Refused:
        account.remove(subscription)
        raise
    subscription["items"] = inline(items, f"/v1/subscription_items?subscription={subscription['id']}")
    return subscription


_NONE = (
    *("application", "application_fee_percent", "billing_cycle_anchor_config", "billing_thresholds"),
    *("cancel_at", "canceled_at", "days_until_due", "default_source", "ended_at", "latest_invoice"),
    *("next_pending_invoice_item_invoice", "on_behalf_of", "pause_collection", "pending_setup_intent"),
    *("pending_invoice_item_interval", "pending_update", "schedule", "transfer_data", "trial_end"),
    *("trial_settings", "trial_start"),
)


def _item(account: Account, subscription: Thing, wanted: Thing, place: int) -> Thing:
    price = prices.inline_price(account, wanted, f"items[{place}]")
    if price["recurring"] is None:
        raise Invalid(f"The price {price['id']} is not recurring.", param=f"items[{place}][price]")
    now = subscription["billing_cycle_anchor"]
    return {
        "billing_thresholds": None,
        "created": now,
        "current_period_start": now,
        "current_period_end": end_of_period(now, now, price["recurring"]),
        "discounts": [],
        "id": random_id("si"),
        "metadata": dict(wanted.get("metadata") or {}),
        "object": "subscription_item",
        "price": price,
        "quantity": wanted.get("quantity", 1),
        "subscription": subscription["id"],
        "tax_rates": [],
    }


def bill(account: Account, subscription: Thing, *, reason: str, new: list[Thing] | None = None) -> Thing:
    """A finalized invoice of the subscription: of a change to the items `new`, else of its whole period."""
    customer = account.get("customer", subscription["customer"])
    invoice = invoices.begin(
        account,
        customer,
        reason=reason,
        taxed=subscription["automatic_tax"]["enabled"],
        parent=invoices.subscription_parent(subscription),
        collection_method=subscription["collection_method"],
    )
    for waiting in list(account.find("invoiceitem", subscription=subscription["id"], _billed=False))[::-1]:
        prorations.bring(account, invoice, subscription, waiting)
        waiting["_billed"] = True
        account.changed(waiting)
    if new is None:
        prorations.full_lines(account, invoice, subscription)
    else:
        prorations.lines(account, invoice, subscription, new, account.now(customer["id"]))
    invoices.reckon(account, invoice)
    account.emit("invoice.created", invoice)
    subscription["latest_invoice"] = invoice["id"]
    account.changed(subscription)
    invoices.finalize(account, invoice, collect=True)
    return invoice


def settle(account: Account, invoice: Thing, *, off_session: bool, authenticated: bool = False) -> None:
    """Charge an invoice that is still open; a decline is `Refused` 402."""
    if invoice["status"] != "open" or invoice["collection_method"] != "charge_automatically":
        return
    method = invoices.card_for(account, invoice)
    invoices.collect(account, invoice, method, off_session=off_session, authenticated=authenticated)


def _behavior(params: Thing) -> str:
    behavior = str(params.get("payment_behavior", "allow_incomplete"))
    if behavior not in _BEHAVIORS:
        said = f"Invalid payment_behavior: must be one of {', '.join(_BEHAVIORS)}"
        raise Invalid(said, param="payment_behavior")
    return behavior


# ── Changes ──────────────────────────────────────────────────────────────────────────────────────


def running(account: Account, subscription_id: str) -> Thing:
    subscription = account.get("subscription", subscription_id)
    if subscription["status"] in OVER:
        raise missing("subscription", subscription_id)
    return subscription


def update(account: Account, params: Thing, subscription_id: str) -> Thing:
    subscription = running(account, subscription_id)
    if subscription["schedule"] and {"cancel_at_period_end", "cancel_at"} & set(params):
        raise Invalid(
            f"The subscription is managed by the subscription schedule `{subscription['schedule']}`, and "
            "updating any cancelation behavior directly is not allowed. Please update the schedule instead."
        )
    before = {name: copy.deepcopy(subscription[name]) for name in params if name in subscription}
    if "items" in params:
        change_items(account, subscription, params)
    subscription["metadata"] = customers.merged(subscription["metadata"], params.get("metadata"))
    if "description" in params:
        subscription["description"] = params["description"] or None
    if params.get("default_payment_method"):
        method = cards.named(account, params["default_payment_method"], "default_payment_method")
        subscription["default_payment_method"] = method["id"]
    if "cancel_at_period_end" in params:
        cancel_later(account, subscription, params["cancel_at_period_end"])
    elif "cancel_at" in params:
        at = params["cancel_at"]
        subscription["cancel_at"] = int(at) if at != "" else None
        subscription["canceled_at"] = account.now(subscription["customer"]) if at != "" else None
    if "automatic_tax" in params:
        subscription["automatic_tax"] = taxes.automatic(params["automatic_tax"]["enabled"])
    account.changed(subscription)
    account.emit("customer.subscription.updated", subscription, before)
    return subscription


def cancel_later(account: Account, subscription: Thing, wanted: bool) -> None:
    """Let it end with its period, or go on after all."""
    ends = subscription["items"]["data"][0]["current_period_end"]
    subscription |= {
        "cancel_at_period_end": wanted,
        "cancel_at": ends if wanted else None,
        "canceled_at": account.now(subscription["customer"]) if wanted else None,
    }
    reason = "cancellation_requested" if wanted else None
    subscription["cancellation_details"] = {"comment": None, "feedback": None, "reason": reason}
    account.changed(subscription)


def change_items(account: Account, subscription: Thing, params: Thing) -> None:
    """Another price or quantity now, with what that costs for the rest of the period."""
    proration = params.get("proration_behavior", "create_prorations")
    prorations.require_behavior(proration)
    behavior = _behavior(params)
    new = prorations.changed_items(account, subscription, params["items"], "items")
    old = subscription["items"]["data"]
    if not prorations.same_interval(old, new):
        raise Invalid("The sandbox changes between prices of the same interval alone.", param="items")
    now = params.get("proration_date", account.now(subscription["customer"]))
    if proration == "create_prorations":
        prorations.keep(account, subscription, new, now)
    if proration != "always_invoice":
        subscription["items"]["data"] = new
        return
    earlier = subscription["latest_invoice"]
    invoice = bill(account, subscription, reason="subscription_update", new=new)
    if behavior == "pending_if_incomplete":
        subscription["_pending_items"] = new
    else:
        subscription["items"]["data"] = new
    try:
        settle(account, invoice, off_session=True)
    except Refused:
        if behavior == "error_if_incomplete":
            subscription["items"]["data"] = old
            subscription["latest_invoice"] = earlier
            account.changed(subscription)
            invoices.void(account, invoice)
            raise
    waits = invoice["status"] == "open"
    if behavior == "pending_if_incomplete":
        if waits:
            expires = account.now(subscription["customer"]) + 23 * 3600
            subscription["pending_update"] = {"expires_at": expires, "subscription_items": new}
        else:
            subscription.pop("_pending_items", None)
            subscription["items"]["data"] = new
    elif waits and subscription["status"] == "active":
        subscription["status"] = "past_due"


def cancel(account: Account, params: Thing, subscription_id: str) -> Thing:
    subscription = running(account, subscription_id)
    end(account, subscription, "cancellation_requested")
    return subscription


def end(account: Account, subscription: Thing, reason: str) -> None:
    """It is over, now; open invoices stay open, but nobody tries to collect them."""
    now = account.now(subscription["customer"])
    if subscription["schedule"]:
        schedule = account.get("subscription_schedule", subscription["schedule"])
        schedule |= {"status": "canceled", "canceled_at": now, "current_phase": None}
        account.changed(schedule)
        account.emit("subscription_schedule.canceled", schedule)
    for invoice in account.find("invoice", customer=subscription["customer"], status="open"):
        if invoices.subscription_of(account, invoice) is subscription:
            invoice |= {"next_payment_attempt": None, "auto_advance": False}
            account.changed(invoice)
    subscription |= {
        "canceled_at": subscription["canceled_at"] or now,
        "cancel_at_period_end": False,
        "cancellation_details": {"comment": None, "feedback": None, "reason": reason},
        "ended_at": now,
        "status": "canceled",
    }
    account.changed(subscription)
    account.emit("customer.subscription.deleted", subscription)


def retrieve(account: Account, params: Thing, subscription_id: str) -> Thing:
    return account.get("subscription", subscription_id)


def list_all(account: Account, params: Thing) -> Thing:
    equal = {name: params[name] for name in ("customer", "collection_method", "test_clock") if name in params}
    found = account.find("subscription", **equal)
    status = params.get("status")
    if status == "ended":
        found = (each for each in found if each["status"] in OVER)
    elif status is None:
        found = (each for each in found if each["status"] != "canceled")
    elif status != "all":
        found = (each for each in found if each["status"] == status)
    if "price" in params:
        wanted = params["price"]
        found = (each for each in found if wanted in (i["price"]["id"] for i in each["items"]["data"]))
    return page(account, found, params, "/v1/subscriptions")


def items(account: Account, params: Thing) -> Thing:
    subscription = account.get("subscription", params["subscription"], "subscription")
    return inline(subscription["items"]["data"], "/v1/subscription_items")
