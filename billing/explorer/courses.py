"""How the biggest lines of an answer went over time, and the rest of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.db import connection
from django.db.models import F, Value
from django.db.models.functions import Coalesce

from accounts.models import Key
from aggregator.lib import clock
from billing.explorer import asking, reading
from billing.explorer.asking import Question

BIGGEST: Final = 8
"""So many lines have a series of their own in a course; the rest are one."""

SUMMED: Final = {
    "requests": ("requests",),
    "failed": ("failed",),
    "tokens": ("prompt", "completion"),
    "charge": ("charge_nanos",),
}
"""The figures that are added to each that lines are sorted by."""


@dataclass(frozen=True, slots=True)
class Course:
    """The one group over time: by `hour`, `day` or `month`, one figure of `SUMMED`."""

    unit: str
    figure: str


_NARROWED: Final = {
    "model": "AND model = ANY(%(big)s)",
    "provider": "AND split_part(endpoint, ':', 1) = ANY(%(big)s)",
    "endpoint": "AND endpoint = ANY(%(big)s)",
    "key": "AND key_id = ANY(%(big_keys)s)",
    "member": "AND key_id = ANY(%(big_keys)s)",
    "end_user": "AND end_user = ANY(%(big)s)",
}

_NAME: Final = {"key": "key_id::text", "member": "key_id::text", "provider": "split_part(endpoint, ':', 1)"}
"""What a thing is told as, where that is not its own column."""


def read(
    organization_id: int,
    question: Question,
    keys: Sequence[int] | None,
    course: Course,
    biggest: Sequence[str],
    *,
    beyond: bool,
) -> Mapping[tuple[datetime, str | None], int]:
    """By the beginning of a time and the name of one of the biggest lines, or None for the rest of them.

    `beyond`: whether there is a rest. Without a biggest one, all is the rest.
    """
    group = question.groups[0]
    values: dict[str, Any] = {
        "organization": organization_id,
        "since": question.since,
        "until": question.until,
        "keys": None if keys is None else list(keys),
        "big": list(biggest),
        **question.filters,
    }
    named: dict[str, str] = {}
    if group in asking.OF_KEYS:
        named = _keys_of(organization_id, group, biggest)
        values["big_keys"] = [int(pk) for pk in named]
    parts = []
    if biggest:
        parts.append(_summed(question, course, values, group=group, of_some_keys=keys is not None))
    if beyond or not biggest:
        parts.append(_summed(question, course, values, group="", of_some_keys=keys is not None))
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(f"({part})" for part in parts), values)
        rows = cursor.fetchall()
    told: dict[tuple[datetime, str | None], int] = {}
    rest: dict[datetime, int] = {}
    times = {seconds: datetime.fromtimestamp(seconds, UTC) for seconds in {row[0] for row in rows}}
    for seconds, name, value in rows:
        slot = times[seconds]
        if name is None:
            rest[slot] = rest.get(slot, 0) + value
        else:
            place = slot, named.get(name, name)
            told[place] = told.get(place, 0) + value
            if beyond:
                rest[slot] = rest.get(slot, 0) - value
    return {**told, **{(slot, None): value for slot, value in rest.items() if value}}


def _summed(
    question: Question, course: Course, values: dict[str, Any], *, group: str, of_some_keys: bool
) -> str:
    """By time and the things of a group, of the biggest alone; without a group, of everything."""
    things = reading.things_of(question) if group else ()
    figures = [name for name in SUMMED[course.figure] if name in reading.figures_of(question)]
    rows = reading.rows(
        question,
        asking.ranges(question, course.unit, clock.now()),
        unit=course.unit,
        things=things,
        figures=figures,
        of_some_keys=of_some_keys,
        narrowed=_NARROWED[group] if group else "",
        values=values,
    )
    column = "".join(things)
    name = _NAME.get(group, column) if group else "NULL::text"
    added = " + ".join(figures) or "0"
    # The time as a number: Django makes each timestamp in Python.
    told = f"extract(epoch FROM slot)::bigint, {name}, total({added})"
    return f"SELECT {told} FROM ({rows}) AS used GROUP BY {', '.join(('slot', *things))}"  # noqa: S608


def _keys_of(organization_id: int, group: str, biggest: Sequence[str]) -> dict[str, str]:
    """The name of each key's line, by the key's id as text."""
    told = F("public_id") if group == "key" else Coalesce("created_by__email", Value(""))
    rows = Key.objects.of(organization_id).annotate(told=told).filter(told__in=biggest)
    return {str(pk): name for pk, name in rows.values_list("pk", "told")}
