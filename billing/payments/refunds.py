"""Money given back for top-ups: asked for here, or seen at Stripe when an operator gave it back there.

What we give back ourselves leaves the wallet, in one transaction with its row, before Stripe is asked, so
that it can be neither spent meanwhile nor given back twice; it returns when the bank cannot pay it out.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.db import transaction
from django.db.models import Sum

from accounts import audit
from accounts.models import Organization
from aggregator.lib import clock
from aggregator.lib.errors import Refusal
from billing import alerts, ledger, letters, lots, reloads
from billing.core import chart
from billing.core.money import Nanos, nanos_of_cents, show_usd, whole_cents
from billing.models import Dispute, Posting, Refund, TopUp, Wallet
from billing.payments import clawback, crediting, subscriptions, top_ups
from billing.stripe_client import payments
from billing.stripe_client.door import StripeRefused, StripeUnreachable
from billing.stripe_client.payments import RefundMade

log = structlog.get_logger(__name__)

KEYS_ARE_KEPT = timedelta(hours=23)
"""Stripe forgets an idempotency key after a day: asked again then, it would pay again."""
LOOKED_AT_AFTER = timedelta(minutes=2)
PENDING_LOOKED_AT_AFTER = timedelta(hours=1)
_BATCH, _FEW = 100, 10
"""In one run: refunds that nobody answered for, and some of those that banks take days for."""
_RANK = [Refund.State.CREATED, Refund.State.PENDING, Refund.State.SUCCEEDED, Refund.State.FAILED]
_TOLD = {
    "pending": Refund.State.PENDING,
    "requires_action": Refund.State.PENDING,
    "succeeded": Refund.State.SUCCEEDED,
    "failed": Refund.State.FAILED,
    "canceled": Refund.State.FAILED,
}


@dataclass(frozen=True, slots=True)
class Back:
    """A refund to be written down: what the card gets, the tax in it, and what the wallet gives of it."""

    cents: int
    tax_cents: int
    taken: Nanos


def ask(organization: Organization, top_up_id: uuid.UUID | str, *, by: audit.Actor) -> Refund:
    """Give back what is left of one top-up, in whole cents, with its part of the tax.

    Raises Refusal: `not_found` 404, `not_refundable` 409, `nothing_to_refund` 409, `account_suspended` 402,
    `service_unavailable` 503.
    """
    top_up = _refundable(organization, top_up_id)
    posting = crediting.posting_of(top_up)
    wanted = 0 if posting is None else nanos_of_cents(whole_cents(lots.remaining(posting)))
    if wanted == 0:
        raise _nothing()
    with clawback.hold(organization.pk, wanted) as held, transaction.atomic():
        row = TopUp.objects.of(organization).select_for_update().get(pk=top_up.pk)
        ledger.lock_wallets({organization.pk})
        credit = whole_cents(max(0, min(held, lots.remaining(posting or 0))))
        if credit == 0:
            raise _nothing()
        tax = _tax_of_credit(row, credit)
        refund = _write_down(
            row, Back(credit + tax, tax, nanos_of_cents(credit)), reason="unused_credit", by=by
        )
    try:
        _send(refund)
    except StripeUnreachable as error:
        log.warning("refund not answered; it is asked for again", refund=str(refund.pk), error=str(error))
    return Refund.objects.of(organization).get(pk=refund.pk)


def give_back_whole(top_up: TopUp, *, by: audit.Actor) -> Refund | None:
    """Pay back everything of a payment in doubt, spent or not; what the wallet has no more is our loss.

    None when Stripe has nothing of it left to give back. Raises StripeUnreachable, StripeRefused, and
    Refusal 503 when the gate is away.
    """
    charge = payments.charge(str(top_up.charge_id))
    wanted = nanos_of_cents(top_up.cents)
    with clawback.hold(top_up.organization_id, wanted) as held, transaction.atomic():
        row = TopUp.objects.of(top_up.organization_id).select_for_update().get(pk=top_up.pk)
        unsent = _sum(row.refunds.filter(stripe_id=None).exclude(state=Refund.State.FAILED), "cents")
        cents = charge.amount - charge.refunded - unsent
        if cents <= 0 or charge.disputed:
            return None
        tax = _tax_of_total(row, cents)
        taken = clawback.available(row.organization_id, min(held, nanos_of_cents(cents - tax)))
        refund = _write_down(row, Back(cents, tax, taken), reason="fraud", by=by)
    _send(refund)
    return refund


def refresh(refund_id: str) -> str:
    """Fetch a refund and apply what it says now; words for the inbox.

    Raises StripeUnreachable, StripeRefused, and Refusal 503 when the gate is away.
    """
    made = payments.refund(refund_id)
    if made.payment_intent:
        top_ups.refresh_intent(made.payment_intent)  # events come in any order: its payment first
    return _apply(made)


def refresh_charge(charge_id: str) -> str:
    """Fetch all refunds of a charge and apply them; words for the inbox. Raises as `refresh` does."""
    charge = payments.charge(charge_id)
    if not charge.payment_intent:
        return "not a payment of ours"
    said = [top_ups.refresh_intent(charge.payment_intent)]
    said += [_apply(made) for made in payments.refunds_of(charge.payment_intent)]
    return "; ".join(said)


def settle() -> int:
    """Ask again for refunds that nobody answered, and look at those on their way; how many."""
    return crediting.one_by_one(_waiting(), _settle_one)


# ── Rules ────────────────────────────────────────────────────────────────────────────────────────


def _refundable(organization: Organization, top_up_id: uuid.UUID | str) -> TopUp:
    wanted = crediting.as_uuid(str(top_up_id))
    top_up = TopUp.objects.of(organization).filter(pk=wanted).first() if wanted else None
    if top_up is None:
        raise Refusal("not_found", "There is no such top-up.", status=404)
    refusal = rule(organization)(top_up)
    if refusal is not None:
        raise refusal
    return top_up


def rule(organization: Organization) -> Callable[[TopUp], Refusal | None]:
    """Why a top-up of this organization is not given back now; None when what is left of it is."""
    is_frozen = Wallet.objects.of(organization).filter(frozen_at__isnull=False).exists()
    disputes = Dispute.objects.of(organization).exclude(status="warning_closed")
    disputed = set(disputes.values_list("top_up_id", flat=True))

    def refusal(top_up: TopUp) -> Refusal | None:
        if top_up.state != TopUp.State.PAID:
            return Refusal("not_refundable", "Nothing was paid for this top-up.", status=409)
        if is_frozen:
            return Refusal(
                "account_suspended",
                "This account is suspended, so nothing is paid back now."
                " Write to support to have it reviewed.",
                status=402,
            )
        if top_up.pk in disputed:
            return Refusal("not_refundable", "This payment was disputed with the bank.", status=409)
        return None

    return refusal


def _nothing() -> Refusal:
    return Refusal("nothing_to_refund", "Nothing is left of this top-up to pay back.", status=409)


def _sum(rows: object, column: str) -> int:
    return int(rows.aggregate(sum=Sum(column))["sum"] or 0)  # type: ignore[attr-defined]


def _tax_of_credit(row: TopUp, credit: int) -> int:
    """The tax that goes back with this much credit: exact over all refunds of the top-up together."""
    before = row.refunds.exclude(state=Refund.State.FAILED)
    given, given_tax = _sum(before, "cents"), _sum(before, "tax_cents")
    due = row.tax_cents * min(row.cents, given - given_tax + credit) // row.cents
    return max(0, due - given_tax)


def _tax_of_total(row: TopUp, cents: int) -> int:
    """The part of an amount, paid back in one sum, that is tax."""
    before = row.refunds.exclude(state=Refund.State.FAILED)
    given, given_tax = _sum(before, "cents"), _sum(before, "tax_cents")
    whole = row.cents + row.tax_cents
    due = row.tax_cents * min(whole, given + cents) // whole
    return max(0, min(cents, due - given_tax))


def _write_down(
    row: TopUp, back: Back, *, reason: str, by: audit.Actor, stripe_id: str | None = None
) -> Refund:
    """The refund's row and its posting, in the caller's transaction, under the top-up's lock."""
    organization = Organization.objects.get(pk=row.organization_id)
    refund = Refund.objects.create(
        organization=organization,
        top_up=row,
        cents=back.cents,
        tax_cents=back.tax_cents,
        reason=reason,
        stripe_id=stripe_id,
        asked_by=audit.name(by)[:300],
    )
    tax = nanos_of_cents(back.tax_cents)
    whole = nanos_of_cents(back.cents)
    entries = {
        (chart.WALLET, organization.pk): -back.taken,
        (chart.TAX, None): -tax,
        (chart.LOSS, None): -(whole - tax - back.taken),
        (chart.STRIPE_CASH, None): whole,
    }
    ledger.post(
        "refund",
        str(refund.pk),
        entries={account: nanos for account, nanos in entries.items() if nanos},
        organization_id=organization.pk,
        source="refund",
        note="Refund",
        from_posting=crediting.posting_of(row),
    )
    audit.record(
        organization,
        "refund.made",
        by=by,
        object=f"refund:{refund.pk}",
        detail={"cents": back.cents, "top_up": str(row.pk), "reason": reason},
    )
    # Or the money that goes back would at once be charged again.
    crediting.pause(organization.pk, "refund")
    reloads.after_commit(organization.public_id)
    return refund


# ── Between our rows and Stripe ──────────────────────────────────────────────────────────────────


def _send(refund: Refund) -> None:
    """Ask Stripe to pay a written refund; asked again, it is the same one. Raises StripeUnreachable."""
    organization = Organization.objects.get(pk=refund.organization_id)
    try:
        made = payments.give_back(
            str(refund.top_up.payment_intent_id),
            cents=refund.cents,
            is_fraud=refund.reason == "fraud",
            metadata={
                "organization": organization.public_id,
                "top_up": str(refund.top_up_id),
                "refund": str(refund.pk),
            },
            key=f"refund-{refund.pk}",
        )
    except StripeRefused as error:
        log.error("refund refused", refund=str(refund.pk), code=error.code, error=str(error))
        _turn(refund, Refund.State.FAILED, str(error))
    else:
        _apply(made)


def _apply(made: RefundMade) -> str:
    refund = Refund.unscoped.filter(stripe_id=made.id).first() or _ours(made)
    if refund is None:
        top_up = crediting.of_payment(made.payment_intent)
        if top_up is None:
            return _of_no_top_up(made)
        if _TOLD.get(made.status) == Refund.State.FAILED:
            return "a refund that never was"
        refund = _found_at_stripe(top_up, made)
    state = _TOLD.get(made.status)
    if state is None:
        return f"refund {made.status}"
    return _turn(refund, state, made.failure_reason, stripe_id=made.id)


def _ours(made: RefundMade) -> Refund | None:
    """The row that we asked for it with, when the answer was lost before its id was noted."""
    refund_id = crediting.as_uuid(made.metadata.get("refund", ""))
    if refund_id is None:
        return None
    found = Refund.unscoped.filter(pk=refund_id, cents=made.cents, stripe_id=None).first()
    if found is None or found.top_up.payment_intent_id != made.payment_intent:
        return None
    return found


def _found_at_stripe(top_up: TopUp, made: RefundMade) -> Refund:
    """Somebody gave money back in Stripe's dashboard: the wallet gives what it has, the rest is our loss."""
    wanted = nanos_of_cents(made.cents)
    with clawback.hold(top_up.organization_id, wanted) as held, transaction.atomic():
        row = TopUp.objects.of(top_up.organization_id).select_for_update().get(pk=top_up.pk)
        found = Refund.objects.of(row.organization_id).filter(stripe_id=made.id).first()
        if found is not None:
            return found
        tax = _tax_of_total(row, made.cents)
        taken = clawback.available(row.organization_id, min(held, nanos_of_cents(made.cents - tax)))
        reason = "fraud" if made.reason == "fraudulent" else "operator"
        refund = _write_down(row, Back(made.cents, tax, taken), reason=reason, by="stripe", stripe_id=made.id)
        lost = nanos_of_cents(made.cents - tax) - taken
        alerts.raise_alert(
            "refund",
            made.id,
            f"{show_usd(wanted)} of top-up {row.pk} were given back at Stripe; {show_usd(lost)} of it had"
            " been spent and is our loss.",
            organization_id=row.organization_id,
        )
    return refund


def _of_no_top_up(made: RefundMade) -> str:
    """Of an invoice; or of a payment that we know nothing of: then a person must look."""
    said = subscriptions.refunded(made)
    if said is not None:
        return said
    alerts.raise_alert(
        "refund",
        made.id,
        f"Refund {made.id} of {show_usd(nanos_of_cents(made.cents))} is of payment {made.payment_intent},"
        " which is none of ours. It is not booked.",
    )
    return "a refund of no payment of ours"


def _turn(refund: Refund, state: Refund.State, why: str, *, stripe_id: str | None = None) -> str:
    """Move a refund on, never back; one that failed gives the credit back."""
    with transaction.atomic():
        row = Refund.objects.of(refund.organization_id).select_for_update().get(pk=refund.pk)
        if row.stripe_id is None and stripe_id is not None:
            row.stripe_id = stripe_id
            row.save(update_fields=["stripe_id"])
        if _RANK.index(state) <= _RANK.index(Refund.State(row.state)):
            if row.state == Refund.State.FAILED and state == Refund.State.SUCCEEDED:
                _paid_after_all(row)
            return f"refund is {row.state}"
        row.state = state
        if state in (Refund.State.SUCCEEDED, Refund.State.FAILED):
            row.ended_at = clock.now()
        row.save(update_fields=["state", "ended_at"])
        amount = show_usd(nanos_of_cents(row.cents))
        if state == Refund.State.FAILED:
            _give_credit_back(row, why)
        elif row.reason != "fraud":
            letters.write(row.organization_id, "refund_made", str(row.pk), context={"amount": amount})
    return f"refund {state}"


def _paid_after_all(row: Refund) -> None:
    """We gave it up and gave the credit back; a person decides what becomes of the difference."""
    amount = show_usd(nanos_of_cents(row.cents))
    alerts.raise_alert(
        "refund",
        f"{row.pk} paid",
        f"Refund {row.pk} of {amount} had failed and its credit was given back, but {row.stripe_id} was paid"
        " out at Stripe: the customer has both.",
        organization_id=row.organization_id,
    )


def _give_credit_back(row: Refund, why: str) -> None:
    organization = Organization.objects.get(pk=row.organization_id)
    posting = Posting.objects.get(kind="refund", source_id=str(row.pk))
    ledger.reverse("refund_failed", str(row.pk), of=posting.pk, source="refund", note="Refund failed")
    audit.record(
        organization, "refund.failed", by="stripe", object=f"refund:{row.pk}", detail={"why": why[:300]}
    )
    alerts.raise_alert(
        "refund",
        str(row.pk),
        f"A refund of {show_usd(nanos_of_cents(row.cents))} failed ({why}); the credit was given back.",
        organization_id=row.organization_id,
    )
    amount = show_usd(nanos_of_cents(row.cents))
    letters.write(row.organization_id, "refund_failed", str(row.pk), context={"amount": amount})
    reloads.after_commit(organization.public_id)


def _settle_one(row: Refund) -> None:
    """What came of a refund: Stripe is asked for it before it is asked again."""
    if row.stripe_id:
        refresh(row.stripe_id)
        return
    made = payments.refunds_of(str(row.top_up.payment_intent_id))
    found = next((each for each in made if each.metadata.get("refund") == str(row.pk)), None)
    if found is not None:
        _apply(found)
    elif clock.now() - row.created_at < KEYS_ARE_KEPT:
        _send(row)
    else:
        _turn(row, Refund.State.FAILED, "Stripe never heard of it")


def _waiting() -> list[Refund]:
    now = clock.now()
    created = Refund.unscoped.filter(state=Refund.State.CREATED, created_at__lt=now - LOOKED_AT_AFTER)
    pending = Refund.unscoped.filter(state=Refund.State.PENDING, created_at__lt=now - PENDING_LOOKED_AT_AFTER)
    return [*created.order_by("?")[:_BATCH], *pending.order_by("?")[:_FEW]]
