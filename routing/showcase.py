"""The models as a page shows them: who hosts each, at what price, and how it does right now. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from billing.receipts import per_million
from routing.listing import Endpoint, Listing, Model
from routing.vitals import Snapshot, Vitals

MOST = 30
"""Models on a page."""
_FEW = 3
"""So many attempts of the last half minute say something."""
_STEADY = 0.95
_POLICIES = {
    "zero-retention": "keeps nothing",
    "no-training": "does not train on it",
    "may-train": "may train on it",
}


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
class Offered:
    slug: str
    provider: str
    details: tuple[str, ...]
    policy: str
    input: str
    output: str
    ttft: Figure
    pace: Figure
    state: State


@dataclass(frozen=True, slots=True)
class Shown:
    model: Model
    endpoints: tuple[Offered, ...]
    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Page:
    rows: tuple[Shown, ...]
    count: int
    """Of all models that match."""
    more: int | None
    """Where the next page starts."""


def page(listing: Listing, seen: Snapshot, *, query: str = "", pool: bool = False, start: int = 0) -> Page:
    """What can be called now: the auto pool first, then by slug. Every word of the query must occur."""
    words = query.lower().split()
    found = [
        listing.models[slug]
        for slug, endpoints in listing.endpoints.items()
        if (listing.models[slug].auto or not pool) and _matches(listing.models[slug], endpoints, words)
    ]
    found.sort(key=lambda model: (not model.auto, model.slug))
    end = start + MOST
    rows = tuple(
        Shown(
            model,
            tuple(
                _offered(endpoint, seen.endpoints.get(endpoint.slug))
                for endpoint in sorted(listing.endpoints[model.slug], key=_price)
            ),
            tuple(sorted(name.replace("_", " ") for name in model.capabilities)),
        )
        for model in found[start:end]
    )
    return Page(rows, len(found), end if end < len(found) else None)


def _matches(model: Model, endpoints: tuple[Endpoint, ...], words: list[str]) -> bool:
    if not words:
        return True
    text = " ".join(
        [model.slug, model.name, model.description, model.model_class, *sorted(model.capabilities)]
        + [f"{endpoint.slug} {endpoint.provider.name} {endpoint.quantization}" for endpoint in endpoints]
    ).lower()
    return all(word in text for word in words)


def _price(endpoint: Endpoint) -> tuple[object, ...]:
    return endpoint.price.rates.output, endpoint.price.rates.input, endpoint.slug


def _offered(endpoint: Endpoint, seen: Vitals | None) -> Offered:
    first = pace = ""
    if seen is not None and seen.ttft_seconds is not None:
        first = _seconds(seen.ttft_seconds.p50)
    if seen is not None and seen.tokens_per_second is not None:
        pace = f"{seen.tokens_per_second.p50:,.0f}"
    return Offered(
        slug=endpoint.slug,
        provider=endpoint.provider.name,
        details=_details(endpoint),
        policy=_POLICIES.get(endpoint.provider.data_policy, "data policy not stated"),
        input=per_million(endpoint.price.rates.input),
        output=per_million(endpoint.price.rates.output),
        ttft=Figure(first, _seconds(endpoint.ttft_seconds)),
        pace=Figure(pace, f"{endpoint.tokens_per_second:,.0f}"),
        state=_state(seen),
    )


def _details(endpoint: Endpoint) -> tuple[str, ...]:
    """What sets this one apart from the model's others."""
    found = []
    if endpoint.quantization != "unknown":
        found.append(endpoint.quantization)
    if endpoint.context_length != endpoint.model.context_length:
        found.append(f"{endpoint.context_length:,} context")
    if endpoint.provider.region:
        region = endpoint.provider.region
        found.append(region.upper() if len(region) == 2 else region)
    if endpoint.price.windows:
        found.append("price by the hour")
    return tuple(found)


def _state(seen: Vitals | None) -> State:
    """How it does, in words: the last half minute before five minutes, traffic before probes."""
    if seen is None or (not seen.attempts and not seen.recent.attempts and seen.healthy is None):
        return State("no traffic yet" if seen is None else "no traffic lately", "secondary", _uptime(seen))
    recent, uptime = seen.recent, _uptime(seen)
    tried = recent.attempts if recent.attempts >= _FEW else 0
    if tried and recent.failures * 2 >= tried:
        return State("failing: put last", "red", uptime)
    if tried and recent.rate_limited * 2 >= tried:
        return State("at capacity", "yellow", uptime)
    if seen.healthy is False:
        return State("down: put last", "red", uptime)
    if seen.uptime_5m is not None and seen.uptime_5m < _STEADY:
        return State("unsteady", "yellow", uptime)
    return State("healthy", "green", uptime)


def _uptime(seen: Vitals | None) -> str:
    """`99.2 % in 30 min, 99.9 % in a day`; what is not known is left out."""
    if seen is None:
        return ""
    spans = ((seen.uptime_30m, "30 min"), (seen.uptime_1d, "a day"))
    known = [f"{_percent(share)} in {span}" for share, span in spans if share is not None]
    return ", ".join(known)


def _percent(share: float) -> str:
    """Never rounded up: 100 % means that nothing failed."""
    return f"{math.floor(share * 1000 + 1e-6) / 10:g} %"


def _seconds(value: float) -> str:
    return f"{value:.2f} s"
