"""charge(usage, price, mark-up): the one price function, used on the worst case and on the real usage.

The same arithmetic makes the hold and the settlement, so they cannot disagree. Parts stay exact
decimals; `half_even(Σ parts × (1 + mark-up))` is the only rounding of a generation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_FLOOR, Context, Decimal, InvalidOperation
from typing import Any

import msgspec

from billing.core import windows
from billing.core.money import EXACT, Nanos, round_nanos
from billing.core.usage import Usage
from billing.core.windows import Hours

KINDS = (
    *("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning"),
    *("image", "audio", "image_output", "audio_output", "request"),
)
"""What a price may state; tokens in USD per million, `request` in USD each."""

_FALLS_BACK = {
    "cache_read": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "cache_write_5m",
    "reasoning": "output",
    "image": "input",
    "audio": "input",
    "image_output": "output",
    "audio_output": "output",
}
"""What each costs that a price leaves out; a kind stands after what it falls back to."""
_COUNTED = tuple("request" if name == "requests" else name for name in Usage.__struct_fields__)
"""The kinds, in the order of `Usage`'s counts."""
_PER_MILLION = Decimal(1000)  # USD per million tokens → nanos per token
_PER_REQUEST = Decimal(1_000_000_000)
_ONE = Decimal(1)
_ZERO = Decimal(0)
_FLOOR = Context(prec=60, rounding=ROUND_FLOOR)
_counts = msgspec.structs.astuple
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
    image: Decimal
    audio: Decimal
    image_output: Decimal
    audio_output: Decimal
    request: Decimal
    dearest_input: Decimal = field(init=False, repr=False, compare=False)
    """Of all kinds that a token of a prompt may be."""
    dearest_output: Decimal = field(init=False, repr=False, compare=False)
    each: tuple[tuple[str, Decimal], ...] = field(init=False, repr=False, compare=False)
    """(kind, rate) in the order of `Usage`'s counts, which is the order of a charge's parts."""

    def __post_init__(self) -> None:
        own = object.__setattr__
        prompt = (self.input, self.cache_read, self.cache_write_5m, self.cache_write_1h)
        own(self, "dearest_input", max(*prompt, self.image, self.audio))
        own(self, "dearest_output", max(self.output, self.reasoning, self.image_output, self.audio_output))
        own(self, "each", tuple((kind, getattr(self, kind)) for kind in _COUNTED))


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

    def tier_for(self, prompt_tokens: int) -> int:
        """Which of its tiers such a prompt reaches, from 1: the longest; 0 is none."""
        reached = 0
        for tier in self.tiers:
            if prompt_tokens > tier.above:
                reached += 1
        return reached

    def rates_for(self, prompt_tokens: int) -> Rates:
        return self.rates_in(self.tier_for(prompt_tokens)) if self.tiers else self.rates

    def rates_in(self, tier: int) -> Rates:
        """The rates of one of its tiers, from 1, or with 0 its own. Raises LookupError."""
        if not tier:
            return self.rates
        if not 0 < tier <= len(self.tiers):
            raise LookupError(f"price {self.id} has no tier {tier}")
        return self.tiers[tier - 1].rates


class Charge(msgspec.Struct, frozen=True):
    """What a call costs. `base` is the provider's price in exact nanos; `nanos` is what the customer pays."""

    parts: tuple[tuple[str, int, Decimal], ...]
    """(kind, units, exact nanos), only kinds that were used."""
    base: Decimal
    markup: Decimal
    nanos: Nanos
    tier: int = 0
    """Which tier of the price was charged, from 1; 0 is none."""

    @property
    def base_nanos(self) -> Nanos:
        """The provider's share as whole nanos; the mark-up is the remainder, so the two sum to the charge."""
        return min(round_nanos(self.base), self.nanos)


def charge(usage: Usage, price: Price, markup: Decimal) -> Charge:
    """Price a usage. `markup` is a fraction: 0.03 for 3 %.

    Source: half_even(Σ units × rate × (1 + mark-up)), rounded once.
    """
    tier = price.tier_for(usage.prompt) if price.tiers else 0
    rates = price.tiers[tier - 1].rates if tier else price.rates
    parts = []
    base = _ZERO
    times, plus = EXACT.multiply, EXACT.add  # never the thread's context, which holds 28 digits
    for units, (kind, rate) in zip(_counts(usage), rates.each, strict=True):
        if units and (rate or kind != "request"):
            amount = times(rate, units)
            base = plus(base, amount)
            parts.append((kind, units, amount))
    return Charge(tuple(parts), base, markup, round_nanos(times(base, plus(_ONE, markup))), tier)


def unit_prices(price: Price, window: int, tier: int) -> Rates:
    """What a bill was charged by, which names a price row, a window of it and a tier. Raises LookupError."""
    return price.within(window).rates_in(tier)


def exact(units: Mapping[str, int], rates: Rates) -> Decimal:
    """What so many units of each kind come to, in exact nanos; sums of many calls may be priced at once."""
    base = _ZERO
    for kind, count in units.items():
        base = EXACT.add(base, EXACT.multiply(getattr(rates, kind), count))
    return base


def stated_rate(kind: str, rate: Decimal) -> Decimal:
    """Nanos per unit as a price states it: USD per million tokens, `request` in USD each."""
    scale = _PER_REQUEST if kind == "request" else _PER_MILLION
    return EXACT.divide(rate, scale).normalize(EXACT)


def saved_by_caches(usage: Usage, price: Price, markup: Decimal) -> Nanos:
    """What the charge would be with every cached token at the full price of text, less what it is."""
    uncached = msgspec.structs.replace(
        usage,
        input=usage.prompt - usage.image - usage.audio,
        cache_read=0,
        cache_write_5m=0,
        cache_write_1h=0,
    )
    return charge(uncached, price, markup).nanos - charge(usage, price, markup).nanos


def worst(prompt_tokens: int, completion_tokens: int, price: Price, markup: Decimal) -> Nanos:
    """The most that a call of this size can cost: every token at its dearest kind, in its dearest tier."""
    times, plus = EXACT.multiply, EXACT.add
    most = _ZERO
    for rates in _reachable(price, prompt_tokens):
        prompt = times(rates.dearest_input, prompt_tokens)
        completion = times(rates.dearest_output, completion_tokens)
        most = max(most, plus(plus(prompt, completion), rates.request))
    return round_nanos(times(most, plus(_ONE, markup))) + 1  # + 1: half-even may round up, never by more


def affordable_completion(nanos: Nanos, prompt_tokens: int, price: Price, markup: Decimal) -> int | None:
    """How many completion tokens `nanos` covers after the prompt, so that `worst` of both is within it.

    0 when not even the prompt is covered; None when completion tokens cost nothing.
    """
    budget = _FLOOR.divide(Decimal(nanos - 1), EXACT.add(_ONE, markup))
    least: int | None = None
    for rates in _reachable(price, prompt_tokens):
        prompt = EXACT.multiply(rates.dearest_input, prompt_tokens)
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
