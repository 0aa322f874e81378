"""Answers about usage: sums of what is posted plus what is not posted yet, and their course over time.

Lines are summed over the coarsest spans there are, their course over time then for the biggest of them alone:
so neither grows with what is not shown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.db import connection

from accounts.models import Key
from aggregator.lib import clock
from billing.core.money import Nanos
from billing.explorer import asking, courses, reading
from billing.explorer.asking import Question
from billing.explorer.courses import Course


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


_PLACES: Final = {
    **dict.fromkeys(asking.TIMES, "slot"),
    "model": "model",
    "provider": "split_part(endpoint, ':', 1)",
    "endpoint": "endpoint",
    "key": "coalesce(public_id, '')",
    "member": "coalesce(email, '')",
    "end_user": "end_user",
}
"""What lines are told apart and ordered by."""

_SHOWN: Final = {"hour": 'YYYY-MM-DD"T"HH24:MI"Z"', "day": "YYYY-MM-DD", "month": "YYYY-MM"}
"""Times are written out only where they are shown: of a hundred thousand lines that would be dear."""

_MERGING: Final = ("provider", "member")
"""Groups that several things have in common."""

_WHO: Final = """
 LEFT JOIN (SELECT key.id, key.public_id, maker.email FROM accounts_key AS key
            LEFT JOIN accounts_user AS maker ON maker.id = key.created_by_id
            WHERE key.organization_id = %(organization)s) AS who ON who.id = summed.key_id
"""

_ANSWER: Final = """
WITH used AS ({used}),
summed AS (SELECT {told}, {sums} FROM used GROUP BY {told}),
lines AS MATERIALIZED (SELECT {places}, {lines_as} FROM summed {who} {lines_by})
(SELECT 'total', NULL::text[], count(*), {totals} FROM lines)
UNION ALL
(SELECT 'line', ARRAY[{shown}], value, {figures}
 FROM (SELECT *, {value} AS value FROM lines {beyond} ORDER BY {order} LIMIT %(size)s) AS page
 ORDER BY {order})
{biggest}
"""

_BIGGEST: Final = """
UNION ALL
(SELECT 'biggest', ARRAY[p0], NULL, {figures} FROM lines ORDER BY {figure} DESC, p0 COLLATE "C" LIMIT {most})
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
    total, count, next_page = Figures(), 0, ""
    lines: list[tuple[int | None, Line]] = []
    biggest = []
    with connection.cursor() as cursor:
        cursor.execute(*_statement(organization_id, question, keys, course))
        for kind, names, value, *figures in cursor.fetchall():
            if kind == "total":
                total, count = _figures(figures, question), value
            elif kind == "line":
                lines.append((value, Line(tuple(names), _figures(figures, question))))
            else:
                biggest.append(names[0])
    if len(lines) > question.size:
        lines = lines[: question.size]
        value, last = lines[-1]
        next_page = asking.mark(value, last.names, question)
    told: Mapping[tuple[datetime, str | None], int] = {}
    if course is not None and count:
        told = courses.read(organization_id, question, keys, course, biggest, beyond=count > len(biggest))
    return Answer(tuple(line for _, line in lines), total, count, next_page, told, tuple(biggest))


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
    groups, things = question.groups, reading.things_of(question)
    unit = next((time for time in asking.TIMES if time in groups), None)
    figures = reading.figures_of(question)
    sums = ", ".join(f"total({name}) AS {name}" for name in figures)
    own, none = ", ".join(figures), dict.fromkeys(reading.FIGURES, "NULL::bigint")
    shown = ", ".join(({**none, **{name: name for name in figures}}).values())
    places = [f"p{at}" for at in range(len(groups))]
    # Most places tell lines apart as well as what they are made of: then nothing is summed twice.
    merges = any(group in _MERGING for group in groups)
    value, beyond, order = _order(question, values)
    used = reading.rows(
        question,
        asking.ranges(question, unit or asking.MONTH, clock.now()),
        unit=unit,
        things=things,
        figures=figures,
        of_some_keys=keys is not None,
        narrowed="",
        values=values,
    )
    sql = _ANSWER.format(
        used=used,
        told=", ".join((*(["slot"] if unit else []), *things)),
        sums=sums,
        places=", ".join(f"{_PLACES[group]} AS p{at}" for at, group in enumerate(groups)),
        lines_as=sums if merges else own,
        who=_WHO if "key_id" in things else "",
        lines_by=f"GROUP BY {', '.join(places)}" if merges else "",
        totals=", ".join(f"total({name})" if name in figures else "NULL::bigint" for name in reading.FIGURES),
        shown=", ".join(_shown(group, f"p{at}", question) for at, group in enumerate(groups)),
        value=value,
        figures=shown,
        beyond=beyond,
        order=order,
        biggest=_BIGGEST.format(figures=shown, figure=_sorted(course.figure, figures), most=courses.BIGGEST)
        if course and not unit
        else "",
    )
    return sql, values


def _shown(group: str, place: str, question: Question) -> str:
    if group not in _SHOWN:
        return place
    at = place if question.of_end_users else f"{place} AT TIME ZONE 'UTC'"
    return f"to_char({at}, '{_SHOWN[group]}')"


def _sorted(name: str, figures: Sequence[str]) -> str:
    return " + ".join(each if each in figures else "0::bigint" for each in courses.SUMMED[name])


def _order(question: Question, values: dict[str, Any]) -> tuple[str, str, str]:
    """What a line is sorted by, which lines come after the page before, and the order: bytewise."""
    name = question.sort.removeprefix("-")
    down = question.sort.startswith("-")
    way, than = ("DESC", "<") if down else ("ASC", ">")
    places = [
        f"p{at}" if group in asking.TIMES else f'p{at} COLLATE "C"'
        for at, group in enumerate(question.groups)
    ]
    if name == asking.NAME:
        value, order = "NULL::bigint", ", ".join(f"{place} {way}" for place in places)
    else:
        value = f"coalesce({_sorted(name, reading.figures_of(question))}, 0)"
        order = f"{value} {way}, {', '.join(places)}"
    if question.after is None:
        return value, "", order
    number, names = question.after
    values["number"] = number
    said = []
    for at, (group, each) in enumerate(zip(question.groups, names, strict=True)):
        if group in asking.TIMES:
            begins = asking.beginning(each, group)
            values[f"name_{at}"] = begins.date() if question.of_end_users else begins
        else:
            values[f"name_{at}"] = each
        said.append(f"%(name_{at})s")
    row = f"({', '.join(places)}) {than if name == asking.NAME else '>'} ({', '.join(said)})"
    if name == asking.NAME:
        return value, f"WHERE {row}", order
    return value, f"WHERE {value} {than} %(number)s OR {value} = %(number)s AND {row}", order


def _figures(found: Sequence[Any], question: Question) -> Figures:
    """Sums of nothing are zero, but for what is not kept."""
    kept = reading.figures_of(question)
    told: dict[str, Any] = {
        name: (value or 0) if name in kept else None
        for name, value in zip(reading.FIGURES, found, strict=True)
    }
    return Figures(**told)
