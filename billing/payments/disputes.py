"""Payments that a cardholder disputes, and warnings that one will be.

A dispute's money is gone when we hear of it. What is left of the credit goes with it, the rest is our loss,
and the account is frozen at once: by the next call nothing more is spent. A warning comes earlier: what was
paid goes back before it is disputed.
"""

from __future__ import annotations

from django.db import transaction

from accounts import audit
from accounts.models import Organization
from aggregator.lib import clock
from billing import alerts, freezing, ledger, letters, reloads
from billing.core import chart
from billing.core.money import Nanos, nanos_of_cents, show_usd
from billing.models import Dispute, FraudWarning, Posting, Refund, StripeInvoice, TopUp
from billing.payments import clawback, crediting, refunds, subscriptions, top_ups
from billing.stripe_client import invoices, payments
from billing.stripe_client.payments import DisputeOpened, Warned

WON = frozenset({"won"})
HARMLESS = frozenset({"won", "warning_closed", "prevented"})
"""After these no reason for a freeze is left."""
_END = HARMLESS | {"lost"}
_TAKEN = frozenset({"needs_response", "under_review"})
"""While the bank asks no more but has the money; an inquiry (`warning_…`) has moved nothing, and an account
is not frozen for a question."""
DISPUTE, WARNING = "dispute", "fraud_warning"


def refresh(dispute_id: str) -> str:
    """Fetch a dispute and apply what it says now; words for the inbox.

    Raises StripeUnreachable, StripeRefused, and Refusal 503 when the gate is away.
    """
    told = payments.dispute(dispute_id)
    if told.payment_intent:
        refunds.refresh_charge(told.charge)  # events come in any order: first the payment and its refunds
    row = _noted(told)
    if row is None:
        alerts.raise_alert(
            "dispute",
            told.id,
            f"{told.id} disputes {show_usd(nanos_of_cents(told.cents))} of a payment that is none of ours.",
        )
        return "a dispute of no payment of ours"
    if told.currency != crediting.CURRENCY:
        says = f"{told.id} is in {told.currency}; nothing was booked."
        alerts.raise_alert("dispute", told.id, says, organization_id=row.organization_id)
        return says
    if told.is_taken or row.status in _TAKEN:
        _claw_back(row)
    if row.status in HARMLESS:
        alerts.resolve("dispute", row.pk)
    return _won(row) if row.status in WON else f"dispute {row.status}"


def warn(warning_id: str) -> str:
    """Fetch an early fraud warning: freeze, and pay back what was paid; words for the inbox.

    Raises StripeUnreachable, StripeRefused, and Refusal 503 when the gate is away.
    """
    told = payments.warning(warning_id)
    if told.payment_intent:
        top_ups.refresh_intent(told.payment_intent)
    top_up, invoice = _paid_with(told.payment_intent)
    owner = top_up or invoice
    if owner is None:
        says = f"{told.id} warns of charge {told.charge}, which is none of ours."
        alerts.raise_alert("fraud_warning", told.id, says)
        return "a warning of no payment of ours"
    if not _warned(told, owner):
        says = f"The bank suspects fraud behind {told.charge} ({told.fraud_type}). The account is frozen."
        alerts.raise_alert("fraud_warning", told.id, says, organization_id=owner.organization_id)
    if top_up is None or not told.actionable or _given_back(top_up):
        return "frozen"
    refund = refunds.give_back_whole(top_up, by="stripe")
    return "frozen; nothing left to give back" if refund is None else f"frozen; refund {refund.pk}"


# ── Disputes ─────────────────────────────────────────────────────────────────────────────────────


def _noted(told: DisputeOpened) -> Dispute | None:
    """Our row, brought to what Stripe says; one that has ended is not opened again by old news."""
    top_up, invoice = _paid_with(told.payment_intent)
    owner = top_up or invoice
    if owner is None:
        return None
    with transaction.atomic():
        row, is_new = Dispute.unscoped.get_or_create(
            stripe_id=told.id,
            defaults={
                "organization_id": owner.organization_id,
                "charge_id": told.charge,
                "top_up": top_up,
                "invoice": invoice,
                "cents": told.cents,
                "reason": told.reason,
                "status": told.status,
                "evidence_due_at": told.evidence_due_at,
                "opened_at": told.created_at or clock.now(),
            },
        )
        row = Dispute.objects.of(row.organization_id).select_for_update().get(pk=row.pk)
        if row.status not in WON and not (row.status in _END and told.status not in _END):
            row.status, row.evidence_due_at = told.status, told.evidence_due_at
            row.closed_at = (row.closed_at or clock.now()) if told.status in _END else None
            row.save(update_fields=["status", "evidence_due_at", "closed_at"])
        if is_new:
            _tell(row)
    return row


def _tell(row: Dispute) -> None:
    amount = show_usd(nanos_of_cents(row.cents))
    due = "" if row.evidence_due_at is None else f"{row.evidence_due_at:%Y-%m-%d}"
    says = f"{row.pk}: {amount} disputed ({row.reason}). Answer with evidence{due and ' until ' + due}."
    if row.invoice is not None and row.invoice.subscription is not None:
        says += (
            f" Its subscription {row.invoice.subscription.stripe_id} would go on charging that card: end it."
        )
    alerts.raise_alert("dispute", row.pk, says, organization_id=row.organization_id)
    audit.record(
        row.organization_id,
        "payment.disputed",
        by="stripe",
        object=f"dispute:{row.pk}",
        detail={"cents": row.cents, "reason": row.reason},
    )
    if not row.status.startswith("warning_"):
        letters.write(row.organization_id, "payment_disputed", row.pk, context={"amount": amount})


def _claw_back(row: Dispute) -> None:
    """Freeze, then take what is left of the credit; once a dispute."""
    if _posting(row) is not None:
        return
    if row.status not in WON:
        freezing.freeze(row.organization_id, DISPUTE, by="stripe")
    whole = nanos_of_cents(row.cents)
    wanted = _credit_of(row)
    with clawback.hold(row.organization_id, wanted) as held, transaction.atomic():
        Dispute.objects.of(row.organization_id).select_for_update().get(pk=row.pk)
        if _posting(row) is not None:
            return
        # A refund may have been written since: what it gave back is not taken once more.
        taken = clawback.available(row.organization_id, min(held, _credit_of(row)))
        organization = Organization.objects.get(pk=row.organization_id)
        entries = {
            (chart.WALLET, organization.pk): -taken,
            (chart.LOSS, None): -(whole - taken),
            (chart.STRIPE_CASH, None): whole,
        }
        ledger.post(
            "dispute",
            row.pk,
            entries={account: nanos for account, nanos in entries.items() if nanos},
            organization_id=organization.pk,
            source="dispute",
            note="Payment disputed",
            from_posting=None if row.top_up is None else crediting.posting_of(row.top_up),
        )
        reloads.after_commit(organization.public_id)


def _credit_of(row: Dispute) -> Nanos:
    """What of the disputed sum was credit: no more than the top-up gave and has not given back."""
    if row.top_up is None:
        return 0
    given = row.top_up.refunds.exclude(state=Refund.State.FAILED)
    back = sum(refund.cents - refund.tax_cents for refund in given)
    return nanos_of_cents(max(0, min(row.cents, row.top_up.cents - back)))


def _won(row: Dispute) -> str:
    """The money is back: what was taken is given again, and calls may begin unless more is disputed."""
    posting = _posting(row)
    organization = Organization.objects.get(pk=row.organization_id)
    if posting is not None:
        with transaction.atomic():
            ledger.reverse("dispute_won", row.pk, of=posting.pk, source="dispute", note="Dispute won")
            reloads.after_commit(organization.public_id)
    with transaction.atomic():
        # Another dispute is noted before it freezes: with the wallet in hand, either we see it or it waits.
        ledger.lock_wallets({organization.pk})
        others = Dispute.objects.of(organization).exclude(status__in=HARMLESS)
        if not others.exclude(status__startswith="warning_").exists():
            freezing.thaw(organization.pk, DISPUTE, by="stripe")
    return "dispute won"


def _posting(row: Dispute) -> Posting | None:
    return Posting.objects.filter(kind="dispute", source_id=row.pk).first()


# ── Warnings ─────────────────────────────────────────────────────────────────────────────────────


def _warned(told: Warned, owner: TopUp | StripeInvoice) -> bool:
    """Note it and freeze; whether it was known before."""
    with transaction.atomic():
        _, is_new = FraudWarning.unscoped.get_or_create(
            stripe_id=told.id,
            defaults={
                "organization_id": owner.organization_id,
                "charge_id": told.charge,
                "top_up": owner if isinstance(owner, TopUp) else None,
                "fraud_type": told.fraud_type,
            },
        )
        if is_new:
            freezing.freeze(owner.organization_id, WARNING, by="stripe")
            cents = owner.cents + owner.tax_cents
            letters.write(
                owner.organization_id,
                "payment_suspected",
                told.id,
                context={"amount": show_usd(nanos_of_cents(cents))},
            )
    return not is_new


def _given_back(top_up: TopUp) -> bool:
    """Whether its refund for fraud was written down before; the job that settles sends it."""
    return top_up.refunds.filter(reason="fraud").exclude(state=Refund.State.FAILED).exists()


def _paid_with(intent_id: str) -> tuple[TopUp | None, StripeInvoice | None]:
    """What a payment was for: a top-up, an invoice, or nothing that we know."""
    top_up = crediting.of_payment(intent_id)
    if top_up is not None or not intent_id:
        return top_up, None
    known = StripeInvoice.unscoped.filter(payment_intent_id=intent_id)
    if not known.exists() and (invoice_id := invoices.of_payment(intent_id)):
        subscriptions.refresh_invoice(invoice_id)
    return None, known.first()
