"""The close of a month: the volume discount as a rebate, and the margin that the month left us.

Months are UTC and half-open, and go by admission. A month is closed for each organization once, after all
of it is posted; what arrives later counts as the first usage of the month that is closed next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import Sum

from accounts.models import Organization
from aggregator.lib import clock
from billing import alerts, chart, discounts, ledger, plans, quotes, reloads, stretches
from billing.discounts import Rule, Used
from billing.models import MonthClose
from billing.money import Nanos, usd
from billing.stretches import Stretch, Usage

log = structlog.get_logger(__name__)

GRACE = timedelta(hours=6)
"""After the end of a month, for calls that go on and spools that are replayed."""
_LATE = timedelta(hours=12)


class NotClosable(ValueError):
    """The month is not over, or some of it is not posted yet."""


@dataclass(frozen=True, slots=True)
class WouldHaveCost:
    """A month's usage under one published plan, as it stands now."""

    plan: str
    name: str
    markup: Decimal
    usage_nanos: Nanos
    """The providers' share and this plan's mark-up on it."""
    fee_nanos: Nanos
    rebate_nanos: Nanos
    so_far: bool
    """The month is not over yet."""

    @property
    def total_nanos(self) -> Nanos:
        return self.usage_nanos + self.fee_nanos - self.rebate_nanos


@dataclass(frozen=True, slots=True)
class Margin:
    """What the closed organizations of a month left us: the sums of their `MonthClose`."""

    month: date
    organizations: int
    charged_nanos: Nanos
    base_nanos: Nanos
    loss_nanos: Nanos
    subscription_nanos: Nanos
    stripe_fees_nanos: Nanos
    rebate_nanos: Nanos
    margin_nanos: Nanos

    @property
    def amounts(self) -> dict[str, Nanos]:
        """By the words of a page."""
        return {
            "charged": self.charged_nanos,
            "base": self.base_nanos,
            "losses": self.loss_nanos,
            "subscriptions": self.subscription_nanos,
            "Stripe's fees": self.stripe_fees_nanos,
            "rebates": self.rebate_nanos,
            "margin": self.margin_nanos,
        }


# ── Closing ──────────────────────────────────────────────────────────────────────────────────────


def last_month() -> date:
    return (clock.now().date().replace(day=1) - timedelta(days=1)).replace(day=1)


def close_month(month: date) -> int:
    """Close a month for every organization that used it and is not closed yet; how many were closed now.

    Raises `NotClosable` within six hours of its end, and while some of it is not posted.
    """
    month = month.replace(day=1)
    until = stretches.bounds(month)[1]
    if clock.now() < until + GRACE:
        raise NotClosable(f"{month:%Y-%m} can be closed from {until + GRACE:%Y-%m-%d %H:%M} UTC on")
    waiting = _unposted(month)
    if waiting:
        says = f"{month:%Y-%m} is not closed: {waiting} of its calls are not posted yet"
        if clock.now() >= until + _LATE:
            alerts.raise_alert("month_not_closed", f"{month:%Y-%m}", says)
        raise NotClosable(says)
    income = _income(month)
    closed = sum(_close(owner, month, *income.get(owner, (0, 0, 0))) for owner in _open(month, income))
    alerts.resolve("month_not_closed", f"{month:%Y-%m}")
    return closed


def _unposted(month: date) -> int:
    since, until = stretches.bounds(month)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM generations WHERE posting_id IS NULL"
            " AND id >= uuid7_from(%s) AND id < uuid7_from(%s)",
            [since, until],
        )
        return int(cursor.fetchone()[0])


def _open(month: date, income: dict[int, tuple[int, int, int]]) -> list[int]:
    """Organizations with something to close: usage, income or fees, or a month before that may have grown."""
    since, until = stretches.bounds(month)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT wallet.organization_id FROM billing_wallet AS wallet
            WHERE (wallet.organization_id = ANY(%(income)s)
                   OR EXISTS (SELECT FROM billing_usagespan AS span
                              WHERE span.organization_id = wallet.organization_id AND span.hours = 24
                                AND span.start >= %(since)s AND span.start < %(until)s)
                   OR EXISTS (SELECT FROM billing_monthclose AS before
                              WHERE before.organization_id = wallet.organization_id
                                AND before.month = %(before)s))
              AND NOT EXISTS (SELECT FROM billing_monthclose AS closed
                              WHERE closed.organization_id = wallet.organization_id
                                AND closed.month = %(month)s)
            ORDER BY wallet.organization_id
            """,
            {
                "income": list(income),
                "since": since,
                "until": until,
                "month": month,
                "before": _before(month),
            },
        )
        return [row[0] for row in cursor.fetchall()]


def _before(month: date) -> date:
    return (month - timedelta(days=1)).replace(day=1)


def _income(month: date) -> dict[int, tuple[int, int, int]]:
    """Subscription income, Stripe's fees and losses beside calls that were booked in the month, by
    organization."""
    since, until = stretches.bounds(month)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH moved AS MATERIALIZED (  -- few; of losses in usage there are as many as there are postings
                SELECT id, organization_id FROM billing_posting
                WHERE kind <> 'usage' AND created_at >= %(since)s AND created_at < %(until)s
            )
            SELECT moved.organization_id,
                   coalesce(sum(entry.nanos) FILTER (WHERE account.kind = %(subscription)s), 0)::bigint,
                   coalesce(-sum(entry.nanos) FILTER (WHERE account.kind = %(fees)s), 0)::bigint,
                   coalesce(-sum(entry.nanos) FILTER (WHERE account.kind = %(loss)s), 0)::bigint
            FROM moved
            JOIN billing_entry AS entry ON entry.posting_id = moved.id
            JOIN billing_account AS account ON account.id = entry.account_id
            WHERE account.kind IN (%(subscription)s, %(fees)s, %(loss)s)
            GROUP BY moved.organization_id
            """,
            {
                "subscription": chart.SUBSCRIPTION_REVENUE,
                "fees": chart.STRIPE_FEES,
                "loss": chart.LOSS,
                "since": since,
                "until": until,
            },
        )
        return {owner: (subscription, fees, loss) for owner, subscription, fees, loss in cursor.fetchall()}


def _close(organization_id: int, month: date, subscription: int, fees: int, loss: int) -> bool:
    """Whether there was something to close, and nobody else had closed it."""
    organization = Organization.objects.get(pk=organization_id)
    with transaction.atomic():
        ledger.lock_wallets({organization_id})
        if MonthClose.objects.of(organization).filter(month=month).exists():
            return False
        cuts, late = stretches.of(organization_id, month), _late_before(organization_id, month)
        used = stretches.usage(organization_id, cuts)
        counted = [(cuts[0].rule, _used(late)), *_counted(cuts, used)]
        everything = [late, *used]
        if not any(any((one.requests, one.base_nanos, one.loss_nanos)) for one in everything) and not (
            subscription or fees or loss
        ):
            return False
        rebate = discounts.rebate(counted)
        charged = sum(one.charge_nanos for one in everything)
        base = sum(one.base_nanos for one in everything)
        lost = sum(one.loss_nanos for one in everything) + loss
        MonthClose.objects.create(
            organization_id=organization_id,
            month=month,
            charged_nanos=charged,
            base_nanos=base,
            loss_nanos=lost,
            subscription_nanos=subscription,
            stripe_fees_nanos=fees,
            rebate_nanos=rebate,
            margin_nanos=charged - base - lost + subscription - fees - rebate,
            detail=_detail(month, late, cuts, used, discounts.shares(counted)),
            posting_id=_post(organization, month, rebate) if rebate else None,
        )
        if rebate:
            reloads.after_commit(organization.public_id)
    if late != Usage():
        log.warning(
            "calls arrived after their month was closed",
            organization=organization.public_id,
            month=f"{_before(month):%Y-%m}",
            charged=usd(late.charge_nanos),
        )
    return True


def _counted(cuts: Sequence[Stretch], used: Sequence[Usage]) -> list[tuple[Rule, Used]]:
    return [(cut.rule, _used(one)) for cut, one in zip(cuts, used, strict=True)]


def _used(usage: Usage) -> Used:
    return Used(usage.base_nanos, usage.charge_nanos)


def _post(organization: Organization, month: date, rebate: Nanos) -> int:
    return ledger.post(
        "rebate",
        f"{organization.public_id}:{month:%Y-%m}",
        entries={(chart.WALLET, organization.pk): rebate, (chart.DISCOUNT, None): -rebate},
        organization_id=organization.pk,
        source="month",
        note=f"Volume discount of {month:%B %Y}",
    )


def _late_before(organization_id: int, month: date) -> Usage:
    """What the month before has by now beyond what it was closed with."""
    before = _before(month)
    closed = MonthClose.objects.of(organization_id).filter(month=before).first()
    if closed is None:
        return Usage()
    (now,) = stretches.usage(organization_id, [Stretch(*stretches.bounds(before), None)])
    own = [line for line in closed.detail if "late" not in line]
    then = {name: sum(line[name] for line in own) for name in Usage.__dataclass_fields__}
    return Usage(**{name: getattr(now, name) - then[name] for name in then})


def _detail(
    month: date, late: Usage, cuts: Sequence[Stretch], used: Sequence[Usage], shares: Sequence[Decimal]
) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    if late != Usage():
        lines.append({"late": f"{_before(month):%Y-%m}", **_sums(late), "rebate": f"{shares[0]:f}"})
    for stretch, one, share in zip(cuts, used, shares[1:], strict=True):
        lines.append(
            {
                "from": stretch.since.isoformat(),
                "until": stretch.until.isoformat(),
                "plan": "" if stretch.terms is None else stretch.terms.plan,
                "terms_version": 0 if stretch.terms is None else stretch.terms.version,
                "rate": f"{stretch.rule.rate:f}",
                "threshold_nanos": stretch.rule.threshold_nanos,
                "basis": stretch.rule.basis,
                **_sums(one),
                "rebate": f"{share:f}",
            }
        )
    return lines


def _sums(usage: Usage) -> dict[str, int]:
    return {name: getattr(usage, name) for name in Usage.__dataclass_fields__}


# ── Looking ──────────────────────────────────────────────────────────────────────────────────────


def accrued(organization_id: int, month: date) -> Nanos:
    """The rebate of a month by what is known now; what `close_month` will post if nothing more comes."""
    cuts = stretches.of(organization_id, month)
    return discounts.rebate(_counted(cuts, stretches.usage(organization_id, cuts)))


def margin(month: date) -> Margin:
    """The sums over every organization whose month is closed."""
    month = month.replace(day=1)
    names = [name for name in Margin.__dataclass_fields__ if name.endswith("_nanos")]
    rows = MonthClose.unscoped.filter(month=month)
    sums = rows.aggregate(**{name: Sum(name, default=0) for name in names})
    return Margin(month=month, organizations=rows.count(), **{name: int(sums[name]) for name in names})


def margins(*, months: int = 12) -> list[Margin]:
    """Of the latest closed months, the newest first."""
    closed = MonthClose.unscoped.order_by("-month").values_list("month", flat=True).distinct()[:months]
    return [margin(month) for month in closed]


def would_have_cost(organization_id: int, month: date) -> tuple[WouldHaveCost, ...]:
    """What the usage of a month comes to under each published plan; of the running month, so far."""
    since, until = stretches.bounds(month)
    (used,) = stretches.usage(organization_id, [Stretch(since, until, None)])
    return tuple(_under(slug, used, so_far=clock.now() < until) for slug in quotes.COMPARED)


def _under(slug: str, used: Usage, *, so_far: bool) -> WouldHaveCost:
    quote = quotes.of_base(plans.current(slug), used.base_nanos)
    return WouldHaveCost(
        plan=slug,
        name=quote.name,
        markup=quote.markup,
        usage_nanos=quote.charge_nanos,
        fee_nanos=quote.fee_nanos,
        rebate_nanos=quote.rebate_nanos,
        so_far=so_far,
    )
