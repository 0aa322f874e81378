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
    """Prompt tokens of text that neither came from a cache nor were written to one."""
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    """Completion tokens of text that are not reasoning."""
    reasoning: int = 0
    image: int = 0
    """Prompt tokens of images, where the provider counts them apart; else they are in `input`."""
    audio: int = 0
    image_output: int = 0
    audio_output: int = 0
    requests: int = 1

    def __post_init__(self) -> None:
        counts = msgspec.structs.astuple(self)
        together = 0
        for count in counts:
            together |= count
        if not 0 <= together <= MOST_TOKENS:  # each is at most the bits of all
            for count in counts:
                if not 0 <= count <= MOST_TOKENS:
                    raise ValueError(f"a token count of {count} is out of bounds")

    @property
    def prompt(self) -> int:
        return (
            self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h + self.image + self.audio
        )

    @property
    def completion(self) -> int:
        return self.output + self.reasoning + self.image_output + self.audio_output

    def cut(self, most: int) -> Usage:
        """With no more than `most` tokens of completion: what was reasoned first, then text."""
        kept = {}
        for name in ("reasoning", "output", "image_output", "audio_output"):
            kept[name] = min(getattr(self, name), most)
            most -= kept[name]
        return msgspec.structs.replace(self, **kept)


NOTHING = Usage(requests=0)
