"""Documents as they were issued: found again, and as files that are the same for ever."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from django.db.models import BigIntegerField, QuerySet, Sum
from django.db.models.functions import Coalesce

from accounts.models import Organization
from aggregator.lib import clock
from billing import alerts
from billing.documents import content, pdf, rows, standing, usage_lines
from billing.documents.standing import Standing
from billing.models import Document

UNTYPESET: Final = "document_untypeset"
AGAIN: Final = timedelta(minutes=10)
"""What could not be typeset is not tried again before, unless an operator resolves its alert."""


def listed(organization: Organization | int) -> QuerySet[Document]:
    """Those of an organization, without their text and their files, with what was credited of each."""
    return _known(organization).defer("content", "pdf", "corrects__content", "corrects__pdf")


def find(organization: Organization | int, id: uuid.UUID) -> Document | None:
    return _known(organization).defer("pdf", "corrects__content", "corrects__pdf").filter(pk=id).first()


def corrections(document: Document) -> QuerySet[Document]:
    """Its credit notes, the oldest first."""
    return listed(document.organization_id).filter(corrects=document).order_by("issued_at", "pk")


def stands(document: Document) -> Standing:
    """Of a document that `listed` or `find` gave."""
    return standing.of(document, credited=document.given_back)  # type: ignore[attr-defined]


def _known(organization: Organization | int) -> QuerySet[Document]:
    rows = Document.objects.of(organization).select_related("stripe_invoice", "corrects")
    return rows.annotate(
        given_back=Coalesce(Sum("corrections__total_nanos"), 0, output_field=BigIntegerField())
    )


def as_pdf(document: Document) -> bytes:
    """Typeset when it is asked for first, and kept. Raises `pdf.Untypeset`: operators hear of it once, and
    until it is tried again who asks hears it at once."""
    kept = Document.objects.of(document.organization_id).filter(pk=document.pk)
    found = kept.values_list("pdf", flat=True).get()
    if found is None:
        made = _typeset(document)
        if kept.filter(pdf=None).update(pdf=made):
            return made
        found = kept.values_list("pdf", flat=True).get()  # who came first decides
    return bytes(found or b"")


def _typeset(document: Document) -> bytes:
    failed = alerts.last_raised(UNTYPESET, document.number)
    left = AGAIN if failed is None else failed + AGAIN - clock.now()
    if failed is not None and timedelta(0) < left <= AGAIN:
        raise _later(pdf.Untypeset("it failed a moment ago"), left)
    try:
        made = pdf.render(document.content)
    except pdf.Untypeset as error:
        says = f"{document.number} has no PDF: {error}"
        alerts.raise_alert(UNTYPESET, document.number, says, organization_id=document.organization_id)
        raise _later(error, AGAIN) from error.__cause__
    if failed is not None:
        alerts.resolve(UNTYPESET, document.number)
    return made


def _later(error: pdf.Untypeset, after: timedelta) -> pdf.Untypeset:
    error.seconds = max(int(after.total_seconds()), 1)
    return error


def as_csv(document: Document) -> str:
    return rows.write(document.content, lines=_all_lines(document))


def as_json(document: Document) -> bytes:
    return content.canonical(document.content)


def _all_lines(document: Document) -> Iterable[dict[str, Any]] | None:
    """From the bill, where the document lists only the dearest. A key that it does not name has no name: it
    may have another by now, and the file is the same for ever."""
    if not document.content["others"] or document.month is None:
        return None
    names = {line["key"]: line["key_name"] for line in document.content["usage"]}
    owner, month = document.organization_id, document.month
    bill = usage_lines.bill(owner, month, usage_lines.read(owner, month), names=names)
    told = map(bill.said, bill.lines)
    return ({**line, "key_name": names.get(line["key"], "")} for line in told)
