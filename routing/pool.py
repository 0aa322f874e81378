"""Columns of numbers about one set of endpoints, made once per listing so that choosing is a few list passes.

Prices become floats here: they only rank, nothing is charged from them.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from routing.listing import Endpoint, Listing
from routing.live import Live

MOST_KEPT = 512
"""Pools kept per listing: one for each model and each set of capabilities and allowed models in use."""
MOST_LENGTHS = 64
MOST_RANKED = 16
"""How many endpoints of a pool are ranked and shown; a shortlist holds at least the best of these."""
LEAST_NANOS = 1.0
"""What is cheaper counts as this much in a ratio of costs."""

Excluded = tuple[str, str]
"""(endpoint, why)."""


@dataclass(frozen=True, slots=True)
class Timed:
    """Every endpoint's predicted seconds for one length of answer."""

    times: list[float]
    fastest: tuple[int, ...]
    balanced: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Shortlists by the number of tokens written over all choices."""


@dataclass
class Pool:
    """Endpoints that could serve a kind of request, in the order of their slugs, as parallel columns."""

    endpoints: tuple[Endpoint, ...]
    excluded: tuple[Excluded, ...]
    """Left out for good: what the request needs and the model cannot do."""
    input: list[float] = field(init=False)
    output: list[float] = field(init=False)
    request: list[float] = field(init=False)
    least_context: int = field(init=False)
    least_max_output: int = field(init=False)
    least_tier: float = field(init=False)
    """The shortest prompt, in tokens, after which some price changes."""
    index: dict[str, int] = field(init=False)
    _stamp: tuple[Live | None, int] = field(init=False, default=(None, -1))
    _speeds: tuple[list[float], list[float]] = field(init=False, default=([], []))
    _timed: dict[int, Timed] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        rates = [endpoint.price.rates for endpoint in self.endpoints]
        self.input = [float(rate.input) for rate in rates]
        self.output = [float(rate.output) for rate in rates]
        self.request = [float(rate.request) for rate in rates]
        self.least_context = min((e.context_length for e in self.endpoints), default=0)
        self.least_max_output = min((e.max_output for e in self.endpoints), default=0)
        self.least_tier = min((t.above for e in self.endpoints for t in e.price.tiers), default=float("inf"))
        self.index = {endpoint.slug: at for at, endpoint in enumerate(self.endpoints)}

    def cost(self, at: int, *, prompt_tokens: int, written: int) -> float:
        """Predicted nanos at one endpoint, in the tier that a prompt of this length is in."""
        if prompt_tokens > self.least_tier:
            rates = self.endpoints[at].price.rates_for(prompt_tokens)
            return float(rates.input * prompt_tokens + rates.output * written + rates.request)
        return self.input[at] * prompt_tokens + self.output[at] * written + self.request[at]

    def times(self, length: int, *, live: Live, now: float) -> Timed:
        """Predicted seconds until an answer of `length` tokens is complete; kept while `live` allows."""
        stamp = (live, live.stamp(now))
        if self._stamp != stamp:
            self._speeds = self._predict(live, now)
            self._stamp = stamp
            self._timed.clear()
        found = self._timed.get(length)
        if found is None:
            if len(self._timed) >= MOST_LENGTHS:
                self._timed.clear()
            span = float(length)
            times = [first + pace * span for first, pace in zip(*self._speeds, strict=True)]
            found = self._timed[length] = Timed(times, _least(times))
        return found

    def _predict(self, live: Live, now: float) -> tuple[list[float], list[float]]:
        pairs = [
            live.predict(
                endpoint.slug,
                ttft_seconds=endpoint.ttft_seconds,
                seconds_per_token=1 / endpoint.tokens_per_second,
                now=now,
            )
            for endpoint in self.endpoints
        ]
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]

    @functools.cached_property
    def cheapest(self) -> tuple[int, ...]:
        """Holds the cheapest endpoints for any length of prompt and of answer."""
        return _never_beaten(list(zip(self.input, self.output, self.request, strict=True)))

    def best_balanced(self, written: int, timed: Timed) -> tuple[int, ...]:
        """Holds the endpoints with the least product of cost and time, for any length of prompt.

        ln a + ln b sorts as a × b. What is free counts as one nano, or it would win at any length of time.
        """
        found = timed.balanced.get(written)
        if found is None:
            fixed = (o * written + r for o, r in zip(self.output, self.request, strict=True))
            rows = [
                (i * time, (rest if i or rest else LEAST_NANOS) * time)
                for i, rest, time in zip(self.input, fixed, timed.times, strict=True)
            ]
            found = timed.balanced[written] = _never_beaten(rows)
        return found

    def fitting(self, prompt_tokens: int, max_tokens: int | None) -> tuple[Sequence[int], list[Excluded]]:
        """Positions of the endpoints whose context and output cap fit, and why the others do not."""
        context, output = prompt_tokens + (max_tokens or 1), max_tokens or 1
        if context <= self.least_context and output <= self.least_max_output:
            return range(len(self.endpoints)), []
        kept: list[int] = []
        left_out: list[Excluded] = []
        for at, endpoint in enumerate(self.endpoints):
            if context > endpoint.context_length:
                room = endpoint.context_length
                left_out.append((endpoint.slug, f"{context} tokens do not fit its context of {room}"))
            elif output > endpoint.max_output:
                left_out.append(
                    (endpoint.slug, f"max_tokens {output} is above its cap of {endpoint.max_output}")
                )
            else:
                kept.append(at)
        return kept, left_out


def of_models(listing: Listing, slugs: Iterable[str], *, needs: frozenset[str], name: Hashable) -> Pool:
    """The pool of every endpoint of these models that can do what is needed. `name` tells pools apart."""
    kept: Pool | None = listing.derived.get((name, needs))
    if kept is None:
        if len(listing.derived) >= MOST_KEPT:
            listing.derived.clear()
        kept = listing.derived[name, needs] = _make(listing, slugs, needs)
    return kept


def _make(listing: Listing, slugs: Iterable[str], needs: frozenset[str]) -> Pool:
    able: list[Endpoint] = []
    unable: list[Excluded] = []
    for slug in slugs:
        lacks = sorted(needs - listing.models[slug].capabilities)
        for endpoint in listing.endpoints.get(slug, ()):
            if lacks:
                unable.append((endpoint.slug, f"cannot do {', '.join(lacks)}"))
            else:
                able.append(endpoint)
    return Pool(tuple(sorted(able, key=lambda endpoint: endpoint.slug)), tuple(sorted(unable)))


def _never_beaten(rows: Sequence[tuple[float, ...]]) -> tuple[int, ...]:
    """Positions of all rows that can be among the MOST_RANKED least for some weights of their columns.

    A row that is above MOST_RANKED others in every column never can, so it is enough to compare each with
    the corner of a good few.
    """
    few = heapq.nsmallest(MOST_RANKED, rows, key=sum)
    if len(few) < MOST_RANKED:
        return tuple(range(len(rows)))
    corner = tuple(max(column) for column in zip(*few, strict=True))
    return tuple(
        at
        for at, row in enumerate(rows)
        if row == corner or any(mine < bound for mine, bound in zip(row, corner, strict=True))
    )


def _least(values: list[float]) -> tuple[int, ...]:
    """Positions of the MOST_RANKED least values, and of all that equal the last of them."""
    if len(values) <= MOST_RANKED:
        return tuple(range(len(values)))
    bound = heapq.nsmallest(MOST_RANKED, values)[-1]
    return tuple(at for at, value in enumerate(values) if value <= bound)
