"""The one place at which the rest of the product hears of a new document."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import structlog
from django.db import transaction

from accounts import webhooks
from aggregator.lib import clock, jobs
from billing import letters
from billing.documents import kept, words
from billing.documents.pdf import Untypeset
from billing.models import BillingProfile, Document

log = structlog.get_logger(__name__)

_LATELY = timedelta(days=7)
_SOON = timedelta(minutes=10)
_BATCH = 200


def announce(document: Document) -> None:
    """Call it in the transaction that issues the document: `tell` is a job after the commit."""
    jobs.enqueue("billing.document_issued", document=str(document.pk))


def tell(document: Document) -> None:
    """Typeset it, write to whom its e-mail goes, and tell the organization's endpoints, once each.

    It may be called twice.
    """
    log.info("document issued", number=document.number, kind=document.kind, purpose=document.purpose)
    with suppress(Untypeset):  # operators hear of it
        kept.as_pdf(document)
    said = document.content
    context = {
        "document": str(document.pk),
        "number": document.number,
        "title": words.TITLES[document.kind],
        "of": words.month_name(said["month"]) if said["month"] else "",
        "total": words.dollars(said["total"]),
        "to_pay": document.purpose == Document.Purpose.POSTPAID,
        "corrects": said["corrects"],
    }
    with transaction.atomic():
        profile = BillingProfile.objects.of(document.organization_id).first()
        is_proven = profile is not None and profile.email_confirmed_at is not None
        to = [profile.email] if profile is not None and profile.email and is_proven else None
        letters.write(document.organization_id, "document_issued", str(document.pk), context=context, to=to)
        event = {name: said[name] for name in ("kind", "number", "month", "total")}
        webhooks.send(
            document.organization_id,
            "invoice.issued",
            {"id": str(document.pk), **event},
            key=str(document.pk),
        )


def tell_waiting() -> int:
    """Tell of those whose job was lost; how many there were."""
    now = clock.now()
    waiting = Document.unscoped.filter(
        emailed_at=None, issued_at__gte=now - _LATELY, issued_at__lt=now - _SOON
    ).order_by("issued_at")
    told = letters.written("document_issued", [str(pk) for pk in waiting.values_list("pk", flat=True)])
    rows = [row for row in waiting.defer("pdf")[: _BATCH + len(told)] if str(row.pk) not in told][:_BATCH]
    for document in rows:
        tell(document)
    return len(rows)
