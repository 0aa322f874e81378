"""HTTP/1.1 on a bare asyncio protocol: lean, and able to misbehave as a server library would not let it.

One task per request, cancelled the moment the client goes away; the time of that is kept, in monotonic
milliseconds, so that a test can see how fast an abort arrived.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import parse_qsl

import httptools

MOST_WAITING = 32
MOST_BODY = 64 * 1024 * 1024
EVENTS = "text/event-stream; charset=utf-8"


@dataclass(slots=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    keep_alive: bool = True


Handler = Callable[[Request, "Connection"], Awaitable[None]]


def now_ms() -> float:
    return time.monotonic() * 1000


class Connection(asyncio.Protocol):
    """One client. A handler answers by `reply`, or by `start_events`, `chunk`, `end`; or breaks it."""

    def __init__(self, handler: Handler, connections: set[Connection]) -> None:
        self._handler = handler
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport
        self._writable = asyncio.Event()
        self._writable.set()
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._target = b""
        self.closed_ms: float | None = None

    # What asyncio tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class stands outside the tree
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed_ms = now_ms()
        self._connections.discard(self)
        self._writable.set()
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # What the parser tells.

    def on_message_begin(self) -> None:
        self._headers, self._body, self._size, self._target = {}, [], 0, b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > MOST_BODY:
            self._transport.close()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        path, _, query = self._target.decode("latin-1").partition("?")
        request = Request(
            method=self._parser.get_method().decode("latin-1"),
            path=path,
            query=dict(parse_qsl(query)),
            headers=self._headers,
            body=b"".join(self._body),
            keep_alive=self._parser.should_keep_alive(),
        )
        if len(self._waiting) >= MOST_WAITING:
            self._transport.close()
            return
        self._waiting.append(request)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        try:
            while self._waiting:
                request = self._waiting.popleft()
                await self._handler(request, self)
                if not request.keep_alive:
                    self._transport.close()
        except asyncio.CancelledError:
            if self.closed_ms is None:
                raise
        except BaseException:
            self._transport.close()
            raise
        finally:
            self._task = None

    # What a handler does.

    @property
    def closed(self) -> bool:
        return self.closed_ms is not None

    def reply(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None, *, length: int | None = None
    ) -> None:
        """A whole answer. A `length` that is not the body's is a lie told on purpose."""
        said = {
            "content-type": "application/json",
            "content-length": str(len(body) if length is None else length),
        }
        self._transport.write(head(status, said | dict(headers or {})) + body)

    def start_events(self, headers: Mapping[str, str] | None = None) -> None:
        said = {"content-type": EVENTS, "cache-control": "no-cache", "transfer-encoding": "chunked"}
        self._transport.write(head(200, said | dict(headers or {})))

    def write(self, data: bytes) -> None:
        """Bytes as they are, outside all framing."""
        self._transport.write(data)

    def chunk(self, data: bytes) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        self._transport.write(b"0\r\n\r\n")

    async def drain(self) -> None:
        """Wait until the client has read enough of what was sent."""
        if not self._writable.is_set():
            await self._writable.wait()

    def cut(self) -> None:
        """Close politely in the middle of whatever was being said."""
        self._transport.close()

    def reset(self) -> None:
        """A TCP reset, as from a crashed process: what is still unsent is thrown away."""
        found: Any = self._transport.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


def head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        *(f"{name}: {text}" for name, text in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
