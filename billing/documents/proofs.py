"""Every issued document looked at again: its own arithmetic, and that its rows make the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import Any

from django.db import transaction

from billing.core.money import EXACT
from billing.documents import recompute
from billing.models import Document
from billing.reconcile import EXAMPLES, Finding

NAME = "documents_recompute"
SAYS = "every document adds up, and is what its rows make of it, to the byte"
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_HALF_A_NANO = Decimal("0.0000000005")
"""One rounding moves what a call is charged by no more, in dollars."""
_CHUNK = 200


def check(since: datetime | None = None) -> Finding:
    """Those issued since then, or all."""
    with transaction.atomic():
        found = differences(since or _BEGINNING)
        examples = tuple(islice(found, EXAMPLES))
        return Finding(NAME, SAYS, len(examples) + sum(1 for _ in found), examples)


def differences(since: datetime) -> Iterator[str]:
    """A sentence for every document that is wrong."""
    rows = Document.unscoped.filter(issued_at__gte=since).select_related("corrects", "stripe_invoice")
    for document in rows.order_by("issued_at", "pk").iterator(chunk_size=_CHUNK):
        wrong = _arithmetic(document.content) if document.month and document.corrects is None else None
        wrong = f"{document.number}: {wrong}" if wrong else recompute.difference(document)
        if wrong:
            yield wrong


def _arithmetic(said: Mapping[str, Any]) -> str | None:
    """Whether a month's sums are right, by nothing but what the document says."""
    lines = _sum(line["amount"] for line in (*said["usage"], *said["others"]))
    usage = _sum((said["uncharged"], said["rounding"], lines))
    if usage != Decimal(said["usage_total"]):
        return f"its lines come to {usage}, it says {said['usage_total']}"
    if abs(Decimal(said["rounding"])) > EXACT.multiply(_HALF_A_NANO, Decimal(said["requests"])):
        return f"its rounding is {said['rounding']}"
    for line in said["usage"]:
        if _sum((line["base"], line["markup_amount"])) != Decimal(line["amount"]):
            return f"a line of {line['model']} does not add up to {line['amount']}"
    rebate = Decimal(said["rebate"]["amount"] if said["rebate"] else 0)
    fees = _sum(fee["amount"] for fee in said["fees"])
    total = _sum((said["usage_total"], fees, -rebate))
    if total != Decimal(said["total"]):
        return f"its parts come to {total}, it says {said['total']}"
    moved = [row["amount"] for name in ("credits", "refunds", "disputes", "expired") for row in said[name]]
    closing = _sum((said["opening_balance"], -total, *moved))
    if closing != Decimal(said["closing_balance"]):
        return f"its balance comes to {closing}, it says {said['closing_balance']}"
    due = said["due"]
    if due and _sum((total, due["carried"])) != Decimal(due["cents"]).scaleb(-2):
        return f"what is due does not add up to {due['cents']} cents"
    return None


def _sum(amounts: Any) -> Decimal:
    total = Decimal(0)
    for amount in amounts:
        total = EXACT.add(total, Decimal(amount))
    return total
