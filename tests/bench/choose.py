"""How long one choice takes over 1,000 endpoints: `python -m tests.bench.choose`."""

from __future__ import annotations

import random
import sys
import time
from decimal import Decimal
from typing import Any

import msgspec

from billing.core.pricing import parse_price
from routing.core import route
from routing.core.chat import Chat
from routing.core.conversations import Warm
from routing.core.listing import Endpoint, Listing, Model, Provider
from routing.core.live import Live
from routing.core.preferences import MaxPrice, Preferences, Wished
from routing.core.vitals import Percentiles, Recent, Snapshot, Vitals


def make_listing(endpoints: int, *, seed: int = 7) -> Listing:
    """A catalog of this many endpoints, four to a model, with prices and speeds spread over decades."""
    chance = random.Random(seed)
    providers = [
        Provider(f"p{n}", f"P{n}", "openai", "http://127.0.0.1:1/v1", "simulated") for n in range(40)
    ]
    models: dict[str, Model] = {}
    listed: dict[str, tuple[Endpoint, ...]] = {}
    for number in range(endpoints // 4):
        slug = f"author{number % 20}/model-{number}"
        kind = chance.choice(("standard", "frontier"))
        abilities = frozenset({"tools", "json_schema"})
        room = chance.choice((64_000, 128_000, 1_000_000))
        models[slug] = Model(slug, slug, room, 16_000, kind, True, abilities, 1_700_000_000)
        listed[slug] = tuple(
            Endpoint(
                slug=f"{provider.slug}:{slug}",
                provider=provider,
                model=models[slug],
                upstream_name=slug,
                max_output=16_000,
                price=_price(chance),
                ttft_seconds=chance.uniform(0.05, 2),
                tokens_per_second=chance.uniform(20, 600),
            )
            for provider in chance.sample(providers, 4)
        )
    return Listing(1, models, listed)


def _price(chance: random.Random):
    price = Decimal(chance.randint(1, 500)) / 100
    stated = {"input": str(price), "output": str(price * chance.randint(2, 6)), "cache_read": str(price / 10)}
    return parse_price(1, stated)


def measure(
    listing: Listing, chat: Chat, *, rounds: int = 2000, snapshot: Snapshot | None = None, **more: Any
) -> float:
    """Microseconds of CPU for one choice, with every endpoint seen lately. `more` is `route.choose`'s."""
    live = Live()
    if snapshot is not None:
        live.learn(snapshot)
    for endpoint in (e for few in listing.endpoints.values() for e in few):
        live.observe(endpoint.slug, ttft_seconds=0.3, tokens=100, seconds=1.5, now=0.0)
    start = time.process_time()
    for turn in range(rounds):
        route.choose(chat, listing=listing, live=live, allowed_models=(), now=turn / 1000, **more)
    return (time.process_time() - start) / rounds * 1e6


def make_snapshot(listing: Listing, *, seed: int = 7) -> Snapshot:
    """Figures of all; one endpoint of a hundred is in an outage, caches hold half of the prompts."""
    chance = random.Random(seed)
    every = [endpoint for few in listing.endpoints.values() for endpoint in few]
    return Snapshot(
        1,
        0.0,
        {
            endpoint.slug: Vitals(
                attempts=100,
                ttft_seconds=Percentiles(0.2, 0.3, chance.uniform(0.3, 2.0), 3.0),
                cache_hit_share=0.5,
                recent=Recent(attempts=10, failures=10 if chance.random() < 0.01 else 0),
            )
            for endpoint in every
        },
    )


def _show(what: str, count: int, chat: Chat, listing: Listing, **more: Any) -> None:
    print(f"{what:>28}, {count} endpoints: {measure(listing, chat, **more):6.1f} µs")


def main(count: int) -> None:
    listing = make_listing(count)
    snapshot = make_snapshot(listing)
    asked = Chat("auto", False, 812, max_tokens=200)
    named = Chat("author1/model-1", False, 812)
    like = msgspec.structs.replace
    for preference in ("cost", "speed", "balanced"):
        _show(f"auto, {preference}", count, like(asked, preference=preference), listing)
    _show("named", count, named, listing)
    _show("auto, live figures", count, asked, listing, snapshot=snapshot)
    _show("named, live figures", count, named, listing, snapshot=snapshot)
    some = Preferences(ignore=frozenset(("p1", "p2")), max_price=MaxPrice(completion=Decimal(15)))
    _show("auto, demands", count, like(asked, providers=some), listing, snapshot=snapshot)
    _show("named, demands", count, like(named, providers=some), listing, snapshot=snapshot)
    order = Preferences(order=("p3", "p4"))
    _show("auto, order", count, like(asked, providers=order), listing, snapshot=snapshot)
    wish = Preferences(max_latency=Wished(p90=1.0))
    _show("auto, a wish half meet", count, like(asked, providers=wish), listing, snapshot=snapshot)
    sort = Preferences(sort="throughput")
    _show("auto, throughput", count, like(asked, providers=sort), listing, snapshot=snapshot)
    _show("auto, max_cost", count, like(asked, max_cost_nanos=2_000_000), listing, snapshot=snapshot)
    _show("auto, a long prompt", count, like(asked, prompt_tokens=100_000), listing, snapshot=snapshot)
    going = like(named, continued=True, conversation=b"h1")
    warm = Warm(listing.endpoints[named.model][1].slug, 700, 1e9)
    _show("named, sticky", count, going, listing, snapshot=snapshot, warm=warm)
    going = like(asked, continued=True, conversation=b"h1")
    _show("auto, sticky", count, going, listing, snapshot=snapshot, warm=warm)
    resting = frozenset(few[0].slug for few in list(listing.endpoints.values())[:20])
    _show("auto, twenty rest", count, asked, listing, snapshot=snapshot, resting=resting)
    broken = {
        slug: msgspec.structs.replace(vitals, healthy=vitals.recent.failures == 0 and hash(slug) % 2 == 0)
        for slug, vitals in snapshot.endpoints.items()
    }
    _show("auto, half are down", count, asked, listing, snapshot=Snapshot(2, 0.0, broken))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
