"""Payments and what may become of them: intents, charges, refunds, disputes, warnings, Stripe's fees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from billing.stripe_client.door import call, every, keyed, v1
from billing.stripe_client.shapes import id_of, metadata_of, time_of

if TYPE_CHECKING:
    import stripe


@dataclass(frozen=True, slots=True)
class Intent:
    """A payment, tried or done. Amounts in cents."""

    id: str
    status: str
    """`succeeded`, `processing`, `requires_payment_method`, `requires_action`, `canceled`, …"""
    amount: int
    received: int
    currency: str
    customer: str
    payment_method: str
    charge: str
    """The newest attempt, failed or not."""
    metadata: Mapping[str, str]
    failure_code: str
    """Why the newest attempt was declined: the bank's code where it gave one, else Stripe's."""
    failure_message: str


@dataclass(frozen=True, slots=True)
class Charge:
    """One attempt to take money. Amounts in cents."""

    id: str
    status: str
    amount: int
    refunded: int
    currency: str
    customer: str
    payment_intent: str
    disputed: bool
    receipt_url: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RefundMade:
    id: str
    status: str
    """`pending`, `requires_action`, `succeeded`, `failed` or `canceled`."""
    cents: int
    currency: str
    charge: str
    payment_intent: str
    reason: str
    failure_reason: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DisputeOpened:
    id: str
    status: str
    cents: int
    currency: str
    charge: str
    payment_intent: str
    reason: str
    is_taken: bool
    """Whether the money has left our balance, whatever became of it after."""
    evidence_due_at: datetime | None
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class Warned:
    """An early fraud warning."""

    id: str
    charge: str
    payment_intent: str
    fraud_type: str
    actionable: bool
    """Whether a refund can still keep it from becoming a dispute."""


@dataclass(frozen=True, slots=True)
class Movement:
    """A balance transaction: what one payment, refund or dispute did to our balance at Stripe. Cents."""

    id: str
    type: str
    amount: int
    fee: int
    currency: str
    source: str
    """The charge, refund, dispute or payout that it comes from."""
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class TaxDue:
    """What Stripe Tax puts on top of a sale, as reckoned once."""

    calculation: str
    cents: int


# ── Intents ──────────────────────────────────────────────────────────────────────────────────────


def tax_on(cents: int, *, customer: str, reference: str, key: str) -> TaxDue:
    """The tax on a sale to this customer. Raises StripeRefused when Stripe does not know where they are."""
    params: stripe.params.tax.CalculationCreateParams = {
        "currency": "usd",
        "customer": customer,
        "line_items": [{"amount": cents, "reference": reference, "tax_behavior": "exclusive"}],
    }
    told = call(v1().tax.calculations.create, params, keyed(key))
    return TaxDue(told.id or "", told.tax_amount_exclusive)


def charge_off_session(
    *,
    cents: int,
    says: str,
    customer: str,
    payment_method: str,
    metadata: Mapping[str, str],
    key: str,
    tax: TaxDue | None = None,
) -> Intent:
    """Charge a saved card while its owner is away; `tax` comes on top of `cents`.

    Raises CardDeclined (also when the bank wants its customer present), StripeRefused, StripeUnreachable.
    """
    params: stripe.params.PaymentIntentCreateParams = {
        "amount": cents if tax is None else cents + tax.cents,
        "currency": "usd",
        "customer": customer,
        "payment_method": payment_method,
        "off_session": True,
        "confirm": True,
        "description": says,
        "metadata": dict(metadata),
    }
    if tax is not None:
        params["hooks"] = {"inputs": {"tax": {"calculation": tax.calculation}}}
    return _intent(call(v1().payment_intents.create, params, keyed(key)))


def intent(intent_id: str) -> Intent:
    """Raises StripeUnreachable, NotAtStripe, StripeRefused."""
    return _intent(call(v1().payment_intents.retrieve, intent_id))


def intents_of(customer: str, *, since: datetime) -> Iterator[Intent]:
    """A customer's payments made since then, newest first."""
    created: stripe.params.PaymentIntentListParamsCreated = {"gte": int(since.timestamp())}
    found = call(v1().payment_intents.list, {"customer": customer, "created": created, "limit": 100})
    yield from map(_intent, every(found))


def cancel(intent_id: str, *, key: str) -> Intent:
    """Nobody can pay it any more. Raises StripeRefused when it is paid or canceled already."""
    return _intent(call(v1().payment_intents.cancel, intent_id, {}, keyed(key)))


def _intent(told: stripe.PaymentIntent) -> Intent:
    error = told.last_payment_error
    return Intent(
        id=told.id,
        status=told.status,
        amount=told.amount,
        received=told.amount_received,
        currency=told.currency,
        customer=id_of(told.customer),
        payment_method=id_of(told.payment_method),
        charge=id_of(told.latest_charge),
        metadata=metadata_of(told.metadata),
        failure_code="" if error is None else (error.decline_code or error.code or ""),
        failure_message="" if error is None else (error.message or ""),
    )


# ── Charges and refunds ──────────────────────────────────────────────────────────────────────────


def charge(charge_id: str) -> Charge:
    """Raises StripeUnreachable, NotAtStripe, StripeRefused."""
    told = call(v1().charges.retrieve, charge_id)
    return Charge(
        id=told.id,
        status=told.status,
        amount=told.amount,
        refunded=told.amount_refunded,
        currency=told.currency,
        customer=id_of(told.customer),
        payment_intent=id_of(told.payment_intent),
        disputed=told.disputed,
        receipt_url=told.receipt_url or "",
        metadata=metadata_of(told.metadata),
    )


def give_back(
    payment_intent: str, *, cents: int, is_fraud: bool, metadata: Mapping[str, str], key: str
) -> RefundMade:
    """Refund a part of a payment. Raises StripeRefused, StripeUnreachable."""
    params: stripe.params.RefundCreateParams = {
        "payment_intent": payment_intent,
        "amount": cents,
        "reason": "fraudulent" if is_fraud else "requested_by_customer",
        "metadata": dict(metadata),
    }
    return _refund(call(v1().refunds.create, params, keyed(key)))


def refund(refund_id: str) -> RefundMade:
    """Raises StripeUnreachable, NotAtStripe, StripeRefused."""
    return _refund(call(v1().refunds.retrieve, refund_id))


def refunds_of(payment_intent: str) -> Iterator[RefundMade]:
    """All refunds of a payment, newest first."""
    found = call(v1().refunds.list, {"payment_intent": payment_intent, "limit": 100})
    yield from map(_refund, every(found))


def _refund(told: stripe.Refund) -> RefundMade:
    return RefundMade(
        id=told.id,
        status=told.status or "",
        cents=told.amount,
        currency=told.currency,
        charge=id_of(told.charge),
        payment_intent=id_of(told.payment_intent),
        reason=told.reason or "",
        failure_reason=getattr(told, "failure_reason", "") or "",
        metadata=metadata_of(told.metadata),
    )


# ── Disputes and warnings ────────────────────────────────────────────────────────────────────────


def dispute(dispute_id: str) -> DisputeOpened:
    """Raises StripeUnreachable, NotAtStripe, StripeRefused."""
    told = call(v1().disputes.retrieve, dispute_id)
    return DisputeOpened(
        id=told.id,
        status=told.status,
        cents=told.amount,
        currency=told.currency,
        charge=id_of(told.charge),
        payment_intent=id_of(told.payment_intent),
        reason=told.reason,
        is_taken=bool(told.balance_transactions),
        evidence_due_at=time_of(told.evidence_details.due_by),
        created_at=time_of(told.created),
    )


def warning(warning_id: str) -> Warned:
    """Raises StripeUnreachable, NotAtStripe, StripeRefused."""
    told = call(v1().radar.early_fraud_warnings.retrieve, warning_id)
    return Warned(
        id=told.id,
        charge=id_of(told.charge),
        payment_intent=id_of(told.payment_intent),
        fraud_type=told.fraud_type,
        actionable=told.actionable,
    )


# ── Our balance at Stripe ────────────────────────────────────────────────────────────────────────


def balance_transactions(since: datetime, until: datetime | None = None) -> Iterator[Movement]:
    """What moved our balance at Stripe in [since, until), newest first."""
    created: stripe.params.BalanceTransactionListParamsCreated = {"gte": int(since.timestamp())}
    if until is not None:
        created["lt"] = int(until.timestamp())
    for told in every(call(v1().balance_transactions.list, {"created": created, "limit": 100})):
        yield Movement(
            id=told.id,
            type=told.type,
            amount=told.amount,
            fee=told.fee,
            currency=told.currency,
            source=id_of(told.source),
            created_at=time_of(told.created),
        )
