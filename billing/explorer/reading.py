"""What an answer is summed from: rows of the smallest roll-up that tells what is asked, and unposted calls.

Three roll-ups have them: by endpoint alone, by key and endpoint, by end user. Time is read in whole months,
days and hours, as coarse as may be; single calls only while they are not posted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from billing.core.sums import HOURS, MONTH_HOURS, OF_A_CALL, Range
from billing.explorer import asking
from billing.explorer.asking import Question

FIGURES: Final = (
    *("requests", "failed", "aborted", "prompt", "cached", "cache_written", "completion", "reasoning"),
    *("base_nanos", "charge_nanos", "saved_nanos"),
)
OF_END_USERS: Final = ("requests", "prompt", "completion", "charge_nanos")
"""What is kept of end users."""

# A branch for each range, since only with its bounds in sight the planner goes by the index.
_SPANS: Final = """
    SELECT {columns} FROM {table}
    WHERE organization_id = %(organization)s AND hours = %(hours_{at})s
      AND start >= %(since_{at})s AND start < %(until_{at})s {only}
"""
_END_USERS: Final = """
    SELECT {columns} FROM billing_enduser{day}
    WHERE organization_id = %(organization)s AND {day} >= (%(since_{at})s AT TIME ZONE 'UTC')::date
      AND {day} < (%(until_{at})s AT TIME ZONE 'UTC')::date {only}
"""
_CALLS: Final = """
    SELECT {columns} FROM generations
    WHERE organization_id = %(organization)s AND posting_id IS NULL
      AND id >= uuid7_from(%(since)s) AND id < uuid7_from(%(until)s) {only}
"""

_ONLY: Final = {
    "model": "AND model = %(model)s",
    "endpoint": "AND endpoint = %(endpoint)s",
    "provider": "AND starts_with(endpoint, %(provider)s || ':')",
    "end_user": "AND end_user = %(end_user)s",
}


def rows(
    question: Question,
    ranges: Sequence[Range],
    *,
    unit: str | None,
    things: Sequence[str],
    figures: Sequence[str],
    of_some_keys: bool,
    narrowed: str,
    values: dict[str, Any],
) -> str:
    """A statement whose rows have `slot` (where a `unit` of time is told apart; of end users a date, else an
    instant), `things` and `figures`.

    `things` are columns: model, endpoint, key_id, end_user. `of_some_keys`: of those in `%(keys)s` alone.
    `narrowed` is a further condition. `values` gains the bounds of the ranges.
    """
    only = " ".join((*(_ONLY[name] for name in question.filters if name in _ONLY), narrowed))
    if of_some_keys:
        only += " AND key_id = ANY(%(keys)s)"
    by_key = of_some_keys or "key_id" in things or "key_id" in narrowed
    names = ", ".join((*things, *figures))
    named = " AND end_user <> ''" if question.of_end_users else ""
    together = named and "end_user" not in (*things, *question.filters)  # one row of them all
    table = f"billing_{'usage' if by_key else 'endpoint'}span"
    branches = []
    for at, each in enumerate(ranges):
        values |= {f"hours_{at}": each.hours, f"since_{at}": each.since, f"until_{at}": each.until}
        if question.of_end_users:
            day = "month" if each.hours == MONTH_HOURS else "day"
            start, statement = day, _END_USERS
            whose = " AND end_user = ''" if together else named
        else:
            day, start, statement, whose = "", "start", _SPANS, ""
        whole = unit is None or each.hours == HOURS[unit]
        slot = "" if unit is None else f"{start if whole else _slot(question, unit, start)} AS slot, "
        branches.append(
            statement.format(columns=slot + names, table=table, day=day, at=at, only=only + whose)
        )
    told = ", ".join((*things, *(f"{OF_A_CALL[name]} AS {name}" for name in figures)))
    admitted = "uuid7_time(id) AT TIME ZONE 'UTC'" if question.of_end_users else "uuid7_time(id)"
    slot = "" if unit is None else f"{_slot(question, unit, admitted)} AS slot, "
    return " UNION ALL ".join([*branches, _CALLS.format(columns=slot + told, only=only + named)])


def figures_of(question: Question) -> tuple[str, ...]:
    """Those that are kept of what is asked for."""
    return OF_END_USERS if question.of_end_users else FIGURES


def things_of(question: Question) -> tuple[str, ...]:
    """What its groups are told from, before they have their names."""
    return tuple(dict.fromkeys(_THINGS[group] for group in question.groups if group not in asking.TIMES))


_THINGS: Final = {
    "model": "model",
    "provider": "endpoint",
    "endpoint": "endpoint",
    "key": "key_id",
    "member": "key_id",
    "end_user": "end_user",
}


def _slot(question: Question, unit: str, at: str) -> str:
    if question.of_end_users:  # by days, which stay dates: to make instants of them is dear
        return f"date_trunc('{unit}', {at})::date"
    return f"date_trunc('{unit}', {at}, 'UTC')"
