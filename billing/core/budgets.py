"""Names of the gate's accounts: an organization's wallet, and every budget in one of its windows.

org:<organization>                                    the wallet
key:<key>:<window>                                    the key's own limit
budget:<organization>:<window>                        of the organization
member:<organization>/<user id>:<window>              of the person who made the key
user:<organization>:<window>:<whom the call names>    of an end user

A budget is a wallet of its own kind: its credit is the limit less what was charged in the window. The
name carries the window, so a new day or month is a new account that the gate has not loaded yet.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import msgspec

from accounts.core.principal import Principal

WINDOWS = ("total", "day", "week", "month")
WALLET, KEY, ORGANIZATION, MEMBER, END_USER = "org", "key", "budget", "member", "user"
"""How the names begin."""
_LATE = timedelta(hours=1)
"""For clocks that differ, and for a call that waits to be admitted."""
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
    return _window(kind, at.astimezone(UTC).date())[0]


@functools.lru_cache(maxsize=256)
def _window(kind: str, on: date) -> tuple[Window, str]:
    """With its label, since every call names several."""
    day = datetime(on.year, on.month, on.day, tzinfo=UTC)
    if kind == "total":
        found = Window(kind, _BEGINNING, None)
    elif kind == "day":
        found = Window(kind, day, day + timedelta(days=1))
    elif kind == "week":
        start = day - timedelta(days=day.weekday())
        found = Window(kind, start, start + timedelta(days=7))
    elif kind == "month":
        start = day.replace(day=1)
        found = Window(kind, start, (start + timedelta(days=32)).replace(day=1))
    else:
        raise ValueError(f"{kind!r} is not a budget window")
    return found, found.label


def labelled(label: str) -> Window:
    """The window of a label. Raises ValueError."""
    kind, _, day = label.partition(":")
    return window(kind, datetime.fromisoformat(day).replace(tzinfo=UTC) if day else _BEGINNING)


class Named(msgspec.Struct, frozen=True):
    """What the name of an account says."""

    kind: str
    owner: str
    """A public id: of the key where `kind` is KEY, else of the organization."""
    window: Window | None = None
    member_id: int | None = None
    end_user: str = ""


def named(name: str) -> Named:
    """Read the name of an account. Raises ValueError."""
    kind, owner, rest = [*name.split(":", 2), "", ""][:3]
    if kind == WALLET:
        return Named(kind, owner)
    if kind in (KEY, ORGANIZATION):
        return Named(kind, owner, labelled(rest))
    if kind == MEMBER:
        organization, _, member = owner.partition("/")
        return Named(kind, organization, labelled(rest), int(member))
    if kind == END_USER:
        label, _, end_user = rest.partition(":")
        if label != "total":
            day, _, end_user = end_user.partition(":")
            label = f"{label}:{day}"
        return Named(kind, owner, labelled(label), end_user=end_user)
    raise ValueError(f"{name!r} names no account of the gate")


def is_over(name: str, at: datetime) -> bool:
    """Whether the account of this name is a budget whose window has ended."""
    found = named(name).window
    return found is not None and found.ends_at is not None and found.ends_at <= at


def long_over(at: datetime, *, longest_seconds: int) -> datetime:
    """A budget whose window ended before this is drawn on by no call any more, if calls last no longer.

    What is known of it but the charges themselves may then be dropped, anywhere and in any order.
    """
    return at - _LATE - timedelta(seconds=longest_seconds)


class Account(msgspec.Struct, frozen=True):
    """What the gate keeps spendable credit for. `name` is the same in Redis, the spool and `tallies`."""

    name: str
    organization: str
    """Public id: names the shard."""
    organization_id: int
    key_id: int | None = None
    window: Window | None = None
    """None: a wallet."""
    version: int = 0
    """Of the key or of the budgets: the limit must not be older. A wallet's are the terms."""
    member_id: int | None = None
    end_user: str = ""

    @property
    def kind(self) -> str:
        return self.name.partition(":")[0]


def wallet_account(organization: str, organization_id: int) -> Account:
    return Account(f"{WALLET}:{organization}", organization, organization_id)


def accounts_of(principal: Principal, at: datetime, end_user: str = "") -> tuple[Account, ...]:
    """Everything that a call by this key draws on, the wallet first. A call that names no user draws on
    no end user's budget."""
    wallet = wallet_account(principal.organization, principal.organization_id)
    if principal.limit_nanos is None and principal.budgets is None:
        return (wallet,)
    found, on = [wallet], at.astimezone(UTC).date()
    owner = (principal.organization, principal.organization_id)
    if principal.limit_nanos is not None:
        current, label = _window(principal.limit_window, on)
        name = f"{KEY}:{principal.key}:{label}"
        found.append(Account(name, *owner, principal.key_id, current, principal.key_version))
    if principal.budgets is not None:
        found.extend(_budgets_of(principal, on, end_user))
    return tuple(found)


def account_name(
    kind: str, organization: str, label: str, *, member_id: int | None = None, end_user: str = ""
) -> str:
    """Of a budget of ORGANIZATION, MEMBER or END_USER, in the window of that label."""
    if kind == MEMBER:
        return f"{kind}:{organization}/{member_id}:{label}"
    return (
        f"{kind}:{organization}:{label}:{end_user}" if kind == END_USER else f"{kind}:{organization}:{label}"
    )


def _budgets_of(principal: Principal, on: date, end_user: str) -> Iterator[Account]:
    budgets, organization, member_id = principal.budgets, principal.organization, principal.member_id
    assert budgets is not None  # noqa: S101 (asked by the caller)
    for kind, windows in (
        (ORGANIZATION, budgets.organization),
        (MEMBER, budgets.member),
        (END_USER, budgets.end_user if end_user else ()),
    ):
        for each in windows:
            current, label = _window(each, on)
            yield Account(
                account_name(kind, organization, label, member_id=member_id, end_user=end_user),
                organization,
                principal.organization_id,
                None,
                current,
                budgets.version,
                member_id if kind == MEMBER else None,
                end_user if kind == END_USER else "",
            )
