"""What can be called, frozen: providers, models and endpoints as a gateway worker holds them in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from billing.core.pricing import Price

CLASSES = ("small", "standard", "frontier")
"""From least to most able; `auto` chooses among `standard` and better unless told otherwise."""
DATA_POLICIES = ("zero-retention", "no-training", "may-train")
"""What a provider does with what it is sent; unstated is the worst. The first satisfies `zdr`, the first two
`data_collection: deny`."""
QUANTIZATIONS = (
    *("int4", "int8", "fp4", "mxfp4", "nvfp4", "fp6", "fp8", "mxfp8", "fp16", "bf16", "fp32"),
    "unknown",
)
PARAMETERS = (
    *("temperature", "top_p", "top_k", "min_p", "top_a", "frequency_penalty", "presence_penalty"),
    *("repetition_penalty", "max_tokens", "max_completion_tokens", "logit_bias", "logprobs", "top_logprobs"),
    *("prediction", "seed", "response_format", "structured_outputs", "stop", "tools", "tool_choice"),
    *("parallel_tool_calls", "include_reasoning", "reasoning", "reasoning_effort", "web_search_options"),
    "verbosity",
)
"""Fields of a request that an endpoint may honour, by OpenRouter's names."""


@dataclass(frozen=True, slots=True)
class ManagedKey:
    """One of our keys at a provider, with the limits that it was given there."""

    name: str
    text: str = field(repr=False)
    requests_per_minute: int | None = None
    concurrent: int | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    slug: str
    name: str
    dialect: str
    base_url: str
    """Without a trailing slash; the dialect appends its path, such as `/chat/completions`."""
    api_key: str = field(repr=False)
    quirks: frozenset[str] = frozenset()
    data_policy: str = ""
    """`zero-retention`, `no-training`, `may-train`, or empty where it is not known."""
    region: str = ""
    keys: tuple[ManagedKey, ...] = ()
    """Several keys with limits of their own; empty where `api_key` stands alone."""
    own_network: bool = False
    """A server beside ours: an address that it fetches for a customer would be one that only we reach."""


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
    listed: bool = True
    """Whether the lists of models show it."""


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
    quantization: str = "unknown"
    """As the provider says it: `fp8`, `bf16` and so on."""
    parameters: frozenset[str] | None = None
    """The request's fields that this endpoint honours; None where the catalog does not say."""
    max_context: int | None = None
    """This provider's own bound, where it is below the model's."""

    @property
    def context_length(self) -> int:
        return self.model.context_length if self.max_context is None else self.max_context


@dataclass(frozen=True)
class Listing:
    """One consistent view of the catalog; replaced whole, never changed."""

    version: int
    models: Mapping[str, Model]
    endpoints: Mapping[str, tuple[Endpoint, ...]]
    """By model slug; a model without a callable endpoint is absent."""
    until: datetime | None = None
    """When a price of it changes by itself, a window beginning or ending, a dated row coming into force."""
    derived: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    """What the selector computed from this listing; it lives and dies with it."""

    def shown(self) -> list[str]:
        """Slugs of the models that lists show, in order."""
        return sorted(slug for slug in self.endpoints if self.models[slug].listed)

    def shown_endpoints(self) -> list[Endpoint]:
        """Those of the models that lists show."""
        return [endpoint for slug in self.shown() for endpoint in self.endpoints[slug]]

    def unshown_endpoint_slugs(self) -> frozenset[str]:
        return self.endpoint_slugs() - {endpoint.slug for endpoint in self.shown_endpoints()}

    def endpoint_slugs(self) -> frozenset[str]:
        return frozenset(endpoint.slug for few in self.endpoints.values() for endpoint in few)
