"""The letter that says an endpoint was switched off, to those who look after billing."""

from __future__ import annotations

from smtplib import SMTPDataError, SMTPException, SMTPRecipientsRefused

import structlog
from django.conf import settings
from django.core.mail import send_mail
from django.template.loader import render_to_string

from accounts import members
from accounts.core import roles
from accounts.models import WebhookEndpoint
from aggregator.lib import jobs

log = structlog.get_logger(__name__)

_MOST = 100


def send_waiting() -> int:
    """Send the letters that wait; how many were sent. While mail is away they wait on."""
    sent = 0
    with jobs.alone("webhook letters") as mine:
        rows = WebhookEndpoint.unscoped.filter(letter_waits=True).select_related("organization")
        for endpoint in rows.order_by("pk")[:_MOST] if mine else ():
            try:
                _send(endpoint)
            except (SMTPRecipientsRefused, SMTPDataError) as error:
                log.warning("letter refused", webhook=endpoint.public_id, why=type(error).__name__)
            except (OSError, SMTPException) as error:
                log.error("letter not sent", webhook=endpoint.public_id, why=type(error).__name__)
                break
            else:
                sent += 1
            WebhookEndpoint.unscoped.filter(pk=endpoint.pk).update(letter_waits=False)
    return sent


def _send(endpoint: WebhookEndpoint) -> None:
    """No transaction is open while mail is slow."""
    context = {
        "endpoint": endpoint,
        "organization": " ".join(endpoint.organization.name.split()),
        "gone": endpoint.off == WebhookEndpoint.Off.GONE,
        "url": f"{settings.PUBLIC_URL}/settings/webhooks/{endpoint.public_id}",
    }
    subject, _, text = render_to_string("emails/webhook_off.txt", context).strip().partition("\n")
    readers = members.who_may(endpoint.organization_id, roles.BILLING)
    send_mail(subject.strip(), text.strip() + "\n", None, readers)
