"""Test cards and what happens with each: Stripe's numbers, and its payment methods by name."""

from __future__ import annotations

from dataclasses import dataclass

from billing.sandbox.account import Account
from billing.sandbox.refusals import Thing, missing


@dataclass(frozen=True, slots=True)
class Card:
    """`refuses`: the decline code of a charge. `asks`: when 3-D Secure is due. `brings`: what follows."""

    number: str
    told: str
    refuses: str = ""
    refuses_saving: bool = False
    asks: str = "never"
    brings: str = ""
    brand: str = "visa"

    @property
    def last4(self) -> str:
        return self.number[-4:]


CARDS = {
    card.number: card
    for card in (
        Card("4242424242424242", "is paid"),
        Card("5555555555554444", "is paid (Mastercard)", brand="mastercard"),
        Card("4000000000000002", "is declined", refuses="generic_decline", refuses_saving=True),
        Card(
            "4000000000009995",
            "is declined: insufficient funds",
            refuses="insufficient_funds",
            refuses_saving=True,
        ),
        Card("4000000000000069", "is declined: expired", refuses="expired_card", refuses_saving=True),
        Card("4000000000000127", "is declined: wrong CVC", refuses="incorrect_cvc", refuses_saving=True),
        Card("4000002500003155", "asks for 3-D Secure once, then works alone", asks="once"),
        Card("4000002760003184", "asks for 3-D Secure every time", asks="always"),
        Card("4000000000000341", "can be saved, then every charge fails", refuses="generic_decline"),
        Card("4000000000005423", "is paid, then an early fraud warning comes", brings="fraud_warning"),
        Card("4000000000000259", "is paid, then disputed as fraud", brings="dispute"),
        Card("4000000000001976", "is paid, then inquired about", brings="inquiry"),
    )
}

_BY_NAME = {
    "pm_card_visa": "4242424242424242",
    "pm_card_mastercard": "5555555555554444",
    "pm_card_chargeDeclined": "4000000000000002",
    "pm_card_visa_chargeDeclined": "4000000000000002",
    "pm_card_chargeDeclinedInsufficientFunds": "4000000000009995",
    "pm_card_visa_chargeDeclinedInsufficientFunds": "4000000000009995",
    "pm_card_chargeDeclinedExpiredCard": "4000000000000069",
    "pm_card_chargeDeclinedIncorrectCvc": "4000000000000127",
    "pm_card_authenticationRequiredOnSetup": "4000002500003155",
    "pm_card_authenticationRequired": "4000002760003184",
    "pm_card_chargeCustomerFail": "4000000000000341",
    "pm_card_createIssuerFraudRecord": "4000000000005423",
    "pm_card_createDispute": "4000000000000259",
    "pm_card_createDisputeInquiry": "4000000000001976",
}

SAYS = {
    "generic_decline": ("card_declined", "Your card was declined."),
    "insufficient_funds": ("card_declined", "Your card has insufficient funds."),
    "expired_card": ("expired_card", "Your card has expired."),
    "incorrect_cvc": ("incorrect_cvc", "Your card's security code is incorrect."),
    "authentication_required": (
        "authentication_required",
        "Your card was declined. This transaction requires authentication.",
    ),
}
"""Of each decline code, the error code and the sentence."""


def make_bank(account: Account, *, email: str) -> Thing:
    """A bank account: what is paid from it comes days later, or not at all."""
    method = make(account, "4242424242424242", email=email)
    del method["card"]
    bank = {"account_type": "checking", "bank_name": "STRIPE TEST BANK", "last4": "6789"}
    method |= {"type": "us_bank_account", "us_bank_account": bank}
    return method


def card_of(method: Thing) -> Card:
    return CARDS[method["_number"]]


def make(account: Account, number: str, *, expiry: tuple[int, int] = (12, 2034), email: str = "") -> Thing:
    """A payment method that belongs to nobody yet. `expiry`: month and year."""
    card = CARDS[number]
    return account.add(
        "payment_method",
        {
            "allow_redisplay": "unspecified",
            "billing_details": {
                "address": {"city": None, "country": "US", "line1": None, "line2": None}
                | {"postal_code": None, "state": None},
                "email": email or None,
                "name": None,
                "phone": None,
            },
            "card": {
                "brand": card.brand,
                "checks": {"cvc_check": "pass"},
                "country": "US",
                "display_brand": card.brand,
                "exp_month": expiry[0],
                "exp_year": expiry[1],
                "fingerprint": f"sandbox{card.number[-8:]}",
                "funding": "credit",
                "last4": card.last4,
                "networks": {"available": [card.brand], "preferred": None},
                "wallet": None,
            },
            "customer": None,
            "metadata": {},
            "type": "card",
            "_number": number,
            "_authenticated": False,
        },
    )


def named(account: Account, found_id: str, param: str = "payment_method") -> Thing:
    """A payment method by id; `pm_card_visa` and its like each time make a new one."""
    if found_id in _BY_NAME:
        return make(account, _BY_NAME[found_id])
    found = account.lookup(found_id)
    if found is None or found["object"] != "payment_method":
        raise missing("PaymentMethod", found_id, param)
    return found


def of_customer(account: Account, customer: str) -> list[Thing]:
    """The customer's saved cards, newest first."""
    return list(account.find("payment_method", customer=customer))
