"""Server-sent events as bytes, without I/O: blocks in, whole events out."""

from __future__ import annotations

import re

# An event ends at a blank line: two line endings of the three kinds that the standard allows, also mixed.
_END = re.compile(rb"(?:\r\n|\r(?!\n)|\n)(?:\r\n|\r|\n)")
_LONGEST_END = 4


class Splitter:
    """Holds back the part of a block whose event has not ended yet. Bounded by `most` bytes."""

    __slots__ = ("_cut", "_most", "_tail")

    def __init__(self, most: int) -> None:
        self._most = most
        self._cut = False
        """The last event ended in a CR, whose LF may still come."""
        self._tail = b""

    def feed(self, block: bytes) -> bytes:
        """The whole events of everything fed so far. Raises ValueError when one event is too long."""
        new = 0
        if self._cut and block:
            self._cut, block = False, block.removeprefix(b"\n")
        if self._tail:
            new = max(0, len(self._tail) - _LONGEST_END + 1)
            block = self._tail + block
        if block.endswith(b"\n\n"):
            self._tail = b""
            return block
        end = 0
        if b"\r" in block:
            for found in _END.finditer(block, new):
                end = found.end()
            self._cut = end == len(block) and block.endswith(b"\r")
        elif (last := block.rfind(b"\n\n", new)) >= 0:
            end = last + 2
        self._tail = block[end:]
        if len(self._tail) > self._most:
            raise ValueError(f"an event of more than {self._most} bytes")
        return block[:end]

    @property
    def tail(self) -> bytes:
        """What was held back: an event that never ended."""
        return self._tail


def events(block: bytes) -> list[bytes]:
    """Split whole events, each without its end."""
    return [event for event in _END.split(block) if event]


def data_of(event: bytes) -> bytes | None:
    """The data of one event, its lines joined; None for a comment."""
    if event.startswith(b"data:") and b"\n" not in event and b"\r" not in event:
        return event[5:].lstrip(b" ")
    lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def event_of(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def comment_of(text: str) -> bytes:
    return f": {text}\n\n".encode()
