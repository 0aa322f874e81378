"""The monthly partitions of generations: made before their month begins."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from django.db import connection

from aggregator.lib import clock

AHEAD = 2
"""How many months beyond the present one are kept ready."""


def make_coming() -> list[str]:
    """Make the partitions that are missing, from this month on; those made now, as `2026-11`."""
    made = []
    month = clock.now().date().replace(day=1)
    for _ in range(AHEAD + 1):
        if make(month):
            made.append(f"{month:%Y-%m}")
        month = (month + timedelta(days=32)).replace(day=1)
    return made


def horizon() -> datetime | None:
    """Before it no generation is kept any more; None while all are."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (max(month) + interval '1 month') AT TIME ZONE 'UTC' FROM billing_droppedmonth"
        )
        found: datetime | None = cursor.fetchone()[0]
        return found


def make(month: date) -> bool:
    """Make one month's partition; False when it was there. Rows that waited for it move into it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT make_generation_partition(%s::date)", [month])
        return bool(cursor.fetchone()[0])
