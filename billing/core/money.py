"""Whole nano-dollars: parse, show, round once.

An amount is an `int` of nano-dollars, 10⁻⁹ USD. A price is an exact `Decimal` in USD per million
tokens, so one token at one dollar per million costs 1,000 nanos.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal

Nanos = int

NANOS_PER_USD = 1_000_000_000
NANOS_PER_CENT = 10_000_000
MOST_NANOS = 2**53 - 1
"""Amounts stay below 2⁵³, where the numbers of Lua in the gate are exact: $9,007,199."""

EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_WHOLE = Decimal(1)
_AMOUNT = re.compile(r"(-?)([0-9]{1,16})(?:\.([0-9]{1,9})0*)?")


def round_nanos(amount: Decimal) -> Nanos:
    """The one rounding of a generation: half to even, to the nano-dollar."""
    return int(amount.quantize(_WHOLE, rounding=ROUND_HALF_EVEN, context=EXACT))


def parse_usd(text: str) -> Nanos:
    """`"12.50"` → 12_500_000_000. Raises ValueError on anything that is not an exact amount."""
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not an amount in dollars and whole nano-dollars, such as 12.50")
    sign, whole, rest = found.groups()
    nanos = int(whole) * NANOS_PER_USD + int((rest or "").ljust(9, "0"))
    if nanos > MOST_NANOS:
        raise ValueError(f"{text!r} is more than one amount may be")
    return -nanos if sign else nanos


def nanos_of_cents(cents: int) -> Nanos:
    """What Stripe calls 1250 is 12_500_000_000 here."""
    return cents * NANOS_PER_CENT


def whole_cents(nanos: Nanos) -> int:
    """The whole cents in an amount of zero or more; what is less than a cent stays with us.

    Raises ValueError below zero, where rounding down would round away from zero.
    """
    if nanos < 0:
        raise ValueError(f"{nanos} nanos are below zero")
    return nanos // NANOS_PER_CENT


def usd(nanos: Nanos) -> str:
    """The exact amount as a plain decimal literal, never an exponent: 1_230 → `0.00000123`."""
    sign, nanos = ("-", -nanos) if nanos < 0 else ("", nanos)
    whole, rest = divmod(nanos, NANOS_PER_USD)
    return f"{sign}{whole}.{rest:09d}".rstrip("0") if rest else f"{sign}{whole}"


def show_usd(nanos: Nanos, *, least_places: int = 2) -> str:
    """For a page: `$1,234.50`; small amounts keep every digit that they have: `$0.00000123`."""
    sign, nanos = ("-", -nanos) if nanos < 0 else ("", nanos)
    whole, rest = divmod(nanos, NANOS_PER_USD)
    places = f"{rest:09d}".rstrip("0").ljust(least_places, "0")
    return f"{sign}${whole:,}.{places}"


def brief_usd(nanos: Nanos) -> str:
    """An amount at a glance, where the exact one stands beside it: `$1,234.57`, `$0.0713`, `$0.00000123`.

    To the cent from a dollar on; below, three digits. Half to even.
    """
    size = abs(nanos)
    places = 2 if size >= NANOS_PER_USD else min(9, 12 - len(str(size)))
    step = 10 ** (9 - places)
    whole, rest = divmod(size, step)
    whole += rest * 2 > step or (rest * 2 == step and whole % 2)
    return show_usd(whole * step if nanos >= 0 else -whole * step)
