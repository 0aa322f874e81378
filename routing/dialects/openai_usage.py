"""The `usage` object of the `openai` dialect, as each provider means it. Sans-I/O.

Read generously: most names have one meaning wherever they occur, so whoever states one is believed. Where the
same name means two things, a provider's quirk says which.
`tests/routing/dialects/test_usage_of_providers.py` has the table, with the sources.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Raw

from billing.core.usage import Usage

REASONS_BESIDE = "reasoning_beside"
"""The quirk of a provider whose `completion_tokens` leave out what it reasoned; `total_tokens` has it."""

_usage = msgspec.json.Decoder(dict[str, Any]).decode


def read_usage(raw: Raw | bytes | None, quirks: Collection[str] = ()) -> Usage | None:
    """Cached tokens, and those of images and audio, lie inside the prompt; reasoning inside the completion.

    Caches are taken to hold text before anything else. None when the provider stated no usage, or nothing
    that can be true: the gateway then counts for itself.
    """
    if raw is None or bytes(raw) == b"null":
        return None
    try:
        stated = _usage(raw)
    except msgspec.MsgspecError:
        return None
    prompt, completion = stated.get("prompt_tokens"), stated.get("completion_tokens")
    if type(prompt) is not int or type(completion) is not int:  # True is an int to Python
        return None
    inside = _details(stated, "prompt_tokens_details")
    outside = _details(stated, "completion_tokens_details")
    cached = _within(_cached(inside, stated), prompt)
    left = prompt - cached
    for_an_hour = _within(_details(inside, "cache_creation").get("ephemeral_1h_input_tokens"), left)
    written = _within(_either(inside, "cache_write_tokens", "cache_creation_input_tokens"), left)
    left -= max(written, for_an_hour)
    audio = _within(inside.get("audio_tokens"), left)
    image = _within(inside.get("image_tokens"), left - audio)
    reasoned = _either(outside, "reasoning_tokens") or stated.get("reasoning_tokens")
    if REASONS_BESIDE in quirks:
        beside = _beside(stated, prompt + completion, reasoned)
        completion += beside
        reasoned = reasoned or beside
    reasoning = _within(reasoned, completion)
    spoken = _within(outside.get("audio_tokens"), completion - reasoning)
    drawn = _within(outside.get("image_tokens"), completion - reasoning - spoken)
    try:
        return Usage(
            input=left - audio - image,
            cache_read=cached,
            cache_write_5m=max(written - for_an_hour, 0),
            cache_write_1h=for_an_hour,
            output=completion - reasoning - spoken - drawn,
            reasoning=reasoning,
            image=image,
            audio=audio,
            image_output=drawn,
            audio_output=spoken,
        )
    except ValueError:
        return None


def write_usage(usage: Usage, *, cost: str, cost_nanos: int, base: str) -> dict[str, Any]:
    """`cost` is a plain decimal literal in USD, never an exponent, with whole nanos beside it."""
    inside = {
        "cached_tokens": usage.cache_read,
        "cache_write_tokens": usage.cache_write_5m + usage.cache_write_1h,
    }
    outside = {"reasoning_tokens": usage.reasoning}
    for details, image, audio in (
        (inside, usage.image, usage.audio),
        (outside, usage.image_output, usage.audio_output),
    ):
        if image:
            details["image_tokens"] = image
        if audio:
            details["audio_tokens"] = audio
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": inside,
        "completion_tokens_details": outside,
        "cost": Raw(cost.encode()),
        "cost_nanos": cost_nanos,
        "cost_details": {"upstream_inference_cost": Raw(base.encode())},
        "is_byok": False,
    }


def _cached(inside: dict[str, Any], stated: dict[str, Any]) -> Any:
    """OpenAI's name for what came from a cache, or else DeepSeek's, Moonshot's, or Mistral's other one."""
    return _either(inside, "cached_tokens") or _either(
        stated, "prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens"
    )


def _beside(stated: dict[str, Any], both: int, reasoned: Any) -> int:
    """What a total has beyond prompt and completion; a total of just these two says that all is in them."""
    total = stated.get("total_tokens")
    if type(total) is int:
        return max(total - both, 0)
    return reasoned if type(reasoned) is int and reasoned > 0 else 0


def _either(found: dict[str, Any], *names: str) -> Any:
    """The first of several names that says more than nothing."""
    return next((value for name in names if (value := found.get(name))), None)


def _details(stated: dict[str, Any], name: str) -> dict[str, Any]:
    found = stated.get(name)
    return found if isinstance(found, dict) else {}


def _within(value: Any, most: int) -> int:
    return min(value, most) if type(value) is int and value > 0 else 0
