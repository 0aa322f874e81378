"""A card as a person typed it: checked, and made a payment method."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from billing.sandbox import cards
from billing.sandbox.account import Account
from billing.sandbox.refusals import Thing


class Mistyped(Exception):
    """What the person must correct."""


def read(account: Account, typed: dict[str, str], *, email: str = "") -> Thing:
    """A new payment method from `number`, `expiry` and `cvc`; `Mistyped` when one of them is wrong."""
    number = re.sub(r"[\s-]", "", typed.get("number", ""))
    if number not in cards.CARDS:
        raise Mistyped("Your card number is not one of the test cards below.")
    expiry = _expiry(typed.get("expiry", ""), datetime.fromtimestamp(account.now(), tz=UTC))
    if not re.fullmatch(r"\d{3,4}", typed.get("cvc", "").strip()):
        raise Mistyped("Your card's security code is incomplete.")
    return cards.make(account, number, expiry=expiry, email=email)


def _expiry(text: str, now: datetime) -> tuple[int, int]:
    """Month and year."""
    found = re.fullmatch(r"(\d{1,2})\s*/?\s*(\d{2}|\d{4})", text.strip())
    if found is None or not 1 <= int(found[1]) <= 12:
        raise Mistyped("Your card's expiration date is incomplete.")
    month, year = int(found[1]), int(found[2])
    year += 2000 if year < 100 else 0
    if (year, month) < (now.year, now.month):
        raise Mistyped("Your card's expiration year is in the past.")
    return month, year
