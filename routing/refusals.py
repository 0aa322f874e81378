"""What the gate's answer means to a customer: wallet, each kind of budget, rate limit, each its own type."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from django.conf import settings

from accounts.core import roles
from aggregator.lib.errors import Refusal
from billing.admission import Answer
from billing.core import budgets
from billing.core.budgets import Account
from billing.core.money import Nanos, usd
from billing.plans import Terms, why_frozen
from routing.call import Call


def of_rate(call: Call, answer: Answer) -> Refusal:
    limit = call.principal.requests_per_minute or 0
    return Refusal(
        "rate_limit_exceeded",
        f"This key may make {limit} requests a minute. Try again in {answer.value / 1000:.1f} s.",
        status=429,
        retry_after=max(1, math.ceil(answer.value / 1000)),
        metadata={"limit": limit, "remaining": 0, "retry_after_ms": answer.value},
    )


def of_freeze(terms: Terms) -> Refusal:
    """The organization is suspended, whatever credit it has: more of it would not help."""
    return Refusal(
        "account_suspended",
        f"This account is suspended, and no call was made. {why_frozen(terms.frozen)}",
        status=402,
        metadata={"because": terms.frozen.split(","), "pages": f"{settings.PUBLIC_URL}/billing"},
    )


def of_funds(call: Call, answer: Answer) -> Refusal:
    """402 with the number of completion tokens that is affordable; of a budget, also whose and until when."""
    spendable = max(answer.value, 0)
    affordable = (call.affordable(spendable) or 0) // call.chat.choices
    asked = call.bound // call.chat.choices
    figures = _figures(spendable, asked, affordable, call.target.endpoint.slug)
    account = answer.account
    if account is None or account.window is None:
        return Refusal(
            "insufficient_credits",
            f"The wallet leaves ${usd(spendable)}: {in_tokens(asked, affordable)}. "
            "Add credit or lower max_tokens.",
            status=402,
            metadata=figures,
        )
    said = of_budget(account, spendable, answer.limit, short=in_tokens(asked, affordable))
    said.metadata |= figures
    return said


def of_budget(account: Account, left: Nanos, limit: Nanos | None, *, short: str) -> Refusal:
    """402: what is left of a budget does not cover the call; `short` says by how much."""
    assert account.window is not None  # noqa: S101 (a wallet has none)
    budget, ends_at = _BUDGETS[account.kind], account.window.ends_at
    metadata: dict[str, object] = {
        "limit": None if limit is None else usd(limit),
        "left": usd(left),
        "window": account.window.kind,
        "resets_at": None if ends_at is None else ends_at.isoformat(),
        "changed_by": list(budget.changed_by),
        "page": f"{settings.PUBLIC_URL}{budget.page}",
    }
    if account.kind == budgets.KEY:
        metadata["limit_window"] = account.window.kind
    if account.end_user:
        metadata["end_user"] = account.end_user
    wait = "" if ends_at is None else f", or wait until {ends_at:%Y-%m-%d} (UTC)"
    return Refusal(
        budget.error_type,
        f"{budget.says} leaves ${usd(left)}: {short}. {budget.do} or lower max_tokens{wait}.",
        status=402,
        metadata=metadata,
    )


def notice(short: Account | None) -> dict[str, object]:
    """What a stream is told that is cut because no more could be held; None: nobody knows of what."""
    if short is None or short.window is None:
        return {"type": "credit_exhausted", "message": "The credit ended, so the answer was cut here."}
    budget, ends_at = _BUDGETS[short.kind], short.window.ends_at
    return {
        "type": budget.error_type,
        "message": f"{budget.says} is used up, so the answer was cut here.",
        "window": short.window.kind,
        "resets_at": None if ends_at is None else ends_at.isoformat(),
    }


class _Budget(NamedTuple):
    """How an account of the gate is spoken of where it refuses."""

    error_type: str
    says: str
    do: str
    changed_by: tuple[str, ...]
    """Roles that may change it; `creator` is who made the key."""
    page: str


def _who_may(permission: str) -> tuple[str, ...]:
    return tuple(role for role in roles.ROLES if roles.may(role, permission))


def _refused(error_type: str, says: str, do: str) -> _Budget:
    """What a `Refusal` of this type is made of."""
    return _Budget(error_type, says, do, _who_may(roles.BILLING), "/budgets")


_BUDGETS: Final = {
    budgets.KEY: _refused("key_limit_exceeded", "The spend limit of this key", "Raise the limit")._replace(
        changed_by=(*_who_may(roles.KEYS_ALL), "creator"), page="/keys"
    ),
    budgets.MEMBER: _refused(
        "member_budget_exceeded", "The budget of the member who made this key", "Raise the member's budget"
    ),
    budgets.ORGANIZATION: _refused(
        "organization_budget_exceeded", "The budget of the organization", "Raise the budget"
    ),
    budgets.END_USER: _refused(
        "end_user_budget_exceeded",
        "The budget of the end user whom `user` names",
        "Raise the end user's budget",
    ),
}


def in_tokens(asked: int, affordable: int) -> str:
    return f"{asked} completion tokens were asked for, and {affordable} are affordable"


def _figures(spendable: Nanos, asked: int, affordable: int, endpoint: str) -> dict[str, object]:
    return {
        "affordable_tokens": affordable,
        "requested_tokens": asked,
        "spendable": usd(spendable),
        "endpoint": endpoint,
    }
