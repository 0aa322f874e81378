"""Events of Stripe: stored once, handled until something came of them, by whoever gets to them first.

An event only says where to look. Its handler fetches the object as it is now and applies that, so events may
come twice, late, in any order, or from the pull instead of the webhook. None is dropped: one that fails is
tried again, ever more seldom, and operators hear of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Q

from aggregator.lib import clock, jobs
from billing import alerts
from billing.models import StripeEvent
from billing.payments import customers, disputes, refunds, subscriptions, top_ups
from billing.stripe_client import events
from billing.stripe_client.door import NotAtStripe, StripeUnreachable

log = structlog.get_logger(__name__)

WEBHOOK = "webhook"
PULL = "pull"
NOT_OURS = "not ours"
_GONE = "not at Stripe"

_LEASE = timedelta(minutes=5)
"""As long as a job may run: whoever took an event has it to himself until then, or until he is done."""
_FIRST_PAUSE = timedelta(seconds=10)
_LONGEST_PAUSE = timedelta(minutes=15)
_PATIENCE = 5
"""After so many tries operators are told."""
_MOST_WAITING = 200


def _of_customer(row: StripeEvent) -> str:
    """A card or its set-up names its customer; a card that was removed only says whose it was."""
    customer = _named(row, "customer")
    return customers.refresh(customer) if customer else "of no customer"


def _of_page(row: StripeEvent) -> str:
    """A payment page is for a subscription or for a top-up; its mode never changes."""
    if _named(row, "mode") == "subscription":
        return subscriptions.refresh_session(row.object_id)
    return top_ups.refresh_session(row.object_id)


_HANDLERS: tuple[tuple[str, Callable[[StripeEvent], str]], ...] = (
    ("checkout.session.", _of_page),
    ("customer.subscription.", lambda row: subscriptions.refresh(row.object_id)),
    ("invoice.", lambda row: subscriptions.refresh_invoice(row.object_id)),
    ("customer.updated", lambda row: customers.refresh(row.object_id)),
    ("customer.deleted", lambda row: customers.refresh(row.object_id)),
    ("payment_method.", _of_customer),
    ("setup_intent.succeeded", _of_customer),
    ("payment_intent.", lambda row: top_ups.refresh_intent(row.object_id)),
    ("charge.dispute.", lambda row: disputes.refresh(row.object_id)),
    ("charge.refund.", lambda row: refunds.refresh(row.object_id)),
    ("charge.refunded", lambda row: refunds.refresh_charge(row.object_id)),
    ("refund.", lambda row: refunds.refresh(row.object_id)),
    ("radar.early_fraud_warning.", lambda row: disputes.warn(row.object_id)),
)
"""What a type begins with → who looks. The first that fits is asked."""

TYPES = (
    "charge.dispute.closed",
    "charge.dispute.created",
    "charge.dispute.funds_reinstated",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.updated",
    "charge.refunded",
    "checkout.session.async_payment_failed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.completed",
    "checkout.session.expired",
    "customer.deleted",
    "customer.subscription.created",
    "customer.subscription.deleted",
    "customer.subscription.updated",
    "customer.updated",
    "invoice.finalized",
    "invoice.marked_uncollectible",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.voided",
    "payment_intent.canceled",
    "payment_intent.payment_failed",
    "payment_intent.succeeded",
    "payment_method.attached",
    "payment_method.automatically_updated",
    "payment_method.detached",
    "payment_method.updated",
    "radar.early_fraud_warning.created",
    "radar.early_fraud_warning.updated",
    "refund.created",
    "refund.failed",
    "refund.updated",
    "setup_intent.succeeded",
)
"""What we ask Stripe to tell us, and ask for ourselves in the pull."""


def handler(event_type: str) -> Callable[[StripeEvent], str] | None:
    """Who looks when an event of this type comes; None when it concerns nothing of ours."""
    return next((looks for begin, looks in _HANDLERS if event_type.startswith(begin)), None)


def store(event: events.EventThere, source: str) -> bool:
    """Keep an event and have it handled after the commit; whether it was new. Repetition changes nothing."""
    ours, now = handler(event.type) is not None, clock.now()
    row, is_new = StripeEvent.objects.get_or_create(
        pk=event.id,
        defaults={
            "type": event.type,
            "object_id": event.object_id,
            "payload": _storable(event.payload),
            "source": source,
            "created_at": event.created_at,
            "received_at": now,
            "handled_at": None if ours else now,
            "outcome": "" if ours else NOT_OURS,
        },
    )
    if row.handled_at is None:
        jobs.enqueue("billing.handle_event", event=row.pk)
    return is_new


def handle(event_id: str) -> bool:
    """Handle an event that waits; False when it was handled, or is put off, or somebody has it.

    When Stripe is away it is put off. Any other error is noted, put off and raised.
    """
    row = _claim(event_id)
    if row is None:
        return False
    looks = handler(row.type)
    try:
        outcome = NOT_OURS if looks is None else looks(row)
    except StripeUnreachable as error:
        _put_off(row, f"Stripe is away: {error}")
        if row.tries >= _PATIENCE:
            alerts.raise_alert("stripe_away", "events", f"Stripe does not answer, so events wait: {error}")
        return False
    except NotAtStripe as error:
        if row.tries < _PATIENCE:
            _put_off(row, f"{_GONE}: {error}")
            return False
        alerts.raise_alert("stripe_event", row.pk, f"Stripe does not know what {row} is about: {error}")
        _done(row, f"{_GONE}: {error}")
        return True
    except Exception as error:
        _put_off(row, f"{type(error).__name__}: {error}")
        if row.tries >= _PATIENCE:
            says = f"{row} was tried {row.tries} times: {type(error).__name__}: {error}"
            alerts.raise_alert("stripe_event", row.pk, says)
        raise
    _done(row, outcome)
    if row.tries > 1:
        alerts.resolve("stripe_event", row.pk)
        alerts.resolve("stripe_away", "events")
    return True


def waiting() -> list[str]:
    """Ids of events whose time has come and that nobody has taken, the oldest first."""
    rows = StripeEvent.objects.filter(handled_at=None, not_before__lte=clock.now())
    return list(rows.order_by("created_at").values_list("pk", flat=True)[:_MOST_WAITING])


def replay(event_ids: Iterable[str]) -> int:
    """Handle these again, whatever came of them before; how many. One that we never got is fetched.

    Raises NotAtStripe for an id that neither we nor Stripe know; then none is replayed.
    """
    wanted = list(dict.fromkeys(event_ids))
    known = set(StripeEvent.objects.filter(pk__in=wanted).values_list("pk", flat=True))
    missing = [events.retrieve(each) for each in wanted if each not in known]
    told = StripeEvent.objects.filter(pk__in=wanted, tries__gte=_PATIENCE)
    with transaction.atomic():
        for event in missing:
            store(event, PULL)
        for pk in told.values_list("pk", flat=True):
            alerts.resolve("stripe_event", pk)  # whoever replays it has seen it; in vain, it is raised anew
        again = {"handled_at": None, "tries": 0, "not_before": clock.now(), "outcome": ""}
        StripeEvent.objects.filter(pk__in=wanted).update(**again)
        for each in wanted:
            jobs.enqueue("billing.handle_event", event=each)
    log.info("events are handled again", events=wanted)
    return len(wanted)


def failed() -> list[str]:
    """Ids of events that were tried in vain, the oldest first."""
    vain = Q(handled_at=None, tries__gt=0) | Q(outcome__startswith=_GONE)
    return list(StripeEvent.objects.filter(vain).order_by("created_at").values_list("pk", flat=True))


def since(moment: datetime) -> list[str]:
    """Ids of all events of Stripe's since then that concern us, the oldest first."""
    rows = StripeEvent.objects.filter(created_at__gte=moment).exclude(outcome=NOT_OURS)
    return list(rows.order_by("created_at").values_list("pk", flat=True))


def _claim(event_id: str) -> StripeEvent | None:
    """Take an event for the time of a lease. The try is counted first: one that kills its worker is seen."""
    now = clock.now()
    with transaction.atomic():
        row = (
            StripeEvent.objects.select_for_update(skip_locked=True)
            .filter(pk=event_id, handled_at=None, not_before__lte=now)
            .first()
        )
        if row is not None:
            row.tries += 1
            row.not_before = now + _LEASE
            row.save(update_fields=["tries", "not_before"])
    return row


def _put_off(row: StripeEvent, why: str) -> None:
    pause = min(_FIRST_PAUSE * 2 ** min(row.tries - 1, 10), _LONGEST_PAUSE)
    StripeEvent.objects.filter(pk=row.pk, handled_at=None).update(
        not_before=clock.now() + pause, outcome=why[:500]
    )
    log.warning("event put off", event_id=row.pk, type=row.type, tries=row.tries, why=why[:500])


def _done(row: StripeEvent, outcome: str) -> None:
    StripeEvent.objects.filter(pk=row.pk).update(handled_at=clock.now(), outcome=outcome[:500])


def _named(row: StripeEvent, field: str) -> str:
    """The id that the object's `field` holds, or held before this event; empty when there is none."""
    data: Mapping[str, Any] = row.payload["data"]
    for told in (data["object"], data.get("previous_attributes") or {}):
        value = told.get(field)
        found = value.get("id") if isinstance(value, dict) else value
        if isinstance(found, str) and found:
            return found
    return ""


def _storable(value: Any) -> Any:
    """JSON without what PostgreSQL cannot keep (NUL, halves of characters) and without keys to payments."""
    if isinstance(value, str):
        return value.replace("\0", "").encode(errors="replace").decode()
    if isinstance(value, Mapping):
        return {_storable(name): _storable(told) for name, told in value.items() if name != "client_secret"}
    if isinstance(value, list):
        return [_storable(inner) for inner in value]
    return value
