"""Answers that are none, or that stop being one: each by the name of a model of `sandbox-strange`."""

from __future__ import annotations

import asyncio
import gzip

from routing.sandbox.strange import BROKEN, CHUNKED, MEGABYTE, NEVER_BEGUN, PAUSE, STREAM, VALID, Said, named
from routing.sandbox.wire import head

# ── Nothing that can be used ─────────────────────────────────────────────────────────────────────


@named(NEVER_BEGUN)
async def _gzip(said: Said) -> None:
    said.connection.reply(200, gzip.compress(said.whole), {**STREAM, "content-encoding": "gzip"})


@named(NEVER_BEGUN)
async def _page(said: Said) -> None:
    said.connection.reply(200, b"<!doctype html><h1>Welcome</h1>\n\n" * 40, {"content-type": "text/html"})


@named(NEVER_BEGUN)
async def _empty(said: Said) -> None:
    said.connection.reply(200, b"")


@named(NEVER_BEGUN)
async def _redirect(said: Said) -> None:
    said.connection.reply(307, b"", {"location": "http://127.0.0.1:1/"})


@named(NEVER_BEGUN)
async def _accepted(said: Said) -> None:
    said.connection.reply(202, b'{"status":"queued"}')


@named(NEVER_BEGUN)
async def _no_http(said: Said) -> None:
    said.connection.write(b"220 mail.example ESMTP\r\n")
    said.connection.cut()


@named(NEVER_BEGUN)
async def _two_lengths(said: Said) -> None:
    said.connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 9\r\n\r\n" + said.whole)


@named(NEVER_BEGUN)
async def _long_headers(said: Said) -> None:
    said.connection.write(head(200, {**CHUNKED, "x-long": "x" * 70_000}))
    said.connection.chunk(said.whole)


@named(NEVER_BEGUN)
async def _retry_in_an_age(said: Said) -> None:
    said.connection.reply(429, b"{}", {"retry-after": "9" * 5000})


@named(NEVER_BEGUN)
async def _endless_error(said: Said) -> None:
    said.connection.write(head(500, {"transfer-encoding": "chunked"}))
    while not said.connection.closed:
        await said.slowly([b"x" * 65_536])


@named(NEVER_BEGUN)
async def _giant_first(said: Said) -> None:
    said.connection.write(head(200, CHUNKED))
    await said.slowly([b"data: {" + b" " * MEGABYTE, *[b" " * MEGABYTE] * 9])
    said.connection.end()


@named(NEVER_BEGUN)
async def _error_first(said: Said) -> None:
    said.send(b'data: {"error":{"message":"boom","code":500}}\n\n')


@named(NEVER_BEGUN)
async def _error_as_text(said: Said) -> None:
    said.send(b'data: {"error":"boom"}\n\ndata: [DONE]\n\n')


@named(NEVER_BEGUN)
async def _error_by_name(said: Said) -> None:
    said.send(b'event: error\ndata: {"message":"boom","type":"overloaded_error"}\n\n')


@named(NEVER_BEGUN)
async def _error_after_comments(said: Said) -> None:
    said.connection.write(head(200, CHUNKED))
    await said.slowly([b": processing\n\n"] * 3, PAUSE)
    await said.slowly([b'data: {"error":{"message":"boom"}}\n\n'])
    said.connection.end()


@named(NEVER_BEGUN)
async def _only_done(said: Said) -> None:
    said.send(b"data: [DONE]\n\n")


@named(NEVER_BEGUN)
async def _no_unicode(said: Said) -> None:
    said.send(said.whole.replace(b'"id":"', b'"id":"\xff\xfe'))


@named(NEVER_BEGUN)
async def _deep(said: Said) -> None:
    said.send(b'data: {"id":"x","choices":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n\n")


@named(NEVER_BEGUN)
async def _of_another_kind(said: Said) -> None:
    """What answers a request of another kind: the provider mixed two up."""
    said.send(said.whole.replace(b'"object":"chat.completion', b'"object":"embedding'))


# ── Well begun ───────────────────────────────────────────────────────────────────────────────────


@named(BROKEN)
async def _giant_line(said: Said) -> None:
    said.begin()
    await asyncio.sleep(PAUSE)
    await said.slowly([b"data: {" + b" " * MEGABYTE, *[b" " * MEGABYTE] * 9])
    said.connection.end()


@named(BROKEN)
async def _fin_in_chunks(said: Said) -> None:
    said.begin()
    await asyncio.sleep(PAUSE)
    said.connection.write(b"fff\r\ndata: {")
    said.connection.cut()


@named(BROKEN)
async def _fin_of_stated_length(said: Said) -> None:
    begun = b"".join(said.events[:4])
    said.connection.write(head(200, {**STREAM, "content-length": str(len(said.whole))}) + begun)
    await asyncio.sleep(PAUSE)
    said.connection.cut()


@named(BROKEN)
async def _fin_until_close(said: Said) -> None:
    said.connection.write(head(200, {**STREAM, "connection": "close"}) + b"".join(said.events[:4]))
    await asyncio.sleep(PAUSE)
    said.connection.cut()


@named(BROKEN)
async def _half_an_event(said: Said) -> None:
    said.begin()
    await said.slowly([said.events[4][:20]], PAUSE)
    said.connection.end()


@named(BROKEN)
async def _bad_chunk_size(said: Said) -> None:
    said.begin()
    await asyncio.sleep(PAUSE)
    said.connection.write(b"zz\r\n" + said.events[4] + b"\r\n")


@named(BROKEN)
async def _no_unicode_later(said: Said) -> None:
    said.begin()
    await asyncio.sleep(PAUSE)
    await said.slowly([said.events[4].replace(b'"content":"', b'"content":"\xff\xfe')])
    await said.slowly(said.events[5:], 0.01)
    said.connection.end()


@named(BROKEN)
async def _deep_later(said: Said) -> None:
    said.begin()
    await asyncio.sleep(PAUSE)
    await said.slowly([b'data: {"usage":{},"choices":' + b"[" * 100_000 + b"\n\n"])
    said.connection.end()


@named(BROKEN)
async def _error_later(said: Said) -> None:
    said.begin()
    await asyncio.sleep(PAUSE)
    await said.slowly([b'event: error\ndata: {"message":"boom"}\n\n'])
    said.connection.end()


@named(BROKEN)
async def _drip(said: Said) -> None:
    """A byte now and then, for an hour."""
    said.begin()
    await said.slowly([said.events[4][at : at + 1] for at in range(60)] * 60, 1.0)


@named(BROKEN)
async def _comments_for_ever(said: Said) -> None:
    said.begin()
    await said.slowly([b": still here\n\n"] * 3600, 1.0)


@named(BROKEN)
async def _flood(said: Said) -> None:
    """As fast as it is taken, without end."""
    said.begin()
    block = said.events[2] * 200
    while not said.connection.closed:
        await said.slowly([block])


FORMS = (*VALID, *NEVER_BEGUN, *BROKEN)
"""Every form, by name."""
