"""What a call would have cost otherwise: on another plan, at another endpoint, without prompt caches.

The same tokens at other prices. Another model would have counted and written others, and another endpoint
might not have had the prompt in its cache: it is a comparison of prices, not a prediction.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal

from billing import prices, quotes
from billing.core import pricing
from billing.core.money import EXACT, Nanos
from billing.core.pricing import Charge, Price
from billing.core.usage import Usage
from billing.quotes import Quote, Use


@dataclass(frozen=True, slots=True)
class Elsewhere:
    endpoint: str
    nanos: Nanos
    more: Nanos
    """Than the call; below zero where it would have been cheaper."""
    percent: str
    """The same of the call's price: `+12 %`; empty where a percentage says nothing."""
    here: bool
    """The endpoint that served it."""


@dataclass(frozen=True, slots=True)
class Plan:
    quote: Quote
    more: Nanos
    here: bool
    """Its mark-up is the call's."""


@dataclass(frozen=True, slots=True)
class Otherwise:
    saved: Nanos
    """By prompt caches; below zero where writing to one cost more than reading from it saved."""
    uncached: Nanos
    """The price without them."""
    plans: tuple[Plan, ...]
    elsewhere: tuple[Elsewhere, ...]
    """The cheapest first, the endpoint that served it among them."""

    @property
    def saved_size(self) -> Nanos:
        """Without its sign, for words that say it."""
        return abs(self.saved)


def of(
    usage: Usage, price: Price, made: Charge, *, served: str, among: Collection[str], at: datetime
) -> Otherwise:
    """`made` is the price of `usage` by `price`; `among` are endpoints, at their prices of that instant."""
    saved = pricing.saved_by_caches(usage, price, made.markup)
    found = {
        slug: pricing.charge(usage, other, made.markup).nanos
        for slug, other in prices.at_the_time(among, at).items()
    } | {served: made.nanos}
    return Otherwise(
        saved=saved,
        uncached=made.nanos + saved,
        plans=tuple(
            Plan(quote, quote.charge_nanos - made.nanos, quote.markup == made.markup)
            for quote in quotes.compared([Use(usage, price, 1)])
        ),
        elsewhere=tuple(
            Elsewhere(slug, nanos, nanos - made.nanos, _percent(nanos, made.nanos), slug == served)
            for slug, nanos in sorted(found.items(), key=lambda each: (each[1], each[0] != served, each[0]))
        ),
    )


def _percent(nanos: Nanos, here: Nanos) -> str:
    if not here or nanos == here:
        return ""
    exact = EXACT.divide(Decimal(100 * (nanos - here)), Decimal(here))
    whole = int(exact.quantize(Decimal(1), rounding=ROUND_HALF_EVEN, context=EXACT))
    if not whole:
        return ""
    sign = "+" if whole > 0 else "\N{MINUS SIGN}"
    return f"{sign}{abs(whole):,} %"
