"""Hours of the week, UTC, at which a price differs: half-open, to the minute, over midnight too. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = 24 * 60
_WEEK = 7 * _DAY
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


@dataclass(frozen=True, slots=True)
class Hours:
    """From one minute of the day to before another, on the days on which it begins."""

    begins: int
    ends: int
    """Minutes after midnight; at or before `begins` it is the next day's."""
    days: tuple[int, ...] = tuple(range(7))
    """0 is Monday; ascending."""

    def __str__(self) -> str:
        every = len(self.days) == len(DAYS)
        on = "" if every else f" on {', '.join(DAYS[day] for day in self.days)}"
        return f"{time_of_day(self.begins)}–{time_of_day(self.ends)} UTC{on}"

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Minutes of the week from … to before …, cut at the end of Sunday."""
        length = (self.ends - self.begins) % _DAY or _DAY
        found = []
        for day in self.days:
            first = day * _DAY + self.begins
            last = first + length
            found.append((first, min(last, _WEEK)))
            if last > _WEEK:
                found.append((0, last - _WEEK))
        return found

    def holds(self, moment: datetime) -> bool:
        minute = _minute(moment)
        return any(first <= minute < last for first, last in self.spans)


def parse(stated: Mapping[str, Any]) -> Hours:
    """Read `{"from": "16:30", "until": "00:30", "days": ["sat", "sun"]}`; every day unless said.

    Raises ValueError.
    """
    begins, ends = _time(stated, "from"), _time(stated, "until")
    if begins == ends:
        raise ValueError("a window of a price begins and ends at different times")
    named = stated.get("days", list(DAYS))
    if not isinstance(named, (list, tuple)) or not named or any(day not in DAYS for day in named):
        raise ValueError(f"the days of a window are a list of {', '.join(DAYS)}")
    if len(set(named)) != len(named):
        raise ValueError("a day of a window is named twice")
    return Hours(begins, ends, tuple(sorted(DAYS.index(day) for day in named)))


def overlap(several: Iterable[Hours]) -> bool:
    """Whether there is a minute that two of them hold."""
    spans = sorted(span for hours in several for span in hours.spans)
    return any(before[1] > after[0] for before, after in pairwise(spans))


def next_change(several: Iterable[Hours], moment: datetime) -> datetime | None:
    """The first instant after `moment` at which one of them begins or ends."""
    minute = _minute(moment)
    waits = [(edge - minute) % _WEEK or _WEEK for hours in several for span in hours.spans for edge in span]
    if not waits:
        return None
    return moment.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=min(waits))


def time_of_day(minute: int) -> str:
    """Minutes after midnight as `HH:MM`."""
    return f"{minute // 60:02}:{minute % 60:02}"


def _minute(moment: datetime) -> int:
    at = moment.astimezone(UTC)
    return at.weekday() * _DAY + at.hour * 60 + at.minute


def _time(stated: Mapping[str, Any], name: str) -> int:
    found = stated.get(name)
    read = _TIME.fullmatch(found) if isinstance(found, str) else None
    if read is None:
        raise ValueError(f"a window of a price says {name} when, as HH:MM in UTC, not {found!r}")
    return int(read[1]) * 60 + int(read[2])
