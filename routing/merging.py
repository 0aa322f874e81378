"""From what each worker saw to what is known of every endpoint: the snapshot, and a row per five minutes.

A look reads the stretches that may still change; older ones are kept here, merged. Two processes that look
at once publish the same, and write the same row, which only the first of them makes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from aggregator.lib import kv
from routing import figures
from routing.core import folds
from routing.core.folds import GATEWAY, Fold, Folds, Tally
from routing.core.vitals import Snapshot, Vitals
from routing.figures import KEPT_SECONDS, STRETCH_SECONDS
from routing.models import Window

WINDOW_SECONDS = 300
MINUTES = WINDOW_SECONDS // STRETCH_SECONDS
"""Stretches in five minutes."""
BLOCK = 60 // STRETCH_SECONDS
"""So many stretches are summed once and for all."""
LATELY = 30 // STRETCH_SECONDS
OPEN = 2
"""This many of the newest stretches may still change; also the one to come, by clocks that run ahead."""
ROLL_AFTER_SECONDS = 15
HALVES_EVERY = 2
"""After so many stretches an answer weighs half as much in the figures of the last half minute."""
_AGAIN_SECONDS = 15.0

_HISTORY = """
SELECT endpoint,
       sum(worked) FILTER (WHERE start >= %(half_hour)s), sum(failures) FILTER (WHERE start >= %(half_hour)s),
       sum(worked), sum(failures)
FROM (SELECT endpoint, start,
             CASE WHEN worked + failures > 0 THEN worked ELSE probes - probe_failures END AS worked,
             CASE WHEN worked + failures > 0 THEN failures ELSE probe_failures END AS failures
      FROM routing_window WHERE start >= %(day)s AND start < %(until)s) AS judged
GROUP BY endpoint
"""

log = structlog.get_logger(__name__)


@dataclass
class Merger:
    """One per process: what it remembers saves reading, and nothing is lost with it."""

    _closed: dict[int, Folds] = field(default_factory=dict)
    """Stretches that do not change any more."""
    _newest: int = -1
    _said: object = None
    """What the open stretches and the probes said at the last look."""
    _blocks: dict[int, Folds] = field(default_factory=dict)
    """Sums of BLOCK closed stretches, by the first of them."""
    _opened: dict[int, tuple[list[str], Folds]] = field(default_factory=dict)
    """What was told of each open stretch, and its sums."""
    _minutes: Folds = field(default_factory=dict)
    """Sums of the closed stretches within five minutes."""
    _since: dict[str, Tally] = field(default_factory=dict)
    """Of the closed stretches that are in no row yet."""
    _history: dict[str, tuple[Tally, Tally]] = field(default_factory=dict)
    _rolled: int = -1
    """Windows before this one are in rows."""
    _roll_at: float = 0.0
    _published: Snapshot = field(default_factory=Snapshot)

    def look(self, now: float) -> None:
        """Publish what changed; `now` is unix seconds."""
        newest = figures.stretch(now)
        self._roll(now)
        first = min(newest - MINUTES + 1, self._rolled * MINUTES)
        missing = [at for at in range(first, newest - OPEN + 1) if at not in self._closed]
        opened = list(range(newest - OPEN + 1, newest + 2))
        pipeline = kv.cache().pipeline(transaction=False)
        for at in (*missing, *opened):
            pipeline.hvals(figures.key(at))
        pipeline.hgetall(figures.HEALTH)
        pipeline.get(figures.HEAD)
        *stretches, health, head = pipeline.execute()
        head = head if figures.version(head) else None
        for at, told in zip(missing, stretches, strict=False):
            self._closed[at] = _merged(told)
        said = stretches[len(missing) :], health
        if missing or newest != self._newest:
            self._close(newest, first)
        elif said == self._said and head:
            self._beat(head, now)
            return
        self._newest, self._said = newest, said
        fresh = {at: self._open(at, told) for at, told in zip(opened, said[0], strict=True)}
        self._publish(self._vitals(newest, fresh, health), head, now)

    # ── Sums ─────────────────────────────────────────────────────────────────────────────────────

    def _close(self, newest: int, first: int) -> None:
        """Sum anew what lies behind the stretches that may change."""
        kept: tuple[dict[int, Any], ...] = (self._closed, self._blocks)
        for sums in kept:
            for at in [at for at in sums if at < first]:
                del sums[at]
        self._minutes = {}
        at, end = newest - MINUTES + 1, newest - OPEN + 1
        while at < end:
            whole = at % BLOCK == 0 and at + BLOCK <= end
            folds.merge(self._minutes, self._block(at) if whole else self._closed[at])
            at += BLOCK if whole else 1
        self._since = {}
        for at, seen in self._closed.items():
            if at >= self._rolled * MINUTES:
                _tally(self._since, seen)

    def _block(self, first: int) -> Folds:
        if first not in self._blocks:
            sums: Folds = {}
            for at in range(first, first + BLOCK):
                folds.merge(sums, self._closed[at])
            self._blocks[first] = sums
        return self._blocks[first]

    def _open(self, at: int, told: list[str]) -> Folds:
        """The sums of a stretch that may change, added up only where it did."""
        known = self._opened.get(at)
        if known is None or known[0] != told:
            self._opened[at] = known = (told, _merged(told))
        for old in [each for each in self._opened if each < at - OPEN]:
            del self._opened[old]
        return known[1]

    def _vitals(
        self, newest: int, fresh: Mapping[int, Folds], health: Mapping[str, str]
    ) -> dict[str, Vitals]:
        minutes: Folds = {}
        since: dict[str, Tally] = {}
        for seen in fresh.values():
            folds.merge(minutes, seen)
            _tally(since, seen)
        lately: dict[str, list[tuple[float, Fold]]] = {}
        for at in range(newest - LATELY + 1, newest + 2):
            weight = 0.5 ** (max(newest - at, 0) / HALVES_EVERY)
            seen = fresh[at] if at in fresh else self._closed[at]
            for slug, fold in seen.items():
                lately.setdefault(slug, []).append((weight, fold))
        for slug, fold in self._minutes.items():
            if slug in minutes:
                minutes[slug].add(fold)
        slugs = self._since.keys() | minutes.keys() | self._history.keys() | health.keys()
        slugs -= {GATEWAY}
        none = (Tally(), Tally())
        found = {}
        for slug in sorted(slugs):
            half_hour, day = self._history.get(slug, none)
            more = self._since.get(slug, none[0]).plus(since.get(slug, none[0]))
            fold = minutes.get(slug) or self._minutes.get(slug) or Fold()
            attempts = fold.worked + fold.failures
            found[slug] = folds.vitals(
                fold,
                lately.get(slug, ()),
                half_hour=half_hour.plus(more.judged()),
                day=day.plus(more.judged()),
                healthy=figures.health(health.get(slug)).known(
                    attempts=attempts, now=newest * STRETCH_SECONDS
                ),
            )
        return found

    # ── Telling ──────────────────────────────────────────────────────────────────────────────────

    def _publish(self, vitals: Mapping[str, Vitals], head: str | None, now: float) -> None:
        if head and self._is_published(head) and vitals == self._published.endpoints:
            self._beat(head, now)
            return
        before = figures.version(head)
        version = max(int(now * 1000), before + 1, self._published.version + 1)
        self._published = Snapshot(version, now, vitals)
        pipeline = kv.cache().pipeline()
        pipeline.set(figures.SNAPSHOT, figures.encode(self._published), ex=figures.SNAPSHOT_SECONDS)
        pipeline.set(figures.HEAD, f"{version} {now:.3f}", ex=figures.SNAPSHOT_SECONDS)
        pipeline.execute()

    def _is_published(self, head: str) -> bool:
        """Whether what is published is what this process knows; another may have published since."""
        if figures.version(head) != self._published.version:
            self._published = figures.published()
        return figures.version(head) == self._published.version

    def _beat(self, head: str, now: float) -> None:
        """Nothing is new: say only that somebody still looks."""
        pipeline = kv.cache().pipeline()
        pipeline.set(figures.HEAD, f"{figures.version(head)} {now:.3f}", ex=figures.SNAPSHOT_SECONDS)
        pipeline.expire(figures.SNAPSHOT, figures.SNAPSHOT_SECONDS)
        if not pipeline.execute()[-1]:
            self._said = None  # the cache has lost it: the next look publishes it again

    # ── Rows ─────────────────────────────────────────────────────────────────────────────────────

    def _roll(self, now: float) -> None:
        """Write the windows that have ended, and read what the rows say of half an hour and of a day."""
        due = int((now - ROLL_AFTER_SECONDS) // WINDOW_SECONDS)
        if due <= self._rolled or now < self._roll_at:
            return
        oldest = int((now - KEPT_SECONDS) // WINDOW_SECONDS) + 1
        try:
            for window in range(max(self._rolled, oldest), due):
                write(window)
            self._history = history(due)
        except DatabaseError as error:
            log.warning("live figures are not written", error=str(error))
            self._roll_at = now + _AGAIN_SECONDS
            self._rolled = max(self._rolled, oldest)
            return
        self._rolled, self._newest = due, -1


def write(window: int) -> None:
    """One window as rows, unless they are there, and away with what is too old. Raises DatabaseError."""
    pipeline = kv.cache().pipeline(transaction=False)
    for at in range(window * MINUTES, (window + 1) * MINUTES):
        pipeline.hvals(figures.key(at))
    seen: Folds = {}
    for told in pipeline.execute():
        folds.merge(seen, _merged(told))
    start = _moment(window)
    rows = [
        Window(
            endpoint=slug,
            start=start,
            worked=fold.worked,
            failures=fold.failures,
            rate_limited=fold.rate_limited,
            probes=fold.probes,
            probe_failures=fold.probe_failures,
            fold=msgspec.to_builtins(fold, str_keys=True),
        )
        for slug, fold in seen.items()
    ]
    Window.objects.bulk_create(rows, ignore_conflicts=True)
    Window.objects.filter(start__lt=start - timedelta(days=settings.VITALS_KEPT_DAYS)).delete()


def history(until: int) -> dict[str, tuple[Tally, Tally]]:
    """(half an hour, a day) before the start of a window, by endpoint. Raises DatabaseError."""
    moment = _moment(until)
    with connection.cursor() as cursor:
        cursor.execute(
            _HISTORY,
            {
                "until": moment,
                "half_hour": moment - timedelta(minutes=30),
                "day": moment - timedelta(days=1),
            },
        )
        return {
            slug: (Tally(int(worked or 0), int(failures or 0)), Tally(int(all_worked), int(all_failures)))
            for slug, worked, failures, all_worked, all_failures in cursor.fetchall()
        }


def _moment(window: int) -> datetime:
    return datetime.fromtimestamp(window * WINDOW_SECONDS, tz=UTC)


def _merged(told: Iterable[str]) -> Folds:
    seen: Folds = {}
    for part in figures.read(told):
        folds.merge(seen, part)
    return seen


def _tally(into: dict[str, Tally], seen: Mapping[str, Fold]) -> None:
    for slug, fold in seen.items():
        known = into.get(slug)
        into[slug] = fold.tally() if known is None else known.plus(fold.tally())


_merger = Merger()
_looking = threading.Lock()


def merge_vitals() -> None:
    """One look, unless another one is under way in this process."""
    if not _looking.acquire(blocking=False):
        return
    try:
        _merger.look(time.time())
    except kv.Failed as error:
        log.warning("live figures are not merged", error=str(error))
    finally:
        _looking.release()
