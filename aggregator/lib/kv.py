"""The one door to Redis (or Valkey).

The gate holds money in flight, so it has a URL of its own (`noeviction`, no persistence needed);
caches and the Celery broker have theirs. All keys of an organization carry one hash tag, so a
cluster spreads organizations and one script still sees all that it needs.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from typing import Any

import redis
import redis.asyncio
from django.conf import settings

Unreachable = (redis.ConnectionError, redis.TimeoutError)
BusyOrFull = redis.ResponseError
ScriptMissing = redis.exceptions.NoScriptError


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
    """A client of the gate for the event loop; it lives as long as the process."""
    return redis.asyncio.Redis.from_url(settings.GATE_URL, decode_responses=True, **options)


class Script:
    """A Lua script, run by its digest and sent whole only when the server does not know it."""

    def __init__(self, source: str) -> None:
        self.source = source

    def run(self, keys: Sequence[str], arguments: Sequence[str | int] = ()) -> Any:
        return _registered(self.source)(keys=list(keys), args=list(arguments))


@functools.cache
def _registered(source: str) -> Any:
    return gate().register_script(source)
