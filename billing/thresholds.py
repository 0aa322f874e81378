"""People are told, by e-mail and webhook, when a budget passes a threshold of its limit: once a window.

A row of `BudgetAlert` for each account of the gate and percent says that it was told; whoever writes it
tells. A limit that was raised since is told of anew. Budgets of the organization are written about at once,
and of members and keys too, until there were many in an hour; those of end users, and what is beyond, wait
for one letter an hour that sums them up. An event tells of one threshold of one budget, or of several where
those of many end users are passed at once.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Max

from accounts import webhooks
from aggregator.lib import clock, ids
from billing import letters, readings, refused
from billing.core import budgets
from billing.core.money import Nanos, show_usd, usd
from billing.models import BudgetAlert, Letter
from billing.readings import Reading

REFUSED: Final = 0
"""Instead of a percent: calls were refused though much is left, since they might cost more than that."""
ALL: Final = 100
NEARLY: Final = 80
"""From this percent on, a refusal means that the budget is used up."""
HOUR: Final = timedelta(hours=1)
MOST_LETTERS: Final = 10
"""In an hour, about single members and keys of one organization."""
MOST_EVENTS: Final = 20
"""In one look, about single end users of one organization; the rest are summed up too."""
MOST_LINES: Final = 20
EACH: Final[Mapping[str, str]] = {"day": "a day", "week": "a week", "month": "a month", "total": "in all"}
PAGE: Final = "/budgets"

_OVERLAP: Final = timedelta(minutes=2)
"""What was posted while the last look began may have been committed after it."""
_AGO: Final = timedelta(hours=1)
_MOST_TOGETHER: Final = 48 * 1024
"""Characters of what one event says; `webhooks.send` takes a little more."""
_AT_ONCE: Final = 500
"""In one transaction, which nobody else waits for long."""
_SINGLE: Final = ("budget_reached", "budget_exceeded")
_SUMMED: Final = "budgets_summed"

_WRITE: Final = """
INSERT INTO billing_budgetalert
    (id, organization_id, account, percent, used_nanos, limit_nanos, at, waits)
SELECT id, %s, account, percent, used, most, %s, false
FROM unnest(%s::uuid[], %s::text[], %s::smallint[], %s::bigint[], %s::bigint[])
     AS passed (id, account, percent, used, most)
ON CONFLICT (organization_id, account, percent) DO UPDATE
    SET used_nanos = excluded.used_nanos, limit_nanos = excluded.limit_nanos, at = excluded.at, waits = false
    WHERE billing_budgetalert.limit_nanos < excluded.limit_nanos
RETURNING account, percent
"""


@dataclass(frozen=True, slots=True)
class Passed:
    """What is newly to be told of one account."""

    reading: Reading
    percents: tuple[int, ...]
    """Ascending."""
    name: str = ""
    """As `readings.names` says it."""
    email: str = ""
    """Of whose budget it is, or who made the key, if they are a member."""


def look(since: datetime | None) -> int:
    """Tell what calls posted since the last look have passed, and what has refused one; how many thresholds.

    One process at a time looks.
    """
    now = clock.now()
    marks = refused.take()
    marked = {mark.account for mark in marks}
    by_owner: dict[int, list[Passed]] = defaultdict(list)
    for reading in readings.touched((since or now - _AGO) - _OVERLAP, marks, at=now):
        percents = passed(reading, was_refused=reading.account in marked)
        if percents:
            by_owner[reading.organization_id].append(Passed(reading, percents))
    told = 0
    for owner, found in by_owner.items():
        for first in range(0, len(found), _AT_ONCE):
            part = found[first : first + _AT_ONCE]
            told += _tell(owner, part, now, singles=0 if first else MOST_EVENTS)
    _sum_up(now)
    return told


def passed(reading: Reading, *, was_refused: bool) -> tuple[int, ...]:
    """The percents that were passed and not told of yet, ascending. Of a limit of nothing there are none:
    who sets one knows that calls are refused. Who is not told of the end is not told of refusals."""
    if reading.limit_nanos == 0:
        return ()
    found = {percent for percent in reading.thresholds if reading.reaches(percent)}
    if was_refused and ALL in reading.thresholds:
        found.add(ALL if reading.reaches(NEARLY) else REFUSED)
    return tuple(sorted(found - reading.told))


# ── One organization ─────────────────────────────────────────────────────────────────────────────


def _tell(organization_id: int, found: Sequence[Passed], now: datetime, *, singles: int) -> int:
    with transaction.atomic():
        new = sorted(_write(organization_id, found, now), key=lambda each: -each.percents[-1])
        _send(new, singles=singles)
        room = MOST_LETTERS - _written_lately(organization_id, now)
        waiting = []
        for each in new:
            if each.reading.kind == "organization":
                _write_letter(each)
            elif each.reading.kind in ("member", "key") and room > 0:
                room -= 1
                _write_letter(each)
            else:
                waiting.append(each.reading.account)
        BudgetAlert.objects.of(organization_id).filter(account__in=waiting, at=now).update(waits=True)
    return sum(len(each.percents) for each in new)


def _write(organization_id: int, found: Sequence[Passed], now: datetime) -> list[Passed]:
    """Write them down; those that nobody else has written, with their names."""
    rows = [
        (ids.uuid7(), each.reading.account, percent, each.reading.used_nanos, each.reading.limit_nanos)
        for each in found
        for percent in each.percents
    ]
    written: dict[str, list[int]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(_WRITE, [organization_id, now, *map(list, zip(*rows, strict=True))])
        for account, percent in cursor.fetchall():
            written[account].append(percent)
    names = readings.names(organization_id, written)
    people = [each.reading.user_id for each in found if each.reading.user_id is not None]
    emails = readings.emails(organization_id, people)
    return [
        replace(
            each,
            percents=tuple(sorted(written[each.reading.account])),
            name=names[each.reading.account],
            email=emails.get(each.reading.user_id or 0, ""),
        )
        for each in found
        if each.reading.account in written
    ]


def _written_lately(organization_id: int, now: datetime) -> int:
    return Letter.objects.of(organization_id).filter(kind__in=_SINGLE, created_at__gt=now - HOUR).count()


def _send(found: Iterable[Passed], *, singles: int) -> None:
    """An event for every threshold, since a program may wait for it: of so many end users, and of the rest
    several in one, the first said as ever and `others` beside it."""
    together: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for each in found:
        owner, of_end_user = each.reading.organization_id, each.reading.kind == "end_user"
        alone = not of_end_user or singles > 0
        singles -= of_end_user
        for percent in each.percents:
            type = "budget.exceeded" if percent in (REFUSED, ALL) else "budget.threshold_reached"
            key, data = _subject(each.reading, percent), _said(each, percent)
            if alone:
                webhooks.send(owner, type, data, key=key)
            else:
                together[type].append((key, data))
    for type, rows in together.items():
        for (key, first), *others in _fitting(rows):
            webhooks.send(owner, type, {**first, "others": [data for _, data in others]}, key=key)


def _said(each: Passed, percent: int) -> dict[str, Any]:
    reading = each.reading
    return {
        "budget": reading.budget,
        "kind": reading.kind,
        "subject": each.name if reading.kind != "organization" else "",
        "window": reading.window.kind,
        "window_start": _stamp(reading.window.starts_at) if reading.window.ends_at else None,
        "resets_at": _stamp(reading.window.ends_at) if reading.window.ends_at else None,
        "percent": percent or reading.percent,
        "limit": usd(reading.limit_nanos),
        "used": usd(reading.used_nanos),
        "left": usd(reading.left_nanos),
    }


def _fitting(
    rows: Sequence[tuple[str, dict[str, Any]]],
) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """In their order, as many at a time as one event may hold."""
    part: list[tuple[str, dict[str, Any]]] = []
    room = _MOST_TOGETHER
    for row in rows:
        size = len(json.dumps(row[1])) + len(", ")
        if part and size > room:
            yield part
            part, room = [], _MOST_TOGETHER
        part.append(row)
        room -= size
    if part:
        yield part


def _write_letter(each: Passed) -> None:
    """One, about the highest of them."""
    reading, percent = each.reading, each.percents[-1]
    line = _line(reading.account, each.name, used=reading.used_nanos, limit=reading.limit_nanos)
    letters.write(
        reading.organization_id,
        "budget_exceeded" if percent in (REFUSED, ALL) else "budget_reached",
        _subject(reading, percent),
        context={**line, "percent": percent, "tells_end": ALL in reading.thresholds, "page": _page()},
        also=[each.email] if each.email else [],
    )


def _subject(reading: Reading, percent: int) -> str:
    """The same for the same threshold of the same limit in the same window."""
    return f"{reading.organization_id}/{reading.account}/{percent}/{reading.limit_nanos}"


# ── One letter an hour ───────────────────────────────────────────────────────────────────────────


def _sum_up(now: datetime) -> None:
    """Write to every organization for which something waits, and which had no such letter for an hour."""
    waiting = set(
        BudgetAlert.unscoped.filter(waits=True).values_list("organization_id", flat=True).distinct()
    )
    recent = Letter.unscoped.filter(kind=_SUMMED, organization_id__in=waiting, created_at__gt=now - HOUR)
    for organization_id in sorted(waiting - set(recent.values_list("organization_id", flat=True))):
        with transaction.atomic():
            _write_sum(organization_id, now)


def _write_sum(organization_id: int, now: datetime) -> None:
    rows = BudgetAlert.objects.of(organization_id).filter(waits=True)
    every = rows.values("account").annotate(
        most=Max("percent"), used=Max("used_nanos"), limit=Max("limit_nanos")
    )
    first = list(every.order_by("-most", "-used", "account")[:MOST_LINES])
    names = readings.names(organization_id, [row["account"] for row in first])
    count = every.count()
    context = {
        "lines": [
            _line(row["account"], names[row["account"]], used=row["used"], limit=row["limit"])
            for row in first
        ],
        "count": count,
        "more": count - len(first),
        "exceeded": every.filter(most__in=(REFUSED, ALL)).count(),
        "page": _page(),
    }
    letters.write(organization_id, _SUMMED, f"{organization_id}/{now.isoformat()}", context=context)
    rows.update(waits=False)


def _line(account: str, name: str, *, used: Nanos, limit: Nanos) -> dict[str, Any]:
    """What a letter says of one account: plain values, since a letter is kept as JSON."""
    named = budgets.named(account)
    window = named.window or budgets.window("total", clock.now())
    return {
        "kind": readings.KINDS[named.kind],
        "name": name,
        "used": show_usd(used),
        "limit": show_usd(limit),
        "left": show_usd(max(limit - used, 0)),
        "used_percent": 100 * used // limit,
        "per": EACH[window.kind],
        "resets": f"{window.ends_at:%-d %B %Y, %H:%M} UTC" if window.ends_at else "",
    }


def _stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _page() -> str:
    return f"{settings.PUBLIC_URL}{PAGE}"
