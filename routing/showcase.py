"""The models as pages show them: who hosts each, at what price, and how it does right now. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from billing.core.money import EXACT
from billing.core.pricing import Price, Rates
from billing.receipts import per_million, usd_exact
from routing.core import browsing, condition
from routing.core.browsing import CAN, Row
from routing.core.condition import DEGRADED, FAILING, NORMAL, Condition
from routing.core.listing import Endpoint, Listing, Model
from routing.core.vitals import Snapshot, Vitals

_POLICIES = {
    "zero-retention": "keeps nothing",
    "no-training": "does not train on it",
    "may-train": "may train on it",
}
_TINTS = {NORMAL: "green", DEGRADED: "yellow", FAILING: "red"}
_SIZES = ((1000, 1000), (10_000, 10_000))
"""(prompt, completion) tokens of the example calls."""
_RELATED = 6


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured; without traffic what the catalog expects."""

    now: str
    expected: str


@dataclass(frozen=True, slots=True)
class State:
    words: str
    tint: str
    """As the tags have it: green, yellow, red, secondary."""
    uptime: str
    """Empty where nobody has tried."""


@dataclass(frozen=True, slots=True)
class Card:
    """A model in a list."""

    model: Model
    author: str
    part: str
    """Of its slug, behind the author."""
    abilities: tuple[str, ...]
    context: str
    input: str
    output: str
    """Both of the endpoint whose output is cheapest."""
    providers: tuple[str, ...]
    ttft: Figure
    pace: Figure
    state: State


@dataclass(frozen=True, slots=True)
class Rate:
    """A line of an endpoint's prices: where it holds, and the amounts per million tokens."""

    when: str
    input: str
    output: str
    cache_read: str
    cache_write: str
    """Both empty where a cached token costs what any does."""


@dataclass(frozen=True, slots=True)
class Offered:
    """An endpoint beside the others of its model."""

    slug: str
    provider: str
    provider_slug: str
    details: tuple[str, ...]
    policy: str
    context: str
    max_output: str
    rates: tuple[Rate, ...]
    """The one in force first."""
    request: str
    """What each call costs beside its tokens; empty where nothing."""
    ttft: Figure
    ttft_slow: str
    """Nine of ten came within it; empty where nobody has measured."""
    pace: Figure
    uptimes: tuple[tuple[str, str], ...]
    """(span, share), shortest first; only what is known."""
    state: State


@dataclass(frozen=True, slots=True)
class Example:
    words: str
    cost: str
    provider: str


def card(row: Row, seen: Snapshot) -> Card:
    rates = row.cheapest.price.rates
    return Card(
        model=row.model,
        author=browsing.author(row.model.slug),
        part=row.model.slug.partition("/")[2],
        abilities=abilities(row.endpoints),
        context=short(max(each.context_length for each in row.endpoints)),
        input=per_million(rates.input),
        output=per_million(rates.output),
        providers=tuple(dict.fromkeys(each.provider.name for each in row.endpoints)),
        ttft=_figure(_seconds(row.ttft_seconds), measured=row.ttft_measured),
        pace=_figure(f"{row.tokens_per_second:,.0f}", measured=row.pace_measured),
        state=_together([seen.endpoints.get(each.slug) for each in row.endpoints], row.uptime),
    )


def offered(endpoint: Endpoint, seen: Vitals | None, *, markup: Decimal = Decimal(0)) -> Offered:
    """`markup` is a fraction, added to every price."""
    first = slow = pace = ""
    if seen is not None and seen.ttft_seconds is not None:
        first, slow = _seconds(seen.ttft_seconds.p50), _seconds(seen.ttft_seconds.p90)
    if seen is not None and seen.tokens_per_second is not None:
        pace = f"{seen.tokens_per_second.p50:,.0f}"
    request = _with(endpoint.price.rates.request, markup)
    return Offered(
        slug=endpoint.slug,
        provider=endpoint.provider.name,
        provider_slug=endpoint.provider.slug,
        details=_details(endpoint),
        policy=_POLICIES.get(endpoint.provider.data_policy, "data policy not stated"),
        context=short(endpoint.context_length),
        max_output=short(endpoint.max_output),
        rates=tuple(_rate_lines(endpoint.price, markup)),
        request=usd_exact(request) if request else "",
        ttft=Figure(first, _seconds(endpoint.ttft_seconds)),
        ttft_slow=slow,
        pace=Figure(pace, f"{endpoint.tokens_per_second:,.0f}"),
        uptimes=_uptimes(seen),
        state=_state(seen),
    )


def examples(endpoints: Sequence[Endpoint], markup: Decimal) -> list[Example]:
    """What calls of some sizes cost at the cheapest endpoint that has room for them, mark-up included."""
    found = []
    for prompt, completion in _SIZES:
        costs = [
            (_cost(each, prompt, completion, markup), each.slug, each.provider.name)
            for each in endpoints
            if each.max_output >= completion and each.context_length >= prompt + completion
        ]
        if costs:
            cost, _, provider = min(costs)
            words = f"{prompt:,} tokens in, {completion:,} out"
            found.append(Example(words, usd_exact(cost), provider))
    return found


def related(listing: Listing, model: Model) -> list[Row]:
    """Other models of the same author, the nearest of its name first."""
    own = browsing.author(model.slug)
    others = [
        browsing.row(listing, slug)
        for slug in listing.shown()
        if slug != model.slug and browsing.author(slug) == own
    ]
    others.sort(key=lambda row: (-_alike(row.model.slug, model.slug), -row.model.created, row.model.slug))
    return others[:_RELATED]


def abilities(endpoints: Sequence[Endpoint]) -> tuple[str, ...]:
    """What at least one of them can do, in words."""
    return tuple(words for name, words in CAN.items() if any(browsing.can(each, name) for each in endpoints))


def short(tokens: int) -> str:
    """`128K`, `1.05M`."""
    if tokens < 1000:
        return str(tokens)
    if tokens < 999_500:
        return f"{tokens / 1000:.4g}K" if tokens < 10_000 else f"{tokens / 1000:.0f}K"
    return f"{tokens / 1_000_000:.3g}M"


def _figure(text: str, *, measured: bool) -> Figure:
    return Figure(text, "") if measured else Figure("", text)


def _rate_lines(price: Price, markup: Decimal) -> list[Rate]:
    """What is charged now, then longer prompts, then other hours."""
    whole = price.within(0)
    found = [_rate("", price.rates, markup)]
    found += [_rate(f"above {short(tier.above)} of prompt", tier.rates, markup) for tier in price.tiers]
    for number, window in enumerate(whole.windows, 1):
        if number != price.window:
            found.append(_rate(str(window.hours), window.rates, markup))
    if price.window:
        found[0] = _rate(f"now, {price.hours}", price.rates, markup)
        found.append(_rate("at other hours", whole.rates, markup))
    return found


def _rate(when: str, rates: Rates, markup: Decimal) -> Rate:
    caches = rates.cache_read != rates.input or rates.cache_write_5m != rates.input

    def shown(rate: Decimal) -> str:
        return per_million(_with(rate, markup))

    return Rate(
        when,
        shown(rates.input),
        shown(rates.output),
        shown(rates.cache_read) if caches else "",
        shown(rates.cache_write_5m) if caches else "",
    )


def _with(nanos: Decimal, markup: Decimal) -> Decimal:
    return EXACT.multiply(nanos, EXACT.add(Decimal(1), markup))


def _cost(endpoint: Endpoint, prompt: int, completion: int, markup: Decimal) -> Decimal:
    rates = endpoint.price.rates_for(prompt)
    times, plus = EXACT.multiply, EXACT.add
    tokens = plus(times(rates.input, Decimal(prompt)), times(rates.output, Decimal(completion)))
    return _with(plus(tokens, rates.request), markup)


def _alike(one: str, other: str) -> int:
    """Length of the beginning that two slugs share."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))


def _details(endpoint: Endpoint) -> tuple[str, ...]:
    """What sets this one apart from the model's others."""
    found = []
    if endpoint.quantization != "unknown":
        found.append(endpoint.quantization)
    if endpoint.provider.region:
        region = endpoint.provider.region
        found.append(region.upper() if len(region) == 2 else region)
    if endpoint.price.windows:
        found.append("price by the hour")
    return tuple(found)


def _state(seen: Vitals | None) -> State:
    found = condition.of(seen)
    return State(found.words, tint(found), ", ".join(f"{share} in {span}" for span, share in _uptimes(seen)))


def _together(every: Sequence[Vitals | None], uptime: float | None) -> State:
    """Of a model: as its best endpoint does, and how many of them fail."""
    found = [condition.of(each) for each in every]
    best = min(found, key=lambda each: (not each.known, list(_TINTS).index(each.state)))
    failing = sum(each.state == FAILING for each in found)
    words = best.words
    if failing and best.state != FAILING:
        words = f"{failing} of {len(found)} failing"
    return State(words, tint(best), "" if uptime is None else percent(uptime))


def tint(found: Condition) -> str:
    return _TINTS.get(found.state, "red") if found.known else "secondary"


def _uptimes(seen: Vitals | None) -> tuple[tuple[str, str], ...]:
    """What is not known is left out."""
    if seen is None:
        return ()
    spans = (("5 min", seen.uptime_5m), ("30 min", seen.uptime_30m), ("1 day", seen.uptime_1d))
    return tuple((span, percent(share)) for span, share in spans if share is not None)


def percent(share: float) -> str:
    """Never rounded up: 100 % means that nothing failed."""
    return f"{math.floor(share * 1000 + 1e-6) / 10:g} %"


def _seconds(value: float) -> str:
    return f"{value:.2f} s"
