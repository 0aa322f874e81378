"""The volume discount of a month: what of it lies above the threshold, and what is given back for that.

A month is cut into stretches where the terms changed. Of each stretch, the part of the month's running
total that lies above the stretch's own threshold is rebated at the stretch's own rate; the running total is
measured on the stretch's basis. All of it is exact, and rounded once for the month.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from billing.core.money import EXACT, Nanos, round_nanos

BILLED, BASE = "billed", "base"


@dataclass(frozen=True, slots=True)
class Rule:
    """`rate` is a fraction: 0.02 for 2 %. `basis` is `billed`, mark-up included, or the providers' `base`."""

    rate: Decimal
    threshold_nanos: Nanos
    basis: str = BILLED


@dataclass(frozen=True, slots=True)
class Used:
    """Usage of one stretch."""

    base_nanos: Nanos = 0
    charge_nanos: Nanos = 0

    def on(self, basis: str) -> Nanos:
        return self.base_nanos if basis == BASE else self.charge_nanos


def shares(stretches: Iterable[tuple[Rule, Used]]) -> list[Decimal]:
    """What each stretch of a month gives back, in exact nanos; stretches in their order."""
    before = {BILLED: 0, BASE: 0}
    found = []
    for rule, used in stretches:
        reached = before[rule.basis] + used.on(rule.basis)
        above = max(reached - rule.threshold_nanos, 0) - max(before[rule.basis] - rule.threshold_nanos, 0)
        found.append(EXACT.multiply(rule.rate, Decimal(above)))
        before = {basis: total + used.on(basis) for basis, total in before.items()}
    return found


def rebate(stretches: Iterable[tuple[Rule, Used]]) -> Nanos:
    """The rebate of the month: the one rounding, half to even."""
    return round_nanos(sum(shares(stretches), Decimal(0)))
