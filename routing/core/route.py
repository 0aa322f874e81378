"""route.choose: which endpoints to call, in which order, and why. Pure.

Filter what cannot serve the request, predict the cost and the time of what can, rank by preference:
`cost` = cheapest, `speed` = fastest, `balanced` = least sum of log ratios to the cheapest and the fastest.
A named model without a preference is drawn among its endpoints by the inverse square of what they cost.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from decimal import Decimal

import msgspec

from accounts.core.principal import DataPolicy
from aggregator.lib.errors import Refusal
from routing.core import auto, decision, demands, exploring, names, pool, ranking
from routing.core.chat import Chat
from routing.core.conversations import Warm
from routing.core.decision import PREFERENCE, SORT, UNSTATED, WEIGHTED, Decision, Ranking, Target
from routing.core.listing import Endpoint, Listing
from routing.core.live import Live
from routing.core.pool import Pool
from routing.core.ranking import Ask

DEFAULT_PREFERENCE = "balanced"
MOST_TARGETS = 16


class Route(msgspec.Struct, frozen=True):
    targets: tuple[Target, ...]
    """In the order in which to try them; never empty."""
    decision: Decision
    max_tokens: int | None = None
    """The most that the targets can write, where the customer asked for more."""


def choose(
    chat: Chat,
    *,
    listing: Listing,
    live: Live,
    allowed_models: Collection[str],
    now: float,
    markup: Decimal = Decimal(0),
    resting: Collection[str] = frozenset(),
    watched: Collection[str] = frozenset(),
    draws: tuple[float, float] = (0.0, 1.0),
    warm: Warm | None = None,
    policy: DataPolicy | None = None,
) -> Route:
    """Order the endpoints for a chat. `allowed_models` empty allows all; `now` is monotonic seconds.

    The slugs that are `resting` go last; an outage that others report does not count for those `watched`,
    whose circuits this worker keeps itself. `markup` counts only towards what bounds the customer's price.
    `draws` are two numbers from 0 to 1: the first draws among the endpoints of a named model, the second
    decides whether to explore. `warm` is where the conversation was last answered. `policy` is the
    organization's: what it leaves out, no request brings back.
    Raises Refusal: 404 `model_not_found`, 404 `no_endpoints`, 403 `model_not_allowed`.
    """
    pools = [*_pools(chat, listing, allowed_models, markup, policy)]
    ask = Ask(chat, WEIGHTED, "cost", live, now, resting, watched, float(markup), draws[0], warm)
    rankings = _rank(pools, ask)
    lowered = None
    if chat.max_tokens is not None and not any(found.targets for found in rankings):
        lowered = _largest_cap(chat, pools)
        if lowered is not None:
            ask = ask._replace(chat=msgspec.structs.replace(chat, max_tokens=lowered))
            rankings = _rank(pools, ask)
    first = next((found for found in rankings if found.targets), None)
    left_out = tuple(left for found in rankings for left in found.left_out)
    unknown = tuple(dict.fromkeys(name for found in rankings for name in found.unknown))
    if first is None:
        raise decision.none_left(chat, left_out, unknown)
    replaced = exploring.explore(first.targets, ask) if draws[1] < exploring.SHARE else ""
    targets = _targets(chat, rankings)
    made = Decision(
        asked=chat.model,
        preference=chat.preference or (DEFAULT_PREFERENCE if chat.model == auto.AUTO else UNSTATED),
        chosen=targets[0].endpoint.slug,
        reason=decision.reason(
            first, fell_back=first is not rankings[0], replaced=replaced, max_tokens=lowered
        ),
        strategy=decision.EXPLORATION if replaced else first.strategy,
        considered=sum(found.considered for found in rankings),
        targets=targets,
        left_out=left_out,
        replaced=replaced,
        max_tokens=lowered,
        unknown=unknown,
    )
    return Route(targets, made, lowered)


def usable(
    chat: Chat,
    *,
    listing: Listing,
    allowed_models: Collection[str],
    markup: Decimal,
    policy: DataPolicy | None,
    max_tokens: int | None,
) -> tuple[Endpoint, ...]:
    """Every endpoint that a chat for one model may go to, whatever `max_cost` and live figures say.

    One fits that can write `max_tokens`, or with None anything at all. Raises Refusal as `choose` does.
    """
    ((_, demanded),) = _pools(chat, listing, allowed_models, markup, policy)
    among, unfit = demanded.fitting(chat.prompt_tokens, max_tokens)
    if not among.endpoints:
        raise decision.none_left(chat, (*demanded.left_out, *unfit), demanded.soft.unknown)
    return among.endpoints


def _rank(pools: Sequence[tuple[bool, Pool]], ask: Ask) -> list[Ranking]:
    rankings = []
    for has_auto, among in pools:
        by, strategy = _strategy(ask.chat, has_auto=has_auto)
        if ask.by != by or ask.strategy != strategy:
            ask = ask._replace(by=by, strategy=strategy)
        rankings.append(ranking.rank(among, ask))
    return rankings


def _strategy(chat: Chat, *, has_auto: bool) -> tuple[str, str]:
    """(what is compared, how)."""
    if chat.providers.sort is not None:
        return chat.providers.sort, SORT
    if chat.preference is not None:
        return chat.preference, PREFERENCE
    return (DEFAULT_PREFERENCE, PREFERENCE) if has_auto else ("cost", WEIGHTED)


def _targets(chat: Chat, rankings: Sequence[Ranking]) -> tuple[Target, ...]:
    if not chat.providers.allow_fallbacks and not chat.providers.order:
        rankings = [found._replace(targets=found.targets[:1]) for found in rankings]
    if len(rankings) == 1:
        return tuple(rankings[0].targets)
    every = {target.endpoint.slug: target for found in reversed(rankings) for target in found.targets}
    slugs = dict.fromkeys(target.endpoint.slug for found in rankings for target in found.targets)
    return tuple(every[slug] for slug in slugs)[:MOST_TARGETS]


def _pools(
    chat: Chat,
    listing: Listing,
    allowed_models: Collection[str],
    markup: Decimal,
    policy: DataPolicy | None,
) -> Iterator[tuple[bool, Pool]]:
    """(whether `auto` is in it, pool) for each model asked for, in order: the next one only serves when the
    one before cannot, unless the customer ranks all together.
    """
    asked = dict.fromkeys((chat.model, *chat.fallback_models))
    among = [_meant(one, chat, listing, allowed_models) for one in asked]
    if chat.providers.across_models and len(among) > 1:
        every = tuple(among)
        among = [
            (
                ("together", *(name for name, _ in every)),
                lambda: dict.fromkeys(slug for _, slugs in every for slug in slugs()),
            )
        ]
        asked = {auto.AUTO: None} if auto.AUTO in asked else asked
    for one, (name, slugs) in zip(asked, among, strict=False):
        found = pool.of_models(listing, slugs, needs=chat.needs, name=name)
        if policy is not None:
            found = demands.allowed(found, policy)
        named = one != auto.AUTO
        yield not named, demands.narrowed(found, chat, listing=listing, markup=markup, named=named)


def _meant(
    asked: str, chat: Chat, listing: Listing, allowed_models: Collection[str]
) -> tuple[Hashable, Callable[[], Iterable[str]]]:
    """(a name for the models that are meant, what finds their slugs)."""
    if asked != auto.AUTO:
        slug = names.resolve(asked, listing, allowed_models=allowed_models)
        if allowed_models and not auto.is_allowed(slug, allowed_models):
            raise _not_allowed(slug, "it is not among the key's allowed models")
        return slug, lambda: (slug,)
    allowed = frozenset(allowed_models)

    def members() -> Iterable[str]:
        slugs = auto.pool(listing, min_class=chat.min_class, allowed_models=allowed)
        if not slugs and allowed:
            raise _not_allowed(asked, "none of the models that it may use is in the auto pool")
        return slugs

    return (auto.AUTO, chat.min_class, allowed), members


def _largest_cap(chat: Chat, pools: Sequence[tuple[bool, Pool]]) -> int | None:
    """The most that any endpoint writes, when its output cap alone keeps it from serving."""
    caps = [
        endpoint.max_output
        for _, among in pools
        for endpoint in among.endpoints
        if endpoint.max_output < (chat.max_tokens or 0)
        and chat.prompt_tokens + endpoint.max_output <= endpoint.context_length
    ]
    return max(caps, default=None)


def _not_allowed(asked: str, why: str) -> Refusal:
    return Refusal(
        "model_not_allowed",
        f"This key may not use {asked}: {why}.",
        status=403,
        param="model",
        metadata={"model": asked},
    )
