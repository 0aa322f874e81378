"""route.choose: which endpoints to call, in which order, and why. Pure.

Filter what cannot serve the request, predict the cost and the time of what can, rank by preference:
`cost` = cheapest, `speed` = fastest, `balanced` = least sum of log ratios to the cheapest and the fastest.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from aggregator.lib.errors import Refusal
from billing.money import usd
from routing import auto, names, pool
from routing.chat import Chat
from routing.listing import Endpoint, Listing
from routing.live import Live
from routing.pool import LEAST_NANOS, MOST_RANKED, Excluded, Pool

DEFAULT_PREFERENCE = "balanced"
EXPECTED_TOKENS = 300
"""How long an answer is taken to be when nothing says otherwise."""
MOST_TARGETS = 16
MOST_SHOWN = 16


class Target(NamedTuple):
    """One entry of a route: an endpoint to try, with what was predicted of it."""

    endpoint: Endpoint
    cost_nanos_predicted: int
    """The provider's price; the mark-up is the same everywhere and has no part in choosing."""
    seconds_predicted: float
    score: float
    """Less is better: nanos for `cost`, seconds for `speed`, the sum of log ratios for `balanced`."""


class Decision(msgspec.Struct, frozen=True):
    """Why this route: what the customer, the activity page and the generation row are shown."""

    asked: str
    preference: str
    chosen: str
    """The first target. A fallback may serve in the end; the attempts say so."""
    reason: str
    considered: int
    targets: tuple[Target, ...]
    excluded: tuple[Excluded, ...]
    excluded_count: int

    def as_data(self) -> dict[str, Any]:
        return {
            "asked": self.asked,
            "preference": self.preference,
            "chosen": self.chosen,
            "reason": self.reason,
            "considered": self.considered,
            "candidates": [
                {
                    "endpoint": target.endpoint.slug,
                    "rank": rank,
                    "cost_usd": usd(target.cost_nanos_predicted),
                    "cost_nanos": target.cost_nanos_predicted,
                    "seconds": round(target.seconds_predicted, 4),
                    "score": round(target.score, 4) + 0.0,  # never a negative zero
                }
                for rank, target in enumerate(self.targets[:MOST_SHOWN], 1)
            ],
            "excluded": [{"endpoint": slug, "reason": reason} for slug, reason in self.excluded],
            "excluded_count": self.excluded_count,
        }


class Route(msgspec.Struct, frozen=True):
    targets: tuple[Target, ...]
    """In the order in which to try them; never empty."""
    decision: Decision


class _Ranking(msgspec.Struct, frozen=True):
    targets: list[Target]
    considered: int
    excluded: list[Excluded]
    resting: int


def choose(
    chat: Chat,
    *,
    listing: Listing,
    live: Live,
    allowed_models: Collection[str],
    now: float,
    markup: Decimal = Decimal(0),
    resting: Collection[str] = frozenset(),
) -> Route:
    """Order the endpoints for a chat. `allowed_models` empty allows all; `now` is monotonic seconds.

    The slugs that are `resting` go last.

    `markup` counts only towards `chat.max_cost_nanos`, which bounds what the customer pays.
    Raises Refusal: 404 `model_not_found`, 404 `no_endpoints`, 403 `model_not_allowed`.
    """
    preference = chat.preference or DEFAULT_PREFERENCE
    rankings = [
        _rank(among, chat, preference=preference, live=live, now=now, markup=float(markup), rest=resting)
        for among in _pools(chat, listing, allowed_models)
    ]
    targets = tuple(target for ranking in rankings for target in ranking.targets)[:MOST_TARGETS]
    excluded = [entry for ranking in rankings for entry in ranking.excluded]
    if not targets:
        raise _no_endpoints(chat, excluded)
    first = next(ranking for ranking in rankings if ranking.targets)
    decision = Decision(
        asked=chat.model,
        preference=preference,
        chosen=targets[0].endpoint.slug,
        reason=_reason(first, preference, fell_back=first is not rankings[0]),
        considered=sum(ranking.considered for ranking in rankings),
        targets=targets,
        excluded=tuple(excluded[:MOST_SHOWN]),
        excluded_count=len(excluded),
    )
    return Route(targets, decision)


def _pools(chat: Chat, listing: Listing, allowed_models: Collection[str]) -> Iterable[Pool]:
    """One pool for each model asked for, in order: the next one only serves when the one before cannot."""
    for asked in (chat.model, *chat.fallback_models):
        if asked == auto.AUTO:
            allowed = frozenset(allowed_models)
            name = (auto.AUTO, chat.min_class, allowed)
            slugs: Sequence[str] = ()
            if (name, chat.needs) not in listing.derived:
                slugs = auto.pool(listing, min_class=chat.min_class, allowed_models=allowed)
                if not slugs and allowed:
                    raise _not_allowed(asked, "none of the models that it may use is in the auto pool")
            yield pool.of_models(listing, slugs, needs=chat.needs, name=name)
            continue
        slug = names.resolve(asked, listing, allowed_models=allowed_models)
        if allowed_models and slug not in allowed_models:
            raise _not_allowed(slug, "it is not among the key's allowed models")
        yield pool.of_models(listing, (slug,), needs=chat.needs, name=slug)


def _rank(
    among: Pool,
    chat: Chat,
    *,
    preference: str,
    live: Live,
    now: float,
    markup: float,
    rest: Collection[str],
) -> _Ranking:
    """Predict and sort the endpoints of a pool; of many, only a shortlist that holds the best."""
    kept, left_out = among.fitting(chat.prompt_tokens, chat.max_tokens)
    if chat.max_cost_nanos is not None:
        kept, dear = _affordable(among, kept, chat, most=chat.max_cost_nanos, markup=markup)
        left_out += dear
    length = min(chat.max_tokens or EXPECTED_TOKENS, EXPECTED_TOKENS)
    written = length * chat.choices
    timed = among.times(length, live=live, now=now)
    resting = [at for at in map(among.index.get, rest) if at is not None and at in kept]
    shortlist = frugal = quick = kept
    if len(kept) == len(among.endpoints) > MOST_RANKED and not (
        resting or chat.prompt_tokens > among.least_tier
    ):
        frugal, quick = among.cheapest, timed.fastest
        shortlist = frugal if preference == "cost" else quick
        if preference == "balanced":
            shortlist = among.best_balanced(written, timed)
    costs = {at: among.cost(at, prompt_tokens=chat.prompt_tokens, written=written) for at in shortlist}
    times = timed.times
    if preference == "cost":
        scores = costs
    elif preference == "speed":
        scores = {at: times[at] for at in shortlist}
    elif kept:
        least_cost = min(among.cost(at, prompt_tokens=chat.prompt_tokens, written=written) for at in frugal)
        least = math.log(max(least_cost, LEAST_NANOS)) + math.log(min(times[at] for at in quick))
        scores = {at: math.log(max(cost, LEAST_NANOS) * times[at]) - least for at, cost in costs.items()}
    else:
        scores = {}
    ties = costs if preference == "speed" else times
    ranked = sorted(shortlist, key=lambda at: (at in resting, scores[at], ties[at], at))[:MOST_RANKED]
    targets = [Target(among.endpoints[at], round(costs[at]), times[at], scores[at]) for at in ranked]
    return _Ranking(targets, len(kept), [*left_out, *among.excluded], len(resting))


def _affordable(
    among: Pool, kept: Sequence[int], chat: Chat, *, most: int, markup: float
) -> tuple[list[int], list[Excluded]]:
    """Keep what stays below the customer's cap even at its worst, as far as the request bounds it."""
    written = (chat.max_tokens or EXPECTED_TOKENS) * chat.choices
    within: list[int] = []
    dear: list[Excluded] = []
    for at in kept:
        endpoint = among.endpoints[at]
        rates = endpoint.price.rates_for(chat.prompt_tokens)
        dearest = rates.dearest_input * chat.prompt_tokens + rates.dearest_output * written + rates.request
        nanos = math.ceil(float(dearest) * (1 + markup))
        if nanos <= most:
            within.append(at)
        else:
            dear.append((endpoint.slug, f"may cost ${usd(nanos)}, above max_cost ${usd(most)}"))
    return within, dear


def _reason(ranking: _Ranking, preference: str, *, fell_back: bool) -> str:
    """One short sentence that a person reads."""
    best = ranking.targets[0]
    cost, seconds = f"${usd(best.cost_nanos_predicted)}", f"{best.seconds_predicted:.2f} s"
    if ranking.considered == 1:
        text = f"the only endpoint that fits: {cost} and {seconds} predicted"
    elif preference == "cost":
        text = f"cheapest of {ranking.considered}: {cost} predicted"
    elif preference == "speed":
        text = f"fastest of {ranking.considered}: {seconds} predicted"
    else:
        text = f"best balance of {ranking.considered}: {cost} and {seconds} predicted"
    if ranking.resting:
        text += f"; {ranking.resting} put last after failures"
    return f"fallback model, {text}" if fell_back else text


def _not_allowed(asked: str, why: str) -> Refusal:
    return Refusal(
        "model_not_allowed",
        f"This key may not use {asked}: {why}.",
        status=403,
        param="model",
        metadata={"model": asked},
    )


def _no_endpoints(chat: Chat, excluded: Sequence[Excluded]) -> Refusal:
    shown = [{"endpoint": slug, "reason": reason} for slug, reason in excluded[:MOST_SHOWN]]
    if excluded:
        slug, reason = excluded[0]
        more = f", and {len(excluded) - 1} more" if len(excluded) > 1 else ""
        why = f"{slug}: {reason}{more}"
    else:
        why = "no provider of it is switched on"
    return Refusal(
        "no_endpoints",
        f"No endpoint can serve this request for {chat.model}: {why}.",
        status=404,
        param="model",
        metadata={"model": chat.model, "excluded": shown, "excluded_count": len(excluded)},
    )
