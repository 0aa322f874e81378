"""A call as a bill that anybody can compute again: units × unit price, mark-up, one rounding."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from billing import prices
from billing.core import generation
from billing.core.money import EXACT, Nanos, round_nanos
from billing.core.pricing import Charge, Price
from billing.core.windows import Hours
from billing.prices import Dated
from billing.statements import Call

NO_MARKUP = Decimal(0)
_PER_USD = Decimal(1_000_000_000)
_PER_MILLION = Decimal(1000)
_WORDS = {
    "input": "Prompt tokens",
    "cache_read": "Prompt tokens read from a cache",
    "cache_write_5m": "Prompt tokens written to a cache for 5 minutes",
    "cache_write_1h": "Prompt tokens written to a cache for an hour",
    "output": "Completion tokens",
    "reasoning": "Reasoning tokens",
    "image": "Prompt tokens of images",
    "audio": "Prompt tokens of audio",
    "image_output": "Completion tokens of images",
    "audio_output": "Completion tokens of audio",
    "request": "The request itself",
}


@dataclass(frozen=True, slots=True)
class Line:
    words: str
    units: int
    unit_price: str
    """In dollars, as the price row states it."""
    per: str
    amount: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """Texts are exact dollars with every digit they have."""

    lines: tuple[Line, ...]
    sum: str
    markup_percent: str
    total: str
    """Sum × (1 + mark-up), before the rounding."""
    rounded_nanos: Nanos
    charge_nanos: Nanos
    free: bool
    price: Dated | None
    hours: Hours | None
    """Of the price's window that was charged, if it was in one."""
    tier: str = ""
    """Which prompts pay these rates, where the price depends on their length."""

    @property
    def outside(self) -> tuple[Hours, ...]:
        """The hours at which the price differs from what was charged here."""
        if self.price is None or self.hours is not None:
            return ()
        return tuple(window.hours for window in self.price.price.windows)

    @property
    def is_rounded(self) -> bool:
        return self.total != usd_exact(Decimal(self.rounded_nanos))

    @property
    def waived_nanos(self) -> Nanos:
        """What the formula comes to and the customer does not pay."""
        return self.rounded_nanos - self.charge_nanos


def of(call: Call) -> Receipt:
    """The bill of a call, with the price row it names."""
    base = Decimal(0)
    for _, _, nanos in call.parts:
        base = EXACT.add(base, nanos)
    total = EXACT.multiply(base, EXACT.add(Decimal(1), call.markup))
    price = None if call.price_id is None else prices.find(call.price_id)
    charged = None if price is None else price.price.within(call.price_window)
    return Receipt(
        lines=tuple(_line(kind, units, nanos) for kind, units, nanos in call.parts),
        sum=usd_exact(base),
        markup_percent=percent(call.markup),
        total=usd_exact(total),
        rounded_nanos=round_nanos(total),
        charge_nanos=call.charge_nanos,
        free=call.status in (generation.FAILED, generation.VOID),
        price=price,
        hours=None if charged is None else charged.hours,
        tier="" if charged is None else _tier(charged, call.price_tier),
    )


def before(charge: Charge) -> Receipt:
    """The same of a call that was not made, as `pricing.charge` has it."""
    total = EXACT.multiply(charge.base, EXACT.add(Decimal(1), charge.markup))
    return Receipt(
        lines=tuple(_line(kind, units, nanos) for kind, units, nanos in charge.parts),
        sum=usd_exact(charge.base),
        markup_percent=percent(charge.markup),
        total=usd_exact(total),
        rounded_nanos=charge.nanos,
        charge_nanos=charge.nanos,
        free=False,
        price=None,
        hours=None,
    )


def usd_exact(nanos: Decimal) -> str:
    """`$0.0000123`: at least cents, and every digit beyond that there is."""
    return _dollars(EXACT.divide(nanos, _PER_USD))


def per_million(rate: Decimal) -> str:
    """Nanos per token as dollars per million tokens: `$2.50`."""
    return _dollars(EXACT.divide(rate, _PER_MILLION))


def percent(markup: Decimal) -> str:
    """A fraction as a percentage: `10`, `2.5`."""
    return format(EXACT.multiply(markup, Decimal(100)).normalize(EXACT), "f")


def _tier(price: Price, tier: int) -> str:
    if not price.tiers:
        return ""
    if not tier:
        return f"prompts of up to {price.tiers[0].above:,} tokens"
    return f"prompts of more than {price.tiers[tier - 1].above:,} tokens"


def _line(kind: str, units: int, nanos: Decimal) -> Line:
    """The unit price is the amount divided by the units, which is exact: the amount was their product."""
    rate = EXACT.divide(nanos, Decimal(units))
    once = kind == "request"
    return Line(
        words=_WORDS.get(kind, kind),
        units=units,
        unit_price=usd_exact(rate) if once else per_million(rate),
        per="each" if once else "per million",
        amount=usd_exact(nanos),
    )


def _dollars(amount: Decimal) -> str:
    text = format(amount.normalize(EXACT), "f")
    whole, _, places = text.partition(".")
    return f"${int(whole):,}.{places.ljust(2, '0')}"
