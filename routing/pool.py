"""Columns of numbers about one set of endpoints, made once per listing so that choosing is a few list passes.

Prices become floats here: they only rank, nothing is charged from them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from billing.pricing import Rates
from routing.listing import Endpoint, Listing
from routing.live import Live

MOST_KEPT = 512
"""Pools kept per listing: one for each model and each set of capabilities and allowed models in use."""

Excluded = tuple[str, str]
"""(endpoint, why)."""


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
    _predicted: tuple[Live | None, int, list[float], list[float]] = field(init=False)

    def __post_init__(self) -> None:
        rates = [endpoint.price.rates for endpoint in self.endpoints]
        self.input = [float(rate.input) for rate in rates]
        self.output = [float(rate.output) for rate in rates]
        self.request = [float(rate.request) for rate in rates]
        self.least_context = min((e.model.context_length for e in self.endpoints), default=0)
        self.least_max_output = min((e.max_output for e in self.endpoints), default=0)
        self.least_tier = min((t.above for e in self.endpoints for t in e.price.tiers), default=float("inf"))
        self.index = {endpoint.slug: at for at, endpoint in enumerate(self.endpoints)}
        self._predicted = (None, -1, [], [])

    def rates(self, prompt_tokens: int) -> tuple[list[float], list[float], list[float]]:
        """Input, output and request rates, each in the tier that a prompt of this length is in."""
        if prompt_tokens <= self.least_tier:
            return self.input, self.output, self.request
        columns = self.input[:], self.output[:], self.request[:]
        for at, endpoint in enumerate(self.endpoints):
            if endpoint.price.tiers:
                rates: Rates = endpoint.price.rates_for(prompt_tokens)
                columns[0][at], columns[1][at] = float(rates.input), float(rates.output)
                columns[2][at] = float(rates.request)
        return columns

    def speeds(self, live: Live, now: float) -> tuple[list[float], list[float]]:
        """Time to first token and seconds per token, as this worker predicts them at the moment."""
        stamp = live.stamp(now)
        if self._predicted[0] is not live or self._predicted[1] != stamp:
            pairs = [
                live.predict(
                    endpoint.slug,
                    ttft_seconds=endpoint.ttft_seconds,
                    seconds_per_token=1 / endpoint.tokens_per_second,
                    now=now,
                )
                for endpoint in self.endpoints
            ]
            self._predicted = (live, stamp, [pair[0] for pair in pairs], [pair[1] for pair in pairs])
        return self._predicted[2], self._predicted[3]

    def fitting(self, prompt_tokens: int, max_tokens: int | None) -> tuple[Sequence[int], list[Excluded]]:
        """Positions of the endpoints whose context and output cap fit, and why the others do not."""
        context, output = prompt_tokens + (max_tokens or 1), max_tokens or 1
        if context <= self.least_context and output <= self.least_max_output:
            return range(len(self.endpoints)), []
        kept: list[int] = []
        left_out: list[Excluded] = []
        for at, endpoint in enumerate(self.endpoints):
            if context > endpoint.model.context_length:
                room = endpoint.model.context_length
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
