"""What a postpaid invoice says: whole cents whose sum is exactly what is owed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from billing.core.money import Nanos, round_nanos

MOST_MODELS = 150

Line = tuple[str, int]
"""What it says, and its cents; a discount is below zero."""


@dataclass(frozen=True, slots=True)
class Used:
    """A model in a month."""

    model: str
    requests: int
    nanos: Nanos


def lines(used: Sequence[Used], *, fee: Nanos, rebate: Nanos, cents: int) -> list[Line]:
    """A line for each model, dearest first, then fee, discount, and what makes the sum `cents`.

    The last holds what earlier months left over, and the parts of cents that rounding made.
    """
    by_cost = sorted(used, key=lambda each: (-each.nanos, each.model))
    shown, rest = by_cost[:MOST_MODELS], by_cost[MOST_MODELS:]
    if rest:
        others = f"{len(rest)} other models"
        shown.append(Used(others, sum(each.requests for each in rest), sum(each.nanos for each in rest)))
    found = [
        (f"{each.model}: {each.requests:,} call{'' if each.requests == 1 else 's'}", _cents(each.nanos))
        for each in shown
    ]
    if fee:
        found.append(("Monthly fee", _cents(fee)))
    if rebate:
        found.append(("Volume discount", -_cents(rebate)))
    over = cents - sum(amount for _, amount in found)
    if over:
        found.append(("Carried over, and parts of cents", over))
    return found


def without_discounts(found: Sequence[Line]) -> list[Line]:
    """The same sum without lines below zero, which Stripe cannot tax: they come off the dearest others.

    Raises ValueError when the sum is below zero.
    """
    if sum(amount for _, amount in found) < 0:
        raise ValueError("an invoice is over nothing less than zero")
    off = -sum(amount for _, amount in found if amount < 0)
    kept = []
    for says, amount in sorted((line for line in found if line[1] >= 0), key=lambda line: -line[1]):
        less = min(off, amount)
        off -= less
        kept.append(
            (f"{says} (after a discount of ${Decimal(less).scaleb(-2)})" if less else says, amount - less)
        )
    return kept


def _cents(nanos: Nanos) -> int:
    """Whole cents, half to even: a cent is 10⁷ nanos."""
    return round_nanos(Decimal(nanos).scaleb(-7))
