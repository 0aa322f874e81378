"""Our books beside Stripe's: every movement there has its posting here and the other way, to the cent.

What Stripe's balance transactions tell in passing is booked: the fee of each. Payouts to our bank and what
Stripe charges the account as a whole belong to no organization and stay out of the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from django.conf import settings
from django.db import connection

from aggregator.lib import clock
from billing import ledger
from billing.core import chart
from billing.core.money import nanos_of_cents
from billing.models import Refund, StripeInvoice, TopUp
from billing.reconcile import EXAMPLES, Finding
from billing.stripe_client import payments
from billing.stripe_client.payments import Movement

NAME = "stripe_agrees"
SAYS = "every movement at Stripe has its posting, and every posting of Stripe's cash its movement"

_LATE = timedelta(minutes=30)
"""How long the news of a movement may be on its way: a webhook that failed is pulled every 15 minutes."""
_AROUND = timedelta(hours=3)
"""How far the two clocks, and the two moments of one payment, may lie apart."""
_LONG_AGO = timedelta(days=5)
"""So old a movement may be whose news came late at last: more than the nightly pull looks back."""
_PAID = frozenset({"charge", "payment"})
_REFUNDED = frozenset({"refund", "payment_refund"})
_UNREFUNDED = frozenset({"refund_failure", "payment_refund_failure", "payment_failure_refund"})
_DISPUTED = frozenset({"adjustment"})
_OURS_ALONE = frozenset(
    {"payout", "payout_failure", "payout_cancel", "stripe_fee", "stripe_fx_fee", "tax_fee"}
)
_FEES = frozenset({"stripe_fee", "stripe_fee_back"})

_CASH = """
SELECT posting.id, posting.organization_id, -entry.nanos
FROM billing_posting AS posting
JOIN billing_entry AS entry ON entry.posting_id = posting.id
JOIN billing_account AS account ON account.id = entry.account_id
WHERE account.kind = %s AND posting.kind = ANY(%s) AND posting.source_id = ANY(%s)
"""
_CASH_SINCE = """
WITH moved AS MATERIALIZED (
    SELECT id, kind, source_id FROM billing_posting
    WHERE kind <> 'usage' AND kind <> ALL(%s) AND created_at >= %s AND created_at < %s
)
SELECT moved.id, moved.kind || ' ' || moved.source_id
FROM moved
JOIN billing_entry AS entry ON entry.posting_id = moved.id
JOIN billing_account AS account ON account.id = entry.account_id
WHERE account.kind = %s
ORDER BY moved.id
"""


@dataclass(frozen=True, slots=True)
class _Booked:
    posting_id: int
    organization_id: int
    cash_nanos: int
    """Positive when it came in."""


def check(since: datetime) -> Finding:
    """Compare what moved since then, and book the fees. Raises StripeUnreachable, StripeRefused.

    Nothing to compare, and nothing wrong, while no key of Stripe is set.
    """
    if not settings.STRIPE_SECRET_KEY:
        return Finding(NAME, SAYS, 0)
    found = _differences(since)
    examples = tuple(islice(found, EXAMPLES))
    return Finding(NAME, SAYS, len(examples) + sum(1 for _ in found), examples)


def _differences(since: datetime) -> Iterator[str]:
    until = clock.now() - _LATE
    seen: set[int] = set()
    for movement in payments.balance_transactions(since - _AROUND):
        if movement.type in _OURS_ALONE:
            continue
        booked = _posting_of(movement)
        if booked is None:
            if movement.created_at is None or since <= movement.created_at < until:
                yield f"{movement.type} {movement.source} of {movement.amount} cents has no posting"
            continue
        seen.add(booked.posting_id)
        if movement.currency != "usd" or booked.cash_nanos != nanos_of_cents(movement.amount):
            yield (
                f"{movement.type} {movement.source} moved {movement.amount} cents of {movement.currency},"
                f" posting {booked.posting_id} {booked.cash_nanos} nanos"
            )
        _book_fee(movement, booked)
    with connection.cursor() as cursor:
        cursor.execute(_CASH_SINCE, [list(_FEES), since, until, chart.STRIPE_CASH])
        unseen = {posting_id: what for posting_id, what in cursor.fetchall() if posting_id not in seen}
    for posting_id, what in _without_a_movement(unseen, since - _AROUND):
        yield f"posting {posting_id} ({what}) is not in Stripe's books"


def _without_a_movement(unseen: dict[int, str], before: datetime) -> Iterable[tuple[int, str]]:
    """Those of these postings that no earlier movement is of either; most days there is none to look for."""
    if unseen:
        for movement in payments.balance_transactions(before - _LONG_AGO, before):
            booked = None if movement.type in _OURS_ALONE else _posting_of(movement)
            if booked is not None and unseen.pop(booked.posting_id, None) is not None and not unseen:
                break
    return unseen.items()


def _posting_of(movement: Movement) -> _Booked | None:
    """The posting of a movement, by the object of Stripe that both name."""
    source = movement.source
    if movement.type in _PAID:
        return _by_source(("top_up", "subscription", "invoice_paid"), _payments_of(source))
    if movement.type in _REFUNDED or movement.type in _UNREFUNDED:
        named = [str(pk) for pk in Refund.unscoped.filter(stripe_id=source).values_list("pk", flat=True)]
        back = ("refund_failed", "subscription_refund_failed")
        kinds = back if movement.type in _UNREFUNDED else ("refund", "subscription_refund")
        return _by_source(kinds, [source, *named])
    if movement.type in _DISPUTED:
        return _by_source(("dispute",) if movement.amount < 0 else ("dispute_won",), [source])
    return None


def _payments_of(charge_id: str) -> list[str]:
    """The ids under which the payment of a charge is booked: its intent, or the invoice that it pays."""
    found = [
        *TopUp.unscoped.filter(charge_id=charge_id).values_list("payment_intent_id", flat=True),
        *StripeInvoice.unscoped.filter(charge_id=charge_id).values_list("stripe_id", flat=True),
    ]
    if not found:  # the row has not heard of this charge: Stripe knows whose it is
        intent = payments.charge(charge_id).payment_intent
        invoices = StripeInvoice.unscoped.filter(payment_intent_id=intent).values_list("stripe_id", flat=True)
        found = [intent, *invoices]
    return [each for each in found if each]


def _by_source(kinds: tuple[str, ...], sources: list[str]) -> _Booked | None:
    with connection.cursor() as cursor:
        cursor.execute(_CASH, [chart.STRIPE_CASH, list(kinds), sources])
        row = cursor.fetchone()
    return None if row is None else _Booked(*map(int, row))


def _book_fee(movement: Movement, booked: _Booked) -> None:
    """What Stripe kept of it, once for each movement; a fee given back is negative."""
    nanos = nanos_of_cents(movement.fee)
    if nanos:
        ledger.post(
            "stripe_fee" if nanos > 0 else "stripe_fee_back",
            movement.id,
            entries={(chart.STRIPE_FEES, None): -nanos, (chart.STRIPE_CASH, None): nanos},
            organization_id=booked.organization_id,
            source="stripe",
            note=f"{movement.type} {movement.source}",
        )
