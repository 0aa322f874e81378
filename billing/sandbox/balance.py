"""The account's balance: what each payment, refund and dispute moved, and Stripe's fee. Cents."""

from __future__ import annotations

from billing.sandbox.account import DAY, Account
from billing.sandbox.lists import page
from billing.sandbox.refusals import Thing

DISPUTE_FEE = 1500
_FEE_PER_MILLE, _FEE_FIXED = 29, 30


def card_fee(amount: int) -> int:
    """2.9 % and 30 ¢, half a cent up."""
    return (amount * _FEE_PER_MILLE + 500) // 1000 + _FEE_FIXED


def move(account: Account, source: Thing, *, amount: int, fee: int, kind: str) -> Thing:
    """Record `amount` cents, minus `fee`.

    `kind`: charge, refund, refund_failure, dispute, dispute_reversal.
    """
    now = account.now(source.get("customer"))
    adjusts = kind.startswith("dispute")
    return account.add(
        "balance_transaction",
        {
            "amount": amount,
            "available_on": now + 2 * DAY,
            "balance_type": "payments",
            "currency": source["currency"],
            "description": source.get("description"),
            "exchange_rate": None,
            "fee": fee,
            "fee_details": [_detail(fee, source["currency"], adjusts)] if fee else [],
            "net": amount - fee,
            "reporting_category": kind,
            "source": source["id"],
            "status": "available" if adjusts else "pending",
            "type": "adjustment" if adjusts else kind,
            "created": now,
        },
    )


def _detail(fee: int, currency: str, adjusts: bool) -> Thing:
    described = "Dispute fee" if adjusts else "Stripe processing fees"
    return {"amount": fee, "application": None, "currency": currency} | {
        "description": described,
        "type": "stripe_fee",
    }


def retrieve(account: Account, params: Thing, transaction_id: str) -> Thing:
    return _ripe(account, account.get("balance_transaction", transaction_id))


def list_all(account: Account, params: Thing) -> Thing:
    equal = {name: params[name] for name in ("type", "source", "currency") if name in params}
    found = (_ripe(account, each) for each in account.find("balance_transaction", **equal))
    return page(account, found, params, "/v1/balance_transactions")


def _ripe(account: Account, transaction: Thing) -> Thing:
    if transaction["status"] == "pending" and transaction["available_on"] <= account.now():
        transaction["status"] = "available"
        account.changed(transaction)
    return transaction
