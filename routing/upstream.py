"""The one door to providers: a pool of connections for each, every deadline finite.

Foreign errors are translated here, once, into `failures.Failure`. A managed key is sent only to the base
URL that its provider is configured with: nothing is redirected, and no proxy is read from the environment.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
import time
import urllib.parse
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from aggregator.lib import keepers
from aggregator.lib.deadlines import within
from routing.connection_pool import Full, Pool
from routing.core.failures import CREDENTIALS, FULL, MALFORMED, TIMEOUT, UNREACHABLE, Failure
from routing.core.keychain import Keychain
from routing.core.listing import Endpoint, ManagedKey, Provider
from routing.http1 import Broken
from routing.http1 import Response as Response

log = logging.getLogger(__name__)

_MOST_ERROR_BYTES = 64 * 1024
_DRAIN_SECONDS = 1.0
_PORTS = {"http": 80, "https": 443}
_FOREIGN = (Broken, Full, OSError)
_SAY_FULL_EVERY_SECONDS = 10.0
_WAITING_SHARE = 4
"""A quarter as many calls may wait as there are connections: answers take seconds, so of those under way
hardly more than that end while a call waits, and whoever came behind would wait in vain."""


@dataclass(frozen=True, slots=True)
class Host:
    """Where a provider is."""

    provider: Provider
    pool: Pool
    heads: dict[tuple[str, str], bytes] = field(repr=False)
    """How a request begins, by path and key; only the length of its body is to be added."""
    keychain: Keychain | None = None
    """Where there is more than one key to choose from, or one with limits."""


@dataclass(slots=True)
class Upstream:
    """Lives as long as the process. A provider that hangs cannot use up another's connections."""

    _hosts: dict[str, Host] = field(default_factory=dict)
    _draining: set[asyncio.Task[None]] = field(default_factory=set)
    _said_full: dict[str, float] = field(default_factory=dict)

    async def post(
        self,
        endpoint: Endpoint,
        path: str,
        body: bytes,
        *,
        idle_seconds: float,
        key: ManagedKey | None = None,
    ) -> Response:
        """Send; answers when the provider's headers are there, whatever its status. Raises Failure.

        `idle_seconds` bounds every wait for the next bytes of the answer. `key` is one that `take_key` gave:
        it counts as in use until the answer is released.
        """
        host = self._host(endpoint.provider)
        text = endpoint.provider.api_key if key is None else key.text
        head = host.heads.get((path, text))
        if head is None:
            head = host.heads[path, text] = _head(endpoint.provider, path, text)
        try:
            response = await host.pool.ask(
                b"%b%d\r\n\r\n%b" % (head, len(body), body), idle_seconds=idle_seconds
            )
        except BaseException as error:
            if key is not None and host.keychain is not None:
                host.keychain.done(key, sent=not isinstance(error, Full))
            if isinstance(error, Full):
                self._say_full(endpoint.provider, error)
            if isinstance(error, _FOREIGN):
                raise translated(error) from error
            raise
        if key is not None and host.keychain is not None:
            response.when_over = functools.partial(host.keychain.done, key)
        return response

    def take_key(self, provider: Provider) -> ManagedKey | None:
        """Which of our keys the next request goes with; None where there is no choice. Raises Failure."""
        keychain = self._host(provider).keychain
        return None if keychain is None else keychain.take(time.monotonic())

    def key_answered(self, provider: Provider, key: ManagedKey) -> None:
        keychain = self._host(provider).keychain
        if keychain is not None:
            keychain.answered(key)

    def key_failed(self, provider: Provider, key: ManagedKey, failure: Failure) -> bool:
        """Whether another key may do better: this one rests now, and one that does not is left."""
        keychain, now = self._host(provider).keychain, time.monotonic()
        if keychain is None or not keychain.failed(key, failure, now):
            return False
        if failure.kind == CREDENTIALS:
            log.error(
                "a key of ours was refused",
                extra={"provider": provider.slug, "key": key.name, "status": failure.status},
            )
        return keychain.left(now)

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

    def _say_full(self, provider: Provider, error: Full) -> None:
        """A crowd is told of once in a while, not call by call."""
        now = time.monotonic()
        if now - self._said_full.get(provider.slug, float("-inf")) >= _SAY_FULL_EVERY_SECONDS:
            self._said_full[provider.slug] = now
            log.warning(
                "every connection to a provider is in use",
                extra={"provider": provider.slug, "cause": str(error), "most": settings.PROVIDER_CONNECTIONS},
            )

    def _host(self, provider: Provider) -> Host:
        host = self._hosts.get(provider.slug)
        if host is None or host.provider is not provider:
            old, host = host, _located(provider)
            if old is not None and old.provider.base_url == provider.base_url:
                host = Host(provider, old.pool, {}, _keychain(provider, old.keychain))
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
    if isinstance(error, Full):
        return Failure(FULL, str(error))
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
        wait_seconds=settings.POOL_WAIT_SECONDS,
        most_waiting=max(settings.PROVIDER_CONNECTIONS // _WAITING_SHARE, 1),
    )
    return Host(provider, pool, {}, _keychain(provider))


def _keychain(provider: Provider, old: Keychain | None = None) -> Keychain | None:
    """A limit is the account's, so each worker of this gateway takes its part of it."""
    keys = provider.keys
    if len(keys) < 2 and not any(key.requests_per_minute or key.concurrent for key in keys):
        return None
    keychain = old or Keychain(share=1 / max(settings.WEB_CONCURRENCY, 1))
    keychain.holds(keys, time.monotonic())
    return keychain


def _head(provider: Provider, path: str, key: str) -> bytes:
    where = urllib.parse.urlsplit(provider.base_url)
    lines = (
        f"POST {where.path.rstrip('/')}{path} HTTP/1.1",
        f"Host: {where.netloc}",
        f"Authorization: Bearer {key}",
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
