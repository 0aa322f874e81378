"""Thirteen months of calls of twelve organizations, by sets in SQL: for benches and for looking at pages."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

MONTHS = 13
ENDPOINTS, MODELS, END_USERS = 60, 24, 5_000
_CHUNK = timedelta(days=7)
_FILLED = (
    "generations",
    *(
        f"billing_{name}"
        for name in ("usagespan", "endpointspan", "speedspan", "enduserday", "endusermonth", "billedusage")
    ),
)
_UNPOSTED = 0.00001
"""The part of the calls that is not posted yet: of five minutes, as if posting stood still for so long."""
_KEYS = (120, *(10,) * 11)
_SHARES = (60, 12, 8, 5, 4, 3, 2, 2, 1, 1, 1, 1)
"""Of each organization, in per cent."""

STATED = {"input": "2", "cache_read": "0.2", "output": "8"}

# Keys have favourites: of 60 endpoints a key uses the eight from a place of its own on, the first the most.
_MAKE = """
CREATE TEMP TABLE made AS
WITH drawn AS MATERIALIZED (
    SELECT %(since)s + random() * (%(until)s - %(since)s) AS at, random() AS luck, random() AS user_luck,
           100 * random() AS whose, random() * random() AS which,
           20 * (1 + floor(random() * 100))::int AS input,
           20 * (1 + floor(random() * 40))::int AS output,
           floor(8 * random() * random() * random())::int AS favourite
    FROM generate_series(1, %(count)s)
)
SELECT (left(uuid7_from(at)::text, 14) || '7' || right(gen_random_uuid()::text, 21))::uuid AS id, at, luck,
       organization_id, (%(keys)s::bigint[])[first + number] AS key_id, model,
       'provider-' || (place %% 9) || ':' || model AS endpoint,
       CASE WHEN luck < 0.02 THEN 'failed' WHEN luck < 0.05 THEN 'aborted' ELSE 'completed' END AS status,
       input, CASE WHEN luck > 0.7 THEN input * 4 ELSE 0 END AS cache_read, output,
       CASE WHEN user_luck < 0.2 THEN 'user-' || floor(user_luck * 5 * %(end_users)s) ELSE '' END AS end_user,
       (100 + 4000 * luck * luck)::int AS latency_ms,
       CASE WHEN luck > 0.3 THEN (80 + 600 * luck)::int END AS ttft_ms
FROM drawn,
     LATERAL (SELECT owner FROM unnest(%(owners)s::int[]) WITH ORDINALITY AS shares (up_to, owner)
              WHERE whose < up_to ORDER BY owner LIMIT 1) AS owned,
     LATERAL (SELECT (%(organizations)s::bigint[])[owner] AS organization_id,
                     (%(firsts)s::int[])[owner] AS first,
                     1 + floor(which * (%(key_counts)s::int[])[owner])::int AS number) AS numbered,
     LATERAL (SELECT (owner * 31 + number * 7 + favourite)::int %% %(endpoints)s AS place) AS placed,
     LATERAL (SELECT 'maker-' || (place %% 8) || '/model-' || (place %% %(models)s) AS model) AS named;
"""

_SUMS = """
SELECT organization_id, min(id::text), sum(base), sum(charge), sum(lost) FROM priced GROUP BY 1 ORDER BY 1
"""

_PRICED = """
CREATE TEMP TABLE priced AS
SELECT *, CASE WHEN status = 'failed' THEN 0 ELSE cost END AS base,
       CASE WHEN status = 'failed' THEN 0 ELSE cost + cost / 20 END AS charge,
       CASE WHEN status = 'failed' THEN cost ELSE 0 END AS lost
FROM made, LATERAL (SELECT (input * 2000 + cache_read * 200 + output * 8000)::bigint AS cost) AS costed;
"""

_INSERT = """
INSERT INTO generations (id, organization_id, key_id, spool, posting_id, status, model_asked, model,
                         endpoint, preference, streamed, input, cache_read, output, price_id, markup,
                         parts, base_nanos, charge_nanos, loss_nanos, ttft_ms, latency_ms, upstream_id,
                         user_agent, end_user, ended_at)
SELECT id, organization_id, key_id, %(spool)s, posting_id, status, model, model, endpoint, 'balanced',
       ttft_ms IS NOT NULL, input, cache_read, output, %(price)s, 0.05,
       jsonb_build_array(jsonb_build_array('input', input, (input * 2000)::text))
       || CASE WHEN cache_read > 0
               THEN jsonb_build_array(jsonb_build_array('cache_read', cache_read, (cache_read * 200)::text))
               ELSE '[]' END
       || jsonb_build_array(jsonb_build_array('output', output, (output * 8000)::text)),
       base, charge, lost, ttft_ms, latency_ms, 'up-' || left(md5(id::text), 10), 'bench/1', end_user, at
FROM priced LEFT JOIN unnest(%(owners)s::bigint[], %(postings)s::bigint[]) AS posted (owner, posting_id)
     ON owner = organization_id
ORDER BY id;
DROP TABLE made, priced;
"""

_SUMMED = (
    *("requests", "failed", "aborted", "prompt", "cached", "cache_written", "completion", "reasoning"),
    *("base_nanos", "charge_nanos", "loss_nanos", "saved_nanos"),
)
_COLUMNS = ", ".join(_SUMMED)
_ADDED = ", ".join(f"sum({name})" for name in _SUMMED)
_NAMED = ", ".join(f"sum({name}) AS {name}" for name in _SUMMED)

# A month at a time, as posting would have summed it. A cached token costs 1.80 USD a million less than one of
# input, and the mark-up upon that.
_ROLL_UP = f"""
CREATE TEMP TABLE hourly AS
SELECT organization_id, key_id, max(model) AS model, endpoint,
       date_trunc('hour', uuid7_time(id), 'UTC') AS start, count(*) AS requests,
       count(*) FILTER (WHERE status = 'failed') AS failed,
       count(*) FILTER (WHERE status = 'aborted') AS aborted, sum(input + cache_read) AS prompt,
       sum(cache_read) AS cached, 0 AS cache_written, sum(output) AS completion, 0 AS reasoning,
       sum(base_nanos) AS base_nanos, sum(charge_nanos) AS charge_nanos, sum(loss_nanos) AS loss_nanos,
       sum(CASE WHEN charge_nanos > 0 THEN cache_read * 1890 ELSE 0 END) AS saved_nanos
FROM generations WHERE posting_id IS NOT NULL AND id >= uuid7_from(%(since)s) AND id < uuid7_from(%(until)s)
GROUP BY organization_id, key_id, endpoint, date_trunc('hour', uuid7_time(id), 'UTC');

CREATE TEMP TABLE daily AS
SELECT organization_id, key_id, max(model) AS model, endpoint,
       date_trunc('day', start, 'UTC') AS start, {_NAMED}
FROM hourly GROUP BY organization_id, key_id, endpoint, date_trunc('day', start, 'UTC');

CREATE TEMP TABLE spans AS
SELECT 1 AS hours, * FROM hourly
UNION ALL
SELECT 24, * FROM daily
UNION ALL
SELECT 720, organization_id, key_id, max(model), endpoint, date_trunc('month', start, 'UTC'), {_ADDED}
FROM daily GROUP BY organization_id, key_id, endpoint, date_trunc('month', start, 'UTC');

INSERT INTO billing_usagespan (organization_id, key_id, model, endpoint, hours, start, {_COLUMNS})
SELECT organization_id, key_id, model, endpoint, hours, start, {_COLUMNS}
FROM spans ORDER BY organization_id, hours, start;

INSERT INTO billing_endpointspan (organization_id, model, endpoint, hours, start, {_COLUMNS})
SELECT organization_id, max(model), endpoint, hours, start, {_ADDED}
FROM spans GROUP BY organization_id, endpoint, hours, start ORDER BY organization_id, hours, start;

DROP TABLE hourly, daily, spans;

CREATE TEMP TABLE speeds AS
SELECT organization_id, key_id, date_trunc('hour', uuid7_time(id), 'UTC') AS start, first,
       speed_step(milliseconds) AS step, count(*) AS calls
FROM generations, LATERAL (VALUES (true, ttft_ms), (false, latency_ms)) AS times (first, milliseconds)
WHERE posting_id IS NOT NULL AND status = 'completed' AND milliseconds IS NOT NULL
  AND id >= uuid7_from(%(since)s) AND id < uuid7_from(%(until)s)
GROUP BY 1, 2, 3, 4, 5;

INSERT INTO billing_speedspan (organization_id, key_id, hours, start, first, step, calls)
SELECT organization_id, whose, hours, date_trunc(unit, start, 'UTC'), first, step, sum(calls)
FROM speeds, (VALUES (1, 'hour'), (24, 'day')) AS spans (hours, unit),
     LATERAL (VALUES (key_id), (0)) AS keys (whose)
GROUP BY 1, 2, 3, 4, 5, 6
ORDER BY 1, 3, 4;

DROP TABLE speeds;

INSERT INTO billing_enduserday (organization_id, end_user, day, requests, prompt, completion, charge_nanos)
SELECT organization_id, whose, (uuid7_time(id) AT TIME ZONE 'UTC')::date, count(*),
       sum(input + cache_read), sum(output), sum(charge_nanos)
FROM generations, LATERAL (VALUES (end_user), ('')) AS told (whose)
WHERE posting_id IS NOT NULL AND end_user <> ''
  AND id >= uuid7_from(%(since)s) AND id < uuid7_from(%(until)s)
GROUP BY organization_id, whose, (uuid7_time(id) AT TIME ZONE 'UTC')::date;

INSERT INTO billing_endusermonth
    (organization_id, end_user, month, requests, prompt, completion, charge_nanos)
SELECT organization_id, end_user, date_trunc('month', day)::date, sum(requests), sum(prompt), sum(completion),
       sum(charge_nanos)
FROM billing_enduserday
WHERE day >= (%(since)s AT TIME ZONE 'UTC')::date AND day < (%(until)s AT TIME ZONE 'UTC')::date
GROUP BY organization_id, end_user, date_trunc('month', day)::date;

INSERT INTO billing_billedusage
    (organization_id, month, used_in, key_id, model, endpoint, price_id, price_window, price_tier, markup,
     kind, requests, priced_requests, input, cache_read, cache_write_5m, cache_write_1h, image, audio, output,
     reasoning, image_output, audio_output, base_nanos, charge_nanos, loss_nanos)
SELECT organization_id, (%(since)s AT TIME ZONE 'UTC')::date, (%(since)s AT TIME ZONE 'UTC')::date, key_id,
       max(model), endpoint, price_id, 0, 0, markup, kind, count(*), count(*), sum(input), sum(cache_read),
       0, 0, 0, 0, sum(output), 0, 0, 0, sum(base_nanos), sum(charge_nanos), sum(loss_nanos)
FROM generations, LATERAL (SELECT CASE WHEN status = 'failed' THEN 'free' ELSE 'charged' END AS kind) AS told
WHERE posting_id IS NOT NULL AND id >= uuid7_from(%(since)s) AND id < uuid7_from(%(until)s)
GROUP BY organization_id, key_id, endpoint, price_id, markup, kind;
"""  # noqa: S608 - names of columns


def make(generations: int, *, says: Any = print) -> tuple[Any, str]:
    """The organization with most of the calls, and a management key of it."""
    from django.db import connection

    from accounts import keys as verbs
    from accounts.core import roles
    from billing import months
    from tests.billing import books

    now = datetime.now(UTC)
    first = _month(now.date(), 1 - MONTHS)
    organizations = [books.make_organization(f"bench-{n}", usd="900000") for n in range(len(_KEYS))]
    keys = [key.pk for key in _keys(organizations)]
    for number in range(MONTHS):
        months.make(_month(first, number))
    _, management = verbs.create(organizations[0], name="bench", by="bench", scope=roles.MANAGEMENT)
    price = books.make_price("provider-0:maker-0/model-0", STATED)
    common = {
        "organizations": [each.pk for each in organizations],
        "keys": keys,
        "key_counts": list(_KEYS),
        "firsts": [sum(_KEYS[:n]) for n in range(len(_KEYS))],
        "owners": [sum(_SHARES[: n + 1]) for n in range(len(_SHARES))],
        "models": MODELS,
        "endpoints": ENDPOINTS,
        "end_users": END_USERS,
    }
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute("SELECT setseed(0.25)")
        indexes = _drop_indexes(cursor)
        cursor.execute("SET work_mem = '256MB'")
        _fill(cursor, common, generations, price.id, times=(_at(first), now), says=says)
        for number in range(MONTHS):
            month, after = _month(first, number), _month(first, number + 1)
            cursor.execute(_ROLL_UP, {"since": _at(month), "until": _at(after)})
            says(f"summed {month:%Y-%m}")
        cursor.execute("SET maintenance_work_mem = '1GB'")
        for index in indexes:
            cursor.execute(index)
        says("indexes made")
        cursor.execute("VACUUM (ANALYZE)")
        cursor.execute("RESET ALL")
    return organizations[0], management


def _drop_indexes(cursor: Any) -> list[str]:
    """Those that only reading needs: they are made faster of whole tables. What makes them again."""
    cursor.execute(
        "SELECT indexrelid::regclass::text, replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ')"
        " FROM pg_index WHERE NOT indisunique AND indrelid = ANY(%s::regclass[])",
        [list(_FILLED)],
    )
    found = cursor.fetchall()
    for name, _ in found:
        cursor.execute(f"DROP INDEX {name}")
    return [definition for _, definition in found]


def _keys(organizations: list[Any]) -> list[Any]:
    """Those of the first organization are made by twelve members in turn."""
    from accounts.models import User
    from tests.billing import books

    members = [User.objects.create(email=f"member-{n}@bench.example") for n in range(12)]
    found = []
    for each, count in zip(organizations, _KEYS, strict=True):
        for number in range(count):
            key = books.make_key(each, f"key {number}")
            if each is organizations[0]:
                key.created_by = members[number % len(members)]
                key.save(update_fields=["created_by"])
            found.append(key)
    return found


def _fill(
    cursor: Any,
    common: dict[str, Any],
    generations: int,
    price_id: int,
    *,
    times: tuple[datetime, datetime],
    says: Any,
) -> None:
    begins, now = times
    waiting = int(generations * _UNPOSTED)
    done, since = 0, begins
    while since < now:
        until = min(since + _CHUNK, now)
        count = int((generations - waiting) * ((until - begins) / (now - begins))) - done
        _some(cursor, {**common, "count": count, "since": since, "until": until}, price_id, posted=True)
        done, since = done + count, until
        says(f"{done:,} calls up to {until:%Y-%m-%d}")
    recent = {**common, "count": waiting, "since": now - timedelta(minutes=5), "until": now}
    _some(cursor, recent, price_id, posted=False)


def _some(cursor: Any, values: dict[str, Any], price_id: int, *, posted: bool) -> None:
    from billing import ledger
    from billing.core import chart

    """A time of calls, and one posting for each organization."""
    cursor.execute(_MAKE, values)
    cursor.execute(_PRICED)
    owners: list[int] = []
    postings: list[int] = []
    if posted:
        cursor.execute(_SUMS)
        rows = [
            (int(owner), first, int(base), int(charge), int(lost))
            for owner, first, base, charge, lost in cursor.fetchall()
        ]
        drafts = []
        for owner, first, base, charge, lost in rows:
            entries = {
                (chart.WALLET, owner): -charge,
                (chart.PROVIDER_COST, None): base + lost,
                (chart.MARKUP_REVENUE, None): charge - base,
                (chart.LOSS, None): -lost,
            }
            moved = {account: nanos for account, nanos in entries.items() if nanos}
            drafts.append(ledger.Draft("usage", first, moved, owner, "generation"))
        owners, postings = [row[0] for row in rows], ledger.post_all(drafts)
    cursor.execute(
        _INSERT,
        {
            "spool": "00000000-0000-7000-8000-000000000000",
            "price": price_id,
            "owners": owners,
            "postings": postings,
        },
    )


def _at(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _month(day: date, after: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + after, 12)
    return date(year, month + 1, 1)
