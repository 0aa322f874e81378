"""How long one choice takes over 1,000 endpoints: `python -m tests.bench.choose`."""

from __future__ import annotations

import random
import sys
import time
from decimal import Decimal

from billing.pricing import parse_price
from routing import route
from routing.chat import Chat
from routing.listing import Endpoint, Listing, Model, Provider
from routing.live import Live


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
        models[slug] = Model(slug, slug, 128_000, 16_000, kind, True, abilities, 1_700_000_000)
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
    input_price = Decimal(chance.randint(1, 500)) / 100
    return parse_price(1, {"input": str(input_price), "output": str(input_price * chance.randint(2, 6))})


def measure(listing: Listing, chat: Chat, *, rounds: int = 2000) -> float:
    """Microseconds of CPU for one choice, with every endpoint seen lately."""
    live = Live()
    for endpoint in (e for few in listing.endpoints.values() for e in few):
        live.observe(endpoint.slug, ttft_seconds=0.3, tokens=100, seconds=1.5, now=0.0)
    start = time.process_time()
    for turn in range(rounds):
        route.choose(chat, listing=listing, live=live, allowed_models=(), now=turn / 1000)
    return (time.process_time() - start) / rounds * 1e6


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    catalog = make_listing(count)
    for preference in ("cost", "speed", "balanced"):
        spent = measure(catalog, Chat("auto", False, 812, max_tokens=200, preference=preference))
        print(f"auto, {preference:>8}, {count} endpoints: {spent:6.1f} µs")
    spent = measure(catalog, Chat("author1/model-1", False, 812))
    print(f"named model, 4 of {count} endpoints: {spent:6.1f} µs")
