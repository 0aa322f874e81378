"""Connections to one host: kept between exchanges, and never more than so many."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import aiohappyeyeballs

from aggregator.lib.deadlines import within
from routing.http1 import Connection, Response

_RECEIVE_BUFFER_BYTES = 128 * 1024
"""The kernel doubles it. Left to itself it would let a provider send 6 MB ahead of a reader that stalls."""
_KEPT_IDLE_SECONDS = 15.0
_RESOLVED_SECONDS = 60.0
_NEXT_ADDRESS_SECONDS = 0.25


@dataclass(slots=True)
class Pool:
    """Connections to one host, at most so many. Belongs to the event loop."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    most: int
    connect_seconds: float
    _idle: list[Connection] = field(default_factory=list)
    _open: set[Connection] = field(default_factory=set)
    _making: int = 0
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    _addresses: list[Any] = field(default_factory=list)
    _resolved: float = float("-inf")
    _retired: bool = False

    async def ask(self, request: bytes, *, idle_seconds: float) -> Response:
        """Until status and headers are there. Raises Broken, OSError or TimeoutError."""
        connection = self._from_idle()
        if connection is None:
            with within(self.connect_seconds):
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

    async def _another(self) -> Connection:
        join = self._waiting.append
        while (connection := self._from_idle()) is None:
            if len(self._open) + self._making < self.most:
                return await self._connect()
            room = asyncio.get_running_loop().create_future()
            join(room)
            join = self._waiting.appendleft  # if a newcomer is quicker, the place in the queue is kept
            try:
                await room
            except asyncio.CancelledError:
                if room.done() and not room.cancelled():
                    self._room()  # it was for this one; the next may have it
                raise
        return connection

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
            if self._waiting and len(self._open) + self._making < self.most:
                self._room()

    async def _resolve(self) -> list[Any]:
        if time.monotonic() - self._resolved > _RESOLVED_SECONDS:
            self._addresses = await asyncio.get_running_loop().getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM
            )
            self._resolved = time.monotonic()
        return self._addresses
