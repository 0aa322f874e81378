"""Credit bought on a payment page of Stripe: begun here, paid there, credited by `crediting`.

The row is committed before Stripe is asked, and the idempotency key comes from it, so a call whose answer
was lost is asked again without making a second page. Whoever looks first credits: an event, the return
page, the sweep.
"""

from __future__ import annotations

from datetime import timedelta

import structlog
from django.conf import settings
from django.db import transaction

from accounts import audit
from accounts.models import Organization
from aggregator.lib import clock
from aggregator.lib.errors import Refusal, unavailable
from billing import alerts, ledger, wallets
from billing.core.money import nanos_of_cents, show_usd
from billing.models import Customer, TopUp, Wallet
from billing.models.payments import LEAST_TOP_UP_CENTS, MOST_TOP_UP_CENTS
from billing.payments import crediting, customers
from billing.stripe_client import checkout, payments
from billing.stripe_client.door import StripeRefused, StripeUnreachable

log = structlog.get_logger(__name__)

PAGE_LASTS = timedelta(hours=1)
"""How long a payment page stays open. Stripe's least is half an hour."""
ASKED_AGAIN_FOR = timedelta(minutes=25)
"""How long a page whose making was not answered is asked for again: later it could not last long enough."""
LOOKED_AT_AFTER = timedelta(minutes=2)
"""By then whoever asked has its answer or has given up."""
OPEN_LOOKED_AT_AFTER = timedelta(minutes=10)
_BATCH, _FEW = 100, 20
"""In one run: rows that nobody answered for, and pages that may simply be open still."""
_CURED_BY_PAYING = frozenset({"unpaid"})
"""Of the reasons for a freeze; for the others, a card in doubt would be charged once more."""


def begin(organization: Organization, cents: int, *, by: audit.Actor, save_card: bool = False) -> str:
    """The address of a page on which this much credit is paid for.

    `save_card`: the person agreed that the card is kept and charged later by itself. Raises Refusal:
    `invalid_amount`, `amount_too_small`, `amount_too_large`, `account_suspended` 402,
    `too_many_checkouts` 429, `service_unavailable` 503.
    """
    refuse_amount(cents)
    try:
        customers.ensure(organization, email=customers.email(organization, by))
        row = _again(organization, cents, by=by, save_card=save_card)
        if row is None:
            row = _new_row(organization, cents, by=by, save_card=save_card)
        if row.state == TopUp.State.CREATED:
            row = _open_page(row)
    except (StripeUnreachable, StripeRefused) as error:
        log.warning("no payment page", organization=organization.public_id, error=str(error))
        raise unavailable("The payment page", retry_after=30) from error
    return row.session_url


def refuse_amount(cents: int, param: str = "cents") -> None:
    """Raise Refusal unless it is an amount that one may buy."""
    if isinstance(cents, bool) or not isinstance(cents, int):
        raise Refusal("invalid_amount", "An amount is a whole number of cents, such as 2500.", param=param)
    if cents < LEAST_TOP_UP_CENTS:
        least = show_usd(nanos_of_cents(LEAST_TOP_UP_CENTS))
        raise Refusal("amount_too_small", f"The smallest top-up is {least}.", param=param)
    if cents > MOST_TOP_UP_CENTS:
        most = show_usd(nanos_of_cents(MOST_TOP_UP_CENTS))
        raise Refusal(
            "amount_too_large", f"The largest top-up is {most}; for more, make several.", param=param
        )


def may_pay(wallet: Wallet) -> bool:
    """A suspension for want of money is cured by paying; during others no card is charged."""
    return wallet.frozen_at is None or _CURED_BY_PAYING.issuperset(wallet.frozen_because.split(","))


def refuse_frozen(organization_id: int) -> None:
    """Raise Refusal when the account is suspended for a reason that a payment does not cure."""
    if not may_pay(Wallet.objects.of(organization_id).get()):
        raise Refusal(
            "account_suspended",
            "This account is suspended, so no payment is taken. Write to support to have it reviewed.",
            status=402,
        )


def look(top_up: TopUp) -> TopUp:
    """The row as it stands now: Stripe itself is asked while it waits, so credit waits for no event."""
    if top_up.state not in crediting.WAITING:
        return top_up
    try:
        if top_up.session_id:
            refresh_session(top_up.session_id)
        elif top_up.payment_intent_id:
            refresh_intent(top_up.payment_intent_id)
    except (StripeUnreachable, StripeRefused) as error:
        log.warning("top-up not looked at", top_up=str(top_up.pk), error=str(error))
    return TopUp.objects.of(top_up.organization_id).get(pk=top_up.pk)


def refresh_session(session_id: str) -> str:
    """Fetch a payment page and apply what it says now; words for the inbox.

    Raises StripeUnreachable, StripeRefused.
    """
    session = checkout.retrieve(session_id)
    top_up = crediting.named(session.metadata)
    if top_up is None:
        if "top_up" not in session.metadata:
            return "not a top-up"
        return crediting.refuse(None, session.payment_intent or session.id, "it names a top-up unknown here")
    if session.payment_intent:
        intent = payments.intent(session.payment_intent)
        said = crediting.apply(top_up, intent, tax_cents=session.tax_cents)
        if session.payment_status == "paid" and top_up.save_card:
            customers.refresh(session.customer)
        failed = session.status == "complete" and intent.status == "requires_payment_method"
        if session.status != "expired" and not failed:
            return said
    with transaction.atomic():
        row = TopUp.objects.of(top_up.organization_id).select_for_update().get(pk=top_up.pk)
        if row.state not in crediting.WAITING:
            return f"top-up is {row.state}"
        if session.status == "expired":
            crediting.end(row, TopUp.State.EXPIRED)
            return "abandoned"
        if session.payment_intent:
            # A bank account, say, that refused days later: the page is over, so no other way can be tried.
            crediting.fail(row, row.failure_code or "refused", row.failure_message)
            return f"declined: {row.failure_code}"
        _note_page(row, session)
        return f"payment page is {session.status}"


def refresh_intent(intent_id: str) -> str:
    """Fetch a payment and apply what it says now; words for the inbox.

    Raises StripeUnreachable, StripeRefused.
    """
    intent = payments.intent(intent_id)
    top_up = crediting.named(intent.metadata)
    if top_up is None:
        if "top_up" not in intent.metadata:
            return "not a top-up"
        return crediting.refuse(None, intent_id, "it names a top-up unknown here")
    session = None
    if top_up.kind == TopUp.Kind.CHECKOUT and intent.status == "succeeded":
        session = checkout.of_payment_intent(intent_id)
    return crediting.apply(top_up, intent, tax_cents=None if session is None else session.tax_cents)


def settle() -> int:
    """Look at payment pages that have waited too long for news; how many."""
    return crediting.one_by_one(_waiting(), _settle_one)


def _settle_one(row: TopUp) -> None:
    if row.session_id:
        refresh_session(row.session_id)
        return
    found = next(
        (
            each
            for each in checkout.of_customer(_customer(row), since=row.created_at - timedelta(minutes=5))
            if each.metadata.get("top_up") == str(row.pk)
        ),
        None,
    )
    if found is not None:
        refresh_session(found.id)
    elif clock.now() - row.created_at < ASKED_AGAIN_FOR:
        try:
            _open_page(row)
        except StripeRefused as error:
            log.warning("no payment page", top_up=str(row.pk), error=str(error))
    else:
        with transaction.atomic():
            locked = TopUp.objects.of(row.organization_id).select_for_update().get(pk=row.pk)
            if locked.state == TopUp.State.CREATED:
                crediting.end(locked, TopUp.State.EXPIRED)


def _waiting() -> list[TopUp]:
    """In no order, so that pages which people leave open never keep others from being looked at."""
    now = clock.now()
    rows = TopUp.unscoped.filter(kind=TopUp.Kind.CHECKOUT)
    created = rows.filter(state=TopUp.State.CREATED, created_at__lt=now - LOOKED_AT_AFTER)
    opened = rows.filter(state=TopUp.State.OPEN, created_at__lt=now - OPEN_LOOKED_AT_AFTER)
    return [*created.order_by("?")[:_BATCH], *opened.order_by("?")[:_FEW]]


def _again(organization: Organization, cents: int, *, by: audit.Actor, save_card: bool) -> TopUp | None:
    """The page that the same person just asked for and that can still be paid on."""
    row = (
        TopUp.objects.of(organization)
        .filter(
            kind=TopUp.Kind.CHECKOUT,
            state__in=crediting.WAITING,
            cents=cents,
            save_card=save_card,
            asked_by=audit.name(by)[:300],
            created_at__gt=clock.now() - ASKED_AGAIN_FOR,
        )
        .order_by("-created_at")
        .first()
    )
    if row is None:
        return None
    refuse_frozen(organization.pk)
    row = look(row)
    return row if row.state in crediting.WAITING else None


def _new_row(organization: Organization, cents: int, *, by: audit.Actor, save_card: bool) -> TopUp:
    wallets.open_wallet(organization.pk)
    with transaction.atomic():
        ledger.lock_wallets({organization.pk})  # one at a time, so that the count below is the truth
        refuse_frozen(organization.pk)
        customers.refuse_too_many_pages(organization)
        row = TopUp.objects.create(
            organization=organization,
            kind=TopUp.Kind.CHECKOUT,
            cents=cents,
            save_card=save_card,
            asked_by=audit.name(by)[:300],
        )
        audit.record(organization, "top_up.begun", by=by, object=f"top_up:{row.pk}", detail={"cents": cents})
    return row


def _open_page(row: TopUp) -> TopUp:
    """Ask Stripe for the page of a committed row; asked again, it is the same page."""
    organization = Organization.objects.get(pk=row.organization_id)
    back = f"{settings.PUBLIC_URL}/billing?top_up={row.pk}"
    try:
        session = checkout.payment_session(
            cents=row.cents,
            says=f"{show_usd(nanos_of_cents(row.cents))} of credit",
            customer=_customer(row),
            metadata=crediting.metadata(organization, row),
            urls=(back, f"{back}&left=1"),
            expires_at=row.created_at + PAGE_LASTS,
            save_card=row.save_card,
            with_tax=settings.STRIPE_TAX,
            key=f"topup-{row.pk}-checkout",
        )
    except StripeRefused as error:
        _refused(row, error)
        raise
    with transaction.atomic():
        row = TopUp.objects.of(row.organization_id).select_for_update().get(pk=row.pk)
        if row.state in crediting.WAITING:
            _note_page(row, session)
    return row


def _refused(row: TopUp, error: StripeRefused) -> None:
    """Our parameters or settings are at fault: nobody can pay on a page that does not exist."""
    with transaction.atomic():
        locked = TopUp.objects.of(row.organization_id).select_for_update().get(pk=row.pk)
        if locked.state == TopUp.State.CREATED:
            crediting.end(locked, TopUp.State.FAILED, error.code, str(error))
        says = f"Stripe refuses to make payment pages: {error}"
        alerts.raise_alert("payment", "checkout", says)


def _note_page(row: TopUp, session: checkout.Session) -> None:
    row.session_id, row.session_url, row.state = session.id, session.url, TopUp.State.OPEN
    row.save(update_fields=["session_id", "session_url", "state"])


def _customer(row: TopUp) -> str:
    customer = Customer.objects.of(row.organization_id).get()
    if customer.stripe_id is None:
        raise StripeUnreachable("the customer is not known to Stripe yet")
    return customer.stripe_id
