"""How the biggest lines of an answer went over time, and the rest of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection
from django.db.models import F, Value
from django.db.models.functions import Coalesce

from accounts.models import Key
from aggregator.lib import clock
from billing.core.sums import Range, Times
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

_KEYS_LINES: Final = (
    "JOIN unnest(%(big_keys)s::bigint[], %(big_names)s::text[]) AS line (key_id, name) USING (key_id)"
)
"""To which line a key belongs."""


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
    if group in asking.OF_KEYS:
        named = _keys_of(organization_id, group, biggest)
        values |= {"big_keys": list(named), "big_names": list(named.values())}
    groups = [*([group] if biggest else []), *([""] if beyond or not biggest else [])]
    ranges = asking.ranges(question, course.unit, clock.now())
    parts = [_summed(question, course, ranges, values, group=each) for each in groups]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(f"({part})" for part in parts), values)
        rows = cursor.fetchall()
    told: dict[tuple[datetime, str | None], int] = {}
    rest: dict[datetime, int] = {}
    times = Times()
    for seconds, name, value in rows:
        slot = times[seconds]
        if name is None:
            rest[slot] = rest.get(slot, 0) + value
        else:
            told[slot, name] = value
            if beyond:
                rest[slot] = rest.get(slot, 0) - value
    return {**told, **{(slot, None): value for slot, value in rest.items() if value}}


def _summed(
    question: Question, course: Course, ranges: Sequence[Range], values: dict[str, Any], *, group: str
) -> str:
    """By time and the things of a group, of the biggest alone; without a group, of everything."""
    things = reading.things_of(question) if group else ()
    figures = [name for name in SUMMED[course.figure] if name in reading.figures_of(question)]
    rows = reading.rows(
        question,
        ranges,
        unit=course.unit,
        things=things,
        figures=figures,
        of_some_keys=values["keys"] is not None,
        narrowed=_NARROWED[group] if group else "",
        values=values,
    )
    name = "".join(things) if group else "NULL::text"
    lines = ""
    if group in asking.OF_KEYS:
        name, lines = "name", _KEYS_LINES
    elif group == "provider":
        name = "split_part(endpoint, ':', 1)"
    added = " + ".join(figures) or "0"
    by = ", ".join(("slot", *things))
    # The time as a number: Django makes each timestamp in Python.
    return f"""
        SELECT extract(epoch FROM slot)::bigint, {name}, total(value)
        FROM (SELECT {by}, total({added}) AS value FROM ({rows}) AS used GROUP BY {by}) AS summed {lines}
        GROUP BY slot, 2
    """  # noqa: S608


def _keys_of(organization_id: int, group: str, biggest: Sequence[str]) -> dict[int, str]:
    """The name of each key's line, by the key's id."""
    told = F("public_id") if group == "key" else Coalesce("created_by__email", Value(""))
    rows = Key.objects.of(organization_id).annotate(told=told).filter(told__in=biggest)
    return dict(rows.values_list("pk", "told"))
