"""What usage left us, by plan or by provider: for operators, over all organizations.

A month is that of admission, in UTC; what is not posted yet is not in it. What a closed month also moved,
subscriptions and Stripe's fees, is no plan's and no provider's: `rebates.margins` has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from django.db import connection

from aggregator.lib import clock
from billing import stretches
from billing.core.money import Nanos

_BY_PROVIDER = """
SELECT split_part(endpoint, ':', 1), sum(requests)::bigint, sum(charge_nanos)::bigint,
       sum(base_nanos)::bigint, sum(loss_nanos)::bigint, 0::bigint
FROM billing_usagespan WHERE hours = 24 AND start >= %(since)s AND start < %(until)s
GROUP BY 1
"""
_BY_PLAN = """
WITH used AS (
    SELECT terms.plan, sum(requests) AS requests, sum(charge_nanos) AS charged, sum(base_nanos) AS base,
           sum(loss_nanos) AS loss
    FROM (SELECT organization_id, start AS hour, sum(requests) AS requests, sum(charge_nanos) AS charge_nanos,
                 sum(base_nanos) AS base_nanos, sum(loss_nanos) AS loss_nanos
          FROM billing_usagespan WHERE hours = 1 AND start >= %(since)s AND start < %(until)s
          GROUP BY 1, 2) AS hourly
    LEFT JOIN LATERAL (
        SELECT plan FROM billing_agreedterms
        WHERE organization_id = hourly.organization_id AND starts_at < hourly.hour + interval '1 hour'
        ORDER BY version DESC LIMIT 1) AS terms ON true
    GROUP BY 1
), given AS (
    SELECT line ->> 'plan' AS plan, sum((line ->> 'rebate')::numeric) AS rebate
    FROM billing_monthclose, jsonb_array_elements(detail) AS line WHERE month = %(month)s GROUP BY 1
)
SELECT coalesce(used.plan, ''), requests::bigint, charged::bigint, base::bigint, loss::bigint,
       round(coalesce(rebate, 0))::bigint
FROM used LEFT JOIN given USING (plan)
"""


@dataclass(frozen=True, slots=True)
class Earning:
    name: str
    requests: int
    charged_nanos: Nanos
    base_nanos: Nanos
    loss_nanos: Nanos
    rebate_nanos: Nanos
    """Of a closed month; nothing of the running one."""

    @property
    def margin_nanos(self) -> Nanos:
        return self.charged_nanos - self.base_nanos - self.loss_nanos - self.rebate_nanos


def by_provider(month: date) -> list[Earning]:
    """The one that earns most first."""
    return _read(_BY_PROVIDER, month)


def by_plan(month: date) -> list[Earning]:
    """Likewise; an hour counts to the terms at its end."""
    return _read(_BY_PLAN, month)


def today() -> Earning:
    """Of all usage since midnight, UTC."""
    since = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(requests), 0)::bigint, coalesce(sum(charge_nanos), 0)::bigint,"
            " coalesce(sum(base_nanos), 0)::bigint, coalesce(sum(loss_nanos), 0)::bigint"
            " FROM billing_usagespan WHERE hours = 24 AND start >= %s AND start < %s",
            [since, since + timedelta(days=1)],
        )
        requests, charged, base, lost = cursor.fetchone()
    return Earning("today", requests, charged, base, lost, 0)


def _read(query: str, month: date) -> list[Earning]:
    since, until = stretches.bounds(month)
    with connection.cursor() as cursor:
        cursor.execute(query, {"since": since, "until": until, "month": month})
        found = [Earning(*row) for row in cursor.fetchall()]
    return sorted(found, key=lambda each: (-each.margin_nanos, each.name))
