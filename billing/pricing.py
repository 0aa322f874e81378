"""charge(usage, price, mark-up): the one price function, used on the worst case and on the real usage.

The same arithmetic makes the hold and the settlement, so they cannot disagree. Parts stay exact
decimals; `half_even(Σ parts × (1 + mark-up))` is the only rounding of a generation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_FLOOR, Context, Decimal, InvalidOperation
from typing import Any

import msgspec

from billing import windows
from billing.money import EXACT, Nanos, round_nanos
from billing.usage import Usage
from billing.windows import Hours

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
_FLOOR = Context(prec=60, rounding=ROUND_FLOOR)
MOST_PLACES = 12
"""Decimal places of a stated price; with them every product here fits into 60 digits."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Nanos per unit, for each kind; one that a price leaves out costs what it is a kind of."""

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
class Window:
    """What holds at certain hours instead of the price's own rates and tiers."""

    hours: Hours
    rates: Rates
    tiers: tuple[Tier, ...] = ()


@dataclass(frozen=True, slots=True)
class Price:
    """One dated price row of an endpoint. `id` is the row; it is never edited, only succeeded.

    `rates` and `tiers` are what is charged: outside of every window, or what `at` and `within` brought in.
    """

    id: int
    rates: Rates
    tiers: tuple[Tier, ...] = ()
    """By `above`, ascending."""
    windows: tuple[Window, ...] = ()
    """No two hold the same minute."""
    window: int = 0
    """Which of them `rates` and `tiers` are of, from 1; 0 is none."""
    whole: Price | None = None
    """The price outside of its windows, where this is what one of them says."""

    def at(self, moment: datetime) -> Price:
        """As it is charged at `moment`."""
        open_now = (at for at, window in enumerate(self.windows, 1) if window.hours.holds(moment))
        return self.within(next(open_now, 0))

    def within(self, window: int) -> Price:
        """As it is charged in one of its windows, or with 0 outside of them. Raises LookupError."""
        whole = self.whole or self
        if not window:
            return whole
        if not 0 < window <= len(self.windows):
            raise LookupError(f"price {self.id} has no window {window}")
        found = self.windows[window - 1]
        return Price(self.id, found.rates, found.tiers, self.windows, window, whole)

    @property
    def hours(self) -> Hours | None:
        """Of the window that it is brought into."""
        return self.windows[self.window - 1].hours if self.window else None

    def next_change(self, moment: datetime) -> datetime | None:
        """When a window of it begins or ends next; None when it has none."""
        return windows.next_change((window.hours for window in self.windows), moment)

    def tier_for(self, prompt_tokens: int) -> Tier | None:
        """The longest tier that such a prompt reaches, if it reaches any."""
        chosen = None
        for tier in self.tiers:
            if prompt_tokens > tier.above:
                chosen = tier
        return chosen

    def rates_for(self, prompt_tokens: int) -> Rates:
        tier = self.tier_for(prompt_tokens) if self.tiers else None
        return self.rates if tier is None else tier.rates


class Charge(msgspec.Struct, frozen=True):
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
    times, plus = EXACT.multiply, EXACT.add  # never the thread's context, which holds 28 digits
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
            amount = times(rate, Decimal(units))
            base = plus(base, amount)
            parts.append((kind, units, amount))
    return Charge(tuple(parts), base, markup, round_nanos(times(base, plus(_ONE, markup))))


def saved_by_caches(usage: Usage, price: Price, markup: Decimal) -> Nanos:
    """The charge with every prompt token at its full price, less the charge; below zero for costly writes."""
    uncached = Usage(
        input=usage.prompt, output=usage.output, reasoning=usage.reasoning, requests=usage.requests
    )
    return charge(uncached, price, markup).nanos - charge(usage, price, markup).nanos


def worst(prompt_tokens: int, completion_tokens: int, price: Price, markup: Decimal) -> Nanos:
    """The most that a call of this size can cost: every token at its dearest kind, in its dearest tier."""
    times, plus = EXACT.multiply, EXACT.add
    most = _ZERO
    for rates in _reachable(price, prompt_tokens):
        prompt = times(rates.dearest_input, Decimal(prompt_tokens))
        completion = times(rates.dearest_output, Decimal(completion_tokens))
        most = max(most, plus(plus(prompt, completion), rates.request))
    return round_nanos(times(most, plus(_ONE, markup))) + 1  # + 1: half-even may round up, never by more


def affordable_completion(nanos: Nanos, prompt_tokens: int, price: Price, markup: Decimal) -> int | None:
    """How many completion tokens `nanos` covers after the prompt, so that `worst` of both is within it.

    0 when not even the prompt is covered; None when completion tokens cost nothing.
    """
    budget = _FLOOR.divide(Decimal(nanos - 1), EXACT.add(_ONE, markup))
    least: int | None = None
    for rates in _reachable(price, prompt_tokens):
        prompt = EXACT.multiply(rates.dearest_input, Decimal(prompt_tokens))
        left = _FLOOR.subtract(_FLOOR.subtract(budget, prompt), rates.request)
        if left < 0:
            return 0
        if rates.dearest_output:
            tokens = int(_FLOOR.divide_int(left, rates.dearest_output))
            least = tokens if least is None else min(least, tokens)
    return least


def _reachable(price: Price, prompt_tokens: int) -> tuple[Rates, ...]:
    """The rates that a prompt of at most this many tokens can fall under."""
    return (price.rates, *(tier.rates for tier in price.tiers if prompt_tokens > tier.above))


def parse_price(price_id: int, stated: Mapping[str, Any]) -> Price:
    """Read a stated price: `{"input": "2.5", "output": "10", "tiers": [{"above": 200000, "input": …}]}`.

    `windows` are `[{"from": "16:30", "until": "00:30", "input": …}]`, UTC: what one leaves out is as the
    price states; where the price has tiers, it states its own, if only `[]`. Amounts are decimal strings, USD
    per million tokens (`request`: USD each). Input and output must be said, zero included: what has no price
    is refused, never free. Raises ValueError.
    """
    listed = stated.get("windows", ())
    if not isinstance(listed, (list, tuple)):
        raise ValueError("the windows of a price are a list")
    at_hours = tuple(_window(stated, window) for window in listed)
    if windows.overlap(window.hours for window in at_hours):
        raise ValueError("two windows of a price overlap")
    return Price(price_id, _rates(stated), _tiers(stated), at_hours)


def _window(stated: Mapping[str, Any], window: Any) -> Window:
    """A window says its hours and what differs in them from the price around it."""
    if not isinstance(window, Mapping):
        raise ValueError("a window of a price is a table")
    if stated.get("tiers") and "tiers" not in window:
        raise ValueError("a window of a price that has tiers states its own, if only []")
    around = {kind: amount for kind, amount in stated.items() if kind not in ("tiers", "windows")}
    own = {name: value for name, value in window.items() if name not in ("from", "until", "days")}
    if "windows" in own:
        raise ValueError("a window of a price has no windows")
    return Window(windows.parse(window), _rates({**around, **own}), _tiers({**around, **own}))


def _tiers(stated: Mapping[str, Any]) -> tuple[Tier, ...]:
    tiers = stated.get("tiers", ())
    if not isinstance(tiers, (list, tuple)):
        raise ValueError("the tiers of a price are a list")
    read = sorted((_tier(stated, tier) for tier in tiers), key=lambda tier: tier.above)
    if len({tier.above for tier in read}) != len(read):
        raise ValueError("two tiers of a price begin at the same length")
    return tuple(read)


def _tier(stated: Mapping[str, Any], tier: Any) -> Tier:
    """A tier says what differs from the rates below it; the rest is as `stated`."""
    above = tier.get("above") if isinstance(tier, Mapping) else None
    if isinstance(above, bool) or not isinstance(above, int) or above < 0:
        raise ValueError("a tier says above how many prompt tokens it begins, as a whole number")
    return Tier(above, _rates({**stated, **tier}))


def _rates(stated: Mapping[str, Any]) -> Rates:
    unknown = set(stated) - set(KINDS) - {"tiers", "above", "windows"}
    if unknown:
        raise ValueError(f"unknown price kinds: {', '.join(sorted(unknown))}")
    found: dict[str, Decimal] = {}
    for kind in KINDS:
        if kind in stated:
            amount = _amount(kind, stated[kind])
            found[kind] = amount * (_PER_REQUEST if kind == "request" else _PER_MILLION)
        elif kind in _FALLS_BACK:
            found[kind] = found[_FALLS_BACK[kind]]
        elif kind == "request":
            found[kind] = _ZERO
        else:
            raise ValueError(f"the price of {kind} is not stated")
    return Rates(**found)


def _amount(kind: str, stated: Any) -> Decimal:
    """A price as it was written: text or a whole number, since a binary fraction is never exact."""
    if isinstance(stated, bool) or not isinstance(stated, (str, int, Decimal)):
        raise ValueError(f"the price of {kind} must be a decimal string, not {stated!r}")
    try:
        amount = Decimal(stated)
    except InvalidOperation as error:
        raise ValueError(f"the price of {kind} is not a decimal number: {stated!r}") from error
    if not amount.is_finite() or not 0 <= amount <= 1_000_000:
        raise ValueError(f"the price of {kind} is out of bounds: {stated}")
    if amount != amount.quantize(Decimal(1).scaleb(-MOST_PLACES), context=EXACT):
        raise ValueError(f"the price of {kind} has more than {MOST_PLACES} decimal places: {stated}")
    return amount
