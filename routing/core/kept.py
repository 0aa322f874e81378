"""What is kept of a logged call, as it is sealed. Pure values."""

from __future__ import annotations

import msgspec


class Text(msgspec.Struct):
    """One side of a call, as it was on the wire; cut where it is shorter than `size`."""

    data: bytes
    size: int

    @property
    def cut(self) -> bool:
        return self.size > len(self.data)

    def text(self) -> str:
        return self.data.decode("utf-8", "replace")


class Content(msgspec.Struct):
    """None is what was not asked to be logged."""

    request: Text | None
    reply: Text | None
    streamed: bool
