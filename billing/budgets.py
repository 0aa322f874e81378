"""Names of the gate's accounts: an organization's wallet, and a key's budget in one of its windows.

A budget is a wallet of its own kind: its credit is the limit less what was charged in the window. The
name carries the window, so a new day or month is a new account that the gate has not loaded yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from accounts.principal import Principal

WINDOWS = ("total", "day", "week", "month")
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Window:
    """From `starts_at` until `ends_at`, UTC; weeks begin on Monday; `total` never ends."""

    kind: str
    starts_at: datetime
    ends_at: datetime | None

    @property
    def label(self) -> str:
        return self.kind if self.ends_at is None else f"{self.kind}:{self.starts_at.date().isoformat()}"


def window(kind: str, at: datetime) -> Window:
    """The window of a kind that holds the instant `at`."""
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if kind == "total":
        return Window(kind, _BEGINNING, None)
    if kind == "day":
        return Window(kind, day, day + timedelta(days=1))
    if kind == "week":
        start = day - timedelta(days=day.weekday())
        return Window(kind, start, start + timedelta(days=7))
    if kind == "month":
        start = day.replace(day=1)
        return Window(kind, start, (start + timedelta(days=32)).replace(day=1))
    raise ValueError(f"{kind!r} is not a budget window")


def labelled(label: str) -> Window:
    """The window of a label. Raises ValueError."""
    kind, _, day = label.partition(":")
    return window(kind, datetime.fromisoformat(day).replace(tzinfo=UTC) if day else _BEGINNING)


def is_over(name: str, at: datetime) -> bool:
    """Whether the account of this name is a budget whose window has ended."""
    kind, _, rest = name.partition(":")
    if kind != "key":
        return False
    ends_at = labelled(rest.partition(":")[2]).ends_at
    return ends_at is not None and ends_at <= at


class Account(msgspec.Struct, frozen=True):
    """What the gate keeps spendable credit for. `name` is the same in Redis, the spool and `tallies`."""

    name: str
    organization: str
    """Public id: names the shard."""
    organization_id: int
    key_id: int | None = None
    window: Window | None = None


def wallet_account(organization: str, organization_id: int) -> Account:
    return Account(f"org:{organization}", organization, organization_id)


def accounts_of(principal: Principal, at: datetime) -> tuple[Account, ...]:
    """Everything that a call by this key draws on: the wallet first, then the key's budget if it has one."""
    wallet = wallet_account(principal.organization, principal.organization_id)
    if principal.limit_nanos is None:
        return (wallet,)
    current = window(principal.limit_window, at)
    budget = Account(
        f"key:{principal.key}:{current.label}",
        principal.organization,
        principal.organization_id,
        principal.key_id,
        current,
    )
    return (wallet, budget)
