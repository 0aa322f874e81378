"""Plans and the terms that each organization buys at.

A plan's rows are dated and a wallet keeps the terms it was given: a new row of a plan is what the next
`set_plan` or sign-up gets, and nobody's mark-up moves without a change of their own wallet. Every change
leaves a row of `AgreedTerms`, so that a month can be billed by what was in force at each moment of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, TypedDict, Unpack

from django.db import transaction
from django.db.models import Subquery

from accounts import audit
from accounts.models import Organization
from aggregator.lib import clock
from billing import reloads
from billing.core.money import MOST_NANOS, Nanos, parse_usd
from billing.models import AgreedTerms, Plan, Wallet

FREE = "free"
"""What every organization begins with."""

AGREED = "production"
"""Its terms are agreed with each customer."""

MOST_MARKUP = Decimal(1)
"""An agreed mark-up of more than 100 % is a slip of the pen."""

MOST_CREDIT_LIMIT: Final = MOST_NANOS // 2
"""Balance and credit limit together stay below what the gate can count."""

MOST_DAYS_UNTIL_DUE: Final = 180

BASES: Final = ("billed", "base")
"""What a volume discount may be measured on: the usage as billed, or the providers' share of it."""

FROZEN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "dispute": "A payment is disputed at the bank. Withdraw the dispute, or write to us to settle it.",
        "fraud_warning": "A card's bank has told of a payment that its holder did not make. Write to us.",
        "unpaid": "An invoice is overdue. Pay it on the billing page; calls go on at once.",
        "operator": "We have suspended this account. Write to us.",
    }
)
"""Why an organization may be frozen → what has happened, and what to do."""

_SINCE = datetime(2025, 1, 1, tzinfo=UTC)
_PUBLISHED = (
    # slug, name, mark-up, dollars a month, volume discount, above dollars a month
    (FREE, "Free", "0.10", "0", "0", "0"),
    ("pro", "Pro", "0.05", "9.99", "0.02", "1000"),
    ("business", "Business", "0.03", "99", "0.05", "1000"),
    (AGREED, "Production", None, None, None, "0"),
)


class UnknownPlan(ValueError):
    """No plan of this slug is in force."""


class BadTerms(ValueError):
    """A custom plan without a mark-up, a published plan with terms of its own, or terms out of bounds."""


class Agreement(TypedDict, total=False):
    """What is agreed with one organization. A custom plan needs a mark-up; what is not said is nothing."""

    markup: Decimal | None
    """A fraction: 0.03 for 3 %."""
    monthly_nanos: Nanos
    volume_discount: Decimal
    """A fraction of a month's usage above the threshold."""
    discount_threshold_nanos: Nanos
    discount_basis: str
    """One of `BASES`."""
    credit_limit_nanos: Nanos
    """How far below zero the balance may go."""
    postpaid: bool
    """Whether the month is invoiced after its end; needs a credit limit."""
    days_until_due: int
    """Of a postpaid invoice; 0 charges the card at once."""
    note: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What an organization pays on top of the provider's price."""

    organization_id: int
    plan: str
    markup: Decimal
    """A fraction: 0.03 for 3 %."""
    version: int
    """Grows with every change; the gate carries it, so a worker knows when its copy is old."""
    credit_limit_nanos: Nanos = 0
    postpaid: bool = False
    frozen: str = ""
    """Keys of `FROZEN` with commas between them; while it says something, no call begins."""


@dataclass(frozen=True, slots=True)
class _Agreed:
    """The columns that `AgreedTerms` and an agreement share."""

    plan: str
    markup: Decimal
    monthly_nanos: Nanos = 0
    volume_discount: Decimal = Decimal(0)
    discount_threshold_nanos: Nanos = 0
    discount_basis: str = BASES[0]
    credit_limit_nanos: Nanos = 0
    postpaid: bool = False
    days_until_due: int = 0


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


def in_force() -> dict[str, Plan]:
    """The row of every plan that is in force now, by its slug."""
    rows = Plan.objects.filter(starts_at__lte=clock.now()).order_by("slug", "-starts_at").distinct("slug")
    return {row.slug: row for row in rows}


def terms(organization_id: int) -> Terms:
    """The terms in force. Raises `Wallet.DoesNotExist` when no wallet was opened."""
    newest = AgreedTerms.objects.of(organization_id).order_by("-version").values("postpaid")[:1]
    wallet = Wallet.objects.of(organization_id).annotate(postpaid=Subquery(newest)).get()
    return _terms(wallet, postpaid=bool(wallet.postpaid))


def terms_shown(organization_id: int) -> Terms:
    """The same for pages, which a newcomer may open before the job has opened their wallet."""
    try:
        return terms(organization_id)
    except Wallet.DoesNotExist:
        return _terms(_unopened(organization_id), postpaid=False)


def set_plan(
    organization_slug: str, plan_slug: str, *, by: audit.Actor = "operator", **agreement: Unpack[Agreement]
) -> Terms:
    """Give an organization a plan. Calls that begin after the commit pay by it, within a second everywhere.

    Only a custom plan takes an agreement, and it is stated whole each time. Calls that were dispatched
    before keep the mark-up that they were dispatched with. Raises `UnknownPlan`, `BadTerms`,
    `Organization.DoesNotExist` and `Wallet.DoesNotExist`.
    """
    note = agreement.pop("note", "").strip()
    agreed = _agreed(current(plan_slug), agreement)
    organization = Organization.objects.get(slug=organization_slug)
    with transaction.atomic():
        wallet = Wallet.objects.of(organization).select_for_update().get()
        newest = AgreedTerms.objects.of(organization).order_by("-version").first()
        if newest is None or _in_force(newest) != agreed:
            wallet.plan, wallet.markup = agreed.plan, agreed.markup
            wallet.credit_limit_nanos = agreed.credit_limit_nanos
            wallet.terms_version += 1
            wallet.save(update_fields=["plan", "markup", "credit_limit_nanos", "terms_version"])
            _write_down(wallet, agreed, by=by, note=note)
            audit.record(organization, "plan.set", by=by, object="wallet", detail=_told(wallet, agreed, note))
        reloads.after_commit(organization.public_id)
    return _terms(wallet, postpaid=agreed.postpaid)


def write_first_terms(wallet: Wallet) -> None:
    """The terms of a wallet that was opened in this transaction."""
    _write_down(wallet, _agreed(current(wallet.plan), {}), by="fairlead")


def why_frozen(because: str) -> str:
    """What has happened and what to do, in words for the customer, of `Terms.frozen` or a wallet's column."""
    return " ".join(FROZEN[reason] for reason in because.split(","))


def _agreed(plan: Plan, agreement: Agreement) -> _Agreed:
    if plan.markup is not None:
        if any(said is not None for said in agreement.values()):
            raise BadTerms(f"the terms of the {plan.name} plan are published and cannot be set")
        return _Agreed(
            plan=plan.slug,
            markup=plan.markup,
            monthly_nanos=plan.monthly_nanos or 0,
            volume_discount=plan.volume_discount or Decimal(0),
            discount_threshold_nanos=plan.discount_threshold_nanos,
            discount_basis=plan.discount_basis,
        )
    markup = agreement.get("markup")
    if markup is None:
        raise BadTerms(f"the {plan.name} plan needs an agreed mark-up")
    said: dict[str, Any] = {**agreement, "plan": plan.slug, "markup": markup}
    agreed = _Agreed(**said)
    _refuse_bad(agreed)
    return agreed


def _refuse_bad(agreed: _Agreed) -> None:
    for what, fraction in (("mark-up", agreed.markup), ("volume discount", agreed.volume_discount)):
        if not fraction.is_finite() or not 0 <= fraction <= MOST_MARKUP:
            raise BadTerms(f"a {what} is a fraction from 0 to 1")
        if fraction != round(fraction, 6):
            raise BadTerms(f"a {what} has at most six decimal places")
    if agreed.volume_discount == 1:
        raise BadTerms("a volume discount is less than all")
    for what, nanos, most in (
        ("monthly fee", agreed.monthly_nanos, MOST_NANOS),
        ("threshold", agreed.discount_threshold_nanos, MOST_NANOS),
        ("credit limit", agreed.credit_limit_nanos, MOST_CREDIT_LIMIT),
    ):
        if not 0 <= nanos <= most:
            raise BadTerms(f"a {what} is zero or more, and less than {most // 10**15 + 1} million dollars")
    if agreed.discount_basis not in BASES:
        raise BadTerms(f"a volume discount is measured on {' or '.join(BASES)}")
    if agreed.postpaid and not agreed.credit_limit_nanos:
        raise BadTerms("postpaid needs a credit limit")
    if not 0 <= agreed.days_until_due <= MOST_DAYS_UNTIL_DUE:
        raise BadTerms(f"an invoice is due in 0 to {MOST_DAYS_UNTIL_DUE} days")
    if agreed.days_until_due and not agreed.postpaid:
        raise BadTerms("only a postpaid invoice has days until it is due")


def _in_force(row: AgreedTerms) -> _Agreed:
    return _Agreed(**{name: getattr(row, name) for name in _Agreed.__dataclass_fields__})


def _write_down(wallet: Wallet, agreed: _Agreed, *, by: audit.Actor, note: str = "") -> None:
    row = AgreedTerms(
        organization_id=wallet.organization_id,
        version=wallet.terms_version,
        agreed_by=audit.name(by)[:300],
        note=note,
        starts_at=clock.now(),
    )
    for name, said in asdict(agreed).items():
        setattr(row, name, said)
    row.save(force_insert=True)


def _told(wallet: Wallet, agreed: _Agreed, note: str) -> dict[str, Any]:
    """For the audit log: what is agreed, but for what is nothing."""
    said = {name: said for name, said in asdict(agreed).items() if said}
    exact = {name: f"{said:f}" if isinstance(said, Decimal) else said for name, said in said.items()}
    return {**exact, "markup": f"{agreed.markup:f}", "terms_version": wallet.terms_version, "note": note}


def _unopened(organization_id: int) -> Wallet:
    """What a wallet will begin as; not saved."""
    plan = current(FREE)
    return Wallet(organization_id=organization_id, plan=plan.slug, markup=plan.markup or 0, terms_version=1)


def _terms(wallet: Wallet, *, postpaid: bool) -> Terms:
    return Terms(
        organization_id=wallet.organization_id,
        plan=wallet.plan,
        markup=wallet.markup,
        version=wallet.terms_version,
        credit_limit_nanos=wallet.credit_limit_nanos,
        postpaid=postpaid,
        frozen=wallet.frozen_because,
    )
