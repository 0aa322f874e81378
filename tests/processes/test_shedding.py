"""Too much is refused early and typed, and what is not traffic goes on."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from tests.processes import wire
from tests.processes.conftest import SETTINGS, wait_for
from tests.routing.gateway.caller import error_of

pytestmark = pytest.mark.xdist_group("processes")

PER_WORKER = int(SETTINGS["MAX_CALLS_PER_WORKER"])
PER_ORGANIZATION = int(SETTINGS["MAX_CALLS_PER_ORGANIZATION"])
CONNECTIONS = int(SETTINGS["MAX_CONNECTIONS"])
HANGS = "sandbox/fault-hang-after-3"


def get(url):
    return httpx.get(url, trust_env=False, timeout=60)


@pytest.fixture
def stack():
    with ExitStack() as opened:
        yield opened


def fill(stack, callers, room):
    """Streams that do not end by themselves, of one caller after the other, until there is no more room."""
    taken, until = 0, time.monotonic() + 120
    while taken < room:
        assert time.monotonic() < until, f"{taken} of {room}"
        for caller in callers:
            connection = stack.enter_context(wire.connect(caller.api_base))
            connection.sendall(wire.request(caller, HANGS))
            taken += connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_one_organization_cannot_take_all_the_room(house, stack):
    greedy, modest = house.caller(), house.caller()
    before = house.sandbox.calls(model="fault-hang-after-3")["in_flight"]
    fill(stack, [greedy], 2 * PER_ORGANIZATION)

    for _ in range(8):  # whichever worker is asked
        answer = greedy.chat(max_tokens=1)
        assert error_of(answer) == (429, "too_many_concurrent")
        assert answer.headers["retry-after"] == "1"
    assert modest.chat(max_tokens=1).status_code == 200
    taken = len(house.sandbox.calls(model="fault-hang-after-3")["in_flight"]) - len(before)
    assert taken == 2 * PER_ORGANIZATION
    stack.close()
    wait_for(lambda: greedy.chat(max_tokens=1).status_code == 200)
    house.desk.await_no_holds(greedy.organization)


def test_a_full_worker_refuses_calls_but_no_page_and_no_health_check(house, stack):
    callers = [house.caller() for _ in range(3)]
    fill(stack, callers, 2 * PER_WORKER)

    fresh = house.caller()
    for _ in range(8):
        answer = fresh.chat(max_tokens=1)
        assert error_of(answer) == (503, "overloaded")
        assert answer.headers["retry-after"] == "1"
        assert fresh.raw(b"no JSON at all").status_code == 503, "nothing was read of it"
    base = house.product.base_url
    for path in ("/health/ready", "/health/live", "/", "/models", "/api/v1/models"):
        assert get(base + path).status_code == 200, path
    assert fresh.http.get("/key").status_code == 200  # management asks the database all the same
    stack.close()
    wait_for(lambda: fresh.chat(max_tokens=1).status_code == 200)
    for caller in callers:
        house.desk.await_no_holds(caller.organization)


def test_pages_answer_while_calls_pour_in(house):
    """Django has its threads, whatever the data plane does."""
    caller = house.caller()
    base = house.product.base_url
    over, statuses = threading.Event(), []

    def pour():
        while not over.is_set():
            statuses.append(caller.chat(max_tokens=1).status_code)

    with ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(pour) for _ in range(12)]
        pages, until = [], time.monotonic() + 60
        try:
            wait_for(lambda: len(statuses) > 50, seconds=60)
            while len(pages) < 10 or len(statuses) < 200:
                assert time.monotonic() < until, (pages, len(statuses))
                pages.append(get(f"{base}/models").status_code)
        finally:
            over.set()
        for done in calls:
            done.result()
    assert set(statuses) == set(pages) == {200}


def test_a_head_that_drips_is_cut(house, stack):
    connection = stack.enter_context(wire.connect(house.product.api_base))
    began = time.monotonic()
    for byte in b"POST /api/v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-Slow: ":
        try:
            connection.sendall(bytes([byte]))
        except OSError:
            break
        time.sleep(0.1)
    raw = wire.read_all(connection)

    assert raw == b"" or raw.startswith(b"HTTP/1.1 408"), raw
    assert time.monotonic() - began < 40


def test_a_second_head_that_drips_is_cut_as_well(house, stack):
    connection = stack.enter_context(wire.connect(house.product.api_base))
    connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert wire.read_one(connection) == 200
    connection.sendall(b"GET /health/live HTTP/1.1\r\nX-Slow: ")

    assert wire.read_all(connection).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("path", ["/api/v1/chat/completions", "/accounts/login/"])
def test_a_body_that_does_not_come_is_cut(house, stack, path):
    caller = house.caller()
    connection = stack.enter_context(wire.connect(caller.api_base))
    head = wire.head(caller, 1000).replace(b"/api/v1/chat/completions", path.encode())
    connection.sendall(head + b'{"model": ')

    assert wire.read_all(connection).startswith(b"HTTP/1.1 408")


def test_headers_without_end_are_cut(house, stack):
    connection = stack.enter_context(wire.connect(house.product.api_base))
    connection.sendall(b"GET /health/live HTTP/1.1\r\n")
    raw = b""
    try:
        for number in range(2000):
            connection.sendall(b"X-%d: %b\r\n" % (number, b"x" * 100))
            if number % 50 == 0:
                time.sleep(0.01)
    except OSError:
        raw = b"cut"
    with_answer = raw or wire.read_all(connection)

    assert with_answer == b"cut" or with_answer.startswith(b"HTTP/1.1 431")


def test_idle_connections_give_way_and_hurt_nobody(house, stack):
    """Three times as many as there is room for, all of them doing nothing."""
    caller = house.caller()
    for _ in range(6 * CONNECTIONS):
        stack.enter_context(wire.connect(house.product.api_base))

    began = time.monotonic()
    for _ in range(20):
        with httpx.Client(trust_env=False, timeout=20) as client:
            answer = client.post(
                f"{caller.api_base}/chat/completions",
                json=caller.body(max_tokens=1),
                headers={"Authorization": f"Bearer {caller.text}"},
            )
        assert answer.status_code == 200
    assert time.monotonic() - began < 40


def test_idle_connections_are_closed(house, stack):
    connections = [stack.enter_context(wire.connect(house.product.api_base)) for _ in range(20)]

    assert all(wire.read_all(connection) == b"" for connection in connections)
