"""The one door to providers: a pool of connections for each, every deadline finite.

Foreign errors are translated here, once, into `failures.Failure`. A managed key is sent only to the base
URL that its provider is configured with: nothing is redirected, and no proxy is read from the environment.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
import urllib.parse
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from aggregator.lib import keepers
from aggregator.lib.deadlines import within
from routing.failures import MALFORMED, TIMEOUT, UNREACHABLE, Failure
from routing.http1 import Broken, Pool
from routing.http1 import Response as Response
from routing.listing import Endpoint, Provider

_MOST_ERROR_BYTES = 64 * 1024
_DRAIN_SECONDS = 1.0
_PORTS = {"http": 80, "https": 443}
_FOREIGN = (Broken, OSError)


@dataclass(frozen=True, slots=True)
class Host:
    """Where a provider is."""

    provider: Provider
    pool: Pool
    heads: dict[str, bytes]
    """How a request begins, by path; only the length of its body is to be added."""


@dataclass(slots=True)
class Upstream:
    """Lives as long as the process. A provider that hangs cannot use up another's connections."""

    _hosts: dict[str, Host] = field(default_factory=dict)
    _draining: set[asyncio.Task[None]] = field(default_factory=set)

    async def post(self, endpoint: Endpoint, path: str, body: bytes, *, idle_seconds: float) -> Response:
        """Send; answers when the provider's headers are there, whatever its status. Raises Failure.

        `idle_seconds` bounds every wait for the next bytes of the answer.
        """
        host = self._host(endpoint.provider)
        head = host.heads.get(path)
        if head is None:
            head = host.heads[path] = _head(endpoint.provider, path)
        try:
            return await host.pool.ask(b"%b%d\r\n\r\n%b" % (head, len(body), body), idle_seconds=idle_seconds)
        except _FOREIGN as error:
            raise translated(error) from error

    async def read(self, response: Response, *, most: int) -> bytes:
        """The whole body, bounded. Raises Failure."""
        body = await next_block(response)
        if not response.ended:
            parts = bytearray(body)
            while block := await next_block(response):
                parts += block
                if len(parts) > most:
                    break
            body = bytes(parts)
        if len(body) > most:
            raise Failure(MALFORMED, f"an answer of more than {most} bytes")
        return body

    async def read_error(self, response: Response) -> bytes:
        return await self.read(response, most=_MOST_ERROR_BYTES)

    def finish(self, response: Response) -> None:
        """After a stream said that it is done: its connection is kept if the end of the body follows."""
        if response.whole:
            response.release()
            return
        self.detach(_drain(response))

    def detach(self, work: Coroutine[Any, Any, None]) -> None:
        """Work on an answer that nobody waits for; it ends with the process."""
        task = asyncio.get_running_loop().create_task(work)
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def close(self) -> None:
        await keepers.end(self._draining)
        for host in self._hosts.values():
            host.pool.close()
        await asyncio.sleep(0)  # for the transports to close their sockets

    def _host(self, provider: Provider) -> Host:
        host = self._hosts.get(provider.slug)
        if host is None or host.provider is not provider:
            old, host = host, _located(provider)
            if old is not None and old.provider.base_url == provider.base_url:
                host = Host(provider, old.pool, {})
            elif old is not None:
                old.pool.retire()
            self._hosts[provider.slug] = host
        return host


async def next_block(response: Response) -> bytes:
    """Whatever has arrived, at least something unless the answer has ended. Raises Failure."""
    try:
        return await response.read()
    except _FOREIGN as error:
        raise translated(error) from error


def translated(error: BaseException) -> Failure:
    if isinstance(error, TimeoutError):
        return Failure(TIMEOUT, "the provider did not answer in time")
    return Failure(UNREACHABLE, type(error).__name__)


def _located(provider: Provider) -> Host:
    where = urllib.parse.urlsplit(provider.base_url)
    pool = Pool(
        where.hostname or "",
        where.port or _PORTS[where.scheme],
        _tls() if where.scheme == "https" else None,
        most=settings.PROVIDER_CONNECTIONS,
        connect_seconds=settings.CONNECT_SECONDS,
    )
    return Host(provider, pool, {})


def _head(provider: Provider, path: str) -> bytes:
    where = urllib.parse.urlsplit(provider.base_url)
    lines = (
        f"POST {where.path.rstrip('/')}{path} HTTP/1.1",
        f"Host: {where.netloc}",
        f"Authorization: Bearer {provider.api_key}",
        "Content-Type: application/json",
        "Accept: */*",
        "Accept-Encoding: identity",
        "User-Agent: fairlead/1",
        "Content-Length: ",
    )
    return "\r\n".join(lines).encode()


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


async def _drain(response: Response) -> None:
    try:
        with within(_DRAIN_SECONDS):
            while not response.ended:
                await response.read()
    except _FOREIGN:
        pass
    finally:
        response.release()
