"""The door to Redis, on a real Valkey: shards, scripts, and all of one tick in one pipeline."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import pytest
import redis
import uvloop
from pytest_django import Settings

from aggregator.lib import kv

COUNT = "return redis.call('INCRBY', KEYS[1], ARGV[1])"
FAIL = "return redis.call('HGET', KEYS[1], 'x')"


@pytest.fixture
async def pipeline() -> AsyncIterator[kv.TickPipeline]:
    client = kv.async_gate()
    yield kv.TickPipeline(client)
    await client.aclose()
    await client.connection_pool.disconnect()


def _calls() -> dict[str, int]:
    stats = kv.gate().info("commandstats")
    return {name.removeprefix("cmdstat_"): line["calls"] for name, line in stats.items()}


def test_an_organization_has_one_shard_for_ever(settings: Settings):
    settings.GATE_SHARDS = 16

    assert kv.shard("0123456789ab") == kv.shard("0123456789ab")
    assert {kv.shard(f"organization{n}") for n in range(500)} == set(kv.shards())


def test_a_script_runs_also_when_the_server_has_forgotten_it():
    script = kv.Script(COUNT)

    assert script.run(["n"], [2]) == 2
    kv.gate().script_flush()
    assert script.run(["n"], [3]) == 5


async def test_each_of_a_tick_gets_its_own_answer(pipeline: kv.TickPipeline):
    answers = await asyncio.gather(*(pipeline.run(COUNT, [f"n{n}"], [n]) for n in range(100)))

    assert answers == list(range(100))


async def test_what_is_asked_in_one_tick_runs_in_the_order_of_asking(pipeline: kv.TickPipeline):
    assert await asyncio.gather(*(pipeline.run(COUNT, ["n"], [1]) for _ in range(50))) == list(range(1, 51))


async def test_a_script_that_the_server_does_not_know_is_sent_once_and_runs_once(pipeline: kv.TickPipeline):
    kv.gate().script_flush()
    before = _calls().get("script|load", 0)

    await asyncio.gather(*(pipeline.run(COUNT, ["n"], [1]) for _ in range(20)))

    assert kv.gate().get("n") == "20"
    assert _calls()["script|load"] - before == 1


async def test_a_script_that_the_server_forgets_again_is_sent_again(pipeline: kv.TickPipeline):
    for count in (1, 2, 3):
        kv.gate().script_flush()

        assert await pipeline.run(COUNT, ["n"], [1]) == count


async def test_what_nobody_waits_for_is_not_asked_again_after_what_undoes_it(pipeline: kv.TickPipeline):
    """A hold that was given up and released: the server knew only the script that releases."""
    undo = "return redis.call('DEL', KEYS[1])"
    kv.gate().script_flush()
    await pipeline.run(undo, ["n"], [])
    given_up = pipeline.run(COUNT, ["n"], [1])
    undone = pipeline.run(undo, ["n"], [])
    given_up.cancel()

    await undone
    await pipeline.run(undo, ["other"], [])

    assert kv.gate().get("n") is None


async def test_one_that_fails_fails_alone(pipeline: kv.TickPipeline):
    kv.gate().set("text", "not a hash")

    good, bad, other = await asyncio.gather(
        pipeline.run(COUNT, ["n"], [1]),
        pipeline.run(FAIL, ["text"], []),
        pipeline.run(COUNT, ["n"], [1]),
        return_exceptions=True,
    )

    assert (good, other) == (1, 2)
    assert isinstance(bad, kv.Failed)


async def test_who_gives_up_waiting_harms_nobody_else(pipeline: kv.TickPipeline):
    left, stayed = pipeline.run(COUNT, ["a"], [1]), pipeline.run(COUNT, ["b"], [1])
    left.cancel()

    assert await stayed == 1
    assert await pipeline.run(COUNT, ["b"], [1]) == 2


async def test_a_connection_that_was_closed_meanwhile_is_not_noticed(pipeline: kv.TickPipeline):
    assert await pipeline.run(COUNT, ["n"], [1]) == 1
    kv.gate().execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    assert await asyncio.wait_for(pipeline.run(COUNT, ["m"], [1]), 5) == 1


async def test_everybody_is_told_that_the_server_cannot_be_reached(settings: Settings):
    settings.GATE_URL = "redis://127.0.0.1:1/0"
    client = kv.async_gate(socket_connect_timeout=1)
    pipeline = kv.TickPipeline(client)

    answers = await asyncio.gather(
        *(pipeline.run(COUNT, ["n"], [1]) for _ in range(3)), return_exceptions=True
    )

    assert len(answers) == 3
    assert all(isinstance(answer, kv.Unreachable) for answer in answers)
    await client.aclose()


def test_a_connection_that_breaks_in_its_greeting_fails_who_asked_and_cancels_nobody(settings: Settings):
    """uvloop says RuntimeError then, redis-py lets it through; who asked was cancelled, and answered 500."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"+OK\r\n")
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        writer.transport.abort()

    async def ask() -> list[object]:
        server = await asyncio.start_server(reset, "127.0.0.1", 0)
        settings.GATE_URL = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        asking = kv.TickPipeline(kv.async_gate())
        told: list[object] = []
        for _ in range(300):
            two = (asking.run(COUNT, ["n"], [1]), asking.run(COUNT, ["n"], [1]))
            told += await asyncio.gather(*two, return_exceptions=True)
        server.close()
        return told

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        told = runner.run(ask())

    assert {type(one) for one in told} == {redis.ConnectionError}
