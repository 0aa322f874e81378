"""charge(usage, price, mark-up): the one price function, used on the worst case and on the real usage.

The same arithmetic makes the hold and the settlement, so they cannot disagree. Parts stay exact
decimals; `half_even(Σ parts × (1 + mark-up))` is the only rounding of a generation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing.money import Nanos, round_nanos
from billing.usage import Usage

KINDS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning", "request")
"""What a price may state; tokens in USD per million, `request` in USD each."""

_FALLS_BACK = {
    "cache_read": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "cache_write_5m",
    "reasoning": "output",
}
_PER_MILLION = Decimal(1000)  # USD per million tokens → nanos per token
_PER_REQUEST = Decimal(1_000_000_000)
_ONE = Decimal(1)
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Rates:
    """Nanos per unit, one for each kind, resolved: a kind that a price leaves out costs what it is a kind of."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    reasoning: Decimal
    request: Decimal

    @property
    def dearest_input(self) -> Decimal:
        return max(self.input, self.cache_read, self.cache_write_5m, self.cache_write_1h)

    @property
    def dearest_output(self) -> Decimal:
        return max(self.output, self.reasoning)


@dataclass(frozen=True, slots=True)
class Tier:
    """Rates in force for a whole request whose prompt is longer than `above` tokens."""

    above: int
    rates: Rates


@dataclass(frozen=True, slots=True)
class Price:
    """One dated price row of an endpoint. `id` is the row; it is never edited, only succeeded."""

    id: int
    rates: Rates
    tiers: tuple[Tier, ...] = ()
    """By `above`, ascending."""

    def rates_for(self, prompt_tokens: int) -> Rates:
        chosen = self.rates
        for tier in self.tiers:
            if prompt_tokens > tier.above:
                chosen = tier.rates
        return chosen


@dataclass(frozen=True, slots=True)
class Charge:
    """What a call costs. `base` is the provider's price in exact nanos; `nanos` is what the customer pays."""

    parts: tuple[tuple[str, int, Decimal], ...]
    """(kind, units, exact nanos), only kinds that were used."""
    base: Decimal
    markup: Decimal
    nanos: Nanos

    @property
    def base_nanos(self) -> Nanos:
        """The provider's share as whole nanos; the mark-up is the remainder, so the two sum to the charge."""
        return min(round_nanos(self.base), self.nanos)


def charge(usage: Usage, price: Price, markup: Decimal) -> Charge:
    """Price a usage. `markup` is a fraction: 0.03 for 3 %.

    Source: half_even(Σ units × rate × (1 + mark-up)), rounded once.
    """
    rates = price.rates_for(usage.prompt)
    parts = []
    base = _ZERO
    for kind, units, rate in (
        ("input", usage.input, rates.input),
        ("cache_read", usage.cache_read, rates.cache_read),
        ("cache_write_5m", usage.cache_write_5m, rates.cache_write_5m),
        ("cache_write_1h", usage.cache_write_1h, rates.cache_write_1h),
        ("output", usage.output, rates.output),
        ("reasoning", usage.reasoning, rates.reasoning),
        ("request", usage.requests, rates.request),
    ):
        if units and (rate or kind != "request"):
            amount = rate * units
            base += amount
            parts.append((kind, units, amount))
    return Charge(tuple(parts), base, markup, round_nanos(base * (_ONE + markup)))


def worst(prompt_tokens: int, completion_tokens: int, price: Price, markup: Decimal) -> Nanos:
    """The most that a call of this size can cost: every token at its dearest kind, in its dearest tier."""
    most = _ZERO
    for rates in (price.rates, *(tier.rates for tier in price.tiers if prompt_tokens > tier.above)):
        amount = (
            rates.dearest_input * prompt_tokens + rates.dearest_output * completion_tokens + rates.request
        )
        most = max(most, amount)
    return round_nanos(most * (_ONE + markup)) + 1  # + 1: half-even may round the parts up, never by more


def affordable_completion(nanos: Nanos, prompt_tokens: int, price: Price, markup: Decimal) -> int | None:
    """How many completion tokens `nanos` covers after the prompt; 0 when not even the prompt; None: without limit."""
    rates = price.rates_for(prompt_tokens)
    left = Decimal(nanos - 1) / (_ONE + markup) - rates.dearest_input * prompt_tokens - rates.request
    if left < 0:
        return 0
    return int(left // rates.dearest_output) if rates.dearest_output else None


def parse_price(price_id: int, stated: Mapping[str, Any]) -> Price:
    """Read a stated price: `{"input": "2.5", "output": "10", "tiers": [{"above": 200000, "input": …}]}`.

    Amounts are decimal strings, USD per million tokens (`request`: USD each). Input and output must be
    said, zero included: what has no price is refused, never free. Raises ValueError.
    """
    tiers = tuple(
        Tier(int(tier["above"]), _rates({**stated, **tier}))
        for tier in sorted(stated.get("tiers", ()), key=lambda tier: int(tier["above"]))
    )
    return Price(price_id, _rates(stated), tiers)


def _rates(stated: Mapping[str, Any]) -> Rates:
    unknown = set(stated) - set(KINDS) - {"tiers", "above"}
    if unknown:
        raise ValueError(f"unknown price kinds: {', '.join(sorted(unknown))}")
    found: dict[str, Decimal] = {}
    for kind in KINDS:
        if kind in stated:
            amount = Decimal(str(stated[kind]))
            if not amount.is_finite() or not 0 <= amount <= 1_000_000:
                raise ValueError(f"the price of {kind} is out of bounds: {stated[kind]}")
            found[kind] = amount * (_PER_REQUEST if kind == "request" else _PER_MILLION)
        elif kind in _FALLS_BACK:
            found[kind] = found[_FALLS_BACK[kind]]
        elif kind == "request":
            found[kind] = _ZERO
        else:
            raise ValueError(f"the price of {kind} is not stated")
    return Rates(**found)
