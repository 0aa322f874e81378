"""Which models a person looks for: filters over endpoints, orders, and which filter leaves nothing. Pure.

Every filter asks one endpoint, and a model is found where a single endpoint of it passes them all: what is
shown of it then, its price first, is of those endpoints alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from routing.core import shelf
from routing.core.listing import CLASSES, DATA_POLICIES, PARAMETERS, Endpoint, Listing, Model
from routing.core.vitals import NOTHING, Snapshot

CAN = {
    "tools": "Tools",
    "json_schema": "JSON schema",
    "reasoning": "Reasoning",
    "vision": "Images",
    "caching": "Prompt caching",
}
"""What an endpoint can do, as a filter names it, and in words."""
POLICIES = {"zdr": "Keeps nothing", "no-training": "Does not train"}
CONTEXTS = {"32000": "32K", "128000": "128K", "200000": "200K", "400000": "400K", "1000000": "1M"}
_HONOURED = {"tools": "tools", "json_schema": "structured_outputs", "reasoning": "reasoning_effort"}
"""The field of a request that a capability needs, where an endpoint says which it honours."""
_KEEPS = DATA_POLICIES[:1]
_TRAINS_NOT = DATA_POLICIES[:2]
_PER_MILLION = Decimal(1000)
_LONGEST = 100

Fits = Callable[[Endpoint], bool]


class Filter(NamedTuple):
    """One in force: how the address says it, how a person does, and what passes."""

    name: str
    value: str
    words: str
    fits: Fits


class Choices(NamedTuple):
    """What there is to choose from, as (value, words)."""

    providers: tuple[tuple[str, str], ...]
    authors: tuple[str, ...]
    regions: tuple[str, ...]
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A model with those of its endpoints that pass, the cheapest first."""

    model: Model
    endpoints: tuple[Endpoint, ...]
    ttft_seconds: float
    """The best that was measured; where nothing was, the best that the catalog expects."""
    ttft_measured: bool
    tokens_per_second: float
    pace_measured: bool
    uptime: float | None
    """Of a day, the best: a call falls back to it."""

    @property
    def cheapest(self) -> Endpoint:
        return self.endpoints[0]


SORTS: Mapping[str, Callable[[Row], object]] = {
    "name": lambda row: row.model.name.lower(),
    "new": lambda row: row.model.created,
    "in": lambda row: row.cheapest.price.rates.input,
    "out": lambda row: row.cheapest.price.rates.output,
    "context": lambda row: max(endpoint.context_length for endpoint in row.endpoints),
    "first": lambda row: row.ttft_seconds,
    "pace": lambda row: row.tokens_per_second,
    "uptime": lambda row: row.uptime,
}
DEFAULT_SORT = "-new"


def choices(listing: Listing) -> Choices:
    """Computed once for a listing."""
    kept: Choices | None = listing.derived.get("choices")
    if kept is None:
        every = [each for slug in listing.shown() for each in listing.endpoints[slug]]
        honoured = {name for each in every for name in shelf.parameters(each)}
        kept = listing.derived["choices"] = Choices(
            providers=tuple(
                sorted({(each.provider.slug, each.provider.name) for each in every}, key=_second)
            ),
            authors=tuple(sorted({author(each.model.slug) for each in every})),
            regions=tuple(sorted({each.provider.region for each in every} - {""})),
            parameters=tuple(name for name in PARAMETERS if name in honoured),
        )
    return kept


def filters(asked: Mapping[str, str], can: Sequence[str], listing: Listing) -> list[Filter]:
    """Those that the address names; what it says wrongly is as if it said nothing."""
    known = choices(listing)
    found = [
        _query(asked.get("q", "")),
        *(_capability(name) for name in CAN if name in can),
        _one_of("reads", asked, {"image": "reads images"}, _sees),
        _context(asked.get("context", "")),
        _price("in", asked.get("in", "")),
        _price("out", asked.get("out", "")),
        _one_of("provider", asked, dict(known.providers), _is_at),
        _one_of("author", asked, _themselves(known.authors), _is_by),
        _one_of("parameter", asked, {name: f"takes {name}" for name in known.parameters}, _honours),
        _one_of("policy", asked, {"zdr": "keeps nothing", "no-training": "does not train"}, _policy),
        _one_of("region", asked, _themselves(known.regions), _lies_in),
        _one_of("class", asked, _themselves(CLASSES), _is_of),
        _one_of("pool", asked, {"auto": "behind auto"}, lambda _: lambda each: each.model.auto),
    ]
    return [each for each in found if each is not None]


def rows(listing: Listing, seen: Snapshot, wanted: Sequence[Filter]) -> list[Row]:
    """Every model that is listed and has an endpoint that passes, by slug."""
    tests = [each.fits for each in wanted]
    found = []
    for slug in listing.shown():
        passing = [each for each in listing.endpoints[slug] if all(fits(each) for fits in tests)]
        if passing:
            found.append(_row(listing.models[slug], passing, seen))
    return found


def row(listing: Listing, slug: str, seen: Snapshot = NOTHING) -> Row:
    """A model with all its endpoints. Raises KeyError."""
    return _row(listing.models[slug], listing.endpoints[slug], seen)


def without(listing: Listing, wanted: Sequence[Filter]) -> list[tuple[Filter, int]]:
    """Where nothing passes: each filter whose absence alone would leave something, and how many models."""
    found = []
    for one in wanted:
        tests = [each.fits for each in wanted if each is not one]
        count = sum(
            any(all(fits(each) for fits in tests) for each in listing.endpoints[slug])
            for slug in listing.shown()
        )
        if count:
            found.append((one, count))
    return found


def author(slug: str) -> str:
    return slug.partition("/")[0]


def can(endpoint: Endpoint, name: str) -> bool:
    """Whether an endpoint has a capability of `CAN`: its model has it, and the host does not withhold it."""
    if name == "caching":
        return endpoint.price.rates.cache_read < endpoint.price.rates.input
    if name not in endpoint.model.capabilities:
        return False
    field = _HONOURED.get(name)
    return field is None or endpoint.parameters is None or field in endpoint.parameters


def by_price(endpoint: Endpoint) -> tuple[Decimal, Decimal, str]:
    return endpoint.price.rates.output, endpoint.price.rates.input, endpoint.slug


def _row(model: Model, endpoints: Sequence[Endpoint], seen: Snapshot) -> Row:
    vitals = [found for each in endpoints if (found := seen.endpoints.get(each.slug)) is not None]
    firsts = [each.ttft_seconds.p50 for each in vitals if each.ttft_seconds is not None]
    paces = [each.tokens_per_second.p50 for each in vitals if each.tokens_per_second is not None]
    uptimes = [each.uptime_1d for each in vitals if each.uptime_1d is not None]
    return Row(
        model=model,
        endpoints=tuple(sorted(endpoints, key=by_price)),
        ttft_seconds=min(firsts or (each.ttft_seconds for each in endpoints)),
        ttft_measured=bool(firsts),
        tokens_per_second=max(paces or (each.tokens_per_second for each in endpoints)),
        pace_measured=bool(paces),
        uptime=max(uptimes, default=None),
    )


def _query(text: str) -> Filter | None:
    """Every word must occur in what is known of the model and of this endpoint."""
    text = text.strip()[:_LONGEST]
    words = text.lower().split()
    if not words:
        return None

    def fits(endpoint: Endpoint) -> bool:
        model = endpoint.model
        said = [model.slug, model.name, model.description, model.model_class, *sorted(model.capabilities)]
        said += [endpoint.slug, endpoint.provider.name, endpoint.quantization]
        text = " ".join(said).lower()
        return all(word in text for word in words)

    return Filter("q", text, f"“{text}”", fits)


def _capability(name: str) -> Filter:
    return Filter("can", name, CAN[name].lower().replace("json", "JSON"), lambda each: can(each, name))


def _context(text: str) -> Filter | None:
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text)):
        return None
    least = int(text)
    words = f"context of at least {CONTEXTS.get(text) or f'{least:,}'}"
    return Filter("context", text, words, lambda each: each.context_length >= least)


def _price(side: str, text: str) -> Filter | None:
    """At most so many dollars per million tokens."""
    text = text.strip()[:20]
    try:
        most = Decimal(text) * _PER_MILLION
    except InvalidOperation:
        return None
    if not most.is_finite() or most < 0:
        return None
    if side == "in":
        return Filter("in", text, f"input at most ${text}", lambda each: each.price.rates.input <= most)
    return Filter("out", text, f"output at most ${text}", lambda each: each.price.rates.output <= most)


def _one_of(
    name: str, asked: Mapping[str, str], known: Mapping[str, str], test: Callable[[str], Fits]
) -> Filter | None:
    value = asked.get(name, "")
    return Filter(name, value, known[value], test(value)) if value in known else None


def _sees(_: str) -> Fits:
    return lambda each: can(each, "vision")


def _is_at(slug: str) -> Fits:
    return lambda each: each.provider.slug == slug


def _lies_in(region: str) -> Fits:
    return lambda each: each.provider.region == region


def _is_of(name: str) -> Fits:
    return lambda each: each.model.model_class == name


def _is_by(name: str) -> Fits:
    return lambda each: author(each.model.slug) == name


def _honours(name: str) -> Fits:
    return lambda each: name in shelf.parameters(each)


def _policy(name: str) -> Fits:
    enough = _KEEPS if name == "zdr" else _TRAINS_NOT
    return lambda each: each.provider.data_policy in enough


def _themselves(values: Sequence[str]) -> dict[str, str]:
    return {value: value for value in values}


def _second(pair: tuple[str, str]) -> str:
    return pair[1].lower()
