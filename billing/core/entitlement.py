"""What a subscription gives: its state and plan, from Stripe's word, what is paid, and how long we wait.

A pure function, so that whatever told us to look, in whichever order, the same present gives the same plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

FREE = "free"

OPEN = "open"
ACTIVE = "active"
PAST_DUE = "past_due"
ENDED = "ended"
EXPIRED = "expired"

LIVING = frozenset({ACTIVE, PAST_DUE})


@dataclass(frozen=True, slots=True)
class Standing:
    """What follows. `plan` is None when this subscription decides nothing about the organization's plan."""

    state: str
    plan: str | None = None
    grace_until: datetime | None = None
    """While a payment is overdue: until then the plan stays."""
    cancel: bool = False
    """Whether it must be canceled at Stripe, so that nobody pays for what they no longer get."""


def judge(
    status: str,
    plan: str,
    *,
    was: str,
    paid: bool,
    failed_at: datetime,
    grace: timedelta,
    now: datetime,
) -> Standing:
    """`status` is Stripe's, `plan` what its price names, `was` our state of it until now.

    `paid` says whether its newest invoice is paid; `failed_at` is when the newest unpaid one was due.
    """
    if was == ENDED:
        return Standing(ENDED, cancel=status not in ("canceled", "incomplete_expired"))
    fallen = FREE if was in LIVING else None
    if status == "canceled":
        return Standing(ENDED, fallen)
    if status == "incomplete_expired":
        return Standing(EXPIRED, fallen)
    if status == "incomplete":
        return Standing(OPEN, fallen)
    if status in ("active", "trialing"):
        return Standing(ACTIVE, plan) if paid or was in LIVING else Standing(OPEN)
    if status == "past_due":
        until = failed_at + grace
        over = now >= until
        return Standing(PAST_DUE, FREE if over else plan, until, cancel=over)
    return Standing(PAST_DUE, FREE, now, cancel=True)
