"""The chart of accounts: which accounts exist, and what each kind of posting may do to them.

A posting that balances can still be wrong, so every kind states the accounts it may touch and in
which direction. `ledger.post` refuses the rest.
"""

from __future__ import annotations

from collections.abc import Mapping

WALLET = "wallet"
PROVIDER_COST = "provider_cost"
MARKUP_REVENUE = "markup_revenue"
PROMOTION = "promotion"
LOSS = "loss"

STRIPE_CASH = "stripe_cash"
BANK_CASH = "bank_cash"
"""Money that came to us beside Stripe: a transfer to our bank."""
STRIPE_FEES = "stripe_fees"
SUBSCRIPTION_REVENUE = "subscription_revenue"
DISCOUNT = "discount"
TAX = "tax"

OF_AN_ORGANIZATION = frozenset({WALLET})
OURS = frozenset(
    {
        PROVIDER_COST,
        MARKUP_REVENUE,
        PROMOTION,
        LOSS,
        STRIPE_CASH,
        BANK_CASH,
        STRIPE_FEES,
        SUBSCRIPTION_REVENUE,
        DISCOUNT,
        TAX,
    }
)
"""One of each. Credit owed, revenue and what we owe others are positive; money that came in (`stripe_cash`),
costs and losses are negative."""

_PAID_IN = {WALLET: +1, TAX: +1, STRIPE_CASH: -1}
_TAKEN_BACK = {WALLET: -1, TAX: -1, LOSS: -1, STRIPE_CASH: +1}
_GIVEN_BACK = {account: -sign for account, sign in _TAKEN_BACK.items()}

MAY: Mapping[str, Mapping[str, int]] = {
    "usage": {WALLET: -1, PROVIDER_COST: +1, MARKUP_REVENUE: +1, LOSS: -1},
    "after_cancel": {PROVIDER_COST: +1, LOSS: -1},
    "welcome": {WALLET: +1, PROMOTION: -1},
    "grant": {WALLET: +1, PROMOTION: -1},
    "expiry": {WALLET: -1, PROMOTION: +1},
    "top_up": _PAID_IN,
    "invoice_paid": _PAID_IN,
    "invoice_paid_elsewhere": {WALLET: +1, TAX: +1, BANK_CASH: -1},
    "refund": _TAKEN_BACK,
    "refund_failed": _GIVEN_BACK,
    "dispute": _TAKEN_BACK,
    "dispute_won": _GIVEN_BACK,
    "subscription": {SUBSCRIPTION_REVENUE: +1, TAX: +1, STRIPE_CASH: -1},
    "subscription_refund": {SUBSCRIPTION_REVENUE: -1, TAX: -1, LOSS: -1, STRIPE_CASH: +1},
    "subscription_refund_failed": {SUBSCRIPTION_REVENUE: +1, TAX: +1, LOSS: +1, STRIPE_CASH: -1},
    "monthly_fee": {WALLET: -1, SUBSCRIPTION_REVENUE: +1},
    "rebate": {WALLET: +1, DISCOUNT: -1},
    "stripe_fee": {STRIPE_FEES: -1, STRIPE_CASH: +1},
    "stripe_fee_back": {STRIPE_FEES: +1, STRIPE_CASH: -1},
    "write_off": {WALLET: +1, LOSS: -1},
    "credit_note": {WALLET: +1, TAX: -1, SUBSCRIPTION_REVENUE: -1, LOSS: -1},
}
"""Kind of posting → account → the only sign its entry may have."""

REVERSALS = ("refund_failed", "dispute_won", "subscription_refund_failed")
"""Kinds that undo an earlier posting, whole and once."""

RANKS: Mapping[str, int] = {"promotion": 0, "rebate": 1, "paid": 2}
"""Kind of credit → when it burns: the lowest first."""

_CREDIT = {"welcome": "promotion", "grant": "promotion", "rebate": "rebate", "credit_note": "rebate"}


def credit_kind(kind: str) -> str:
    """What sort of credit a posting of this kind adds to a wallet."""
    return _CREDIT.get(kind, "paid")


def refuse_unlawful(kind: str, entries: Mapping[tuple[str, int | None], int]) -> None:
    """Raise ValueError unless these entries, by (account, organization), may be posted as `kind`."""
    allowed = MAY.get(kind)
    if allowed is None:
        raise ValueError(f"there is no posting of kind {kind!r}")
    if not entries or sum(entries.values()) != 0:
        raise ValueError(f"the entries of a {kind} posting do not sum to zero")
    for (account, organization_id), nanos in entries.items():
        if nanos == 0 or allowed.get(account) != (1 if nanos > 0 else -1):
            raise ValueError(f"a {kind} posting may not put {nanos} on {account}")
        if (account in OF_AN_ORGANIZATION) != (organization_id is not None):
            raise ValueError(f"{account} belongs to {'an organization' if organization_id is None else 'us'}")
