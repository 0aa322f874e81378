"""The one door to Redis (or Valkey).

The gate holds money in flight, so it has a URL of its own (`noeviction`, no persistence needed);
caches and the Celery broker have theirs. All keys of an organization carry one hash tag, so a
cluster spreads organizations and one script still sees all that it needs.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import math
import zlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff

from aggregator.lib import keepers
from aggregator.lib.deadlines import Deadlines, within

ANSWER_SECONDS = 5.0
"""After that a connection is given up: behind a broken network it would neither answer nor end."""

Unreachable = (redis.ConnectionError, redis.TimeoutError)
Failed = redis.RedisError
ScriptMissing = redis.exceptions.NoScriptError
AsyncClient = redis.asyncio.Redis


def shard(organization: str) -> str:
    """The hash tag of an organization's keys, from its public id."""
    return f"{{{zlib.crc32(organization.encode()) % settings.GATE_SHARDS}}}"


def shards() -> list[str]:
    return [f"{{{number}}}" for number in range(settings.GATE_SHARDS)]


@functools.cache
def gate() -> redis.Redis:
    """The gate for synchronous code: pages, commands, jobs and the data plane's threads."""
    return _client(settings.GATE_URL)


@functools.cache
def cache() -> redis.Redis:
    """The caches for jobs and pages. What lies there may be gone at any moment."""
    return _client(settings.CACHE_URL)


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=2,
        socket_connect_timeout=1,
        health_check_interval=30,
    )


def async_gate(**options: Any) -> redis.asyncio.Redis:
    """A client of the gate for the event loop; it lives as long as the process and never retries."""
    return redis.asyncio.Redis.from_url(
        settings.GATE_URL, decode_responses=True, retry=AsyncRetry(NoBackoff(), 0), **options
    )


def async_cache() -> redis.asyncio.Redis:
    """A client of the caches for the event loop. What lies there may be gone at any moment."""
    return redis.asyncio.Redis.from_url(
        settings.CACHE_URL, decode_responses=True, socket_connect_timeout=1, retry=AsyncRetry(NoBackoff(), 0)
    )


class Script:
    """A Lua script, run by its digest and sent whole only when the server does not know it."""

    def __init__(self, source: str) -> None:
        self.source = source

    def run(self, keys: Sequence[str], arguments: Sequence[str | int] = ()) -> Any:
        return _registered(self.source)(keys=list(keys), args=list(arguments))


@functools.cache
def _registered(source: str) -> Any:
    return gate().register_script(source)


@dataclass(slots=True, eq=False)
class _Asked:
    """A command under way."""

    command: tuple[Any, ...]
    answer: asyncio.Future[Any]
    source: str = ""
    """The script that it runs by its digest."""
    again: bool = False
    """It was sent before: on a connection that broke, or to a server that did not know the script."""


class TickPipeline:
    """Scripts for the event loop: what is asked for in one tick travels in one write, on one connection.

    Answers come in the order of asking, so no batch waits for the one before it. A connection that breaks
    takes nothing with it: every script of ours may be repeated, so what had no answer goes once more, on a
    new one. If the outcome still stays unknown, the caller is told so and decides.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._digests: dict[str, str] = {}
        self._loading: set[str] = set()
        self._waiting: list[_Asked] = []
        self._sent: deque[_Asked] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._serving: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._silence = Deadlines(ANSWER_SECONDS / 8)
        self._heard = False

    def run(
        self, source: str, keys: Sequence[str], arguments: Sequence[str | bytes | int]
    ) -> asyncio.Future[Any]:
        """Ask for a script; the future carries its answer, or the error of the connection."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        digest = self._digests.get(source)
        if digest is None:
            digest = self._digests[source] = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        self._waiting.append(_Asked(("EVALSHA", digest, len(keys), *keys, *arguments), answer, source))
        if self._serving is None:
            self._serving = loop.create_task(self._serve())
        else:
            self._rouse()
        return answer

    async def close(self) -> None:
        if self._serving is not None:
            await keepers.end([self._serving])

    def _rouse(self, _: object = None) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _serve(self) -> None:
        """One connection after the other, each until it breaks, as long as something is asked."""
        try:
            while self._waiting:
                await self._use_connection()
        finally:
            self._serving = None
            left = [*self._sent, *self._waiting]  # only if this task was cancelled, or failed
            self._sent, self._waiting = deque(), []  # else the next one's answers would go to these
            for asked in left:
                asked.answer.cancel()

    async def _use_connection(self) -> None:
        pool: Any = self._client.connection_pool
        try:
            with within(ANSWER_SECONDS):
                connection = await pool.get_connection()
        except _BROKEN as error:
            _fail(self._waiting, _as_told(error))
            self._waiting = []
            return
        reading = self._reading = asyncio.get_running_loop().create_task(self._read(connection))
        reading.add_done_callback(self._rouse)
        try:
            broken = await self._write(connection, reading)
        finally:
            reading.cancel()
            self._silence.remove(self._listen)
            await connection.disconnect(nowait=True)
            await pool.release(connection)
        unanswered, self._sent = self._sent, deque()
        self._loading.clear()
        once_more: list[_Asked] = []
        for asked in unanswered:
            if asked.answer.done():
                continue  # given up: what undoes it may have been asked for since
            if asked.again or isinstance(broken, TimeoutError):
                _fail([asked], broken)
            else:
                asked.again = True
                once_more.append(asked)
        self._waiting = once_more + self._waiting

    async def _write(self, connection: Any, reading: asyncio.Task[None]) -> BaseException:
        """Write what is asked for until the connection breaks; answers why it did."""
        while not reading.done():
            if not self._waiting:
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake
                continue
            batch, self._waiting = self._waiting, []
            if not self._sent:
                self._heard = True
                self._silence.add(self._listen, ANSWER_SECONDS / 2)
            self._sent.extend(batch)
            try:
                with within(ANSWER_SECONDS):
                    await connection.send_packed_command(
                        [part for asked in batch for part in connection.pack_command(*asked.command)],
                        check_health=False,
                    )
            except _BROKEN as error:
                return _as_told(error)
        return TimeoutError() if reading.cancelled() else reading.exception() or redis.ConnectionError()

    async def _read(self, connection: Any) -> None:
        """Hand out answers in the order of asking, until the connection breaks. Raises its error."""
        while True:
            try:
                answer = await connection.read_response(timeout=math.inf)
            except redis.ResponseError as error:
                answer = error
            asked = self._sent.popleft()
            self._heard = True
            if asked.answer.done():
                continue  # given up: nor is it asked again, after what may undo it
            if isinstance(answer, ScriptMissing) and not asked.again:
                self._teach(asked)
            elif isinstance(answer, Exception):
                asked.answer.set_exception(answer)
            else:
                asked.answer.set_result(answer)

    def _teach(self, asked: _Asked) -> None:
        """The server does not know the script: it is sent whole, once, and then asked for again."""
        if asked.source not in self._loading:
            self._loading.add(asked.source)
            load = _Asked(("SCRIPT", "LOAD", asked.source), asyncio.get_running_loop().create_future())
            load.answer.add_done_callback(functools.partial(self._taught, asked.source))
            self._waiting.append(load)
        asked.again = True
        self._waiting.append(asked)
        self._rouse()

    def _taught(self, source: str, told: asyncio.Future[Any]) -> None:
        """It may be forgotten again; one that could not be loaded fails where it is asked for."""
        self._loading.discard(source)
        if not told.cancelled():
            told.exception()

    def _listen(self) -> None:
        """A connection on which nothing is answered any more is given up: it might never end."""
        if not self._sent or self._reading is None:
            return
        if self._heard:
            self._heard = False
            self._silence.add(self._listen, ANSWER_SECONDS / 2)
        else:
            self._reading.cancel()


_BROKEN = (redis.RedisError, OSError, AttributeError, RuntimeError)
"""What asking on a broken connection raises. The last two where its reader has just found it so, or it broke
between two words of its greeting: redis-py has dropped its writer, uvloop its transport."""


def _as_told(error: Exception) -> Exception:
    return redis.ConnectionError(str(error)) if isinstance(error, (AttributeError, RuntimeError)) else error


def _fail(asked: Iterable[_Asked], error: BaseException) -> None:
    for one in asked:
        if not one.answer.done():
            one.answer.set_exception(error)
