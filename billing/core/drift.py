"""By how much one price differs from another, kind by kind. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from billing.core.money import EXACT
from billing.core.pricing import KINDS, Price, Rates, Tier

_PER_MILLION = Decimal(1000)
_PER_REQUEST = Decimal(1_000_000_000)
_HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True)
class Difference:
    kind: str
    """`input`, `input over 200000 tokens`, `input 16:30–00:30 UTC`; `tiers` or `windows` when their form
    differs."""
    now: str
    """USD per million tokens (`request`: USD each); empty for a difference of form."""
    then: str
    percent: Decimal | None
    """Of what it is now. None: from zero, to zero, or of form, which no percentage measures."""

    def beyond(self, percent: Decimal) -> bool:
        return self.percent is None or abs(self.percent) > percent


def between(now: Price, then: Price) -> tuple[Difference, ...]:
    """Every kind that costs something else, what falls back on another kind included."""
    found = [*_rates(now.rates, then.rates, ""), *_tiers(now.tiers, then.tiers, "")]
    if [window.hours for window in now.windows] != [window.hours for window in then.windows]:
        return (*found, Difference("windows", "", "", None))
    for one, other in zip(now.windows, then.windows, strict=True):
        found += [
            *_rates(one.rates, other.rates, f" {one.hours}"),
            *_tiers(one.tiers, other.tiers, f" {one.hours}"),
        ]
    return tuple(found)


def largest(differences: Sequence[Difference]) -> Difference | None:
    """The one that weighs most: one that no percentage measures, or else the highest percentage."""
    return max(
        differences,
        key=lambda each: (each.percent is None, abs(each.percent or Decimal(0))),
        default=None,
    )


def _tiers(now: Sequence[Tier], then: Sequence[Tier], where: str) -> Iterator[Difference]:
    if [tier.above for tier in now] != [tier.above for tier in then]:
        yield Difference(f"tiers{where}", "", "", None)
        return
    for one, other in zip(now, then, strict=True):
        yield from _rates(one.rates, other.rates, f" over {one.above} tokens{where}")


def _rates(now: Rates, then: Rates, where: str) -> Iterator[Difference]:
    for kind in KINDS:
        before, after = getattr(now, kind), getattr(then, kind)
        if before != after:
            scale = _PER_REQUEST if kind == "request" else _PER_MILLION
            percent = None
            if before and after:
                change = EXACT.multiply(EXACT.subtract(after, before), _HUNDRED)
                percent = EXACT.divide(change, before)
            yield Difference(f"{kind}{where}", _usd(before, scale), _usd(after, scale), percent)


def _usd(nanos: Decimal, scale: Decimal) -> str:
    return format(EXACT.divide(nanos, scale).normalize(EXACT), "f")
