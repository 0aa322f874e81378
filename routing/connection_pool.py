"""Connections to one host: kept between exchanges, and never more than so many.

When all are in use a call waits for one, but not for long and not in any company: what hangs at one provider
must not hold calls that another could serve.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohappyeyeballs

from aggregator.lib.deadlines import within
from routing.http1 import Connection, Response

_RECEIVE_BUFFER_BYTES = 64 * 1024
"""The kernel doubles it. Left to itself it would let a provider send 6 MB ahead of a reader that stalls."""
_KEPT_IDLE_SECONDS = 15.0
_RESOLVED_SECONDS = 60.0
_NEXT_ADDRESS_SECONDS = 0.25


class Full(Exception):
    """Every connection is in use, and stayed so while the call waited; or too many wait. Nothing was sent."""


@dataclass(slots=True)
class Pool:
    """Connections to one host, at most so many. Belongs to the event loop."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    most: int
    connect_seconds: float
    wait_seconds: float
    """How long a call waits for one of them to come free; then it may take `connect_seconds` to connect."""
    most_waiting: int
    _idle: list[Connection] = field(default_factory=list)
    _open: set[Connection] = field(default_factory=set)
    _making: int = 0
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    _addresses: list[Any] = field(default_factory=list)
    _resolved: float = float("-inf")
    _retired: bool = False

    async def ask(self, request: bytes, *, idle_seconds: float) -> Response:
        """Until status and headers are there. Raises Full, Broken, OSError or TimeoutError."""
        connection = self._from_idle()
        if connection is None:
            connection = await self._another()
        response = connection.ask(request, idle_seconds=idle_seconds)
        try:
            await response.head()
        except BaseException:
            response.release()
            raise
        return response

    def take_back(self, connection: Connection) -> None:
        if self._retired:
            connection.cut()
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        self._room()

    def lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._room()

    def retire(self) -> None:
        """No new calls will come; those under way end as they would."""
        self._retired = True
        for connection in self._idle:
            connection.cut()

    def close(self) -> None:
        for connection in list(self._open):
            connection.cut()

    def _from_idle(self) -> Connection | None:
        """The one used last; those that have been idle for long are let go."""
        too_old = time.monotonic() - _KEPT_IDLE_SECONDS
        while self._idle and self._idle[0].idle_since < too_old:
            self._idle.pop(0).cut()
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    @property
    def _has_room(self) -> bool:
        return len(self._open) + self._making < self.most

    async def _another(self) -> Connection:
        """One that comes free or is made: each has its own deadline, for only the second is the host's."""
        connection = None if self._has_room else await self._turn()
        if connection is None:
            with within(self.connect_seconds):
                connection = await self._connect()
        return connection

    async def _turn(self) -> Connection | None:
        """Wait for an idle connection; None: there is room to make one. Raises Full."""
        if len(self._waiting) >= self.most_waiting:
            raise Full("too many calls wait for a connection")
        join = self._waiting.append
        try:
            with within(self.wait_seconds):
                while True:
                    await self._next_room(join)
                    connection = self._from_idle()
                    if connection is not None or self._has_room:
                        return connection
                    join = self._waiting.appendleft  # a newcomer was quicker; the place in the queue is kept
        except TimeoutError:
            raise Full("no connection came free in time") from None

    async def _next_room(self, join: Callable[[asyncio.Future[None]], None]) -> None:
        room = asyncio.get_running_loop().create_future()
        join(room)
        try:
            await room
        except asyncio.CancelledError:
            if not room.cancelled():
                self._room()  # it was for this one; the next may have it
            elif room in self._waiting:  # who leaves is the one who waited longest: it is found at once
                self._waiting.remove(room)
            raise

    def _room(self) -> None:
        """A connection is idle, or one more may be made: the one who waited longest looks again."""
        while self._waiting:
            room = self._waiting.popleft()
            if not room.done():
                room.set_result(None)
                return

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        self._making += 1
        try:
            raw = await aiohappyeyeballs.start_connection(
                await self._resolve(), happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, loop=loop
            )
            try:
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
                _, connection = await loop.create_connection(
                    lambda: Connection(self),
                    sock=raw,
                    ssl=self.tls,
                    server_hostname=self.host if self.tls else None,
                )
            except BaseException:
                raw.close()
                raise
            self._open.add(connection)
            return connection
        except BaseException:
            self._resolved = float("-inf")  # the host may have moved
            raise
        finally:
            self._making -= 1
            if self._waiting and self._has_room:
                self._room()

    async def _resolve(self) -> list[Any]:
        if time.monotonic() - self._resolved > _RESOLVED_SECONDS:
            self._addresses = await asyncio.get_running_loop().getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM
            )
            self._resolved = time.monotonic()
        return self._addresses
