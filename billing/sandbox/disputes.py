"""Disputes and early fraud warnings: what a cardholder's bank says after a payment."""

from __future__ import annotations

from billing.sandbox import balance
from billing.sandbox.account import DAY, Account
from billing.sandbox.lists import page
from billing.sandbox.refusals import Invalid, Thing

_OPEN = ("needs_response", "under_review", "warning_needs_response", "warning_under_review")


def open_dispute(
    account: Account, charge: Thing, *, reason: str, amount: int = 0, inquiry: bool = False
) -> Thing:
    """The bank takes the money back; an inquiry only asks. `amount` in cents; 0: the whole charge."""
    if charge["status"] != "succeeded" or charge["disputed"]:
        raise Invalid(f"Charge {charge['id']} cannot be disputed: it failed, or is disputed already.")
    now = account.now(charge["customer"])
    dispute = account.add(
        "dispute",
        {
            "amount": amount or charge["amount"],
            "balance_transactions": [],
            "charge": charge["id"],
            "currency": charge["currency"],
            "enhanced_eligibility_types": [],
            "evidence": {},
            "evidence_details": {
                "due_by": now + 14 * DAY,
                "enhanced_eligibility": {},
                "has_evidence": False,
                "past_due": False,
                "submission_count": 0,
            },
            "is_charge_refundable": inquiry,
            "metadata": {},
            "network_reason_code": "10.4",
            "payment_intent": charge["payment_intent"],
            "payment_method_details": {
                "type": "card",
                "card": {"brand": "visa", "case_type": "inquiry" if inquiry else "chargeback"},
            },
            "reason": reason,
            "status": "warning_needs_response" if inquiry else "needs_response",
        },
        customer=charge["customer"],
    )
    charge["disputed"] = True
    account.changed(charge)
    account.emit("charge.dispute.created", dispute)
    if not inquiry:
        _withdraw(account, dispute)
    account.emit("charge.updated", charge, {"disputed": False})
    return dispute


def _withdraw(account: Account, dispute: Thing) -> None:
    moved = balance.move(account, dispute, amount=-dispute["amount"], fee=balance.DISPUTE_FEE, kind="dispute")
    dispute["balance_transactions"].append(moved)
    account.changed(dispute)
    account.emit("charge.dispute.funds_withdrawn", dispute)


def resolve(account: Account, dispute: Thing, *, won: bool) -> Thing:
    """The bank has decided. Won: the money comes back, the fee does not."""
    if dispute["status"] not in _OPEN:
        raise Invalid(f"This dispute is already closed: {dispute['status']}.")
    inquiry = dispute["status"].startswith("warning")
    before = dispute["status"]
    dispute["status"] = "warning_closed" if inquiry and won else "won" if won else "lost"
    account.changed(dispute)
    if won and not inquiry:
        moved = balance.move(account, dispute, amount=dispute["amount"], fee=0, kind="dispute_reversal")
        dispute["balance_transactions"].append(moved)
        account.emit("charge.dispute.funds_reinstated", dispute)
    account.emit("charge.dispute.closed", dispute, {"status": before})
    return dispute


def close(account: Account, params: Thing, dispute_id: str) -> Thing:
    """Accept it: it is lost."""
    return resolve(account, account.get("dispute", dispute_id), won=False)


def update(account: Account, params: Thing, dispute_id: str) -> Thing:
    """Give evidence."""
    dispute = account.get("dispute", dispute_id)
    if dispute["status"] not in _OPEN:
        raise Invalid(f"This dispute is already closed: {dispute['status']}.")
    dispute["evidence"] |= params.get("evidence") or {}
    dispute["evidence_details"]["has_evidence"] = bool(dispute["evidence"])
    if params.get("submit", True) and dispute["evidence"]:
        dispute["status"] = dispute["status"].replace("needs_response", "under_review")
        dispute["evidence_details"]["submission_count"] += 1
    account.changed(dispute)
    account.emit("charge.dispute.updated", dispute)
    return dispute


def retrieve(account: Account, params: Thing, dispute_id: str) -> Thing:
    return account.get("dispute", dispute_id)


def list_all(account: Account, params: Thing) -> Thing:
    equal = {name: params[name] for name in ("charge", "payment_intent") if name in params}
    return page(account, account.find("dispute", **equal), params, "/v1/disputes")


# ── Early fraud warnings ─────────────────────────────────────────────────────────────────────────


def warn(account: Account, charge: Thing) -> Thing:
    """The bank suspects fraud: nothing has moved yet, a refund may still avoid the dispute."""
    warning = account.add(
        "radar.early_fraud_warning",
        {
            "actionable": not charge["refunded"] and not charge["disputed"],
            "charge": charge["id"],
            "fraud_type": "unauthorized_use_of_card",
            "payment_intent": charge["payment_intent"],
        },
        customer=charge["customer"],
    )
    account.emit("radar.early_fraud_warning.created", warning)
    return warning


def retrieve_warning(account: Account, params: Thing, warning_id: str) -> Thing:
    return _fresh(account, account.get("radar.early_fraud_warning", warning_id))


def list_warnings(account: Account, params: Thing) -> Thing:
    equal = {name: params[name] for name in ("charge", "payment_intent") if name in params}
    found = (_fresh(account, each) for each in account.find("radar.early_fraud_warning", **equal))
    return page(account, found, params, "/v1/radar/early_fraud_warnings")


def _fresh(account: Account, warning: Thing) -> Thing:
    charge = account.get("charge", warning["charge"])
    warning["actionable"] = not charge["refunded"] and not charge["disputed"]
    return account.changed(warning)
