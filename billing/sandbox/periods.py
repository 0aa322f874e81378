"""Billing periods: months that keep their day, and shares of a period. Unix seconds, whole cents."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta

from billing.sandbox.refusals import Invalid, Thing

_DAYS = {"day": 1, "week": 7}
_MONTHS = {"month": 1, "year": 12}


def later(anchor: int, interval: str, count: int) -> int:
    """`count` intervals after the anchor; the 31st becomes the last day of a shorter month."""
    began = datetime.fromtimestamp(anchor, tz=UTC)
    if interval in _DAYS:
        return int((began + timedelta(days=_DAYS[interval] * count)).timestamp())
    if interval not in _MONTHS:
        raise Invalid(f"Invalid interval: {interval}", param="interval")
    months = began.year * 12 + began.month - 1 + _MONTHS[interval] * count
    year, month = months // 12, months % 12 + 1
    day = min(began.day, calendar.monthrange(year, month)[1])
    return int(began.replace(year=year, month=month, day=day).timestamp())


def end_of_period(anchor: int, start: int, recurring: Thing) -> int:
    """The first boundary after `start` of the periods that are counted from the anchor."""
    count = recurring["interval_count"]
    times = 1
    while (end := later(anchor, recurring["interval"], count * times)) <= start:
        times += 1
    return end


def share(cents: int, part: int, whole: int) -> int:
    """`cents` × part ÷ whole, half a cent up."""
    return (cents * part * 2 + whole) // (whole * 2)
