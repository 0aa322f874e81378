"""The bench's clients: so many calls in flight, over raw sockets, each answer read to its end.

    python -m tests.bench.load URL KEY MODEL plain|stream IN_FLIGHT SECONDS

Prints one JSON object: calls, chunks, and the latencies of plain answers or first chunks in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.parse

import uvloop

MESSAGES = [{"role": "user", "content": "Say hello to the harbour. " * 8}]
_DONE = b"data: [DONE]\n\n"


class Client(asyncio.Protocol):
    """One connection that asks again as soon as it was answered."""

    def __init__(self, request: bytes, *, stream: bool, until: float, over: asyncio.Future[None]) -> None:
        self._request, self._stream, self._until, self._over = request, stream, until, over
        self._held = b""
        self.calls = self.chunks = 0
        self.times: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._over.done():
            self._over.set_exception(ConnectionError(f"closed after {self._held[-500:]!r}"))

    def data_received(self, data: bytes) -> None:
        if not self._held:
            if not data.startswith(b"HTTP/1.1 200"):
                self._over.set_exception(RuntimeError(repr(data[:1000])))
                return
            self.times.append(time.perf_counter() - self._asked)
        if self._stream:
            self._held = (self._held + data)[-64:]
            self.chunks += data.count(b"data: {")
            if b"0\r\n\r\n" in self._held and _DONE in self._held:
                self._answered()
        else:
            self._held += data
            head, _, body = self._held.partition(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
            if len(body) == size:
                self._answered()

    def _ask(self) -> None:
        self._held = b""
        self._asked = time.perf_counter()
        self._transport.write(self._request)  # type: ignore[attr-defined]

    def _answered(self) -> None:
        self.calls += 1
        if time.perf_counter() < self._until:
            self._ask()
        elif not self._over.done():
            self._over.set_result(None)


async def run(
    url: str, key: str, model: str, kind: str, *, in_flight: int, seconds: float
) -> dict[str, object]:
    """Raises when any answer is not a whole 200."""
    where = urllib.parse.urlsplit(url)
    stream = kind == "stream"
    asked = {"model": model, "messages": MESSAGES, "max_tokens": 200, "stream": stream}
    body = json.dumps(asked, separators=(",", ":"))  # as the official clients write it
    request = (
        f"POST {where.path}/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\n"
        f"Authorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    loop = asyncio.get_running_loop()
    until = time.perf_counter() + seconds
    clients, ends = [], []
    for _ in range(in_flight):
        over = loop.create_future()
        client = Client(request, stream=stream, until=until, over=over)
        clients.append(client)
        ends.append(over)
        await loop.create_connection(lambda client=client: client, where.hostname, where.port)
    await asyncio.gather(*ends)
    times = sorted(1000 * each for client in clients for each in client.times)
    return {
        "calls": sum(client.calls for client in clients),
        "chunks": sum(client.chunks for client in clients),
        "p50": times[len(times) // 2],
        "p99": times[len(times) * 99 // 100],
    }


if __name__ == "__main__":
    url, key, model, kind, in_flight, seconds = sys.argv[1:]
    found = uvloop.run(run(url, key, model, kind, in_flight=int(in_flight), seconds=float(seconds)))
    print(json.dumps(found))
