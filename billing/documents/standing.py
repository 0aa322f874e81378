"""What became of a document after it was issued: nothing of this is frozen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from billing.documents import credit_notes
from billing.models import Document
from billing.money import Nanos


@dataclass(frozen=True, slots=True)
class Standing:
    status: str
    """Of an invoice `open`, `paid`, `void` or `uncollectible`; of the others `issued`."""
    paid_at: datetime | None
    pay_url: str
    """Where an open invoice is paid; empty when there is nothing to pay."""
    credited_nanos: Nanos
    """What credit notes gave back of its total."""


def of(document: Document) -> Standing:
    asked = document.stripe_invoice
    credited = 0
    if document.kind != Document.Kind.CREDIT_NOTE:
        credited = max(document.total_nanos, 0) - credit_notes.left_of(document)
    if asked is None:
        return Standing("issued", None, "", credited)
    pay_url = asked.hosted_url if asked.paid_at is None and asked.state == "open" else ""
    return Standing(asked.state, asked.paid_at, pay_url, credited)
