"""A bad network on demand: a TCP proxy in front of a server, steered from the test while bytes flow.

It runs on a thread of its own. What is set concerns connections that are open and those to come.

    up          everything passes
    refuse      new connections are refused, the open ones are reset
    blackhole   accepted, and nothing passes either way: as behind a firewall that drops
    reset()     every open connection is reset now; new ones pass
    latency     seconds that each block waits
    slices      bytes a block at most, each sent by itself
    cut(…)      the connection is reset when the bytes of a pattern pass: before they are handed on, or (of a
                request) when they have been answered, so that the answer is lost
    limit(…)    so many bytes of answers pass, then the connection is reset
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

from aggregator.embedded import ports

Side = Literal["request", "answer"]
_BLOCK = 64 * 1024


@dataclass(eq=False)
class Cut:
    """One cut to come; `done` is set when it has happened for the first time."""

    pattern: bytes
    side: Side
    hand_on: bool
    times: int
    after: bytes
    """The pattern counts only once these bytes have passed on the same connection."""
    done: threading.Event


@dataclass(eq=False)
class _Link:
    """One connection through the proxy: the client's half and the server's."""

    number: int
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    answered: int = 0
    seen: bool = False
    doomed: Cut | None = None
    """Cut when the server answers: it has had the bytes of the pattern, and nobody hears of it."""

    def reset(self) -> None:
        """RST to both, as when a machine on the way dies."""
        for writer in (self.client, self.server):
            sock = writer.transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class FaultProxy:
    """As a context manager: listens on `port`, passes on to `target`."""

    def __init__(self, target: int, *, port: int | None = None) -> None:
        self.target = target
        self.port = port or ports.free()[0]
        self.latency = 0.0
        self.slices = 0
        self.choose: Callable[[int], bool] = lambda number: True
        """Which connections (by their number, from 0) the fault concerns: for a partition of some."""
        self.connections = 0
        self._mode = "up"
        self._cuts: list[Cut] = []
        self._limit: int | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{target}", daemon=True)
        self._server: asyncio.Server | None = None

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    # ── Steering, from the test's thread ─────────────────────────────────────────────────────────

    def up(self) -> None:
        self.latency, self.slices, self._limit = 0.0, 0, None
        self.choose = lambda number: True
        self._cuts.clear()
        was, self._mode = self._mode, "up"
        if was == "blackhole":
            self.reset()  # what was swallowed is gone: such a connection cannot go on
        self._run(self._listen())

    def refuse(self) -> None:
        self._mode = "refuse"
        self._run(self._stop_listening())
        self.reset()

    def blackhole(self) -> None:
        self._mode = "blackhole"

    def reset(self) -> None:
        self._run(self._reset())

    def cut(
        self,
        pattern: bytes,
        *,
        after: bytes = b"",
        side: Side = "request",
        hand_on: bool = True,
        times: int = 1,
    ) -> Cut:
        """Reset the connection on which `pattern` passes; `hand_on`: the other side has the bytes."""
        made = Cut(pattern, side, hand_on, times, after, threading.Event())
        self._cuts.append(made)
        return made

    def limit(self, answers: int | None) -> None:
        self._limit = answers

    @property
    def open(self) -> int:
        return len(self._links)

    # ── On the loop ──────────────────────────────────────────────────────────────────────────────

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        future: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.result(10)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, backlog=512)

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _close(self) -> None:
        await self._stop_listening()
        await self._reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _reset(self) -> None:
        for link in list(self._links):
            if self.choose(link.number):
                link.reset()

    async def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        number, self.connections = self.connections, self.connections + 1
        try:
            from_server, server = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            client.transport.abort()
            return
        link = _Link(number, client, server)
        self._links.add(link)
        both = [
            asyncio.ensure_future(self._pass(link, reader, server, "request")),
            asyncio.ensure_future(self._pass(link, from_server, client, "answer")),
        ]
        self._tasks.update(both)
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            self._tasks.difference_update(both)
            self._links.discard(link)
            for writer in (client, server):
                writer.close()

    async def _pass(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, side: Side
    ) -> None:
        tail = b""
        with contextlib.suppress(OSError):
            while block := await reader.read(_BLOCK):
                concerned = self.choose(link.number)
                while concerned and self._mode == "blackhole":
                    await asyncio.sleep(0.02)
                if concerned and self.latency:
                    await asyncio.sleep(self.latency)
                cut = self._cut_in(link, tail + block, side) if concerned else None
                if side == "answer" and link.doomed is not None:
                    cut = link.doomed
                elif cut is None or cut.hand_on:
                    await self._hand_on(writer, block, self.slices if concerned else 0)
                if side == "request" and cut is not None and cut.hand_on:
                    link.doomed, cut = cut, None
                link.answered += len(block) if side == "answer" else 0
                spent = self._limit is not None and link.answered >= self._limit
                if cut is not None or (concerned and spent):
                    link.reset()
                    if cut is not None:
                        cut.done.set()
                    return
                tail = block[-64:]
        with contextlib.suppress(OSError):
            await writer.drain()

    def _cut_in(self, link: _Link, passing: bytes, side: Side) -> Cut | None:
        for cut in self._cuts:
            if cut.side != side:
                continue
            link.seen = link.seen or cut.after in passing
            if link.seen and cut.pattern in passing:
                link.seen = False
                cut.times -= 1
                if cut.times <= 0:
                    self._cuts.remove(cut)
                return cut
        return None

    async def _hand_on(self, writer: asyncio.StreamWriter, block: bytes, slices: int) -> None:
        for start in range(0, len(block), slices or len(block)):
            writer.write(block[start : start + (slices or len(block))])
            await writer.drain()
            if slices:
                await asyncio.sleep(0)
