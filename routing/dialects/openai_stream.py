"""Streams of the `openai` dialect: a provider's events in, the customer's bytes out, without I/O.

Blocks are forwarded as they arrive: partial events held back, id and model replaced by bytes learnt from
the first event, and only events that can carry usage, an error or a finish reason parsed. From the
chunk that finishes the last choice on, everything is held until the call is settled.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Raw

from aggregator.lib.bodies import in_whole_characters
from billing.core.usage import Usage
from routing.core.failures import MALFORMED, SERVER_ERROR, Failure
from routing.core.sse import Splitter, data_of, event_of, events
from routing.dialects.openai import KIND, NO_JSON, ODD, TEXT
from routing.dialects.openai_usage import read_usage

_DONE = event_of(b"[DONE]")
_NULLS = tuple(
    (b'"' + name + b'"', b'"' + name + b'":null', b'"' + name + b'": null')
    for name in (b"usage", b"finish_reason")
)
_ERROR_BY_NAME = re.compile(rb"(?:^|[\r\n])event: ?error\b")
_BOM = b"\xef\xbb\xbf"
_KEPT_RAW_BYTES = 64 * 1024

_ABSENT = Raw(b"")
_NOTHING = (b"", b"null")


class _Choice(msgspec.Struct):
    index: int = 0
    finish_reason: str | None = None
    usage: Raw = _ABSENT


class _Chunk(msgspec.Struct):
    id: str = ""
    model: str = ""
    object: str | None = None
    created: int = 0
    choices: list[_Choice] | None = None
    usage: Raw = _ABSENT
    error: Raw = _ABSENT


_chunk = msgspec.json.Decoder(_Chunk).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode
_string = msgspec.json.Decoder(str).decode


def _read(data: bytes) -> dict[str, Raw]:
    try:
        return _fields(data)
    except msgspec.DecodeError:
        return _fields(in_whole_characters(data))


def says_something(data: bytes) -> bool:
    """Whether these events hold more than who speaks: text, or a call of a tool."""
    return b'"tool_calls"' in data or any(len(text) > len('""') for text in TEXT.findall(data))


class Reader:
    """One attempt's stream. `feed` raises Failure when the provider sends an error or nonsense."""

    def __init__(
        self,
        *,
        generation_id: str,
        model: str,
        provider: str,
        choices: int,
        most_event_bytes: int,
        most_bytes: int = 64 * 1024 * 1024,
        quirks: Collection[str] = (),
    ) -> None:
        self.usage: Usage | None = None
        self.odd_usage = ""
        """Why what was stated as usage is not, or not all, believed."""
        self.finish_reason = ""
        self.upstream_id = ""
        self.started = False
        """The first valid event was seen: from here on no other target can be tried."""
        self.finished = False
        """The provider said that it is done."""
        self.events = 0
        self.content_bytes = 0
        self._changed = {"id": generation_id, "model": model, "provider": provider}
        self._created = int(time.time())
        self._splitter = Splitter(most_event_bytes)
        self._choices = choices
        self._quirks = quirks
        self._unfinished = choices
        self._finished: set[int] = set()
        self._replace: tuple[tuple[bytes, bytes], ...] | None = None
        self._envelope = 0
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._most_held_bytes = most_event_bytes
        self._most_bytes = most_bytes
        self._raw: list[bytes] = []
        self._raw_size = 0
        self._texts: list[str] = []

    def feed(self, block: bytes) -> bytes:
        """What may go to the customer now; nothing may be forwarded before `started`."""
        try:
            whole = self._splitter.feed(block)
        except ValueError as error:
            raise Failure(MALFORMED, str(error)) from error
        if not whole:
            return b""
        try:
            whole.isascii() or whole.decode()
        except UnicodeDecodeError as error:
            raise Failure(MALFORMED, "an event that is not text") from error
        if self._replace and self._unfinished and self._is_plain(whole):
            self._keep(whole)
            for old, new in self._replace:
                whole = whole.replace(old, new)
            return whole
        return b"".join(filter(None, map(self._one, events(whole))))

    def end(self) -> None:
        """The connection ended in good order. Raises Failure when the stream had not."""
        if not self.finished and self._unfinished:
            raise Failure(MALFORMED, "the stream ended before it was finished")
        self.finished = True

    @property
    def answered(self) -> bool:
        """Every choice is finished; at most a usage is still to come."""
        return self._unfinished <= 0

    # ── Last bytes ───────────────────────────────────────────────────────────────────────────────

    def last(self, usage: dict[str, Any], *, route: dict[str, Any] | None = None) -> bytes:
        """What ends a good stream: the held chunks, the usage chunk, `[DONE]`."""
        changed: dict[str, Any] = {"choices": [], "usage": usage}
        if route is not None:
            changed["route"] = route
        return b"".join([*self._held, event_of(self._own(changed)), _DONE])

    def cut_short(self, notice: dict[str, Any]) -> bytes:
        """What takes the place of the rest when the gateway ends a stream for want of credit."""
        cut = [index for index in range(self._choices) if index not in self._finished]
        choices = [{"index": index, "delta": {}, "finish_reason": "length"} for index in cut]
        return event_of(self._own({"choices": choices, "notice": notice}))

    def failed(self, error: dict[str, Any]) -> bytes:
        """One typed error event, and no `[DONE]` after it."""
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
        return event_of(self._own({"choices": [choice], **error}))

    def text(self) -> str:
        """Everything that the model wrote so far, for a count of our own."""
        self._extract()
        return "".join(self._texts)

    # ── Inside ───────────────────────────────────────────────────────────────────────────────────

    @staticmethod
    def _is_plain(whole: bytes) -> bool:
        """Whether nothing in these events can be of interest: told by counting, cheaper than by a search."""
        ends = whole.count(b"\n\n")
        if (
            not whole.startswith(b"data: {")
            or whole.count(b"\n\ndata: {") != ends - 1
            or whole.count(b"}\n\n") != ends
            or b'"error"' in whole
            or b"[DONE]" in whole
        ):
            return False
        for name, null, spaced in _NULLS:
            named = whole.count(name)
            if named and named != whole.count(null) and named != whole.count(spaced):
                return False
        return True

    def _one(self, event: bytes) -> bytes:
        if not self.started:
            event = event.removeprefix(_BOM)
        data = data_of(event)
        if data is None or self.finished:
            return b""
        if data == b"[DONE]":
            self.finished = True
            return b""
        try:
            chunk = self._understood(event, data)
            if bytes(chunk.usage) not in _NOTHING:
                self._read_usage(chunk.usage)
                if not chunk.choices:
                    return b""
                data = self._without_usage(data)
            elif chunk.choices and self._choices == 1 and bytes(chunk.choices[0].usage) not in _NOTHING:
                self._read_usage(chunk.choices[0].usage)  # where Moonshot states it
        except NO_JSON as error:
            raise Failure(MALFORMED, "an event that is not JSON") from error
        self._keep(data)
        out = event_of(self._renamed(data))
        for choice in chunk.choices or ():
            if choice.finish_reason:
                self.finish_reason = choice.finish_reason
                self._finished.add(choice.index)
                self._unfinished -= 1
        if self._unfinished <= 0:
            self._held.append(out)
            self._held_bytes += len(out)
            if self._held_bytes > self._most_held_bytes:
                raise Failure(MALFORMED, "a stream that goes on after its end")
            return b""
        return out

    def _read_usage(self, raw: Raw) -> None:
        """What is stated again while a stream runs grows: what shrinks is a mistake, not the last word."""
        found = read_usage(raw, self._quirks)
        if found is None:
            self.odd_usage = ODD
        elif self.usage is None or found.completion >= self.usage.completion:
            self.usage = found
        else:
            self.odd_usage = "shrinks"

    def _understood(self, event: bytes, data: bytes) -> _Chunk:
        try:
            chunk = _chunk(data)
        except msgspec.DecodeError:
            chunk = _chunk(in_whole_characters(data))
        if bytes(chunk.error) not in _NOTHING or _ERROR_BY_NAME.search(event):
            raise Failure(SERVER_ERROR, "the provider reported an error inside the stream")
        if not self.started:
            self._learn(data, chunk)
        return chunk

    def _learn(self, data: bytes, chunk: _Chunk) -> None:
        if chunk.choices is None or not (chunk.object or KIND).startswith(KIND):
            raise Failure(MALFORMED, "an answer of another kind")
        self.started = True
        self.upstream_id = chunk.id
        self._created = chunk.created or self._created
        spaced = b'": "' if b'"choices": ' in data else b'":"'
        pairs = []
        for name, value in (("id", chunk.id), ("model", chunk.model)):
            old = b'"' + name.encode() + spaced + value.encode() + b'"'
            if data.count(old) != 1:
                return  # unusual bytes: every event of this stream is then rewritten field by field
            new = b'"' + name.encode() + b'":' + _encode(self._changed[name])
            if name == "model":
                new += b',"provider":' + _encode(self._changed["provider"])
            pairs.append((old, new))
        self._replace = tuple(pairs)

    def _renamed(self, data: bytes) -> bytes:
        if self._replace:
            for old, new in self._replace:
                if old not in data:
                    break
                data = data.replace(old, new)
            else:
                return data
        return _encode({**_read(data), **self._changed})

    @staticmethod
    def _without_usage(data: bytes) -> bytes:
        fields = _read(data)
        del fields["usage"]
        return _encode(fields)

    def _own(self, changed: dict[str, Any]) -> bytes:
        head = {"id": self._changed["id"], "object": "chat.completion.chunk", "created": self._created}
        return _encode(
            {**head, "model": self._changed["model"], "provider": self._changed["provider"], **changed}
        )

    def _keep(self, whole: bytes) -> None:
        count = whole.count(b"data: {") or 1
        if not self.events:
            self._envelope = len(whole) // count
        self.events += count
        self.content_bytes += max(0, len(whole) - count * self._envelope)
        self._raw.append(whole)
        self._raw_size += len(whole)
        if self._raw_size > _KEPT_RAW_BYTES:
            self._extract()
            if self.content_bytes > self._most_bytes:
                raise Failure(MALFORMED, f"an answer of more than {self._most_bytes} bytes")

    def _extract(self) -> None:
        for found in TEXT.findall(b"".join(self._raw)):
            try:
                self._texts.append(_string(found))
            except NO_JSON:  # passed on unread: a count needs the text only nearly
                self._texts.append(found[1:-1].decode("utf-8", "replace"))
        self._raw.clear()
        self._raw_size = 0
