"""Invoices: their lines, tax and balance, how they are finalized, paid and voided."""

from __future__ import annotations

from billing.sandbox import cards, charging, payments, taxes
from billing.sandbox.account import DAY, Account, random_id, shown
from billing.sandbox.lists import inline
from billing.sandbox.refusals import Invalid, Refused, Thing, declined

RETRY_DAYS = (3, 5, 7)
"""After each failed attempt, how long until the next; after the last there is none."""


def begin(account: Account, customer: Thing, *, reason: str, taxed: bool, **given: object) -> Thing:
    """A draft without lines. `given`: fields that differ from what most invoices have."""
    now = account.now(customer["id"])
    return account.add(
        "invoice",
        {
            **dict.fromkeys(_NONE),
            "account_country": "US",
            "amount_due": 0,
            "amount_overpaid": 0,
            "amount_paid": 0,
            "amount_paid_off_stripe": 0,
            "amount_remaining": 0,
            "amount_shipping": 0,
            "attempt_count": 0,
            "attempted": False,
            "auto_advance": False,
            "automatic_tax": taxes.automatic(taxed),
            "billing_reason": reason,
            "collection_method": "charge_automatically",
            "currency": "usd",
            "customer": customer["id"],
            "customer_email": customer["email"],
            "customer_name": customer["name"],
            "customer_tax_exempt": "none",
            "customer_tax_ids": [],
            "default_tax_rates": [],
            "discounts": [],
            "issuer": {"type": "self"},
            "lines": inline([], ""),
            "metadata": {},
            "payment_settings": {"default_mandate": None, "payment_method_options": None}
            | {"payment_method_types": None},
            "period_end": now,
            "period_start": now,
            "post_payment_credit_notes_amount": 0,
            "pre_payment_credit_notes_amount": 0,
            "starting_balance": 0,
            "status": "draft",
            "status_transitions": dict.fromkeys(
                ("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at")
            ),
            "subtotal": 0,
            "subtotal_excluding_tax": 0,
            "test_clock": customer["test_clock"],
            "total": 0,
            "total_discount_amounts": [],
            "total_excluding_tax": 0,
            "total_taxes": [],
            **given,
        },
        customer=customer["id"],
    )


_NONE = (
    *("application", "automatically_finalizes_at", "customer_address", "customer_phone"),
    *("customer_shipping", "default_payment_method", "default_source", "description", "due_date"),
    *("effective_at", "ending_balance", "footer", "from_invoice", "hosted_invoice_url", "invoice_pdf"),
    *("last_finalization_error", "latest_revision", "next_payment_attempt", "number", "on_behalf_of"),
    *("parent", "receipt_number", "rendering", "shipping_cost", "shipping_details"),
    *("statement_descriptor", "threshold_reason", "webhooks_delivered_at"),
)


def add_line(invoice: Thing, line: Thing, *, amount: int, description: str, period: tuple[int, int]) -> Thing:
    """`line` says what is particular: `quantity`, `price`, `parent`, `metadata`. Amounts are cents."""
    price = line.get("price")
    tax = taxes.on(amount, invoice["automatic_tax"]["enabled"])
    made = {
        "amount": amount,
        "currency": "usd",
        "description": description,
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "id": random_id("il"),
        "invoice": invoice["id"],
        "livemode": False,
        "metadata": line.get("metadata") or {},
        "object": "line_item",
        "parent": line.get("parent"),
        "period": {"start": period[0], "end": period[1]},
        "pretax_credit_amounts": [],
        "pricing": price
        and {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": str(price["unit_amount"]),
        },
        "quantity": line.get("quantity", 1),
        "subtotal": amount,
        "taxes": [taxes.described(tax, amount)] if tax else [],
    }
    data = invoice["lines"]["data"]
    data.append(made)
    invoice["lines"] = inline(data, f"/v1/invoices/{invoice['id']}/lines")
    return made


def subscription_parent(subscription: Thing) -> Thing:
    return {
        "quote_details": None,
        "subscription_details": {
            "metadata": dict(subscription["metadata"]),
            "subscription": subscription["id"],
        },
        "type": "subscription_details",
    }


def subscription_of(account: Account, invoice: Thing) -> Thing | None:
    parent = invoice["parent"]
    return account.lookup(parent["subscription_details"]["subscription"]) if parent else None


def reckon(account: Account, invoice: Thing) -> None:
    """Sum the lines, add tax, use what the customer has to their credit (a negative balance)."""
    lines = invoice["lines"]["data"]
    subtotal = sum(line["amount"] for line in lines)
    tax = sum(each["amount"] for line in lines for each in line["taxes"])
    total = subtotal + tax
    balance = account.get("customer", invoice["customer"])["balance"]
    due, left = max(total + balance, 0), min(total + balance, 0)
    if 0 < due < payments.LEAST_CENTS and invoice["collection_method"] == "charge_automatically":
        due, left = 0, due  # too little to charge: it is owed with the next invoice
    invoice |= {
        "amount_due": due,
        "amount_remaining": due,
        "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal,
        "total": total,
        "total_excluding_tax": subtotal,
        "total_taxes": [taxes.described(tax, subtotal)] if tax else [],
        "starting_balance": balance,
        "_ending_balance": left,
    }
    account.changed(invoice)


def finalize(account: Account, invoice: Thing, *, collect: bool) -> None:
    """From here on nothing changes. `collect`: Stripe charges by itself, an hour from now."""
    if invoice["status"] != "draft":
        raise Invalid("This invoice is already finalized, you can't re-finalize a non-draft invoice.")
    customer = account.get("customer", invoice["customer"])
    taxes.require_place(customer, invoice["automatic_tax"]["enabled"])
    reckon(account, invoice)
    now = account.now(customer["id"])
    customer["balance"] = invoice["_ending_balance"]
    number = customer["next_invoice_sequence"]
    customer["next_invoice_sequence"] = number + 1
    account.changed(customer)
    charges = invoice["collection_method"] == "charge_automatically"
    invoice |= {
        "auto_advance": collect,
        "automatically_finalizes_at": None,
        "effective_at": now,
        "ending_balance": invoice["_ending_balance"],
        "hosted_invoice_url": f"{account.url}/i/{invoice['id']}",
        "invoice_pdf": f"{account.url}/i/{invoice['id']}/pdf",
        "next_payment_attempt": now + 3600 if collect and charges and invoice["amount_due"] else None,
        "number": f"{customer['invoice_prefix']}-{number:04}",
        "status": "open",
    }
    invoice["status_transitions"]["finalized_at"] = now
    if invoice["amount_due"]:
        _expect_payment(account, invoice)
    account.changed(invoice)
    account.emit("invoice.finalized", invoice)
    if not invoice["amount_due"]:
        mark_paid(account, invoice)


def _expect_payment(account: Account, invoice: Thing) -> None:
    wanted = {"amount": invoice["amount_due"], "currency": "usd", "customer": invoice["customer"]}
    described = f"Payment for invoice {invoice['number']}"
    intent = payments.new_intent(account, {**wanted, "description": described})
    intent["_invoice"] = invoice["id"]
    account.add(
        "invoice_payment",
        {
            "amount_paid": None,
            "amount_requested": invoice["amount_due"],
            "currency": "usd",
            "invoice": invoice["id"],
            "is_default": True,
            "payment": {"type": "payment_intent", "payment_intent": intent["id"]},
            "status": "open",
            "status_transitions": {"canceled_at": None, "paid_at": None},
        },
        customer=invoice["customer"],
    )


def intent_of(account: Account, invoice: Thing) -> Thing | None:
    for payment in account.find("invoice_payment", invoice=invoice["id"]):
        return account.lookup(payment["payment"]["payment_intent"])
    return None


def card_for(account: Account, invoice: Thing) -> Thing | None:
    """The invoice's own card, else the subscription's, else the customer's default."""
    subscription = subscription_of(account, invoice) or {}
    customer = account.get("customer", invoice["customer"])
    for found_id in (
        invoice["default_payment_method"],
        subscription.get("default_payment_method"),
        customer["invoice_settings"]["default_payment_method"],
    ):
        if found_id:
            return cards.named(account, found_id)
    return None


def collect(
    account: Account, invoice: Thing, method: Thing | None, *, off_session: bool, authenticated: bool = False
) -> None:
    """Charge an open invoice; a decline is `Refused` 402, and noted on the invoice."""
    intent = intent_of(account, invoice)
    if invoice["status"] != "open" or intent is None:
        said = "Invoice is already paid" if invoice["status"] == "paid" else "This invoice cannot be paid"
        raise Invalid(f"{said} (status: {invoice['status']}).", code="invoice_not_editable")
    if method is None:
        _note_failure(account, invoice)
        raise Refused(
            402,
            "card_error",
            "This customer has no attached payment source or default payment method.",
            code="missing",
            payment_intent={"id": intent["id"], "object": "payment_intent"},
        )
    invoice |= {"attempted": True, "attempt_count": invoice["attempt_count"] + 1}
    try:
        charging.attempt(account, intent, method, off_session=False, authenticated=authenticated)
    except Refused:
        _note_failure(account, invoice)
        raise
    if intent["status"] != "requires_action":
        return
    # The bank wants the customer: whoever asked alone hears no, and the customer may do it later.
    if off_session:
        _note_failure(account, invoice)
    account.emit("invoice.payment_action_required", invoice)
    if off_session:
        raise declined(
            "invoice_payment_intent_requires_action",
            "This payment requires additional user action before it can be completed successfully.",
            decline_code=None,
            payment_intent=shown(intent),
        )


def _note_failure(account: Account, invoice: Thing) -> None:
    now = account.now(invoice["customer"])
    tried = max(invoice["attempt_count"], 1)
    invoice |= {"attempted": True, "attempt_count": tried, "next_payment_attempt": None}
    if invoice["auto_advance"] and tried <= len(RETRY_DAYS):
        invoice["next_payment_attempt"] = now + RETRY_DAYS[tried - 1] * DAY
    account.changed(invoice)
    customer = account.get("customer", invoice["customer"])
    customer["delinquent"] = True
    account.changed(customer)
    account.emit("invoice.payment_failed", invoice)


def note_settled(account: Account, intent: Thing) -> None:
    """A payment has come: if it was an invoice's, that is paid."""
    invoice = account.lookup(intent.get("_invoice"))
    if invoice is not None and invoice["status"] == "open":
        mark_paid(account, invoice)


def mark_paid(account: Account, invoice: Thing, *, elsewhere: bool = False) -> None:
    now = account.now(invoice["customer"])
    paid = invoice["amount_due"]
    invoice |= {
        "amount_paid": paid,
        "amount_paid_off_stripe": paid if elsewhere else 0,
        "amount_remaining": 0,
        "attempted": True,
        "auto_advance": False,
        "next_payment_attempt": None,
        "status": "paid",
    }
    invoice["status_transitions"]["paid_at"] = now
    account.changed(invoice)
    for payment in account.find("invoice_payment", invoice=invoice["id"]):
        payment |= {"status": "canceled" if elsewhere else "paid", "amount_paid": 0 if elsewhere else paid}
        payment["status_transitions"]["canceled_at" if elsewhere else "paid_at"] = now
        account.changed(payment)
    customer = account.get("customer", invoice["customer"])
    customer["delinquent"] = False
    account.changed(customer)
    account.emit("invoice.paid", invoice)
    account.emit("invoice.payment_succeeded", invoice)
    _revive(account, invoice)


def _revive(account: Account, invoice: Thing) -> None:
    """A subscription whose last invoice is paid is active, with what waited for the payment."""
    subscription = subscription_of(account, invoice)
    if subscription is None or subscription["latest_invoice"] != invoice["id"]:
        return
    before = subscription["status"]
    waiting = subscription.pop("_pending_items", None)
    if waiting is not None:
        subscription["pending_update"] = None
        subscription["items"]["data"] = waiting
    if before in ("incomplete", "past_due", "unpaid"):
        subscription["status"] = "active"
    elif waiting is None:
        return
    account.changed(subscription)
    account.emit("customer.subscription.updated", subscription, {"status": before})


def void(account: Account, invoice: Thing) -> None:
    if invoice["status"] not in ("open", "uncollectible"):
        said = f"You can only void invoices that are open; this one is {invoice['status']}."
        raise Invalid(said, code="invoice_not_editable")
    now = account.now(invoice["customer"])
    intent = intent_of(account, invoice)
    if intent is not None and intent["status"] != "canceled":
        payments.stop(account, intent, "void_invoice")
    for payment in account.find("invoice_payment", invoice=invoice["id"]):
        payment["status"] = "canceled"
        payment["status_transitions"]["canceled_at"] = now
        account.changed(payment)
    # What the finalized invoice took from the customer's balance goes back.
    customer = account.get("customer", invoice["customer"])
    customer["balance"] += invoice["starting_balance"] - invoice["ending_balance"]
    account.changed(customer)
    invoice |= {"status": "void", "next_payment_attempt": None, "auto_advance": False}
    invoice["status_transitions"]["voided_at"] = now
    account.changed(invoice)
    account.emit("invoice.voided", invoice)
