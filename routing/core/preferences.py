"""What a customer may demand or wish of providers: the request's `provider` object, read. Pure values.

Demands leave endpoints out; wishes put those that miss them last. Source of the names: OpenRouter's
`provider` object, so that its customers change one line.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

SORTS = ("price", "throughput", "latency")


class Wished(msgspec.Struct, frozen=True):
    """A bound on a percentile, in the unit of what it bounds; None where nothing is asked of it."""

    p50: float | None = None
    p75: float | None = None
    p90: float | None = None
    p99: float | None = None


class MaxPrice(msgspec.Struct, frozen=True):
    """USD per million tokens, `request` in USD each: what the customer pays, with the mark-up."""

    prompt: Decimal | None = None
    completion: Decimal | None = None
    request: Decimal | None = None


class Preferences(msgspec.Struct, frozen=True):
    order: tuple[str, ...] = ()
    """Provider slugs, or endpoint slugs, to be tried first and in this order."""
    only: frozenset[str] = frozenset()
    """Empty allows all."""
    ignore: frozenset[str] = frozenset()
    allow_fallbacks: bool = True
    require_parameters: bool = False
    no_collection: bool = False
    """`data_collection: deny`: only providers that are known not to train on what they are sent."""
    zdr: bool = False
    """Only providers that are known to keep nothing."""
    quantizations: frozenset[str] = frozenset()
    """Empty allows all."""
    sort: str | None = None
    """Of SORTS."""
    across_models: bool = False
    """`partition: none`: rank the endpoints of all `models` together, and not model after model."""
    max_price: MaxPrice | None = None
    min_throughput: Wished | None = None
    """A wish, in tokens per second."""
    max_latency: Wished | None = None
    """A wish, in seconds until the first token."""


ANY = Preferences()
