"""What an organization, or one of its members, has spent lately: the figures above the list of calls."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from aggregator.lib import clock, graphs
from billing import generation, statements
from billing.money import Nanos, show_usd
from billing.statements import UsageLine

DAYS = 14
_PACE_DAYS = 7
_MODEL_DAYS = 30


@dataclass(frozen=True, slots=True)
class Overview:
    today_nanos: Nanos
    today_requests: int
    month_nanos: Nanos
    month_requests: int
    balance_nanos: Nanos
    days_left: int | None
    """At the pace of the last seven days; None without one."""
    calls: int
    """In the last 24 hours."""
    failed: int
    aborted: int
    spend: graphs.Bars
    total_nanos: Nanos

    @property
    def failed_percent(self) -> str:
        share = 100 * self.failed / self.calls if self.calls else 0
        return f"{share:.1f}" if 0 < share < 10 else f"{share:.0f}"


def overview(organization_id: int, *, key_ids: Collection[int] | None = None) -> Overview:
    """Days and months are UTC. `key_ids` None is every key; the balance is always the organization's."""
    now = clock.now()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    by_day = {
        line.name: line
        for line in statements.usage(
            organization_id,
            since=min(midnight.replace(day=1), midnight - timedelta(days=DAYS - 1)),
            key_ids=key_ids,
        )
    }
    today = midnight.date()
    days = [_of(by_day, today - timedelta(days=ago)) for ago in range(DAYS - 1, -1, -1)]
    month = [line for name, line in by_day.items() if name[:7] == f"{today:%Y-%m}"]
    ended = statements.outcomes(organization_id, since=now - timedelta(days=1), key_ids=key_ids)
    balance = statements.balance(organization_id).nanos
    pace = sum(line.charge_nanos for line in days[-_PACE_DAYS:])
    return Overview(
        today_nanos=days[-1].charge_nanos,
        today_requests=days[-1].requests,
        month_nanos=sum(line.charge_nanos for line in month),
        month_requests=sum(line.requests for line in month),
        balance_nanos=balance,
        days_left=max(balance, 0) * _PACE_DAYS // pace if pace and key_ids is None else None,
        calls=sum(ended.values()),
        failed=ended.get(generation.FAILED, 0) + ended.get(generation.VOID, 0),
        aborted=ended.get(generation.ABORTED, 0),
        spend=_spend(days),
        total_nanos=sum(line.charge_nanos for line in days),
    )


def models_used(organization_id: int, *, key_ids: Collection[int] | None = None) -> list[str]:
    """The models that served lately, by name, to filter by."""
    since = clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(days=_MODEL_DAYS)
    lines = statements.usage(organization_id, by="model", since=since, key_ids=key_ids)
    return sorted(line.name for line in lines if line.name)


def _of(by_day: dict[str, UsageLine], day: date) -> UsageLine:
    return by_day.get(day.isoformat(), UsageLine(day.isoformat(), 0, 0, 0, 0, 0))


def _spend(days: Sequence[UsageLine]) -> graphs.Bars:
    total, most = sum(line.charge_nanos for line in days), max(line.charge_nanos for line in days)
    return graphs.bars(
        "spend",
        graphs.days(date.fromisoformat(days[0].name), len(days)),
        [
            graphs.Series("Provider", [line.base_nanos for line in days]),
            graphs.Series("Mark-up", [line.markup_nanos for line in days]),
        ],
        title=f"Spend by day, the last {len(days)} days",
        words=f"{show_usd(total)} in all; the dearest day came to {show_usd(most)}.",
        show=lambda nanos: show_usd(int(nanos)),
    )
