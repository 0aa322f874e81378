"""Refunds: whole or in part, at once or failing later."""

from __future__ import annotations

from billing.sandbox import balance, customers
from billing.sandbox.account import Account
from billing.sandbox.lists import page
from billing.sandbox.refusals import Invalid, Thing

_REASONS = (None, "duplicate", "fraudulent", "requested_by_customer")


def create(account: Account, params: Thing) -> Thing:
    charge = _charge(account, params)
    left = charge["amount"] - charge["amount_refunded"]
    amount = params.get("amount", left)
    if params.get("reason") not in _REASONS:
        raise Invalid(
            "Invalid reason: must be duplicate, fraudulent, or requested_by_customer", param="reason"
        )
    if left == 0:
        said = f"Charge {charge['id']} has already been refunded."
        raise Invalid(said, code="charge_already_refunded")
    if charge["disputed"] and not _only_inquired(account, charge):
        said = f"Charge {charge['id']} has been charged back; cannot issue a refund."
        raise Invalid(said, code="charge_disputed")
    if amount < 1:
        raise Invalid("Invalid positive integer", param="amount", code="parameter_invalid_integer")
    if amount > left:
        said = (
            f"Refund amount (${amount // 100}.{amount % 100:02}) is greater than unrefunded amount on charge"
        )
        raise Invalid(f"{said} (${left // 100}.{left % 100:02})", param="amount")
    refund = account.add(
        "refund",
        {
            "amount": amount,
            "balance_transaction": None,
            "charge": charge["id"],
            "currency": charge["currency"],
            "destination_details": {
                "type": "card",
                "card": {"type": "refund", "reference_status": "pending", "reference_type": "acquirer"},
            },
            "metadata": dict(params.get("metadata") or {}),
            "payment_intent": charge["payment_intent"],
            "reason": params.get("reason"),
            "receipt_number": None,
            "source_transfer_reversal": None,
            "status": "succeeded",
            "transfer_reversal": None,
        },
        customer=charge["customer"],
    )
    moved = balance.move(account, refund, amount=-amount, fee=0, kind="refund")
    refund["balance_transaction"] = moved["id"]
    before = {"amount_refunded": charge["amount_refunded"], "refunded": charge["refunded"]}
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    account.changed(charge)
    account.changed(refund)
    account.emit("refund.created", refund)
    account.emit("charge.refunded", charge, before)
    account.emit("charge.refund.updated", refund)
    return refund


def _charge(account: Account, params: Thing) -> Thing:
    if params.get("charge"):
        charge = account.get("charge", params["charge"], "charge")
    elif params.get("payment_intent"):
        intent = account.get("payment_intent", params["payment_intent"], "payment_intent")
        if not intent["latest_charge"]:
            said = f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund."
            raise Invalid(said, param="payment_intent")
        charge = account.get("charge", intent["latest_charge"])
    else:
        raise Invalid(
            "One of the following params should be provided for this request: payment_intent or charge.",
            code="parameter_missing",
        )
    if charge["status"] != "succeeded":
        raise Invalid(f"Charge {charge['id']} was not successful and cannot be refunded.")
    return charge


def _only_inquired(account: Account, charge: Thing) -> bool:
    return all(each["status"].startswith("warning") for each in account.find("dispute", charge=charge["id"]))


def fail(account: Account, refund: Thing, reason: str = "lost_or_stolen_card") -> Thing:
    """The bank could not give the money back: it returns to the account, days later."""
    if refund["status"] not in ("succeeded", "pending"):
        raise Invalid(f"Refund {refund['id']} is {refund['status']}.")
    moved = balance.move(account, refund, amount=refund["amount"], fee=0, kind="refund_failure")
    before = {"status": refund["status"]}
    refund |= {
        "failure_balance_transaction": moved["id"],
        "failure_reason": reason,
        "status": "failed",
    }
    charge = account.get("charge", refund["charge"])
    charge["amount_refunded"] -= refund["amount"]
    charge["refunded"] = False
    account.changed(charge)
    account.changed(refund)
    account.emit("refund.failed", refund, before)
    account.emit("refund.updated", refund, before)
    account.emit("charge.refund.updated", refund, before)
    return refund


def retrieve(account: Account, params: Thing, refund_id: str) -> Thing:
    return account.get("refund", refund_id)


def update(account: Account, params: Thing, refund_id: str) -> Thing:
    refund = account.get("refund", refund_id)
    refund["metadata"] = customers.merged(refund["metadata"], params.get("metadata"))
    account.changed(refund)
    account.emit("refund.updated", refund)
    return refund


def list_all(account: Account, params: Thing) -> Thing:
    equal = {name: params[name] for name in ("charge", "payment_intent") if name in params}
    return page(account, account.find("refund", **equal), params, "/v1/refunds")
