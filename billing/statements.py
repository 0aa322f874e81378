"""What an organization may read about its money: balance, credit, usage, calls. Frozen values only.

Usage is roll-ups plus what is not posted yet, read in one statement, so nothing is missing or twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Q

from aggregator.lib import clock, ids
from aggregator.lib.errors import Refusal
from billing import months
from billing.core import generation
from billing.core.money import Nanos
from billing.models import DroppedMonth, Generation

MOST_LINES = 200
MOST_COUNTED = 10_000
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Balance:
    """`nanos` is what is left once everything delivered is charged; the gate holds running calls besides."""

    posted_nanos: Nanos
    unposted_nanos: Nanos

    @property
    def nanos(self) -> Nanos:
        return self.posted_nanos - self.unposted_nanos


@dataclass(frozen=True, slots=True)
class Credits:
    """Everything ever put into the wallet, and everything ever charged."""

    granted_nanos: Nanos
    used_nanos: Nanos

    @property
    def left_nanos(self) -> Nanos:
        return self.granted_nanos - self.used_nanos


@dataclass(frozen=True, slots=True)
class UsageLine:
    """Totals of one day, model, endpoint or key. `charge_nanos` is the provider's base plus the mark-up."""

    name: str
    """`2026-11-22`, `author/slug`, `provider:author/slug` or the key's public id."""
    requests: int
    input_tokens: int
    """All prompt tokens, cached ones included."""
    output_tokens: int
    """All completion tokens, reasoning included."""
    base_nanos: Nanos
    charge_nanos: Nanos

    @property
    def markup_nanos(self) -> Nanos:
        return self.charge_nanos - self.base_nanos


@dataclass(frozen=True, slots=True)
class Call:
    """One generation, as the activity page, its detail and `GET /generation` show it."""

    id: uuid.UUID
    key: str
    """The key's public id."""
    key_name: str
    status: str
    model_asked: str
    model: str
    endpoint: str
    preference: str
    streamed: bool
    finish_reason: str
    native_finish_reason: str
    estimated: bool
    input: int
    cache_read: int
    cache_write: int
    output: int
    reasoning: int
    image: int
    audio: int
    image_output: int
    audio_output: int
    price_id: int | None
    price_window: int
    price_tier: int
    markup: Decimal
    parts: tuple[tuple[str, int, Decimal], ...]
    """(kind, units, exact nanos)."""
    base_nanos: Nanos
    charge_nanos: Nanos
    ttft_ms: int | None
    latency_ms: int
    error_type: str
    upstream_id: str
    user_agent: str
    posted: bool
    ended_at: datetime
    decision: dict[str, Any] = field(default_factory=dict)

    @property
    def public_id(self) -> str:
        return f"gen-{self.id.hex}"

    @property
    def admitted_at(self) -> datetime:
        return ids.uuid7_time(self.id)

    @property
    def markup_nanos(self) -> Nanos:
        return self.charge_nanos - self.base_nanos

    @property
    def prompt_tokens(self) -> int:
        return self.input + self.cache_read + self.cache_write + self.image + self.audio

    @property
    def completion_tokens(self) -> int:
        return self.output + self.reasoning + self.image_output + self.audio_output


def balance(organization_id: int) -> Balance:
    """What is left in the wallet; zero when none was opened."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce((SELECT balance_nanos FROM billing_wallet WHERE organization_id = %(id)s), 0),"
            " coalesce((SELECT sum(charge_nanos) FROM generations"
            "           WHERE organization_id = %(id)s AND posting_id IS NULL), 0)::bigint",
            {"id": organization_id},
        )
        return Balance(*cursor.fetchone())


def credits(organization_id: int) -> Credits:
    """For `GET /credits`: what was granted is the balance plus all that was charged and posted."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce((SELECT balance_nanos FROM billing_wallet WHERE organization_id = %(id)s), 0),"
            " coalesce((SELECT sum(charge_nanos) FROM billing_endpointspan"
            "           WHERE organization_id = %(id)s AND hours = 720), 0)::bigint,"
            " coalesce((SELECT sum(charge_nanos) FROM generations"
            "           WHERE organization_id = %(id)s AND posting_id IS NULL), 0)::bigint",
            {"id": organization_id},
        )
        posted, used, unposted = cursor.fetchone()
    return Credits(posted + used, used + unposted)


_NAMES = {
    "day": "to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    "model": "model",
    "endpoint": "endpoint",
    "key": "(SELECT public_id FROM accounts_key WHERE accounts_key.id = key_id)",
}

_USAGE = """
WITH used AS (
    SELECT key_id, model, endpoint, start AS hour, requests, prompt, completion, base_nanos, charge_nanos
    FROM billing_usagespan
    WHERE organization_id = %(organization)s AND hours = 1 AND start >= %(since)s AND start < %(until)s
    UNION ALL
    SELECT key_id, model, endpoint, uuid7_time(id), 1,
           input + cache_read + cache_write_5m + cache_write_1h + image + audio,
           output + reasoning + image_output + audio_output, base_nanos, charge_nanos
    FROM generations
    WHERE organization_id = %(organization)s AND posting_id IS NULL
      AND id >= uuid7_from(%(since)s) AND id < uuid7_from(%(until)s)
)
SELECT {name} AS name, sum(requests)::bigint, sum(prompt)::bigint, sum(completion)::bigint,
       sum(base_nanos)::bigint, sum(charge_nanos)::bigint
FROM used WHERE %(keys)s::bigint[] IS NULL OR key_id = ANY(%(keys)s)
GROUP BY 1 ORDER BY {order}
"""


def usage(
    organization_id: int,
    *,
    by: str = "day",
    since: datetime = _BEGINNING,
    until: datetime | None = None,
    key_id: int | None = None,
    key_ids: Collection[int] | None = None,
) -> list[UsageLine]:
    """Totals from `since` to before `until`, both whole hours: days in order, else the dearest first.

    Of one key, of some (`key_ids`, none of which is nothing), or of all.
    """
    keys = key_ids if key_id is None else [key_id]
    order = "1" if by == "day" else "6 DESC, 1"
    with connection.cursor() as cursor:
        cursor.execute(
            _USAGE.format(name=_NAMES[by], order=order),
            {
                "organization": organization_id,
                "since": since,
                "until": until or clock.now() + timedelta(days=1),
                "keys": None if keys is None else list(keys),
            },
        )
        return [UsageLine(name or "", *totals) for name, *totals in cursor.fetchall()]


def calls(
    organization_id: int,
    *,
    limit: int = 50,
    before: uuid.UUID | None = None,
    key_id: int | None = None,
    key_ids: Collection[int] | None = None,
    model: str = "",
    status: str = "",
) -> Sequence[Call]:
    """The latest calls, newest first; go on with `before=calls[-1].id`. `model` as asked for or as served."""
    rows = Generation.objects.of(organization_id).select_related("key").order_by("-id")
    if before is not None:
        rows = rows.filter(id__lt=before)
    if key_id is not None:
        rows = rows.filter(key_id=key_id)
    if key_ids is not None:
        rows = rows.filter(key_id__in=key_ids)
    if model:
        rows = rows.filter(Q(model=model) | Q(model_asked=model))
    if status:
        rows = rows.filter(status=status)
    return [call_of(row) for row in rows[: min(limit, MOST_LINES)]]


def outcomes(
    organization_id: int, *, since: datetime, key_ids: Collection[int] | None = None
) -> dict[str, int]:
    """How the calls since then ended, by status; of very many, the latest."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT status, count(*) FROM (SELECT status FROM generations"
            " WHERE organization_id = %s AND id >= uuid7_from(%s)"
            " AND (%s::bigint[] IS NULL OR key_id = ANY(%s)) ORDER BY id DESC LIMIT %s) latest GROUP BY 1",
            [organization_id, since, *2 * [None if key_ids is None else list(key_ids)], MOST_COUNTED],
        )
        return dict(cursor.fetchall())


def find_call(organization_id: int, generation_id: uuid.UUID) -> Call | None:
    """One call of this organization, or None: another organization's is as absent as none."""
    row = Generation.objects.of(organization_id).select_related("key").filter(id=generation_id).first()
    return None if row is None else call_of(row)


def wanted(public_id: str) -> uuid.UUID:
    """The id of a call from the text of a request. Raises Refusal 400."""
    found = generation.parse_public_id(public_id)
    if found is None:
        raise Refusal("invalid_request", "`id` must be a generation id, `gen-…`.", param="id")
    return found


def refuse_not_kept(generation_id: uuid.UUID) -> None:
    """Say of an id that was not found when calls of its month are not kept any more, whosever they were.

    Raises Refusal `generation_not_kept`.
    """
    month = ids.uuid7_time(generation_id).date().replace(day=1)
    if not DroppedMonth.objects.filter(month=month).exists():
        return
    horizon = months.horizon()
    raise Refusal(
        "generation_not_kept",
        f"Calls of {month:%B %Y} are not kept any more. What they came to stays in usage and documents.",
        status=410,
        metadata={"month": f"{month:%Y-%m}", "kept_since": None if horizon is None else f"{horizon:%Y-%m}"},
    )


def call_of(row: Generation) -> Call:
    """A row with its key as the pages show it."""
    return Call(
        id=row.id,
        key=row.key.public_id,
        key_name=row.key.name,
        cache_write=row.cache_write_5m + row.cache_write_1h,
        parts=tuple((kind, units, Decimal(nanos)) for kind, units, nanos in row.parts),
        posted=row.posting_id is not None,
        **{name: getattr(row, name) for name in _AS_STORED},
    )


_AS_STORED = tuple(
    name
    for name in Call.__dataclass_fields__
    if name not in ("id", "key", "key_name", "cache_write", "parts", "posted")
)
