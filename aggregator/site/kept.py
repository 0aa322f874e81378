"""Parts of public pages that are the same for everybody: made every few seconds, by one process for all."""

from __future__ import annotations

from collections.abc import Callable

from aggregator.lib import kv

_OLD_SECONDS = 600
"""So long the last one is shown while another process makes the next."""


def kept(name: str, seconds: int, make: Callable[[], str]) -> str:
    """The text as somebody made it within `seconds`; without the cache it is made each time."""
    body, fresh = f"site:{name}", f"site:{name}:fresh"
    try:
        cache = kv.cache()
        found = cache.get(body)
        if not cache.set(fresh, "1", nx=True, ex=seconds) and found is not None:
            return str(found)
        made = make()
        cache.set(body, made, ex=_OLD_SECONDS)
        return made
    except kv.Failed:
        return make()
