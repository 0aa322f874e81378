"""The body of `POST /chat/completions` and `POST /route`: OpenAI's fields, and ours."""

from __future__ import annotations

from typing import Final

from aggregator.site.openapi.shapes import (
    Schema,
    asked,
    exactly,
    flag,
    number,
    one_of,
    or_null,
    ref,
    several,
    text,
    usd,
    whole,
)
from billing.core.usage import MOST_TOKENS
from routing.core.asked import VARIANTS
from routing.core.chat import MOST_CHOICES, MOST_MODELS, PREFERENCES
from routing.core.listing import CLASSES, QUANTIZATIONS
from routing.core.preferences import SORTS
from routing.dialects.openai_closed import CLOSED

_SLUGS: Final = several(text(minLength=1, maxLength=200), maxItems=100)
_VARIANTS: Final = ", ".join(f"`:{name}`" for name in VARIANTS)
_CUTOFFS: Final = asked({name: number(minimum=0) for name in ("p50", "p75", "p90", "p99")})

_MESSAGE: Final = asked(
    {
        "role": one_of(("system", "developer", "user", "assistant", "tool"), "Who speaks."),
        "content": {
            "description": "A text, or a list of parts: `text`, and `image_url` for models that see.",
            "anyOf": [text(), several({"type": "object"}), {"type": "null"}],
        },
        "name": text("Tells several speakers of one role apart."),
        "tool_calls": several({"type": "object"}, "Of an assistant: what it wants called."),
        "tool_call_id": text("Of a tool: which call this answers."),
    },
    needed=("role",),
)

_TOOL: Final = asked(
    {
        "type": one_of(("function", "custom"), "Tools that a provider would run itself are not offered."),
        "function": asked(
            {
                "name": text("What the model calls it."),
                "description": text("When to use it."),
                "parameters": {"type": "object", "description": "Its arguments, as JSON Schema."},
                "strict": flag("Arguments must fit the schema."),
            },
            needed=("name",),
        ),
    },
    needed=("type",),
)

_FORMAT: Final = asked(
    {
        "type": one_of(("text", "json_object", "json_schema")),
        "json_schema": {
            "type": "object",
            "description": "`name`, `schema`, `strict`. Only endpoints that can are asked.",
        },
    },
    "The form of the answer.",
    needed=("type",),
)

_COUNT: Final = {"minimum": 1, "maximum": MOST_TOKENS}

OPENAI: Final[dict[str, Schema]] = {
    "messages": several(ref("Message"), "The conversation, oldest first.", minItems=1, maxItems=10_000),
    "stream": flag("Send the answer as it is written, as server-sent events."),
    "stream_options": asked(
        {"include_usage": flag("The last chunk always carries the usage, whatever this says.")}
    ),
    "max_tokens": whole("The most completion tokens. Without it, an answer may be as long as credit allows.")
    | _COUNT,
    "max_completion_tokens": whole("The same by OpenAI's newer name; it wins over `max_tokens`.") | _COUNT,
    "n": whole("How many answers.", minimum=1, maximum=MOST_CHOICES),
    "temperature": number(minimum=0, maximum=2),
    "top_p": number(minimum=0, maximum=1),
    "presence_penalty": number(minimum=-2, maximum=2),
    "frequency_penalty": number(minimum=-2, maximum=2),
    "seed": whole("The same seed makes the same answer likelier, where the provider honours it."),
    "stop": {"description": "Where the answer ends.", "anyOf": [text(), several(text())]},
    "tools": several(ref("Tool"), "What the model may ask you to call. Only endpoints that can are asked."),
    "tool_choice": {
        "description": "Whether a tool must be called, and which.",
        "anyOf": [one_of(("none", "auto", "required")), {"type": "object"}],
    },
    "parallel_tool_calls": flag("Whether it may ask for several calls at once."),
    "response_format": _FORMAT,
    "modalities": several(exactly("text"), "Only text is sold."),
    "reasoning_effort": text("How long a reasoning model thinks; passed on."),
    "logprobs": flag("Passed on."),
    "top_logprobs": whole("Passed on.", minimum=0, maximum=20),
    "logit_bias": {"type": "object", "description": "Passed on."},
    "user": text(
        "Your own name for who asks, without control characters. The call draws on the budgets of this end "
        "user, its usage is kept by it, and it is passed on.",
        maxLength=256,
    ),
    "prompt_cache_key": text("Names the conversation where `session_id` does not."),
}

PROVIDER: Final = asked(
    {
        "order": _SLUGS | {"description": "Providers, or endpoints, to try first and in this order."},
        "only": _SLUGS | {"description": "Who may serve. Empty allows all."},
        "ignore": _SLUGS | {"description": "Who may not serve."},
        "allow_fallbacks": flag("False: with `order`, nobody but those; true is the default."),
        "require_parameters": flag("Only endpoints known to honour every field of the request."),
        "data_collection": one_of(
            ("allow", "deny"), "`deny`: only providers known not to train on what they are sent."
        ),
        "zdr": flag("Only providers known to keep nothing."),
        "quantizations": several(one_of(QUANTIZATIONS), "Only endpoints of these."),
        "sort": {
            "description": "What the endpoints of a model are ordered by, instead of a preference.",
            "anyOf": [
                one_of(SORTS),
                asked(
                    {
                        "by": one_of(SORTS),
                        "partition": one_of(
                            ("model", "none"), "`none` ranks the endpoints of all `models` together."
                        ),
                    }
                ),
            ],
        },
        "max_price": asked(
            {
                "prompt": usd("Per million prompt tokens."),
                "completion": usd("Per million completion tokens."),
                "request": usd("Per request."),
            },
            "The most that you would pay, in dollars and with your mark-up.",
        ),
        "preferred_min_throughput": {
            "description": "A wish, in tokens per second: of the median, or of percentiles. "
            "Who misses it goes last.",
            "anyOf": [number(minimum=0), _CUTOFFS],
        },
        "preferred_max_latency": {
            "description": "A wish, in seconds to the first token, likewise.",
            "anyOf": [number(minimum=0), _CUTOFFS],
        },
    },
    "Which providers may serve, and in which order.",
)

OURS: Final[dict[str, Schema]] = {
    "model": text(
        f"A model's id (`author/slug`), with a variant if you like ({_VARIANTS}), or `auto`.",
        minLength=1,
        maxLength=200,
    ),
    "models": several(
        text(minLength=1, maxLength=200),
        "Further models, tried in order when nobody can serve the one before.",
        maxItems=MOST_MODELS,
    ),
    "route_preference": one_of(
        PREFERENCES, "What matters: `balanced` is the default of `auto`; a named model may have it as well."
    ),
    "provider": ref("ProviderPreferences"),
    "allowed_models": several(
        text(minLength=1, maxLength=200),
        "What may be chosen: ids, `author/*` or `author/family-*`.",
        maxItems=MOST_MODELS,
    ),
    "min_class": one_of(CLASSES, "The least that `auto` may choose; `standard` unless you say otherwise."),
    "max_cost": {
        "description": "The most that this request may cost, in dollars, with your mark-up.",
        "anyOf": [number(exclusiveMinimum=0), text(pattern=r"^[0-9]*\.?[0-9]+$")],
    },
    "timeout": number(
        "Seconds for the whole call. When they pass, the prompt and what was produced are charged.",
        exclusiveMinimum=0,
        maximum=86_400,
    ),
    "num_retries": whole(
        "How many failed attempts may be followed by another; at most two are.", minimum=0, maximum=10
    ),
    "session_id": text("Names the conversation, which stays where its prompt cache is warm.", maxLength=256),
    "route": {
        "description": 'True (or `"show"`): the answer carries the decision as `route`.',
        "anyOf": [flag(), text()],
    },
    "plugins": several(
        asked(
            {
                "id": exactly("auto-router"),
                "enabled": flag(),
                "allowed_models": several(text(), "As `allowed_models` above."),
            },
            needed=("id",),
        ),
        "For requests written for OpenRouter: its `auto-router` is the only plugin here.",
    ),
}

_NULLABLE: Final = {
    name: or_null(schema) if "$ref" not in schema else {"anyOf": [schema, {"type": "null"}]}
    for name, schema in {**OURS, **OPENAI}.items()
    if name != "messages"
}

CHAT_REQUEST: Final = asked(
    {"messages": OPENAI["messages"], **_NULLABLE},
    "OpenAI's chat completion, with our own fields beside. A field that is not listed travels on to the "
    "provider, unless it would change the price unseen or reach stored state: those are refused by name "
    f"({', '.join(f'`{name}`' for name in sorted(CLOSED)[:6])} and the like).",
    needed=("messages",),
    anyOf=[{"required": ["model"]}, {"required": ["models"]}],
)

SCHEMAS: Final = {
    "Message": _MESSAGE,
    "Tool": _TOOL,
    "ProviderPreferences": PROVIDER,
    "ChatRequest": CHAT_REQUEST,
}
