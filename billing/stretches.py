"""A month (UTC, half-open, by admission) cut where an organization's terms changed, and its usage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from billing.core.discounts import Rule
from billing.core.money import Nanos
from billing.core.sums import MONTH_HOURS, cut
from billing.models import AgreedTerms

_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Usage:
    requests: int = 0
    base_nanos: Nanos = 0
    charge_nanos: Nanos = 0
    loss_nanos: Nanos = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.requests + other.requests,
            self.base_nanos + other.base_nanos,
            self.charge_nanos + other.charge_nanos,
            self.loss_nanos + other.loss_nanos,
        )


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a month on one set of terms; None of an organization that has none."""

    since: datetime
    until: datetime
    terms: AgreedTerms | None

    @property
    def rule(self) -> Rule:
        if self.terms is None:
            return Rule(Decimal(0), 0)
        terms = self.terms
        return Rule(terms.volume_discount, terms.discount_threshold_nanos, terms.discount_basis)


_USAGE = """
WITH hours AS (
    SELECT * FROM unnest(%(hour_numbers)s::int[], %(hour_sinces)s::timestamptz[],
                         %(hour_untils)s::timestamptz[], %(hour_hours)s::int[])
                  AS stretch (number, since, until, long)
), edges AS (
    SELECT * FROM unnest(%(edge_numbers)s::int[], %(edge_sinces)s::timestamptz[],
                         %(edge_untils)s::timestamptz[]) AS stretch (number, since, until)
), used AS (
    SELECT number, requests, base_nanos, charge_nanos, loss_nanos
    FROM hours JOIN billing_endpointspan AS span
      ON span.organization_id = %(organization)s AND span.hours = long
     AND span.start >= since AND span.start < until
    UNION ALL
    SELECT number, 1, base_nanos, charge_nanos, loss_nanos
    FROM hours JOIN generations AS generation
      ON generation.organization_id = %(organization)s AND posting_id IS NULL
     AND generation.id >= uuid7_from(since) AND generation.id < uuid7_from(until)
    UNION ALL
    SELECT number, 1, base_nanos, charge_nanos, loss_nanos
    FROM edges JOIN generations AS generation
      ON generation.organization_id = %(organization)s
     AND generation.id >= uuid7_from(since) AND generation.id < uuid7_from(until)
)
SELECT number, sum(requests)::bigint, sum(base_nanos)::bigint, sum(charge_nanos)::bigint,
       sum(loss_nanos)::bigint
FROM used GROUP BY number
"""


def usage(organization_id: int, stretches: Sequence[Stretch]) -> list[Usage]:
    """What was admitted in each: whole hours from the roll-ups, the rest call by call, in one snapshot."""
    hours: list[tuple[int, datetime, datetime]] = []
    long: list[int] = []
    edges: list[tuple[int, datetime, datetime]] = []
    for number, stretch in enumerate(stretches):
        first, last = _next_hour(stretch.since), _hour(stretch.until)
        if first < last:
            spans = cut(first.astimezone(UTC), last.astimezone(UTC), MONTH_HOURS)
            hours += [(number, span.since, span.until) for span in spans]
            long += [span.hours for span in spans]
            edges += [(number, stretch.since, first), (number, last, stretch.until)]
        else:
            edges.append((number, stretch.since, stretch.until))
    values: dict[str, Any] = {"organization": organization_id, "hour_hours": long}
    for name, ranges in (("hour", hours), ("edge", [edge for edge in edges if edge[1] < edge[2]])):
        values |= {
            f"{name}_numbers": [number for number, _, _ in ranges],
            f"{name}_sinces": [since for _, since, _ in ranges],
            f"{name}_untils": [until for _, _, until in ranges],
        }
    found = [Usage()] * len(stretches)
    with connection.cursor() as cursor:
        cursor.execute(_USAGE, values)
        for number, *sums in cursor.fetchall():
            found[number] = Usage(*sums)
    return found


def of(organization_id: int, month: date) -> list[Stretch]:
    """The month, cut where the terms changed. The first terms hold for what was before them, too."""
    since, until = bounds(month)
    rows = list(AgreedTerms.objects.of(organization_id).filter(starts_at__lt=until).order_by("version"))
    found: list[Stretch] = []
    for number, row in enumerate(rows):
        ends = until if number + 1 == len(rows) else rows[number + 1].starts_at
        begins = found[-1].until if found else since
        if ends > begins:
            found.append(Stretch(begins, ends, row))
    return found or [Stretch(since, until, None)]


def _hour(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _next_hour(at: datetime) -> datetime:
    return at if at == _hour(at) else _hour(at) + _HOUR


def bounds(month: date) -> tuple[datetime, datetime]:
    """Its beginning, and that of the next."""
    first = datetime(month.year, month.month, 1, tzinfo=UTC)
    return first, (first + timedelta(days=32)).replace(day=1)
