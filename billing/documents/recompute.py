"""A closed document put together again from rows: the same bytes, or it is not what its rows say.

Words are as the document has them (names of keys, buyer and seller may have changed since, and a credit
note's reason is its own), and so is the day by which an invoice is to be paid; every figure, price, other
date and total comes from bills, prices, ledger and closes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from billing.documents import content
from billing.documents.content import Differs, Heading, Said
from billing.models import Document, Entry, StripeInvoice

_WORDED = ("subscription", "fees", "credits", "refunds", "disputes", "expired", "tax")


def again(document: Document) -> bytes:
    """Its canonical bytes, from rows. Raises `content.Differs` when the rows do not add up."""
    return content.canonical(_said(document).content)


def difference(document: Document) -> str | None:
    """Where a document is not what its rows make of it; None when it is, to the byte."""
    try:
        said = _said(document)
    except (Differs, StripeInvoice.DoesNotExist, Entry.DoesNotExist) as error:
        return f"{document.number} cannot be put together again: {error}"
    if said.total != document.total_nanos:
        return f"{document.number} has a total of {document.total_nanos} nanos, its rows make {said.total}"
    if content.canonical(said.content) == content.canonical(document.content):
        return None
    names = sorted(said.content.keys() | document.content.keys())
    other = [name for name in names if said.content.get(name) != document.content.get(name)]
    return f"{document.number} says otherwise than its rows: {', '.join(other)}"


def _said(document: Document) -> Said:
    frozen = document.content
    version = frozen.get("version", 1)
    if not 1 <= version <= content.VERSION:
        raise Differs(f"its version is {version}, known are 1 to {content.VERSION}")
    top = Heading(
        kind=document.kind,
        purpose=document.purpose,
        number=document.number,
        issued_at=document.issued_at,
        seller=frozen["seller"],
        buyer=frozen["buyer"],
        plan=frozen["plan"],
        version=version,
    )
    if document.corrects is not None:
        return _correction(document, document.corrects, top)
    asked = document.stripe_invoice
    if document.purpose == Document.Purpose.SUBSCRIPTION:
        if asked is None:
            raise Differs("it names no invoice of Stripe's")
        return content.of_subscription(asked, top)
    if document.month is None:
        raise Differs("it names no month")
    names = {line["key"]: line["key_name"] for line in frozen["usage"]}
    said = content.of_month(document.organization_id, document.month, top, asked=asked, names=names)
    return Said(_in_the_words_of(frozen, said.content), said.total)


def _in_the_words_of(frozen: Mapping[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """What is said beside each amount, as it was said then; where rows are more or fewer, as now. So is by
    when it was to be paid: Stripe may have been told another day since."""
    old = {name: rows for name in _WORDED if len(rows := frozen.get(name, ())) == len(said[name])}
    worded = {
        name: [{**row, "says": then["says"]} for row, then in zip(said[name], rows, strict=True)]
        for name, rows in old.items()
    }
    due = said["due"] and {**said["due"], "due_at": (frozen["due"] or said["due"])["due_at"]}
    return {**said, **worded, "due": due}


def _correction(document: Document, corrected: Document, top: Heading) -> Said:
    """From the posting that gave the money back."""
    entries = Entry.objects.filter(posting__kind="credit_note", posting__source_id=str(document.pk))
    moved = dict(entries.values_list("account__kind", "nanos"))
    tax = -moved.get("tax", 0)
    return content.of_correction(
        corrected,
        top,
        reason=document.content["corrects"]["reason"],
        nanos=moved.get("wallet", 0) - tax,
        tax=tax,
    )
