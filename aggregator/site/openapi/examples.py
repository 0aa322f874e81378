"""What the description shows as examples; tests hold each against its schema."""

from __future__ import annotations

from typing import Any, Final

GENERATION_ID: Final = "gen-01a207da75e47376a86afb4ba18a7309"
_REASON: Final = "cheapest of 2: $0.0000135 predicted"
_ENDPOINT: Final = "sandbox-steady:sandbox/meridian"

CHAT_REQUEST: Final[dict[str, Any]] = {
    "model": "auto",
    "route_preference": "cost",
    "max_tokens": 12,
    "messages": [{"role": "user", "content": "Say hello."}],
}

_USAGE: Final[dict[str, Any]] = {
    "prompt_tokens": 5,
    "completion_tokens": 12,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
    "cost": 0.000018975,
    "cost_nanos": 18975,
    "cost_details": {"upstream_inference_cost": 0.00001725},
    "is_byok": False,
}

COMPLETION: Final[dict[str, Any]] = {
    "id": GENERATION_ID,
    "object": "chat.completion",
    "created": 1795428087,
    "model": "sandbox/meridian",
    "provider": "Steady (simulated)",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello! It is good to hear from you."},
            "finish_reason": "stop",
        }
    ],
    "usage": _USAGE,
}

_HEAD: Final = f'data: {{"id":"{GENERATION_ID}","object":"chat.completion.chunk","created":1795428087,'
_FROM: Final = '"model":"sandbox/meridian","provider":"Steady (simulated)",'
STREAM: Final = "\n\n".join(
    (
        f'{_HEAD}{_FROM}"choices":[{{"index":0,"delta":{{"content":"Hello!"}},"finish_reason":null}}]}}',
        f'{_HEAD}{_FROM}"choices":[{{"index":0,"delta":{{}},"finish_reason":"stop"}}]}}',
        f'{_HEAD}{_FROM}"choices":[],"usage":{{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,'
        '"prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},'
        '"completion_tokens_details":{"reasoning_tokens":0},"cost":0.000005225,"cost_nanos":5225,'
        '"cost_details":{"upstream_inference_cost":0.00000475},"is_byok":false}}',
        "data: [DONE]",
        "",
    )
)

DECISION: Final[dict[str, Any]] = {
    "asked": "auto",
    "preference": "cost",
    "chosen": _ENDPOINT,
    "reason": _REASON,
    "strategy": "preference",
    "considered": 2,
    "candidates": [
        {
            "endpoint": _ENDPOINT,
            "rank": 1,
            "cost_usd": "0.0000135",
            "cost_nanos": 13500,
            "seconds": 0.2683,
            "score": 13500.0,
        },
        {
            "endpoint": "sandbox-deep:sandbox/meridian",
            "rank": 2,
            "cost_usd": "0.0000342",
            "cost_nanos": 34200,
            "seconds": 0.4508,
            "score": 34200.0,
        },
    ],
    "excluded": [
        {"endpoint": "sandbox-swift:sandbox/swallow", "reason": "provider.ignore names sandbox-swift"}
    ],
    "excluded_count": 1,
}

PREVIEW: Final[dict[str, Any]] = {
    "object": "route",
    "model": "sandbox/meridian",
    "provider": "Steady (simulated)",
    "endpoint": _ENDPOINT,
    "reason": _REASON,
    "prompt_tokens": 21,
    "max_tokens": 12,
    "cost": "0.00001485",
    "cost_most": "0.000026895",
    "seconds": 0.2683,
    "markup": "0.10",
    "route": DECISION,
}

COST_REQUEST: Final[dict[str, Any]] = {
    "model": "sandbox/meridian",
    "usage": {
        "prompt_tokens": 1200,
        "completion_tokens": 350,
        "prompt_tokens_details": {"cached_tokens": 1000},
    },
}

COST: Final[dict[str, Any]] = {
    "object": "cost",
    "model": "sandbox/meridian",
    "estimated": False,
    "prompt_tokens": 1200,
    "markup": "0.10",
    "endpoints": [
        {
            "endpoint": _ENDPOINT,
            "provider": "Steady (simulated)",
            "completion_tokens": 350,
            "price_id": 41,
            "tier": 0,
            "tier_above": None,
            "window": 0,
            "until": None,
            "items": [
                {"kind": "input", "units": 200, "unit_price": "0.45", "base": "0.00009"},
                {"kind": "cache_read", "units": 1000, "unit_price": "0.045", "base": "0.000045"},
                {"kind": "output", "units": 350, "unit_price": "1.25", "base": "0.0004375"},
            ],
            "base": "0.0005725",
            "base_nanos": 572500,
            "markup_amount": "0.00005725",
            "markup_nanos": 57250,
            "total": "0.00062975",
            "total_nanos": 629750,
        }
    ],
}

_PRICING: Final = {
    "prompt": "0.00000045",
    "completion": "0.00000125",
    "input_cache_read": "0.000000045",
    "input_cache_write": "0.00000045",
    "input_cache_write_1h": "0.00000045",
    "internal_reasoning": "0.00000125",
    "image_token": "0.00000045",
    "audio": "0.00000045",
    "audio_output": "0.00000125",
    "request": "0",
}
_ARCHITECTURE: Final = {
    "modality": "text->text",
    "input_modalities": ["text"],
    "output_modalities": ["text"],
}
_FACTS: Final[dict[str, Any]] = {
    "tag": "sandbox-steady",
    "provider_name": "Steady (simulated)",
    "endpoint": _ENDPOINT,
    "context_length": 128_000,
    "max_completion_tokens": 16_384,
    "quantization": "unknown",
    "data_policy": "zero-retention",
    "region": "local",
    "pricing": _PRICING,
}
_PARAMETERS: Final = ["temperature", "top_p", "max_tokens", "seed", "stop", "tools", "tool_choice"]

MODEL: Final[dict[str, Any]] = {
    "id": "sandbox/meridian",
    "object": "model",
    "owned_by": "sandbox",
    "canonical_slug": "sandbox/meridian",
    "name": "Meridian (simulated)",
    "created": 1767225600,
    "description": "A standard model.",
    "context_length": 128_000,
    "class": "standard",
    "auto": True,
    "architecture": _ARCHITECTURE,
    "pricing": _PRICING,
    "top_provider": {"context_length": 128_000, "max_completion_tokens": 16_384},
    "supported_parameters": [*_PARAMETERS, "route_preference", "max_cost", "models", "provider"],
    "endpoints": [_FACTS],
}
ONE_MODEL: Final[dict[str, Any]] = {
    "id": "sandbox/meridian",
    "object": "model",
    "created": 1767225600,
    "owned_by": "sandbox",
    "data": MODEL,
}
_LATENCY: Final = {"p50": 180.2, "p75": 204.9, "p90": 260.1, "p99": 395.0}
_THROUGHPUT: Final = {"p50": 139.8, "p75": 131.0, "p90": 118.4, "p99": 96.2}
ENDPOINTS: Final[dict[str, Any]] = {
    "data": {
        **{name: MODEL[name] for name in ("id", "name", "created", "description", "architecture")},
        "endpoints": [
            {
                **_FACTS,
                "name": "Steady (simulated): Meridian (simulated)",
                "model_id": "sandbox/meridian",
                "model_name": "Meridian (simulated)",
                "max_prompt_tokens": 128_000,
                "supported_parameters": _PARAMETERS,
                "supports_implicit_caching": True,
                "status": 0,
                "state": "normal",
                "attempts_last_5m": 412,
                "uptime_last_5m": 100.0,
                "uptime_last_30m": 99.92,
                "uptime_last_1d": 99.97,
                "latency_last_5m": _LATENCY,
                "throughput_last_5m": _THROUGHPUT,
                "cache_hit_share_last_5m": 0.31,
                "expected": {"latency": 180.0, "throughput": 140.0},
            }
        ],
    }
}

_SENT: Final = [{"role": "user", "content": "Say hello."}]
CONTENT: Final[dict[str, Any]] = {
    "id": GENERATION_ID,
    "input": {"messages": _SENT},
    "output": {"completion": "Hello from the harbour.", "reasoning": None},
    "request": {
        "text": '{"model":"auto","messages":[{"role":"user","content":"Say hello."}]}',
        "bytes": 68,
        "cut": False,
    },
    "reply": {"text": '{"id":"gen-…","choices":[…]}', "bytes": 812, "cut": True},
}

GENERATION: Final[dict[str, Any]] = {
    "id": GENERATION_ID,
    "status": "completed",
    "model_asked": "auto",
    "model": "sandbox/meridian",
    "endpoint": _ENDPOINT,
    "provider_name": "sandbox-steady",
    "created_at": "2026-11-23T10:01:27.268000+00:00",
    "streamed": False,
    "cancelled": False,
    "finish_reason": "stop",
    "native_finish_reason": "stop",
    "error_type": "",
    "tokens_prompt": 5,
    "tokens_completion": 12,
    "native_tokens_prompt": 5,
    "native_tokens_completion": 12,
    "native_tokens_cached": 0,
    "native_tokens_reasoning": 0,
    "estimated": False,
    "total_cost": 0.000018975,
    "usage": 0.000018975,
    "cost_nanos": 18975,
    "base_nanos": 17250,
    "markup_nanos": 1725,
    "markup": "0.1",
    "price_id": 413,
    "price_window": 0,
    "price_tier": 0,
    "parts": [["input", 5, "2250.00"], ["output", 12, "15000.00"]],
    "is_byok": False,
    "latency": None,
    "generation_time": 273,
    "upstream_id": "chatcmpl-sandbox-00000011",
    "route": DECISION,
}

KEY_STATE: Final[dict[str, Any]] = {
    "id": "key_PvwCNuo0YbhlA0QD",
    "name": "Production",
    "label": "Production",
    "scope": "inference",
    "is_management_key": False,
    "usage": 3.250021175,
    "limit": 50,
    "limit_remaining": 46.749978825,
    "limit_reset": "monthly",
    "rate_limit": {"requests": 600, "interval": "1m"},
    "allowed_models": ["sandbox/*"],
    "expires_at": None,
    "plan": "pro",
}
CREDITS: Final[dict[str, Any]] = {
    "total_credits": 25,
    "total_usage": 3.250021175,
    "remaining": 21.749978825,
    "total_credits_nanos": 25_000_000_000,
    "total_usage_nanos": 3_250_021_175,
}
NEW_KEY: Final[dict[str, Any]] = {
    "name": "Production",
    "limit": 50,
    "limit_reset": "monthly",
    "requests_per_minute": 600,
    "allowed_models": ["sandbox/*"],
}
API_KEY: Final[dict[str, Any]] = {
    "id": "key_PvwCNuo0YbhlA0QD",
    "hash": "key_PvwCNuo0YbhlA0QD",
    "name": "Production",
    "label": "fl_live_Svy8…8kS7",
    "scope": "inference",
    "disabled": False,
    "limit": 50,
    "limit_nanos": 50_000_000_000,
    "limit_reset": "monthly",
    "requests_per_minute": 600,
    "allowed_models": ["sandbox/*"],
    "created_at": "2026-11-23T10:01:11.829088Z",
    "expires_at": None,
    "last_used_at": None,
    "exposed_at": None,
}

ERROR: Final[dict[str, Any]] = {
    "error": {
        "code": 404,
        "message": "There is no model 'sandbox/meridan'. The nearest is sandbox/meridian.",
        "type": "model_not_found",
        "param": "model",
        "metadata": {
            "error_type": "model_not_found",
            "model": "sandbox/meridan",
            "nearest": "sandbox/meridian",
        },
    }
}
