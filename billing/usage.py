"""What one call consumed, in our words; each dialect reads its provider's figures into this."""

from __future__ import annotations

import msgspec

MOST_TOKENS = 100_000_000
"""A bound on every quantity before arithmetic; a provider that reports more is a malformed reply."""


class Usage(msgspec.Struct, frozen=True):
    """Disjoint token counts: nothing is counted in two fields, so a charge is a plain sum.

    Providers differ on whether cached tokens lie inside or beside the prompt, and reasoning inside
    or beside the completion; the dialect takes them apart before they come here.
    """

    input: int = 0
    """Prompt tokens that neither came from a cache nor were written to one."""
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    """Completion tokens that are not reasoning."""
    reasoning: int = 0
    requests: int = 1

    def __post_init__(self) -> None:
        for count in (
            self.input,
            self.cache_read,
            self.cache_write_5m,
            self.cache_write_1h,
            self.output,
            self.reasoning,
            self.requests,
        ):
            if not 0 <= count <= MOST_TOKENS:
                raise ValueError(f"a token count of {count} is out of bounds")

    @property
    def prompt(self) -> int:
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h

    @property
    def completion(self) -> int:
        return self.output + self.reasoning


NOTHING = Usage(requests=0)
