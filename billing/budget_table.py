"""The budgets of an organization as one member may see them: each with what is used of it, by whose it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from django.db.models import Q

from accounts import access
from accounts.core import roles
from accounts.models import Key, Membership
from billing import limits, readings, spans
from billing.core import budgets
from billing.core.budgets import Window
from billing.core.money import Nanos
from billing.limits import Standing
from billing.models import Budget, BudgetAlert

NEAR: Final = 80
"""From this percent on, a budget is nearly used up."""
FULL: Final = 100
MOST_SHOWN: Final = 5
"""Of those who share a budget that each of them has."""
MOST_KEYS: Final = 50


@dataclass(frozen=True, slots=True)
class Fill:
    """How full one account is."""

    name: str
    used_nanos: Nanos
    limit_nanos: Nanos

    @property
    def percent(self) -> int:
        return 100 * self.used_nanos // self.limit_nanos if self.limit_nanos else FULL

    @property
    def left_nanos(self) -> Nanos:
        return max(self.limit_nanos - self.used_nanos, 0)

    @property
    def state(self) -> str:
        """`full`, `near` or nothing."""
        return "full" if self.percent >= FULL else "near" if self.percent >= NEAR else ""


@dataclass(frozen=True, slots=True)
class Row:
    """One budget, or one key's cap."""

    name: str
    window: Window
    limit_nanos: Nanos
    thresholds: Sequence[int]
    budget: str = ""
    """`bud_…`; empty of a key."""
    key: str = ""
    """`key_…`, of a key."""
    fill: Fill | None = None
    """None of a budget that each of many has, and where this member may not see the figures."""
    fullest: Sequence[Fill] = ()
    """Of a budget that each of many has."""
    near: int = 0
    """How many accounts are at `NEAR` percent or more."""
    full: int = 0
    each: bool = False
    hidden: bool = False
    """Whether the figures are not for this member."""

    @property
    def state(self) -> str:
        return "full" if self.full else "near" if self.near else ""


@dataclass(frozen=True, slots=True)
class Group:
    kind: str
    """`organization`, `member`, `end_user` or `key`."""
    title: str
    rows: Sequence[Row]
    more: int = 0
    """How many are not shown."""


@dataclass(frozen=True, slots=True)
class Table:
    groups: Sequence[Group] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        return [row for group in self.groups for row in group.rows]

    @property
    def near(self) -> int:
        """How many are nearly used up, those that are used up left out."""
        return sum(row.near - row.full for row in self.rows)

    @property
    def full(self) -> int:
        return sum(row.full for row in self.rows)


_TITLES: Final = {
    "organization": ("Organization", "Organization"),
    "member": ("Members", "You"),
    "end_user": ("End users", ""),
}


def table(held: Membership, *, at: datetime) -> Table:
    """All budgets and capped keys for who looks after billing; for others what limits their own calls."""
    sees_all = held.may(roles.BILLING)
    rows = list(limits.live(held.organization_id))
    by_budget: dict[int, list[Standing]] = defaultdict(list)
    for standing in limits.of_budgets(held.organization, rows, at=at):
        by_budget[standing.budget.pk].append(standing)
    people = {each.member_id for standings in by_budget.values() for each in standings if each.member_id}
    names = readings.emails(held.organization_id, people)
    groups = []
    for kind, titles in _TITLES.items():
        of_kind = [row for row in rows if row.kind == kind]
        if sees_all:
            made = [_row(row, by_budget[row.pk], names, at) for row in of_kind]
        else:
            made = [own for row in of_kind for own in _own(row, by_budget[row.pk], held)]
        if made:
            groups.append(Group(kind, titles[not sees_all], made))
    keys = _keys(held, at)
    if keys:
        groups.append(
            Group("key", "Keys" if sees_all else "Your keys", keys[:MOST_KEYS], len(keys[MOST_KEYS:]))
        )
    return Table(groups)


def alerts(held: Membership) -> Q:
    """Which rows of `BudgetAlert` this member may see: all, or those of what is theirs."""
    if held.may(roles.BILLING):
        return Q()
    own = Q(account__startswith=f"{budgets.MEMBER}:{held.organization.public_id}/{held.user_id}:")
    for public_id in access.keys_of(held).values_list("public_id", flat=True)[:MOST_KEYS]:
        own |= Q(account__startswith=f"{budgets.KEY}:{public_id}:")
    return own


@dataclass(frozen=True, slots=True)
class Told:
    """One threshold that was passed, in words."""

    row: BudgetAlert
    kind: str
    name: str
    window: Window | None


def told(organization_id: int, rows: Sequence[BudgetAlert]) -> list[Told]:
    names = readings.names(organization_id, [row.account for row in rows])
    found = []
    for row in rows:
        named = budgets.named(row.account)
        found.append(Told(row, readings.KINDS[named.kind], names[row.account], named.window))
    return found


def _row(budget: Budget, standings: Sequence[Standing], names: dict[int, str], at: datetime) -> Row:
    fills = [_fill(each, names) for each in standings]
    shared = (budget.kind == Budget.Kind.MEMBER and budget.member_id is None) or (
        budget.kind == Budget.Kind.END_USER and not budget.end_user
    )
    fullest = sorted(fills, key=lambda fill: (-fill.percent, fill.name))[:MOST_SHOWN]
    return Row(
        name=_name(budget),
        window=budgets.window(budget.window, at),
        limit_nanos=budget.limit_nanos,
        thresholds=budget.thresholds,
        budget=budget.public_id,
        fill=None if shared else fills[0],
        fullest=[fill for fill in fullest if fill.used_nanos] if shared else (),
        near=sum(fill.state != "" for fill in fills),
        full=sum(fill.state == "full" for fill in fills),
        each=shared,
    )


def _own(budget: Budget, standings: Sequence[Standing], held: Membership) -> list[Row]:
    """What a member sees of a budget: their own part; of the organization's, whether any of it is left."""
    if budget.kind == Budget.Kind.ORGANIZATION:
        fills = [_fill(each, {}) for each in standings]
        hidden = Row(
            name=held.organization.name,
            window=standings[0].window,
            limit_nanos=0,
            thresholds=(),
            near=sum(fill.state != "" for fill in fills),
            full=sum(fill.state == "full" for fill in fills),
            hidden=True,
        )
        return [hidden]
    mine = [each for each in standings if each.member_id == held.user_id]
    return [_single(_fill(each, {held.user_id: held.user.email}), each) for each in mine]


def _single(fill: Fill, standing: Standing) -> Row:
    return Row(
        name=fill.name,
        window=standing.window,
        limit_nanos=fill.limit_nanos,
        thresholds=standing.budget.thresholds,
        fill=fill,
        near=fill.state != "",
        full=fill.state == "full",
    )


def _fill(standing: Standing, names: dict[int, str]) -> Fill:
    name = standing.end_user or names.get(standing.member_id or 0, "")
    return Fill(name, standing.used_nanos, standing.limit_nanos)


def _name(budget: Budget) -> str:
    if budget.kind == Budget.Kind.MEMBER:
        return budget.member.email if budget.member is not None else "Every member"
    if budget.kind == Budget.Kind.END_USER:
        return budget.end_user or "Every end user"
    return "All calls"


def _keys(held: Membership, at: datetime) -> list[Row]:
    """Those with a cap, the fullest first."""
    keys = list(access.keys_of(held).filter(limit_nanos__isnull=False).order_by("name", "pk"))
    by_window: dict[str, list[Key]] = defaultdict(list)
    for key in keys:
        by_window[key.limit_window].append(key)
    used: dict[int, Nanos] = {}
    for kind, of_window in by_window.items():
        since = budgets.window(kind, at).starts_at
        used |= spans.charged(held.organization_id, since=since, key_ids=[key.pk for key in of_window])
    rows = []
    for key in keys:
        fill = Fill(key.name, used.get(key.pk, 0), key.limit_nanos or 0)
        rows.append(
            Row(
                name=key.name,
                window=budgets.window(key.limit_window, at),
                limit_nanos=fill.limit_nanos,
                thresholds=readings.KEY_THRESHOLDS,
                key=key.public_id,
                fill=fill,
                near=fill.state != "",
                full=fill.state == "full",
            )
        )
    return sorted(rows, key=lambda row: -row.fill.percent if row.fill else 0)
