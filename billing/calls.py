"""The calls of an organization as a list: filtered, in three orders, by cursor; and as lines of a file."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Q, QuerySet

from aggregator.lib import clock, ids, spreadsheets
from aggregator.lib.cursors import Listed, listed
from billing import generation, statements
from billing.models import Generation
from billing.money import Nanos, usd
from billing.statements import Call

STATUSES = (generation.COMPLETED, generation.ABORTED, generation.FAILED, generation.VOID)
SORTS = {"time": "id", "cost": "charge_nanos", "latency": "latency_ms"}
NEWEST = "-time"
MOST_EXPORTED = 50_000
MOST_NEW = 99
_CHUNK = 1_000
_SEARCHED_DAYS = 90
"""Without a time, a search goes back so far."""


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
    """Part of the provider's id of the call, or of the caller's program."""


@dataclass(frozen=True, slots=True)
class Page:
    calls: list[Call]
    listed: Listed[Generation]


def page(
    organization_id: int, wanted: Wanted, asked: Mapping[str, str], *, size: int, keep: Mapping[str, str]
) -> Page:
    """`asked` holds `sort` and `after`, as `cursors.listed` reads them; `keep` the filters in the address."""
    rows = _rows(organization_id, wanted)
    found = listed(rows, asked, sorts=SORTS, default=NEWEST, size=size, keep=keep)
    return Page([statements.call_of(row) for row in found.rows], found)


def count_since(organization_id: int, wanted: Wanted, after: uuid.UUID) -> int:
    """How many of these calls were admitted after that one; more than `MOST_NEW` are not counted."""
    return int(_rows(organization_id, wanted).filter(id__gt=after).order_by()[: MOST_NEW + 1].count())


def export(organization_id: int, wanted: Wanted) -> Iterator[list[str]]:
    """A head and a line for each call, the newest first, at most `MOST_EXPORTED`; a thousand in memory."""
    yield list(_COLUMNS)
    left, before = MOST_EXPORTED, None
    while left > 0:
        rows = _rows(organization_id, wanted).order_by("-id")
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


def _rows(organization_id: int, wanted: Wanted) -> QuerySet[Generation]:
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
    since = wanted.since
    if wanted.search:
        since = since or clock.now() - timedelta(days=_SEARCHED_DAYS)
        rows = rows.filter(Q(upstream_id=wanted.search) | Q(user_agent__icontains=wanted.search))
    if since is not None:
        rows = rows.filter(id__gte=ids.first_uuid7(since))
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
