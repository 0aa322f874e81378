"""What each provider of the catalog means by the tokens that it states, and so what is charged of them.

A row is an answer's `usage` as the provider's own documentation, or somebody who measured it, has it. A row
that nobody could confirm says so: it is read as OpenAI's is. What is not stated apart then costs the plain
price of the prompt or of the answer, and nothing is counted twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.core.usage import Usage
from routing import catalog
from routing.dialects import openai
from routing.dialects.openai_stream import Reader
from routing.dialects.openai_usage import REASONS_BESIDE, read_usage, write_usage

LISTED = catalog.load(catalog.FOLDER).providers


@dataclass(frozen=True)
class Means:
    provider: str
    source: str
    stated: dict[str, Any]
    read: Usage
    confirmed: bool = True


def of(prompt: int, completion: int, total: int | None = None, **more: Any) -> dict[str, Any]:
    """A usage object; `inside` and `outside` are the details of prompt and completion."""
    details = {
        name: more.pop(ours)
        for ours, name in (("inside", "prompt_tokens_details"), ("outside", "completion_tokens_details"))
        if ours in more
    }
    total = prompt + completion if total is None else total
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total,
        **details,
        **more,
    }


TABLE = [
    Means(
        "openai",
        "platform.openai.com/docs/api-reference/chat: all details lie inside, rejected predictions too",
        of(
            2006,
            300,
            inside={"cached_tokens": 1920, "audio_tokens": 0},
            outside={"reasoning_tokens": 128, "audio_tokens": 0, "rejected_prediction_tokens": 9},
        ),
        Usage(input=86, cache_read=1920, output=172, reasoning=128),
    ),
    Means(
        "openai",
        "developers.openai.com/api/docs/guides/prompt-caching: writes from GPT-5.6 on, at 1.25 of input",
        of(3000, 10, inside={"cached_tokens": 1024, "cache_write_tokens": 1500}),
        Usage(input=476, cache_read=1024, cache_write_5m=1500, output=10),
    ),
    Means(
        "openai",
        "platform.openai.com/docs/guides/audio: tokens of audio lie inside both, and are dearer",
        of(110, 60, inside={"cached_tokens": 0, "audio_tokens": 90}, outside={"audio_tokens": 48}),
        Usage(input=20, audio=90, output=12, audio_output=48),
    ),
    Means(
        "anthropic",
        "docs.claude.com/en/api/openai-sdk: no caching there, and the details are always empty",
        of(1200, 340, prompt_tokens_details=None, completion_tokens_details=None),
        Usage(input=1200, output=340),
    ),
    Means(
        "google",
        "github.com/openai/openai-python/issues/2544: thoughts are in the total alone, caches inside",
        of(1469, 744, 2496, inside={"cached_tokens": 1024}),
        Usage(input=445, cache_read=1024, output=744, reasoning=283),
    ),
    Means(
        "google",
        "the same thread: some models state the thoughts by name beside the details",
        of(2181, 57, 2518, reasoning_tokens=280, prompt_tokens_details=None),
        Usage(input=2181, output=57, reasoning=280),
    ),
    Means(
        "deepseek",
        "api-docs.deepseek.com/guides/kv_cache: prompt = hit + miss; reasoning lies inside the completion",
        of(
            1000,
            200,
            prompt_cache_hit_tokens=896,
            prompt_cache_miss_tokens=104,
            outside={"reasoning_tokens": 150},
        ),
        Usage(input=104, cache_read=896, output=50, reasoning=150),
    ),
    Means(
        "groq",
        "console.groq.com/docs/prompt-caching: cached inside, no fee for writing; reasoning inside",
        of(4641, 1817, inside={"cached_tokens": 4608}, outside={"reasoning_tokens": 1200}),
        Usage(input=33, cache_read=4608, output=617, reasoning=1200),
    ),
    Means(
        "x-ai",
        "docs.x.ai/docs/key-information/consumption-and-rate-limits: reasoning beside, in the total",
        of(
            10120,
            1499,
            14428,
            inside={"text_tokens": 10120, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 128},
            outside={"reasoning_tokens": 2809, "audio_tokens": 0},
        ),
        Usage(input=9992, cache_read=128, output=1499, reasoning=2809),
    ),
    Means(
        "x-ai",
        "docs.x.ai/developers/rate-limits: images are prompt tokens, stated apart, at the price of text",
        of(700, 9, inside={"text_tokens": 188, "image_tokens": 512, "cached_tokens": 0}),
        Usage(input=188, image=512, output=9),
    ),
    Means(
        "mistral",
        "docs.mistral.ai/studio-api/conversations/advanced/prompt-caching: cached inside, at a tenth",
        of(1013, 30, inside={"cached_tokens": 1008}),
        Usage(input=5, cache_read=1008, output=30),
    ),
    Means(
        "mistral",
        "docs.mistral.ai/api: `num_cached_tokens` says the same beside the details",
        of(801, 2, num_cached_tokens=768, prompt_audio_seconds=None),
        Usage(input=33, cache_read=768, output=2),
    ),
    Means(
        "moonshotai",
        "platform.kimi.ai/docs/api/chat: cached at the top, inside the prompt",
        of(19, 21, cached_tokens=10),
        Usage(input=9, cache_read=10, output=21),
    ),
    Means(
        "together",
        "docs.together.ai: where its cached tokens stand is not said; both places are read",
        of(500, 20, cached_tokens=256),
        Usage(input=244, cache_read=256, output=20),
        confirmed=False,
    ),
    Means(
        "fireworks",
        "docs.fireworks.ai/faq-new/models-inference/what-is-a-token: cached are a part of the prompt",
        of(1024, 50, inside={"cached_tokens": 1000}),
        Usage(input=24, cache_read=1000, output=50),
    ),
    Means(
        "perplexity",
        "docs.perplexity.ai/getting-started/pricing: a fee for the request; citations cost in research alone",
        of(14, 240, citation_tokens=3100, num_search_queries=4, search_context_size="low"),
        Usage(input=14, output=240),
    ),
    Means(
        "openrouter",
        "openrouter.ai/docs/use-cases/usage-accounting: all inside, cache writes too",
        of(
            194,
            100,
            inside={"cached_tokens": 20, "cache_write_tokens": 100, "audio_tokens": 0, "video_tokens": 0},
            outside={"reasoning_tokens": 60, "image_tokens": 0},
            cost=0.95,
        ),
        Usage(input=74, cache_read=20, cache_write_5m=100, output=40, reasoning=60),
    ),
    Means(
        "cerebras",
        "inference-docs.cerebras.ai/api-reference/chat-completions: as OpenAI, with predictions inside",
        of(
            300,
            90,
            inside={"cached_tokens": 256},
            outside={"reasoning_tokens": 30, "accepted_prediction_tokens": 5},
        ),
        Usage(input=44, cache_read=256, output=60, reasoning=30),
        confirmed=False,
    ),
    Means(
        "minimax",
        "platform.minimax.io: cached reads are stated; where, its pages on this dialect do not say",
        of(188, 20, inside={"cached_tokens": 128}),
        Usage(input=60, cache_read=128, output=20),
        confirmed=False,
    ),
    Means(
        "z-ai",
        "docs.z.ai: cached inside the details",
        of(1200, 300, inside={"cached_tokens": 800}),
        Usage(input=400, cache_read=800, output=300),
        confirmed=False,
    ),
]

AS_OPENAI = {
    *("arcee", "avian", "baseten", "bedrock", "cloudflare", "cohere", "databricks", "doubleword"),
    *("huggingface-nebius", "huggingface-novita", "huggingface-nscale", "huggingface-publicai"),
    *("huggingface-sambanova", "meta", "novita", "ollama", "ovhcloud", "quicksilverpro", "vllm", "zhipuai"),
}
"""Of these nobody found more than prompt and completion: what else they state is read as OpenAI means it."""


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.provider}: {row.source[:40]}")
def test_tokens_are_read_as_their_provider_means_them(row: Means):
    raw = json.dumps(row.stated).encode()
    quirks = LISTED[row.provider].quirks

    assert read_usage(raw, quirks) == row.read
    body = {"id": "u", "choices": [{"finish_reason": "stop", "message": {}}], "usage": row.stated}
    assert openai.read_reply(json.dumps(body).encode(), quirks).usage == row.read


def test_every_provider_of_the_catalog_has_been_looked_at():
    theirs = {slug for slug, provider in LISTED.items() if not provider.sandbox}

    assert theirs == {row.provider for row in TABLE} | AS_OPENAI
    assert not AS_OPENAI & {row.provider for row in TABLE}


def test_no_model_is_listed_that_bills_citations_and_searches_apart():
    endpoints = catalog.load(catalog.FOLDER).endpoints.values()

    assert not [each.upstream_name for each in endpoints if "deep-research" in each.upstream_name]


def test_a_provider_that_comes_to_count_reasoning_inside_is_not_charged_twice():
    stated = of(100, 90, outside={"reasoning_tokens": 60})

    assert read_usage(json.dumps(stated).encode(), {REASONS_BESIDE}) == Usage(
        input=100, output=30, reasoning=60
    )
    untold = stated | {"total_tokens": None}
    beside = read_usage(json.dumps(untold).encode(), {REASONS_BESIDE})
    assert beside == Usage(input=100, output=90, reasoning=60)


def test_a_total_says_nothing_of_a_provider_without_the_quirk():
    """Some add what they bill otherwise, such as citations."""
    assert read_usage(json.dumps(of(10, 20, 3000)).encode()) == Usage(input=10, output=20)


def test_tokens_written_for_an_hour_are_told_from_those_for_five_minutes():
    stated = of(
        1000,
        1,
        inside={"cache_creation_input_tokens": 900, "cache_creation": {"ephemeral_1h_input_tokens": 300}},
    )

    assert read_usage(json.dumps(stated).encode()) == Usage(
        input=100, cache_write_5m=600, cache_write_1h=300, output=1
    )


def test_a_usage_inside_the_last_choice_of_a_stream_counts():
    """As Moonshot states it."""
    reader = Reader(generation_id="gen-1", model="a/s", provider="P", choices=1, most_event_bytes=100_000)
    head = {"id": "u", "object": "chat.completion.chunk", "model": "m"}
    for choice in (
        {"index": 0, "delta": {"content": "hi"}, "finish_reason": None},
        {"index": 0, "delta": {}, "finish_reason": "stop", "usage": of(19, 21, cached_tokens=10)},
    ):
        reader.feed(b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n")

    assert reader.usage == Usage(input=9, cache_read=10, output=21)


counts = st.none() | st.integers(-5, 10**9) | st.booleans() | st.text(max_size=2)
DETAILS = ("cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens", "reasoning_tokens")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.fixed_dictionaries(
        {"prompt_tokens": st.integers(0, 10**6), "completion_tokens": st.integers(0, 10**6)},
        optional={
            "total_tokens": counts,
            **dict.fromkeys(("prompt_cache_hit_tokens", "cached_tokens", "reasoning_tokens"), counts),
            "prompt_tokens_details": st.none() | st.dictionaries(st.sampled_from(DETAILS), counts),
            "completion_tokens_details": st.none() | st.dictionaries(st.sampled_from(DETAILS), counts),
        },
    )
)
def test_whatever_details_say_the_sums_stay_what_was_stated(stated):
    usage = read_usage(json.dumps(stated).encode())

    assert usage is not None
    assert (usage.prompt, usage.completion) == (stated["prompt_tokens"], stated["completion_tokens"])
    beside = read_usage(json.dumps(stated).encode(), {REASONS_BESIDE})
    assert beside is None or beside.completion >= usage.completion and beside.prompt == usage.prompt
    told = msgspec.json.encode(write_usage(usage, cost="0.1", cost_nanos=1, base="0.1"))
    assert read_usage(told) == usage, "what a customer is told says the same"
