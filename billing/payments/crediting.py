"""A payment, as Stripe tells of it, against the top-up of ours that it is for.

Bought credit comes to a wallet here and nowhere else. Status, amount, currency, customer and organization
are compared with our own row; what does not fit moves nothing and is told to operators.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import structlog
from django.db import transaction

from accounts import audit
from accounts.models import Organization
from aggregator.lib import clock
from aggregator.lib.errors import Refusal
from billing import alerts, ledger, letters, reloads
from billing.core import chart
from billing.core.money import nanos_of_cents, show_usd
from billing.models import AutoTopUp, Customer, Posting, Refund, TopUp
from billing.stripe_client.door import StripeRefused, StripeUnreachable
from billing.stripe_client.payments import Intent

log = structlog.get_logger(__name__)
R = TypeVar("R", TopUp, Refund)

WAITING = (TopUp.State.CREATED, TopUp.State.OPEN)
CURRENCY = "usd"


def metadata(organization: Organization, top_up: TopUp) -> dict[str, str]:
    """What everything that we make at Stripe for a top-up carries."""
    return {"organization": organization.public_id, "top_up": str(top_up.pk)}


def named(said: Mapping[str, str]) -> TopUp | None:
    """The top-up that metadata names, if it belongs to the organization that they name with it."""
    top_up_id = as_uuid(said.get("top_up", ""))
    if top_up_id is None:
        return None
    organization = Organization.objects.filter(public_id=said.get("organization", "")).first()
    return None if organization is None else TopUp.objects.of(organization).filter(pk=top_up_id).first()


def as_uuid(text: str) -> uuid.UUID | None:
    """An id of ours out of somebody else's hands; None when it is none."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def of_payment(intent_id: str) -> TopUp | None:
    """The top-up that this payment was credited for. One that was not credited has nothing to give back."""
    paid = TopUp.unscoped.filter(state=TopUp.State.PAID)
    return paid.filter(payment_intent_id=intent_id).first() if intent_id else None


def posting_of(top_up: TopUp) -> int | None:
    """The id of the posting that credited it; None when none did."""
    found = Posting.objects.filter(kind="top_up", source_id=top_up.payment_intent_id or "").first()
    return None if found is None else found.pk


def apply(top_up: TopUp, intent: Intent, *, tax_cents: int | None = None) -> str:
    """Bring our row to the state of this payment, once; words for whoever asked.

    `tax_cents` is what Stripe put on top of the credit; None: what the row itself says. A paid top-up
    stays paid whatever comes after.
    """
    with transaction.atomic():
        row = TopUp.objects.of(top_up.organization_id).select_for_update().get(pk=top_up.pk)
        if row.state == TopUp.State.PAID:
            return _of_a_paid_one(row, intent)
        if intent.status == "succeeded":
            return _paid(row, intent, row.tax_cents if tax_cents is None else tax_cents)
        if row.state not in WAITING:
            return f"top-up stays {row.state}"
        if intent.status == "canceled":
            end(row, TopUp.State.EXPIRED, "canceled", "The payment was canceled.")
            return "canceled"
        _note_payment(row, intent)
        if intent.status == "requires_payment_method" and intent.failure_code:
            if row.kind == TopUp.Kind.AUTO:
                fail(row, intent.failure_code, intent.failure_message)
                return f"declined: {intent.failure_code}"
            # On the payment page another card may be tried.
            row.failure_code, row.failure_message = intent.failure_code, intent.failure_message
            row.save(update_fields=["failure_code", "failure_message"])
            return f"declined for now: {intent.failure_code}"
        return f"payment {intent.status}"


def one_by_one(rows: Sequence[R], settle: Callable[[R], object]) -> int:
    """Settle each of these; how many there were. One that cannot be settled keeps no other from it."""
    for row in rows:
        try:
            settle(row)
        except StripeUnreachable as error:
            log.warning("Stripe is away; the rest waits", error=str(error))
            break
        except (StripeRefused, Refusal) as error:
            log.error("not settled", row=str(row), error=str(error))
    return len(rows)


def end(row: TopUp, state: TopUp.State, code: str = "", message: str = "") -> None:
    """No money came. The caller holds the row's lock."""
    row.state, row.ended_at = state, clock.now()
    row.failure_code, row.failure_message = code or row.failure_code, message or row.failure_message
    row.save(update_fields=["state", "ended_at", "failure_code", "failure_message"])


def fail(row: TopUp, code: str, message: str) -> None:
    """The card was refused. An automatic top-up pauses with it, and tells the customer what to do.

    The caller holds the row's lock.
    """
    end(row, TopUp.State.FAILED, code, message)
    audit.record(
        row.organization_id, "top_up.failed", by="stripe", object=f"top_up:{row.pk}", detail={"code": code}
    )
    if row.kind == TopUp.Kind.AUTO:
        pause(row.organization_id, code)
        letters.write(
            row.organization_id,
            "auto_top_up_failed",
            str(row.pk),
            context={"amount": show_usd(nanos_of_cents(row.cents)), "code": code, "message": message},
        )


def pause(organization_id: int, because: str) -> None:
    """No more charges by themselves until somebody resumes them."""
    setting = AutoTopUp.objects.of(organization_id).filter(paused_at=None)
    if setting.update(paused_at=clock.now(), paused_because=because):
        audit.record(
            organization_id, "auto_top_up.paused", by=None, object="auto_top_up", detail={"because": because}
        )


def refuse(top_up: TopUp | None, intent_id: str, says: str) -> str:
    """Nothing moves; operators are told."""
    alerts.raise_alert(
        "payment",
        intent_id,
        f"Payment {intent_id}: {says}. Nothing was credited; look at it in Stripe's dashboard.",
        organization_id=None if top_up is None else top_up.organization_id,
    )
    return f"not credited: {says}"


def _of_a_paid_one(row: TopUp, intent: Intent) -> str:
    if intent.id == row.payment_intent_id:
        return "credited already"
    if intent.status == "succeeded":
        return refuse(row, intent.id, f"top-up {row.pk} was paid before by {row.payment_intent_id}")
    return "credited already, by another payment"


def _paid(row: TopUp, intent: Intent, tax_cents: int) -> str:
    wrong = _wrong(row, intent, tax_cents)
    if wrong:
        return refuse(row, intent.id, wrong)
    organization = Organization.objects.get(pk=row.organization_id)
    row.state, row.ended_at, row.tax_cents = TopUp.State.PAID, clock.now(), tax_cents
    row.payment_intent_id, row.charge_id = intent.id, intent.charge or None
    row.failure_code = row.failure_message = ""
    row.save()
    entries = {
        (chart.WALLET, organization.pk): nanos_of_cents(row.cents),
        (chart.TAX, None): nanos_of_cents(tax_cents),
        (chart.STRIPE_CASH, None): -nanos_of_cents(row.cents + tax_cents),
    }
    ledger.post(
        "top_up",
        intent.id,
        entries={account: nanos for account, nanos in entries.items() if nanos},
        organization_id=organization.pk,
        source="payment_intent",
        note="Automatic top-up" if row.kind == TopUp.Kind.AUTO else "Top-up",
    )
    audit.record(
        organization,
        "top_up.paid",
        by="stripe",
        object=f"top_up:{row.pk}",
        detail={"cents": row.cents, "tax_cents": tax_cents, "payment": intent.id},
    )
    alerts.resolve("payment", intent.id)  # it may not have fitted before Stripe told all of it
    reloads.after_commit(organization.public_id)
    return "credited"


def _wrong(row: TopUp, intent: Intent, tax_cents: int) -> str:
    """What does not fit between this payment and our row; empty when all fits."""
    customer = Customer.objects.of(row.organization_id).first()
    organization = Organization.objects.get(pk=row.organization_id)
    wanted = row.cents + tax_cents
    fits = {
        f"currency {intent.currency}": intent.currency == CURRENCY,
        f"{intent.received} cents were paid for {wanted}": intent.received == intent.amount == wanted,
        f"tax of {tax_cents} cents": tax_cents >= 0,
        f"customer {intent.customer}": customer is not None and intent.customer == customer.stripe_id,
        "its metadata name another top-up": metadata(organization, row).items()
        <= dict(intent.metadata).items(),
    }
    return "; ".join(says for says, is_so in fits.items() if not is_so)


def _note_payment(row: TopUp, intent: Intent) -> None:
    """Remember which payment it is while nobody knows how it ends."""
    row.payment_intent_id, row.state = intent.id, TopUp.State.OPEN
    row.save(update_fields=["payment_intent_id", "state"])
