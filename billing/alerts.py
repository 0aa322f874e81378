"""What operators must look at: a row until it is resolved, a log line each time, one e-mail an hour."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import F, Q

from aggregator.lib import clock, jobs
from billing.models import Alert

log = structlog.get_logger(__name__)

_REMIND = timedelta(hours=1)


def raise_alert(kind: str, subject: str, says: str, *, organization_id: int | None = None) -> None:
    """Note it: the first time as a new row, again as one more of the open one. Mail follows by a job."""
    log.error("alert", kind=kind, subject=subject, says=says)
    with transaction.atomic():
        row, is_new = Alert.objects.get_or_create(
            kind=kind,
            subject=subject,
            resolved_at=None,
            defaults={"says": says, "organization_id": organization_id},
        )
        if not is_new:
            Alert.objects.filter(pk=row.pk).update(says=says, count=F("count") + 1, last_at=clock.now())


def resolve(kind: str, subject: str) -> bool:
    """It is well again; whether there was an open one."""
    ended = Alert.objects.filter(kind=kind, subject=subject, resolved_at=None)
    return bool(ended.update(resolved_at=clock.now()))


def last_raised(kind: str, subject: str) -> datetime | None:
    """When the open one was last raised; None while there is none."""
    return (
        Alert.objects.filter(kind=kind, subject=subject, resolved_at=None)
        .values_list("last_at", flat=True)
        .first()
    )


def open_alerts() -> list[Alert]:
    return list(Alert.objects.filter(resolved_at=None).order_by("raised_at"))


def mail_operators() -> int:
    """Tell operators of what is new, and again of what goes on for an hour; how many alerts were told.

    One process at a time, and without a lock on the rows: who raises an alert while mail is slow may hold
    a wallet. Raises OSError or SMTPException when mail is down: then nothing counts as told.
    """
    if not settings.OPERATOR_EMAILS:
        return 0
    with jobs.alone("mail to operators") as mine:
        return _mail_operators() if mine else 0


def _mail_operators() -> int:
    now = clock.now()
    due = list(
        Alert.objects.filter(resolved_at=None)
        .filter(Q(mailed_at=None) | Q(mailed_at__lt=now - _REMIND, last_at__gt=F("mailed_at")))
        .order_by("raised_at")
    )
    if not due:
        return 0
    lines = [f"{row.kind} · {row.subject} · {row.count} times\n{row.says}" for row in due]
    subject = due[0].says if len(due) == 1 else f"{len(due)} alerts, the first: {due[0].says}"
    body = "\n\n".join(lines) + f"\n\n{settings.PUBLIC_URL}/admin/billing/alert/\n"
    send_mail(f"[Fairlead] {subject}"[:200].replace("\n", " "), body, None, settings.OPERATOR_EMAILS)
    Alert.objects.filter(pk__in=[row.pk for row in due]).update(mailed_at=now)
    return len(due)
