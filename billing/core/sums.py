"""What was used in some time, summed by the things it can be told by. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from billing.core.money import Nanos

MONTH_HOURS = 720
"""What a span of a whole calendar month has for its hours, whatever its length."""

HOURS: Final = {"hour": 1, "day": 24, "month": MONTH_HOURS}

OF_A_CALL: Final = {
    "requests": "1",
    "failed": "(status IN ('failed', 'void'))::int",
    "aborted": "(status = 'aborted')::int",
    "prompt": "input + cache_read + cache_write_5m + cache_write_1h + image + audio",
    "cached": "cache_read",
    "cache_written": "cache_write_5m + cache_write_1h",
    "completion": "output + reasoning + image_output + audio_output",
    "reasoning": "reasoning",
    "base_nanos": "base_nanos",
    "charge_nanos": "charge_nanos",
    "saved_nanos": "CASE WHEN charge_nanos > 0 AND cache_read + cache_write_5m + cache_write_1h > 0"
    " THEN coalesce(cache_saved_nanos(price_id, price_window, markup, parts), 0) ELSE 0 END",
}
"""What a single call adds to each figure of a sum, in SQL: for those that are not posted yet."""


class Times(dict[int, datetime]):
    """Times by their seconds, each made once, when it is first asked for."""

    def __missing__(self, seconds: int) -> datetime:
        found = self[seconds] = datetime.fromtimestamp(seconds, UTC)
        return found


@dataclass(frozen=True, slots=True)
class Range:
    """From `since` to before `until`: whole hours (`hours` 1), days (24) or months (720), UTC."""

    hours: int
    since: datetime
    until: datetime
    sign: int = 1
    """-1 where it is taken off."""


def open_ended(until: datetime, now: datetime) -> datetime:
    """What ends after now may as well end with the month: nothing is there yet, and a month is one span."""
    return until if until <= now else _ceil_month(_ceil_day(until))


def cut(since: datetime, until: datetime, most: int) -> list[Range]:
    """A time, of whole hours, in whole months, days and hours: as coarse as it goes, up to `most` hours."""
    if most == 1:
        return [Range(1, since, until)]
    first_day, last_day = _ceil_day(since), until.replace(hour=0)
    if first_day >= last_day:
        return [Range(1, since, until)]
    first_month, last_month = _ceil_month(first_day), last_day.replace(day=1)
    if most == 24 or first_month >= last_month:
        days = _some((24, first_day, last_day))
    else:
        days = _some(
            (24, first_day, first_month), (MONTH_HOURS, first_month, last_month), (24, last_month, last_day)
        )
    return [*_some((1, since, first_day)), *days, *_some((1, last_day, until))]


def fewest(since: datetime, until: datetime) -> list[Range]:
    """A time, of whole hours, in as few spans as may be: most of a month is the month less its other days."""
    found: list[Range] = []
    for each in cut(since, until, MONTH_HOURS):
        found += [each] if each.hours != 24 else _of_months(each.since, each.until)
    return found


def _of_months(since: datetime, until: datetime) -> list[Range]:
    """Days of one month or of two."""
    begins, ends = since.replace(day=1), _ceil_month(since + timedelta(days=1))
    if until > ends:
        return [*_of_months(since, ends), *_of_months(ends, until)]
    if 2 * (until - since) <= ends - begins:
        return [Range(24, since, until)]
    others = (Range(24, begins, since, -1), Range(24, until, ends, -1))
    return [Range(MONTH_HOURS, begins, ends), *(other for other in others if other.since < other.until)]


def _some(*spans: tuple[int, datetime, datetime]) -> list[Range]:
    return [Range(*span) for span in spans if span[1] < span[2]]


def _ceil_day(at: datetime) -> datetime:
    return at if not at.hour else at.replace(hour=0) + timedelta(days=1)


def _ceil_month(at: datetime) -> datetime:
    return at if at.day == 1 else (at.replace(day=1) + timedelta(days=32)).replace(day=1)


@dataclass(frozen=True, slots=True)
class Sums:
    requests: int = 0
    failed: int = 0
    aborted: int = 0
    prompt: int = 0
    """All prompt tokens, cached ones included."""
    cached: int = 0
    completion: int = 0
    base_nanos: Nanos = 0
    charge_nanos: Nanos = 0
    saved_nanos: Nanos = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.requests + other.requests,
            self.failed + other.failed,
            self.aborted + other.aborted,
            self.prompt + other.prompt,
            self.cached + other.cached,
            self.completion + other.completion,
            self.base_nanos + other.base_nanos,
            self.charge_nanos + other.charge_nanos,
            self.saved_nanos + other.saved_nanos,
        )

    @property
    def completed(self) -> int:
        return self.requests - self.failed - self.aborted

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion


@dataclass(frozen=True, slots=True)
class Used:
    """One time: its sums by each thing they can be told by."""

    charges: dict[tuple[datetime, str], Nanos] = field(default_factory=dict)
    """By the beginning of the hour or day, and the model: of the dearest ones, and not of a time that another
    is compared with."""
    by_endpoint: dict[str, Sums] = field(default_factory=dict)
    by_key: dict[int, Sums] = field(default_factory=dict)
    speeds: dict[tuple[datetime, bool], dict[int, int]] = field(default_factory=dict)
    """By the beginning, and whether it is the first token: calls by step, as `SpeedSpan` has them."""

    by_time: dict[datetime, Sums] = field(default_factory=dict)
    by_model: dict[str, Sums] = field(default_factory=dict)

    @property
    def dearest_models(self) -> list[str]:
        """Those that were charged."""
        ranked = sorted(self.by_model.items(), key=lambda each: (-each[1].charge_nanos, each[0]))
        return [name for name, sums in ranked if sums.charge_nanos]

    @property
    def total(self) -> Sums:
        return sum(self.by_model.values(), Sums())
