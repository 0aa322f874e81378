"""The letter that says an endpoint was switched off, to those who look after billing."""

from __future__ import annotations

from smtplib import SMTPException

import structlog
from django.conf import settings
from django.core.mail import send_mail
from django.template.loader import render_to_string

from accounts import members, roles
from accounts.models import WebhookEndpoint
from aggregator.lib import jobs

log = structlog.get_logger(__name__)

_MOST = 100


def send_waiting() -> int:
    """Send the letters that wait; how many were sent. What mail does not take now waits on."""
    rows = WebhookEndpoint.unscoped.filter(letter_waits=True).order_by("pk")
    return sum(_send(pk) for pk in rows.values_list("pk", flat=True)[:_MOST])


def _send(endpoint_id: int) -> bool:
    """No transaction is open while mail is slow."""
    with jobs.alone(f"webhook letter {endpoint_id}") as mine:
        rows = WebhookEndpoint.unscoped.select_related("organization")
        endpoint = rows.filter(pk=endpoint_id, letter_waits=True).first() if mine else None
        if endpoint is None:
            return False
        context = {
            "endpoint": endpoint,
            "organization": " ".join(endpoint.organization.name.split()),
            "gone": endpoint.off == WebhookEndpoint.Off.GONE,
            "url": f"{settings.PUBLIC_URL}/settings/webhooks/{endpoint.public_id}",
        }
        subject, _, text = render_to_string("emails/webhook_off.txt", context).strip().partition("\n")
        readers = members.who_may(endpoint.organization_id, roles.BILLING)
        try:
            send_mail(subject.strip(), text.strip() + "\n", None, readers)
        except (OSError, SMTPException) as error:
            log.error("letter not sent", webhook=endpoint.public_id, error=type(error).__name__)
            return False
        WebhookEndpoint.unscoped.filter(pk=endpoint_id).update(letter_waits=False)
    return True
