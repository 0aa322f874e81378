"""The endpoints of a pool in the order in which to try them, with what is predicted of each. Pure.

Who is down lately goes last, then who misses a wish; within that `provider.order`, then the score.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from billing.core.money import usd
from routing.core import standing
from routing.core.chat import Chat
from routing.core.conversations import Warm
from routing.core.decision import ORDER, STICKY, WEIGHTED, Ranking, Target
from routing.core.live import Live
from routing.core.pool import LEAST_NANOS, MOST_RANKED, Columns, LeftOut, Pool, Timed
from routing.core.standing import MANY, OUTAGE, RESTING, STATE_STEP, STATES, Standing

EXPECTED_TOKENS = 300
"""How long an answer is taken to be when nothing says otherwise."""


_NONE: frozenset[int] = frozenset()


class Ask(NamedTuple):
    """What a chat wants of a ranking, beside its demands."""

    chat: Chat
    strategy: str
    by: str
    """`cost`, `speed`, `balanced`, or one of the sorts."""
    live: Live
    now: float
    """Monotonic seconds."""
    resting: Collection[str]
    """Slugs of endpoints."""
    watched: Collection[str]
    """Slugs whose failures this worker has seen itself: circuits know of an end, half a minute does not."""
    markup: float
    draw: float
    """In [0, 1): decides the weighted draw."""
    warm: Warm | None

    @property
    def length(self) -> int:
        return min(self.chat.max_tokens or EXPECTED_TOKENS, EXPECTED_TOKENS)


class _Sight(NamedTuple):
    """A pool as one chat finds it."""

    among: Pool
    ask: Ask
    standing: Standing
    columns: Columns
    timed: Timed
    ranks: Mapping[int, int]
    states: Mapping[int, int]
    """Of OUTAGE, UNHEALTHY, RESTING, where there is one."""
    lasts: frozenset[int]
    dear: frozenset[int]
    sticky: int | None


def rank(demanded: Pool, ask: Ask) -> Ranking:
    chat = ask.chat
    among, unfit = demanded.fitting(chat.prompt_tokens, chat.max_tokens)
    left_out = (*demanded.left_out, *unfit)
    dear, too_dear = _dear(among, ask) if chat.max_cost_nanos is not None else (_NONE, ())
    considered = len(among.endpoints) - len(dear)
    soft = demanded.soft
    if not considered:
        return Ranking([], 0, (*left_out, *too_dear), ask.strategy, ask.by, unknown=soft.unknown)
    found = standing.of(among, ask.live.snapshot)
    well = found.well
    if well is not None and not dear and len(well.endpoints) - len(ask.resting) >= MOST_RANKED:
        among = well
    sight = _look(among, ask, dear)
    costs, values, order = _order(sight)
    shares: dict[int, float] = {}
    strategy = ask.strategy
    if soft.places and order[0] in sight.standing.firsts:
        strategy = ORDER
    elif strategy == WEIGHTED:
        head = order
        if sight.ranks:
            best = _rank_of(sight, order[0])
            head = [at for at in order if _rank_of(sight, at) == best]
        shares = _weights(head, costs)
        first = sight.sticky if sight.sticky in shares else _drawn(shares, ask.draw)
        if first == sight.sticky:
            strategy = STICKY
        order = [first, *(at for at in order if at != first)]
    targets = _targets(sight, order, costs, _scores(sight, order, costs, values), shares)
    put_last = len(found.ailing) - len(sight.standing.ailing) + sum(at not in dear for at in sight.states)
    return Ranking(targets, considered, (*left_out, *too_dear), strategy, ask.by, put_last, soft.unknown)


def _rank_of(sight: _Sight, at: int) -> int:
    return sight.ranks.get(at, sight.standing.usual)


def _look(among: Pool, ask: Ask, dear: frozenset[int]) -> _Sight:
    found = standing.of(among, ask.live.snapshot)
    ranks, states, lasts = _with_own(found, among, ask)
    timed = among.times(ask.length, live=ask.live, now=ask.now)
    columns = found.warmed if ask.chat.continued else among.columns
    sticky = None
    if ask.warm is not None and not among.soft.places:
        at = among.index.get(ask.warm.endpoint)
        if at is not None and at not in lasts and at not in dear:
            sticky = at
    return _Sight(among, ask, found, columns, timed, ranks, states, lasts, dear, sticky)


def _with_own(
    found: Standing, among: Pool, ask: Ask
) -> tuple[Mapping[int, int], Mapping[int, int], frozenset[int]]:
    """(ranks, states, who goes last): as all gateways see it, corrected by what this one knows itself."""
    resting = [among.index[slug] for slug in ask.resting if slug in among.index] if ask.resting else []
    lifted = []
    if found.ailing and ask.watched:
        lifted = [
            at
            for at, state in found.ailing.items()
            if state == OUTAGE and among.endpoints[at].slug in ask.watched
        ]
    if not (resting or lifted):
        return found.ranks, found.ailing, found.lasts
    ranks, states = dict(found.ranks), dict(found.ailing)
    for at in lifted:
        del states[at]
    states.update(dict.fromkeys(resting, RESTING))
    for at in (*lifted, *resting):
        ranks[at] = ranks.get(at, found.usual) % STATE_STEP + states.get(at, 0) * STATE_STEP
    return ranks, states, frozenset(at for at, rank in ranks.items() if rank > found.usual)


def _order(sight: _Sight) -> tuple[dict[int, float], Mapping[int, float], list[int]]:
    """(costs, what is compared, positions in order), of the best."""
    every, most = range(len(sight.among.endpoints)), MOST_RANKED
    few: Sequence[int] = every
    if len(every) > MOST_RANKED and sight.ask.chat.prompt_tokens <= sight.among.least_tier:
        few = _shortlist(sight)
    costs, values = _valued(sight, few)
    ties = sight.timed.times if values is costs else costs
    last, out = sight.lasts, sight.dear
    if few is not every:
        if not (last.isdisjoint(few) and out.isdisjoint(few)):
            most -= sum(at in last or at in out for at in _least([*few], values, ties, MOST_RANKED))
        if most < MANY:
            few, most = [at for at in every if at not in sight.dear], MOST_RANKED
            costs, values = _valued(sight, few)
            ties = sight.timed.times if values is costs else costs
        else:
            more = set(
                sight.standing.firsts if sight.sticky is None else {*sight.standing.firsts, sight.sticky}
            )
            more.difference_update(few)
            if more:
                few = [*few, *more]
                costs, values = _valued(sight, few)
                ties = sight.timed.times if values is costs else costs
    groups: dict[int, list[int]] = {}
    if sight.ranks or sight.dear:
        ranks, usual, dear = sight.ranks, sight.standing.usual, sight.dear
        for at in few:
            if at not in dear:
                groups.setdefault(ranks.get(at, usual), []).append(at)
    else:
        groups[0] = list(few)
    order: list[int] = []
    for rank in sorted(groups):
        if len(order) < most:
            order += _least(groups[rank], values, ties, most - len(order))
    return costs, values, order


def _shortlist(sight: _Sight) -> tuple[int, ...]:
    """Positions that hold the best MOST_RANKED by what is compared."""
    among, ask = sight.among, sight.ask
    if ask.by in ("cost", "price"):
        return sight.columns.cheapest
    if ask.by == "speed":
        return sight.timed.fastest
    if ask.by == "balanced":
        return sight.columns.best_balanced(ask.length * ask.chat.choices, sight.timed)
    return among.quickest(1 if ask.by == "throughput" else 0, ask.live, ask.now)


def _valued(sight: _Sight, few: Sequence[int]) -> tuple[dict[int, float], Mapping[int, float]]:
    """(costs, what is compared)."""
    ask, times = sight.ask, sight.timed.times
    costs = _costs(sight, few, ask.length * ask.chat.choices)
    if ask.by in ("cost", "price"):
        return costs, costs
    if ask.by == "balanced":
        return costs, {at: max(cost, LEAST_NANOS) * times[at] for at, cost in costs.items()}
    if ask.by == "speed":
        return costs, {at: times[at] for at in few}
    column = sight.among.speeds(ask.live, ask.now)[1 if ask.by == "throughput" else 0]
    return costs, {at: column[at] for at in few}


def _least(
    group: list[int], values: Mapping[int, float], ties: Mapping[int, float] | list[float], most: int
) -> list[int]:
    if len(group) > 2 * most:
        bound = heapq.nsmallest(most, map(values.__getitem__, group))[-1]
        group = [at for at in group if values[at] <= bound]
    return sorted(group, key=lambda at: (values[at], ties[at], at))[:most]


def _costs(sight: _Sight, few: Iterable[int], written: int) -> dict[int, float]:
    """Predicted nanos, in the tier of a prompt of this length, with what a cache is expected to hold."""
    prompt, columns, among = sight.ask.chat.prompt_tokens, sight.columns, sight.among
    inputs, outputs, requests = columns.input, columns.output, columns.request
    if isinstance(few, range):
        rows = zip(inputs, outputs, requests, strict=True)
        costs = dict(enumerate([i * prompt + o * written + r for i, o, r in rows]))
    else:
        costs = {at: inputs[at] * prompt + outputs[at] * written + requests[at] for at in few}
    if prompt > among.least_tier:
        for at in among.tiered:
            if at in costs:
                rates = among.endpoints[at].price.rates_for(prompt)
                costs[at] = float(rates.input * prompt + rates.output * written + rates.request)
    sticky, warm = sight.sticky, sight.ask.warm
    if warm is not None and sticky is not None and sticky in costs:
        rates = among.endpoints[sticky].price.rates_for(prompt)
        held = min(warm.prompt_tokens, prompt)
        cold = float(rates.input * prompt + rates.output * written + rates.request)
        saved = held * max(float(rates.input - rates.cache_read), 0.0)
        costs[sticky] = min(costs[sticky], cold - saved)
    return costs


def _scores(
    sight: _Sight, order: Sequence[int], costs: Mapping[int, float], values: Mapping[int, float]
) -> Mapping[int, float]:
    by = sight.ask.by
    if by == "throughput":
        return {at: values[at] * 1000 for at in order}
    if by != "balanced":
        return values
    times, written = sight.timed.times, sight.ask.length * sight.ask.chat.choices
    least_cost, least_time = min(costs.values()), min(map(times.__getitem__, costs))
    if len(costs) < len(times):
        least_cost = min(least_cost, min(_costs(sight, sight.columns.cheapest, written).values()))
        least_time = min(least_time, min(map(times.__getitem__, sight.timed.fastest)))
    least = math.log(max(least_cost, LEAST_NANOS)) + math.log(least_time)
    return {at: math.log(values[at]) - least for at in order}


def _weights(head: Sequence[int], costs: Mapping[int, float]) -> dict[int, float]:
    """Shares of the draw: the inverse square of what a call costs."""
    floored = [max(costs[at], LEAST_NANOS) for at in head]
    least = min(floored)
    raw = [(least / cost) ** 2 for cost in floored]
    total = sum(raw)
    return {at: weight / total for at, weight in zip(head, raw, strict=True)}


def _drawn(shares: Mapping[int, float], draw: float) -> int:
    for at, share in shares.items():
        draw -= share
        if draw < 0:
            return at
    return next(iter(shares))  # the shares summed to a little less than one


def _targets(
    sight: _Sight,
    order: Sequence[int],
    costs: Mapping[int, float],
    scores: Mapping[int, float],
    shares: Mapping[int, float],
) -> list[Target]:
    endpoints, times, found = sight.among.endpoints, sight.timed.times, sight.standing
    if not sight.ranks and sight.sticky is None:
        if len(shares) < 2:
            return [Target(endpoints[at], round(costs[at]), times[at], scores[at]) for at in order]
        return [  # all of them were in the draw
            Target(endpoints[at], round(costs[at]), times[at], scores[at], {"weight": round(shares[at], 4)})
            for at in order
        ]
    targets = []
    for at in order:
        marks: dict[str, Any] = {}
        if at in shares and len(shares) > 1:
            marks["weight"] = round(shares[at], 4)
        if at == sight.sticky:
            marks["sticky"] = True
        if at in sight.states:
            marks["state"] = STATES[sight.states[at]]
        if at in found.missed:
            marks["missed"] = found.missed[at]
        targets.append(Target(endpoints[at], round(costs[at]), times[at], scores[at], marks))
    return targets


def _dear(among: Pool, ask: Ask) -> tuple[frozenset[int], tuple[LeftOut, ...]]:
    """Who may cost more than the customer's cap at its worst, as far as the request bounds it."""
    chat = ask.chat
    most = chat.max_cost_nanos or 0
    prompt, written = chat.prompt_tokens, (chat.max_tokens or EXPECTED_TOKENS) * chat.choices
    factor = (1 + ask.markup) * (1 - 1e-12)  # a float may be a little above the sum
    bound = most / factor
    each_in, each_out = float(prompt), float(written)  # a float times a float is the quickest
    dear = [at for at, i, o, r in among.dearest if i * each_in + o * each_out + r > bound]
    if prompt > among.least_tier:
        lowest = set(dear).difference(among.tiered)
        dear = sorted(lowest.union(at for at in among.tiered if _worst(among, at, prompt, written) > bound))
    if not dear:
        return _NONE, ()
    above = f"above max_cost ${usd(most)}"
    shown = []
    for at in dear[:MOST_RANKED]:
        worst = math.ceil(_worst(among, at, prompt, written) * factor)
        shown.append((among.endpoints[at].slug, f"may cost ${usd(worst)}, {above}"))
    return frozenset(dear), (LeftOut("max_cost", len(dear), tuple(shown)),)


def _worst(among: Pool, at: int, prompt: int, written: int) -> float:
    rates = among.endpoints[at].price.rates_for(prompt)
    return float(rates.dearest_input * prompt + rates.dearest_output * written + rates.request)
