"""What `GET /usage` and `GET /activity` answer."""

from __future__ import annotations

from typing import Any, Final

from aggregator.site.openapi.shapes import (
    Schema,
    data,
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
from billing.explorer import asking

_COUNT: Final = whole(minimum=0)
_SIGNED: Final = "Less than nothing where writing to caches cost more than reading them saved."
_FIGURES: Final[dict[str, Schema]] = {
    "requests": _COUNT,
    "failed": or_null(whole("By the provider's fault or ours; they are free.", minimum=0)),
    "aborted": or_null(whole("Broken off; what was delivered is charged.", minimum=0)),
    "prompt_tokens": whole("All of them, cached ones included.", minimum=0),
    "cached_tokens": or_null(whole("Prompt tokens read from a cache.", minimum=0)),
    "cache_write_tokens": or_null(whole("Prompt tokens written to one.", minimum=0)),
    "completion_tokens": whole("All of them, reasoning included.", minimum=0),
    "reasoning_tokens": or_null(_COUNT),
    "base": or_null(usd("The providers' part, in dollars.")),
    "base_nanos": or_null(nanos("The same in whole billionths.")),
    "markup": or_null(usd("Ours.")),
    "markup_nanos": or_null(nanos()),
    "charge": usd("What you pay: the two together."),
    "charge_nanos": nanos(),
    "cache_savings": or_null(number(f"How much caches took off the charge. {_SIGNED}")),
    "cache_savings_nanos": or_null(whole()),
}
_GROUPS: Final[dict[str, Schema]] = {
    "hour": text("Its beginning, such as `2026-11-22T14:00Z`."),
    "day": text("Such as `2026-11-22`, in UTC."),
    "month": text("Such as `2026-11`."),
    "model": or_null(text("Null: the call ended before one was chosen.")),
    "provider": or_null(text()),
    "endpoint": or_null(text()),
    "key": text("The key's id."),
    "key_name": text("Its name, beside `key`."),
    "member": or_null(text("The e-mail address of who made the key; null for one made by API.")),
    "end_user": text("The `user` of the calls."),
}
EXAMPLE: Final[dict[str, Any]] = {
    "day": "2026-11-22",
    "model": "sandbox/harbor",
    "requests": 1204,
    "failed": 3,
    "aborted": 11,
    "prompt_tokens": 1_830_400,
    "cached_tokens": 912_000,
    "cache_write_tokens": 0,
    "completion_tokens": 402_118,
    "reasoning_tokens": 51_002,
    "base": 5.04,
    "base_nanos": 5_040_000_000,
    "markup": 0.252,
    "markup_nanos": 252_000_000,
    "charge": 5.292,
    "charge_nanos": 5_292_000_000,
    "cache_savings": 1.0773,
    "cache_savings_nanos": 1_077_300_000,
}
_NAMES: Final = frozenset(_GROUPS)
ANSWER: Final[dict[str, Any]] = {
    "data": [EXAMPLE],
    "totals": {name: value for name, value in EXAMPLE.items() if name not in _NAMES},
    "lines": 1,
    "group_by": ["day", "model"],
    "from": "2026-11-22T00:00:00Z",
    "to": "2026-11-23T00:00:00Z",
    "next": None,
}
ACTIVITY: Final[dict[str, Any]] = {
    "date": "2026-11-22",
    "model": "sandbox/harbor",
    "model_permaslug": "sandbox/harbor",
    "endpoint_id": "sandbox-deep:sandbox/harbor",
    "provider_name": "sandbox-deep",
    "usage": 5.292,
    "byok_usage_inference": 0,
    "requests": 1204,
    "prompt_tokens": 1_830_400,
    "completion_tokens": 402_118,
    "reasoning_tokens": 51_002,
    "cached_tokens": 912_000,
}

SCHEMAS: Final = {
    "UsageFigures": thing(
        _FIGURES, "Sums of calls. Null is what is not kept: end users have requests, tokens and charge alone."
    ),
    "UsageLine": thing(
        {**_GROUPS, **_FIGURES},
        "One line: what it is told by, and its sums. Of the first ten fields, those of `group_by`.",
        without=tuple(_GROUPS),
    ),
    "UsageAnswer": thing(
        {
            "data": several(ref("UsageLine")),
            "totals": ref("UsageFigures"),
            "lines": whole("How many lines there are on all pages, which `totals` sums.", minimum=0),
            "group_by": several(one_of(asking.GROUPS)),
            "from": moment(),
            "to": moment("Not included."),
            "next": or_null(text("Ask again with it as `after` for the next page; null on the last.")),
        }
    ),
    "Activity": thing(
        {
            "date": text("Such as `2026-11-22`, in UTC."),
            "model": text(),
            "model_permaslug": text("The same."),
            "endpoint_id": text(),
            "provider_name": text("The provider's slug."),
            "usage": usd("What you paid, in dollars."),
            "byok_usage_inference": number("Always 0."),
            "requests": _COUNT,
            "prompt_tokens": _COUNT,
            "completion_tokens": whole("Reasoning included.", minimum=0),
            "reasoning_tokens": _COUNT,
            "cached_tokens": _COUNT,
        },
        "One day of one model at one endpoint.",
    ),
    "ActivityAnswer": data(several(ref("Activity"), "The latest day first.")),
}
