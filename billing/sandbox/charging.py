"""One attempt to take money from a card: the charge, what becomes of its PaymentIntent, what follows."""

from __future__ import annotations

from billing.sandbox import balance, cards, customers, disputes
from billing.sandbox.account import Account, random_id, shown
from billing.sandbox.refusals import Refused, Thing, declined


def attempt(
    account: Account, intent: Thing, method: Thing, *, off_session: bool, authenticated: bool = False
) -> Thing:
    """Charge the intent to the card; or ask for 3-D Secure; a decline is `Refused` 402, and is recorded."""
    card = cards.card_of(method)
    intent["payment_method"] = method["id"]
    if not authenticated and asks(method):
        if off_session:
            raise refuse(account, intent, method, "authentication_required")
        intent |= {
            "status": "requires_action",
            "next_action": {
                "type": "redirect_to_url",
                "redirect_to_url": {
                    "url": f"{account.url}/3ds/{intent['id']}",
                    "return_url": intent.get("_return_url"),
                },
            },
        }
        account.changed(intent)
        account.emit("payment_intent.requires_action", intent)
        return intent
    if card.refuses:
        raise refuse(account, intent, method, card.refuses)
    if intent["setup_future_usage"] and intent["customer"]:
        customers.keep_card(account, method, intent["customer"], authenticated=authenticated)
    charge = settle(account, intent, method)
    _bring(account, charge, card.brings)
    return intent


def asks(method: Thing) -> bool:
    """Whether this card wants 3-D Secure now."""
    when = cards.card_of(method).asks
    return when == "always" or (when == "once" and not method["_authenticated"])


def settle(account: Account, intent: Thing, method: Thing) -> Thing:
    """The money has come: a charge, its balance transaction, and the intent succeeded."""
    charge = _charge(account, intent, method, status="succeeded")
    charge["outcome"] = _outcome("authorized", "approved_by_network", "Payment complete.", None)
    if not account.settings.get("late_fees"):
        note_fee(account, charge)
    intent |= {
        "amount_received": intent["amount"],
        "last_payment_error": None,
        "latest_charge": charge["id"],
        "next_action": None,
        "payment_method": method["id"],
        "status": "succeeded",
    }
    account.changed(charge)
    account.changed(intent)
    account.emit("charge.succeeded", charge)
    account.emit("payment_intent.succeeded", intent)
    account.on_settled(intent)
    return charge


def note_fee(account: Account, charge: Thing) -> None:
    """Write the charge into the balance. The real Stripe does so a moment after the payment."""
    fee = balance.card_fee(charge["amount"])
    moved = balance.move(account, charge, amount=charge["amount"], fee=fee, kind="charge")
    charge["balance_transaction"] = moved["id"]
    account.changed(charge)


def note_late_fees(account: Account) -> int:
    """Write what still waits, and tell. Gives how many."""
    waiting = list(account.find("charge", status="succeeded", balance_transaction=None))[::-1]
    for charge in waiting:
        note_fee(account, charge)
        account.emit("charge.updated", charge, {"balance_transaction": None})
    return len(waiting)


def refuse(account: Account, intent: Thing, method: Thing, decline_code: str) -> Refused:
    """Record a failed charge and give the 402 that tells of it."""
    code, said = cards.SAYS[decline_code]
    charge = _charge(account, intent, method, status="failed")
    charge |= {
        "amount_captured": 0,
        "captured": False,
        "failure_code": code,
        "failure_message": said,
        "paid": False,
        "outcome": _outcome(
            "issuer_declined", "declined_by_network", "The bank did not say more.", decline_code
        ),
    }
    error = {
        "charge": charge["id"],
        "code": code,
        "decline_code": decline_code,
        "doc_url": f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}",
        "message": said,
        "payment_method": shown(method),
        "type": "card_error",
    }
    intent |= {
        "last_payment_error": error,
        "latest_charge": charge["id"],
        "next_action": None,
        "payment_method": None,
        "status": "requires_payment_method",
    }
    account.changed(charge)
    account.changed(intent)
    account.emit("charge.failed", charge)
    account.emit("payment_intent.payment_failed", intent)
    told = {name: value for name, value in error.items() if name in ("charge", "doc_url", "payment_method")}
    return declined(code, said, decline_code=decline_code, payment_intent=shown(intent), **told)


def _outcome(kind: str, network: str, said: str, reason: str | None) -> Thing:
    return {
        "network_status": network,
        "reason": reason,
        "risk_level": "normal",
        "risk_score": 20,
        "seller_message": said,
        "type": kind,
    }


def _charge(account: Account, intent: Thing, method: Thing, *, status: str) -> Thing:
    paid = status == "succeeded"
    return account.add(
        "charge",
        {
            "amount": intent["amount"],
            "amount_captured": intent["amount"] if paid else 0,
            "amount_refunded": 0,
            "balance_transaction": None,
            "billing_details": method["billing_details"],
            "captured": paid,
            "currency": intent["currency"],
            "customer": intent["customer"],
            "description": intent["description"],
            "disputed": False,
            "failure_balance_transaction": None,
            "failure_code": None,
            "failure_message": None,
            "fraud_details": {},
            "metadata": dict(intent["metadata"]),
            "outcome": None,
            "paid": paid,
            "payment_intent": intent["id"],
            "payment_method": method["id"],
            "payment_method_details": _details(method),
            "receipt_email": intent["receipt_email"],
            "receipt_number": None,
            "receipt_url": f"{account.url}/receipts/{random_id('r')}",
            "refunded": False,
            "statement_descriptor_suffix": None,
            "status": status,
        },
        customer=intent["customer"],
    )


def _details(method: Thing) -> Thing:
    """What a charge tells of its card or bank account."""
    kind = method["type"]
    names = ("brand", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4", "bank_name")
    return {"type": kind, kind: {name: method[kind][name] for name in names if name in method[kind]}}


def _bring(account: Account, charge: Thing, what: str) -> None:
    """What some test cards are for: the bank's word, right after the payment."""
    if what == "fraud_warning":
        disputes.warn(account, charge)
    elif what == "dispute":
        disputes.open_dispute(account, charge, reason="fraudulent")
    elif what == "inquiry":
        disputes.open_dispute(account, charge, reason="fraudulent", inquiry=True)
