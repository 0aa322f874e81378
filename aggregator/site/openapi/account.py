"""What the management API takes and answers: receipts, credit, keys; and the one shape of errors."""

from __future__ import annotations

from typing import Final

from accounts.core import limits, roles
from aggregator.site.openapi.errors import ERRORS
from aggregator.site.openapi.shapes import (
    Schema,
    asked,
    data,
    exactly,
    flag,
    moment,
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
from billing.core import generation
from billing.core.pricing import KINDS

_COUNT: Final = whole(minimum=0)
_RESETS: Final = ("daily", "weekly", "monthly")
_STATUSES: Final = (generation.COMPLETED, generation.ABORTED, generation.FAILED, generation.VOID)

ERROR_DETAIL: Final = thing(
    {
        "code": whole("The HTTP status.", minimum=400, maximum=599),
        "message": text("What happened and what to do, for people. It may be reworded."),
        "type": one_of([error.type for error in ERRORS], "Stable: match on this."),
        "param": text("The field at fault."),
        "metadata": thing(
            {"error_type": text("The same as `type`.")},
            "What else there is to know, by type.",
            additionalProperties=True,
        ),
    },
    without=("param",),
)

GENERATION: Final = thing(
    {
        "id": text(pattern="^gen-[0-9a-f]{32}$"),
        "status": one_of(_STATUSES, "`completed` and `aborted` are charged; `failed` and `void` are free."),
        "model_asked": text(),
        "model": text("Who answered."),
        "endpoint": text(),
        "provider_name": text("The provider's slug."),
        "created_at": moment(),
        "streamed": flag(),
        "cancelled": flag("It was broken off."),
        "finish_reason": text(),
        "native_finish_reason": text(),
        "error_type": text("Why it failed, or empty."),
        "tokens_prompt": _COUNT,
        "tokens_completion": _COUNT,
        "native_tokens_prompt": _COUNT,
        "native_tokens_completion": _COUNT,
        "native_tokens_cached": _COUNT,
        "native_tokens_reasoning": _COUNT,
        "estimated": flag("The tokens were counted by us, since the provider stated none."),
        "total_cost": usd("What you paid, in dollars."),
        "usage": usd("The same."),
        "cost_nanos": nanos("The same in whole billionths."),
        "base_nanos": nanos("The provider's part."),
        "markup_nanos": nanos("Ours."),
        "markup": text("The mark-up as a fraction."),
        "price_id": or_null(whole("The dated price that was charged.")),
        "price_window": whole("Which of its hours, from 1; 0 is none.", minimum=0),
        "price_tier": whole("Which of its tiers, by the prompt's length, from 1; 0 is none.", minimum=0),
        "parts": several(
            {
                "type": "array",
                "prefixItems": [one_of(KINDS), _COUNT, text("Exact billionths, as a decimal.")],
                "minItems": 3,
                "maxItems": 3,
            },
            "What was charged for: kind, units, and what they cost before the mark-up.",
        ),
        "is_byok": flag("Always false."),
        "latency": or_null(whole("Milliseconds to the first token of a stream.", minimum=0)),
        "generation_time": whole("Milliseconds in all.", minimum=0),
        "upstream_id": text("The provider's own id of the call."),
        "route": {"type": "object", "description": "The decision, as `Decision`."},
    },
    "The receipt of one call.",
)

KEY_STATE: Final = thing(
    {
        "id": text(),
        "name": text(),
        "label": text(),
        "scope": one_of(tuple(roles.SCOPES)),
        "is_management_key": flag(),
        "usage": usd("Spent with it, ever."),
        "limit": or_null(usd("Its spend limit.")),
        "limit_remaining": or_null(usd("What is left of that, in the window of now.")),
        "limit_reset": or_null(one_of(_RESETS, "When the limit begins again, in UTC; null never.")),
        "rate_limit": thing(
            {"requests": or_null(whole("Null: no limit.", minimum=1)), "interval": exactly("1m")}
        ),
        "allowed_models": several(text(), "Empty allows all."),
        "expires_at": or_null(moment()),
        "plan": text("The organization's plan."),
    },
    "The calling key.",
)

CREDITS: Final = thing(
    {
        "total_credits": usd("Everything ever put into the wallet."),
        "total_usage": usd("Everything ever charged."),
        "remaining": number("The difference."),
        "total_credits_nanos": whole(),
        "total_usage_nanos": whole(),
    },
    "In dollars; the last two in billionths.",
)

API_KEY: Final = thing(
    {
        "id": text(pattern="^key_"),
        "hash": text("The same, by OpenRouter's name."),
        "name": text(),
        "label": text("Its beginning and end."),
        "scope": exactly(roles.INFERENCE),
        "disabled": flag(),
        "limit": or_null(usd("Dollars that it may spend.")),
        "limit_nanos": or_null(nanos()),
        "limit_reset": or_null(one_of(_RESETS, "When the limit begins again, in UTC; null never.")),
        "requests_per_minute": or_null(whole(minimum=1)),
        "allowed_models": several(text()),
        "created_at": moment(),
        "expires_at": or_null(moment()),
        "last_used_at": or_null(moment()),
        "exposed_at": or_null(moment("When it was seen in a URL: rotate it.")),
    },
    "An inference key; its text is never shown again.",
)

_WIRE: Final = or_null(
    thing(
        {
            "text": text("As it was on the wire, as far as it is kept."),
            "bytes": whole("Of the whole.", minimum=0),
            "cut": flag("It was longer than what is kept of a call."),
        }
    )
)
CONTENT: Final = thing(
    {
        "id": text(pattern="^gen-[0-9a-f]{32}$"),
        "input": or_null(
            thing(
                {"messages": several({"type": "object"}, "As they were sent.")},
                "Null where the request is not logged, or not whole.",
            )
        ),
        "output": or_null(
            thing(
                {
                    "completion": or_null(text("Of the first choice; of a stream, put together.")),
                    "reasoning": or_null(text()),
                },
                "Null where replies are not logged.",
            )
        ),
        "request": _WIRE,
        "reply": _WIRE,
    },
)

_AMOUNT: Final[Schema] = {
    "description": "Dollars that it may spend, as a number or as text; null for no limit.",
    "anyOf": [number(minimum=0), text(pattern=r"^[0-9]*\.?[0-9]+$"), {"type": "null"}],
}
_NAME: Final = text(minLength=1, maxLength=limits.MOST_NAME)
_LIMITS: Final[dict[str, Schema]] = {
    "limit": _AMOUNT,
    "limit_reset": or_null(one_of(_RESETS, "When the limit begins again, in UTC; null never.")),
    "expires_at": or_null(moment("With its time zone; null for never.")),
    "requests_per_minute": or_null(whole(minimum=1, maximum=limits.MOST_REQUESTS_PER_MINUTE)),
    "allowed_models": several(text(), "Ids, or `author/*`; empty allows all.", maxItems=limits.MOST_MODELS),
}

SCHEMAS: Final = {
    "ErrorDetail": ERROR_DETAIL,
    "Error": thing({"error": ref("ErrorDetail")}, "Every error, of every path."),
    "Generation": GENERATION,
    "GenerationAnswer": data(ref("Generation")),
    "Content": CONTENT,
    "ContentAnswer": data(ref("Content")),
    "KeyState": KEY_STATE,
    "KeyStateAnswer": data(ref("KeyState")),
    "Credits": CREDITS,
    "CreditsAnswer": data(ref("Credits")),
    "ApiKey": API_KEY,
    "ApiKeyAnswer": data(ref("ApiKey")),
    "ApiKeyList": data(several(ref("ApiKey"), "Newest first, 100 at a time.")),
    "NewApiKey": asked(
        {"name": _NAME, **_LIMITS}, "A key to be made.", needed=("name",), additionalProperties=False
    ),
    "NewApiKeyAnswer": thing(
        {"data": ref("ApiKey"), "key": text("The key itself, shown this once.", pattern="^fl_live_")}
    ),
    "ApiKeyChange": asked(
        {"name": _NAME, "disabled": flag(), **_LIMITS},
        "Only what is sent is changed.",
        additionalProperties=False,
    ),
    "Deleted": thing({"deleted": {"type": "boolean", "const": True}}),
}
