"""Rows F21, F22, F24 to F26: Valkey restarts, is emptied, slow or cut off; nobody spends what they lack."""

from __future__ import annotations

import asyncio
import random
import threading
import time

import pytest
import redis
import uvloop

from aggregator.lib import kv
from aggregator.lib.threads import in_thread
from tests.faults.load import Customer, call
from tests.faults.proxy import FaultProxy
from tests.faults.stand import WORKERS

pytestmark = pytest.mark.xdist_group("faults")
STREAM = {"model": "sandbox/stream-100", "stream": True, "max_tokens": 100}


def test_it_restarts_under_load(stand, load, log, at_rest, seed):
    """F21: killed and started again, more than once; streams go on within what they hold."""
    chance = random.Random(seed)
    with load(callers=5):
        for _ in range(2):
            time.sleep(0.4 + chance.random() * 0.4)
            stand.valkey.kill()
            time.sleep(chance.random() * 0.3)
            stand.valkey.start()
        time.sleep(1)

    verdict = at_rest(probe_within=30)

    assert verdict.unknown == 0 and verdict.ok > 0, log.counts
    assert {entry.status for entry in log.of("failed")} <= {503}, log.counts


def test_emptied_under_load_it_lets_nobody_spend_what_they_lack(stand, customers, log, at_rest, seed):
    """F22: FLUSHALL while streams run; what they hold is registered again before anything is admitted."""
    poor = stand.open(usd="0")
    key = Customer(poor, *stand.desk.key(poor))
    stand.desk.grant(poor, "0.0002")
    stand.opened[poor.id] = 200_000
    valkey = redis.Redis.from_url(stand.redis)
    over = threading.Event()

    def spend():
        while not over.is_set():
            call(stand.product.api_base, key, log, **STREAM)

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        time.sleep(0.5)
        valkey.flushall()
    began = time.monotonic()
    while call(stand.product.api_base, customers[0], log, max_tokens=1).outcome != "ok":
        assert time.monotonic() - began < 30, "the gate is rebuilt within seconds"
    over.set()
    for thread in threads:
        thread.join()
    valkey.close()

    charged = sum(entry.cost for entry in log.of("ok") if entry.organization == poor.id)
    assert 0 < charged <= 200_000, (charged, log.counts)
    assert {entry.status for entry in log.of("failed")} <= {402, 503}, log.counts
    stand.desk.grant(poor, "1")  # for the probes
    stand.opened[poor.id] += 10**9
    customers.append(key)
    at_rest()


def test_slow_it_is_503_by_policy_and_back_at_once(stand, customers, log, at_rest):
    """F24: answers later than GATE_TIMEOUT_MS refuse; a little later than usual only adds itself."""
    for _ in range(6):
        call(stand.product.api_base, customers[0], log, max_tokens=1)
    usual = min(call(stand.product.api_base, customers[0], log, max_tokens=1).seconds for _ in range(5))
    stand.to_valkey.latency = 0.03
    slower = [call(stand.product.api_base, customers[0], log, max_tokens=1) for _ in range(10)]
    stand.to_valkey.latency = 2.0
    refused = [call(stand.product.api_base, customers[0], log, max_tokens=1) for _ in range(3)]
    stand.to_valkey.up()

    assert {entry.outcome for entry in slower} == {"ok"}
    added = min(entry.seconds - usual for entry in slower)
    assert added < 0.06 + 0.25, added  # one round trip of the gate, whatever else the machine does
    assert {(entry.status, entry.error) for entry in refused} == {(503, "service_unavailable")}
    assert all(entry.retry_after and entry.seconds < 10 for entry in refused)
    at_rest(probe_within=30)


@pytest.mark.parametrize("how", ["refused", "swallowed"])
def test_cut_off_from_some_workers_only(stand, load, log, at_rest, how):
    """F25: half of the connections fail, those to come as well: the others go on, nothing is oversold."""
    with load(callers=4):
        stand.to_valkey.choose = lambda number: number % WORKERS == 0
        if how == "refused":
            for _ in range(20):
                stand.to_valkey.reset()
                time.sleep(0.1)
        else:
            stand.to_valkey.blackhole()
            time.sleep(2)
        stand.to_valkey.up()
        time.sleep(0.5)

    verdict = at_rest(probe_within=30)

    assert verdict.unknown == 0 and verdict.ok > 0, log.counts
    assert {entry.status for entry in log.of("failed")} <= {503}, log.counts


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("resets", [False, True], ids=["cancelled", "cancelled and reset"])
def test_a_cancelled_command_leaves_no_answer_to_another(settings, resets, loop):
    """F26: a thousand of two thousand commands cancelled at a random moment: each reads its own answer."""
    chance = random.Random(26)
    server = redis.connection.parse_url(settings.GATE_URL)

    async def ask(pipeline, number):
        answer = pipeline.run("return {ARGV[1], redis.call('incr', KEYS[1])}", [f"n:{number % 7}"], [number])
        if number % 2:
            await asyncio.sleep(chance.random() * 0.002)
            answer.cancel()
            return None
        try:
            return (await asyncio.wait_for(answer, 10))[0] == str(number)
        except (kv.Failed, TimeoutError):
            return None

    async def work(proxy):
        client = kv.async_gate()
        pipeline = kv.TickPipeline(client)
        found = []
        for start in range(0, 2000, 100):
            cut = asyncio.create_task(in_thread(proxy.reset)) if resets else None
            found += await asyncio.gather(*(ask(pipeline, start + n) for n in range(100)))
            if cut is not None:
                await cut
        await pipeline.close()
        await client.aclose()
        return [each for each in found if each is not None]

    with FaultProxy(server["port"]) as proxy:
        settings.GATE_URL = settings.GATE_URL.replace(str(server["port"]), str(proxy.port))
        with asyncio.Runner(loop_factory=loop) as runner:
            found = runner.run(work(proxy))

    assert all(found) and len(found) > (500 if resets else 999)
