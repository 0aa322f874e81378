"""Uptimes by day of providers, models and endpoints, and what we ourselves add to a call."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

from aggregator.lib import clock, kv
from routing import figures
from routing.core import condition, folds, histogram
from routing.core.folds import GATEWAY
from routing.core.histogram import OWN, Counts
from routing.core.listing import Endpoint, Listing
from routing.core.vitals import Snapshot
from routing.models import EndpointHour, Window

DAYS = 30
BY_PROVIDER, BY_MODEL, BY_ENDPOINT = "provider", "model", "endpoint"
_NAME = {
    BY_PROVIDER: "split_part(endpoint, ':', 1)",
    BY_MODEL: "substr(endpoint, position(':' in endpoint) + 1)",
    BY_ENDPOINT: "endpoint",
}
_DAYS = """
SELECT {name}, start, sum(up), sum(down), sum(minutes_down)
FROM routing_endpointday WHERE start >= %s AND endpoint = ANY(%s) GROUP BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Day:
    up: int = 0
    """Attempts that worked; of probes where nobody called."""
    down: int = 0
    minutes_down: int = 0
    """In which at least half of the attempts failed, of all its endpoints together."""

    @property
    def share(self) -> float | None:
        return self.up / (self.up + self.down) if self.up + self.down else None


@dataclass(frozen=True, slots=True)
class Uptime:
    name: str
    days: tuple[Day, ...]
    """`DAYS` of them, the oldest first; the last is today."""

    @property
    def share(self) -> float | None:
        """Of all days; None where nobody has tried."""
        up, down = sum(day.up for day in self.days), sum(day.down for day in self.days)
        return up / (up + down) if up + down else None

    @property
    def attempts(self) -> int:
        return sum(day.up + day.down for day in self.days)


@dataclass(frozen=True, slots=True)
class Added:
    """What the gateway added to calls that were answered, beside the provider's own time."""

    calls: int
    p50_seconds: float
    p95_seconds: float


def first_day(now: datetime) -> datetime:
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=DAYS - 1)


def of(endpoints: Iterable[str], by: str) -> list[Uptime]:
    """Those of these endpoints that anybody has tried, summed by provider, model or not at all."""
    first = first_day(clock.now())
    found: dict[str, list[Day]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_DAYS.format(name=_NAME[by]), [first, list(endpoints)])
        for name, start, up, down, minutes in cursor.fetchall():
            at = (start - first).days
            if 0 <= at < DAYS:
                found.setdefault(name, [Day()] * DAYS)[at] = Day(int(up), int(down), int(minutes))
    return [Uptime(name, tuple(days)) for name, days in sorted(found.items())]


def shown(listing: Listing) -> list[Endpoint]:
    """The endpoints of all models that lists show."""
    return [endpoint for slug in listing.shown() for endpoint in listing.endpoints[slug]]


def added_in_hour() -> Added | None:
    """None where no call was measured."""
    since = clock.now() - timedelta(minutes=65)  # windows are written when they have ended
    return _added(Window.objects.filter(endpoint=GATEWAY, start__gte=since).values_list("fold", flat=True))


def added_in_day() -> Added | None:
    since = clock.now() - timedelta(hours=24)
    rows = EndpointHour.objects.filter(endpoint=GATEWAY, start__gte=since)
    return _added(rows.values_list("fold", flat=True))


def _added(stored: Iterable[object]) -> Added | None:
    counts: Counts = {}
    for fold in stored:
        histogram.merge(counts, folds.stored(fold).ours)
    found = histogram.percentiles(counts, (0.5, 0.95), OWN)
    return None if found is None else Added(sum(counts.values()), *found)


def troubled(endpoints: Iterable[Endpoint], seen: Snapshot) -> Mapping[str, tuple[int, int]]:
    """Providers with endpoints that fail right now, by name: (how many fail, of how many)."""
    every: dict[str, list[bool]] = {}
    for endpoint in endpoints:
        state = condition.of(seen.endpoints.get(endpoint.slug)).state
        every.setdefault(endpoint.provider.name, []).append(state == condition.FAILING)
    return {name: (sum(fails), len(fails)) for name, fails in sorted(every.items()) if any(fails)}


def merged_seconds_ago() -> float | None:
    """Since the workers last said that they live, which they do twice a second. Raises kv.Failed."""
    told = str(kv.cache().get(figures.HEAD) or "").partition(" ")[2]
    try:
        return max(time.time() - float(told), 0.0)
    except ValueError:
        return None
