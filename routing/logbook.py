"""What a gateway worker has yet to log: kept in memory within a bound, sealed and written behind the calls.

No call waits for it or fails for it. What finds no room is dropped and counted; so is what a process that
dies had not written yet. Nothing of it touches a file or Redis.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from django.conf import settings
from django.db import DatabaseError, DataError, IntegrityError

from aggregator.lib import clock
from aggregator.lib.threads import in_pool
from routing import request_logs
from routing.call import Call
from routing.core.kept import Content, Text
from routing.request_logs import Entry

log = logging.getLogger(__name__)

_BATCH_SECONDS = 0.2
_AGAIN_SECONDS = 1.0
_CLOSE_SECONDS = 5.0
_MOST_AT_ONCE = 100
_OVERHEAD = 512
"""What a call takes up beside its texts."""
_encode = msgspec.json.Encoder().encode

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


class Page:
    """One call that is to be logged: what it was sent is known, what it answers is heard as it goes out."""

    __slots__ = ("_book", "_call", "_lost", "_reply", "_request", "_size", "_taken", "_wants_reply")

    def __init__(self, book: Logbook, call: Call, body: bytes) -> None:
        asked = call.principal.logging
        assert asked is not None  # noqa: S101 (whoever makes a page has looked)
        self._book, self._call = book, call
        self._reply, self._size, self._taken, self._lost = bytearray(), 0, 0, False
        self._wants_reply = asked.reply
        self._request = Text(body[: settings.LOG_MOST_BYTES], len(body)) if asked.request else None
        self._take(_OVERHEAD + (len(self._request.data) if self._request else 0))

    def tap(self, send: Send) -> Send:
        """The same `send`, overheard."""
        if not self._wants_reply:
            return send

        async def overheard(message: Message) -> None:
            if message["type"] == "http.response.body":
                self._hear(message.get("body", b""))
            await send(message)

        return overheard

    def refused(self, body: dict[str, Any]) -> None:
        """The call ended in an error that its own answer did not carry."""
        if self._wants_reply:
            self._hear(_encode(body))

    def close(self) -> None:
        """The call has ended, however it did."""
        principal, call = self._call.principal, self._call
        if self._lost or principal.logging is None:
            self._book.drop(principal.organization_id, self._taken)
            return
        reply = Text(bytes(self._reply), self._size) if self._wants_reply else None
        self._book.put(
            Entry(
                call.id,
                principal.organization_id,
                principal.organization,
                principal.key_id,
                principal.logging.log_key_id,
                clock.now(),
                Content(self._request, reply, call.chat.stream),
            ),
            self._taken,
        )

    def _hear(self, data: bytes) -> None:
        self._size += len(data)
        room = settings.LOG_MOST_BYTES - len(self._reply)
        if room > 0 and data and not self._lost:
            self._take(min(room, len(data)))
            self._reply += data[:room]

    def _take(self, size: int) -> None:
        if not self._lost and not self._book.take(size):
            self._lost, self._request, self._reply = True, None, bytearray()
            return
        self._taken += size


class Logbook:
    def __init__(self) -> None:
        self.room = settings.LOG_BUFFER_BYTES
        self.dropped = 0
        """Calls of this worker that should have been logged and were not."""
        self._waiting: deque[tuple[Entry, int]] = deque()
        self._lost: Counter[int] = Counter()
        self._some = asyncio.Event()

    def page(self, call: Call, body: bytes) -> Page:
        return Page(self, call, body)

    def take(self, size: int) -> bool:
        if size > self.room:
            return False
        self.room -= size
        return True

    def put(self, entry: Entry, size: int) -> None:
        self._waiting.append((entry, size))
        self._some.set()

    def drop(self, organization_id: int, size: int) -> None:
        self.room += size
        self._lost[organization_id] += 1
        self.dropped += 1
        self._some.set()

    async def keep(self) -> None:
        """Write what has come together, for ever. While PostgreSQL is away, what waits waits."""
        while True:
            await self._some.wait()
            await asyncio.sleep(_BATCH_SECONDS)
            try:
                await self._write()
            except DatabaseError as error:
                log.warning("request logs wait to be written", extra={"error": str(error)[:200]})
                await asyncio.sleep(_AGAIN_SECONDS)

    async def close(self) -> None:
        """One last try: what cannot be written now is gone with the process."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                while self._waiting or self._lost:
                    await self._write()
        except (DatabaseError, TimeoutError):
            lost = len(self._waiting) + self._lost.total()
            log.error("request logs are lost with the process", extra={"calls": lost})

    async def _write(self) -> None:
        batch = [self._waiting[at] for at in range(min(len(self._waiting), _MOST_AT_ONCE))]
        lost = Counter(self._lost)
        try:
            unsealed = await in_pool(_pool(), request_logs.write, [entry for entry, _ in batch], lost)
        except (DataError, IntegrityError) as error:
            # It would be refused for ever, and hold up what comes after it.
            log.exception("request logs were refused", extra={"calls": len(batch), "error": str(error)[:200]})
            unsealed, lost = len(batch), Counter()
            self._lost.update(entry.organization_id for entry, _ in batch)
        self.dropped += unsealed
        self._lost -= lost
        for _ in batch:
            self.room += self._waiting.popleft()[1]
        if not self._waiting and not self._lost:
            self._some.clear()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """Its own: sealing and writing hold up nobody's keys or money."""
    return ThreadPoolExecutor(1, thread_name_prefix="logbook")
