"""The customer's side of one exchange, over ASGI: body in, bounded; bytes out, watched.

A watch is told of the client's leaving for as long as the call runs; a reader that stalls has left as well,
for its connection is cut. A stream has a timer too: it sends a comment when nothing was sent for a while, so
that no proxy gives up. Bytes are accepted from the provider only as fast as the client takes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.conf import settings

from aggregator.lib.deadlines import within
from aggregator.lib.errors import Refusal
from aggregator.lib.http_server import WHEN_LEFT
from routing.core.sse import comment_of
from routing.idempotency import Kept, Once

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_COMMENT = comment_of("fairlead is waiting for the provider")
STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-accel-buffering", b"no"),
]


class ClientLeft(Exception):
    """The connection ended before the request's body did."""


async def read_body(receive: Receive, declared: str | None) -> bytes:
    """The request's body. Raises Refusal 413 or 408, or ClientLeft."""
    most = settings.MAX_BODY_BYTES
    if declared is not None and declared.isdecimal() and int(declared) > most:
        raise _too_large(most)
    try:
        with within(settings.READ_BODY_SECONDS):
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):
                return _within(message.get("body", b""), most)
            parts = bytearray()
            while message["type"] == "http.request":
                parts += message.get("body", b"")
                if len(parts) > most:
                    raise _too_large(most)
                if not message.get("more_body"):
                    return bytes(parts)
                message = await receive()
    except TimeoutError as error:
        raise Refusal("request_timeout", "The body did not arrive in time.", status=408) from error
    raise ClientLeft


def _within(body: bytes, most: int) -> bytes:
    if len(body) > most:
        raise _too_large(most)
    return body


def _too_large(most: int) -> Refusal:
    return Refusal("payload_too_large", f"The body is longer than {most} bytes.", status=413)


class Watch:
    """Cancels the task of a call when its client leaves."""

    __slots__ = ("_task", "_when_left", "client_left")

    def __init__(self, scope: Message) -> None:
        self.client_left = False
        current = asyncio.current_task()
        assert current is not None  # noqa: S101 (an ASGI application runs in a task)
        self._task = current
        self._when_left = scope["extensions"][WHEN_LEFT]
        self._when_left(self.leave)

    def left(self) -> bool:
        return self.client_left

    def leave(self) -> None:
        self.client_left = True
        self._task.cancel()

    def stop(self) -> None:
        self._when_left(None)


class EventStream:
    """A stream's answer. The status line goes out with the first event, or with the first comment.

    `early` are the headers of an answer that begins with a comment: what is known before any target is.
    """

    __slots__ = (
        "_commenting",
        "_early",
        "_loop",
        "_over",
        "_quiet_since",
        "_send",
        "_timer",
        "_watch",
        "started",
        "waited",
    )

    def __init__(self, send: Send, watch: Watch, *, early: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._watch = watch
        self._early = early
        self._commenting: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._quiet_since = self._loop.time()
        self._over = False
        self.started = False
        self.waited = 0.0
        self._timer = self._loop.call_later(1, self._tick)

    def left(self) -> bool:
        return self._watch.client_left

    async def start(self, headers: list[tuple[bytes, bytes]]) -> None:
        if not self.started:
            self.started = True
            await self._send(
                {"type": "http.response.start", "status": 200, "headers": [*STREAM_HEADERS, *headers]}
            )

    async def send(self, data: bytes) -> None:
        """Answers when the client has taken it, or nearly: at most the server's write buffer waits."""
        began = self._loop.time()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._quiet_since = ended = self._loop.time()
        self.waited += ended - began

    async def end(self) -> None:
        self.stop()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def stop(self) -> None:
        self._over = True
        self._timer.cancel()

    def _tick(self) -> None:
        now = self._loop.time()
        waiting = self._commenting is not None and not self._commenting.done()  # for a reader that stalls
        if now - self._quiet_since >= settings.KEEP_ALIVE_SECONDS and not waiting:
            self._quiet_since = now
            self._commenting = self._loop.create_task(self._comment())
        self._timer = self._loop.call_later(1, self._tick)

    async def _comment(self) -> None:
        if not self._over:  # the answer may have ended between the timer and this task
            await self.start(self._early)
        if not self._over:
            await self._send({"type": "http.response.body", "body": _COMMENT, "more_body": True})


class RecordedStream(EventStream):
    """A stream under an idempotency key: what it carried is kept, before the last of it goes out."""

    __slots__ = ("_body", "_headers", "_once")

    def __init__(self, send: Send, watch: Watch, *, early: list[tuple[bytes, bytes]], once: Once) -> None:
        super().__init__(send, watch, early=early)
        self._once = once
        self._headers = early
        self._body = bytearray()

    async def start(self, headers: list[tuple[bytes, bytes]]) -> None:
        self._headers = headers
        await super().start(headers)

    async def send(self, data: bytes) -> None:
        if len(self._body) <= settings.IDEMPOTENCY_MOST_BYTES:  # beyond, it is not kept anyway
            self._body += data
        if self._once.is_charged() and not self._once.kept:  # these are the last bytes
            await self._once.keep(Kept(200, True, self._headers, bytes(self._body)))
        await super().send(data)
