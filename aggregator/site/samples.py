"""What the product would do with one call right now: where it goes by each preference, what it costs, what
a limit lets through. Computed by the code that serves calls, from the present listing; nothing is drawn.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from aggregator.lib import clock
from aggregator.lib.errors import Refusal
from billing import receipts
from billing.core import budgets, pricing
from billing.core.budgets import Account
from billing.core.money import NANOS_PER_USD, Nanos, show_usd
from billing.core.usage import Usage
from billing.receipts import Receipt
from routing import refusals
from routing.core import picture, plot, ranking, route
from routing.core.chat import Chat
from routing.core.decision import Decision, Target
from routing.core.listing import Listing
from routing.core.live import Live
from routing.core.picture import Picture
from routing.core.plot import Plot, Point
from routing.core.preferences import Preferences
from routing.core.vitals import Snapshot

PROMPT, ANSWER = 1200, ranking.EXPECTED_TOKENS
SHOWN = ("speed", "balanced", "cost")
AT_ONCE = 200
_LIMITS = tuple(NANOS_PER_USD // part for part in (10, 20, 50, 100, 200, 500, 1000, 2000, 5000))
_STEP, _ACROSS = 10, 20
"""Of the squares of the drawing."""
_DRAWN = 10
"""So many candidates of each decision."""


@dataclass(frozen=True, slots=True)
class Pick:
    """Where a preference leads."""

    preference: str
    model: str
    provider: str
    cost: str
    seconds: str
    reason: str


@dataclass(frozen=True, slots=True)
class Budget:
    """So many calls at once on a key's limit: each holds what it may cost at most before it starts."""

    limit: str
    hold: str
    at_once: int
    passed: int
    rows: int
    """Of the drawing: the height of whole rows of calls that pass, then the width of what is left over."""
    rest: int
    error: str
    """What each of these is told."""

    @property
    def stopped(self) -> int:
        return self.at_once - self.passed


@dataclass(frozen=True, slots=True)
class Samples:
    picks: tuple[Pick, ...]
    plot: Plot | None
    request: str
    picture: Picture | None
    receipt: Receipt
    endpoint: str
    budget: Budget


def of(listing: Listing, seen: Snapshot, *, markup: Decimal) -> Samples | None:
    """None where nothing can be called."""
    live = Live()
    live.learn(seen)
    try:
        found = {each: _choose(_asked(preference=each), listing, live) for each in SHOWN}
        strict = _strict(listing, live)
    except Refusal:
        return None
    chosen = found["balanced"].targets[0]
    usage = Usage(input=PROMPT, output=ANSWER)
    return Samples(
        picks=tuple(_pick(name, made) for name, made in found.items()),
        plot=_plot(found),
        request=_request(strict),
        picture=picture.of(strict.as_data(), status="completed"),
        receipt=receipts.before(pricing.charge(usage, chosen.endpoint.price, markup)),
        endpoint=chosen.endpoint.slug,
        budget=_budget(chosen, markup),
    )


_ASKED = Chat("auto", stream=True, prompt_tokens=PROMPT)


def _asked(**more: Any) -> Chat:
    return msgspec.structs.replace(_ASKED, **more)


def _choose(chat: Chat, listing: Listing, live: Live) -> Decision:
    return route.choose(chat, listing=listing, live=live, allowed_models=(), now=time.monotonic()).decision


def _strict(listing: Listing, live: Live) -> Decision:
    """With demands that leave some out, where any endpoint meets them."""
    chat = _asked(
        preference="balanced", needs=frozenset({"tools"}), providers=Preferences(no_collection=True)
    )
    try:
        return _choose(chat, listing, live)
    except Refusal:
        return _choose(_asked(preference="balanced"), listing, live)


def _request(made: Decision) -> str:
    asked: dict[str, object] = {"model": made.asked, "route_preference": made.preference}
    if made.left_out:
        asked |= {"tools": ["…"], "provider": {"data_collection": "deny"}}
    return json.dumps(asked, ensure_ascii=False)


def _pick(preference: str, made: Decision) -> Pick:
    target = made.targets[0]
    return Pick(
        preference=preference,
        model=target.endpoint.model.slug,
        provider=target.endpoint.provider.name,
        cost=show_usd(target.cost_nanos_predicted),
        seconds=f"{target.seconds_predicted:.2f} s",
        reason=made.reason,
    )


def _plot(found: Mapping[str, Decision]) -> Plot | None:
    """All candidates of the three decisions; what a preference chooses is named for it."""
    chosen: dict[str, list[str]] = {}
    targets: dict[str, Target] = {}
    for preference, made in found.items():
        chosen.setdefault(made.chosen, []).append(preference)
        targets |= {target.endpoint.slug: target for target in made.targets[:_DRAWN]}
    return plot.of(
        [
            Point(
                name=", ".join(chosen.get(slug, ())),
                cost_nanos=target.cost_nanos_predicted,
                seconds=target.seconds_predicted,
                kind=plot.SERVED if slug in chosen else plot.OTHER,
                turns=(),
                words=f"{slug}: {show_usd(target.cost_nanos_predicted)}, {target.seconds_predicted:.2f} s",
            )
            for slug, target in targets.items()
        ]
    )


def _budget(target: Target, markup: Decimal) -> Budget:
    price = target.endpoint.price
    hold = pricing.worst(PROMPT, ANSWER, price, markup)
    limit = _limit(hold)
    passed = min(limit // hold, AT_ONCE)
    left = limit - passed * hold
    affordable = pricing.affordable_completion(left, PROMPT, price, markup) or 0
    account = Account("key:", "", 0, window=budgets.window("day", clock.now()))
    error = refusals.of_budget(account, left, limit, short=refusals.in_tokens(ANSWER, affordable))
    return Budget(
        limit=show_usd(limit),
        hold=show_usd(hold),
        at_once=AT_ONCE,
        passed=passed,
        rows=passed // _ACROSS * _STEP,
        rest=passed % _ACROSS * _STEP,
        error=error.message,
    )


def _limit(hold: Nanos) -> Nanos:
    """The largest round one that lets about half through."""
    return next((limit for limit in _LIMITS if limit // hold <= AT_ONCE // 2), _LIMITS[-1])
