"""Which endpoints of a pool a request's demands leave, and in which words the others are told why not. Pure.

Demands leave endpoints out; `provider.order`, wishes and parameters only order those that are left.
What depends on the catalog and the request's shape alone is kept with the listing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from decimal import Decimal
from typing import NamedTuple

from accounts.core.principal import DataPolicy
from billing.core.pricing import Rates
from routing.core.auto import is_allowed
from routing.core.chat import Chat
from routing.core.listing import Endpoint, Listing
from routing.core.pool import MOST_RANKED, LeftOut, Pool, Soft
from routing.core.preferences import ANY, MaxPrice, Preferences

_POLICIES = {"zdr": ("zero-retention",), "data_collection": ("zero-retention", "no-training")}
_MOST_NAMED = 5
_LONGEST_NAMED = 40
"""What a customer has written is told with each endpoint that it leaves out, and kept with the call."""


class _Demand(NamedTuple):
    field: str
    meets: Callable[[Endpoint], bool]
    why: Callable[[Endpoint], str]


class _Known(NamedTuple):
    """What the endpoints of a pool that say so honour: all of them, and any of them."""

    by_all: frozenset[str]
    by_any: frozenset[str]


def narrowed(among: Pool, chat: Chat, *, listing: Listing, markup: Decimal, named: bool) -> Pool:
    """The part of a pool that meets the demands of a chat. `named` is false for `auto`, whose pool
    `allowed_models` only makes smaller: what it leaves out is nobody's business there.
    """
    prefs = chat.providers
    parameters = chat.parameters
    if parameters and not prefs.require_parameters:
        known = _known(among)
        # One that everybody honours, or that nobody is known to, parts nobody.
        parameters = (parameters & known.by_any) - known.by_all
    plain = prefs is ANY or prefs == ANY
    if plain and not (parameters or chat.free_only or chat.allowed_models):
        return among
    tier: Hashable = ()
    if prefs.max_price is not None:
        tier = markup, bisect_left(_tiers(among), chat.prompt_tokens)
    name = ("part", among.name, prefs, parameters, chat.free_only, chat.allowed_models, tier)
    found: Pool | None = among.narrowed.get(name)
    if found is None:
        demands = [*_demands(prefs, parameters, chat, markup)]
        found = _part(among, name, demands, chat.allowed_models if not named else ())
        found.soft = _soft(found, prefs, parameters, listing)
        among.remember(name, found)
    return found


def left_by(policy: DataPolicy, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """The endpoints that an organization's data policy allows."""
    asked = [*_by_organization(policy)]
    return [endpoint for endpoint in endpoints if all(demand.meets(endpoint) for demand in asked)]


def allowed(among: Pool, policy: DataPolicy) -> Pool:
    """The part of a pool that the organization's data policy allows; what a request demands comes after."""
    name = ("allowed", among.name, policy)
    found: Pool | None = among.narrowed.get(name)
    if found is None:
        found = _part(among, name, [*_by_organization(policy)], ())
        among.remember(name, found)
    return found


def _part(among: Pool, name: Hashable, demands: list[_Demand], silently: Collection[str]) -> Pool:
    kept: list[int] = []
    counts = {demand.field: 0 for demand in demands}
    shown: dict[str, list[tuple[str, str]]] = {demand.field: [] for demand in demands}
    if silently and not any(is_allowed(endpoint.model.slug, silently) for endpoint in among.endpoints):
        silently = ()  # nobody at all: that is worth telling
    for at, endpoint in enumerate(among.endpoints):
        if silently and not is_allowed(endpoint.model.slug, silently):
            continue
        for demand in demands:
            if not demand.meets(endpoint):
                counts[demand.field] += 1
                if len(shown[demand.field]) < MOST_RANKED:
                    shown[demand.field].append((endpoint.slug, demand.why(endpoint)))
                break
        else:
            kept.append(at)
    left_out = [LeftOut(field, count, tuple(shown[field])) for field, count in counts.items() if count]
    return among.part(name, kept, (*among.left_out, *left_out))


def _demands(
    prefs: Preferences, parameters: frozenset[str], chat: Chat, markup: Decimal
) -> Iterator[_Demand]:
    """In the order in which they are told: an endpoint is told the first that it fails."""
    if chat.allowed_models:
        allowed = chat.allowed_models
        yield _Demand(
            "allowed_models",
            lambda e: is_allowed(e.model.slug, allowed),
            lambda e: f"allowed_models: {e.model.slug} is not among them",
        )
    yield from _by_name(prefs)
    yield from _by_policy(prefs)
    if prefs.quantizations:
        wanted = frozenset(map(str.lower, prefs.quantizations))
        yield _Demand(
            "provider.quantizations",
            lambda e: e.quantization.lower() in wanted,
            lambda e: f"provider.quantizations: it is {e.quantization}, not {_listed(wanted)}",
        )
    if prefs.require_parameters and parameters:
        yield _Demand(
            "provider.require_parameters",
            lambda e: e.parameters is not None and parameters <= e.parameters,
            lambda e: f"provider.require_parameters: {_lacking(e, parameters)}",
        )
    if prefs.max_price is not None:
        yield from _by_price(prefs.max_price, chat.prompt_tokens, 1 + markup)
    if chat.free_only:
        yield _Demand(":free", _is_free, lambda e: f":free: {_stated(e.price.rates)}")


def _by_name(prefs: Preferences) -> Iterator[_Demand]:
    if prefs.only:
        only = frozenset(map(str.lower, prefs.only))
        yield _Demand(
            "provider.only",
            lambda e: not only.isdisjoint(_names(e)),
            lambda e: f"provider.only: {e.provider.slug} is not {_listed(only)}",
        )
    if prefs.ignore:
        ignored = frozenset(map(str.lower, prefs.ignore))
        yield _Demand(
            "provider.ignore",
            lambda e: ignored.isdisjoint(_names(e)),
            lambda e: f"provider.ignore names {_listed(ignored.intersection(_names(e)))}",
        )
    if prefs.order and not prefs.allow_fallbacks:
        order = frozenset(map(str.lower, prefs.order))
        yield _Demand(
            "provider.allow_fallbacks",
            lambda e: not order.isdisjoint(_names(e)),
            lambda e: f"provider.allow_fallbacks is false and {e.provider.slug} is not in provider.order",
        )


def _by_policy(prefs: Preferences) -> Iterator[_Demand]:
    for field, asked in (("zdr", prefs.zdr), ("data_collection", prefs.no_collection)):
        if asked:
            fine = _POLICIES[field]
            yield _Demand(
                f"provider.{field}",
                lambda e, fine=fine: e.provider.data_policy in fine,  # type: ignore[misc]
                lambda e, field=field: (  # type: ignore[misc]
                    f"provider.{field}: the data policy of {e.provider.slug} is "
                    f"{e.provider.data_policy or 'not known'}"
                ),
            )


def _by_organization(policy: DataPolicy) -> Iterator[_Demand]:
    asked = (
        ("zero_retention", "zdr", policy.zero_retention),
        ("no_training", "data_collection", policy.no_training),
    )
    for field, name, wanted in asked:
        if wanted:
            yield _Demand(
                f"data_policy.{field}",
                lambda e, fine=_POLICIES[name]: e.provider.data_policy in fine,  # type: ignore[misc]
                lambda e, field=field: (  # type: ignore[misc]
                    f"organization's data policy ({field}): that of {e.provider.slug} is "
                    f"{e.provider.data_policy or 'not known'}"
                ),
            )
    only = policy.only
    if only is not None:
        yield _Demand(
            "data_policy.only",
            lambda e: e.provider.slug in only,
            lambda e: f"organization's data policy (only): {e.provider.slug} is not among its providers",
        )
    if policy.ignore:
        yield _Demand(
            "data_policy.ignore",
            lambda e: e.provider.slug not in policy.ignore,
            lambda e: f"organization's data policy (ignore): {e.provider.slug} is left out",
        )


def _by_price(most: MaxPrice, prompt_tokens: int, factor: Decimal) -> Iterator[_Demand]:
    """What the customer pays, in the tier that a prompt of this length is in."""

    def paid(endpoint: Endpoint) -> list[tuple[str, Decimal, Decimal | None, str]]:
        rates = endpoint.price.rates_for(prompt_tokens)
        return [
            ("prompt", rates.input * factor / 1000, most.prompt, "per million"),
            ("completion", rates.dearest_output * factor / 1000, most.completion, "per million"),
            ("request", rates.request * factor / 1_000_000_000, most.request, "per request"),
        ]

    def why(endpoint: Endpoint) -> str:
        kind, price, bound, unit = next(
            row for row in paid(endpoint) if row[2] is not None and row[1] > row[2]
        )
        return (
            f"provider.max_price: {kind} at ${_plain(price)} {unit} is above ${_plain(bound or Decimal(0))}"
        )

    yield _Demand(
        "provider.max_price",
        lambda e: all(bound is None or price <= bound for _, price, bound, _ in paid(e)),
        why,
    )


# ── What only orders ─────────────────────────────────────────────────────────────────────────────


def _soft(among: Pool, prefs: Preferences, parameters: frozenset[str], listing: Listing) -> Soft:
    places = {}
    order = [name.lower() for name in prefs.order]
    if order:
        for endpoint in among.endpoints:
            mine = _names(endpoint)
            place = next((at for at, name in enumerate(order) if name in mine), None)
            if place is not None:
                places[endpoint.slug] = place
    lacks = {} if prefs.require_parameters else _lacks(among, parameters)
    wishes = (prefs.min_throughput, prefs.max_latency)
    named = (*prefs.order, *sorted(prefs.only), *sorted(prefs.ignore))
    strange = tuple(name for name in named if name.lower() not in _everybody(listing))
    return Soft(places, lacks, wishes if any(wishes) else None, strange[:_MOST_NAMED])


def _lacks(among: Pool, parameters: frozenset[str]) -> dict[str, str]:
    """Endpoints that are known not to honour all, of models of which another endpoint does."""
    if not parameters:
        return {}
    able = {e.model.slug for e in among.endpoints if e.parameters is not None and parameters <= e.parameters}
    return {
        endpoint.slug: _lacking(endpoint, parameters)
        for endpoint in among.endpoints
        if endpoint.parameters is not None
        and endpoint.model.slug in able
        and not parameters <= endpoint.parameters
    }


def _known(among: Pool) -> _Known:
    name = ("parameters", among.name)
    found: _Known | None = among.narrowed.get(name)
    if found is None:
        said = [e.parameters for e in among.endpoints if e.parameters is not None]
        by_all = frozenset.intersection(*said) if said else frozenset()
        found = _Known(by_all, frozenset().union(*said))
        among.remember(name, found)
    return found


def _tiers(among: Pool) -> list[int]:
    name = ("tiers", among.name)
    found: list[int] | None = among.narrowed.get(name)
    if found is None:
        found = sorted({tier.above for at in among.tiered for tier in among.endpoints[at].price.tiers})
        among.remember(name, found)
    return found


# ── Words ────────────────────────────────────────────────────────────────────────────────────────


def _names(endpoint: Endpoint) -> tuple[str, str, str]:
    """By what a customer may call it: its provider's slug or name, or its own slug."""
    return endpoint.provider.slug.lower(), endpoint.provider.name.lower(), endpoint.slug.lower()


def _everybody(listing: Listing) -> frozenset[str]:
    found: frozenset[str] | None = listing.derived.get("names of providers")
    if found is None:
        every = (endpoint for few in listing.endpoints.values() for endpoint in few)
        found = listing.derived["names of providers"] = frozenset(n for e in every for n in _names(e))
    return found


def _is_free(endpoint: Endpoint) -> bool:
    price = endpoint.price
    every = (price.rates, *(tier.rates for tier in price.tiers))
    return not any(rates.dearest_input or rates.dearest_output or rates.request for rates in every)


def _stated(rates: Rates) -> str:
    per_million = f"${_plain(rates.input / 1000)} and ${_plain(rates.output / 1000)} per million"
    return f"it costs {per_million}" if rates.input or rates.output else "it is not free"


def _lacking(endpoint: Endpoint, parameters: frozenset[str]) -> str:
    if endpoint.parameters is None:
        return "it is not known which parameters it honours"
    return f"does not honour {_listed(parameters - endpoint.parameters)}"


def _listed(names: Collection[str]) -> str:
    """The first few, in order."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    shown = (name[:_LONGEST_NAMED] for name in sorted(names)[:_MOST_NAMED])
    return f"{', '.join(shown)}{more}"


def _plain(amount: Decimal) -> str:
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
