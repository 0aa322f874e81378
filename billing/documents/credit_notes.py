"""Credit notes: a document of its own that corrects another, and the credit that it gives.

The first is never touched. Whoever paid by card or pays afterwards gets the money as credit of the wallet,
which burns before what was paid: Stripe goes on asking for what an open invoice asks for.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from decimal import Decimal

from django.db import transaction
from django.db.models import Sum

from accounts import audit
from aggregator.lib import clock, crash, ids
from billing import ledger, reloads
from billing.core import chart
from billing.core.money import EXACT, Nanos, nanos_of_cents, round_nanos, show_usd, usd
from billing.documents import content, issued, numbers
from billing.models import Document

MOST_REASON = 300


def issue(
    number: str, nanos: Nanos, *, reason: str, by: audit.Actor = "operator", once: uuid.UUID | None = None
) -> Document:
    """Correct the document of this number by `nanos`, tax apart; the credit note.

    `once` names the credit note, so that asked again it is the same. Raises `Document.DoesNotExist`, and
    ValueError when it is no such amount, there is no reason, or more than is left of the document's total.
    """
    corrected = Document.unscoped.select_related("organization").get(number=number)
    if corrected.kind == Document.Kind.CREDIT_NOTE:
        raise ValueError(f"{number} is a credit note: correct the document that it corrects")
    if not reason.strip() or len(reason) > MOST_REASON:
        raise ValueError(f"a credit note says why, in at most {MOST_REASON} characters")
    name = once or ids.uuid7()
    with transaction.atomic():
        ledger.lock_wallets({corrected.organization_id})
        found = Document.objects.of(corrected.organization_id).filter(pk=name).first()
        if found is not None:
            return found
        left = left_of(corrected)
        if not 0 < nanos <= left:
            raise ValueError(f"of {number} at most {show_usd(left)} can be credited, and more than nothing")
        document = _write(corrected, name, nanos, reason.strip())
        audit.record(
            corrected.organization,
            "document.credited",
            by=by,
            object=corrected.number,
            detail={"usd": usd(nanos), "reason": reason.strip(), "credit_note": document.number},
        )
        crash.point("before_document_commit")
    crash.point("after_document_commit")
    return document


def left_of(corrected: Document) -> Nanos:
    """What of its total no credit note has given back."""
    given = Document.objects.of(corrected.organization_id).filter(corrects=corrected)
    return max(corrected.total_nanos, 0) - int(given.aggregate(nanos=Sum("total_nanos", default=0))["nanos"])


def _tax(corrected: Document, nanos: Nanos, before: Nanos) -> Nanos:
    """The part of the tax that belongs to `nanos` after `before` went back: in all, never more."""
    whole = max(corrected.total_nanos, nanos_of_cents(corrected.cents or 0))
    return _share(corrected, before + nanos, whole) - _share(corrected, before, whole)


def _share(corrected: Document, nanos: Nanos, whole: Nanos) -> Nanos:
    if not whole or not corrected.tax_cents:
        return 0
    return round_nanos(EXACT.divide(Decimal(nanos * nanos_of_cents(corrected.tax_cents)), Decimal(whole)))


def _write(corrected: Document, name: uuid.UUID, nanos: Nanos, reason: str) -> Document:
    organization = corrected.organization
    tax = _tax(corrected, nanos, max(corrected.total_nanos, 0) - left_of(corrected))
    at = clock.now()
    number = numbers.take(Document.Kind.CREDIT_NOTE, at)
    heading = content.heading(
        organization, Document.Kind.CREDIT_NOTE, Document.Purpose.CORRECTION, number, at
    )
    top = replace(heading, buyer=corrected.content["buyer"], plan=corrected.content["plan"])
    said = content.of_correction(corrected, top, reason=reason, nanos=nanos, tax=tax)
    document = Document.objects.create(
        id=name,
        organization=organization,
        kind=top.kind,
        purpose=top.purpose,
        number=number,
        month=corrected.month,
        corrects=corrected,
        content=said.content,
        total_nanos=said.total,
        issued_at=at,
    )
    ledger.post(
        "credit_note",
        str(name),
        entries=_entries(corrected, nanos, tax),
        organization_id=organization.pk,
        source="document",
        note=f"{number}: {reason}",
    )
    reloads.after_commit(organization.public_id)
    issued.announce(document)
    return document


def _entries(corrected: Document, nanos: Nanos, tax: Nanos) -> ledger.Entries:
    """A plan's fee was revenue and is so no more; what usage cost a provider stays paid: our loss."""
    ours = chart.SUBSCRIPTION_REVENUE if corrected.purpose == Document.Purpose.SUBSCRIPTION else chart.LOSS
    moved: dict[tuple[str, int | None], int] = {
        (chart.WALLET, corrected.organization_id): nanos + tax,
        (chart.TAX, None): -tax,
        (ours, None): -nanos,
    }
    return {account: amount for account, amount in moved.items() if amount}
