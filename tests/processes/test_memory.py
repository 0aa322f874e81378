"""What a stream costs in memory: open, unread, and a great many of them one after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.desk import Desk
from tests.processes import wire
from tests.processes.conftest import SETTINGS, House, wait_for
from tests.product import Product
from tests.routing.gateway.caller import Sandbox

pytestmark = pytest.mark.xdist_group("memory")

KB, MB = 1024, 1024 * 1024
ROOM = {"WEB_CONCURRENCY": "1", "MAX_CALLS_PER_WORKER": "2000", "MAX_CALLS_PER_ORGANIZATION": "2000"}
MORE = {"MAX_CONNECTIONS": "4000", "PROVIDER_CONNECTIONS": "1000"}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A product with one worker, so that all that is measured is its."""
    settings = {**SETTINGS, **ROOM, **MORE}
    product = Product.launch(tmp_path_factory.mktemp("memory") / "var", **settings)
    desk = Desk(product)
    with Sandbox(product.sandbox_url) as sandbox:
        house = House(product, desk, sandbox)
        yield house
        house.close()
    desk.close()
    product.stop()


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_an_open_stream_costs_at_most_100_kilobytes(one, closing):
    caller = one.caller()
    (worker,) = one.workers
    for _ in range(50):
        closing.enter_context(wire.stream(caller, "sandbox/fault-hang-after-3")[0])
    before = wire.rss(worker)
    for _ in range(250):
        closing.enter_context(wire.stream(caller, "sandbox/fault-hang-after-3")[0])
    each = (wire.rss(worker) - before) / 250
    print(f"{each / KB:.1f} KB for each open stream")

    assert each <= 100 * KB
    closing.close()
    rows = one.desk.await_generations(caller.organization, 300, seconds=60)
    assert {row["status"] for row in rows} == {"aborted"}
    one.desk.await_no_holds(caller.organization)


def test_a_flood_for_a_reader_that_stalls_costs_at_most_a_megabyte_and_is_cut(one, closing):
    caller = one.caller(usd="1000")
    (worker,) = one.workers
    with caller.opened("sandbox/fault-flood") as response:
        next(response.iter_raw())  # what the first of its kind costs is not the stream's
    one.desk.await_generations(caller.organization, 1, seconds=30)
    before = most = wire.rss(worker)
    stalled = [closing.enter_context(wire.connect(caller.api_base, receive_buffer=4096)) for _ in range(20)]
    for connection in stalled:
        connection.sendall(wire.request(caller, "sandbox/fault-flood"))
    wait_for(lambda: one.sandbox.calls(model="fault-flood")["in_flight"])
    until = time.monotonic() + 60
    while one.sandbox.calls(model="fault-flood")["in_flight"]:
        most = max(most, wire.rss(worker))
        assert time.monotonic() < until, "a reader that stalls is not cut"
        time.sleep(0.05)
    print(f"{(most - before) / len(stalled) / KB:.0f} KB for each reader that stalls")

    assert (most - before) / len(stalled) <= MB
    rows = one.desk.await_generations(caller.organization, 21, seconds=30)
    assert {(row["status"], row["finish_reason"]) for row in rows} == {("aborted", "aborted")}
    assert all(0 < row["output"] < 200_000 for row in rows)
    one.desk.await_no_holds(caller.organization)


def test_a_flood_arrives_whole_at_a_reader_that_reads(one):
    caller = one.caller(usd="1000")
    stream = caller.stream("sandbox/fault-flood", max_tokens=20_000)

    assert stream.done, stream.raw[-600:]
    assert stream.usage["completion_tokens"] == 20_000
    one.desk.await_generations(caller.organization, 1)


def test_an_answer_that_is_over_but_unread_is_cut_too(one, closing):
    """All of it lies in buffers, so the call is over; its connection must not stay for ever."""
    caller = one.caller()
    connection = closing.enter_context(wire.connect(caller.api_base, receive_buffer=2048))
    connection.sendall(wire.request(caller, "sandbox/stream-100", n=16))
    one.desk.await_generations(caller.organization, 1)

    assert wire.is_cut_within(connection, 60)


@pytest.mark.long
def test_short_streams_half_of_them_left_leave_no_memory_behind(one):
    run(one, warm=500, count=1200)


@pytest.mark.long
def test_very_many_streams_half_of_them_left_leave_no_memory_behind(one):
    run(one, warm=3000, count=50_000)


def run(house, *, warm, count):
    caller = house.caller(usd="1000")
    (worker,) = house.workers
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: short(caller, leave=bool(n % 2)), range(warm)))
        settle(house)
        before = wire.rss(worker)
        list(pool.map(lambda n: short(caller, leave=bool(n % 2)), range(count)))
    settle(house)
    grown = wire.rss(worker) - before
    print(f"{grown / MB:.1f} MB over {count} streams")

    assert grown < 16 * MB
    wallet = house.desk.await_no_holds(caller.organization, seconds=30)
    assert wallet.spent > 0
    assert house.desk.breaches() == []


def short(caller, *, leave):
    connection, raw = wire.stream(caller, "sandbox/stream-100", max_tokens=8)
    with connection:
        if not leave:
            while not raw.endswith(b"0\r\n\r\n"):
                block = connection.recv(65536)
                assert block, raw[-300:]
                raw += block


def settle(house):
    wait_for(lambda: not house.sandbox.calls()["in_flight"])
    time.sleep(1)
