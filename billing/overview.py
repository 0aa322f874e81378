"""What the billing page shows of one organization: credit, plan, cards, and what needs attention.

Read only. Frozen values and rows of this organization; nothing here asks Stripe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal

from django.conf import settings
from django.db import connection
from django.db.models import Sum

from accounts.models import Organization
from aggregator.lib import clock
from billing import lots, plans, rebates, receipts, statements, wallets
from billing.core.money import NANOS_PER_CENT, Nanos
from billing.models import (
    AgreedTerms,
    AutoTopUp,
    Card,
    CreditLot,
    Dispute,
    Plan,
    StripeInvoice,
    Subscription,
    TopUp,
    Wallet,
)
from billing.payments import refunds, top_ups

PRO, BUSINESS, PRODUCTION = "pro", "business", "production"
ORDER = (plans.FREE, PRO, BUSINESS, PRODUCTION)
"""From the dearest mark-up to the one that is agreed."""

START, UPGRADE, DOWNGRADE, CANCEL, KEEP, TALK = "start", "upgrade", "downgrade", "cancel", "keep", "talk"

_WAITING = (TopUp.State.CREATED, TopUp.State.OPEN)
_UNFINISHED = timedelta(hours=24)
"""How long Stripe keeps a payment page."""


@dataclass(frozen=True, slots=True)
class Header:
    """What every page says of the money, asked for in one statement."""

    left_nanos: Nanos = 0
    frozen_because: str = ""
    is_past_due: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """A plan as it stands beside the others."""

    slug: str
    name: str
    markup_percent: str
    """Empty when it is agreed with each organization, as are the next two."""
    monthly_nanos: Nanos | None
    discount_percent: str
    threshold_nanos: Nanos
    is_current: bool
    action: str
    """One of `START` to `TALK`, or nothing to do."""
    last_month: rebates.WouldHaveCost | None = None
    this_month: rebates.WouldHaveCost | None = None
    is_cheapest: bool = False
    """For the usage of last month or, when there was none, of this one."""


@dataclass(frozen=True, slots=True)
class Comparison:
    plans: Sequence[Offer]
    month: date
    """The first day of the month by whose usage they are compared."""
    saved_nanos: Nanos
    """How much less the cheapest would have come to than the plan there is."""


@dataclass(frozen=True, slots=True)
class Unused:
    """What is left of one top-up."""

    top_up: TopUp
    nanos: Nanos


@dataclass(frozen=True, slots=True)
class SavedCard:
    brand: str
    last4: str
    expiry: str
    """`03/2028`"""
    is_expired: bool
    is_default: bool


@dataclass(frozen=True, slots=True)
class Overview:
    wallet: Wallet
    balance: statements.Balance
    promotions: Sequence[CreditLot]
    terms: AgreedTerms | None
    subscription: Subscription | None
    unpaid: Sequence[StripeInvoice]
    """Invoices that wait for money after a first failure, or for a transfer."""
    disputes: Sequence[Dispute]
    cards: Sequence[SavedCard]
    auto: AutoTopUp | None
    paused_says: str
    """Why automatic top-ups are paused, and what to do."""
    auto_month_cents: int
    """What they bought in this month, or are buying."""
    is_buying: bool
    """Whether an automatic top-up is under way."""
    payments: Sequence[TopUp]
    """Top-ups that were begun lately on a payment page and are not paid."""

    @property
    def left_nanos(self) -> Nanos:
        return self.balance.nanos

    @property
    def may_pay(self) -> bool:
        return top_ups.may_pay(self.wallet)

    @property
    def owed_nanos(self) -> Nanos:
        return max(-self.left_nanos, 0)

    @property
    def promotional_nanos(self) -> Nanos:
        """Promotions burn first, so what is not posted yet is taken from them."""
        left = sum(lot.remaining_nanos for lot in self.promotions) - self.balance.unposted_nanos
        return max(left, 0)

    @property
    def expiring(self) -> list[CreditLot]:
        return [lot for lot in self.promotions if lot.expires_at is not None]

    @property
    def is_postpaid(self) -> bool:
        return self.terms is not None and self.terms.postpaid

    @property
    def card(self) -> SavedCard | None:
        """What is charged when nobody is there to choose."""
        return next((card for card in self.cards if card.is_default), None)

    @property
    def past_due(self) -> Subscription | None:
        living = self.subscription
        return living if living and living.state == Subscription.State.PAST_DUE else None

    @property
    def overdue_invoices(self) -> list[StripeInvoice]:
        """Of the subscription."""
        return [row for row in self.unpaid if row.purpose == StripeInvoice.Purpose.SUBSCRIPTION]

    @property
    def owed_invoices(self) -> list[StripeInvoice]:
        """Of months that are paid afterwards."""
        return [row for row in self.unpaid if row.purpose == StripeInvoice.Purpose.POSTPAID]


_HEADER = """
SELECT coalesce((SELECT balance_nanos FROM billing_wallet WHERE organization_id = %(id)s), 0)
       - coalesce((SELECT sum(charge_nanos) FROM generations
                   WHERE organization_id = %(id)s AND posting_id IS NULL), 0)::bigint,
       coalesce((SELECT frozen_because FROM billing_wallet WHERE organization_id = %(id)s), ''),
       EXISTS (SELECT FROM billing_subscription WHERE organization_id = %(id)s AND state = 'past_due')
"""


def header(organization_id: int) -> Header:
    with connection.cursor() as cursor:
        cursor.execute(_HEADER, {"id": organization_id})
        return Header(*cursor.fetchone())


def of(organization: Organization) -> Overview:
    wallet = wallets.open_wallet(organization.pk)
    now = clock.now()
    auto = AutoTopUp.objects.of(organization).first()
    return Overview(
        wallet=wallet,
        balance=statements.balance(organization.pk),
        promotions=list(
            CreditLot.objects.of(organization)
            .filter(kind=CreditLot.Kind.PROMOTION, remaining_nanos__gt=0)
            .order_by("expires_at", "pk")
        ),
        terms=AgreedTerms.objects.of(organization).order_by("-version").first(),
        subscription=subscription(organization),
        unpaid=list(
            StripeInvoice.objects.of(organization)
            .filter(state=StripeInvoice.State.OPEN)
            .order_by("created_at")
        ),
        disputes=list(Dispute.objects.of(organization).filter(closed_at=None).order_by("opened_at")),
        cards=cards(organization),
        auto=auto,
        paused_says=_paused_says(auto) if auto and auto.paused_at else "",
        auto_month_cents=_bought_by_itself(organization) if auto else 0,
        is_buying=TopUp.objects.of(organization).filter(kind=TopUp.Kind.AUTO, state__in=_WAITING).exists(),
        payments=list(
            TopUp.objects.of(organization)
            .filter(kind=TopUp.Kind.CHECKOUT, state=TopUp.State.OPEN, created_at__gt=now - _UNFINISHED)
            .order_by("-created_at")[:3]
        ),
    )


def cards(organization: Organization) -> list[SavedCard]:
    """The cards that Stripe keeps for an organization, the default first."""
    now = clock.now()
    rows = Card.objects.of(organization).filter(removed_at=None).order_by("-is_default", "-added_at")
    return [
        SavedCard(
            brand=row.brand,
            last4=row.last4,
            expiry=f"{row.exp_month:02d}/{row.exp_year}",
            is_expired=(row.exp_year, row.exp_month) < (now.year, now.month),
            is_default=row.is_default,
        )
        for row in rows
    ]


def _paused_says(auto: AutoTopUp) -> str:
    if auto.paused_because == "no_card":
        return "there is no saved card. Save one, then resume."
    if auto.paused_because == "authentication_required":
        return "your bank wants you to confirm the payment yourself. Add credit by hand once, then resume."
    if auto.paused_because == "customer_tax_location_invalid":
        return "the tax depends on your address. Add credit by hand once, the page asks for it; then resume."
    if auto.paused_because == "refund":
        return "credit was paid back. Resume when the card may be charged again."
    failed = TopUp.objects.of(auto.organization_id).filter(kind=TopUp.Kind.AUTO, state=TopUp.State.FAILED)
    last = failed.order_by("-created_at").first()
    why = last.failure_message if last and last.failure_message else "the card was declined."
    return f"{why} Check the card or choose another, then resume."


def _bought_by_itself(organization: Organization) -> int:
    month = clock.now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    bought = TopUp.objects.of(organization).filter(
        kind=TopUp.Kind.AUTO, state__in=[*_WAITING, TopUp.State.PAID], created_at__gte=month
    )
    return int(bought.aggregate(cents=Sum("cents"))["cents"] or 0)


def subscription(organization: Organization) -> Subscription | None:
    """The one that is in force or overdue."""
    living = [Subscription.State.ACTIVE, Subscription.State.PAST_DUE]
    return Subscription.objects.of(organization).filter(state__in=living).first()


def action(slug: str, *, plan: str, living: Subscription | None) -> str:
    """What a person can do about a plan, who is on `plan` now; nothing is an empty word."""
    if slug == plan == PRODUCTION:
        return ""
    if PRODUCTION in (slug, plan):
        return TALK
    if living is None:
        return START if slug != plan and slug != plans.FREE else ""
    if slug == living.plan:
        return KEEP if living.next_plan else ""
    if slug == living.next_plan:
        return ""
    if slug == plans.FREE:
        return CANCEL
    if living.state == Subscription.State.PAST_DUE:
        return ""
    return UPGRADE if ORDER.index(slug) > ORDER.index(living.plan) else DOWNGRADE


def offers(seen: Overview, *, last_month: date, this_month: date) -> Comparison:
    """The four plans by the usage of both months (their first days); by last month's where there was some."""
    owner = seen.wallet.organization_id
    last, this = rebates.would_have_cost(owner, last_month, this_month)
    published = plans.in_force()
    month, costs = (last_month, last) if _used(last) else (this_month, this)
    totals = {slug: cost.total_nanos for slug, cost in costs.items()} if _used(costs) else {}
    least = min(totals.values(), default=0)
    now = totals.get(seen.wallet.plan, least)
    return Comparison(
        plans=[
            replace(
                offer(published[slug], seen),
                last_month=last.get(slug),
                this_month=this.get(slug),
                is_cheapest=totals.get(slug) == least,
            )
            for slug in ORDER
        ],
        month=month,
        saved_nanos=now - least,
    )


def offer(plan: Plan, seen: Overview) -> Offer:
    """One plan as it is published."""
    return Offer(
        slug=plan.slug,
        name=plan.name,
        markup_percent=_percent(plan.markup),
        monthly_nanos=plan.monthly_nanos,
        discount_percent=_percent(plan.volume_discount),
        threshold_nanos=plan.discount_threshold_nanos,
        is_current=plan.slug == seen.wallet.plan,
        action=action(plan.slug, plan=seen.wallet.plan, living=seen.subscription),
    )


def refundable(organization: Organization) -> list[Unused]:
    """Top-ups of which a cent or more is not used, the newest first; none that `refunds.ask` would refuse."""
    found = {lot.source_id: lot.remaining for lot in lots.refundable(organization.pk)}
    rows = TopUp.objects.of(organization).filter(payment_intent_id__in=found).order_by("-created_at")
    refusal = refunds.rule(organization)
    return [
        Unused(row, found[row.payment_intent_id])
        for row in rows
        if row.payment_intent_id and found[row.payment_intent_id] >= NANOS_PER_CENT and refusal(row) is None
    ]


def contact() -> str:
    """Where customers write to; empty when the installation names nobody."""
    return str(settings.CONTACT_EMAIL)


def _used(costs: Mapping[str, rebates.WouldHaveCost]) -> bool:
    return any(cost.usage_nanos for cost in costs.values())


def _percent(fraction: Decimal | None) -> str:
    return "" if fraction is None else receipts.percent(fraction)
