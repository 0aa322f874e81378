"""Where a conversation was last answered, so that it goes on where its prompt cache is warm. Pure.

One per worker, bounded; losing it costs a cache hit. An endpoint is remembered only where reading its cache
is cheaper than input, after a hit was seen, or after any answer when the customer names the session.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from billing.core.usage import Usage
from routing.core.listing import Endpoint

MOST = 10_000
SECONDS = 300.0
"""How long providers keep what they cached, after its last use."""
LONG_SECONDS = 3600.0
"""For what was written to be kept for an hour."""
EXPLICIT = b"s"
"""A conversation whose name begins so was named by the customer; others are told apart by how they begin."""

Name = tuple[int, str, bytes]
"""(organization, the model asked for, `Chat.conversation`)."""


class Warm(NamedTuple):
    endpoint: str
    prompt_tokens: int
    """How much of the conversation it has seen."""
    until: float


class Conversations:
    def __init__(self) -> None:
        self._warm: dict[Name, Warm] = {}

    def __len__(self) -> int:
        return len(self._warm)

    def warm(self, name: Name, now: float) -> Warm | None:
        found = self._warm.get(name)
        if found is not None and found.until <= now:
            del self._warm[name]
            return None
        return found

    def answered(self, name: Name, endpoint: Endpoint, usage: Usage, now: float) -> None:
        """Note where a call of a conversation was answered, and what it has used there."""
        rates = endpoint.price.rates_for(usage.prompt)
        held = self._warm.pop(name, None)
        if rates.cache_read >= rates.input:
            return
        stays = held is not None and held.endpoint == endpoint.slug
        if name[2].startswith(EXPLICIT) or usage.cache_read or usage.cache_write_1h or stays:
            if len(self._warm) >= MOST:
                del self._warm[next(iter(self._warm))]
            long = usage.cache_write_1h or (stays and held is not None and held.until - now > SECONDS)
            until = now + (LONG_SECONDS if long else SECONDS)
            self._warm[name] = Warm(endpoint.slug, usage.prompt + usage.completion, until)

    def failed(self, name: Name, endpoint_slug: str) -> None:
        """The endpoint has failed the conversation: it need not come back."""
        found = self._warm.get(name)
        if found is not None and found.endpoint == endpoint_slug:
            del self._warm[name]


def draw(conversation: bytes) -> float:
    """A number in [0, 1) that is the same for a conversation in every worker."""
    return int.from_bytes(hashlib.blake2b(conversation, digest_size=6).digest(), "big") / 2**48
