"""The times that an overview may show, each with the one before it of the same length. Pure.

Days and hours are UTC. The time before ends at the same hour as this one has come to, so that half a day is
never compared with a whole one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from aggregator.lib import graphs
from billing.core.sums import Range

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)

NAMES = {"24h": "24 h", "7d": "7 d", "30d": "30 d", "90d": "90 d", "month": "Month"}
DEFAULT = "7d"
_DAYS = {"7d": 7, "30d": 30, "90d": 90}


@dataclass(frozen=True, slots=True)
class Period:
    name: str
    words: str
    """In a sentence: `the last 7 days`."""
    before_words: str
    now: Range
    before: tuple[Range, ...]
    slots: tuple[graphs.Slot, ...]
    starts: tuple[datetime, ...]
    """The beginning of each slot."""
    before_starts: tuple[datetime, ...]
    """The slot of the time before that lies in its place."""
    elapsed: timedelta

    @property
    def by_hour(self) -> bool:
        return self.now.hours == 1

    @property
    def since(self) -> str:
        """As an address says it."""
        return f"{self.now.since:%Y-%m-%dT%H:%M}" if self.by_hour else f"{self.now.since:%Y-%m-%d}"


def of(name: str, now: datetime) -> Period:
    """The period of this name, or the default one, up to `now`."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    midnight = hour.replace(hour=0)
    if name == "24h":
        since = hour - 23 * _HOUR
        before: tuple[Range, ...] = (Range(1, since - _DAY, hour + _HOUR - _DAY),)
        return _period(name, "the last 24 hours", "the 24 hours before", since=since, now=now, before=before)
    if name == "month":
        since = midnight.replace(day=1)
        earlier = (since - _DAY).replace(day=1)
        until = min(earlier + (hour + _HOUR - since), since)
        before = _days(earlier, until)
        words, before_words = "this month", "last month to the same day"
        return _period(name, words, before_words, since=since, now=now, before=before)
    count = _DAYS.get(name, _DAYS[DEFAULT])
    name = name if name in _DAYS else DEFAULT
    since, length = midnight - (count - 1) * _DAY, count * _DAY
    before = _days(since - length, hour + _HOUR - length)
    words, before_words = f"the last {count} days", f"the {count} days before"
    return _period(name, words, before_words, since=since, now=now, before=before)


def _days(since: datetime, until: datetime) -> tuple[Range, ...]:
    """Whole days as far as they go, then hours."""
    cut = until.replace(hour=0)
    found = []
    if cut > since:
        found.append(Range(24, since, cut))
    if until > cut:
        found.append(Range(1, max(cut, since), until))
    return tuple(found)


def _period(
    name: str, words: str, before_words: str, *, since: datetime, now: datetime, before: tuple[Range, ...]
) -> Period:
    hours = 1 if name == "24h" else 24
    step = hours * _HOUR
    count = (now - since) // step + 1
    starts = tuple(since + at * step for at in range(count))
    earlier = before[0].since if before else since
    return Period(
        name=name,
        words=words,
        before_words=before_words,
        now=Range(hours, since, since + count * step),
        before=before,
        slots=graphs.hours(since, count) if hours == 1 else graphs.days(since.date(), count),
        starts=starts,
        before_starts=tuple(earlier + at * step for at in range(count)),
        elapsed=now - since,
    )
