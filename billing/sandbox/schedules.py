"""Subscription schedules: what a subscription will become, phase by phase."""

from __future__ import annotations

from billing.sandbox import customers, prices, prorations, subscriptions
from billing.sandbox.account import Account
from billing.sandbox.lists import page
from billing.sandbox.periods import later
from billing.sandbox.refusals import Invalid, Refused, Thing, required

_IN_FORCE = ("active", "not_started")


def create(account: Account, params: Thing) -> Thing:
    if not params.get("from_subscription"):
        said = "The sandbox makes schedules `from_subscription` alone."
        raise Invalid(said, param="from_subscription")
    if set(params) - {"from_subscription", "metadata"}:
        raise Invalid("When `from_subscription` is set, no other parameters can be given; update it after.")
    subscription = subscriptions.running(account, params["from_subscription"])
    if subscription["schedule"]:
        raise Invalid(
            f"You cannot migrate a subscription that is already attached to a schedule: "
            f"`{subscription['schedule']}`.",
            param="from_subscription",
        )
    first = subscription["items"]["data"][0]
    start, end = first["current_period_start"], first["current_period_end"]
    items = [{"price": item["price"]["id"], "quantity": item["quantity"]} for item in _items(subscription)]
    schedule = account.add(
        "subscription_schedule",
        {
            "application": None,
            "billing_mode": {"type": "flexible"},
            "canceled_at": None,
            "completed_at": None,
            "current_phase": {"start_date": start, "end_date": end},
            "customer": subscription["customer"],
            "default_settings": {"billing_cycle_anchor": "automatic", "collection_method": None},
            "end_behavior": "release",
            "metadata": dict(params.get("metadata") or {}),
            "pause_schedules": [],
            "phases": [_phase(items, start, end, "create_prorations")],
            "released_at": None,
            "released_subscription": None,
            "status": "active",
            "subscription": subscription["id"],
            "test_clock": subscription["test_clock"],
        },
        customer=subscription["customer"],
    )
    subscription["schedule"] = schedule["id"]
    account.changed(subscription)
    account.emit("subscription_schedule.created", schedule)
    return schedule


def _items(subscription: Thing) -> list[Thing]:
    data: list[Thing] = subscription["items"]["data"]
    return data


def _phase(items: list[Thing], start: int, end: int, behavior: str) -> Thing:
    return {
        "add_invoice_items": [],
        "billing_cycle_anchor": None,
        "collection_method": None,
        "currency": "usd",
        "default_payment_method": None,
        "description": None,
        "discounts": [],
        "end_date": end,
        "items": [
            {"metadata": {}, "plan": item["price"], "price": item["price"], "quantity": item["quantity"]}
            | {"discounts": [], "tax_rates": []}
            for item in items
        ],
        "metadata": {},
        "proration_behavior": behavior,
        "start_date": start,
        "trial_end": None,
    }


def update(account: Account, params: Thing, schedule_id: str) -> Thing:
    schedule = _running(account, schedule_id)
    if "phases" in params:
        schedule["phases"] = _read(account, schedule, params["phases"])
        now = account.now(schedule["customer"])
        current = next((each for each in schedule["phases"] if each["end_date"] > now), None)
        if current is None or current["start_date"] > now:
            raise Invalid("The current phase must be among the phases.", param="phases")
        schedule["current_phase"] = {name: current[name] for name in ("start_date", "end_date")}
    if "end_behavior" in params:
        schedule["end_behavior"] = params["end_behavior"]
    schedule["metadata"] = customers.merged(schedule["metadata"], params.get("metadata"))
    account.changed(schedule)
    account.emit("subscription_schedule.updated", schedule)
    return schedule


def _read(account: Account, schedule: Thing, asked: list[Thing]) -> list[Thing]:
    """Phases without gaps: each begins where the one before it ends."""
    began = schedule["phases"][0]["start_date"]
    phases: list[Thing] = []
    for place, wanted in enumerate(asked):
        where = f"phases[{place}]"
        start = phases[-1]["end_date"] if phases else began
        said = wanted.get("start_date", start)
        if said not in (start, "now"):
            raise Invalid(f"Phases must follow one another: this one must start at {start}.", param=where)
        if "end_date" in wanted:
            end = account.now(schedule["customer"]) if wanted["end_date"] == "now" else wanted["end_date"]
        elif "duration" in wanted:
            span = wanted["duration"]
            end = later(start, span["interval"], span.get("interval_count", 1))
        elif place == len(asked) - 1:
            end = later(start, "month", 1)
        else:
            raise required(f"{where}[end_date]")
        if end <= start:
            raise Invalid("A phase must end after it starts.", param=f"{where}[end_date]")
        behavior = wanted.get("proration_behavior", "create_prorations")
        prorations.require_behavior(behavior)
        items = []
        for index, item in enumerate(wanted["items"]):
            price = prices.inline_price(account, item, f"{where}[items][{index}]")
            items.append({"price": price["id"], "quantity": item.get("quantity", 1)})
        phases.append(_phase(items, start, end, behavior))
    return phases


def next_phase(account: Account, schedule: Thing) -> None:
    """The current phase is over."""
    subscription = account.get("subscription", schedule["subscription"])
    over = schedule["current_phase"]["end_date"]
    following = next((each for each in schedule["phases"] if each["start_date"] == over), None)
    if following is None:
        _finish(account, schedule, subscription)
        return
    schedule["current_phase"] = {name: following[name] for name in ("start_date", "end_date")}
    account.changed(schedule)
    wanted = [
        {"id": item["id"], "price": planned["price"], "quantity": planned["quantity"]}
        for item, planned in zip(_items(subscription), following["items"], strict=True)
    ]
    before = {"items": subscription["items"]}
    try:
        asked = {"items": wanted, "proration_behavior": following["proration_behavior"]}
        subscriptions.change_items(account, subscription, asked)
    except Refused:
        subscription["status"] = "past_due"
    account.changed(subscription)
    account.emit("customer.subscription.updated", subscription, before)
    account.emit("subscription_schedule.updated", schedule)


def _finish(account: Account, schedule: Thing, subscription: Thing) -> None:
    if schedule["end_behavior"] == "cancel":
        schedule |= {"status": "completed", "completed_at": account.now(schedule["customer"])}
        schedule["current_phase"] = None
        subscription["schedule"] = None
        account.changed(schedule)
        account.emit("subscription_schedule.completed", schedule)
        subscriptions.end(account, subscription, "cancellation_requested")
    else:
        _let_go(account, schedule, subscription)


def release(account: Account, params: Thing, schedule_id: str) -> Thing:
    schedule = _running(account, schedule_id)
    _let_go(account, schedule, account.get("subscription", schedule["subscription"]))
    return schedule


def _let_go(account: Account, schedule: Thing, subscription: Thing) -> None:
    schedule |= {
        "current_phase": None,
        "released_at": account.now(schedule["customer"]),
        "released_subscription": subscription["id"],
        "status": "released",
        "subscription": None,
    }
    subscription["schedule"] = None
    account.changed(schedule)
    account.changed(subscription)
    account.emit("subscription_schedule.released", schedule)


def cancel(account: Account, params: Thing, schedule_id: str) -> Thing:
    """With its subscription."""
    schedule = _running(account, schedule_id)
    subscriptions.end(
        account, account.get("subscription", schedule["subscription"]), "cancellation_requested"
    )
    return schedule


def _running(account: Account, schedule_id: str) -> Thing:
    schedule = account.get("subscription_schedule", schedule_id)
    if schedule["status"] not in _IN_FORCE:
        raise Invalid(f"You cannot change a subscription schedule in the `{schedule['status']}` status.")
    return schedule


def retrieve(account: Account, params: Thing, schedule_id: str) -> Thing:
    return account.get("subscription_schedule", schedule_id)


def list_all(account: Account, params: Thing) -> Thing:
    equal = {name: params[name] for name in ("customer",) if name in params}
    return page(account, account.find("subscription_schedule", **equal), params, "/v1/subscription_schedules")
