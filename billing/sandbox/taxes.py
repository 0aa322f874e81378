"""The simulated tax: one fixed rate on top, wherever `automatic_tax[enabled]` is set."""

from __future__ import annotations

from billing.sandbox.account import Account
from billing.sandbox.refusals import Invalid, Thing

PERCENT = 10


def on(amount: int, enabled: bool) -> int:
    """Cents of tax on a net amount, half a cent away from zero."""
    if not enabled:
        return 0
    size = (abs(amount) * PERCENT + 50) // 100
    return size if amount >= 0 else -size


def require_place(customer: Thing, enabled: bool) -> None:
    """Stripe works out no tax for a customer of whom it does not know where they are."""
    if enabled and not (customer["address"] or {}).get("country"):
        raise Invalid(
            "The customer's location isn't recognized. Set a valid customer address in order to "
            "automatically calculate tax.",
            code="customer_tax_location_invalid",
        )


def calculate(account: Account, params: Thing) -> Thing:
    """The tax of a sale, for a payment that names it."""
    if params["currency"] != "usd":
        raise Invalid("The sandbox knows usd alone.", param="currency")
    if "customer" in params:
        require_place(account.get("customer", params["customer"], "customer"), True)
    net = sum(line["amount"] for line in params["line_items"])
    tax = sum(on(line["amount"], True) for line in params["line_items"])
    return account.add(
        "tax.calculation",
        {
            "amount_total": net + tax,
            "currency": params["currency"],
            "customer": params.get("customer"),
            "customer_details": {"address": None, "address_source": "billing", "tax_ids": []},
            "expires_at": None,
            "ship_from_details": None,
            "shipping_cost": None,
            "tax_amount_exclusive": tax,
            "tax_amount_inclusive": 0,
            "tax_breakdown": [],
            "tax_date": account.now(params.get("customer")),
        },
        customer=params.get("customer"),
    )


def described(amount: int, taxable: int) -> Thing:
    """One tax of an invoice or of a line."""
    return {
        "amount": amount,
        "tax_behavior": "exclusive",
        "tax_rate_details": {"tax_rate": "txr_sandbox"},
        "taxability_reason": "standard_rated",
        "taxable_amount": taxable,
        "type": "tax_rate_details",
    }


def automatic(enabled: bool) -> Thing:
    return {
        "disabled_reason": None,
        "enabled": enabled,
        "liability": {"type": "self"} if enabled else None,
        "provider": "stripe" if enabled else None,
        "status": "complete" if enabled else None,
    }
