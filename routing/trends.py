"""How the endpoints of a model did over time: first token, pace and uptime, from windows, hours and days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import F, Sum

from aggregator.lib import clock
from routing.core import folds, histogram
from routing.core.folds import Fold, Tally
from routing.core.histogram import RATE, SECONDS
from routing.models import EndpointDay, EndpointHour, Window

MOST = 5
"""Endpoints in a chart: those that were tried most."""


class Span(NamedTuple):
    words: str
    kind: type[Window] | type[EndpointHour] | type[EndpointDay]
    slot: timedelta
    slots: int


SPANS: Mapping[str, Span] = {
    "24h": Span("24 hours", Window, timedelta(minutes=30), 48),
    "7d": Span("7 days", EndpointHour, timedelta(hours=4), 42),
    "30d": Span("30 days", EndpointDay, timedelta(days=1), 30),
}


@dataclass(frozen=True, slots=True)
class Course:
    """One endpoint, a value for each slot; None where nobody tried it, or nothing was measured."""

    endpoint: str
    ttft_seconds: tuple[float | None, ...]
    """Medians, of customers' streams; of probes where there were none."""
    tokens_per_second: tuple[float | None, ...]
    uptime: tuple[float | None, ...]
    """Shares, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Trends:
    first: datetime
    """When the first slot begins."""
    span: Span
    courses: tuple[Course, ...]
    left_out: int
    """Endpoints that were tried, and less than those shown."""


def of(endpoints: Sequence[str], span: str) -> Trends:
    """The most tried of these endpoints, over a span of `SPANS`. Raises KeyError."""
    wanted = SPANS[span]
    now = clock.now()
    seconds = int(wanted.slot.total_seconds())
    last = datetime.fromtimestamp(int(now.timestamp()) // seconds * seconds, now.tzinfo)
    first = last - wanted.slot * (wanted.slots - 1)
    rows = wanted.kind._default_manager.filter(start__gte=first, endpoint__in=endpoints)
    tried = F("worked") + F("failures") + F("probes")
    counted = rows.order_by().values("endpoint").annotate(tried=Sum(tried)).filter(tried__gt=0)
    most = [row["endpoint"] for row in counted.order_by("-tried", "endpoint")]
    sums: dict[str, list[Fold | None]] = {slug: [None] * wanted.slots for slug in most[:MOST]}
    tallies: dict[str, list[Tally]] = {slug: [Tally()] * wanted.slots for slug in sums}
    for row in rows.filter(endpoint__in=list(sums)):
        at = int((row.start - first) / wanted.slot)
        if not 0 <= at < wanted.slots:
            continue
        known = sums[row.endpoint][at]
        if known is None:
            known = sums[row.endpoint][at] = Fold()
        known.add(folds.stored(row.fold))
        told = _told(row)
        tallies[row.endpoint][at] = tallies[row.endpoint][at].plus(told)
    courses = tuple(_course(slug, folds, tallies[slug]) for slug, folds in sums.items())
    return Trends(first, wanted, courses, max(len(most) - MOST, 0))


def _told(row: Window | EndpointHour | EndpointDay) -> Tally:
    """What worked and what did not; probes where there was no traffic."""
    if isinstance(row, Window):
        return Tally(row.worked, row.failures, row.probes, row.probe_failures).judged()
    return Tally(row.up, row.down)


def _course(slug: str, folds: Sequence[Fold | None], tallies: Sequence[Tally]) -> Course:
    return Course(
        slug,
        tuple(None if fold is None else _median(fold.ttft or fold.probe_ttft, SECONDS) for fold in folds),
        tuple(None if fold is None else _median(fold.pace, RATE) for fold in folds),
        tuple(tally.uptime for tally in tallies),
    )


def _median(counts: histogram.Counts, least: float) -> float | None:
    found = histogram.percentiles(counts, (0.5,), least)
    return None if found is None else found[0]
