"""Subscriptions to Pro and Business: begun on a payment page, changed, canceled and kept by their holder.

What Stripe is asked for is committed first, with the id that its idempotency key is made from; the same
wish, asked again while its answer is not known, has the same key. What came of it, `subscribed` finds out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction

from accounts import audit
from accounts.models import Organization
from aggregator.lib import clock, ids
from aggregator.lib.errors import Refusal
from billing import alerts, ledger, plans, wallets
from billing.core import entitlement
from billing.core.money import whole_cents
from billing.models import Customer, Plan, Subscription
from billing.payments import customers
from billing.payments.subscribed import PAID, end_grace, refresh, refresh_invoice, refresh_session, refunded
from billing.stripe_client import catalog, invoices
from billing.stripe_client import subscriptions as at_stripe
from billing.stripe_client.catalog import PriceThere
from billing.stripe_client.door import CardDeclined, StripeRefused, StripeUnreachable
from billing.stripe_client.subscriptions import SubscriptionThere

__all__ = [
    "PAID",
    "Preview",
    "begin",
    "cancel",
    "change",
    "end_grace",
    "keep",
    "living",
    "look",
    "preview",
    "refresh",
    "refresh_invoice",
    "refresh_session",
    "refunded",
]

log = structlog.get_logger(__name__)

_UNDECIDED = timedelta(minutes=5)
"""What was asked for longer ago has happened or failed, and how it stands is looked at before asking again.
Until then the key stays the same; later a new one is needed, for Stripe keeps a failure as a key's answer."""
_PAGE_LASTS = timedelta(hours=22)
"""A payment page is offered again for so long; Stripe closes it after a day."""
_LIVING = (Subscription.State.ACTIVE, Subscription.State.PAST_DUE)
_WAITING = (Subscription.State.CREATED, Subscription.State.OPEN)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a plan would cost. Amounts in cents."""

    plan: str
    name: str
    monthly_cents: int
    now_cents: int
    """What the card is charged at once, tax included; before tax when the plan begins on a payment page."""
    tax_cents: int
    begins_at: datetime | None
    """None: at once."""


def living(organization: Organization | int) -> Subscription | None:
    """The subscription that the organization has now, paid or overdue."""
    return Subscription.objects.of(organization).filter(state__in=_LIVING).first()


def look(organization: Organization) -> Subscription | None:
    """As `living`, but Stripe itself is asked about a page that was just paid: a plan waits for no event."""
    for row in Subscription.objects.of(organization).filter(state=Subscription.State.OPEN):
        try:
            refresh_session(str(row.session_id))
        except (StripeUnreachable, StripeRefused) as error:
            log.warning("subscription not looked at", subscription=str(row.pk), error=str(error))
    return living(organization)


def begin(organization: Organization, plan: str, *, by: audit.Actor) -> str:
    """The address of a page on which the first month of Pro or Business is paid.

    Raises Refusal: `unknown_plan`, `plan_is_agreed` 409, `account_suspended` 402, `already_subscribed` 409,
    `too_many_checkouts` 429, `service_unavailable` 503.
    """
    wanted = _for_sale(organization, plan)
    _refuse_second(organization)
    with _plainly():
        customer = customers.ensure(organization, email=customers.email(organization, by))
        price = _price(wanted)
        row = _offered(organization, wanted, by=by)
        if row.state == Subscription.State.OPEN:
            return row.session_url
        back = f"{settings.PUBLIC_URL}/billing?subscription={row.pk}"
        try:
            page = at_stripe.begin(
                customer=customer,
                price=price.id,
                urls=(back, f"{back}&left=1"),
                marks={"organization": organization.public_id, "subscription": str(row.pk)},
                taxed=settings.STRIPE_TAX,
                key=f"subscription-{row.pk}-checkout",
            )
        except StripeRefused as error:
            _close(row)
            alerts.raise_alert("checkout_refused", "subscription", f"Stripe makes no payment page: {error}")
            raise
    with transaction.atomic():
        Customer.objects.of(organization).select_for_update().get()
        row.refresh_from_db()
        if row.state == Subscription.State.CREATED:
            row.state = Subscription.State.OPEN
        row.session_id, row.session_url = page.id, page.url
        row.save(update_fields=["session_id", "session_url", "state"])
    return page.url


def preview(organization: Organization, plan: str) -> Preview:
    """What a plan would cost now and each month. Raises Refusal as `begin` and `change` do."""
    row = living(organization)
    if row is not None and plan == entitlement.FREE:
        return Preview(plan, plans.current(plan).name, 0, 0, 0, row.period_end)
    wanted = _for_sale(organization, plan)
    monthly = whole_cents(wanted.monthly_nanos or 0)
    if row is None:
        return Preview(plan, wanted.name, monthly, monthly, 0, None)
    with _plainly():
        there, price = at_stripe.retrieve(str(row.stripe_id)), _price(wanted)
        if price.cents <= there.price.cents:
            return Preview(plan, wanted.name, monthly, 0, 0, there.period_end)
        found = invoices.preview(there, price.id)
    return Preview(plan, wanted.name, monthly, found.cents, found.tax_cents, None)


def change(organization: Organization, plan: str, *, by: audit.Actor) -> Subscription:
    """Go up at once, for the difference of what is left of the period; go down when it is over.

    Raises Refusal: as `begin`, and `not_subscribed` 409, `same_plan` 409, `payment_overdue` 402,
    `card_declined` 402.
    """
    if plan == entitlement.FREE:
        return cancel(organization, by=by)
    wanted = _for_sale(organization, plan)
    with _plainly():
        row, there = _present(organization)
        if row.state == Subscription.State.PAST_DUE:
            raise _overdue()
        if plan == there.price.plan:
            raise _same(row, wanted)
        price = _price(wanted)
        if price.cents > there.price.cents:
            _asked(row, f"up:{plan}", lambda key: _up(there, price.id, key))
        else:
            _asked(row, f"down:{plan}", lambda key: _down(there, price.id, key))
        return _changed(row, f"subscription.{plan}", by)


def cancel(organization: Organization, *, by: audit.Actor) -> Subscription:
    """End with the period that is paid for.

    Raises Refusal `not_subscribed` 409, `service_unavailable` 503.
    """
    with _plainly():
        row, there = _present(organization)
        if there.ends_at is None:
            _asked(row, "cancel", lambda key: _leave(there, key))
        return _changed(row, "subscription.cancel", by)


def keep(organization: Organization, *, by: audit.Actor) -> Subscription:
    """Think better of a cancellation or of a smaller plan: all stays as it is paid for now.

    Raises Refusal `not_subscribed` 409, `service_unavailable` 503.
    """
    with _plainly():
        row, there = _present(organization)
        if there.ends_at is not None or there.schedule:
            _asked(row, "keep", lambda key: _stay(there, key))
        return _changed(row, "subscription.keep", by)


# ── What is asked of Stripe ──────────────────────────────────────────────────────────────────────


def _up(there: SubscriptionThere, price: str, key: str) -> None:
    _free_of_schedule(there, key)
    at_stripe.upgrade(there, price, key=key)


def _down(there: SubscriptionThere, price: str, key: str) -> None:
    if there.ends_at is not None:
        at_stripe.end_with_period(there.id, wanted=False, key=f"{key}-stay")
    known = at_stripe.schedule(there.schedule) if there.schedule else None
    if known is None or not known.is_in_force:
        known = at_stripe.scheduled(there.id, key=f"{key}-schedule")
    at_stripe.at_period_end(known, there, price, key=key)


def _leave(there: SubscriptionThere, key: str) -> None:
    _free_of_schedule(there, key)
    at_stripe.end_with_period(there.id, wanted=True, key=key)


def _stay(there: SubscriptionThere, key: str) -> None:
    _free_of_schedule(there, key)
    if there.ends_at is not None:
        at_stripe.end_with_period(there.id, wanted=False, key=key)


def _free_of_schedule(there: SubscriptionThere, key: str) -> None:
    """While a schedule holds a subscription, Stripe lets nobody else change it."""
    if there.schedule and at_stripe.schedule(there.schedule).is_in_force:
        at_stripe.release(there.schedule, key=f"{key}-release")


def _asked(row: Subscription, wish: str, ask: Callable[[str], None]) -> None:
    """Ask under the key of this wish; only when the answer is not known, the key stays for the next try."""
    with transaction.atomic():
        row = Subscription.objects.of(row.organization_id).select_for_update().get(pk=row.pk)
        if row.wish != wish or row.wish_id is None or clock.now() - ids.uuid7_time(row.wish_id) > _UNDECIDED:
            row.wish, row.wish_id = wish, ids.uuid7(int(clock.now().timestamp() * 1000))
            row.save(update_fields=["wish", "wish_id"])
    try:
        ask(f"subscription-{row.pk}-{row.wish_id}")
    except CardDeclined as error:
        _answered(row)
        raise _declined(str(error)) from error
    except StripeRefused:
        _answered(row)
        raise
    _answered(row)


def _answered(row: Subscription) -> None:
    same = Subscription.objects.of(row.organization_id).filter(pk=row.pk, wish_id=row.wish_id)
    same.update(wish="", wish_id=None)


def _changed(row: Subscription, verb: str, by: audit.Actor) -> Subscription:
    """The row after a wish came true."""
    refresh(str(row.stripe_id))
    row.refresh_from_db()
    detail = {"plan": row.plan, "next_plan": row.next_plan}
    audit.record(row.organization_id, verb, by=by, object=f"subscription:{row.pk}", detail=detail)
    return row


# ── Rows ─────────────────────────────────────────────────────────────────────────────────────────


def _present(organization: Organization) -> tuple[Subscription, SubscriptionThere]:
    """The living subscription as it stands at Stripe at this moment."""
    row = living(organization)
    if row is not None:
        refresh(str(row.stripe_id))
        row = living(organization)
    if row is None:
        raise Refusal(
            "not_subscribed", "There is no subscription to change. Choose a plan first.", status=409
        )
    return row, at_stripe.retrieve(str(row.stripe_id))


def _offered(organization: Organization, plan: Plan, *, by: audit.Actor) -> Subscription:
    """The row whose payment page is wanted; one page at a time, so that nobody subscribes twice."""
    for row in Subscription.objects.of(organization).filter(state__in=_WAITING):
        age, same = clock.now() - row.created_at, row.plan == plan.slug
        if row.session_id is None:
            if same and age < _UNDECIDED:
                return row
            _close(row)
            continue
        page = at_stripe.sign_up(row.session_id)
        if page.status == "open" and same and age < _PAGE_LASTS:
            return row
        if page.status == "open":
            at_stripe.abandon(page.id, key=f"subscription-{row.pk}-abandon")
        refresh_session(page.id)
    _refuse_second(organization)
    wallets.open_wallet(organization.pk)
    with transaction.atomic():
        Customer.objects.of(organization).select_for_update().get()
        begun = Subscription.objects.of(organization).filter(state__in=_WAITING, plan=plan.slug).first()
        if begun is not None:
            return begun
        ledger.lock_wallets({organization.pk})
        customers.refuse_too_many_pages(organization)
        row = Subscription.objects.create(
            organization=organization,
            plan=plan.slug,
            asked_by=audit.name(by)[:300],
            created_at=clock.now(),
        )
        told = {"plan": plan.slug}
        audit.record(organization, "subscription.begun", by=by, object=f"subscription:{row.pk}", detail=told)
    return row


def _close(row: Subscription) -> None:
    rows = Subscription.objects.of(row.organization_id).filter(pk=row.pk, state__in=_WAITING)
    rows.update(state=Subscription.State.EXPIRED, ended_at=clock.now())


def _for_sale(organization: Organization, slug: str) -> Plan:
    """The plan, when this organization may subscribe to it. Raises Refusal."""
    if slug not in PAID:
        raise Refusal("unknown_plan", f"One subscribes to {' or '.join(PAID)}.", param="plan")
    wallet = wallets.open_wallet(organization.pk)
    if wallet.frozen_because not in ("", "unpaid"):
        says = "This account is suspended, so no payment is taken. Write to support to have it reviewed."
        raise Refusal("account_suspended", says, status=402)
    held = wallet.plan
    if held not in (entitlement.FREE, *PAID):
        raise Refusal(
            "plan_is_agreed",
            "Your plan is agreed with us. Write to us to change it.",
            status=409,
            param="plan",
        )
    return plans.current(slug)


def _price(plan: Plan) -> PriceThere:
    """The price at Stripe, which must be the one that we publish. Raises StripeRefused."""
    found = catalog.price(plan.slug)
    asked = whole_cents(plan.monthly_nanos or 0)
    if found is None or (found.cents, found.currency) != (asked, "usd"):
        says = f"Stripe does not have the price of {plan.name} at {asked} cents: run manage.py stripe_setup."
        alerts.raise_alert("stripe_price", plan.slug, says)
        raise StripeRefused(says)
    return found


def _refuse_second(organization: Organization) -> None:
    row = living(organization)
    if row is not None:
        raise Refusal(
            "already_subscribed",
            f"There is a subscription to {plans.current(row.plan).name} already. Change it instead.",
            status=409,
        )


@contextmanager
def _plainly() -> Iterator[None]:
    """Stripe's failures, as what a person is told. What is not answered may have happened all the same."""
    try:
        yield
    except (StripeUnreachable, StripeRefused) as error:
        log.warning("Stripe did not do it", error=str(error))
        raise Refusal(
            "service_unavailable",
            "The payment service did not answer, so we do not know yet whether this was done. Look again in a"
            " minute; asking for the same again never charges twice.",
            status=503,
            retry_after=30,
        ) from error


def _same(row: Subscription, plan: Plan) -> Refusal:
    then = " It is to change when the period ends; keep it to stay." if row.next_plan else ""
    says = f"The subscription is to {plan.name} already.{then}"
    return Refusal("same_plan", says, status=409, param="plan")


def _overdue() -> Refusal:
    return Refusal(
        "payment_overdue",
        "The last payment failed. Pay it, or change the card on the billing page, before changing the plan.",
        status=402,
    )


def _declined(says: str) -> Refusal:
    return Refusal(
        "card_declined",
        f"{says} Nothing was changed. Choose another card on the billing page, and try again.",
        status=402,
    )
