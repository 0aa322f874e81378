"""A gateway that is stopped lets calls end, tells those that cannot, and is missed by nobody."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.faults.load import Customer, Load, Log
from tests.processes.conftest import DRAIN_SECONDS, LISTEN_SECONDS, wait_for
from tests.routing.gateway.caller import error_of
from tests.routing.gateway.test_clients_that_leave import TRIES

pytestmark = pytest.mark.xdist_group("processes")


def stop(pids, number=signal.SIGTERM):
    for pid in pids:
        os.kill(pid, number)


def open_streams(caller, model, count, pool):
    """Streams under way, each past its first event: their futures."""
    begun = threading.Barrier(count + 1)

    def follow():
        raw = b""
        with caller.opened(model) as response:
            for block in response.iter_raw():
                if not raw:
                    begun.wait(30)
                raw += block
        return response.status_code, raw

    found = [pool.submit(follow) for _ in range(count)]
    begun.wait(30)
    return found


def test_a_worker_that_stops_is_not_ready_yet_serves_on_and_closes_what_it_answers(house):
    caller, base = house.caller(), house.product.base_url
    wanted = {("call", 200, "close"), ("ready", 503, "close"), ("live", 200, "close")}
    seen: list[set[object]] = []
    while len(seen) < TRIES and wanted not in seen:
        before = house.workers
        stop(before)
        time.sleep(0.5)
        told = [("call", caller.chat(max_tokens=1)) for _ in range(6)]  # nobody else is there yet
        for what in ("ready", "live"):
            told += [
                (what, httpx.get(f"{base}/health/{what}", trust_env=False, timeout=60)) for _ in range(3)
            ]
        seen.append({(what, said.status_code, said.headers.get("connection")) for what, said in told})
        house.await_workers(without=before)
        assert caller.chat(max_tokens=1).status_code == 200

    assert wanted in seen, seen


def test_streams_end_by_themselves_within_the_window(house):
    caller = house.caller()
    before = house.workers
    with ThreadPoolExecutor(8) as pool:
        streams = open_streams(caller, "sandbox/oracle", 8, pool)
        stop(before)
        ends = [stream.result(60) for stream in streams]

    assert all(status == 200 and raw.endswith(b"data: [DONE]\n\n") for status, raw in ends)
    rows = house.desk.await_generations(caller.organization, 8)
    assert {row["status"] for row in rows} == {"completed"}
    assert house.desk.await_no_holds(caller.organization).spent == sum(row["charge_nanos"] for row in rows)
    house.await_workers(without=before)


def test_what_is_open_when_the_window_ends_is_told_and_free(house):
    caller = house.caller()
    before = house.workers
    with ThreadPoolExecutor(8) as pool:
        streams = open_streams(caller, "sandbox/fault-hang-after-3", 4, pool)
        plain = [pool.submit(caller.chat, "sandbox/fault-hang") for _ in range(2)]
        wait_for(lambda: len(house.sandbox.calls()["in_flight"]) == 6)
        began = time.monotonic()
        stop(before)
        ends = [stream.result(60) for stream in streams]
        refusals = [answer.result(60) for answer in plain]
        assert time.monotonic() - began >= LISTEN_SECONDS + DRAIN_SECONDS - 0.5

    for status, raw in ends:
        assert status == 200
        assert raw.count(b'"error_type":"shutting_down"') == 1
        assert raw.count(b'"code":503') == 1
        assert b"[DONE]" not in raw
    assert {error_of(answer) for answer in refusals} == {(503, "shutting_down")}
    assert {answer.headers["retry-after"] for answer in refusals} == {"1"}
    rows = house.desk.await_generations(caller.organization, 6)
    assert {(row["status"], row["error_type"], row["charge_nanos"]) for row in rows} == {
        ("failed", "shutdown", 0)
    }
    assert house.desk.await_no_holds(caller.organization).funds == 10 * 10**9
    house.await_workers(without=before)
    assert house.desk.breaches() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_hurried_stop_tells_streams_at_once(house, number):
    caller = house.caller()
    before = house.workers
    with ThreadPoolExecutor(8) as pool:
        streams = open_streams(caller, "sandbox/fault-hang-after-3", 4, pool)
        began = time.monotonic()
        stop(before, number)
        ends = [stream.result(60) for stream in streams]
        assert time.monotonic() - began < LISTEN_SECONDS + DRAIN_SECONDS

    assert all(b'"shutting_down"' in raw and b"[DONE]" not in raw for _, raw in ends)
    house.desk.await_generations(caller.organization, 4)
    house.desk.await_no_holds(caller.organization)
    house.await_workers(without=before)


def test_a_rolling_restart_under_load_cuts_no_stream_and_refuses_nobody(house):
    customers = [
        Customer(caller.organization, caller.text, caller.key_id)
        for caller in (house.caller(), house.caller())
    ]
    log = Log()
    with Load(house.product.api_base, customers, log=log, seed=1, callers=6, pause=0.1, timeout=60):
        time.sleep(1)
        before = house.workers
        os.kill(house.master, signal.SIGHUP)
        house.await_workers(without=before)
        for pid in list(house.workers):  # and one after the other, by hand
            stop([pid])
            wait_for(lambda gone=pid: gone not in house.workers, seconds=60)
            wait_for(lambda: len(house.workers) == 2, seconds=60)
        time.sleep(1)

    assert log.counts.keys() == {"ok 200"}, log.counts
    assert len(log.entries) > 100
    for customer in customers:
        mine = [entry for entry in log.entries if entry.organization == customer.organization.id]
        rows = house.desk.await_generations(customer.organization, len(mine))
        assert {row["id"]: row["charge_nanos"] for row in rows} == {entry.id: entry.cost for entry in mine}
        wallet = house.desk.await_no_holds(customer.organization)
        assert wallet.spent == sum(entry.cost for entry in mine)
    assert house.desk.breaches() == []


def test_the_master_stops_the_whole_product_when_its_streams_have_ended(house):
    caller = house.caller()
    before, master = house.workers, house.master
    with ThreadPoolExecutor(8) as pool:
        streams = open_streams(caller, "sandbox/oracle", 4, pool)
        stop([master])
        ends = [stream.result(60) for stream in streams]

    assert all(raw.endswith(b"data: [DONE]\n\n") for _, raw in ends)
    wait_for(lambda: _another_master(house, master), seconds=60)  # the supervisor's
    house.await_workers(without=before)
    rows = house.desk.await_generations(caller.organization, 4)
    assert {row["status"] for row in rows} == {"completed"}


def _another_master(house, old):
    try:
        return house.master != old
    except ValueError:
        return False
