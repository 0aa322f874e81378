"""What `POST /chat/completions` and `POST /route` answer: plain, streamed, and the decision behind them."""

from __future__ import annotations

from typing import Any, Final

from aggregator.site.openapi.errors import BUDGETS_EXCEEDED
from aggregator.site.openapi.shapes import (
    Schema,
    exactly,
    flag,
    nanos,
    number,
    one_of,
    or_null,
    ref,
    several,
    text,
    thing,
    usd,
    whole,
)
from routing.core.chat import PREFERENCES
from routing.core.decision import EXPLORATION, ORDER, PREFERENCE, SORT, STICKY, UNSTATED, WEIGHTED

_OPEN: Final[dict[str, Any]] = {"additionalProperties": True}
"""What the provider says beside it is passed on."""

_COUNT: Final = whole(minimum=0)
_MEDIA: Final = {
    "image_tokens": whole("Of images, where the provider counts them apart.", minimum=1),
    "audio_tokens": whole("Of audio.", minimum=1),
}

USAGE: Final = thing(
    {
        "prompt_tokens": whole("All tokens of the prompt, cached ones included.", minimum=0),
        "completion_tokens": whole("All tokens written, reasoning included.", minimum=0),
        "total_tokens": _COUNT,
        "prompt_tokens_details": thing(
            {
                "cached_tokens": whole("Read from the provider's cache, at its price.", minimum=0),
                "cache_write_tokens": whole("Written to it.", minimum=0),
                **_MEDIA,
            },
            without=tuple(_MEDIA),
        ),
        "completion_tokens_details": thing({"reasoning_tokens": _COUNT, **_MEDIA}, without=tuple(_MEDIA)),
        "cost": usd("What you paid, in dollars, mark-up included: exact as written."),
        "cost_nanos": nanos("The same in whole billionths of a dollar."),
        "cost_details": thing({"upstream_inference_cost": usd("The provider's part of it, in dollars.")}),
        "is_byok": flag("Always false: calls go out on our keys."),
    },
    "What was used and what it cost.",
)

_ATTEMPT: Final = thing(
    {
        "endpoint": text("Who was tried."),
        "failure": text("What went wrong, in one word."),
        "status": or_null(whole("The provider's status, if it answered.")),
        "seconds": number("How long it took."),
        "wait": number("Seconds waited before it."),
        "begun": flag("The answer had begun."),
        "key": text("Which of our keys was used."),
    },
    without=("wait", "begun", "key"),
)

_CANDIDATE: Final = thing(
    {
        "endpoint": text("`provider:author/slug`."),
        "rank": whole("1 is the first choice.", minimum=1),
        "cost_usd": text("Predicted, before your mark-up, in dollars."),
        "cost_nanos": nanos("The same in billionths."),
        "seconds": number("Predicted until the last token."),
        "score": number("What was compared; less is better."),
        "weight": number("Its share of calls like this one."),
        "state": text("Why it goes last."),
        "missed": text("The wish that it misses."),
        "sticky": flag("The conversation's prompt cache is warm there."),
        "explored": flag("Tried so that its figures stay fresh."),
    },
    without=("weight", "state", "missed", "sticky", "explored"),
    **_OPEN,
)

DECISION: Final = thing(
    {
        "asked": text("What the request named."),
        "preference": one_of((*PREFERENCES, UNSTATED)),
        "chosen": text("The endpoint that came first."),
        "reason": text("Why, in one sentence."),
        "strategy": one_of((PREFERENCE, WEIGHTED, ORDER, SORT, STICKY, EXPLORATION)),
        "considered": whole("How many endpoints fitted.", minimum=0),
        "candidates": several(ref("Candidate"), "The first sixteen of them, best first."),
        "excluded": several(
            thing({"endpoint": text(), "reason": text("Which demand left it out.")}), "Who was left out."
        ),
        "excluded_count": _COUNT,
        "served": text("Who answered in the end."),
        "served_reason": text("Why that was not the chosen one."),
        "attempts": several(ref("Attempt"), "What failed before."),
        "replaced": text("The choice whose place an exploration took."),
        "max_tokens_lowered_to": _COUNT,
        "unknown_providers": several(text(), "What the request named and nobody has."),
        "key": text("Which of our keys was used."),
        "wait": number("Seconds waited for a connection."),
    },
    "The decision: who stood for choice, what was predicted, who was chosen and why.",
    without=(
        *("served", "served_reason", "attempts", "replaced", "max_tokens_lowered_to"),
        *("unknown_providers", "key", "wait"),
    ),
    **_OPEN,
)

_CHOICE: Final = thing(
    {
        "index": whole(minimum=0),
        "message": thing(
            {
                "role": exactly("assistant"),
                "content": or_null(text("The answer.")),
                "tool_calls": several({"type": "object"}, "What it asks you to call."),
            },
            without=("tool_calls",),
            **_OPEN,
        ),
        "finish_reason": or_null(text("`stop`, `length`, `tool_calls` or `content_filter`.")),
    },
    **_OPEN,
)

COMPLETION: Final = thing(
    {
        "id": text("The generation, for `GET /generation`.", pattern="^gen-[0-9a-f]{32}$"),
        "object": exactly("chat.completion"),
        "created": whole("Unix seconds."),
        "model": text("Who answered, whatever was asked for."),
        "provider": text("The provider that served it."),
        "choices": several(ref("Choice")),
        "usage": ref("Usage"),
        "route": ref("Decision"),
    },
    "The answer. What the provider says beside these fields is passed on.",
    without=("route",),
    **_OPEN,
)

_CHUNK_FIELDS: Final[dict[str, Schema]] = {
    "id": text(pattern="^gen-[0-9a-f]{32}$"),
    "object": exactly("chat.completion.chunk"),
    "created": whole("Unix seconds."),
    "model": text(),
    "provider": text(),
}

CHUNK: Final = thing(
    {
        **_CHUNK_FIELDS,
        "choices": several(
            thing(
                {
                    "index": whole(minimum=0),
                    "delta": {"type": "object", "description": "What has come: `content`, `tool_calls`."},
                    "finish_reason": or_null(text("In the last chunk of a choice.")),
                },
                **_OPEN,
            ),
            "Empty in the last chunk, which carries the usage.",
        ),
        "usage": {"description": "In the last chunk.", "anyOf": [ref("Usage"), {"type": "null"}]},
        "route": ref("Decision"),
        "notice": thing(
            {
                "type": one_of(
                    ("credit_exhausted", *BUDGETS_EXCEEDED), "What is used up: the credit, or whose budget."
                ),
                "message": text(),
                "window": one_of(("day", "week", "month", "total"), "Of the budget."),
                "resets_at": or_null(text("When the budget's window ends, ISO 8601; null is never.")),
            },
            "No more could be held for the stream, so the answer was cut.",
            without=("window", "resets_at"),
        ),
        "error": ref("ErrorDetail"),
    },
    "The data of one event. The last one carries `usage`; then `[DONE]` follows. An `error` ends the stream, "
    "and nothing follows it.",
    without=("usage", "route", "notice", "error"),
    **_OPEN,
)

PREVIEW: Final = thing(
    {
        "object": exactly("route"),
        "model": text("Where the call would go."),
        "provider": text(),
        "endpoint": text("`provider:author/slug`."),
        "reason": text("Why, in one sentence."),
        "prompt_tokens": whole("Estimated, rather too many than too few.", minimum=0),
        "max_tokens": whole("What would be held for.", minimum=0),
        "cost": text("Predicted, in dollars, mark-up included."),
        "cost_most": text("At its worst: what would be held."),
        "seconds": number("Predicted until the last token."),
        "markup": text("Your plan's mark-up as a fraction: `0.10` is 10 %."),
        "route": ref("Decision"),
    },
    "Where a call would go, and what it would cost.",
)

SCHEMAS: Final = {
    "Usage": USAGE,
    "Attempt": _ATTEMPT,
    "Candidate": _CANDIDATE,
    "Decision": DECISION,
    "Choice": _CHOICE,
    "ChatCompletion": COMPLETION,
    "ChatCompletionChunk": CHUNK,
    "RoutePreview": PREVIEW,
}
