"""The client of providers, against servers that say anything: each exchange gets its own answer, or none."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time

import pytest

from routing import connection_pool
from routing.connection_pool import Pool
from routing.http1 import Broken
from tests.routing.http1.provider import CHUNKED, OK, ROOM, Server, ask, pool_of, until, whole


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK, b"hi"),
        (OK.replace(b"2\r", b"0\r")[:-2], b""),
        (CHUNKED + b"2\r\nhi\r\n3\r\nyou\r\n0\r\n\r\n", b"hiyou"),
        (CHUNKED + b"2;name=value\r\nhi\r\n0\r\nTrailer: x\r\n\r\n", b"hi"),
        (b"HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK, b"hi"),
        (tuple(bytes([byte]) for byte in OK), b"hi"),
    ],
)
async def test_an_answer_that_ends_as_its_head_said_leaves_a_connection_for_the_next(answer, body):
    async with Server(answer, OK) as server:
        pool = pool_of(server.port)
        first = await ask(pool)
        assert (first.status, await whole(first)) == (200, body)
        assert await whole(await ask(pool)) == b"hi"
        assert (server.connections, server.requests) == (1, 2)
        pool.close()


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
        OK + b"left over",
        OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        OK.replace(b"HTTP/1.1", b"HTTP/1.0"),
        (b"HTTP/1.1 200 OK\r\n\r\nhi", None),
        (OK, 0.05, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"),
    ],
)
async def test_what_follows_an_answer_is_never_read_as_the_next(answer):
    async with Server(answer, answer) as server:
        pool = pool_of(server.port)
        assert await whole(await ask(pool)) == b"hi"
        await until(lambda: not pool._idle)
        assert await whole(await ask(pool)) == b"hi"
        assert server.connections == 2
        pool.close()


@pytest.mark.parametrize(
    "answer",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", None),
        (CHUNKED + b"2\r\nhi\r\n", None),
        (CHUNKED + b"zz\r\nhi\r\n", 5),
        CHUNKED + b"2\r\nhiX",
    ],
)
async def test_a_body_that_breaks_off_is_broken(answer):
    async with Server(answer) as server:
        pool = pool_of(server.port)
        with pytest.raises(Broken):
            await whole(await ask(pool))
        pool.close()


@pytest.mark.parametrize(
    "answer",
    [
        (None,),
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\n" + b"X: %b\r\n" % (b"y" * 1000) * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000,
    ],
)
async def test_an_answer_that_is_not_http_is_broken(answer):
    async with Server(answer) as server:
        pool = pool_of(server.port)
        with pytest.raises(Broken):
            await ask(pool)
        assert pool._open == set() or not any(connection.usable for connection in pool._open)
        pool.close()


async def test_headers_are_found_by_their_lower_case_names():
    answer = OK.replace(b"\r\n\r\n", b"\r\nRetry-After: 7\r\n\r\n")
    async with Server(answer) as server:
        pool = pool_of(server.port)
        response = await ask(pool)
        assert response.headers[b"retry-after"] == b"7"
        response.release()
        pool.close()


async def test_silence_ends_at_its_deadline_and_a_drip_does_not():
    drip = (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", 0.5, b"a", 0.5, b"b", 0.5, b"cdef")
    async with Server(drip) as dripping, Server((b"HTTP/1.1 200 OK\r\n", 60)) as silent:
        pool = pool_of(dripping.port)
        assert await whole(await ask(pool, idle=1.2)) == b"abcdef"
        pool.close()
        pool, began = pool_of(silent.port), time.monotonic()
        with pytest.raises(TimeoutError):
            await ask(pool, idle=0.3)
        assert time.monotonic() - began < 30
        await until(lambda: not pool._open)


async def test_who_does_not_read_makes_the_provider_wait_and_is_not_taken_for_silence():
    flood = (b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n", *([b"x" * 500_000] * 100))
    async with Server(flood) as server:
        pool = pool_of(server.port)
        response = await ask(pool, idle=0.5)
        await asyncio.sleep(1.5)
        assert sum(map(len, response._blocks)) < 1_000_000
        assert len(await whole(response)) == 50_000_000
        pool.close()


async def test_no_more_connections_than_allowed_and_the_rest_wait_their_turn():
    async with Server(*[(0.05, OK)] * 20) as server:
        pool = pool_of(server.port, most=2)

        async def once():
            return await whole(await ask(pool))

        assert await asyncio.gather(*(once() for _ in range(12))) == [b"hi"] * 12
        assert server.connections == 2
        pool.close()


async def test_calls_that_are_cut_anywhere_leave_no_connection_and_take_no_ones_answer():
    async with Server(*[(0.002, OK)] * 500) as server:
        pool = pool_of(server.port, most=3)
        for n in range(120):
            cut = asyncio.create_task(ask(pool))
            own = asyncio.create_task(ask(pool))
            await asyncio.sleep(n % 6 / 2000)
            cut.cancel()
            response = await own
            assert await whole(response) == b"hi"
            await asyncio.gather(cut, return_exceptions=True)
            if not cut.cancelled():
                cut.result().release()
            assert len(pool._open) + pool._making <= 3
        assert pool._making == 0
        pool.close()


async def test_a_call_that_is_left_closes_its_connection_at_once():
    async with Server((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", 0.01), OK) as server:
        pool = pool_of(server.port)
        response = await ask(pool)
        assert await response.read() == b"hi"
        response.release()
        await until(lambda: server.closed)
        assert not pool._idle


async def test_a_connection_that_the_provider_closed_meanwhile_is_not_used():
    async with Server((OK, 0.05, None)) as server:
        pool = pool_of(server.port)
        for _ in range(3):
            assert await whole(await ask(pool)) == b"hi"
            await until(lambda: not pool._idle)
        assert server.connections == 3
        pool.close()


async def test_connections_that_were_idle_for_long_are_let_go(monkeypatch):
    async with Server(OK, OK) as server:
        pool = pool_of(server.port)
        await whole(await ask(pool))
        monkeypatch.setattr(connection_pool, "_KEPT_IDLE_SECONDS", 0.0)
        await whole(await ask(pool))
        assert server.connections == 2
        pool.close()


async def test_a_host_that_cannot_be_found_or_refuses():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    for pool in (pool_of(free), Pool("nowhere.invalid", 80, None, most=1, **ROOM)):
        with pytest.raises(OSError):  # noqa: PT011 (of any kind: refused, or not found)
            await ask(pool)
        assert pool._making == 0


async def test_a_certificate_that_nobody_vouches_for_is_refused_and_a_good_one_serves(certificate):
    served, file = certificate
    async with Server(OK, OK, tls=served) as server:
        known = ssl.create_default_context(cafile=str(file))
        pool = Pool("localhost", server.port, known, most=1, **ROOM)
        for _ in range(2):
            assert await whole(await ask(pool)) == b"hi"
        assert server.connections == 1
        pool.close()
        for host, context in (("localhost", ssl.create_default_context()), ("127.0.0.1", known)):
            pool = Pool(host, server.port, context, most=1, **ROOM)
            with pytest.raises(ssl.SSLCertVerificationError):
                await ask(pool)
