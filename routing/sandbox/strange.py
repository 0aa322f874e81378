"""Answers in strange forms, byte by byte: some are valid and merely unusual, others are none at all.

Served as `sandbox-strange`, which no catalog file lists: a test does, when it needs one. A whole answer comes
in, as the events of a stream or as one body, and the name of the model says in which form it goes out.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from routing.sandbox.wire import EVENTS, Connection, head

PAUSE = 0.1
"""What was sent before it is read on its own, also by a gateway that is busy."""
MEGABYTE = 1024 * 1024
STREAM = {"content-type": EVENTS}
CHUNKED = {**STREAM, "transfer-encoding": "chunked"}
_OTHER_REPLY = b'{"id":"chatcmpl-of-another","object":"chat.completion","created":1,"model":"x","choices":[]}'


@dataclass(frozen=True, slots=True)
class Said:
    """What would have been answered: `events` of a stream, each with its blank line, `[DONE]` last."""

    connection: Connection
    events: list[bytes]

    @property
    def whole(self) -> bytes:
        return b"".join(self.events)

    def begin(self) -> None:
        """The headers and the first events of a stream."""
        self.connection.write(head(200, CHUNKED))
        self.connection.chunk(b"".join(self.events[:4]))

    def send(self, data: bytes) -> None:
        """`data` as a whole stream, in good order."""
        self.connection.write(head(200, CHUNKED))
        self.connection.chunk(data)
        self.connection.end()

    async def slowly(self, blocks: list[bytes], seconds: float = 0.0) -> None:
        for block in blocks:
            self.connection.chunk(block)
            await self.connection.drain()
            await asyncio.sleep(seconds)


Form = Callable[[Said], Awaitable[None]]
VALID: dict[str, Form] = {}
"""A customer gets the whole answer."""
NEVER_BEGUN: dict[str, Form] = {}
"""Nothing of these can be used: the next endpoint is tried."""
BROKEN: dict[str, Form] = {}
"""These begin well."""


def named(among: dict[str, Form]) -> Callable[[Form], Form]:
    def register(form: Form) -> Form:
        among[form.__name__.strip("_").replace("_", "-")] = form
        return form

    return register


async def speak(name: str, connection: Connection, events: list[bytes]) -> str:
    """Answer in the form of that name; the ending, as the bill has it."""
    form = VALID.get(name) or NEVER_BEGUN.get(name) or BROKEN[name]
    await form(Said(connection, events))
    return "complete" if name in VALID else "malformed"


# ── Unusual, and valid ───────────────────────────────────────────────────────────────────────────


@named(VALID)
async def _crlf(said: Said) -> None:
    said.send(said.whole.replace(b"\n", b"\r\n"))


@named(VALID)
async def _cr(said: Said) -> None:
    said.send(said.whole.replace(b"\n", b"\r"))


@named(VALID)
async def _mixed_ends(said: Said) -> None:
    ends = itertools.cycle((b"\n\r\n", b"\r\n\n", b"\r\r\n", b"\n\n", b"\r\n\r", b"\r\n\r\n", b"\n\r"))
    said.send(b"".join(event[:-2] + end for event, end in zip(said.events, ends, strict=False)))


@named(VALID)
async def _bom(said: Said) -> None:
    said.send(b"\xef\xbb\xbf" + said.whole)


@named(VALID)
async def _no_space(said: Said) -> None:
    said.send(b"".join(b"data:" + event[6:] for event in said.events))


@named(VALID)
async def _data_on_several_lines(said: Said) -> None:
    said.send(said.whole.replace(b',"choices":', b',\ndata: "choices":'))


@named(VALID)
async def _named_events(said: Said) -> None:
    said.send(b"".join(b"event: message\nid: 1\nretry: 10\n" + event for event in said.events))


@named(VALID)
async def _comment_flood(said: Said) -> None:
    said.connection.write(head(200, CHUNKED))
    flood = (b": " + b"x" * 8190 + b"\n\n") * 16
    for event in said.events:
        await said.slowly([flood, event])
    said.connection.end()


@named(VALID)
async def _single_bytes(said: Said) -> None:
    said.connection.write(head(200, CHUNKED))
    for at in range(len(said.whole)):
        said.connection.chunk(said.whole[at : at + 1])
        if at % 64 == 0:
            await asyncio.sleep(0)
    said.connection.end()


@named(VALID)
async def _cut_inside_characters(said: Said) -> None:
    said.connection.write(head(200, CHUNKED))
    cuts = [0, *(at for at, byte in enumerate(said.whole) if byte & 0xC0 == 0x80), len(said.whole)]
    await said.slowly([said.whole[a:b] for a, b in itertools.pairwise(cuts)], 0.01)
    said.connection.end()


@named(VALID)
async def _of_stated_length(said: Said) -> None:
    said.connection.write(head(200, {**STREAM, "content-length": str(len(said.whole))}) + said.whole)


@named(VALID)
async def _until_close(said: Said) -> None:
    said.connection.write(head(200, {**STREAM, "connection": "close"}) + said.whole)
    said.connection.cut()


@named(VALID)
async def _no_end_after_done(said: Said) -> None:
    said.connection.write(head(200, CHUNKED))
    said.connection.chunk(said.whole)
    await asyncio.sleep(PAUSE)
    said.connection.cut()


@named(VALID)
async def _informational(said: Said) -> None:
    said.connection.write(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nset-cookie: early=1\r\n\r\n"
    )
    await asyncio.sleep(PAUSE)
    said.send(said.whole)


@named(VALID)
async def _curious_headers(said: Said) -> None:
    """What a proxy must not pass on, and a trailer."""
    curious = {
        "set-cookie": "session=of-the-provider",
        "connection": "keep-alive, x-secret",
        "x-secret": "of-the-provider",
        "x-generation-id": "gen-of-the-provider",
        "x-ratelimit-remaining": "77777",
        "www-authenticate": "Basic",
        "content-security-policy": "default-src 'none'",
        "strict-transport-security": "max-age=1",
        "trailer": "x-trailing",
    }
    said.connection.write(head(200, {**CHUNKED, **curious}))
    said.connection.write(b"%x;name=value\r\n%b\r\n" % (len(said.whole), said.whole))
    said.connection.write(b"0\r\nx-trailing: of-the-provider\r\nset-cookie: late=1\r\n\r\n")


@named(VALID)
async def _after_done(said: Said) -> None:
    said.send(said.whole + said.events[1] + b"data: nonsense\n\n" + b"data: [DONE]\n\n")


@named(VALID)
async def _left_over(said: Said) -> None:
    """Another's answer follows at once on the same connection."""
    said.send(said.whole)
    said.connection.reply(200, _OTHER_REPLY)


@named(VALID)
async def _late_left_over(said: Said) -> None:
    """Another's answer follows once the connection has gone back to where it is kept."""
    said.send(said.whole)
    await asyncio.sleep(2 * PAUSE)
    said.connection.reply(200, _OTHER_REPLY)
