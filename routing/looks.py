"""The rate limit of requests that only look: previews of routes and prices, which no wallet bounds.

It is a key's own, shared by all workers, and apart from that of its calls: looking uses up no call.
"""

from __future__ import annotations

import math

from django.conf import settings

from accounts.core.principal import Principal
from aggregator.lib import kv
from aggregator.lib.errors import Refusal
from billing.admission import Admission
from billing.core import gate_scripts

_MINUTE_US = 60_000_000


async def count(admission: Admission, principal: Principal) -> None:
    """Count one look of this key. Raises Refusal 429 when it is one too many."""
    limit = settings.PREVIEWS_PER_MINUTE
    key = f"{kv.shard(principal.organization)}:l:{principal.key}"
    try:
        wait_ms = int(await admission.ask(gate_scripts.RATE, [key], [_MINUTE_US // limit, limit]))
    except Refusal:
        return  # without the gate nobody can count, and looking needs no gate
    if wait_ms:
        raise Refusal(
            "rate_limit_exceeded",
            f"This key may ask for {limit} previews a minute. Try again in {wait_ms / 1000:.1f} s.",
            status=429,
            retry_after=max(1, math.ceil(wait_ms / 1000)),
            metadata={"limit": limit, "remaining": 0, "retry_after_ms": wait_ms},
        )
