"""The one door to providers: aiohttp with a pool for each provider, every deadline finite.

Foreign errors are translated here, once, into `failures.Failure`. A managed key is sent only to the
base URL that its provider is configured with: redirects are off, and no proxy is read from the
environment. aiohttp sets TCP_NODELAY on each connection.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from django.conf import settings

from routing.failures import MALFORMED, TIMEOUT, UNREACHABLE, Failure
from routing.listing import Endpoint, Provider

Response = aiohttp.ClientResponse
"""A provider's answer whose body is still to be read."""
Content = aiohttp.StreamReader

_HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "fairlead/1"}
_MOST_ERROR_BYTES = 64 * 1024
_DRAIN_SECONDS = 1.0


@dataclass(slots=True)
class Upstream:
    """Lives as long as the process. A provider that hangs cannot use up another's connections."""

    _sessions: dict[str, aiohttp.ClientSession] = field(default_factory=dict)
    _draining: set[asyncio.Task[None]] = field(default_factory=set)

    async def post(
        self, endpoint: Endpoint, path: str, body: bytes, *, idle_seconds: int
    ) -> aiohttp.ClientResponse:
        """Send; answers when the provider's headers are there, whatever its status. Raises Failure.

        `idle_seconds` bounds every wait for the next bytes of the answer.
        """
        provider = endpoint.provider
        headers = {"Authorization": f"Bearer {provider.api_key}"}
        session = self._session(provider)
        try:
            return await session.post(
                provider.base_url + path,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=_timeout(idle_seconds),
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise translated(error) from error

    def expect_within(self, response: aiohttp.ClientResponse, seconds: int) -> None:
        """From now on, this bounds every wait for the next bytes of this answer."""
        if response.connection is not None and response.connection.protocol is not None:
            response.connection.protocol.read_timeout = seconds

    async def read(self, response: aiohttp.ClientResponse, *, most: int) -> bytes:
        """The whole body, bounded. Raises Failure."""
        try:
            body = bytearray()
            async for block in response.content.iter_any():
                body += block
                if len(body) > most:
                    raise Failure(MALFORMED, f"an answer of more than {most} bytes")
            return bytes(body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise translated(error) from error

    async def read_error(self, response: aiohttp.ClientResponse) -> bytes:
        return await self.read(response, most=_MOST_ERROR_BYTES)

    def finish(self, response: aiohttp.ClientResponse) -> None:
        """After a stream said that it is done: its connection is kept if the end of the body follows."""
        if response.content.at_eof():
            response.release()
            return
        self.detach(_drain(response))

    def detach(self, work: Coroutine[Any, Any, None]) -> None:
        """Work on an answer that nobody waits for; it ends with the process."""
        task = asyncio.get_running_loop().create_task(work)
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def close(self) -> None:
        for task in list(self._draining):
            task.cancel()
        await asyncio.gather(*self._draining, return_exceptions=True)
        for session in self._sessions.values():
            await session.close()

    def _session(self, provider: Provider) -> aiohttp.ClientSession:
        session = self._sessions.get(provider.slug)
        if session is None:
            session = self._sessions[provider.slug] = aiohttp.ClientSession(
                connector=_Connector(limit=settings.PROVIDER_CONNECTIONS, ttl_dns_cache=60),
                timeout=_timeout(settings.IDLE_SECONDS),
                headers=_HEADERS,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                read_bufsize=64 * 1024,
            )
        return session


class _Protocol(ResponseHandler):
    """aiohttp's own leaves whoever reads a body waiting for ever when the chunks of that body are no HTTP."""

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        super().set_exception(exc, *cause)
        payload = self._payload
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            known = isinstance(exc, (aiohttp.ClientError, TimeoutError, OSError))
            payload.set_exception(exc if known else aiohttp.ClientPayloadError(str(exc)), *cause)


class _Connector(aiohttp.TCPConnector):
    """A connection on which something arrived that nobody asked for is never used again.

    aiohttp would take it for the answer to the next request: one customer would read what is another's.
    """

    def __init__(self, *, limit: int, ttl_dns_cache: int) -> None:
        super().__init__(limit=limit, ttl_dns_cache=ttl_dns_cache)
        self._factory = functools.partial(_Protocol, loop=self._loop)  # type: ignore[assignment]

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        return None


@functools.cache
def _timeout(idle_seconds: int) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=settings.CONNECT_SECONDS, sock_read=idle_seconds)


async def next_block(content: Content) -> bytes:
    """Whatever has arrived, at least something unless the answer has ended. Raises Failure."""
    try:
        return await content.readany()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise translated(error) from error


def translated(error: BaseException) -> Failure:
    if isinstance(error, TimeoutError):
        return Failure(TIMEOUT, "the provider did not answer in time")
    return Failure(UNREACHABLE, type(error).__name__)


async def _drain(response: aiohttp.ClientResponse) -> None:
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while not response.content.at_eof():
                await response.content.readany()
        response.release()
    except (aiohttp.ClientError, TimeoutError, OSError):
        response.close()
