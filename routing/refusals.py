"""What the gate's answer means to a customer: wallet, key budget and rate limit, each its own type."""

from __future__ import annotations

import math

from django.conf import settings

from aggregator.lib.errors import Refusal
from billing.admission import Answer
from billing.money import Nanos, usd
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
    """402 with the number of completion tokens that is affordable."""
    spendable = max(answer.value, 0)
    affordable = (call.affordable(spendable) or 0) // call.chat.choices
    asked = call.bound // call.chat.choices
    slug = call.target.endpoint.slug
    window = None if answer.account is None else answer.account.window
    if window is not None:
        return of_limit(spendable, asked=asked, affordable=affordable, endpoint=slug, window=window.kind)
    return Refusal(
        "insufficient_credits",
        f"The wallet leaves ${usd(spendable)}: {_short(asked, affordable)}. Add credit or lower max_tokens.",
        status=402,
        metadata=_figures(spendable, asked, affordable, slug),
    )


def of_limit(spendable: Nanos, *, asked: int, affordable: int, endpoint: str, window: str) -> Refusal:
    """402: what is left of a key's spend limit does not cover the call."""
    return Refusal(
        "key_limit_exceeded",
        f"The spend limit of this key leaves ${usd(spendable)}: {_short(asked, affordable)}. "
        "Raise the limit or lower max_tokens.",
        status=402,
        metadata={**_figures(spendable, asked, affordable, endpoint), "limit_window": window},
    )


def _short(asked: int, affordable: int) -> str:
    return f"{asked} completion tokens were asked for, and {affordable} are affordable"


def _figures(spendable: Nanos, asked: int, affordable: int, endpoint: str) -> dict[str, object]:
    return {
        "affordable_tokens": affordable,
        "requested_tokens": asked,
        "spendable": usd(spendable),
        "endpoint": endpoint,
    }
