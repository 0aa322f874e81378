"""The close of a month: the volume discount as a rebate, and the margin that the month left us.

Months are UTC and half-open, and go by admission. A month is closed for each organization once, after all
of it is posted and those before it are closed; what arrives later is on the bill of the first open month, and
counts as the first usage of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import Sum

from accounts.models import Organization
from aggregator.lib import clock
from billing import alerts, ledger, plans, quotes, reloads, stretches
from billing.core import chart, discounts
from billing.core.discounts import Rule, Used
from billing.core.money import Nanos, usd
from billing.models import BilledUsage, MonthClose, Plan
from billing.stretches import Stretch, Usage

log = structlog.get_logger(__name__)

GRACE = timedelta(hours=6)
"""After the end of a month, for calls that go on and spools that are replayed."""
_LATE = timedelta(hours=12)


class NotClosable(ValueError):
    """The month is not over, or some of it is not posted yet."""


@dataclass(frozen=True, slots=True)
class Reckoning:
    """What the rebate of a month follows from."""

    late: tuple[tuple[date, Usage], ...]
    """What is on its bill and was used in earlier months, by these."""
    cuts: tuple[Stretch, ...]
    used: tuple[Usage, ...]

    @property
    def everything(self) -> tuple[Usage, ...]:
        return (*(usage for _, usage in self.late), *self.used)

    @property
    def counted(self) -> list[tuple[Rule, Used]]:
        """The terms that began the month hold for what came late."""
        rules = [*(self.cuts[0].rule for _ in self.late), *(cut.rule for cut in self.cuts)]
        used = (Used(one.base_nanos, one.charge_nanos) for one in self.everything)
        return list(zip(rules, used, strict=True))

    @property
    def rebate(self) -> Nanos:
        return discounts.rebate(self.counted)

    def detail(self) -> list[dict[str, Any]]:
        """As `MonthClose.detail` keeps it."""
        shares = [f"{share:f}" for share in discounts.shares(self.counted)]
        lines: list[dict[str, Any]] = [
            {"late": f"{used_in:%Y-%m}", **_sums(usage), "rebate": share}
            for (used_in, usage), share in zip(self.late, shares, strict=False)
        ]
        for stretch, one, share in zip(self.cuts, self.used, shares[len(self.late) :], strict=True):
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
                    "rebate": share,
                }
            )
        return lines


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
    """Close a month, and those before it that were missed, for every organization with something in them;
    how many were closed now for this month.

    Raises `NotClosable` within six hours of its end, and while some of it is not posted.
    """
    month = month.replace(day=1)
    until = stretches.bounds(month)[1]
    if clock.now() < until + GRACE:
        raise NotClosable(f"{month:%Y-%m} can be closed from {until + GRACE:%Y-%m-%d %H:%M} UTC on")
    todo = _open(month)
    waiting = _unposted(min([month, *(each for _, each in todo)]), month)
    if waiting:
        says = f"{month:%Y-%m} is not closed: {waiting} of its calls are not posted yet"
        if clock.now() >= until + _LATE:
            alerts.raise_alert("month_not_closed", f"{month:%Y-%m}", says)
        raise NotClosable(says)
    incomes = {each: _income(each) for each in {each for _, each in todo}}
    closed = [_close(owner, each, *incomes[each].get(owner, (0, 0, 0))) for owner, each in todo]
    alerts.resolve("month_not_closed", f"{month:%Y-%m}")
    return sum(done for done, (_, each) in zip(closed, todo, strict=True) if each == month)


def _unposted(first: date, last: date) -> int:
    since, until = stretches.bounds(first)[0], stretches.bounds(last)[1]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM generations WHERE posting_id IS NULL"
            " AND id >= uuid7_from(%s) AND id < uuid7_from(%s)",
            [since, until],
        )
        return int(cursor.fetchone()[0])


def _open(month: date) -> list[tuple[int, date]]:
    """(organization, month) of all that is to be closed, the earliest first: it has usage or movements, and
    neither it nor a later month is closed."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH something AS (
                SELECT organization_id, month FROM billing_billedusage WHERE month <= %(month)s
                UNION
                SELECT organization_id,
                       CASE WHEN kind IN ('rebate', 'monthly_fee')
                            THEN to_date(split_part(source_id, ':', 2), 'YYYY-MM')
                            ELSE date_trunc('month', created_at AT TIME ZONE 'UTC')::date END
                FROM billing_posting WHERE kind <> 'usage'
            )
            SELECT something.organization_id, something.month FROM something
            JOIN billing_wallet AS wallet USING (organization_id)
            WHERE something.month <= %(month)s
              AND NOT EXISTS (SELECT FROM billing_monthclose AS closed
                              WHERE closed.organization_id = something.organization_id
                                AND closed.month >= something.month)
            ORDER BY something.month, something.organization_id
            """,
            {"month": month},
        )
        return [(owner, each) for owner, each in cursor.fetchall()]


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
    """Whether it was closed now: nobody else had, and the usage by time agrees with the bill."""
    organization = Organization.objects.get(pk=organization_id)
    with transaction.atomic():
        ledger.lock_wallets({organization_id})
        if MonthClose.objects.of(organization).filter(month__gte=month).exists():
            return False
        if bills_wait(organization_id, month - timedelta(days=1)):
            return False  # what is billed to an earlier month would be on no close any more
        reckoned = reckon(organization_id, month)
        if not _agrees_with_the_bill(organization, month, reckoned):
            return False
        rebate = reckoned.rebate
        charged = sum(one.charge_nanos for one in reckoned.everything)
        base = sum(one.base_nanos for one in reckoned.everything)
        lost = sum(one.loss_nanos for one in reckoned.everything) + loss
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
            detail=reckoned.detail(),
            posting_id=_post(organization, month, rebate) if rebate else None,
            closed_at=clock.now(),
        )
        if rebate:
            reloads.after_commit(organization.public_id)
    for used_in, usage in reckoned.late:
        log.warning(
            "calls arrived after their month was closed",
            organization=organization.public_id,
            month=f"{used_in:%Y-%m}",
            charged=usd(usage.charge_nanos),
        )
    return True


def bills_wait(organization_id: int, month: date) -> bool:
    """Whether this month or one before it has usage on its bill and is open. The caller holds the wallet."""
    newest = MonthClose.objects.of(organization_id).order_by("-month").values_list("month", flat=True).first()
    billed = BilledUsage.objects.of(organization_id).filter(month__lte=month)
    return (billed if newest is None else billed.filter(month__gt=newest)).exists()


def _agrees_with_the_bill(organization: Organization, month: date, reckoned: Reckoning) -> bool:
    """Two roll-ups are told of every call; while they differ, nobody is billed by either."""
    subject = f"{organization.public_id}:{month:%Y-%m}"
    billed = sum((usage for _, usage in _billed(organization.pk, month)), Usage())
    used = sum(reckoned.everything, Usage())
    if billed == used:
        alerts.resolve("month_differs", subject)
        return True
    says = f"{month:%Y-%m} of {organization.public_id} is not closed: its bill is {billed}, its usage {used}"
    alerts.raise_alert("month_differs", subject, says, organization_id=organization.pk)
    return False


def _post(organization: Organization, month: date, rebate: Nanos) -> int:
    return ledger.post(
        "rebate",
        f"{organization.public_id}:{month:%Y-%m}",
        entries={(chart.WALLET, organization.pk): rebate, (chart.DISCOUNT, None): -rebate},
        organization_id=organization.pk,
        source="month",
        note=f"Volume discount of {month:%B %Y}",
    )


def reckon(organization_id: int, month: date) -> Reckoning:
    """By what is known now; of a closed month, its `MonthClose` says what was counted."""
    month = month.replace(day=1)
    cuts = stretches.of(organization_id, month)
    late = [(used_in, usage) for used_in, usage in _billed(organization_id, month) if used_in < month]
    return Reckoning(tuple(late), tuple(cuts), tuple(stretches.usage(organization_id, cuts)))


def _billed(organization_id: int, month: date) -> list[tuple[date, Usage]]:
    """What is on the bill of a month, by the months of admission."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT used_in, sum(requests)::bigint, sum(base_nanos)::bigint, sum(charge_nanos)::bigint,"
            " sum(loss_nanos)::bigint FROM billing_billedusage"
            " WHERE organization_id = %s AND month = %s GROUP BY used_in ORDER BY used_in",
            [organization_id, month],
        )
        return [(used_in, Usage(*sums)) for used_in, *sums in cursor.fetchall()]


def _sums(usage: Usage) -> dict[str, int]:
    return {name: getattr(usage, name) for name in Usage.__dataclass_fields__}


# ── Looking ──────────────────────────────────────────────────────────────────────────────────────


def accrued(organization_id: int, month: date) -> Nanos:
    """The rebate of a month by what is known now; what `close_month` will post if nothing more comes."""
    return reckon(organization_id, month).rebate


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


def would_have_cost(organization_id: int, *months: date) -> list[dict[str, WouldHaveCost]]:
    """What the usage of each month comes to under each published plan; of the running month, so far."""
    bounds = [stretches.bounds(month) for month in months]
    used = stretches.usage(organization_id, [Stretch(since, until, None) for since, until in bounds])
    found, now = plans.in_force(), clock.now()
    return [
        {slug: _under(found[slug], usage, so_far=now < until) for slug in quotes.COMPARED}
        for usage, (_, until) in zip(used, bounds, strict=True)
    ]


def _under(plan: Plan, used: Usage, *, so_far: bool) -> WouldHaveCost:
    quote = quotes.of_base(plan, used.base_nanos)
    return WouldHaveCost(
        plan=plan.slug,
        name=quote.name,
        markup=quote.markup,
        usage_nanos=quote.charge_nanos,
        fee_nanos=quote.fee_nanos,
        rebate_nanos=quote.rebate_nanos,
        so_far=so_far,
    )
