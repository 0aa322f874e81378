"""What the public lists answer: models, one model, its endpoints with live figures."""

from __future__ import annotations

from typing import Final

from aggregator.site.openapi.shapes import (
    Schema,
    data,
    exactly,
    flag,
    number,
    one_of,
    or_null,
    ref,
    several,
    text,
    thing,
    whole,
)
from billing.core.windows import DAYS
from routing.core.endpoint_list import STATUS
from routing.core.listing import CLASSES, DATA_POLICIES

_RATES: Final[dict[str, Schema]] = {
    "prompt": text("USD per token of the prompt."),
    "completion": text("USD per token of the answer."),
    "input_cache_read": text("USD per token read from the cache."),
    "input_cache_write": text("USD per token written to it, for five minutes."),
    "input_cache_write_1h": text("And for an hour."),
    "internal_reasoning": text("USD per token of reasoning."),
    "image_token": text("USD per token of an image in the prompt, where the provider counts these apart."),
    "audio": text("USD per token of audio in the prompt."),
    "audio_output": text("USD per token of audio in the answer."),
    "request": text("USD per request."),
}

PRICING: Final = thing(
    {
        **_RATES,
        "overrides": several(
            thing(
                {
                    **_RATES,
                    "min_prompt_tokens": whole("For prompts of so many tokens or more."),
                    "utc_start": number("From this hour after midnight, UTC,", minimum=0, maximum=24),
                    "utc_end": number("to before this one.", minimum=0, maximum=24),
                    "utc_days": several(one_of(DAYS), "On these days alone."),
                },
                without=("min_prompt_tokens", "utc_start", "utc_end", "utc_days"),
            ),
            "When another price holds: for longer prompts, or at certain hours.",
        ),
    },
    "The provider's price as decimal text, before your plan's mark-up.",
    without=("overrides",),
)

_FACTS: Final[dict[str, Schema]] = {
    "tag": text("The provider's slug, for `provider.order` and the like."),
    "provider_name": text(),
    "endpoint": text("`provider:author/slug`."),
    "context_length": whole("Tokens of prompt and answer together.", minimum=1),
    "max_completion_tokens": whole("The longest answer.", minimum=1),
    "quantization": text("As the provider says it, or `unknown`."),
    "data_policy": or_null(
        one_of(DATA_POLICIES, "What the provider does with what it is sent; null is not known.")
    ),
    "region": or_null(text("Where it stands, if known.")),
    "pricing": ref("Pricing"),
}

ARCHITECTURE: Final = thing(
    {
        "modality": text("Such as `text+image->text`."),
        "input_modalities": several(one_of(("text", "image"))),
        "output_modalities": several(exactly("text")),
    }
)

_FIGURES: Final = or_null(thing({name: number(minimum=0) for name in ("p50", "p75", "p90", "p99")}))

ENDPOINT: Final = thing(
    {
        **_FACTS,
        "name": text("Provider and model."),
        "model_id": text(),
        "model_name": text(),
        "max_prompt_tokens": whole(minimum=1),
        "supported_parameters": several(text(), "Fields of a request that it honours."),
        "supports_implicit_caching": flag("Cached prompt tokens are cheaper there."),
        "status": {
            "type": "integer",
            "enum": list(STATUS.values()),
            "description": "The state as a number, 0 is best.",
        },
        "state": one_of(tuple(STATUS), "`resting`: left alone for a while after failures."),
        "attempts_last_5m": whole("How many calls the figures come from.", minimum=0),
        "uptime_last_5m": or_null(number("Percent.", minimum=0, maximum=100)),
        "uptime_last_30m": or_null(number("Percent.", minimum=0, maximum=100)),
        "uptime_last_1d": or_null(number("Percent.", minimum=0, maximum=100)),
        "latency_last_5m": _FIGURES | {"description": "Milliseconds to the first token."},
        "throughput_last_5m": _FIGURES | {"description": "Tokens per second."},
        "cache_hit_share_last_5m": or_null(
            number("Of prompt tokens, how many came from the cache.", minimum=0, maximum=1)
        ),
        "expected": thing(
            {"latency": number("Milliseconds."), "throughput": number("Tokens per second.")},
            "What the catalog expects where nobody has measured.",
        ),
    },
    "A model at a provider. Figures are null where nobody has measured.",
)

MODEL: Final = thing(
    {
        "id": text("`author/slug`: what a request names."),
        "object": exactly("model"),
        "owned_by": text("The author."),
        "canonical_slug": text(),
        "name": text(),
        "created": whole("Unix seconds.", minimum=0),
        "description": text(),
        "context_length": whole(minimum=1),
        "class": one_of(CLASSES, "How able it is; see `min_class`."),
        "auto": flag('Whether `model: "auto"` may choose it.'),
        "architecture": ref("Architecture"),
        "pricing": ref("Pricing"),
        "top_provider": thing(
            {"context_length": whole(minimum=1), "max_completion_tokens": whole(minimum=1)}
        ),
        "supported_parameters": several(text()),
        "endpoints": several(thing(_FACTS), "Who hosts it."),
    },
    "`pricing` and `top_provider` are of its cheapest endpoint.",
)

ONE_MODEL: Final = thing(
    {
        "id": text(),
        "object": exactly("model"),
        "created": whole(),
        "owned_by": text(),
        "data": ref("Model"),
    },
    "OpenAI's four fields, and all of ours in `data`.",
)

ENDPOINTS: Final = data(
    thing(
        {
            "id": text(),
            "name": text(),
            "created": whole(),
            "description": text(),
            "architecture": ref("Architecture"),
            "endpoints": several(ref("Endpoint")),
        }
    )
)

SCHEMAS: Final = {
    "Pricing": PRICING,
    "Architecture": ARCHITECTURE,
    "Model": MODEL,
    "ModelList": thing({"data": several(ref("Model"), "By id. Only what can be called now.")}),
    "OneModel": ONE_MODEL,
    "Endpoint": ENDPOINT,
    "EndpointList": ENDPOINTS,
}
