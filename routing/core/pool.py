"""Columns of numbers about one set of endpoints, made once per listing so that choosing is a few list passes.

Prices become floats here: they only rank, nothing is charged from them.
"""

from __future__ import annotations

import functools
import heapq
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from routing.core.listing import Endpoint, Listing
from routing.core.live import Live

MOST_KEPT = 512
"""Pools kept per listing: one for each model and each set of capabilities and allowed models in use."""
MOST_NARROWED = 256
"""Narrower ones, by what single requests demand; whoever makes up new demands all day only costs itself."""
MOST_WIDE = 50_000
"""And so many endpoints in all of them: whoever has a key for each set of models fills no memory."""
MOST_LENGTHS = 32
MOST_RANKED = 16
"""How many endpoints of a pool are ranked and shown; a shortlist holds at least the best of these."""
_OF_PROVIDERS = frozenset({"remote_media", "files"})
"""Needs that are the provider's to meet, whatever its model can."""
LEAST_NANOS = 1.0
"""What is cheaper counts as this much in a ratio of costs."""


class LeftOut(NamedTuple):
    """Endpoints that one demand left out."""

    field: str
    """What the customer can change: a field of the request."""
    number: int
    shown: tuple[tuple[str, str], ...]
    """(endpoint, why), of the first few."""


@dataclass(frozen=True, slots=True)
class Timed:
    """Every endpoint's predicted seconds for one length of answer."""

    times: list[float]
    fastest: tuple[int, ...]
    balanced: dict[tuple[Columns, int], tuple[int, ...]] = field(default_factory=dict, repr=False)
    """`Columns.best_balanced`, by prices and length; it goes when these times do."""


@dataclass(eq=False)
class Columns:
    """Nanos per prompt token, per token written and per request, by position in the pool."""

    input: list[float]
    output: list[float]
    request: list[float]

    @functools.cached_property
    def cheapest(self) -> tuple[int, ...]:
        """Holds the cheapest endpoints for any length of prompt and of answer."""
        return _never_beaten(list(zip(self.input, self.output, self.request, strict=True)))

    def best_balanced(self, written: int, timed: Timed) -> tuple[int, ...]:
        """Holds the endpoints with the least product of cost and time, for any length of prompt.

        ln a + ln b sorts as a × b. What is free counts as one nano, or it would win at any length of time.
        """
        found = timed.balanced.get((self, written))
        if found is None:
            fixed = (o * written + r for o, r in zip(self.output, self.request, strict=True))
            rows = [
                (i * time, (rest if i or rest else LEAST_NANOS) * time)
                for i, rest, time in zip(self.input, fixed, timed.times, strict=True)
            ]
            found = timed.balanced[self, written] = _never_beaten(rows)
        return found


class Soft(NamedTuple):
    """What orders the endpoints of a pool beside their scores, by endpoint slug."""

    places: Mapping[str, int] = {}
    """By `provider.order`: 0 is tried first; one that it does not name is absent."""
    lacks: Mapping[str, str] = {}
    """What others of the same model honour and this one does not."""
    wishes: tuple[Any, Any] | None = None
    """(min_throughput, max_latency) of the preferences."""
    unknown: tuple[str, ...] = ()
    """What the preferences name and nobody has."""


NO_ORDER = Soft()


@dataclass(eq=False)
class Pool:
    """Endpoints that could serve a kind of request, in the order of their slugs, as parallel columns."""

    endpoints: tuple[Endpoint, ...]
    left_out: tuple[LeftOut, ...] = ()
    """Left out for good, for what the request demands."""
    name: Hashable = ()
    """Tells pools of one listing apart."""
    soft: Soft = NO_ORDER
    whole: Pool | None = None
    """The pool that this one is a part of, and whose predictions it shares."""
    picks: tuple[int, ...] = ()
    """Positions in the whole."""
    narrowed: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    """Parts of all pools of one listing, by name."""
    standing: Any = None
    """What `ranking` last made of the snapshot."""
    columns: Columns = field(init=False)
    index: dict[str, int] = field(init=False)
    tiered: tuple[int, ...] = field(init=False)
    least_tier: float = field(init=False)
    """The shortest prompt, in tokens, after which some price changes."""
    _stamp: tuple[Live | None, int] = field(init=False, default=(None, -1))
    _speeds: tuple[list[float], list[float]] = field(init=False, default=([], []))
    _timed: dict[int, Timed] = field(init=False, default_factory=dict)
    _quickest: dict[int, tuple[int, ...]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.whole is None:
            rates = [endpoint.price.rates for endpoint in self.endpoints]
            self.columns = Columns(
                [float(rate.input) for rate in rates],
                [float(rate.output) for rate in rates],
                [float(rate.request) for rate in rates],
            )
        else:
            wide = self.whole.columns
            self.columns = Columns(
                [wide.input[at] for at in self.picks],
                [wide.output[at] for at in self.picks],
                [wide.request[at] for at in self.picks],
            )
        self.index = {endpoint.slug: at for at, endpoint in enumerate(self.endpoints)}
        self.tiered = tuple(at for at, endpoint in enumerate(self.endpoints) if endpoint.price.tiers)
        self.least_tier = min(
            (t.above for at in self.tiered for t in self.endpoints[at].price.tiers), default=float("inf")
        )

    # ── Parts ────────────────────────────────────────────────────────────────────────────────────

    def part(
        self, name: Hashable, kept: Sequence[int], left_out: tuple[LeftOut, ...], soft: Soft | None = None
    ) -> Pool:
        """The pool of these positions alone."""
        picks = tuple(kept) if self.whole is None else tuple(self.picks[at] for at in kept)
        return Pool(
            tuple(self.endpoints[at] for at in kept),
            left_out,
            name,
            self.soft if soft is None else soft,
            self if self.whole is None else self.whole,
            picks,
            self.narrowed,
        )

    def remember(self, name: Hashable, made: Any) -> None:
        if len(self.narrowed) >= MOST_NARROWED:
            del self.narrowed[next(iter(self.narrowed))]
        self.narrowed[name] = made

    @functools.cached_property
    def contexts(self) -> list[int]:
        return sorted({endpoint.context_length for endpoint in self.endpoints})

    @functools.cached_property
    def caps(self) -> list[int]:
        return sorted({endpoint.max_output for endpoint in self.endpoints})

    def fitting(self, prompt_tokens: int, max_tokens: int | None) -> tuple[Pool, tuple[LeftOut, ...]]:
        """The endpoints whose context and output cap fit, and why the others do not."""
        if not self.endpoints:
            return self, ()
        context, output = prompt_tokens + (max_tokens or 1), max_tokens or 1
        if context <= self.contexts[0] and output <= self.caps[0]:
            return self, ()
        name = ("fit", self.name, bisect_left(self.contexts, context), bisect_left(self.caps, output))
        found = self.narrowed.get(name)
        if found is None:
            found = self._fit(name, context, output)
            self.remember(name, found)
        fit, (short, few_short), (capped, few_capped) = found
        left_out = []
        if short:
            why = [
                (e.slug, f"{context} tokens do not fit its context of {e.context_length}") for e in few_short
            ]
            left_out.append(LeftOut("messages", short, tuple(why)))
        if capped:
            why = [(e.slug, f"max_tokens {output} is above its cap of {e.max_output}") for e in few_capped]
            left_out.append(LeftOut("max_tokens", capped, tuple(why)))
        return fit, tuple(left_out)

    def _fit(self, name: Hashable, context: int, output: int) -> Any:
        """(pool, (how many are too short, the first of them), (how many have too low a cap, the first))."""
        kept, short, capped = [], [], []
        for at, endpoint in enumerate(self.endpoints):
            if context > endpoint.context_length:
                short.append(endpoint)
            elif output > endpoint.max_output:
                capped.append(endpoint)
            else:
                kept.append(at)
        shown = slice(MOST_RANKED)
        return self.part(name, kept, ()), (len(short), short[shown]), (len(capped), capped[shown])

    # ── Predictions ──────────────────────────────────────────────────────────────────────────────

    def speeds(self, live: Live, now: float) -> tuple[list[float], list[float]]:
        """(seconds to the first token, seconds per token) of every endpoint; kept while `live` allows."""
        stamp = (live, live.stamp(now))
        if self._stamp != stamp:
            if self.whole is None:
                self._speeds = self._predict(live, now)
            else:
                first, pace = self.whole.speeds(live, now)
                self._speeds = [first[at] for at in self.picks], [pace[at] for at in self.picks]
            self._stamp = stamp
            self._timed.clear()
            self._quickest.clear()
        return self._speeds

    def times(self, length: int, *, live: Live, now: float) -> Timed:
        """Predicted seconds until an answer of `length` tokens is complete."""
        speeds = self.speeds(live, now)
        found = self._timed.get(length)
        if found is None:
            if len(self._timed) >= (MOST_LENGTHS if self.whole is None else MOST_LENGTHS // 4):
                self._timed.clear()
            span = float(length)
            times = [first + pace * span for first, pace in zip(*speeds, strict=True)]
            found = self._timed[length] = Timed(times, _least(times))
        return found

    def quickest(self, which: int, live: Live, now: float) -> tuple[int, ...]:
        """Holds the endpoints with the least of one of the two `speeds`."""
        values = self.speeds(live, now)[which]
        found = self._quickest.get(which)
        if found is None:
            found = self._quickest[which] = _least(values)
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
    def dearest(self) -> list[tuple[int, float, float, float]]:
        """(position, input, output, request) at what each can cost at most, in the lowest tier."""
        rates = [endpoint.price.rates for endpoint in self.endpoints]
        return [
            (at, float(rate.dearest_input), float(rate.dearest_output), float(rate.request))
            for at, rate in enumerate(rates)
        ]


def of_models(
    listing: Listing, slugs: Callable[[], Iterable[str]], *, needs: frozenset[str], name: Hashable
) -> Pool:
    """The pool of every endpoint of these models that can do what is needed. `name` tells pools apart."""
    pools: dict[Any, Pool] = listing.derived.setdefault("pools", {})
    kept = pools.get((name, needs))
    if kept is None:
        made = _make(listing, slugs(), needs, name)
        wide = len(made.endpoints) + sum(len(each.endpoints) for each in pools.values())
        while pools and (len(pools) >= MOST_KEPT or wide > MOST_WIDE):
            wide -= len(pools.pop(next(iter(pools))).endpoints)
        kept = pools[name, needs] = made
    return kept


def _make(listing: Listing, slugs: Iterable[str], needs: frozenset[str], name: Hashable) -> Pool:
    able: list[Endpoint] = []
    unable: list[tuple[str, str]] = []
    for slug in slugs:
        lacks = sorted(needs - _OF_PROVIDERS - listing.models[slug].capabilities)
        for endpoint in listing.endpoints.get(slug, ()):
            if lacks:
                unable.append((endpoint.slug, f"cannot do {', '.join(lacks)}"))
            elif "remote_media" in needs and endpoint.provider.own_network:
                unable.append((endpoint.slug, "fetches no media by address: send data: URLs"))
            elif "files" in needs and "bills_files" in endpoint.provider.quirks:
                unable.append((endpoint.slug, "files change its price"))
            else:
                able.append(endpoint)
    return Pool(
        tuple(sorted(able, key=lambda endpoint: endpoint.slug)),
        (LeftOut("needs", len(unable), tuple(sorted(unable)[:MOST_RANKED])),) if unable else (),
        (name, needs),
        narrowed=listing.derived.setdefault("narrowed", {}),
    )


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
