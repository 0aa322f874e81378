"""The one door to Redis (or Valkey).

The gate holds money in flight, so it has a URL of its own (`noeviction`, no persistence needed);
caches and the Celery broker have theirs. All keys of an organization carry one hash tag, so a
cluster spreads organizations and one script still sees all that it needs.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import zlib
from collections.abc import Sequence
from typing import Any

import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff

MOST_PIPELINES = 2
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
    return redis.Redis.from_url(
        settings.GATE_URL,
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


class Script:
    """A Lua script, run by its digest and sent whole only when the server does not know it."""

    def __init__(self, source: str) -> None:
        self.source = source

    def run(self, keys: Sequence[str], arguments: Sequence[str | int] = ()) -> Any:
        return _registered(self.source)(keys=list(keys), args=list(arguments))


@functools.cache
def _registered(source: str) -> Any:
    return gate().register_script(source)


class TickPipeline:
    """Scripts for the event loop: all that are asked for in one tick travel in one pipeline.

    At most MOST_PIPELINES are under way; what is asked for meanwhile gathers for the next one.

    Every script of ours may be repeated. If the outcome stays unknown (the connection broke, the deadline
    passed) the caller is told so and decides.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._batch: list[tuple[str, str, Sequence[Any], asyncio.Future[Any]]] = []
        self._digests: dict[str, str] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._idle: list[Any] = []

    def run(self, source: str, keys: Sequence[str], arguments: Sequence[str | int]) -> asyncio.Future[Any]:
        """Ask for a script; the future carries its answer, or the error of the connection."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        digest = self._digests.get(source)
        if digest is None:
            digest = self._digests[source] = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        self._batch.append((source, digest, (len(keys), *keys, *arguments), answer))
        if len(self._batch) == 1:
            loop.call_soon(self._send)
        return answer

    def _send(self) -> None:
        if not self._batch or len(self._running) >= MOST_PIPELINES:
            return
        batch, self._batch = self._batch, []
        task = asyncio.get_running_loop().create_task(self._execute(batch))
        self._running.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._send()

    async def _execute(self, batch: list[tuple[str, str, Sequence[Any], asyncio.Future[Any]]]) -> None:
        answers: list[Any]
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answers = await self._answers(batch)
        except (redis.RedisError, TimeoutError) as error:
            answers = [error] * len(batch)
        except asyncio.CancelledError:
            for *_, future in batch:
                future.cancel()
            raise
        for (*_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    async def _answers(self, batch: list[tuple[str, str, Sequence[Any], asyncio.Future[Any]]]) -> list[Any]:
        answers = await self._pipeline([("EVALSHA", digest, *rest) for _, digest, rest, _ in batch])
        missing = [n for n, answer in enumerate(answers) if isinstance(answer, ScriptMissing)]
        if missing:
            for source in {entry[0] for entry in batch}:
                await self._client.script_load(source)
            again = await self._pipeline([("EVALSHA", batch[n][1], *batch[n][2]) for n in missing])
            for n, answer in zip(missing, again, strict=True):
                answers[n] = answer
        return answers

    async def _pipeline(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """All commands written at once on one connection, the answers read in order.

        A connection that waited here may have been closed by the server meanwhile, without having taken
        these commands, or having taken them: they go once more, on a new one, since each may be repeated.
        """
        while self._idle:
            try:
                return await self._exchange(self._idle.pop(), commands)
            except redis.ConnectionError:
                continue
        pool: Any = self._client.connection_pool
        return await self._exchange(await pool.get_connection(), commands)

    async def _exchange(self, connection: Any, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Connections are kept here between pipelines: redis-py's pool and pipeline cost three times the CPU.

        One whose answers were not all read is closed: another's reply must never be taken for ours.
        """
        answers: list[Any] = []
        try:
            await connection.send_packed_command(_packed(commands), check_health=False)
            for _ in commands:
                try:
                    answers.append(await connection.read_response())
                except redis.ResponseError as error:
                    answers.append(error)
        except BaseException:
            await connection.disconnect(nowait=True)
            await self._client.connection_pool.release(connection)
            raise
        self._idle.append(connection)
        return answers


def _packed(commands: Sequence[tuple[Any, ...]]) -> bytes:
    """Commands in RESP, the protocol of Redis; arguments are text or whole numbers."""
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for argument in command:
            raw = str(argument).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)
