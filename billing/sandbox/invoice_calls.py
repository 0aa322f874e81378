"""The API's calls on invoices: made by hand, read, paid; what paid them."""

from __future__ import annotations

from billing.sandbox import cards, customers, invoices, prices, prorations
from billing.sandbox.account import DAY, Account
from billing.sandbox.lists import inline, page
from billing.sandbox.refusals import Invalid, Thing, required


def create(account: Account, params: Thing) -> Thing:
    if not params.get("customer"):
        raise required("customer")
    customer = customers.existing(account, params["customer"], "customer")
    now = account.now(customer["id"])
    method = params.get("collection_method", "charge_automatically")
    if method == "send_invoice" and not {"days_until_due", "due_date"} & set(params):
        raise Invalid("You must pass `days_until_due` or `due_date`.", param="days_until_due")
    if method != "send_invoice" and {"days_until_due", "due_date"} & set(params):
        said = "`days_until_due` can only be passed if invoicing by sending the invoice."
        raise Invalid(said, param="days_until_due")
    advances = params.get("auto_advance", False)
    invoice = invoices.begin(
        account,
        customer,
        reason="manual",
        taxed=params.get("automatic_tax", {}).get("enabled", False),
        auto_advance=advances,
        automatically_finalizes_at=now + 3600 if advances else None,
        collection_method=method,
        default_payment_method=params.get("default_payment_method"),
        description=params.get("description"),
        due_date=params.get("due_date", now + params["days_until_due"] * DAY)
        if "days_until_due" in params
        else params.get("due_date"),
        footer=params.get("footer"),
        metadata=dict(params.get("metadata") or {}),
    )
    account.emit("invoice.created", invoice)
    return invoice


def update(account: Account, params: Thing, invoice_id: str) -> Thing:
    invoice = account.get("invoice", invoice_id)
    invoice["metadata"] = customers.merged(invoice["metadata"], params.get("metadata"))
    if "description" in params:
        _require_draft(invoice)
        invoice["description"] = params["description"] or None
    if "auto_advance" in params:
        invoice["auto_advance"] = params["auto_advance"]
        if not params["auto_advance"]:
            invoice |= {"next_payment_attempt": None, "automatically_finalizes_at": None}
    account.changed(invoice)
    account.emit("invoice.updated", invoice)
    return invoice


def _require_draft(invoice: Thing) -> None:
    if invoice["status"] != "draft":
        said = f"Invoice {invoice['id']} can no longer be edited: it is {invoice['status']}."
        raise Invalid(said, code="invoice_not_editable")


def add_lines(account: Account, params: Thing, invoice_id: str) -> Thing:
    invoice = account.get("invoice", invoice_id)
    _require_draft(invoice)
    now = account.now(invoice["customer"])
    for place, line in enumerate(params["lines"]):
        quantity = line.get("quantity", 1)
        price = None
        if "pricing" in line or "price_data" in line:
            asked = {"price_data": line["price_data"]} if "price_data" in line else line["pricing"]
            price = prices.inline_price(account, asked, f"lines[{place}]")
            amount = price["unit_amount"] * quantity
        elif "amount" in line:
            amount = line["amount"]
        else:
            raise required(f"lines[{place}][amount]")
        period = line.get("period", {"start": now, "end": now})
        told = {"price": price, "quantity": quantity, "metadata": line.get("metadata")}
        invoices.add_line(
            invoice,
            told,
            amount=amount,
            description=line.get("description", ""),
            period=(period["start"], period["end"]),
        )
    if "invoice_metadata" in params:
        invoice["metadata"] = customers.merged(invoice["metadata"], params["invoice_metadata"])
    invoices.reckon(account, invoice)
    account.emit("invoice.updated", invoice)
    return invoice


def list_lines(account: Account, params: Thing, invoice_id: str) -> Thing:
    lines = account.get("invoice", invoice_id)["lines"]["data"]
    return inline(lines, f"/v1/invoices/{invoice_id}/lines")


def finalize(account: Account, params: Thing, invoice_id: str) -> Thing:
    invoice = account.get("invoice", invoice_id)
    invoices.finalize(account, invoice, collect=bool(params.get("auto_advance", invoice["auto_advance"])))
    return invoice


def pay(account: Account, params: Thing, invoice_id: str) -> Thing:
    invoice = account.get("invoice", invoice_id)
    if invoice["status"] == "draft":
        invoices.finalize(account, invoice, collect=invoice["auto_advance"])
    if invoice["status"] != "open":
        said = "Invoice is already paid" if invoice["status"] == "paid" else "This invoice cannot be paid"
        raise Invalid(f"{said} (status: {invoice['status']}).")
    if params.get("paid_out_of_band"):
        invoices.mark_paid(account, invoice, elsewhere=True)
        return invoice
    chosen = params.get("payment_method")
    method = cards.named(account, chosen) if chosen else invoices.card_for(account, invoice)
    invoices.collect(account, invoice, method, off_session=params.get("off_session", True))
    return invoice


def void(account: Account, params: Thing, invoice_id: str) -> Thing:
    invoice = account.get("invoice", invoice_id)
    invoices.void(account, invoice)
    return invoice


def give_up(account: Account, params: Thing, invoice_id: str) -> Thing:
    """Mark it uncollectible."""
    invoice = account.get("invoice", invoice_id)
    if invoice["status"] != "open":
        raise Invalid(f"Only open invoices can be marked uncollectible; this one is {invoice['status']}.")
    invoice |= {"status": "uncollectible", "next_payment_attempt": None}
    invoice["status_transitions"]["marked_uncollectible_at"] = account.now(invoice["customer"])
    account.changed(invoice)
    account.emit("invoice.marked_uncollectible", invoice)
    return invoice


def delete(account: Account, params: Thing, invoice_id: str) -> Thing:
    invoice = account.get("invoice", invoice_id)
    _require_draft(invoice)
    account.emit("invoice.deleted", invoice)
    account.remove(invoice)
    return {"id": invoice_id, "object": "invoice", "deleted": True}


def retrieve(account: Account, params: Thing, invoice_id: str) -> Thing:
    return account.get("invoice", invoice_id)


def list_all(account: Account, params: Thing) -> Thing:
    equal = {name: params[name] for name in ("customer", "status", "collection_method") if name in params}
    found = account.find("invoice", **equal)
    if "subscription" in params:
        wanted = account.get("subscription", params["subscription"], "subscription")
        found = (each for each in found if invoices.subscription_of(account, each) is wanted)
    return page(account, found, params, "/v1/invoices")


def preview(account: Account, params: Thing) -> Thing:
    """What the next invoice of a subscription would be, or that of a change made now; nothing is kept."""
    if not params.get("subscription"):
        raise Invalid("The sandbox previews invoices of a `subscription` alone.", param="subscription")
    subscription = account.get("subscription", params["subscription"], "subscription")
    wanted = params.get("subscription_details", {})
    now = account.now(subscription["customer"])
    at = wanted.get("proration_date", now)
    return prorations.preview(account, subscription, wanted, at)


def list_payments(account: Account, params: Thing) -> Thing:
    equal = {name: params[name] for name in ("invoice", "status") if name in params}
    found = account.find("invoice_payment", **equal)
    if "payment" in params:
        intent = params["payment"].get("payment_intent")
        found = (each for each in found if each["payment"]["payment_intent"] == intent)
    return page(account, found, params, "/v1/invoice_payments")


def retrieve_payment(account: Account, params: Thing, payment_id: str) -> Thing:
    return account.get("invoice_payment", payment_id)
