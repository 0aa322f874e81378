"""The plans as their rows state them, and from which spend on each pays off."""

from __future__ import annotations

from dataclasses import dataclass

from billing import plans, quotes
from billing.core.money import Nanos
from billing.models import Plan
from billing.receipts import percent


@dataclass(frozen=True, slots=True)
class Published:
    slug: str
    name: str
    markup_percent: str
    """Empty when it is agreed with each customer, as are the next two."""
    monthly_nanos: Nanos | None
    discount_percent: str
    """`0` for none."""
    threshold_nanos: Nanos
    pays_from_nanos: Nanos | None
    """The spend a month at the providers' prices from which it is no dearer than the plan before it."""
    before: str
    """The name of that plan."""


def plans_in_force() -> list[Published]:
    """The four plans, from the dearest mark-up to the one that is agreed."""
    found = plans.in_force()
    rows = [found[slug] for slug in (*quotes.COMPARED, plans.AGREED)]
    return [_published(row, before) for row, before in zip(rows, [None, *rows], strict=False)]


def _published(row: Plan, before: Plan | None) -> Published:
    agreed = row.markup is None
    compared = before is not None and not agreed
    return Published(
        slug=row.slug,
        name=row.name,
        markup_percent="" if row.markup is None else percent(row.markup),
        monthly_nanos=row.monthly_nanos,
        discount_percent="" if row.volume_discount is None else percent(row.volume_discount),
        threshold_nanos=row.discount_threshold_nanos,
        pays_from_nanos=quotes.pays_from(row, before) if compared and before else None,
        before=before.name if before else "",
    )
