"""What was chosen and why, as the customer, the activity page and the generation row are shown it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from aggregator.lib.errors import Refusal
from billing.core.money import usd
from routing.core.chat import Chat
from routing.core.listing import Endpoint
from routing.core.pool import LeftOut

MOST_SHOWN = 16
PREFERENCE, WEIGHTED, ORDER, SORT = "preference", "weighted", "order", "sort"
STICKY, EXPLORATION = "sticky", "exploration"
UNSTATED = "default"
"""The preference of a call for a named model that states none."""
_NONE: Mapping[str, Any] = {}
_SORTED = {"price": "lowest price", "throughput": "highest throughput", "latency": "lowest latency"}
_PARAMS = ("provider.", "max_", "allowed_models")


class Target(NamedTuple):
    """One entry of a route: an endpoint to try, with what was predicted of it."""

    endpoint: Endpoint
    cost_nanos_predicted: int
    """The provider's price; the mark-up is the same everywhere and has no part in choosing."""
    seconds_predicted: float
    score: float
    """Less is better: nanos for `cost` and `price`, seconds for `speed` and `latency`, milliseconds a token
    for `throughput`, the sum of log ratios for `balanced`."""
    marks: Mapping[str, Any] = _NONE
    """`weight`: its share of calls like this. `state`: why it goes last. `missed`: the wish that it misses.
    `sticky`, `explored`: true."""

    def charged_at(self, moment: datetime) -> Target:
        """The same with the price of that hour: what is dispatched later pays what holds then."""
        price = self.endpoint.price
        if not price.windows:
            return self
        then = price.at(moment)
        return (
            self
            if then.window == price.window
            else self._replace(endpoint=replace(self.endpoint, price=then))
        )


class Ranking(NamedTuple):
    """One pool's targets in order."""

    targets: list[Target]
    considered: int
    left_out: tuple[LeftOut, ...]
    strategy: str
    by: str
    """What was compared: a preference, a sort, or `cost` for the weighted draw."""
    put_last: int = 0
    """How many are resting or have failed lately, as all gateways see it."""
    unknown: tuple[str, ...] = ()
    """What the preferences name and nobody has."""


class Decision(msgspec.Struct, frozen=True):
    asked: str
    preference: str
    chosen: str
    """The first target. A fallback may serve in the end; the attempts say so."""
    reason: str
    strategy: str
    considered: int
    targets: tuple[Target, ...]
    left_out: tuple[LeftOut, ...]
    replaced: str = ""
    """The choice whose place an exploration took."""
    max_tokens: int | None = None
    """What the customer's bound was lowered to, since nobody writes as much."""
    unknown: tuple[str, ...] = ()

    def as_data(self) -> dict[str, Any]:
        data = {
            "asked": self.asked,
            "preference": self.preference,
            "chosen": self.chosen,
            "reason": self.reason,
            "strategy": self.strategy,
            "considered": self.considered,
            "candidates": [
                {
                    "endpoint": target.endpoint.slug,
                    "rank": rank,
                    "cost_usd": usd(target.cost_nanos_predicted),
                    "cost_nanos": target.cost_nanos_predicted,
                    "seconds": round(target.seconds_predicted, 4),
                    "score": round(target.score, 4) + 0.0,  # never a negative zero
                    **target.marks,
                }
                for rank, target in enumerate(self.targets[:MOST_SHOWN], 1)
            ],
            "excluded": shown(self.left_out),
            "excluded_count": sum(left.number for left in self.left_out),
        }
        if self.replaced:
            data["replaced"] = self.replaced
        if self.max_tokens is not None:
            data["max_tokens_lowered_to"] = self.max_tokens
        if self.unknown:
            data["unknown_providers"] = list(self.unknown)
        return data


def shown(left_out: Sequence[LeftOut]) -> list[dict[str, str]]:
    few = [entry for left in left_out for entry in left.shown][:MOST_SHOWN]
    return [{"endpoint": slug, "reason": reason} for slug, reason in few]


def reason(ranking: Ranking, *, fell_back: bool, replaced: str = "", max_tokens: int | None = None) -> str:
    """One short sentence that a person reads."""
    best, count = ranking.targets[0], ranking.considered
    cost, seconds = f"${usd(best.cost_nanos_predicted)}", f"{best.seconds_predicted:.2f} s"
    if replaced:
        text = f"tried so that its figures stay fresh, at no more than {replaced}: {cost} predicted"
    elif count == 1:
        text = f"the only endpoint that fits: {cost} and {seconds} predicted"
    elif ranking.strategy == ORDER:
        text = f"first in provider.order of {count}: {cost} and {seconds} predicted"
    elif ranking.strategy == STICKY:
        text = f"where this conversation's prompt cache is warm: {cost} predicted"
    elif ranking.strategy == WEIGHTED:
        share = best.marks.get("weight", 1.0)
        text = f"drawn by price among {count}: {share:.0%} of such calls go here, {cost} predicted"
    elif ranking.strategy == SORT:
        text = f"{_SORTED[ranking.by]} of {count}: {cost} and {seconds} predicted"
    elif ranking.by == "cost":
        text = f"cheapest of {count}: {cost} predicted"
    elif ranking.by == "speed":
        text = f"fastest of {count}: {seconds} predicted"
    else:
        text = f"best balance of {count}: {cost} and {seconds} predicted"
    if best.marks.get("sticky") and ranking.strategy != STICKY:
        text += "; its prompt cache is warm"
    if ranking.put_last:
        text += f"; {ranking.put_last} put last after failures"
    if max_tokens is not None:
        text += f"; max_tokens lowered to its cap of {max_tokens}"
    return f"fallback model, {text}" if fell_back else text


def none_left(chat: Chat, left_out: Sequence[LeftOut], unknown: Sequence[str]) -> Refusal:
    """404 that names the demand which left out the most."""
    counts: dict[str, int] = {}
    for left in left_out:
        counts[left.field] = counts.get(left.field, 0) + left.number
    every = sum(counts.values())
    metadata: dict[str, Any] = {"model": chat.model, "excluded": shown(left_out), "excluded_count": every}
    field = max(counts, key=lambda field: counts[field], default="")
    if field:
        slug, why = next(left.shown[0] for left in left_out if left.field == field)
        text = f"{slug}: {why}"
        if every > 1:
            text = f"{field} leaves out {counts[field]} of {every} ({text})"
        metadata |= {"constraint": field, "constraints": counts}
    else:
        text = "no provider of it is switched on"
    if unknown:
        text += f". No provider here is called {', '.join(unknown)}"
        metadata["unknown_providers"] = list(unknown)
    return Refusal(
        "no_endpoints",
        f"No endpoint can serve this request for {chat.model}: {text}.",
        status=404,
        param=field if field.startswith(_PARAMS) else "model",
        metadata=metadata,
    )
