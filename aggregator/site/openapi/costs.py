"""The body and the answer of `POST /cost`."""

from __future__ import annotations

from typing import Any, Final

from aggregator.site.openapi.chat_request import CHAT_REQUEST
from aggregator.site.openapi.shapes import (
    Schema,
    asked,
    exactly,
    flag,
    moment,
    nanos,
    one_of,
    or_null,
    several,
    text,
    thing,
    whole,
)
from billing.core.pricing import KINDS
from billing.core.usage import MOST_TOKENS


def _count(says: str = "") -> Schema:
    return whole(says, minimum=0, maximum=MOST_TOKENS)


_MAYBE: Final = or_null(_count())
_OPENAI: Final = asked(
    {
        "prompt_tokens": _count("All of the prompt."),
        "completion_tokens": _count("All of the answer."),
        "prompt_tokens_details": or_null(
            asked(
                dict.fromkeys(("cached_tokens", "cache_write_tokens", "image_tokens", "audio_tokens"), _MAYBE)
            )
        ),
        "completion_tokens_details": or_null(
            asked(
                dict.fromkeys(
                    (
                        *("reasoning_tokens", "image_tokens", "audio_tokens"),
                        *("accepted_prediction_tokens", "rejected_prediction_tokens"),
                    ),
                    _MAYBE,
                )
            )
        ),
    },
    "As OpenAI states a usage, and our answers do.",
    needed=("prompt_tokens",),
)
_OWN: Final = asked(
    {kind: _count("1 unless said." if kind == "request" else "") for kind in KINDS},
    "By the kinds of prices, of which none lies inside another.",
    additionalProperties=False,
)

_REQUEST: Final[dict[str, Any]] = {
    **CHAT_REQUEST,
    "description": "A model with `usage`; or the body of a call, with `messages`.",
    "properties": {**CHAT_REQUEST["properties"], "usage": {"anyOf": [_OPENAI, _OWN]}},
    "required": ["model"],
    "anyOf": [{"required": ["usage"]}, {"required": ["messages"]}],
}

_ITEM: Final = thing(
    {
        "kind": one_of(KINDS),
        "units": _count(),
        "unit_price": text("USD per million tokens; of `request`, USD each."),
        "base": text("Units times unit price in USD, exact."),
    }
)
_ENDPOINT: Final = thing(
    {
        "endpoint": text("`provider:author/slug`."),
        "provider": text(),
        "completion_tokens": _count("That are priced."),
        "price_id": whole("The price row, as receipts name it.", minimum=0),
        "tier": whole("Which of its tiers a prompt of this length pays, from 1; 0 is none.", minimum=0),
        "tier_above": or_null(whole("After how many prompt tokens this tier begins.", minimum=0)),
        "window": whole("Which of its hours it is now, from 1; 0 is none.", minimum=0),
        "until": or_null(moment("When the price changes by the hour; null where it does not.")),
        "items": several(_ITEM),
        "base": text("The provider's price in USD, rounded to the nano-dollar."),
        "base_nanos": nanos(),
        "markup_amount": text("Ours, in USD."),
        "markup_nanos": nanos(),
        "total": text("What would be charged, in USD."),
        "total_nanos": nanos("Items times (1 + mark-up), rounded once, half to even."),
    }
)
_ANSWER: Final = thing(
    {
        "object": exactly("cost"),
        "model": text(),
        "estimated": flag("The tokens are estimated from `messages`."),
        "prompt_tokens": _count(),
        "markup": text("Your plan's mark-up as a fraction: `0.10` is 10 %."),
        "endpoints": several(_ENDPOINT, "The cheapest first."),
    },
    "What a usage costs at each endpoint of a model.",
)

SCHEMAS: Final = {"CostRequest": _REQUEST, "CostAnswer": _ANSWER}
