"""The calls of an organization as a list: filtered, in three orders, by cursor; and as lines of a file."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Q, QuerySet
from django.utils.http import urlencode

from aggregator.lib import clock, cursors, ids, spreadsheets
from aggregator.lib.cursors import Listed
from billing import statements
from billing.core import generation
from billing.core.money import Nanos, usd
from billing.models import Generation
from billing.statements import Call

STATUSES = (generation.COMPLETED, generation.ABORTED, generation.FAILED, generation.VOID)
SORTS = {"time": "id", "cost": "charge_nanos", "latency": "latency_ms"}
NEWEST = "-time"
MOST_EXPORTED = 50_000
MOST_NEW = 99
_CHUNK = 1_000
LOOKED_THROUGH = 20_000
"""Calls that a page goes through for those that fit. Of millions few may, and no index knows them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which calls. What says nothing does not narrow; `key_ids` None is every key, an empty one none."""

    key_ids: Collection[int] | None = None
    model: str = ""
    """As asked for or as served."""
    endpoint: str = ""
    """One endpoint, or a provider."""
    status: str = ""
    error: str = ""
    since: datetime | None = None
    until: datetime | None = None
    """Before it."""
    least_nanos: Nanos = 0
    streamed: bool | None = None
    preference: str = ""
    search: str = ""
    """The provider's id of a call, or part of the caller's program."""

    @property
    def is_narrow(self) -> bool:
        """Whether a call of the time may not fit."""
        return self != Wanted(since=self.since, until=self.until)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a page looked that did not find enough. `further` is the query of the page's own address that
    goes on from there."""

    count: int
    up_to: datetime
    further: str


@dataclass(frozen=True, slots=True)
class Page:
    calls: list[Call]
    listed: Listed[Generation]
    reach: Reach | None
    """None where the page is full, or nothing is left to look through."""


def page(
    organization_id: int, wanted: Wanted, asked: Mapping[str, str], *, size: int, keep: Mapping[str, str]
) -> Page:
    """`asked` holds `sort` and `after`, as `cursors.listed` reads them; `keep` the filters in the address.

    Where not every call fits, it goes through so many of the time and no further: by time from where the
    page begins, in other orders the newest.
    """
    rows, is_found = _rows(organization_id, wanted)
    end = None
    by_time = SORTS.get(asked.get("sort", "").removeprefix("-"), "id") == "id"
    up = asked.get("sort") == "time"
    if wanted.is_narrow and not is_found:
        begins = cursors.start(asked, rows, "id") if by_time else None
        end = _end(organization_id, wanted, begins[1] if begins else None, up=up)
        if end is not None:
            rows = rows.filter(**{"id__lte" if up else "id__gte": end})
    found = cursors.listed(rows, asked, sorts=SORTS, default=NEWEST, size=size, keep=keep)
    reach = None
    if end is not None and not found.more:
        at = ids.uuid7_time(end)
        said = {name: value for name, value in keep.items() if value}
        if found.sort != NEWEST:
            said["sort"] = found.sort
        # By time the list goes on, other orders begin anew with what is older.
        said |= {"after": cursors.cursor(str(end), end)} if by_time else {"to": _until(at, wanted)}
        reach = Reach(LOOKED_THROUGH, at, f"?{urlencode(said)}")
    return Page([statements.call_of(row) for row in found.rows], found, reach)


def count_since(organization_id: int, wanted: Wanted, after: uuid.UUID) -> int:
    """How many of these calls were admitted after that one; more than `MOST_NEW` are not counted."""
    rows = _rows(organization_id, wanted)[0].filter(id__gt=after)
    if wanted.is_narrow and (end := _end(organization_id, wanted, after, up=True)) is not None:
        rows = rows.filter(id__lte=end)
    return int(rows.order_by()[: MOST_NEW + 1].count())


def _end(organization_id: int, wanted: Wanted, begins: uuid.UUID | None, *, up: bool) -> uuid.UUID | None:
    """The last of the calls that are gone through, backwards or upwards; None where no other follows it."""
    rows = _within(Generation.objects.of(organization_id), wanted)
    if begins is not None:
        rows = rows.filter(**{"id__gt" if up else "id__lt": begins})
    ordered = rows.order_by("id" if up else "-id").values_list("id", flat=True)
    found = list(ordered[LOOKED_THROUGH - 1 : LOOKED_THROUGH + 1])
    return found[0] if len(found) > 1 else None


def _until(at: datetime, wanted: Wanted) -> str:
    """An address tells times by minutes: the end of this one, or its beginning if it was looked through."""
    minute = at.replace(second=0, microsecond=0)
    following = minute + timedelta(minutes=1)
    ends = minute if wanted.until is not None and wanted.until <= following else following
    return f"{ends:%Y-%m-%dT%H:%M}"


def export(organization_id: int, wanted: Wanted) -> Iterator[list[str]]:
    """A head and a line for each call, the newest first, at most `MOST_EXPORTED`; a thousand in memory."""
    yield list(_COLUMNS)
    left, before = MOST_EXPORTED, None
    while left > 0:
        rows = _rows(organization_id, wanted)[0].order_by("-id")
        if before is not None:
            rows = rows.filter(id__lt=before)
        chunk = [statements.call_of(row) for row in rows[: min(_CHUNK, left)]]
        for call in chunk:
            yield [spreadsheets.cell(cell) for cell in _line(call)]
        if len(chunk) < _CHUNK:
            return
        left, before = left - len(chunk), chunk[-1].id


def names_used(
    organization_id: int, *, days: int, key_ids: Collection[int] | None = None
) -> tuple[list[str], list[str]]:
    """The models and the endpoints that served lately, by name."""
    since = clock.now() - timedelta(days=days)
    keys = None if key_ids is None else list(key_ids)
    table, only = "billing_endpointspan", ""
    if keys is not None:
        table, only = "billing_usagespan", "AND key_id = ANY(%(keys)s)"
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT DISTINCT model, endpoint FROM {table}"  # noqa: S608 - one of two tables
            "  WHERE organization_id = %(id)s AND hours = 24"
            f"   AND start >= date_trunc('day', %(since)s, 'UTC') {only}"
            " UNION SELECT model, endpoint FROM generations"
            f"  WHERE organization_id = %(id)s AND posting_id IS NULL {only}",
            {"id": organization_id, "since": since, "keys": keys},
        )
        rows = cursor.fetchall()
    return sorted({model for model, _ in rows if model}), sorted({place for _, place in rows if place})


def _rows(organization_id: int, wanted: Wanted) -> tuple[QuerySet[Generation], bool]:
    """The calls that fit; whether an index knows them, as it does a provider's id."""
    rows = Generation.objects.of(organization_id).select_related("key")
    if wanted.key_ids is not None:
        rows = rows.filter(key_id__in=wanted.key_ids)
    if wanted.model:
        rows = rows.filter(Q(model=wanted.model) | Q(model_asked=wanted.model))
    if wanted.endpoint:
        named = Q(endpoint=wanted.endpoint)
        rows = rows.filter(named if ":" in wanted.endpoint else Q(endpoint__startswith=f"{wanted.endpoint}:"))
    for column in ("status", "preference"):
        if value := getattr(wanted, column):
            rows = rows.filter(**{column: value})
    if wanted.error:
        rows = rows.filter(error_type=wanted.error)
    if wanted.streamed is not None:
        rows = rows.filter(streamed=wanted.streamed)
    if wanted.least_nanos:
        rows = rows.filter(charge_nanos__gte=wanted.least_nanos)
    rows = _within(rows, wanted)
    if wanted.search:
        exact = rows.filter(upstream_id=wanted.search).exclude(upstream_id="")
        if exact.exists():
            return exact, True
        rows = rows.filter(user_agent__icontains=wanted.search)
    return rows, False


def _within(rows: QuerySet[Generation], wanted: Wanted) -> QuerySet[Generation]:
    if wanted.since is not None:
        rows = rows.filter(id__gte=ids.first_uuid7(wanted.since))
    if wanted.until is not None:
        rows = rows.filter(id__lt=ids.first_uuid7(wanted.until))
    return rows


_COLUMNS = (
    *("id", "time_utc", "key", "key_name", "status", "error", "model_asked", "model", "endpoint"),
    *("preference", "streamed", "prompt_tokens", "cached_tokens", "cache_write_tokens"),
    *("completion_tokens", "reasoning_tokens", "base_usd", "markup_usd", "charge_usd"),
    *("first_token_ms", "latency_ms", "finish_reason", "upstream_id", "user_agent"),
)


def _line(call: Call) -> list[object]:
    return [
        *(call.public_id, call.admitted_at.isoformat(timespec="milliseconds"), call.key, call.key_name),
        *(call.status, call.error_type, call.model_asked, call.model, call.endpoint),
        *(call.preference, "yes" if call.streamed else "no", call.prompt_tokens, call.cache_read),
        *(call.cache_write, call.completion_tokens, call.reasoning, usd(call.base_nanos)),
        *(usd(call.markup_nanos), usd(call.charge_nanos)),
        *("" if call.ttft_ms is None else call.ttft_ms, call.latency_ms, call.finish_reason),
        *(call.upstream_id, call.user_agent),
    ]
