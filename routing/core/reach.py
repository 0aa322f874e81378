"""What of the catalog a data policy leaves, for the page that sets it. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from accounts.core.principal import DataPolicy
from routing.core import demands
from routing.core.listing import Listing

MOST_NAMED = 60
WORDS = {
    "zero-retention": "keeps nothing",
    "no-training": "no training on it",
    "may-train": "may train on it",
    "": "not stated",
}
"""What a provider does with what it is sent."""


@dataclass(frozen=True, slots=True)
class Host:
    """A provider as the policy may name it."""

    slug: str
    name: str
    data_policy: str
    region: str
    models: int


@dataclass(frozen=True, slots=True)
class Reach:
    models: int
    all_models: int
    endpoints: int
    all_endpoints: int
    providers: int
    all_providers: int
    lost: tuple[str, ...]
    """Models that could be called under the policy before and not under this one; the first few."""
    lost_count: int
    gained: tuple[str, ...]
    gained_count: int

    @property
    def percent(self) -> int:
        """Never 0 while something is left, never 100 while something is not."""
        if self.endpoints in (0, self.all_endpoints):
            return 100 if self.endpoints else 0
        return min(99, max(1, 100 * self.endpoints // self.all_endpoints))


def hosts(listing: Listing) -> list[Host]:
    """Every provider of a model that lists show, by name."""
    shown = listing.shown_endpoints()
    by_slug = {endpoint.provider.slug: endpoint.provider for endpoint in shown}
    counts = Counter(provider for provider, _ in {(each.provider.slug, each.model.slug) for each in shown})
    found = [
        Host(slug, provider.name, provider.data_policy, provider.region, counts[slug])
        for slug, provider in by_slug.items()
    ]
    return sorted(found, key=lambda host: (host.name.lower(), host.slug))


def of(listing: Listing, policy: DataPolicy, *, before: DataPolicy) -> Reach:
    """What `policy` leaves, and what it changes compared with the one before it."""
    every = listing.shown_endpoints()
    left = demands.left_by(policy, every)
    models = {endpoint.model.slug for endpoint in left}
    were = {endpoint.model.slug for endpoint in demands.left_by(before, every)}
    lost, gained = sorted(were - models), sorted(models - were)
    return Reach(
        models=len(models),
        all_models=len({endpoint.model.slug for endpoint in every}),
        endpoints=len(left),
        all_endpoints=len(every),
        providers=len({endpoint.provider.slug for endpoint in left}),
        all_providers=len({endpoint.provider.slug for endpoint in every}),
        lost=tuple(lost[:MOST_NAMED]),
        lost_count=len(lost),
        gained=tuple(gained[:MOST_NAMED]),
        gained_count=len(gained),
    )
