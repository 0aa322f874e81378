"""What all endpoints together did in the last day: for pages that anybody may read, never by tenant."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import connection

from aggregator.lib import clock, kv
from routing import figures
from routing.core import folds, histogram
from routing.core.folds import Fold, Folds
from routing.core.histogram import RATE, SECONDS, Counts

HOURS = 24
_ROW = timedelta(minutes=5)
_TTFT, _PACE = Fold.__struct_fields__.index("ttft"), Fold.__struct_fields__.index("pace")

_SUMS = """
SELECT floor(extract(epoch FROM %(now)s - start) / 3600)::int, sum(worked), sum(failures)
FROM routing_window WHERE start > %(day)s AND endpoint <> ALL (%(without)s) GROUP BY 1
"""
_NEWEST = "SELECT max(start) FROM routing_window"
_COUNTS = """
SELECT bucket.key::int, sum(bucket.value::bigint)
FROM routing_window, jsonb_each_text(fold -> %(at)s) AS bucket
WHERE start > %(hour)s AND endpoint <> ALL (%(without)s) GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class Lately:
    """Attempts at providers; probes are none. Shares are 0 to 1; None is what nobody has measured."""

    hours: tuple[int, ...]
    """Those that worked, in each of the last `HOURS`, the oldest first."""
    failures: int
    ttft_seconds: float | None
    """Median of the last hour, over all endpoints."""
    tokens_per_second: float | None
    """Likewise."""

    @property
    def worked(self) -> int:
        return sum(self.hours)

    @property
    def success(self) -> float | None:
        tried = self.worked + self.failures
        return self.worked / tried if tried else None


def seen(without: Collection[str] = ()) -> Lately:
    """The rows of the last day, and of the minutes that are in no row yet what workers told.

    `without` are slugs of endpoints that do not count: those that no list shows.
    """
    now = clock.now()
    hours, failures = [0] * HOURS, 0
    ttft: Counts = {}
    pace: Counts = {}
    with connection.cursor() as cursor:
        left_out = {"without": list(without)}
        cursor.execute(_SUMS, {"now": now, "day": now - timedelta(hours=HOURS), **left_out})
        for ago, worked, failed in cursor.fetchall():
            hours[HOURS - 1 - min(max(ago, 0), HOURS - 1)] += int(worked)
            failures += int(failed)
        for counts, at in ((ttft, _TTFT), (pace, _PACE)):
            cursor.execute(_COUNTS, {"at": at, "hour": now - timedelta(hours=1), **left_out})
            counts.update({bucket: int(count) for bucket, count in cursor.fetchall()})
        cursor.execute(_NEWEST)
        newest = cursor.fetchone()[0]
    for endpoint, fold in _in_no_row(newest, now).items():
        if endpoint in without:
            continue
        hours[-1] += fold.worked
        failures += fold.failures
        histogram.merge(ttft, fold.ttft)
        histogram.merge(pace, fold.pace)
    return Lately(tuple(hours), failures, _median(ttft, SECONDS), _median(pace, RATE))


def _in_no_row(newest: datetime | None, now: datetime) -> Folds:
    """What workers told since the last row ended; nothing when the cache cannot be reached."""
    since = now - timedelta(seconds=figures.KEPT_SECONDS)
    if newest is not None:
        since = max(since, newest.astimezone(UTC) + _ROW)
    first, last = figures.stretch(since.timestamp()), figures.stretch(now.timestamp())
    pipeline = kv.cache().pipeline(transaction=False)
    for at in range(first, last + 2):
        pipeline.hvals(figures.key(at))
    found: Folds = {}
    try:
        told = pipeline.execute()
    except kv.Failed:
        return found
    for texts in told:
        for part in figures.read(texts):
            folds.merge(found, part)
    return found


def _median(counts: Counts, least: float) -> float | None:
    found = histogram.percentiles(counts, (0.5,), least)
    return None if found is None else found[0]
