"""What can be called, frozen: providers, models and endpoints as a gateway worker holds them in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from billing.pricing import Price

CLASSES = ("small", "standard", "frontier")
"""From least to most able; `auto` chooses among `standard` and better unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Provider:
    slug: str
    name: str
    dialect: str
    base_url: str
    """Without a trailing slash; the dialect appends its path, such as `/chat/completions`."""
    api_key: str = field(repr=False)
    quirks: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Model:
    slug: str
    """`author/slug`."""
    name: str
    context_length: int
    max_output: int
    model_class: str
    auto: bool
    """Member of the pool that `model: "auto"` chooses from."""
    capabilities: frozenset[str]
    """Of `tools`, `vision`, `json_schema`, `reasoning`."""
    created: int
    """Unix seconds, as `GET /models` shows it."""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """This model at this provider: what is called, priced and measured."""

    slug: str
    """`provider:author/slug`, unique."""
    provider: Provider
    model: Model
    upstream_name: str
    """What the provider calls the model."""
    max_output: int
    price: Price
    ttft_seconds: float
    """Time to first token as the catalog states it: the prediction until traffic has been seen."""
    tokens_per_second: float


@dataclass(frozen=True)
class Listing:
    """One consistent view of the catalog; replaced whole, never changed."""

    version: int
    models: Mapping[str, Model]
    endpoints: Mapping[str, tuple[Endpoint, ...]]
    """By model slug; a model without a callable endpoint is absent."""
    derived: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    """What the selector computed from this listing; it lives and dies with it."""
