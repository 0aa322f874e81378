"""What the webhook did not bring: Stripe's own list of events is read again and again, and compared by id.

Nothing is remembered by time, so a pull that fails, or comes late, misses nothing that the next one sees.
Stripe keeps its list for 30 days.
"""

from __future__ import annotations

from datetime import timedelta

import structlog

from aggregator.lib import clock
from billing import alerts
from billing.models import StripeEvent
from billing.payments import inbox
from billing.stripe_client import events

log = structlog.get_logger(__name__)

LATELY = timedelta(hours=2)
"""Every quarter of an hour."""
LONG = timedelta(days=4)
"""Every night: longer than Stripe goes on trying to deliver."""
_ON_ITS_WAY = timedelta(minutes=5)
"""So old an event should have been brought by the webhook."""


def pull(back: timedelta = LATELY) -> int:
    """Store what is missing of the time since `back` ago; how many events that were.

    Raises StripeUnreachable, StripeRefused.
    """
    now = clock.now()
    found = events.listed(inbox.TYPES, now - back)
    known = set(StripeEvent.objects.filter(pk__in=[each.id for each in found]).values_list("pk", flat=True))
    missing = [each for each in found if each.id not in known]
    overdue = [each for each in missing if each.created_at < now - _ON_ITS_WAY]
    stored = sum(inbox.store(each, inbox.PULL) for each in missing)
    if overdue:
        alerts.raise_alert(
            "stripe_webhook",
            "missing",
            f"The webhook did not bring {len(overdue)} events, such as {overdue[0].type} {overdue[0].id} of "
            f"{overdue[0].created_at:%Y-%m-%d %H:%M} UTC; they were fetched.",
        )
    else:
        alerts.resolve("stripe_webhook", "missing")
    log.info("events pulled", seen=len(found), stored=stored, overdue=len(overdue))
    return stored
