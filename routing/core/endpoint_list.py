"""The endpoints of a model as `GET /models/{author}/{slug}/endpoints` shows them: facts, price, live figures.

Names as OpenRouter has them: uptimes in percent, latency in milliseconds to the first token, throughput in
tokens per second; null where nobody has measured. Ours are over five minutes, and say so.
"""

from __future__ import annotations

from typing import Any

from routing.core import condition, shelf
from routing.core.listing import Endpoint, Listing
from routing.core.live import Live
from routing.core.vitals import Percentiles, Vitals

_NONE = Vitals()
_PERCENT = 100
_MILLISECONDS = 1000

STATUS = {condition.NORMAL: 0, condition.DEGRADED: -1, condition.FAILING: -2, condition.RESTING: -10}
"""What `status` says as a number, from best to worst; `state` is the word."""


def endpoints(listing: Listing, slug: str, *, live: Live, resting: frozenset[str]) -> dict[str, Any]:
    """`{"data": {id, name, …, "endpoints": [...]}}`. Raises Refusal 404 that names the nearest model."""
    model = shelf.model(listing, slug)["data"]
    shown = ("id", "name", "created", "description", "architecture")
    return {
        "data": {
            **{name: model[name] for name in shown},
            "endpoints": [
                _endpoint(each, live.vitals(each.slug) or _NONE, resting=each.slug in resting)
                for each in listing.endpoints[slug]
            ],
        }
    }


def _endpoint(endpoint: Endpoint, vitals: Vitals, *, resting: bool) -> dict[str, Any]:
    model, rates = endpoint.model, endpoint.price.rates
    state = condition.of(vitals, resting=resting).state
    return {
        **shelf.facts(endpoint),
        "name": f"{endpoint.provider.name}: {model.name}",
        "model_id": model.slug,
        "model_name": model.name,
        "max_prompt_tokens": endpoint.context_length,
        "supported_parameters": shelf.parameters(endpoint),
        "supports_implicit_caching": rates.cache_read < rates.input,
        "status": STATUS[state],
        "state": state,
        "attempts_last_5m": vitals.attempts,
        "uptime_last_5m": _percent(vitals.uptime_5m),
        "uptime_last_30m": _percent(vitals.uptime_30m),
        "uptime_last_1d": _percent(vitals.uptime_1d),
        "latency_last_5m": _percentiles(vitals.ttft_seconds, _MILLISECONDS),
        "throughput_last_5m": _percentiles(vitals.tokens_per_second, 1),
        "cache_hit_share_last_5m": vitals.cache_hit_share,
        "expected": {
            "latency": round(endpoint.ttft_seconds * _MILLISECONDS, 1),
            "throughput": endpoint.tokens_per_second,
        },
    }


def _percent(share: float | None) -> float | None:
    return None if share is None else round(share * _PERCENT, 2)


def _percentiles(found: Percentiles | None, scale: float) -> dict[str, float] | None:
    if found is None:
        return None
    return {name: round(getattr(found, name) * scale, 2) for name in found.__struct_fields__}
