"""When every connection is in use: who waits, for how long, and how many."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time

import pytest

from routing.connection_pool import Full, Pool
from tests.routing.http1.provider import OK, ROOM, Server, ask, pool_of, until, whole

HANGS = 60


async def test_a_call_waits_for_a_connection_only_so_long_and_leaves_nothing_behind():
    async with Server(HANGS) as server:
        pool = pool_of(server.port, most=1, wait_seconds=0.2)
        hanging = asyncio.create_task(ask(pool, idle=60))
        await until(lambda: server.requests)
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(Full, match="in time"):
                await ask(pool)
        assert time.monotonic() - began >= 0.6
        assert not pool._waiting and not hanging.done() and server.connections == 1
        pool.close()
        await asyncio.gather(hanging, return_exceptions=True)


async def test_beyond_so_many_nobody_waits_and_who_leaves_gives_the_place_back():
    async with Server(OK, OK) as server:
        pool = pool_of(server.port, most=1, most_waiting=1)
        held = await ask(pool)
        leaves = asyncio.create_task(ask(pool))
        await asyncio.sleep(0)
        with pytest.raises(Full, match="too many"):
            await ask(pool)
        leaves.cancel()
        await asyncio.gather(leaves, return_exceptions=True)
        assert not pool._waiting
        stays = asyncio.create_task(ask(pool))
        await asyncio.sleep(0)
        assert len(pool._waiting) == 1
        await whole(held)
        assert await whole(await stays) == b"hi"
        pool.close()


async def test_a_connection_that_comes_free_as_its_waiter_leaves_goes_to_the_next():
    async with Server(OK, OK) as server:
        pool = pool_of(server.port, most=1)
        held = await ask(pool)
        leaves, stays = asyncio.create_task(ask(pool)), asyncio.create_task(ask(pool))
        await until(lambda: len(pool._waiting) == 2)
        await until(lambda: held.whole)
        held.release()
        leaves.cancel()
        assert await whole(await asyncio.wait_for(stays, 60)) == b"hi"
        assert server.connections == 1 and not pool._waiting
        pool.close()


async def test_waiting_for_a_connection_does_not_shorten_the_time_to_connect():
    """The handshake here takes longer than a call may wait, and no shorter than it may take to connect."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        room = {**ROOM, "connect_seconds": 1, "wait_seconds": 0.1}
        pool = Pool("localhost", silent.getsockname()[1], ssl.create_default_context(), most=1, **room)
        began = time.monotonic()
        connecting = asyncio.create_task(ask(pool))
        await asyncio.sleep(0)
        with pytest.raises(Full):
            await ask(pool)
        assert not connecting.done()
        with pytest.raises(TimeoutError):
            await connecting
        assert time.monotonic() - began >= 1
        assert (pool._making, len(pool._open), len(pool._waiting)) == (0, 0, 0)
