"""The headers of answers that say something of the call."""

from __future__ import annotations

from typing import Final

from aggregator.site.openapi.shapes import Schema, text, whole

HEADERS: Final[dict[str, tuple[str, Schema]]] = {
    "X-Generation-Id": ("The call, for `GET /generation`.", text()),
    "X-Fairlead-Endpoint": ("Who answered: `provider:author/slug`.", text()),
    "X-Fairlead-Preference": ("The preference that the choice was made by.", text()),
    "X-Fairlead-Reason": ("Why this endpoint, in one sentence.", text()),
    "X-Fairlead-Predicted-Cost": ("Dollars predicted before the call, without your mark-up.", text()),
    "X-Fairlead-Attempts": ("How many attempts it took.", whole(minimum=1)),
    "X-Fairlead-Max-Tokens": (
        "What the answer was bounded to, since no more is affordable.",
        whole(minimum=1),
    ),
    "X-RateLimit-Limit": ("Requests a minute of this key, where it has a limit.", whole(minimum=1)),
    "X-RateLimit-Remaining": ("What is left of them in this minute.", whole(minimum=0)),
    "Idempotent-Replayed": ("`true`: this is the kept answer of an earlier call.", text()),
    "Retry-After": ("Seconds to wait.", whole(minimum=1)),
    "X-Should-Retry": ("`false`: the call was charged, so that SDKs do not repeat it.", text()),
    "WWW-Authenticate": ("`Bearer`.", text()),
    "Allow": ("The methods that the path answers to.", text()),
    "ETag": ("Send it back in `If-None-Match` for an empty 304.", text()),
}

OF_STATUS: Final[dict[int, tuple[str, ...]]] = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    408: ("X-Should-Retry",),
    409: ("Retry-After",),
    429: ("Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining"),
    503: ("Retry-After", "X-Should-Retry"),
}
