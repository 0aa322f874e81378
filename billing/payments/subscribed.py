"""What becomes of a subscription: Stripe is asked how it stands now, and plan and books follow.

Nothing is taken from an event but whom to ask about, so any order and any repetition leads to one state.
What Stripe says is applied under the lock of the organization's customer, unless somebody applied since we
began to ask: then it is asked again.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q

from accounts.models import Organization
from aggregator.lib import clock
from billing import alerts, letters, plans
from billing.core import entitlement
from billing.core.entitlement import Standing
from billing.core.money import nanos_of_cents, show_usd, whole_cents
from billing.models import Customer, Plan, StripeInvoice, Subscription, Wallet
from billing.payments import collected, postpaid
from billing.stripe_client import invoices, payments, subscriptions, whole
from billing.stripe_client.door import StripeRefused, StripeUnreachable
from billing.stripe_client.invoices import InvoiceThere
from billing.stripe_client.payments import RefundMade
from billing.stripe_client.subscriptions import SignUp, SubscriptionThere
from billing.stripe_client.whole import Bill, Whole

log = structlog.get_logger(__name__)

PAID = ("pro", "business")
"""The plans that one can subscribe to."""
_LIVING = (Subscription.State.ACTIVE, Subscription.State.PAST_DUE)
_WAITING = (Subscription.State.CREATED, Subscription.State.OPEN)
_OF_STRIPE = [
    *("stripe_id", "state", "plan", "next_plan", "schedule_id", "period_start", "period_end"),
    *("grace_until", "looks", "ended_at"),
]
_OF_THE_PRICE = ("subscription_create", "subscription_cycle")
_RECKONED = ("subscription_update",)
_TRIES = 12
_LATE = timedelta(hours=3)
"""A period's invoice is a draft for an hour; by then Stripe has told what became of it."""
_QUIET = timedelta(minutes=10)
_BATCH = 200


def refresh(subscription_id: str, *, invoice_id: str = "") -> str:
    """Fetch a subscription (and one more of its invoices) and apply what they say now; words for the inbox.

    Raises StripeUnreachable, StripeRefused.
    """
    said, cancel = _apply(subscription_id, invoice_id)
    if cancel is not None:
        _end_there(cancel)
        said, _ = _apply(subscription_id, "")
    return said


def refresh_session(session_id: str) -> str:
    """Fetch a payment page and apply what came of it; words for the inbox.

    Raises StripeUnreachable, StripeRefused.
    """
    there = subscriptions.sign_up(session_id)
    row = _named(there.metadata)
    if row is None:
        return _tell(session_id, "a payment page for a subscription that we did not make", None)
    said = _note_page(row, there)
    return refresh(there.subscription) if there.subscription else said


def refresh_invoice(invoice_id: str) -> str:
    """Fetch an invoice and apply what it says now; words for the inbox.

    Raises StripeUnreachable, StripeRefused.
    """
    if not invoice_id.startswith("in_"):
        return "an invoice that is only foreseen"
    there = invoices.retrieve(invoice_id)
    if there.subscription:
        return refresh(there.subscription, invoice_id=invoice_id)
    return postpaid.refresh(invoice_id)


def refunded(refund: RefundMade) -> str | None:
    """Book a refund of an invoice's payment; None when it is not the payment of an invoice.

    Raises StripeUnreachable, StripeRefused.
    """
    mine = collected.of_payment(refund)
    if mine is None and refund.payment_intent:
        invoice_id = invoices.of_payment(refund.payment_intent)
        if invoice_id:
            refresh_invoice(invoice_id)
            mine = collected.of_payment(refund)
    if mine is None:
        return None
    with transaction.atomic():
        Customer.objects.of(mine.organization_id).select_for_update().get()
        mine.refresh_from_db()
        return collected.give_back(mine, refund)


def end_grace() -> int:
    """Look at subscriptions whose payment was waited for long enough, whose period ended without a word of
    the next, or whose page nobody told of; how many there were."""
    now = clock.now()
    rows = Subscription.unscoped.filter(
        Q(state=Subscription.State.PAST_DUE, grace_until__lte=now)
        | Q(state__in=_LIVING, period_end__lte=now - _LATE)
        | Q(state=Subscription.State.OPEN, created_at__lte=now - _QUIET)
    ).order_by("?")[:_BATCH]
    for row in rows:
        try:
            if row.state == Subscription.State.OPEN:
                refresh_session(str(row.session_id))
            else:
                refresh(str(row.stripe_id))
        except StripeUnreachable as error:
            log.warning("Stripe is away; the rest waits", subscription=str(row.pk), error=str(error))
            break
        except StripeRefused as error:
            log.warning("subscription not looked at", subscription=str(row.pk), error=str(error))
    return len(rows)


# ── Under the lock ───────────────────────────────────────────────────────────────────────────────


def _apply(subscription_id: str, invoice_id: str) -> tuple[str, Subscription | None]:
    """Words, and the subscription that must be ended at Stripe once this has committed."""
    for _ in range(_TRIES):
        row = _row_of(subscription_id)
        if row is None:
            return _tell(subscription_id, "a subscription that we did not make", None), None
        booked = StripeInvoice.objects.of(row.organization_id).filter(subscription=row).exclude(paid_at=None)
        known = {str(each) for each in booked.values_list("stripe_id", flat=True)}
        # Nothing is locked meanwhile: Stripe may take its time.
        found = whole.read(subscription_id, invoice_id=invoice_id, booked=known)
        with transaction.atomic():
            customer = Customer.objects.of(row.organization_id).select_for_update().get()
            now = Subscription.objects.of(row.organization_id).get(pk=row.pk)
            if now.looks != row.looks:
                continue  # somebody applied what may be newer than what we read
            strange = _strange(now, found.there, customer)
            if strange:
                return _tell(subscription_id, strange, now.organization_id), None
            paid = [_collect(now, bill, customer) for bill in found.bills]
            standing = _stands(now, found, found.newest is not None and paid[-1])
            _take(now, found, standing)
        return f"{now.plan} is {now.state}", now if standing.cancel else None
    raise StripeUnreachable(f"{subscription_id} is looked at by too many at once")


def _stands(row: Subscription, found: Whole, paid: bool) -> Standing:
    there, newest = found.there, found.newest
    grace = timedelta(days=settings.BILLING_GRACE_DAYS)
    failed_at = (newest.finalized_at or newest.created) if newest is not None else there.period_start
    if row.state == Subscription.State.PAST_DUE and row.grace_until is not None:
        failed_at = min(failed_at, row.grace_until - grace)
    standing = entitlement.judge(
        there.status,
        there.price.plan,
        was=row.state,
        paid=paid,
        failed_at=failed_at,
        grace=grace,
        now=clock.now(),
    )
    other = Subscription.objects.of(row.organization_id).filter(state__in=_LIVING).exclude(pk=row.pk).first()
    if standing.state in entitlement.LIVING and other is not None:
        _tell(there.id, f"a second subscription, beside {other.stripe_id}: refunded", row.organization_id)
        return Standing(entitlement.ENDED, cancel=True)
    return standing


def _take(row: Subscription, found: Whole, standing: Standing) -> None:
    there, newest = found.there, found.newest
    was_plan, was_asked = row.plan, row.next_plan == entitlement.FREE
    row.stripe_id, row.state = there.id, standing.state
    row.period_start, row.period_end = there.period_start, there.period_end
    row.grace_until = standing.grace_until
    row.looks += 1
    if standing.state in entitlement.LIVING:
        row.plan = there.price.plan
        row.next_plan, row.schedule_id = found.next_plan, there.schedule
    elif row.ended_at is None and standing.state in (entitlement.ENDED, entitlement.EXPIRED):
        row.ended_at = clock.now()
        row.next_plan = row.schedule_id = ""
    row.save(update_fields=_OF_STRIPE)
    if standing.plan is not None:
        _give(row, standing.plan, instead_of=was_plan)
    if standing.plan == entitlement.FREE:
        letters.write(
            row.organization_id,
            "plan_ended",
            newest.id if newest is not None else there.id,
            context={"plan": _name(was_plan), "asked": was_asked},
        )
    elif standing.state == entitlement.PAST_DUE and newest is not None and standing.grace_until:
        letters.write(
            row.organization_id,
            "payment_failed",
            newest.id,
            context={
                "plan": _name(row.plan),
                "amount": show_usd(nanos_of_cents(newest.due_cents)),
                "until": f"{standing.grace_until:%-d %B %Y, %H:%M} UTC",
                "pay_url": newest.hosted_url,
            },
        )


def _give(row: Subscription, plan: str, *, instead_of: str) -> None:
    """The organization's plan. Terms that an operator agreed on stay as they are."""
    organization = Organization.objects.get(pk=row.organization_id)
    held = Wallet.objects.of(organization).get().plan
    if held == plan or (plan == entitlement.FREE and held != instead_of):
        return
    if held not in (entitlement.FREE, *PAID):
        _tell(str(row.stripe_id), f"a subscription to {plan} beside the agreed plan {held}", organization.pk)
        return
    plans.set_plan(organization.slug, plan, by="stripe")


def _collect(row: Subscription, bill: Bill, customer: Customer) -> bool:
    """Keep an invoice of this subscription and book its money; whether it is paid as it should be."""
    there = bill.there
    mine, _ = StripeInvoice.unscoped.get_or_create(
        stripe_id=there.id,
        defaults={
            "organization_id": row.organization_id,
            "purpose": StripeInvoice.Purpose.SUBSCRIPTION,
            "subscription": row,
            "cents": there.net_cents,
            "created_at": there.created,
        },
    )
    if mine.paid_at is not None:
        return True
    mine.cents, mine.tax_cents = there.net_cents, there.tax_cents
    mine.lines = there.lines if sum(cents for _, cents in there.lines) == there.net_cents else []
    collected.note(mine, there)
    if there.status != "paid":
        return False
    strange = _strange_bill(there, str(customer.stripe_id))
    if strange:
        collected.tell(mine, strange)
        return False
    collected.book("subscription", mine, there, bill.paid_by)
    return True


def _strange_bill(there: InvoiceThere, customer: str) -> str:
    if there.paid_cents and there.reason not in (*_OF_THE_PRICE, *_RECKONED):
        return f"{there.id} was made for another reason than a plan: {there.reason}"
    asked = there.paid_cents and there.reason in _OF_THE_PRICE
    return collected.oddity(there, customer, _prices(PAID) if asked else None)


def _strange(row: Subscription, there: SubscriptionThere, customer: Customer) -> str:
    """Why a subscription at Stripe is not the one of this row; empty when it is."""
    if there.customer != customer.stripe_id:
        return f"it is of the customer {there.customer}, not {customer.stripe_id}"
    if row.stripe_id not in (None, there.id):
        return f"its sign-up led to {row.stripe_id} before"
    price = there.price
    if price.currency != "usd" or price.plan not in PAID or price.cents not in _prices([price.plan]):
        return f"its price {price.id} over {price.cents} {price.currency} is of no plan of ours"
    return ""


# ── At Stripe, after the lock ────────────────────────────────────────────────────────────────────


def _end_there(row: Subscription) -> None:
    """Nobody pays any more for what they no longer get. What was paid for nothing goes back first."""
    bills = StripeInvoice.objects.of(row.organization_id).filter(subscription=row)
    if row.state == Subscription.State.ENDED:
        for mine in bills.exclude(paid_at=None).exclude(payment_intent_id=None):
            _refund(mine)
    try:
        subscriptions.cancel(str(row.stripe_id), key=f"subscription-{row.pk}-cancel")
    except StripeRefused as error:
        log.info("subscription was over at Stripe", subscription=row.stripe_id, error=str(error))
    for mine in bills.filter(state=StripeInvoice.State.OPEN):
        try:
            there = invoices.void(str(mine.stripe_id), key=f"invoice-{mine.pk}-void")
        except StripeRefused as error:
            log.warning("invoice not voided", invoice=mine.stripe_id, error=str(error))
            if invoices.retrieve(str(mine.stripe_id)).status == "paid":
                says = "was paid in the moment in which its plan ended: give the money back, or the plan"
                _tell(str(mine.stripe_id), says, row.organization_id)
        else:
            collected.note(mine, there)


def _refund(mine: StripeInvoice) -> None:
    try:
        made = payments.give_back(
            str(mine.payment_intent_id),
            cents=mine.cents + mine.tax_cents,
            is_fraud=False,
            metadata={"organization": mine.organization.public_id, "invoice": str(mine.pk)},
            key=f"invoice-{mine.pk}-refund",
        )
    except StripeRefused as error:
        log.warning("invoice not refunded", invoice=mine.stripe_id, error=str(error))
    else:
        refunded(made)


# ── Whose it is ──────────────────────────────────────────────────────────────────────────────────


def _row_of(subscription_id: str) -> Subscription | None:
    """Our row: by Stripe's id, or by ours in the metadata before the first answer was heard."""
    row = Subscription.unscoped.filter(stripe_id=subscription_id).first()
    if row is None:
        there = subscriptions.retrieve(subscription_id)
        row = _named(there.metadata)
    return row


def _note_page(row: Subscription, there: SignUp) -> str:
    with transaction.atomic():
        Customer.objects.of(row.organization_id).select_for_update().get()
        row.refresh_from_db()
        if row.session_id is None:
            row.session_id, row.session_url = there.id, there.url
        if there.status == "expired" and row.state in _WAITING:
            row.state, row.ended_at = Subscription.State.EXPIRED, clock.now()
        row.save(update_fields=["session_id", "session_url", "state", "ended_at"])
    return f"payment page is {there.status}"


def _prices(slugs: Iterable[str]) -> set[int]:
    """Every price in cents that these plans ever had: who subscribed early keeps theirs."""
    asked = Plan.objects.filter(slug__in=slugs, monthly_nanos__isnull=False)
    return {whole_cents(nanos or 0) for nanos in asked.values_list("monthly_nanos", flat=True)}


def _name(slug: str) -> str:
    return plans.current(slug).name


def _tell(subject: str, says: str, organization_id: int | None) -> str:
    alerts.raise_alert("stripe_subscription", subject, f"{subject}: {says}", organization_id=organization_id)
    return says


def _named(marks: Mapping[str, str]) -> Subscription | None:
    """The row that metadata names, which an operator may have written by hand."""
    try:
        named = uuid.UUID(marks.get("subscription", ""))
    except ValueError:
        return None
    row = Subscription.unscoped.select_related("organization").filter(pk=named).first()
    return row if row is not None and row.organization.public_id == marks.get("organization") else None
