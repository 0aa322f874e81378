"""`POST /hooks/stripe`: an event is proven, stored once and acknowledged; what comes of it is the inbox's.

Whoever cannot show a signature over these very bytes by a secret of ours, made just now, hears 400 and
leaves no trace but a line in the log. Anything else than 2xx has Stripe send the event again, for three days.
"""

from __future__ import annotations

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from kombu.exceptions import OperationalError as BrokerUnreachable

from aggregator import planes
from billing import alerts
from billing.payments import inbox
from billing.stripe_client import door, events

log = structlog.get_logger(__name__)


@csrf_exempt
@require_POST
def stripe(request: HttpRequest) -> HttpResponse:
    """400 forged or not for us, 413 too large, 503 not stored, 200 stored: now, or before."""
    body = _body(request)
    if body is None:
        return _say(413, "too large")
    try:
        signature = request.headers.get("Stripe-Signature", "")
        event = events.verify(body, signature, settings.STRIPE_WEBHOOK_SECRETS)
    except (events.Forged, events.NotAnEvent) as error:
        log.warning("webhook refused", why=str(error), size=len(body))
        return _say(400, str(error))
    try:
        return _take(event)
    except (OperationalError, InterfaceError) as error:
        log.error("event not stored", event_id=event.id, error=str(error))
        return _say(503, "not stored")


def _take(event: events.EventThere) -> HttpResponse:
    if event.live != door.is_live():
        mode = "live" if event.live else "test"
        return _not_for_us(
            event, "mode", f"The webhook brings events of {mode} mode, our key is of the other."
        )
    if event.account:
        return _not_for_us(
            event, "account", f"The webhook brings events of another account, {event.account}."
        )
    try:
        is_new = inbox.store(event, inbox.WEBHOOK)
    except BrokerUnreachable as error:
        # It is stored; the job that looks for such events finds it.
        log.warning("event stored, its job not enqueued", event_id=event.id, error=str(error))
        return _say(200, "stored")
    return _say(200, "stored" if is_new else "known")


def _not_for_us(event: events.EventThere, what: str, says: str) -> HttpResponse:
    """Signed, so it is a mistake of ours at Stripe and no attack: operators hear of it."""
    alerts.raise_alert("stripe_webhook", what, f"{says} The last one was {event.type} {event.id}.")
    return _say(400, says)


def _body(request: HttpRequest) -> bytes | None:
    """The raw body; None when it is too large, which its length tells before anything is read."""
    declared = request.headers.get("Content-Length", "")
    if declared.isdecimal() and int(declared) > planes.MOST_HOOK_BYTES:
        return None
    body = request.read(planes.MOST_HOOK_BYTES + 1)
    return body if len(body) <= planes.MOST_HOOK_BYTES else None


def _say(status: int, text: str) -> HttpResponse:
    return HttpResponse(f"{text}\n", status=status, content_type="text/plain")
