"""Listings, chats and snapshots for tests of the selector: everything that a provider may state, drawn."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal

from hypothesis import strategies as st

from accounts.core.principal import DataPolicy
from billing.core.pricing import parse_price
from routing.core import route
from routing.core.chat import Chat
from routing.core.conversations import Warm
from routing.core.listing import Endpoint, Listing, Model, Provider
from routing.core.live import Live
from routing.core.preferences import MaxPrice, Preferences
from routing.core.vitals import Recent, Snapshot, Vitals

AMOUNTS = st.sampled_from(["0", "0.01", "0.1", "0.5", "1", "2.5", "10"])
PARAMETERS = ("temperature", "seed", "logprobs")
QUANTIZATIONS = ("fp8", "bf16", "unknown")
PROVIDERS = ("p0", "p1", "p2", "p3")


def endpoint(
    provider: str = "p0",
    model: str = "a/m0",
    *,
    input: str = "1",
    output: str = "1",
    prices: Mapping[str, object] | None = None,
    policy: str = "",
    quantization: str = "unknown",
    parameters: frozenset[str] | None = None,
    max_output: int = 4000,
    context: int = 10_000,
    ttft: float = 0.3,
    pace: float = 100.0,
) -> Endpoint:
    return Endpoint(
        slug=f"{provider}:{model}",
        provider=Provider(
            provider, provider.upper(), "openai", "http://127.0.0.1:1", "simulated", data_policy=policy
        ),
        model=Model(model, model, context, 4000, "standard", True, frozenset({"tools"}), 0),
        upstream_name=model,
        max_output=max_output,
        price=parse_price(1, {"input": input, "output": output, **(prices or {})}),
        ttft_seconds=ttft,
        tokens_per_second=pace,
        quantization=quantization,
        parameters=parameters,
    )


def listing_of(*endpoints: Endpoint) -> Listing:
    listed: dict[str, tuple[Endpoint, ...]] = {}
    for each in endpoints:
        listed[each.model.slug] = (*listed.get(each.model.slug, ()), each)
    return Listing(1, {each.model.slug: each.model for each in endpoints}, listed)


THREE = listing_of(
    endpoint("p0", input="3", output="3"),
    endpoint("p1", input="1", output="1"),
    endpoint("p2", input="2", output="2"),
)


def wanting(**preferences: object) -> Chat:
    return Chat("a/m0", False, 100, max_tokens=100, providers=Preferences(**preferences))  # type: ignore[arg-type]


def choose(
    listing: Listing,
    chat: Chat,
    *,
    live: Live | None = None,
    resting: Collection[str] = (),
    watched: Collection[str] = (),
    draws: tuple[float, float] = (0.0, 1.0),
    warm: Warm | None = None,
    markup: Decimal = Decimal(0),
    policy: DataPolicy | None = None,
) -> route.Route:
    return route.choose(
        chat,
        listing=listing,
        live=live or Live(),
        allowed_models=(),
        now=0.0,
        markup=markup,
        resting=resting,
        watched=watched,
        draws=draws,
        warm=warm,
        policy=policy,
    )


def slugs(found: route.Route) -> list[str]:
    return [target.endpoint.slug for target in found.targets]


def providers(found: route.Route) -> list[str]:
    return [target.endpoint.provider.slug for target in found.targets]


def knowing(**seen: Vitals) -> Live:
    """A worker that has heard of these endpoints of `a/m0`, by provider."""
    live = Live()
    live.learn(Snapshot(1, 0.0, {f"{provider}:a/m0": vitals for provider, vitals in seen.items()}))
    return live


@st.composite
def listings(draw: st.DrawFn) -> Listing:
    """One to eight models at up to four providers."""
    made = []
    for number in range(draw(st.integers(1, 8))):
        for provider in draw(st.sets(st.sampled_from(PROVIDERS), min_size=1)):
            prices: dict[str, object] = {}
            if draw(st.integers(0, 4)) == 0:
                prices["cache_read"] = "0"
            if draw(st.integers(0, 8)) == 0:
                prices["tiers"] = [{"above": 1000, "input": draw(AMOUNTS), "output": draw(AMOUNTS)}]
            made.append(
                endpoint(
                    provider,
                    f"{'ab'[number % 2]}/m{number}",
                    input=draw(AMOUNTS),
                    output=draw(AMOUNTS),
                    prices=prices,
                    policy=draw(st.sampled_from(["", "zero-retention", "no-training", "may-train"])),
                    quantization=draw(st.sampled_from(QUANTIZATIONS)),
                    parameters=draw(st.none() | st.frozensets(st.sampled_from(PARAMETERS))),
                    max_output=draw(st.sampled_from([100, 4000])),
                    context=draw(st.sampled_from([2000, 10_000])) if provider == "p0" else 10_000,
                    ttft=draw(st.sampled_from([0.001, 0.05, 0.3, 2.0])),
                    pace=draw(st.sampled_from([10.0, 50.0, 200.0, 1000.0])),
                )
            )
    return listing_of(*made)


NAMES = st.sampled_from([*PROVIDERS, "P1", "p2:a/m0", "nobody"])
PREFERENCES = st.builds(
    Preferences,
    order=st.lists(NAMES, max_size=3).map(tuple),
    only=st.frozensets(NAMES, max_size=3),
    ignore=st.frozensets(NAMES, max_size=2),
    allow_fallbacks=st.booleans(),
    require_parameters=st.booleans(),
    no_collection=st.booleans(),
    zdr=st.booleans(),
    quantizations=st.frozensets(st.sampled_from(QUANTIZATIONS), max_size=2),
    sort=st.none() | st.sampled_from(["price", "throughput", "latency"]),
    max_price=st.none()
    | st.builds(
        MaxPrice,
        prompt=st.none() | AMOUNTS.map(Decimal),
        completion=st.none() | AMOUNTS.map(Decimal),
    ),
)


@st.composite
def chats(draw: st.DrawFn, providers: st.SearchStrategy[Preferences] = PREFERENCES) -> Chat:
    return Chat(
        draw(st.sampled_from(["auto", "a/m0"])),
        False,
        draw(st.sampled_from([10, 1500, 5000])),
        max_tokens=draw(st.none() | st.sampled_from([50, 2000])),
        choices=draw(st.integers(1, 2)),
        preference=draw(st.none() | st.sampled_from(["cost", "speed", "balanced"])),
        providers=draw(providers),
        parameters=draw(st.frozensets(st.sampled_from(PARAMETERS), max_size=2)),
        allowed_models=draw(st.sampled_from([(), (), ("a/*",), ("a/m0", "b/m1")])),
        free_only=draw(st.integers(0, 5)) == 0,
        max_cost_nanos=draw(st.none() | st.sampled_from([1000, 1_000_000, 100_000_000])),
        continued=draw(st.booleans()),
    )


VITALS = st.builds(
    Vitals,
    attempts=st.sampled_from([0, 3, 500]),
    cache_hit_share=st.none() | st.sampled_from([0.0, 0.5, 1.0]),
    healthy=st.sampled_from([None, None, True, False]),
    recent=st.sampled_from([Recent(), Recent(attempts=10, failures=9), Recent(attempts=3, failures=3)]),
)


@st.composite
def lives(draw: st.DrawFn, listing: Listing) -> Live:
    """A worker that has heard of some endpoints."""
    live = Live()
    every = endpoint_slugs(listing)
    live.learn(Snapshot(1, 0.0, draw(st.dictionaries(st.sampled_from(every), VITALS, max_size=8))))
    return live


def endpoint_slugs(listing: Listing) -> list[str]:
    return sorted(each.slug for few in listing.endpoints.values() for each in few)
