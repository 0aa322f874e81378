"""What became of a document after it was issued: nothing of this is frozen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Sum

from aggregator.lib import clock
from billing.core.money import Nanos
from billing.models import Document


@dataclass(frozen=True, slots=True)
class Standing:
    status: str
    """Of an invoice `open`, `past_due`, `paid`, `void` or `uncollectible`; of the others `issued`."""
    due_at: datetime | None
    """By when an unpaid invoice is to be paid, as it stands now; its document says what it was at first."""
    paid_at: datetime | None
    pay_url: str
    """Where an open invoice is paid; empty when there is nothing to pay."""
    credited_nanos: Nanos
    """What credit notes gave back of its total."""


def of(document: Document, *, credited: Nanos | None = None) -> Standing:
    """`credited` is what credit notes gave back of it, where that is known already."""
    asked = document.stripe_invoice
    if document.kind == Document.Kind.CREDIT_NOTE:
        credited = 0
    elif credited is None:
        notes = Document.objects.of(document.organization_id).filter(corrects=document)
        credited = int(notes.aggregate(nanos=Sum("total_nanos", default=0))["nanos"])
    if asked is None:
        return Standing("issued", None, None, "", credited)
    if asked.paid_at is not None or asked.state != "open":
        return Standing(asked.state, None, asked.paid_at, "", credited)
    is_late = asked.due_at is not None and asked.due_at <= clock.now()
    return Standing("past_due" if is_late else "open", asked.due_at, None, asked.hosted_url, credited)
