"""How much of each budget is used now, as PostgreSQL knows it: for pages and alerts, in a few queries.

What running calls hold is only known to the gate, and does not count here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection

from accounts.models import Membership, Organization
from billing.core import budgets
from billing.core.budgets import Window, account_name
from billing.core.money import Nanos
from billing.models import Budget

MOST_END_USERS: Final = 100

_KIND: Final = {
    Budget.Kind.ORGANIZATION.value: budgets.ORGANIZATION,
    Budget.Kind.MEMBER.value: budgets.MEMBER,
    Budget.Kind.END_USER.value: budgets.END_USER,
}


@dataclass(frozen=True, slots=True)
class Standing:
    """One account of a budget in its present window. A budget for each member has as many as there are."""

    budget: Budget
    account: str
    """As the gate names it, window and all."""
    window: Window
    used_nanos: Nanos
    member_id: int | None = None
    end_user: str = ""

    @property
    def limit_nanos(self) -> Nanos:
        return self.budget.limit_nanos

    @property
    def left_nanos(self) -> Nanos:
        return max(self.budget.limit_nanos - self.used_nanos, 0)

    @property
    def percent(self) -> int:
        """Of the limit, rounded down; all of a limit of nothing is used."""
        return 100 * self.used_nanos // self.limit_nanos if self.limit_nanos else 100


def of_budgets(
    organization: Organization,
    rows: Collection[Budget],
    *,
    at: datetime,
    least_percent: int = 0,
    most: int = MOST_END_USERS,
) -> list[Standing]:
    """The accounts of these budgets of an organization, at least so full, in the order of the budgets.

    Of a budget for every end user, the `most` that used most of it; those that used nothing are left out.
    """
    reading = _Reading(organization, rows, at)
    return [
        found
        for budget in rows
        for found in reading.of(budget, least_percent=least_percent, most=most)
        if found.percent >= least_percent
    ]


class _Reading:
    """What the budgets' windows have seen, read once for all of them."""

    def __init__(self, organization: Organization, rows: Collection[Budget], at: datetime) -> None:
        self.organization = organization
        self.windows = {kind: budgets.window(kind, at) for kind in budgets.WINDOWS}
        self.own = {(row.kind, row.member_id, row.end_user, row.window) for row in rows}
        kinds = {row.kind for row in rows}
        self.members: list[int] = []
        self.by_member: dict[int | None, dict[str, Nanos]] = {}
        self.by_end_user: dict[str, dict[str, Nanos]] = {}
        if kinds & {Budget.Kind.ORGANIZATION, Budget.Kind.MEMBER}:
            since = self._since(row for row in rows if row.kind != Budget.Kind.END_USER)
            self.by_member = self._sums(_BY_MEMBER, since=since)
        if any(row.kind == Budget.Kind.MEMBER and row.member_id is None for row in rows):
            members = Membership.objects.of(organization).order_by("user__email")
            self.members = list(members.values_list("user_id", flat=True))
            self.members += sorted(
                member for member in self.by_member if member is not None and member not in self.members
            )
        named = [row for row in rows if row.end_user]
        if named:
            names = [row.end_user for row in named]
            self.by_end_user = self._sums(_BY_END_USER, since=self._since(named), names=names)

    def of(self, budget: Budget, *, least_percent: int, most: int) -> Iterator[Standing]:
        if budget.kind == Budget.Kind.ORGANIZATION:
            used = sum(sums[budget.window] for sums in self.by_member.values())
            yield self._standing(budget, used)
        elif budget.kind == Budget.Kind.MEMBER:
            for member in self._members_of(budget):
                used = self.by_member.get(member, {}).get(budget.window, 0)
                yield self._standing(budget, used, member_id=member)
        elif budget.end_user:
            used = self.by_end_user.get(budget.end_user, {}).get(budget.window, 0)
            yield self._standing(budget, used, end_user=budget.end_user)
        else:
            least = max(budget.limit_nanos * least_percent // 100, 1)
            for end_user, used in self._fullest(budget, least=least, most=most):
                yield self._standing(budget, used, end_user=end_user)

    def _members_of(self, budget: Budget) -> Sequence[int]:
        """Those whose budget of this window it is: one of their own stands in its place."""
        if budget.member_id is not None:
            return [budget.member_id]
        return [each for each in self.members if (budget.kind, each, "", budget.window) not in self.own]

    def _standing(
        self, budget: Budget, used: Nanos, *, member_id: int | None = None, end_user: str = ""
    ) -> Standing:
        window = self.windows[budget.window]
        name = account_name(
            _KIND[budget.kind],
            self.organization.public_id,
            window.label,
            member_id=member_id,
            end_user=end_user,
        )
        return Standing(budget, name, window, used, member_id, end_user)

    def _since(self, rows: Iterator[Budget] | Sequence[Budget]) -> datetime:
        return min(self.windows[row.window].starts_at for row in rows)

    def _sums(self, statement: str, **asked: Any) -> dict[Any, dict[str, Nanos]]:
        """By whom, and by kind of window; nothing before `since` counts, so of longer ones too little."""
        with connection.cursor() as cursor:
            cursor.execute(statement, self._asked(**asked))
            return {
                row[0]: dict(zip(("day", "week", "month", "total"), row[1:], strict=True))
                for row in cursor.fetchall()
            }

    def _fullest(self, budget: Budget, *, least: Nanos, most: int) -> list[tuple[str, Nanos]]:
        """Of the end users that have none of their own, those that used most in the budget's window."""
        own = [name for kind, _, name, window in self.own if kind == budget.kind and window == budget.window]
        since = self.windows[budget.window].starts_at
        with connection.cursor() as cursor:
            cursor.execute(_FULLEST, self._asked(since=since, names=own, least=least, most=most))
            return [(name, int(used)) for name, used in cursor.fetchall()]

    def _asked(self, *, since: datetime, **more: Any) -> dict[str, Any]:
        starts = {kind: window.starts_at for kind, window in self.windows.items()}
        days = {"since_day": since.date()}
        return {"organization": self.organization.pk, "since": since, **starts, **days, **more}


_WINDOWS = """
    coalesce(sum(nanos) FILTER (WHERE at >= %(day)s), 0)::bigint,
    coalesce(sum(nanos) FILTER (WHERE at >= %(week)s), 0)::bigint,
    coalesce(sum(nanos) FILTER (WHERE at >= %(month)s), 0)::bigint,
    coalesce(sum(nanos), 0)::bigint
"""
_BY_MEMBER = f"""
SELECT key.created_by_id, {_WINDOWS} FROM (
    SELECT key_id, start AS at, charge_nanos AS nanos FROM billing_usagespan
    WHERE organization_id = %(organization)s AND hours = 24 AND start >= %(since)s
    UNION ALL
    SELECT key_id, uuid7_time(id), charge_nanos FROM generations
    WHERE organization_id = %(organization)s AND posting_id IS NULL AND id >= uuid7_from(%(since)s)
) AS used JOIN accounts_key AS key ON key.id = key_id
GROUP BY 1
"""  # noqa: S608 (only constants are put together)
_OF_END_USERS = """
    SELECT end_user, day::timestamp AT TIME ZONE 'UTC' AS at, charge_nanos AS nanos FROM billing_enduserday
    WHERE organization_id = %(organization)s AND day >= %(since_day)s AND end_user <> '' AND {whose}
    UNION ALL
    SELECT end_user, uuid7_time(id), charge_nanos FROM generations
    WHERE organization_id = %(organization)s AND posting_id IS NULL AND id >= uuid7_from(%(since)s)
      AND end_user <> '' AND {whose}
"""
_BY_END_USER = f"""
SELECT end_user, {_WINDOWS} FROM ({_OF_END_USERS.format(whose="end_user = ANY(%(names)s)")}) AS used
GROUP BY 1
"""  # noqa: S608
_FULLEST = f"""
SELECT end_user, sum(nanos)::bigint AS used
FROM ({_OF_END_USERS.format(whose="end_user <> ALL(%(names)s)")}) AS used
GROUP BY 1 HAVING sum(nanos) >= %(least)s ORDER BY 2 DESC, 1 LIMIT %(most)s
"""  # noqa: S608
