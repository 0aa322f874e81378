"""What a change in the middle of a period costs: the rest of the old price back, the rest of the new one."""

from __future__ import annotations

from billing.sandbox import invoices, prices
from billing.sandbox.account import Account
from billing.sandbox.periods import end_of_period, share
from billing.sandbox.refusals import Invalid, Thing, missing

_BEHAVIORS = ("always_invoice", "create_prorations", "none")


def changed_items(account: Account, subscription: Thing, asked: list[Thing], param: str) -> list[Thing]:
    """The subscription's items after the change, as copies; each is named by its id."""
    items = {item["id"]: dict(item) for item in subscription["items"]["data"]}
    for place, wanted in enumerate(asked):
        where = f"{param}[{place}]"
        if "id" not in wanted:
            raise Invalid("The sandbox changes items by their id, and adds none.", param=f"{where}[id]")
        item = items.get(wanted["id"])
        if item is None:
            raise missing("subscription_item", wanted["id"], f"{where}[id]")
        if wanted.get("deleted"):
            raise Invalid("A subscription must have at least one item.", param=f"{where}[deleted]")
        if "price" in wanted or "price_data" in wanted:
            price = prices.inline_price(account, wanted, where)
            if price["recurring"] is None:
                raise Invalid(f"The price {price['id']} is not recurring.", param=f"{where}[price]")
            item["price"] = price
        item["quantity"] = wanted.get("quantity", item["quantity"])
    return list(items.values())


def same_interval(old: list[Thing], new: list[Thing]) -> bool:
    return all(
        before["price"]["recurring"]["interval"] == after["price"]["recurring"]["interval"]
        for before, after in zip(old, new, strict=True)
    )


def lines(account: Account, invoice: Thing, subscription: Thing, new: list[Thing], at: int) -> None:
    """Add the two lines of each item that changes at `at`."""
    for before, after in zip(subscription["items"]["data"], new, strict=True):
        if _amount(before) == _amount(after) and before["price"]["id"] == after["price"]["id"]:
            continue
        start, end = before["current_period_start"], before["current_period_end"]
        left = max(end - at, 0)
        for item, sign, said in ((before, -1, "Unused time on"), (after, 1, "Remaining time on")):
            amount = sign * share(_amount(item), left, end - start)
            _line(account, invoice, subscription, item, (said, amount, (at, end)))


def full_lines(account: Account, invoice: Thing, subscription: Thing) -> None:
    """A line for each item's whole period, as its dates stand."""
    for item in subscription["items"]["data"]:
        period = (item["current_period_start"], item["current_period_end"])
        _line(account, invoice, subscription, item, ("", _amount(item), period))


def _line(
    account: Account, invoice: Thing, subscription: Thing, item: Thing, told: tuple[str, int, tuple[int, int]]
) -> None:
    said, amount, period = told
    product = account.get("product", item["price"]["product"])
    each = f"{item['quantity']} × {product['name']}"
    parent = {
        "invoice_item_details": None,
        "subscription_item_details": {
            "invoice_item": None,
            "proration": bool(said),
            "proration_details": {"credited_items": None},
            "subscription": subscription["id"],
            "subscription_item": item["id"],
        },
        "type": "subscription_item_details",
    }
    line = {"price": item["price"], "quantity": item["quantity"], "parent": parent}
    described = f"{said} {each}" if said else each
    invoices.add_line(invoice, line, amount=amount, description=described, period=period)


def _amount(item: Thing) -> int:
    return int(item["price"]["unit_amount"] * item["quantity"])


def require_behavior(behavior: str) -> None:
    if behavior not in _BEHAVIORS:
        said = f"Invalid proration_behavior: must be one of {', '.join(_BEHAVIORS)}"
        raise Invalid(said, param="proration_behavior")


def preview(account: Account, subscription: Thing, wanted: Thing, at: int) -> Thing:
    """An invoice that is shown and thrown away."""
    customer = account.get("customer", subscription["customer"])
    invoice = invoices.begin(
        account,
        customer,
        reason="upcoming",
        taxed=subscription["automatic_tax"]["enabled"],
        parent=invoices.subscription_parent(subscription),
    )
    behavior = wanted.get("proration_behavior", "create_prorations")
    require_behavior(behavior)
    try:
        new = changed_items(account, subscription, wanted.get("items", []), "subscription_details[items]")
        if wanted.get("items") and behavior != "none":
            lines(account, invoice, subscription, new, at)
        if behavior != "always_invoice" or not wanted.get("items"):
            following = {**subscription, "items": {"data": [_next(subscription, item) for item in new]}}
            for waiting in account.find("invoiceitem", subscription=subscription["id"], _billed=False):
                bring(account, invoice, subscription, waiting)
            full_lines(account, invoice, following)
        invoices.reckon(account, invoice)
    finally:
        account.remove(invoice)
    invoice["id"] = f"upcoming_{invoice['id']}"
    invoice["ending_balance"] = invoice["_ending_balance"]
    return invoice


def _next(subscription: Thing, item: Thing) -> Thing:
    start = item["current_period_end"]
    end = end_of_period(subscription["billing_cycle_anchor"], start, item["price"]["recurring"])
    return {**item, "current_period_start": start, "current_period_end": end}


def keep(account: Account, subscription: Thing, new: list[Thing], at: int) -> None:
    """Note what a change costs for the next invoice (`create_prorations`)."""
    customer = account.get("customer", subscription["customer"])
    scratch = invoices.begin(account, customer, reason="upcoming", taxed=False)
    lines(account, scratch, subscription, new, at)
    account.remove(scratch)
    for line in scratch["lines"]["data"]:
        account.add(
            "invoiceitem",
            {
                "customer": customer["id"],
                "subscription": subscription["id"],
                "amount": line["amount"],
                "description": line["description"],
                "period": line["period"],
                "_line": {"parent": line["parent"], "quantity": line["quantity"]},
                "_billed": False,
            },
            customer=customer["id"],
        )


def bring(account: Account, invoice: Thing, subscription: Thing, waiting: Thing) -> None:
    period = (waiting["period"]["start"], waiting["period"]["end"])
    invoices.add_line(
        invoice,
        waiting["_line"],
        amount=waiting["amount"],
        description=waiting["description"],
        period=period,
    )
