"""What organizations are told of: each event written once, with a delivery to each endpoint that wants it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

from django.conf import settings

from accounts.models import WebhookDelivery, WebhookEndpoint, WebhookEvent
from aggregator.lib import clock, jobs


@dataclass(frozen=True, slots=True)
class Type:
    """A type of event: when it is sent, and what its `data` may hold."""

    says: str
    example: Mapping[str, Any]


TEST: Final = "webhook.test"
_BUDGET: Final = {
    "budget": "bud_7Yc2mQ0aVt4Zx1Lk",
    "kind": "organization",
    "subject": "",
    "window": "month",
    "window_start": "2026-11-01T00:00:00Z",
    "resets_at": "2026-12-01T00:00:00Z",
    "limit": "100",
}
TYPES: Final[Mapping[str, Type]] = MappingProxyType(
    {
        "budget.threshold_reached": Type(
            "A budget’s spending passed one of its thresholds. Where those of many end users do at once, "
            "data.others has more, each of the same fields.",
            {**_BUDGET, "used": "80.25", "left": "19.75", "percent": 80},
        ),
        "budget.exceeded": Type(
            "A budget is used up, or has refused a call because what is left does not cover it. Of many end "
            "users at once, data.others has more, each of the same fields.",
            {**_BUDGET, "used": "99.4", "left": "0.6", "percent": 100},
        ),
        "credit.low": Type("The organization’s credit runs low.", {"balance": "4.98", "threshold": "5"}),
        "invoice.issued": Type(
            "An invoice, a statement or a credit note was issued.",
            {"id": "019ab1f2-5c3d-7e4f-8a9b-0c1d2e3f4a5b", "number": "INV-2026-000012", "kind": "invoice"},
        ),
        TEST: Type("Somebody asked for a test, on the page of webhooks.", {"says": "It works."}),
    }
)
"""Stable for ever; an endpoint may choose among them."""

MOST_BYTES: Final = 64 * 1024
"""Of an event's data, as JSON."""
MOST_KEY: Final = 200
_BATCH: Final = 500

_WANTED: Final = """
SELECT id FROM accounts_webhookendpoint
WHERE organization_id = %s AND off = '' AND (events = '{}' OR %s = ANY (events))
ORDER BY id FOR KEY SHARE
"""
"""Held against being deleted, by nobody else's leave: ordinary changes of the row do not wait."""


def send(organization_id: int, type: str, data: Mapping[str, Any], *, key: str) -> WebhookEvent:
    """Tell the organization's endpoints of an event, once for each `type` and `key`, after the commit.

    Call it in the transaction of what it tells of. `data` is JSON: amounts are text, in dollars. Raises
    ValueError for a type that is not in `TYPES`, and for data that is too long.
    """
    if type not in TYPES:
        raise ValueError(f"no type of event: {type!r}")
    if len(json.dumps(data, allow_nan=False)) > MOST_BYTES:
        raise ValueError(f"the data of {type} {key} is longer than {MOST_BYTES} bytes")
    event, is_new = WebhookEvent.objects.of(organization_id).get_or_create(
        type=type, key=_kept(key), defaults={"organization_id": organization_id, "data": dict(data)}
    )
    if is_new:
        wanted = WebhookEndpoint.unscoped.raw(_WANTED, [organization_id, type])
        deliver_to(event, [endpoint.pk for endpoint in wanted])
    return event


def _kept(key: str) -> str:
    """As the column holds it; a longer one by its digest."""
    return key if len(key) <= MOST_KEY else hashlib.sha256(key.encode()).hexdigest()


def deliver_to(event: WebhookEvent, endpoint_ids: list[int]) -> list[WebhookDelivery]:
    """Have the event delivered to these, of its own organization; the caller holds their rows."""
    owner = event.organization_id
    rows = [WebhookDelivery(organization_id=owner, event=event, endpoint_id=each) for each in endpoint_ids]
    if rows:
        WebhookDelivery.objects.of(owner).bulk_create(rows)
        jobs.enqueue("accounts.deliver_webhooks")
    return rows


def body(event: WebhookEvent) -> bytes:
    """The bytes that are signed and sent: the same at every attempt, as PostgreSQL keeps the data in an order
    of its own."""
    told = {"type": event.type, "timestamp": f"{event.created_at:%Y-%m-%dT%H:%M:%SZ}", "data": event.data}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def delete_aged() -> int:
    """Delete events past their retention, with their deliveries; how many."""
    before, count = clock.now() - timedelta(days=settings.WEBHOOK_DAYS_KEPT), 0
    while True:
        old = WebhookEvent.unscoped.filter(created_at__lt=before).order_by("created_at")
        found = list(old.values_list("pk", flat=True)[:_BATCH])
        WebhookEvent.unscoped.filter(pk__in=found).delete()
        count += len(found)
        if len(found) < _BATCH:
            return count
