"""The models as a page shows them: who hosts each, at what price and pace. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from billing.receipts import per_million
from routing.listing import Endpoint, Listing, Model


@dataclass(frozen=True, slots=True)
class Offered:
    slug: str
    provider: str
    input: str
    output: str
    ttft: str
    tokens_per_second: str


@dataclass(frozen=True, slots=True)
class Shown:
    model: Model
    endpoints: tuple[Offered, ...]
    capabilities: tuple[str, ...]


def rows(listing: Listing, *, query: str = "", pool: bool = False) -> list[Shown]:
    """What can be called now: the auto pool first, then by slug. Every word of the query must occur."""
    words = query.lower().split()
    found = [
        listing.models[slug]
        for slug, endpoints in listing.endpoints.items()
        if (listing.models[slug].auto or not pool) and _matches(listing.models[slug], endpoints, words)
    ]
    found.sort(key=lambda model: (not model.auto, model.slug))
    return [
        Shown(
            model,
            tuple(_offered(endpoint) for endpoint in sorted(listing.endpoints[model.slug], key=_price)),
            tuple(sorted(name.replace("_", " ") for name in model.capabilities)),
        )
        for model in found
    ]


def _matches(model: Model, endpoints: tuple[Endpoint, ...], words: list[str]) -> bool:
    text = " ".join(
        [model.slug, model.name, model.description, model.model_class, *sorted(model.capabilities)]
        + [f"{endpoint.slug} {endpoint.provider.name}" for endpoint in endpoints]
    ).lower()
    return all(word in text for word in words)


def _price(endpoint: Endpoint) -> tuple[object, ...]:
    return endpoint.price.rates.output, endpoint.price.rates.input, endpoint.slug


def _offered(endpoint: Endpoint) -> Offered:
    return Offered(
        slug=endpoint.slug,
        provider=endpoint.provider.name,
        input=per_million(endpoint.price.rates.input),
        output=per_million(endpoint.price.rates.output),
        ttft=f"{endpoint.ttft_seconds:.2f} s",
        tokens_per_second=f"{endpoint.tokens_per_second:,.0f}",
    )
