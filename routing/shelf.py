"""The public list of models, as `GET /models` shows it: prices are decimal strings, USD per token."""

from __future__ import annotations

import difflib
from decimal import Decimal
from typing import Any

from aggregator.lib.errors import Refusal
from billing.pricing import Rates
from routing.listing import Endpoint, Listing, Model

_PARAMETERS = ["max_tokens", "temperature", "top_p", "stop", "seed", "n", "route_preference", "max_cost"]
_OURS = {"n", "route_preference", "max_cost"}
_FOR = {
    "tools": ["tools", "tool_choice"],
    "json_schema": ["response_format", "structured_outputs"],
    "reasoning": ["reasoning_effort"],
}
_SHELF = "shelf"
_NANOS = Decimal(1_000_000_000)


def models(listing: Listing) -> dict[str, Any]:
    """`{"data": [...]}`, by slug; only what can be called now. Computed once for a listing."""
    kept = listing.derived.get(_SHELF)
    if kept is None:
        kept = {"data": [_shown(listing, listing.models[slug]) for slug in sorted(listing.endpoints)]}
        listing.derived[_SHELF] = kept
    shown: dict[str, Any] = kept
    return shown


def model(listing: Listing, slug: str) -> dict[str, Any]:
    """One model, in OpenAI's few fields and whole in `data`. Raises Refusal 404 that names the nearest."""
    if slug in listing.endpoints:
        shown = _shown(listing, listing.models[slug])
        return {**{name: shown[name] for name in ("id", "object", "created", "owned_by")}, "data": shown}
    near = difflib.get_close_matches(slug, listing.endpoints, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise Refusal(
        "model_not_found",
        f"There is no model {slug[:100]}.{hint}",
        status=404,
        metadata={"nearest": near[0] if near else None},
    )


def _shown(listing: Listing, shown: Model) -> dict[str, Any]:
    endpoints = listing.endpoints[shown.slug]
    cheapest = min(endpoints, key=lambda each: (each.price.rates.output, each.price.rates.input))
    inputs = ["text", "image"] if "vision" in shown.capabilities else ["text"]
    return {
        "id": shown.slug,
        "object": "model",
        "owned_by": shown.slug.partition("/")[0],
        "canonical_slug": shown.slug,
        "name": shown.name,
        "created": shown.created,
        "description": shown.description,
        "context_length": shown.context_length,
        "class": shown.model_class,
        "auto": shown.auto,
        "architecture": {
            "modality": f"{'+'.join(inputs)}->text",
            "input_modalities": inputs,
            "output_modalities": ["text"],
        },
        "pricing": _pricing(cheapest.price.rates),
        "top_provider": {
            "context_length": cheapest.context_length,
            "max_completion_tokens": cheapest.max_output,
        },
        "supported_parameters": _supported(shown, endpoints),
        "endpoints": [_endpoint(each) for each in endpoints],
    }


def _supported(shown: Model, endpoints: tuple[Endpoint, ...]) -> list[str]:
    """What at least one endpoint honours: as it says itself, or as models of its capabilities commonly do."""
    common = _PARAMETERS + [
        name for capability, names in _FOR.items() if capability in shown.capabilities for name in names
    ]
    said = {name for each in endpoints for name in each.parameters or ()}
    if all(each.parameters is not None for each in endpoints):
        common = [name for name in common if name in said or name in _OURS]
    return common + sorted(said.difference(common))


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "tag": endpoint.provider.slug,
        "provider_name": endpoint.provider.name,
        "endpoint": endpoint.slug,
        "context_length": endpoint.context_length,
        "max_completion_tokens": endpoint.max_output,
        "quantization": endpoint.quantization,
        "data_policy": endpoint.provider.data_policy or None,
        "region": endpoint.provider.region or None,
        "pricing": _pricing(endpoint.price.rates),
    }


def _pricing(rates: Rates) -> dict[str, str]:
    """OpenRouter's names; before the plan's mark-up."""
    return {
        "prompt": _usd(rates.input),
        "completion": _usd(rates.output),
        "input_cache_read": _usd(rates.cache_read),
        "input_cache_write": _usd(rates.cache_write_5m),
        "internal_reasoning": _usd(rates.reasoning),
        "request": _usd(rates.request),
    }


def _usd(nanos: Decimal) -> str:
    text = format(nanos / _NANOS, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
