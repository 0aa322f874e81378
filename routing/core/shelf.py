"""The public list of models, as `GET /models` shows it: prices are decimal strings, USD per token."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from aggregator.lib.errors import Refusal
from billing.core.pricing import Price, Rates, Tier
from billing.core.windows import DAYS
from routing.core.listing import PARAMETERS, Endpoint, Listing, Model

_USUAL = ("max_tokens", "temperature", "top_p", "stop", "seed")
"""What is taken for supported where a catalog does not say."""
_OURS = ["route_preference", "max_cost", "models", "provider"]
_FOR = {
    "tools": ["tools", "tool_choice"],
    "json_schema": ["response_format", "structured_outputs"],
    "reasoning": ["reasoning_effort"],
}
_NANOS = Decimal(1_000_000_000)


def models(listing: Listing) -> dict[str, Any]:
    """`{"data": [...]}`, by slug; what can be called now and is listed. Computed once for a listing."""
    kept: dict[str, Any] | None = listing.derived.get("shelf")
    if kept is None:
        shown = [_shown(listing, listing.models[slug]) for slug in listing.shown()]
        kept = listing.derived["shelf"] = {"data": shown}
    return kept


def model(listing: Listing, slug: str) -> dict[str, Any]:
    """One model, in OpenAI's few fields and whole in `data`. Raises Refusal 404 that names the nearest."""
    if slug in listing.endpoints:
        shown = _shown(listing, listing.models[slug])
        return {**{name: shown[name] for name in ("id", "object", "created", "owned_by")}, "data": shown}
    near = difflib.get_close_matches(slug, listing.shown(), n=1)
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
    supported = [name for name in PARAMETERS if any(name in parameters(each) for each in endpoints)]
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
        "pricing": pricing(cheapest.price),
        "top_provider": {
            "context_length": cheapest.context_length,
            "max_completion_tokens": cheapest.max_output,
        },
        "supported_parameters": supported + _OURS,
        "endpoints": [facts(each) for each in endpoints],
    }


def facts(endpoint: Endpoint) -> dict[str, Any]:
    """What the catalog says of an endpoint, and its price."""
    return {
        "tag": endpoint.provider.slug,
        "provider_name": endpoint.provider.name,
        "endpoint": endpoint.slug,
        "context_length": endpoint.context_length,
        "max_completion_tokens": endpoint.max_output,
        "quantization": endpoint.quantization,
        "data_policy": endpoint.provider.data_policy or None,
        "region": endpoint.provider.region or None,
        "pricing": pricing(endpoint.price),
    }


def parameters(endpoint: Endpoint) -> list[str]:
    """The request's fields that an endpoint honours; where the catalog is silent, what its model suggests."""
    if endpoint.parameters is not None:
        return [name for name in PARAMETERS if name in endpoint.parameters]
    able = {
        *_USUAL,
        *(name for can, names in _FOR.items() if can in endpoint.model.capabilities for name in names),
    }
    return [name for name in PARAMETERS if name in able]


def pricing(price: Price) -> dict[str, Any]:
    """OpenRouter's names, USD per token as text; before the plan's mark-up.

    `overrides` say when another price holds: for longer prompts, and from `utc_start` to before `utc_end`, in
    hours after midnight.
    """
    whole = price.within(0)
    overrides = _longer(whole.tiers)
    for window in whole.windows:
        hours = window.hours
        when: dict[str, Any] = {"utc_start": hours.begins / 60, "utc_end": hours.ends / 60}
        if len(hours.days) < len(DAYS):
            when["utc_days"] = [DAYS[day] for day in hours.days]
        overrides += [{**when, **each} for each in (_rates(window.rates), *_longer(window.tiers))]
    return {**_rates(whole.rates), **({"overrides": overrides} if overrides else {})}


def _longer(tiers: Iterable[Tier]) -> list[dict[str, Any]]:
    return [{"min_prompt_tokens": tier.above + 1, **_rates(tier.rates)} for tier in tiers]


def _rates(rates: Rates) -> dict[str, str]:
    return {
        "prompt": _usd(rates.input),
        "completion": _usd(rates.output),
        "input_cache_read": _usd(rates.cache_read),
        "input_cache_write": _usd(rates.cache_write_5m),
        "input_cache_write_1h": _usd(rates.cache_write_1h),
        "internal_reasoning": _usd(rates.reasoning),
        "image_token": _usd(rates.image),
        "audio": _usd(rates.audio),
        "audio_output": _usd(rates.audio_output),
        "request": _usd(rates.request),
    }


def _usd(nanos: Decimal) -> str:
    text = format(nanos / _NANOS, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
