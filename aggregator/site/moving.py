"""What of other APIs becomes what here: the diffs and tables of the page about moving. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_SAME: Final = "The same."

MAPS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "openai": (
        ("`POST /chat/completions`, plain and streamed", _SAME),
        ("`GET /models`", "The same fields, and prices, endpoints and policies beside them."),
        (
            "model `gpt-…`",
            "`openai/gpt-…`; a bare name works while only one author has it.",
        ),
        ("`stream_options.include_usage`", "Not needed: the last chunk always carries the usage."),
        ("`tools`, `response_format`, `seed`, `logprobs` …", "Passed on; only endpoints that can are asked."),
        ("`service_tier`, `store`, audio output, web search", "Refused by name: no price list knows them."),
        ("errors", "The same SDK exceptions; `error.type` is from our own list."),
    ),
    "openrouter": (
        ("`author/slug`, `openrouter/auto`", "The same ids; `openrouter/auto` means `auto`."),
        ("`:nitro`, `:floor`, `:free`", "The same. Other suffixes are refused by name."),
        ("`models`, `provider.{…}`", "The same fields, but for `options` and `enforce_distillable_text`."),
        ("`plugins: auto-router`", "Its `allowed_models` count. Other plugins are refused by name."),
        (
            "`usage: {include: true}`, `transforms`, `preset`",
            "Accepted, without effect: usage always comes.",
        ),
        ("`usage.cost`, `cost_details`, `provider`", "The same, with `cost_nanos` beside it."),
        ("`HTTP-Referer`, `X-Title`", "Accepted, and without effect."),
        (
            "`GET /generation`, `/generation/content`, `/key`, `/credits`, `/keys`",
            "The same paths; the reference has their fields.",
        ),
        ("`GET /activity`", "The same; `GET /usage` sums by whatever you ask for."),
        (
            "`GET /models/{author}/{slug}/endpoints`",
            "The same, over five minutes: `…_last_5m`.",
        ),
        ("charged on a provider’s error in mid-stream", "Free here, within a bound a day."),
        (
            "one `402` for all",
            "`insufficient_credits`, `key_limit_exceeded` and `account_suspended` are apart.",
        ),
        ("`/responses`, `/messages`, `/embeddings`, OAuth, BYOK", "Not here."),
    ),
    "litellm": (
        ("`model_list` with keys of many providers", "One key; `GET /models` lists what it calls."),
        ("`fallbacks`", "`models` in the request, up to 16."),
        ("`routing_strategy`", "`route_preference` or `provider.sort`, request by request."),
        ("`num_retries`, `timeout`", "The same fields: at most two retries; a passed `timeout` is a `408`."),
        (
            "virtual keys with `max_budget`, `budget_duration`, `rpm_limit`, `models`",
            "Keys with `limit`, `limit_reset`, `requests_per_minute`, `allowed_models`.",
        ),
        ("the header `x-litellm-response-cost`", "`usage.cost` and `usage.cost_nanos`, in streams too."),
        (
            "`drop_params: true`",
            "Who honours a field goes first; `provider.require_parameters` demands it.",
        ),
        ("budgets checked after the call", "Reserved before it: a limit is a wall."),
    ),
}

_WAS: Final[Mapping[str, tuple[str, str]]] = {
    "openai": ("client = OpenAI()", 'client = OpenAI(base_url="{base}", api_key="fl_live_…")'),
    "openrouter": ('    base_url="https://openrouter.ai/api/v1",', '    base_url="{base}",'),
    "litellm": ('    base_url="http://0.0.0.0:4000",', '    base_url="{base}",'),
}


def diffs(api_base: str) -> dict[str, str]:
    """The line that changes, before and after."""
    return {name: f"- {was}\n+ {now.format(base=api_base)}" for name, (was, now) in _WAS.items()}
