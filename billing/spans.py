"""What an organization used over hours and days, by model, key and endpoint, beside an earlier time.

Sums of what is posted, kept by posting, plus what is not posted yet, read in one statement.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from accounts.models import Key
from aggregator.lib import clock
from billing.core import budgets
from billing.core.money import Nanos
from billing.core.sums import OF_A_CALL, Range, Sums, Times, Used, fewest, open_ended


@dataclass(frozen=True, slots=True)
class Near:
    """A key that has used most of what it may."""

    public_id: str
    name: str
    used_nanos: Nanos
    limit_nanos: Nanos
    window: str
    percent: int


_NOW, _BEFORE = 0, 1
_SECONDS = "extract(epoch FROM slot)::bigint"
"""A time as a number: thousands of them are read, and Django makes each timestamp in Python."""
_FIGURES = ", ".join(Sums.__dataclass_fields__)
_TAKEN_OFF = ", ".join(f"-{name} AS {name}" for name in Sums.__dataclass_fields__)
_SUMS = ", ".join(f"total({name})" for name in Sums.__dataclass_fields__)

# A branch for each range, since only with its bounds in sight the planner goes by the index.
_SPANS_IN = """
    SELECT {era} AS era, {told}, {figures}
    FROM {table}
    WHERE organization_id = %(organization)s AND hours = %(hours_{at})s
      AND start >= %(since_{at})s AND start < %(until_{at})s {only}
"""

_OF_A_CALL = ", ".join(f"{OF_A_CALL[name]} AS {name}" for name in Sums.__dataclass_fields__)

_WAITING_IN = f"""
    SELECT {{era}} AS era, date_trunc(%(unit)s, uuid7_time(id), 'UTC') AS slot, key_id, model, endpoint,
           {_OF_A_CALL}
    FROM generations
    WHERE organization_id = %(organization)s AND posting_id IS NULL
      AND id >= uuid7_from(%(since_{{at}})s) AND id < uuid7_from(%(until_{{at}})s) {{only}}
"""  # noqa: S608 - names of columns, and below

# By time of the smallest roll-up there is; by model, endpoint and key of the coarsest spans.
_USED = f"""
WITH waiting AS MATERIALIZED ({{waiting}})
SELECT era, {_SECONDS}, NULL::text, NULL::text, NULL::bigint, {_SUMS}
FROM ({{timed}} UNION ALL SELECT era, slot, {_FIGURES} FROM waiting) AS used
GROUP BY era, slot
UNION ALL
SELECT era, NULL, model, endpoint, NULL, {_SUMS}
FROM ({{placed}} UNION ALL SELECT era, model, endpoint, {_FIGURES} FROM waiting) AS used
GROUP BY GROUPING SETS ((era, model), (era, endpoint)) HAVING total(requests) > 0
UNION ALL
SELECT era, NULL, NULL, NULL, key_id, {_SUMS}
FROM ({{keys}} UNION ALL SELECT era, key_id, {_FIGURES} FROM waiting) AS used
GROUP BY era, key_id HAVING total(requests) > 0
"""  # noqa: S608

_CHARGES = f"""
SELECT {_SECONDS}, model, total(charge_nanos) FROM (
    SELECT {{slot}} AS slot, model, charge_nanos FROM {{table}}
    WHERE organization_id = %(organization)s AND hours = %(hours_0)s
      AND start >= %(since_0)s AND start < %(until_0)s AND model = ANY(%(models)s) {{only}}
    UNION ALL
    SELECT date_trunc(%(unit)s, uuid7_time(id), 'UTC'), model, charge_nanos FROM generations
    WHERE organization_id = %(organization)s AND posting_id IS NULL
      AND id >= uuid7_from(%(since_0)s) AND id < uuid7_from(%(until_0)s) AND model = ANY(%(models)s) {{only}}
) AS used GROUP BY slot, model
"""  # noqa: S608

_SPEEDS_IN = """
    SELECT {era} AS era, CASE {era} WHEN 0 THEN {slot} ELSE %(begins)s END AS slot, first, step, calls
    FROM billing_speedspan
    WHERE organization_id = %(organization)s AND hours = %(hours_{at})s
      AND start >= %(since_{at})s AND start < %(until_{at})s {only}
"""

_SPEEDS = f"""
SELECT era, {_SECONDS}, first, array_agg(step), array_agg(calls)
FROM (SELECT era, slot, first, step, total(calls) AS calls FROM ({{ranges}}) AS timed
      GROUP BY 1, 2, 3, 4) AS summed
GROUP BY era, slot, first
"""  # noqa: S608

_ONLY = "AND key_id = ANY(%(keys)s)"
_TOGETHER = "AND key_id = 0"
_NEAR_PERCENT = 80
MOST_MODELS = 6
"""So many have a course of their own."""


def used(
    organization_id: int,
    now: Range,
    before: Sequence[Range],
    *,
    key_ids: Collection[int] | None = None,
) -> tuple[Used, Used]:
    """What was used in a time, by its hours or days, and in another before it; of all keys, or of some.

    What the dearest models were charged over time is told of now; the speeds of before are those of its
    first slot: of it all.
    """
    every = [(_NOW, now), *((_BEFORE, each) for each in before)]
    at_present = clock.now()
    coarse = [
        (era, part) for era, each in every for part in fewest(each.since, open_ended(each.until, at_present))
    ]
    unit = 1 if now.hours == 1 else 24
    asked: dict[str, Any] = {
        "organization": organization_id,
        "unit": "hour" if unit == 1 else "day",
        "keys": None if key_ids is None else list(key_ids),
    }
    for at, (_, each) in enumerate(every + coarse):
        asked |= {f"hours_{at}": each.hours, f"since_{at}": each.since, f"until_{at}": each.until}
    asked["begins"] = before[0].since if before else None

    def of(one: str, ranges: Sequence[tuple[int, Range]], first: int = 0, told: str = "", **said: str) -> str:
        """A branch for each range; `told` is what its spans are told by, else the time."""
        branches = []
        for at, (era, each) in enumerate(ranges, first):
            slot = _slot(each, unit)
            shown = {"told": told or f"{slot} AS slot", "figures": _FIGURES if each.sign > 0 else _TAKEN_OFF}
            branches.append(one.format(era=era, at=at, slot=slot, **shown, **said))
        return " UNION ALL ".join(branches)

    only = "" if key_ids is None else _ONLY
    table = "billing_endpointspan" if key_ids is None else "billing_usagespan"
    statement = _USED.format(
        waiting=of(_WAITING_IN, every, only=only),
        timed=of(_SPANS_IN, every, table=table, only=only),
        placed=of(_SPANS_IN, coarse, len(every), told="model, endpoint", table=table, only=only),
        keys=of(_SPANS_IN, coarse, len(every), told="key_id", table="billing_usagespan", only=only),
    )
    speeds = _SPEEDS.format(ranges=of(_SPEEDS_IN, every, only=only or _TOGETHER))
    charges = _CHARGES.format(slot=_slot(now, unit), table=table, only=only)
    return _read(statement, speeds, charges, asked)


def _slot(range_: Range, unit: int) -> str:
    return "start" if range_.hours == unit else "date_trunc(%(unit)s, start, 'UTC')"


def _read(statement: str, speeds: str, charges: str, asked: dict[str, Any]) -> tuple[Used, Used]:
    found = (Used(), Used())
    times = Times()
    with connection.cursor() as cursor:
        cursor.execute(statement, asked)
        for era, seconds, model, endpoint, key_id, *sums in cursor.fetchall():
            one, read = found[era], Sums(*sums)
            if seconds is not None:
                one.by_time[times[seconds]] = read
            elif key_id is not None:
                one.by_key[key_id] = read
            elif endpoint is not None:
                one.by_endpoint[endpoint] = read
            else:
                one.by_model[model] = read
        cursor.execute(speeds, asked)
        for era, seconds, first, steps, calls in cursor.fetchall():
            found[era].speeds[times[seconds], first] = dict(zip(steps, calls, strict=True))
        models = found[_NOW].dearest_models[:MOST_MODELS]
        cursor.execute(charges, {**asked, "models": models})
        for seconds, model, nanos in cursor.fetchall():
            found[_NOW].charges[times[seconds], model] = nanos
    return found


def any_call(organization_id: int, *, key_ids: Collection[int] | None = None) -> bool:
    """Whether there is a single call, posted or not."""
    keys = None if key_ids is None else list(key_ids)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM billing_usagespan WHERE organization_id = %(id)s"
            "               AND (%(keys)s::bigint[] IS NULL OR key_id = ANY(%(keys)s)))"
            "    OR EXISTS (SELECT FROM generations WHERE organization_id = %(id)s AND posting_id IS NULL"
            "               AND (%(keys)s::bigint[] IS NULL OR key_id = ANY(%(keys)s)))",
            {"id": organization_id, "keys": keys},
        )
        return bool(cursor.fetchone()[0])


def charged(organization_id: int, *, since: datetime, key_ids: Collection[int]) -> dict[int, Nanos]:
    """What keys were charged since the beginning of a day, by key; those without a call are left out."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT key_id, total(nanos) FROM ("
            " SELECT key_id, charge_nanos AS nanos FROM billing_usagespan WHERE organization_id = %(id)s"
            "  AND hours = 24 AND start >= %(since)s AND key_id = ANY(%(keys)s)"
            " UNION ALL SELECT key_id, charge_nanos FROM generations WHERE organization_id = %(id)s"
            "  AND posting_id IS NULL AND id >= uuid7_from(%(since)s) AND key_id = ANY(%(keys)s)"
            ") AS used GROUP BY key_id",
            {"id": organization_id, "since": since, "keys": list(key_ids)},
        )
        return dict(cursor.fetchall())


def near_limit(organization_id: int, key_ids: Collection[int], *, at: datetime) -> list[Near]:
    """The active ones of these keys that have used four fifths of their budget or more, the fullest first."""
    limited = list(
        Key.objects.of(organization_id)
        .filter(pk__in=list(key_ids), state=Key.State.ACTIVE, limit_nanos__gt=0)
        .values_list("pk", "public_id", "name", "limit_nanos", "limit_window")
    )
    by_window = defaultdict(list)
    for pk, *_, kind in limited:
        by_window[kind].append(pk)
    used: dict[int, Nanos] = {}
    for kind, ids in by_window.items():
        used |= charged(organization_id, since=budgets.window(kind, at).starts_at, key_ids=ids)
    found = [
        Near(public_id, name, used[pk], limit, kind, 100 * used[pk] // limit)
        for pk, public_id, name, limit, kind in limited
        if limit and 100 * used.get(pk, 0) >= _NEAR_PERCENT * limit
    ]
    return sorted(found, key=lambda near: (-near.percent, near.name))
