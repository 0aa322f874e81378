"""What a month of usage comes to under each published plan: the arithmetic of the bill, beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from billing import plans
from billing.core import discounts, pricing
from billing.core.discounts import Rule, Used
from billing.core.money import EXACT, MOST_NANOS, NANOS_PER_CENT, Nanos, round_nanos
from billing.core.pricing import Price
from billing.core.usage import Usage
from billing.models import Plan

COMPARED = (plans.FREE, "pro", "business")
"""The plans whose terms are published, from the dearest mark-up on."""


@dataclass(frozen=True, slots=True)
class Use:
    """So many requests a month, each of this usage, at this price."""

    usage: Usage
    price: Price
    requests: int


@dataclass(frozen=True, slots=True)
class Quote:
    """A month under one plan, in whole nanos: what its calls would be charged, one rounding each."""

    plan: str
    name: str
    markup: Decimal
    base_nanos: Nanos
    """The providers' share."""
    charge_nanos: Nanos
    """With the mark-up."""
    fee_nanos: Nanos
    rebate_nanos: Nanos

    @property
    def markup_nanos(self) -> Nanos:
        return self.charge_nanos - self.base_nanos

    @property
    def total_nanos(self) -> Nanos:
        return self.charge_nanos + self.fee_nanos - self.rebate_nanos


def rule(plan: Plan) -> Rule:
    """A published plan's volume discount."""
    return Rule(plan.volume_discount or Decimal(0), plan.discount_threshold_nanos, plan.discount_basis)


def under(plan: Plan, uses: Iterable[Use]) -> Quote:
    """A month of calls, priced one by one as they would be."""
    markup = plan.markup or Decimal(0)
    base = charged = 0
    for use in uses:
        each = pricing.charge(use.usage, use.price, markup)
        base += each.base_nanos * use.requests
        charged += each.nanos * use.requests
    return _quote(plan, base, charged)


def of_base(plan: Plan, base_nanos: Nanos) -> Quote:
    """A month of which only the providers' share is known: the mark-up on its sum."""
    markup = plan.markup or Decimal(0)
    return _quote(plan, base_nanos, round_nanos(EXACT.multiply(Decimal(base_nanos), 1 + markup)))


def compared(uses: Sequence[Use]) -> tuple[Quote, ...]:
    """Under each published plan, as it stands now."""
    found = plans.in_force()
    return tuple(under(found[slug], uses) for slug in COMPARED)


def pays_from(plan: Plan, instead_of: Plan) -> Nanos | None:
    """The least spend a month at the providers' prices, to the cent, for which a plan is no dearer than
    another; None when it never is.
    """
    least, most = 0, MOST_NANOS // NANOS_PER_CENT
    if not _is_no_dearer(plan, instead_of, most):
        return None
    while least < most:
        middle = (least + most) // 2
        if _is_no_dearer(plan, instead_of, middle):
            most = middle
        else:
            least = middle + 1
    return least * NANOS_PER_CENT


def _is_no_dearer(plan: Plan, other: Plan, cents: int) -> bool:
    base = cents * NANOS_PER_CENT
    return of_base(plan, base).total_nanos <= of_base(other, base).total_nanos


def _quote(plan: Plan, base: Nanos, charged: Nanos) -> Quote:
    return Quote(
        plan=plan.slug,
        name=plan.name,
        markup=plan.markup or Decimal(0),
        base_nanos=base,
        charge_nanos=charged,
        fee_nanos=plan.monthly_nanos or 0,
        rebate_nanos=discounts.rebate([(rule(plan), Used(base, charged))]),
    )
