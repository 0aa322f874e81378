"""Issuing what is due: the document of each closed month, in order, and of each invoice that was paid.

An organization's wallet is locked while one is put together, so its postings and closes stand still; the
document, its number and the word of it are one transaction. A run may be repeated, have company, or die.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from itertools import groupby

import structlog
from django.db import connection, transaction
from django.db.models import Q

from accounts.models import Organization
from aggregator.lib import clock, crash
from billing import alerts, ledger, rebates, stretches
from billing.documents import content, issued, numbers
from billing.documents.content import Differs, Said
from billing.documents.movements import OF_A_MONTH, OURS
from billing.models import AgreedTerms, Document, StripeInvoice
from billing.payments import postpaid

log = structlog.get_logger(__name__)

_UNSENT = (StripeInvoice.State.CREATED, StripeInvoice.State.DRAFT)
_BATCH = 500

_WITHOUT = """
SELECT closed.organization_id, closed.month FROM billing_monthclose AS closed
WHERE closed.month <= %(month)s
  AND NOT EXISTS (SELECT FROM billing_document AS document
                  WHERE document.organization_id = closed.organization_id AND document.month = closed.month
                    AND document.purpose IN ('month', 'postpaid'))
  AND (EXISTS (SELECT FROM billing_billedusage AS billed
               WHERE billed.organization_id = closed.organization_id AND billed.month = closed.month)
       OR EXISTS (SELECT FROM billing_posting AS posting
                  WHERE posting.organization_id = closed.organization_id AND posting.kind <> 'usage'
                    AND posting.kind <> ALL(%(ours)s)
                    AND CASE WHEN posting.kind = ANY(%(of_a_month)s)
                             THEN split_part(posting.source_id, ':', 2)
                             ELSE to_char(posting.created_at AT TIME ZONE 'UTC', 'YYYY-MM')
                        END = to_char(closed.month, 'YYYY-MM')))
ORDER BY closed.organization_id, closed.month
"""


def close_month(month: date) -> int:
    """Close a month and those before it that were missed; how many documents were issued now.

    What cannot be closed or sent yet waits for the next run. Raises `rebates.NotClosable` after the rest.
    """
    reason = None
    try:
        rebates.close_month(month)
        for terms in postpaid.paying_afterwards(month):
            postpaid.write_down(terms, month)
        rebates.close_month(month)  # a fee may be all that the month has
    except rebates.NotClosable as error:
        reason = error
    count = 0
    for organization_id, months in groupby(_without(month), key=lambda found: found[0]):
        for _, each in months:
            document = _tried(organization_id, each)
            if document is None:
                break
            count += 1
    if reason is not None:
        raise reason
    return count


def issue_subscriptions() -> int:
    """An invoice for every period of a plan that was paid; how many were issued now.

    All that wait are tried, so that those which cannot be issued keep no later one from it.
    """
    count, last = 0, None
    while rows := _paid(last):
        count += sum(map(_issue_subscription, rows))
        last = rows[-1]
    return count


def _paid(after: StripeInvoice | None) -> list[StripeInvoice]:
    """Some that have no document, the oldest first."""
    rows = StripeInvoice.unscoped.filter(
        purpose=StripeInvoice.Purpose.SUBSCRIPTION, paid_at__isnull=False, documents=None, cents__gt=0
    )
    if after is not None:
        rows = rows.filter(Q(paid_at__gt=after.paid_at) | Q(paid_at=after.paid_at, pk__gt=after.pk))
    return list(rows.order_by("paid_at", "pk")[:_BATCH])


def _without(month: date) -> list[tuple[int, date]]:
    """(organization, month) of what is closed and has no document, oldest first for each."""
    with connection.cursor() as cursor:
        cursor.execute(
            _WITHOUT, {"month": month.replace(day=1), "ours": list(OURS), "of_a_month": list(OF_A_MONTH)}
        )
        return [(owner, each) for owner, each in cursor.fetchall()]


def _tried(organization_id: int, month: date) -> Document | None:
    """None when it has to wait; what does not add up, operators hear of."""
    organization = Organization.objects.get(pk=organization_id)
    subject = f"{organization.public_id}:{month:%Y-%m}"
    try:
        document = issue_month(organization, month)
    except Differs as error:
        says = f"{month:%Y-%m} of {organization.public_id} has no document: {error}"
        alerts.raise_alert("document_differs", subject, says, organization_id=organization_id)
        return None
    alerts.resolve("document_differs", subject)
    return document


def issue_month(organization: Organization, month: date) -> Document | None:
    """The document of a closed month, issued now or before; None while its invoice is not sent.

    Raises `Differs`.
    """
    terms = stretches.of(organization.pk, month)[-1].terms
    if terms is not None and terms.postpaid:
        postpaid.write_down(terms, month)
    with transaction.atomic():
        ledger.lock_wallets({organization.pk})
        months = Document.objects.of(organization).filter(month=month, corrects=None)
        found = months.first()
        if found is not None:
            return found
        asked = (
            StripeInvoice.objects.of(organization)
            .filter(purpose=StripeInvoice.Purpose.POSTPAID, month=month)
            .first()
        )
        if asked is not None and asked.state in _UNSENT:
            return None
        document = _of_month(organization, month, terms, asked)
        crash.point("before_document_commit")
    crash.point("after_document_commit")
    return document


def _of_month(
    organization: Organization, month: date, terms: AgreedTerms | None, asked: StripeInvoice | None
) -> Document:
    kind, purpose = (
        (Document.Kind.STATEMENT, Document.Purpose.MONTH)
        if asked is None
        else (Document.Kind.INVOICE, Document.Purpose.POSTPAID)
    )
    top = _heading(organization, kind, purpose, "" if terms is None else terms.plan)
    said = content.of_month(organization.pk, month, top, asked=asked)
    return keep(organization, top, said, month=month, asked=asked)


def _issue_subscription(row: StripeInvoice) -> bool:
    with transaction.atomic():
        ledger.lock_wallets({row.organization_id})
        if Document.objects.of(row.organization_id).filter(stripe_invoice=row, corrects=None).exists():
            return False
        plan = "" if row.subscription is None else row.subscription.plan
        top = _heading(row.organization, Document.Kind.INVOICE, Document.Purpose.SUBSCRIPTION, plan)
        try:
            said = content.of_subscription(row, top)
        except Differs as error:
            says = f"{row.stripe_id} has no document: {error}"
            alerts.raise_alert("document_differs", str(row.pk), says, organization_id=row.organization_id)
            return False
        keep(row.organization, top, said, asked=row)
        alerts.resolve("document_differs", str(row.pk))
        crash.point("before_document_commit")
    crash.point("after_document_commit")
    return True


def _heading(organization: Organization, kind: str, purpose: str, plan: str) -> content.Heading:
    return replace(content.heading(organization, kind, purpose, None, clock.now()), plan=plan)


def keep(
    organization: Organization,
    top: content.Heading,
    said: Said,
    *,
    month: date | None = None,
    asked: StripeInvoice | None = None,
) -> Document:
    """Give it its number and write it down, in the transaction of who calls."""
    number = numbers.take(top.kind, top.issued_at)
    document = Document.objects.create(
        organization=organization,
        kind=top.kind,
        purpose=top.purpose,
        number=number,
        month=month,
        stripe_invoice=asked,
        content={**said.content, "number": number},
        total_nanos=said.total,
        cents=None if asked is None else asked.cents,
        tax_cents=0 if asked is None else asked.tax_cents,
        issued_at=top.issued_at,
    )
    issued.announce(document)
    return document
