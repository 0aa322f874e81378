"""A provider that says anything, byte for byte, and a pool that asks it."""

from __future__ import annotations

import asyncio
import contextlib

from routing.connection_pool import Pool

ASK = b"POST /v1 HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n{}"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
ROOM = {"connect_seconds": 5, "wait_seconds": 5, "most_waiting": 100}
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Server:
    """Answers the n-th request of a connection by `answers[n]`: bytes, seconds to wait, None to close."""

    def __init__(self, *answers, tls=None, host="127.0.0.1", port=0):
        self.answers, self.tls = answers, tls
        self.host, self.port = host, port
        self.connections = self.requests = self.closed = 0
        self.serving = []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, self.host, self.port, ssl=self.tls)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for task in self.serving:
            task.cancel()
        await asyncio.gather(*self.serving, return_exceptions=True)

    async def _serve(self, reader, writer):
        self.connections += 1
        self.serving.append(asyncio.current_task())
        try:
            await self._answer(reader, writer)
        finally:
            writer.transport.abort()

    async def _answer(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            for answer in self.answers:
                await reader.readuntil(b"{}")
                self.requests += 1
                for part in answer if isinstance(answer, tuple) else (answer,):
                    if isinstance(part, bytes):
                        writer.write(part)
                        await writer.drain()
                    elif part is None:
                        writer.close()
                        await writer.wait_closed()
                        return
                    else:
                        await asyncio.sleep(part)
            await reader.read()
        self.closed += 1


async def until(is_so):
    async with asyncio.timeout(60):
        while not is_so():
            await asyncio.sleep(0.01)


def pool_of(port, **options):
    return Pool("127.0.0.1", port, None, **{**ROOM, "most": 4, **options})


async def ask(pool, idle=5.0):
    return await pool.ask(ASK, idle_seconds=idle)


async def whole(response):
    body = bytearray()
    while block := await response.read():
        body += block
    response.release()
    return bytes(body)
