"""Endpoints of an organization: added, changed, switched off and on, given new secrets, deleted.

Every change holds the endpoint's row and stands in the audit log. A URL may hold a secret of the
receiver's, so the log has its host alone.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet

from accounts import audit
from accounts.core import limits
from accounts.models import (
    AuditEntry,
    Organization,
    User,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEvent,
    WebhookSecret,
)
from accounts.webhooks import events, signing
from aggregator.lib import clock, egress, ids, jobs
from aggregator.lib.errors import Refusal

MOST: Final = 10
"""Endpoints of an organization."""
OVERLAPS: Final = {0: "at once", 1: "after 1 hour", 24: "after 24 hours", 24 * 7: "after 7 days"}
"""How long the older secret signs beside the new one: hours → words."""
_BY_HAND: Final = ("webhook.tested", "webhook.sent_again")


def add(
    organization: Organization, *, name: str, url: str, wanted: Collection[str], by: User
) -> tuple[WebhookEndpoint, str]:
    """A new endpoint and its secret, which is never shown again. Raises Refusal."""
    _require_keys()
    said = _checked(name=name, url=url, wanted=wanted)
    with transaction.atomic():
        Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
        if WebhookEndpoint.objects.of(organization).count() >= MOST:
            raise Refusal("too_many_webhooks", f"An organization has at most {MOST} webhooks.", status=409)
        row = WebhookEndpoint(organization=organization, public_id=f"whk_{ids.base62(20)}", created_by=by)
        _set(row, said)
        row.save(force_insert=True)
        text = signing.add_secret(row)
        _record(row, "webhook.added", by, host=_host(row.url), events=row.events)
    return row, text


def change(endpoint: WebhookEndpoint, *, name: str, url: str, wanted: Collection[str], by: User) -> None:
    """Raises Refusal. What waits is sent to the new URL."""
    said = _checked(name=name, url=url, wanted=wanted)
    with transaction.atomic():
        held = _held(endpoint)
        told: dict[str, Any] = {}
        if held.url != said["url"]:
            told["url"] = "changed"
            told["host"] = [_host(held.url), _host(said["url"])]
        for field in ("name", "events"):
            if getattr(held, field) != said[field]:
                told[field] = said[field]
        _set(held, said)
        held.save(update_fields=list(said))
        if told:
            _record(held, "webhook.changed", by, **told)


def rotate(endpoint: WebhookEndpoint, *, overlap: timedelta, by: User) -> str:
    """A new secret, beside which the one before it signs until `overlap` is over; older ones end now.

    Returns its text, which is never shown again.
    """
    if not timedelta(0) <= overlap <= timedelta(hours=max(OVERLAPS)):
        raise Refusal("invalid_overlap", "The overlap lies between nothing and seven days.", param="overlap")
    _require_keys()
    now = clock.now()
    with transaction.atomic():
        held = _held(endpoint)
        last = WebhookSecret.objects.filter(endpoint=held).order_by("-pk").first()
        if last is not None:
            WebhookSecret.objects.filter(endpoint=held).exclude(pk=last.pk).delete()
            last.expires_at = min(last.expires_at or now + overlap, now + overlap)
            last.save(update_fields=["expires_at"])
        text = signing.add_secret(held)
        _record(held, "webhook.rotated", by, overlap_seconds=int(overlap.total_seconds()))
    return text


def disable(endpoint: WebhookEndpoint, *, by: User) -> None:
    with transaction.atomic():
        held = _held(endpoint)
        if not held.off:
            switch_off(held, WebhookEndpoint.Off.BY_HAND)
            _record(held, "webhook.disabled", by)


def switch_off(held: WebhookEndpoint, why: str) -> None:
    """Nothing is sent to it from now on, and what waited is given up; the caller holds the row."""
    held.off = why
    held.save(update_fields=["off"])
    waiting = WebhookDelivery.objects.of(held.organization_id).filter(endpoint=held, state="waiting")
    waiting.update(state=WebhookDelivery.State.FAILED, next_try_at=None)


def enable(endpoint: WebhookEndpoint, *, by: User) -> None:
    """Events from now on are sent; those before can be sent by hand."""
    with transaction.atomic():
        held = _held(endpoint)
        if held.off:
            held.off, held.failing_since, held.letter_waits = "", None, False
            held.save(update_fields=["off", "failing_since", "letter_waits"])
            _record(held, "webhook.enabled", by)


def delete(endpoint: WebhookEndpoint, *, by: User) -> None:
    """With its secrets and its deliveries."""
    with transaction.atomic():
        held = _held(endpoint)
        _record(held, "webhook.deleted", by, host=_host(held.url))
        held.delete()


def test(endpoint: WebhookEndpoint, *, by: User) -> WebhookDelivery:
    """Send this endpoint alone an event of a test, whatever it wants. Raises Refusal."""
    with transaction.atomic():
        _refuse_too_many(endpoint.organization_id)
        held = _held_on(endpoint)
        owner = held.organization_id
        event = WebhookEvent.objects.create(
            organization_id=owner,
            type=events.TEST,
            key=f"{held.public_id}:{ids.base62(12)}",
            data={"says": f"It works: this is a test for “{held.name}”.", "webhook": held.public_id},
        )
        _record(held, "webhook.tested", by)
        return events.deliver_to(event, [held.pk])[0]


def send_again(delivery: WebhookDelivery, *, by: User) -> None:
    """Send an event once more, with the id that it had, and as often as a new one. Raises Refusal."""
    with transaction.atomic():
        _refuse_too_many(delivery.organization_id)
        held = _held_on(delivery.endpoint)
        row = WebhookDelivery.objects.of(held.organization_id).select_for_update().get(pk=delivery.pk)
        if row.state == WebhookDelivery.State.WAITING and row.failures == 0:
            raise Refusal("webhook_waits", "It is being sent already. Wait a moment.", status=409)
        row.state, row.failures, row.next_try_at = WebhookDelivery.State.WAITING, 0, clock.now()
        row.save(update_fields=["state", "failures", "next_try_at"])
        _record(held, "webhook.sent_again", by, message=delivery.event.message_id)
        jobs.enqueue("accounts.deliver_webhooks")


def _require_keys() -> None:
    if not signing.available():
        raise Refusal(
            "webhooks_unavailable",
            "The operator has set no WEBHOOK_KEYS: no secret could be kept.",
            status=503,
        )


def _checked(*, name: str, url: str, wanted: Collection[str]) -> dict[str, Any]:
    """The columns that a person fills in. Raises Refusal, at the field that is wrong."""
    name, url = " ".join(name.split()), url.strip()
    if not 0 < len(name) <= limits.MOST_NAME:
        raise _wrong("name", f"A name has 1 to {limits.MOST_NAME} characters.")
    try:
        egress.door().read(url)
    except egress.Refused as error:
        raise _wrong("url", f"This URL cannot be called: {error}.") from error
    unknown = set(wanted) - set(events.TYPES)
    if unknown:
        raise _wrong("events", "There is no such type of event.")
    return {"name": name, "url": url, "events": sorted(set(wanted))}


def _set(row: WebhookEndpoint, said: dict[str, Any]) -> None:
    for field, value in said.items():
        setattr(row, field, value)


def _held(endpoint: WebhookEndpoint) -> WebhookEndpoint:
    """The row as it stands now, held. Raises Refusal 404 when somebody has deleted it meanwhile."""
    rows: QuerySet[WebhookEndpoint] = WebhookEndpoint.objects.of(endpoint.organization_id)
    row = rows.select_for_update(no_key=True).filter(pk=endpoint.pk).first()
    if row is None:
        raise Refusal("unknown_webhook", "This webhook does not exist any more.", status=404)
    return row


def _held_on(endpoint: WebhookEndpoint) -> WebhookEndpoint:
    held = _held(endpoint)
    if held.off:
        raise Refusal("webhook_off", "This webhook is off. Enable it first.", status=409)
    return held


def _refuse_too_many(organization_id: int) -> None:
    """The organization's row is held, so the count is the truth."""
    Organization.objects.select_for_update(no_key=True).get(pk=organization_id)
    most, since = settings.WEBHOOKS_BY_HAND_PER_HOUR, clock.now() - timedelta(hours=1)
    lately = AuditEntry.objects.of(organization_id).filter(Q(at__gt=since), verb__in=_BY_HAND)
    if lately.count() >= most:
        raise Refusal(
            "too_many_webhooks_by_hand",
            f"At most {most} messages are sent by hand in an hour. Wait a while.",
            status=429,
            retry_after=60,
        )


def _record(row: WebhookEndpoint, verb: str, by: User, **detail: Any) -> None:
    audit.record(row.organization_id, verb, by=by, object=row.public_id, detail={"name": row.name, **detail})


def _host(url: str) -> str:
    """The host of a URL that was read before, whatever is allowed today."""
    return url.partition("://")[2].partition("/")[0].partition("?")[0]


def _wrong(field: str, message: str) -> Refusal:
    return Refusal("invalid_webhook", message, param=field)
