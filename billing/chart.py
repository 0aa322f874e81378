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

OF_AN_ORGANIZATION = frozenset({WALLET})
OURS = frozenset(
    {
        PROVIDER_COST,
        MARKUP_REVENUE,
        PROMOTION,
        LOSS,
        "stripe_cash",
        "subscription_revenue",
        "discount",
    }
)
"""One of each; the last three are reserved for card payments, subscriptions and rebates."""

MAY: Mapping[str, Mapping[str, int]] = {
    "usage": {WALLET: -1, PROVIDER_COST: +1, MARKUP_REVENUE: +1, LOSS: -1},
    "after_cancel": {PROVIDER_COST: +1, LOSS: -1},
    "welcome": {WALLET: +1, PROMOTION: -1},
    "grant": {WALLET: +1, PROMOTION: -1},
}
"""Kind of posting → account → the only sign its entry may have."""


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
