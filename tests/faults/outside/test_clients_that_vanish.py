"""Clients that leave at any moment: the provider is let go, the price is right, nothing is left behind."""

from __future__ import annotations

import random
import socket
import statistics
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.outside.test_providers_that_flap_or_flood import asked, connected, worker_of

pytestmark = pytest.mark.xdist_group("outside")


def leave(connection, *, reset):
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def open_files(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def settled(desk, organization, most, *, seconds=60.0):
    """The rows once there are `most` of them, or no more come: who leaves at once may not have been heard."""
    until, quiet, rows = time.monotonic() + seconds, time.monotonic() + 5, []
    while len(rows) < most and time.monotonic() < min(until, quiet):
        time.sleep(0.1)
        found = desk.generations(organization)
        if len(found) > len(rows):
            quiet = time.monotonic() + 5
        rows = found
    assert len(rows) <= most
    return rows


def come_to_rest(caller, desk, sandbox, count):
    rows = settled(desk, caller.organization, count)
    wallet = desk.await_no_holds(caller.organization)
    assert wallet.funds == 10 * 10**9 - sum(row["charge_nanos"] for row in rows)
    until = time.monotonic() + 30
    while mine := [found for found in sandbox.calls()["in_flight"] if found["user"] == caller.key_id]:
        assert time.monotonic() < until, mine
        time.sleep(0.02)
    return rows


def test_sixty_that_leave_at_random_moments(caller, desk, sandbox, running):
    """Before the first token, in the middle, near the end; with FIN and with RST."""
    chance = random.Random(41)
    moments = [(chance.random() * 0.7, chance.random() < 0.5) for _ in range(60)]
    caller.stream("sandbox/stream-100")
    files = open_files(worker_of(running))

    def call(moment):
        delay, reset = moment
        with connected(caller) as connection:
            connection.sendall(asked(caller, "sandbox/stream-100", user=caller.key_id))
            time.sleep(delay)
            left = time.monotonic() * 1000
            leave(connection, reset=reset)
        return left

    with ThreadPoolExecutor(4) as pool:
        left = list(pool.map(call, moments))
    rows = come_to_rest(caller, desk, sandbox, 61)

    assert {row["status"] for row in rows} <= {"completed", "aborted", "failed"}
    assert len(rows) >= len(sandbox.calls(user=caller.key_id)["recent"]) > 50
    for row in rows:
        early = row["error_type"] == "left_early"  # before anything was sent to a provider
        assert row["charge_nanos"] > 0 or early, row
    closed = [
        found["client_closed_ms"]
        for found in sandbox.calls(user=caller.key_id, ending="client_closed")["recent"]
    ]
    assert len(closed) > 20
    late = [min(when - moment for moment in left if moment <= when + 5) for when in closed]
    print(
        f"let go after {statistics.median(late):.1f} ms (median), {max(late):.1f} ms (most), of {len(late)}"
    )
    quarter, middle, _ = statistics.quantiles(late, n=4)
    assert quarter < 100 and middle < 350  # the second: on a machine with much else to do
    until = time.monotonic() + 30
    while open_files(worker_of(running)) > files + 8:  # kept connections to the provider
        assert time.monotonic() < until, (open_files(worker_of(running)), files)
        time.sleep(0.1)
    assert desk.breaches() == []


@pytest.mark.parametrize("seen", [b"HTTP/1.1 200", b'"content"', b'"stop"', b"[DONE]"])
def test_leaving_at_a_given_byte(caller, desk, sandbox, running, seen):
    """At the headers, in mid-stream, at the last event, exactly at `[DONE]`; by FIN and by RST."""
    files = open_files(worker_of(running))
    for number in range(20):
        with connected(caller) as connection:
            connection.sendall(asked(caller, "sandbox/instant", user=caller.key_id))
            got = b""
            while seen not in got:
                block = connection.recv(256 if seen != b"[DONE]" else 65536)
                assert block, got
                got += block
            leave(connection, reset=number % 2 == 1)
    desk.await_generations(caller.organization, 20)  # each was heard
    rows = come_to_rest(caller, desk, sandbox, 20)

    assert all(row["charge_nanos"] > 0 for row in rows)
    if seen in (b"[DONE]", b'"stop"'):
        assert {row["status"] for row in rows} == {"completed"}  # what ended is settled before it is sent
        assert {row["charge_nanos"] for row in rows} == {sandbox.charge(rows[0]["upstream_id"])}
    until = time.monotonic() + 30
    while open_files(worker_of(running)) > files + 4:
        assert time.monotonic() < until, (open_files(worker_of(running)), files)
        time.sleep(0.1)


def test_those_that_left_delay_nobody(caller, desk, sandbox):
    for _ in range(5):
        with connected(caller) as connection:
            connection.sendall(asked(caller, "sandbox/stream-100", user=caller.key_id))
            connection.recv(1)
            leave(connection, reset=True)
        assert caller.chat(max_tokens=1).status_code == 200
    come_to_rest(caller, desk, sandbox, 10)
    assert desk.breaches() == []
