"""Plans and the terms that each organization buys at.

A plan's rows are dated and a wallet keeps the terms it was given: a new row of a plan is what the next
`set_plan` or sign-up gets, and nobody's mark-up moves without a change of their own wallet.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db import transaction

from accounts import audit
from accounts.models import Organization
from aggregator.lib import clock
from billing import reloads
from billing.models import Plan, Wallet
from billing.money import parse_usd

FREE = "free"
"""What every organization begins with."""

MOST_MARKUP = Decimal(1)
"""An agreed mark-up of more than 100 % is a slip of the pen."""

_SINCE = datetime(2025, 1, 1, tzinfo=UTC)
_PUBLISHED = (
    # slug, name, mark-up, dollars a month, volume discount, above dollars a month
    (FREE, "Free", "0.10", "0", "0", "0"),
    ("pro", "Pro", "0.05", "9.99", "0.02", "1000"),
    ("business", "Business", "0.03", "99", "0.05", "1000"),
    ("production", "Production", None, None, None, "0"),
)


class UnknownPlan(ValueError):
    """No plan of this slug is in force."""


class BadTerms(ValueError):
    """A custom plan without a mark-up, or a published plan with one of its own."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What an organization pays on top of the provider's price."""

    organization_id: int
    plan: str
    markup: Decimal
    """A fraction: 0.03 for 3 %."""
    version: int
    """Grows with every change; the gate carries it, so a worker knows when its copy is old."""


def seed(**_: Any) -> None:
    """The published plans, as they were at the beginning; later terms are later rows. Safe to repeat."""
    Plan.objects.bulk_create(
        [
            Plan(
                slug=slug,
                name=name,
                markup=None if markup is None else Decimal(markup),
                monthly_nanos=None if monthly is None else parse_usd(monthly),
                volume_discount=None if discount is None else Decimal(discount),
                discount_threshold_nanos=parse_usd(threshold),
                starts_at=_SINCE,
            )
            for slug, name, markup, monthly, discount, threshold in _PUBLISHED
        ],
        ignore_conflicts=True,
    )


def current(slug: str) -> Plan:
    """The row of a plan that is in force now. Raises `UnknownPlan`."""
    row = Plan.objects.filter(slug=slug, starts_at__lte=clock.now()).order_by("-starts_at").first()
    if row is None:
        known = Plan.objects.order_by("slug").values_list("slug", flat=True).distinct()
        raise UnknownPlan(f"there is no plan {slug!r}; the plans are {', '.join(known)}")
    return row


def terms(organization_id: int) -> Terms:
    """The terms in force. Raises `Wallet.DoesNotExist` when no wallet was opened."""
    return _terms(Wallet.objects.of(organization_id).get())


def set_plan(
    organization_slug: str, plan_slug: str, *, markup: Decimal | None = None, by: audit.Actor = "operator"
) -> Terms:
    """Give an organization a plan. Calls that begin after the commit pay by it, within a second everywhere.

    `markup` is a fraction, and only a custom plan takes one. Calls that were dispatched before keep
    the mark-up that they were dispatched with.
    """
    plan = current(plan_slug)
    agreed = _agreed_markup(plan, markup)
    organization = Organization.objects.get(slug=organization_slug)
    with transaction.atomic():
        wallet = Wallet.objects.of(organization).select_for_update().get()
        if (wallet.plan, wallet.markup) != (plan.slug, agreed):
            wallet.plan, wallet.markup = plan.slug, agreed
            wallet.terms_version += 1
            wallet.save(update_fields=["plan", "markup", "terms_version"])
            audit.record(
                organization,
                "plan.set",
                by=by,
                object="wallet",
                detail={"plan": plan.slug, "markup": f"{agreed:f}", "terms_version": wallet.terms_version},
            )
        reloads.after_commit(organization.public_id)
    return _terms(wallet)


def _agreed_markup(plan: Plan, markup: Decimal | None) -> Decimal:
    if plan.markup is not None:
        if markup is not None:
            raise BadTerms(f"the mark-up of the {plan.name} plan is published and cannot be set")
        return plan.markup
    if markup is None:
        raise BadTerms(f"the {plan.name} plan needs an agreed mark-up")
    if not markup.is_finite() or not 0 <= markup <= MOST_MARKUP:
        raise BadTerms("a mark-up is a fraction from 0 to 1")
    if markup != round(markup, 6):
        raise BadTerms("a mark-up has at most six decimal places")
    return round(markup, 6)


def _terms(wallet: Wallet) -> Terms:
    return Terms(wallet.organization_id, wallet.plan, wallet.markup, wallet.terms_version)
