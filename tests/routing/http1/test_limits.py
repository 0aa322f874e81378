"""The client of providers at its limits: what is unread, unasked for, too much, or never comes."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time

import pytest

from routing.connection_pool import Pool
from routing.core.listing import Provider
from routing.http1 import Broken
from routing.upstream import Upstream
from tests.routing.http1.provider import ASK, CHUNKED, OK, ROOM, Server, ask, pool_of, until, whole

MB = 1024 * 1024


async def test_a_connection_whose_last_answer_was_left_unread_is_never_deaf_to_the_next():
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
    async with Server(large, large) as server:
        pool = pool_of(server.port)
        unread = await ask(pool)
        await until(lambda: unread.whole)
        unread.release()
        async with asyncio.timeout(60):
            assert len(await whole(await ask(pool))) == 100_000
        pool.close()


@pytest.mark.parametrize("end", [b"0\r\nX: ", b"0\r\n" + b"X: y\r\n" * 20_000, b"2;"])
async def test_a_body_that_is_framed_without_end_is_broken(end):
    flood = (CHUNKED + b"2\r\nhi\r\n" + end, *([b"y" * 50_000] * 40), 5)
    async with Server(flood) as server:
        pool = pool_of(server.port)
        response = await ask(pool)
        with pytest.raises(Broken, match="too long"):
            await whole(response)
        pool.close()


async def test_a_body_of_many_small_pieces_is_not_taken_for_framing():
    parts = [part for n in range(3000) for part in (b"20\r\n", b"x" * 32, b"\r\n")]
    async with Server((CHUNKED, *parts, b"0\r\n\r\n")) as server:
        pool = pool_of(server.port)
        assert await whole(await ask(pool)) == b"x" * 96_000
        pool.close()


async def test_a_provider_can_send_only_so_far_ahead_of_its_reader():
    sent = 0

    async def serve(reader, writer):
        nonlocal sent
        await reader.readuntil(b"{}")
        writer.transport.set_write_buffer_limits(0)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900000000\r\n\r\n")
        while not writer.transport.is_closing():
            writer.write(b"x" * 10_000)
            await writer.drain()
            sent += 10_000

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    listener.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(serve, sock=listener)
    pool = pool_of(listener.getsockname()[1])
    response, taken = await ask(pool), 0
    while taken < 30 * MB:  # fast, so that the kernel would let its buffer grow
        taken += len(await response.read())
    await asyncio.sleep(0.5)
    assert sent - taken < 600_000
    response.release()
    server.close()


@pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n\r\nlarge", b"\r\nlarge"])
async def test_a_refusal_that_comes_before_the_body_was_taken_is_seen(framing):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\n" + framing)
        await writer.drain()
        writer.close()  # what is unread resets the connection

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    pool = pool_of(server.sockets[0].getsockname()[1])
    request = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 20000000\r\n\r\n" + b"x" * 20_000_000
    for _ in range(5):
        response = await pool.ask(request, idle_seconds=5)
        assert response.status == 413
        response.release()
    await until(lambda: not pool._open)
    server.close()


async def test_a_provider_that_does_not_take_the_request_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        pool, began = pool_of(silent.getsockname()[1]), time.monotonic()
        with pytest.raises(TimeoutError):
            await pool.ask(b"x" * 20_000_000, idle_seconds=0.5)
        assert time.monotonic() - began < 30
        await until(lambda: not pool._open)


async def test_who_does_not_read_over_tls_makes_the_provider_wait_and_gets_it_all(certificate):
    served, file = certificate
    flood = (b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n", *([b"x" * 500_000] * 40))
    async with Server(flood, OK, tls=served) as server:
        context = ssl.create_default_context(cafile=str(file))
        pool = Pool("localhost", server.port, context, most=1, **ROOM)
        response = await ask(pool, idle=0.5)
        await asyncio.sleep(1.5)
        assert sum(map(len, response._blocks)) < MB
        assert len(await whole(response)) == 20_000_000
        assert await whole(await ask(pool)) == b"hi"
        assert server.connections == 1
        pool.close()


async def test_a_handshake_that_never_ends_is_given_up_and_takes_no_room():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        room = {**ROOM, "connect_seconds": 1}
        pool = Pool("localhost", silent.getsockname()[1], ssl.create_default_context(), most=1, **room)
        with pytest.raises(TimeoutError):
            await ask(pool)
        left = asyncio.create_task(ask(pool))
        await asyncio.sleep(0.1)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        assert (pool._making, len(pool._open), len(pool._waiting)) == (0, 0, 0)
        with pytest.raises(TimeoutError):
            await ask(pool)


async def test_a_provider_that_was_down_is_reached_again_by_all_who_wait():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    pool = pool_of(port, most=2)
    failed = await asyncio.gather(*(ask(pool) for _ in range(20)), return_exceptions=True)
    assert {type(error) for error in failed} == {ConnectionRefusedError}
    assert (pool._making, len(pool._open), len(pool._waiting)) == (0, 0, 0)

    async def once():
        return await whole(await ask(pool))

    async with Server(*[OK] * 40, port=port) as server:
        assert await asyncio.gather(*(once() for _ in range(20))) == [b"hi"] * 20
        assert server.connections == 2
        pool.close()


async def test_who_waited_longest_for_a_connection_gets_it_first():
    """A newcomer may take it from under them; they keep their place all the same."""
    async with Server(*[(0.01, OK)] * 200) as server:
        pool, order = pool_of(server.port, most=1), []

        async def once(name):
            await whole(await ask(pool))
            order.append(name)

        waiting = [asyncio.create_task(once(n)) for n in range(6)]
        await asyncio.sleep(0)

        async def again_and_again():
            for _ in range(30):
                await whole(await ask(pool))

        await asyncio.gather(again_and_again(), *waiting)
        assert order == sorted(order)
        pool.close()


async def test_another_address_is_tried_when_the_first_does_not_answer():
    async with Server(OK) as server:
        found = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", server.port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.9", server.port)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port)),
        ]

        pool = Pool("provider.example", server.port, None, most=1, **ROOM)
        pool._addresses, pool._resolved = found, time.monotonic()
        assert await whole(await ask(pool)) == b"hi"
        pool.close()


async def test_a_pool_that_is_retired_lets_go_of_what_is_idle_and_then_of_the_rest():
    async with Server((0.2, OK), OK) as server:
        pool = pool_of(server.port)
        idle, busy = await asyncio.gather(ask(pool), ask(pool))
        await whole(idle)
        pool.retire()
        await until(lambda: len(pool._open) == 1)
        assert await whole(busy) == b"hi"
        await until(lambda: not pool._open)
        assert not pool._idle


async def test_a_literal_address_of_ipv6_is_reached():
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    async with Server(OK, host="::1") as server:
        pool = Pool("::1", server.port, None, most=1, **ROOM)
        assert await whole(await pool.ask(ASK, idle_seconds=5)) == b"hi"
        pool.close()


async def test_a_new_key_keeps_the_connections_and_a_new_address_lets_them_go():
    upstream = Upstream()

    def host(base_url, key):
        return upstream._host(Provider("acme", "Acme", "openai", base_url, key))

    first = host("http://127.0.0.1:1/v1", "a")
    first.heads["/x"] = b"with the old key"
    second = host("http://127.0.0.1:1/v1", "b")
    assert second.pool is first.pool and not second.heads
    third = host("http://127.0.0.1:2/v1", "b")
    assert third.pool is not first.pool
    assert first.pool._retired and not third.pool._retired
