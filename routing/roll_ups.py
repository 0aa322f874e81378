"""Hours and days of each endpoint, summed from its five-minute windows, so that a month is read in one query.

A roll-up says how many windows it holds. One that holds fewer than there are is made anew from them, so it
does not matter when or how often the job runs, or what it missed; what was dropped for its age takes nothing
away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.conf import settings
from django.db import connection

from aggregator.lib import clock, jobs
from routing.core import folds
from routing.core.folds import Fold, Tally
from routing.models import EndpointDay, EndpointHour, RollUp, Window

WINDOW_MINUTES = 5
_LATELY = timedelta(hours=3)
"""Windows that are older are looked at once a day alone."""

_HOURS_BEHIND = """
SELECT seen.endpoint, seen.at
FROM (SELECT endpoint, date_bin('1 hour', start, 'epoch'::timestamptz) AS at, count(*) AS windows
      FROM routing_window WHERE start >= %s GROUP BY 1, 2) AS seen
LEFT JOIN routing_endpointhour AS known ON known.start = seen.at AND known.endpoint = seen.endpoint
WHERE seen.windows > coalesce(known.windows, 0)
"""
_DAYS_BEHIND = """
SELECT seen.endpoint, seen.at
FROM (SELECT endpoint, date_bin('1 day', start, 'epoch'::timestamptz) AS at, sum(windows) AS windows
      FROM routing_endpointhour WHERE start >= %s GROUP BY 1, 2) AS seen
LEFT JOIN routing_endpointday AS known ON known.start = seen.at AND known.endpoint = seen.endpoint
WHERE seen.windows > coalesce(known.windows, 0)
"""
_SUMMED = (
    *("windows", "worked", "failures", "rate_limited", "probes", "probe_failures"),
    *("up", "down", "minutes_seen", "minutes_down"),
)


@dataclass
class Sum:
    """Of windows or of hours; merges by adding."""

    windows: int = 0
    worked: int = 0
    failures: int = 0
    rate_limited: int = 0
    probes: int = 0
    probe_failures: int = 0
    up: int = 0
    down: int = 0
    minutes_seen: int = 0
    minutes_down: int = 0
    fold: Fold = field(default_factory=Fold)

    def add_window(self, row: Window) -> None:
        self.windows += 1
        for name in ("worked", "failures", "rate_limited", "probes", "probe_failures"):
            setattr(self, name, getattr(self, name) + getattr(row, name))
        told = Tally(row.worked, row.failures, row.probes, row.probe_failures).judged()
        self.up += told.worked
        self.down += told.failures
        if told.worked or told.failures:
            self.minutes_seen += WINDOW_MINUTES
            self.minutes_down += WINDOW_MINUTES if told.failures >= told.worked else 0
        self.fold.add(folds.stored(row.fold))

    def add(self, row: RollUp) -> None:
        for name in _SUMMED:
            setattr(self, name, getattr(self, name) + getattr(row, name))
        self.fold.add(folds.stored(row.fold))

    def as_fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _SUMMED} | {
            "fold": msgspec.to_builtins(self.fold, str_keys=True)
        }


def roll_up(*, whole: bool = False) -> None:
    """Bring hours to their windows and days to their hours; away with what is too old. One at a time."""
    with jobs.alone("roll up vitals") as mine:
        if not mine:
            return
        now = clock.now()
        since = now - timedelta(days=settings.VITALS_KEPT_DAYS)
        if not whole and EndpointDay.objects.exists():
            since = now - _LATELY
        _hours(since)
        _days(since)
        EndpointHour.objects.filter(start__lt=now - timedelta(days=settings.VITALS_KEPT_DAYS)).delete()
        EndpointDay.objects.filter(start__lt=now - timedelta(days=settings.VITALS_DAYS_KEPT_DAYS)).delete()


def _hours(since: datetime) -> None:
    since = since.replace(minute=0, second=0, microsecond=0)
    for at, endpoints in _behind(_HOURS_BEHIND, since).items():
        rows = Window.objects.filter(start__gte=at, start__lt=at + timedelta(hours=1), endpoint__in=endpoints)
        sums: dict[str, Sum] = {}
        for row in rows.iterator():
            sums.setdefault(row.endpoint, Sum()).add_window(row)
        _write(EndpointHour, at, sums)


def _days(since: datetime) -> None:
    since = since.replace(hour=0, minute=0, second=0, microsecond=0)
    for at, endpoints in _behind(_DAYS_BEHIND, since).items():
        rows = EndpointHour.objects.filter(
            start__gte=at, start__lt=at + timedelta(days=1), endpoint__in=endpoints
        )
        sums: dict[str, Sum] = {}
        for row in rows.iterator():
            sums.setdefault(row.endpoint, Sum()).add(row)
        _write(EndpointDay, at, sums)


def _behind(query: str, since: datetime) -> dict[datetime, list[str]]:
    """Endpoints whose sum is to be made, by the stretch, the oldest first."""
    found: dict[datetime, list[str]] = {}
    with connection.cursor() as cursor:
        cursor.execute(query, [since])
        for endpoint, at in sorted(cursor.fetchall(), key=lambda row: (row[1], row[0])):
            found.setdefault(at, []).append(endpoint)
    return found


def _write(kind: type[EndpointHour] | type[EndpointDay], at: datetime, sums: dict[str, Sum]) -> None:
    kind._default_manager.bulk_create(
        _rows(kind, at, sums.items()),
        update_conflicts=True,
        unique_fields=["start", "endpoint"],
        update_fields=[*_SUMMED, "fold"],
    )


def _rows(
    kind: type[EndpointHour] | type[EndpointDay], at: datetime, sums: Iterable[tuple[str, Sum]]
) -> Sequence[Any]:
    return [kind(endpoint=endpoint, start=at, **each.as_fields()) for endpoint, each in sums]
