"""HTTP/1.1 on one connection: one exchange at a time. llhttp parses, by httptools.

A general client spends more on a call than all the rest of the gateway does, on tasks, timers and objects
that this one has no use for: here a call is one write, an answer is the blocks of its body as they come.

A connection is used again only after an answer that ended as its head said, with nothing behind it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

import httptools

from aggregator.lib.deadlines import Deadlines

MOST_FRAMING_BYTES = 64 * 1024
"""Of a head, or of what frames a body: the parser keeps a trailer until it ends. One read may be longer."""
BUFFER_BYTES = 64 * 1024
"""How much of a body may wait for its reader before the provider has to wait as well."""

_LENGTH = {b"content-length", b"transfer-encoding"}  # without either, a body ends with its connection
_idle = Deadlines(0.5)


class Broken(Exception):
    """The connection was refused, closed or reset in mid-exchange, or what came is not HTTP."""


class Response:
    """An answer under way. `status` is there from the start; its body comes block by block."""

    __slots__ = (
        "_blocks",
        "_connection",
        "_error",
        "_idle_seconds",
        "_waiter",
        "_waiting_bytes",
        "headers",
        "heard",
        "status",
        "when_over",
        "whole",
    )

    def __init__(self, connection: Connection, idle_seconds: float) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        """By lower-case name; of several with one name, the last."""
        self.whole = False
        """The body has ended in good order; blocks of it may still wait to be read."""
        self._connection = connection
        self._idle_seconds = idle_seconds
        self._blocks: list[bytes] = []
        self._waiting_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self.when_over: Callable[[], None] | None = None
        self.heard = time.monotonic()
        _idle.add(self._look, idle_seconds)

    @property
    def ended(self) -> bool:
        """Nothing more will come, and nothing waits to be read."""
        return self.whole and not self._blocks

    async def head(self) -> None:
        """Until status and headers are there. Raises Broken or TimeoutError."""
        while not self.status:
            await self._wait()

    async def read(self) -> bytes:
        """What has arrived; b"" only once the body has ended. Raises Broken or TimeoutError."""
        while not self._blocks:
            if self.whole:
                return b""
            await self._wait()
        blocks = self._blocks
        data = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        blocks.clear()
        self._waiting_bytes = 0
        if self._connection.paused:
            self.heard = time.monotonic()
            self._connection.resume()
        return data

    def expect_within(self, seconds: float) -> None:
        """From now on, this bounds every wait for more of the answer."""
        self._idle_seconds = seconds
        if not self.whole and self._error is None:
            _idle.add(self._look, seconds)

    def release(self) -> None:
        """No more of it is wanted. The connection is kept if the answer is whole, and cut if it is not."""
        _idle.remove(self._look)
        self._connection.over(self)
        if self.when_over is not None:
            self.when_over()
            self.when_over = None

    # ── The connection's side ────────────────────────────────────────────────────────────────────

    def arrived(self, block: bytes) -> bool:
        """Whether the connection should read on."""
        self._blocks.append(block)
        self._waiting_bytes += len(block)
        return self._waiting_bytes <= BUFFER_BYTES

    def completed(self) -> None:
        self.whole = True
        _idle.remove(self._look)

    def fail(self, error: Exception) -> None:
        if not self.whole and self._error is None:
            self._error = error
            _idle.remove(self._look)
            self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _look(self) -> None:
        """Nothing was heard for too long, unless it is we who do not read."""
        left = self.heard + self._idle_seconds - time.monotonic()
        if self._connection.paused:
            left = self._idle_seconds
        if left > 0:
            _idle.add(self._look, left)
        else:
            self.fail(TimeoutError())
            self._connection.cut()


class Owner(Protocol):
    """Who hands a connection out, exchange after exchange."""

    def take_back(self, connection: Connection) -> None: ...

    def lost(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    def __init__(self, pool: Owner) -> None:
        self._pool = pool
        self._parser: Any = httptools.HttpResponseParser(self)
        self._transport: Any = None
        self._response: Response | None = None
        self._framing_bytes = 0
        self._head_bytes = 0
        self._may_keep = True
        self.paused = False
        self.idle_since = 0.0

    def ask(self, request: bytes, *, idle_seconds: float) -> Response:
        response = self._response = Response(self, idle_seconds)
        self._framing_bytes = self._head_bytes = 0
        self._transport.write(request)
        return response

    def over(self, response: Response) -> None:
        """This exchange is done with."""
        if response is not self._response:
            return
        self._response = None
        kept = response.whole and self._may_keep and not self.paused
        if kept and not self._transport.get_write_buffer_size():
            self._pool.take_back(self)
        else:
            self.cut()

    def cut(self) -> None:
        self._may_keep = False
        self._transport.abort()

    @property
    def usable(self) -> bool:
        return self._may_keep and not self._transport.is_closing()

    def resume(self) -> None:
        self.paused = False
        self._transport.resume_reading()

    # ── What the transport tells ─────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None or response.whole:  # nobody asked for this
            self.cut()
            return
        response.heard = time.monotonic()
        self._framing_bytes += len(data)  # until something of a body is found in it
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._may_keep = False
            if not response.whole:
                response.fail(Broken(f"not HTTP/1.1: {error}"))
                self._transport.abort()
        if self._framing_bytes > MOST_FRAMING_BYTES and not response.whole:
            response.status = 0  # a head that is too long is none
            response.fail(Broken("the head of the answer, or what frames its body, is too long"))
            self._transport.abort()
        response.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._may_keep = False
        self._parser = None
        self._pool.lost(self)
        response = self._response
        if response is None or response.whole:
            return
        if exc is None and response.status and not _LENGTH & response.headers.keys():
            response.completed()
            response.wake()
        else:
            response.fail(Broken(type(exc).__name__ if exc else "closed before the end of the answer"))

    # ── What the parser tells ────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        if self._response is None or self._response.whole:
            self._may_keep = False  # something follows an answer that had ended

    def on_header(self, name: bytes, value: bytes) -> None:
        response = self._response
        if response is not None and not response.status:  # else a trailer
            self._head_bytes += len(name) + len(value)
            response.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        response = self._response
        if response is None or response.whole:
            return
        status = self._parser.get_status_code()
        if self._head_bytes > MOST_FRAMING_BYTES:
            self._may_keep = False
            response.fail(Broken("the head of the answer is too long"))
        elif status < 200:  # 100 Continue, 103 Early Hints: the answer comes after it
            response.headers.clear()
        else:
            response.status = status

    def on_body(self, body: bytes) -> None:
        response = self._response
        if response is None or response.whole:
            return
        self._framing_bytes = 0
        if not response.arrived(body) and not self.paused:
            self.paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        response = self._response
        if response is not None and response.status and not response.whole:
            self._may_keep = self._may_keep and self._parser.should_keep_alive()
            response.completed()
