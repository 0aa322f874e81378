"""Top-ups that happen by themselves: the saved card is charged when credit runs low.

At most one is under way for an organization, by its row, which is committed before the card is charged;
so however many workers look, and however often an answer is lost, one row is one charge.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import connection, transaction

from accounts import audit
from accounts.models import Organization
from aggregator.lib import clock, jobs
from aggregator.lib.errors import Refusal
from billing import alerts, letters, wallets
from billing.core.money import MOST_NANOS, Nanos, nanos_of_cents, show_usd, usd
from billing.models import AutoTopUp, Customer, TopUp, Wallet
from billing.payments import crediting, customers, top_ups
from billing.stripe_client import payments
from billing.stripe_client.door import CardDeclined, StripeRefused, StripeUnreachable

log = structlog.get_logger(__name__)

KEYS_ARE_KEPT = timedelta(hours=23)
"""Stripe forgets an idempotency key after a day: asked again then, it would charge again."""
MOST_DECLINES = 3
"""In an hour; beyond, resuming must wait, or this were a way to try out cards."""

_DUE = """
SELECT setting.organization_id,
       coalesce((SELECT sum(cents) FROM billing_topup AS made
                 WHERE made.organization_id = setting.organization_id AND kind = 'auto'
                   AND state IN ('created', 'open', 'paid')
                   AND created_at >= %(month)s AND created_at < %(next_month)s), 0)
       + setting.cents <= setting.monthly_cap_cents
FROM billing_autotopup AS setting
JOIN billing_wallet AS wallet ON wallet.organization_id = setting.organization_id
WHERE setting.enabled AND setting.paused_at IS NULL AND wallet.frozen_at IS NULL
  AND (%(only)s::bigint IS NULL OR setting.organization_id = %(only)s)
  AND NOT EXISTS (SELECT FROM billing_topup AS going
                  WHERE going.organization_id = setting.organization_id AND kind = 'auto'
                    AND state IN ('created', 'open'))
  AND wallet.balance_nanos
      - coalesce((SELECT sum(charge_nanos) FROM generations AS unposted
                  WHERE unposted.organization_id = wallet.organization_id AND posting_id IS NULL), 0)
      < setting.threshold_nanos
"""
"""Each organization that is due, and whether its monthly cap leaves room. Funds are without any limit of
credit; holds of calls under way do not count, most of them come back."""


def set(
    organization: Organization,
    *,
    enabled: bool,
    threshold_nanos: Nanos,
    cents: int,
    monthly_cap_cents: int,
    by: audit.Actor,
) -> AutoTopUp:
    """Say when the saved card is charged and for how much. Turning it on ends a pause.

    Raises Refusal: `invalid_amount`, `amount_too_small`, `amount_too_large`, `invalid_threshold`,
    `cap_too_small`, `no_card` 409, `too_many_declines` 429.
    """
    top_ups.refuse_amount(cents)
    if not 0 <= threshold_nanos <= MOST_NANOS:
        raise Refusal("invalid_threshold", "The threshold is zero dollars or more.", param="threshold")
    if not cents <= monthly_cap_cents <= MOST_NANOS:
        raise Refusal(
            "cap_too_small", "The monthly cap is at least the amount of one top-up.", param="monthly_cap"
        )
    if enabled:
        _refuse_without_card(organization.pk)
    wallets.open_wallet(organization.pk)
    with transaction.atomic():
        row = AutoTopUp.objects.of(organization).select_for_update().first()
        if row is None:
            row = AutoTopUp(organization=organization)
        if enabled and not row.enabled:
            _refuse_after_declines(organization.pk)
            row.paused_at, row.paused_because = None, ""
        row.enabled, row.threshold_nanos, row.changed_at = enabled, threshold_nanos, clock.now()
        row.cents, row.monthly_cap_cents = cents, monthly_cap_cents
        row.save()
        detail = {"enabled": enabled, "threshold_usd": usd(threshold_nanos), "cents": cents}
        audit.record(
            organization,
            "auto_top_up.set",
            by=by,
            object="auto_top_up",
            detail={**detail, "monthly_cap_cents": monthly_cap_cents},
        )
    return row


def resume(organization: Organization, *, by: audit.Actor) -> AutoTopUp:
    """End a pause. Raises Refusal: `not_set` 404, `no_card` 409, `too_many_declines` 429."""
    with transaction.atomic():
        row = AutoTopUp.objects.of(organization).select_for_update().first()
        if row is None:
            raise Refusal("not_set", "Automatic top-up was never set up here.", status=404)
        if row.paused_at is None:
            return row
        _refuse_without_card(organization.pk)
        _refuse_after_declines(organization.pk)
        row.paused_at, row.paused_because = None, ""
        row.save(update_fields=["paused_at", "paused_because"])
        audit.record(organization, "auto_top_up.resumed", by=by, object="auto_top_up")
    return row


def top_up_wallets() -> int:
    """Begin a top-up for every organization that is due; how many were begun. Who has reached the cap and was
    told so is left alone until the month is over, or the cap is raised."""
    due = _due()
    capped = [_this_month(organization_id) for organization_id, is_within in due if not is_within]
    told = letters.written("auto_top_up_capped", capped) if capped else frozenset()
    return sum(
        _begin(organization_id)
        for organization_id, is_within in due
        if is_within or _this_month(organization_id) not in told
    )


def charge(top_up_id: str) -> str:
    """Charge the card for a row that was begun; words for the log. Safe to repeat."""
    row = TopUp.unscoped.filter(pk=top_up_id, kind=TopUp.Kind.AUTO, state=TopUp.State.CREATED).first()
    if row is None or clock.now() - row.created_at > KEYS_ARE_KEPT:
        return "not waiting for a charge"
    if not _is_wanted(row.organization_id):
        return "no longer wanted"  # it may have been asked for before: the sweep looks, then ends it
    try:
        return _charge(row)
    except StripeUnreachable as error:
        log.warning("Stripe did not answer; the same charge is asked for again", error=str(error))
        return "no answer"


def settle() -> int:
    """Look at charges that have waited too long for an answer; how many."""
    return crediting.one_by_one(_waiting(), _settle_one)


def _due(only: int | None = None) -> list[tuple[int, bool]]:
    month = clock.now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    values = {"only": only, "month": month, "next_month": _next(month)}
    with connection.cursor() as cursor:
        cursor.execute(_DUE, values)
        return [(int(organization_id), bool(is_within)) for organization_id, is_within in cursor.fetchall()]


def _next(month: datetime) -> datetime:
    return (month + timedelta(days=32)).replace(day=1)


def _begin(organization_id: int) -> bool:
    """Commit the row of one top-up, if it is still due now that nobody else can begin one."""
    with transaction.atomic():
        setting = AutoTopUp.objects.of(organization_id).select_for_update().get()
        due = _due(organization_id)
        if not due:
            return False
        if not due[0][1]:
            _tell_capped(setting)
            return False
        card = customers.default_card(organization_id)
        if card is None:
            _pause_without_card(setting)
            return False
        row = TopUp.objects.create(
            organization_id=organization_id,
            kind=TopUp.Kind.AUTO,
            cents=setting.cents,
            payment_method_id=card.stripe_id,
            asked_by=audit.name("auto_top_up"),
        )
        audit.record(
            organization_id,
            "top_up.begun",
            by="auto_top_up",
            object=f"top_up:{row.pk}",
            detail={"cents": row.cents},
        )
        jobs.enqueue("billing.charge_top_up", top_up=str(row.pk))
    return True


def _charge(row: TopUp) -> str:
    organization = Organization.objects.get(pk=row.organization_id)
    customer = str(Customer.objects.of(organization).get().stripe_id)
    try:
        tax = _tax_on(row, customer) if settings.STRIPE_TAX else None
        intent = payments.charge_off_session(
            cents=row.cents,
            tax=tax,
            says=f"{show_usd(nanos_of_cents(row.cents))} of credit (automatic top-up)",
            customer=customer,
            payment_method=row.payment_method_id,
            metadata=crediting.metadata(organization, row),
            key=f"topup-{row.pk}-charge",
        )
    except CardDeclined as error:
        return _declined(row, error)
    except StripeRefused as error:
        alerts.raise_alert(
            "payment",
            str(row.pk),
            f"Stripe refuses the charge of automatic top-up {row.pk}: {error}",
            organization_id=row.organization_id,
        )
        return _declined(row, error)
    return crediting.apply(row, intent)


def _tax_on(row: TopUp, customer: str) -> payments.TaxDue:
    """Reckoned once, noted on the row before the card is charged: what then is paid must be just that."""
    key = f"topup-{row.pk}-tax"
    due = payments.tax_on(row.cents, customer=customer, reference=str(row.pk), key=key)
    rows = TopUp.objects.of(row.organization_id).filter(pk=row.pk, state=TopUp.State.CREATED)
    rows.update(tax_cents=due.cents)
    return due


def _declined(row: TopUp, error: StripeRefused) -> str:
    code = error.decline_code or error.code or "refused"
    with transaction.atomic():
        locked = TopUp.objects.of(row.organization_id).select_for_update().get(pk=row.pk)
        if locked.state not in crediting.WAITING:
            return f"top-up is {locked.state}"
        if error.object_id:
            locked.payment_intent_id = error.object_id
            locked.save(update_fields=["payment_intent_id"])
        crediting.fail(locked, code, str(error))
    return f"declined: {code}"


def _settle_one(row: TopUp) -> None:
    """What came of a charge whose answer was lost: Stripe is asked for it before it is asked again."""
    if row.payment_intent_id:
        top_ups.refresh_intent(row.payment_intent_id)
        return
    customer = str(Customer.objects.of(row.organization_id).get().stripe_id)
    made = payments.intents_of(customer, since=row.created_at - timedelta(minutes=5))
    found = next((each for each in made if each.metadata.get("top_up") == str(row.pk)), None)
    if found is not None:
        crediting.apply(row, found)
        return
    if clock.now() - row.created_at > KEYS_ARE_KEPT or not _is_wanted(row.organization_id):
        with transaction.atomic():
            locked = TopUp.objects.of(row.organization_id).select_for_update().get(pk=row.pk)
            if locked.state == TopUp.State.CREATED:
                crediting.end(locked, TopUp.State.EXPIRED, "not_charged", "The card was never charged.")
        return
    _charge(row)


def _is_wanted(organization_id: int) -> bool:
    """Whether the customer still wants to be charged by itself, and may be."""
    setting = AutoTopUp.objects.of(organization_id).get()
    is_frozen = Wallet.objects.of(organization_id).get().frozen_at is not None
    return setting.enabled and setting.paused_at is None and not is_frozen


def _waiting() -> list[TopUp]:
    before = clock.now() - top_ups.LOOKED_AT_AFTER
    rows = TopUp.unscoped.filter(kind=TopUp.Kind.AUTO, state__in=crediting.WAITING, created_at__lt=before)
    return list(rows.order_by("?")[:100])


def _tell_capped(setting: AutoTopUp) -> None:
    """Once a month; it goes on by itself in the next."""
    letters.write(
        setting.organization_id,
        "auto_top_up_capped",
        _this_month(setting.organization_id),
        context={"cap": show_usd(nanos_of_cents(setting.monthly_cap_cents)), "month": f"{clock.now():%B %Y}"},
    )


def _this_month(organization_id: int) -> str:
    return f"{organization_id}-{clock.now():%Y-%m}"


def _pause_without_card(setting: AutoTopUp) -> None:
    crediting.pause(setting.organization_id, "no_card")
    letters.write(
        setting.organization_id,
        "auto_top_up_failed",
        f"{setting.organization_id}-no-card-{clock.now():%Y%m%d%H%M%S}",
        context={"amount": show_usd(nanos_of_cents(setting.cents)), "code": "no_card", "message": ""},
    )


def _refuse_without_card(organization_id: int) -> None:
    if customers.default_card(organization_id) is None:
        raise Refusal(
            "no_card",
            "Automatic top-up needs a saved card. Save one with your next top-up, or under payment methods.",
            status=409,
        )


def _refuse_after_declines(organization_id: int) -> None:
    hour_ago = clock.now() - timedelta(hours=1)
    failed = TopUp.objects.of(organization_id).filter(state=TopUp.State.FAILED, ended_at__gt=hour_ago)
    if failed.count() >= MOST_DECLINES:
        raise Refusal(
            "too_many_declines",
            "Too many payments were declined within an hour. Choose another card, and try again later.",
            status=429,
            retry_after=3600,
        )
