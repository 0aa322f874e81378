"""The bench's provider: answers at once, or streams 100 chunks 5 ms apart, at next to no cost.

    python -m tests.bench.upstream PORT

One timer paces all streams. `GET /served` tells (answers, chunks) so far.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

CHUNKS = 100
PACE_SECONDS = 0.005

_ID = b'"id":"chatcmpl-bench","created":1800000000,"model":"bench"'
_USAGE = b'"usage":{"prompt_tokens":54,"completion_tokens":%d,"total_tokens":%d}'
_PLAIN = (
    b'{"object":"chat.completion",%b,"choices":[{"index":0,"message":{"role":"assistant","content":'
    b'"The harbour says hello, and so do the boats."},"finish_reason":"stop"}],%b}' % (_ID, _USAGE % (12, 66))
)
_REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_PLAIN),
    _PLAIN,
)
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _event(choices: bytes, rest: bytes = b"") -> bytes:
    data = b'data: {"object":"chat.completion.chunk",%b,"choices":[%b]%b}\n\n' % (_ID, choices, rest)
    return b"%x\r\n%b\r\n" % (len(data), data)


_CHUNK = _event(b'{"index":0,"delta":{"content":" harbour"},"finish_reason":null}')
_LAST = (
    _event(b'{"index":0,"delta":{},"finish_reason":"stop"}')
    + _event(b"", b"," + _USAGE % (CHUNKS, CHUNKS + 54))
    + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
)

served = [0, 0]
_streams: dict[Answering, int] = {}


class Answering(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._held = b""

    def connection_lost(self, exc: Exception | None) -> None:
        _streams.pop(self, None)

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[:end].lower()
            _, found, length = head.partition(b"content-length: ")
            size = int(length.split(b"\r\n", 1)[0]) if found else 0
            if len(self._held) < end + 4 + size:
                return
            body = self._held[end + 4 : end + 4 + size]
            self._held = self._held[end + 4 + size :]
            self._answer(head, body)

    def write(self, data: bytes) -> None:
        self._transport.write(data)  # type: ignore[attr-defined]

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get "):
            text = b"%d %d" % tuple(served)
            self.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
        elif b'"stream":true' in body.replace(b" ", b""):
            self.write(_STREAM)
            _streams[self] = CHUNKS
        else:
            served[0] += 1
            self.write(_REPLY)


def _pace(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_later(PACE_SECONDS, _pace, loop)
    for stream, left in list(_streams.items()):
        if left:
            _streams[stream] = left - 1
            served[1] += 1
            stream.write(_CHUNK)
        else:
            del _streams[stream]
            served[0] += 1
            stream.write(_LAST)


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", port, backlog=1024)
    _pace(loop)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
