"""Answers about usage: sums of what is posted plus what is not posted yet, read in one statement.

Three roll-ups have them: by endpoint alone, by key and endpoint, by end user. The smallest that tells
what is asked is read, its time in whole months, days and hours; single calls only while they are not posted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.db import connection

from accounts.models import Key
from billing.explorer import asking
from billing.explorer.asking import Question
from billing.money import Nanos
from billing.sums import MONTH_HOURS

BIGGEST: Final = 8
"""So many lines have a series of their own in a course; the rest are one."""


@dataclass(frozen=True, slots=True)
class Figures:
    """None is what is not kept: end users have requests, tokens and charge alone."""

    requests: int = 0
    failed: int | None = 0
    aborted: int | None = 0
    prompt: int = 0
    """All prompt tokens, cached ones included."""
    cached: int | None = 0
    cache_written: int | None = 0
    completion: int = 0
    """All completion tokens, reasoning included."""
    reasoning: int | None = 0
    base_nanos: Nanos | None = 0
    charge_nanos: Nanos = 0
    saved_nanos: Nanos | None = 0

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion

    @property
    def markup_nanos(self) -> Nanos | None:
        return None if self.base_nanos is None else self.charge_nanos - self.base_nanos


@dataclass(frozen=True, slots=True)
class Line:
    names: tuple[str, ...]
    """One a group: `2026-11-22`, `author/slug`, `key_…`, an e-mail address; empty where there is none."""
    figures: Figures


@dataclass(frozen=True, slots=True)
class Answer:
    lines: tuple[Line, ...]
    total: Figures
    """Of all lines, also of those on other pages."""
    count: int
    """How many lines there are in all."""
    next: str = ""
    """The cursor of the next page; empty on the last."""
    course: Mapping[tuple[datetime, str | None], int] = field(default_factory=dict)
    """By the beginning of a time and the name of one of the biggest lines, or None for the rest."""
    biggest: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Course:
    """The first group over time as well: by `hour`, `day` or `month`, one figure in `SORTS`."""

    unit: str
    figure: str


_FIGURES: Final = tuple(Figures.__dataclass_fields__)
_SUMS: Final = ", ".join(f"sum({name})::bigint AS {name}" for name in _FIGURES)
_SORTED: Final = {
    "requests": "requests",
    "failed": "failed",
    "tokens": "prompt + completion",
    "charge": "charge_nanos",
}

# A branch for each range, since only with its bounds in sight the planner goes by the index.
_SPANS: Final = """
    SELECT start AS at, {key} AS key_id, model, endpoint, '' AS end_user, requests, failed, aborted, prompt,
           cached, cache_written, completion, reasoning, base_nanos, charge_nanos, saved_nanos
    FROM {table}
    WHERE organization_id = %(organization)s AND hours = %(hours_{at})s
      AND start >= %(since_{at})s AND start < %(until_{at})s {only}
"""

_UNPOSTED: Final = """
    SELECT uuid7_time(id), key_id, model, endpoint, end_user, 1, (status IN ('failed', 'void'))::int,
           (status = 'aborted')::int, input + cache_read + cache_write_5m + cache_write_1h + image + audio,
           cache_read, cache_write_5m + cache_write_1h,
           output + reasoning + image_output + audio_output, reasoning, base_nanos, charge_nanos,
           CASE WHEN charge_nanos > 0 AND cache_read + cache_write_5m + cache_write_1h > 0
                THEN coalesce(cache_saved_nanos(price_id, price_window, markup, parts), 0) ELSE 0 END
    FROM generations
    WHERE organization_id = %(organization)s AND posting_id IS NULL
      AND id >= uuid7_from(%(since)s) AND id < uuid7_from(%(until)s) {only}
"""

_END_USERS: Final = """
    SELECT {day}::timestamp AT TIME ZONE 'UTC' AS at, 0 AS key_id, '' AS model, '' AS endpoint, end_user,
           requests, NULL::bigint AS failed, NULL::bigint AS aborted, prompt, NULL::bigint AS cached,
           NULL::bigint AS cache_written, completion, NULL::bigint AS reasoning, NULL::bigint AS base_nanos,
           charge_nanos, NULL::bigint AS saved_nanos
    FROM billing_enduser{day}
    WHERE organization_id = %(organization)s AND {day} >= (%(since_{at})s AT TIME ZONE 'UTC')::date
      AND {day} < (%(until_{at})s AT TIME ZONE 'UTC')::date {only}
"""

_END_USERS_UNPOSTED: Final = """
    SELECT uuid7_time(id), 0, '', '', end_user, 1, NULL, NULL,
           input + cache_read + cache_write_5m + cache_write_1h + image + audio, NULL, NULL,
           output + reasoning + image_output + audio_output, NULL, NULL, charge_nanos, NULL
    FROM generations
    WHERE organization_id = %(organization)s AND posting_id IS NULL AND end_user <> ''
      AND id >= uuid7_from(%(since)s) AND id < uuid7_from(%(until)s) {only}
"""

_ONLY: Final = {
    "model": "AND model = %(model)s",
    "endpoint": "AND endpoint = %(endpoint)s",
    "provider": "AND starts_with(endpoint, %(provider)s || ':')",
    "end_user": "AND end_user = %(end_user)s",
}

_RAW: Final = {
    "model": "model",
    "provider": "endpoint",
    "endpoint": "endpoint",
    "key": "key_id",
    "member": "key_id",
    "end_user": "end_user",
}
"""What each group is told from, before it has its name."""

_NAMES: Final = {
    "hour": "to_char(slot AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI\"Z\"')",
    "day": "to_char(slot AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    "month": "to_char(slot AT TIME ZONE 'UTC', 'YYYY-MM')",
    "model": "model",
    "provider": "split_part(endpoint, ':', 1)",
    "endpoint": "endpoint",
    "key": "coalesce(public_id, '')",
    "member": "coalesce(email, '')",
    "end_user": "end_user",
}

_MERGING: Final = ("provider", "member")
"""Groups that several things have in common."""

_WHO: Final = """
 LEFT JOIN (SELECT key.id, key.public_id, maker.email FROM accounts_key AS key
            LEFT JOIN accounts_user AS maker ON maker.id = key.created_by_id
            WHERE key.organization_id = %(organization)s) AS who ON who.id = summed.key_id
"""

_ANSWER: Final = """
WITH used AS ({used}),
summed AS (SELECT {slot} AS slot, {raw}, {sums} FROM used GROUP BY {by}),
named AS MATERIALIZED (SELECT slot, {names}, {named_as} FROM summed {who} {named_by}),
lines AS MATERIALIZED (SELECT {places}, {lines_as} FROM named {lines_by})
(SELECT 'total', NULL::timestamptz, NULL::text[], count(*), {sums} FROM lines)
UNION ALL
(SELECT 'line', NULL, ARRAY[{places}], {value}, {figures} FROM lines {beyond} ORDER BY {order} LIMIT %(size)s)
{course}
"""

_COURSE: Final = """
UNION ALL
(WITH biggest AS (SELECT g0 FROM lines ORDER BY {figure} DESC, g0 LIMIT {most})
 SELECT 'course', slot, ARRAY[biggest.g0], sum({figure})::bigint, {nothing}
 FROM named LEFT JOIN biggest USING (g0) GROUP BY slot, biggest.g0)
UNION ALL
(SELECT 'biggest', NULL, ARRAY[g0], {figure}, {nothing} FROM lines ORDER BY {figure} DESC, g0 LIMIT {most})
"""


def answer(
    organization_id: int,
    question: Question,
    *,
    key_ids: Collection[int] | None = None,
    course: Course | None = None,
) -> Answer:
    """Of every key, or of some (`key_ids`; none of them is nothing). End users are told of every key alone.

    Raises Unclear for a key or a member that the organization does not have.
    """
    keys = _keys(organization_id, question, key_ids)
    sql, values = _statement(organization_id, question, keys, course)
    lines: list[tuple[int | None, Line]] = []
    total, count, next_page = Figures(), 0, ""
    told: dict[tuple[datetime, str | None], int] = {}
    biggest = []
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        for kind, slot, names, value, *figures in cursor.fetchall():
            if kind == "total":
                total, count = _figures(figures, question), value
            elif kind == "line":
                lines.append((value, Line(tuple(names), _figures(figures, question))))
            elif kind == "course":
                told[slot, names[0]] = value
            else:
                biggest.append(names[0])
    if len(lines) > question.size:
        lines = lines[: question.size]
        value, last = lines[-1]
        next_page = asking.mark(value, last.names, question)
    return Answer(tuple(line for _, line in lines), total, count, next_page, told, tuple(biggest))


def statement(
    organization_id: int, question: Question, *, course: Course | None = None
) -> tuple[str, dict[str, Any]]:
    """The statement of an answer, for whoever looks at its plan."""
    return _statement(organization_id, question, _keys(organization_id, question, None), course)


def names_used(
    organization_id: int, since: datetime, *, key_ids: Collection[int] | None = None
) -> tuple[list[str], list[str]]:
    """The models and the endpoints that served in this month or in one since then, by name."""
    table = "billing_endpointspan" if key_ids is None else "billing_usagespan"
    only = "" if key_ids is None else "AND key_id = ANY(%(keys)s)"
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT DISTINCT model, endpoint FROM {table}"  # noqa: S608 - one of two tables
            " WHERE organization_id = %(id)s AND hours = 720"
            f" AND start >= date_trunc('month', %(since)s, 'UTC') {only}"
            " UNION SELECT model, endpoint FROM generations"
            f" WHERE organization_id = %(id)s AND posting_id IS NULL {only}",
            {"id": organization_id, "since": since, "keys": None if key_ids is None else list(key_ids)},
        )
        rows = cursor.fetchall()
    return sorted({model for model, _ in rows if model}), sorted({place for _, place in rows if place})


def key_names(organization_id: int, public_ids: Sequence[str]) -> dict[str, str]:
    """The names of keys by their public ids, deleted ones included."""
    rows = Key.objects.of(organization_id).filter(public_id__in=public_ids)
    return dict(rows.values_list("public_id", "name"))


def _keys(organization_id: int, question: Question, key_ids: Collection[int] | None) -> list[int] | None:
    """The keys that the filters leave; None for all of them."""
    wanted = {name: question.filters[name] for name in asking.OF_KEYS if name in question.filters}
    if not wanted:
        return None if key_ids is None else sorted(key_ids)
    rows = Key.objects.of(organization_id)
    for name, column in (("key", "public_id"), ("member", "created_by__email")):
        if name in wanted:
            rows = rows.filter(**{column: wanted[name]})
    found = set(rows.values_list("pk", flat=True))
    found = found if key_ids is None else found & set(key_ids)
    if not found:
        name = next(iter(wanted))
        what = "a key" if name == "key" else "a member with a key"
        raise asking.Unclear(name, f"{name}: the organization has no such {what.removeprefix('a ')}.")
    return sorted(found)


def _statement(
    organization_id: int, question: Question, keys: list[int] | None, course: Course | None
) -> tuple[str, dict[str, Any]]:
    values: dict[str, Any] = {
        "organization": organization_id,
        "since": question.since,
        "until": question.until,
        "keys": keys,
        "size": question.size + 1,
        **question.filters,
    }
    groups = question.groups
    raw = dict.fromkeys(_RAW[group] for group in groups if group in _RAW)
    places = [f"g{at}" for at in range(len(groups))]
    unit = next((time for time in asking.TIMES if time in groups), course.unit if course else None)
    value, beyond, order = _order(question, values)
    figure = _SORTED[course.figure] if course else ""
    told = _COURSE.format(figure=figure, most=BIGGEST, nothing=", ".join("NULL" for _ in _FIGURES))
    # Most names tell their groups apart as well as what they are made of: then nothing is summed twice.
    merges = any(group in _MERGING for group in groups)
    over_time = unit is not None and unit not in groups
    figures = ", ".join(_FIGURES)
    sql = _ANSWER.format(
        named_as=_SUMS if merges else figures,
        named_by=f"GROUP BY slot, {', '.join(places)}" if merges else "",
        lines_as=_SUMS if over_time else figures,
        lines_by=f"GROUP BY {', '.join(places)}" if over_time else "",
        used=_used(question, keys, unit, values),
        slot=f"date_trunc('{unit}', at, 'UTC')" if unit else "NULL::timestamptz",
        raw=", ".join(raw) or "NULL AS nothing",
        by=", ".join(str(at + 1) for at in range(1 + max(len(raw), 1))),
        sums=_SUMS,
        names=", ".join(f"{_NAMES[group]} AS g{at}" for at, group in enumerate(groups)),
        who=_WHO if any(group in asking.OF_KEYS for group in groups) else "",
        places=", ".join(places),
        value=value,
        figures=figures,
        beyond=beyond,
        order=order,
        course=told if course else "",
    )
    return sql, values


def _used(question: Question, keys: list[int] | None, unit: str | None, values: dict[str, Any]) -> str:
    only = " ".join(_ONLY[name] for name in question.filters if name in _ONLY)
    of_keys = keys is not None or any(group in asking.OF_KEYS for group in question.groups)
    if keys is not None:
        only += " AND key_id = ANY(%(keys)s)"
    branches = []
    for at, each in enumerate(asking.ranges(question, unit or asking.MONTH)):
        values |= {f"hours_{at}": each.hours, f"since_{at}": each.since, f"until_{at}": each.until}
        if question.of_end_users:
            day = "month" if each.hours == MONTH_HOURS else "day"
            branches.append(_END_USERS.format(at=at, day=day, only=only))
            continue
        table, key = ("billing_usagespan", "key_id") if of_keys else ("billing_endpointspan", "0")
        branches.append(_SPANS.format(at=at, table=table, key=key, only=only))
    unposted = _END_USERS_UNPOSTED if question.of_end_users else _UNPOSTED
    return " UNION ALL ".join([*branches, unposted.format(only=only)])


def _order(question: Question, values: dict[str, Any]) -> tuple[str, str, str]:
    """What a line is sorted by, which lines come after the page before, and the order: bytewise."""
    name = question.sort.removeprefix("-")
    down = question.sort.startswith("-")
    way, than = ("DESC", "<") if down else ("ASC", ">")
    places = [f'g{at} COLLATE "C"' for at in range(len(question.groups))]
    if name == asking.NAME:
        value, order = "NULL::bigint", ", ".join(f"{place} {way}" for place in places)
    else:
        value = f"coalesce({_SORTED[name]}, 0)"
        order = f"{value} {way}, {', '.join(places)}"
    if question.after is None:
        return value, "", order
    number, names = question.after
    values |= {"number": number, **{f"name_{at}": each for at, each in enumerate(names)}}
    said = ", ".join(f"%(name_{at})s" for at in range(len(names)))
    row = f"({', '.join(places)}) {than if name == asking.NAME else '>'} ({said})"
    if name == asking.NAME:
        return value, f"WHERE {row}", order
    return value, f"WHERE {value} {than} %(number)s OR {value} = %(number)s AND {row}", order


def _figures(found: Sequence[Any], question: Question) -> Figures:
    """Sums of nothing are zero, but for what is not kept."""
    kept = {"requests", "prompt", "completion", "charge_nanos"} if question.of_end_users else set(_FIGURES)
    told: dict[str, Any] = {
        name: (value or 0) if name in kept else None for name, value in zip(_FIGURES, found, strict=True)
    }
    return Figures(**told)
