"""E-mail to the people of an organization: written down with what it tells of, sent after the commit.

A letter is one row for each kind and subject, so telling twice sends once. Its text is
`templates/emails/<kind>.txt`; the first line is the e-mail's subject.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from smtplib import SMTPDataError, SMTPRecipientsRefused
from typing import Any

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.template.loader import render_to_string

from accounts import members
from accounts.core import roles
from accounts.models import Organization
from aggregator.lib import clock, jobs
from billing.models import Document, Letter

log = structlog.get_logger(__name__)

_GIVEN_UP_AFTER = timedelta(days=14)


def write(
    organization_id: int,
    kind: str,
    subject_id: str,
    *,
    context: Mapping[str, Any],
    also: Sequence[str] = (),
    to: Sequence[str] | None = None,
) -> None:
    """Tell those who look after billing, or `to`, and `also` these addresses.

    `context` is JSON; the template also has `organization`, `url`. The PDF of the document whose id is its
    `document` goes with it.
    """
    addresses = list(dict.fromkeys([*(readers(organization_id) if to is None else to), *also]))
    new = {"organization_id": organization_id, "to": addresses, "context": dict(context)}
    letter, is_new = Letter.unscoped.get_or_create(kind=kind, subject_id=subject_id, defaults=new)
    if is_new:
        jobs.enqueue("billing.send_letter", letter=str(letter.pk))


def written(kind: str, subject_ids: Sequence[str]) -> frozenset[str]:
    """Those of these subjects that somebody was written to about, sent or not yet."""
    rows = Letter.unscoped.filter(kind=kind, subject_id__in=subject_ids)
    return frozenset(rows.values_list("subject_id", flat=True))


def send(letter_id: str) -> bool:
    """Send one that was not sent; whether it was. Raises OSError or SMTPException when mail is down.

    No transaction is open while mail is slow: PostgreSQL would end it, and the letter be sent again.
    """
    with jobs.alone(f"letter {letter_id}") as mine:
        letter = Letter.unscoped.filter(pk=letter_id, sent_at=None).first() if mine else None
        if letter is None:
            return False
        organization = Organization.objects.get(pk=letter.organization_id)
        text = render_to_string(
            f"emails/{letter.kind}.txt",
            {**letter.context, "organization": organization, "url": f"{settings.PUBLIC_URL}/billing"},
        ).strip()
        subject, _, body = text.partition("\n")
        mail = EmailMessage(subject.strip(), body.strip() + "\n", None, letter.to)
        document = _document(letter)
        if document is not None and document.pdf is not None:
            mail.attach(f"{document.number}.pdf", bytes(document.pdf), "application/pdf")
        mail.send()
        letter.sent_at = clock.now()
        with transaction.atomic():
            letter.save(update_fields=["sent_at"])
            if document is not None:
                sent = Document.objects.of(letter.organization_id).filter(pk=document.pk, emailed_at=None)
                sent.update(emailed_at=letter.sent_at)
    return True


def _document(letter: Letter) -> Document | None:
    """The one that it brings, if it brings one."""
    named = letter.context.get("document")
    if named is None:
        return None
    return Document.objects.of(letter.organization_id).only("number", "pdf").get(pk=named)


def send_waiting() -> int:
    """Send what waits; how many were sent. A letter that no server takes keeps no other from being sent.

    Raises OSError or SMTPException when mail is down.
    """
    sent = 0
    for letter_id in waiting():
        try:
            sent += send(letter_id)
        except (SMTPRecipientsRefused, SMTPDataError) as error:
            log.warning("letter refused", letter=letter_id, why=type(error).__name__)
    return sent


def waiting() -> list[str]:
    """Ids of letters that nobody has sent yet, the oldest first; what no server took for long is given up."""
    rows = Letter.unscoped.filter(sent_at=None, created_at__gt=clock.now() - _GIVEN_UP_AFTER)
    return [str(pk) for pk in rows.order_by("created_at", "pk").values_list("pk", flat=True)[:100]]


def readers(organization_id: int) -> list[str]:
    """The addresses of those who look after billing, the longest member first."""
    return members.who_may(organization_id, roles.BILLING)
